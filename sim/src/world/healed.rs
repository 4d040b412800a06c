//! The invariants that are checked once faults have ended.

use presence_core::set;

use super::node::Life;
use super::{Checked, Invariant, Micros, World};
use crate::truth::Number;

impl World<'_> {
    /// How long a cluster may take to agree once all faults have ended.
    pub(super) fn bound(&self) -> Micros {
        let config = &self.config;
        let period = config.broadcast_period.as_micros() as u64;
        let network = &self.schedule.network;
        let trip = network.latency_us + network.jitter_us;
        let entries = u64::from(self.truth.next_number());
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
        let life = self.nodes[node].life.as_ref()?;
        let is_member =
            |of: usize| members.contains(&of) && self.nodes[of].pool == self.nodes[node].pool;
        for shard in &life.shards {
            for number in shard.view.numbers() {
                let presence = self.truth.of(number)?;
                if presence.left.is_some() || !is_member(presence.node) {
                    return Some((number, "is listed, and is not there"));
                }
            }
        }
        for &of in members.iter().filter(|&&of| is_member(of)) {
            let there: Option<&Life> = self.nodes[of].life.as_ref();
            for &number in there.into_iter().flat_map(|life| life.alive.values()) {
                let presence = self.truth.of(number)?;
                if !life.shards[presence.shard]
                    .view
                    .has(&presence.topic, number)
                {
                    return Some((number, "is there, and is not listed"));
                }
            }
        }
        None
    }

    fn check_agreement(&self, members: &[usize]) -> Checked {
        for &node in members {
            if let Some((number, what)) = self.difference(node, members) {
                return Err(self.failure_of(Invariant::Convergence, node, number, what));
            }
        }
        Ok(())
    }

    /// A part of the cluster that healed first agrees on who is there in that part.
    pub(super) fn check_part(&self) -> Checked {
        let part: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| {
                self.schedule
                    .heal_first
                    .contains(&self.nodes[node].spec.name)
            })
            .collect();
        self.check_agreement(&part)
    }

    /// All agree within the bound; notes after how long they did.
    pub(super) fn run_until_converged(&mut self, healed: Micros) -> Checked {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        let end = healed + self.bound();
        let step = (self.config.broadcast_period.as_micros() as u64 / 4).max(1);
        let mut judged = None;
        while self.now < end {
            // Judged again only when something has changed that it looks at.
            let changes = self.changes + self.truth.changes();
            let agreed = match judged {
                Some((then, agreed)) if then == changes => agreed,
                _ => {
                    let agrees = |&node: &usize| self.difference(node, &all).is_none();
                    all.iter().all(agrees)
                }
            };
            judged = Some((changes, agreed));
            if agreed {
                self.converged_after.get_or_insert(self.now - healed);
            } else {
                self.converged_after = None;
            }
            let next = (self.now + step).min(end);
            self.run_until(next)?;
        }
        self.check_agreement(&all)?;
        self.converged_after.get_or_insert(self.now - healed);
        let now = self.now as f64 / 1e6;
        self.log_all(|| format!("at {now:.3} s all agree"));
        Ok(())
    }

    /// Once all agree nothing is said but that everyone lives, and nothing is kept that is not needed.
    pub(super) fn check_idle(&mut self) -> Checked {
        let before = self.traffic;
        let rounds = 2;
        let every = u64::from(self.config.max_silent_periods) + 1;
        let period = self.config.broadcast_period.as_micros() as u64;
        self.run_until(self.now + rounds * every * period)?;
        let shards: u64 = self
            .nodes
            .iter()
            .filter(|node| node.life.is_some())
            .map(|node| node.pool as u64)
            .sum();
        let others = self.nodes.len() as u64 - 1;
        let (deltas, transfers) = (
            self.traffic.deltas - before.deltas,
            self.traffic.transfers - before.transfers,
        );
        let sent = self.traffic.total() - before.total();
        // A clock that is fast by half speaks half as often again.
        let most = shards * others * (rounds * 3 / 2 + 1);
        if deltas + transfers > 0 || sent > most {
            let what = format!(
                "in {rounds} idle rounds {sent} messages were sent, {transfers} of transfers and {deltas} \
                 deltas; {most} words of life would do"
            );
            return Err(self.failure(Invariant::IdleTraffic, 0, what));
        }
        for node in 0..self.nodes.len() {
            let Some(life) = &self.nodes[node].life else {
                continue;
            };
            for shard in &life.shards {
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

    /// Whoever is gone for good is forgotten after permdown_period.
    pub(super) fn check_forgotten(&mut self) -> Checked {
        let end = self.now + self.config.permdown_period.as_micros() as u64 * 3 / 2;
        // What is forgotten in hours is not waited for.
        if self.config.permdown_period > self.config.down_period * 6 {
            return Ok(());
        }
        self.run_until(end)?;
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.check_agreement(&all)?;
        for node in 0..self.nodes.len() {
            let Some(life) = &self.nodes[node].life else {
                continue;
            };
            let living = |of: &&super::Node| of.life.is_some() && of.pool == self.nodes[node].pool;
            let living = self.nodes.iter().filter(living).count();
            for shard in &life.shards {
                let set = shard.tracker.set();
                let known = set.replicas().count();
                if known != living {
                    let what = format!("{known} replicas are known, {living} live");
                    return Err(self.failure(Invariant::BoundedMemory, node, what));
                }
                if set.len() != shard.view.len() {
                    let what = format!(
                        "{} entries are kept, {} are listed",
                        set.len(),
                        shard.view.len()
                    );
                    return Err(self.failure(Invariant::BoundedMemory, node, what));
                }
            }
        }
        Ok(())
    }
}
