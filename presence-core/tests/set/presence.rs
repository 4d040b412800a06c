//! Presences as values that the tests compare, and short names for what they are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use presence_core::clock::{Context, Dot, ReplicaId};
use presence_core::delta::Delta;
use presence_core::entry::{Entry, Key, Left, Pid};
use presence_core::set::{Diff, Limits, MergeError, Set};

use crate::naive::Message;

/// Where a process is tracked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) topic: Arc<str>,
    pub(crate) pid: u64,
    integer: bool,
    text: String,
}

impl Place {
    pub(crate) fn new(topic: &str, pid: u64, key: Key<'_>) -> Self {
        Self {
            topic: topic.into(),
            pid,
            integer: key.is_integer(),
            text: key.as_str().to_owned(),
        }
    }

    pub(crate) fn key(&self) -> Key<'_> {
        if self.integer {
            Key::Integer(&self.text)
        } else {
            Key::Text(&self.text)
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid(self.pid)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} p{}", self.topic, self.key(), self.pid)
    }
}

/// An entry that owns what it says. Ordered by its dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Presence {
    pub(crate) replica: ReplicaId,
    pub(crate) counter: u64,
    pub(crate) place: Place,
    pub(crate) meta: String,
}

impl Presence {
    pub(crate) fn new(replica: &ReplicaId, counter: u64, place: &Place, meta: &str) -> Self {
        Self {
            replica: replica.clone(),
            counter,
            place: place.clone(),
            meta: meta.to_owned(),
        }
    }

    pub(crate) fn dot(&self) -> Dot {
        Dot::new(self.replica.clone(), self.counter)
    }
}

impl From<Entry<'_>> for Presence {
    fn from(entry: Entry<'_>) -> Self {
        let place = Place::new(entry.topic, entry.pid.0, entry.key);
        Self::new(entry.replica, entry.counter, &place, entry.meta)
    }
}

impl From<&Left> for Presence {
    fn from(left: &Left) -> Self {
        left.entry().into()
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, meta, .. } = self;
        write!(f, "{}@{} ({place:?} {meta})", self.replica, self.counter)
    }
}

/// Entries in the order of their dots, each as often as it is lent.
pub(crate) fn sorted<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> Vec<Presence> {
    let mut all: Vec<Presence> = entries.into_iter().map(Presence::from).collect();
    all.sort();
    all
}

/// What a merge reported: joins and leaves in the order of their dots.
pub(crate) fn reported(set: &Set, diff: &Diff) -> (Vec<Presence>, Vec<Presence>) {
    let joins = sorted(diff.joins.iter().map(|&handle| set.entry(handle)));
    let leaves = sorted(diff.leaves.iter().map(Left::entry));
    (joins, leaves)
}

/// What a delta says, in the naive set's terms. (Whether a part closes can't be read off.)
pub(crate) fn said(delta: &Delta) -> Message {
    let mut message = Message::new();
    for (id, through) in delta.ranges() {
        message.entry(id.clone()).or_default().through = through;
    }
    for (id, gone) in delta.gone() {
        let dots = gone.intervals().iter().flat_map(|i| i.first..=i.last);
        message.entry(id.clone()).or_default().dots.extend(dots);
    }
    for value in delta.values() {
        let claims = message.entry(value.replica.clone()).or_default();
        claims.dots.insert(value.counter);
        claims.values.insert(value.counter, value.into());
    }
    message
}

pub(crate) fn counters(context: &Context) -> BTreeMap<ReplicaId, u64> {
    let pairs = context.iter().map(|(id, counter)| (id.clone(), counter));
    pairs.collect()
}

// What follows makes the tests of single rules short.

/// The first incarnation of a node.
pub(crate) fn id(name: &str) -> ReplicaId {
    ReplicaId::new(name, 1)
}

/// Sets of these nodes that all know each other.
pub(crate) fn sets<const N: usize>(names: [&str; N]) -> [Set; N] {
    sets_within(names, &Limits::default())
}

pub(crate) fn sets_within<const N: usize>(names: [&str; N], limits: &Limits) -> [Set; N] {
    names.map(|name| {
        let mut set = Set::new(id(name), limits.clone(), 7);
        for other in names {
            set.up(&id(other)).unwrap();
        }
        set
    })
}

pub(crate) fn topic(name: &str) -> Arc<str> {
    name.into()
}

/// Joins process `pid` under `key` to the topic `t`; the counter of its dot.
pub(crate) fn join(set: &mut Set, pid: u64, key: &str) -> u64 {
    let handle = set.join(&topic("t"), Pid(pid), key.into(), "{}").unwrap();
    set.entry(handle).counter
}

pub(crate) fn update(set: &mut Set, pid: u64, key: &str, meta: &str) -> u64 {
    let (_, handle) = set.update("t", Pid(pid), key.into(), meta).unwrap();
    set.entry(handle).counter
}

pub(crate) fn leave(set: &mut Set, pid: u64, key: &str) {
    assert!(set.leave("t", Pid(pid), key.into()).is_some());
}

/// Merges a delta that must be taken, and says what joined and left, by counter.
pub(crate) fn merge(set: &mut Set, delta: &Delta) -> (Vec<u64>, Vec<u64>) {
    let mut diff = Diff::new();
    set.merge(delta, &mut diff).unwrap();
    assert_eq!((diff.unknown, diff.deferred), (0, 0));
    let (joins, leaves) = reported(set, &diff);
    let counters = |all: Vec<Presence>| all.iter().map(|presence| presence.counter).collect();
    (counters(joins), counters(leaves))
}

/// Merges a delta that must be refused, and makes sure that nothing changed.
pub(crate) fn refused(set: &mut Set, delta: &Delta) -> MergeError {
    let before = state(set);
    let error = set.merge(delta, &mut Diff::new()).unwrap_err();
    assert_eq!(state(set), before);
    error
}

/// Tells `to` everything that `from` knows and `to` lacks.
pub(crate) fn answer(from: &Set, to: &mut Set) -> (Vec<u64>, Vec<u64>) {
    let mut transfer = from.answer(to.replica(), &to.clocks());
    match from.next_chunk(&mut transfer, usize::MAX) {
        Some(delta) => {
            assert!(from.next_chunk(&mut transfer, usize::MAX).is_none());
            merge(to, &delta)
        }
        None => Default::default(),
    }
}

/// The counters of the entries of `name` that are listed in the topic `t`, ascending.
pub(crate) fn listed(set: &Set, name: &str) -> Vec<u64> {
    let of = |entry: &Entry<'_>| *entry.replica == id(name);
    let listed = sorted(set.list("t").filter(of));
    listed.iter().map(|presence| presence.counter).collect()
}

/// The counters of a cloud.
pub(crate) fn cloud(set: &Set, name: &str) -> Vec<u64> {
    let cloud = set.cloud(&id(name)).unwrap();
    let dots = cloud.intervals().iter().flat_map(|i| i.first..=i.last);
    dots.collect()
}

/// Everything that can be asked of a set, in one value.
pub(crate) fn state(set: &Set) -> String {
    let known: Vec<_> = set
        .replicas()
        .map(|(id, status)| {
            let entries = sorted(set.entries_of(id));
            (id, status, set.counter(id), set.cloud(id), entries)
        })
        .collect();
    let topics: BTreeSet<_> = set.topics().collect();
    format!("{known:?} {topics:?} {} {}", set.len(), set.has_delta())
}
