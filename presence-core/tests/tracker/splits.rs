//! Nodes that do not all hear each other, and ghosts of those that are gone.

use presence_core::entry::Pid;
use presence_core::tracker::Status;
use presence_core::wire::cluster::{self, Body};

use super::world::{Sent, World, id, seconds, word};

/// Bytes sent in so many seconds.
fn traffic(world: &mut World, time: f64) -> usize {
    let mark = world.sent.len();
    world.run(seconds(time));
    let bytes = |sent: &Sent| cluster::encode(&sent.message).len();
    world.sent[mark..].iter().map(bytes).sum()
}

/// Guards against: a replica that saw joins through a middle node while one link was cut, but never the
/// leaves.
#[test]
fn over_a_cut_link_joins_and_leaves_come_through_the_node_in_the_middle() {
    let mut world = World::new(&["a", "m", "z"]);
    let zoe = world.track("z", "t", "zoe");
    world.run(seconds(2.0));
    world.cut("a", "z");
    let zac = world.track("z", "t", "zac");
    world.track("m", "t", "mia");
    world.untrack_pid("z", zoe);
    world.run(seconds(1.0));
    // The middle tells what it knows with its next word.
    world.track("m", "t", "max");
    world.run(seconds(6.0));
    assert_eq!(world.list("a", "t"), ["max", "mia", "zac"]);
    world.untrack_pid("z", zac);
    world.run(seconds(0.8));
    assert_eq!(world.status("a", "z"), Some(Status::Up));
    world.run(seconds(2.0));
    // Now z was silent for down_period: what the middle says does not list it.
    assert_eq!(world.status("a", "z"), Some(Status::Down));
    assert_eq!(world.list("a", "t"), ["max", "mia"]);
    world.track("z", "t", "zed");
    world.track("m", "t", "meg");
    world.run(seconds(12.0));
    assert_eq!(world.list("a", "t"), ["max", "meg", "mia"]);
    assert_eq!(world.list("m", "t"), ["max", "meg", "mia", "zed"]);
    world.heal();
    world.run(seconds(7.0));
    for name in ["a", "m", "z"] {
        assert_eq!(
            world.list(name, "t"),
            ["max", "meg", "mia", "zed"],
            "at {name}"
        );
    }
    let refs = world.node("a").diffs.iter().flat_map(|told| &told.joins);
    let zacs = refs.filter(|(key, _)| key == "zac").count();
    assert_eq!(
        zacs, 1,
        "zac, who left while z was down, was not listed again"
    );
}

/// Guards against: leaves that never come through the middle, since only joins are asked for.
#[test]
fn a_leave_alone_comes_through_the_middle_too() {
    let mut world = World::new(&["a", "m", "z"]);
    let zoe = world.track("z", "t", "zoe");
    world.run(seconds(2.0));
    world.cut("a", "z");
    world.untrack_pid("z", zoe);
    world.run(seconds(1.0));
    world.track("m", "t", "max");
    world.run(seconds(5.0));
    assert_eq!(world.status("a", "z"), Some(Status::Up));
    assert_eq!(world.list("a", "t"), ["max"]);
}

/// Guards against: ghosts of a replica that was permanently downed and is still in what others know, in
/// a generation of merged deltas there, or in an answer that raced the permdown.
#[test]
fn what_others_still_know_of_a_forgotten_node_is_not_taken() {
    let mut world = World::new(&["a", "m", "z"]);
    world.track("z", "t", "zoe");
    world.run(seconds(1.0));
    world.cut("a", "z");
    // An answer of m that tells of z is on its way until a has forgotten z.
    world.lose = |sent| word(&sent.message.body) == "reply";
    world.track("z", "t", "zac");
    world.run(seconds(1.0));
    world.track("m", "t", "mia");
    world.run(seconds(7.0));
    let late = world.last("m", "a", "reply");
    let Body::TransferReply { delta, .. } = &late.message.body else {
        unreachable!()
    };
    assert!(delta.values().any(|entry| *entry.replica == id("z", 1)));
    world.lose = |_| false;
    world.run(seconds(60.0));
    assert_eq!(world.status("a", "z"), None);
    let mark = world.node("a").diffs.len();
    assert!(world.give(&late));
    // m knows z and says so in each of its words.
    world.track("m", "t", "max");
    let asked = world.stats("a").transfers_asked;
    world.run(seconds(30.0));
    assert_eq!(world.list("a", "t"), ["max", "mia"]);
    assert_eq!(world.stats("a").transfers_asked, asked);
    assert_eq!(world.tracker("a").set().replicas().count(), 2);
    assert_eq!(world.diffs_since("a", mark).len(), 1);
    // Nor does m tell it to those that come.
    world.crash("z");
    world.run(seconds(61.0));
    world.start("n", 1);
    world.run(seconds(3.0));
    assert_eq!(world.list("n", "t"), ["max", "mia"]);
    assert_eq!(world.tracker("n").replicas().count(), 2);
}

/// Guards against: a node replaced under a new name, after which full states went to and fro until the
/// old one was permanently down, 20 minutes later.
#[test]
fn after_a_node_is_replaced_under_a_new_name_traffic_is_soon_idle() {
    let mut world = World::new(&["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        world.track_many(name, "t", name, 50);
    }
    world.run(seconds(12.0));
    let idle = traffic(&mut world, 6.0);
    world.crash("c");
    world.run(seconds(2.0));
    world.start("d", 1);
    world.track_many("d", "t", "d", 50);
    world.run(seconds(6.0));
    // From now on as little as before, while c is up, down and forgotten.
    for _ in 0..10 {
        let mark = world.sent.len();
        let now = traffic(&mut world, 6.0);
        assert!(
            now <= idle + 20,
            "{now} bytes in six periods, {idle} before"
        );
        assert!(
            world.sent[mark..]
                .iter()
                .all(|sent| word(&sent.message.body) == "idle")
        );
    }
    for name in ["a", "b", "d"] {
        assert_eq!(world.list(name, "t").len(), 150, "at {name}");
        assert_eq!(world.tracker(name).replicas().count(), 2);
    }
}

/// Guards against: the same where the new one comes once the old one is down, and where one that knows
/// the old one meets one that never did.
#[test]
fn nobody_asks_about_a_node_that_others_hold_for_down() {
    let mut world = World::new(&["a", "b", "c"]);
    world.track_many("c", "t", "c", 50);
    world.run(seconds(2.0));
    world.cut("a", "c");
    world.crash("b");
    world.run(seconds(12.0));
    assert_eq!(world.status("a", "c"), Some(Status::Down));
    world.start("b", 2);
    world.run(seconds(4.0));
    let mark = world.sent.len();
    world.run(seconds(30.0));
    assert_eq!(world.list("b", "t").len(), 50);
    assert!(world.list("a", "t").is_empty());
    assert!(
        world.sent[mark..]
            .iter()
            .all(|sent| word(&sent.message.body) == "idle")
    );
}

/// Guards against: a word of one node about what left on another that is believed: what left may have
/// been updated, and would blink.
#[test]
fn what_left_elsewhere_is_told_by_its_own_node_alone() {
    let mut world = World::new(&["a", "b", "c"]);
    let bob = world.track("b", "t", "bob");
    world.run(seconds(2.0));
    let mark = world.sent.len();
    // a hears of b's update only later, and c tells something of its own in the meantime.
    world.lose = |sent| sent.message.from.name() == "b" && &*sent.to == "a";
    let new = world.update("b", "t", "bob", bob, r#"{"v":1}"#);
    world.run(seconds(1.0));
    world.track("c", "t", "cleo");
    world.run(seconds(1.0));
    assert_eq!(world.refs("c", "t", "bob"), [new.to_string()]);
    assert_eq!(world.list("a", "t"), ["bob", "cleo"]);
    // No word of c names a dot of b.
    let words = world.sent[mark..]
        .iter()
        .filter(|sent| sent.message.from == id("c", 1));
    for sent in words {
        let Body::Heartbeat { delta, .. } = &sent.message.body else {
            panic!("{sent:?}");
        };
        assert!(
            delta.ranges().all(|(replica, _)| *replica == id("c", 1)),
            "{sent:?}"
        );
    }
    let mark = world.node("a").diffs.len();
    world.heal();
    world.connected("b", "a");
    world.run(seconds(2.0));
    assert_eq!(world.refs("a", "t", "bob"), [new.to_string()]);
    assert_eq!(world.diffs_since("a", mark).len(), 1, "in one step");
    assert_eq!(bob, Pid(1));
}

/// Guards against: late, repeated and reordered words that bring back what has left.
#[test]
fn all_that_was_ever_said_may_come_again() {
    let mut world = World::new(&["a", "b", "c"]);
    let pids = world.track_many("b", "t", "user", 4);
    world.run(seconds(1.0));
    world.untrack_pid("b", pids[0]);
    world.update("b", "t", "user1", pids[1], r#"{"v":1}"#);
    world.run(seconds(1.0));
    world.untrack_pid("b", pids[1]);
    world.cut("a", "b");
    world.run(seconds(2.0));
    world.heal();
    world.run(seconds(8.0));
    let (list, diffs) = (world.list("a", "t"), world.node("a").diffs.len());
    assert_eq!(list, ["user2", "user3"]);
    let all: Vec<Sent> = world
        .sent
        .iter()
        .filter(|sent| &*sent.to == "a")
        .cloned()
        .collect();
    for sent in all.iter().rev().chain(&all) {
        world.give(sent);
    }
    world.queue.clear();
    assert_eq!(world.list("a", "t"), list);
    assert_eq!(world.node("a").diffs.len(), diffs);
}

/// Guards against: of two dots of one presence, the later that arrives late and replaces the newer; and
/// a newer that replaces an older without a leave.
#[test]
fn of_two_dots_of_one_presence_the_later_one_stays_in_whatever_order_they_come() {
    let mut world = World::new(&["a", "b"]);
    let bob = world.track("b", "t", "bob");
    world.run(seconds(2.0));
    world.cut("a", "b");
    let mut deltas = Vec::new();
    let mut refs = Vec::new();
    for v in 1..=3 {
        refs.push(world.update("b", "t", "bob", bob, &format!("{{\"v\":{v}}}")));
        world.run(seconds(1.0));
        deltas.push(world.last("b", "a", "delta"));
    }
    let mark = world.node("a").diffs.len();
    // The second names what the first brought as gone, but not what was there before.
    for (n, superseded) in [(1, 1), (0, 1), (2, 1)] {
        assert!(world.give(&deltas[n]));
        let latest = refs[n.max(1)].to_string();
        assert_eq!(world.refs("a", "t", "bob"), [latest], "after {n}");
        assert_eq!(world.stats("a").superseded, superseded, "after {n}");
    }
    assert_eq!(world.diffs_since("a", mark).len(), 2);
}
