//! Messages that are refused: they change nothing and are counted.

use std::sync::Arc;

use presence_core::clock::{Context, Dot, ReplicaId};
use presence_core::delta::Delta;
use presence_core::entry::{Key, Pid};
use presence_core::set::{Limits, MergeError, Set};
use presence_core::tracker::journal::{Input, Outcome};
use presence_core::tracker::{Refusal, Status};
use presence_core::wire::cluster::{Body, Message};

use super::world::{World, config, id, seconds};

/// A delta that a replica of this name might tell: so many joins.
fn joins(replica: &ReplicaId, count: u64) -> Delta {
    let mut set = Set::new(replica.clone(), Limits::default(), 1);
    for pid in 0..count {
        set.join(&"t".into(), Pid(pid), Key::Text("ghost"), "{}")
            .unwrap();
    }
    set.take_delta()
}

/// One that only says that dots of a replica are gone.
fn gone(replica: &ReplicaId, count: u64) -> Delta {
    let mut set = Set::new(replica.clone(), Limits::default(), 1);
    for pid in 0..count {
        set.join(&"t".into(), Pid(pid), Key::Text("ghost"), "{}")
            .unwrap();
        set.leave("t", Pid(pid), Key::Text("ghost")).unwrap();
    }
    set.take_delta()
}

fn heartbeat(from: ReplicaId, delta: Delta) -> Message {
    let clocks = Context::from_iter([(from.clone(), 99)]);
    Message {
        from,
        body: Body::Heartbeat { delta, clocks },
    }
}

/// `a` and `b` know each other, and each has a presence.
fn world() -> World {
    let mut world = World::new(&["a", "b"]);
    world.track("a", "t", "alice");
    world.track("b", "t", "bob");
    world.run(seconds(2.0));
    world
}

/// The refusal of a message, after which all is as it was.
fn refused(world: &mut World, peer: &str, message: Message) -> Refusal {
    let state = |world: &World| {
        let node = world.node("a");
        let set = format!("{:?}", node.tracker.set());
        let replicas: Vec<_> = node
            .tracker
            .replicas()
            .map(|(id, status)| (id.clone(), status))
            .collect();
        (
            set,
            replicas,
            node.diffs.len(),
            node.events.len(),
            world.queue.len(),
        )
    };
    let before = state(world);
    let refused = world.stats("a").refused;
    let outcome = world.call(
        "a",
        Input::Message {
            peer: peer.into(),
            message,
        },
    );
    assert_eq!(state(world), before);
    assert_eq!(world.stats("a").refused, refused + 1);
    match outcome {
        Outcome::Heard(Err(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_whose_sender_is_not_the_node_that_it_came_from_is_refused() {
    let mut world = world();
    let message = heartbeat(id("c", 1), joins(&id("c", 1), 1));
    let refusal = refused(&mut world, "b", message);
    assert_eq!(
        refusal,
        Refusal::Sender {
            from: id("c", 1),
            peer: Arc::from("b")
        }
    );
    assert_eq!(refusal.to_string(), r#"a message of c#1 came from "b""#);
}

/// Guards against: two nodes of one name, each of which takes the other's presences for its own.
#[test]
fn a_message_of_a_node_of_the_same_name_is_refused() {
    for incarnation in [1, 2] {
        let mut world = world();
        let other = id("a", incarnation);
        let refusal = refused(&mut world, "a", heartbeat(other.clone(), joins(&other, 1)));
        assert_eq!(refusal, Refusal::OwnName(other));
    }
}

/// Guards against: a presence of one node that another brings, or takes away, by its own word.
#[test]
fn a_heartbeat_that_brings_a_presence_of_another_node_is_refused() {
    let mut world = world();
    for owner in [id("a", 1), id("c", 1), id("b", 2)] {
        let refusal = refused(&mut world, "b", heartbeat(id("b", 1), joins(&owner, 3)));
        let dot = Dot::new(owner, 1);
        assert_eq!(
            refusal,
            Refusal::Foreign {
                from: id("b", 1),
                dot
            }
        );
    }
    let refusal = world.node("a").refusals[1].to_string();
    assert_eq!(refusal, "a heartbeat of b#1 brings the presence c#1@1");
}

/// Guards against: a replica that is made to believe that changes of its own exist which it never made.
#[test]
fn a_heartbeat_that_names_own_changes_that_were_never_made_is_refused() {
    let mut world = world();
    let own = id("a", 1);
    // One change was made; the third leave takes the counter 6.
    let refusal = refused(&mut world, "b", heartbeat(id("b", 1), gone(&own, 3)));
    let invented = Refusal::Merge(MergeError::Invented(Dot::new(own, 6)));
    assert_eq!(refusal, invented);
    assert_eq!(
        refusal.to_string(),
        "the delta names a#1@6, a change that this replica never made"
    );
}

/// Guards against: hearsay. A heartbeat may say that dots of others are gone, but a dot that is gone
/// there may have been updated, and would blink; the own ones are the node's alone.
#[test]
fn what_a_heartbeat_says_of_the_dots_of_others_is_not_believed() {
    let mut world = World::new(&["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        let pid = world.track(name, "t", name);
        world.untrack_pid(name, pid);
        world.track(name, "t", name);
    }
    world.run(seconds(2.0));
    // c's dots 1 to 4, a's 1 and 2, and then some of b's own.
    let mut c = Set::new(id("c", 1), Limits::default(), 1);
    for own in [id("c", 1), id("a", 1)] {
        let delta = gone(&own, if own == id("a", 1) { 1 } else { 2 });
        assert!(!delta.is_empty());
        let message = heartbeat(id("b", 1), delta);
        let heard = world.call(
            "a",
            Input::Message {
                peer: "b".into(),
                message,
            },
        );
        assert_eq!(heard, Outcome::Heard(Ok(())));
    }
    assert_eq!(world.list("a", "t"), ["a", "b", "c"]);
    // The last change of its own that it made is one that it made.
    let alice = world.track("a", "t", "alice");
    world.untrack_pid("a", alice);
    world.track("a", "t", "alice");
    let message = heartbeat(id("b", 1), gone(&id("a", 1), 3));
    let heard = world.call(
        "a",
        Input::Message {
            peer: "b".into(),
            message,
        },
    );
    assert_eq!(heard, Outcome::Heard(Ok(())));
    assert_eq!(world.list("a", "t"), ["a", "alice", "b", "c"]);
    // What c says itself is.
    c.join(&"t".into(), Pid(1), Key::Text("c"), "{}").unwrap();
    c.leave("t", Pid(1), Key::Text("c")).unwrap();
    c.join(&"t".into(), Pid(2), Key::Text("c"), "{}").unwrap();
    c.leave("t", Pid(2), Key::Text("c")).unwrap();
    let message = heartbeat(id("c", 1), c.take_delta());
    world.call(
        "a",
        Input::Message {
            peer: "c".into(),
            message,
        },
    );
    assert_eq!(world.list("a", "t"), ["a", "alice", "b"]);
}

#[test]
fn an_answer_that_names_own_changes_that_were_never_made_is_refused() {
    let mut world = world();
    let body = Body::TransferReply {
        id: 1,
        part: 1,
        delta: joins(&id("a", 1), 2),
        clocks: Context::new(),
        last: true,
    };
    let refusal = refused(
        &mut world,
        "b",
        Message {
            from: id("b", 1),
            body,
        },
    );
    assert_eq!(
        refusal,
        Refusal::Merge(MergeError::Invented(Dot::new(id("a", 1), 2)))
    );
}

/// Guards against: a set that grows without a bound, and a sender that is taken for dead since its
/// words can't be merged.
#[test]
fn a_delta_beyond_the_limits_is_refused_and_its_sender_heard() {
    let mut config = config();
    config.limits.entries = 3;
    let mut world = World::with(config, &["a"]);
    world.track("a", "t", "alice");
    let b = id("b", 1);
    for n in 0..12 {
        let message = heartbeat(b.clone(), joins(&b, 3));
        let outcome = world.call(
            "a",
            Input::Message {
                peer: "b".into(),
                message,
            },
        );
        let full = MergeError::Full {
            values: 3,
            entries: 1,
            max: 3,
        };
        assert_eq!(outcome, Outcome::Heard(Err(full.into())));
        assert_eq!(world.stats("a").refused, n + 1);
        world.run(seconds(1.0));
    }
    assert!(
        world
            .status("a", "b")
            .is_some_and(|status| status != Status::Down)
    );
    assert_eq!(world.list("a", "t"), ["alice"]);
}

#[test]
fn a_message_that_is_not_refused_is_not_counted() {
    let mut world = world();
    world.run(seconds(20.0));
    assert_eq!(world.stats("a").refused, 0);
    assert!(world.node("a").refusals.is_empty());
}

/// Guards against: a node whose limits are smaller asking for what it can't hold at every look, for
/// ever, which costs the other a full state each time.
#[test]
fn what_can_not_be_merged_is_asked_for_ever_more_rarely() {
    let mut world = World::new(&["b"]);
    world.config.limits.entries = 3;
    world.start("a", 1);
    world.track_many("b", "t", "user", 8);
    let mut asked = Vec::new();
    for _ in 0..6 {
        let before = world.stats("a").transfers_asked;
        world.run(seconds(60.0));
        asked.push(world.stats("a").transfers_asked - before);
    }
    assert!(asked[0] > 2 && asked[5] <= 1, "{asked:?}");
    // It is asked again once it would fit.
    for pid in 1..=6 {
        world.untrack_pid("b", Pid(pid));
    }
    world.run(seconds(300.0));
    assert_eq!(world.list("a", "t").len(), 2);
}
