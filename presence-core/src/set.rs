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
//! - A replica that is down keeps its entries, which are not listed.
//! - The set reports raw changes: a merge also reports what joins and leaves on a replica that is
//!   down.
//!
//! # Cost
//!
//! A local change, and each value and gone interval of a merge, cost O(log n) at the most, whatever
//! the size n of the set. Listing a topic costs its own entries.

mod dots;
mod entries;
mod groups;
mod hash;
mod transfer;
mod topics;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use self::dots::Dots;
use self::entries::{Entries, ReplicaIndex, Slot};
use self::groups::{Groups, Processes, chain};
use self::hash::Hasher;
use self::topics::{Record, Topics};
use crate::clock::{Context, Dot, MAX_COUNTER, ReplicaId};
use crate::cloud::{Cloud, Interval};
use crate::delta::{Builder, Delta, Part, Value};
use crate::entry::{Entry, Key, KeyTag, Left, MAX_KEY_BYTES, Payload, Pid};

pub use self::entries::Handle;
pub use self::transfer::Transfer;

/// The bounds of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries, of all replicas together. At most 4,294,967,294, which is the default.
    pub entries: usize,
    /// Known replicas. At most 65,535, which is the default.
    pub replicas: usize,
    /// Bytes of a topic's name. 65,536 by default.
    pub topic_bytes: usize,
    /// Bytes of a key. At most [`MAX_KEY_BYTES`], which is the default.
    pub key_bytes: usize,
    /// Bytes of a meta. 1 MiB by default.
    pub meta_bytes: usize,
    /// Intervals of one replica's cloud. 65,536 by default.
    pub cloud_intervals: usize,
    /// Own leaves that a lagging replica can be told of without a full state. 10,000 by default, the
    /// largest of the reference's `max_delta_sizes`.
    pub removal_log: usize,
    /// Leaves of other replicas that the next delta names. 10,000 by default; those beyond are told
    /// by their own replica alone.
    pub observed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: u32::MAX as usize - 1,
            replicas: usize::from(u16::MAX),
            topic_bytes: 1 << 16,
            key_bytes: MAX_KEY_BYTES,
            meta_bytes: 1 << 20,
            cloud_intervals: 1 << 16,
            removal_log: 10_000,
            observed: 10_000,
        }
    }
}

impl Limits {
    fn check(&self, topic: &str, key: Key<'_>, meta: &str) -> Result<(), TooLong> {
        let key_bytes = self.key_bytes.min(MAX_KEY_BYTES);
        let parts = [
            ("topic", topic.len(), self.topic_bytes),
            ("key", key.as_str().len(), key_bytes),
            ("meta", meta.len(), self.meta_bytes.min(u32::MAX as usize - MAX_KEY_BYTES)),
        ];
        match parts.into_iter().find(|(_, len, max)| len > max) {
            Some((what, len, max)) => Err(TooLong { what, len, max }),
            None => Ok(()),
        }
    }
}

/// A topic, key or meta is longer than its limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {what} has {len} bytes, more than {max}")]
pub struct TooLong {
    /// Which of them.
    pub what: &'static str,
    /// Its bytes.
    pub len: usize,
    /// The limit.
    pub max: usize,
}

/// Why a presence was not added. The set is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The process is tracked there already.
    #[error("the process is already tracked under this key in this topic")]
    AlreadyTracked,
    /// A part is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The set holds as many entries as its limits allow.
    #[error("the set is full: it holds {0} entries")]
    Full(usize),
    /// The counter would pass [`MAX_COUNTER`].
    #[error("the replica has no counters left and must begin a new incarnation")]
    Exhausted,
}

/// Why a presence was not updated. The set is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The process is not tracked there.
    #[error("the process is not tracked under this key in this topic")]
    NotTracked,
    /// The new meta is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The counter would pass [`MAX_COUNTER`].
    #[error("the replica has no counters left and must begin a new incarnation")]
    Exhausted,
}

/// Why a delta was refused. The set is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The delta speaks of changes of this very replica that it never made.
    #[error("the delta names {0}, a change that this replica never made")]
    Invented(Dot),
    /// Too much is missing between what was seen and what the delta says.
    #[error("the cloud of {replica} would need up to {intervals} intervals, more than {max}")]
    Cloud {
        /// The replica whose cloud it is.
        replica: ReplicaId,
        /// What it could come to.
        intervals: usize,
        /// The limit.
        max: usize,
    },
    /// The set would hold more entries than its limits allow.
    #[error("the delta brings {values} values to a set of {entries}, more than {max} in all")]
    Full {
        /// The values of the delta.
        values: usize,
        /// The entries of the set.
        entries: usize,
        /// The limit.
        max: usize,
    },
    /// A topic, key or meta is too long.
    #[error("{dot}: {reason}")]
    TooLong {
        /// The dot of the value.
        dot: Dot,
        /// What is too long.
        reason: TooLong,
    },
}

/// Why a replica was not admitted. The set is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// A later incarnation of the same node is known.
    #[error("{newest} is known, a later incarnation of the same node")]
    Superseded {
        /// The latest incarnation known.
        newest: ReplicaId,
    },
    /// As many replicas are known as the limits allow.
    #[error("{0} replicas are known, as many as the limits allow")]
    TooMany(usize),
}

/// Whether a replica's entries are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// They are.
    Up,
    /// They are kept and not listed.
    Down,
}

/// What a merge changed.
///
/// Joins are lent as handles to [`Set::entry`], valid until the set changes next.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Diff {
    /// Entries that joined.
    pub joins: Vec<Handle>,
    /// Entries that left, those of an update among them.
    pub leaves: Vec<Left>,
    /// Parts of the delta that were passed over since their replica is unknown here.
    pub unknown: usize,
    /// Closing parts that were passed over since what they close has not all arrived: the sender must
    /// be asked again.
    pub deferred: usize,
}

impl Diff {
    /// A diff without changes.
    pub fn new() -> Self {
        Self::default()
    }

    fn clear(&mut self) {
        self.joins.clear();
        self.leaves.clear();
        self.unknown = 0;
        self.deferred = 0;
    }
}

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

struct Replica {
    id: ReplicaId,
    status: Status,
    /// Everything up to this counter was seen.
    context: u64,
    /// Dots beyond the context that were seen and are not present.
    cloud: Cloud,
    present: Dots,
}

impl Replica {
    fn new(id: ReplicaId) -> Self {
        Self {
            id,
            status: Status::Up,
            context: 0,
            cloud: Cloud::new(),
            present: Dots::default(),
        }
    }

    /// Remembers that a dot that is not present was seen.
    fn saw(&mut self, counter: u64) {
        if counter > self.context {
            self.cloud.insert(counter);
        }
    }

    /// Where the context will be once what `part` speaks of is seen too.
    fn frontier(&self, part: Option<&Part>) -> u64 {
        let (gone, values) = part.map_or((&[][..], &[][..]), |part| {
            let beyond = part.values.partition_point(|value| value.counter <= self.context);
            let gone = part.gone.not_before(self.context + 1);
            (&part.gone.intervals()[gone..], &part.values[beyond..])
        });
        let mut gone = gone.iter().peekable();
        let mut values = values.iter().peekable();
        let mut cloud = self.cloud.intervals().iter().peekable();
        let mut through = self.context;
        loop {
            let next = through + 1;
            while values.next_if(|value| value.counter < next).is_some() {}
            while gone.next_if(|interval| interval.last < next).is_some() {}
            while cloud.next_if(|interval| interval.last < next).is_some() {}
            through = if values.peek().is_some_and(|value| value.counter == next) {
                next
            } else if let Some(interval) = gone.peek().filter(|interval| interval.first <= next) {
                interval.last
            } else if let Some(interval) = cloud.peek().filter(|interval| interval.first <= next) {
                interval.last
            } else if let Some(last) = self.present.run_from(next) {
                last
            } else {
                return through;
            };
        }
    }
}

/// The replica index of the set itself.
const OWN: ReplicaIndex = ReplicaIndex(0);

/// One replica's copy of the set.
pub struct Set {
    limits: Limits,
    hash_seed: u64,
    // A removed replica leaves its place vacant.
    replicas: Vec<Option<Replica>>,
    indices: BTreeMap<ReplicaId, ReplicaIndex>,
    down: usize,
    entries: Entries,
    topics: Topics,
    groups: Groups,
    processes: Processes,
    /// The counter at the last delta taken.
    told: u64,
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
            entries: Entries::default(),
            topics: Topics::new(hasher.clone()),
            groups: Groups::new(hasher.clone()),
            processes: Processes::new(hasher),
            told: 0,
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
        if self.locate(topic, pid, key).is_some() {
            return Err(JoinError::AlreadyTracked);
        }
        let counter = self.tick();
        let topic = self.topics.ensure(topic);
        let text = Payload::text(key, meta);
        let place = (topic, self.groups.hash(topic, key), key);
        let first = self.groups.first(place, &self.entries, &self.topics);
        let slot = Slot::new(pid, OWN, counter, topic);
        Ok(self.attach(slot, (text, KeyTag::of(key)), place.1, first))
    }

    /// Untracks `pid` under `key` in `topic`, and takes one counter; `None` where it was not tracked.
    pub fn leave(&mut self, topic: &str, pid: Pid, key: Key<'_>) -> Option<Left> {
        let handle = self.locate(topic, pid, key)?;
        Some(self.leave_at(handle))
    }

    /// Untracks everything that `pid` is tracked under, with one counter each.
    pub fn leave_pid(&mut self, pid: Pid) -> Vec<Left> {
        let mut leaves = Vec::new();
        while let Some(handle) = self.processes.first(pid, &self.entries) {
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
        let handle = self.locate(topic, pid, key).ok_or(UpdateError::NotTracked)?;
        self.limits.check(topic, key, meta)?;
        if !self.has_counters_for(2) {
            return Err(UpdateError::Exhausted);
        }
        let before = self.entries[handle].counter();
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
        let dot = self.entries[handle].counter();
        self.own_mut().present.remove(dot);
        self.log_removal(counter, dot);
        self.detach(handle)
    }

    fn log_removal(&mut self, counter: u64, dot: u64) {
        self.removals.push_back((counter, dot));
        while self.removals.len() > self.limits.removal_log {
            if let Some((forgotten, _)) = self.removals.pop_front() {
                self.removals_from = forgotten;
            }
        }
    }

    // Deltas.

    /// The change since the last delta taken: own joins and leaves, and leaves seen of others.
    ///
    /// Also [compacts](Self::compact).
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
            builder.part(replica.clone(), through, false);
            if replica == own {
                self.tell_own_since(self.told, &mut builder);
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
        self.compact();
        builder.finish()
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

    /// Merges what another replica tells, and says in `diff` what changed.
    ///
    /// The own replica's entries are never touched: only their replica may change them.
    ///
    /// # Errors
    ///
    /// See [`MergeError`]; nothing was merged then.
    pub fn merge(&mut self, delta: &Delta, diff: &mut Diff) -> Result<(), MergeError> {
        diff.clear();
        let plan = self.plan(delta, diff)?;
        // All leaves first, so that no topic goes while the values' topics are looked up.
        for merge in &plan {
            self.merge_gone(merge, diff);
        }
        let mut topics = vec![None; delta.topics.len()];
        for merge in &plan {
            self.merge_values(merge, delta, &mut topics, diff);
        }
        for merge in &plan {
            self.merge_seen(merge);
        }
        Ok(())
    }

    /// Which parts can be merged, and how far their replicas' contexts will then reach.
    fn plan<'a>(&self, delta: &'a Delta, diff: &mut Diff) -> Result<Vec<Merge<'a>>, MergeError> {
        let mut plan = Vec::with_capacity(delta.parts.len());
        let mut values = 0;
        for part in &delta.parts {
            let Some(&index) = self.indices.get(&part.replica) else {
                diff.unknown += 1;
                continue;
            };
            let replica = self.at(index);
            if index == OWN {
                let last = part.values.last().map(|value| value.counter);
                let last = last.max(part.gone.last()).unwrap_or(0);
                if last > replica.context {
                    return Err(MergeError::Invented(Dot::new(replica.id.clone(), last)));
                }
                continue;
            }
            let frontier = replica.frontier(Some(part));
            if part.closing && frontier < part.through {
                diff.deferred += 1;
                continue;
            }
            self.check_cloud(replica, part, frontier)?;
            values += part.values.len();
            plan.push(Merge {
                index,
                part,
                frontier,
            });
        }
        let entries = self.entries.len();
        let max = self.limits.entries.min(u32::MAX as usize - 1);
        if entries.saturating_add(values) > max {
            return Err(MergeError::Full {
                values,
                entries,
                max,
            });
        }
        for merge in &plan {
            self.check_lengths(delta, merge.part)?;
        }
        Ok(plan)
    }

    /// Refuses a part that could push the cloud over its limit.
    fn check_cloud(&self, replica: &Replica, part: &Part, frontier: u64) -> Result<(), MergeError> {
        let beyond = |cloud: &Cloud| cloud.intervals().len() - cloud.not_before(frontier + 1);
        let ahead = part.values.partition_point(|value| value.counter <= frontier);
        // A value ahead may supersede a dot ahead, or be superseded.
        let values = part.values.len() - ahead;
        let intervals = beyond(&replica.cloud) + beyond(&part.gone) + values;
        let max = self.limits.cloud_intervals;
        if intervals > max {
            return Err(MergeError::Cloud {
                replica: replica.id.clone(),
                intervals,
                max,
            });
        }
        Ok(())
    }

    fn check_lengths(&self, delta: &Delta, part: &Part) -> Result<(), MergeError> {
        for value in &part.values {
            let entry = delta.entry(&part.replica, value);
            if let Err(reason) = self.limits.check(entry.topic, entry.key, entry.meta) {
                let dot = entry.dot();
                return Err(MergeError::TooLong { dot, reason });
            }
        }
        Ok(())
    }

    fn merge_gone(&mut self, merge: &Merge<'_>, diff: &mut Diff) {
        let mut leaving = Vec::new();
        let present = &mut self.at_mut(merge.index).present;
        let last = present.last().unwrap_or(0);
        for &interval in merge.part.gone.intervals() {
            if interval.first > last {
                break;
            }
            present.take(interval, |counter, handle| leaving.push((counter, handle)));
        }
        for (counter, handle) in leaving {
            diff.leaves.push(self.detach(handle));
            self.observe(merge.index, counter);
        }
    }

    fn merge_values(
        &mut self,
        merge: &Merge<'_>,
        delta: &Delta,
        topics: &mut [Option<u32>],
        diff: &mut Diff,
    ) {
        let Merge { index, part, .. } = *merge;
        let replica = self.at(index);
        let last = replica.present.last().unwrap_or(0);
        let unseen = part
            .values
            .partition_point(|value| value.counter <= replica.context);
        // The newest first, so that of two dots of one presence the older is never seen to join.
        for value in part.values[unseen..].iter().rev() {
            let replica = self.at(index);
            let counter = value.counter;
            let seen = replica.cloud.contains(counter)
                || counter <= last && replica.present.find(counter).is_some();
            if !seen {
                self.merge_value(index, delta, value, topics, diff);
            }
        }
    }

    fn merge_value(
        &mut self,
        index: ReplicaIndex,
        delta: &Delta,
        value: &Value,
        topics: &mut [Option<u32>],
        diff: &mut Diff,
    ) {
        let topic = *topics[value.topic as usize]
            .get_or_insert_with(|| self.topics.ensure(&delta.topics[value.topic as usize]));
        let text = delta.text_of(value);
        let key = Key::of(&text[..value.key.len()], value.key.is_integer());
        let hash = self.groups.hash(topic, key);
        let first = self
            .groups
            .first((topic, hash, key), &self.entries, &self.topics);
        let process = (index, value.pid);
        let existing = first.and_then(|first| {
            self.groups
                .member((first, key), process, &self.entries, &self.topics)
        });
        let Some(existing) = existing else {
            let slot = Slot::new(value.pid, index, value.counter, topic);
            let handle = self.attach(slot, (text.into(), value.key), hash, first);
            diff.joins.push(handle);
            return;
        };
        let present = self.entries[existing].counter();
        if present > value.counter {
            self.at_mut(index).saw(value.counter);
        } else {
            let left = self.replace(existing, value.counter, (text.into(), value.key));
            self.at_mut(index).saw(present);
            diff.leaves.push(left);
            diff.joins.push(existing);
        }
    }

    fn merge_seen(&mut self, merge: &Merge<'_>) {
        let replica = self.at_mut(merge.index);
        replica.context = merge.frontier;
        replica.cloud.remove_through(merge.frontier);
        let gone = &merge.part.gone;
        for &interval in &gone.intervals()[gone.not_before(merge.frontier + 1)..] {
            replica.cloud.insert_interval(interval);
        }
    }

    /// Notes for the next delta that a dot of another replica has left.
    fn observe(&mut self, index: ReplicaIndex, counter: u64) {
        if self.observed.len() < self.limits.observed {
            self.observed.push((index, counter));
        }
    }

    // Replicas.

    /// Admits `replica`, from an empty context if it is unknown, and lists its entries from now on.
    ///
    /// Whether that is a change: [`entries_of`](Self::entries_of) are then the joins to report. A
    /// replica that was removed and is heard again is admitted like one never heard of, or the
    /// presences of a split longer than the permanent-down period would never come back.
    ///
    /// # Errors
    ///
    /// A lower incarnation than one that is known is refused, so that a late message of a node's old
    /// self can't evict the new one.
    pub fn up(&mut self, replica: &ReplicaId) -> Result<bool, AdmitError> {
        if let Some(&index) = self.indices.get(replica) {
            return Ok(self.set_status(index, Status::Up));
        }
        let same_name = self.indices.keys().filter(|id| id.name() == replica.name());
        if let Some(newest) = same_name.max().filter(|newest| newest.supersedes(replica)) {
            return Err(AdmitError::Superseded {
                newest: newest.clone(),
            });
        }
        let max = self.limits.replicas.min(usize::from(u16::MAX));
        if self.indices.len() >= max {
            return Err(AdmitError::TooMany(max));
        }
        let vacant = self.replicas.iter().position(Option::is_none);
        let index = vacant.unwrap_or(self.replicas.len());
        if index == self.replicas.len() {
            self.replicas.push(None);
        }
        self.replicas[index] = Some(Replica::new(replica.clone()));
        let index = ReplicaIndex(index as u16);
        self.indices.insert(replica.clone(), index);
        Ok(true)
    }

    /// Keeps the entries of `replica` and lists them no more.
    ///
    /// Whether that is a change: [`entries_of`](Self::entries_of) are then the leaves to report. The
    /// own replica is always up, and an unknown one has nothing to hide.
    pub fn down(&mut self, replica: &ReplicaId) -> bool {
        match self.indices.get(replica) {
            Some(&index) if index != OWN => self.set_status(index, Status::Down),
            _ => false,
        }
    }

    fn set_status(&mut self, index: ReplicaIndex, status: Status) -> bool {
        let replica = self.at_mut(index);
        let changed = replica.status != status;
        replica.status = status;
        if changed {
            match status {
                Status::Up => self.down -= 1,
                Status::Down => self.down += 1,
            }
        }
        changed
    }

    /// Forgets `replica` for good: its entries, which are handed out, its context and cloud, and what
    /// the next delta would have said of it. Nothing is merged of it until it is [`up`](Self::up)
    /// again.
    ///
    /// The own replica can't be removed.
    pub fn remove(&mut self, replica: &ReplicaId) -> Vec<Left> {
        let index = match self.indices.get(replica) {
            Some(&index) if index != OWN => index,
            _ => return Vec::new(),
        };
        let mut handles = Vec::new();
        let everything = Interval {
            first: 1,
            last: MAX_COUNTER,
        };
        let present = &mut self.at_mut(index).present;
        present.take(everything, |_, handle| handles.push(handle));
        let leaves = handles.into_iter().map(|handle| self.detach(handle)).collect();
        self.observed.retain(|&(of, _)| of != index);
        self.set_status(index, Status::Up);
        self.replicas[usize::from(index.0)] = None;
        self.indices.remove(replica);
        leaves
    }

    /// The known replicas and whether they are listed, ordered.
    pub fn replicas(&self) -> impl Iterator<Item = (&ReplicaId, Status)> {
        let of = |(id, &index)| (id, self.at(index).status);
        self.indices.iter().map(of)
    }

    /// Whether `replica` is known, and if so whether it is listed.
    pub fn status(&self, replica: &ReplicaId) -> Option<Status> {
        let &index = self.indices.get(replica)?;
        Some(self.at(index).status)
    }

    /// Up to where everything of `replica` was seen; `None` where it is unknown.
    pub fn counter(&self, replica: &ReplicaId) -> Option<u64> {
        let &index = self.indices.get(replica)?;
        Some(self.at(index).context)
    }

    /// What was seen of `replica` beyond its counter and is not present.
    pub fn cloud(&self, replica: &ReplicaId) -> Option<&Cloud> {
        let &index = self.indices.get(replica)?;
        Some(&self.at(index).cloud)
    }

    /// The causal context of the set, without replicas that are down.
    ///
    /// Those are left out since they are not answered for either, or a replica that does not know
    /// them would ask for them over and over (`Phoenix.Tracker.State.clocks/1`).
    pub fn clocks(&self) -> Context {
        self.indices
            .iter()
            .map(|(id, &index)| (id, self.at(index)))
            .filter(|(_, replica)| replica.status == Status::Up)
            .map(|(id, replica)| (id.clone(), replica.context))
            .collect()
    }

    // Listing.

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
            .flat_map(move |id| self.lend_all(self.topics.of(id)))
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
            .filter(|&handle| self.is_listed(self.entries[handle].replica()))
            .map(|handle| self.entry(handle))
    }

    /// The entries of a process of this replica, in no order that means anything.
    pub fn list_pid(&self, pid: Pid) -> impl Iterator<Item = Entry<'_>> {
        self.processes
            .of(pid, &self.entries)
            .map(|handle| self.entry(handle))
    }

    /// The entry of a process of this replica under `key` in `topic`.
    pub fn find(&self, topic: &str, pid: Pid, key: Key<'_>) -> Option<Entry<'_>> {
        let handle = self.locate(topic, pid, key)?;
        Some(self.entry(handle))
    }

    /// How many entries of `topic` are listed. O(1) while no replica is down.
    pub fn count(&self, topic: &str) -> usize {
        match self.topics.find(topic) {
            Some(id) if self.down == 0 => self.topics.of(id).records.len(),
            Some(id) => self.lend_all(self.topics.of(id)).count(),
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
                if self.is_listed(record.replica) {
                    entries.push(self.lend(&topic.name, record));
                }
            }
        }
        Page { entries, next }
    }

    /// All entries that are listed, topic by topic, in no order that means anything.
    pub fn list_all(&self) -> impl Iterator<Item = Entry<'_>> {
        self.topics.iter().flat_map(|topic| self.lend_all(topic))
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

    /// Gives memory back where the set has become much smaller, so that it stays in proportion to
    /// what is present. Costs nothing where it has not.
    pub fn compact(&mut self) {
        if self.entries.is_sparse() {
            let Self {
                entries,
                topics,
                groups,
                processes,
                replicas,
                ..
            } = self;
            entries.pack(|entries, from, to| {
                topics.rename(to, entries);
                groups.rename(from, to, entries);
                let (index, counter) = (entries[to].replica(), entries[to].counter());
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
        if self.removals.is_empty() {
            self.removals.shrink_to_fit();
        }
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
        slot: Slot,
        (text, key): (Box<str>, KeyTag),
        hash: u32,
        first: Option<Handle>,
    ) -> Handle {
        let (topic, index, counter) = (slot.topic, slot.replica(), slot.counter());
        let handle = self.entries.insert(slot);
        self.entries[handle].hash = hash;
        let record = Record::new(text, key, handle, index);
        self.topics.push(topic, record, &mut self.entries);
        self.groups.insert(first, handle, &mut self.entries);
        if index == OWN {
            self.processes.insert(handle, &mut self.entries);
        }
        self.at_mut(index).present.insert(counter, handle);
        handle
    }

    /// Takes an entry, whose dot is no longer present, out of everything else.
    fn detach(&mut self, handle: Handle) -> Left {
        self.groups.remove(handle, &mut self.entries);
        let slot = &self.entries[handle];
        let (pid, index, counter) = (slot.pid, slot.replica(), slot.counter());
        if index == OWN {
            self.processes.remove(handle, &mut self.entries);
        }
        let (topic, record) = self.topics.take(handle, &mut self.entries);
        self.entries.remove(handle);
        Left {
            topic,
            pid,
            replica: self.at(index).id.clone(),
            counter,
            payload: record.into_payload(),
        }
    }

    /// Gives an entry a later dot and another meta.
    fn replace(&mut self, handle: Handle, counter: u64, (text, key): (Box<str>, KeyTag)) -> Left {
        let slot = &mut self.entries[handle];
        let (pid, index, before) = (slot.pid, slot.replica(), slot.counter());
        slot.move_to(index, counter);
        let present = &mut self.at_mut(index).present;
        present.remove(before);
        present.insert(counter, handle);
        let record = Record::new(text, key, handle, index);
        let (topic, record) = self.topics.replace(record, &self.entries);
        Left {
            topic,
            pid,
            replica: self.at(index).id.clone(),
            counter: before,
            payload: record.into_payload(),
        }
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

    fn is_listed(&self, index: ReplicaIndex) -> bool {
        self.down == 0 || self.at(index).status == Status::Up
    }

    fn lend<'a>(&'a self, topic: &'a Arc<str>, record: &'a Record) -> Entry<'a> {
        let slot = &self.entries[record.handle];
        Entry {
            topic,
            pid: slot.pid,
            key: record.key(),
            meta: record.meta(),
            replica: &self.at(record.replica).id,
            counter: slot.counter(),
        }
    }

    fn lend_all<'a>(&'a self, topic: &'a topics::Topic) -> impl Iterator<Item = Entry<'a>> {
        topic
            .records
            .iter()
            .filter(|record| self.is_listed(record.replica))
            .map(|record| self.lend(&topic.name, record))
    }
}

/// One part of a delta on its way into the set.
struct Merge<'a> {
    index: ReplicaIndex,
    part: &'a Part,
    /// Where the replica's context will be.
    frontier: u64,
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut entries: Vec<_> = self
            .indices
            .keys()
            .flat_map(|id| self.entries_of(id))
            .collect();
        entries.sort_by(|a, b| (a.topic, a.replica, a.counter).cmp(&(b.topic, b.replica, b.counter)));
        f.debug_struct("Set")
            .field("replica", self.replica())
            .field("clocks", &self.clocks())
            .field("entries", &entries)
            .finish()
    }
}
