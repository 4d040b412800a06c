//! The presences of channels and of other processes: track, update, untrack, list.
//!
//! [`Presence`] is for channels, [`Process`] for whatever else is there. From the return of `track` on a
//! presence is in the lists of its own node; the others are told within a broadcast period. It goes with
//! its channel or process at the latest.

use std::sync::Arc;

use presence_core::entry::Pid;
use presence_core::presence::{KeyBuf, Meta, MetaError, STATE_EVENT};
use presence_core::set::{JoinError, UpdateError};
use presence_core::tracker::ChangeError;
use presence_core::wire::Json;
use tokio::sync::oneshot;

use crate::channel::{Channel, Socket};
use crate::inbox::Event;
use crate::node::Node;
use crate::shard::{Command, Read, State};

/// Presence on the topic of a channel, as `MyAppWeb.Presence` in Elixir.
#[derive(Clone, Copy, Debug)]
pub struct Presence;

/// Why a presence was not tracked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackError {
    /// The meta is none.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The set refused it.
    #[error(transparent)]
    Set(JoinError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Why a presence was not changed or listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresenceError {
    /// The meta is none.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The set refused it.
    #[error(transparent)]
    Set(UpdateError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl From<ChangeError<JoinError>> for TrackError {
    fn from(error: ChangeError<JoinError>) -> Self {
        match error {
            ChangeError::Stopping => Self::Stopping,
            ChangeError::Set(error) => Self::Set(error),
        }
    }
}

impl From<ChangeError<UpdateError>> for PresenceError {
    fn from(error: ChangeError<UpdateError>) -> Self {
        match error {
            ChangeError::Stopping => Self::Stopping,
            ChangeError::Set(error) => Self::Set(error),
        }
    }
}

impl Presence {
    /// Tracks the channel under `key`; the meta's `phx_ref`.
    ///
    /// # Errors
    ///
    /// See [`TrackError`].
    pub async fn track<C: Channel>(
        socket: &Socket<C>,
        key: impl Into<KeyBuf>,
        meta: &serde_json::Value,
    ) -> Result<String, TrackError> {
        Tracked::of(socket).track(key.into(), meta).await
    }

    /// Replaces the channel's meta under `key`; the new `phx_ref`.
    ///
    /// # Errors
    ///
    /// See [`PresenceError`].
    pub async fn update<C: Channel>(
        socket: &Socket<C>,
        key: impl Into<KeyBuf>,
        meta: &serde_json::Value,
    ) -> Result<String, PresenceError> {
        Tracked::of(socket).update(key.into(), meta).await
    }

    /// Adds to and replaces in the channel's meta under `key`; the new `phx_ref`.
    ///
    /// # Errors
    ///
    /// See [`PresenceError`].
    pub async fn merge<C: Channel>(
        socket: &Socket<C>,
        key: impl Into<KeyBuf>,
        meta: &serde_json::Value,
    ) -> Result<String, PresenceError> {
        let meta = Meta::parse(&meta.to_string())?;
        let change = Box::new(move |before: Meta| before.merge(&meta));
        Tracked::of(socket).change(key.into(), change).await
    }

    /// Untracks the channel under `key`; nothing happens where it is not tracked.
    pub async fn untrack<C: Channel>(socket: &Socket<C>, key: impl Into<KeyBuf>) {
        Tracked::of(socket).untrack(key.into()).await;
    }

    /// The presences of the topic, by key.
    ///
    /// To give a client its first list use [`push_state`](Self::push_state).
    pub async fn list<C: Channel>(socket: &Socket<C>) -> Json<'static> {
        socket.node().list(socket.topic()).await
    }

    /// The presence of one key; `None` where nobody is tracked under it.
    pub async fn by_key<C: Channel>(
        socket: &Socket<C>,
        key: impl Into<KeyBuf>,
    ) -> Option<Json<'static>> {
        socket.node().by_key(socket.topic(), key).await
    }

    /// Pushes `presence_state` to the client.
    ///
    /// It is `push(socket, "presence_state", Presence.list(socket))` in Elixir, and safer: the state
    /// takes its place among the diffs of the topic, so that it is never older than one that the
    /// client was sent before.
    pub fn push_state<C: Channel>(socket: &Socket<C>) {
        let place = &socket.place;
        let read = Command::Read(Read::State {
            topic: place.topic.clone(),
            state: State {
                event: STATE_EVENT,
                inbox: place.inbox.clone(),
                channel: place.channel,
            },
        });
        if !place.node.shards().send(&place.topic, read) {
            place.inbox.send(Event::Drain);
        }
    }
}

/// Something of a node that is tracked and is no channel: a worker, a device, a bot.
///
/// Its presences are dropped with it.
#[derive(Debug)]
pub struct Process {
    node: Node,
    pid: Pid,
}

impl Process {
    pub(crate) fn new(node: Node) -> Self {
        let pid = node.next_pid();
        Self { node, pid }
    }

    /// Tracks it under `key` in `topic`; the meta's `phx_ref`.
    ///
    /// # Errors
    ///
    /// See [`TrackError`].
    pub async fn track(
        &self,
        topic: &str,
        key: impl Into<KeyBuf>,
        meta: &serde_json::Value,
    ) -> Result<String, TrackError> {
        self.of(&topic.into()).track(key.into(), meta).await
    }

    /// Replaces its meta under `key` in `topic`; the new `phx_ref`.
    ///
    /// # Errors
    ///
    /// See [`PresenceError`].
    pub async fn update(
        &self,
        topic: &str,
        key: impl Into<KeyBuf>,
        meta: &serde_json::Value,
    ) -> Result<String, PresenceError> {
        self.of(&topic.into()).update(key.into(), meta).await
    }

    /// Untracks it under `key` in `topic`; nothing happens where it is not tracked.
    pub async fn untrack(&self, topic: &str, key: impl Into<KeyBuf>) {
        self.of(&topic.into()).untrack(key.into()).await;
    }

    fn of<'a>(&'a self, topic: &'a Arc<str>) -> Tracked<'a> {
        Tracked {
            node: &self.node,
            topic,
            pid: self.pid,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.node.shards().gone(self.pid);
    }
}

/// A process in a topic.
struct Tracked<'a> {
    node: &'a Node,
    topic: &'a Arc<str>,
    pid: Pid,
}

impl<'a> Tracked<'a> {
    fn of<C: Channel>(socket: &'a Socket<C>) -> Self {
        let place = &socket.place;
        Self {
            node: &place.node,
            topic: &place.topic,
            pid: place.pid,
        }
    }

    async fn track(&self, key: KeyBuf, meta: &serde_json::Value) -> Result<String, TrackError> {
        let meta = Meta::parse(&meta.to_string())?;
        let (done, answer) = oneshot::channel();
        self.send(Command::Track {
            topic: Arc::clone(self.topic),
            pid: self.pid,
            key,
            meta,
            done,
        });
        let phx_ref = answer.await.map_err(|_| TrackError::Stopping)??;
        Ok(phx_ref.to_string())
    }

    async fn update(&self, key: KeyBuf, meta: &serde_json::Value) -> Result<String, PresenceError> {
        let meta = Meta::parse(&meta.to_string())?;
        self.change(key, Box::new(move |_| meta)).await
    }

    async fn change(
        &self,
        key: KeyBuf,
        change: Box<dyn FnOnce(Meta) -> Meta + Send>,
    ) -> Result<String, PresenceError> {
        let (done, answer) = oneshot::channel();
        self.send(Command::Update {
            topic: Arc::clone(self.topic),
            pid: self.pid,
            key,
            change,
            done,
        });
        let phx_ref = answer.await.map_err(|_| PresenceError::Stopping)??;
        Ok(phx_ref.to_string())
    }

    async fn untrack(&self, key: KeyBuf) {
        let (done, answer) = oneshot::channel();
        self.send(Command::Untrack {
            topic: Arc::clone(self.topic),
            pid: self.pid,
            key,
            done,
        });
        // A node that stops tracks nobody.
        let _ = answer.await;
    }

    /// A shard that has ended drops the command, and with it the answer.
    fn send(&self, command: Command) {
        self.node.shards().send(self.topic, command);
    }
}
