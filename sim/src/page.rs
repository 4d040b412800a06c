//! A run as a page.

use crate::schedule::Schedule;
use crate::trace::Traced;
use crate::world::Outcome;

/// The page of a run.
pub fn render(schedule: &Schedule, traced: &Traced, _outcome: &Outcome) -> String {
    format!(
        "<!doctype html><title>{}</title><pre>{traced}</pre>",
        schedule.name
    )
}
