//! Between a node and its mesh: what is sent and delivered is noted, and messages get lost, come twice
//! and come late, which a connection by itself does not do to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use presence_core::tracker::To;
use presence_core::wire::cluster;
use presence_server::cluster::{Handler, Mesh, Message, Peer, Transport};

use super::gate::Process;
use super::happened::Happened;
use super::spoil::{Ears, Mouths};
use super::stage::{Stage, Way};
use crate::cluster::Micros;
use crate::coverage::Counted;

/// A node's transport: the mesh, behind what goes wrong.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) mesh: Arc<Mesh>,
    pub(super) stage: Arc<Stage>,
    pub(super) node: usize,
    pub(super) process: Process,
    pub(super) mouths: Mouths,
    /// The bound of the queue to each node.
    pub(super) queue_bytes: usize,
    /// How many messages for each node were dropped, as seen last.
    pub(super) dropped: Mutex<BTreeMap<Arc<str>, u64>>,
}

impl Carrier {
    fn send_to_tracker(&self, shard: u32, to: &To, message: &cluster::Message) {
        self.stage.note(Happened::Sent {
            node: self.node,
            shard: shard as usize,
            to: to.clone(),
            message: Box::new(message.clone()),
        });
        let Some(message) = self.mouths.spoil(&self.stage, shard, to, message) else {
            return;
        };
        let message = Arc::new(message);
        for peer in self.mesh.peers() {
            let is_meant = match to {
                To::All => true,
                To::One(name) => *name == peer.name,
            };
            let dropped = &mut self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
            let before = dropped.insert(Arc::clone(&peer.name), peer.dropped);
            // Those for a connection that has just ended are counted there too.
            let is_full = peer.queued_bytes > self.queue_bytes / 2;
            if peer.dropped > before.unwrap_or(0) && is_full {
                self.stage.count(Counted::Overflow);
            }
            if is_meant && peer.is_connected {
                self.send_to(shard, &peer.name, &message);
            }
        }
    }

    fn send_to(&self, shard: u32, name: &Arc<str>, message: &Arc<cluster::Message>) {
        let Some(to) = self.stage.node_named(name) else {
            return;
        };
        let Way::Goes { copies, late } = self.stage.way(self.node, to) else {
            return;
        };
        let post = Post {
            mesh: Arc::clone(&self.mesh),
            stage: Arc::clone(&self.stage),
            way: (self.node, to),
            name: Arc::clone(name),
            shard,
            sent: self.stage.now(),
            is_late: false,
            message: Arc::clone(message),
        };
        if copies > 1 {
            post.send();
        }
        if late.is_zero() {
            return post.send();
        }
        let task = async move {
            tokio::time::sleep(late).await;
            Post {
                is_late: true,
                ..post
            }
            .send();
        };
        tokio::spawn(self.process.task(Box::pin(task)));
    }
}

/// A message for one node.
struct Post {
    mesh: Arc<Mesh>,
    stage: Arc<Stage>,
    way: (usize, usize),
    name: Arc<str>,
    shard: u32,
    sent: Micros,
    is_late: bool,
    message: Arc<cluster::Message>,
}

impl Post {
    fn send(&self) {
        let (from, to) = self.way;
        self.stage.count_way(from, to, self.sent);
        self.stage.note(Happened::Posted {
            from,
            to,
            shard: self.shard as usize,
            sent: self.sent,
            is_late: self.is_late,
            message: Arc::clone(&self.message),
        });
        let message = Message::Tracker {
            shard: self.shard,
            message: cluster::Message::clone(&self.message),
        };
        self.mesh.send(&To::One(Arc::clone(&self.name)), &message);
    }
}

impl Transport for Carrier {
    fn send(&self, to: &To, message: &Message) {
        match message {
            Message::Tracker { shard, message } => self.send_to_tracker(*shard, to, message),
            other => self.mesh.send(to, other),
        }
    }

    fn peers(&self) -> Vec<Peer> {
        self.mesh.peers()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.mesh.close()
    }
}

/// What a node's mesh tells, on its way to the node.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) node: usize,
    pub(super) inner: Arc<dyn Handler>,
    pub(super) stage: Arc<Stage>,
    pub(super) ears: Ears,
}

impl Handler for Ear {
    fn connected(&self, peer: &Arc<str>) {
        if let Some(of) = self.stage.node_named(peer) {
            self.stage.note(Happened::Connected { at: self.node, of });
        }
        self.inner.connected(peer);
    }

    fn gone(&self, peer: &Arc<str>) {
        if let Some(of) = self.stage.node_named(peer) {
            self.stage.note(Happened::Gone { at: self.node, of });
        }
        self.inner.gone(peer);
    }

    fn received<'a>(
        &'a self,
        peer: &'a Arc<str>,
        message: Message,
        bytes: usize,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let Message::Tracker { shard, message } = message else {
                return self.inner.received(peer, message, bytes).await;
            };
            if let Some(from) = self.stage.node_named(peer) {
                self.stage.note(Happened::Arrived {
                    from,
                    to: self.node,
                    shard: shard as usize,
                    message: Arc::new(message.clone()),
                });
            }
            if let Some(takes) = self.stage.slowness(self.node) {
                tokio::time::sleep(takes.max(Duration::from_millis(1))).await;
            }
            for message in self.ears.spoil(&self.stage, shard, message) {
                let message = Message::Tracker { shard, message };
                self.inner.received(peer, message, bytes).await;
            }
        })
    }
}
