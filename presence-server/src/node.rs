//! A node: one member of the system, with its world, its subscriptions and its shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use presence_core::clock::ReplicaId;
use presence_core::entry::Pid;
use presence_core::wire::{EncodeError, Payload};

use crate::env::Environment;
use crate::shard::{self, Commands};
use crate::sockets::Sockets;
use crate::subscriptions::Subscriptions;

/// The bounds and settings of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name.
    pub name: Arc<str>,
    /// Bytes that may wait for one socket, of frames and events: 8 MiB by default. A client that reads
    /// too slowly to stay below is closed.
    pub socket_queue_bytes: usize,
    /// Messages that may wait for the channels of one socket before nothing more is read from it: 64
    /// by default.
    pub undelivered_messages: usize,
    /// What a socket's channels may hold.
    pub channels: presence_core::channel::Config,
    /// What a frame may hold.
    pub wire: presence_core::wire::Limits,
    /// What the set may hold.
    pub set: presence_core::set::Limits,
    /// How long a topic rests after a presence diff, for each client that was told: 20 µs by default,
    /// so that diffs to many clients take a quarter of a core at most. What changes meanwhile goes out
    /// as one diff. Under 1 ms, which is up to 49 clients, it does not rest, and never more than 1 s.
    pub diff_pause: Duration,
    /// Connections at once, WebSockets among them: 65,536 by default. One more is refused with 503.
    pub max_connections: usize,
    /// After how much silence of its client a WebSocket is closed: 60 s by default, as in Phoenix.
    /// (phoenix.js sends a heartbeat every 30 s.)
    pub idle_timeout: Duration,
    /// How long a long poll waits for messages: 10 s by default, as in Phoenix.
    /// A session whose client has had no poll open for one and a half times as long is closed.
    pub poll_window: Duration,
    /// Long-poll sessions at once: 10,000 by default. One more is refused.
    pub poll_sessions: usize,
    /// Bytes that may wait for the client of one long-poll session between polls: 1 MiB by default.
    /// A session whose client does not fetch them in time is closed.
    pub poll_queue_bytes: usize,
    /// How long a connection may take to send a request's head, and then to send its body: 60 s by
    /// default, as in Phoenix's server. One that has no request for so long is closed.
    pub request_timeout: Duration,
    /// Sockets that are closed at once when the node stops: 10,000 by default, as in Phoenix.
    pub drain_batch: usize,
    /// The pause before the next of them are closed: 2 s by default, as in Phoenix.
    pub drain_pause: Duration,
    /// How long a node that stops waits for what is open: 30 s by default, for as long as Phoenix
    /// drains. What kills a process that does not end should wait longer than that.
    pub shutdown_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "presence".into(),
            socket_queue_bytes: 8 << 20,
            undelivered_messages: 64,
            channels: presence_core::channel::Config::default(),
            wire: presence_core::wire::Limits::default(),
            set: presence_core::set::Limits::default(),
            diff_pause: Duration::from_micros(20),
            max_connections: 65_536,
            idle_timeout: Duration::from_secs(60),
            poll_window: Duration::from_secs(10),
            poll_sessions: 10_000,
            poll_queue_bytes: 1 << 20,
            request_timeout: Duration::from_secs(60),
            drain_batch: 10_000,
            drain_pause: Duration::from_secs(2),
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}

/// A running node. Clones are the same node; its shards end with the last of them.
#[derive(Clone, Debug)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    env: Arc<dyn Environment>,
    config: Config,
    subscriptions: Arc<Subscriptions>,
    sockets: Arc<Sockets>,
    commands: Commands,
    last_pid: AtomicU64,
}

impl Node {
    /// Starts a node in the world `env`. To be called within a tokio runtime.
    pub fn start(env: Arc<dyn Environment>, config: Config) -> Self {
        let incarnation = u64::try_from(env.unix_time().as_micros()).unwrap_or(u64::MAX);
        let replica = ReplicaId::new(Arc::clone(&config.name), incarnation);
        let subscriptions = Arc::<Subscriptions>::default();
        let commands = shard::start(
            replica,
            config.set.clone(),
            env.random(),
            shard::Pause(config.diff_pause),
            Arc::clone(&subscriptions),
        );
        Self(Arc::new(Inner {
            env,
            config,
            subscriptions,
            sockets: Arc::default(),
            commands,
            last_pid: AtomicU64::new(0),
        }))
    }

    /// The node's world.
    pub fn env(&self) -> &Arc<dyn Environment> {
        &self.0.env
    }

    /// The node's settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Sends a message to every channel that has joined a topic.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] where the payload has no frame in a serializer that a subscriber speaks.
    pub fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: &Payload<'_>,
    ) -> Result<(), EncodeError> {
        self.0.subscriptions.broadcast(topic, event, payload, None)
    }

    /// Closes the sockets of an id, so that their clients connect again.
    pub fn disconnect(&self, socket_id: &str) {
        self.0.subscriptions.disconnect(socket_id);
    }

    /// Closes all sockets with code 1012, in batches, so that their clients connect again elsewhere;
    /// returns once they are closed.
    ///
    /// The order matters: what is to be told of the stop to others is told here, before the first
    /// socket closes. After that the channels of the sockets end, and their presences with them.
    pub async fn drain(&self) {
        let config = &self.0.config;
        let sockets = &self.0.sockets;
        sockets.drain(config.drain_batch, config.drain_pause).await;
    }

    pub(crate) fn sockets(&self) -> &Arc<Sockets> {
        &self.0.sockets
    }

    pub(crate) fn subscriptions(&self) -> &Arc<Subscriptions> {
        &self.0.subscriptions
    }

    pub(crate) fn commands(&self) -> &Commands {
        &self.0.commands
    }

    pub(crate) fn next_pid(&self) -> Pid {
        Pid(self.0.last_pid.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
