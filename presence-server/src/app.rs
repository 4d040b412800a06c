//! The applications that the binary serves: the guide, open or with sign-in, and the one that
//! conformance tests drive.

pub mod conformance;
mod pages;
pub mod room;
pub mod sign_in;
mod status;
mod tokens;
pub mod users;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};

use crate::endpoint::{Connected, UserSocket};
use crate::node::Node;

pub use self::pages::pages;
pub use self::status::status;
pub use self::tokens::Tokens;

/// The guide: its page, and its room behind `/socket`. Everyone is who they say they are.
pub fn guide(node: &Node) -> Router {
    let socket = UserSocket::new(|_| Ok(Connected { user: (), id: None }))
        .channel::<room::RoomChannel>("room:*");
    pages(false)
        .merge(status(node))
        .merge(crate::socket_routes(node, "/socket", socket))
}

/// The guide made safe: its page asks for a token, and its room tracks the user of the token.
pub fn guide_with_sign_in(node: &Node, tokens: Tokens) -> Router {
    pages(true)
        .merge(status(node))
        .merge(sign_in::routes(node, tokens.clone()))
        .merge(crate::socket_routes(
            node,
            "/socket",
            users::socket(node, tokens),
        ))
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
        .merge(status(node))
        .merge(crate::socket_routes(node, "/socket", socket))
}

/// The wall clock as tokens count it, in milliseconds since the Unix epoch.
fn unix_ms(node: &Node) -> i64 {
    i64::try_from(node.env().unix_time().as_millis()).unwrap_or(i64::MAX)
}

/// The meta of whoever is online from now on.
fn online_now(node: &Node) -> Value {
    json!({ "online_at": node.env().unix_time().as_secs().to_string() })
}

/// Reads what a client sent.
fn read<T: serde::de::DeserializeOwned>(
    payload: &presence_core::wire::Payload<'_>,
) -> Result<T, crate::channel::Failure> {
    let json = payload.as_json().map_or("null", |json| json.as_str());
    Ok(serde_json::from_str(json)?)
}
