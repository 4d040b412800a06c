//! The two tiers: what is simulated.

use std::fmt;

use crate::coverage::Counted;
use crate::full;
use crate::generate;
use crate::outcome::Outcome;
use crate::sabotage::Sabotage;
use crate::schedule::Schedule;
use crate::world::{self, Options};

/// What is simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tier {
    /// Pure trackers on an event queue: thousands of clusters a minute.
    Core,
    /// The node that ships, whole, on turmoil's network, and clients that speak to it.
    #[default]
    Full,
}

impl Tier {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Full => "full",
        }
    }

    /// The random schedule of a seed.
    pub fn random(self, seed: u64) -> Schedule {
        match self {
            Self::Core => generate::random(seed),
            Self::Full => generate::with_clients(seed),
        }
    }

    /// Runs a schedule to its end, or to the first invariant that breaks. From the same schedule follows
    /// the same run, byte for byte.
    pub fn run(self, schedule: &Schedule, options: Options) -> Outcome {
        match self {
            Self::Core => world::run(schedule, options),
            Self::Full => full::run(schedule, options),
        }
    }

    /// What can happen in it.
    pub fn counted(self) -> impl Iterator<Item = Counted> {
        let all = Counted::ALL.iter().copied();
        all.filter(move |what| match self {
            Self::Core => !what.is_full_only(),
            Self::Full => !what.is_core_only(),
        })
    }

    /// Whether a defect can be planted in it.
    pub fn has(self, defect: Sabotage) -> bool {
        match self {
            Self::Core => !defect.is_full_only(),
            Self::Full => !defect.is_core_only(),
        }
    }

    /// The defects that are planted in it to show that they are found.
    pub fn defects(self) -> impl Iterator<Item = Sabotage> {
        let all = Sabotage::ALL.iter().copied();
        all.filter(move |&what| self.has(what))
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
