//! Dots of one replica as intervals.
//!
//! A causal context covers a prefix of a replica's dots; what is known beyond it is its *dot cloud*.
//! Changes come in runs, so a cloud is kept as sorted intervals that neither overlap nor touch:
//! a lost message costs one interval, whatever the number of changes that came after it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The counters `first..=last` of one replica.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// The lowest counter.
    pub first: u64,
    /// The highest counter, not below `first`.
    pub last: u64,
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}..={}", self.first, self.last)
        }
    }
}

/// A set of dots of one replica.
///
/// Adding above all that is there costs O(1), anywhere else O(log k + moved) for k intervals.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Cloud {
    // Ascending, disjoint, and with at least one missing counter between neighbours.
    intervals: Vec<Interval>,
}

impl Cloud {
    /// The empty cloud.
    pub const fn new() -> Self {
        Self {
            intervals: Vec::new(),
        }
    }

    /// Whether `counter` is in the cloud.
    pub fn contains(&self, counter: u64) -> bool {
        self.intervals
            .get(self.not_before(counter))
            .is_some_and(|interval| interval.first <= counter)
    }

    /// Adds the counter of one dot.
    pub fn insert(&mut self, counter: u64) {
        self.insert_interval(Interval {
            first: counter,
            last: counter,
        });
    }

    /// Adds every counter of `interval`.
    pub fn insert_interval(&mut self, interval: Interval) {
        debug_assert!(interval.first <= interval.last);
        // Everything from `from` to `to` overlaps or touches, and becomes one.
        let from = self.not_before(interval.first.saturating_sub(1));
        let touching = self.intervals[from..]
            .iter()
            .take_while(|other| other.first <= interval.last.saturating_add(1))
            .count();
        let to = from + touching;
        if touching == 0 {
            self.intervals.insert(from, interval);
        } else {
            self.intervals[from] = Interval {
                first: interval.first.min(self.intervals[from].first),
                last: interval.last.max(self.intervals[to - 1].last),
            };
            self.intervals.drain(from + 1..to);
        }
    }

    /// Adds every counter of `other`. Costs O(k) for the k intervals of both.
    pub fn union(&mut self, other: &Self) {
        let mut union = Self {
            intervals: Vec::with_capacity(self.intervals.len() + other.intervals.len()),
        };
        let mut one = self.intervals.iter().peekable();
        let mut two = other.intervals.iter().peekable();
        while let Some(&interval) = match (one.peek(), two.peek()) {
            (Some(a), Some(b)) if a.first > b.first => two.next(),
            (Some(_), _) => one.next(),
            (None, _) => two.next(),
        } {
            // Ascending, so that each is added at the end.
            union.insert_interval(interval);
        }
        *self = union;
    }

    /// Forgets every counter up to and with `counter`, once the context covers them.
    pub fn remove_through(&mut self, counter: u64) {
        let covered = self
            .intervals
            .partition_point(|interval| interval.last <= counter);
        self.intervals.drain(..covered);
        if let Some(first) = self.intervals.first_mut() {
            first.first = first.first.max(counter + 1);
        }
    }

    /// The intervals, ascending.
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// How many dots are in the cloud.
    pub fn dots(&self) -> u64 {
        self.intervals
            .iter()
            .map(|interval| interval.last - interval.first + 1)
            .sum()
    }

    /// The highest counter.
    pub fn last(&self) -> Option<u64> {
        self.intervals.last().map(|interval| interval.last)
    }

    /// Whether no dot is in the cloud.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// The index of the first interval that does not end before `counter`.
    pub(crate) fn not_before(&self, counter: u64) -> usize {
        // Most clouds are read and grown at their end.
        match self.intervals.last() {
            Some(last) if last.last < counter => self.intervals.len(),
            _ => self
                .intervals
                .partition_point(|interval| interval.last < counter),
        }
    }
}

impl FromIterator<Interval> for Cloud {
    fn from_iter<I: IntoIterator<Item = Interval>>(iter: I) -> Self {
        let mut cloud = Self::new();
        for interval in iter {
            cloud.insert_interval(interval);
        }
        cloud
    }
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.intervals).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn cloud(intervals: &[(u64, u64)]) -> Cloud {
        intervals
            .iter()
            .map(|&(first, last)| Interval { first, last })
            .collect()
    }

    #[test]
    fn neighbours_become_one_interval() {
        let mut dots = cloud(&[(1, 2), (4, 4)]);
        assert_eq!(dots.intervals().len(), 2);
        dots.insert(3);
        assert_eq!(dots, cloud(&[(1, 4)]));
        assert_eq!(dots.intervals().len(), 1);
        assert_eq!(dots.dots(), 4);
    }

    #[test]
    fn an_interval_swallows_those_it_covers() {
        let mut dots = cloud(&[(2, 3), (5, 6), (8, 9), (20, 21)]);
        dots.insert_interval(Interval { first: 4, last: 12 });
        assert_eq!(dots, cloud(&[(2, 12), (20, 21)]));
        assert_eq!(dots.last(), Some(21));
    }

    #[test]
    fn what_the_context_covers_is_forgotten_and_no_more() {
        let mut dots = cloud(&[(2, 3), (5, 9)]);
        dots.remove_through(6);
        assert_eq!(dots, cloud(&[(7, 9)]));
        dots.remove_through(9);
        assert!(dots.is_empty());
        assert_eq!(dots.last(), None);
    }

    #[test]
    fn the_largest_counters_do_not_overflow() {
        let mut dots = cloud(&[(u64::MAX, u64::MAX)]);
        dots.insert(u64::MAX - 1);
        dots.insert(0);
        assert!(dots.contains(u64::MAX) && dots.contains(0) && !dots.contains(1));
    }

    proptest! {
        #[test]
        fn a_cloud_is_a_set_of_counters(
            ops in prop::collection::vec((0..3_u8, 0..40_u64, 0..6_u64), 0..40)
        ) {
            let mut dots = Cloud::new();
            let mut model = BTreeSet::new();
            for (op, first, more) in ops {
                let last = first + more;
                match op {
                    0 => {
                        dots.insert(first);
                        model.insert(first);
                    }
                    1 => {
                        dots.insert_interval(Interval { first, last });
                        model.extend(first..=last);
                    }
                    _ => {
                        dots.remove_through(first);
                        model.retain(|&counter| counter > first);
                    }
                }
                let kept: BTreeSet<u64> = dots
                    .intervals()
                    .iter()
                    .flat_map(|interval| interval.first..=interval.last)
                    .collect();
                prop_assert_eq!(&kept, &model);
                prop_assert_eq!(dots.dots(), model.len() as u64);
                prop_assert_eq!(dots.last(), model.last().copied());
                for counter in 0..50 {
                    prop_assert_eq!(dots.contains(counter), model.contains(&counter));
                }
                for pair in dots.intervals().windows(2) {
                    prop_assert!(pair[0].last + 1 < pair[1].first, "touching: {:?}", dots);
                }
            }
        }

        #[test]
        fn a_union_holds_what_either_holds(
            one in prop::collection::vec(0..60_u64, 0..20),
            two in prop::collection::vec(0..60_u64, 0..20),
        ) {
            let of = |counters: &[u64]| {
                let mut cloud = Cloud::new();
                counters.iter().for_each(|&counter| cloud.insert(counter));
                cloud
            };
            let mut union = of(&one);
            union.union(&of(&two));
            prop_assert_eq!(union, of(&[one, two].concat()));
        }
    }
}
