//! What a node does with what others tell it.

use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;

use super::{Handler, Message};
use crate::relay::Relay;
use crate::shard::{Word, Words};
use crate::subscriptions::Subscriptions;

/// Passes on what the cluster says: to the shards, to the clients of this node, and
/// to those who asked.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) words: Words,
    pub(crate) subscriptions: Arc<Subscriptions>,
    /// Weak, since it holds the transport, which holds this.
    pub(crate) relay: Weak<Relay>,
}

impl Handler for Receiver {
    fn connected(&self, peer: &Arc<str>) {
        self.words.all(|| Word::Connected(Arc::clone(peer)));
    }

    fn gone(&self, peer: &Arc<str>) {
        self.words.all(|| Word::Gone(Arc::clone(peer)));
    }

    fn received<'a>(
        &'a self,
        peer: &'a Arc<str>,
        message: Message,
        bytes: usize,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            match message {
                Message::Tracker { shard, message } => {
                    if !self.words.message(shard, peer, message, bytes).await {
                        tracing::warn!(%peer, shard, "a message is for a shard that there is not");
                    }
                }
                Message::Broadcast {
                    topic,
                    event,
                    payload,
                } => {
                    let told = self.subscriptions.broadcast(&topic, &event, &payload, None);
                    if let Err(error) = told {
                        tracing::warn!(%peer, %topic, %error, "a broadcast has no frame");
                    }
                }
                Message::Disconnect { socket_id } => self.subscriptions.disconnect(&socket_id),
                Message::Request { id, body } => {
                    if let Some(relay) = self.relay.upgrade() {
                        relay.handle_request(peer, id, &body);
                    }
                }
                Message::Answer { id, body } => {
                    if let Some(relay) = self.relay.upgrade() {
                        relay.handle_answer(peer, id, body);
                    }
                }
            }
        })
    }
}
