//! The rules of the set, each a schedule that one can follow.

use presence_core::clock::Context;
use presence_core::delta::Delta;
use presence_core::entry::{Key, Pid};
use presence_core::set::{Diff, Limits, Set};

use crate::presence::{
    answer, cloud, id, join, leave, listed, merge, said, sets, sets_within, sorted, state, topic,
    update,
};

#[test]
fn an_update_is_one_step() {
    let [mut a, mut b] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    merge(&mut b, &a.take_delta());
    let (left, handle) = a.update("t", Pid(1), "k".into(), "{\"v\":2}").unwrap();
    assert_eq!((left.entry().counter, left.entry().meta), (1, "{}"));
    let updated = a.entry(handle);
    assert_eq!((updated.counter, updated.meta), (3, "{\"v\":2}"));
    assert_eq!(a.counter(&id("a")), Some(3), "a leave and a join");
    assert_eq!(merge(&mut b, &a.take_delta()), (vec![3], vec![1]));
    assert_eq!(listed(&b, "a"), [3]);
    assert_eq!(b.list("t").next().unwrap().meta, "{\"v\":2}");
}

#[test]
fn an_updated_entry_keeps_its_place_in_the_topic() {
    let [mut a, _] = sets(["a", "b"]);
    for pid in 1..=3 {
        join(&mut a, pid, "k");
    }
    update(&mut a, 2, "k", "{\"v\":2}");
    let order: Vec<u64> = a.list("t").map(|entry| entry.pid.0).collect();
    assert_eq!(order, [1, 2, 3]);
}

#[test]
fn an_updated_entry_leaves_nothing_behind() {
    let [mut a, mut b] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    for version in 0..100 {
        update(&mut a, 1, "k", &format!("{{\"v\":{version}}}"));
        merge(&mut b, &a.take_delta());
    }
    for set in [&a, &b] {
        assert_eq!((set.len(), set.count("t"), set.topic_count()), (1, 1, 1));
        assert_eq!(set.list_key("t", "k".into()).count(), 1);
        assert_eq!(set.page("t", None, 10).entries.len(), 1);
        assert_eq!(set.entries_of(&id("a")).count(), 1);
    }
    assert_eq!(a.list_pid(Pid(1)).count(), 1);
    leave(&mut a, 1, "k");
    merge(&mut b, &a.take_delta());
    for set in [&a, &b] {
        assert!(set.is_empty());
        assert_eq!(set.topic_count(), 0);
        assert_eq!(set.list_key("t", "k".into()).count(), 0);
    }
}

#[test]
fn one_process_leaves_and_the_others_under_its_key_stay() {
    let [mut a, mut b] = sets(["a", "b"]);
    for pid in 1..=3 {
        join(&mut a, pid, "k");
    }
    join(&mut b, 2, "k");
    merge(&mut b, &a.take_delta());
    let left = a.leave("t", Pid(2), "k".into()).unwrap();
    assert_eq!(left.entry().pid, Pid(2));
    assert_eq!(merge(&mut b, &a.take_delta()), (vec![], vec![2]));
    assert_eq!(listed(&a, "a"), [1, 3]);
    assert_eq!(listed(&b, "a"), [1, 3]);
    assert_eq!(listed(&b, "b"), [1], "a pid is a pid of its replica");
}

#[test]
fn a_process_leaves_everywhere_and_takes_one_counter_for_each() {
    let [mut a, _] = sets(["a", "b"]);
    for (topic_name, key) in [("s", "k"), ("t", "k"), ("t", "l")] {
        a.join(&topic(topic_name), Pid(1), key.into(), "{}")
            .unwrap();
        a.join(&topic(topic_name), Pid(2), key.into(), "{}")
            .unwrap();
    }
    let left = a.leave_pid(Pid(1));
    assert_eq!(left.len(), 3);
    assert!(left.iter().all(|left| left.entry().pid == Pid(1)));
    assert_eq!(a.counter(&id("a")), Some(9));
    assert_eq!(a.list_all().count(), 3);
    assert!(a.list_all().all(|entry| entry.pid == Pid(2)));
    assert!(a.leave_pid(Pid(1)).is_empty());
    assert_eq!(a.counter(&id("a")), Some(9));
}

#[test]
fn an_integer_key_and_a_string_that_look_alike_are_two_keys() {
    let [mut a, mut b] = sets(["a", "b"]);
    let t = topic("t");
    a.join(&t, Pid(1), Key::Integer("1"), "{\"n\":1}").unwrap();
    a.join(&t, Pid(1), Key::Text("1"), "{\"n\":2}").unwrap();
    merge(&mut b, &a.take_delta());
    for set in [&a, &b] {
        let metas = |key| -> Vec<&str> { set.list_key("t", key).map(|e| e.meta).collect() };
        assert_eq!(metas(Key::Integer("1")), ["{\"n\":1}"]);
        assert_eq!(metas(Key::Text("1")), ["{\"n\":2}"]);
    }
    a.leave("t", Pid(1), Key::Integer("1")).unwrap();
    merge(&mut b, &a.take_delta());
    let key = |set: &Set| sorted(set.list("t")).remove(0).place;
    assert!(!key(&a).key().is_integer() && !key(&b).key().is_integer());
}

#[test]
fn a_removed_dot_ahead_of_the_context_stays_seen() {
    let [mut a, mut b] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    let first = a.take_delta();
    join(&mut a, 2, "k");
    let second = a.take_delta();
    leave(&mut a, 2, "k");
    let third = a.take_delta();
    assert_eq!(merge(&mut b, &second), (vec![2], vec![]));
    assert_eq!(merge(&mut b, &third), (vec![], vec![2]));
    assert_eq!(cloud(&b, "a"), [2, 3]);
    // The late delta brings nothing back.
    assert_eq!(merge(&mut b, &second), (vec![], vec![]));
    assert_eq!(merge(&mut b, &first), (vec![1], vec![]));
    assert_eq!((b.counter(&id("a")), cloud(&b, "a")), (Some(3), vec![]));
    assert_eq!(merge(&mut b, &second), (vec![], vec![]));
    assert_eq!(listed(&b, "a"), [1]);
}

/// The new value of an updated presence alone, as a chunk tells it: not that the old dot is gone.
fn value_alone(a: &mut Set) -> Delta {
    join(a, 9, "x");
    let mut transfer = a.answer(&id("b"), &Context::from_iter([(id("a"), 1)]));
    let chunk = a.next_chunk(&mut transfer, 1).unwrap();
    assert_eq!(chunk.size(), 1);
    chunk
}

#[test]
fn of_two_dots_of_one_presence_the_higher_counter_wins_whichever_arrives_first() {
    let [mut a, mut b, mut c] = sets(["a", "b", "c"]);
    join(&mut a, 1, "k");
    let old = a.take_delta();
    update(&mut a, 1, "k", "{\"v\":2}");
    let new = value_alone(&mut a);
    assert_eq!(merge(&mut b, &old), (vec![1], vec![]));
    assert_eq!(merge(&mut b, &new), (vec![3], vec![1]));
    assert_eq!(merge(&mut c, &new), (vec![3], vec![]));
    assert_eq!(
        merge(&mut c, &old),
        (vec![], vec![]),
        "an older one is not reported"
    );
    for set in [&mut b, &mut c] {
        assert_eq!(listed(set, "a"), [3]);
        assert_eq!(set.list("t").next().unwrap().meta, "{\"v\":2}");
        assert_eq!(set.counter(&id("a")), Some(1), "the older dot is seen");
        assert_eq!(merge(set, &old), (vec![], vec![]), "and stays seen");
        assert!(!set.has_delta(), "what was superseded did not leave");
    }
}

#[test]
fn a_superseded_dot_ahead_of_the_context_stays_seen() {
    let [mut a, mut b, mut c] = sets(["a", "b", "c"]);
    join(&mut a, 7, "first");
    a.take_delta();
    join(&mut a, 1, "k");
    let old = a.take_delta();
    update(&mut a, 1, "k", "{\"v\":2}");
    let mut transfer = a.answer(&id("b"), &Context::from_iter([(id("a"), 2)]));
    let whole = a.next_chunk(&mut transfer, 9).unwrap();
    // Neither has heard of the first join: dots 2 to 4 are ahead of their contexts.
    assert_eq!(merge(&mut b, &old), (vec![2], vec![]));
    assert_eq!(merge(&mut b, &whole), (vec![4], vec![2]));
    assert_eq!(merge(&mut c, &whole), (vec![4], vec![]));
    assert_eq!(merge(&mut c, &old), (vec![], vec![]));
    for set in [&mut b, &mut c] {
        assert_eq!(cloud(set, "a"), [2, 3]);
        assert_eq!(merge(set, &old), (vec![], vec![]));
        assert_eq!(listed(set, "a"), [4]);
        assert_eq!(set.counter(&id("a")), Some(0));
    }
}

#[test]
fn an_older_dot_that_comes_late_and_ahead_of_the_context_stays_seen() {
    let [mut a, mut b] = sets(["a", "b"]);
    join(&mut a, 7, "first");
    let lost = a.take_delta();
    join(&mut a, 1, "k");
    let old = a.take_delta();
    update(&mut a, 1, "k", "{\"v\":2}");
    let mut transfer = a.answer(&id("b"), &Context::from_iter([(id("a"), 2)]));
    join(&mut a, 9, "x");
    let new = a.next_chunk(&mut transfer, 1).unwrap();
    leave(&mut a, 1, "k");
    assert_eq!(merge(&mut b, &new), (vec![4], vec![]));
    assert_eq!(merge(&mut b, &old), (vec![], vec![]));
    assert_eq!(
        cloud(&b, "a"),
        [2],
        "it was told by none but the late delta"
    );
    // The newer one leaves, and the older does not come back in its place.
    let mut transfer = a.answer(&id("b"), &Context::from_iter([(id("a"), 5)]));
    let gone = a.next_chunk(&mut transfer, 9).unwrap();
    assert_eq!(merge(&mut b, &gone), (vec![], vec![4]));
    assert_eq!(merge(&mut b, &old), (vec![], vec![]));
    assert_eq!(merge(&mut b, &lost), (vec![1], vec![]));
    assert_eq!(merge(&mut b, &old), (vec![], vec![]));
    assert_eq!(listed(&b, "a"), [1]);
}

#[test]
fn two_deltas_that_are_not_contiguous_are_not_merged_as_if_they_were() {
    let [mut a, mut b, mut c] = sets(["a", "b", "c"]);
    join(&mut a, 1, "k");
    let first = a.take_delta();
    join(&mut a, 2, "k");
    let second = a.take_delta();
    join(&mut a, 3, "k");
    let third = a.take_delta();
    merge(&mut b, &first);
    merge(&mut b, &third);
    assert_eq!(b.counter(&id("a")), Some(1), "dot 2 is not seen");
    assert_eq!(listed(&b, "a"), [1, 3]);
    // What it tells another says no more than that.
    let told = b.extract(&id("c"), &c.clocks());
    merge(&mut c, &told);
    assert_eq!(c.counter(&id("a")), Some(1));
    assert_eq!(merge(&mut c, &second), (vec![2], vec![]));
    assert_eq!(merge(&mut b, &second), (vec![2], vec![]));
    assert_eq!(
        (b.counter(&id("a")), c.counter(&id("a"))),
        (Some(3), Some(3))
    );
}

#[test]
fn after_one_lost_delta_the_next_answer_heals_without_a_full_state() {
    let [mut a, mut b] = sets(["a", "b"]);
    for pid in 1..=100 {
        join(&mut a, pid, "k");
    }
    merge(&mut b, &a.take_delta());
    join(&mut a, 101, "k");
    leave(&mut a, 7, "k");
    let _lost = a.take_delta();
    join(&mut a, 102, "k");
    merge(&mut b, &a.take_delta());
    assert_eq!(b.counter(&id("a")), Some(100));
    let transfer = a.answer(&id("b"), &b.clocks());
    assert!(transfer.is_incremental() && !transfer.is_empty());
    let delta = a.next_chunk(&mut transfer.clone(), 1000).unwrap();
    assert_eq!(delta.values().count(), 2, "not the hundred from before");
    assert_eq!(merge(&mut b, &delta), (vec![101], vec![7]));
    assert_eq!(b.counter(&id("a")), Some(103));
    assert_eq!(sorted(a.list_all()), sorted(b.list_all()));
    assert!(a.answer(&id("b"), &b.clocks()).is_empty());
    // The deltas go on from there.
    leave(&mut a, 8, "k");
    assert_eq!(merge(&mut b, &a.take_delta()), (vec![], vec![8]));
    assert_eq!(b.counter(&id("a")), a.counter(&id("a")));
}

#[test]
fn two_replicas_with_many_entries_each_agree_when_they_first_meet() {
    let names = ["a", "b"];
    let mut alone = names.map(|name| Set::new(id(name), Limits::default(), 1));
    for (n, set) in (0..).zip(&mut alone) {
        for pid in 0..300 {
            join(set, pid, &format!("{n}-{}", pid % 7));
        }
        // What they told before they met, nobody heard.
        set.take_delta();
    }
    let [mut a, mut b] = alone;
    a.up(&id("b")).unwrap();
    b.up(&id("a")).unwrap();
    answer(&a, &mut b);
    answer(&b, &mut a);
    for set in [&a, &b] {
        assert_eq!((listed(set, "a").len(), listed(set, "b").len()), (300, 300));
        assert_eq!(
            set.clocks(),
            Context::from_iter([(id("a"), 300), (id("b"), 300)])
        );
    }
    assert!(a.answer(&id("b"), &b.clocks()).is_empty());
    assert!(b.answer(&id("a"), &a.clocks()).is_empty());
}

#[test]
fn seven_replicas_starting_at_once_agree() {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let mut all = sets(names);
    let mut deltas = Vec::new();
    for pid in 0..100 {
        for (n, set) in all.iter_mut().enumerate() {
            join(set, pid, "k");
            if pid % 10 == 0 && pid > 10 {
                set.leave("t", Pid(pid - 5), "k".into()).unwrap();
            }
            // Each tells at its own moments.
            if pid as usize % names.len() == n {
                deltas.push(set.take_delta());
            }
        }
    }
    deltas.extend(all.iter_mut().map(Set::take_delta));
    // Everyone hears half of it, in the wrong order.
    for (n, set) in all.iter_mut().enumerate() {
        for delta in deltas.iter().skip(n % 2).step_by(2).rev() {
            merge(set, delta);
        }
    }
    // Each asks only its neighbours, in a ring.
    for _ in 0..names.len() {
        for n in 0..all.len() {
            let m = (n + 1) % all.len();
            let [one, two] = all.get_disjoint_mut([n, m]).unwrap();
            answer(one, two);
            answer(two, one);
        }
    }
    for set in &all {
        for name in names {
            assert_eq!(
                listed(set, name).len(),
                92,
                "of {name} at {:?}",
                set.replica()
            );
            assert!(cloud(set, name).is_empty());
        }
        assert_eq!(set.clocks(), all[0].clocks());
    }
}

#[test]
fn joins_and_leaves_seen_through_a_middle_replica_only_arrive_both() {
    let [mut a, mut b, mut c] = sets(["a", "b", "c"]);
    join(&mut a, 1, "k");
    join(&mut a, 2, "k");
    merge(&mut b, &a.take_delta());
    answer(&b, &mut c);
    assert_eq!(listed(&c, "a"), [1, 2]);
    leave(&mut a, 1, "k");
    merge(&mut b, &a.take_delta());
    assert_eq!(answer(&b, &mut c), (vec![], vec![1]));
    assert_eq!(listed(&c, "a"), [2]);
}

#[test]
fn a_delta_names_the_leaves_that_its_replica_saw_of_others() {
    let [mut a, mut b, mut c] = sets(["a", "b", "c"]);
    join(&mut a, 1, "k");
    join(&mut a, 2, "k");
    let joins = a.take_delta();
    merge(&mut b, &joins);
    merge(&mut c, &joins);
    leave(&mut a, 1, "k");
    merge(&mut b, &a.take_delta());
    assert!(b.has_delta());
    let seen = b.take_delta();
    assert_eq!(said(&seen)[&id("a")].dots.len(), 1);
    assert_eq!(merge(&mut c, &seen), (vec![], vec![1]));
    assert!(!b.has_delta() && b.take_delta().is_empty(), "told once");
    // The counter of the leave is not seen before its own replica tells.
    assert_eq!(c.counter(&id("a")), Some(2));
}

/// As in the reference: the middle replica can't tell into what the dot was updated. This is the only
/// way for a presence to be missing between two merges while it is tracked, see
/// `World::lost_nothing`.
#[test]
fn hearsay_of_an_update_hides_the_presence_until_its_own_replica_is_heard() {
    let [mut a, mut b, mut c] = sets(["a", "b", "c"]);
    join(&mut a, 1, "k");
    let joined = a.take_delta();
    merge(&mut b, &joined);
    merge(&mut c, &joined);
    update(&mut a, 1, "k", "{\"v\":2}");
    let updated = a.take_delta();
    merge(&mut b, &updated);
    let hearsay = b.take_delta();
    assert_eq!(merge(&mut c, &hearsay), (vec![], vec![1]));
    assert_eq!(merge(&mut c, &updated), (vec![3], vec![]));
    // Whoever heard its own replica first sees one step.
    let [_, _, mut c] = sets(["a", "b", "c"]);
    merge(&mut c, &joined);
    assert_eq!(merge(&mut c, &updated), (vec![3], vec![1]));
    assert_eq!(merge(&mut c, &hearsay), (vec![], vec![]));
}

/// A dot that is gone before its value came can't supersede an older one: nobody knows of what
/// presence it was.
#[test]
fn while_a_delta_is_lost_two_orders_may_differ_and_its_answer_heals_both() {
    let [mut a, mut b, mut c] = sets(["a", "b", "c"]);
    join(&mut a, 1, "k");
    let first = a.take_delta();
    update(&mut a, 1, "k", "{\"v\":2}");
    let _lost = a.take_delta();
    update(&mut a, 1, "k", "{\"v\":3}");
    let third = a.take_delta();
    leave(&mut a, 1, "k");
    let fourth = a.take_delta();
    for (set, order) in [(&mut b, [&third, &fourth]), (&mut c, [&fourth, &third])] {
        merge(set, &first);
        for delta in order {
            merge(set, delta);
        }
        assert_eq!(cloud(set, "a"), [3, 4, 5, 6]);
    }
    assert_eq!((listed(&b, "a"), listed(&c, "a")), (vec![], vec![1]));
    assert_eq!(answer(&a, &mut b), (vec![], vec![]));
    assert_eq!(answer(&a, &mut c), (vec![], vec![1]));
    assert_eq!(b.counter(&id("a")), c.counter(&id("a")));
}

#[test]
fn what_another_says_of_this_replicas_own_entries_changes_nothing() {
    let [mut a, mut b, mut c] = sets(["a", "b", "c"]);
    join(&mut a, 1, "k");
    merge(&mut b, &a.take_delta());
    leave(&mut a, 1, "k");
    let old = b.extract(&id("c"), &c.clocks());
    assert_eq!(
        merge(&mut a, &old),
        (vec![], vec![]),
        "an old value does not come back"
    );
    join(&mut a, 2, "k");
    merge(&mut b, &a.take_delta());
    let told = b.extract(&id("c"), &c.clocks());
    merge(&mut c, &told);
    let before = state(&a);
    merge(&mut a, &c.extract(&id("b"), &b.clocks()));
    assert_eq!(state(&a), before);
}

#[test]
fn a_delta_is_taken_once_and_tells_only_what_is_new() {
    let [mut a, _] = sets(["a", "b"]);
    assert!(!a.has_delta());
    assert!(a.take_delta().is_empty());
    join(&mut a, 1, "k");
    assert!(a.has_delta());
    let first = a.take_delta();
    assert_eq!(said(&first)[&id("a")].dots, [1].into());
    assert!(!a.has_delta() && a.take_delta().is_empty());
    join(&mut a, 2, "k");
    leave(&mut a, 1, "k");
    let second = a.take_delta();
    let claims = &said(&second)[&id("a")];
    assert_eq!(claims.dots, [1, 2, 3].into());
    assert_eq!(claims.values.keys().collect::<Vec<_>>(), [&2]);
    assert_eq!(second.ranges().collect::<Vec<_>>(), [(&id("a"), 3)]);
    assert_eq!(second.size(), 3, "a value and two intervals");
    assert!(!second.is_empty());
}

#[test]
fn what_came_and_went_between_two_deltas_is_told_as_gone_only() {
    let [mut a, mut b] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    update(&mut a, 1, "k", "{\"v\":2}");
    leave(&mut a, 1, "k");
    let delta = a.take_delta();
    assert_eq!((delta.values().count(), delta.size()), (0, 1));
    assert_eq!(merge(&mut b, &delta), (vec![], vec![]));
    assert_eq!(b.counter(&id("a")), Some(4));
}

/// Leaves beyond the log, which then can't tell which dots left: every gone dot is named.
#[test]
fn a_delta_past_the_start_of_the_log_waits_where_an_earlier_one_was_lost() {
    let limits = Limits {
        removal_log: 1,
        ..Limits::default()
    };
    let [mut a, mut b] = sets_within(["a", "b"], &limits);
    for pid in 1..=3 {
        join(&mut a, pid, "k");
    }
    merge(&mut b, &a.take_delta());
    update(&mut a, 1, "k", "{\"v\":2}");
    let lost = a.take_delta();
    leave(&mut a, 2, "k");
    leave(&mut a, 3, "k");
    let beyond = a.take_delta();
    // It names the dot that was updated as gone, and not into what.
    let mut diff = Diff::new();
    b.merge(&beyond, &mut diff).unwrap();
    assert_eq!((diff.leaves.len(), diff.deferred), (0, 1));
    assert_eq!(listed(&b, "a"), [1, 2, 3]);
    assert_eq!(merge(&mut b, &lost), (vec![5], vec![1]));
    assert_eq!(merge(&mut b, &beyond), (vec![], vec![2, 3]));
    assert_eq!(listed(&b, "a"), [5]);
    assert_eq!(b.counter(&id("a")), a.counter(&id("a")));
}

/// The middle replica heard of an update's new dot ahead of its context; its values are told first,
/// and the closing part must not take the old dot away where that value got lost.
#[test]
fn a_closing_part_takes_nothing_away_whose_successor_lies_ahead_and_was_lost() {
    let [mut a, mut b, mut c] = sets(["a", "b", "c"]);
    join(&mut a, 1, "k");
    let first = a.take_delta();
    join(&mut a, 2, "k");
    let second = a.take_delta();
    for set in [&mut b, &mut c] {
        merge(set, &first);
    }
    merge(&mut b, &second);
    update(&mut a, 1, "k", "{\"v\":2}");
    let mut transfer = a.answer(&id("b"), &b.clocks());
    join(&mut a, 3, "k");
    let value = a.next_chunk(&mut transfer, 1).unwrap();
    assert_eq!(
        merge(&mut b, &value),
        (vec![4], vec![1]),
        "dot 3, its leave, is missing"
    );
    // It answers in chunks; the second, with the value 4, is lost.
    let mut transfer = b.answer(&id("c"), &c.clocks());
    let mut chunks = Vec::new();
    while let Some(chunk) = b.next_chunk(&mut transfer, 1) {
        chunks.push(chunk);
    }
    assert_eq!(chunks.len(), 3);
    assert_eq!(merge(&mut c, &chunks[0]), (vec![2], vec![]));
    let mut diff = Diff::new();
    c.merge(&chunks[2], &mut diff).unwrap();
    assert_eq!(listed(&c, "a"), [2, 4], "{chunks:?} {diff:?}");
    assert_eq!((diff.joins.len(), diff.leaves.len()), (1, 1));
}

#[test]
fn debug_shows_what_a_set_and_a_delta_hold() {
    let [mut a, _] = sets(["a", "b"]);
    let t = topic("t");
    a.join(&t, Pid(1), "k".into(), "{}").unwrap();
    a.join(&t, Pid(2), Key::Integer("5"), "{}").unwrap();
    leave(&mut a, 1, "k");
    assert_eq!(
        format!("{:?}", a.take_delta()),
        r#"{a#1 ..=3: gone [1, 3] values ["t" 5 of Pid(2): {} (a#1@2)]}"#
    );
    assert_eq!(
        format!("{a:?}"),
        "Set { replica: a#1, clocks: {a#1: 3, b#1: 0}, \
         entries: [\"t\" 5 of Pid(2): {} (a#1@2)] }"
    );
}
