//! The counters of the trackers.

use presence_core::tracker::Stats;

/// A counter of a tracker, as it is told.
pub(super) struct Counter {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) value: fn(&Stats) -> u64,
}

const fn counter(name: &'static str, help: &'static str, value: fn(&Stats) -> u64) -> Counter {
    Counter { name, help, value }
}

/// All that trackers count.
pub(super) const COUNTERS: [Counter; 14] = [
    counter(
        "refused_messages",
        "Messages of other nodes that were refused.",
        |stats| stats.refused,
    ),
    counter(
        "delta_heartbeats",
        "Heartbeats that told the other nodes of changes.",
        |stats| stats.deltas,
    ),
    counter(
        "idle_heartbeats",
        "Heartbeats that had no change to tell.",
        |stats| stats.idle_heartbeats,
    ),
    counter(
        "transfers_asked",
        "Requests for what is missing that were made to other nodes.",
        |stats| stats.transfers_asked,
    ),
    counter(
        "transfers_incremental",
        "Requests of other nodes that were answered with what had changed.",
        |stats| stats.transfers_incremental,
    ),
    counter(
        "transfers_full",
        "Requests of other nodes that were answered with a full state.",
        |stats| stats.transfers_full,
    ),
    counter(
        "transfer_chunks",
        "Parts of answers to other nodes beyond the first.",
        |stats| stats.chunks,
    ),
    counter(
        "deferred_parts",
        "Parts of deltas that came too early to be merged, and are asked for later.",
        |stats| stats.deferred,
    ),
    counter(
        "superseded_presences",
        "Presences that gave way to a later update which had come out of order.",
        |stats| stats.superseded,
    ),
    counter(
        "replicas_arrived",
        "Replicas that were listed, for the first time or again.",
        |stats| stats.arrived,
    ),
    counter(
        "replicas_replaced",
        "Replicas that a later life of their node has replaced.",
        |stats| stats.replaced,
    ),
    counter(
        "reincarnations",
        "New lives of this node's own replica, each since another one of its name was heard of.",
        |stats| stats.reincarnated,
    ),
    counter(
        "suspected_itself",
        "Times at which the shard ran so late that it did not trust its own view of the others.",
        |stats| stats.suspected_itself,
    ),
    counter(
        "handed_over_presences",
        "Presences of stopping nodes that went as their key was tracked elsewhere.",
        |stats| stats.handed_over,
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_counter_of_a_tracker_is_told_once() {
        let stats = serde_json::to_value(Stats::default()).unwrap();
        assert_eq!(stats.as_object().unwrap().len(), COUNTERS.len());
        let names: BTreeSet<_> = COUNTERS.iter().map(|counter| counter.name).collect();
        assert_eq!(names.len(), COUNTERS.len());
    }
}
