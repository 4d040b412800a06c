//! The replicated set: an add-wins observed-remove set without tombstones.
//!
//! Each replica tracks its own presences and hears of the others' through [deltas](crate::delta).
//! What was seen is remembered as a context and, beyond it, a cloud of dots
//! ([`cloud`](crate::cloud)), so that a late or repeated delta brings nothing back, and what has left
//! costs no memory. After Bieniusa et al., *An optimized conflict-free replicated set* (2012), Almeida
//! et al., *Delta state replicated data types* (2016), and `Phoenix.Tracker.State`.
//!
//! # Rules
//!
//! - Every join and every leave takes one counter of the replica that makes it; an update takes two,
//!   a leave's and a join's, in one step.
//! - Of two dots of one (topic, pid, key) the higher wins. The other is reported as left if it was
//!   present, and either way stays seen.
//! - A dot is seen when the context covers it, when it is in the cloud, or when it is present. Nothing
//!   but the removal of its replica makes it unseen.
//! - Only what is known of a replica is told of it, and only about replicas that the set knows: one
//!   becomes known when it is [`up`](Set::up), and unknown when it is [`removed`](Set::remove).
//! - A replica that is down keeps its entries, which are not listed. It comes and goes at once, or
//!   [step by step](Set::step).
//! - The set reports raw changes: a merge also reports what joins and leaves on a replica that is
//!   down.
//!
//! # Cost
//!
//! A local change, and each value and gone interval of a merge, cost O(log n) at the most, whatever
//! the size n of the set. Listing a topic costs its own entries.

mod chunked;
mod dots;
mod entries;
mod groups;
mod hash;
mod leaving;
mod limits;
mod list;
mod merge;
mod replicas;
mod steps;
mod table;
mod topics;
mod transfer;
mod warm;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use self::entries::{Entries, ReplicaIndex, Slot};
use self::groups::{Groups, Processes};
use self::hash::Hasher;
use self::replicas::Replica;
use self::topics::{Record, Topics};
use crate::clock::{Context, MAX_COUNTER, ReplicaId};
use crate::cloud::Interval;
use crate::delta::{Builder, Delta};
use crate::entry::{Key, KeyTag, Left, Payload, Pid};

pub use self::entries::Handle;
pub use self::limits::{JoinError, Limits, TooLong, UpdateError};
pub use self::list::{Page, PageCursor};
pub use self::merge::{Diff, MergeError};
pub use self::replicas::{AdmitError, Status};
pub use self::transfer::Transfer;

/// The replica index of the set itself.
const OWN: ReplicaIndex = ReplicaIndex(0);

/// One replica's copy of the set.
pub struct Set {
    limits: Limits,
    hash_seed: u64,
    // A removed replica leaves its place vacant.
    replicas: Vec<Option<Replica>>,
    indices: BTreeMap<ReplicaId, ReplicaIndex>,
    /// How many are not up.
    down: usize,
    /// Those that are being listed, hidden or removed, in this order.
    turning: VecDeque<ReplicaIndex>,
    entries: Entries,
    topics: Topics,
    groups: Groups,
    processes: Processes,
    /// The counter at the last delta taken.
    told: u64,
    /// Own values up to this counter were taken since, where it is beyond.
    told_values: u64,
    /// Own leaves: the counter of each leave and the dot that left, oldest first.
    removals: VecDeque<(u64, u64)>,
    /// Leaves up to this counter may be missing from the log.
    removals_from: u64,
    /// Dots of other replicas that left since the last delta taken.
    observed: Vec<(ReplicaIndex, u64)>,
}

impl Set {
    /// The empty set of `replica`, which is up and knows nobody else.
    ///
    /// `hash_seed` seeds the hash tables. It never shows in an output, and should be random in
    /// production, so that nobody can choose keys that collide.
    pub fn new(replica: ReplicaId, limits: Limits, hash_seed: u64) -> Self {
        let hasher = Hasher::new(hash_seed);
        Self {
            limits,
            hash_seed,
            indices: BTreeMap::from([(replica.clone(), OWN)]),
            replicas: vec![Some(Replica::new(replica))],
            down: 0,
            turning: VecDeque::new(),
            entries: Entries::new(),
            topics: Topics::new(hasher.clone()),
            groups: Groups::new(hasher.clone()),
            processes: Processes::new(hasher),
            told: 0,
            told_values: 0,
            removals: VecDeque::new(),
            removals_from: 0,
            observed: Vec::new(),
        }
    }

    /// The replica whose copy this is.
    pub fn replica(&self) -> &ReplicaId {
        &self.own().id
    }

    // Local changes.

    /// Tracks `pid` under `key` in `topic`, and takes one counter.
    ///
    /// # Errors
    ///
    /// See [`JoinError`]; the set is then as it was.
    pub fn join(
        &mut self,
        topic: &Arc<str>,
        pid: Pid,
        key: Key<'_>,
        meta: &str,
    ) -> Result<Handle, JoinError> {
        self.limits.check(topic, key, meta)?;
        if self.entries.len() >= self.limits.entries.min(u32::MAX as usize - 1) {
            return Err(JoinError::Full(self.entries.len()));
        }
        if !self.has_counters_for(2) {
            return Err(JoinError::Exhausted);
        }
        // A topic that is new has no entry that could refuse this one.
        let topic = self.topics.ensure(topic);
        let place = (topic, self.groups.hash(topic, key), key);
        let first = self.groups.first(place, &self.entries, &self.topics);
        let member = first.and_then(|first| {
            self.groups
                .member((first, key), (OWN, pid), &self.entries, &self.topics)
        });
        if member.is_some() {
            return Err(JoinError::AlreadyTracked);
        }
        let counter = self.tick();
        let text = Payload::text(key, meta);
        let record = Record::new((text, KeyTag::of(key)), pid, (OWN, counter));
        Ok(self.attach((topic, place.1), record, first))
    }

    /// Untracks `pid` under `key` in `topic`, and takes one counter; `None` where it was not tracked.
    pub fn leave(&mut self, topic: &str, pid: Pid, key: Key<'_>) -> Option<Left> {
        let handle = self.locate(topic, pid, key)?;
        Some(self.leave_at(handle))
    }

    /// Untracks everything that `pid` is tracked under, with one counter each.
    pub fn leave_pid(&mut self, pid: Pid) -> Vec<Left> {
        let mut leaves = Vec::new();
        while let Some(handle) = self.processes.first(pid, &self.entries, &self.topics) {
            leaves.push(self.leave_at(handle));
        }
        leaves
    }

    /// Replaces a meta in one step, and takes two counters: a leave's and a join's.
    ///
    /// What was before, and the entry, which keeps its place in the topic.
    ///
    /// # Errors
    ///
    /// See [`UpdateError`]; the set is then as it was.
    pub fn update(
        &mut self,
        topic: &str,
        pid: Pid,
        key: Key<'_>,
        meta: &str,
    ) -> Result<(Left, Handle), UpdateError> {
        let handle = self
            .locate(topic, pid, key)
            .ok_or(UpdateError::NotTracked)?;
        self.limits.check(topic, key, meta)?;
        if !self.has_counters_for(2) {
            return Err(UpdateError::Exhausted);
        }
        let before = self.record(handle).counter();
        let leave = self.tick();
        self.log_removal(leave, before);
        let counter = self.tick();
        let text = Payload::text(key, meta);
        let left = self.replace(handle, counter, (text, KeyTag::of(key)));
        Ok((left, handle))
    }

    /// Whether `more` changes leave every own entry the counter that its leave takes.
    fn has_counters_for(&self, more: u64) -> bool {
        let own = self.own();
        own.context + own.present.len() as u64 + more <= MAX_COUNTER
    }

    fn tick(&mut self) -> u64 {
        let own = self.own_mut();
        own.context += 1;
        own.context
    }

    fn leave_at(&mut self, handle: Handle) -> Left {
        let counter = self.tick();
        let dot = self.record(handle).counter();
        self.own_mut().present.remove(dot);
        self.log_removal(counter, dot);
        self.detach(handle)
    }

    fn log_removal(&mut self, counter: u64, dot: u64) {
        self.removals.push_back((counter, dot));
        self.trim_log();
    }

    /// Forgets leaves beyond the limit that were told, and others where they are more than half as many as
    /// the presences: to name the gaps between these then takes no longer.
    fn trim_log(&mut self) {
        while self.removals.len() > self.limits.removal_log
            && let Some(&(counter, _)) = self.removals.front()
            && (counter <= self.told || self.removals.len() * 2 > self.own().present.len())
        {
            self.removals.pop_front();
            self.removals_from = counter;
        }
    }

    // Deltas.

    /// At most `limit` own values (at least one) of the next delta, which then does without them; `None`
    /// where the rest is for [`take_delta`](Self::take_delta).
    ///
    /// So a delta too large for one message is told in several, each sound whatever changes between
    /// them. The gone dots, if there are any, come last and alone, as a closing part, for the reason that
    /// [`delta`](crate::delta) gives.
    pub fn take_values(&mut self, limit: usize) -> Option<Delta> {
        let limit = limit.max(1);
        let (own, after) = (self.own(), self.told.max(self.told_values));
        let has_more = |than| own.present.from(after + 1).nth(than).is_some();
        let has_rest = || after > self.told && has_more(0) && self.has_untold_gone();
        if !has_more(limit) && !has_rest() {
            return None;
        }
        let mut builder = Builder::new(self.hash_seed);
        builder.part(own.id.clone(), own.context, false);
        let next = self.tell_values(own, after + 1, limit, &mut builder);
        self.told_values = next.map_or(own.context, |next| next - 1);
        Some(builder.finish())
    }

    /// The change since the last delta taken: own joins and leaves, and leaves seen of others.
    pub fn take_delta(&mut self) -> Delta {
        let mut observed: BTreeMap<ReplicaId, Vec<u64>> = BTreeMap::new();
        for (index, counter) in std::mem::take(&mut self.observed) {
            let id = &self.at(index).id;
            observed.entry(id.clone()).or_default().push(counter);
        }
        let own = self.replica().clone();
        observed.entry(own.clone()).or_default();
        let mut builder = Builder::new(self.hash_seed);
        for (replica, mut counters) in observed {
            let through = self.counter(&replica).unwrap_or(0);
            // Past the start of the log every gone dot is named, also what was updated into dots that
            // only earlier deltas told.
            let in_parts = self.told_values > self.told && self.has_untold_gone();
            let closing = replica == own && (in_parts || self.told < self.removals_from);
            builder.part(replica.clone(), through, closing);
            if replica == own {
                self.tell_own_untold(&mut builder);
                continue;
            }
            counters.sort_unstable();
            for counter in counters {
                builder.gone(Interval {
                    first: counter,
                    last: counter,
                });
            }
        }
        self.told = self.own().context;
        self.trim_log();
        builder.finish()
    }

    /// Whether an own dot has gone since the last delta taken: each leave counts one.
    fn has_untold_gone(&self) -> bool {
        let own = self.own();
        own.present.run_from(self.told + 1) < Some(own.context)
    }

    /// Whether [`take_delta`](Self::take_delta) has something to say.
    pub fn has_delta(&self) -> bool {
        self.told < self.own().context || !self.observed.is_empty()
    }

    /// Everything that the set knows of the replicas in `context`, for `asker`, whose own part is
    /// left out.
    ///
    /// One sound delta, after `Phoenix.Tracker.State.extract/3`. See [`answer`](Self::answer) for what
    /// a replica that lags needs, in messages of bounded size.
    pub fn extract(&self, asker: &ReplicaId, context: &Context) -> Delta {
        let mut builder = Builder::new(self.hash_seed);
        for (id, &index) in &self.indices {
            if id != asker && context.counter(id).is_some() {
                let replica = self.at(index);
                builder.part(id.clone(), replica.context, false);
                self.tell_gone(replica, &mut builder);
                self.tell_values(replica, 1, usize::MAX, &mut builder);
            }
        }
        builder.finish()
    }

    /// Gives memory back where the set has become much smaller, so that it stays in proportion to
    /// what is present. Costs nothing where it has not.
    pub fn compact(&mut self) {
        while self.compact_some(usize::MAX) {}
    }

    /// As [`compact`](Self::compact), so far as takes about as long as `limit` changes; whether there is
    /// more to do.
    pub fn compact_some(&mut self, limit: usize) -> bool {
        if self.entries.is_sparse() {
            let Self {
                entries,
                topics,
                groups,
                processes,
                replicas,
                ..
            } = self;
            entries.pack(limit.max(1), |entries, from, to| {
                topics.rename(to, entries);
                groups.rename(from, to, entries);
                let record = topics.record(to, entries);
                let (index, counter) = (record.replica(), record.counter());
                if index == OWN {
                    processes.rename(from, to, entries);
                }
                if let Some(replica) = &mut replicas[usize::from(index.0)] {
                    replica.present.rename(counter, to);
                }
            });
        }
        self.topics.shrink();
        self.groups.shrink(&self.entries);
        self.processes.shrink(&self.entries);
        if self.removals.len() * 4 < self.removals.capacity() {
            self.removals.shrink_to(self.removals.len() * 2);
        }
        self.entries.is_sparse()
    }

    // The parts.

    /// The entry of a process of this replica.
    fn locate(&self, topic: &str, pid: Pid, key: Key<'_>) -> Option<Handle> {
        let topic = self.topics.find(topic)?;
        let hash = self.groups.hash(topic, key);
        let first = self
            .groups
            .first((topic, hash, key), &self.entries, &self.topics)?;
        self.groups
            .member((first, key), (OWN, pid), &self.entries, &self.topics)
    }

    /// Adds an entry to the slab, its topic, its group and the indices of its replica.
    fn attach(
        &mut self,
        (topic, hash): (u32, u32),
        record: Record,
        first: Option<Handle>,
    ) -> Handle {
        let (index, counter) = (record.replica(), record.counter());
        let process_hash = self.processes.hash(index, record.pid);
        let handle = self.entries.insert(Slot::new(topic, hash, process_hash));
        self.topics.push(handle, record, &mut self.entries);
        self.groups.insert(first, (handle, hash), &mut self.entries);
        if index == OWN {
            self.processes
                .insert(handle, &mut self.entries, &self.topics);
        }
        self.at_mut(index).present.insert(counter, handle);
        handle
    }

    /// Takes an entry, whose dot is no longer present, out of everything else.
    fn detach(&mut self, handle: Handle) -> Left {
        let listed = self.lists(handle);
        self.groups.remove(handle, &mut self.entries);
        let (topic, record) = self.topics.take(handle, &mut self.entries);
        if record.replica() == OWN {
            self.processes.remove(handle, &mut self.entries);
        }
        self.entries.remove(handle);
        self.left(topic, record, listed)
    }

    /// Gives an entry a later dot and another meta.
    fn replace(&mut self, handle: Handle, counter: u64, payload: (Box<str>, KeyTag)) -> Left {
        let record = self.record(handle);
        let (pid, index, before) = (record.pid, record.replica(), record.counter());
        let present = &mut self.at_mut(index).present;
        present.remove(before);
        present.insert(counter, handle);
        let record = Record::new(payload, pid, (index, counter));
        let (topic, record) = self.topics.replace(handle, record, &self.entries);
        self.left(topic, record, self.lists(handle))
    }

    fn left(&self, topic: Arc<str>, record: Record, listed: bool) -> Left {
        Left {
            topic,
            pid: record.pid,
            replica: self.at(record.replica()).id.clone(),
            counter: record.counter(),
            payload: record.into_payload(),
            listed,
        }
    }

    fn record(&self, handle: Handle) -> &Record {
        self.topics.record(handle, &self.entries)
    }

    fn own(&self) -> &Replica {
        self.at(OWN)
    }

    fn own_mut(&mut self) -> &mut Replica {
        self.at_mut(OWN)
    }

    fn at(&self, index: ReplicaIndex) -> &Replica {
        let replica = self.replicas[usize::from(index.0)].as_ref();
        replica.expect("a replica is known as long as an index names it")
    }

    fn at_mut(&mut self, index: ReplicaIndex) -> &mut Replica {
        let replica = self.replicas[usize::from(index.0)].as_mut();
        replica.expect("a replica is known as long as an index names it")
    }
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut entries: Vec<_> = self
            .indices
            .keys()
            .flat_map(|id| self.entries_of(id))
            .collect();
        entries
            .sort_by(|a, b| (a.topic, a.replica, a.counter).cmp(&(b.topic, b.replica, b.counter)));
        f.debug_struct("Set")
            .field("replica", self.replica())
            .field("clocks", &self.clocks())
            .field("entries", &entries)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ReplicaId {
        ReplicaId::new(name, 1)
    }

    /// A set that has made all but `left` of its changes, and a peer.
    fn near_the_end(left: u64) -> [Set; 2] {
        let [mut a, mut b] = ["a", "b"].map(|name| Set::new(id(name), Limits::default(), 1));
        a.own_mut().context = MAX_COUNTER - left;
        a.told = MAX_COUNTER - left;
        b.up(&id("a")).unwrap();
        [a, b]
    }

    #[test]
    fn every_entry_keeps_the_counter_that_its_leave_takes() {
        let [mut a, mut b] = near_the_end(4);
        let topic = Arc::from("t");
        a.join(&topic, Pid(1), "k".into(), "{}").unwrap();
        a.join(&topic, Pid(2), "k".into(), "{}").unwrap();
        let joined = a.join(&topic, Pid(3), "k".into(), "{}");
        assert_eq!(joined, Err(JoinError::Exhausted));
        let updated = a.update("t", Pid(1), "k".into(), "{\"v\":2}");
        assert_eq!(updated.map(|_| ()), Err(UpdateError::Exhausted));
        assert_eq!(a.counter(&id("a")), Some(MAX_COUNTER - 2));
        assert_eq!(a.list("t").filter(|entry| entry.meta == "{}").count(), 2);
        let joins = a.take_delta();
        assert_eq!(a.leave_pid(Pid(2)).len(), 1);
        assert!(a.leave("t", Pid(1), "k".into()).is_some());
        assert_eq!(a.counter(&id("a")), Some(MAX_COUNTER));
        let leaves = a.take_delta();
        // A peer follows to the very end.
        let mut diff = Diff::new();
        b.merge(&joins, &mut diff).unwrap();
        assert_eq!(diff.joins.len(), 2);
        b.merge(&leaves, &mut diff).unwrap();
        assert_eq!(diff.leaves.len(), 2);
        b.merge(&a.extract(&id("b"), &b.clocks()), &mut diff)
            .unwrap();
        assert_eq!(b.counter(&id("a")), Some(MAX_COUNTER));
        assert!(b.cloud(&id("a")).unwrap().is_empty());
        b.merge(&leaves, &mut diff).unwrap();
        assert!(b.is_empty() && diff.leaves.is_empty());
        assert!(a.answer(&id("b"), &b.clocks()).is_empty());
    }

    #[test]
    fn an_update_needs_two_counters_and_leaves_one_for_the_leave() {
        let [mut a, _] = near_the_end(4);
        let topic = Arc::from("t");
        a.join(&topic, Pid(1), "k".into(), "{}").unwrap();
        a.update("t", Pid(1), "k".into(), "{\"v\":2}").unwrap();
        let updated = a.update("t", Pid(1), "k".into(), "{\"v\":3}");
        assert_eq!(updated.map(|_| ()), Err(UpdateError::Exhausted));
        assert!(a.leave("t", Pid(1), "k".into()).is_some());
        assert_eq!(a.counter(&id("a")), Some(MAX_COUNTER));
        assert_eq!(
            a.join(&topic, Pid(1), "k".into(), "{}"),
            Err(JoinError::Exhausted)
        );
    }

    /// A set with so many presences, whose log has room for three leaves.
    fn forgetful(presences: u64) -> Set {
        let limits = Limits {
            removal_log: 3,
            ..Limits::default()
        };
        let mut a = Set::new(id("a"), limits, 1);
        let topic = Arc::from("t");
        for pid in 0..presences {
            a.join(&topic, Pid(pid), "k".into(), "{}").unwrap();
        }
        a
    }

    #[test]
    fn the_log_of_leaves_keeps_within_its_limit() {
        let mut a = forgetful(5);
        for (pid, forgotten) in [(0, 0), (1, 0), (2, 0), (3, 6), (4, 7)] {
            a.leave("t", Pid(pid), "k".into()).unwrap();
            assert_eq!(a.removals_from, forgotten);
            assert!(a.removals.len() <= 3);
        }
    }

    /// Guards against: a busy node each of whose deltas names every gap between its presences.
    #[test]
    fn leaves_that_were_not_told_are_remembered_while_presences_are_twice_as_many() {
        let mut a = forgetful(20);
        a.take_delta();
        let leave = |a: &mut Set, pid| a.leave("t", Pid(pid), "k".into()).unwrap();
        for pid in [1, 3, 5, 7, 9, 11] {
            leave(&mut a, pid);
        }
        assert_eq!((a.removals.len(), a.removals_from), (6, 0));
        let delta = a.take_delta();
        let gone: Vec<_> = delta.gone().map(|(_, gone)| gone.dots()).collect();
        assert_eq!((gone, delta.size()), (vec![12], 7));
        assert_eq!((a.removals.len(), a.removals_from), (3, 23));
        for pid in [0, 2, 4, 6, 8, 10] {
            leave(&mut a, pid);
        }
        assert_eq!((a.removals.len(), a.removals_from), (4, 28), "of eight");
    }

    #[test]
    fn a_slab_is_packed_where_three_in_four_have_left() {
        let [mut a, _] = near_the_end(9000);
        let topic = Arc::from("t");
        for pid in 0..1200 {
            a.join(&topic, Pid(pid), "k".into(), "{}").unwrap();
        }
        for pid in 0..=900 {
            assert!(!a.entries.is_sparse(), "with {} of 1200", a.len());
            a.leave_pid(Pid(pid));
        }
        assert!(a.entries.is_sparse(), "with {} of 1200", a.len());
        a.compact();
        assert!(!a.entries.is_sparse());
        assert_eq!(a.list_all().count(), 299);
        // A small one is left as it is.
        let [mut a, _] = near_the_end(9000);
        for pid in 0..1024 {
            a.join(&topic, Pid(pid), "k".into(), "{}").unwrap();
        }
        for pid in 0..1024 {
            a.leave_pid(Pid(pid));
        }
        assert!(!a.entries.is_sparse());
    }

    /// Of ten thousand good hashes nearly all differ, most of them in 16 bits, and all 128 tags of a
    /// table occur.
    fn spread_out(hashes: impl Iterator<Item = u64>) {
        let hashes: Vec<u64> = hashes.collect();
        let distinct = |bits: fn(u64) -> u64| {
            let all: std::collections::BTreeSet<_> = hashes.iter().copied().map(bits).collect();
            all.len()
        };
        let counts = [
            distinct(|h| h),
            distinct(|h| h & 0xffff),
            distinct(|h| h >> 57),
        ];
        assert_eq!(hashes.len(), 10_000);
        assert!(
            counts[0] >= 9_990 && counts[1] >= 5_000 && counts[2] == 128,
            "{counts:?}"
        );
    }

    #[test]
    fn hashes_tell_apart_what_they_stand_for() {
        let set = Set::new(id("a"), Limits::default(), 1);
        let hasher = Hasher::new(1);
        let names: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
        let names = names.iter();
        spread_out(names.clone().map(|name| Hasher::spread(hasher.topic(name))));
        spread_out(
            names
                .clone()
                .map(|name| Hasher::spread(set.groups.hash(3, name.as_str().into()))),
        );
        // One key in many topics, of both kinds.
        let kinds = (0..5_000)
            .flat_map(|topic| [Key::Text("1"), Key::Integer("1")].map(|key| (topic, key)));
        spread_out(kinds.map(|(topic, key)| Hasher::spread(set.groups.hash(topic, key))));
        let process = |replica, pid| hasher.process(ReplicaIndex(replica), Pid(pid));
        spread_out((0..10_000).map(|pid| Hasher::spread(process(0, pid))));
        spread_out((0..10_000).map(|replica| Hasher::spread(process(replica, 7))));
        // Many processes in one group, and one in many.
        spread_out((0..10_000).map(|pid| Hasher::member(99, process(0, pid))));
        spread_out((0..10_000).map(|topic| Hasher::member(hasher.key(topic, "k".into()), 98)));
    }

    #[test]
    fn a_replica_that_is_removed_while_down_is_not_counted_as_down() {
        let [mut a, _] = near_the_end(9);
        a.up(&id("b")).unwrap();
        a.up(&id("c")).unwrap();
        a.down(&id("b"));
        a.down(&id("c"));
        assert_eq!(a.down, 2);
        a.remove(&id("b"));
        assert_eq!(a.down, 1);
        a.up(&id("c")).unwrap();
        a.remove(&id("c"));
        assert_eq!(a.down, 0);
    }
}
