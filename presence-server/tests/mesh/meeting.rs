//! Nodes find each other, and have one connection with each.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use presence_server::cluster::{Identity, Transport as _};

use crate::node::{Event, Node, PERIOD, config, identity, joining, message, until};
use crate::proxy::Proxy;

fn connections(node: &Node) -> usize {
    let is_connected = |event: &&Event| matches!(event, Event::Connected(_));
    node.record.events().iter().filter(is_connected).count()
}

#[tokio::test]
async fn three_nodes_of_a_chain_all_find_each_other() {
    let a = Node::start("a", config()).await;
    let b = Node::start("b", joining(&[a.address()])).await;
    let c = Node::start("c", joining(&[b.address()])).await;
    for (node, others) in [(&a, ["b", "c"]), (&b, ["a", "c"]), (&c, ["a", "b"])] {
        for other in others {
            node.connected(other).await;
        }
    }
    a.reach(&c, "a", "c", "hello").await;
    let peer = c.peer("a").unwrap();
    assert_eq!(peer.address, a.address());
    assert_eq!((peer.incarnation, peer.version), (1, 2));
    assert!(peer.received >= 1 && peer.received_bytes > peer.received);
}

#[tokio::test]
async fn a_cluster_that_comes_late_joins_one_that_is_there() {
    let a = Node::start("a", config()).await;
    let b = Node::start("b", joining(&[a.address()])).await;
    let x = Node::start("x", config()).await;
    let y = Node::start("y", joining(&[x.address()])).await;
    a.connected("b").await;
    x.connected("y").await;
    let z = Node::start("z", joining(&[b.address(), y.address()])).await;
    for node in [&a, &b, &x, &y, &z] {
        until(|| {
            node.mesh
                .peers()
                .iter()
                .filter(|it| it.is_connected)
                .count()
                == 4
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_dial_each_other_at_once_have_one_connection() {
    for _ in 0..10 {
        // Each is told of all, itself included, before any of them listens.
        let names = ["a", "b", "c", "d"];
        let ways = join_all(names.map(|_| Proxy::start())).await;
        let addresses: Vec<String> = ways.iter().map(Proxy::address).collect();
        let nodes = join_all(names.iter().zip(&addresses).map(|(name, own)| {
            let mut config = joining(&addresses);
            config.advertise = Some(own.clone());
            Node::start(name, config)
        }))
        .await;
        for (way, node) in ways.iter().zip(&nodes) {
            way.lead_to(node.socket_address());
        }
        for node in &nodes {
            let of_all = |events: &Vec<Event>| {
                let names = events.iter().filter_map(|event| match event {
                    Event::Connected(name) => Some(name),
                    _ => None,
                });
                names.collect::<BTreeSet<_>>().len() == 3
            };
            node.record.wait(of_all).await;
        }
        for (node, name) in nodes.iter().zip(names) {
            for (other, other_name) in nodes.iter().zip(names) {
                if name != other_name {
                    node.say(other_name, "hello");
                    other.heard(name, "hello").await;
                    let hello = Event::Received(name.into(), message("hello"));
                    assert_eq!(other.record.count(&hello), 1);
                }
            }
        }
        tokio::time::sleep(PERIOD).await;
        for node in &nodes {
            assert_eq!(connections(node), 3, "{:?}", node.record.events());
            assert!(node.mesh.peers().iter().all(|peer| peer.is_connected));
        }
    }
}

#[tokio::test]
async fn a_name_is_resolved_until_a_node_is_there() {
    let way = Proxy::start().await;
    let port = way.address().rsplit_once(':').unwrap().1.to_owned();
    let mut config = joining(&[format!("localhost:{port}")]);
    config.resolve_period = Duration::from_millis(50);
    let b = Node::start("b", config).await;
    let a = Node::start("a", self::config()).await;
    way.lead_to(a.socket_address());
    b.connected("a").await;
    a.connected("b").await;
    assert_eq!(b.peer("a").unwrap().address, a.address());
}

#[tokio::test]
async fn a_node_that_listens_everywhere_is_reached_where_it_was_seen() {
    let mut everywhere = config();
    everywhere.bind = "0.0.0.0:0".into();
    let a = Node::start("a", everywhere.clone()).await;
    let port = a.socket_address().port();
    everywhere.join = vec![format!("127.0.0.1:{port}")];
    let b = Node::start("b", everywhere).await;
    a.connected("b").await;
    b.connected("a").await;
    let port = b.socket_address().port();
    assert_eq!(a.peer("b").unwrap().address, format!("127.0.0.1:{port}"));
}

#[tokio::test]
async fn a_node_does_not_dial_itself_again() {
    let (log, _guard) = crate::log::Log::start();
    let way = Proxy::start().await;
    let a = Node::start("a", joining(&[way.address()])).await;
    way.lead_to(a.socket_address());
    until(|| log.count("DEBUG", "the node has met itself") > 0).await;
    tokio::time::sleep(PERIOD * 3).await;
    assert_eq!(log.count("DEBUG", "dialling"), 1);
    assert_eq!(log.count("WARN", ""), 0);
    assert!(a.mesh.peers().is_empty());
}

#[tokio::test]
async fn a_higher_incarnation_replaces_a_lower_one_that_hangs() {
    let way = Proxy::start().await;
    let a = Node::start("a", config()).await;
    let mut hidden = joining(&[a.address()]);
    hidden.advertise = Some(way.address());
    let old = Node::start("b", hidden).await;
    way.lead_to(old.socket_address());
    a.connected("b").await;
    let later = Identity {
        incarnation: 2,
        ..identity("b")
    };
    let new = Node::start_as(later, joining(&[a.address()])).await;
    a.wait_peer("b", |peer| peer.incarnation == 2 && peer.is_connected)
        .await;
    a.reach(&new, "a", "b", "hello").await;
    // The old one tries to come back, and may not.
    new.connected("a").await;
    tokio::time::sleep(PERIOD * 3).await;
    assert_eq!(a.peer("b").unwrap().incarnation, 2);
    assert_eq!(connections(&a), 2);
    assert_eq!(a.record.count(&Event::Gone("b".into())), 0);
}
