//! Topics: each a list of records that hold the keys and metas, so that listing reads one list.

use std::sync::Arc;

use hashbrown::HashTable;

use super::entries::{Entries, Handle, ReplicaIndex};
use super::hash::Hasher;
use crate::clock::MAX_COUNTER;
use crate::entry::{Key, KeyTag, Payload, Pid};

/// One presence as a topic lists it (40 bytes and the text).
pub(super) struct Record {
    // The key followed by the meta.
    text: Box<str>,
    pub(super) pid: Pid,
    // 16 bits of replica, 48 of counter.
    dot: u64,
    /// Its entry; [`Topics::push`] is told.
    pub(super) handle: Handle,
    key: KeyTag,
}

impl Record {
    pub(super) fn new(
        (text, key): (Box<str>, KeyTag),
        pid: Pid,
        (replica, counter): (ReplicaIndex, u64),
    ) -> Self {
        debug_assert!(counter <= MAX_COUNTER);
        Self {
            text,
            pid,
            dot: u64::from(replica.0) << 48 | counter,
            handle: Handle::NONE,
            key,
        }
    }

    pub(super) fn replica(&self) -> ReplicaIndex {
        ReplicaIndex((self.dot >> 48) as u16)
    }

    pub(super) fn counter(&self) -> u64 {
        self.dot & MAX_COUNTER
    }

    /// Whether this is a presence of `pid` of `replica`.
    pub(super) fn is_of(&self, replica: ReplicaIndex, pid: Pid) -> bool {
        self.pid == pid && self.replica() == replica
    }

    pub(super) fn key(&self) -> Key<'_> {
        self.key_and_meta().0
    }

    pub(super) fn key_and_meta(&self) -> (Key<'_>, &str) {
        let (key, meta) = self.text.split_at(self.key.len());
        (Key::of(key, self.key.is_integer()), meta)
    }

    /// Reads both ends of the text, see [`super::warm`].
    pub(super) fn touch(&self) -> u8 {
        match self.text.as_bytes() {
            [first, .., last] => first ^ last,
            [only] => *only,
            [] => 0,
        }
    }

    pub(super) fn into_payload(self) -> Payload {
        Payload::joined(self.text, self.key)
    }

    /// The key followed by the meta, and how long the key is.
    pub(super) fn text(&self) -> (&str, KeyTag) {
        (&self.text, self.key)
    }
}

pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) records: Vec<Record>,
    hash: u32,
}

/// All topics that hold a record, by id. An empty topic gives its id back.
pub(super) struct Topics {
    topics: Vec<Option<Topic>>,
    vacant: Vec<u32>,
    names: HashTable<u32>,
    hasher: Hasher,
}

impl Topics {
    pub(super) fn new(hasher: Hasher) -> Self {
        Self {
            topics: Vec::new(),
            vacant: Vec::new(),
            names: HashTable::new(),
            hasher,
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.topic(name);
        self.names
            .find(Hasher::spread(hash), |&id| self.is(id, hash, name))
            .copied()
    }

    fn is(&self, id: u32, hash: u32, name: &str) -> bool {
        self.topics[id as usize]
            .as_ref()
            .is_some_and(|topic| topic.hash == hash && *topic.name == *name)
    }

    /// The id of the topic `name`, which begins empty if it is new: the caller adds a record.
    pub(super) fn ensure(&mut self, name: &Arc<str>) -> u32 {
        if let Some(id) = self.find(name) {
            return id;
        }
        let hash = self.hasher.topic(name);
        let topic = Topic {
            name: Arc::clone(name),
            records: Vec::new(),
            hash,
        };
        let id = self.vacant.pop().unwrap_or(self.topics.len() as u32);
        if id as usize == self.topics.len() {
            self.topics.push(Some(topic));
        } else {
            self.topics[id as usize] = Some(topic);
        }
        let topics = &self.topics;
        self.names
            .insert_unique(Hasher::spread(hash), id, |&other| {
                Hasher::spread(
                    topics[other as usize]
                        .as_ref()
                        .map_or(0, |topic| topic.hash),
                )
            });
        id
    }

    /// Adds the record of an entry, and notes its place there.
    pub(super) fn push(&mut self, handle: Handle, mut record: Record, entries: &mut Entries) {
        let slot = &mut entries[handle];
        let records = &mut self.of_mut(slot.topic).records;
        slot.position = records.len() as u32;
        record.handle = handle;
        records.push(record);
    }

    /// Takes the record of an entry out, and the topic with its last one.
    pub(super) fn take(&mut self, handle: Handle, entries: &mut Entries) -> (Arc<str>, Record) {
        let (id, position) = (entries[handle].topic, entries[handle].position);
        let topic = self.of_mut(id);
        let record = topic.records.swap_remove(position as usize);
        if let Some(moved) = topic.records.get(position as usize) {
            entries[moved.handle].position = position;
        }
        let name = Arc::clone(&topic.name);
        if topic.records.is_empty() {
            self.remove(id);
        } else if topic.records.len() * 4 < topic.records.capacity() {
            let records = &mut topic.records;
            records.shrink_to(records.len() * 2);
        }
        (name, record)
    }

    fn remove(&mut self, id: u32) {
        let hash = self.of(id).hash;
        if let Ok(name) = self
            .names
            .find_entry(Hasher::spread(hash), |&other| other == id)
        {
            name.remove();
        }
        self.topics[id as usize] = None;
        self.vacant.push(id);
    }

    pub(super) fn of(&self, id: u32) -> &Topic {
        self.topics[id as usize].as_ref().expect(LIVE_TOPIC)
    }

    fn of_mut(&mut self, id: u32) -> &mut Topic {
        self.topics[id as usize].as_mut().expect(LIVE_TOPIC)
    }

    pub(super) fn record(&self, handle: Handle, entries: &Entries) -> &Record {
        let slot = &entries[handle];
        &self.of(slot.topic).records[slot.position as usize]
    }

    /// Replaces the record of an entry, which keeps its place, and hands out the earlier one.
    pub(super) fn replace(
        &mut self,
        handle: Handle,
        mut record: Record,
        entries: &Entries,
    ) -> (Arc<str>, Record) {
        record.handle = handle;
        let slot = &entries[handle];
        let topic = self.of_mut(slot.topic);
        let place = &mut topic.records[slot.position as usize];
        (Arc::clone(&topic.name), std::mem::replace(place, record))
    }

    /// Lets the record of an entry name its new place.
    pub(super) fn rename(&mut self, handle: Handle, entries: &Entries) {
        let slot = &entries[handle];
        self.of_mut(slot.topic).records[slot.position as usize].handle = handle;
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.topics.iter().flatten()
    }

    /// Gives memory back that a larger number of topics needed.
    pub(super) fn shrink(&mut self) {
        while let Some(None) = self.topics.last() {
            self.topics.pop();
        }
        let end = self.topics.len() as u32;
        self.vacant.retain(|&id| id < end);
        if self.topics.len() * 4 < self.topics.capacity() {
            self.topics.shrink_to(self.topics.len() * 2);
            self.vacant.shrink_to_fit();
        }
        if self.names.len() * 8 < self.names.capacity() {
            let topics = &self.topics;
            self.names.shrink_to(self.names.len() * 2, |&id| {
                Hasher::spread(topics[id as usize].as_ref().map_or(0, |topic| topic.hash))
            });
        }
    }
}

const LIVE_TOPIC: &str = "an entry's topic is present as long as the entry is";
