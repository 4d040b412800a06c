//! Signing in to the guide: a name for a token, and what the server thinks of a token.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use presence_core::token::EncodeError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::users::{NoUser, User};
use super::{Tokens, unix_ms};
use crate::node::Node;

/// The longest name, in characters.
pub const MAX_NAME_CHARS: usize = 40;

/// Bytes of a request: far more than a name or a token of ours has.
const MAX_BODY_BYTES: usize = 64 << 10;

/// `POST /sign-in` signs a token for a name, `POST /guide/check-token` says who a token is for.
///
/// A name is all it takes: an application of your own asks for a password, or whatever proves to it
/// who somebody is, before it signs.
pub fn routes(node: &Node, tokens: Tokens) -> Router {
    let desk = Desk {
        node: node.clone(),
        tokens,
    };
    Router::new()
        .route("/sign-in", post(sign_in))
        .route("/guide/check-token", post(check_token))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::new(desk))
}

struct Desk {
    node: Node,
    tokens: Tokens,
}

/// A name that somebody may sign in with: not empty, without spaces around it, not too long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name(String);

impl Name {
    /// The name in what somebody typed.
    ///
    /// # Errors
    ///
    /// [`SignInError`] where it is none.
    pub fn parse(typed: &str) -> Result<Self, SignInError> {
        let name = typed.trim();
        let chars = name.chars().count();
        if name.is_empty() {
            Err(SignInError::NoName)
        } else if chars > MAX_NAME_CHARS {
            Err(SignInError::LongName(chars))
        } else if name.chars().any(char::is_control) {
            Err(SignInError::ControlCharacter)
        } else {
            Ok(Self(name.to_owned()))
        }
    }
}

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The body is too large, or was cut off.
    #[error("the request cannot be read: {0}")]
    Body(#[from] BytesRejection),
    /// The body is not what it should be.
    #[error("the request must be JSON such as {{\"name\": \"Alice\"}}")]
    NotJson(#[from] serde_json::Error),
    /// The name is empty.
    #[error("a name is needed")]
    NoName,
    /// The name is too long.
    #[error("the name has {0} characters, more than {MAX_NAME_CHARS}")]
    LongName(usize),
    /// The name has a line break or the like.
    #[error("the name holds a control character")]
    ControlCharacter,
    /// No token can hold the name.
    #[error(transparent)]
    Token(#[from] EncodeError),
}

impl IntoResponse for SignInError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Body(rejection) => rejection.status(),
            _ => StatusCode::BAD_REQUEST,
        };
        answer(status, &json!({ "reason": self.to_string() }))
    }
}

async fn sign_in(
    State(desk): State<Arc<Desk>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, SignInError> {
    #[derive(Deserialize)]
    struct Asked {
        name: String,
    }
    let Asked { name } = serde_json::from_slice(&body?)?;
    let Name(name) = Name::parse(&name)?;
    let token = desk.tokens.sign(&name, unix_ms(&desk.node))?;
    Ok(answer(StatusCode::OK, &json!({ "token": token })))
}

async fn check_token(
    State(desk): State<Arc<Desk>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    #[derive(Deserialize)]
    struct Asked {
        token: Option<String>,
    }
    // What cannot be read is no token.
    let asked = body
        .ok()
        .and_then(|body| serde_json::from_slice(&body).ok());
    let user = match asked {
        Some(Asked { token }) => {
            User::of_token(&desk.tokens, token.as_deref(), unix_ms(&desk.node))
        }
        None => Err(NoUser::Invalid),
    };
    let said = match user {
        Ok(user) => json!({ "ok": true, "name": user.to_string() }),
        Err(reason) => json!({ "ok": false, "reason": reason.to_string() }),
    };
    answer(StatusCode::OK, &said)
}

fn answer(status: StatusCode, said: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, said.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(typed: &str) -> Result<String, String> {
        let name = Name::parse(typed).map(|Name(name)| name);
        name.map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_is_trimmed_and_may_be_in_any_script() {
        assert_eq!(parsed(" Alice \n").unwrap(), "Alice");
        assert_eq!(parsed("Зоя 🦉").unwrap(), "Зоя 🦉");
    }

    #[test]
    fn a_name_has_at_most_40_characters_whatever_they_take() {
        let longest = "é".repeat(MAX_NAME_CHARS);
        assert_eq!(parsed(&format!(" {longest} ")).unwrap(), longest);
        assert_eq!(
            parsed(&format!("{longest}!")).unwrap_err(),
            "the name has 41 characters, more than 40"
        );
    }

    #[test]
    fn what_is_no_name_says_why() {
        assert_eq!(parsed(" \t ").unwrap_err(), "a name is needed");
        assert_eq!(
            parsed("Al\nice").unwrap_err(),
            "the name holds a control character"
        );
    }
}
