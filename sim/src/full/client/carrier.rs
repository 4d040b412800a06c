//! What carries the frames of one connection.

use std::sync::Arc;

use presence_core::wire::Frame;

use super::longpoll::LongPoll;
use super::rules::Broken;
use super::websocket::WebSocket;
use super::{Outside, Settings, Transport};

/// A connection to a node.
pub(super) enum Carrier {
    WebSocket(WebSocket),
    LongPoll(LongPoll),
}

/// What comes of a connection.
#[derive(Debug)]
pub(super) enum Received {
    Frame(Frame),
    /// The node broke a rule.
    Broken(Broken),
    /// It has ended.
    Closed(String),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{0}")]
    Failed(String),
    /// The node broke a rule.
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl Carrier {
    /// Connects a client to a node.
    pub(super) async fn open(
        settings: &Settings,
        client: usize,
        node: usize,
        outside: Arc<dyn Outside>,
    ) -> Result<Self, OpenError> {
        let opening = async {
            Ok(match settings.transport {
                Transport::WebSocket => {
                    Self::WebSocket(WebSocket::open(settings, client, node, outside).await?)
                }
                Transport::LongPoll => {
                    Self::LongPoll(LongPoll::open(settings, client, node, outside).await?)
                }
            })
        };
        let opened = tokio::time::timeout(settings.timeout, opening).await;
        opened.unwrap_or_else(|_| Err(OpenError::Failed("no answer in time".into())))
    }

    /// Whether a node hears by the client's heartbeats that it is there. (A poll says so by itself.)
    pub(super) fn has_heartbeats(&self) -> bool {
        matches!(self, Self::WebSocket(_))
    }

    /// Takes a frame, which is sent while something is [received](Self::receive).
    pub(super) fn send(&mut self, frame: &Frame) {
        match self {
            Self::WebSocket(socket) => socket.send(frame),
            Self::LongPoll(session) => session.send(frame),
        }
    }

    /// What comes next; it may be dropped before. A client that reads nothing learns no more than that
    /// it can't write.
    pub(super) async fn receive(&mut self, reads: bool) -> Received {
        std::future::poll_fn(|context| match self {
            Self::WebSocket(socket) => socket.poll_receive(context, reads),
            Self::LongPoll(session) => session.poll_receive(context, reads),
        })
        .await
    }

    /// Says goodbye with this code, where there is a way to, and ends.
    pub(super) async fn close(&mut self, code: u16) {
        if let Self::WebSocket(socket) = self {
            socket.close(code).await;
        }
    }
}
