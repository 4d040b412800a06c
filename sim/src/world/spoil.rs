//! Planting defects at the boundary of a node.

use std::sync::Arc;
use std::time::Duration;

use presence_core::clock::ReplicaId;
use presence_core::delta::Delta;
use presence_core::tracker::{Tracker, Transmit};
use presence_core::wire::cluster::{Body, Message};

use super::World;
use crate::cluster::{Checked, Told};
use crate::sabotage::spoil::spoil_part;
use crate::sabotage::{Sabotage, Saboteur};

impl World<'_> {
    /// Keeps silent replicas up by words that they never said.
    pub(super) fn forge_words(&mut self, node: usize, shard: usize, local: Duration) {
        let Some(tracker) = self.cluster.tracker_mut(node, shard) else {
            return;
        };
        let up: Vec<_> = tracker
            .replicas()
            .map(|(replica, _)| replica.clone())
            .collect();
        for replica in up {
            if self.saboteur.acts(Sabotage::NeverDown) {
                let clocks = tracker
                    .set()
                    .counter(&replica)
                    .map(|counter| (replica.clone(), counter));
                let body = Body::Heartbeat {
                    delta: Delta::default(),
                    clocks: clocks.into_iter().collect(),
                };
                let name = replica.shared_name();
                let from = replica;
                let _ = tracker.handle_message(&name, Message { from, body }, local);
            }
        }
    }

    /// Plants a defect into what is sent; whether it is sent at all.
    pub(super) fn spoil_sent(
        &mut self,
        node: usize,
        shard: usize,
        transmit: &mut Transmit,
    ) -> bool {
        let Some(process) = &mut self.hosts[node].process else {
            return true;
        };
        let Transmit { to, message } = transmit;
        process.shards[shard]
            .mouth
            .spoil(&mut self.saboteur, to, message)
    }

    /// Plants a defect into what is taken.
    pub(super) fn spoil_taken(
        &mut self,
        node: usize,
        shard: usize,
        message: &mut Message,
        local: Duration,
    ) {
        let (Some(process), Some(tracker)) = (
            &self.hosts[node].process,
            self.cluster.tracker_mut(node, shard),
        ) else {
            return;
        };
        if process.is_reused
            && let Body::Heartbeat { clocks, .. } | Body::TransferReply { clocks, .. } =
                &mut message.body
        {
            clocks.remove(tracker.replica());
        }
        spoil_taken(&mut self.saboteur, tracker, message, local);
    }

    /// A listener on the node is told of a change, or told wrongly.
    pub(super) fn spoil_diff(&mut self, node: usize, shard: usize, told: &Told) -> Checked {
        let updates = !told.joins.is_empty() && !told.leaves.is_empty();
        if self.saboteur.acts(Sabotage::DiffLost) {
            return Ok(());
        }
        if updates && self.saboteur.acts(Sabotage::UpdateSplit) {
            let (topic, joins, leaves) = (&told.topic, &told.joins, &told.leaves);
            for (joins, leaves) in [(Vec::new(), leaves.clone()), (joins.clone(), Vec::new())] {
                let topic = Arc::clone(topic);
                let half = Told {
                    topic,
                    joins,
                    leaves,
                };
                self.cluster.hear_diff(node, shard, &half)?;
            }
            return Ok(());
        }
        if self.saboteur.acts(Sabotage::DiffTwice) {
            self.cluster.hear_diff(node, shard, told)?;
        }
        self.cluster.hear_diff(node, shard, told)
    }
}

fn spoil_taken(
    saboteur: &mut Saboteur,
    tracker: &mut Tracker,
    message: &mut Message,
    now: Duration,
) {
    if spoil_part(saboteur, message) {
        return;
    }
    let known = tracker.status(message.from.name());
    let known = known.map(|(known, _)| known.clone());
    if let Some(known) = known
        && known.supersedes(&message.from)
        && saboteur.acts(Sabotage::OldLifeBelieved)
    {
        // As if any other life took the place of the one that is known.
        let name = known.shared_name();
        message.from = ReplicaId::new(Arc::clone(&name), known.incarnation() + 1);
        let (from, body) = (known, Body::Permdown);
        let _ = tracker.handle_message(&name, Message { from, body }, now);
    }
}
