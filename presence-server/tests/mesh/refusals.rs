//! Who does not belong to the cluster is refused, and both sides say why, once.

use std::time::Duration;

use presence_core::wire::cluster::Version;
use presence_server::cluster::{
    ConfigError, Identity, Mesh, MeshConfig, Secret, StartError, Transport as _,
};
use presence_server::env::System;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::log::Log;
use crate::node::{Event, LIMIT, Node, config, identity, joining, until};

/// A node that dials another which it does not suit; the reason is logged once by each.
async fn is_refused(
    spoil: impl FnOnce(&mut MeshConfig, &mut Identity),
    reason_of_one: &str,
    told_to_other: &str,
) {
    let (log, _guard) = Log::start();
    let a = Node::start("a", config()).await;
    let (mut config, mut identity) = (joining(&[a.address()]), identity("b"));
    config.max_backoff = Duration::from_millis(50);
    spoil(&mut config, &mut identity);
    let b = Node::start_as(identity, config).await;
    let told = format!("the other node refuses and says: {told_to_other}");
    until(|| log.count("DEBUG", "no connection with a node") >= 6).await;
    assert_eq!(log.count("WARN", &told), 1, "{told}");
    assert_eq!(
        log.count("WARN", reason_of_one),
        if reason_of_one == told_to_other { 2 } else { 1 }
    );
    assert_eq!(log.count("WARN", ""), 2);
    for node in [&a, &b] {
        assert!(node.mesh.peers().iter().all(|peer| !peer.is_connected));
        assert_eq!(node.record.events(), []);
    }
}

async fn is_refused_for(spoil: impl FnOnce(&mut MeshConfig, &mut Identity), reason: &str) {
    is_refused(spoil, reason, reason).await;
}

#[tokio::test]
async fn another_secret() {
    is_refused_for(
        |config, _| config.secret = Secret::new("something else than that").unwrap(),
        "another secret: all nodes of a cluster need the same",
    )
    .await;
}

#[tokio::test]
async fn another_cluster() {
    is_refused_for(
        |config, _| config.cluster_name = "other".into(),
        "another cluster: this node is of \"presence\", the other of \"other\"",
    )
    .await;
}

#[tokio::test]
async fn another_pool_size() {
    is_refused_for(
        |_, identity| identity.pool_size = 5,
        "another pool size: this node has 4, the other 5",
    )
    .await;
}

#[tokio::test]
async fn the_same_name() {
    is_refused_for(
        |_, identity| {
            identity.name = "a".into();
            identity.incarnation = 9;
        },
        "another node has the name \"a\" too, with incarnation 1: each needs its own",
    )
    .await;
}

#[tokio::test]
async fn no_common_version() {
    let (log, _guard) = Log::start();
    let mut new = config();
    new.min_version = Version::V2;
    let a = Node::start("a", new).await;
    let mut old = joining(&[a.address()]);
    old.max_version = Version::V1;
    let _b = Node::start("b", old).await;
    let reason = "no common version: this node speaks 2 to 2, the other 1 to 1";
    until(|| log.count("WARN", reason) == 2).await;
    assert_eq!(
        log.count(
            "WARN",
            &format!("the other node refuses and says: {reason}")
        ),
        1
    );
}

/// What a node answers to bytes that are no handshake, until it closes.
async fn answer(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(node.socket_address()).await.unwrap();
    // The node may close before all of it is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = timeout(LIMIT, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the node closes");
    answer
}

#[tokio::test]
async fn garbage_is_refused_with_its_reason_and_harms_nothing() {
    let (log, _guard) = Log::start();
    let mut config = config();
    config.handshake_timeout = Some(Duration::from_millis(300));
    let a = Node::start("a", config).await;
    let b = Node::start("b", joining(&[a.address()])).await;
    a.connected("b").await;

    let says = |answer: Vec<u8>, text: &str| {
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains(text), "{answer:?}");
    };
    let http = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    says(answer(&a, http).await, "a frame of 1195725860 bytes");
    says(
        answer(&a, &[0xFF; 100_000]).await,
        "a frame of 4294967299 bytes",
    );
    says(answer(&a, &[0; 5]).await, "a frame without a kind");
    says(
        answer(&a, &[0, 0, 0, 1, 9]).await,
        "a frame of kind 9, not a hello",
    );
    says(answer(&a, &[0, 0, 0, 3, 1, 0, 0]).await, "no magic number");
    // Half a frame, and nothing at all: the time is up.
    for half in [&[0, 0, 0, 100, 1, 2][..], &[]] {
        says(
            answer(&a, half).await,
            "the handshake took longer than 300ms",
        );
    }
    let other_port = "a frame of 1195725860 bytes, more than 4096 (a request of HTTP: ";
    assert_eq!(log.count("WARN", other_port), 1);
    // It passes by itself.
    assert_eq!(log.count("WARN", "the handshake took longer"), 0);
    assert_eq!(log.count("INFO", "the handshake took longer"), 1);

    a.say("b", "still there");
    b.heard("a", "still there").await;
    assert_eq!(a.record.count(&Event::Connected("b".into())), 1);
}

#[tokio::test]
async fn who_only_waits_does_not_keep_others_out_for_long() {
    let mut config = config();
    config.handshake_timeout = Some(Duration::from_millis(200));
    config.max_handshakes = 3;
    let a = Node::start("a", config).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(a.socket_address()).await.unwrap());
    }
    let b = Node::start("b", joining(&[a.address()])).await;
    b.connected("a").await;
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let a = Node::start("a", config()).await;
    let start = |config: MeshConfig, identity| {
        let handler = a.record.clone();
        async {
            Mesh::start(
                std::sync::Arc::new(System::new()),
                identity,
                config,
                handler,
            )
            .await
        }
    };
    let mut taken = config();
    taken.bind = a.address();
    let error = start(taken, identity("b")).await.unwrap_err();
    assert!(matches!(error, StartError::Bind { .. }), "{error}");
    assert!(error.to_string().contains(&a.address()), "{error}");
    let mut wrong = config();
    wrong.join = vec!["nowhere".into()];
    let error = start(wrong, identity("b")).await.unwrap_err();
    let is_address = matches!(
        error,
        StartError::Config(ConfigError::Address { what: "join", .. })
    );
    assert!(is_address, "{error}");
    let error = start(config(), identity("")).await.unwrap_err();
    assert!(matches!(
        error,
        StartError::Config(ConfigError::Name { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_reaches_nobody_says_once_that_it_is_alone() {
    let (log, _guard) = Log::start();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let _first = Node::start("a", config()).await;
    let _alone = Node::start("b", joining(std::slice::from_ref(&address))).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(log.count("WARN", ""), 0);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let said = "no other node is reached: this node is alone until one is";
    assert_eq!(log.count("WARN", said), 1);
    assert_eq!(log.count(&format!("join=\"{address}\""), said), 1);
}
