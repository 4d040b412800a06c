//! What is run, and how to run it again.

use std::path::{Path, PathBuf};

use crate::outcome::Outcome;
use crate::sabotage::Sabotage;
use crate::scenarios::Scenario;
use crate::schedule::Schedule;
use crate::tier::Tier;
use crate::world::Options;

/// Where schedules come from, one for each seed.
#[derive(Clone, Copy, Debug)]
pub enum Family {
    /// Everything at random.
    Swarm,
    /// A named scenario.
    Scenario {
        /// Its name.
        name: &'static str,
        /// Its schedules.
        schedule: fn(u64) -> Schedule,
    },
}

impl Family {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
            Self::Scenario { name, .. } => name,
        }
    }
}

impl From<&Scenario> for Family {
    fn from(scenario: &Scenario) -> Self {
        Self::Scenario {
            name: scenario.name,
            schedule: scenario.schedule,
        }
    }
}

/// A schedule, and where it comes from.
#[derive(Clone, Debug)]
pub struct Case {
    origin: Origin,
    schedule: Schedule,
    sabotage: Option<Sabotage>,
    tier: Tier,
}

#[derive(Clone, Debug)]
enum Origin {
    Family(Family, u64),
    File(PathBuf),
}

impl Case {
    /// The schedule of a seed.
    pub fn new(tier: Tier, family: Family, seed: u64, sabotage: Option<Sabotage>) -> Self {
        let schedule = match family {
            Family::Swarm => tier.random(seed),
            Family::Scenario { schedule, .. } => schedule(seed),
        };
        Self {
            origin: Origin::Family(family, seed),
            schedule,
            sabotage,
            tier,
        }
    }

    /// A schedule that was saved.
    pub fn saved(tier: Tier, path: &Path, schedule: Schedule, sabotage: Option<Sabotage>) -> Self {
        Self {
            origin: Origin::File(path.to_owned()),
            schedule,
            sabotage,
            tier,
        }
    }

    /// The schedule.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The defect that is planted.
    pub fn sabotage(&self) -> Option<Sabotage> {
        self.sabotage
    }

    /// What is simulated.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Runs it; the same each time.
    pub fn run(&self, trace: bool) -> Outcome {
        let sabotage = self.sabotage;
        self.tier.run(&self.schedule, Options { sabotage, trace })
    }

    /// A name of its own, that a file or a function could bear.
    pub fn slug(&self) -> String {
        let mut slug = match &self.origin {
            Origin::Family(Family::Swarm, seed) => format!("seed-{seed}"),
            Origin::Family(family, seed) => format!("{}-{seed}", family.name()),
            Origin::File(path) => path
                .file_stem()
                .map_or_else(|| "schedule".into(), |stem| stem.to_string_lossy().into()),
        };
        if let Some(sabotage) = self.sabotage
            && !slug.ends_with(sabotage.id())
        {
            slug = format!("{slug}-{sabotage}");
        }
        slug
    }

    /// The command that runs it again.
    pub fn repeat(&self) -> String {
        let verb = match self.origin {
            Origin::Family(..) => "run",
            Origin::File(_) => "replay",
        };
        self.command(verb)
    }

    /// A command on it.
    pub fn command(&self, verb: &str) -> String {
        let arguments = self.arguments(verb).join(" ");
        format!("cargo run --release -p sim -- {arguments}")
    }

    /// The arguments of a command on it.
    pub fn arguments(&self, verb: &str) -> Vec<String> {
        let mut arguments = vec![verb.to_owned()];
        match &self.origin {
            Origin::Family(family, seed) => {
                if let Family::Scenario { name, .. } = family {
                    arguments.extend(["--scenario".into(), (*name).into()]);
                }
                arguments.extend(["--seed".into(), seed.to_string()]);
            }
            Origin::File(path) => arguments.push(path.display().to_string()),
        }
        if let Some(sabotage) = self.sabotage {
            arguments.extend(["--sabotage".into(), sabotage.to_string()]);
        }
        if self.tier != Tier::default() {
            arguments.extend(["--tier".into(), self.tier.to_string()]);
        }
        arguments
    }
}
