//! Wire transcripts, replayed against a server.

mod client;
pub(crate) mod command;
mod matching;
mod run;
mod transcript;

pub use self::run::{Mismatch, Server, replay};
pub use self::transcript::{Transcript, Unreadable};
