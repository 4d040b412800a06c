//! Who speaks when, and what that tells.

use std::time::Duration;

use presence_core::tracker::Tracker;
use presence_core::tracker::journal::Input;
use presence_core::wire::cluster::Body;

use super::world::{World, config, id, seconds};

#[test]
fn nodes_meet_and_list_each_other() {
    let mut world = World::new(&["a", "b", "c"]);
    world.track("a", "t", "alice");
    world.track("b", "t", "bob");
    world.run(seconds(3.0));
    for name in ["a", "b", "c"] {
        assert_eq!(world.list(name, "t"), ["alice", "bob"], "at {name}");
    }
}

#[test]
fn the_first_word_is_staggered_over_a_quarter_of_a_period() {
    let at = seconds(100.0);
    let first = |random| {
        let tracker = Tracker::new(id("a", 1), config(), 7, random, at).unwrap();
        assert_eq!(*tracker.config(), config());
        tracker.poll_timeout().unwrap()
    };
    assert_eq!(first(0), at);
    assert_eq!(first(u64::MAX / 2), at + Duration::from_millis(125));
    assert_eq!(first(u64::MAX), at + Duration::from_millis(250));
}

/// Guards against: an idle word every max_silent_periods, which leaves down_period less room than its
/// check assumes, or never one.
#[test]
fn an_idle_node_speaks_in_every_period_after_max_silent_ones() {
    let mut world = World::new(&["a", "b"]);
    // The first word comes at once, and the greeting.
    world.run(seconds(1.0));
    assert_eq!(world.words("a", 0), ["idle", "idle"]);
    assert_eq!(world.stats("a").idle_heartbeats, 1);
    for word in 1..=3 {
        let mark = world.sent.len();
        world.run(seconds(5.0));
        assert!(world.sent[mark..].is_empty(), "silent before word {word}");
        world.run(seconds(1.0));
        assert_eq!(world.words("a", mark), ["idle"]);
        assert_eq!(world.words("b", mark), ["idle"]);
    }
    assert_eq!(world.stats("a").idle_heartbeats, 4);
    assert_eq!(world.stats("a").deltas, 0);
}

#[test]
fn a_change_is_told_once_in_the_next_period_and_counts_as_a_word() {
    let mut world = World::new(&["a", "b"]);
    world.run(seconds(4.0));
    let mark = world.sent.len();
    world.track("a", "t", "alice");
    world.track("a", "t", "alma");
    assert!(world.sent[mark..].is_empty());
    world.run(seconds(1.0));
    assert_eq!(world.words("a", mark), ["delta"]);
    assert_eq!(world.list("b", "t"), ["alice", "alma"]);
    assert_eq!(world.stats("a").deltas, 1);
    // The next word of its own is due after as long a silence as ever.
    world.run(seconds(5.0));
    assert_eq!(world.words("a", mark), ["delta"]);
    world.run(seconds(1.0));
    assert_eq!(world.words("a", mark), ["delta", "idle"]);
}

#[test]
fn a_call_before_the_timeout_does_nothing() {
    let mut world = World::new(&["a", "b"]);
    world.track("a", "t", "alice");
    let due = world.tracker("a").poll_timeout();
    assert_eq!(due, Some(Duration::from_millis(125)));
    world.now = Duration::from_micros(124_999);
    world.call("a", Input::Timeout);
    assert!(world.queue.is_empty());
    assert_eq!(world.tracker("a").poll_timeout(), due);
    world.now = Duration::from_millis(125);
    world.call("a", Input::Timeout);
    assert_eq!(world.queue.len(), 1);
    assert_eq!(
        world.tracker("a").poll_timeout(),
        Some(Duration::from_millis(1125))
    );
}

/// Guards against: two idle nodes that know each other only after up to six periods.
#[test]
fn whoever_is_heard_for_the_first_time_is_greeted() {
    let mut world = World::new(&["a"]);
    world.track("a", "t", "alice");
    world.run(seconds(3.0));
    let mark = world.sent.len();
    world.start("b", 1);
    world.run(seconds(0.2));
    // b's first word, a's greeting, b's own, and what b has missed.
    assert_eq!(world.words("b", mark), ["idle", "idle", "request"]);
    assert_eq!(world.words("a", mark), ["idle", "reply"]);
    assert_eq!(world.list("b", "t"), ["alice"]);
    assert_eq!(world.tracker("a").replicas().count(), 1);
}

/// Guards against: waiting up to six periods for what got lost while there was no connection.
#[test]
fn whoever_connects_is_told_what_was_told_so_far() {
    let mut world = World::new(&["a", "b"]);
    world.run(seconds(3.0));
    world.cut("a", "b");
    world.track("a", "t", "alice");
    world.run(seconds(1.0));
    world.heal();
    // What was not told yet is not missed.
    world.track("a", "t", "alma");
    let mark = world.sent.len();
    world.connected("a", "b");
    world.deliver();
    assert_eq!(world.words("a", mark), ["idle"]);
    let Body::Heartbeat { clocks, .. } = &world.sent[mark].message.body else {
        panic!("{:?}", world.sent[mark]);
    };
    assert_eq!(clocks.counter(&id("a", 1)), Some(1));
    world.run(seconds(2.0));
    assert_eq!(world.list("b", "t"), ["alice", "alma"]);
}

/// Guards against: after one lost delta nothing advances until a full transfer; or a receiver that
/// takes the next delta for the whole and never asks.
#[test]
fn one_lost_delta_heals_at_the_next_look() {
    let mut world = World::new(&["a", "b"]);
    world.run(seconds(3.0));
    world.cut("a", "b");
    world.track("a", "t", "alice");
    world.run(seconds(1.0));
    world.heal();
    world.track("a", "t", "alma");
    let mark = world.sent.len();
    world.run(seconds(2.0));
    assert_eq!(world.list("b", "t"), ["alice", "alma"]);
    assert_eq!(world.words("b", mark), ["request"]);
    assert_eq!(world.stats("a").transfers_incremental, 1);
    assert_eq!(world.stats("a").transfers_full, 0);
    // Later deltas arrive without a word more.
    world.track("a", "t", "anna");
    world.run(seconds(4.0));
    assert_eq!(world.stats("b").transfers_asked, 1);
    assert_eq!(world.list("b", "t"), ["alice", "alma", "anna"]);
}

/// Guards against: two deltas whose ranges are not contiguous, merged as if they were, so that what
/// lies between them is never asked for, or comes late and is not taken.
#[test]
fn deltas_that_do_not_touch_leave_a_gap_that_late_ones_fill() {
    let mut world = World::new(&["a", "b"]);
    world.run(seconds(3.0));
    world.lose = |sent| &*sent.to == "b";
    let alice = world.track("a", "t", "alice");
    world.run(seconds(1.0));
    let first = world.last("a", "b", "delta");
    world.untrack_pid("a", alice);
    world.track("a", "t", "alma");
    world.run(seconds(1.0));
    let second = world.last("a", "b", "delta");
    world.track("a", "t", "anna");
    world.run(seconds(1.0));
    let third = world.last("a", "b", "delta");
    assert!(world.give(&third));
    assert_eq!(world.list("b", "t"), ["anna"]);
    assert_eq!(world.tracker("b").set().counter(&id("a", 1)), Some(0));
    assert!(world.give(&second));
    assert_eq!(world.list("b", "t"), ["alma", "anna"]);
    // Alice left with the second: the first does not bring her back.
    assert!(world.give(&first));
    assert_eq!(world.list("b", "t"), ["alma", "anna"]);
    assert_eq!(world.tracker("b").set().counter(&id("a", 1)), Some(4));
}

/// Guards against: a delta too large for one message, and a receiver that asks for the parts which are
/// still on their way.
#[test]
fn a_large_delta_goes_in_parts_and_nobody_asks_before_the_last() {
    let mut config = config();
    config.chunk_values = 10;
    let mut world = World::with(config, &["a", "b"]);
    world.run(seconds(3.0));
    let pids = world.track_many("a", "t", "user", 26);
    world.untrack_pid("a", pids[0]);
    let mark = world.sent.len();
    world.run(seconds(1.0));
    // Three of values and one of what is gone.
    assert_eq!(world.words("a", mark), ["delta"; 4]);
    let clocks = world.sent[mark..]
        .iter()
        .map(|sent| match &sent.message.body {
            Body::Heartbeat { delta, clocks } => {
                (delta.values().count(), clocks.counter(&id("a", 1)))
            }
            other => panic!("{other:?}"),
        });
    assert_eq!(
        clocks.collect::<Vec<_>>(),
        [(10, Some(0)), (10, Some(0)), (5, Some(0)), (0, Some(27))]
    );
    assert_eq!(world.list("b", "t").len(), 25);
    assert_eq!(world.stats("a").deltas, 1);
    world.run(seconds(5.0));
    assert_eq!(world.stats("b").transfers_asked, 0);
}

/// Guards against: a part merged as if it were the whole.
#[test]
fn a_lost_part_of_a_delta_is_asked_for() {
    let mut config = config();
    config.chunk_values = 10;
    let mut world = World::with(config, &["a", "b"]);
    // They look every two seconds, at 1.125 s for the first time.
    world.run(seconds(2.0));
    let pids = world.track_many("a", "t", "user", 26);
    world.untrack_pid("a", pids[0]);
    world.lose = |sent| match &sent.message.body {
        Body::Heartbeat { delta, .. } => delta.values().any(|e| e.key.as_str() == "user15"),
        _ => false,
    };
    world.run(seconds(1.0));
    assert_eq!(world.list("b", "t").len(), 15);
    assert_eq!(world.stats("b").deferred, 1);
    world.run(seconds(1.0));
    assert_eq!(world.stats("b").transfers_asked, 1);
    assert_eq!(world.list("b", "t").len(), 25);
}

/// Guards against: a word more than the parts need.
#[test]
fn where_nothing_is_gone_the_last_part_has_the_clocks() {
    let mut config = config();
    config.chunk_values = 10;
    let mut world = World::with(config, &["a", "b"]);
    world.run(seconds(3.0));
    world.track_many("a", "t", "user", 20);
    let mark = world.sent.len();
    world.run(seconds(1.0));
    assert_eq!(world.words("a", mark), ["delta"; 2]);
    let last = world.last("a", "b", "delta");
    let Body::Heartbeat { delta, clocks } = last.message.body else {
        panic!("{last:?}");
    };
    assert_eq!(delta.values().count(), 10);
    assert_eq!(clocks.counter(&id("a", 1)), Some(20));
    assert_eq!(world.list("b", "t").len(), 20);
}

/// Guards against: a presence that blinks, since it was updated after the part that told it.
#[test]
fn what_changes_between_the_parts_of_a_delta_is_told_with_it() {
    let mut config = config();
    config.chunk_values = 10;
    let mut world = World::with(config, &["a", "b"]);
    world.run(seconds(3.0));
    let pids = world.track_many("a", "t", "user", 26);
    world.now = world.tracker("a").poll_timeout().unwrap();
    world.call("a", Input::Timeout);
    world.deliver();
    assert_eq!(world.list("b", "t").len(), 10);
    // One that was told and one that was not, of either kind.
    for (user, key) in [(0, "user0"), (20, "user20")] {
        world.update("a", "t", key, pids[user], "{\"v\":2}");
    }
    world.untrack_pid("a", pids[1]);
    world.untrack_pid("a", pids[21]);
    while world.tracker("a").poll_timeout() == Some(world.now) {
        world.call("a", Input::Timeout);
        world.deliver();
    }
    assert_eq!(world.list("b", "t"), world.list("a", "t"));
    for key in ["user0", "user20"] {
        assert_eq!(world.refs("b", "t", key), world.refs("a", "t", key));
    }
    let left = world.node("b").diffs.iter().flat_map(|told| &told.leaves);
    let left: Vec<_> = left.map(|(key, _)| &**key).collect();
    assert_eq!(left, ["user0", "user1"]);
    assert!(world.node("b").diffs.iter().all(|told| {
        let has = |list: &[(String, String)]| list.iter().any(|(key, _)| key == "user0");
        !has(&told.leaves) || has(&told.joins)
    }));
    assert_eq!(world.stats("a").deltas, 1);
    world.run(seconds(5.0));
    assert_eq!(world.stats("b").transfers_asked, 0);
}
