//! Who uses the cluster: a client for each process of the schedule, and what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use presence_core::wire::Serializer;
use tokio::sync::mpsc;

use super::client::{self, Order, Settings, Transport};
use super::gate::Process;
use super::host::POLL_WINDOW;
use super::outside::Window;
use super::stage::Stage;
use crate::coverage::Counted;
use crate::truth::Number;

/// On how many hosts clients live: turmoil takes a microsecond for each host and tick.
pub(super) const HOSTS: usize = 2;

/// How often a client says that it lives, and how long its node has to answer.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a client waits for an answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(4);
/// The longest pause before a client connects again.
pub(super) const BACKOFF: Duration = Duration::from_secs(2);

/// All clients.
pub(super) struct People {
    stage: Arc<Stage>,
    rng: Rng,
    /// How many shards each node has.
    pools: Vec<usize>,
    /// All that anybody is tracked in.
    topics: Vec<Arc<str>>,
    /// Where new clients are sent, by host.
    hosts: Vec<mpsc::UnboundedSender<Birth>>,
    clients: Vec<Client>,
    by_process: BTreeMap<(usize, u64), usize>,
}

/// A client that begins to live on a host.
pub(super) struct Birth {
    id: usize,
    settings: Settings,
    orders: mpsc::UnboundedReceiver<Order>,
    window: Arc<Window>,
}

/// A client, and what is known of it.
pub(super) struct Client {
    /// The node that the schedule has put it on.
    home: usize,
    name: Arc<str>,
    orders: mpsc::UnboundedSender<Order>,
    network: Process,
    /// Whether its user is there: not once it has closed its tab, crashed, or closed its laptop.
    pub(super) is_there: bool,
    /// The topics and keys that it is to be tracked in and under.
    pub(super) wants: BTreeSet<(Arc<str>, Arc<str>)>,
    /// The topics that it has joined, or wants to.
    pub(super) topics: BTreeMap<Arc<str>, Membership>,
    /// The node that it is connected to, and in which life.
    pub(super) connected: Option<(usize, u32)>,
    /// Its transport and its serializer, for people.
    pub(super) speaks: String,
    /// Whether it has been connected before.
    pub(super) has_connected: bool,
}

/// A client's place in a topic.
#[derive(Debug, Default)]
pub(super) struct Membership {
    pub(super) is_joined: bool,
    /// Whether it has had a list since it joined.
    pub(super) is_synced: bool,
    pub(super) list: Vec<Number>,
    /// Where in the history of its node's lists it is.
    pub(super) version: usize,
}

impl Client {
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The node that it is connected to, or else the one that it began with.
    pub(super) fn node(&self) -> usize {
        self.connected.map_or(self.home, |(node, _)| node)
    }

    /// Its connection has ended, and what it had joined over it.
    pub(super) fn disconnect(&mut self) {
        self.connected = None;
        for membership in self.topics.values_mut() {
            membership.is_joined = false;
            membership.is_synced = false;
        }
    }
}

impl People {
    pub(super) fn new(
        stage: Arc<Stage>,
        seed: u64,
        pools: Vec<usize>,
        topics: Vec<Arc<str>>,
        hosts: Vec<mpsc::UnboundedSender<Birth>>,
    ) -> Self {
        Self {
            stage,
            rng: Rng::with_seed(seed ^ 0x0dd_b0d1e5),
            pools,
            topics,
            hosts,
            clients: Vec::new(),
            by_process: BTreeMap::new(),
        }
    }

    pub(super) fn all(&self) -> &[Client] {
        &self.clients
    }

    pub(super) fn of(&mut self, id: usize) -> &mut Client {
        &mut self.clients[id]
    }

    /// The client of a process that is there.
    pub(super) fn find(&self, node: usize, process: u64) -> Option<usize> {
        let id = self.by_process.get(&(node, process)).copied()?;
        self.clients[id].is_there.then_some(id)
    }

    /// For each topic, somebody who is in it.
    pub(super) fn speakers(&self) -> BTreeMap<Arc<str>, usize> {
        let mut speakers = BTreeMap::new();
        for (id, client) in self.clients.iter().enumerate() {
            for topic in client.topics.keys().filter(|_| client.is_there) {
                speakers.insert(Arc::clone(topic), id);
            }
        }
        speakers
    }

    /// Those that the schedule has put on a node and that are there.
    pub(super) fn of_node(&self, node: usize) -> Vec<usize> {
        let clients = self.clients.iter().enumerate();
        let there = clients.filter(|(_, client)| client.home == node && client.is_there);
        there.map(|(id, _)| id).collect()
    }

    /// The client of a process, which begins to live if there is none.
    pub(super) fn find_or_begin(&mut self, node: usize, process: u64) -> usize {
        if let Some(id) = self.find(node, process) {
            return id;
        }
        let id = self.clients.len();
        let is_polling = self.rng.u32(0..4) == 0;
        let mut others = Vec::new();
        // An older version passes no requests on, and nodes whose pools differ are none of one cluster.
        let is_one = self.pools.iter().all(|pool| *pool == self.pools[node]);
        if is_polling && self.rng.bool() && !self.stage.has_older() && is_one {
            self.stage.count(Counted::Wanders);
            others.extend(0..self.pools.len());
        }
        let settings = Settings {
            serializer: if self.rng.bool() {
                Serializer::V2
            } else {
                Serializer::V1
            },
            transport: if is_polling {
                Transport::LongPoll
            } else {
                Transport::WebSocket
            },
            heartbeat: HEARTBEAT,
            timeout: TIMEOUT,
            poll_timeout: POLL_WINDOW * 2,
            max_backoff: BACKOFF,
            nodes: self.pools.len(),
            home: node,
            moves_after: self.rng.u32(3..6),
        };
        self.stage.count(match is_polling {
            true => Counted::Polling,
            false => Counted::Socket,
        });
        let transport = if is_polling {
            "long polling"
        } else {
            "a WebSocket"
        };
        let speaks = format!("{transport}, vsn {}", settings.serializer.vsn());
        let (orders, ordered) = mpsc::unbounded_channel();
        let network = Process::default();
        let window = Arc::new(Window {
            stage: Arc::clone(&self.stage),
            network: network.clone(),
            others,
        });
        let birth = Birth {
            id,
            settings,
            orders: ordered,
            window,
        };
        // The hosts live for as long as the run.
        let _ = self.hosts[id % self.hosts.len()].send(birth);
        self.clients.push(Client {
            home: node,
            name: format!("u{process}").into(),
            orders,
            network,
            is_there: true,
            wants: BTreeSet::new(),
            topics: BTreeMap::new(),
            connected: None,
            speaks,
            has_connected: false,
        });
        self.by_process.insert((node, process), id);
        if self.rng.u32(0..4) == 0 {
            self.watch(id);
        }
        id
    }

    /// It joins some topic, be it only to see who is there.
    fn watch(&mut self, id: usize) {
        let Some(topic) = self.rng.choice(&self.topics).cloned() else {
            return;
        };
        self.stage.count(Counted::Watched);
        let order = Order::Join {
            topic: topic.to_string(),
        };
        self.clients[id].topics.entry(topic).or_default();
        self.order(id, order);
    }

    pub(super) fn track(&mut self, id: usize, topic: &Arc<str>, key: &Arc<str>) {
        let client = &mut self.clients[id];
        client.topics.entry(Arc::clone(topic)).or_default();
        let place = (Arc::clone(topic), Arc::clone(key));
        client.wants.insert(place);
        let (topic, key) = (topic.to_string(), key.to_string());
        self.order(id, Order::Track { topic, key });
    }

    /// Changes a presence that it has; whether it has it.
    pub(super) fn update(&mut self, id: usize, topic: &Arc<str>, key: &Arc<str>) -> bool {
        let place = (Arc::clone(topic), Arc::clone(key));
        let has = self.clients[id].wants.contains(&place);
        if has {
            let (topic, key) = (topic.to_string(), key.to_string());
            self.order(id, Order::Update { topic, key });
        }
        has
    }

    pub(super) fn untrack(&mut self, id: usize, topic: &Arc<str>, key: &Arc<str>) -> bool {
        let place = (Arc::clone(topic), Arc::clone(key));
        let had = self.clients[id].wants.remove(&place);
        if had {
            let (topic, key) = (topic.to_string(), key.to_string());
            self.order(id, Order::Untrack { topic, key });
        }
        had
    }

    pub(super) fn leave(&mut self, id: usize, topic: &Arc<str>) -> bool {
        let client = &mut self.clients[id];
        let had = client.topics.remove(topic).is_some();
        client.wants.retain(|(in_topic, _)| in_topic != topic);
        if had {
            let topic = topic.to_string();
            self.order(id, Order::Leave { topic });
        }
        had
    }

    /// Its user is gone: it closes its tab, crashes, or falls silent.
    pub(super) fn depart(&mut self, id: usize) -> &'static str {
        let (order, what, counted) = match self.rng.u32(0..10) {
            0..5 => (Order::Close, "closes its tab", Counted::TabClosed),
            5..8 => (Order::Crash, "crashes", Counted::ClientCrash),
            _ => (Order::Vanish, "falls silent", Counted::ClientSilent),
        };
        self.stage.count(counted);
        self.order(id, order);
        let client = &mut self.clients[id];
        client.is_there = false;
        client.wants.clear();
        client.topics.clear();
        what
    }

    pub(super) fn order(&mut self, id: usize, order: Order) {
        // One that has ended hears nothing.
        let _ = self.clients[id].orders.send(order);
    }

    /// Nothing passes between a client and any node, until it does again.
    pub(super) fn stall(&mut self, id: usize, stalls: bool) {
        let network = &self.clients[id].network;
        match stalls {
            true => network.stop(),
            false => network.go_on(),
        }
    }

    /// Whatever is wrong with their networks ends.
    pub(super) fn calm(&mut self) {
        for client in &self.clients {
            client.network.go_on();
        }
    }
}

/// A host on which clients live.
pub(super) async fn host(mut births: mpsc::UnboundedReceiver<Birth>) -> turmoil::Result {
    while let Some(birth) = births.recv().await {
        let Birth {
            id,
            settings,
            orders,
            window,
        } = birth;
        tokio::spawn(client::run(id, settings, orders, window));
    }
    Ok(())
}

/// A client reads slowly for a while.
pub(super) fn slow(us_per_message: u64, ms: u64) -> Order {
    Order::Slow {
        per_message: Duration::from_micros(us_per_message),
        lasts: Duration::from_millis(ms),
    }
}
