//! The sets under test.

use std::collections::BTreeMap;
use std::sync::Arc;

use presence_core::clock::{Context, ReplicaId};
use presence_core::delta::Delta;
use presence_core::entry::{Entry, Key, Left, Pid};
use presence_core::set::{Diff, Limits, Set};
use serde_json::{Value, json};

use super::Replicas;
use super::history::{Op, Place, Told};

/// One set a replica, and the messages that were taken from them.
pub(super) struct Sets {
    sets: BTreeMap<String, Set>,
    messages: BTreeMap<String, Delta>,
    pids: Pids,
}

/// A history names pids by strings, the set by numbers.
#[derive(Default)]
struct Pids {
    numbers: BTreeMap<String, Pid>,
    names: Vec<String>,
}

impl Sets {
    pub(super) fn new(replicas: &[String]) -> Self {
        let empty = |name: &String| (name.clone(), Set::new(id(name), Limits::default(), 0));
        Self {
            sets: replicas.iter().map(empty).collect(),
            messages: BTreeMap::new(),
            pids: Pids::default(),
        }
    }
}

impl Replicas for Sets {
    fn take(&mut self, at: &str, op: &Op) -> Result<Told, String> {
        let Self {
            sets,
            messages,
            pids,
        } = self;
        let set = sets.get_mut(at).ok_or("there is no such replica")?;
        match op {
            Op::Up { replica } => {
                let id = id(replica);
                let changed = set.up(&id).map_err(|error| error.to_string())?;
                let joins = if changed {
                    own(set, &id, pids)
                } else {
                    Vec::new()
                };
                let leaves = Vec::new();
                return Ok(Told::Diff { joins, leaves });
            }
            Op::Down { replica } => {
                let id = id(replica);
                let changed = set.down(&id);
                let leaves = if changed {
                    own(set, &id, pids)
                } else {
                    Vec::new()
                };
                let joins = Vec::new();
                return Ok(Told::Diff { joins, leaves });
            }
            Op::Remove { replica } => drop(set.remove(&id(replica))),
            Op::Join { place, meta } => {
                let Place { topic, pid, key } = place;
                let topic: Arc<str> = topic.as_str().into();
                let joined = set.join(&topic, pids.number(pid), Key::Text(key), &meta.to_string());
                joined.map_err(|error| error.to_string())?;
            }
            Op::Update { place, meta } => {
                let Place { topic, pid, key } = place;
                let updated =
                    set.update(topic, pids.number(pid), Key::Text(key), &meta.to_string());
                updated.map_err(|error| error.to_string())?;
            }
            Op::Leave { place } => {
                let Place { topic, pid, key } = place;
                set.leave(topic, pids.number(pid), Key::Text(key));
            }
            Op::LeavePid { pid } => drop(set.leave_pid(pids.number(pid))),
            Op::Delta { name } => {
                messages.insert(name.clone(), set.take_delta());
            }
            Op::Extract {
                asker,
                context,
                name,
            } => {
                let context: Context = context
                    .iter()
                    .map(|(name, &counter)| (id(name), counter))
                    .collect();
                messages.insert(name.clone(), set.extract(&id(asker), &context));
            }
            Op::Merge { of } => {
                let message = messages.get(of).ok_or("there is no such message")?;
                let mut diff = Diff::new();
                let merged = set.merge(message, &mut diff);
                merged.map_err(|error| error.to_string())?;
                let joined = diff.joins.iter().map(|&handle| set.entry(handle));
                let left = diff.leaves.iter().map(Left::entry);
                return Ok(Told::Diff {
                    joins: joined.map(|entry| pids.shown(entry)).collect(),
                    leaves: left.map(|entry| pids.shown(entry)).collect(),
                });
            }
            Op::Check => {
                let clocks = set.clocks();
                let clocks = clocks.iter();
                return Ok(Told::Listed {
                    online: set.list_all().map(|entry| pids.shown(entry)).collect(),
                    clocks: clocks
                        .map(|(id, counter)| (id.name().to_owned(), counter))
                        .collect(),
                });
            }
        }
        Ok(Told::Nothing)
    }
}

/// The entries of `replica` in `set`.
fn own(set: &Set, replica: &ReplicaId, pids: &Pids) -> Vec<Value> {
    let entries = set.entries_of(replica);
    entries.map(|entry| pids.shown(entry)).collect()
}

/// The recordings know no incarnations.
fn id(name: &str) -> ReplicaId {
    ReplicaId::new(name, 0)
}

impl Pids {
    fn number(&mut self, name: &str) -> Pid {
        if let Some(&pid) = self.numbers.get(name) {
            return pid;
        }
        let pid = Pid(self.names.len() as u64);
        self.numbers.insert(name.to_owned(), pid);
        self.names.push(name.to_owned());
        pid
    }

    fn shown(&self, entry: Entry<'_>) -> Value {
        let name = usize::try_from(entry.pid.0).ok();
        let name = name.and_then(|at| self.names.get(at));
        let pid = name.map_or_else(|| format!("{:?}", entry.pid), Clone::clone);
        let meta: Value = serde_json::from_str(entry.meta)
            .unwrap_or_else(|_| format!("not JSON: {}", entry.meta).into());
        let dot = json!([entry.replica.name(), entry.counter]);
        json!([&**entry.topic, pid, entry.key.as_str(), meta, dot])
    }
}
