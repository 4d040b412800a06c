//! Handing over: presences of a node that stops give way to those of the same key elsewhere.
//!
//! A user who goes on from a stopping node to another is listed once all the time: each presence that
//! joins takes the place of one of its key on a stopping replica, in one diff. What was handed over
//! never comes back, since the life that it was of ends.
//!
//! The node that stops hands over too, for the clients that it still has, and whoever asks it for what is
//! missing is told of that as of any leave: where what came instead is heard later, the user is away from
//! that list meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Tracker;
use crate::clock::ReplicaId;
use crate::entry::{Entry, Key, Left, Pid};
use crate::presence::KeyBuf;
use crate::set::Diff;

impl Tracker {
    /// Whether a replica's presences give way to others of the same key.
    fn hands_over(&self, replica: &ReplicaId) -> bool {
        if replica == self.replica() {
            return self.stopping.is_some() && self.config.handover;
        }
        let peer = self.peers.get(replica.name());
        peer.is_some_and(|peer| peer.replica == *replica && peer.stopping == Some(true))
    }

    fn any_hands_over(&self) -> bool {
        self.hands_over(self.replica())
            || self.peers.values().any(|peer| peer.stopping == Some(true))
    }

    /// What has joined in a merge, or as its replica arrived, and may take the place of presences of
    /// stopping replicas.
    pub(super) fn joined_while_any_hands_over(&self, merged: &Diff) -> Vec<(Arc<str>, KeyBuf)> {
        if !self.any_hands_over() {
            return Vec::new();
        }
        let leaves = merged.leaves.iter().map(Left::entry);
        let updated: BTreeSet<_> = leaves.map(|left| presence_of(&left)).collect();
        merged
            .joins
            .iter()
            .filter(|&&handle| self.set.lists(handle))
            .map(|&handle| self.set.entry(handle))
            .filter(|entry| {
                !self.hands_over(entry.replica) && !updated.contains(&presence_of(entry))
            })
            .map(|entry| (Arc::clone(entry.topic), entry.key.into()))
            .collect()
    }

    /// Lets a presence that has just joined take the place of one of the same key on a stopping replica:
    /// of the earliest, so that all who know the same do the same. Whether there was one.
    pub(super) fn hand_over(&mut self, topic: &str, key: Key<'_>) -> bool {
        if !self.any_hands_over() {
            return false;
        }
        let entries = self.set.list_key(topic, key);
        let stopping = entries.filter(|entry| self.hands_over(entry.replica));
        let Some((dot, pid)) = stopping.map(|entry| (entry.dot(), entry.pid)).min() else {
            return false;
        };
        let left = if dot.replica == *self.replica() {
            self.set.leave(topic, pid, key)
        } else {
            self.set.expel(&dot)
        };
        let Some(left) = left else {
            return false;
        };
        self.stats.handed_over += 1;
        if left.listed {
            self.changes.leave(left);
        }
        true
    }
}

/// What stays the same when a presence is updated.
fn presence_of<'a>(entry: &Entry<'a>) -> (&'a ReplicaId, Pid, &'a str, Key<'a>) {
    (entry.replica, entry.pid, entry.topic, entry.key)
}
