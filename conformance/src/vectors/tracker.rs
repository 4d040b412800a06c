//! Histories of the replicated set, replayed step by step into one [`Set`] a replica.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use presence_core::clock::{Context, ReplicaId};
use presence_core::delta::Delta;
use presence_core::entry::{Entry, Key, Left, Pid};
use presence_core::set::{Diff, Limits, Set};
use serde::Deserialize;
use serde_json::Value;

use super::{Failure, Unreadable};

#[derive(Deserialize)]
struct History {
    replicas: Vec<String>,
    steps: Vec<Value>,
}

/// One step, as the recordings write it.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Step {
    Up {
        at: String,
        replica: String,
        joins: Vec<Presence>,
    },
    Down {
        at: String,
        replica: String,
        leaves: Vec<Presence>,
    },
    Remove {
        at: String,
        replica: String,
    },
    Join {
        at: String,
        #[serde(flatten)]
        place: Place,
        meta: Value,
    },
    Update {
        at: String,
        #[serde(flatten)]
        place: Place,
        meta: Value,
    },
    Leave {
        at: String,
        #[serde(flatten)]
        place: Place,
    },
    LeavePid {
        at: String,
        pid: String,
    },
    Delta {
        at: String,
        #[serde(rename = "as")]
        name: String,
    },
    Extract {
        at: String,
        #[serde(rename = "for")]
        asker: String,
        context: BTreeMap<String, u64>,
        #[serde(rename = "as")]
        name: String,
    },
    Merge {
        at: String,
        of: String,
        joins: Vec<Presence>,
        leaves: Vec<Presence>,
    },
    Check {
        at: String,
        online: Vec<Presence>,
        clocks: BTreeMap<String, u64>,
    },
}

#[derive(Deserialize)]
struct Place {
    topic: String,
    pid: String,
    key: String,
}

/// `[topic, pid, key, meta, [replica, counter]]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "(String, String, String, Value, (String, u64))")]
struct Presence {
    topic: String,
    pid: String,
    key: String,
    meta: String,
    dot: (String, u64),
}

impl From<(String, String, String, Value, (String, u64))> for Presence {
    fn from((topic, pid, key, meta, dot): (String, String, String, Value, (String, u64))) -> Self {
        let meta = meta.to_string();
        Self {
            topic,
            pid,
            key,
            meta,
            dot,
        }
    }
}

impl fmt::Display for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (replica, counter) = &self.dot;
        write!(
            f,
            "[{}, {}, {}, {}, {replica}@{counter}]",
            self.topic, self.pid, self.key, self.meta
        )
    }
}

/// Replays one history.
///
/// # Errors
///
/// [`Unreadable`] where the text is no history, else the first step that differs.
pub fn replay(text: &str) -> Result<Result<(), Failure>, Unreadable> {
    let history: History = serde_json::from_str(text).map_err(Unreadable::json)?;
    let mut cluster = Cluster::new(&history.replicas);
    for (number, step) in (1..).zip(history.steps) {
        let shown = step.to_string();
        let step: Step = serde_json::from_value(step)
            .map_err(|error| Unreadable::step(number, &shown, &error))?;
        let differences = cluster
            .step(step)
            .map_err(|reason| Unreadable::step(number, &shown, &reason))?;
        if !differences.is_empty() {
            return Ok(Err(Failure {
                step: number,
                doing: shown,
                differences,
            }));
        }
    }
    Ok(Ok(()))
}

struct Cluster {
    sets: BTreeMap<String, Set>,
    /// Deltas and full states by name.
    messages: BTreeMap<String, Delta>,
    /// The recordings name pids by strings, the set by numbers.
    pids: Vec<String>,
}

impl Cluster {
    fn new(replicas: &[String]) -> Self {
        let sets = replicas
            .iter()
            .map(|name| (name.clone(), Set::new(id(name), Limits::default(), 0)))
            .collect();
        Self {
            sets,
            messages: BTreeMap::new(),
            pids: Vec::new(),
        }
    }

    fn set(&mut self, name: &str) -> Result<&mut Set, String> {
        let unknown = || format!("no replica {name:?} in this history");
        self.sets.get_mut(name).ok_or_else(unknown)
    }

    fn pid(&mut self, name: &str) -> Pid {
        let known = self.pids.iter().position(|pid| pid == name);
        let number = known.unwrap_or_else(|| {
            self.pids.push(name.to_owned());
            self.pids.len() - 1
        });
        Pid(number as u64)
    }

    /// Takes a step; what differs from the recording. An error is a step that can't be taken.
    fn step(&mut self, step: Step) -> Result<Vec<String>, String> {
        match step {
            Step::Up { at, replica, joins } => {
                let set = self.set(&at)?;
                set.up(&id(&replica)).map_err(|error| error.to_string())?;
                let back = self.entries_of(&at, &replica);
                Ok(compare("joins", joins, back))
            }
            Step::Down {
                at,
                replica,
                leaves,
            } => {
                self.set(&at)?.down(&id(&replica));
                let hidden = self.entries_of(&at, &replica);
                Ok(compare("leaves", leaves, hidden))
            }
            Step::Remove { at, replica } => {
                self.set(&at)?.remove(&id(&replica));
                Ok(Vec::new())
            }
            Step::Join { at, place, meta } => {
                let pid = self.pid(&place.pid);
                let topic: Arc<str> = place.topic.into();
                let key = Key::Text(&place.key);
                let joined = self.set(&at)?.join(&topic, pid, key, &meta.to_string());
                joined.map_err(|error| error.to_string())?;
                Ok(Vec::new())
            }
            Step::Update { at, place, meta } => {
                let pid = self.pid(&place.pid);
                let key = Key::Text(&place.key);
                let set = self.set(&at)?;
                let updated = set.update(&place.topic, pid, key, &meta.to_string());
                updated.map_err(|error| error.to_string())?;
                Ok(Vec::new())
            }
            Step::Leave { at, place } => {
                let pid = self.pid(&place.pid);
                self.set(&at)?
                    .leave(&place.topic, pid, Key::Text(&place.key));
                Ok(Vec::new())
            }
            Step::LeavePid { at, pid } => {
                let pid = self.pid(&pid);
                self.set(&at)?.leave_pid(pid);
                Ok(Vec::new())
            }
            Step::Delta { at, name } => {
                let delta = self.set(&at)?.take_delta();
                self.messages.insert(name, delta);
                Ok(Vec::new())
            }
            Step::Extract {
                at,
                asker,
                context,
                name,
            } => {
                let context: Context = context
                    .iter()
                    .map(|(name, &counter)| (id(name), counter))
                    .collect();
                let state = self.set(&at)?.extract(&id(&asker), &context);
                self.messages.insert(name, state);
                Ok(Vec::new())
            }
            Step::Merge {
                at,
                of,
                joins,
                leaves,
            } => {
                let message = self.messages.remove(&of);
                let message = message.ok_or_else(|| format!("no delta {of:?} was taken"))?;
                let mut diff = Diff::new();
                let merged = self.set(&at)?.merge(&message, &mut diff);
                self.messages.insert(of, message);
                if let Err(error) = merged {
                    return Ok(vec![format!("the delta was refused: {error}")]);
                }
                let set = &self.sets[&at];
                let joined = diff
                    .joins
                    .iter()
                    .map(|&handle| self.shown(set.entry(handle)));
                let left = diff.leaves.iter().map(|left| self.shown(Left::entry(left)));
                let mut differences = compare("joins", joins, joined.collect());
                differences.extend(compare("leaves", leaves, left.collect()));
                Ok(differences)
            }
            Step::Check { at, online, clocks } => {
                let set = &*self.set(&at)?;
                let seen: BTreeMap<String, u64> = set
                    .clocks()
                    .iter()
                    .map(|(id, counter)| (id.name().to_owned(), counter))
                    .collect();
                let listed = self.sets[&at].list_all().map(|entry| self.shown(entry));
                let mut differences = compare("online", online, listed.collect());
                if seen != clocks {
                    differences.push(format!("clocks: expected {clocks:?}"));
                    differences.push(format!("        received {seen:?}"));
                }
                Ok(differences)
            }
        }
    }

    fn entries_of(&self, at: &str, replica: &str) -> Vec<Presence> {
        let entries = self.sets[at].entries_of(&id(replica));
        entries.map(|entry| self.shown(entry)).collect()
    }

    fn shown(&self, entry: Entry<'_>) -> Presence {
        // The recordings compare metas as JSON, and so in one spelling.
        let meta: Value = serde_json::from_str(entry.meta).unwrap_or_default();
        Presence {
            topic: entry.topic.to_string(),
            pid: self.pids[entry.pid.0 as usize].clone(),
            key: entry.key.as_str().to_owned(),
            meta: meta.to_string(),
            dot: (entry.replica.name().to_owned(), entry.counter),
        }
    }
}

/// The recordings know no incarnations.
fn id(name: &str) -> ReplicaId {
    ReplicaId::new(name, 0)
}

/// What is missing in `received` and what should not be there. A presence told twice differs too.
fn compare(what: &str, expected: Vec<Presence>, received: Vec<Presence>) -> Vec<String> {
    let mut differences = Vec::new();
    let mut seen = BTreeSet::new();
    for presence in &received {
        if !seen.insert(presence.clone()) {
            differences.push(format!("{what}: received twice  {presence}"));
        }
    }
    let expected: BTreeSet<_> = expected.into_iter().collect();
    for presence in expected.difference(&seen) {
        differences.push(format!("{what}: expected        {presence}"));
    }
    for presence in seen.difference(&expected) {
        differences.push(format!("{what}: received beside {presence}"));
    }
    differences
}
