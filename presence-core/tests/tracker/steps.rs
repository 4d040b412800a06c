//! Replicas that hold much are listed and hidden step by step, and may turn at any moment.

use presence_core::entry::Pid;
use presence_core::tracker::journal::{Header, Input};
use presence_core::tracker::{Event, Status};
use presence_core::wire::cluster::{Body, Message};

use super::node::Node;
use super::world::{Sent, World, config, id, seconds, word};

const TOPICS: [&str; 6] = ["t0", "t1", "t2", "t3", "t4", "t5"];

/// `b` has begun to list `a`, two topics of six so far: `a` has four presences in each, and a
/// step is one topic.
fn half_listed() -> World {
    let mut config = config();
    config.chunk_values = 5;
    let mut world = World::with(config, &["a"]);
    fill(&mut world);
    world.run(seconds(2.0));
    world.start("b", 1);
    meet(&mut world);
    world
}

fn fill(world: &mut World) {
    for topic in TOPICS {
        world.track_many("a", topic, "user", 4);
    }
}

fn meet(world: &mut World) {
    world.connected("a", "b");
    world.deliver();
}

/// How many `b` lists in each topic, in the order in which it lists them: of each part of an answer it
/// takes the newest value first.
fn counts(world: &World) -> [usize; 6] {
    ["t1", "t0", "t2", "t3", "t4", "t5"].map(|topic| world.list("b", topic).len())
}

/// Lets `b` do its steps; how many there were.
fn finish(world: &mut World) -> usize {
    for steps in 0..100 {
        if !world.tracker("b").is_turning() {
            return steps;
        }
        assert_eq!(world.tracker("b").poll_timeout(), Some(world.now));
        world.call("b", Input::Timeout);
    }
    panic!("it never ends");
}

/// Guards against: a node that answers nobody while it lists a million presences of another.
#[test]
fn a_replica_that_arrives_is_listed_topic_by_topic() {
    let mut world = half_listed();
    assert_eq!(counts(&world), [4, 4, 0, 0, 0, 0]);
    let arriving = Status::Arriving { until: Some(24) };
    assert_eq!(world.status("b", "a"), Some(arriving));
    assert!(world.node("b").events.is_empty());
    // Calls of its own are served meanwhile.
    world.track("b", "t3", "me");
    assert_eq!(finish(&mut world), 4);
    assert_eq!(counts(&world), [4, 4, 4, 5, 4, 4]);
    assert_eq!(world.status("b", "a"), Some(Status::Up));
    assert_eq!(world.node("b").events, [Event::Up(id("a", 1))]);
    let diffs = world.diffs_since("b", 0).iter();
    let joins = diffs.map(|told| (&*told.topic, told.joins.len()));
    let expected = [
        ("t1", 4),
        ("t0", 4),
        ("t3", 1),
        ("t2", 4),
        ("t3", 4),
        ("t4", 4),
        ("t5", 4),
    ];
    assert_eq!(joins.collect::<Vec<_>>(), expected);
}

/// Guards against: a change in a topic that is not listed yet told as a diff, or one in a listed topic
/// not told.
#[test]
fn what_changes_meanwhile_is_told_where_it_is_listed() {
    let mut world = half_listed();
    let mark = world.node("b").diffs.len();
    for topic in ["t1", "t5"] {
        world.track("a", topic, "late");
    }
    assert!(world.untrack("a", "t1", "user0", Pid(5)));
    assert!(world.untrack("a", "t5", "user0", Pid(21)));
    // The next period of `a` alone.
    let due = world.tracker("a").poll_timeout().unwrap();
    world.now = due;
    world.call("a", Input::Timeout);
    let told = world.queue.pop_front().unwrap();
    assert!(world.give(&told));
    let changed = world.diffs_since("b", mark).iter();
    let changed: Vec<_> = changed
        .map(|told| (&*told.topic, told.joins.len(), told.leaves.len()))
        .collect();
    // Each message goes on with the listing, too.
    assert_eq!(changed, [("t1", 1, 1), ("t2", 4, 0)]);
    finish(&mut world);
    assert_eq!(counts(&world), [4; 6]);
}

#[test]
fn one_that_goes_half_listed_is_hidden_and_comes_back() {
    let mut world = half_listed();
    world.gone("b", "a");
    assert_eq!(counts(&world), [4, 0, 0, 0, 0, 0]);
    assert_eq!(world.status("b", "a"), Some(Status::Down));
    // It is heard before all is hidden.
    meet(&mut world);
    finish(&mut world);
    assert_eq!(counts(&world), [4; 6]);
    assert_eq!(
        world.node("b").events,
        [Event::Down(id("a", 1)), Event::Up(id("a", 1))]
    );
    world.gone("b", "a");
    assert_eq!(counts(&world), [4, 4, 4, 4, 4, 0]);
    finish(&mut world);
    assert_eq!(counts(&world), [0; 6]);
    assert_eq!(world.tracker("b").set().len(), 24, "they are kept");
}

/// Guards against: a user listed twice, as of both lives of the node.
#[test]
fn a_later_life_is_listed_once_the_earlier_is_hidden() {
    let mut world = half_listed();
    finish(&mut world);
    world.start("a", 2);
    fill(&mut world);
    world.run(seconds(0.0));
    meet(&mut world);
    assert!(world.tracker("b").is_turning());
    while world.tracker("b").is_turning() {
        assert!(counts(&world).iter().all(|&count| count <= 4));
        world.call("b", Input::Timeout);
        world.deliver();
    }
    world.run(seconds(3.0));
    assert_eq!(counts(&world), [4; 6]);
    assert_eq!(world.status("b", "a"), Some(Status::Up));
    assert_eq!(world.tracker("b").replicas().next().unwrap().0, &id("a", 2));
    assert_eq!(world.tracker("b").set().len(), 24);
}

#[test]
fn one_that_says_goodbye_half_listed_is_removed_in_steps() {
    let mut world = half_listed();
    world.call("b", Input::Timeout);
    let goodbye = Message {
        from: id("a", 1),
        body: Body::Permdown,
    };
    let to = "b".into();
    assert!(world.give(&Sent {
        to,
        message: goodbye
    }));
    assert_eq!(world.tracker("b").replicas().count(), 0);
    assert!(finish(&mut world) > 4);
    assert_eq!(counts(&world), [0; 6]);
    assert!(world.tracker("b").set().is_empty());
    assert_eq!(world.tracker("b").set().topic_count(), 0);
}

/// `a` loses all of its presences but those of the first topic.
fn most_leave(world: &mut World) {
    for (pid, topic) in (1..).zip(TOPICS.map(|topic| [topic; 4]).concat()) {
        if topic != TOPICS[0] {
            assert_eq!(world.untrack_pid("a", Pid(pid)), 1);
        }
    }
}

/// Guards against: a node that answers nobody while a million presences of another leave.
#[test]
fn many_that_leave_at_once_leave_step_by_step() {
    let mut world = half_listed();
    finish(&mut world);
    most_leave(&mut world);
    let (mark, diffs) = (world.sent.len(), world.node("b").diffs.len());
    world.now = world.tracker("a").period_ends();
    world.call("a", Input::Timeout);
    let told = world.queue.pop_front().unwrap();
    assert!(world.give(&told));
    assert_eq!(counts(&world), [0, 4, 3, 4, 4, 4]);
    // Nothing is missing meanwhile, when it looks.
    for _ in 0..2 {
        world.now = world.tracker("b").period_ends();
        world.call("b", Input::Timeout);
    }
    assert!(world.tracker("b").is_turning());
    let words = world.queue.iter().map(|sent| word(&sent.message.body));
    assert_eq!(words.filter(|&word| word == "request").count(), 0);
    // One that joins and one that leaves are told at once.
    world.track("a", "t5", "late");
    assert!(world.untrack("a", "t0", "user0", Pid(1)));
    let last = counts(&world);
    world.now = world.tracker("a").period_ends();
    world.call("a", Input::Timeout);
    let told = world.queue.pop_back().unwrap();
    assert!(world.give(&told));
    let now = counts(&world);
    assert_eq!(now[1], last[1] - 1);
    finish(&mut world);
    assert_eq!(counts(&world), [0, 3, 0, 0, 0, 1]);
    assert_eq!(world.count("request", mark), 0);
    let leaves = world.diffs_since("b", diffs).iter();
    let leaves: Vec<_> = leaves.map(|told| told.leaves.len()).collect();
    assert_eq!(leaves.iter().sum::<usize>(), 21);
    assert!(leaves.iter().all(|&leaves| leaves <= 5), "{leaves:?}");
}

/// Guards against: a presence shown that has left while its node was away.
#[test]
fn one_that_arrives_is_listed_once_all_that_left_is_gone() {
    let mut world = half_listed();
    finish(&mut world);
    world.cut("a", "b");
    world.run(seconds(20.0));
    assert_eq!(counts(&world), [0; 6]);
    most_leave(&mut world);
    world.run(seconds(2.0));
    world.heal();
    meet(&mut world);
    assert!(world.tracker("b").is_turning());
    assert_eq!(counts(&world), [0; 6]);
    let mark = world.node("b").diffs.len();
    finish(&mut world);
    assert_eq!(counts(&world), [0, 4, 0, 0, 0, 0]);
    assert_eq!(world.status("b", "a"), Some(Status::Up));
    let diffs = world.diffs_since("b", mark);
    assert!(diffs.iter().all(|told| told.leaves.is_empty()));
}

/// Guards against: a journal whose steps come elsewhere when it is played again.
#[test]
fn a_journal_of_steps_gives_the_same_outputs_again() {
    let mut world = half_listed();
    finish(&mut world);
    most_leave(&mut world);
    world.run(seconds(2.0));
    world.gone("b", "a");
    finish(&mut world);
    let node = world.node("b");
    let header = Header::parse(&node.header.to_line()).unwrap();
    let mut again = Node::new(header);
    for record in &node.journal {
        again.call(record.clone());
    }
    assert_eq!(again.outputs, node.outputs);
}
