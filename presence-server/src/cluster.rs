//! The cluster: what nodes tell each other, and what carries it.
//!
//! A node is one of a cluster once it has a [`Transport`]: the embedded [`Mesh`], or one of another
//! making that is [attached](crate::node::Node::attach). It tells the transport what others are to
//! hear, and is told what they say through its [`Handler`].

mod accept;
mod codec;
mod config;
mod dial;
mod frame;
mod handshake;
mod hello;
mod introduce;
mod link;
mod meet;
pub mod mesh;
mod pauses;
mod places;
mod queue;
mod receiver;
mod roster;
mod said;
mod secure;
mod tasks;
mod tls;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use presence_core::tracker::To;
use presence_core::wire::{Payload, cluster};

pub use self::config::{ConfigError, Identity, MeshConfig, Secret, is_address, is_name};
pub use self::mesh::{Mesh, StartError};
pub(crate) use self::receiver::Receiver;
pub use self::tls::{Tls, TlsError, TlsPart};

/// What one node tells another.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// For the tracker of a shard.
    Tracker {
        /// The shard's number, from 0.
        shard: u32,
        /// What its peer says.
        message: cluster::Message,
    },
    /// For every channel that has joined a topic.
    Broadcast {
        /// The topic.
        topic: Arc<str>,
        /// The event.
        event: Arc<str>,
        /// Its payload.
        payload: Payload<'static>,
    },
    /// The sockets of an id are to be closed, so that their clients connect again.
    Disconnect {
        /// The id.
        socket_id: Arc<str>,
    },
    /// A request of a client that belongs to the node which is told of it.
    Request {
        /// The asker's number for it.
        id: u64,
        /// The request.
        body: Bytes,
    },
    /// The answer to a [`Request`](Self::Request).
    Answer {
        /// The asker's number for the request.
        id: u64,
        /// The answer.
        body: Bytes,
    },
}

/// Carries messages between the nodes of a cluster.
///
/// It may lose messages, repeat them and bring them late, but says from whom each came. What gets lost
/// is healed by the trackers; a lost broadcast is lost.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends a message. Nothing is waited for: what does not fit into the queue of a node that is slow
    /// is dropped and counted.
    fn send(&self, to: &To, message: &Message);

    /// The nodes that are known, by name.
    fn peers(&self) -> Vec<Peer>;

    /// Returns once what was sent has been taken by the nodes that take anything, and everything is
    /// closed. Nothing can be sent any more.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What a node is told by its transport.
pub trait Handler: Send + Sync + fmt::Debug {
    /// A connection to a node was made, anew or again.
    fn connected(&self, peer: &Arc<str>);

    /// The process of a node is gone: its connection broke, and nobody listens where it did.
    fn gone(&self, peer: &Arc<str>);

    /// A message of a node, which took `bytes` on its way. Returns once there is room for the next. It
    /// may be dropped before, where the connection is closed by this node or replaced.
    fn received<'a>(
        &'a self,
        peer: &'a Arc<str>,
        message: Message,
        bytes: usize,
    ) -> BoxFuture<'a, ()>;
}

/// A node as a transport sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its name.
    pub name: Arc<str>,
    /// Its incarnation.
    pub incarnation: u64,
    /// Where it is reached.
    pub address: String,
    /// Whether there is a connection to it.
    pub is_connected: bool,
    /// The version that is spoken with it.
    pub version: u8,
    /// Bytes that wait for it.
    pub queued_bytes: usize,
    /// Messages for it that were dropped, since there was no room.
    pub dropped: u64,
    /// Messages that were sent to it.
    pub sent: u64,
    /// Bytes that were sent to it.
    pub sent_bytes: u64,
    /// Messages that came from it.
    pub received: u64,
    /// Bytes that came from it.
    pub received_bytes: u64,
}

impl Peer {
    /// A node that is known by name only.
    pub fn new(name: Arc<str>, incarnation: u64) -> Self {
        Self {
            name,
            incarnation,
            address: String::new(),
            is_connected: false,
            version: 0,
            queued_bytes: 0,
            dropped: 0,
            sent: 0,
            sent_bytes: 0,
            received: 0,
            received_bytes: 0,
        }
    }
}
