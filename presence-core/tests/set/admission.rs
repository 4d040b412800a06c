//! Which replicas a set knows and lists.

use presence_core::clock::{Context, Dot, ReplicaId};
use presence_core::entry::Pid;
use presence_core::set::{AdmitError, Diff, Limits, Set, Status};

use crate::presence::{
    answer, cloud, id, join, leave, listed, merge, said, sets, sets_within, sorted, state,
};

#[test]
fn a_replica_is_unknown_until_it_is_admitted() {
    let [mut a, _] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    let delta = a.take_delta();
    let mut z = Set::new(id("z"), Limits::default(), 1);
    assert_eq!(z.replicas().collect::<Vec<_>>(), [(&id("z"), Status::Up)]);
    let mut diff = Diff::new();
    z.merge(&delta, &mut diff).unwrap();
    assert_eq!((diff.joins.len(), diff.unknown), (0, 1));
    assert_eq!((z.status(&id("a")), z.counter(&id("a"))), (None, None));
    assert!(z.cloud(&id("a")).is_none());
    assert_eq!(z.up(&id("a")), Ok(true));
    assert_eq!(z.up(&id("a")), Ok(false), "no change");
    assert_eq!(
        (z.status(&id("a")), z.counter(&id("a"))),
        (Some(Status::Up), Some(0))
    );
    z.merge(&delta, &mut diff).unwrap();
    assert_eq!(
        (diff.joins.len(), diff.unknown),
        (1, 0),
        "a diff is of one merge"
    );
}

#[test]
fn a_replica_that_is_down_keeps_its_entries_and_is_not_listed() {
    let [mut a, mut b] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    join(&mut b, 2, "k");
    merge(&mut b, &a.take_delta());
    assert!(b.down(&id("a")));
    assert!(!b.down(&id("a")), "no change");
    assert_eq!(b.status(&id("a")), Some(Status::Down));
    assert!(listed(&b, "a").is_empty());
    assert_eq!(
        (b.count("t"), b.list("t").count(), b.list_all().count()),
        (1, 1, 1)
    );
    assert_eq!(b.list_key("t", "k".into()).count(), 1);
    assert_eq!(b.page("t", None, 10).entries.len(), 1);
    assert_eq!((b.len(), b.entries_of(&id("a")).count()), (2, 1));
    // Merges of it go on, and say what changes.
    join(&mut a, 3, "k");
    assert_eq!(merge(&mut b, &a.take_delta()), (vec![2], vec![]));
    leave(&mut a, 1, "k");
    assert_eq!(merge(&mut b, &a.take_delta()), (vec![], vec![1]));
    assert!(listed(&b, "a").is_empty());
    let told = said(&b.take_delta());
    assert_eq!(told[&id("a")].dots, [1].into(), "others may list it");
    assert_eq!(b.up(&id("a")), Ok(true));
    assert_eq!(listed(&b, "a"), [2]);
    assert_eq!(b.count("t"), 2);
}

#[test]
fn clocks_leave_out_who_is_down_and_nobody_is_told_of_it() {
    let [mut a, mut b, mut c] = sets(["a", "b", "c"]);
    join(&mut a, 1, "k");
    merge(&mut b, &a.take_delta());
    c.down(&id("a"));
    assert_eq!(c.clocks(), Context::from_iter([(id("b"), 0), (id("c"), 0)]));
    assert!(b.answer(&id("c"), &c.clocks()).is_empty());
    assert!(b.extract(&id("c"), &c.clocks()).is_empty());
    c.up(&id("a")).unwrap();
    assert_eq!(answer(&b, &mut c), (vec![1], vec![]));
}

#[test]
fn the_own_replica_is_neither_down_nor_removed() {
    let [mut a, _] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    let before = state(&a);
    assert!(!a.down(&id("a")));
    assert!(a.remove(&id("a")).is_empty());
    assert_eq!(a.up(&id("a")), Ok(false));
    assert!(!a.down(&id("nobody")));
    assert!(a.remove(&id("nobody")).is_empty());
    assert_eq!(state(&a), before);
}

#[test]
fn a_removed_replica_hands_out_its_entries_and_is_forgotten() {
    let [mut a, mut b, _] = sets(["a", "b", "c"]);
    for pid in 1..=3 {
        join(&mut a, pid, "k");
    }
    a.take_delta();
    join(&mut a, 4, "k");
    merge(&mut b, &a.take_delta());
    leave(&mut a, 4, "k");
    merge(&mut b, &a.take_delta());
    join(&mut a, 5, "k");
    merge(&mut b, &a.take_delta());
    assert!(!cloud(&b, "a").is_empty());
    join(&mut b, 1, "k");
    let removed = b.remove(&id("a"));
    let counters: Vec<u64> = removed.iter().map(|left| left.entry().counter).collect();
    assert_eq!(counters, [6]);
    assert_eq!(removed[0].entry().replica, &id("a"));
    assert_eq!(
        b.replicas().map(|(id, _)| id.name()).collect::<Vec<_>>(),
        ["b", "c"]
    );
    assert!(b.cloud(&id("a")).is_none() && b.clocks().counter(&id("a")).is_none());
    assert_eq!((b.len(), b.count("t")), (1, 1));
    assert!(b.remove(&id("a")).is_empty());
}

#[test]
fn a_replica_that_is_down_can_be_removed_and_the_rest_is_listed_as_before() {
    let [mut a, mut b, mut c] = sets(["a", "b", "c"]);
    join(&mut a, 1, "k");
    join(&mut b, 1, "k");
    merge(&mut c, &a.take_delta());
    merge(&mut c, &b.take_delta());
    c.down(&id("a"));
    assert_eq!(c.remove(&id("a")).len(), 1);
    assert_eq!(c.count("t"), 1);
    // Another takes its place, and is up.
    assert_eq!(c.up(&id("d")), Ok(true));
    assert_eq!(c.status(&id("d")), Some(Status::Up));
    let mut d = Set::new(id("d"), Limits::default(), 1);
    join(&mut d, 1, "k");
    merge(&mut c, &d.take_delta());
    assert_eq!((listed(&c, "b"), listed(&c, "d")), (vec![1], vec![1]));
    assert_eq!(c.count("t"), 2);
}

#[test]
fn a_permanently_removed_replica_is_not_in_the_next_delta() {
    let [mut a, mut b, mut c] = sets(["a", "b", "c"]);
    join(&mut a, 1, "k");
    join(&mut c, 1, "k");
    merge(&mut b, &a.take_delta());
    merge(&mut b, &c.take_delta());
    leave(&mut a, 1, "k");
    leave(&mut c, 1, "k");
    merge(&mut b, &a.take_delta());
    merge(&mut b, &c.take_delta());
    b.remove(&id("a"));
    // Whoever takes the vacant place has nothing to do with it.
    b.up(&id("d")).unwrap();
    let told = said(&b.take_delta());
    assert_eq!(told.keys().collect::<Vec<_>>(), [&id("c")]);
    assert!(!said(&b.extract(&id("z"), &a.clocks())).contains_key(&id("a")));
}

#[test]
fn a_late_message_brings_nothing_back_of_a_removed_replica() {
    let [mut a, mut b, c] = sets(["a", "b", "c"]);
    join(&mut a, 1, "k");
    let delta = a.take_delta();
    merge(&mut b, &delta);
    let transfer = b.extract(&id("c"), &c.clocks());
    b.remove(&id("a"));
    let mut diff = Diff::new();
    for late in [&delta, &transfer] {
        b.merge(late, &mut diff).unwrap();
        assert_eq!(
            (diff.joins.len(), diff.leaves.len(), diff.unknown),
            (0, 0, 1)
        );
    }
    assert!(b.is_empty());
}

#[test]
fn a_removed_replica_heard_again_is_admitted_from_an_empty_context() {
    let [mut a, mut b] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    join(&mut a, 2, "k");
    merge(&mut b, &a.take_delta());
    b.remove(&id("a"));
    leave(&mut a, 1, "k");
    a.take_delta();
    assert_eq!(b.up(&id("a")), Ok(true));
    assert_eq!(b.counter(&id("a")), Some(0));
    assert_eq!(
        b.clocks().counter(&id("a")),
        Some(0),
        "so that it is answered for"
    );
    assert_eq!(answer(&a, &mut b), (vec![2], vec![]));
    assert_eq!(b.counter(&id("a")), Some(3));
}

#[test]
fn a_lower_incarnation_is_refused() {
    let [mut b] = sets(["b"]);
    let life = |n| ReplicaId::new("a", n);
    b.up(&life(2)).unwrap();
    b.up(&ReplicaId::new("aa", 9)).unwrap();
    let before = state(&b);
    let newest = life(2);
    assert_eq!(
        b.up(&life(1)),
        Err(AdmitError::Superseded {
            newest: newest.clone()
        })
    );
    assert_eq!(state(&b), before);
    let refused = b.up(&life(1)).unwrap_err().to_string();
    assert_eq!(
        refused,
        "a#2 is known, a later incarnation of the same node"
    );
    // Also while the later one is down; and its own old self is nobody.
    b.down(&newest);
    assert!(b.up(&life(1)).is_err());
    assert!(b.up(&ReplicaId::new("b", 0)).is_err());
    assert_eq!(b.up(&life(3)), Ok(true));
    assert_eq!(
        b.up(&life(1)),
        Err(AdmitError::Superseded { newest: life(3) }),
        "the latest is named"
    );
}

#[test]
fn the_next_incarnation_begins_anew_beside_the_old_one() {
    let [mut old, mut b] = sets(["a", "b"]);
    join(&mut old, 1, "k");
    join(&mut old, 2, "k");
    merge(&mut b, &old.take_delta());
    let id = ReplicaId::new("a", 2);
    let mut new = Set::new(id.clone(), Limits::default(), 1);
    join(&mut new, 1, "k");
    b.up(&id).unwrap();
    assert_eq!(merge(&mut b, &new.take_delta()), (vec![1], vec![]));
    assert_eq!(b.count("t"), 3, "the same counter and pid, another life");
    let left = b.remove(old.replica());
    assert_eq!(left.len(), 2);
    assert_eq!(sorted(b.list_all()), sorted(new.list_all()));
    // The old self is heard late.
    join(&mut old, 3, "k");
    let mut diff = Diff::new();
    b.merge(&old.take_delta(), &mut diff).unwrap();
    assert_eq!((diff.joins.len(), diff.unknown), (0, 1));
    assert!(b.up(old.replica()).is_err());
}

#[test]
fn no_more_replicas_are_admitted_than_the_limits_allow() {
    let limits = Limits {
        replicas: 2,
        ..Limits::default()
    };
    let [mut a, _] = sets_within(["a", "b"], &limits);
    let before = state(&a);
    assert_eq!(a.up(&id("c")), Err(AdmitError::TooMany(2)));
    assert_eq!(state(&a), before);
    assert_eq!(a.up(&id("b")), Ok(false), "known already");
    let refused = a.up(&id("c")).unwrap_err().to_string();
    assert_eq!(refused, "2 replicas are known, as many as the limits allow");
    a.remove(&id("b"));
    assert_eq!(a.up(&id("c")), Ok(true));
}

#[test]
fn entries_of_a_replica_come_in_the_order_in_which_they_joined() {
    let [mut a, mut b] = sets(["a", "b"]);
    for pid in [5, 3, 9, 1] {
        join(&mut a, pid, "k");
    }
    a.leave("t", Pid(3), "k".into()).unwrap();
    merge(&mut b, &a.take_delta());
    let pids: Vec<u64> = b.entries_of(&id("a")).map(|entry| entry.pid.0).collect();
    assert_eq!(pids, [5, 9, 1]);
    assert_eq!(b.entries_of(&id("nobody")).count(), 0);
}

#[test]
fn a_context_counts_the_replicas_that_it_knows() {
    let mut context = Context::new();
    assert!(context.is_empty());
    assert_eq!(context.len(), 0);
    context.advance(id("a"), 0);
    context.advance(id("b"), 3);
    context.advance(id("b"), 2);
    assert!(!context.is_empty(), "known with 0 is known");
    assert_eq!(context.len(), 2);
    assert_eq!(context.counter(&id("b")), Some(3));
}

#[test]
fn a_dot_is_shown_by_its_replica_and_its_counter() {
    let life = ReplicaId::new("a", 7);
    assert_eq!((life.name(), life.incarnation()), ("a", 7));
    let dot = Dot::new(life, 3);
    assert_eq!(
        (format!("{dot}"), format!("{dot:?}")),
        ("a#7@3".to_owned(), "a#7@3".to_owned())
    );
}
