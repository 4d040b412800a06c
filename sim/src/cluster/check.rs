//! What lists must be, after whatever happens to a shard.

use std::sync::Arc;

use super::{Checked, Cluster};
use crate::outcome::Invariant;
use crate::truth::{Number, number_of};

impl Cluster<'_> {
    /// The list of a topic is what the diffs say.
    pub(crate) fn check_topic(&self, node: usize, shard: usize, topic: &str) -> Checked {
        let Some(of_shard) = self.shard(node, shard) else {
            return Ok(());
        };
        let mut listed = 0;
        let has = of_shard.view.list(topic);
        for entry in of_shard.tracker.set().list(topic) {
            let number = number_of(entry.meta);
            listed += 1;
            if !has(number) {
                let what = "is listed, and no diff has told of it";
                return Err(self.failure_of(Invariant::DiffsAreTheTruth, node, number, what));
            }
        }
        let told_len = of_shard.view.len_of(topic);
        if listed != told_len {
            let what =
                format!("topic {topic} lists {listed} presences, the diffs come to {told_len}");
            return Err(self.failure(Invariant::DiffsAreTheTruth, node, what));
        }
        Ok(())
    }

    /// All lists of a shard are what its diffs say, and of its own presences what is true.
    pub(super) fn check_list(&self, node: usize, shard: usize) -> Checked {
        let Some(of_shard) = self.shard(node, shard) else {
            return Ok(());
        };
        let set = of_shard.tracker.set();
        let (mut listed, mut own) = (0, 0);
        let replica = of_shard.tracker.replica();
        // Neighbours in the list share their topic and mostly their replica.
        let (mut topic, mut from): (Option<&Arc<str>>, _) = (None, replica);
        let (mut has, mut is_own) = (of_shard.view.list(""), true);
        for entry in set.list_all() {
            let number = number_of(entry.meta);
            listed += 1;
            if !topic.is_some_and(|topic| Arc::ptr_eq(topic, entry.topic)) {
                topic = Some(entry.topic);
                has = of_shard.view.list(entry.topic);
            }
            if !std::ptr::eq(entry.replica, from) {
                from = entry.replica;
                is_own = from == replica;
            }
            if !has(number) {
                let what = "is listed, and no diff has told of it";
                return Err(self.failure_of(Invariant::DiffsAreTheTruth, node, number, what));
            }
            if is_own {
                own += 1;
                if !of_shard.stopping && !self.truth.is_alive(number) {
                    let what = "is listed on its own node, where it is not any more";
                    return Err(self.failure_of(Invariant::OwnPresences, node, number, what));
                }
            }
        }
        if listed != of_shard.view.len() {
            let told = of_shard.view.len();
            let what = format!("{listed} presences are listed, the diffs come to {told}");
            return Err(self.failure(Invariant::DiffsAreTheTruth, node, what));
        }
        let alive = of_shard.alive.len();
        if !of_shard.stopping && own != alive {
            let what = format!("{own} of its own presences are listed, {alive} are there");
            return Err(self.failure(Invariant::OwnPresences, node, what));
        }
        Ok(())
    }

    /// What was just tracked is listed.
    pub(super) fn check_own(&self, node: usize, shard: usize, number: Number) -> Checked {
        let (Some(of_shard), Some(presence)) = (self.shard(node, shard), self.truth.of(number))
        else {
            return Ok(());
        };
        let set = of_shard.tracker.set();
        let mut entries = set.list_key(&presence.topic, presence.key.as_key());
        if entries.any(|entry| number_of(entry.meta) == number) {
            return Ok(());
        }
        let what = "was tracked here, and is not listed";
        Err(self.failure_of(Invariant::OwnPresences, node, number, what))
    }

    /// Whoever was silent for longer than promised is not listed.
    pub(super) fn check_promises(&self, node: usize, shard: usize) -> Checked {
        let Some(of_shard) = self.shard(node, shard) else {
            return Ok(());
        };
        let limit = self.config.down_period + self.config.broadcast_period * 2;
        let silence = |of: usize| {
            let last = of_shard.heard[of].last.unwrap_or(of_shard.began);
            of_shard.local.saturating_sub(last)
        };
        if (0..self.nodes.len()).all(|of| of == node || silence(of) <= limit) {
            return Ok(());
        }
        for number in of_shard.view.numbers() {
            let Some(presence) = self.truth.of(number).filter(|p| p.node != node) else {
                continue;
            };
            let silence = silence(presence.node);
            if silence > limit {
                let what = format!(
                    "is listed although its node was not heard for {:.3} s; down_period is {:.3} s",
                    silence.as_secs_f64(),
                    self.config.down_period.as_secs_f64()
                );
                return Err(self.failure_of(Invariant::DownInTime, node, number, what));
            }
        }
        Ok(())
    }
}
