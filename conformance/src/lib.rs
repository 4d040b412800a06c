//! What the real Phoenix did, recorded, and the tool that replays it.
//!
//! The recordings in [`fixtures`] are the oracle: histories of the replicated set, series of messages
//! to a client, tokens, and transcripts of clients that talk to a server or to a cluster. What each
//! holds, and how it is compared, is told in `fixtures/README.md`.
//!
//! [`vectors`] replays the first three kinds into the public types of `presence-core`, the same that
//! the server is made of, with nothing in between that repairs or excuses. [`vectors::disorder`] makes
//! fresh histories from a seed. [`replay`] replays transcripts against a server, and [`cluster`] cases
//! against nodes that it starts, kills and cuts apart. [`cli`] is the command around them.

pub mod cli;
pub mod cluster;
mod exchange;
pub mod fixtures;
pub mod json;
pub mod replay;
mod terminal;
pub mod vectors;
