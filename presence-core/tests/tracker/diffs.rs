//! What changed in a topic, as it is told.

use std::collections::BTreeSet;
use std::time::Duration;

use presence_core::entry::{Key, Pid};
use presence_core::presence::{Meta, PhxRef};
use presence_core::tracker::journal::{Input, Outcome};
use presence_core::tracker::{ChangeError, Tracker};

use super::world::{World, config, id, seconds};

fn tracker(name: &str) -> Tracker {
    Tracker::new(id(name, 1), config(), 7, 0, Duration::ZERO).unwrap()
}

/// All diffs that wait: the number, the topic, and the keys that joined and left.
fn drained(tracker: &mut Tracker) -> Vec<(u64, String, Vec<String>, Vec<String>)> {
    let mut diffs = Vec::new();
    while let Some(diff) = tracker.poll_diff() {
        let joins = diff.joins.iter().map(|e| e.key.as_str().to_owned());
        let leaves = diff
            .leaves
            .iter()
            .map(|left| left.entry().key.as_str().to_owned());
        diffs.push((
            diff.number,
            diff.topic.to_string(),
            joins.collect(),
            leaves.collect(),
        ));
    }
    diffs
}

fn track(tracker: &mut Tracker, topic: &str, key: &str, pid: u64) {
    tracker
        .track(&topic.into(), Pid(pid), Key::Text(key), &Meta::empty())
        .unwrap();
}

/// Guards against: a listing that contains a later diff than its number says, or lacks an earlier one.
#[test]
fn a_list_with_the_diffs_after_its_number_is_the_list_then() {
    let mut world = World::new(&["a", "b", "c"]);
    let list = |world: &World| -> BTreeSet<(String, String)> {
        let entries = world.tracker("a").set().list("t");
        entries
            .map(|e| (e.key.as_str().into(), PhxRef::of(&e).to_string()))
            .collect()
    };
    let mut taken = Vec::new();
    let mut pids = Vec::new();
    for round in 0..12 {
        taken.push((world.tracker("a").last_diff(), list(&world)));
        let name = ["a", "b", "c"][round % 3];
        pids.push((name, world.track(name, "t", name)));
        if round % 4 == 3 {
            let (name, pid) = pids[round - 2];
            world.update(name, "t", name, pid, r#"{"v":1}"#);
            let (name, pid) = pids[round - 3];
            world.untrack_pid(name, pid);
        }
        if round == 6 {
            world.gone("a", "b");
        }
        world.run(seconds(0.7));
    }
    assert_eq!(taken[0], (0, BTreeSet::new()));
    let now = list(&world);
    assert_eq!(
        world.tracker("a").last_diff(),
        world.node("a").diffs.len() as u64
    );
    for (number, mut list) in taken {
        for told in world
            .node("a")
            .diffs
            .iter()
            .filter(|told| told.number > number)
        {
            list.retain(|entry| !told.leaves.contains(entry));
            list.extend(told.joins.iter().cloned());
        }
        assert_eq!(list, now, "from {number}");
    }
}

#[test]
fn diffs_are_numbered_from_one_over_all_topics_in_their_order() {
    let mut a = tracker("a");
    assert_eq!(a.last_diff(), 0);
    track(&mut a, "u", "x", 1);
    track(&mut a, "t", "y", 1);
    track(&mut a, "t", "z", 2);
    let keys = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        drained(&mut a),
        [
            (1, "t".into(), keys(&["y", "z"]), vec![]),
            (2, "u".into(), keys(&["x"]), vec![])
        ]
    );
    assert_eq!(a.last_diff(), 2);
    assert_eq!(a.untrack_pid(Pid(1)), 2);
    assert_eq!(
        drained(&mut a),
        [
            (3, "t".into(), vec![], keys(&["y"])),
            (4, "u".into(), vec![], keys(&["x"]))
        ]
    );
    assert_eq!(drained(&mut a), []);
}

/// Guards against: a ref that leaves without having joined, or joins and is not there.
#[test]
fn what_joined_and_left_between_two_drains_is_not_told() {
    let mut a = tracker("a");
    let keys = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>();
    for pid in 1..=3 {
        track(&mut a, "t", &format!("k{pid}"), pid);
    }
    assert_eq!(a.untrack_pid(Pid(2)), 1);
    assert_eq!(
        drained(&mut a),
        [(1, "t".into(), keys(&["k1", "k3"]), vec![])]
    );
    track(&mut a, "t", "k4", 4);
    assert!(a.untrack("t", Pid(4), Key::Text("k4")));
    assert!(!a.untrack("t", Pid(4), Key::Text("k4")));
    assert_eq!(drained(&mut a), [], "nothing, and no number is spent");
    // One that left was there before, one came for good, one came and went.
    track(&mut a, "t", "k5", 5);
    track(&mut a, "t", "k6", 6);
    a.untrack_pid(Pid(1));
    a.untrack_pid(Pid(6));
    assert_eq!(
        drained(&mut a),
        [(2, "t".into(), keys(&["k5"]), keys(&["k1"]))]
    );
    // What was before was told, what was between was not.
    for v in ["{\"v\":1}", "{\"v\":2}"] {
        let meta = Meta::parse(v).unwrap();
        a.update("t", Pid(5), Key::Text("k5"), &meta).unwrap();
    }
    assert_eq!(
        drained(&mut a),
        [(3, "t".into(), keys(&["k5"]), keys(&["k5"]))]
    );
}

/// Guards against: an update as a leave and a join that are seen apart.
#[test]
fn an_update_is_one_step_on_every_node() {
    let mut world = World::new(&["a", "b", "c"]);
    let alice = world.track("a", "t", "alice");
    world.run(seconds(2.0));
    // c hears of it by an answer.
    world.cut("a", "c");
    let old = world.refs("a", "t", "alice");
    let marks = ["a", "b", "c"].map(|name| world.node(name).diffs.len());
    let new = world.update("a", "t", "alice", alice, r#"{"v":1}"#);
    world.run(seconds(1.0));
    world.heal();
    world.connected("a", "c");
    world.run(seconds(2.0));
    for (name, mark) in ["a", "b", "c"].into_iter().zip(marks) {
        let diffs = world.diffs_since(name, mark);
        assert_eq!(diffs.len(), 1, "at {name}: {diffs:?}");
        assert_eq!(diffs[0].joins, [("alice".to_owned(), new.to_string())]);
        assert_eq!(diffs[0].leaves, [("alice".to_owned(), old[0].clone())]);
        let set = world.tracker(name).set();
        let entry = set.list("t").next().unwrap();
        assert!(entry.meta.contains("\"v\":1"), "{}", entry.meta);
        assert!(entry.meta.contains(&old[0]), "{}", entry.meta);
    }
}

/// Guards against: mass updates one call and one diff at a time, or of presences that are others'.
#[test]
fn a_mass_update_changes_this_nodes_presences_of_a_topic_in_one_diff() {
    let mut world = World::new(&["a", "b"]);
    let pids = world.track_many("a", "t", "user", 4);
    world.track("a", "u", "user0");
    world.track("b", "t", "bob");
    world.run(seconds(2.0));
    let mark = world.node("b").diffs.len();
    let node = world.node("a");
    let first = node.diffs.len();
    let mut seen = Vec::new();
    let updates = node.tracker.updates("t", |key, meta| {
        seen.push(key.as_str().to_owned());
        assert_eq!(meta.as_str(), "{}");
        (key != Key::Text("user2")).then(|| Meta::parse(r#"{"away":true}"#).unwrap())
    });
    seen.sort();
    assert_eq!(seen, ["user0", "user1", "user2", "user3"]);
    assert_eq!(
        updates.iter().map(|update| update.pid).collect::<Vec<_>>(),
        [pids[0], pids[1], pids[3]]
    );
    let input = Input::UpdateAll {
        topic: "t".into(),
        updates: updates.clone(),
    };
    let Outcome::UpdatedAll(Ok(refs)) = world.call("a", input) else {
        panic!("they are not updated");
    };
    let node = world.node("a");
    for (update, phx_ref) in updates.iter().zip(refs) {
        let set = node.tracker.set();
        let entry = set.find("t", update.pid, update.key.as_key()).unwrap();
        assert_eq!(phx_ref, PhxRef::of(&entry));
        assert!(entry.meta.contains("\"away\":true"));
    }
    assert_eq!(node.diffs.len(), first + 1);
    assert_eq!(
        (
            node.diffs[first].joins.len(),
            node.diffs[first].leaves.len()
        ),
        (3, 3)
    );
    world.run(seconds(1.0));
    let told = world.diffs_since("b", mark);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].joins.len(), told[0].leaves.len()), (3, 3));
    let nowhere = world
        .node("a")
        .tracker
        .updates("nowhere", |_, _| unreachable!());
    assert_eq!(nowhere, []);
}

#[test]
fn a_mass_update_says_which_of_its_changes_could_not_be_made() {
    let mut config = config();
    config.limits.meta_bytes = 60;
    let mut a = Tracker::new(id("a", 1), config, 7, 0, Duration::ZERO).unwrap();
    for pid in 1..=3 {
        track(&mut a, "t", "k", pid);
    }
    let long = Meta::parse(&format!("{{\"v\":\"{}\"}}", "x".repeat(90))).unwrap();
    let mut updates = a.updates("t", |_, _| Some(Meta::empty()));
    updates[1].meta = long;
    let updated = a.update_all("t", &updates);
    assert!(matches!(updated, Err(ChangeError::Set(_))), "{updated:?}");
    let diff = a.poll_diff().unwrap();
    // The first was, the third was not.
    let joined: Vec<_> = diff.joins.iter().map(|entry| entry.pid).collect();
    assert_eq!(joined, [Pid(2), Pid(3), Pid(1)]);
}

#[test]
fn a_diff_by_key_is_what_clients_are_told() {
    let mut a = tracker("a");
    track(&mut a, "t", "x", 1);
    track(&mut a, "t", "x", 2);
    track(&mut a, "t", "y", 3);
    let diff = a.poll_diff().unwrap();
    let json: serde_json::Value = serde_json::from_str(&diff.by_key().to_json()).unwrap();
    assert_eq!(json["joins"]["x"]["metas"].as_array().unwrap().len(), 2);
    assert_eq!(json["joins"]["y"]["metas"].as_array().unwrap().len(), 1);
    assert_eq!(json["leaves"], serde_json::json!({}));
    a.untrack_pid(Pid(3));
    let diff = a.poll_diff().unwrap();
    let json: serde_json::Value = serde_json::from_str(&diff.by_key().to_json()).unwrap();
    assert_eq!(json["joins"], serde_json::json!({}));
    assert_eq!(json["leaves"]["y"]["metas"].as_array().unwrap().len(), 1);
}

/// Guards against: a number that promises diffs which were not told yet.
#[test]
#[should_panic(expected = "drain the diffs, then list")]
fn the_number_of_the_last_diff_is_not_asked_for_while_diffs_wait() {
    let mut a = tracker("a");
    track(&mut a, "t", "x", 1);
    a.last_diff();
}
