//! Leaves that are told in great numbers: they take place step by step.

use super::entries::ReplicaIndex;
use super::replicas::Replica;
use super::{Diff, Set};
use crate::cloud::{Cloud, Interval};
use crate::delta::Part;

/// Gone dots that were told and are removed in the [steps](super::steps) to come, the lowest first.
///
/// Until then they are neither seen nor does what they brought leave, but what they would bring is not
/// added any more. That is sound at each step, since the dot that counts a leave is higher than the dot
/// that left.
#[derive(Default)]
pub(super) struct Leaving {
    gone: Cloud,
    /// Those up to here have been removed. (To take them out of the cloud would move all the others.)
    removed: u64,
    /// Up to where everything will have been seen.
    pub(super) known: u64,
}

impl Leaving {
    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty()
    }

    /// Whether a dot is to be removed, or was.
    pub(super) fn contains(&self, counter: u64) -> bool {
        self.gone.contains(counter)
    }

    pub(super) fn intervals(&self) -> &[Interval] {
        &self.gone.intervals()[self.gone.not_before(self.removed + 1)..]
    }

    pub(super) fn add(&mut self, gone: &Cloud) {
        self.gone.remove_through(self.removed);
        self.removed = 0;
        if self.gone.is_empty() {
            self.gone = gone.clone();
        } else {
            self.gone.union(gone);
        }
    }

    /// The next to be removed.
    pub(super) fn next(&self) -> Option<Interval> {
        let &Interval { first, last } = self.intervals().first()?;
        let first = first.max(self.removed + 1);
        Some(Interval { first, last })
    }

    pub(super) fn remove_through(&mut self, counter: u64) {
        self.removed = counter;
        if self.gone.last() <= Some(counter) {
            *self = Self::default();
        }
    }
}

impl Set {
    /// Whether the gone dots of a part make more than about `limit` changes, and there is room to keep
    /// them for later.
    pub(super) fn leaves_later(&self, replica: &Replica, part: &Part, limit: usize) -> bool {
        let gone = part.gone.intervals();
        let kept = replica.leaving.intervals().len();
        let has_room = kept == 0 || kept + gone.len() <= self.limits.cloud_intervals;
        let dots = part.gone.dots();
        let is_long = || {
            let of = |interval: &Interval| replica.present.within(*interval);
            gone.len() > limit || gone.iter().flat_map(of).nth(limit).is_some()
        };
        has_room && usize::try_from(dots).is_ok_and(|dots| dots > limit) && is_long()
    }

    /// Keeps gone dots of a replica for the steps to come.
    pub(super) fn leave_later(&mut self, index: ReplicaIndex, gone: &Cloud) {
        self.begin_steps(index);
        self.at_mut(index).leaving.add(gone);
    }

    /// Removes entries that were told to be gone.
    pub(super) fn leave_some(
        &mut self,
        index: ReplicaIndex,
        room: &mut usize,
        diff: &mut Diff,
    ) -> bool {
        let replica = self.at_mut(index);
        if replica.leaving.is_empty() {
            return true;
        }
        let mut leaving = Vec::new();
        while *room > 0
            && let Some(mut interval) = replica.leaving.next()
        {
            if let Some((beyond, _)) = replica.present.within(interval).nth(*room) {
                interval.last = beyond - 1;
            }
            let before = leaving.len();
            let taken = |counter, handle| leaving.push((counter, handle));
            replica.present.take(interval, taken);
            *room = room.saturating_sub(1 + leaving.len() - before);
            replica.leaving.remove_through(interval.last);
            if interval.last > replica.context {
                replica.cloud.insert_interval(interval);
            }
        }
        let cloud = replica.cloud.intervals();
        replica.context = replica.frontier(replica.context, &[], [cloud]);
        replica.cloud.remove_through(replica.context);
        let is_through = replica.leaving.is_empty();
        self.detach_all(index, &leaving, diff);
        is_through
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge::tests::{delta, id, listener, merge};
    use super::*;
    use crate::delta::Builder;
    use crate::set::Limits;

    /// A listener of so many presences.
    fn holding(presences: u64, limits: Limits) -> Set {
        let mut set = listener(limits);
        let values: Vec<_> = (1..=presences).map(|counter| (counter, counter)).collect();
        merge(&mut set, &delta(&values, &[]));
        set
    }

    /// A listener of six presences that has been told that all have left, two in each step.
    fn leaving() -> Set {
        let mut set = holding(6, Limits::default());
        let mut diff = Diff::new();
        let gone = delta(&[], &[(1, 12)]);
        set.merge_in_steps(&gone, 2, &mut diff).unwrap();
        assert!(diff.leaves.is_empty() && set.is_turning());
        set
    }

    fn step(set: &mut Set) -> Vec<u64> {
        let mut diff = Diff::new();
        assert!(set.step(2, &mut diff).is_empty() && diff.joins.is_empty());
        diff.leaves
            .iter()
            .map(|left| left.entry().counter)
            .collect()
    }

    #[test]
    fn many_leave_step_by_step_and_what_comes_meanwhile_is_merged() {
        let mut set = leaving();
        let a = id("a");
        assert_eq!(step(&mut set), [1, 2]);
        assert_eq!(
            (set.counter(&a), set.counter_after_steps(&a)),
            (Some(6), Some(12))
        );
        // Of what was told to be gone nothing joins, and what left already stays away.
        let late = delta(&[(2, 2), (8, 8), (13, 3), (14, 9)], &[]);
        assert_eq!(merge(&mut set, &late), (vec![14, 13], vec![3]));
        assert_eq!(step(&mut set), [4, 5]);
        assert_eq!(step(&mut set), [6]);
        assert!(!set.is_turning());
        assert_eq!(set.counter(&a), Some(14));
        assert!(set.cloud(&a).unwrap().is_empty());
        assert_eq!(set.count("t"), 2);
    }

    /// Guards against: an answer that is asked for again although nothing is missing.
    #[test]
    fn a_closing_part_may_rest_on_what_is_yet_to_leave() {
        let mut set = leaving();
        let mut builder = Builder::new(1);
        builder.part(id("a"), 13, true);
        builder.gone(Interval {
            first: 13,
            last: 13,
        });
        let closing = builder.finish();
        let mut diff = Diff::new();
        set.merge_in_steps(&closing, 2, &mut diff).unwrap();
        assert_eq!(diff.deferred, 0);
        while set.is_turning() {
            step(&mut set);
        }
        assert_eq!((set.counter(&id("a")), set.len()), (Some(13), 0));
    }

    #[test]
    fn what_is_yet_to_leave_stays_within_the_limit_of_the_cloud() {
        let limits = Limits {
            cloud_intervals: 2,
            ..Limits::default()
        };
        let mut set = holding(12, limits);
        let mut leave = |gone: &[(u64, u64)]| {
            let mut diff = Diff::new();
            let gone = delta(&[], gone);
            set.merge_in_steps(&gone, 2, &mut diff).unwrap();
            diff.leaves.len()
        };
        assert_eq!(leave(&[(1, 3)]), 0);
        assert_eq!(leave(&[(10, 12)]), 0, "there is room for one more interval");
        assert_eq!(leave(&[(5, 7)]), 3, "and for no third");
        let left: Vec<_> =
            std::iter::from_fn(|| set.is_turning().then(|| step(&mut set))).collect();
        assert_eq!(left, [vec![1, 2], vec![3], vec![10, 11], vec![12]]);
        assert_eq!((set.counter(&id("a")), set.len()), (Some(12), 3));
    }

    #[test]
    fn a_replica_that_is_forgotten_has_nothing_left_to_do() {
        let mut set = leaving();
        assert_eq!(set.remove(&id("a")).len(), 6);
        assert!(!set.is_turning());
        let mut set = leaving();
        set.dismiss(&id("a"));
        let mut left = 0;
        while set.is_turning() {
            left += step(&mut set).len();
        }
        assert_eq!((left, set.len(), set.counter(&id("a"))), (6, 0, None));
        let mut set = leaving();
        assert!(
            set.down(&id("a")) && set.is_turning(),
            "they leave all the same"
        );
        let mut diff = Diff::new();
        set.step(9, &mut diff);
        assert!(diff.leaves.len() == 6 && diff.leaves.iter().all(|left| !left.listed));
        assert!(!set.is_turning());
    }
}
