//! Stopping: what is told, what stays, and what does not come back.

use presence_core::clock::Context;
use presence_core::delta::Delta;
use presence_core::entry::Pid;
use presence_core::presence::Meta;
use presence_core::tracker::journal::{Input, Outcome};
use presence_core::tracker::{ChangeError, Config, Event, Refusal, Status};
use presence_core::wire::cluster::{Body, Message};

use super::world::{Sent, World, config, id, seconds};

fn goodbyes() -> Config {
    let mut config = config();
    config.permdown_on_shutdown = true;
    config
}

/// A node that lives, alone or with what it says it has seen.
fn hello(from: (&str, u64), to: &str) -> Sent {
    let from = id(from.0, from.1);
    let clocks = Context::from_iter([(from.clone(), 0)]);
    let body = Body::Heartbeat {
        delta: Delta::default(),
        clocks,
    };
    Sent {
        to: to.into(),
        message: Message { from, body },
    }
}

fn goodbye(name: &str, incarnation: u64) -> Sent {
    let message = Message {
        from: id(name, incarnation),
        body: Body::Permdown,
    };
    Sent {
        to: "a".into(),
        message,
    }
}

/// Guards against: leaves lost in a normal shutdown, since the last delta was never sent, so that users
/// linger for down_period.
#[test]
fn what_left_before_a_stop_is_told() {
    for config in [config(), goodbyes()] {
        let mut world = World::with(config, &["a", "b"]);
        let bob = world.track("b", "t", "bob");
        world.track("b", "t", "bill");
        world.run(seconds(2.0));
        let mark = world.sent.len();
        world.untrack_pid("b", bob);
        world.stop("b");
        world.deliver();
        if world.config.permdown_on_shutdown {
            assert_eq!(world.words("b", mark), ["permdown"]);
            assert!(world.list("a", "t").is_empty());
        } else {
            assert_eq!(world.words("b", mark), ["delta", "stopping"]);
            assert_eq!(world.list("a", "t"), ["bill"]);
        }
    }
}

/// Guards against: users that blink in a rolling deploy, since the leaves of draining sockets are told.
#[test]
fn presences_of_a_node_that_stops_stay_until_down_period() {
    let mut world = World::new(&["a", "b"]);
    let bob = world.track("b", "t", "bob");
    world.run(seconds(2.0));
    let mark = world.sent.len();
    world.stop("b");
    world.stop("b");
    world.deliver();
    assert_eq!(world.words("b", mark), ["stopping"], "said once");
    // Its sockets go, one by one.
    let diffs = world.node("b").diffs.len();
    assert_eq!(world.untrack_pid("b", bob), 0);
    assert!(!world.untrack("b", "t", "bob", bob));
    assert_eq!(world.node("b").diffs.len(), diffs);
    let mark = world.sent.len();
    world.run(seconds(3.0));
    assert_eq!(world.words("b", mark), ["stopping"; 3], "in every period");
    // A refused connection is no crash.
    world.gone("a", "b");
    world.crash("b");
    world.gone("a", "b");
    world.run(seconds(9.0));
    assert_eq!(world.list("a", "t"), ["bob"]);
    world.run(seconds(2.0));
    assert!(world.list("a", "t").is_empty());
    assert_eq!(world.status("a", "b"), Some(Status::Down));
}

/// Guards against: presences of the life before that outlive the next one's coming.
#[test]
fn presences_of_a_node_that_stopped_go_with_its_next_life() {
    let mut world = World::new(&["a", "b"]);
    world.track("b", "t", "bob");
    world.run(seconds(2.0));
    world.stop("b");
    world.run(seconds(1.0));
    world.start("b", 2);
    world.run(seconds(0.2));
    assert!(world.list("a", "t").is_empty());
    // The next life does not stop: when it crashes, that is believed.
    world.track("b", "t", "bob");
    world.run(seconds(2.0));
    world.crash("b");
    world.gone("a", "b");
    assert!(world.list("a", "t").is_empty());
}

#[test]
fn a_node_that_stops_changes_nothing_of_its_own_any_more() {
    let mut world = World::new(&["a"]);
    let alice = world.track("a", "t", "alice");
    world.stop("a");
    let meta = Meta::empty();
    let track = Input::Track {
        topic: "t".into(),
        pid: Pid(9),
        key: "x".into(),
        meta: meta.clone(),
    };
    assert_eq!(
        world.call("a", track),
        Outcome::Tracked(Err(ChangeError::Stopping))
    );
    let update = Input::Update {
        topic: "t".into(),
        pid: alice,
        key: "alice".into(),
        meta,
    };
    assert_eq!(
        world.call("a", update),
        Outcome::Updated(Err(ChangeError::Stopping))
    );
    let updates = world
        .node("a")
        .tracker
        .updates("t", |_, _| Some(Meta::empty()));
    let topic = "t".into();
    assert_eq!(
        world.call("a", Input::UpdateAll { topic, updates }),
        Outcome::UpdatedAll(Err(ChangeError::Stopping))
    );
    assert_eq!(world.list("a", "t"), ["alice"]);
}

/// Guards against: a node that listens no more once it has begun to stop, and drains its sockets with
/// an old list.
#[test]
fn a_node_that_stops_goes_on_to_hear_and_to_answer() {
    let mut world = World::new(&["a", "b"]);
    world.track("b", "t", "bob");
    world.run(seconds(2.0));
    world.stop("b");
    world.track("a", "t", "alice");
    world.run(seconds(1.0));
    assert_eq!(world.list("b", "t"), ["alice", "bob"]);
    world.start("c", 1);
    world.run(seconds(2.0));
    assert_eq!(world.list("c", "t"), ["alice", "bob"]);
    // c heard that it stops.
    world.crash("b");
    world.gone("c", "b");
    assert_eq!(world.list("c", "t"), ["alice", "bob"]);
}

/// Guards against: a goodbye that waits for down_period, and late words that bring the presences back.
#[test]
fn with_permdown_on_shutdown_presences_leave_at_once_and_for_good() {
    let mut world = World::with(goodbyes(), &["a", "b"]);
    world.track("b", "t", "bob");
    world.run(seconds(2.0));
    let late = ["idle", "delta"].map(|word| world.last("b", "a", word));
    world.stop("b");
    world.deliver();
    assert!(world.list("a", "t").is_empty());
    assert_eq!(world.status("a", "b"), None);
    assert_eq!(
        world.node("a").events.last(),
        Some(&Event::Permdown(id("b", 1)))
    );
    let (events, diffs) = (world.node("a").events.len(), world.node("a").diffs.len());
    for late in &late {
        assert!(!world.give(late));
    }
    assert_eq!(
        world.node("a").refusals,
        [Refusal::Departed(id("b", 1)), Refusal::Departed(id("b", 1))]
    );
    assert_eq!(world.status("a", "b"), None);
    assert!(
        world.queue.is_empty(),
        "it is not told of a later life, since there is none"
    );
    // It says nothing more.
    assert_eq!(world.tracker("b").poll_timeout(), None);
    world.call("b", Input::Timeout);
    world.connected("b", "a");
    world.stop("b");
    assert!(world.queue.is_empty(), "{:?}", world.queue);
    assert_eq!(world.node("a").events.len(), events);
    assert_eq!(world.node("a").diffs.len(), diffs);
}

/// Guards against: a node that has said goodbye and, as it is greeted or asked before its process ends,
/// makes itself known again.
#[test]
fn a_node_that_said_goodbye_answers_nobody() {
    let mut world = World::with(goodbyes(), &["a", "b"]);
    world.track("b", "t", "bob");
    world.run(seconds(2.0));
    world.stop("b");
    world.deliver();
    world.start("c", 1);
    world.run(seconds(3.0));
    assert!(world.list("c", "t").is_empty());
    assert_eq!(world.status("c", "b"), None);
    let clocks = Context::from_iter([(id("b", 1), 0)]);
    let body = Body::TransferRequest { id: 1, clocks };
    world.give(&Sent {
        to: "b".into(),
        message: Message {
            from: id("c", 1),
            body,
        },
    });
    assert!(world.queue.is_empty(), "{:?}", world.queue);
}

/// Guards against: a node that said goodbye once and is never let in again.
#[test]
fn the_next_life_of_a_node_that_said_goodbye_is_welcome() {
    let mut world = World::with(goodbyes(), &["a", "b"]);
    world.track("b", "t", "bob");
    world.run(seconds(2.0));
    world.stop("b");
    world.deliver();
    world.start("b", 2);
    world.track("b", "t", "bea");
    world.run(seconds(1.0));
    assert_eq!(world.list("a", "t"), ["bea"]);
    assert_eq!(world.stats("a").replaced, 0);
    // An earlier one is told of the later.
    world.stop("b");
    world.deliver();
    assert!(!world.give(&hello(("b", 1), "a")));
    let told = world.queue.pop_front().unwrap();
    assert_eq!(told.message.body, Body::Superseded { newest: 2 });
}

/// Guards against: a goodbye of an earlier life, which comes late, after which late words of the last
/// life bring its presences back.
#[test]
fn a_late_goodbye_of_an_earlier_life_does_not_undo_a_later_one() {
    let mut world = World::with(goodbyes(), &["a", "b"]);
    world.stop("b");
    let early = world.queue.pop_front().unwrap();
    world.queue.clear();
    world.start("b", 2);
    world.track("b", "t", "bob");
    world.run(seconds(2.0));
    let late = world.last("b", "a", "delta");
    world.stop("b");
    world.deliver();
    world.give(&early);
    assert!(!world.give(&late));
    assert!(world.list("a", "t").is_empty());
}

#[test]
fn a_goodbye_of_a_life_that_nobody_heard_ends_those_before_it() {
    let mut world = World::with(goodbyes(), &["a", "b"]);
    world.track("b", "t", "bob");
    world.run(seconds(2.0));
    let late = world.last("b", "a", "delta");
    assert!(world.give(&goodbye("b", 2)));
    assert!(world.list("a", "t").is_empty());
    assert!(world.give(&goodbye("b", 3)));
    assert!(!world.give(&late));
    assert!(!world.give(&hello(("b", 2), "a")));
    assert!(!world.give(&hello(("b", 3), "a")));
    assert!(world.give(&hello(("b", 4), "a")));
}

/// Guards against: goodbyes that are remembered for ever, or without a bound.
#[test]
fn a_goodbye_is_remembered_for_permdown_period_and_as_many_as_the_limits_allow() {
    let mut config = goodbyes();
    config.limits.replicas = 3;
    let mut world = World::with(config, &["a"]);
    // Exactly so many periods before the timer that finds the time to be over.
    world.run(seconds(0.125));
    for name in ["b", "c", "e", "d"] {
        assert!(world.give(&goodbye(name, 1)));
    }
    assert!(!world.give(&hello(("b", 1), "a")));
    assert!(!world.give(&hello(("c", 1), "a")));
    assert!(
        world.give(&hello(("d", 1), "a")),
        "there was no room to remember it"
    );
    world.run(seconds(30.0));
    assert!(world.give(&goodbye("c", 1)), "again");
    world.run(seconds(29.5));
    assert!(!world.give(&hello(("b", 1), "a")));
    let departed = Refusal::Departed(id("b", 1));
    assert_eq!(world.node("a").refusals.last(), Some(&departed));
    world.run(seconds(1.0));
    assert!(world.give(&hello(("b", 1), "a")));
    assert!(
        !world.give(&hello(("c", 1), "a")),
        "for as long after the last"
    );
    world.run(seconds(29.7));
    assert!(world.give(&hello(("c", 1), "a")));
}
