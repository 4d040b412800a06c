//! Nodes that are one cluster, over a transport that is a queue: what crosses from one to another, and
//! what becomes of a shard that fails.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "what a test begins is no task of a node"
)]

mod program;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use presence_core::presence::Meta;
use presence_core::tracker::journal::{Header, Record};
use presence_core::tracker::{self, To};
use presence_core::wire::cluster::Version;
use presence_server::app::{self, Tokens};
use presence_server::channel::IntoPayload as _;
use presence_server::cluster::{Handler, Mesh, MeshConfig, Message, Peer, Secret, Transport};
use presence_server::env::{Environment as _, System};
use presence_server::journal::{Journal, Journals};
use presence_server::node::{Config, Node};
use presence_server::serve;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use program::{Client, Site, patient};

/// Carries messages between nodes of this process, in order.
#[derive(Clone, Debug, Default)]
struct Bus(Arc<Mutex<BTreeMap<Arc<str>, mpsc::UnboundedSender<Sent>>>>);

/// A message and who sent it.
type Sent = (Arc<str>, Message);

#[derive(Debug)]
struct Stop {
    name: Arc<str>,
    bus: Bus,
}

impl Bus {
    /// Makes a node one of the cluster.
    fn join(&self, node: &Node) {
        let name = Arc::clone(&node.config().name);
        let (sender, mut receiver) = mpsc::unbounded_channel::<Sent>();
        let handler: Arc<dyn Handler> = node.handler();
        tokio::spawn(async move {
            while let Some((peer, message)) = receiver.recv().await {
                handler.received(&peer, message, 100).await;
            }
        });
        self.0.lock().unwrap().insert(Arc::clone(&name), sender);
        let bus = self.clone();
        node.attach(Arc::new(Stop { name, bus }));
    }

    fn leave(&self, name: &str) {
        self.0.lock().unwrap().remove(name);
    }
}

impl Transport for Stop {
    fn send(&self, to: &To, message: &Message) {
        for (name, sender) in &*self.bus.0.lock().unwrap() {
            let is_meant = match to {
                To::All => *name != self.name,
                To::One(one) => one == name,
            };
            if is_meant {
                let _ = sender.send((Arc::clone(&self.name), message.clone()));
            }
        }
    }

    fn peers(&self) -> Vec<Peer> {
        let bus = self.bus.0.lock().unwrap();
        let others = bus.keys().filter(|name| **name != self.name);
        others
            .map(|name| {
                let mut peer = Peer::new(Arc::clone(name), 0);
                peer.is_connected = true;
                peer
            })
            .collect()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.bus.leave(&self.name);
        Box::pin(async {})
    }
}

/// A node that serves the conformance application.
struct Server {
    node: Node,
    site: Site,
    system: System,
}

impl Server {
    async fn start(bus: &Bus, name: &str) -> Self {
        Self::start_with(bus, config(name)).await
    }

    async fn start_with(bus: &Bus, config: Config) -> Self {
        let server = Self::alone(config).await;
        bus.join(&server.node);
        server
    }

    /// A node that is in no cluster yet.
    async fn alone(config: Config) -> Self {
        let system = System::new();
        let listener = system.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let node = Node::start(Arc::new(system.clone()), config).unwrap();
        let tokens = Tokens::new(&app::conformance::secret_key_base()).unwrap();
        let router = app::conformance(&node, tokens);
        let served = node.clone();
        tokio::spawn(async move { serve::serve(&served, listener, router).await });
        let site = Site { address };
        Self { node, site, system }
    }

    async fn client(&self) -> Client {
        self.site.connect("").await.unwrap()
    }

    /// A client that has joined a topic, and its first list.
    async fn joined(&self, topic: &str, name: &str) -> (Client, Value) {
        let mut client = self.client().await;
        let answer = client.join(topic, &json!({ "name": name })).await;
        assert_eq!(answer["status"], "ok");
        let state = client.event("presence_state").await;
        (client, state)
    }

    /// Waits until the keys of a topic are these.
    async fn lists(&self, topic: &str, keys: &[&str]) {
        let listed = async {
            while self.keys(topic).await != keys {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        patient(listed).await;
    }

    async fn keys(&self, topic: &str) -> Vec<String> {
        let list: Value = serde_json::from_str(self.node.list(topic).await.as_str()).unwrap();
        list.as_object().unwrap().keys().cloned().collect()
    }
}

fn config(name: &str) -> Config {
    Config {
        name: name.into(),
        tracker: tracker::Config::with_periods(Duration::from_millis(30), 10),
        poll_window: Duration::from_secs(2),
        ..Config::default()
    }
}

fn keys(diff: &Value) -> [Vec<String>; 2] {
    ["joins", "leaves"].map(|side| diff[side].as_object().unwrap().keys().cloned().collect())
}

#[tokio::test]
async fn clients_of_two_nodes_see_each_other() {
    let bus = Bus::default();
    let (a, b) = (
        Server::start(&bus, "a").await,
        Server::start(&bus, "b").await,
    );
    let (mut alice, _) = a.joined("room:1", "Alice").await;
    b.lists("room:1", &["Alice"]).await;
    let (bob, state) = b.joined("room:1", "Bob").await;
    assert!(state.get("Alice").is_some());
    assert_eq!(keys(&alice.event("presence_diff").await)[0], ["Bob"]);
    drop(bob);
    assert_eq!(keys(&alice.event("presence_diff").await)[1], ["Bob"]);
}

#[tokio::test]
async fn broadcasts_cross_and_so_do_disconnects() {
    let bus = Bus::default();
    let (a, b) = (
        Server::start(&bus, "a").await,
        Server::start(&bus, "b").await,
    );
    let mut here = a.client().await;
    here.join("conf:1", &json!({})).await;
    let mut there = b.client().await;
    there.join("conf:1", &json!({})).await;
    for (n, event) in ["shout", "shout_from"].into_iter().enumerate() {
        here.send(&json!(["1", "2", "conf:1", event, { "n": n }]))
            .await;
        assert_eq!(there.event("shout").await, json!({ "n": n }));
    }
    // What it said itself it heard once, of the first.
    assert_eq!(here.event("shout").await, json!({ "n": 0 }));
    here.send(&json!(["1", "3", "conf:1", "shout", { "n": 2 }]))
        .await;
    assert_eq!(here.event("shout").await, json!({ "n": 2 }));

    let tokens = Tokens::new(&app::conformance::secret_key_base()).unwrap();
    let now = i64::try_from(a.system.unix_time().as_millis()).unwrap();
    let token = tokens.sign("7", now).unwrap();
    let mut known = b.site.connect(&format!("token={token}")).await.unwrap();
    known.join("conf:2", &json!({})).await;
    a.node.disconnect("user_socket:7");
    assert_ne!(known.close_code().await, 1012);
}

#[tokio::test]
async fn a_long_poll_may_reach_any_node() {
    let bus = Bus::default();
    let (a, b) = (
        Server::start(&bus, "a").await,
        Server::start(&bus, "b").await,
    );
    let get = async |server: &Server, token: &str| -> Value {
        let path = match token {
            "" => "/socket/longpoll?vsn=2.0.0".into(),
            token => format!("/socket/longpoll?vsn=2.0.0&token={token}"),
        };
        let (status, body) = server.site.get(&path).await;
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    };
    let begun = get(&a, "").await;
    let token = begun["token"].as_str().unwrap();
    let join = json!(["1", "1", "conf:1", "phx_join", {}]).to_string();
    let path = format!("/socket/longpoll?vsn=2.0.0&token={token}");
    let (status, posted) = b.site.post(&path, &join).await;
    assert_eq!((status, &posted["status"]), (200, &json!(200)));
    let fetched = get(&b, token).await;
    assert_eq!(
        (&fetched["status"], &fetched["token"]),
        (&json!(200), &json!(token))
    );
    let reply: Value = serde_json::from_str(fetched["messages"][0].as_str().unwrap()).unwrap();
    assert_eq!(reply[4]["status"], "ok");
    // It waits as long there as here.
    assert_eq!(get(&b, token).await["status"], 204);
    let (status, refused) = b.site.post(&path, "\u{0}").await;
    assert_eq!((status, &refused["status"]), (200, &json!(200)));
    // What is no message closes the session, as over WebSocket.
    let closed = async { while get(&b, token).await["status"] != 410 {} };
    patient(closed).await;

    let begun = get(&a, "").await;
    let token = begun["token"].as_str().unwrap().to_owned();
    // Its node is known, and has no such session.
    let forged = format!("x{token}");
    assert_eq!(get(&b, &forged).await, json!({ "status": 410 }));
    // Its node can't be reached, and to the application it is a token of a user, which is forged.
    bus.leave("a");
    assert_eq!(get(&b, &token).await, json!({ "status": 403 }));
}

#[tokio::test]
async fn a_shard_that_panics_loses_its_presences_and_their_clients_join_again() {
    let bus = Bus::default();
    let mut two = config("a");
    two.pool_size = 2;
    let a = Server::start_with(&bus, two.clone()).await;
    two.name = "b".into();
    let b = Server::start_with(&bus, two).await;
    let topics: Vec<String> = (0..10).map(|n| format!("room:{n}")).collect();
    let in_shard = |shard| {
        topics
            .iter()
            .find(|topic| tracker::shard_of(topic, 2) == shard)
            .unwrap()
    };
    let (lost, kept) = (in_shard(0), in_shard(1));
    let (mut alice, _) = a.joined(lost, "Alice").await;
    let (mut bob, _) = a.joined(kept, "Bob").await;
    b.lists(lost, &["Alice"]).await;

    let failed = a
        .node
        .update_topic(lost, |_, _| panic!("as it was asked to"));
    failed.await.unwrap_err();
    assert_eq!(
        alice.event("phx_error").await,
        json!({ "reason": "channel_crash" })
    );
    assert_eq!(a.keys(lost).await, [""; 0]);
    alice
        .send(&json!(["2", "2", lost, "phx_join", { "name": "Alice" }]))
        .await;
    assert_eq!(keys(&alice.event("presence_diff").await)[0], ["Alice"]);
    b.lists(lost, &["Alice"]).await;
    let list: Value = serde_json::from_str(b.node.list(lost).await.as_str()).unwrap();
    assert_eq!(list["Alice"]["metas"].as_array().unwrap().len(), 1);

    bob.send(&json!(["1", "2", kept, "status", { "status": "fine" }]))
        .await;
    assert_eq!(bob.event("phx_reply").await["status"], "ok");
}

#[tokio::test]
async fn processes_are_tracked_until_they_are_dropped_and_changed_together() {
    let bus = Bus::default();
    let (a, b) = (
        Server::start(&bus, "a").await,
        Server::start(&bus, "b").await,
    );
    let (mut watcher, _) = b.joined("room:1", "Watcher").await;
    let robots: Vec<_> = (0..3).map(|_| a.node.process()).collect();
    for (n, robot) in robots.iter().enumerate() {
        robot
            .track("room:1", format!("robot{n}").as_str(), &json!({}))
            .await
            .unwrap();
    }
    b.lists("room:1", &["Watcher", "robot0", "robot1", "robot2"])
        .await;
    assert_eq!(b.node.count("room:1").await, 4);
    while !keys(&watcher.event("presence_diff").await)[0].contains(&"robot2".into()) {}

    let changed = a.node.update_topic("room:1", |key, _| {
        (key != "robot1").then(|| Meta::parse(r#"{"busy":true}"#).unwrap())
    });
    assert_eq!(changed.await, Ok(2));
    let diff = watcher.event("presence_diff").await;
    assert_eq!(keys(&diff), [["robot0", "robot2"], ["robot0", "robot2"]]);
    assert_eq!(diff["joins"]["robot0"]["metas"][0]["busy"], true);

    drop(robots);
    b.lists("room:1", &["Watcher"]).await;
}

/// Guards against: a list that is kept for its readers and is older than what they did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_read_again_and_again_has_what_this_node_did_by_then() {
    let bus = Bus::default();
    let (a, b) = (
        Server::start(&bus, "a").await,
        Server::start(&bus, "b").await,
    );
    let (here, there) = (a.node.process(), b.node.process());
    for n in 0..200 {
        let key = format!("key{n}");
        here.track("t", key.as_str(), &json!({})).await.unwrap();
        assert!(a.keys("t").await.contains(&key), "{key}");
        assert!(a.keys("t").await.contains(&key), "{key}");
        here.untrack("t", key.as_str()).await;
        assert!(!a.keys("t").await.contains(&key), "{key}");
        if n % 50 == 0 {
            there.track("t", key.as_str(), &json!({})).await.unwrap();
            let heard = async { while !a.keys("t").await.contains(&key) {} };
            patient(heard).await;
            there.untrack("t", key.as_str()).await;
            a.lists("t", &[]).await;
        }
    }
}

/// A cluster that is renewed node by node: an old version beside the present one.
#[tokio::test]
async fn nodes_of_two_versions_are_one_cluster() {
    let mut servers = Vec::new();
    let mut join = Vec::new();
    for (name, version) in [("a", Version::V1), ("b", Version::V2), ("c", Version::V2)] {
        let server = Server::alone(config(name)).await;
        let secret = Secret::new("of this test alone").unwrap();
        let mesh = MeshConfig {
            bind: "127.0.0.1:0".into(),
            join: join.clone(),
            max_version: version,
            ..MeshConfig::new(secret)
        };
        let mesh = Mesh::start_for(&server.node, mesh).await.unwrap();
        join.push(mesh.local_addr().to_string());
        servers.push((server, mesh));
    }
    let topic = "room:1";
    let mut clients = Vec::new();
    for (n, (server, _)) in servers.iter().enumerate() {
        clients.push(server.joined(topic, &format!("user{n}")).await.0);
    }
    for (server, _) in &servers {
        server.lists(topic, &["user0", "user1", "user2"]).await;
    }
    let versions = servers[1].0.node.peers();
    let versions: Vec<_> = versions.iter().map(|peer| peer.version).collect();
    assert_eq!(versions, [1, 2]);
    for server in [0, 1] {
        let payload = json!({ "of": server });
        let payload = payload.into_payload();
        servers[server]
            .0
            .node
            .broadcast(topic, "word", &payload)
            .unwrap();
        for client in &mut clients {
            assert_eq!(client.event("word").await, json!({ "of": server }));
        }
    }
    drop(clients.remove(0));
    servers[1].0.lists(topic, &["user1", "user2"]).await;
}

/// Journals in memory.
#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Arc<Mutex<Lines>>>>);

#[derive(Debug)]
struct Lines {
    header: Header,
    records: Vec<Record>,
}

struct Line(Arc<Mutex<Lines>>);

impl Journals for Kept {
    fn open(&self, shard: u32, header: &Header) -> io::Result<Box<dyn Journal>> {
        let mut kept = self.0.lock().unwrap();
        assert_eq!(shard as usize, kept.len());
        let lines = Arc::new(Mutex::new(Lines {
            header: header.clone(),
            records: Vec::new(),
        }));
        kept.push(Arc::clone(&lines));
        Ok(Box::new(Line(lines)))
    }
}

impl Journal for Line {
    fn record(&mut self, record: &Record) {
        self.0.lock().unwrap().records.push(record.clone());
    }
}

#[tokio::test]
async fn the_journal_of_a_shard_gives_the_same_list_when_it_is_played() {
    let bus = Bus::default();
    let kept = Arc::new(Kept::default());
    let mut journaled = config("a");
    journaled.journals = Some(Arc::clone(&kept) as Arc<dyn Journals>);
    let a = Server::start_with(&bus, journaled).await;
    let b = Server::start(&bus, "b").await;
    let (_alice, _) = a.joined("room:1", "Alice").await;
    let (_bob, _) = b.joined("room:1", "Bob").await;
    let gone = a.joined("room:1", "Carol").await;
    a.lists("room:1", &["Alice", "Bob", "Carol"]).await;
    drop(gone);
    a.lists("room:1", &["Alice", "Bob"]).await;

    let kept = kept.0.lock().unwrap();
    let lines = kept[0].lock().unwrap();
    let mut tracker = lines.header.tracker().unwrap();
    for Record { at, input } in lines.records.iter().cloned() {
        input.apply(&mut tracker, at);
        while tracker.poll_transmit().is_some() {}
        while tracker.poll_diff().is_some() {}
        while tracker.poll_event().is_some() {}
    }
    let mut listed: Vec<_> = tracker
        .set()
        .list("room:1")
        .map(|entry| entry.key.as_str())
        .collect();
    listed.sort_unstable();
    assert_eq!(listed, ["Alice", "Bob"]);
}
