//! Writing down what happens.

use std::collections::BTreeSet;
use std::sync::Arc;

use presence_core::wire::cluster::{Body, Message};

use super::node::Node;
use super::{Cluster, Micros};
use crate::trace::{Client, Difference, Kind, Line, Span, Traced};
use crate::truth::Number;

/// A run that is being written down.
#[derive(Debug, Default)]
pub(super) struct Trace {
    traced: Traced,
    last: Vec<Option<(usize, usize)>>,
}

impl Trace {
    pub(super) fn finish(self) -> Traced {
        self.traced
    }
}

impl Cluster<'_> {
    /// What becomes of a node, and what it finds of others.
    pub(crate) fn log(&mut self, node: usize, text: impl FnOnce() -> String) {
        self.write(Some(node), None, Kind::Life, text);
    }

    /// What a node finds of another.
    pub(crate) fn log_found(&mut self, node: usize, other: &str, text: impl FnOnce() -> String) {
        self.write(Some(node), Some(other), Kind::Life, text);
    }

    /// What becomes of the cluster.
    pub(crate) fn log_all(&mut self, text: impl FnOnce() -> String) {
        self.write(None, None, Kind::Cluster, text);
    }

    /// What a user does.
    pub(crate) fn log_user(
        &mut self,
        node: usize,
        presences: &[Number],
        text: impl FnOnce() -> String,
    ) {
        self.write(Some(node), None, Kind::Operation, text);
        self.of_last_line(|| presences.to_vec());
    }

    /// How much was written by now.
    pub(crate) fn log_written(&mut self, text: impl FnOnce() -> String) {
        self.write(None, None, Kind::Written, text);
    }

    /// What becomes of a client, which is at that node.
    pub(crate) fn log_client(&mut self, name: &str, node: usize, text: impl FnOnce() -> String) {
        self.write_of_client(name, node, Kind::Client, &[], text);
    }

    /// What the user of a client does, which is at that node.
    pub(crate) fn log_client_user(
        &mut self,
        name: &str,
        node: usize,
        text: impl FnOnce() -> String,
    ) {
        self.write_of_client(name, node, Kind::User, &[], text);
    }

    /// A client's list of a topic changes.
    pub(crate) fn log_client_list(
        &mut self,
        name: &str,
        node: usize,
        topic: &str,
        joins: &[Number],
        leaves: &[Number],
    ) {
        let presences: Vec<Number> = joins.iter().chain(leaves).copied().collect();
        self.write_of_client(name, node, Kind::Client, &presences, || {
            changes("sees", topic, joins, leaves)
        });
    }

    fn write_of_client(
        &mut self,
        name: &str,
        node: usize,
        kind: Kind,
        presences: &[Number],
        text: impl FnOnce() -> String,
    ) {
        if let Some(trace) = &mut self.trace {
            trace.traced.lines.push(Line {
                at: self.now,
                node: Some(name.into()),
                other: Some(Arc::clone(&self.nodes[node].name)),
                kind,
                text: text(),
                presences: presences.to_vec(),
            });
        }
    }

    /// The user of a client comes.
    pub(crate) fn client_comes(&mut self, name: &str, speaks: &str) {
        let came = self.now;
        if let Some(trace) = &mut self.trace {
            trace.traced.clients.push(Client {
                name: name.into(),
                speaks: speaks.into(),
                came,
                went: None,
                spans: Vec::new(),
            });
        }
    }

    /// The user of a client goes. Its connection may last.
    pub(crate) fn client_goes(&mut self, name: &str) {
        let now = self.now;
        if let Some(client) = self.client(name) {
            client.went = Some(now);
        }
    }

    /// A client is connected to a node from now on.
    pub(crate) fn client_connects(&mut self, name: &str, node: usize) {
        self.client_span(name, Some(node), "connected", None);
    }

    /// Its connection has ended.
    pub(crate) fn client_disconnects(&mut self, name: &str) {
        let now = self.now;
        if let Some(client) = self.client(name) {
            for span in client.spans.iter_mut().filter(|span| span.to.is_none()) {
                span.to = Some(now);
            }
        }
    }

    /// Something befalls a client, for so long.
    pub(crate) fn client_suffers(&mut self, name: &str, what: &str, us: Micros) {
        self.client_span(name, None, what, Some(self.now + us));
    }

    /// No client is cut off any longer.
    pub(crate) fn clients_reached(&mut self) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            let clients = trace.traced.clients.iter_mut();
            let spans = clients.flat_map(|client| &mut client.spans);
            for span in spans.filter(|span| span.what == "cut off") {
                span.to = span.to.map(|to| to.min(now));
            }
        }
    }

    fn client_span(&mut self, name: &str, node: Option<usize>, what: &str, to: Option<Micros>) {
        let from = self.now;
        if let Some(client) = self.client(name) {
            client.spans.push(Span {
                node,
                what: what.into(),
                from,
                to,
                nodes: Vec::new(),
            });
        }
    }

    fn client(&mut self, name: &str) -> Option<&mut Client> {
        let clients = &mut self.trace.as_mut()?.traced.clients;
        clients.iter_mut().rfind(|client| *client.name == *name)
    }

    /// What becomes of a message, on the node where it does. `way` says so of the other node.
    pub(crate) fn log_message(
        &mut self,
        node: usize,
        other: usize,
        way: impl FnOnce(&str) -> String,
        message: &Message,
    ) {
        if self.trace.is_none() {
            return;
        }
        let other = Arc::clone(&self.nodes[other].name);
        self.write(Some(node), Some(&other), Kind::Message, || {
            format!("{}: {}", way(&other), words(&message.body))
        });
        self.of_last_line(|| match &message.body {
            Body::Heartbeat { delta, .. } | Body::TransferReply { delta, .. } => delta
                .values()
                .filter_map(|entry| crate::truth::number(entry.meta))
                .collect(),
            _ => Vec::new(),
        });
    }

    pub(super) fn log_diff(
        &mut self,
        node: usize,
        topic: &str,
        joins: &[Number],
        leaves: &[Number],
    ) {
        self.write(Some(node), None, Kind::Diff, || {
            changes("tells", topic, joins, leaves)
        });
        self.of_last_line(|| joins.iter().chain(leaves).copied().collect());
    }

    fn write(
        &mut self,
        node: Option<usize>,
        other: Option<&str>,
        kind: Kind,
        text: impl FnOnce() -> String,
    ) {
        let at = self.now;
        if let Some(trace) = &mut self.trace {
            trace.traced.lines.push(Line {
                at,
                node: node.map(|node| Arc::clone(&self.nodes[node].name)),
                other: other.map(Into::into),
                kind,
                text: text(),
                presences: Vec::new(),
            });
        }
    }

    pub(crate) fn span(&mut self, node: usize, what: &str, from: Micros) {
        if let Some(trace) = &mut self.trace {
            trace.traced.spans.push(Span {
                node: Some(node),
                what: what.into(),
                from,
                to: None,
                nodes: Vec::new(),
            });
        }
    }

    /// Something that lasts until then.
    pub(crate) fn span_until(&mut self, node: usize, what: &str, to: Micros) {
        self.span(node, what, self.now);
        if let Some(trace) = &mut self.trace
            && let Some(span) = trace.traced.spans.last_mut()
        {
            span.to = Some(to);
        }
    }

    pub(crate) fn end_span(&mut self, node: usize, what: &str) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            let mut spans = trace.traced.spans.iter_mut().rev();
            let open = spans
                .find(|span| span.node == Some(node) && span.what == what && span.to.is_none());
            if let Some(span) = open {
                span.to = Some(now);
            }
        }
    }

    /// Something goes wrong between nodes for so long.
    /// A fault of the network on these links.
    pub(crate) fn fault(
        &mut self,
        links: impl Iterator<Item = (usize, usize)>,
        what: String,
        us: Micros,
    ) {
        let now = self.now;
        let nodes: BTreeSet<usize> = links.flat_map(|(from, to)| [from, to]).collect();
        self.log_all(|| format!("{what} for {} ms", us / 1000));
        if let Some(trace) = &mut self.trace {
            trace.traced.spans.push(Span {
                node: None,
                what,
                from: now,
                to: Some(now + us),
                nodes: nodes.into_iter().collect(),
            });
        }
    }

    /// Notes by how much each view differs from the truth, which may have changed for all.
    pub(super) fn measure(&mut self) {
        let Some(trace) = &mut self.trace else {
            return;
        };
        trace.last.resize(self.nodes.len(), None);
        let mut found = Vec::new();
        for node in &self.nodes {
            if node.life.is_none() {
                found.push(None);
                continue;
            }
            let there = |number: &Number| {
                self.truth
                    .of(*number)
                    .is_some_and(|p| p.left.is_none() && self.nodes[p.node].pool == node.pool)
            };
            let listed = node.shards().flat_map(|shard| shard.view.numbers());
            let (right, wrong): (Vec<_>, Vec<_>) = listed.partition(there);
            let all = self.nodes.iter().filter(|of| of.pool == node.pool);
            let all = all.flat_map(Node::shards);
            let all: usize = all.map(|shard| shard.alive.len()).sum();
            found.push(Some((all.saturating_sub(right.len()), wrong.len())));
        }
        let Some(trace) = &mut self.trace else {
            return;
        };
        for (node, difference) in found.into_iter().enumerate() {
            if let Some((missing, extra)) = difference
                && trace.last[node] != difference
            {
                trace.last[node] = difference;
                trace.traced.differences.push(Difference {
                    at: self.now,
                    node,
                    missing,
                    extra,
                });
            }
        }
    }

    fn of_last_line(&mut self, presences: impl FnOnce() -> Vec<Number>) {
        if let Some(line) = self
            .trace
            .as_mut()
            .and_then(|trace| trace.traced.lines.last_mut())
        {
            line.presences = presences();
        }
    }
}

fn changes(verb: &str, topic: &str, joins: &[Number], leaves: &[Number]) -> String {
    let mut text = format!("{verb} {topic:?}:");
    for (what, numbers) in [("joined", joins), ("left", leaves)] {
        if !numbers.is_empty() {
            text.push_str(&format!(" {what} {}", listed(numbers)));
        }
    }
    text
}

fn listed(numbers: &[Number]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<String> = numbers
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect();
    let more = numbers.len().saturating_sub(SHOWN);
    match more {
        0 => shown.join(" "),
        more => format!("{} and {more} more", shown.join(" ")),
    }
}

/// A message in a few words.
pub(crate) fn words(body: &Body) -> String {
    let told = |delta: &presence_core::delta::Delta| {
        let values = delta.values().count();
        let gone: u64 = delta.gone().map(|(_, gone)| gone.dots()).sum();
        let presences = if values == 1 { "presence" } else { "presences" };
        let dots = if gone == 1 { "dot" } else { "dots" };
        format!("{values} {presences}, {gone} gone {dots}")
    };
    match body {
        Body::Heartbeat { delta, .. } if delta.is_empty() => "heartbeat".into(),
        Body::Heartbeat { delta, clocks } => {
            format!("heartbeat, {}, clocks {clocks:?}", told(delta))
        }
        Body::TransferRequest { id, clocks } => format!("asks ({id}) for what is after {clocks:?}"),
        Body::TransferReply {
            id,
            part: number,
            delta,
            last,
            ..
        } => {
            let last = if *last { ", the last" } else { "" };
            format!("answers ({id}), part {number}{last}: {}", told(delta))
        }
        Body::TransferContinue { id, part } => format!("asks ({id}) for part {part}"),
        Body::Stopping { .. } => "says that it stops".into(),
        Body::Permdown => "says goodbye".into(),
        Body::Superseded { newest } => format!("says that incarnation {newest} is known"),
    }
}
