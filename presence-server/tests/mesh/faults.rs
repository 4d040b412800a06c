//! What breaks: processes that are killed, nodes that hang, and bytes that nobody should send.

use std::sync::Arc;
use std::time::Duration;

use presence_server::cluster::Identity;
use presence_server::env::System;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::log::Log;
use crate::names::{NAME, Names};
use crate::node::{Event, Node, PERIOD, config, identity, joining, until};
use crate::proxy::Proxy;

fn gone(name: &str) -> Event {
    Event::Gone(name.into())
}

#[tokio::test]
async fn a_killed_node_is_gone_at_all_others_once_and_soon() {
    let a = Node::start("a", config()).await;
    let b = Node::start("b", joining(&[a.address()])).await;
    let c = Node::start("c", joining(&[a.address()])).await;
    // One that stood for a while, as most do.
    for (node, other) in [(&a, "c"), (&b, "c"), (&c, "a"), (&c, "b")] {
        node.connected(other).await;
    }
    tokio::time::sleep(PERIOD).await;
    let killed = Instant::now();
    drop(c.mesh);
    for node in [&a, &b] {
        node.record.wait_for(&gone("c")).await;
        // A busy machine gets as much again.
        assert!(killed.elapsed() < PERIOD * 6, "{:?}", killed.elapsed());
    }
    // It is dialled further, and gone only once.
    tokio::time::sleep(PERIOD * 6).await;
    for (node, other) in [(&a, "b"), (&b, "a")] {
        assert_eq!(node.record.count(&gone("c")), 1);
        assert_eq!(node.record.count(&gone(other)), 0);
        assert!(node.is_connected(other) && !node.is_connected("c"));
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again_and_nobody_is_gone() {
    // The node is reached under a name, and at the first address that this stands for nobody listens.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (way, back) = (Proxy::start().await, Proxy::start().await);
    let addresses = vec![closed.local_addr().unwrap(), way.socket_address()];
    drop(closed);
    let names = Names {
        system: System::new(),
        addresses,
    };
    let mut config = config();
    config.advertise = Some(format!("{NAME}:1"));
    let b = Node::start("b", config.clone()).await;
    way.lead_to(b.socket_address());
    config.advertise = Some(back.address());
    config.join = vec![format!("{NAME}:1")];
    let a = Node::start_in(Arc::new(names), identity("a"), config).await;
    back.lead_to(a.socket_address());
    a.connected("b").await;
    b.connected("a").await;
    let connected = |node: &Node, other: &str| node.record.count(&Event::Connected(other.into()));
    for times in 2..5 {
        tokio::time::sleep(PERIOD).await;
        way.cut();
        back.cut();
        until(|| connected(&a, "b") >= times && connected(&b, "a") >= times).await;
        a.reach(&b, "a", "b", &times.to_string()).await;
    }
    // Once it is there no more, it is gone, at all of its addresses.
    assert_eq!(a.record.count(&gone("b")), 0);
    assert_eq!(b.record.count(&gone("a")), 0);
    drop((b.mesh, way));
    a.record.wait_for(&gone("b")).await;
}

#[tokio::test]
async fn who_accepts_and_says_nothing_is_logged_once_and_harms_nothing() {
    let (log, _guard) = Log::start();
    let silent = Proxy::start().await;
    let b = Node::start("b", config()).await;
    let mut config = joining(&[silent.address(), b.address()]);
    config.handshake_timeout = Some(PERIOD);
    let a = Node::start("a", config).await;
    a.connected("b").await;
    let reason = "the handshake took longer";
    until(|| log.count("DEBUG", reason) >= 2).await;
    assert_eq!(log.count("INFO", reason), 1);
    a.reach(&b, "a", "b", "hello").await;
}

#[tokio::test]
async fn a_node_that_returns_where_it_was_is_found() {
    let a = Node::start("a", config()).await;
    let b = Node::start("b", joining(&[a.address()])).await;
    a.connected("b").await;
    let address = b.address();
    drop(b.mesh);
    a.record.wait_for(&gone("b")).await;
    let mut config = config();
    config.bind = address;
    let later = Identity {
        incarnation: 2,
        ..identity("b")
    };
    let b = Node::start_as(later, config).await;
    b.connected("a").await;
    a.reach(&b, "a", "b", "welcome back").await;
    assert_eq!(a.peer("b").unwrap().incarnation, 2);
    assert_eq!(a.record.count(&gone("b")), 1);
}

#[tokio::test]
async fn a_node_that_hangs_is_disconnected_but_never_gone() {
    let (way, back) = (Proxy::start().await, Proxy::start().await);
    let behind = |way: &Proxy| {
        let mut config = config();
        config.advertise = Some(way.address());
        config.silence = Some(PERIOD * 4);
        config.handshake_timeout = Some(PERIOD * 2);
        config
    };
    let b = Node::start("b", behind(&way)).await;
    way.lead_to(b.socket_address());
    let mut config = behind(&back);
    config.join = vec![way.address()];
    let a = Node::start("a", config).await;
    back.lead_to(a.socket_address());
    a.connected("b").await;
    b.connected("a").await;
    way.hang(true);
    back.hang(true);
    for (node, other) in [(&a, "b"), (&b, "a")] {
        node.wait_peer(other, |peer| !peer.is_connected).await;
    }
    tokio::time::sleep(PERIOD * 8).await;
    way.hang(false);
    back.hang(false);
    a.reach(&b, "a", "b", "awake").await;
    for node in [&a, &b] {
        let is_gone = |event: &Event| matches!(event, Event::Gone(_));
        assert!(!node.record.events().iter().any(is_gone));
    }
}

#[tokio::test]
async fn an_idle_connection_stays() {
    let mut config = config();
    config.silence = Some(PERIOD * 3);
    let a = Node::start("a", config.clone()).await;
    config.join = vec![a.address()];
    let b = Node::start("b", config).await;
    a.connected("b").await;
    tokio::time::sleep(PERIOD * 10).await;
    for (node, other) in [(&a, "b"), (&b, "a")] {
        let connected = Event::Connected(other.into());
        assert_eq!(node.record.events(), [connected]);
    }
}

#[tokio::test]
async fn the_time_that_a_handler_takes_is_not_the_silence_of_the_peer() {
    let mut config = config();
    config.silence = Some(PERIOD * 3);
    let a = Node::start("a", config.clone()).await;
    config.join = vec![a.address()];
    let b = Node::start("b", config).await;
    b.connected("a").await;
    a.connected("b").await;
    b.record.shut().await;
    a.say("b", "one");
    tokio::time::sleep(PERIOD * 8).await;
    b.record.open();
    a.say("b", "two");
    b.heard("a", "two").await;
    assert_eq!(b.record.count(&Event::Connected("a".into())), 1);
    assert_eq!(a.record.count(&Event::Connected("b".into())), 1);
}

/// A node that is connected through a way which says what it must not.
async fn injected(bytes: &[u8], reason: &str) {
    let (log, _guard) = Log::start();
    let way = Proxy::start().await;
    let a = Node::start("a", config()).await;
    let c = Node::start("c", joining(&[a.address()])).await;
    way.lead_to(a.socket_address());
    let mut hidden = joining(&[way.address()]);
    hidden.bind = "127.0.0.1:0".into();
    let b = Node::start("b", hidden).await;
    b.connected("a").await;
    a.connected("b").await;
    a.connected("c").await;
    way.inject(bytes);
    let twice = |events: &Vec<Event>| {
        let connected = Event::Connected("b".into());
        events.iter().filter(|event| **event == connected).count() == 2
    };
    a.record.wait(twice).await;
    assert_eq!(log.count("WARN", reason), 1);
    b.reach(&a, "b", "a", "once more").await;
    for node in [&a, &b, &c] {
        let is_gone = |event: &Event| matches!(event, Event::Gone(_));
        assert!(!node.record.events().iter().any(is_gone));
    }
    assert_eq!(c.record.count(&Event::Connected("a".into())), 1);
}

#[tokio::test]
async fn garbage_on_a_connection_closes_that_one() {
    injected(&[0, 0, 0, 1, 77], "version 2 has no frame of kind 77").await;
}

#[tokio::test]
async fn an_endless_frame_closes_its_connection() {
    injected(
        &[0xFF; 8],
        "a frame of 4294967299 bytes, more than 67108928",
    )
    .await;
}

#[tokio::test]
async fn a_handshake_after_the_handshake_closes_its_connection() {
    injected(
        &[0, 0, 0, 1, 1],
        "a frame of kind 1, which has no place here",
    )
    .await;
}

#[tokio::test]
async fn a_node_that_is_out_of_reach_for_long_is_forgotten() {
    let mut config = config();
    config.forget_after = Duration::from_millis(600);
    let a = Node::start("a", config).await;
    let b = Node::start("b", joining(&[a.address()])).await;
    a.connected("b").await;
    drop(b.mesh);
    a.record.wait_for(&gone("b")).await;
    assert!(a.peer("b").is_some());
    until(|| a.peer("b").is_none()).await;
}
