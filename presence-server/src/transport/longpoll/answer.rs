//! What a request of long polling is answered.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// An answer. The status that counts is in its body.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::transport) struct Answer {
    http: u16,
    body: String,
}

impl Answer {
    /// A status alone.
    pub(super) fn status(status: u16) -> Self {
        Self::ok(format!("{{\"status\":{status}}}"))
    }

    /// What waited in the session of a token.
    pub(super) fn messages(status: u16, token: &str, messages: &VecDeque<Arc<str>>) -> Self {
        let mut body = format!("{{\"status\":{status},\"token\":\"{token}\",\"messages\":[");
        for (at, message) in messages.iter().enumerate() {
            if at > 0 {
                body.push(',');
            }
            // A client reads each as it reads a frame: a message is a string that holds JSON.
            body.push_str(&serde_json::Value::from(&**message).to_string());
        }
        body.push_str("]}");
        Self::ok(body)
    }

    /// The answer to what no client of this protocol sends; phoenix.js reads its status too.
    pub(super) fn malformed(status: StatusCode, reason: &str) -> Self {
        let body = json!({ "status": status.as_u16(), "reason": reason });
        Self {
            http: status.as_u16(),
            body: body.to_string(),
        }
    }

    fn ok(body: String) -> Self {
        Self { http: 200, body }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.http).unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = [
            (header::CONTENT_TYPE, "application/json; charset=utf-8"),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        (status, headers, self.body).into_response()
    }
}
