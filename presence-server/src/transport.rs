//! How clients reach a socket: WebSocket and long polling, as routes of an axum router.

mod longpoll;
mod websocket;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, header};
use axum::routing::{any, get};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use presence_core::wire::Serializer;

use self::longpoll::Sessions;
use crate::connection::Connection;
use crate::endpoint::{ConnectInfo, Refused, Routes, UserSocket};
use crate::node::Node;
use crate::sockets::Via;

/// How phoenix.js marks the token among the sub-protocols.
const AUTH_TOKEN_PROTOCOL: &str = "base64url.bearer.phx.";

/// The header in which a long poll carries the token.
const AUTH_TOKEN_HEADER: &str = "x-phoenix-authtoken";

/// The routes `PATH/websocket` and `PATH/longpoll` of a socket, to be merged into an application's own.
pub fn socket_routes<U: Send + Sync + 'static>(
    node: &Node,
    path: &str,
    socket: UserSocket<U>,
) -> Router {
    let endpoint = Arc::new(Endpoint {
        node: node.clone(),
        connect: socket.connect,
        routes: Arc::new(socket.routes),
        sessions: Sessions::new(node.config().poll_sessions),
        path: path.into(),
    });
    longpoll::serve(node, path, &endpoint);
    Router::new()
        .route(&format!("{path}/websocket"), any(websocket::handle::<U>))
        .route(
            &format!("{path}/longpoll"),
            get(longpoll::poll::<U>)
                .post(longpoll::publish::<U>)
                .options(longpoll::options)
                .fallback(longpoll::no_such_method)
                .layer(DefaultBodyLimit::max(node.config().wire.max_frame_bytes)),
        )
        .with_state(endpoint)
}

/// One socket of one node.
pub(crate) struct Endpoint<U> {
    node: Node,
    connect: crate::endpoint::Connect<U>,
    routes: Arc<Routes<U>>,
    sessions: Sessions,
    /// Where it is, the same on every node.
    path: Box<str>,
}

impl<U: Send + Sync + 'static> Endpoint<U> {
    /// Lets a client in, or does not.
    fn connect(&self, info: &ConnectInfo, via: Via) -> Result<Connection<U>, Refused> {
        let serializer = Serializer::negotiate(info.param("vsn")).map_err(|error| {
            tracing::info!(%error, "a client is refused");
            Refused
        })?;
        let connected = (self.connect)(info)?;
        Ok(Connection::new(
            self.node.clone(),
            via,
            Arc::clone(&self.routes),
            serializer,
            Arc::new(connected.user),
            connected.id,
        ))
    }
}

/// What a request says of its client.
fn connect_info(params: BTreeMap<String, String>, headers: &HeaderMap) -> ConnectInfo {
    let protocols = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim);
    let from_protocol = protocols
        .filter_map(|protocol| protocol.strip_prefix(AUTH_TOKEN_PROTOCOL))
        .find_map(|token| String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok());
    let from_header = || Some(headers.get(AUTH_TOKEN_HEADER)?.to_str().ok()?.to_owned());
    ConnectInfo {
        params,
        auth_token: from_protocol.or_else(from_header),
    }
}
