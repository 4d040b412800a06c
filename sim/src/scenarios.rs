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

use crate::coverage::{Counted, Coverage};
use crate::schedule::Schedule;
use crate::tier::Tier;

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
    /// What the real node does not let happen, of what the story is about: in the second tier it is
    /// counted in no run.
    pub core_only: &'static [Counted],
    /// The schedule of a seed.
    pub schedule: fn(seed: u64) -> Schedule,
}

impl Scenario {
    /// Where a run was not what the story says, in a few words each; none where it was.
    pub fn unmet(&self, tier: Tier, coverage: &Coverage) -> Vec<String> {
        let barred = match tier {
            Tier::Core => &[],
            Tier::Full => self.core_only,
        };
        let never = self
            .reaches
            .iter()
            .filter(|what| !barred.contains(what) && coverage.of(**what) == 0)
            .map(|what| format!("never: {}", what.name()));
        let happened = self
            .avoids
            .iter()
            .chain(barred)
            .filter(|what| coverage.of(**what) > 0)
            .map(|what| format!("happened: {}", what.name()));
        never.chain(happened).collect()
    }
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
