//! Nodes that begin again under their old name.

use presence_core::clock::Context;
use presence_core::tracker::{Event, Refusal, Status, Tracker};
use presence_core::wire::cluster::{Body, Message};

use super::world::{Sent, World, id, seconds, word};

fn message(from: (&str, u64), to: &str, body: Body) -> Sent {
    let from = id(from.0, from.1);
    Sent {
        to: to.into(),
        message: Message { from, body },
    }
}

/// Guards against: a node restarted before its old self was found down, whose old presences stay until
/// then, or blink.
#[test]
fn a_later_life_takes_the_place_of_the_old_one_at_once() {
    let mut world = World::new(&["a", "b"]);
    world.track("b", "t", "bob");
    world.track("b", "t", "bill");
    world.run(seconds(2.0));
    let old = world.refs("a", "t", "bob");
    world.crash("b");
    world.start("b", 2);
    world.track("b", "t", "bob");
    let mark = world.node("a").diffs.len();
    world.run(seconds(1.0));
    assert_eq!(world.list("a", "t"), ["bob"]);
    assert_ne!(world.refs("a", "t", "bob"), old);
    let diffs = world.diffs_since("a", mark);
    assert_eq!(diffs.len(), 1, "{diffs:?}");
    assert_eq!((diffs[0].joins.len(), diffs[0].leaves.len()), (1, 2));
    let [old, new] = [id("b", 1), id("b", 2)];
    assert_eq!(
        world.node("a").events,
        [
            Event::Up(old.clone()),
            Event::Down(old.clone()),
            Event::Permdown(old),
            Event::Up(new)
        ]
    );
    assert_eq!(world.stats("a").replaced, 1);
    assert_eq!(world.tracker("a").replicas().count(), 1);
}

/// Guards against: a late heartbeat of the old self that evicts the new one.
#[test]
fn a_late_word_of_an_earlier_life_is_ignored_and_it_is_told_so() {
    let mut world = World::new(&["a", "b"]);
    world.track("b", "t", "bob");
    world.run(seconds(2.0));
    let words = ["delta", "idle"].map(|word| world.last("b", "a", word));
    world.start("b", 2);
    world.track("b", "t", "bea");
    world.run(seconds(2.0));
    for late in &words {
        assert!(!world.give(late));
        let told = world.queue.pop_front().unwrap();
        assert_eq!(told.message.body, Body::Superseded { newest: 2 });
    }
    let superseded = Refusal::Superseded {
        replica: id("b", 1),
        newest: id("b", 2),
    };
    assert_eq!(world.node("a").refusals, [superseded.clone(), superseded]);
    assert_eq!(world.stats("a").refused, 2);
    assert_eq!(world.list("a", "t"), ["bea"]);
    assert_eq!(world.status("a", "b"), Some(Status::Up));
    // Nor a goodbye of it.
    assert!(!world.give(&message(("b", 1), "a", Body::Permdown)));
    assert_eq!(world.list("a", "t"), ["bea"]);
    // The new self, which is told as well, has nothing to change.
    world.give(&message(("a", 1), "b", Body::Superseded { newest: 2 }));
    assert_eq!(*world.tracker("b").replica(), id("b", 2));
}

/// Guards against: a node whose clock went back, whose lower incarnation nobody ever hears.
#[test]
fn a_node_whose_clock_went_back_takes_a_later_life_than_its_old_one() {
    let mut world = World::new(&["a", "b", "c"]);
    world.crash("b");
    world.start("b", 50);
    world.track("b", "t", "old");
    world.run(seconds(2.0));
    world.start("b", 7);
    let pids = world.track_many("b", "t", "bob", 3);
    world.track("b", "other", "bob");
    world.untrack_pid("b", pids[1]);
    let before = world.refs("b", "t", "bob0");
    let mark = world.node("b").diffs.len();
    world.run(seconds(1.2));
    assert_eq!(*world.tracker("b").replica(), id("b", 51));
    assert_eq!(world.stats("b").reincarnated, 1);
    let reincarnated = Event::Reincarnated {
        from: id("b", 7),
        to: id("b", 51),
    };
    assert!(world.node("b").events.contains(&reincarnated));
    // All under new refs, in one diff a topic.
    assert_ne!(world.refs("b", "t", "bob0"), before);
    let diffs = world.diffs_since("b", mark);
    let of = |topic: &str| {
        let diffs = diffs.iter().filter(|told| told.topic == topic);
        let own = diffs.map(|told| (told.joins.len(), told.leaves.len()));
        own.collect::<Vec<_>>()
    };
    assert_eq!(of("other"), [(1, 1)]);
    assert_eq!(of("t")[0], (2, 2));
    for name in ["a", "c"] {
        assert_eq!(world.list(name, "t"), ["bob0", "bob2"], "at {name}");
        assert_eq!(world.refs(name, "t", "bob0"), world.refs("b", "t", "bob0"));
        assert_eq!(world.tracker(name).status("b").unwrap().0, &id("b", 51));
    }
    // It goes on under the new name, and nobody begins again.
    world.untrack_pid("b", pids[0]);
    world.run(seconds(12.0));
    assert_eq!(world.list("a", "t"), ["bob2"]);
    assert_eq!(world.stats("b").reincarnated, 1);
    assert_eq!(world.stats("a").reincarnated, 0);
}

/// Guards against: a node that is told of its later life only in the clocks of others.
#[test]
fn a_later_life_that_others_name_in_their_clocks_counts_as_well() {
    let mut world = World::new(&["a"]);
    world.track("a", "t", "alice");
    let clocks = Context::from_iter([
        (id("a", 3), 0),
        (id("a", 9), 7),
        (id("b", 1), 0),
        (id("c", 70), 0),
    ]);
    let body = Body::Stopping {
        clocks,
        handover: false,
    };
    assert!(world.give(&message(("b", 1), "a", body)));
    assert_eq!(*world.tracker("a").replica(), id("a", 10));
    // The next word tells all.
    world.queue.clear();
    world.start("z", 1);
    world.run(seconds(0.2));
    assert_eq!(world.words("a", 0)[0], "delta");
    assert_eq!(world.list("z", "t"), ["alice"]);
}

#[test]
fn a_node_without_presences_that_begins_a_later_life_says_so_in_the_next_period() {
    let mut world = World::new(&["a", "b"]);
    world.run(seconds(2.0));
    world.give(&message(("b", 1), "a", Body::Superseded { newest: 4 }));
    let mark = world.sent.len();
    world.run(seconds(1.0));
    assert_eq!(world.words("a", mark)[0], "idle");
    assert_eq!(world.status("b", "a"), Some(Status::Up));
    assert_eq!(world.tracker("b").status("a").unwrap().0, &id("a", 5));
}

#[test]
fn a_life_that_is_not_later_or_the_last_of_all_is_none_to_follow() {
    let mut world = World::new(&["b"]);
    world.start("a", 5);
    world.track("a", "t", "alice");
    for newest in [0, 4, 5, u64::MAX] {
        world.give(&message(("b", 1), "a", Body::Superseded { newest }));
        assert_eq!(
            *world.tracker("a").replica(),
            id("a", 5),
            "told of {newest}"
        );
    }
    assert_eq!(world.stats("a").reincarnated, 0);
    world.give(&message(
        ("b", 1),
        "a",
        Body::Superseded {
            newest: u64::MAX - 1,
        },
    ));
    assert_eq!(*world.tracker("a").replica(), id("a", u64::MAX));
}

/// Guards against: an answer of the life before that is still waited for or given in the new one.
#[test]
fn a_later_life_asks_anew_and_answers_nothing_from_before() {
    let mut config = super::world::config();
    config.chunk_values = 5;
    let mut world = World::with(config, &["a", "b"]);
    world.run(seconds(2.0));
    world.cut("a", "b");
    world.track_many("a", "t", "alice", 32);
    world.track_many("b", "t", "bob", 32);
    world.run(seconds(1.0));
    world.heal();
    world.lose = |sent| word(&sent.message.body) == "continue";
    world.connected("a", "b");
    world.connected("b", "a");
    world.run(seconds(1.0));
    // Four parts of five are on their way before the first is confirmed.
    assert_eq!(world.list("a", "t").len(), 52);
    assert_eq!(world.list("b", "t").len(), 52);
    let go_on = world.last("b", "a", "continue");
    world.give(&message(("b", 1), "a", Body::Superseded { newest: 2 }));
    world.give(&go_on);
    assert!(world.queue.is_empty(), "the answer was of another life");
    world.heal();
    let mark = world.sent.len();
    world.run(seconds(4.0));
    assert!(world.count("continue", mark) > 2);
    assert_eq!(world.stats("a").transfers_asked, 2);
    for name in ["a", "b"] {
        assert_eq!(world.list(name, "t").len(), 64, "at {name}");
    }
}

/// Guards against: a node that restarts while others hold it for down, and stays so.
#[test]
fn a_later_life_is_listed_whatever_the_earlier_one_was_taken_for() {
    let mut world = World::new(&["a", "b"]);
    world.track("b", "t", "bob");
    world.run(seconds(2.0));
    for (incarnation, wait) in [(2, 0.0), (3, 12.0), (4, 70.0)] {
        world.crash("b");
        world.run(seconds(wait));
        world.start("b", incarnation);
        world.track("b", "t", "bob");
        world.run(seconds(2.0));
        assert_eq!(world.list("a", "t"), ["bob"], "after {wait} s");
        assert_eq!(world.refs("a", "t", "bob"), world.refs("b", "t", "bob"));
        assert_eq!(world.tracker("a").set().len(), 1);
    }
    assert_eq!(
        world.stats("a").replaced,
        2,
        "the last one had been forgotten"
    );
}

/// Guards against: two lives of one name that are told of the same later one, take the same incarnation
/// after it, and are one replica to everyone else.
#[test]
fn two_lives_that_are_told_of_the_same_later_one_take_different_ones() {
    let life = |random| {
        let config = super::world::config();
        let now = std::time::Duration::ZERO;
        let mut tracker = Tracker::new(id("a", 1), config, 7, random, now).unwrap();
        let body = Body::Superseded { newest: 5 };
        let message = Message {
            from: id("b", 1),
            body,
        };
        tracker.handle_message("b", message, now).unwrap();
        tracker.replica().incarnation()
    };
    assert_eq!([life(0), life(1), life(2)], [6, 7, 8]);
    // By at most a second, where incarnations are microseconds of a clock.
    assert_eq!(life((1 << 20) - 1), 5 + (1 << 20));
    assert_eq!(life(1 << 20), 6);
}

/// Guards against: a node that starts with the incarnation of its life before, whose dots are all taken
/// for ones that were seen.
#[test]
fn a_node_that_is_told_of_changes_of_its_own_that_it_never_made_begins_a_later_life() {
    let mut world = World::new(&["a", "b"]);
    world.track_many("b", "t", "old", 5);
    world.run(seconds(2.0));
    world.crash("b");
    world.start("b", 1);
    world.track("b", "t", "new");
    // It is told with the next word of the other.
    world.run(seconds(7.0));
    assert_eq!(*world.tracker("b").replica(), id("b", 2));
    for name in ["a", "b"] {
        assert_eq!(world.list(name, "t"), ["new"], "at {name}");
    }
    // What others have seen of it so far, and no more, is no sign of an earlier life.
    world.run(seconds(12.0));
    assert_eq!(world.stats("b").reincarnated, 1);
    assert_eq!(world.stats("a").reincarnated, 0);
}

/// Guards against: two nodes that each know a later life of the other, and told each other so for ever.
#[test]
fn two_nodes_that_know_a_later_life_of_each_other_both_begin_anew() {
    let mut world = World::new(&[]);
    for name in ["a", "b"] {
        world.start(name, 5);
    }
    for (from, to) in [("a", "b"), ("b", "a")] {
        let clocks: Context = [(id(from, 10), 0)].into_iter().collect();
        let delta = presence_core::delta::Delta::default();
        world.give(&message((from, 10), to, Body::Heartbeat { delta, clocks }));
        world.queue.clear();
    }
    world.run(seconds(10.0));
    assert!(world.sent.len() < 100, "{} messages", world.sent.len());
    for (name, other) in [("a", "b"), ("b", "a")] {
        assert!(world.tracker(name).replica().incarnation() > 10, "{name}");
        let status = world.tracker(name).status(other).map(|(_, status)| status);
        assert_eq!(status, Some(Status::Up), "at {name}");
    }
}
