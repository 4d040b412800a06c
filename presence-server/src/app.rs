//! The applications that the binary serves: the guide's room, and the one that conformance tests drive.

pub mod conformance;
mod pages;
pub mod room;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;

use presence_core::token::{KeyError, KeyOptions, MaxAge, SigningKey, Term};

use crate::endpoint::{ConnectInfo, Connected, Refused, UserSocket};
use crate::node::Node;

pub use self::pages::pages;

/// The guide: its page, and its room behind `/socket`.
pub fn guide(node: &Node) -> Router {
    let socket = UserSocket::new(|_| {
        Ok(Connected {
            user: User::default(),
            id: None,
        })
    });
    let socket = socket.channel::<room::RoomChannel>("room:*");
    pages().merge(crate::socket_routes(node, "/socket", socket))
}

/// The application of the conformance tests: its socket behind `/socket`, and its control routes.
pub fn conformance(node: &Node, tokens: Tokens) -> Router {
    let socket = conformance::socket(node, tokens);
    let node_of_ctl = node.clone();
    let disconnect = move |Path(id): Path<String>| async move {
        node_of_ctl.disconnect(&format!("user_socket:{id}"));
        "ok"
    };
    Router::new()
        .route("/ctl/disconnect/{id}", get(disconnect))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found") })
        .merge(crate::socket_routes(node, "/socket", socket))
}

/// What a socket knows of its user: the id that its token carries.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// `None` where the client gave no token.
    pub id: Option<serde_json::Value>,
}

/// How long a token is good for: ten years, as in the conformance application.
const MAX_AGE: MaxAge = MaxAge::Seconds(315_360_000);

/// Verifies the tokens of users, signed with the salt `user socket`.
#[derive(Clone, Debug)]
pub struct Tokens {
    key: SigningKey,
}

impl Tokens {
    /// The tokens that `secret_key_base` signs.
    ///
    /// # Errors
    ///
    /// [`KeyError`] where the secret is too short.
    pub fn new(secret_key_base: &str) -> Result<Self, KeyError> {
        let key = SigningKey::derive(secret_key_base, "user socket", &KeyOptions::DEFAULT)?;
        Ok(Self { key })
    }

    /// A token for a user.
    pub fn sign(&self, user_id: &str, now_ms: i64) -> String {
        let data = Term::from(user_id);
        // A user id that is too long for a token is the caller's to refuse.
        self.key.sign(&data, now_ms, MAX_AGE).unwrap_or_default()
    }

    /// Lets in whoever brings no token, or a good one (`connect/3` of the conformance application).
    ///
    /// # Errors
    ///
    /// [`Refused`] where the token is not good at `now_ms`.
    pub fn connect(&self, info: &ConnectInfo, now_ms: i64) -> Result<Connected<User>, Refused> {
        let token = info.param("token").or(info.auth_token.as_deref());
        let Some(token) = token else {
            return Ok(Connected {
                user: User::default(),
                id: None,
            });
        };
        let data = self.key.verify(token, now_ms, Some(MAX_AGE));
        let data = data.map_err(|error| {
            tracing::info!(%error, "a token is refused");
            Refused
        })?;
        let id = data.to_json().map_err(|_| Refused)?;
        let text = match &id {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Ok(Connected {
            user: User { id: Some(id) },
            id: Some(format!("user_socket:{text}").into()),
        })
    }
}

/// Reads what a client sent.
fn read<T: serde::de::DeserializeOwned>(
    payload: &presence_core::wire::Payload<'_>,
) -> Result<T, crate::channel::Failure> {
    let json = payload.as_json().map_or("null", |json| json.as_str());
    Ok(serde_json::from_str(json)?)
}
