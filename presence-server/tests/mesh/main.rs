//! Nodes of a cluster on the mesh: they find each other, refuse whom they must, and live with what
//! breaks. All of it over TCP on this machine.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "what a test begins is no task of a node"
)]

mod certificates;
mod faults;
mod log;
mod meeting;
mod messages;
mod names;
mod node;
mod proxy;
mod rates;
mod refusals;
mod relay;
mod stopping;
mod tls;
