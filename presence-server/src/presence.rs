//! The presences of a channel: track, update, untrack, list.

use presence_core::presence::{KeyBuf, Meta, MetaError, STATE_EVENT};
use presence_core::set::{JoinError, UpdateError};
use presence_core::wire::Json;
use tokio::sync::oneshot;

use crate::channel::{Channel, Socket};
use crate::inbox::Event;
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
    Set(#[from] JoinError),
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
    Set(#[from] UpdateError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
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
        let meta = Meta::parse(&meta.to_string())?;
        let (done, answer) = oneshot::channel();
        let place = &socket.place;
        let command = Command::Track {
            topic: place.topic.clone(),
            pid: place.pid,
            key: key.into(),
            meta,
            done,
        };
        let _ = place.node.commands().send(command);
        let phx_ref = answer.await.map_err(|_| TrackError::Stopping)??;
        Ok(phx_ref.to_string())
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
        let meta = Meta::parse(&meta.to_string())?;
        Self::change(socket, key.into(), Box::new(move |_| meta)).await
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
        Self::change(
            socket,
            key.into(),
            Box::new(move |before| before.merge(&meta)),
        )
        .await
    }

    async fn change<C: Channel>(
        socket: &Socket<C>,
        key: KeyBuf,
        change: Box<dyn FnOnce(Meta) -> Meta + Send>,
    ) -> Result<String, PresenceError> {
        let (done, answer) = oneshot::channel();
        let place = &socket.place;
        let command = Command::Update {
            topic: place.topic.clone(),
            pid: place.pid,
            key,
            change,
            done,
        };
        let _ = place.node.commands().send(command);
        let phx_ref = answer.await.map_err(|_| PresenceError::Stopping)??;
        Ok(phx_ref.to_string())
    }

    /// Untracks the channel under `key`; nothing happens where it is not tracked.
    pub async fn untrack<C: Channel>(socket: &Socket<C>, key: impl Into<KeyBuf>) {
        let (done, answer) = oneshot::channel();
        let place = &socket.place;
        let command = Command::Untrack {
            topic: place.topic.clone(),
            pid: place.pid,
            key: key.into(),
            done,
        };
        let _ = place.node.commands().send(command);
        // A node that stops tracks nobody.
        let _ = answer.await;
    }

    /// The presences of the topic, by key.
    ///
    /// To give a client its first list use [`push_state`](Self::push_state).
    pub async fn list<C: Channel>(socket: &Socket<C>) -> Json<'static> {
        let (done, answer) = oneshot::channel();
        let topic = socket.place.topic.clone();
        let read = Command::Read(Read::List { topic, done });
        let _ = socket.place.node.commands().send(read);
        answer.await.unwrap_or(Json::EMPTY)
    }

    /// The presence of one key; `None` where nobody is tracked under it.
    pub async fn by_key<C: Channel>(
        socket: &Socket<C>,
        key: impl Into<KeyBuf>,
    ) -> Option<Json<'static>> {
        let (done, answer) = oneshot::channel();
        let (topic, key) = (socket.place.topic.clone(), key.into());
        let read = Command::Read(Read::Key { topic, key, done });
        let _ = socket.place.node.commands().send(read);
        answer.await.unwrap_or_default()
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
        if place.node.commands().send(read).is_err() {
            place.inbox.send(Event::Drain);
        }
    }
}
