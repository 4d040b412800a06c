//! Schedules: everything that happens in a simulation, as data.

mod lines;

use std::time::Duration;

use presence_core::tracker::Config;
use serde::{Deserialize, Serialize};

/// A cluster, what is done to it, and when. From the same schedule follows the same run, byte for byte.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// What it is: the name of a scenario, or the seed that it was made from.
    pub name: String,
    /// Of the network's and the nodes' random choices.
    pub seed: u64,
    /// The trackers' settings.
    pub settings: Settings,
    /// What the network does all the time.
    pub network: Network,
    /// The nodes. Those that start later are started by a step.
    pub nodes: Vec<NodeSpec>,
    /// What happens until everything heals, in order.
    pub steps: Vec<Step>,
    /// When all faults end and all pauses are over.
    pub heal_ms: u64,
    /// How the nodes find each other.
    #[serde(default, skip_serializing_if = "Joining::is_each")]
    pub joining: Joining,
    /// Nodes that find together before the others do: cut off from all others at first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heal_first: Vec<String>,
}

/// The settings of all trackers, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Between two heartbeats that tell something.
    pub broadcast_period: u64,
    /// Periods without a word, after which an idle node says that it lives.
    pub max_silent_periods: u32,
    /// Silence after which a replica is not listed any more.
    pub down_period: u64,
    /// Silence after which it is forgotten.
    pub permdown_period: u64,
    /// Periods in which clocks are gathered before a transfer is asked for.
    pub clock_sample_periods: u32,
    /// Entries of a delta that is kept to answer with; the only generation.
    pub max_delta_size: usize,
    /// Whether a node that stops says goodbye.
    pub permdown_on_shutdown: bool,
    /// Whether a presence of a node that stops goes when its key comes elsewhere.
    pub handover: bool,
    /// Values of one part of an answer.
    pub chunk_values: usize,
    /// Shards of each node.
    pub pool_size: usize,
}

/// The network's nature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// A message takes at least so long, in microseconds.
    pub latency_us: u64,
    /// And up to so much longer.
    pub jitter_us: u64,
    /// Whether messages of one node to another arrive in order.
    pub ordered: bool,
    /// Of a million messages so many get lost.
    pub loss: u32,
    /// Of a million messages so many come twice.
    pub repeat: u32,
    /// Of a million messages so many come up to three periods late.
    pub late: u32,
    /// Messages that may wait for one node; more are dropped.
    pub queue: usize,
    /// Whether nodes are told that they are connected again.
    pub announces: bool,
    /// Whether nodes are told of a crash sooner than silence tells it: in the second tier, whether the
    /// machine of a process that is gone is still there and refuses connections in its place.
    pub detects_crashes: bool,
}

/// What the nodes are told of where the others are. (In the second tier; in the first they know each other.)
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Joining {
    /// The address of each.
    #[default]
    Each,
    /// One name, that stands for the addresses of all.
    Name,
    /// The address of one, of whom they hear of the others.
    Through(String),
}

impl Joining {
    fn is_each(&self) -> bool {
        *self == Self::Each
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Whether it runs from the start.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub starts: bool,
    /// How much faster its clock runs, in millionths.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub clock_ppm: i64,
    /// Its own number of shards, by mistake: the others refuse it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_size: Option<usize>,
}

/// A hundred days: longer is a slip of the pen, and times stay far from what a number holds.
const LONGEST_MS: u64 = 100 * 24 * 3_600_000;

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_yes(value: &bool) -> bool {
    *value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// One thing that happens, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// After so many milliseconds.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub action: Action,
}

/// What can happen. What makes no sense at its time, such as an operation at a node that does not run,
/// does not happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum Action {
    /// A process is tracked.
    Track {
        node: String,
        process: u64,
        topic: String,
        key: String,
    },
    /// Its meta changes.
    Update {
        node: String,
        process: u64,
        topic: String,
        key: String,
    },
    /// It is untracked.
    Untrack {
        node: String,
        process: u64,
        topic: String,
        key: String,
    },
    /// It ends.
    End { node: String, process: u64 },
    /// The metas of all presences of a node in a topic change at once.
    UpdateTopic { node: String, topic: String },
    /// Many processes are tracked at once, from this number on.
    Storm {
        node: String,
        topic: String,
        first: u64,
        count: u64,
    },
    /// All processes of a node end at once.
    Exodus { node: String },
    /// A node starts, for the first time or again.
    Start {
        node: String,
        /// How far its wall clock has gone, or gone back, since the last start.
        #[serde(default, skip_serializing_if = "is_zero")]
        clock_ms: i64,
    },
    /// A node's process is gone, without a word.
    Crash { node: String },
    /// A node stops as it should, and is gone once its sockets are drained.
    Stop { node: String, drain_ms: u64 },
    /// A node's process does nothing for a while, and then goes on.
    Pause { node: String, ms: u64 },
    /// A node takes so long for each message for a while.
    Slow {
        node: String,
        us_per_message: u64,
        ms: u64,
    },
    /// Nothing arrives for a while, from the one to the other and, unless it is one-way, back.
    Cut {
        from: Vec<String>,
        to: Vec<String>,
        #[serde(default)]
        one_way: bool,
        ms: u64,
    },
    /// What is sent between them waits for a while, and then arrives.
    Hold {
        from: Vec<String>,
        to: Vec<String>,
        ms: u64,
    },
    /// A node is wrongly told that another's process is gone.
    Accuse { at: String, of: String },
    /// The connections between them take so many bytes a second for a while, either way, and what is more
    /// has to wait. (The second tier has connections.)
    Narrow {
        from: Vec<String>,
        to: Vec<String>,
        bytes_per_s: u64,
        ms: u64,
    },
    /// A client's connection breaks under it. (This and all below concern clients, which the second tier
    /// has: the client of the process that was first tracked on that node.)
    Reset { node: String, process: u64 },
    /// A client goes on at another node.
    Move {
        node: String,
        process: u64,
        to: String,
    },
    /// Nothing passes between a client and any node for a while.
    Stall { node: String, process: u64, ms: u64 },
    /// A client takes so long for each message for a while.
    Lag {
        node: String,
        process: u64,
        us_per_message: u64,
        ms: u64,
    },
    /// A client leaves a topic.
    Leave {
        node: String,
        process: u64,
        topic: String,
    },
    /// A client says something to all who are in a topic.
    Shout {
        node: String,
        process: u64,
        topic: String,
    },
}

impl Schedule {
    /// The settings of a tracker.
    pub fn config(&self) -> Config {
        let s = &self.settings;
        let mut config = Config::with_periods(
            Duration::from_millis(s.broadcast_period),
            s.max_silent_periods,
        );
        config.down_period = Duration::from_millis(s.down_period);
        config.permdown_period = Duration::from_millis(s.permdown_period);
        config.clock_sample_periods = s.clock_sample_periods;
        config.max_delta_sizes = vec![s.max_delta_size];
        config.permdown_on_shutdown = s.permdown_on_shutdown;
        config.handover = s.handover;
        config.chunk_values = s.chunk_values;
        config
    }

    /// The schedule as readable JSON, each step on a line of its own.
    pub fn to_json(&self) -> String {
        let mut json = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut json, lines::Lines::new());
        self.serialize(&mut serializer)
            .expect("a schedule is JSON, and memory takes it");
        json.push(b'\n');
        String::from_utf8(json).expect("JSON is UTF-8")
    }

    /// Reads a schedule.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong, and where.
    pub fn parse(json: &str) -> Result<Self, String> {
        let schedule: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        schedule.validate()?;
        Ok(schedule)
    }

    /// Whether it can be run.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong, and where.
    pub fn validate(&self) -> Result<(), String> {
        self.config()
            .validate()
            .map_err(|error| format!("settings: {error}"))?;
        if self.settings.pool_size == 0 || self.nodes.iter().any(|node| node.pool_size == Some(0)) {
            return Err("pool_size must not be 0".into());
        }
        if self.nodes.is_empty() || self.nodes.len() > 64 {
            return Err(format!("there are {} nodes, not 1 to 64", self.nodes.len()));
        }
        for (at, node) in self.nodes.iter().enumerate() {
            if self.nodes[..at].iter().any(|other| other.name == node.name) {
                return Err(format!("node {:?} is named twice", node.name));
            }
            if !(-500_000..=500_000).contains(&node.clock_ppm) {
                return Err(format!(
                    "node {:?}: clock_ppm is not within half",
                    node.name
                ));
            }
        }
        if self.network.queue == 0 {
            return Err("network.queue must not be 0".into());
        }
        let whole = 1_000_000;
        for (name, rate) in [
            ("loss", self.network.loss),
            ("repeat", self.network.repeat),
            ("late", self.network.late),
        ] {
            if rate > whole {
                return Err(format!("network.{name} is {rate} of {whole}"));
            }
        }
        let network = [
            ("network.latency_us", self.network.latency_us / 1000),
            ("network.jitter_us", self.network.jitter_us / 1000),
            ("heal_ms", self.heal_ms),
            ("settings.broadcast_period", self.settings.broadcast_period),
            ("settings.down_period", self.settings.down_period),
            ("settings.permdown_period", self.settings.permdown_period),
        ];
        if let Some((name, ms)) = network.into_iter().find(|(_, ms)| *ms > LONGEST_MS) {
            return Err(format!("{name} is {ms} ms, more than {LONGEST_MS}"));
        }
        for (at, step) in self.steps.iter().enumerate() {
            if let Some(name) = step
                .action
                .nodes()
                .into_iter()
                .find(|name| !self.knows(name))
            {
                return Err(format!("step {at}: there is no node {name:?}"));
            }
            if let Some(what) = step.action.excess() {
                return Err(format!("step {at}: {what}"));
            }
            if step.at_ms > self.heal_ms {
                return Err(format!("step {at} is at {} ms, after heal_ms", step.at_ms));
            }
        }
        if let Joining::Through(name) = &self.joining
            && !self.knows(name)
        {
            return Err(format!("joining: there is no node {name:?}"));
        }
        match self.heal_first.iter().find(|name| !self.knows(name)) {
            Some(name) => Err(format!("heal_first: there is no node {name:?}")),
            None => Ok(()),
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.name == name)
    }
}

impl Network {
    /// The longest that a message takes, in microseconds.
    pub(crate) fn trip_us(&self) -> u64 {
        self.latency_us + self.jitter_us
    }
}

impl NodeSpec {
    /// How many shards it has.
    pub(crate) fn pool(&self, schedule: &Schedule) -> usize {
        self.pool_size.unwrap_or(schedule.settings.pool_size)
    }
}

impl Action {
    /// A fault of the network, in a few words; none of what is another.
    pub(crate) fn fault(&self) -> String {
        match self {
            Self::Cut {
                from, to, one_way, ..
            } => {
                let way = if *one_way { "→" } else { "⇹" };
                format!("cut {} {way} {}", from.join(" "), to.join(" "))
            }
            Self::Hold { from, to, .. } => format!("hold {} ⇹ {}", from.join(" "), to.join(" ")),
            Self::Narrow { from, to, .. } => {
                format!("narrow {} ⇹ {}", from.join(" "), to.join(" "))
            }
            _ => String::new(),
        }
    }

    /// What is more than a simulation takes.
    fn excess(&self) -> Option<String> {
        let (name, ms) = match self {
            Self::Narrow { bytes_per_s: 0, .. } => return Some("bytes_per_s is 0".into()),
            Self::Start { clock_ms, .. } => ("clock_ms", clock_ms.unsigned_abs()),
            Self::Stop { drain_ms, .. } => ("drain_ms", *drain_ms),
            Self::Pause { ms, .. }
            | Self::Cut { ms, .. }
            | Self::Hold { ms, .. }
            | Self::Narrow { ms, .. }
            | Self::Stall { ms, .. } => ("ms", *ms),
            Self::Slow {
                us_per_message, ms, ..
            }
            | Self::Lag {
                us_per_message, ms, ..
            } => ("ms", *ms.max(&(us_per_message / 1000))),
            Self::Storm { first, count, .. } if *count > 100_000 || *first > 1 << 50 => {
                return Some(format!("a storm of {count} processes from {first} on"));
            }
            _ => return None,
        };
        (ms > LONGEST_MS).then(|| format!("{name} is {ms}, more than {LONGEST_MS}"))
    }

    /// The nodes that it names.
    pub fn nodes(&self) -> Vec<&str> {
        match self {
            Self::Track { node, .. }
            | Self::Update { node, .. }
            | Self::Untrack { node, .. }
            | Self::End { node, .. }
            | Self::UpdateTopic { node, .. }
            | Self::Storm { node, .. }
            | Self::Exodus { node }
            | Self::Start { node, .. }
            | Self::Crash { node }
            | Self::Stop { node, .. }
            | Self::Pause { node, .. }
            | Self::Slow { node, .. }
            | Self::Reset { node, .. }
            | Self::Stall { node, .. }
            | Self::Lag { node, .. }
            | Self::Leave { node, .. }
            | Self::Shout { node, .. } => vec![node],
            Self::Move { node, to, .. } => vec![node, to],
            Self::Cut { from, to, .. }
            | Self::Hold { from, to, .. }
            | Self::Narrow { from, to, .. } => from.iter().chain(to).map(String::as_str).collect(),
            Self::Accuse { at, of } => vec![at, of],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate;

    #[track_caller]
    fn refused(expected: &str, change: impl FnOnce(&mut Schedule)) {
        let mut schedule = generate::with_clients(3);
        assert_eq!(schedule.validate(), Ok(()));
        change(&mut schedule);
        let error = schedule.validate().expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }

    fn narrow(bytes_per_s: u64, ms: u64) -> Vec<Step> {
        let action = Action::Narrow {
            from: vec!["n0".into()],
            to: vec!["n1".into()],
            bytes_per_s,
            ms,
        };
        vec![Step { at_ms: 0, action }]
    }

    #[test]
    fn what_a_schedule_may_not_say_is_told_by_its_name() {
        let nobody = "n77";
        refused("there are 0 nodes", |s| s.nodes.clear());
        refused("network.queue must not be 0", |s| s.network.queue = 0);
        refused("joining: there is no node \"n77\"", |s| {
            s.joining = Joining::Through(nobody.into());
        });
        refused("heal_first: there is no node \"n77\"", |s| {
            s.heal_first = vec![nobody.into()];
        });
        refused("step 0: bytes_per_s is 0", |s| s.steps = narrow(0, 1));
        refused("step 0: ms is", |s| s.steps = narrow(1, u64::MAX));
    }
}
