//! Who counts as up, down and gone, and by which time.

use std::time::Duration;

use presence_core::clock::Context;
use presence_core::delta::Delta;
use presence_core::tracker::journal::Input;
use presence_core::tracker::{Event, Status};
use presence_core::wire::cluster::{Body, Message};

use super::world::{Sent, World, config, id, seconds, word};

/// `a` has heard `b`, whose presence bob it lists, for the last time at 0.125 s.
fn silent() -> World {
    let mut world = World::new(&["a", "b"]);
    world.track("b", "t", "bob");
    world.run(seconds(1.0));
    world.crash("b");
    world
}

/// Guards against: downs that come early or late by a period, are told twice, or take what stays.
#[test]
fn a_silent_node_is_down_after_down_period_and_forgotten_after_permdown_period() {
    let mut world = silent();
    world.track("a", "t", "alice");
    world.run(seconds(9.0));
    assert_eq!(world.list("a", "t"), ["alice", "bob"]);
    world.run(seconds(0.2));
    assert_eq!(world.list("a", "t"), ["alice"]);
    assert_eq!(world.status("a", "b"), Some(Status::Down));
    assert_eq!(world.tracker("a").set().len(), 2, "they are kept");
    world.run(seconds(49.8));
    assert_eq!(world.status("a", "b"), Some(Status::Down));
    world.run(seconds(0.2));
    assert_eq!(world.status("a", "b"), None);
    assert_eq!(world.tracker("a").set().len(), 1);
    let b = id("b", 1);
    assert_eq!(
        world.node("a").events,
        [
            Event::Up(b.clone()),
            Event::Down(b.clone()),
            Event::Permdown(b)
        ]
    );
    assert_eq!(
        world.node("a").diffs.len(),
        3,
        "it joined, alice did, it left"
    );
}

/// Guards against: removed replicas that stay in a table for ever.
#[test]
fn a_forgotten_node_is_in_no_table_and_in_no_word() {
    let mut world = silent();
    world.run(seconds(60.0));
    let a = world.tracker("a");
    assert_eq!(a.replicas().count(), 0);
    assert_eq!(a.set().replicas().count(), 1);
    assert_eq!(a.set().len(), 0);
    let debug = format!("{a:?}");
    assert!(!debug.contains("b#1"), "{debug}");
    let mark = world.sent.len();
    world.start("c", 1);
    world.run(seconds(3.0));
    for sent in &world.sent[mark..] {
        assert!(!format!("{sent:?}").contains("b#1"), "{sent:?}");
    }
}

/// Guards against: presences of a split longer than permdown_period that never come back.
#[test]
fn a_forgotten_node_that_is_heard_again_is_admitted_as_if_it_were_new() {
    let mut world = World::new(&["a", "b"]);
    let bob = world.track("b", "t", "bob");
    world.track("b", "t", "bill");
    world.run(seconds(1.0));
    world.cut("a", "b");
    world.run(seconds(70.0));
    assert_eq!(world.status("a", "b"), None);
    world.untrack_pid("b", bob);
    world.run(seconds(2.0));
    world.heal();
    let mark = world.node("a").diffs.len();
    world.run(seconds(9.0));
    assert_eq!(world.list("a", "t"), ["bill"]);
    assert_eq!(world.list("b", "t"), ["bill"]);
    assert_eq!(world.diffs_since("a", mark).len(), 1);
    assert_eq!(
        world.diffs_since("a", mark)[0].joins.len(),
        1,
        "bob is not seen again"
    );
    assert_eq!(world.node("a").events.last(), Some(&Event::Up(id("b", 1))));
}

/// Guards against: liveness by a clock that may jump back.
#[test]
fn time_never_goes_back() {
    let mut world = silent();
    world.run(seconds(5.0));
    let next = world.tracker("a").poll_timeout();
    // Earlier times are taken for the latest that was seen.
    world.now = Duration::ZERO;
    world.call("a", Input::Timeout);
    world.connected("a", "b");
    world.gone("a", "nobody");
    assert_eq!(world.tracker("a").poll_timeout(), next);
    // One that is heard at such a time was heard at the latest: it is down 10 s after 6 s.
    world.start("c", 1);
    world.track("c", "t", "cleo");
    world.call("c", Input::Timeout);
    world.now = Duration::from_millis(125);
    world.call("c", Input::Timeout);
    let hello = world.queue.pop_back().unwrap();
    world.now = seconds(6.0);
    world.connected("a", "b");
    world.now = seconds(1.0);
    world.give(&hello);
    world.crash("c");
    world.now = seconds(6.0);
    world.run(seconds(9.5));
    assert_eq!(world.status("a", "c"), Some(Status::Up));
    world.run(seconds(1.0));
    assert_eq!(world.status("a", "c"), Some(Status::Down));
}

/// Guards against: a stopped process that goes on and takes everyone else for dead, since its timer runs
/// before it hears what waits for it (SIGSTOP for longer than down_period).
#[test]
fn a_node_whose_timer_ran_late_suspects_itself_first() {
    let mut world = World::new(&["a", "b", "c"]);
    world.track("b", "t", "bob");
    world.track("c", "t", "cleo");
    world.run(seconds(1.0));
    world.pause("a");
    world.run(seconds(15.0));
    assert_eq!(world.status("b", "a"), Some(Status::Down));
    let mark = world.node("a").events.len();
    world.resume("a");
    assert_eq!(world.stats("a").suspected_itself, 1);
    assert_eq!(world.list("a", "t"), ["bob", "cleo"]);
    world.crash("c");
    world.run(seconds(8.0));
    assert_eq!(world.status("a", "b"), Some(Status::Up));
    assert_eq!(world.status("b", "a"), Some(Status::Up));
    assert_eq!(
        world.node("a").events.len(),
        mark,
        "{:?}",
        world.node("a").events
    );
    // The time in which it did not run is no silence of theirs, but the time after it is.
    world.run(seconds(4.0));
    assert_eq!(world.node("a").events[mark..], [Event::Down(id("c", 1))]);
    assert_eq!(world.stats("a").suspected_itself, 1);
}

/// Guards against: time that is forgiven twice, or silence before and after it that is not counted.
#[test]
fn only_the_time_in_which_a_timer_was_late_is_forgiven() {
    // Heard at 0.125 s; the timer that is due at 6.125 s comes after so much more.
    for (late, suspects) in [
        (0.0, 0),
        (0.5, 0),
        (1.0, 0),
        (1.5, 1),
        (30.0, 1),
        (100.0, 1),
    ] {
        let mut world = silent();
        world.run(seconds(5.0));
        world.now = seconds(6.125 + late);
        world.call("a", Input::Timeout);
        assert_eq!(world.stats("a").suspected_itself, suspects, "{late}");
        assert_eq!(world.status("a", "b"), Some(Status::Up), "{late}");
        world.run(seconds(3.9));
        assert_eq!(world.status("a", "b"), Some(Status::Up), "{late}");
        world.run(seconds(0.2));
        assert_eq!(world.status("a", "b"), Some(Status::Down), "{late}");
    }
}

/// Guards against: waiting for down_period although the process is known to be gone.
#[test]
fn a_node_that_is_known_to_be_gone_is_down_at_once() {
    let mut world = silent();
    world.gone("a", "b");
    assert!(world.list("a", "t").is_empty());
    assert_eq!(world.status("a", "b"), Some(Status::Down));
    let node = world.node("a");
    assert_eq!(
        node.events,
        [Event::Up(id("b", 1)), Event::Down(id("b", 1))]
    );
    let diffs = node.diffs.len();
    // Nor again, nor of one that was never heard of.
    world.gone("a", "b");
    world.gone("a", "nobody");
    world.run(seconds(12.0));
    assert_eq!(world.node("a").events.len(), 2);
    assert_eq!(world.node("a").diffs.len(), diffs);
}

/// Guards against: a wrong guess that costs more than one leave and one join, or is never put right.
#[test]
fn a_node_that_was_wrongly_said_to_be_gone_is_listed_again_with_its_next_word() {
    let mut world = World::new(&["a", "b"]);
    world.track("b", "t", "bob");
    world.run(seconds(3.0));
    let mark = world.node("a").diffs.len();
    world.gone("a", "b");
    world.run(seconds(6.0));
    assert_eq!(world.list("a", "t"), ["bob"]);
    assert_eq!(world.stats("a").arrived, 2);
    assert_eq!(world.diffs_since("a", mark).len(), 2);
    assert_eq!(world.count("request", 0), 0, "nothing was missed");
}

/// Guards against: presences that left in the meantime and are listed for a moment as their node comes
/// back.
#[test]
fn a_node_that_returns_is_listed_once_all_that_it_told_has_arrived() {
    let mut world = World::new(&["a", "b"]);
    let bob = world.track("b", "t", "bob");
    world.track("b", "t", "bill");
    world.run(seconds(1.0));
    world.cut("a", "b");
    world.run(seconds(12.0));
    world.untrack_pid("b", bob);
    world.track("b", "t", "bea");
    world.run(seconds(1.0));
    let lost = world.last("b", "a", "delta");
    world.track("b", "t", "ben");
    world.run(seconds(1.0));
    world.heal();
    let mark = world.node("a").diffs.len();
    // The last delta brings ben, but not what happened before.
    let last = world.last("b", "a", "delta");
    world.give(&last);
    assert_eq!(
        world.status("a", "b"),
        Some(Status::Arriving { until: Some(5) })
    );
    assert!(world.list("a", "t").is_empty());
    // It is asked for at once; here it comes by itself.
    assert_eq!(world.queue.len(), 2, "{:?}", world.queue);
    world.queue.clear();
    world.give(&lost);
    assert_eq!(world.status("a", "b"), Some(Status::Up));
    assert_eq!(world.list("a", "t"), ["bea", "ben", "bill"]);
    assert_eq!(world.diffs_since("a", mark).len(), 1, "in one diff");
    assert_eq!(world.stats("a").arrived, 2);
    assert_eq!(world.node("a").events.last(), Some(&Event::Up(id("b", 1))));
}

#[test]
fn a_node_that_falls_silent_while_it_returns_is_down_again_without_a_word() {
    let mut world = World::new(&["a", "b"]);
    world.track("b", "t", "bob");
    world.run(seconds(1.0));
    world.cut("a", "b");
    world.run(seconds(12.0));
    world.track("b", "t", "bea");
    world.run(seconds(1.0));
    world.track("b", "t", "ben");
    world.run(seconds(1.0));
    let last = world.last("b", "a", "delta");
    let (events, diffs) = (world.node("a").events.len(), world.node("a").diffs.len());
    world.give(&last);
    assert_eq!(
        world.status("a", "b"),
        Some(Status::Arriving { until: Some(3) })
    );
    world.run(seconds(9.0));
    assert_eq!(
        world.status("a", "b"),
        Some(Status::Arriving { until: Some(3) })
    );
    world.run(seconds(2.0));
    assert_eq!(world.status("a", "b"), Some(Status::Down));
    assert_eq!(world.node("a").events.len(), events);
    assert_eq!(world.node("a").diffs.len(), diffs);
    world.heal();
    world.run(seconds(8.0));
    assert_eq!(world.list("a", "t"), ["bea", "ben", "bob"]);
}

/// Guards against: a replica that is down is asked over and over, since it is known to have told more.
#[test]
fn a_node_that_is_down_is_not_asked() {
    let mut world = World::new(&["a", "b"]);
    world.track("b", "t", "bob");
    world.run(seconds(1.0));
    world.lose =
        |sent| matches!(&sent.message.body, Body::Heartbeat { delta, .. } if !delta.is_empty());
    world.track("b", "t", "bea");
    world.run(seconds(1.0));
    world.heal();
    world.connected("b", "a");
    world.deliver();
    world.crash("b");
    world.gone("a", "b");
    let mark = world.sent.len();
    world.run(seconds(20.0));
    assert_eq!(
        world
            .words("a", mark)
            .iter()
            .filter(|&&word| word != "idle")
            .count(),
        0
    );
    assert_eq!(world.tracker("a").set().counter(&id("b", 1)), Some(1));
}

/// Guards against: an answer that was asked for before its node went down, and is waited for after it
/// has come back.
#[test]
fn what_was_asked_before_a_node_went_down_is_asked_anew_when_it_is_back() {
    let mut world = World::new(&["a", "b"]);
    world.run(seconds(2.0));
    world.cut("a", "b");
    world.track("b", "t", "bob");
    world.run(seconds(1.0));
    world.heal();
    world.lose = |sent| matches!(sent.message.body, Body::TransferReply { .. });
    world.connected("b", "a");
    world.run(seconds(1.0));
    assert_eq!(world.stats("a").transfers_asked, 1);
    world.gone("a", "b");
    world.heal();
    world.connected("b", "a");
    world.run(seconds(0.1));
    assert_eq!(world.stats("a").transfers_asked, 2);
    assert_eq!(world.list("a", "t"), ["bob"]);
}

/// Guards against: one that only asks, and is listed although nobody knows whether what is known of it
/// still holds.
#[test]
fn a_request_of_a_node_that_is_down_is_answered_but_does_not_list_it() {
    let mut world = World::new(&["a", "b"]);
    world.track("b", "t", "bob");
    world.track("a", "t", "alice");
    world.run(seconds(1.0));
    world.gone("a", "b");
    let clocks = Context::from_iter([(id("a", 1), 0)]);
    let body = Body::TransferRequest { id: 5, clocks };
    let message = Message {
        from: id("b", 1),
        body,
    };
    assert!(world.give(&Sent {
        to: "a".into(),
        message
    }));
    assert_eq!(
        world.status("a", "b"),
        Some(Status::Arriving { until: None })
    );
    assert_eq!(world.list("a", "t"), ["alice"]);
    let answers = world.queue.iter().map(|sent| word(&sent.message.body));
    assert_eq!(answers.collect::<Vec<_>>(), ["idle", "reply"]);
    // It is alive all the same, and not forgotten.
    world.crash("b");
    world.run(seconds(59.0));
    assert_eq!(world.status("a", "b"), Some(Status::Down));
}

/// Guards against: leaves that are reported twice, once as the node goes down and once as a merge
/// brings them.
#[test]
fn what_leaves_on_a_node_that_is_down_is_not_told_again() {
    let mut world = World::new(&["a", "b", "c"]);
    let bob = world.track("b", "t", "bob");
    world.track("b", "t", "bill");
    world.run(seconds(1.0));
    world.gone("a", "b");
    let mark = world.node("a").diffs.len();
    world.untrack_pid("b", bob);
    world.track("b", "t", "bea");
    // Its own word would make it return; c's answer brings the same.
    world.cut("a", "b");
    world.run(seconds(1.0));
    let answer = Body::TransferReply {
        id: 0,
        part: 1,
        delta: world
            .tracker("c")
            .set()
            .extract(&id("a", 1), &world.tracker("c").set().clocks()),
        clocks: world.tracker("c").set().clocks(),
        last: true,
    };
    let message = Message {
        from: id("c", 1),
        body: answer,
    };
    assert!(world.give(&Sent {
        to: "a".into(),
        message
    }));
    assert_eq!(world.tracker("a").set().counter(&id("b", 1)), Some(4));
    assert_eq!(world.diffs_since("a", mark), []);
    world.heal();
    world.run(seconds(7.0));
    assert_eq!(world.list("a", "t"), ["bea", "bill"]);
    assert_eq!(world.diffs_since("a", mark).len(), 1);
    assert_eq!(world.diffs_since("a", mark)[0].joins.len(), 2);
}

#[test]
fn as_many_nodes_are_admitted_as_the_limits_allow() {
    let mut config = config();
    config.limits.replicas = 3;
    let mut world = World::with(config, &["a"]);
    let hello = |name: &str, incarnation| {
        let from = id(name, incarnation);
        let clocks = Context::from_iter([(from.clone(), 0)]);
        let body = Body::Heartbeat {
            delta: Delta::default(),
            clocks,
        };
        Sent {
            to: "a".into(),
            message: Message { from, body },
        }
    };
    assert!(world.give(&hello("b", 1)));
    assert!(world.give(&hello("c", 1)));
    assert!(!world.give(&hello("d", 1)));
    assert_eq!(
        world.node("a").refusals[0].to_string(),
        "3 replicas are known, as many as the limits allow"
    );
    assert_eq!(world.status("a", "d"), None);
    // A new life takes the place of the old one.
    assert!(world.give(&hello("c", 2)));
    world.run(seconds(61.0));
    assert!(world.give(&hello("d", 1)));
}
