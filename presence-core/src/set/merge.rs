//! Merging a delta.

use super::entries::{Handle, ReplicaIndex};
use super::limits::TooLong;
use super::replicas::Replica;
use super::topics::Record;
use super::warm;
use super::{OWN, Set};
use crate::clock::{Dot, ReplicaId};
use crate::cloud::Cloud;
use crate::delta::{Delta, Part, Value};
use crate::entry::{Key, Left};

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
    /// Dots that gave way to a later one of the same presence, not by word of their replica but
    /// because both arrived.
    pub superseded: usize,
}

impl Diff {
    /// A diff without changes.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn clear(&mut self) {
        self.joins.clear();
        self.leaves.clear();
        self.unknown = 0;
        self.deferred = 0;
        self.superseded = 0;
    }
}

/// One part of a delta on its way into the set.
struct Merge<'a> {
    index: ReplicaIndex,
    part: &'a Part,
    /// Whether its gone dots are too many for one step.
    is_later: bool,
    /// Where the replica's context will be, gone dots that are left for later steps not counted.
    frontier: u64,
    /// Where it will be after them.
    known: u64,
}

impl Set {
    /// Merges what another replica tells, and says in `diff` what changed.
    ///
    /// The own replica's entries are never touched: only their replica may change them.
    ///
    /// # Errors
    ///
    /// See [`MergeError`]; nothing was merged then.
    pub fn merge(&mut self, delta: &Delta, diff: &mut Diff) -> Result<(), MergeError> {
        self.merge_in_steps(delta, usize::MAX, diff)
    }

    /// As [`merge`](Self::merge), but where more than about `limit` entries of a replica are to leave
    /// they do so in the [steps](Self::step) to come, `limit` in each, and count as seen only then.
    ///
    /// What else the delta says, and what other deltas say meanwhile, is merged at once. An update takes
    /// place at once too: its new value supersedes the old one, which will be gone.
    ///
    /// # Errors
    ///
    /// See [`MergeError`]; nothing was merged then.
    pub fn merge_in_steps(
        &mut self,
        delta: &Delta,
        limit: usize,
        diff: &mut Diff,
    ) -> Result<(), MergeError> {
        diff.clear();
        let plan = self.plan(delta, limit, diff)?;
        // All leaves first, so that no topic goes while the values' topics are looked up.
        for merge in &plan {
            if merge.is_later {
                self.leave_later(merge.index, &merge.part.gone);
            } else {
                self.merge_gone(merge, diff);
            }
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
    fn plan<'a>(
        &self,
        delta: &'a Delta,
        limit: usize,
        diff: &mut Diff,
    ) -> Result<Vec<Merge<'a>>, MergeError> {
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
            let (gone, cloud) = (part.gone.intervals(), replica.cloud.intervals());
            let now = || replica.frontier(replica.context, &part.values, [gone, cloud]);
            let (leaving, known) = (replica.leaving.intervals(), replica.known());
            let known = match leaving {
                [] => now(),
                leaving => replica.frontier(known, &part.values, [gone, cloud, leaving]),
            };
            if part.closing && known < part.through {
                diff.deferred += 1;
                continue;
            }
            let is_later = self.leaves_later(replica, part, limit);
            let frontier = if is_later {
                self.check_cloud(replica, part, known)?;
                replica.frontier(replica.context, &part.values, [cloud])
            } else {
                let frontier = if leaving.is_empty() { known } else { now() };
                self.check_cloud(replica, part, frontier)?;
                frontier
            };
            values += part.values.len();
            plan.push(Merge {
                index,
                part,
                is_later,
                frontier,
                known,
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
        let ahead = part
            .values
            .partition_point(|value| value.counter <= frontier);
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
        self.detach_all(merge.index, &leaving, diff);
    }

    /// Takes entries, whose dots are no longer present, out of everything else.
    pub(super) fn detach_all(
        &mut self,
        index: ReplicaIndex,
        leaving: &[(u64, Handle)],
        diff: &mut Diff,
    ) {
        for leaving in leaving.chunks(warm::CHANGES) {
            if self.entries.len() >= warm::WORTH {
                warm::leaving(leaving, &self.entries, &self.topics, &self.groups);
            }
            for &(counter, handle) in leaving {
                diff.leaves.push(self.detach(handle));
                self.observe(index, counter);
            }
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
                || replica.leaving.contains(counter)
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
            let payload = (text.into(), value.key);
            let record = Record::new(payload, value.pid, (index, value.counter));
            let handle = self.attach((topic, hash), record, first);
            diff.joins.push(handle);
            return;
        };
        diff.superseded += 1;
        let present = self.record(existing).counter();
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
        if !replica.leaving.is_empty() {
            replica.leaving.known = merge.known;
        }
        if merge.is_later {
            return;
        }
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
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cloud::Interval;
    use crate::delta::Builder;
    use crate::entry::{KeyTag, Pid};
    use crate::set::Limits;

    pub(in crate::set) fn id(name: &str) -> ReplicaId {
        ReplicaId::new(name, 1)
    }

    pub(in crate::set) fn listener(limits: Limits) -> Set {
        let mut set = Set::new(id("z"), limits, 1);
        set.up(&id("a")).unwrap();
        set
    }

    /// Values of these counters and pids under one key, and gone dots.
    pub(in crate::set) fn delta(values: &[(u64, u64)], gone: &[(u64, u64)]) -> Delta {
        let mut builder = Builder::new(1);
        builder.part(id("a"), 0, false);
        for &(first, last) in gone {
            builder.gone(Interval { first, last });
        }
        let topic = Arc::from("t");
        for &(counter, pid) in values {
            let key = KeyTag::of(Key::Text("k"));
            builder.value(counter, Pid(pid), &topic, ("k{}", key));
        }
        builder.finish()
    }

    pub(in crate::set) fn merge(set: &mut Set, delta: &Delta) -> (Vec<u64>, Vec<u64>) {
        let mut diff = Diff::new();
        set.merge(delta, &mut diff).unwrap();
        let joins = diff.joins.iter().map(|&handle| set.entry(handle).counter);
        let leaves = diff.leaves.iter().map(|left| left.entry().counter);
        (joins.collect(), leaves.collect())
    }

    /// No set tells two values of one presence at once, but a peer of another make might.
    #[test]
    fn of_two_dots_of_one_presence_in_one_delta_the_older_never_joins() {
        let mut set = listener(Limits::default());
        let both = delta(&[(2, 7), (4, 7)], &[]);
        assert_eq!(merge(&mut set, &both), (vec![4], vec![]));
        let cloud = set.cloud(&id("a")).unwrap();
        assert!(cloud.contains(2) && !cloud.contains(3));
        assert_eq!(merge(&mut set, &both), (vec![], vec![]));
        assert_eq!(
            merge(&mut set, &delta(&[(1, 8)], &[(3, 3)])),
            (vec![1], vec![])
        );
        assert_eq!(set.counter(&id("a")), Some(4));
    }

    #[test]
    fn a_dot_that_was_gone_before_its_value_came_never_joins() {
        let mut set = listener(Limits::default());
        assert_eq!(
            merge(&mut set, &delta(&[], &[(2, 3), (5, 5)])),
            (vec![], vec![])
        );
        let late = delta(&[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)], &[]);
        assert_eq!(merge(&mut set, &late), (vec![6, 4, 1], vec![]));
        assert_eq!(set.counter(&id("a")), Some(6));
        assert!(set.cloud(&id("a")).unwrap().is_empty());
    }

    #[test]
    fn leaves_reach_over_gaps_and_beyond_the_last_that_is_present() {
        let mut set = listener(Limits::default());
        merge(&mut set, &delta(&[(1, 1), (3, 3), (130, 2), (300, 4)], &[]));
        let gone = delta(&[], &[(2, 3), (100, 200), (300, 400), (500, 500)]);
        assert_eq!(merge(&mut set, &gone), (vec![], vec![3, 130, 300]));
        assert_eq!(set.counter(&id("a")), Some(3));
        let ahead: Vec<_> = set.cloud(&id("a")).unwrap().intervals().to_vec();
        let pairs: Vec<_> = ahead.iter().map(|i| (i.first, i.last)).collect();
        assert_eq!(pairs, [(100, 200), (300, 400), (500, 500)]);
        assert_eq!(set.count("t"), 1);
    }

    #[test]
    fn the_limit_of_the_cloud_counts_what_lies_beyond_the_new_context_only() {
        let limits = Limits {
            cloud_intervals: 2,
            ..Limits::default()
        };
        let mut set = listener(limits);
        merge(&mut set, &delta(&[], &[(4, 4), (6, 6)]));
        let mut diff = Diff::new();
        let refused = set.merge(&delta(&[(11, 2)], &[(13, 13)]), &mut diff);
        let error = MergeError::Cloud {
            replica: id("a"),
            intervals: 4,
            max: 2,
        };
        assert_eq!(refused, Err(error));
        // Up to 6 all is known with it, and no longer counts; 11 and 13 do.
        merge(&mut set, &delta(&[(5, 2), (11, 3)], &[(1, 3), (13, 13)]));
        assert_eq!(set.counter(&id("a")), Some(6));
        merge(&mut set, &delta(&[], &[(7, 10)]));
        assert_eq!(set.counter(&id("a")), Some(11));
        merge(&mut set, &delta(&[], &[(12, 12)]));
        assert_eq!(set.counter(&id("a")), Some(13));
    }
}
