//! The tracker, driven over a tiny in-memory network.

#![allow(clippy::unwrap_used)] // A test may panic, and so may what builds its data.

#[path = "tracker/node.rs"]
mod node;
#[path = "tracker/world.rs"]
mod world;

#[path = "tracker/diffs.rs"]
mod diffs;
#[path = "tracker/handover.rs"]
mod handover;
#[path = "tracker/heartbeats.rs"]
mod heartbeats;
#[path = "tracker/journal.rs"]
mod journal;
#[path = "tracker/liveness.rs"]
mod liveness;
#[path = "tracker/lives.rs"]
mod lives;
#[path = "tracker/meeting.rs"]
mod meeting;
#[path = "tracker/refusals.rs"]
mod refusals;
#[path = "tracker/splits.rs"]
mod splits;
#[path = "tracker/steps.rs"]
mod steps;
#[path = "tracker/stopping.rs"]
mod stopping;
#[path = "tracker/thirds.rs"]
mod thirds;
#[path = "tracker/transfers.rs"]
mod transfers;
