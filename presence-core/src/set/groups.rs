//! Entries by topic and key, and by pid: tables of the first of each chain.

use super::OWN;
use super::entries::{Entries, Handle, Links, ReplicaIndex, Slot};
use super::hash::Hasher;
use super::table::Table;
use super::topics::Topics;
use crate::entry::{Key, Pid};

/// How many entries of one topic and key are looked through to find a pid.
///
/// A larger group has each of its entries in a table of its own, so that a key which thousands of
/// processes share costs no more than one that nobody shares.
const CROWD: usize = 16;

type ChainOf = fn(&mut Slot) -> &mut Links;

const GROUP: ChainOf = |slot| &mut slot.group;
const PROCESS: ChainOf = |slot| &mut slot.process;

/// Puts `handle`, which is alone, before `first` in a chain.
fn link(entries: &mut Entries, chain: ChainOf, first: Handle, handle: Handle) {
    *chain(&mut entries[handle]) = Links {
        before: Handle::NONE,
        after: first,
    };
    chain(&mut entries[first]).before = handle;
}

/// Takes `handle` out of a chain; its links as they were.
fn unlink(entries: &mut Entries, chain: ChainOf, handle: Handle) -> Links {
    let links = std::mem::replace(chain(&mut entries[handle]), Links::ALONE);
    if let Some(before) = links.before.some() {
        chain(&mut entries[before]).after = links.after;
    }
    if let Some(after) = links.after.some() {
        chain(&mut entries[after]).before = links.before;
    }
    links
}

/// Lets the neighbours in a chain name the new place of an entry; whether it is the first.
fn rename(entries: &mut Entries, chain: ChainOf, to: Handle) -> bool {
    let links = *chain(&mut entries[to]);
    if let Some(after) = links.after.some() {
        chain(&mut entries[after]).before = to;
    }
    match links.before.some() {
        Some(before) => chain(&mut entries[before]).after = to,
        None => return true,
    }
    false
}

/// The entries of each (topic, key): a table of chains.
pub(super) struct Groups {
    firsts: Table<Handle>,
    crowds: Table<Handle>,
    hasher: Hasher,
}

impl Groups {
    pub(super) fn new(hasher: Hasher) -> Self {
        Self {
            firsts: Table::new(),
            crowds: Table::new(),
            hasher,
        }
    }

    /// The hash that entries of this topic and key carry.
    pub(super) fn hash(&self, topic: u32, key: Key<'_>) -> u32 {
        self.hasher.key(topic, key)
    }

    /// The first entry of a topic and key.
    pub(super) fn first(
        &self,
        (topic, hash, key): (u32, u32, Key<'_>),
        entries: &Entries,
        topics: &Topics,
    ) -> Option<Handle> {
        let found = self.firsts.find(Hasher::spread(hash), |&handle| {
            let slot = &entries[handle];
            slot.hash == hash && slot.topic == topic && topics.record(handle, entries).key() == key
        });
        found.copied()
    }

    /// The entry of a process in the group of `key` that begins with `first`.
    pub(super) fn member(
        &self,
        (first, key): (Handle, Key<'_>),
        (replica, pid): (ReplicaIndex, Pid),
        entries: &Entries,
        topics: &Topics,
    ) -> Option<Handle> {
        let process = self.hasher.process(replica, pid);
        if !entries[first].is_crowded() {
            return chain(entries, first).find(|&handle| {
                entries[handle].process_hash() == process
                    && topics.record(handle, entries).is_of(replica, pid)
            });
        }
        let Slot { hash, topic, .. } = entries[first];
        let found = self.crowds.find(Hasher::member(hash, process), |&handle| {
            let slot = &entries[handle];
            slot.topic == topic && slot.process_hash() == process && {
                let record = topics.record(handle, entries);
                record.is_of(replica, pid) && record.key() == key
            }
        });
        found.copied()
    }

    /// Looks at the places of the table where an entry with this hash is or would be, see
    /// [`super::warm`].
    pub(super) fn touch(&self, hash: u32) -> u32 {
        let mut seen = 0;
        self.firsts.find(Hasher::spread(hash), |&first| {
            seen ^= first.0;
            false
        });
        seen
    }

    /// Adds an entry, whose slot and record are there, to the group that begins with `first`.
    pub(super) fn insert(
        &mut self,
        first: Option<Handle>,
        (handle, hash): (Handle, u32),
        entries: &mut Entries,
    ) {
        let Some(first) = first else {
            self.firsts
                .insert_unique(Hasher::spread(hash), handle, |&other| {
                    Hasher::spread(entries[other].hash)
                });
            return;
        };
        link(entries, GROUP, first, handle);
        self.rename_first(hash, first, handle);
        if entries[first].is_crowded() {
            self.crowd(handle, entries);
        } else if chain(entries, handle).nth(CROWD).is_some() {
            let members: Vec<_> = chain(entries, handle).collect();
            for member in members {
                self.crowd(member, entries);
            }
        }
    }

    fn rename_first(&mut self, hash: u32, from: Handle, to: Handle) {
        if let Some(first) = self
            .firsts
            .find_mut(Hasher::spread(hash), |&first| first == from)
        {
            *first = to;
        }
    }

    fn crowd(&mut self, handle: Handle, entries: &mut Entries) {
        entries[handle].set_crowded();
        let member = |&handle: &Handle| member_hash(&entries[handle]);
        self.crowds.insert_unique(member(&handle), handle, member);
    }

    /// Takes an entry out of its group.
    pub(super) fn remove(&mut self, handle: Handle, entries: &mut Entries) {
        let slot = &entries[handle];
        let hash = slot.hash;
        if slot.is_crowded() {
            let member = member_hash(slot);
            let is_it = |&other: &Handle| other == handle;
            self.crowds
                .replace(member, is_it, None, |&other| member_hash(&entries[other]));
        }
        let links = unlink(entries, GROUP, handle);
        if links.before.some().is_some() {
            return;
        }
        self.firsts.replace(
            Hasher::spread(hash),
            |&first| first == handle,
            links.after.some(),
            |&other| Hasher::spread(entries[other].hash),
        );
    }

    /// Lets everything here name the new place of an entry.
    pub(super) fn rename(&mut self, from: Handle, to: Handle, entries: &mut Entries) {
        if rename(entries, GROUP, to) {
            self.rename_first(entries[to].hash, from, to);
        }
        if entries[to].is_crowded() {
            let member = member_hash(&entries[to]);
            if let Some(found) = self.crowds.find_mut(member, |&other| other == from) {
                *found = to;
            }
        }
    }

    /// Gives memory back that a larger number of entries needed.
    pub(super) fn shrink(&mut self, entries: &Entries) {
        self.firsts
            .shrink(|&handle| Hasher::spread(entries[handle].hash));
        self.crowds.shrink(|&handle| member_hash(&entries[handle]));
    }
}

fn member_hash(slot: &Slot) -> u64 {
    Hasher::member(slot.hash, slot.process_hash())
}

fn process_hash(slot: &Slot) -> u64 {
    Hasher::spread(slot.process_hash())
}

/// The entries of a group, from `first` on.
pub(super) fn chain(entries: &Entries, first: Handle) -> impl Iterator<Item = Handle> {
    std::iter::successors(Some(first), |&handle| entries[handle].group.after.some())
}

/// The entries of each pid of the set's own replica: a table of chains.
///
/// Pids of other replicas are nobody's business but theirs, and are not indexed.
pub(super) struct Processes {
    firsts: Table<Handle>,
    hasher: Hasher,
}

impl Processes {
    pub(super) fn new(hasher: Hasher) -> Self {
        Self {
            firsts: Table::new(),
            hasher,
        }
    }

    /// The hash that entries of a process carry, of any replica.
    pub(super) fn hash(&self, replica: ReplicaIndex, pid: Pid) -> u32 {
        self.hasher.process(replica, pid)
    }

    pub(super) fn first(&self, pid: Pid, entries: &Entries, topics: &Topics) -> Option<Handle> {
        let hash = self.hash(OWN, pid);
        let found = self.firsts.find(Hasher::spread(hash), |&handle| {
            entries[handle].process_hash() == hash && topics.record(handle, entries).pid == pid
        });
        found.copied()
    }

    /// Adds an entry of the own replica, whose slot and record are there.
    pub(super) fn insert(&mut self, handle: Handle, entries: &mut Entries, topics: &Topics) {
        let pid = topics.record(handle, entries).pid;
        let hash = entries[handle].process_hash();
        let found = self.firsts.find_or_insert(
            Hasher::spread(hash),
            |&other| {
                entries[other].process_hash() == hash && topics.record(other, entries).pid == pid
            },
            handle,
            |&other| process_hash(&entries[other]),
        );
        if let Some(first) = found {
            let next = std::mem::replace(first, handle);
            link(entries, PROCESS, next, handle);
        }
    }

    pub(super) fn remove(&mut self, handle: Handle, entries: &mut Entries) {
        let hash = process_hash(&entries[handle]);
        let links = unlink(entries, PROCESS, handle);
        if links.before.some().is_some() {
            return;
        }
        self.firsts.replace(
            hash,
            |&first| first == handle,
            links.after.some(),
            |&other| process_hash(&entries[other]),
        );
    }

    pub(super) fn rename(&mut self, from: Handle, to: Handle, entries: &mut Entries) {
        if rename(entries, PROCESS, to) {
            let hash = process_hash(&entries[to]);
            if let Some(first) = self.firsts.find_mut(hash, |&first| first == from) {
                *first = to;
            }
        }
    }

    /// The entries of `pid`.
    pub(super) fn of(
        &self,
        pid: Pid,
        entries: &Entries,
        topics: &Topics,
    ) -> impl Iterator<Item = Handle> {
        std::iter::successors(self.first(pid, entries, topics), |&handle| {
            entries[handle].process.after.some()
        })
    }

    pub(super) fn shrink(&mut self, entries: &Entries) {
        self.firsts.shrink(|&handle| process_hash(&entries[handle]));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::clock::ReplicaId;
    use crate::set::{Diff, Limits, Set};

    const SEED: u64 = 7;

    /// Two keys of the topics with these ids whose hashes are equal.
    fn colliding(topics: [u32; 2]) -> [String; 2] {
        let hasher = Hasher::new(SEED);
        let mut seen = BTreeMap::new();
        for n in 0..1_000_000_u32 {
            let key = format!("key {n}");
            let hash = hasher.key(topics[0], Key::Text(&key));
            seen.entry(hash).or_insert(key);
            let other = format!("other {n}");
            let hash = hasher.key(topics[1], Key::Text(&other));
            if let Some(key) = seen.get(&hash) {
                return [key.clone(), other];
            }
        }
        panic!("no two of a million pairs of 32 bits are equal");
    }

    /// Two pids of the set's own replica whose hashes are equal.
    fn colliding_pids() -> [Pid; 2] {
        let hasher = Hasher::new(SEED);
        let mut seen = BTreeMap::new();
        let pair = (0..1_000_000).find_map(|n| {
            let earlier = seen.insert(hasher.process(OWN, Pid(n)), Pid(n));
            earlier.map(|earlier| [earlier, Pid(n)])
        });
        pair.expect("two of a million numbers of 31 bits are equal")
    }

    fn id(name: &str) -> ReplicaId {
        ReplicaId::new(name, 1)
    }

    fn keep_apart(places: [(&str, &str); 2]) {
        let mut a = Set::new(id("a"), Limits::default(), SEED);
        let mut b = Set::new(id("b"), Limits::default(), SEED);
        b.up(&id("a")).unwrap();
        let topics = ["first", "second"].map(Arc::<str>::from);
        for topic in &topics {
            for set in [&mut a, &mut b] {
                set.join(topic, Pid(0), "fix".into(), "{}").unwrap();
            }
        }
        let topic = |name: &str| topics.iter().find(|topic| ***topic == *name).unwrap();
        let count = |set: &Set, (name, key): (&str, &str)| set.list_key(name, key.into()).count();
        // Few of each, then more than a walk is worth.
        for pid in 1..=40 {
            for (name, key) in places {
                assert!(a.find(name, Pid(pid), key.into()).is_none());
                a.join(topic(name), Pid(pid), key.into(), "{}").unwrap();
                assert_eq!(count(&a, (name, key)) as u64, pid);
            }
            b.merge(&a.take_delta(), &mut Diff::new()).unwrap();
        }
        for pid in 1..=40 {
            let [(name, key), other] = places;
            let found = a.find(name, Pid(pid), key.into()).unwrap();
            assert_eq!((&**found.topic, found.key), (name, Key::Text(key)));
            a.update(name, Pid(pid), key.into(), "{\"v\":2}").unwrap();
            assert_eq!(
                a.find(other.0, Pid(pid), other.1.into()).unwrap().meta,
                "{}"
            );
            b.merge(&a.take_delta(), &mut Diff::new()).unwrap();
            let left = a.leave(name, Pid(pid), key.into()).unwrap();
            assert_eq!(left.entry().key, Key::Text(key));
            assert!(a.leave(name, Pid(pid), key.into()).is_none());
            b.merge(&a.take_delta(), &mut Diff::new()).unwrap();
            for set in [&a, &b] {
                assert_eq!(count(set, places[0]) as u64, 40 - pid);
                assert_eq!(count(set, other), 40);
            }
        }
    }

    #[test]
    fn keys_of_one_topic_whose_hashes_collide_stay_apart() {
        let [one, two] = colliding([0, 0]);
        keep_apart([("first", &one), ("first", &two)]);
        keep_apart([("first", &two), ("first", &one)]);
    }

    #[test]
    fn keys_of_two_topics_whose_hashes_collide_stay_apart() {
        let [one, two] = colliding([0, 1]);
        keep_apart([("first", &one), ("second", &two)]);
        keep_apart([("second", &two), ("first", &one)]);
    }

    #[test]
    fn pids_whose_hashes_collide_stay_apart() {
        let [one, two] = colliding_pids();
        // Alone, and in a crowd.
        for others in [0, 40] {
            let mut set = Set::new(id("a"), Limits::default(), SEED);
            let topic = Arc::from("t");
            for n in 0..others {
                let pid = Pid(2_000_000 + n);
                set.join(&topic, pid, "k".into(), "{}").unwrap();
            }
            for (pid, meta) in [(one, "{\"v\":1}"), (two, "{\"v\":2}")] {
                assert!(set.find("t", pid, "k".into()).is_none());
                assert_eq!(set.list_pid(pid).count(), 0);
                set.join(&topic, pid, "k".into(), meta).unwrap();
                set.join(&topic, pid, "l".into(), meta).unwrap();
                assert_eq!(set.find("t", pid, "k".into()).unwrap().meta, meta);
                assert!(set.list_pid(pid).all(|entry| entry.meta == meta));
                assert_eq!(set.list_pid(pid).count(), 2);
            }
            let left = set.leave("t", one, "k".into()).unwrap();
            assert_eq!(left.entry().pid, one);
            assert!(set.leave("t", one, "k".into()).is_none());
            assert_eq!(set.leave_pid(one).len(), 1);
            assert!(set.leave_pid(one).is_empty());
            assert_eq!(set.list_pid(two).count(), 2);
            assert_eq!(set.leave_pid(two).len(), 2);
            assert_eq!(set.len() as u64, others);
        }
    }

    #[test]
    fn only_a_group_that_has_outgrown_a_walk_is_crowded() {
        let mut set = Set::new(id("a"), Limits::default(), SEED);
        let topic = Arc::from("t");
        for pid in 0..=CROWD as u64 {
            let crowds = set.groups.crowds.len();
            assert_eq!(crowds, 0, "with {pid} entries");
            set.join(&topic, Pid(pid), "k".into(), "{}").unwrap();
        }
        assert_eq!(set.groups.crowds.len(), CROWD + 1);
        set.join(&topic, Pid(99), "k".into(), "{}").unwrap();
        assert_eq!(set.groups.crowds.len(), CROWD + 2);
        for pid in (0..=CROWD as u64).chain([99]) {
            set.leave("t", Pid(pid), "k".into()).unwrap();
        }
        assert_eq!((set.groups.crowds.len(), set.groups.firsts.len()), (0, 0));
        assert_eq!(set.processes.firsts.len(), 0);
    }

    #[test]
    fn tables_shrink_with_what_they_hold() {
        let mut set = Set::new(id("a"), Limits::default(), SEED);
        let topic = Arc::from("t");
        // Half of them share a key.
        let key = |pid: u64| match pid % 2 {
            0 => "k".to_owned(),
            _ => pid.to_string(),
        };
        for pid in 0..4000 {
            let key = key(pid);
            set.join(&topic, Pid(pid), (&*key).into(), "{}").unwrap();
        }
        let tables = |set: &Set| {
            let groups = &set.groups;
            let tables = [&groups.firsts, &groups.crowds, &set.processes.firsts];
            tables.map(|table| (table.len(), table.num_buckets()))
        };
        let full = tables(&set).map(|(_, room)| room);
        // A table that is a fifth full keeps its room, one that is nearly empty the double of what it
        // holds.
        for (left, shrunk) in [(4000, false), (1600, false), (40, true)] {
            for pid in left..4000 {
                set.leave("t", Pid(pid), (&*key(pid)).into());
            }
            set.compact();
            for ((len, room), full) in tables(&set).into_iter().zip(full) {
                assert_eq!(room < full, shrunk, "{len} of {room}, {full} at first");
                assert!(
                    !shrunk || (len * 2..200).contains(&(room * 7 / 8)),
                    "{len} of {room}"
                );
            }
        }
        for pid in 0..40 {
            let key = key(pid);
            assert!(set.find("t", Pid(pid), (&*key).into()).is_some());
            assert_eq!(set.list_pid(Pid(pid)).count(), 1);
            set.leave("t", Pid(pid), (&*key).into()).unwrap();
        }
        assert!(set.is_empty());
    }
}
