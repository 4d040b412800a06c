//! Entries by topic and key, and by pid: tables of the first of each chain.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::OWN;
use super::entries::{Entries, Handle, Links, ReplicaIndex, Slot};
use super::hash::Hasher;
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

/// Puts `handle` before `first` in a chain.
fn link(entries: &mut Entries, chain: ChainOf, first: Handle, handle: Handle) {
    *chain(&mut entries[handle]) = Links {
        before: Handle::NONE,
        after: first,
    };
    if let Some(first) = first.some() {
        chain(&mut entries[first]).before = handle;
    }
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
    firsts: HashTable<Handle>,
    crowds: HashTable<Handle>,
    hasher: Hasher,
}

impl Groups {
    pub(super) fn new(hasher: Hasher) -> Self {
        Self {
            firsts: HashTable::new(),
            crowds: HashTable::new(),
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
    pub(super) fn insert(&mut self, first: Option<Handle>, handle: Handle, entries: &mut Entries) {
        let hash = entries[handle].hash;
        link(entries, GROUP, first.unwrap_or(Handle::NONE), handle);
        let Some(first) = first else {
            self.firsts
                .insert_unique(Hasher::spread(hash), handle, |&other| {
                    Hasher::spread(entries[other].hash)
                });
            return;
        };
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
        let hash = entries[handle].hash;
        if entries[handle].is_crowded() {
            let member = member_hash(&entries[handle]);
            if let Ok(found) = self.crowds.find_entry(member, |&other| other == handle) {
                found.remove();
            }
        }
        let links = unlink(entries, GROUP, handle);
        if links.before.some().is_some() {
            return;
        }
        let spread = Hasher::spread(hash);
        if let Ok(mut first) = self.firsts.find_entry(spread, |&first| first == handle) {
            match links.after.some() {
                Some(after) => *first.get_mut() = after,
                None => {
                    first.remove();
                }
            }
        }
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
        if self.firsts.len() * 8 < self.firsts.capacity() {
            self.firsts.shrink_to(self.firsts.len() * 2, |&handle| {
                Hasher::spread(entries[handle].hash)
            });
        }
        if self.crowds.len() * 8 < self.crowds.capacity() {
            self.crowds.shrink_to(self.crowds.len() * 2, |&handle| {
                member_hash(&entries[handle])
            });
        }
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
    firsts: HashTable<Handle>,
    hasher: Hasher,
}

impl Processes {
    pub(super) fn new(hasher: Hasher) -> Self {
        Self {
            firsts: HashTable::new(),
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
        let found = self.firsts.entry(
            Hasher::spread(hash),
            |&other| {
                entries[other].process_hash() == hash && topics.record(other, entries).pid == pid
            },
            |&other| process_hash(&entries[other]),
        );
        match found {
            Entry::Occupied(mut first) => {
                let next = std::mem::replace(first.get_mut(), handle);
                link(entries, PROCESS, next, handle);
            }
            Entry::Vacant(vacant) => {
                vacant.insert(handle);
            }
        }
    }

    pub(super) fn remove(&mut self, handle: Handle, entries: &mut Entries) {
        let hash = process_hash(&entries[handle]);
        let links = unlink(entries, PROCESS, handle);
        if links.before.some().is_some() {
            return;
        }
        if let Ok(mut first) = self.firsts.find_entry(hash, |&first| first == handle) {
            match links.after.some() {
                Some(after) => *first.get_mut() = after,
                None => {
                    first.remove();
                }
            }
        }
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
        if self.firsts.len() * 8 < self.firsts.capacity() {
            self.firsts.shrink_to(self.firsts.len() * 2, |&handle| {
                process_hash(&entries[handle])
            });
        }
    }
}
