//! Fresh histories of disorder, each made from a seed: replicas that join, update and leave while
//! their deltas and full states come late, twice, out of order, or never, and while replicas are down,
//! removed and back. What each merge must report is computed by a naive model.
//!
//! The same seed gives the same history on every machine. A history that the sets get wrong is
//! [shrunk](minimal) to the steps that matter.

pub mod command;
mod generate;
pub(super) mod model;
mod random;
mod shrink;

use serde_json::Value;

use self::generate::generate;
use super::tracker::history::History;
use super::tracker::{run, run_sets};
use super::{Failure, Unreadable};

/// The history of `seed`, in the form of the files in `fixtures/tracker-rule/`.
#[must_use]
pub fn history(seed: u64) -> Value {
    generate(seed).to_json()
}

/// Replays a history into the naive model instead of the sets; the first step that differs, if any.
///
/// # Errors
///
/// [`Unreadable`] where `value` is no history.
pub fn replay_model(value: &Value) -> Result<Option<Failure>, Unreadable> {
    let history = History::read(value)?;
    Ok(run(&history, &mut model::Model::new(&history.replicas)))
}

/// A history that the sets get wrong, as short as leaving out steps makes it; `None` where they get
/// the history of `seed` right.
#[must_use]
pub fn minimal(seed: u64) -> Option<Value> {
    let history = generate(seed);
    run_sets(&history)?;
    let shrunk = shrink::shrink(&history, |history| run_sets(history).is_some());
    Some(shrunk.to_json())
}
