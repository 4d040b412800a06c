//! Topics: each a list of records that hold the keys and metas, so that listing reads one list.

use std::sync::Arc;

use super::chunked::Chunked;
use super::entries::{Entries, Handle, ReplicaIndex, Slot};
use super::hash::Hasher;
use super::table::Table;
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

    pub(super) fn payload(&self) -> Payload {
        Payload::joined(self.text.clone(), self.key)
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
    topics: Chunked<Option<Topic>>,
    vacant: Vec<u32>,
    names: Table<u32>,
    hasher: Hasher,
}

impl Topics {
    pub(super) fn new(hasher: Hasher) -> Self {
        Self {
            topics: Chunked::new(),
            vacant: Vec::new(),
            names: Table::new(),
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
        self.find(name).unwrap_or_else(|| self.add(name))
    }

    /// The id of the topic `name`, which is new and begins empty: the caller adds a record.
    fn add(&mut self, name: &Arc<str>) -> u32 {
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
            .insert_unique(Hasher::spread(hash), id, |&other| name_hash(topics, other));
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
        let Slot {
            topic: id,
            position,
            ..
        } = entries[handle];
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
        let topics = &self.topics;
        self.names.replace(
            Hasher::spread(hash),
            |&other| other == id,
            None,
            |&other| name_hash(topics, other),
        );
        self.topics[id as usize] = None;
        self.vacant.push(id);
    }

    /// The topic of this id, if there is one.
    pub(super) fn at(&self, id: u32) -> Option<&Topic> {
        self.topics.get(id as usize)?.as_ref()
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

    /// Gives an entry of the own replica another counter.
    pub(super) fn renumber(&mut self, handle: Handle, counter: u64, entries: &Entries) {
        let slot = &entries[handle];
        let record = &mut self.of_mut(slot.topic).records[slot.position as usize];
        record.dot = record.dot & !MAX_COUNTER | counter;
    }

    /// Lets the record of an entry name its new place.
    pub(super) fn rename(&mut self, handle: Handle, entries: &Entries) {
        let slot = &entries[handle];
        self.of_mut(slot.topic).records[slot.position as usize].handle = handle;
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// All ids are below.
    pub(super) fn end(&self) -> u32 {
        self.topics.len() as u32
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        (0..self.end()).filter(|&id| self.at(id).is_some())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.topics.iter().flatten()
    }

    /// Gives memory back that a larger number of topics needed.
    pub(super) fn shrink(&mut self) {
        let before = self.topics.len();
        while let Some(None) = self.topics.last() {
            self.topics.pop();
        }
        let end = self.topics.len();
        if end < before {
            self.vacant.retain(|&id| (id as usize) < end);
        }
        if self.topics.shrink() {
            self.vacant.shrink_to_fit();
        }
        let topics = &self.topics;
        self.names.shrink(|&id| name_hash(topics, id));
    }
}

fn name_hash(topics: &Chunked<Option<Topic>>, id: u32) -> u64 {
    let topic = topics[id as usize].as_ref();
    Hasher::spread(topic.map_or(0, |topic| topic.hash))
}

const LIVE_TOPIC: &str = "an entry's topic is present as long as the entry is";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clock::ReplicaId;
    use crate::entry::Pid;
    use crate::set::{Limits, Set};

    const SEED: u64 = 7;

    fn set() -> Set {
        Set::new(ReplicaId::new("a", 1), Limits::default(), SEED)
    }

    #[test]
    fn topics_whose_hashes_collide_stay_apart() {
        let hasher = Hasher::new(SEED);
        let mut seen = BTreeMap::new();
        let pair = (0..1_000_000_u32).find_map(|n| {
            let name = format!("topic {n}");
            let earlier = seen.insert(hasher.topic(&name), name.clone());
            earlier.map(|earlier| [earlier, name].map(Arc::<str>::from))
        });
        let pair = pair.unwrap();
        let mut set = set();
        for round in 0..2 {
            for (n, name) in (1..).zip(&pair) {
                for pid in 0..n {
                    set.join(name, Pid(pid), "k".into(), "{}").unwrap();
                }
            }
            assert_eq!(pair.each_ref().map(|name| set.count(name)), [1, 2]);
            assert_eq!(set.topic_count(), 2);
            // Either may go first.
            let (first, second) = (&pair[round], &pair[1 - round]);
            for pid in 0..2 {
                set.leave(first, Pid(pid), "k".into());
            }
            assert_eq!((set.count(first), set.count(second)), (0, 2 - round));
            assert_eq!(set.topics().collect::<Vec<_>>(), [second]);
            for pid in 0..2 {
                set.leave(second, Pid(pid), "k".into());
            }
            assert_eq!(set.topic_count(), 0);
        }
    }

    #[test]
    fn an_empty_topic_gives_its_id_back() {
        let mut set = set();
        for n in 0..1000 {
            let name = Arc::from(format!("topic {n}"));
            set.join(&name, Pid(1), "k".into(), "{}").unwrap();
            set.leave(&name, Pid(1), "k".into()).unwrap();
        }
        assert_eq!((set.topics.topics.len(), set.topics.vacant.len()), (1, 1));
        set.compact();
        assert_eq!((set.topics.topics.len(), set.topics.vacant.len()), (0, 0));
    }

    #[test]
    fn the_room_for_records_follows_their_number() {
        let mut set = set();
        let name = Arc::from("t");
        for pid in 0..1000 {
            set.join(&name, Pid(pid), "k".into(), "{}").unwrap();
        }
        let mut room = set.topics.of(0).records.capacity();
        for pid in 0..996 {
            set.leave("t", Pid(pid), "k".into()).unwrap();
            let records = &set.topics.of(0).records;
            // A fourth is enough, and then there is twice the room that is needed.
            if records.len() * 4 >= room {
                assert_eq!(records.capacity(), room);
            } else {
                assert_eq!(records.capacity(), records.len() * 2);
                room = records.capacity();
            }
        }
        assert_eq!(set.count("t"), 4);
    }

    #[test]
    fn the_table_of_topics_shrinks_with_them() {
        let mut set = set();
        let name = |n: u64| Arc::<str>::from(format!("topic {n}"));
        for n in 0..3000 {
            set.join(&name(n), Pid(n), "k".into(), "{}").unwrap();
        }
        let room = |set: &Set| {
            [
                set.topics.topics.capacity(),
                set.topics.names.num_buckets() * 7 / 8,
            ]
        };
        let full = room(&set);
        // A table that is a fourth full keeps its room, one that is nearly empty the double of what it
        // holds.
        for (left, shrunk) in [(3000, false), (1500, false), (1024, false), (40, true)] {
            for n in left..3000 {
                set.leave(&name(n), Pid(n), "k".into());
            }
            set.compact();
            for (room, full) in room(&set).into_iter().zip(full) {
                assert_eq!(room < full, shrunk, "{left} of {room}, {full} at first");
                assert!(!shrunk || (80..200).contains(&room), "{left} of {room}");
            }
            assert_eq!(set.topics.topics.len() as u64, left);
            assert_eq!(set.topics.vacant.len(), 0);
        }
        for n in 0..80 {
            set.join(&name(n), Pid(n + 5000), "k".into(), "{}").unwrap();
            assert_eq!(set.count(&name(n)), if n < 40 { 2 } else { 1 });
        }
        assert_eq!(set.topic_count(), 80);
    }

    #[test]
    fn ids_below_the_last_topic_stay_vacant_and_are_taken_again() {
        let mut set = set();
        let name = |n: u64| Arc::<str>::from(format!("topic {n}"));
        for n in 0..100 {
            set.join(&name(n), Pid(n), "k".into(), "{}").unwrap();
        }
        for n in (0..100).filter(|n| *n != 60) {
            set.leave(&name(n), Pid(n), "k".into()).unwrap();
        }
        set.compact();
        let sizes = |set: &Set| (set.topics.topics.len(), set.topics.vacant.len());
        assert_eq!(sizes(&set), (61, 60));
        for n in 100..160 {
            set.join(&name(n), Pid(n), "k".into(), "{}").unwrap();
        }
        assert_eq!(sizes(&set), (61, 0));
        assert_eq!((set.topic_count(), set.count(&name(60))), (61, 1));
    }
}
