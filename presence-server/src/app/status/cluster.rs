//! How a node sees its cluster, as JSON. The names are those that `/cluster` promises.

use std::collections::BTreeMap;
use std::sync::Arc;

use presence_core::clock::ReplicaId;
use presence_core::tracker::Stats;
use serde::Serialize;

use crate::metrics::status_name;
use crate::node::Node;
use crate::{cluster, shard};

#[derive(Serialize)]
pub(super) struct Cluster {
    name: Arc<str>,
    incarnation: u64,
    version: &'static str,
    status: &'static str,
    uptime_ms: u64,
    peers: Vec<Peer>,
    silent_shards: Vec<u32>,
    shards: Vec<Shard>,
}

#[derive(Serialize)]
struct Peer {
    name: Arc<str>,
    incarnation: u64,
    address: String,
    connected: bool,
    version: u8,
    queued_bytes: usize,
    dropped: u64,
    sent: u64,
    sent_bytes: u64,
    received: u64,
    received_bytes: u64,
}

#[derive(Serialize)]
struct Shard {
    shard: u32,
    name: Arc<str>,
    incarnation: u64,
    clocks: BTreeMap<String, u64>,
    replicas: Vec<Replica>,
    presences: usize,
    own_presences: usize,
    topics: usize,
    waiting: usize,
    panics: u64,
    journal: Option<bool>,
    stats: Stats,
}

#[derive(Serialize)]
struct Replica {
    name: Arc<str>,
    incarnation: u64,
    status: &'static str,
}

impl Cluster {
    pub(super) fn of(node: &Node, reports: &[shard::Report], silent_shards: Vec<u32>) -> Self {
        let status = if node.is_stopping() {
            "stopping"
        } else if silent_shards.is_empty() {
            "ok"
        } else {
            "failing"
        };
        Self {
            name: Arc::clone(&node.config().name),
            incarnation: node.incarnation(),
            version: env!("CARGO_PKG_VERSION"),
            status,
            uptime_ms: u64::try_from(node.uptime().as_millis()).unwrap_or(u64::MAX),
            peers: node.peers().into_iter().map(Peer::from).collect(),
            silent_shards,
            shards: reports.iter().map(Shard::from).collect(),
        }
    }
}

impl From<cluster::Peer> for Peer {
    fn from(peer: cluster::Peer) -> Self {
        Self {
            name: peer.name,
            incarnation: peer.incarnation,
            address: peer.address,
            connected: peer.is_connected,
            version: peer.version,
            queued_bytes: peer.queued_bytes,
            dropped: peer.dropped,
            sent: peer.sent,
            sent_bytes: peer.sent_bytes,
            received: peer.received,
            received_bytes: peer.received_bytes,
        }
    }
}

impl From<&shard::Report> for Shard {
    fn from(report: &shard::Report) -> Self {
        let clocks = report.clocks.iter();
        let replica = |(id, status): &(ReplicaId, _)| Replica {
            name: id.shared_name(),
            incarnation: id.incarnation(),
            status: status_name(*status),
        };
        Self {
            shard: report.shard,
            name: report.replica.shared_name(),
            incarnation: report.replica.incarnation(),
            clocks: clocks
                .map(|(id, counter)| (id.to_string(), counter))
                .collect(),
            replicas: report.replicas.iter().map(replica).collect(),
            presences: report.presences,
            own_presences: report.own_presences,
            topics: report.topics,
            waiting: report.waiting,
            panics: report.panics,
            journal: report.journal,
            stats: report.stats,
        }
    }
}
