//! Version vectors and dots: who has seen what.
//!
//! Every change that a replica makes to its own presences takes the next number of its counter.
//! A [`Dot`] names one such change; a [`Context`] says, for each replica, up to which counter all of
//! its changes have been seen.
//!
//! A replica is a node name together with an *incarnation*, since a node that restarts under its old
//! name begins a new counter. Incarnations of one name are ordered, so that a late message of the old
//! self can never evict the new one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The largest counter of a dot.
///
/// 48 bits: at a million changes a second a replica lives for almost nine years. The set refuses the
/// change after it.
pub const MAX_COUNTER: u64 = (1 << 48) - 1;

/// One life of one node: its name and its incarnation.
///
/// Ordered by name, then by incarnation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId {
    name: Arc<str>,
    incarnation: u64,
}

impl ReplicaId {
    /// The `incarnation`-th life of the node `name`.
    ///
    /// The runtime chooses incarnations that grow with every start of the node.
    pub fn new(name: impl Into<Arc<str>>, incarnation: u64) -> Self {
        Self {
            name: name.into(),
            incarnation,
        }
    }

    /// The node's name, which stays the same over restarts.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name, shared rather than lent.
    pub fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// Which life of the node this is.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Whether this is a later life of the same node.
    pub fn supersedes(&self, other: &Self) -> bool {
        self.name == other.name && self.incarnation > other.incarnation
    }

    /// 64 bits that stand for this replica where its name would be too long, as in a `phx_ref`.
    ///
    /// FNV-1a of the name and the incarnation in little-endian bytes, then the finaliser of
    /// splitmix64: the same on every platform. Two of a thousand replicas share one with a
    /// probability of about 3 in 10^14.
    pub fn fingerprint(&self) -> u64 {
        let bytes = self
            .name
            .bytes()
            .chain([0xff])
            .chain(self.incarnation.to_le_bytes());
        let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.incarnation)
    }
}

/// One change of one replica.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// The replica that made the change.
    pub replica: ReplicaId,
    /// The number of the change there, from 1.
    pub counter: u64,
}

impl Dot {
    /// The change `counter` of `replica`.
    pub fn new(replica: ReplicaId, counter: u64) -> Self {
        Self { replica, counter }
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.replica, self.counter)
    }
}

/// A version vector: for each known replica the counter up to which everything was seen.
///
/// A replica that is absent is *unknown*, which differs from one known with counter 0: nothing is
/// accepted from it and nothing is sent to answer for it (`Phoenix.Tracker.State.extract/3` takes the
/// asker's known replicas from its context in the same way). For comparing, absent counts as 0.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    counters: BTreeMap<ReplicaId, u64>,
}

impl Context {
    /// The context that knows nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// The counter of `replica`, or `None` where it is unknown.
    pub fn counter(&self, replica: &ReplicaId) -> Option<u64> {
        self.counters.get(replica).copied()
    }

    /// Whether the change `dot` is covered.
    pub fn contains(&self, dot: &Dot) -> bool {
        self.counter(&dot.replica)
            .is_some_and(|seen| seen >= dot.counter)
    }

    /// Makes `replica` known and raises its counter to at least `counter`.
    pub fn advance(&mut self, replica: ReplicaId, counter: u64) {
        match self.counters.entry(replica) {
            Entry::Vacant(vacant) => {
                vacant.insert(counter);
            }
            Entry::Occupied(mut seen) => {
                let seen = seen.get_mut();
                *seen = counter.max(*seen);
            }
        }
    }

    /// Forgets `replica`; its counter, where it was known.
    pub fn remove(&mut self, replica: &ReplicaId) -> Option<u64> {
        self.counters.remove(replica)
    }

    /// Whether everything that `other` covers is covered here too.
    pub fn dominates(&self, other: &Self) -> bool {
        other
            .iter()
            .all(|(replica, counter)| self.counter(replica).unwrap_or(0) >= counter)
    }

    /// Raises this to the least context that dominates both.
    pub fn join(&mut self, other: &Self) {
        for (replica, counter) in other.iter() {
            self.advance(replica.clone(), counter);
        }
    }

    /// The greatest context that both dominate: of the replicas that both know, the lower counter.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let counters = self
            .iter()
            .filter_map(|(replica, here)| {
                let there = other.counter(replica)?;
                Some((replica.clone(), here.min(there)))
            })
            .collect();
        Self { counters }
    }

    /// The known replicas and their counters, ordered by replica.
    pub fn iter(&self) -> impl Iterator<Item = (&ReplicaId, u64)> {
        self.counters
            .iter()
            .map(|(replica, &counter)| (replica, counter))
    }

    /// How many replicas are known.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether no replica is known.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }
}

impl FromIterator<(ReplicaId, u64)> for Context {
    fn from_iter<I: IntoIterator<Item = (ReplicaId, u64)>>(iter: I) -> Self {
        let mut context = Self::new();
        for (replica, counter) in iter {
            context.advance(replica, counter);
        }
        context
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(counters: &[(&str, u64)]) -> Context {
        counters
            .iter()
            .map(|&(name, counter)| (ReplicaId::new(name, 0), counter))
            .collect()
    }

    #[test]
    fn a_later_incarnation_supersedes_an_earlier_one_of_the_same_name_only() {
        let old = ReplicaId::new("a", 1);
        let new = ReplicaId::new("a", 2);
        assert!(new.supersedes(&old));
        assert!(!old.supersedes(&new));
        assert!(!new.supersedes(&new));
        assert!(!ReplicaId::new("b", 3).supersedes(&old));
    }

    #[test]
    fn fingerprints_are_the_same_on_every_platform_and_differ_by_name_and_incarnation() {
        assert_eq!(ReplicaId::new("a", 1).fingerprint(), 0xebba_170d_0e07_84ff);
        let all: std::collections::BTreeSet<u64> = (0..100)
            .flat_map(|n| [ReplicaId::new("a", n), ReplicaId::new(format!("a{n}"), 0)])
            .map(|id| id.fingerprint())
            .collect();
        assert_eq!(all.len(), 200);
    }

    #[test]
    fn a_context_covers_dots_up_to_its_counter_and_none_of_an_unknown_replica() {
        let seen = context(&[("a", 2)]);
        let dot = |name: &str, counter| Dot::new(ReplicaId::new(name, 0), counter);
        assert!(seen.contains(&dot("a", 2)));
        assert!(!seen.contains(&dot("a", 3)));
        assert!(!seen.contains(&dot("b", 1)));
        assert!(!seen.contains(&dot("b", 0)));
    }

    #[test]
    fn advancing_never_lowers_a_counter() {
        let mut seen = context(&[("a", 5)]);
        seen.advance(ReplicaId::new("a", 0), 3);
        assert_eq!(seen, context(&[("a", 5)]));
        seen.advance(ReplicaId::new("a", 0), 6);
        assert_eq!(seen, context(&[("a", 6)]));
    }

    #[test]
    fn domination_counts_an_unknown_replica_as_zero() {
        assert!(context(&[]).dominates(&context(&[("a", 0)])));
        assert!(!context(&[]).dominates(&context(&[("a", 1)])));
        assert!(context(&[("a", 1), ("b", 2)]).dominates(&context(&[("b", 2)])));
        assert!(!context(&[("a", 1), ("b", 2)]).dominates(&context(&[("b", 3)])));
    }

    #[test]
    fn the_join_dominates_both_and_the_meet_is_dominated_by_both() {
        let one = context(&[("a", 1), ("b", 5)]);
        let two = context(&[("b", 2), ("c", 3)]);
        let mut join = one.clone();
        join.join(&two);
        assert_eq!(join, context(&[("a", 1), ("b", 5), ("c", 3)]));
        assert_eq!(one.meet(&two), context(&[("b", 2)]));
    }

    #[test]
    fn a_removed_replica_is_unknown() {
        let mut seen = context(&[("a", 1)]);
        assert_eq!(seen.remove(&ReplicaId::new("a", 0)), Some(1));
        assert_eq!(seen.counter(&ReplicaId::new("a", 0)), None);
        assert!(seen.is_empty());
    }
}
