//! Listing.

use std::sync::Arc;

use super::Set;
use super::entries::Handle;
use super::groups::chain;
use super::topics::Record;
use super::warm;
use crate::clock::{Dot, ReplicaId};
use crate::entry::{Entry, Key, Pid};

/// Some entries of a topic, and where to go on.
#[derive(Debug)]
pub struct Page<'a> {
    /// The entries of this page.
    pub entries: Vec<Entry<'a>>,
    /// What to ask for the next page with; `None` after the last.
    pub next: Option<PageCursor>,
}

/// Where a walk through the pages of a topic has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageCursor(usize);

impl Set {
    /// The entry that a merge or a local change just told of.
    ///
    /// # Panics
    ///
    /// May panic, or lend another entry, where the set has changed since.
    pub fn entry(&self, handle: Handle) -> Entry<'_> {
        let slot = &self.entries[handle];
        let topic = self.topics.of(slot.topic);
        self.lend(&topic.name, &topic.records[slot.position as usize])
    }

    /// The entries of `topic`, in no order that means anything.
    pub fn list<'a>(&'a self, topic: &str) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        self.topics
            .find(topic)
            .into_iter()
            .flat_map(move |id| self.lend_all(id))
    }

    /// The entries of `key` in `topic`, in no order that means anything.
    pub fn list_key<'a>(
        &'a self,
        topic: &str,
        key: Key<'_>,
    ) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        self.topics
            .find(topic)
            .and_then(|topic| {
                let hash = self.groups.hash(topic, key);
                self.groups
                    .first((topic, hash, key), &self.entries, &self.topics)
            })
            .into_iter()
            .flat_map(|first| chain(&self.entries, first))
            .filter(|&handle| self.lists(handle))
            .map(|handle| self.entry(handle))
    }

    /// The entries of a process of this replica, in no order that means anything.
    pub fn list_pid(&self, pid: Pid) -> impl Iterator<Item = Entry<'_>> {
        self.processes
            .of(pid, &self.entries, &self.topics)
            .map(|handle| self.entry(handle))
    }

    /// The entry of a process of this replica under `key` in `topic`.
    pub fn find(&self, topic: &str, pid: Pid, key: Key<'_>) -> Option<Entry<'_>> {
        let handle = self.locate(topic, pid, key)?;
        Some(self.entry(handle))
    }

    /// The entry that this dot brought, listed or not; `None` where it is not present.
    ///
    /// One of a replica that is unknown is present until it was removed [step by step](Self::step).
    pub fn find_dot(&self, dot: &Dot) -> Option<Entry<'_>> {
        let known = self.indices.get(&dot.replica).into_iter();
        let turning = self.turning.iter();
        let mut of = known.chain(turning.filter(|&&index| self.at(index).id == dot.replica));
        let handle = of.find_map(|&index| self.at(index).present.find(dot.counter))?;
        Some(self.entry(handle))
    }

    /// Whether the entry that a merge just told of is listed.
    pub fn lists(&self, handle: Handle) -> bool {
        self.down == 0 || self.is_listed(self.entries[handle].topic, self.record(handle))
    }

    /// How many entries of `topic` are listed. O(1) while no replica is down.
    pub fn count(&self, topic: &str) -> usize {
        match self.topics.find(topic) {
            Some(id) if self.down == 0 => self.topics.of(id).records.len(),
            Some(id) => self.lend_all(id).count(),
            None => 0,
        }
    }

    /// At most `limit` entries of `topic`, from where `cursor` says, or the first page.
    ///
    /// A walk that goes on while the set changes misses no entry that is listed throughout; it may
    /// show one twice, and does not show what joined after its start. (Entries are taken from the end
    /// of the topic towards its front, and a removal only ever moves the last one forward.)
    pub fn page(&self, topic: &str, cursor: Option<PageCursor>, limit: usize) -> Page<'_> {
        let mut entries = Vec::new();
        let mut next = None;
        if let Some(id) = self.topics.find(topic) {
            let topic = self.topics.of(id);
            let end = cursor.map_or(usize::MAX, |PageCursor(end)| end);
            let end = end.min(topic.records.len());
            for (at, record) in topic.records[..end].iter().enumerate().rev() {
                if entries.len() >= limit {
                    next = Some(PageCursor(at + 1));
                    break;
                }
                if self.is_listed(id, record) {
                    entries.push(self.lend(&topic.name, record));
                }
            }
        }
        Page { entries, next }
    }

    /// All entries that are listed, topic by topic, in no order that means anything.
    pub fn list_all(&self) -> impl Iterator<Item = Entry<'_>> {
        self.topics.ids().flat_map(|id| self.lend_all(id))
    }

    /// The entries of one replica in the order in which they joined, listed or not.
    pub fn entries_of<'a>(
        &'a self,
        replica: &ReplicaId,
    ) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let index = self.indices.get(replica).copied();
        index.into_iter().flat_map(|index| {
            let present = &self.at(index).present;
            present.from(1).map(|(_, handle)| self.entry(handle))
        })
    }

    /// How many entries of one replica the set holds, listed or not.
    pub fn count_of(&self, replica: &ReplicaId) -> usize {
        let index = self.indices.get(replica);
        index.map_or(0, |&index| self.at(index).present.len())
    }

    /// The topics that hold an entry, listed or not, in no order that means anything.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.iter().map(|topic| &topic.name)
    }

    /// How many entries the set holds, those of replicas that are down among them.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many topics hold an entry.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Whether the set holds no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    fn is_listed(&self, topic: u32, record: &Record) -> bool {
        self.down == 0 || topic < self.at(record.replica()).listed
    }

    fn lend<'a>(&'a self, topic: &'a Arc<str>, record: &'a Record) -> Entry<'a> {
        let (key, meta) = record.key_and_meta();
        Entry {
            topic,
            pid: record.pid,
            key,
            meta,
            replica: &self.at(record.replica()).id,
            counter: record.counter(),
        }
    }

    fn lend_all(&self, id: u32) -> impl Iterator<Item = Entry<'_>> {
        let topic = self.topics.of(id);
        let records = &topic.records;
        records.iter().enumerate().filter_map(move |(at, record)| {
            if at % warm::RECORDS == 0 {
                warm::texts(&records[at..]);
            }
            self.is_listed(id, record)
                .then(|| self.lend(&topic.name, record))
        })
    }
}
