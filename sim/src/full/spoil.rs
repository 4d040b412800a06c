//! Planting defects: into a node, and into what its trackers send and hear.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use presence_core::clock::ReplicaId;
use presence_core::tracker::To;
use presence_core::wire::cluster::{Body, Message};
use presence_server::sabotage::{Defect, Saboteur};

use super::stage::Stage;
use crate::sabotage::Sabotage;
use crate::sabotage::spoil::{Mouth, spoil_part};

/// Planting defects into what a node's trackers send, by shard.
#[derive(Debug, Default)]
pub(super) struct Mouths(Mutex<BTreeMap<u32, Mouth>>);

impl Mouths {
    /// What is sent in place of a message: nothing, where it is kept back.
    pub(super) fn spoil(
        &self,
        stage: &Stage,
        shard: u32,
        to: &To,
        message: &Message,
    ) -> Option<Message> {
        let mut message = message.clone();
        let mut mouths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mouth = mouths.entry(shard).or_default();
        let is_sent = stage.sabotage(|saboteur| {
            match message.body {
                Body::Heartbeat { .. } => mouth.is_clockless |= saboteur.acts(Sabotage::NoClocks),
                Body::TransferReply { .. } => {
                    mouth.is_mute |= saboteur.acts(Sabotage::TransfersRefused);
                }
                _ => {}
            }
            mouth.spoil(saboteur, to, &mut message)
        });
        is_sent.then_some(message)
    }
}

impl Saboteur for Stage {
    fn acts(&self, defect: Defect) -> bool {
        self.acts(match defect {
            Defect::PresencesKept => Sabotage::PresencesKept,
            Defect::SnapshotLate => Sabotage::SnapshotLate,
            Defect::StateLate => Sabotage::StateLate,
            Defect::BroadcastLost => Sabotage::BroadcastLost,
            Defect::OldConnection => Sabotage::OldConnection,
            Defect::DrainForgets => Sabotage::DrainForgets,
            Defect::OverflowUnhealed => Sabotage::OverflowUnhealed,
            Defect::DiffTwice => Sabotage::DiffTwice,
            Defect::DiffLost => Sabotage::DiffLost,
            Defect::UpdateSplit => Sabotage::UpdateSplit,
            Defect::LeaveIgnored => Sabotage::LeaveIgnored,
        })
    }
}

/// Planting defects into what a node's trackers hear, by shard: the newest life of each node.
#[derive(Debug, Default)]
pub(super) struct Ears(Mutex<BTreeMap<u32, BTreeMap<Arc<str>, ReplicaId>>>);

impl Ears {
    /// What a shard is told in place of a message, in order.
    pub(super) fn spoil(&self, stage: &Stage, shard: u32, mut message: Message) -> Vec<Message> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(shard).or_default();
        let name = message.from.shared_name();
        let newest = known
            .entry(Arc::clone(&name))
            .or_insert_with(|| message.from.clone());
        if message.from.supersedes(newest) {
            *newest = message.from.clone();
        }
        if newest.supersedes(&message.from) && stage.acts(Sabotage::OldLifeBelieved) {
            // As if any other life took the place of the one that is known.
            let from = newest.clone();
            message.from = ReplicaId::new(name, from.incarnation() + 1);
            let body = Body::Permdown;
            return vec![Message { from, body }, message];
        }
        stage.sabotage(|saboteur| spoil_part(saboteur, &mut message));
        vec![message]
    }
}
