//! The least that keeping presences could cost: one bare hash map, and one bare list.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{Equivalent, HashMap};
use presence_core::delta::Delta;
use presence_core::entry::Pid;

use crate::workload::{Change, Copied, Topics, key, meta};

/// A map from (topic, pid, key) to meta, keys and values owned, topics shared as the set shares them.
#[derive(Default)]
pub struct Map {
    metas: HashMap<Name, Box<str>, FixedState>,
}

#[derive(PartialEq, Eq)]
struct Name {
    topic: Arc<str>,
    pid: Pid,
    key: Box<str>,
}

struct Borrowed<'a> {
    topic: &'a str,
    pid: Pid,
    key: &'a str,
}

fn hash(state: &mut impl Hasher, topic: &str, pid: Pid, key: &str) {
    topic.hash(state);
    pid.hash(state);
    key.hash(state);
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(state, &self.topic, self.pid, &self.key);
    }
}

impl Hash for Borrowed<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(state, self.topic, self.pid, self.key);
    }
}

impl Equivalent<Name> for Borrowed<'_> {
    fn equivalent(&self, name: &Name) -> bool {
        self.pid == name.pid && *self.key == *name.key && *self.topic == *name.topic
    }
}

impl Map {
    /// The map with every presence of `delta`.
    pub fn of(delta: &Delta) -> Self {
        let mut map = Self::default();
        map.insert_all(delta);
        map
    }

    /// Inserts every value of `delta`, one operation each.
    pub fn insert_all(&mut self, delta: &Delta) {
        for entry in delta.values() {
            self.insert(entry.topic, entry.pid, entry.key.as_str(), entry.meta);
        }
    }

    /// Inserts one presence.
    pub fn insert(&mut self, topic: &Arc<str>, pid: Pid, key: &str, meta: &str) {
        let name = Name {
            topic: Arc::clone(topic),
            pid,
            key: key.into(),
        };
        self.metas.insert(name, meta.into());
    }

    /// Does what `change` says, one insert or removal an operation.
    pub fn apply(&mut self, change: &Change) {
        for (topic, pid, key) in change.leaves.iter() {
            self.metas.remove(&Borrowed { topic, pid, key });
        }
        self.insert_all(&change.delta);
    }

    /// Looks every value of `delta` up; how many were found.
    pub fn look_up_all(&self, delta: &Delta) -> usize {
        let found = |(topic, pid, key): (&Arc<str>, Pid, &str)| {
            self.metas.contains_key(&Borrowed { topic, pid, key })
        };
        delta
            .values()
            .filter(|entry| found((entry.topic, entry.pid, entry.key.as_str())))
            .count()
    }

    /// How many presences there are.
    pub fn len(&self) -> usize {
        self.metas.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }
}

/// Payloads by topic, each allocated when its presence joined, so that those of one topic lie scattered.
pub struct Lists {
    topics: Vec<Vec<(u64, Box<str>)>>,
}

impl Lists {
    /// The payloads of the presences `0..entries`.
    pub fn new(entries: usize, topics: &Topics) -> Self {
        let mut lists = vec![Vec::new(); topics.names().len()];
        for number in 0..entries as u64 {
            let payload = key(number) + &meta(number);
            lists[topics.index_of(number)].push((number, payload.into_boxed_str()));
        }
        Self { topics: lists }
    }

    /// Copies the payloads of a topic.
    pub fn copy(&self, topic: usize, copy: &mut Copied) {
        copy.clear();
        for (counter, payload) in &self.topics[topic] {
            copy.text.push_str(payload);
            copy.counters.push(*counter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Writer, copy_listing};

    #[test]
    fn the_map_follows_a_writer() {
        let mut writer = Writer::new(500);
        let mut map = Map::of(&writer.full_state());
        for _ in 0..20 {
            map.apply(&writer.change());
            assert_eq!(map.len(), 500);
        }
        assert_eq!(map.look_up_all(&writer.full_state()), 500);
    }

    #[test]
    fn the_lists_hold_what_the_set_lists() {
        let writer = Writer::with_topics(500, 5);
        let lists = Lists::new(500, writer.topics());
        let (mut ours, mut theirs) = (Copied::default(), Copied::default());
        for (index, topic) in writer.topics().names().iter().enumerate() {
            copy_listing(writer.set(), topic, &mut ours);
            lists.copy(index, &mut theirs);
            assert_eq!(ours.text, theirs.text);
            assert!(ours.text.len() > 50 * 72);
        }
    }
}
