//! What a node counts, as Prometheus reads it.
//!
//! All of it belongs to the node, so that two nodes in one process share nothing. No label is a topic, a
//! key or an id: shards, other nodes and kinds bound how many series there are.

mod families;
mod merges;
mod trackers;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use presence_core::tracker::Status;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::registry::Registry;

use self::families::{Families, NONE};
use crate::cluster::Peer;
use crate::node::Node;
use crate::shard::Report;
use crate::sockets::Via;

pub(crate) use self::merges::Merges;

/// How a node is doing at one time.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) node: Node,
    pub(crate) reports: Vec<Report>,
    /// The shards that said nothing.
    pub(crate) silent: Vec<u32>,
}

/// The statuses of replicas, as they are named in what is told.
pub(crate) fn status_name(status: Status) -> &'static str {
    match status {
        Status::Up => "up",
        Status::Arriving { .. } => "arriving",
        Status::Down => "down",
    }
}

const STATUSES: [&str; 3] = ["up", "arriving", "down"];

impl Scrape {
    /// The text format of Prometheus.
    ///
    /// # Errors
    ///
    /// None that is known: a text takes whatever is written to it.
    pub(crate) fn into_text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("presence");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry)?;
        Ok(text)
    }

    /// A value for each shard that reports.
    fn each<'a, N>(
        &'a self,
        value: impl Fn(&'a Report) -> N + 'a,
    ) -> impl Iterator<Item = ([(&'static str, u32); 1], N)> + 'a {
        let reports = self.reports.iter();
        reports.map(move |report| ([("shard", report.shard)], value(report)))
    }

    fn encode_node(&self, families: &mut Families<'_>) -> fmt::Result {
        let node = &self.node;
        let info = [
            ("name", node.config().name.to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        families.gauge("node_info", "The node that tells this.", [(info, 1_u64)])?;
        families.gauge(
            "uptime_seconds",
            "How long ago the node was started.",
            [(NONE, node.uptime().as_secs_f64())],
        )?;
        families.gauge(
            "stopping",
            "Whether the node has begun to stop.",
            [(NONE, u64::from(node.is_stopping()))],
        )?;
        families.gauge(
            "channels",
            "Channels that have joined a topic.",
            [(NONE, node.subscriptions().channels())],
        )?;
        let counts = Via::ALL.map(|via| ([("transport", via.name())], node.sockets().counts(via)));
        families.gauge(
            "sockets",
            "Sockets that are open.",
            counts.map(|(via, counts)| (via, counts.open)),
        )?;
        families.counter(
            "sockets_opened",
            "Sockets that were opened.",
            counts.map(|(via, counts)| (via, counts.opened)),
        )?;
        families.counter(
            "socket_queue_overflows",
            "Sockets that were closed since more waited for their client than may.",
            counts.map(|(via, counts)| (via, counts.overflowed)),
        )
    }

    fn encode_shards(&self, families: &mut Families<'_>) -> fmt::Result {
        let mut answers: BTreeMap<u32, u64> = BTreeMap::new();
        answers.extend(self.reports.iter().map(|report| (report.shard, 1)));
        answers.extend(self.silent.iter().map(|&shard| (shard, 0)));
        families.gauge(
            "shard_up",
            "Whether the shard answers within a second.",
            (answers.into_iter()).map(|(shard, answers)| ([("shard", shard)], answers)),
        )?;
        let replicas = self.reports.iter().flat_map(|report| {
            STATUSES.map(|name| {
                let replicas = report.replicas.iter();
                let count = replicas
                    .filter(|(_, status)| status_name(*status) == name)
                    .count();
                let labels = ([("shard", report.shard)], [("status", name)]);
                (labels, count)
            })
        });
        families.gauge(
            "replicas",
            "Replicas of other nodes, by whether their presences are listed.",
            replicas,
        )?;
        families.gauge(
            "presences",
            "Presences of all replicas, those that are down among them.",
            self.each(|report| report.presences),
        )?;
        families.gauge(
            "own_presences",
            "Presences that this node tracks.",
            self.each(|report| report.own_presences),
        )?;
        families.gauge(
            "topics",
            "Topics that hold a presence.",
            self.each(|report| report.topics),
        )?;
        families.gauge(
            "waiting_messages",
            "Messages of other nodes that wait for the shard.",
            self.each(|report| report.waiting),
        )?;
        families.counter(
            "shard_panics",
            "Panics of the shard, after each of which it began anew and its clients joined again.",
            self.each(|report| report.panics),
        )?;
        let journals = self.each(|report| report.journal);
        families.gauge(
            "journal_up",
            "Whether the shard's journal holds all that has happened.",
            journals.filter_map(|(shard, is_whole)| Some((shard, u64::from(is_whole?)))),
        )?;
        for counter in trackers::COUNTERS {
            let values = self.each(|report| (counter.value)(&report.stats));
            families.counter(counter.name, counter.help, values)?;
        }
        Merges::encode(self.node.merges(), families)
    }

    fn encode_peers(&self, families: &mut Families<'_>) -> fmt::Result {
        // A series must not be told twice.
        let peers = self.node.peers().into_iter();
        let peers: BTreeMap<Arc<str>, Peer> =
            peers.map(|peer| (Arc::clone(&peer.name), peer)).collect();
        let each = |value: fn(&Peer) -> u64| {
            let peers = peers.iter();
            peers.map(move |(name, peer)| ([("peer", name.to_string())], value(peer)))
        };
        families.gauge(
            "peer_connected",
            "Whether there is a connection to the node.",
            each(|peer| u64::from(peer.is_connected)),
        )?;
        families.gauge(
            "peer_queued_bytes",
            "Bytes that wait to be sent to the node.",
            each(|peer| peer.queued_bytes as u64),
        )?;
        families.counter(
            "peer_dropped_messages",
            "Messages for the node that were dropped, since too much waited for it.",
            each(|peer| peer.dropped),
        )?;
        families.counter(
            "peer_sent_messages",
            "Messages that were sent to the node.",
            each(|peer| peer.sent),
        )?;
        families.counter(
            "peer_sent_bytes",
            "Bytes that were sent to the node.",
            each(|peer| peer.sent_bytes),
        )?;
        families.counter(
            "peer_received_messages",
            "Messages that came from the node.",
            each(|peer| peer.received),
        )?;
        families.counter(
            "peer_received_bytes",
            "Bytes that came from the node.",
            each(|peer| peer.received_bytes),
        )
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        self.encode_node(&mut families)?;
        self.encode_shards(&mut families)?;
        self.encode_peers(&mut families)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use presence_core::tracker::To;

    use super::*;
    use crate::cluster::{Message, Transport};
    use crate::env::System;
    use crate::node::Config;

    #[derive(Debug)]
    struct Known(Vec<Peer>);

    impl Transport for Known {
        fn send(&self, _to: &To, _message: &Message) {}

        fn peers(&self) -> Vec<Peer> {
            self.0.clone()
        }

        fn close(&self) -> BoxFuture<'_, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    #[tokio::test]
    async fn what_the_transport_counts_is_told_by_peer_and_never_twice() {
        let peer = |name: &str| Peer {
            name: name.into(),
            incarnation: 1,
            address: "127.0.0.1:1".into(),
            is_connected: true,
            version: 1,
            queued_bytes: 2,
            dropped: 3,
            sent: 4,
            sent_bytes: 5,
            received: 6,
            received_bytes: 7,
        };
        let node = Node::start(Arc::new(System::new()), Config::default()).unwrap();
        let known = ["b", "with \"quotes\"", "b"].map(peer);
        node.attach(Arc::new(Known(known.into())));
        let (reports, silent) = (node.reports().await, Vec::new());
        let scrape = Scrape {
            node,
            reports,
            silent,
        };
        let text = scrape.into_text().unwrap();
        for (name, value) in [
            ("connected", 1),
            ("queued_bytes", 2),
            ("dropped_messages_total", 3),
            ("sent_messages_total", 4),
            ("sent_bytes_total", 5),
            ("received_messages_total", 6),
            ("received_bytes_total", 7),
        ] {
            for peer in ["b", r#"with \"quotes\""#] {
                let line = format!("presence_peer_{name}{{peer=\"{peer}\"}} {value}");
                let told = text.lines().filter(|told| *told == line).count();
                assert_eq!(told, 1, "{line}\n{text}");
            }
        }
    }
}
