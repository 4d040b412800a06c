//! Handing over: a presence of a node that stops goes as its key is tracked elsewhere.

use presence_core::entry::{Key, Pid};
use presence_core::set::{self, Set};
use presence_core::tracker::Config;
use presence_core::wire::cluster::{Body, Message};

use super::world::{Sent, World, config, id, seconds};

fn handovers() -> Config {
    let mut config = config();
    config.handover = true;
    config
}

/// Guards against: a rolling deploy in which users are counted twice, or blink.
#[test]
fn a_presence_of_a_node_that_stops_goes_in_the_diff_in_which_its_key_joins_elsewhere() {
    let mut world = World::with(handovers(), &["a", "b", "c"]);
    world.track("b", "t", "bob");
    world.track("b", "t", "bob");
    world.track("b", "t", "bill");
    world.run(seconds(2.0));
    world.stop("b");
    world.run(seconds(1.0));
    let marks = ["a", "b", "c"].map(|name| world.node(name).diffs.len());
    // One for one: the first of two, then the second, then none is left.
    for listed in [2, 2, 3] {
        world.track("a", "t", "bob");
        world.run(seconds(1.0));
        for name in ["a", "b", "c"] {
            assert_eq!(world.refs(name, "t", "bob").len(), listed, "at {name}");
            assert_eq!(world.refs(name, "t", "bob"), world.refs("a", "t", "bob"));
            assert_eq!(world.list(name, "t").len(), listed + 1);
        }
    }
    for (name, mark) in ["a", "b", "c"].iter().zip(marks) {
        let diffs = world.diffs_since(name, mark).iter();
        let counts: Vec<_> = diffs
            .map(|told| (told.joins.len(), told.leaves.len()))
            .collect();
        assert_eq!(counts, [(1, 1), (1, 1), (1, 0)], "at {name}");
        assert_eq!(world.stats(name).handed_over, 2);
    }
}

/// Guards against: handing over what another topic or key, or the same node, tracks; or without being
/// told to.
#[test]
fn only_the_same_key_of_the_same_topic_on_another_node_takes_over() {
    for handover in [false, true] {
        let mut config = config();
        config.handover = handover;
        let mut world = World::with(config, &["a", "b", "c"]);
        let ann = world.track("a", "t", "bob");
        world.track("b", "t", "bob");
        world.track("b", "u", "bob");
        world.run(seconds(2.0));
        world.stop("b");
        world.run(seconds(1.0));
        world.track("a", "t", "bill");
        world.track("a", "u", "bill");
        // What was tracked before and is updated was there already.
        world.update("a", "t", "bob", ann, r#"{"v":1}"#);
        world.run(seconds(1.0));
        for name in ["a", "b", "c"] {
            assert_eq!(world.list(name, "t"), ["bill", "bob", "bob"], "at {name}");
            assert_eq!(world.list(name, "u"), ["bill", "bob"], "at {name}");
            assert_eq!(world.stats(name).handed_over, 0);
        }
        world.track("c", "u", "bob");
        world.run(seconds(1.0));
        let left = if handover { 1 } else { 2 };
        for name in ["a", "b", "c"] {
            assert_eq!(world.refs(name, "u", "bob").len(), left, "at {name}");
            assert_eq!(world.refs(name, "t", "bob").len(), 2, "at {name}");
        }
    }
}

/// Guards against: one message that brings the presence of a node that stops and the one that takes its
/// place, of which the first is used after it is gone.
#[test]
fn one_answer_may_bring_what_is_handed_over_and_what_takes_its_place() {
    let mut world = World::with(handovers(), &["a", "b", "c"]);
    world.run(seconds(2.0));
    world.stop("b");
    world.run(seconds(1.0));
    let [mut b, mut c] = ["b", "c"].map(|name| Set::new(id(name, 1), set::Limits::default(), 1));
    for (set, pid) in [(&mut b, 1), (&mut c, 2)] {
        set.join(&"t".into(), Pid(pid), Key::Text("bob"), "{}")
            .unwrap();
    }
    c.up(&id("b", 1)).unwrap();
    c.merge(&b.take_delta(), &mut set::Diff::new()).unwrap();
    let body = Body::TransferReply {
        id: 0,
        part: 1,
        delta: c.extract(&id("a", 1), &c.clocks()),
        clocks: c.clocks(),
        last: true,
    };
    assert!(world.give(&Sent {
        to: "a".into(),
        message: Message {
            from: id("c", 1),
            body
        }
    }));
    assert_eq!(world.list("a", "t"), ["bob"]);
    assert_eq!(
        world.tracker("a").set().list("t").next().unwrap().replica,
        &id("c", 1)
    );
    assert_eq!(world.stats("a").handed_over, 1);
    assert_eq!(world.node("a").diffs.len(), 1);
}

/// Guards against: a rolling deploy in which users are counted twice wherever the new node is heard for
/// the first time after they came back to it.
#[test]
fn a_node_that_is_new_takes_over_what_it_tracked_before_it_was_heard() {
    let mut world = World::with(handovers(), &["a", "b"]);
    world.track("b", "t", "bob");
    world.track("b", "t", "bill");
    world.run(seconds(2.0));
    world.stop("b");
    world.run(seconds(1.0));
    let mark = world.node("a").diffs.len();
    world.start("d", 1);
    let bob = world.track_pid("d", "t", "bob", Pid(100));
    world.run(seconds(3.0));
    for name in ["a", "b"] {
        assert_eq!(world.list(name, "t"), ["bill", "bob"], "at {name}");
        assert_eq!(world.refs(name, "t", "bob"), [bob.to_string()]);
    }
    let diffs = world.diffs_since("a", mark);
    assert_eq!(diffs.len(), 1, "{diffs:?}");
    assert_eq!((diffs[0].joins.len(), diffs[0].leaves.len()), (1, 1));
}

/// Guards against: an update that is told with a join, which is taken for an update too and takes over
/// nothing.
#[test]
fn what_joins_beside_an_update_takes_over() {
    let mut world = World::with(handovers(), &["a", "b", "c"]);
    let alice = world.track("a", "t", "alice");
    let elsewhere = world.track("a", "u", "bob");
    world.track("b", "t", "bob");
    world.run(seconds(2.0));
    world.stop("b");
    world.run(seconds(1.0));
    // The same process in the same topic, and the same key in another.
    world.update("a", "t", "alice", alice, r#"{"v":1}"#);
    world.update("a", "u", "bob", elsewhere, r#"{"v":1}"#);
    let bob = world.track_pid("a", "t", "bob", alice);
    world.run(seconds(1.0));
    for name in ["a", "b", "c"] {
        assert_eq!(world.refs(name, "t", "bob"), [bob.to_string()], "at {name}");
    }
}

/// Guards against: a presence of one node that stops, which takes the place of another's that stops too.
#[test]
fn a_node_that_stops_takes_over_nothing() {
    let mut world = World::with(handovers(), &["a", "b", "c"]);
    world.track("b", "t", "bob");
    world.track("c", "t", "bob");
    world.run(seconds(2.0));
    world.stop("b");
    world.stop("c");
    world.run(seconds(1.0));
    world.start("d", 1);
    world.run(seconds(3.0));
    for name in ["a", "b", "c", "d"] {
        assert_eq!(world.refs(name, "t", "bob").len(), 2, "at {name}");
    }
}

/// Guards against: a node that is back before it is told who went on from it elsewhere, so that they
/// blink.
#[test]
fn what_takes_over_is_told_at_once_but_not_too_often() {
    let mut world = World::with(handovers(), &["a", "b", "c"]);
    world.track_many("a", "t", "user", 40);
    world.run(seconds(2.0));
    world.stop("a");
    let mark = world.diffs_since("c", 0).len();
    let deltas = world.stats("b").deltas;
    for n in 0..40 {
        world.track("b", "t", &format!("user{n}"));
        world.run(seconds(0.02));
    }
    world.run(seconds(0.07));
    assert_eq!(world.list("c", "t").len(), 40);
    let told = world.stats("b").deltas - deltas;
    assert!((10..=16).contains(&told), "{told}");
    for diff in world.diffs_since("c", mark) {
        assert_eq!(diff.joins.len(), diff.leaves.len());
    }
    // What takes nobody's place waits for the period.
    let mut waited = 0;
    world.track("b", "t", "new");
    while world.list("c", "t").len() == 40 {
        world.run(seconds(0.01));
        waited += 1;
        assert!(waited < 110, "nobody is told");
    }
    world.track("b", "t", "newer");
    world.run(seconds(0.9));
    assert_eq!(world.list("c", "t").len(), 41);
}
