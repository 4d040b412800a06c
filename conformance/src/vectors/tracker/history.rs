//! A history as its file writes it: operations, and what each gave.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::failure::{sets, values};
use super::super::read::At;
use super::super::{Difference, Unreadable};
use crate::json;

/// What happened at some replicas, in order. Every replica starts empty.
#[derive(Clone, Debug)]
pub(in crate::vectors) struct History {
    pub(in crate::vectors) replicas: Vec<String>,
    pub(in crate::vectors) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(in crate::vectors) struct Step {
    pub(in crate::vectors) at: String,
    pub(in crate::vectors) op: Op,
    pub(in crate::vectors) told: Told,
}

/// What a replica does.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::vectors) enum Op {
    Up {
        replica: String,
    },
    Down {
        replica: String,
    },
    Remove {
        replica: String,
    },
    Join {
        place: Place,
        meta: Value,
    },
    Update {
        place: Place,
        meta: Value,
    },
    Leave {
        place: Place,
    },
    LeavePid {
        pid: String,
    },
    /// Takes the delta since the last one.
    Delta {
        name: String,
    },
    /// Takes the full state for `asker`, whose clocks are `context`.
    Extract {
        asker: String,
        context: BTreeMap<String, u64>,
        name: String,
    },
    /// Merges the delta or full state of that name.
    Merge {
        of: String,
    },
    Check,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::vectors) struct Place {
    pub(in crate::vectors) topic: String,
    pub(in crate::vectors) pid: String,
    pub(in crate::vectors) key: String,
}

/// What an operation gave. A presence is `[topic, pid, key, meta, [replica, clock]]`.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::vectors) enum Told {
    Nothing,
    Diff {
        joins: Vec<Value>,
        leaves: Vec<Value>,
    },
    Listed {
        online: Vec<Value>,
        clocks: BTreeMap<String, u64>,
    },
}

impl Told {
    pub(super) fn differences(&self, received: &Self) -> Vec<Difference> {
        match (self, received) {
            (Self::Nothing, Self::Nothing) => Vec::new(),
            (
                Self::Diff { joins, leaves },
                Self::Diff {
                    joins: joined,
                    leaves: left,
                },
            ) => [sets("joins", joins, joined), sets("leaves", leaves, left)].concat(),
            (
                Self::Listed { online, clocks },
                Self::Listed {
                    online: listed,
                    clocks: seen,
                },
            ) => [
                sets("online", online, listed),
                values("clocks", &json!(clocks), &json!(seen)),
            ]
            .concat(),
            _ => unreachable!("the operation decides what it tells"),
        }
    }
}

impl Op {
    /// The operation in a few words.
    pub(super) fn described(&self, at: &str) -> String {
        match self {
            Self::Up { replica } => format!("{at} marks {replica} up"),
            Self::Down { replica } => format!("{at} marks {replica} down"),
            Self::Remove { replica } => format!("{at} removes {replica} for good"),
            Self::Join { place, meta } => format!("at {at} {} joins with {meta}", place.shown()),
            Self::Update { place, meta } => {
                format!("at {at} {} is updated to {meta}", place.shown())
            }
            Self::Leave { place } => format!("at {at} {} leaves", place.shown()),
            Self::LeavePid { pid } => format!("at {at} all of {pid} leaves"),
            Self::Delta { name } => format!("{at} takes its delta {name}"),
            Self::Extract { asker, name, .. } => {
                format!("{at} takes its full state {name} for {asker}")
            }
            Self::Merge { of } => format!("{at} merges {of}"),
            Self::Check => format!("what {at} lists"),
        }
    }
}

impl Place {
    fn shown(&self) -> String {
        format!("{} as {} in {}", self.pid, self.key, self.topic)
    }
}

impl History {
    /// Reads a history and checks that it names only replicas, messages and pids that there are.
    pub(in crate::vectors) fn read(value: &Value) -> Result<Self, Unreadable> {
        let root = At::root(value);
        let mut reader = Reader::default();
        let names = root.member("replicas")?;
        for name in names.elements()? {
            if !reader.replicas.insert(name.text()?) {
                return Err(name.wrong("names a replica twice"));
            }
        }
        let steps = root
            .member("steps")?
            .numbered_elements("step")?
            .map(|(_, step)| reader.step(&step))
            .collect::<Result<_, _>>()?;
        let replicas = names
            .elements()?
            .map(|name| name.owned_text())
            .collect::<Result<_, _>>()?;
        Ok(Self { replicas, steps })
    }

    /// The history in the form that [`read`](Self::read) reads.
    pub(in crate::vectors) fn to_json(&self) -> Value {
        let steps: Vec<Value> = self.steps.iter().map(Step::to_json).collect();
        json!({ "replicas": self.replicas, "steps": steps })
    }
}

/// What was named so far.
#[derive(Default)]
struct Reader<'a> {
    replicas: BTreeSet<&'a str>,
    messages: BTreeSet<String>,
    pids: BTreeSet<(String, String)>,
}

impl Reader<'_> {
    fn step(&mut self, step: &At<'_>) -> Result<Step, Unreadable> {
        let at = self.replica(&step.member("at")?)?;
        let mut told = Told::Nothing;
        let name = step.member("op")?;
        let op = match name.text()? {
            "up" => {
                let joins = presences(&step.member("joins")?)?;
                let leaves = Vec::new();
                told = Told::Diff { joins, leaves };
                let replica = self.replica(&step.member("replica")?)?;
                Op::Up { replica }
            }
            "down" => {
                let leaves = presences(&step.member("leaves")?)?;
                let joins = Vec::new();
                told = Told::Diff { joins, leaves };
                let replica = self.replica(&step.member("replica")?)?;
                Op::Down { replica }
            }
            "remove" => Op::Remove {
                replica: self.replica(&step.member("replica")?)?,
            },
            "join" => {
                let place = place(step)?;
                self.pids.insert((at.clone(), place.pid.clone()));
                let meta = step.member("meta")?.value.clone();
                Op::Join { place, meta }
            }
            "update" => {
                self.pid(&at, step)?;
                let meta = step.member("meta")?.value.clone();
                let place = place(step)?;
                Op::Update { place, meta }
            }
            "leave" => {
                self.pid(&at, step)?;
                let place = place(step)?;
                Op::Leave { place }
            }
            "leave_pid" => Op::LeavePid {
                pid: self.pid(&at, step)?,
            },
            "delta" => Op::Delta {
                name: self.names(&step.member("as")?)?,
            },
            "extract" => Op::Extract {
                asker: self.replica(&step.member("for")?)?,
                context: self.clocks(&step.member("context")?)?,
                name: self.names(&step.member("as")?)?,
            },
            "merge" => {
                let joins = presences(&step.member("joins")?)?;
                let leaves = presences(&step.member("leaves")?)?;
                told = Told::Diff { joins, leaves };
                let of = step.member("of")?;
                if !self.messages.contains(of.text()?) {
                    return Err(of.wrong(format_args!("no {} was taken before", of.value)));
                }
                let of = of.owned_text()?;
                Op::Merge { of }
            }
            "check" => {
                let online = presences(&step.member("online")?)?;
                let clocks = self.clocks(&step.member("clocks")?)?;
                told = Told::Listed { online, clocks };
                Op::Check
            }
            _ => return Err(name.wrong(format_args!("there is no operation {}", name.value))),
        };
        Ok(Step { at, op, told })
    }

    fn replica(&self, name: &At<'_>) -> Result<String, Unreadable> {
        if !self.replicas.contains(name.text()?) {
            return Err(name.wrong(format_args!("no replica {} in this history", name.value)));
        }
        name.owned_text()
    }

    fn pid(&self, at: &str, step: &At<'_>) -> Result<String, Unreadable> {
        let pid = step.member("pid")?;
        let own = (at.to_owned(), pid.owned_text()?);
        if !self.pids.contains(&own) {
            return Err(pid.wrong(format_args!("no {} joined at {at} before", pid.value)));
        }
        Ok(own.1)
    }

    fn names(&mut self, name: &At<'_>) -> Result<String, Unreadable> {
        let name = name.owned_text()?;
        self.messages.insert(name.clone());
        Ok(name)
    }

    fn clocks(&self, clocks: &At<'_>) -> Result<BTreeMap<String, u64>, Unreadable> {
        let mut counters = BTreeMap::new();
        for (name, counter) in clocks.members()? {
            if !self.replicas.contains(name) {
                return Err(counter.wrong(format_args!("no replica {name:?} in this history")));
            }
            counters.insert(name.to_owned(), counter.counter()?);
        }
        Ok(counters)
    }
}

fn place(step: &At<'_>) -> Result<Place, Unreadable> {
    Ok(Place {
        topic: step.member("topic")?.owned_text()?,
        pid: step.member("pid")?.owned_text()?,
        key: step.member("key")?.owned_text()?,
    })
}

/// A set, whatever the order of the list; what is received twice differs all the same.
fn presences(list: &At<'_>) -> Result<Vec<Value>, Unreadable> {
    let mut presences = Vec::new();
    let mut distinct = BTreeSet::new();
    for presence in list.elements()? {
        let [topic, pid, key, _, dot] =
            presence.tuple("[topic, pid, key, meta, [replica, clock]]")?;
        for name in [topic, pid, key] {
            name.text()?;
        }
        let [replica, counter] = dot.tuple("[replica, clock]")?;
        replica.text()?;
        counter.counter()?;
        if distinct.insert(json::canonical(presence.value)) {
            presences.push(presence.value.clone());
        }
    }
    Ok(presences)
}

impl Step {
    fn to_json(&self) -> Value {
        let mut step = match &self.op {
            Op::Up { replica } => json!({ "op": "up", "replica": replica }),
            Op::Down { replica } => json!({ "op": "down", "replica": replica }),
            Op::Remove { replica } => json!({ "op": "remove", "replica": replica }),
            Op::Join { place, meta } => place.to_json("join", Some(meta)),
            Op::Update { place, meta } => place.to_json("update", Some(meta)),
            Op::Leave { place } => place.to_json("leave", None),
            Op::LeavePid { pid } => json!({ "op": "leave_pid", "pid": pid }),
            Op::Delta { name } => json!({ "op": "delta", "as": name }),
            Op::Extract {
                asker,
                context,
                name,
            } => json!({ "op": "extract", "for": asker, "context": context, "as": name }),
            Op::Merge { of } => json!({ "op": "merge", "of": of }),
            Op::Check => json!({ "op": "check" }),
        };
        step["at"] = json!(self.at);
        match &self.told {
            Told::Nothing => {}
            Told::Diff { joins, leaves } => {
                if !matches!(self.op, Op::Down { .. }) {
                    step["joins"] = json!(joins);
                }
                if !matches!(self.op, Op::Up { .. }) {
                    step["leaves"] = json!(leaves);
                }
            }
            Told::Listed { online, clocks } => {
                step["online"] = json!(online);
                step["clocks"] = json!(clocks);
            }
        }
        step
    }
}

impl Place {
    fn to_json(&self, op: &str, meta: Option<&Value>) -> Value {
        let Self { topic, pid, key } = self;
        let mut step = json!({ "op": op, "pid": pid, "topic": topic, "key": key });
        if let Some(meta) = meta {
            step["meta"] = meta.clone();
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_written_as_it_was_read() {
        for (name, text) in crate::fixtures::vectors() {
            if !name.starts_with("tracker") {
                continue;
            }
            let mut recorded: Value = serde_json::from_str(text).unwrap();
            let written = History::read(&recorded).unwrap().to_json();
            let recorded = recorded.as_object_mut().unwrap();
            recorded.remove("vector");
            recorded.remove("corrected");
            assert_eq!(written.as_object(), Some(&*recorded), "{name}");
        }
    }
}
