//! Planting defects: into a node, and into what its trackers send and hear.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use presence_core::clock::{Context, ReplicaId};
use presence_core::delta::Delta;
use presence_core::tracker::To;
use presence_core::wire::cluster::{Body, Message};
use presence_server::sabotage::{Defect, Saboteur};

use super::stage::Stage;
use crate::sabotage::Sabotage;

/// What a defect needs to know of what was sent.
#[derive(Debug, Default)]
pub(super) struct Spoiler(Mutex<BTreeMap<u32, Sent>>);

/// Of one shard.
#[derive(Debug, Default)]
struct Sent {
    /// Up to where its last heartbeat told.
    told: u64,
    /// The last answer to each asker.
    replies: BTreeMap<Arc<str>, Delta>,
    /// Whether it answers nobody.
    is_mute: bool,
    /// Whether its heartbeats carry no clocks.
    is_clockless: bool,
}

impl Spoiler {
    /// What is sent in place of a message: nothing, where it is kept back.
    pub(super) fn spoil_sent(
        &self,
        stage: &Stage,
        shard: u32,
        to: &To,
        message: &Message,
    ) -> Option<Message> {
        let mut message = message.clone();
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = sent.entry(shard).or_default();
        match &mut message.body {
            Body::Heartbeat { delta, clocks } => {
                let leaves = delta.gone().any(|(_, gone)| !gone.is_empty());
                if leaves && stage.acts(Sabotage::LeavesDropped) {
                    delta.spoil_leaves(sent.told);
                }
                sent.told = clocks.counter(&message.from).unwrap_or(0);
                sent.is_clockless |= stage.acts(Sabotage::NoClocks);
                if sent.is_clockless {
                    *clocks = Context::new();
                }
            }
            Body::TransferReply { delta, .. } => {
                sent.is_mute |= stage.acts(Sabotage::TransfersRefused);
                if sent.is_mute {
                    return None;
                }
                if let To::One(to) = to
                    && stage.is_planted(Sabotage::OldStateReplayed)
                {
                    let earlier = sent.replies.insert(Arc::clone(to), delta.clone());
                    if let Some(earlier) = earlier
                        && stage.acts(Sabotage::OldStateReplayed)
                    {
                        *delta = earlier;
                    }
                }
            }
            _ => {}
        }
        Some(message)
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

/// Planting defects into what a node's trackers hear.
#[derive(Debug, Default)]
pub(super) struct Deafness(Mutex<BTreeMap<u32, BTreeMap<Arc<str>, ReplicaId>>>);

impl Deafness {
    /// What a shard is told in place of a message, in order.
    pub(super) fn spoil_heard(
        &self,
        stage: &Stage,
        shard: u32,
        mut message: Message,
    ) -> Vec<Message> {
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
        if let Body::TransferReply {
            delta,
            clocks,
            last: last @ false,
            ..
        } = &mut message.body
            && stage.acts(Sabotage::ChunkAsWhole)
        {
            let from = &message.from;
            delta.spoil_whole(from, clocks.counter(from).unwrap_or(0));
            *last = true;
        }
        vec![message]
    }
}
