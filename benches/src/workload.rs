//! Presences, and the changes that spread over all of them.
//!
//! A presence is made from a number: its topic (scattered), its pid, a key of 12 bytes and a meta of
//! 60. Nothing is drawn from outside, so every run measures the same.

use std::sync::Arc;

use presence_core::clock::{Context, ReplicaId};
use presence_core::delta::Delta;
use presence_core::entry::{Key, Pid};
use presence_core::set::{Diff, Limits, Set};

/// Bytes of a key.
pub const KEY_BYTES: usize = 12;

/// Bytes of a meta.
pub const META_BYTES: usize = 60;

/// How many entries a topic holds where a bench says nothing else.
pub const ENTRIES_PER_TOPIC: usize = 100;

/// Changes of each kind in a delta.
pub const HALF_DELTA: usize = 50;

const HASH_SEED: u64 = 0x5eed;

/// Numbers that look random (splitmix64), the same in every run.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The series of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (scatter(self.0) % bound as u64) as usize
    }
}

fn scatter(number: u64) -> u64 {
    let mut mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The topics of a workload.
#[derive(Clone, Debug)]
pub struct Topics(Vec<Arc<str>>);

impl Topics {
    /// `count` topics, at least one.
    pub fn new(count: usize) -> Self {
        let name = |n: usize| Arc::from(format!("room:{n:07}"));
        Self((0..count.max(1)).map(name).collect())
    }

    /// The topics in the order of their numbers.
    pub fn names(&self) -> &[Arc<str>] {
        &self.0
    }

    /// The number of the topic that presence `number` is in.
    pub fn index_of(&self, number: u64) -> usize {
        (scatter(number) % self.0.len() as u64) as usize
    }

    /// The topic that presence `number` is in.
    pub fn of(&self, number: u64) -> &Arc<str> {
        &self.0[self.index_of(number)]
    }
}

/// The key of presence `number`.
pub fn key(number: u64) -> String {
    format!("user-{number:07}")
}

/// The meta of presence `number`.
pub fn meta(number: u64) -> String {
    format!("{{\"online_at\":\"{number:014}\",\"device\":\"phone\",\"away\":false}}")
}

/// A set that changes, and tells what changed.
pub struct Writer {
    set: Set,
    topics: Topics,
    present: Vec<u64>,
    joined: u64,
    random: Random,
}

/// Some joins and some leaves of a writer: the delta, and the leaves by name for those who can't read
/// dots.
pub struct Change {
    /// What the set merges.
    pub delta: Delta,
    /// Who has left.
    pub leaves: Leaves,
}

/// Names of presences, packed as a message would hold them.
#[derive(Default)]
pub struct Leaves {
    keys: String,
    places: Vec<(Arc<str>, Pid)>,
}

impl Leaves {
    fn push(&mut self, topic: &Arc<str>, pid: Pid, key: &str) {
        debug_assert_eq!(key.len(), KEY_BYTES);
        self.keys.push_str(key);
        self.places.push((Arc::clone(topic), pid));
    }

    /// The topic, pid and key of each.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Pid, &str)> {
        self.places.iter().enumerate().map(|(at, (topic, pid))| {
            let key = &self.keys[at * KEY_BYTES..(at + 1) * KEY_BYTES];
            (topic, *pid, key)
        })
    }
}

impl Writer {
    /// A writer that holds `entries` presences, [`ENTRIES_PER_TOPIC`] to a topic.
    pub fn new(entries: usize) -> Self {
        Self::with_topics(entries, entries / ENTRIES_PER_TOPIC)
    }

    /// A writer that holds `entries` presences in `topics` topics.
    pub fn with_topics(entries: usize, topics: usize) -> Self {
        let mut writer = Self {
            set: Set::new(writer_id(), Limits::default(), HASH_SEED),
            topics: Topics::new(topics),
            present: Vec::with_capacity(entries),
            joined: 0,
            random: Random::new(1),
        };
        for _ in 0..entries {
            writer.join();
        }
        writer.set.take_delta();
        writer
    }

    /// The writer's own set.
    pub fn set(&self) -> &Set {
        &self.set
    }

    /// The writer's own set, without the writer.
    pub fn into_set(self) -> Set {
        self.set
    }

    /// The topics of the workload.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The numbers of the presences, in no order.
    pub fn present(&self) -> &[u64] {
        &self.present
    }

    /// [`HALF_DELTA`] joins and as many leaves, spread over the whole set, whose size stays.
    pub fn change(&mut self) -> Change {
        let mut leaves = Leaves::default();
        for _ in 0..HALF_DELTA {
            self.leave(&mut leaves);
        }
        for _ in 0..HALF_DELTA {
            self.join();
        }
        let delta = self.set.take_delta();
        Change { delta, leaves }
    }

    /// Everything, as a stranger would be told.
    pub fn full_state(&self) -> Delta {
        self.set.extract(&reader_id(), &known())
    }

    /// A set that has merged everything from here.
    pub fn reader(&self) -> Set {
        let mut set = empty_reader();
        merge(&mut set, &self.full_state());
        set
    }

    fn join(&mut self) {
        let number = self.joined;
        self.joined += 1;
        let (topic, key) = (self.topics.of(number), key(number));
        self.set
            .join(topic, Pid(number), Key::Text(&key), &meta(number))
            .expect("a new number is not tracked and within every limit");
        self.present.push(number);
    }

    fn leave(&mut self, leaves: &mut Leaves) {
        let at = self.random.below(self.present.len());
        let number = self.present.swap_remove(at);
        let (topic, key) = (self.topics.of(number), key(number));
        self.set
            .leave(topic, Pid(number), Key::Text(&key))
            .expect("a number that is present is tracked");
        leaves.push(topic, Pid(number), &key);
    }
}

/// A set that knows the writer and holds nothing.
pub fn empty_reader() -> Set {
    let mut set = Set::new(reader_id(), Limits::default(), HASH_SEED);
    set.up(&writer_id())
        .expect("no other incarnation of the writer is known");
    set
}

/// Merges `delta`, which fits; what changed.
pub fn merge(set: &mut Set, delta: &Delta) -> Diff {
    let mut diff = Diff::new();
    set.merge(delta, &mut diff)
        .expect("a writer's delta is within every limit");
    diff
}

/// Where a listing is copied to: what a `presence_state` is made of.
#[derive(Default)]
pub struct Copied {
    /// Keys and metas.
    pub text: String,
    /// The counters, of which refs are made.
    pub counters: Vec<u64>,
}

impl Copied {
    /// Empties both, and keeps their room.
    pub fn clear(&mut self) {
        self.text.clear();
        self.counters.clear();
    }
}

/// Copies the listing of a topic.
pub fn copy_listing(set: &Set, topic: &str, copy: &mut Copied) {
    copy.clear();
    for entry in set.list(topic) {
        copy.text.push_str(entry.key.as_str());
        copy.text.push_str(entry.meta);
        copy.counters.push(entry.counter);
    }
}

/// The replica that changes.
pub fn writer_id() -> ReplicaId {
    ReplicaId::new("writer", 1)
}

/// The replica that is told.
pub fn reader_id() -> ReplicaId {
    ReplicaId::new("reader", 1)
}

/// The context of a reader that has heard nothing.
pub fn known() -> Context {
    [(writer_id(), 0), (reader_id(), 0)].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presences_have_the_sizes_that_the_goals_name() {
        for number in [0, 1, 1_000_000, 9_999_999] {
            assert_eq!(key(number).len(), KEY_BYTES);
            assert_eq!(meta(number).len(), META_BYTES);
        }
    }

    #[test]
    fn a_reader_that_merges_each_change_holds_what_the_writer_holds() {
        let mut writer = Writer::new(1_000);
        let mut reader = writer.reader();
        for _ in 0..30 {
            let change = writer.change();
            assert_eq!(change.delta.values().count(), HALF_DELTA);
            let diff = merge(&mut reader, &change.delta);
            assert_eq!(diff.joins.len(), HALF_DELTA);
            assert_eq!(diff.leaves.len(), HALF_DELTA);
            assert_eq!(change.leaves.iter().count(), HALF_DELTA);
        }
        let numbers = |set: &Set| {
            let mut numbers: Vec<_> = set.list_all().map(|entry| entry.pid.0).collect();
            numbers.sort_unstable();
            numbers
        };
        let mut expected = writer.present().to_vec();
        expected.sort_unstable();
        assert_eq!(numbers(writer.set()), expected);
        assert_eq!(numbers(&reader), expected);
    }
}
