//! Wire transcripts, replayed against a server.
//!
//! Each step's frames are sent as they were recorded, and what each client receives is compared in
//! order; where the recording has a placeholder, as for a ref, the first value that comes is bound to it.

pub(crate) mod command;
mod run;
mod transcript;

pub use self::run::{Server, replay};
pub use self::transcript::Transcript;
pub use crate::exchange::{Mismatch, Unreadable};
