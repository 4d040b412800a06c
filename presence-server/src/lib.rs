//! Phoenix Presence for Rust: the runtime.
//!
//! Unmodified phoenix.js clients join channels over WebSocket or long polling, and are told who else is
//! there, on this node and on all others of its cluster. The rules of who is listed are those of
//! [`presence_core`]'s state machines; this crate puts tokio, sockets and a clock around them.
//!
//! | module | what lives there |
//! |---|---|
//! | [`node`] | a node and its settings: where all begins |
//! | [`channel`] | the application's code behind a topic, as a Phoenix channel |
//! | [`endpoint`] | sockets: who may connect, and which channel serves which topic |
//! | [`presence`] | track, update, untrack and list, for channels and for other processes |
//! | [`cluster`] | what nodes tell each other, and the [mesh](cluster::Mesh) of connections that carries it |
//! | [`app`] | applications to start from: the guide's, with and without sign-in; [`app::status`] is for operators |
//! | [`mod@serve`] | an axum router served in a node's world, with limits and a stop in good order |
//! | [`env`](mod@env) | what a node has of the outside world, so that a simulation can put another in its place |
//! | [`journal`] | what happens to a node's shards, written down to be played again |
//! | [`sabotage`] | defects that a simulation plants, to prove that it finds them |
//!
//! A [`Node`](node::Node) is started in an [`Environment`](env::Environment). [`socket_routes`] gives the
//! axum routes of a socket, to be merged into an application's own.
//! [`Mesh::start_for`](cluster::Mesh::start_for) makes the node one of a cluster, and nothing else in
//! the application changes. [`app::status`] adds `/health`, `/metrics` and `/cluster`: what a node counts
//! belongs to the node, so that two of them in one process share nothing.
//!
//! # Example
//!
//! A node of a cluster, alone so far, and somebody who is there:
//!
//! ```
//! use std::sync::Arc;
//!
//! use presence_server::cluster::{Mesh, MeshConfig, Secret};
//! use presence_server::env::System;
//! use presence_server::node::{Config, Node};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config { name: "a".into(), ..Config::default() };
//! let node = Node::start(Arc::new(System::new()), config)?;
//! let mesh = MeshConfig {
//!     bind: "127.0.0.1:0".into(),
//!     join: vec![], // The addresses of others, or a name for them.
//!     ..MeshConfig::new(Secret::new("32 random bytes of a file")?)
//! };
//! Mesh::start_for(&node, mesh).await?;
//!
//! let alice = node.process();
//! alice.track("room:lobby", "Alice", &serde_json::json!({})).await?;
//! assert_eq!(node.count("room:lobby").await, 1);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "the tests of a module begin tasks of their own"
    )
)]

pub mod app;
pub mod channel;
pub mod cluster;
mod connection;
pub mod endpoint;
pub mod env;
mod inbox;
pub mod journal;
mod metrics;
pub mod node;
pub mod presence;
mod relay;
pub mod sabotage;
pub mod serve;
mod shard;
mod sockets;
mod subscriptions;
mod transport;

pub use transport::socket_routes;
