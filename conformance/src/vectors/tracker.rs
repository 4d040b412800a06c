//! Histories of the replicated set, replayed step by step into one
//! [`Set`](presence_core::set::Set) a replica.

pub(super) mod history;
mod sets;

use serde_json::Value;

use self::history::{History, Op, Step, Told};
use self::sets::Sets;
use super::failure::guarded;
use super::{Difference, Failure, Unreadable};

/// The replicas of a history: the sets under test, or the model of them.
pub(super) trait Replicas {
    /// Does `op` at the replica `at`, and says what that gave.
    ///
    /// An error says why the operation was refused. The history is sound: it names only replicas,
    /// messages and pids that there are.
    fn take(&mut self, at: &str, op: &Op) -> Result<Told, String>;
}

/// Replays one history; the first step that differs, if any does.
///
/// # Errors
///
/// [`Unreadable`] where `value` is no history.
pub fn replay(value: &Value) -> Result<Option<Failure>, Unreadable> {
    let history = History::read(value)?;
    Ok(run(&history, &mut Sets::new(&history.replicas)))
}

/// Does the steps of a history; the first that differs, if any does.
pub(super) fn run(history: &History, replicas: &mut impl Replicas) -> Option<Failure> {
    for (number, Step { at, op, told }) in (1..).zip(&history.steps) {
        let differences = guarded(|| match replicas.take(at, op) {
            Ok(received) => told.differences(&received),
            Err(reason) => vec![Difference::Refused(format!("refused: {reason}"))],
        });
        if !differences.is_empty() {
            return Some(Failure {
                number,
                case: None,
                doing: op.described(at),
                differences,
            });
        }
    }
    None
}

/// The same, into fresh sets.
pub(super) fn run_sets(history: &History) -> Option<Failure> {
    run(history, &mut Sets::new(&history.replicas))
}
