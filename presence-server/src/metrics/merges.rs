//! What the merges of a shard cost.

use std::fmt;

use presence_core::wire::cluster::{Body, Message};
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

use super::families::Families;

/// The bounds of the times, in seconds. (A merge should take less than a millisecond.)
const SECONDS: [f64; 10] = [
    0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0,
];

/// The bounds of the sizes, in presences that a delta brings. One of leaves alone brings none.
const VALUES: [f64; 9] = [0.0, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];

/// How long the merges of one shard took, and how large they were. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Merges {
    seconds: Histogram,
    values: Histogram,
}

/// A merge that has begun.
pub(crate) struct Merge<'a> {
    merges: &'a Merges,
    values: usize,
    begun: Instant,
}

impl Merges {
    pub(crate) fn new() -> Self {
        Self {
            seconds: Histogram::new(SECONDS),
            values: Histogram::new(VALUES),
        }
    }

    /// Begins to time the merge of what a message brings; `None` where that is nothing.
    pub(crate) fn begin(&self, message: &Message) -> Option<Merge<'_>> {
        let (Body::Heartbeat { delta, .. } | Body::TransferReply { delta, .. }) = &message.body
        else {
            return None;
        };
        (!delta.is_empty()).then(|| Merge {
            merges: self,
            values: delta.values().count(),
            begun: Instant::now(),
        })
    }

    /// Tells all of a node, which are given by shard.
    pub(super) fn encode(by_shard: &[Self], families: &mut Families<'_>) -> fmt::Result {
        let shards = || (0_u32..).map(|shard| [("shard", shard)]).zip(by_shard);
        families.histogram(
            "merge_duration_seconds",
            "How long it took to merge a delta of another node.",
            shards().map(|(shard, merges)| (shard, &merges.seconds)),
        )?;
        families.histogram(
            "merge_delta_values",
            "How many presences a merged delta brought.",
            shards().map(|(shard, merges)| (shard, &merges.values)),
        )
    }
}

impl Merge<'_> {
    /// The delta is merged, and its changes are passed on.
    pub(crate) fn end(self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.merges.seconds.observe(seconds);
        self.merges.values.observe(self.values as f64);
    }
}
