//! Named scenarios: each rule that a cluster has to keep, as a story that would break it.
//!
//! The rules are those that the reference broke once, or still does, and what follows from them. The
//! seed varies the details of a story: latencies, times, sizes.

mod lives;
mod load;
mod merging;
mod network;
mod stops;
mod story;

use crate::coverage::Counted;
use crate::schedule::Schedule;

/// A schedule that was made for a rule.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// The rule, in a sentence.
    pub rule: &'static str,
    /// What the story is about: each is counted in every run of it.
    pub reaches: &'static [Counted],
    /// What the rule forbids: it is counted in no run.
    pub avoids: &'static [Counted],
    /// The schedule of a seed.
    pub schedule: fn(seed: u64) -> Schedule,
}

/// All scenarios.
pub fn all() -> Vec<Scenario> {
    let groups = [
        merging::SCENARIOS,
        network::SCENARIOS,
        lives::SCENARIOS,
        stops::SCENARIOS,
        load::SCENARIOS,
    ];
    groups.into_iter().flatten().copied().collect()
}

/// The scenario of this name.
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}
