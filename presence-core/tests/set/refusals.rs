//! The bounds of a set: what is refused, and that nothing has changed then.

use presence_core::clock::Dot;
use presence_core::entry::{Key, MAX_KEY_BYTES, Pid};
use presence_core::set::{Diff, JoinError, Limits, MergeError, Set, TooLong, UpdateError};

use crate::presence::{id, join, leave, merge, refused, sets, sets_within, state, topic, update};

/// Four bytes of each.
fn narrow() -> Limits {
    Limits {
        topic_bytes: 4,
        key_bytes: 4,
        meta_bytes: 4,
        ..Limits::default()
    }
}

#[test]
fn a_process_is_tracked_once_under_a_key_in_a_topic() {
    let [mut a, _] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    let before = state(&a);
    let again = a.join(&topic("t"), Pid(1), "k".into(), "{\"v\":2}");
    assert_eq!(again, Err(JoinError::AlreadyTracked));
    assert_eq!(state(&a), before);
    join(&mut a, 2, "k");
    join(&mut a, 1, "l");
    a.join(&topic("u"), Pid(1), "k".into(), "{}").unwrap();
    assert_eq!(a.len(), 4);
}

#[test]
fn another_replicas_process_can_neither_be_updated_nor_leave_here() {
    let [mut a, mut b] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    merge(&mut b, &a.take_delta());
    let before = state(&b);
    assert_eq!(
        b.update("t", Pid(1), "k".into(), "{}"),
        Err(UpdateError::NotTracked)
    );
    assert!(b.leave("t", Pid(1), "k".into()).is_none());
    assert!(b.leave_pid(Pid(1)).is_empty());
    assert_eq!(b.list_pid(Pid(1)).count(), 0);
    assert!(b.find("t", Pid(1), "k".into()).is_none());
    assert_eq!(state(&b), before);
    join(&mut b, 1, "k");
    assert_eq!(b.count("t"), 2);
}

#[test]
fn what_is_not_tracked_can_neither_be_updated_nor_leave() {
    let [mut a, _] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    let before = state(&a);
    for (topic, pid, key) in [("u", 1, "k"), ("t", 2, "k"), ("t", 1, "l")] {
        let updated = a.update(topic, Pid(pid), key.into(), "{}");
        assert_eq!(updated, Err(UpdateError::NotTracked));
        assert!(a.leave(topic, Pid(pid), key.into()).is_none());
    }
    assert!(a.update("t", Pid(1), Key::Integer("k"), "{}").is_err());
    assert_eq!(state(&a), before);
}

#[test]
fn a_topic_key_or_meta_beyond_its_limit_is_refused_where_it_enters() {
    let [mut a, _] = sets_within(["a", "b"], &narrow());
    a.join(&topic("tttt"), Pid(1), "kkkk".into(), "mmmm")
        .unwrap();
    let before = state(&a);
    let beyond = [
        ("topic", "ttttt", "k", "m"),
        ("key", "t", "kkkkk", "m"),
        ("meta", "t", "k", "mmmmm"),
    ];
    for (what, name, key, meta) in beyond {
        let reason = TooLong {
            what,
            len: 5,
            max: 4,
        };
        let joined = a.join(&topic(name), Pid(1), key.into(), meta);
        assert_eq!(joined, Err(JoinError::TooLong(reason.clone())));
        assert_eq!(
            reason.to_string(),
            format!("the {what} has 5 bytes, more than 4")
        );
    }
    let updated = a.update("tttt", Pid(1), "kkkk".into(), "mmmmm");
    let reason = TooLong {
        what: "meta",
        len: 5,
        max: 4,
    };
    assert_eq!(updated, Err(UpdateError::TooLong(reason)));
    assert_eq!(state(&a), before);
}

#[test]
fn no_key_is_longer_than_a_key_can_be_whatever_the_limits_say() {
    let limits = Limits {
        key_bytes: usize::MAX,
        meta_bytes: usize::MAX,
        ..Limits::default()
    };
    let [mut a, mut b] = sets_within(["a", "b"], &limits);
    let longest = "k".repeat(MAX_KEY_BYTES);
    a.join(&topic("t"), Pid(1), Key::Integer(&longest), "{}")
        .unwrap();
    let longer = "k".repeat(MAX_KEY_BYTES + 1);
    let joined = a.join(&topic("t"), Pid(1), Key::Text(&longer), "{}");
    let (len, max) = (MAX_KEY_BYTES + 1, MAX_KEY_BYTES);
    let reason = TooLong {
        what: "key",
        len,
        max,
    };
    assert_eq!(joined, Err(JoinError::TooLong(reason)));
    let meta = "m".repeat(300_000);
    a.join(&topic("t"), Pid(1), "k".into(), &meta).unwrap();
    merge(&mut b, &a.take_delta());
    assert_eq!(b.list_key("t", Key::Integer(&longest)).count(), 1);
    assert_eq!(b.list_key("t", "k".into()).next().unwrap().meta, meta);
}

#[test]
fn a_full_set_refuses_joins_and_merges() {
    let limits = Limits {
        entries: 3,
        ..Limits::default()
    };
    let [mut a, mut b] = sets_within(["a", "b"], &limits);
    join(&mut a, 1, "k");
    join(&mut a, 2, "k");
    join(&mut b, 1, "k");
    join(&mut b, 2, "k");
    let delta = a.take_delta();
    let error = refused(&mut b, &delta);
    let (values, entries, max) = (2, 2, 3);
    assert_eq!(
        error,
        MergeError::Full {
            values,
            entries,
            max
        }
    );
    assert_eq!(
        error.to_string(),
        "the delta brings 2 values to a set of 2, more than 3 in all"
    );
    leave(&mut b, 2, "k");
    assert_eq!(merge(&mut b, &delta), (vec![1, 2], vec![]), "three in all");
    let before = state(&b);
    let joined = b.join(&topic("t"), Pid(3), "k".into(), "{}");
    assert_eq!(joined, Err(JoinError::Full(3)));
    assert_eq!(state(&b), before);
    update(&mut b, 1, "k", "{\"v\":2}");
    leave(&mut b, 1, "k");
    join(&mut b, 3, "k");
}

#[test]
fn a_cloud_beyond_its_limit_is_refused() {
    let limits = Limits {
        cloud_intervals: 2,
        ..Limits::default()
    };
    let [mut a, mut b] = sets_within(["a", "b"], &limits);
    let mut deltas = Vec::new();
    for pid in 0..8 {
        join(&mut a, pid, "k");
        leave(&mut a, pid, "k");
        deltas.push(a.take_delta());
    }
    // Every second one is lost, and leaves a gap.
    merge(&mut b, &deltas[1]);
    merge(&mut b, &deltas[3]);
    let error = refused(&mut b, &deltas[5]);
    let (replica, intervals, max) = (id("a"), 3, 2);
    assert_eq!(
        error,
        MergeError::Cloud {
            replica,
            intervals,
            max
        }
    );
    assert_eq!(
        error.to_string(),
        "the cloud of a#1 would need up to 3 intervals, more than 2"
    );
    // What closes a gap is welcome, and with it there is room again.
    merge(&mut b, &deltas[0]);
    assert_eq!(b.counter(&id("a")), Some(4));
    merge(&mut b, &deltas[5]);
    assert_eq!(b.cloud(&id("a")).unwrap().intervals().len(), 2);
    assert!(matches!(
        refused(&mut b, &deltas[7]),
        MergeError::Cloud { .. }
    ));
    merge(&mut b, &deltas[2]);
    merge(&mut b, &deltas[4]);
    merge(&mut b, &deltas[6]);
    merge(&mut b, &deltas[7]);
    assert_eq!(b.counter(&id("a")), Some(16));
}

/// Each may later supersede another, or be superseded, and is then in the cloud.
#[test]
fn values_ahead_count_as_intervals_of_the_cloud() {
    let limits = Limits {
        cloud_intervals: 2,
        ..Limits::default()
    };
    let [mut a, mut b] = sets_within(["a", "b"], &limits);
    join(&mut a, 0, "k");
    let first = a.take_delta();
    for pid in 1..=3 {
        join(&mut a, pid, "k");
    }
    let ahead = a.take_delta();
    assert!(matches!(
        refused(&mut b, &ahead),
        MergeError::Cloud {
            intervals: 3,
            max: 2,
            ..
        }
    ));
    merge(&mut b, &first);
    assert_eq!(merge(&mut b, &ahead), (vec![2, 3, 4], vec![]));
}

#[test]
fn a_merge_that_is_refused_by_its_last_part_has_merged_nothing() {
    let [mut a, mut c] = sets(["a", "c"]);
    join(&mut a, 1, "k");
    c.join(&topic("ttttt"), Pid(1), "k".into(), "{}").unwrap();
    merge(&mut a, &c.take_delta());
    let [mut b] = sets_within(["b"], &narrow());
    b.up(&id("a")).unwrap();
    b.up(&id("c")).unwrap();
    let error = refused(&mut b, &a.extract(&id("b"), &a.clocks()));
    let dot = Dot::new(id("c"), 1);
    let reason = TooLong {
        what: "topic",
        len: 5,
        max: 4,
    };
    assert_eq!(error, MergeError::TooLong { dot, reason });
    assert_eq!(
        error.to_string(),
        "c#1@1: the topic has 5 bytes, more than 4"
    );
    assert_eq!((b.len(), b.counter(&id("a"))), (0, Some(0)));
}

#[test]
fn own_dots_that_a_peer_invents_are_refused() {
    let [mut a, mut b] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    join(&mut b, 1, "k");
    // One that claims to be the same replica has made more changes.
    let [mut impostor] = sets(["a"]);
    join(&mut impostor, 1, "k");
    let as_far = impostor.take_delta();
    join(&mut impostor, 2, "k");
    let value = impostor.take_delta();
    leave(&mut impostor, 1, "k");
    let gone = impostor.take_delta();
    assert_eq!(
        refused(&mut a, &value),
        MergeError::Invented(Dot::new(id("a"), 2))
    );
    let error = refused(&mut a, &gone);
    assert_eq!(error, MergeError::Invented(Dot::new(id("a"), 3)));
    assert_eq!(
        error.to_string(),
        "the delta names a#1@3, a change that this replica never made"
    );
    let mut diff = Diff::new();
    a.merge(&as_far, &mut diff).unwrap();
    assert_eq!((diff.joins.len(), a.len()), (0, 1));
    // What it says of changes that were made here too is not believed either.
    let [mut other] = sets(["a"]);
    join(&mut other, 1, "k");
    leave(&mut other, 1, "k");
    join(&mut a, 2, "k");
    a.merge(&other.take_delta(), &mut diff).unwrap();
    assert_eq!((diff.leaves.len(), a.len()), (0, 2));
    // With what is sound beside it: all or nothing.
    let mut relay = Set::new(id("c"), Limits::default(), 1);
    relay.up(&id("a")).unwrap();
    relay.up(&id("b")).unwrap();
    let invented = impostor.extract(&id("c"), &relay.clocks());
    merge(&mut relay, &invented);
    merge(&mut relay, &b.take_delta());
    a.leave_pid(Pid(1));
    join(&mut impostor, 5, "k");
    merge(&mut relay, &impostor.take_delta());
    refused(&mut a, &relay.extract(&id("z"), &relay.clocks()));
    assert_eq!(a.counter(&id("b")), Some(0));
}

#[test]
fn leaves_of_others_beyond_the_limit_are_left_to_their_own_replica() {
    let limits = Limits {
        observed: 2,
        ..Limits::default()
    };
    let [mut a, mut b, mut c] = sets_within(["a", "b", "c"], &limits);
    for pid in 1..=4 {
        join(&mut a, pid, "k");
    }
    let joins = a.take_delta();
    for pid in 1..=4 {
        leave(&mut a, pid, "k");
    }
    let leaves = a.take_delta();
    for set in [&mut b, &mut c] {
        merge(set, &joins);
    }
    merge(&mut b, &leaves);
    assert_eq!(merge(&mut c, &b.take_delta()), (vec![], vec![1, 2]));
    assert_eq!(merge(&mut c, &leaves), (vec![], vec![3, 4]));
}

#[test]
fn every_refusal_says_what_was_wrong() {
    let says = |error: &dyn std::error::Error, text: &str| assert_eq!(error.to_string(), text);
    says(
        &JoinError::AlreadyTracked,
        "the process is already tracked under this key in this topic",
    );
    says(&JoinError::Full(3), "the set is full: it holds 3 entries");
    let exhausted = "the replica has no counters left and must begin a new incarnation";
    says(&JoinError::Exhausted, exhausted);
    says(&UpdateError::Exhausted, exhausted);
    says(
        &UpdateError::NotTracked,
        "the process is not tracked under this key in this topic",
    );
}
