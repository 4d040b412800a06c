//! What a node tells whoever operates it, as plain HTTP requests.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "what a test begins is no task of a node"
)]

#[path = "program/answer.rs"]
mod answer;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt as _;
use presence_core::clock::ReplicaId;
use presence_core::entry::Pid;
use presence_core::presence::{KeyBuf, Meta};
use presence_core::tracker::journal::{Header, Record};
use presence_core::tracker::{self, Tracker};
use presence_core::wire::cluster;
use presence_server::app::{self, Tokens};
use presence_server::cluster::{Mesh, MeshConfig, Message, Secret};
use presence_server::env::{Environment as _, System};
use presence_server::journal::{Journal, Journals};
use presence_server::node::{Config, Node};
use presence_server::serve;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use answer::Answer;
use program::{Client, patient};

#[tokio::test]
async fn who_comes_and_goes_is_counted() {
    let server = Server::guide(Config::default()).await;
    let counts = || async {
        let metrics = server.metrics().await;
        [
            r#"presence_sockets{transport="websocket"}"#,
            r#"presence_sockets_opened_total{transport="websocket"}"#,
            "presence_channels",
            r#"presence_presences{shard="0"}"#,
            r#"presence_own_presences{shard="0"}"#,
            r#"presence_topics{shard="0"}"#,
        ]
        .map(|series| metrics.value(series) as u64)
    };
    assert_eq!(counts().await, [0; 6]);

    let mut alice = server.join("room:1", "Alice").await;
    let mut bob = server.join("room:1", "Bob").await;
    assert_eq!(counts().await, [2, 2, 2, 2, 2, 1]);

    alice
        .send(&json!(["1", "2", "room:1", "phx_leave", {}]))
        .await;
    assert_eq!(alice.event("phx_reply").await["status"], "ok");
    bob.event("presence_diff").await;
    assert_eq!(counts().await, [2, 2, 1, 1, 1, 1]);

    drop((alice, bob));
    let gone = async { while counts().await != [0, 2, 0, 0, 0, 0] {} };
    patient(gone).await;
}

#[tokio::test]
async fn sockets_are_told_apart_and_overflows_counted() {
    let config = Config {
        poll_queue_bytes: 10,
        ..Config::default()
    };
    let server = Server::guide(config).await;
    let longpoll = |family: &str| format!("presence_{family}{{transport=\"longpoll\"}}");
    let begun = server.get("/socket/longpoll?vsn=2.0.0").await.json();
    assert_eq!(server.metrics().await.value(&longpoll("sockets")), 1.0);

    let query = format!("vsn=2.0.0&token={}", begun["token"].as_str().unwrap());
    let join = r#"["1","1","room:1","phx_join",{"name":"Alice"}]"#;
    let path = format!("/socket/longpoll?{query}");
    assert_eq!(server.request("POST", &path, join).await.status, 200);
    let closed = async { while server.metrics().await.value(&longpoll("sockets")) != 0.0 {} };
    patient(closed).await;
    let metrics = server.metrics().await;
    assert_eq!(
        metrics.value(&longpoll("socket_queue_overflows_total")),
        1.0
    );
    assert_eq!(metrics.value(&longpoll("sockets_opened_total")), 1.0);
    let websocket = r#"presence_sockets_opened_total{transport="websocket"}"#;
    assert_eq!(metrics.value(websocket), 0.0);
}

#[tokio::test]
async fn what_another_node_says_is_counted() {
    let server = Server::guide(Config::default()).await;
    let node = &server.node;
    let handler = node.handler();
    let mut other = Other::new();
    for key in ["a", "b", "c"] {
        other.track(key);
    }
    let heartbeat = other.heartbeat();
    handler
        .received(&"other".into(), of_shard_0(heartbeat.clone()), 100)
        .await;
    let metrics = patient(async {
        loop {
            let metrics = server.metrics().await;
            if metrics.value(r#"presence_presences{shard="0"}"#) == 3.0 {
                return metrics;
            }
        }
    })
    .await;
    let replicas = |status: &str| {
        metrics.value(&format!(
            "presence_replicas{{shard=\"0\",status=\"{status}\"}}"
        ))
    };
    let by_status = ["up", "arriving", "down"].map(replicas);
    assert_eq!(by_status.iter().sum::<f64>(), 1.0, "{by_status:?}");
    assert_eq!(metrics.value(r#"presence_own_presences{shard="0"}"#), 0.0);
    assert_eq!(
        metrics.value(r#"presence_merge_delta_values_count{shard="0"}"#),
        1.0
    );
    assert_eq!(
        metrics.value(r#"presence_merge_delta_values_sum{shard="0"}"#),
        3.0
    );
    let up_to =
        |values| format!("presence_merge_delta_values_bucket{{shard=\"0\",le=\"{values}\"}}");
    assert_eq!(metrics.value(&up_to("1")), 0.0);
    assert_eq!(metrics.value(&up_to("4")), 1.0);
    assert_eq!(
        metrics.value(r#"presence_merge_duration_seconds_count{shard="0"}"#),
        1.0
    );
    assert!(metrics.value(r#"presence_merge_duration_seconds_sum{shard="0"}"#) > 0.0);
    assert_eq!(
        metrics.value(r#"presence_refused_messages_total{shard="0"}"#),
        0.0
    );

    handler
        .received(&"mallory".into(), of_shard_0(heartbeat), 100)
        .await;
    let refused = async {
        let series = r#"presence_refused_messages_total{shard="0"}"#;
        while server.metrics().await.value(series) != 1.0 {}
    };
    patient(refused).await;
    let seen = server.cluster().await;
    assert_eq!(seen["shards"][0]["stats"]["refused"], 1);
    assert_eq!(seen["shards"][0]["clocks"]["other#7"], 3);
    let replica = &seen["shards"][0]["replicas"][0];
    assert_eq!(
        (&replica["name"], &replica["incarnation"]),
        (&json!("other"), &json!(7))
    );
}

#[tokio::test]
async fn nodes_of_a_cluster_tell_of_each_other() {
    let named = |name: &str| Config {
        name: name.into(),
        tracker: tracker::Config::with_periods(Duration::from_millis(50), 5),
        ..Config::default()
    };
    let (a, b) = (
        Server::guide(named("a")).await,
        Server::guide(named("b")).await,
    );
    let secret = Secret::new("of this test alone").unwrap();
    let mut mesh = MeshConfig::new(secret);
    mesh.bind = "127.0.0.1:0".into();
    let first = Mesh::start_for(&a.node, mesh.clone()).await.unwrap();
    mesh.join = vec![first.local_addr().to_string()];
    let _second = Mesh::start_for(&b.node, mesh).await.unwrap();
    let _alice = a.join("room:1", "Alice").await;

    let told = async {
        loop {
            let metrics = b.metrics().await;
            if metrics.value(r#"presence_presences{shard="0"}"#) == 1.0 {
                return metrics;
            }
        }
    };
    let metrics = patient(told).await;
    assert_eq!(metrics.value(r#"presence_own_presences{shard="0"}"#), 0.0);
    assert_eq!(metrics.value(r#"presence_peer_connected{peer="a"}"#), 1.0);
    for counted in [
        "sent_messages",
        "sent_bytes",
        "received_messages",
        "received_bytes",
    ] {
        let series = format!("presence_peer_{counted}_total{{peer=\"a\"}}");
        assert!(metrics.value(&series) > 0.0, "{series}");
    }
    let seen = b.cluster().await;
    let peer = &seen["peers"][0];
    assert_eq!(
        (&peer["name"], &peer["connected"]),
        (&json!("a"), &json!(true))
    );
    assert_eq!(peer["incarnation"], a.node.incarnation());
    assert_eq!(peer["address"], first.local_addr().to_string());

    // Neither changes any more: what they have seen is the same.
    let agree = async {
        let clocks = |mut seen: Value| seen["shards"][0]["clocks"].take();
        while clocks(a.cluster().await) != clocks(b.cluster().await) {}
    };
    patient(agree).await;
}

#[tokio::test]
async fn a_shard_that_begins_a_new_life_goes_on_counting() {
    let config = Config {
        tracker: tracker::Config::with_periods(Duration::from_millis(5), 3),
        ..Config::default()
    };
    let server = Server::guide(config).await;
    let heartbeats = r#"presence_idle_heartbeats_total{shard="0"}"#;
    let some = async {
        loop {
            let count = server.metrics().await.value(heartbeats);
            if count >= 10.0 {
                return count;
            }
        }
    };
    let before = patient(some).await;
    let first_life = server.cluster().await["shards"][0]["incarnation"].as_u64();

    let process = server.node.process();
    process.track("t", "k", &json!({})).await.unwrap();
    let crashed = server
        .node
        .update_topic("t", |_, _| panic!("a test's"))
        .await;
    assert!(crashed.is_err());
    let metrics = server.metrics().await;
    assert_eq!(
        metrics.value(r#"presence_shard_panics_total{shard="0"}"#),
        1.0
    );
    assert_eq!(metrics.value(r#"presence_presences{shard="0"}"#), 0.0);
    assert!(metrics.value(heartbeats) >= before);
    let seen = server.cluster().await;
    assert_eq!(seen["shards"][0]["panics"], 1);
    assert!(seen["shards"][0]["incarnation"].as_u64() > first_life);
    assert_eq!(seen["incarnation"].as_u64(), first_life);
}

#[tokio::test]
async fn two_nodes_in_one_process_share_no_numbers() {
    let [mine, theirs] = [
        Server::guide(Config::default()).await,
        Server::guide(Config::default()).await,
    ];
    let _alice = mine.join("room:1", "Alice").await;
    let mut other = Other::new();
    other.track("a");
    let heartbeat = of_shard_0(other.heartbeat());
    mine.node
        .handler()
        .received(&"other".into(), heartbeat, 100)
        .await;
    let merged = r#"presence_merge_delta_values_count{shard="0"}"#;
    patient(async { while mine.metrics().await.value(merged) != 1.0 {} }).await;
    let metrics = theirs.metrics().await;
    for series in [
        merged,
        "presence_channels",
        r#"presence_sockets_opened_total{transport="websocket"}"#,
        r#"presence_presences{shard="0"}"#,
    ] {
        assert_eq!(metrics.value(series), 0.0, "{series}");
    }
}

#[tokio::test]
async fn health_is_bad_from_the_moment_that_the_node_stops() {
    let server = Server::guide(Config::default()).await;
    let healthy = server.get("/health").await;
    assert_eq!(
        (healthy.status, healthy.json()),
        (200, json!({ "status": "ok" }))
    );
    assert_eq!(server.metrics().await.value("presence_stopping"), 0.0);

    // A socket that is not closed yet holds the drain up.
    let mut alice = server.join("room:1", "Alice").await;
    let mut drain = Box::pin(server.node.drain());
    assert!(drain.as_mut().now_or_never().is_none());
    let sick = server.get("/health").await;
    assert_eq!(
        (sick.status, sick.json()),
        (503, json!({ "status": "stopping" }))
    );
    assert_eq!(server.metrics().await.value("presence_stopping"), 1.0);
    assert_eq!(server.cluster().await["status"], "stopping");
    let (code, ()) = tokio::join!(alice.close_code(), patient(drain));
    assert_eq!(code, 1012);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn health_names_the_shard_that_does_not_answer() {
    let config = Config {
        pool_size: 2,
        ..Config::default()
    };
    let server = Server::guide(config).await;
    let node = &server.node;
    let mut topics = (0..).map(|n| format!("t{n}"));
    let topic = topics
        .find(|topic| tracker::shard_of(topic, 2) == 1)
        .unwrap();
    let process = node.process();
    process.track(&topic, "k", &json!({})).await.unwrap();

    let (begin, begun) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let mut stuck = Box::pin(node.update_topic(&topic, move |_, _| {
        begin.send(()).unwrap();
        released.recv().unwrap();
        None
    }));
    assert!(stuck.as_mut().now_or_never().is_none());
    // Or the worker that asks the shards could be the one that gets stuck.
    begun.recv().unwrap();
    let sick = server.get("/health").await;
    let said = json!({ "status": "failing", "silent_shards": [1] });
    assert_eq!((sick.status, sick.json()), (503, said));
    let metrics = server.metrics().await;
    assert_eq!(metrics.value(r#"presence_shard_up{shard="0"}"#), 1.0);
    assert_eq!(metrics.value(r#"presence_shard_up{shard="1"}"#), 0.0);
    assert_eq!(metrics.value(r#"presence_presences{shard="0"}"#), 0.0);
    assert!(!metrics.0.contains_key(r#"presence_presences{shard="1"}"#));
    let seen = server.cluster().await;
    assert_eq!(
        (&seen["status"], &seen["silent_shards"]),
        (&json!("failing"), &json!([1]))
    );

    // One of three words is heard with the turn that is stuck.
    for _ in 0..3 {
        node.handler().connected(&"other".into());
    }
    let mut reports = Box::pin(node.reports());
    assert!(reports.as_mut().now_or_never().is_none());
    release.send(()).unwrap();
    assert_eq!(patient(reports).await[1].waiting, 2);
    assert_eq!(patient(stuck).await, Ok(0));
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn the_cluster_is_told_under_the_promised_names() {
    let config = Config {
        name: "a".into(),
        ..Config::default()
    };
    let server = Server::guide(config).await;
    let incarnation = server.node.incarnation();
    let answer = server.get("/cluster").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(
        answer.body.starts_with("{\n  \"name\": \"a\",\n"),
        "{}",
        answer.body
    );
    let mut seen = answer.json();
    assert!(seen["uptime_ms"].take().is_u64());
    let stats = seen["shards"][0]["stats"].take();
    for field in [
        "refused",
        "transfers_full",
        "suspected_itself",
        "handed_over",
    ] {
        assert_eq!(stats[field], 0, "{field}");
    }
    let expected = json!({
        "name": "a",
        "incarnation": incarnation,
        "version": env!("CARGO_PKG_VERSION"),
        "status": "ok",
        "uptime_ms": null,
        "peers": [],
        "silent_shards": [],
        "shards": [{
            "shard": 0,
            "name": "a",
            "incarnation": incarnation,
            "clocks": { format!("a#{incarnation}"): 0 },
            "replicas": [],
            "presences": 0,
            "own_presences": 0,
            "topics": 0,
            "waiting": 0,
            "panics": 0,
            "journal": null,
            "stats": null,
        }],
    });
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_journal_that_is_not_written_is_told() {
    #[derive(Debug)]
    struct OnlyOf(u32);

    struct Nowhere;

    impl Journal for Nowhere {
        fn record(&mut self, _: &Record) {}
    }

    impl Journals for OnlyOf {
        fn open(&self, shard: u32, _: &Header) -> io::Result<Box<dyn Journal>> {
            match shard == self.0 {
                true => Ok(Box::new(Nowhere)),
                false => Err(io::Error::other("a test's")),
            }
        }
    }

    let config = Config {
        pool_size: 2,
        journals: Some(Arc::new(OnlyOf(1))),
        ..Config::default()
    };
    let server = Server::guide(config).await;
    let metrics = server.metrics().await;
    assert_eq!(metrics.value(r#"presence_journal_up{shard="0"}"#), 0.0);
    assert_eq!(metrics.value(r#"presence_journal_up{shard="1"}"#), 1.0);
    let seen = server.cluster().await;
    let journals = ["0", "1"].map(|shard| {
        let path = format!("/shards/{shard}/journal");
        seen.pointer(&path).unwrap().clone()
    });
    assert_eq!(journals, [json!(false), json!(true)]);
}

#[tokio::test]
async fn each_application_tells_and_nobody_keeps_what_is_told() {
    let tokens = Tokens::new(&app::conformance::secret_key_base()).unwrap();
    let [signed, driven] = [tokens.clone(), tokens];
    for (server, elsewhere) in [
        (Server::guide(Config::default()).await, ""),
        (
            Server::start(Config::default(), |node| {
                app::guide_with_sign_in(node, signed)
            })
            .await,
            "",
        ),
        (
            Server::start(Config::default(), |node| app::conformance(node, driven)).await,
            "not found",
        ),
    ] {
        for path in ["/health", "/metrics", "/cluster"] {
            let told = server.get(path).await;
            assert_eq!(told.status, 200, "{path}");
            assert_eq!(told.header("cache-control"), Some("no-store"), "{path}");
            let refused = server.request("POST", path, "").await;
            assert_eq!(refused.status, 405, "{path}");
            assert_eq!(refused.header("cache-control"), Some("no-store"), "{path}");
            assert_eq!(refused.header("allow"), Some("GET,HEAD"), "{path}");
        }
        let other = server.get("/nowhere").await;
        assert_eq!((other.status, &*other.body), (404, elsewhere));
        assert_eq!(other.header("cache-control"), None);
    }
}

#[tokio::test]
async fn the_text_is_of_the_version_that_it_says() {
    let config = Config {
        pool_size: 3,
        ..Config::default()
    };
    let server = Server::guide(config).await;
    let answer = server.get("/metrics").await;
    let kind = answer.header("content-type");
    assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
    let metrics = Metrics::parse(&answer.body);
    for shard in 0..3 {
        assert_eq!(
            metrics.value(&format!("presence_topics{{shard=\"{shard}\"}}")),
            0.0
        );
    }
}

fn of_shard_0(message: cluster::Message) -> Message {
    Message::Tracker { shard: 0, message }
}

/// The tracker of another node, in its seventh life.
struct Other(Tracker);

impl Other {
    fn new() -> Self {
        let replica = ReplicaId::new("other", 7);
        let tracker = Tracker::new(replica, tracker::Config::default(), 1, 2, Duration::ZERO);
        Self(tracker.unwrap())
    }

    fn track(&mut self, key: &str) {
        let (key, meta) = (KeyBuf::from(key), Meta::parse("{}").unwrap());
        self.0
            .track(&"t".into(), Pid(1), key.as_key(), &meta)
            .unwrap();
        while self.0.poll_diff().is_some() {}
    }

    fn heartbeat(&mut self) -> cluster::Message {
        let due = self.0.poll_timeout().unwrap();
        self.0.handle_timeout(due);
        self.0.poll_transmit().unwrap().message
    }
}

/// An application on a loopback port.
struct Server {
    address: SocketAddr,
    node: Node,
}

impl Server {
    async fn guide(config: Config) -> Self {
        Self::start(config, app::guide).await
    }

    async fn start(config: Config, app: impl FnOnce(&Node) -> Router) -> Self {
        let system = System::new();
        let listener = system.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let node = Node::start(Arc::new(system), config).unwrap();
        let (served, router) = (node.clone(), app(&node));
        tokio::spawn(async move { serve::serve(&served, listener, router).await });
        Self { address, node }
    }

    /// A client that has joined a room and was told who is there.
    async fn join(&self, topic: &str, name: &str) -> Client {
        let mut client = Client::connect(self.address, "", None).await.unwrap();
        let joined = client.join(topic, &json!({ "name": name })).await;
        assert_eq!(joined["status"], "ok");
        client.event("presence_state").await;
        client
    }

    async fn metrics(&self) -> Metrics {
        Metrics::parse(&self.get("/metrics").await.body)
    }

    async fn cluster(&self) -> Value {
        self.get("/cluster").await.json()
    }

    async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "").await
    }

    async fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        patient(stream.read_to_string(&mut answer)).await.unwrap();
        Answer::parse(&answer)
    }
}

/// What `/metrics` tells, by series as it is written.
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the text format: each family is a line of help, a line of type, and its series. Panics where
    /// it is something else, or where a series comes twice.
    fn parse(text: &str) -> Self {
        let mut series = BTreeMap::new();
        let mut families = BTreeSet::new();
        let (mut family, mut kind) = ("", "");
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, sentence) = help.split_once(' ').unwrap();
                assert!(
                    name.starts_with("presence_") && sentence.ends_with('.'),
                    "{line}"
                );
                assert!(families.insert(name), "{line} comes twice");
                let line = lines.next().unwrap();
                let of = line.strip_prefix("# TYPE ").unwrap();
                (family, kind) = of.split_once(' ').unwrap();
                assert_eq!(family, name);
                assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                continue;
            }
            let (told, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = told.split_once('{').unwrap_or((told, "}"));
            let labels = labels.strip_suffix('}').unwrap();
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (label, quoted) = label.split_once('=').unwrap();
                assert!(
                    [
                        "shard",
                        "status",
                        "transport",
                        "le",
                        "name",
                        "version",
                        "peer"
                    ]
                    .contains(&label)
                );
                assert!(quoted.starts_with('"') && quoted.ends_with('"'), "{line}");
            }
            let suffix = name.strip_prefix(family).unwrap();
            let suffixes: &[_] = match kind {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(suffixes.contains(&suffix), "{line}");
            let value: f64 = value.parse().unwrap();
            assert!(value >= 0.0, "{line}");
            assert!(
                series.insert(told.to_owned(), value).is_none(),
                "{line} comes twice"
            );
        }
        Self(series)
    }

    fn value(&self, series: &str) -> f64 {
        let value = self.0.get(series);
        *value.unwrap_or_else(|| panic!("no {series} in {:?}", self.0.keys()))
    }
}
