//! Nodes that hold much before they first meet.

use presence_core::tracker::{Event, Status};
use presence_core::wire::cluster::Body;

use super::world::{World, config, id, seconds};

/// Guards against: two nodes that each held more than 50 entries before they first met and never
/// agreed.
#[test]
fn two_nodes_with_many_entries_each_agree_when_they_first_meet() {
    let mut world = World::new(&["a", "b"]);
    world.cut("a", "b");
    for name in ["a", "b"] {
        let pids = world.track_many(name, "t", name, 80);
        world.run(seconds(2.0));
        for &pid in &pids[..20] {
            world.untrack_pid(name, pid);
        }
        world.run(seconds(2.0));
    }
    world.run(seconds(4.0));
    world.heal();
    world.run(seconds(6.0));
    assert_eq!(world.list("a", "t").len(), 120);
    assert_eq!(world.list("a", "t"), world.list("b", "t"));
    assert_eq!(world.count("request", 0), 2);
}

/// Guards against: seven nodes that start at once with 100 entries each and do not agree, since clouds
/// are pruned and contexts are not; and an answer for everyone who starts.
#[test]
fn seven_nodes_that_start_at_once_agree_and_ask_each_pair_once_at_most() {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let mut world = World::new(&names);
    for name in names {
        world.track_many(name, "t", name, 100);
    }
    // Each tells the others before they know it: what comes before a greeting is taken all the same.
    world.run(seconds(4.0));
    let all = world.list("a", "t");
    assert_eq!(all.len(), 700);
    for name in names {
        assert_eq!(world.list(name, "t"), all, "at {name}");
    }
    assert_eq!(world.count("request", 0), 0);
    // The same where nobody heard anybody's first word.
    let mut world = World::new(&names);
    for (n, a) in names.iter().enumerate() {
        names[n + 1..].iter().for_each(|b| world.cut(a, b));
    }
    for name in names {
        world.track_many(name, "t", name, 100);
    }
    world.run(seconds(4.0));
    world.heal();
    world.run(seconds(8.0));
    for name in names {
        assert_eq!(world.list(name, "t"), all, "at {name}");
    }
    assert_eq!(world.count("request", 0), 42);
    assert_eq!(world.count("reply", 0), 42);
    let mark = world.sent.len();
    world.run(seconds(12.0));
    assert_eq!(world.count("request", mark), 0);
}

/// Guards against: a list that grows part by part as a node is met, with what has left in the meantime
/// among it.
#[test]
fn a_node_that_is_met_is_listed_as_a_whole_and_in_one_diff_a_topic() {
    let mut config = config();
    config.chunk_values = 10;
    let mut world = World::with(config, &["a"]);
    let pids = world.track_many("a", "t", "user", 36);
    world.track_many("a", "u", "user", 4);
    world.run(seconds(2.0));
    world.untrack_pid("a", pids[0]);
    world.run(seconds(1.0));
    world.start("b", 1);
    world.lose = |sent| matches!(sent.message.body, Body::TransferReply { part: 4, .. });
    world.run(seconds(1.0));
    assert_eq!(world.tracker("b").set().len(), 30);
    assert!(world.list("b", "t").is_empty() && world.node("b").diffs.is_empty());
    assert_eq!(
        world.status("b", "a"),
        Some(Status::Arriving { until: Some(41) })
    );
    assert!(world.node("b").events.is_empty());
    world.heal();
    world.run(seconds(3.0));
    assert_eq!(world.list("b", "t").len(), 35);
    let joins = world
        .node("b")
        .diffs
        .iter()
        .map(|told| (&*told.topic, told.joins.len()));
    assert_eq!(joins.collect::<Vec<_>>(), [("t", 35), ("u", 4)]);
    assert_eq!(world.node("b").events, [Event::Up(id("a", 1))]);
    assert_eq!((world.stats("b").arrived, world.stats("a").arrived), (1, 1));
    assert_eq!(world.stats("b").transfers_asked, 1);
}
