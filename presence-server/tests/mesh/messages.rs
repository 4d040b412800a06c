//! Messages: each kind, in order, large, and those for which there is no room.

use bytes::Bytes;
use presence_core::clock::{Context, ReplicaId};
use presence_core::tracker::To;
use presence_core::wire::cluster::{Body, Version};
use presence_core::wire::{Json, Payload, cluster};
use presence_server::cluster::{Message, Transport as _};

use crate::node::{Event, Node, config, joining, message, sized, until};

fn stopping(handover: bool) -> Message {
    let from = ReplicaId::new("a", 1);
    let clocks: Context = [(from.clone(), 7)].into_iter().collect();
    Message::Tracker {
        shard: 3,
        message: cluster::Message {
            from,
            body: Body::Stopping { clocks, handover },
        },
    }
}

fn every_kind() -> Vec<Message> {
    let json = Json::parse("{\"a\" : 1.50}").unwrap().into_owned();
    let body = Bytes::from_static(b"who is there?");
    vec![
        stopping(true),
        Message::Broadcast {
            topic: "room:ü".into(),
            event: "shout".into(),
            payload: Payload::Json(json),
        },
        sized("binary", 3),
        Message::Disconnect {
            socket_id: "user:1".into(),
        },
        Message::Request {
            id: 1,
            body: body.clone(),
        },
        Message::Answer { id: 1, body },
    ]
}

async fn pair(a: Version, b: Version) -> (Node, Node) {
    let mut config = config();
    config.max_version = a;
    let first = Node::start("a", config).await;
    let mut config = joining(&[first.address()]);
    config.max_version = b;
    let second = Node::start("b", config).await;
    first.connected("b").await;
    second.connected("a").await;
    (first, second)
}

#[tokio::test]
async fn every_kind_of_message_arrives() {
    let (a, b) = pair(Version::V2, Version::V2).await;
    for message in every_kind() {
        a.mesh.send(&To::One("b".into()), &message);
    }
    b.record.wait(|events| events.len() == 7).await;
    assert_eq!(b.record.messages("a"), every_kind());
    assert_eq!(b.peer("a").unwrap().received, 6);
    a.wait_peer("b", |peer| peer.sent == 6).await;
    let sent = a.peer("b").unwrap();
    assert_eq!(sent.sent_bytes, b.peer("a").unwrap().received_bytes);
    assert_eq!((sent.dropped, sent.queued_bytes), (0, 0));
}

#[tokio::test]
async fn a_node_of_the_version_before_is_told_what_it_understands() {
    for (a, b) in [(Version::V1, Version::V2), (Version::V2, Version::V1)] {
        let (a, b) = pair(a, b).await;
        for (from, to, name) in [(&a, &b, ["a", "b"]), (&b, &a, ["b", "a"])] {
            for message in every_kind() {
                from.mesh.send(&To::All, &message);
            }
            from.say(name[1], "end");
            to.heard(name[0], "end").await;
            let mut expected = every_kind();
            expected[0] = stopping(false);
            expected.truncate(4);
            expected.push(message("end"));
            assert_eq!(to.record.messages(name[0]), expected);
            let peer = from.peer(name[1]).unwrap();
            assert_eq!((peer.version, peer.dropped), (1, 2));
        }
    }
}

#[tokio::test]
async fn nodes_of_both_versions_are_told_together() {
    let a = Node::start("a", config()).await;
    let mut old = joining(&[a.address()]);
    old.max_version = Version::V1;
    let b = Node::start("b", old).await;
    let c = Node::start("c", joining(&[a.address()])).await;
    a.connected("b").await;
    a.connected("c").await;
    a.mesh.send(&To::All, &stopping(true));
    for (node, handover) in [(&b, false), (&c, true)] {
        let event = Event::Received("a".into(), stopping(handover));
        node.record.wait_for(&event).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_all_sizes_arrive_in_order() {
    let (a, b) = pair(Version::V2, Version::V2).await;
    let sizes = [0, 1, 100, 70_000, 10, 3_000_000, 5, 65_530, 40_000];
    let all: Vec<_> = (0..300)
        .map(|n| sized(&n.to_string(), sizes[n % sizes.len()]))
        .collect();
    for some in all.chunks(90) {
        for message in some {
            a.mesh.send(&To::One("b".into()), message);
        }
        a.wait_peer("b", |peer| peer.queued_bytes == 0).await;
    }
    b.record.wait(|events| events.len() == 301).await;
    assert_eq!(b.record.messages("a"), all);
    assert_eq!(a.peer("b").unwrap().dropped, 0);
}

#[tokio::test]
async fn what_does_not_fit_is_dropped_and_counted_while_others_go_on() {
    let mut small = config();
    small.queue_bytes = 1 << 20;
    let a = Node::start("a", small).await;
    let b = Node::start("b", joining(&[a.address()])).await;
    let c = Node::start("c", joining(&[a.address()])).await;
    for name in ["b", "c"] {
        a.connected(name).await;
    }
    b.record.shut().await;
    let mut count = 0;
    until(|| {
        // Not faster than c takes them.
        if a.peer("c").unwrap().queued_bytes < 1 << 19 {
            a.mesh.send(&To::All, &sized(&count.to_string(), 100_000));
            count += 1;
        }
        let peer = a.peer("b").unwrap();
        assert!(peer.queued_bytes <= 1 << 20);
        peer.dropped >= 3
    })
    .await;
    c.record
        .wait(|events| {
            events
                .iter()
                .filter(|it| matches!(it, Event::Received(from, _) if from == "a"))
                .count()
                == count
        })
        .await;
    assert_eq!(a.peer("c").unwrap().dropped, 0);
    let dropped = a.peer("b").unwrap().dropped as usize;
    b.record.open();
    a.reach(&b, "a", "b", "end").await;
    let mut taken = b.record.messages("a");
    taken.retain(|it| *it != message("end"));
    assert_eq!(taken.len(), count - dropped);
    let firsts: Vec<_> = (0..taken.len() - 3)
        .map(|n| sized(&n.to_string(), 100_000))
        .collect();
    assert_eq!(taken[..taken.len() - 3], firsts[..]);
    assert_eq!(a.record.count(&Event::Connected("b".into())), 1);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_dropped_counted_and_logged_once() {
    let (log, _guard) = crate::log::Log::start();
    let mut small = config();
    small.max_frame_bytes = 10_000;
    let a = Node::start("a", small).await;
    let b = Node::start("b", joining(&[a.address()])).await;
    a.connected("b").await;
    for _ in 0..3 {
        a.mesh.send(&To::All, &sized("large", 10_000));
    }
    a.say("b", "small");
    b.heard("a", "small").await;
    assert_eq!(b.record.messages("a"), [message("small")]);
    assert_eq!(a.peer("b").unwrap().dropped, 3);
    assert_eq!(log.count("WARN", "a message is too large to be sent"), 1);
}
