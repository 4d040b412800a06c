//! Wire transcripts, replayed against a server.

pub(crate) mod command;
mod run;
mod transcript;

pub use self::run::{Server, replay};
pub use self::transcript::Transcript;
pub use crate::exchange::{Mismatch, Unreadable};
