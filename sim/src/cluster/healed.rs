//! The invariants that are checked once faults have ended.

use presence_core::set;

use super::node::Node;
use super::{Checked, Cluster, Micros};
use crate::outcome::{Invariant, Traffic};
use crate::truth::Number;

/// Rounds of a time in which nothing is said but that everyone lives.
const IDLE_ROUNDS: u64 = 2;

impl Cluster<'_> {
    /// How long the trackers may take to agree once all faults have ended.
    pub(crate) fn bound(&self) -> Micros {
        let config = &self.config;
        let period = config.broadcast_period.as_micros() as u64;
        let network = &self.schedule.network;
        let trip = network.trip_us();
        let entries = self.truth.tracked() as u64;
        let chunks = entries / config.chunk_values as u64 + 4 * self.nodes.len() as u64;
        let samples = u64::from(config.clock_sample_periods) * 4;
        let periods = u64::from(config.max_silent_periods) + 4 + samples;
        let bound =
            config.down_period.as_micros() as u64 + periods * period + (40 + 2 * chunks) * trip;
        let skew = self
            .nodes
            .iter()
            .map(|node| node.spec.clock_ppm.unsigned_abs())
            .max();
        bound + bound * skew.unwrap_or(0) / 500_000
    }

    /// Whether a node lists what is true of `members`, and what it does not or should not list.
    fn difference(&self, node: usize, members: &[usize]) -> Option<(Number, &'static str)> {
        let lists = &self.nodes[node];
        lists.life.as_ref()?;
        let is_member = |of: usize| members.contains(&of) && self.nodes[of].pool == lists.pool;
        for number in lists.shards().flat_map(|shard| shard.view.numbers()) {
            let presence = self.truth.of(number)?;
            if presence.left.is_some() || !is_member(presence.node) {
                return Some((number, "is listed, and is not there"));
            }
        }
        for &of in members.iter().filter(|&&of| is_member(of)) {
            let there = self.nodes[of].shards();
            for &number in there.flat_map(|shard| shard.alive.values()) {
                let presence = self.truth.of(number)?;
                let listed = lists.shard(presence.shard);
                if !listed.is_some_and(|shard| shard.view.has(&presence.topic, number)) {
                    return Some((number, "is there, and is not listed"));
                }
            }
        }
        None
    }

    /// All of `members` that live list the same: who is there on any of them.
    pub(crate) fn check_agreement(&self, members: &[usize]) -> Checked {
        for &node in members {
            if let Some((number, what)) = self.difference(node, members) {
                return Err(self.failure_of(Invariant::Convergence, node, number, what));
            }
        }
        Ok(())
    }

    /// Whether all list the same now.
    pub(crate) fn agree(&mut self) -> bool {
        // Judged again only when something has changed that it looks at.
        let changes = self.changes + self.truth.changes();
        if let Some((then, agreed)) = self.agreed
            && then == changes
        {
            return agreed;
        }
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        let agreed = all
            .iter()
            .all(|&node| self.difference(node, &all).is_none());
        self.agreed = Some((changes, agreed));
        agreed
    }

    /// How long the time is for which [`check_idle`](Self::check_idle) counts.
    pub(crate) fn idle_time(&self) -> Micros {
        let every = u64::from(self.config.max_silent_periods) + 1;
        IDLE_ROUNDS * every * self.config.broadcast_period.as_micros() as u64
    }

    /// Once all agree nothing is said but that everyone lives, and nothing is kept that is not needed.
    /// `before` is what had been sent at the beginning of that time.
    pub(crate) fn check_idle(&self, before: Traffic) -> Checked {
        let shards = self.nodes.iter().flat_map(Node::shards).count() as u64;
        let others = self.nodes.len() as u64 - 1;
        let (deltas, transfers) = (
            self.traffic.deltas - before.deltas,
            self.traffic.transfers - before.transfers,
        );
        let sent = self.traffic.total() - before.total();
        // A clock that is fast by half speaks half as often again.
        let most = shards * others * (IDLE_ROUNDS * 3 / 2 + 1);
        if deltas + transfers > 0 || sent > most {
            let what = format!(
                "in {IDLE_ROUNDS} idle rounds {sent} messages were sent, {transfers} of transfers and \
                 {deltas} deltas; {most} words of life would do"
            );
            return Err(self.failure(Invariant::IdleTraffic, 0, what));
        }
        for (node, of_node) in self.nodes.iter().enumerate() {
            for shard in of_node.shards() {
                let set = shard.tracker.set();
                let up = |&(_, status): &(_, set::Status)| status == set::Status::Up;
                for (replica, _) in set.replicas().filter(up) {
                    if set.cloud(replica).is_some_and(|cloud| !cloud.is_empty()) {
                        let what = format!("the cloud of {replica} is {:?}", set.cloud(replica));
                        return Err(self.failure(Invariant::BoundedMemory, node, what));
                    }
                }
            }
        }
        Ok(())
    }

    /// After how long whoever is gone for good is forgotten. What is forgotten in hours is not waited
    /// for.
    pub(crate) fn forgetting_time(&self) -> Option<Micros> {
        let soon = self.config.permdown_period <= self.config.down_period * 6;
        soon.then(|| self.config.permdown_period.as_micros() as u64 * 3 / 2)
    }

    /// Whoever is gone for good is forgotten.
    pub(crate) fn check_forgotten(&self) -> Checked {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.check_agreement(&all)?;
        for (node, of_node) in self.nodes.iter().enumerate() {
            let living = self.nodes.iter();
            let living = living.filter(|of| of.life.is_some() && of.pool == of_node.pool);
            let living = living.count();
            for shard in of_node.shards() {
                let set = shard.tracker.set();
                let known = set.replicas().count();
                if known != living {
                    let what = format!("{known} replicas are known, {living} live");
                    return Err(self.failure(Invariant::BoundedMemory, node, what));
                }
                let (kept, listed) = (set.len(), shard.view.len());
                if kept != listed {
                    let what = format!("{kept} entries are kept, {listed} are listed");
                    return Err(self.failure(Invariant::BoundedMemory, node, what));
                }
            }
        }
        Ok(())
    }
}
