//! Defects that both tiers plant in the same way: in a tracker's settings, and in what it sends and hears.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use presence_core::clock::Context;
use presence_core::delta::Delta;
use presence_core::tracker::{Config, To};
use presence_core::wire::cluster::{Body, Message};

use super::{Sabotage, Saboteur};

/// What a tracker sends, spoilt, and what that takes to know of what it sent before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mouth {
    /// Whether its heartbeats carry no clocks.
    pub(crate) is_clockless: bool,
    /// Whether it answers nobody.
    pub(crate) is_mute: bool,
    /// Up to where its last heartbeat told.
    told: u64,
    /// The last answer to each asker.
    replies: BTreeMap<Arc<str>, Delta>,
}

impl Mouth {
    /// Plants a defect into what is sent; whether it is sent at all.
    pub(crate) fn spoil(
        &mut self,
        saboteur: &mut Saboteur,
        to: &To,
        message: &mut Message,
    ) -> bool {
        match &mut message.body {
            Body::Heartbeat { delta, clocks } => {
                let leaves = delta.gone().any(|(_, gone)| !gone.is_empty());
                if leaves && saboteur.acts(Sabotage::LeavesDropped) {
                    delta.spoil_leaves(self.told);
                }
                self.told = clocks.counter(&message.from).unwrap_or(0);
                if self.is_clockless {
                    *clocks = Context::new();
                }
            }
            Body::TransferReply { .. } if self.is_mute => return false,
            Body::TransferReply { delta, .. } => {
                if let To::One(to) = to
                    && saboteur.is(Sabotage::OldStateReplayed)
                {
                    let earlier = self.replies.insert(Arc::clone(to), delta.clone());
                    if let Some(earlier) = earlier
                        && saboteur.acts(Sabotage::OldStateReplayed)
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

/// Has a part of an answer taken for the whole; whether the message is such a part.
pub(crate) fn spoil_part(saboteur: &mut Saboteur, message: &mut Message) -> bool {
    let Body::TransferReply {
        delta,
        clocks,
        last: last @ false,
        ..
    } = &mut message.body
    else {
        return false;
    };
    if saboteur.acts(Sabotage::ChunkAsWhole) {
        let from = &message.from;
        delta.spoil_whole(from, clocks.counter(from).unwrap_or(0));
        *last = true;
    }
    true
}

/// Settings that are off.
pub(crate) fn spoil_config(saboteur: &mut Saboteur, config: &mut Config) {
    if saboteur.acts(Sabotage::EagerDown) {
        // No shorter than what an idle node needs, which the configuration refuses.
        let idle = config
            .broadcast_period
            .saturating_mul(config.max_silent_periods + 2);
        config.down_period = idle + Duration::from_millis(1);
    }
    if saboteur.acts(Sabotage::LazyDown) {
        config.down_period *= 3;
        config.permdown_period *= 3;
    }
}
