//! A node: one member of the system, with its world, its subscriptions and its shards.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use presence_core::entry::Pid;
use presence_core::presence::{KeyBuf, Meta};
use presence_core::tracker::{self, ConfigError, To};
use presence_core::wire::{EncodeError, Json, Payload};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cluster::{Handler, Message, Peer, Receiver, Transport};
use crate::env::Environment;
use crate::journal::Journals;
use crate::metrics::Merges;
use crate::presence::{PresenceError, Process};
use crate::relay::Relay;
use crate::sabotage::Sabotage;
use crate::shard::{self, Command, Pause, Pool, Read, Report, Setup, Snapshots, Word, Words};
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
    /// The settings of the trackers, of which there is one a shard: periods, and what each may hold.
    pub tracker: tracker::Config,
    /// Shards: 1 by default, as in the reference. All nodes of a cluster have as many.
    pub pool_size: usize,
    /// Bytes of messages of other nodes that may wait for one shard before nothing more is read from
    /// their connections: 64 MiB by default.
    pub shard_inbox_bytes: usize,
    /// Bytes of lists that are kept for whoever reads them again: 64 MiB by default.
    pub snapshot_bytes: usize,
    /// Where what happens to the shards is written down, for replay: nowhere by default.
    pub journals: Option<Arc<dyn Journals>>,
    /// How long a topic rests after a presence diff, for each client that was told: 20 µs by default,
    /// so that diffs to many clients take a quarter of a core at most. What changes meanwhile goes out
    /// as one diff. Under 1 ms, which is up to 49 clients, it does not rest, and never more than 1 s.
    pub diff_pause: Duration,
    /// Connections at once, WebSockets among them: 65,536 by default. One more is refused with 503.
    pub max_connections: usize,
    /// After how much silence of its client a WebSocket is closed: 60 s by default, as in Phoenix.
    /// (phoenix.js sends a heartbeat every 30 s.)
    pub idle_timeout: Duration,
    /// How long a client may take nothing of what is sent to it: 30 s by default, as in Phoenix's server.
    /// Then its connection is closed.
    pub send_timeout: Duration,
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
    /// The defects that a simulation has planted: none by default.
    pub sabotage: Sabotage,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "presence".into(),
            socket_queue_bytes: 8 << 20,
            undelivered_messages: 64,
            channels: presence_core::channel::Config::default(),
            wire: presence_core::wire::Limits::default(),
            tracker: tracker::Config::default(),
            pool_size: 1,
            shard_inbox_bytes: 64 << 20,
            snapshot_bytes: 64 << 20,
            journals: None,
            diff_pause: Duration::from_micros(20),
            max_connections: 65_536,
            idle_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(30),
            poll_window: Duration::from_secs(10),
            poll_sessions: 10_000,
            poll_queue_bytes: 1 << 20,
            request_timeout: Duration::from_secs(60),
            drain_batch: 10_000,
            drain_pause: Duration::from_secs(2),
            shutdown_timeout: Duration::from_secs(30),
            sabotage: Sabotage::default(),
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
    incarnation: u64,
    subscriptions: Arc<Subscriptions>,
    snapshots: Arc<Snapshots>,
    sockets: Arc<Sockets>,
    shards: Pool,
    words: Words,
    transport: Arc<OnceLock<Arc<dyn Transport>>>,
    relay: Arc<Relay>,
    last_pid: AtomicU64,
    /// By shard.
    merges: Vec<Merges>,
    started: Instant,
    is_stopping: AtomicBool,
}

/// Why a node can't be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The settings of its trackers can't work together.
    #[error(transparent)]
    Tracker(#[from] ConfigError),
    /// It has no shards.
    #[error("pool_size must not be 0")]
    NoShards,
}

impl Node {
    /// Starts a node in the world `env`, alone until it has a [transport](Self::attach). To be called
    /// within a tokio runtime.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn start(env: Arc<dyn Environment>, config: Config) -> Result<Self, StartError> {
        if config.pool_size == 0 {
            return Err(StartError::NoShards);
        }
        let incarnation = shard::incarnation(&*env);
        let subscriptions = Arc::new(Subscriptions::new(config.sabotage.clone()));
        let snapshots = Snapshots::new(config.snapshot_bytes, config.sabotage.clone());
        let snapshots = Arc::new(snapshots);
        let transport = Arc::default();
        let merges: Vec<_> = (0..config.pool_size).map(|_| Merges::new()).collect();
        let setup = |(number, merges): (u32, &Merges)| Setup {
            number,
            pool_size: config.pool_size,
            name: Arc::clone(&config.name),
            tracker: config.tracker.clone(),
            pause: Pause(config.diff_pause),
            env: Arc::clone(&env),
            subscriptions: Arc::clone(&subscriptions),
            snapshots: Arc::clone(&snapshots),
            transport: Arc::clone(&transport),
            journals: config.journals.clone(),
            merges: merges.clone(),
            sabotage: config.sabotage.clone(),
        };
        let setups = (0..).zip(&merges).map(setup).collect();
        let (shards, words) = Pool::start(setups, incarnation, config.shard_inbox_bytes)?;
        let relay = Relay::new(
            Arc::clone(&env),
            Arc::clone(&transport),
            config.poll_sessions,
        );
        Ok(Self(Arc::new(Inner {
            env,
            config,
            incarnation,
            subscriptions,
            snapshots,
            sockets: Arc::default(),
            shards,
            words,
            relay: Arc::new(relay),
            transport,
            last_pid: AtomicU64::new(0),
            merges,
            started: Instant::now(),
            is_stopping: AtomicBool::new(false),
        })))
    }

    /// How long a node that stops waits at most until the others have heard of it.
    const HEARD: Duration = Duration::from_secs(1);

    /// The node's world.
    pub fn env(&self) -> &Arc<dyn Environment> {
        &self.0.env
    }

    /// The node's settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The incarnation that it began with.
    pub fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    /// What a transport is to tell this node.
    pub fn handler(&self) -> Arc<dyn Handler> {
        Arc::new(Receiver {
            words: self.0.words.clone(),
            subscriptions: Arc::clone(&self.0.subscriptions),
            relay: Arc::downgrade(&self.0.relay),
        })
    }

    /// Makes the node one of a cluster. A node has one transport; another is not taken.
    pub fn attach(&self, transport: Arc<dyn Transport>) {
        if self.0.transport.set(transport).is_err() {
            tracing::error!("the node has a transport already");
            return;
        }
        // Those that it has reached by now were not greeted.
        let peers = self.peers().into_iter();
        for Peer { name, .. } in peers.filter(|peer| peer.is_connected) {
            self.0.words.all(|| Word::Connected(Arc::clone(&name)));
        }
    }

    /// The other nodes that its transport knows.
    pub fn peers(&self) -> Vec<Peer> {
        let transport = self.0.transport.get();
        transport.map_or_else(Vec::new, |transport| transport.peers())
    }

    /// How its shards are doing, in their order.
    pub async fn reports(&self) -> Vec<Report> {
        self.0.shards.reports().await
    }

    /// How they are doing, of those that say so within `limit`; and the numbers of the others.
    pub(crate) async fn reports_within(&self, limit: Duration) -> (Vec<Report>, Vec<u32>) {
        self.0.shards.reports_within(limit).await
    }

    /// Whether it has begun to [`drain`](Self::drain).
    pub fn is_stopping(&self) -> bool {
        self.0.is_stopping.load(Ordering::Acquire)
    }

    /// How long ago it was started.
    pub fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Something of this node that can be tracked and is no channel.
    pub fn process(&self) -> Process {
        Process::new(self.clone())
    }

    /// The presences of a topic, by key.
    ///
    /// What this node has tracked by now is among them, and what others have told it a moment ago. A
    /// list that is read again and again waits for nothing, however much there is to merge.
    pub async fn list(&self, topic: &str) -> Json<'static> {
        if let Some(list) = self.0.snapshots.read(topic) {
            return Arc::unwrap_or_clone(list);
        }
        let topic = topic.into();
        let list = self.read(|done| Read::List { topic, done }).await;
        list.map_or(Json::EMPTY, Arc::unwrap_or_clone)
    }

    /// The presence of one key in a topic; `None` where nobody is tracked under it.
    pub async fn by_key(&self, topic: &str, key: impl Into<KeyBuf>) -> Option<Json<'static>> {
        let (topic, key) = (topic.into(), key.into());
        self.read(|done| Read::Key { topic, key, done }).await?
    }

    /// Changes the metas of this node's presences in a topic, in one diff: `change` is told the key and
    /// the meta of each and says what it becomes, or `None` where it stays as it is. How many changed.
    ///
    /// # Errors
    ///
    /// The first presence that could not be changed; those before it were.
    pub async fn update_topic(
        &self,
        topic: &str,
        change: impl FnMut(&str, &Meta) -> Option<Meta> + Send + 'static,
    ) -> Result<usize, PresenceError> {
        let (done, answer) = oneshot::channel();
        let command = Command::UpdateTopic {
            topic: topic.into(),
            change: Box::new(change),
            done,
        };
        self.0.shards.send(topic, command);
        Ok(answer.await.map_err(|_| PresenceError::Stopping)??)
    }

    /// How many presences a topic has.
    pub async fn count(&self, topic: &str) -> usize {
        let topic = topic.into();
        let count = self.read(|done| Read::Count { topic, done }).await;
        count.unwrap_or(0)
    }

    /// `None` where the shard has ended.
    async fn read<T>(&self, read: impl FnOnce(oneshot::Sender<T>) -> Read) -> Option<T> {
        let (done, answer) = oneshot::channel();
        let read = read(done);
        let topic = Arc::clone(read.topic());
        self.0.shards.send(&topic, Command::Read(read));
        answer.await.ok()
    }

    /// Sends a message to every channel of the cluster that has joined a topic.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] where the payload has no frame in a serializer that a subscriber of this node
    /// speaks.
    pub fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: &Payload<'_>,
    ) -> Result<(), EncodeError> {
        self.broadcast_elsewhere(topic, event, payload);
        self.0.subscriptions.broadcast(topic, event, payload, None)
    }

    /// Sends a message to every channel of the other nodes that has joined a topic.
    pub(crate) fn broadcast_elsewhere(&self, topic: &str, event: &str, payload: &Payload<'_>) {
        if let Some(transport) = self.0.transport.get() {
            let message = Message::Broadcast {
                topic: topic.into(),
                event: event.into(),
                payload: payload.clone().into_owned(),
            };
            transport.send(&To::All, &message);
        }
    }

    /// Closes the sockets of an id, on whatever node they are, so that their clients connect again.
    pub fn disconnect(&self, socket_id: &str) {
        if let Some(transport) = self.0.transport.get() {
            let socket_id = socket_id.into();
            transport.send(&To::All, &Message::Disconnect { socket_id });
        }
        self.0.subscriptions.disconnect(socket_id);
    }

    /// Tells the other nodes that this one stops, closes all sockets with code 1012, in batches, so that
    /// their clients connect again elsewhere, and leaves the cluster once they are closed.
    ///
    /// The order matters. After the word that the node stops nobody is told of the leaves of its
    /// presences, which end with their sockets; and no socket is closed before the other nodes have
    /// heard that word, or what its client tracks elsewhere might be heard first and be listed beside
    /// what it takes the place of.
    pub async fn drain(&self) {
        let config = &self.0.config;
        self.0.is_stopping.store(true, Ordering::Release);
        self.0.shards.stop().await;
        let heard = self.0.relay.reach_all(self.peers());
        let limit = config.tracker.broadcast_period.min(Self::HEARD);
        if tokio::time::timeout(limit, heard).await.is_err() {
            tracing::info!(?limit, "a node has not said that it knows of the stop");
        }
        let sockets = &self.0.sockets;
        sockets.drain(config.drain_batch, config.drain_pause).await;
        if let Some(transport) = self.0.transport.get() {
            transport.close().await;
        }
    }

    pub(crate) fn sockets(&self) -> &Arc<Sockets> {
        &self.0.sockets
    }

    pub(crate) fn subscriptions(&self) -> &Arc<Subscriptions> {
        &self.0.subscriptions
    }

    pub(crate) fn relay(&self) -> &Arc<Relay> {
        &self.0.relay
    }

    pub(crate) fn shards(&self) -> &Pool {
        &self.0.shards
    }

    /// What merging cost, by shard.
    pub(crate) fn merges(&self) -> &[Merges] {
        &self.0.merges
    }

    pub(crate) fn next_pid(&self) -> Pid {
        Pid(self.0.last_pid.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
