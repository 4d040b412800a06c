//! Phoenix Presence for Rust: the runtime.
//!
//! Unmodified phoenix.js clients join channels over WebSocket or long polling, and are told who else
//! is there.

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
pub mod serve;
mod shard;
mod sockets;
mod subscriptions;
mod transport;

pub use transport::socket_routes;
