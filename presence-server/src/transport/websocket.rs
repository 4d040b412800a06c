//! WebSocket.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use presence_core::wire::Frame;

use super::{Endpoint, connect_info};
use crate::connection::{Gone, Received, Transport};

/// Bytes of the read buffer of each socket. It is allocated and zeroed for every socket, so it is
/// small; larger frames are read in pieces.
const READ_BUFFER: usize = 2 << 10;

pub(super) async fn handle<U: Send + Sync + 'static>(
    State(endpoint): State<Arc<Endpoint<U>>>,
    method: Method,
    headers: HeaderMap,
    params: Result<Query<BTreeMap<String, String>>, axum::extract::rejection::QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        return no_upgrade(&method, &headers);
    };
    let Ok(Query(params)) = params else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let info = connect_info(params, &headers);
    let Ok(connection) = endpoint.connect(&info) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    let max = endpoint.node.config().wire.max_frame_bytes;
    upgrade
        .protocols(["phoenix"])
        .read_buffer_size(READ_BUFFER)
        .max_frame_size(max)
        .max_message_size(max)
        .on_upgrade(|socket| connection.run(Carrier(socket)))
}

/// What a request is told that is no upgrade, in the words of the reference's server.
fn no_upgrade(method: &Method, headers: &HeaderMap) -> Response {
    if method != Method::GET {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let values = |name: header::HeaderName| -> Vec<String> {
        let values = headers.get_all(name).iter();
        let text = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        text.collect()
    };
    let wanted = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
    ];
    let missing = wanted.into_iter().find(|(name, token)| {
        let tokens = values(name.clone());
        let mut tokens = tokens.iter().flat_map(|value| value.split(','));
        !tokens.any(|value| value.trim().eq_ignore_ascii_case(token))
    });
    let reason = match missing {
        Some((name, token)) => {
            let got = values(name.clone());
            format!("'{name}' header must contain '{token}', got {got:?}")
        }
        None if values(header::SEC_WEBSOCKET_VERSION) != ["13"] => {
            "'sec-websocket-version' header must equal '13'".into()
        }
        None => "'sec-websocket-key' header is absent".into(),
    };
    (StatusCode::BAD_REQUEST, reason).into_response()
}

struct Carrier(WebSocket);

impl Transport for Carrier {
    async fn receive(&mut self) -> Option<Received> {
        // An error is the end as well: the connection broke, or what came is no WebSocket frame.
        let message = self.0.next().await?;
        match message {
            Ok(Message::Text(text)) => Some(Received::Frame(Frame::Text(text.as_str().into()))),
            Ok(Message::Binary(bytes)) => Some(Received::Frame(Frame::Binary((&*bytes).into()))),
            Ok(Message::Ping(_) | Message::Pong(_)) => Some(Received::Sign),
            Ok(Message::Close(_)) | Err(_) => None,
        }
    }

    async fn feed(&mut self, frame: Frame) -> Result<(), Gone> {
        let message = match frame {
            Frame::Text(text) => {
                let bytes = Bytes::from_owner(TextOwner(text));
                Message::Text(Utf8Bytes::try_from(bytes).map_err(|_| Gone)?)
            }
            Frame::Binary(bytes) => Message::Binary(Bytes::from_owner(bytes)),
        };
        self.0.feed(message).await.map_err(|_| Gone)
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        self.0.flush().await.map_err(|_| Gone)
    }

    async fn close(&mut self, code: u16) {
        let reason = Utf8Bytes::default();
        let close = Message::Close(Some(CloseFrame { code, reason }));
        // Whoever is gone already needs no farewell; whoever does not read gets none. What still
        // comes is read, or the connection would be reset before the client sees the code.
        let farewell = async {
            self.0.send(close).await?;
            while self.0.next().await.transpose()?.is_some() {}
            Ok::<_, axum::Error>(())
        };
        let _ = tokio::time::timeout(CLOSE_WAIT, farewell).await;
    }
}

/// How long a client is waited for when its socket is closed.
const CLOSE_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

struct TextOwner(Arc<str>);

impl AsRef<[u8]> for TextOwner {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
