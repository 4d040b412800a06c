//! Clients against nodes that are whole, over streams in memory and in time that does not pass.

mod random;
mod scripted;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use presence_server::app::{self, Tokens};
use presence_server::env::{Environment, Listener};
use presence_server::node::{Config, Node};
use tokio::io::DuplexStream;

use super::*;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(300);
const TOPIC: &str = "conf:a";

/// Nodes that know nothing of each other, and what their clients say.
struct Nodes {
    /// Of each: where its connections arrive. `None` where nobody listens.
    doors: Mutex<Vec<Option<mpsc::UnboundedSender<DuplexStream>>>>,
    random: Arc<Mutex<fastrand::Rng>>,
    numbers: Mutex<u32>,
    said: Mutex<Vec<(usize, Said)>>,
    misses: Mutex<bool>,
    /// The rules that were broken.
    broken: Mutex<Vec<String>>,
}

/// The world of one node.
#[derive(Debug)]
struct World(Arc<Mutex<fastrand::Rng>>);

struct Door(mpsc::UnboundedReceiver<DuplexStream>);

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

impl Listener for Door {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async {
            match self.0.recv().await {
                Some(stream) => Ok((Box::new(stream) as BoxStream, ADDRESS)),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(ADDRESS)
    }
}

impl Environment for World {
    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn unix_time(&self) -> Duration {
        Duration::from_secs(1_700_000_000)
    }

    fn random(&self) -> u64 {
        self.0.lock().unwrap().u64(..)
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

impl Outside for Nodes {
    fn connect(&self, _: usize, node: usize) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(1 << 10);
            let doors = self.doors.lock().unwrap();
            let sent = doors
                .get(node)
                .and_then(|door| Some(door.as_ref()?.send(theirs)));
            match sent {
                Some(Ok(())) => Ok(Box::new(ours) as BoxStream),
                _ => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }

    fn number(&self, _: usize, _: &str, _: &str) -> u32 {
        let mut last = self.numbers.lock().unwrap();
        *last += 1;
        *last
    }

    fn random(&self) -> u64 {
        self.random.lock().unwrap().u64(..)
    }

    fn said(&self, client: usize, said: Said) {
        if let Said::Broken { rule } = &said {
            self.broken.lock().unwrap().push(rule.clone());
        }
        self.said.lock().unwrap().push((client, said));
    }

    fn misses_rejoin(&self, _: usize) -> bool {
        *self.misses.lock().unwrap()
    }

    fn wants_frames(&self) -> bool {
        true
    }
}

impl Nodes {
    fn start(count: usize) -> Arc<Self> {
        Self::start_with(count, 7, &Config::default())
    }

    fn start_with(count: usize, seed: u64, config: &Config) -> Arc<Self> {
        let nodes = Arc::new(Self {
            doors: Mutex::default(),
            random: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))),
            numbers: Mutex::default(),
            said: Mutex::default(),
            misses: Mutex::default(),
            broken: Mutex::default(),
        });
        for n in 0..count {
            let (door, arrivals) = mpsc::unbounded_channel();
            nodes.doors.lock().unwrap().push(Some(door));
            let config = Config {
                name: format!("n{n}").into(),
                ..config.clone()
            };
            let world = World(Arc::clone(&nodes.random));
            let node = Node::start(Arc::new(world), config).unwrap();
            let tokens = Tokens::new(&app::conformance::secret_key_base()).unwrap();
            let router = app::conformance(&node, tokens);
            tokio::spawn(async move {
                presence_server::serve::serve(&node, Box::new(Door(arrivals)), router).await;
            });
        }
        nodes
    }

    fn client(self: &Arc<Self>, id: usize, kind: Kind) -> mpsc::UnboundedSender<Order> {
        let (orders, receiver) = mpsc::unbounded_channel();
        let outside = Arc::clone(self) as Arc<dyn Outside>;
        tokio::spawn(run(id, kind.settings(), receiver, outside));
        orders
    }

    /// Waits until `holds` for the list that each client has had last, by client.
    async fn until(
        &self,
        what: &str,
        holds: impl Fn(&BTreeMap<usize, Vec<u32>>) -> bool,
    ) -> BTreeMap<usize, Vec<u32>> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let lists = self.lists();
            assert_eq!(*self.broken.lock().unwrap(), [""; 0]);
            if holds(&lists) {
                return lists;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: {:#?}",
                self.said.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn lists(&self) -> BTreeMap<usize, Vec<u32>> {
        let mut lists = BTreeMap::new();
        for (client, said) in &*self.said.lock().unwrap() {
            if let Said::List { numbers, .. } = said {
                lists.insert(*client, numbers.clone());
            }
        }
        lists
    }

    fn has_said(&self, client: usize, wanted: impl Fn(&Said) -> bool) -> usize {
        let said = self.said.lock().unwrap();
        said.iter()
            .filter(|(of, said)| *of == client && wanted(said))
            .count()
    }
}

#[derive(Clone, Copy)]
struct Kind(Serializer, Transport);

const KINDS: [Kind; 4] = [
    Kind(Serializer::V1, Transport::WebSocket),
    Kind(Serializer::V2, Transport::WebSocket),
    Kind(Serializer::V1, Transport::LongPoll),
    Kind(Serializer::V2, Transport::LongPoll),
];

impl Kind {
    fn settings(self) -> Settings {
        Settings {
            serializer: self.0,
            transport: self.1,
            heartbeat: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            poll_timeout: Duration::from_secs(20),
            max_backoff: Duration::from_secs(5),
            nodes: 2,
            home: 0,
            moves_after: 3,
        }
    }
}

fn listed(client: usize, numbers: &[u32]) -> impl Fn(&BTreeMap<usize, Vec<u32>>) -> bool {
    move |lists| lists.get(&client).is_some_and(|list| list == numbers)
}

fn track(key: &str) -> Order {
    Order::Track {
        topic: TOPIC.into(),
        key: key.into(),
    }
}

#[tokio::test(start_paused = true)]
async fn clients_of_every_kind_see_each_other_and_what_changes() {
    let nodes = Nodes::start(1);
    let mut orders = Vec::new();
    for (id, kind) in KINDS.into_iter().enumerate() {
        orders.push(nodes.client(id, kind));
        orders[id].send(track(&format!("u{id}"))).unwrap();
    }
    let all = |numbers: &[u32]| {
        let numbers = numbers.to_vec();
        move |lists: &BTreeMap<usize, Vec<u32>>| (0..4).all(|id| lists.get(&id) == Some(&numbers))
    };
    nodes.until("four track", all(&[1, 2, 3, 4])).await;
    for id in [0, 3] {
        let (topic, key) = (TOPIC.into(), format!("u{id}"));
        orders[id].send(Order::Update { topic, key }).unwrap();
    }
    nodes
        .until("two update", |lists| {
            (0..4).all(|id| lists[&id].len() == 4 && lists[&id][2..] == [5, 6])
        })
        .await;
    for id in [0, 3] {
        let updated = |said: &Said| {
            matches!(
                said,
                Said::Tracked {
                    before: Some(_),
                    number: 5..,
                    ..
                }
            )
        };
        assert_eq!(nodes.has_said(id, updated), 1);
    }
    let untrack = Order::Untrack {
        topic: TOPIC.into(),
        key: "u1".into(),
    };
    orders[1].send(untrack).unwrap();
    nodes
        .until("one untracks", |lists| {
            (0..4).all(|id| lists[&id].len() == 3)
        })
        .await;
    orders[2]
        .send(Order::Leave {
            topic: TOPIC.into(),
        })
        .unwrap();
    nodes
        .until("one leaves", |lists| {
            [0, 1, 3].iter().all(|id| lists[id].len() == 2)
        })
        .await;
    orders[2]
        .send(Order::Join {
            topic: TOPIC.into(),
        })
        .unwrap();
    nodes
        .until("it joins again", |lists| lists[&2].len() == 2)
        .await;
    assert_eq!(
        nodes.has_said(2, |said| matches!(said, Said::Left { .. })),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_replaced_with_new_numbers() {
    for kind in KINDS {
        let nodes = Nodes::start(1);
        let (one, other) = (nodes.client(0, kind), nodes.client(1, kind));
        one.send(track("a")).unwrap();
        nodes.until("one tracks", listed(0, &[1])).await;
        other.send(track("b")).unwrap();
        nodes.until("the other tracks", listed(1, &[1, 2])).await;
        other.send(Order::Reset).unwrap();
        nodes
            .until("the old number has left", listed(0, &[1, 3]))
            .await;
        nodes
            .until("it has the state again", listed(1, &[1, 3]))
            .await;
        let broke =
            |said: &Said| matches!(said, Said::Disconnected { node: 0, why } if why == "reset");
        assert_eq!(nodes.has_said(1, broke), 1);
        assert_eq!(
            nodes.has_said(1, |said| matches!(said, Said::Joined { .. })),
            2
        );
        assert_eq!(
            nodes.has_said(0, |said| matches!(said, Said::Connected { .. })),
            1
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_ordered_without_a_connection_is_done_with_the_next_join() {
    let nodes = Nodes::start(1);
    let door = nodes.doors.lock().unwrap()[0].take();
    let client = nodes.client(0, KINDS[1]);
    let topic = || TOPIC.to_owned();
    client.send(track("a")).unwrap();
    client.send(track("b")).unwrap();
    client
        .send(Order::Untrack {
            topic: topic(),
            key: "a".into(),
        })
        .unwrap();
    client
        .send(Order::Update {
            topic: topic(),
            key: "b".into(),
        })
        .unwrap();
    client
        .send(Order::Join {
            topic: "conf:left".into(),
        })
        .unwrap();
    client
        .send(Order::Leave {
            topic: "conf:left".into(),
        })
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    nodes.doors.lock().unwrap()[0] = door;
    nodes.until("it tracks", listed(0, &[1])).await;
    assert_eq!(
        nodes.has_said(0, |said| matches!(said, Said::Joined { .. })),
        1
    );
    let before =
        |said: &Said| matches!(said, Said::Tracked { key, before: None, .. } if key == "b");
    assert_eq!(nodes.has_said(0, before), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_moves_to_another_node_and_off_one_that_is_gone() {
    for kind in KINDS {
        let nodes = Nodes::start(2);
        let (one, other) = (nodes.client(0, kind), nodes.client(1, kind));
        one.send(track("a")).unwrap();
        nodes.until("one tracks", listed(0, &[1])).await;
        other.send(track("b")).unwrap();
        nodes.until("the other tracks", listed(0, &[1, 2])).await;
        other.send(Order::Move { node: 1 }).unwrap();
        nodes
            .until("it is alone at the other node", listed(1, &[3]))
            .await;
        nodes.until("it has left the first", listed(0, &[1])).await;
        nodes.doors.lock().unwrap()[1] = None;
        other.send(Order::Reset).unwrap();
        nodes.until("it is back", listed(0, &[1, 4])).await;
        let failed = |said: &Said| matches!(said, Said::ConnectFailed { node: 1, .. });
        assert_eq!(nodes.has_said(1, failed), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_or_ends_is_heard_of_no_more() {
    for kind in KINDS {
        for order in [Order::Vanish, Order::Crash, Order::Close] {
            let nodes = Nodes::start(1);
            let (one, other) = (nodes.client(0, kind), nodes.client(1, kind));
            one.send(track("a")).unwrap();
            nodes.until("one tracks", listed(0, &[1])).await;
            other.send(track("b")).unwrap();
            nodes.until("the other tracks", listed(0, &[1, 2])).await;
            let frames = |said: &Said| matches!(said, Said::Frame { .. });
            let ended = Instant::now();
            other.send(order.clone()).unwrap();
            nodes.until("its presence leaves", listed(0, &[1])).await;
            // A node finds out by itself that nobody is there any more.
            let is_silent = order == Order::Vanish || kind.1 == Transport::LongPoll;
            assert_eq!(
                ended.elapsed() > Duration::from_secs(10),
                is_silent,
                "{order:?}"
            );
            let before = nodes.has_said(1, frames);
            tokio::time::sleep(Duration::from_secs(100)).await;
            assert_eq!(nodes.has_said(1, frames), before, "{order:?}");
            assert_eq!(other.is_closed(), order != Order::Vanish);
            drop(other);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_stays_by_its_heartbeats_or_polls() {
    for kind in KINDS {
        let nodes = Nodes::start(1);
        let client = nodes.client(0, kind);
        client.send(track("a")).unwrap();
        nodes.until("it tracks", listed(0, &[1])).await;
        tokio::time::sleep(Duration::from_secs(200)).await;
        let ended = |said: &Said| matches!(said, Said::Disconnected { .. } | Said::Broken { .. });
        assert_eq!(nodes.has_said(0, ended), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_takes_its_time_and_misses_nothing() {
    for kind in KINDS {
        let nodes = Nodes::start(1);
        let (one, other) = (nodes.client(0, kind), nodes.client(1, kind));
        one.send(track("a")).unwrap();
        nodes.until("one tracks", listed(0, &[1])).await;
        let per_message = Duration::from_secs(1);
        let lasts = Duration::from_secs(60);
        one.send(Order::Slow { per_message, lasts }).unwrap();
        let began = Instant::now();
        for n in 0..10 {
            other.send(track(&format!("b{n}"))).unwrap();
        }
        let all: Vec<u32> = (1..=11).collect();
        nodes.until("it has seen all", listed(0, &all)).await;
        assert!(
            began.elapsed() >= Duration::from_secs(8),
            "{:?}",
            began.elapsed()
        );
        nodes.until("the other was quick", listed(1, &all)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_planted_defect_forgets_a_topic_until_the_next_connection() {
    let nodes = Nodes::start(1);
    let (one, other) = (nodes.client(0, KINDS[1]), nodes.client(1, KINDS[1]));
    one.send(track("a")).unwrap();
    nodes.until("one tracks", listed(0, &[1])).await;
    *nodes.misses.lock().unwrap() = true;
    one.send(Order::Reset).unwrap();
    other.send(track("b")).unwrap();
    nodes.until("the other is alone", listed(1, &[2])).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(nodes.lists()[&0], [1], "it knows of nothing");
    *nodes.misses.lock().unwrap() = false;
    one.send(Order::Reset).unwrap();
    nodes.until("it is back", listed(0, &[2, 3])).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_answers_nothing_is_given_up() {
    let nodes = Nodes::start(2);
    let (door, mut silent) = mpsc::unbounded_channel();
    nodes.doors.lock().unwrap()[0] = Some(door);
    let client = nodes.client(0, KINDS[1]);
    client.send(track("a")).unwrap();
    nodes
        .until("it goes on to the second", listed(0, &[1]))
        .await;
    let failed = |said: &Said| matches!(said, Said::ConnectFailed { node: 0, .. });
    assert_eq!(nodes.has_said(0, failed), 3);
    assert!(silent.try_recv().is_ok());
}

#[test]
fn the_same_seed_gives_the_same_frames() {
    let run = || {
        alone(async {
            let nodes = Nodes::start(1);
            let mut orders = Vec::new();
            for (id, kind) in KINDS.into_iter().enumerate() {
                orders.push(nodes.client(id, kind));
                orders[id].send(track(&format!("u{id}"))).unwrap();
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
            orders[3].send(Order::Reset).unwrap();
            orders[0].send(Order::Reset).unwrap();
            tokio::time::sleep(Duration::from_secs(100)).await;
            std::mem::take(&mut *nodes.said.lock().unwrap())
        })
    };
    let (first, again) = (run(), run());
    for (first, again) in first.iter().zip(&again) {
        assert!(!matches!(first.1, Said::Broken { .. }), "{first:?}");
        assert_eq!(first, again);
    }
    assert!(first.len() > 100 && first.len() == again.len());
}

/// Runs something in a runtime of its own, in which nothing of another run is left.
fn alone<T>(run: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    runtime.unwrap().block_on(run)
}
