//! The rules of the replicated set in their plainest form: sets of dots, searched from end to end.
//!
//! Written from `fixtures/README.md` alone, so that a mistake in the set is not repeated here. A
//! replica remembers every dot it ever saw, one by one; its clock is where the first gap begins.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::tracker::Replicas;
use super::super::tracker::history::{Op, Place, Told};

/// The replicas of a history, and the messages taken from them.
pub(in crate::vectors) struct Model {
    replicas: BTreeMap<String, Replica>,
    messages: BTreeMap<String, Message>,
    /// What the model does wrong, in tests that ask whether histories would tell.
    fault: Option<Fault>,
}

/// A fault that a set could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A dot that left while it was ahead of the clock counts as never seen, as in the reference.
    ForgetsLeftAhead,
    /// Of two dots of one presence the one that comes later replaces the other, as in the reference.
    LaterArrivalWins,
    /// A superseded dot is replaced without a leave, as in the reference.
    SilentSupersede,
    /// A superseded dot counts as never seen.
    ForgetsSuperseded,
    /// What was seen of a removed replica stays seen.
    RemembersRemoved,
    /// A full state also says of the asker's own dots what it knows.
    MergesOwn,
    /// What left elsewhere is not passed on in the next delta.
    KeepsLeavesToItself,
}

#[derive(Clone)]
struct Entry {
    place: Place,
    meta: Value,
}

/// A change: the replica that made it and its number there.
type Dot = (String, u64);

#[derive(Default)]
struct Replica {
    /// By replica known, itself among them: every dot ever seen, and whether it is up.
    seen: BTreeMap<String, BTreeSet<u64>>,
    down: BTreeSet<String>,
    entries: BTreeMap<Dot, Entry>,
    /// What the next delta speaks of.
    news: BTreeSet<Dot>,
}

/// What a delta or a full state says: the dots it speaks of, and which of them are present.
#[derive(Default)]
struct Message {
    dots: BTreeMap<String, BTreeSet<u64>>,
    values: BTreeMap<Dot, Entry>,
}

impl Model {
    pub(in crate::vectors) fn new(replicas: &[String]) -> Self {
        let empty = |name: &String| {
            let mut replica = Replica::default();
            replica.seen.insert(name.clone(), BTreeSet::new());
            (name.clone(), replica)
        };
        Self {
            replicas: replicas.iter().map(empty).collect(),
            messages: BTreeMap::new(),
            fault: None,
        }
    }

    #[cfg(test)]
    pub(super) fn with_fault(replicas: &[String], fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..Self::new(replicas)
        }
    }

    /// Whether `op` makes sense at `at` now. A delta or full state may be merged whenever it was taken.
    pub(super) fn allows(&self, at: &str, op: &Op) -> bool {
        let replica = &self.replicas[at];
        match op {
            Op::Up { replica: other } => other != at && !replica.lists(other),
            Op::Down { replica: other } => other != at && replica.lists(other),
            Op::Remove { replica: other } => other != at && replica.seen.contains_key(other),
            Op::Join { place, .. } => replica.find(at, place).is_none(),
            Op::Update { place, .. } | Op::Leave { place } => replica.find(at, place).is_some(),
            Op::LeavePid { pid } => !replica.own(at, pid).is_empty(),
            Op::Merge { of } => self.messages.contains_key(of),
            Op::Extract { asker, .. } => asker != at,
            Op::Delta { .. } | Op::Check => true,
        }
    }

    /// The clocks of `at` without those that are down.
    pub(super) fn clocks(&self, at: &str) -> BTreeMap<String, u64> {
        let replica = &self.replicas[at];
        let known = replica.seen.iter();
        known
            .filter(|(name, _)| replica.lists(name))
            .map(|(name, seen)| (name.clone(), clock(seen)))
            .collect()
    }

    /// The places that `at` tracks itself.
    pub(super) fn places(&self, at: &str) -> Vec<Place> {
        let entries = self.replicas[at].entries.iter();
        entries
            .filter(|((of, _), _)| of == at)
            .map(|(_, entry)| entry.place.clone())
            .collect()
    }

    /// Whether `at` knows `other`.
    pub(super) fn knows(&self, at: &str, other: &str) -> bool {
        self.replicas[at].seen.contains_key(other)
    }
}

impl Replicas for Model {
    fn take(&mut self, at: &str, op: &Op) -> Result<Told, String> {
        let replica = self.replicas.get_mut(at).ok_or("no such replica")?;
        let not_tracked = || "not tracked".to_owned();
        match op {
            Op::Up { replica: other } => {
                replica.seen.entry(other.clone()).or_default();
                let back = replica.down.remove(other);
                let joins = if back {
                    replica.shown(other)
                } else {
                    Vec::new()
                };
                let leaves = Vec::new();
                return Ok(Told::Diff { joins, leaves });
            }
            Op::Down { replica: other } => {
                let gone = replica.lists(other) && replica.down.insert(other.clone());
                let leaves = if gone {
                    replica.shown(other)
                } else {
                    Vec::new()
                };
                let joins = Vec::new();
                return Ok(Told::Diff { joins, leaves });
            }
            Op::Remove { replica: other } => {
                if self.fault != Some(Fault::RemembersRemoved) {
                    replica.seen.remove(other);
                }
                replica.down.remove(other);
                replica.entries.retain(|(of, _), _| of != other);
                replica.news.retain(|(of, _)| of != other);
            }
            Op::Join { place, meta } => {
                let (place, meta) = (place.clone(), meta.clone());
                let dot = replica.tick(at);
                replica.entries.insert(dot, Entry { place, meta });
            }
            Op::Update { place, meta } => {
                let before = replica.find(at, place).ok_or_else(not_tracked)?;
                replica.leave(at, &before);
                let (place, meta) = (place.clone(), meta.clone());
                let dot = replica.tick(at);
                replica.entries.insert(dot, Entry { place, meta });
            }
            Op::Leave { place } => {
                if let Some(dot) = replica.find(at, place) {
                    replica.leave(at, &dot);
                }
            }
            Op::LeavePid { pid } => {
                for dot in replica.own(at, pid) {
                    replica.leave(at, &dot);
                }
            }
            Op::Delta { name } => {
                let mut delta = Message::default();
                for dot in std::mem::take(&mut replica.news) {
                    if let Some(entry) = replica.entries.get(&dot) {
                        delta.values.insert(dot.clone(), entry.clone());
                    }
                    delta.dots.entry(dot.0).or_default().insert(dot.1);
                }
                self.messages.insert(name.clone(), delta);
            }
            Op::Extract {
                asker,
                context,
                name,
            } => {
                let told = |of: &String| of != asker && context.contains_key(of);
                let dots = replica.seen.iter().filter(|(of, _)| told(of));
                let values = replica.entries.iter().filter(|((of, _), _)| told(of));
                let mut state = Message {
                    dots: dots.map(|(of, seen)| (of.clone(), seen.clone())).collect(),
                    values: values
                        .map(|(dot, entry)| (dot.clone(), entry.clone()))
                        .collect(),
                };
                if self.fault == Some(Fault::MergesOwn)
                    && let Some(seen) = replica.seen.get(asker)
                {
                    state.dots.insert(asker.clone(), seen.clone());
                }
                self.messages.insert(name.clone(), state);
            }
            Op::Merge { of } => {
                let message = self.messages.get(of).ok_or("no such message")?;
                let (joins, leaves) = replica.merge(at, message, self.fault);
                return Ok(Told::Diff { joins, leaves });
            }
            Op::Check => {
                let listed = replica.seen.keys().filter(|name| replica.lists(name));
                let online = listed.flat_map(|name| replica.shown(name)).collect();
                let clocks = self.clocks(at);
                return Ok(Told::Listed { online, clocks });
            }
        }
        Ok(Told::Nothing)
    }
}

impl Replica {
    fn lists(&self, other: &str) -> bool {
        self.seen.contains_key(other) && !self.down.contains(other)
    }

    fn find(&self, of: &str, place: &Place) -> Option<Dot> {
        let mut entries = self.entries.iter();
        let found = entries.find(|(dot, entry)| dot.0 == of && entry.place == *place);
        found.map(|(dot, _)| dot.clone())
    }

    fn own(&self, at: &str, pid: &str) -> Vec<Dot> {
        let own = self.entries.iter();
        own.filter(|(dot, entry)| dot.0 == at && entry.place.pid == pid)
            .map(|(dot, _)| dot.clone())
            .collect()
    }

    fn shown(&self, of: &str) -> Vec<Value> {
        let entries = self.entries.iter().filter(|(dot, _)| dot.0 == of);
        entries.map(|(dot, entry)| shown(dot, entry)).collect()
    }

    /// The next change of its own.
    fn tick(&mut self, at: &str) -> Dot {
        let seen = self.seen.entry(at.to_owned()).or_default();
        let dot = (at.to_owned(), clock(seen) + 1);
        seen.insert(dot.1);
        self.news.insert(dot.clone());
        dot
    }

    /// A leave is a change too, and the next delta speaks of both.
    fn leave(&mut self, at: &str, dot: &Dot) {
        self.tick(at);
        self.entries.remove(dot);
        self.news.insert(dot.clone());
    }

    fn merge(
        &mut self,
        at: &str,
        message: &Message,
        fault: Option<Fault>,
    ) -> (Vec<Value>, Vec<Value>) {
        let (mut joins, mut leaves) = (Vec::new(), Vec::new());
        for (of, dots) in &message.dots {
            let is_own = of == at && fault != Some(Fault::MergesOwn);
            if is_own || !self.seen.contains_key(of) {
                continue;
            }
            let mut forgotten = Vec::new();
            // What the message speaks of and does not hold has left.
            for &counter in dots {
                let dot = (of.clone(), counter);
                if message.values.contains_key(&dot) {
                    continue;
                }
                if let Some(entry) = self.entries.remove(&dot) {
                    leaves.push(shown(&dot, &entry));
                    if fault == Some(Fault::ForgetsLeftAhead) && counter > clock(&self.seen[of]) {
                        forgotten.push(counter);
                    }
                    if fault != Some(Fault::KeepsLeavesToItself) {
                        self.news.insert(dot);
                    }
                }
            }
            // What it holds and was never seen here has joined, unless a newer one is here.
            for (dot, entry) in message.values.iter().filter(|(dot, _)| dot.0 == *of) {
                if self.seen[of].contains(&dot.1) {
                    continue;
                }
                if let Some(other) = self.find(of, &entry.place) {
                    if other.1 > dot.1 && fault != Some(Fault::LaterArrivalWins) {
                        continue;
                    }
                    if let Some(older) = self.entries.remove(&other) {
                        if fault != Some(Fault::SilentSupersede) {
                            leaves.push(shown(&other, &older));
                        }
                        if fault == Some(Fault::ForgetsSuperseded) {
                            forgotten.push(other.1);
                        }
                    }
                }
                joins.push(shown(dot, entry));
                self.entries.insert(dot.clone(), entry.clone());
            }
            if let Some(seen) = self.seen.get_mut(of) {
                seen.extend(dots);
                seen.retain(|counter| !forgotten.contains(counter));
            }
        }
        (joins, leaves)
    }
}

/// The last dot before the first gap.
fn clock(seen: &BTreeSet<u64>) -> u64 {
    (1..).zip(seen).take_while(|(at, dot)| at == *dot).count() as u64
}

fn shown((replica, counter): &Dot, Entry { place, meta }: &Entry) -> Value {
    let Place { topic, pid, key } = place;
    json!([topic, pid, key, meta, [replica, counter]])
}
