//! Planting defects at the boundary of a node.

use std::sync::Arc;
use std::time::Duration;

use presence_core::clock::ReplicaId;
use presence_core::tracker::{To, Tracker};
use presence_core::wire::cluster::{Body, Message};

use super::World;
use crate::sabotage::{Sabotage, Saboteur};

impl World<'_> {
    /// Keeps silent replicas up by words that they never said.
    pub(super) fn forge_words(&mut self, node: usize, shard: usize, local: Duration) {
        let Some(life) = &mut self.nodes[node].life else {
            return;
        };
        let tracker = &mut life.shards[shard].tracker;
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
                    delta: presence_core::delta::Delta::default(),
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
        to: &To,
        message: &mut Message,
    ) -> bool {
        let Some(life) = &mut self.nodes[node].life else {
            return true;
        };
        match &mut message.body {
            Body::Heartbeat { delta, clocks } => {
                let of_shard = &mut life.shards[shard];
                let leaves = delta.gone().any(|(_, gone)| !gone.is_empty());
                if leaves && self.saboteur.acts(Sabotage::LeavesDropped) {
                    delta.spoil_leaves(of_shard.told);
                }
                let own = of_shard.tracker.replica();
                of_shard.told = clocks.counter(own).unwrap_or(0);
                if life.defects.no_clocks {
                    *clocks = presence_core::clock::Context::new();
                }
            }
            Body::TransferReply { delta, .. } => {
                if life.defects.refuses_transfers {
                    return false;
                }
                if self.saboteur.is(Sabotage::OldStateReplayed)
                    && let To::One(to) = to
                {
                    let earlier = life.shards[shard].replies.get(to).cloned();
                    life.shards[shard]
                        .replies
                        .insert(Arc::clone(to), delta.clone());
                    if let Some(earlier) = earlier
                        && self.saboteur.acts(Sabotage::OldStateReplayed)
                    {
                        *delta = earlier;
                    }
                }
            }
            _ => {}
        }
        true
    }
}

/// Plants a defect into what is taken.
pub(super) fn spoil_taken(
    saboteur: &mut Saboteur,
    tracker: &mut Tracker,
    message: &mut Message,
    now: Duration,
) {
    if let Body::TransferReply {
        delta,
        clocks,
        last: last @ false,
        ..
    } = &mut message.body
    {
        if saboteur.acts(Sabotage::ChunkAsWhole) {
            let from = &message.from;
            delta.spoil_whole(from, clocks.counter(from).unwrap_or(0));
            *last = true;
        }
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
