//! A simulated user: a client that does what phoenix.js does, over real frames and real requests.
//!
//! It holds what its user wants: the topics that it joined and the keys that it tracks in each. From
//! there it keeps itself connected: it reconnects with backoff, goes on to another node when one stays
//! out of reach, joins again whatever it had joined, asks for the state and tracks anew. Its lists are
//! kept by [`presence_core::client`]. Everything that a node sends is held against the rules of the
//! wire on its way in.
//!
//! The bytes go over streams that the simulation gives it ([`Outside::connect`]), and all chance comes
//! from there too, so that a seed gives the same bytes again.

mod carrier;
mod channel;
mod http;
mod longpoll;
mod rules;
mod session;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
mod websocket;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use presence_core::wire::Serializer;
use presence_server::env::BoxStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::carrier::{Carrier, OpenError};
use self::channel::Channel;
use self::session::Session;

/// What a client has of the outside: given by the simulation.
pub(super) trait Outside: Send + Sync {
    /// Opens a connection from a client to the HTTP port of a node. It may fail, hang, or break later.
    fn connect(&self, client: usize, node: usize) -> BoxFuture<'_, io::Result<BoxStream>>;

    /// A number for a presence that is about to be tracked, never the same twice.
    fn number(&self, client: usize, topic: &str, key: &str) -> u32;

    /// Where a load balancer sends one of its requests, if not to its own node.
    fn elsewhere(&self, _client: usize) -> Option<usize> {
        None
    }

    /// 64 random bits.
    fn random(&self) -> u64;

    /// Takes note of what happened, at once and in order.
    fn said(&self, client: usize, said: Said);

    /// Whether a client that has reconnected forgets, this once, to join one of its topics again: a
    /// planted defect.
    fn misses_rejoin(&self, _client: usize) -> bool {
        false
    }

    /// Whether each frame is to be told, as [`Said::Frame`].
    fn wants_frames(&self) -> bool {
        false
    }
}

/// How a client reaches its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    WebSocket,
    LongPoll,
}

/// How a client is set up.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) serializer: Serializer,
    pub(super) transport: Transport,
    /// The time between two heartbeats, and how long one may go without an answer.
    pub(super) heartbeat: Duration,
    /// How long a connection may take to open, and a message to be answered.
    pub(super) timeout: Duration,
    /// How long a long poll may take, which is longer than the node's poll window.
    pub(super) poll_timeout: Duration,
    /// The longest pause before it connects again.
    pub(super) max_backoff: Duration,
    /// How many nodes there are.
    pub(super) nodes: usize,
    /// The node that it begins with.
    pub(super) home: usize,
    /// After how many failures in a row it goes on to the next node; 0 for never.
    pub(super) moves_after: u32,
}

impl Settings {
    /// The pauses before a client connects again (phoenix.js, `reconnectAfterMs`).
    const BACKOFF_MS: [u64; 10] = [10, 50, 100, 150, 200, 250, 500, 1000, 2000, 5000];

    fn backoff(&self, tries: usize) -> Duration {
        let at = tries.min(Self::BACKOFF_MS.len() - 1);
        Duration::from_millis(Self::BACKOFF_MS[at]).min(self.max_backoff)
    }
}

/// What its user does, or what befalls it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Joins a topic, and stays in it.
    Join { topic: String },
    /// Tracks a key in a topic, which it joins for that if it has not.
    Track { topic: String, key: String },
    /// Replaces its meta.
    Update { topic: String, key: String },
    /// Tracks the key no longer.
    Untrack { topic: String, key: String },
    /// Says a number to all who are in a topic, itself among them.
    Shout { topic: String, number: u32 },
    /// Leaves a topic, with all that it tracks there.
    Leave { topic: String },
    /// Closes its connection and goes on at another node.
    Move { node: usize },
    /// Closes its tab. The client ends.
    Close,
    /// Is gone without a word: its connection is dropped. The client ends.
    Crash,
    /// Says nothing any more and reads nothing, while its connection stays open: a laptop that was
    /// closed. The client ends when nobody can give it orders any more.
    Vanish,
    /// Its connection breaks.
    Reset,
    /// Takes this long for each message, for a while.
    Slow {
        per_message: Duration,
        lasts: Duration,
    },
}

/// What happened to a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    Connected {
        node: usize,
    },
    /// No connection came of it.
    ConnectFailed {
        node: usize,
        why: String,
    },
    /// Its connection has ended; so have its channels, as far as it knows.
    Disconnected {
        node: usize,
        why: String,
    },
    Joined {
        topic: String,
    },
    /// Its join was refused, or not answered in time. It will try again.
    JoinFailed {
        topic: String,
        reason: String,
    },
    /// The node has closed a channel that it did not leave. It does not join again.
    ChannelClosed {
        topic: String,
    },
    /// The node says that a channel crashed. It will join again.
    ChannelErrored {
        topic: String,
    },
    /// It has sent a leave, and what it tracks in the topic may go from now on.
    Leaving {
        topic: String,
    },
    /// The node has said ok to its leave. Not told where it has joined again meanwhile.
    Left {
        topic: String,
    },
    /// The node has said ok to the track of this presence, or to the update that put it in the place
    /// of `before`.
    Tracked {
        topic: String,
        key: String,
        number: u32,
        before: Option<u32>,
    },
    /// The node has refused to track this presence, or to update to it.
    Refused {
        topic: String,
        key: String,
        number: u32,
        reason: String,
    },
    /// The node has not answered in time. It may do so yet.
    Unanswered {
        topic: String,
        key: String,
        number: u32,
    },
    /// It has sent an untrack.
    Untracking {
        number: u32,
    },
    /// The node has said ok to an untrack.
    Untracked {
        number: u32,
    },
    /// Its list of a topic, after a presence_state or a presence_diff.
    List {
        topic: String,
        /// Of all metas, in ascending order.
        numbers: Vec<u32>,
        /// What joined and what left, in the order in which it was told.
        joins: Vec<u32>,
        leaves: Vec<u32>,
        /// Whether it has had the state of its present join: if not, the list is of an earlier one.
        synced: bool,
        is_state: bool,
    },
    /// Somebody has said a number to all who are in a topic.
    Heard {
        topic: String,
        number: u32,
    },
    /// The node broke a rule of the wire.
    Broken {
        rule: String,
    },
    /// A frame that it sent or received, for a trace.
    Frame {
        text: String,
    },
}

/// Lives until an order ends it, or nobody can give orders any more.
pub(super) async fn run(
    id: usize,
    settings: Settings,
    orders: mpsc::UnboundedReceiver<Order>,
    outside: Arc<dyn Outside>,
) {
    let node = settings.home;
    let mut client = Client {
        id,
        settings,
        orders,
        outside,
        node,
        pause: Duration::ZERO,
        tries: 0,
        failures: 0,
        last_ref: 0,
        slow: None,
        channels: BTreeMap::new(),
    };
    let Err(Over) = client.live().await;
}

/// The client has ended.
struct Over;

/// A client, with or without a connection.
struct Client {
    id: usize,
    settings: Settings,
    orders: mpsc::UnboundedReceiver<Order>,
    outside: Arc<dyn Outside>,
    /// The one that it is connected to, or connects to next.
    node: usize,
    /// Before it connects next.
    pause: Duration,
    /// How often it has paused since it was connected last.
    tries: usize,
    /// Connections that failed in a row.
    failures: u32,
    /// Counts its messages, over all connections.
    last_ref: u64,
    slow: Option<Slow>,
    /// By topic.
    channels: BTreeMap<String, Channel>,
}

/// How slowly it reads, and until when.
#[derive(Clone, Copy)]
struct Slow {
    per_message: Duration,
    until: Instant,
}

/// What came of something that a client does while it is not connected.
enum Meanwhile<T> {
    Done(T),
    /// It is to go on at another node.
    Moved,
    /// It is to fail.
    Reset,
}

impl Client {
    async fn live(&mut self) -> Result<Infallible, Over> {
        loop {
            let carrier = self.connect().await?;
            Session::new(self, carrier).run().await?;
        }
    }

    /// Connects, as often as it takes.
    async fn connect(&mut self) -> Result<Carrier, Over> {
        loop {
            let (settings, node, pause) = (self.settings.clone(), self.node, self.pause);
            let (id, outside) = (self.id, Arc::clone(&self.outside));
            let opening = async move {
                tokio::time::sleep(pause).await;
                Carrier::open(&settings, id, node, outside).await
            };
            let error = match self.meanwhile(opening).await? {
                Meanwhile::Done(Ok(carrier)) => {
                    (self.tries, self.failures) = (0, 0);
                    self.say(Said::Connected { node });
                    return Ok(carrier);
                }
                Meanwhile::Done(Err(error)) => error,
                Meanwhile::Reset => OpenError::Failed("reset".into()),
                Meanwhile::Moved => continue,
            };
            let why = error.to_string();
            if let OpenError::Broken(broken) = error {
                self.say(Said::Broken {
                    rule: broken.to_string(),
                });
            }
            self.say(Said::ConnectFailed { node, why });
            self.back_off();
            self.failures += 1;
            if self.settings.moves_after > 0
                && self.failures.is_multiple_of(self.settings.moves_after)
            {
                self.node = (self.node + 1) % self.settings.nodes;
            }
        }
    }

    /// Takes orders while something without a connection goes on.
    async fn meanwhile<T>(&mut self, what: impl Future<Output = T>) -> Result<Meanwhile<T>, Over> {
        let mut what = std::pin::pin!(what);
        loop {
            let order = tokio::select! {
                biased;
                order = self.orders.recv() => order.ok_or(Over)?,
                done = what.as_mut() => return Ok(Meanwhile::Done(done)),
            };
            match order {
                Order::Close | Order::Crash => return Err(Over),
                Order::Vanish => return Err(self.vanish().await),
                Order::Reset => return Ok(Meanwhile::Reset),
                Order::Move { node } => {
                    (self.node, self.pause) = (node, Duration::ZERO);
                    return Ok(Meanwhile::Moved);
                }
                Order::Slow { per_message, lasts } => {
                    let until = Instant::now() + lasts;
                    self.slow = Some(Slow { per_message, until });
                }
                Order::Leave { topic } => {
                    self.channels.remove(&topic);
                }
                // Nobody hears it.
                Order::Shout { .. } => {}
                // It takes effect with the join.
                Order::Join { topic } => drop(self.channel(&topic)),
                Order::Track { topic, key } => {
                    self.channel(&topic).keys.insert(key);
                }
                Order::Untrack { topic, key } => {
                    if let Some(channel) = self.channels.get_mut(&topic) {
                        channel.keys.remove(&key);
                    }
                }
                // What it tracks will have a new meta anyway.
                Order::Update { .. } => {}
            }
        }
    }

    /// Does nothing, whatever it is told.
    async fn vanish(&mut self) -> Over {
        while self.orders.recv().await.is_some() {}
        Over
    }

    /// The channel of a topic, a new one where there is none.
    fn channel(&mut self, topic: &str) -> &mut Channel {
        self.channels.entry(topic.to_owned()).or_default()
    }

    /// Its connection has ended.
    fn disconnected(&mut self, why: String) {
        let node = self.node;
        self.say(Said::Disconnected { node, why });
        self.channels.values_mut().for_each(Channel::disconnected);
        self.back_off();
    }

    fn back_off(&mut self) {
        self.pause = self.settings.backoff(self.tries);
        self.tries += 1;
    }

    fn say(&self, said: Said) {
        self.outside.said(self.id, said);
    }
}
