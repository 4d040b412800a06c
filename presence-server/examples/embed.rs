//! Presence in an axum application of one's own: `cargo run -p presence-server --example embed`.
//!
//! The application has a page and a route of its own. Clients that join `office:…` with phoenix.js see
//! who else is in the office, and can say something to everyone there.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use presence_core::wire::Payload;
use presence_server::channel::{Channel, Failure, JoinError, Joined, Next, Socket};
use presence_server::endpoint::{Connected, Refused, UserSocket};
use presence_server::env::System;
use presence_server::node::{Config, Node};
use presence_server::presence::Presence;
use serde_json::json;

/// Whoever has connected.
struct User {
    name: String,
}

/// One client in one office.
struct Office;

impl Channel for Office {
    type User = User;
    type Info = Infallible;

    async fn join(
        _topic: &str,
        _params: Payload<'static>,
        socket: &mut Socket<Self>,
    ) -> Result<Joined<Self>, JoinError> {
        let name = socket.user().name.clone();
        Presence::track(socket, name.as_str(), &json!({ "desk": 12 })).await?;
        Presence::push_state(socket);
        Ok(Self.into())
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload<'static>,
        socket: &mut Socket<Self>,
    ) -> Result<Next, Failure> {
        match event {
            "say" => {
                socket.broadcast("said", payload)?;
                Ok(Next::ok(Payload::EMPTY))
            }
            other => Err(Failure::no_handler(other)),
        }
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let node =
        Node::start(Arc::new(System::new()), Config::default()).map_err(std::io::Error::other)?;
    let socket = UserSocket::new(|info| {
        let name = info.param("name").ok_or(Refused)?.to_owned();
        let id = Some(format!("user:{name}").into());
        Ok(Connected {
            user: User { name },
            id,
        })
    })
    .channel::<Office>("office:*");

    let application = Router::new()
        .route("/", get(|| async { "the application's own page" }))
        .merge(presence_server::socket_routes(&node, "/socket", socket));

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 4000)).await?;
    println!(
        "ws://{}/socket/websocket?vsn=2.0.0&name=Alice",
        listener.local_addr()?
    );
    axum::serve(listener, application).await
}
