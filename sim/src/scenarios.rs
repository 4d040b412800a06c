//! Named schedules.

use crate::schedule::Schedule;

/// A rule, and schedules that put it to the test.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The rule.
    pub rule: &'static str,
    /// Its schedule for a seed.
    pub schedule: fn(seed: u64) -> Schedule,
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    vec![Scenario {
        name: "bench",
        rule: "five nodes with 200 presences agree",
        schedule: crate::bench::workload,
    }]
}
