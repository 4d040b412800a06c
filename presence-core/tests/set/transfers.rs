//! What a replica that lags is told.

use presence_core::clock::Context;
use presence_core::delta::Delta;
use presence_core::set::{Diff, Limits, Set, Transfer};

use crate::presence::{
    answer, id, join, leave, listed, merge, said, sets, sets_within, sorted, update,
};

fn knows(counter: u64) -> Context {
    Context::from_iter([(id("a"), counter)])
}

fn all_chunks(set: &Set, mut transfer: Transfer, limit: usize) -> Vec<Delta> {
    std::iter::from_fn(|| set.next_chunk(&mut transfer, limit)).collect()
}

/// Its log is too short for what left.
fn without_log() -> [Set; 3] {
    let limits = Limits {
        removal_log: 1,
        ..Limits::default()
    };
    sets_within(["a", "b", "c"], &limits)
}

#[test]
fn an_answer_never_echoes_the_askers_own_entries() {
    let [mut a, mut b] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    join(&mut b, 1, "k");
    leave(&mut b, 1, "k");
    join(&mut b, 2, "k");
    merge(&mut a, &b.take_delta());
    // The asker says that it knows itself with 0, as after a restart that forgot.
    let mut context = b.clocks();
    context.remove(&id("b"));
    context.advance(id("b"), 0);
    let whole = a.extract(&id("b"), &context);
    assert_eq!(said(&whole).into_keys().collect::<Vec<_>>(), [id("a")]);
    for delta in all_chunks(&a, a.answer(&id("b"), &context), 100) {
        assert_eq!(said(&delta).into_keys().collect::<Vec<_>>(), [id("a")]);
    }
}

#[test]
fn only_replicas_that_the_asker_knows_are_told_of() {
    let [mut a, mut b, _] = sets(["a", "b", "c"]);
    join(&mut a, 1, "k");
    join(&mut b, 1, "k");
    merge(&mut a, &b.take_delta());
    let whole = a.extract(&id("c"), &knows(0));
    assert_eq!(said(&whole).into_keys().collect::<Vec<_>>(), [id("a")]);
    let chunks = all_chunks(&a, a.answer(&id("c"), &knows(0)), 100);
    assert_eq!(chunks.len(), 1);
    assert_eq!(said(&chunks[0]).into_keys().collect::<Vec<_>>(), [id("a")]);
    assert!(a.extract(&id("c"), &Context::new()).is_empty());
    assert!(a.answer(&id("c"), &Context::new()).is_empty());
}

#[test]
fn a_full_state_tells_all_whatever_the_asker_has_seen() {
    let [mut a, mut c] = sets(["a", "c"]);
    for pid in 1..=4 {
        join(&mut a, pid, "k");
    }
    leave(&mut a, 2, "k");
    let whole = a.extract(&id("c"), &knows(4));
    let claims = &said(&whole)[&id("a")];
    assert_eq!(claims.dots, (1..=5).collect());
    assert_eq!(claims.values.keys().collect::<Vec<_>>(), [&1, &3, &4]);
    assert_eq!(merge(&mut c, &whole), (vec![1, 3, 4], vec![]));
    assert_eq!(c.counter(&id("a")), Some(5));
}

#[test]
fn whoever_lacks_nothing_is_told_nothing() {
    let [mut a, mut b] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    merge(&mut b, &a.take_delta());
    let mut transfer = a.answer(&id("b"), &b.clocks());
    assert!(transfer.is_empty());
    assert!(a.next_chunk(&mut transfer, 10).is_none());
    assert!(a.next_chunk(&mut transfer, 10).is_none());
}

#[test]
fn the_log_tells_which_dots_left() {
    let [mut a, mut b, mut c] = sets(["a", "b", "c"]);
    for pid in 1..=9 {
        join(&mut a, pid, "k");
    }
    for pid in [3, 7, 5] {
        leave(&mut a, pid, "k");
    }
    let first = a.take_delta();
    merge(&mut b, &first);
    merge(&mut c, &first);
    leave(&mut a, 1, "k");
    update(&mut a, 9, "k", "{}");
    let transfer = a.answer(&id("b"), &b.clocks());
    assert!(transfer.is_incremental() && !transfer.is_empty());
    let chunks = all_chunks(&a, transfer, 1);
    assert_eq!(chunks.len(), 1);
    let claims = &said(&chunks[0])[&id("a")];
    assert_eq!(claims.dots, [1, 9, 13, 14, 15].into(), "neither 3, 5 nor 7");
    assert_eq!(merge(&mut b, &chunks[0]), (vec![15], vec![1, 9]));
    // Only the owner has a log.
    let transfer = b.answer(&id("c"), &c.clocks());
    assert!(!transfer.is_incremental());
    assert_eq!(answer(&b, &mut c), (vec![15], vec![1, 9]));
}

#[test]
fn past_the_start_of_the_log_every_gone_dot_is_told() {
    let [mut a, mut b, _] = without_log();
    for pid in 1..=4 {
        join(&mut a, pid, "k");
    }
    merge(&mut b, &a.take_delta());
    leave(&mut a, 1, "k");
    assert!(
        a.answer(&id("b"), &b.clocks()).is_incremental(),
        "one leave is remembered"
    );
    leave(&mut a, 3, "k");
    assert!(!a.answer(&id("b"), &b.clocks()).is_incremental());
    assert!(
        a.answer(&id("b"), &knows(5)).is_incremental(),
        "from the forgotten leave on"
    );
    assert_eq!(answer(&a, &mut b), (vec![], vec![1, 3]));
    assert_eq!(listed(&b, "a"), [2, 4]);
    assert_eq!(b.counter(&id("a")), Some(6));
}

#[test]
fn an_answer_that_fits_is_one_message() {
    let [mut a, mut b, _] = without_log();
    for pid in 1..=4 {
        join(&mut a, pid, "k");
    }
    leave(&mut a, 1, "k");
    leave(&mut a, 2, "k");
    assert_eq!(all_chunks(&a, a.answer(&id("b"), &b.clocks()), 2).len(), 1);
    assert_eq!(
        all_chunks(&a, a.answer(&id("b"), &b.clocks()), usize::MAX).len(),
        1
    );
    // What the asker has seen does not count.
    assert_eq!(all_chunks(&a, a.answer(&id("b"), &knows(3)), 1).len(), 1);
    let sizes: Vec<usize> = all_chunks(&a, a.answer(&id("b"), &b.clocks()), 1)
        .iter()
        .map(|chunk| chunk.values().count())
        .collect();
    assert_eq!(sizes, [1, 1, 0], "values first, then what is gone");
    assert_eq!(answer(&a, &mut b), (vec![3, 4], vec![]));
}

#[test]
fn a_chunk_takes_one_value_at_least() {
    let [mut a, mut b] = sets(["a", "b"]);
    join(&mut a, 1, "k");
    join(&mut a, 2, "k");
    let chunks = all_chunks(&a, a.answer(&id("b"), &b.clocks()), 0);
    assert_eq!(chunks.len(), 2);
    assert_eq!(merge(&mut b, &chunks[0]), (vec![1], vec![]));
    assert_eq!(merge(&mut b, &chunks[1]), (vec![2], vec![]));
}

#[test]
fn a_closing_part_waits_for_the_values_below_its_end() {
    let [mut a, mut b, _] = without_log();
    for pid in 1..=3 {
        join(&mut a, pid, "k");
    }
    merge(&mut b, &a.take_delta());
    for pid in 1..=3 {
        update(&mut a, pid, "k", "{\"v\":2}");
    }
    let chunks = all_chunks(&a, a.answer(&id("b"), &b.clocks()), 2);
    assert_eq!(chunks.len(), 3);
    let mut diff = Diff::new();
    for first in [2, 1] {
        // Nothing blinks: three presences are listed at any time.
        b.merge(&chunks[first], &mut diff).unwrap();
        assert_eq!(b.count("t"), 3);
    }
    b.merge(&chunks[2], &mut diff).unwrap();
    assert_eq!((diff.deferred, diff.leaves.len()), (1, 0));
    assert_eq!(b.counter(&id("a")), Some(3));
    b.merge(&chunks[0], &mut diff).unwrap();
    b.merge(&chunks[2], &mut diff).unwrap();
    assert_eq!((diff.deferred, b.count("t")), (0, 3));
    assert_eq!(sorted(a.list_all()), sorted(b.list_all()));
    assert_eq!(b.counter(&id("a")), a.counter(&id("a")));
}

#[test]
fn an_answer_goes_on_whatever_changes_between_its_chunks() {
    let [mut a, mut b, mut c] = without_log();
    for pid in 1..=6 {
        join(&mut a, pid, "k");
        join(&mut c, pid, "k");
    }
    merge(&mut a, &c.take_delta());
    let mut transfer = a.answer(&id("b"), &b.clocks());
    merge(&mut b, &a.next_chunk(&mut transfer, 2).unwrap());
    leave(&mut a, 1, "k");
    leave(&mut a, 4, "k");
    update(&mut a, 5, "k", "{\"v\":2}");
    join(&mut a, 7, "k");
    // Of a replica that went meanwhile, nothing is told.
    a.remove(&id("c"));
    while let Some(chunk) = a.next_chunk(&mut transfer, 2) {
        merge(&mut b, &chunk);
    }
    assert_eq!(listed(&b, "a"), listed(&a, "a"));
    assert_eq!(b.counter(&id("a")), a.counter(&id("a")));
    assert!(listed(&b, "c").is_empty());
}

/// Between the plan and the first chunk the log has moved on.
#[test]
fn an_answer_outlives_the_log_that_it_was_planned_with() {
    let [mut a, mut b, mut c] = without_log();
    for pid in 1..=4 {
        join(&mut a, pid, "k");
    }
    let first = a.take_delta();
    merge(&mut b, &first);
    leave(&mut a, 1, "k");
    let transfer = a.answer(&id("b"), &b.clocks());
    assert!(transfer.is_incremental());
    leave(&mut a, 2, "k");
    update(&mut a, 3, "k", "{}");
    for chunk in all_chunks(&a, transfer.clone(), 10) {
        assert_eq!(merge(&mut b, &chunk), (vec![8], vec![1, 2, 3]));
    }
    assert_eq!(listed(&b, "a"), [4, 8]);
    // Whoever has not seen what the asker had seen is not to lose what it can't know the successor of.
    let chunk = a.next_chunk(&mut transfer.clone(), 10).unwrap();
    let mut diff = Diff::new();
    c.merge(&chunk, &mut diff).unwrap();
    assert_eq!((diff.deferred, diff.joins.len()), (1, 0));
}

#[test]
fn a_middle_replica_tells_what_it_has_seen_ahead() {
    let [mut a, mut b, mut c] = sets(["a", "b", "c"]);
    join(&mut a, 1, "k");
    let lost = a.take_delta();
    join(&mut a, 2, "k");
    join(&mut a, 3, "k");
    leave(&mut a, 2, "k");
    merge(&mut b, &a.take_delta());
    assert_eq!(b.counter(&id("a")), Some(0));
    let told = b.extract(&id("c"), &c.clocks());
    let claims = &said(&told)[&id("a")];
    assert_eq!(claims.dots, [2, 3, 4].into());
    assert_eq!(told.ranges().collect::<Vec<_>>(), [(&id("a"), 0)]);
    assert_eq!(merge(&mut c, &told), (vec![3], vec![]));
    assert_eq!(merge(&mut c, &lost), (vec![1], vec![]));
    assert_eq!(c.counter(&id("a")), Some(4));
}
