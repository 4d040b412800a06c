//! What happens in a run, as those to whom it happens note it.

use std::sync::Arc;

use presence_core::tracker::To;
use presence_core::tracker::journal::{Header, Record};
use presence_core::wire::cluster::Message;

use super::client::Said;
use crate::cluster::Micros;
use crate::truth::Number;

/// Something that happened, in the order in which it did.
pub(super) enum Happened {
    /// A shard of a node began a life.
    Began {
        node: usize,
        shard: usize,
        header: Box<Header>,
    },
    /// A shard's tracker was given an input.
    Input {
        node: usize,
        shard: usize,
        record: Box<Record>,
    },
    /// A shard's tracker had something sent.
    Sent {
        node: usize,
        shard: usize,
        to: To,
        message: Box<Message>,
    },
    /// It was given to the mesh, which has a connection to that node.
    Posted {
        from: usize,
        to: usize,
        shard: usize,
        /// When the tracker had it sent.
        sent: Micros,
        /// Whether it was held back until now.
        is_late: bool,
        message: Arc<Message>,
    },
    /// A node's mesh delivered it.
    Arrived {
        from: usize,
        to: usize,
        shard: usize,
        message: Arc<Message>,
    },
    /// A node's mesh says that it is connected to another.
    Connected { at: usize, of: usize },
    /// A node's mesh says that the process of another is gone.
    Gone { at: usize, of: usize },
    /// A connection broke, or hangs.
    Broke,
    /// A node's process ended.
    Over { node: usize },
    /// A list was read on a node.
    Listed {
        node: usize,
        topic: Arc<str>,
        numbers: Vec<Number>,
        /// When it was asked for.
        asked: Micros,
    },
    /// A client is about to track.
    Numbered {
        client: usize,
        topic: Arc<str>,
        key: Arc<str>,
        number: Number,
    },
    /// The metas of a topic were changed at once: what became of a presence.
    Renumbered { before: Number, next: Number },
    /// A client says what happened to it.
    Said { client: usize, said: Said },
}
