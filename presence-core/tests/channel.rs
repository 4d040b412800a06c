//! One socket's channels: the recorded transcripts, replayed through serializer and state machine, and
//! what must hold whatever comes in whatever order.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "channel/invariants.rs"]
mod invariants;
#[path = "channel/transcripts.rs"]
mod transcripts;
