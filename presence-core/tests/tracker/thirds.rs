//! What is heard of a node through others.

use presence_core::clock::Context;
use presence_core::delta::Delta;
use presence_core::tracker::Status;
use presence_core::tracker::journal::Input;
use presence_core::wire::cluster::{Body, Message};

use super::world::{Sent, World, id, seconds, word};

/// A word to `a` of one that has seen so much of `d`.
fn has_seen(from: &str, counter: u64) -> Sent {
    let clocks = Context::from_iter([(id(from, 1), 0), (id("d", 1), counter)]);
    let delta = Delta::default();
    let message = Message {
        from: id(from, 1),
        body: Body::Heartbeat { delta, clocks },
    };
    Sent {
        to: "a".into(),
        message,
    }
}

/// Four nodes that know each other and have told nothing.
fn idle() -> World {
    let mut world = World::new(&["a", "b", "c", "d"]);
    world.run(seconds(2.0));
    world
}

/// One look of `a`, alone; whom it asks, and what it says that it has seen of `d`.
fn look(world: &mut World) -> Vec<(String, Option<u64>)> {
    for _ in 0..2 {
        world.now += seconds(1.0);
        world.call("a", Input::Timeout);
    }
    let requests = world
        .queue
        .drain(..)
        .filter_map(|sent| match sent.message.body {
            Body::TransferRequest { clocks, .. } => {
                Some((sent.to.to_string(), clocks.counter(&id("d", 1))))
            }
            _ => None,
        });
    requests.collect()
}

/// Guards against: asking for what everyone tells of everyone, whenever one delta is a moment late.
#[test]
fn a_third_is_asked_only_where_the_owner_tells_nothing_for_a_whole_look() {
    let mut world = World::new(&["a", "b", "c"]);
    world.run(seconds(2.0));
    world.cut_one_way("c", "a");
    let mark = world.sent.len();
    world.track("c", "t", "cleo");
    world.run(seconds(1.0));
    // b has told of it with its own next word.
    world.track("b", "t", "bob");
    world.run(seconds(1.0));
    assert_eq!(world.list("a", "t"), ["bob"]);
    // The look at 5.125 notes it, the next asks.
    world.run(seconds(2.0));
    assert_eq!(
        world
            .words("a", mark)
            .iter()
            .filter(|&&word| word == "request")
            .count(),
        0
    );
    world.run(seconds(2.0));
    assert_eq!(world.list("a", "t"), ["bob", "cleo"]);
    let request = world.last("a", "b", "request");
    let Body::TransferRequest { clocks, .. } = request.message.body else {
        unreachable!()
    };
    assert_eq!(clocks, Context::from_iter([(id("c", 1), 0)]));
    assert_eq!(world.count("request", mark), 1);
    assert_eq!(world.status("a", "c"), Some(Status::Up));
}

/// Guards against: of several who know more, asking each.
#[test]
fn of_several_who_know_more_the_one_who_knows_most_is_asked() {
    for ([b, c], asked) in [([3, 5], "c"), ([5, 3], "b"), ([5, 5], "b")] {
        let mut world = idle();
        world.give(&has_seen("b", b));
        world.give(&has_seen("c", c));
        assert_eq!(look(&mut world), []);
        assert_eq!(look(&mut world), [(asked.to_owned(), Some(0))]);
    }
}

/// Guards against: asking others for what their own node has told, so that it will be asked itself.
#[test]
fn others_are_not_asked_for_what_the_owner_itself_has_told() {
    let mut world = idle();
    world.give(&has_seen("b", 5));
    let clocks = Context::from_iter([(id("d", 1), 5)]);
    let body = Body::Heartbeat {
        delta: Delta::default(),
        clocks,
    };
    let message = Message {
        from: id("d", 1),
        body,
    };
    world.give(&Sent {
        to: "a".into(),
        message,
    });
    for _ in 0..2 {
        let asked = look(&mut world);
        assert!(asked.iter().all(|(to, _)| to == "d"), "{asked:?}");
    }
    // What goes beyond that is noted.
    world.give(&has_seen("b", 6));
    look(&mut world);
    assert!(look(&mut world).contains(&("b".to_owned(), Some(0))));
}

/// Guards against: asking others at each look where the owner's word is only ever a moment late.
#[test]
fn what_was_noted_and_has_arrived_since_is_not_asked_for() {
    let mut world = idle();
    world.give(&has_seen("b", 1));
    assert_eq!(look(&mut world), []);
    // It arrives, and b is ahead once more.
    world.track("d", "t", "dora");
    world.call("d", Input::Timeout);
    let now = world.now;
    world.now = world.tracker("d").poll_timeout().unwrap().max(now);
    world.call("d", Input::Timeout);
    world.now = now;
    let delta = world
        .queue
        .drain(..)
        .find(|sent| word(&sent.message.body) == "delta");
    world.give(&delta.unwrap());
    assert_eq!(world.list("a", "t"), ["dora"]);
    world.queue.clear();
    world.give(&has_seen("b", 2));
    assert_eq!(look(&mut world), []);
    assert_eq!(look(&mut world), [("b".to_owned(), Some(1))]);
}
