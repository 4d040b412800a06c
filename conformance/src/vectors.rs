//! Tracker histories, client series and token cases, replayed into the public types of
//! `presence-core`.
//!
//! A vector that can't be read is told apart from one that fails: the former says nothing about the
//! code under test.

pub mod client;
pub mod command;
pub mod disorder;
mod failure;
mod kind;
mod ordered;
mod read;
mod report;
mod sources;
pub mod token;
pub mod tracker;

use std::fmt;

pub use self::failure::{Difference, Failure};
pub use self::kind::{Content, Kind, Transcript, content};
pub use self::report::Outcome;

/// Why a file holds no vector: what was wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Unreadable {
    place: String,
    reason: String,
}

impl Unreadable {
    fn new(place: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self {
            place: place.into(),
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.reason)
    }
}

/// What the replay of one file gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the file holds.
    pub kind: Kind,
    /// How many cases it holds.
    pub cases: usize,
    /// The cases that failed.
    pub failures: Vec<Failure>,
}

/// Replays a vector of any kind.
///
/// # Errors
///
/// [`Unreadable`] where `text` is none; a transcript is none either.
pub fn replay(text: &str) -> Result<Verdict, Unreadable> {
    match content(text)? {
        Content::Vector(kind, value) => replay_as(kind, &value),
        Content::Transcript(transcript) => Err(is_transcript(transcript)),
    }
}

fn replay_as(kind: Kind, value: &serde_json::Value) -> Result<Verdict, Unreadable> {
    let (cases, failures) = match kind {
        Kind::Tracker | Kind::TrackerRule => (1, tracker::replay(value)?.into_iter().collect()),
        Kind::Client => (1, client::replay(value)?.into_iter().collect()),
        Kind::Token => token::replay(value)?,
    };
    Ok(Verdict {
        kind,
        cases,
        failures,
    })
}

fn is_transcript(transcript: Transcript) -> Unreadable {
    let replayed_by = transcript.replayed_by();
    Unreadable::new("", format_args!("a {transcript}, which {replayed_by}"))
}
