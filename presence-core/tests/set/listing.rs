//! Lists, pages and what a set holds, at sizes that random histories do not reach.

use std::collections::BTreeSet;

use presence_core::entry::{Key, Pid};
use presence_core::set::{Diff, Limits, Set};

use crate::compare::compare;
use crate::naive::Naive;
use crate::op::{KEYS, TOPICS};
use crate::presence::{Place, Presence, id, join, leave, listed, merge, said, sets, topic};

#[test]
fn a_topic_is_listed_page_by_page() {
    let [mut a, _] = sets(["a", "b"]);
    for pid in 0..10 {
        join(&mut a, pid, "k");
    }
    let mut cursor = None;
    let mut pages = Vec::new();
    loop {
        let page = a.page("t", cursor, 4);
        pages.push(
            page.entries
                .iter()
                .map(|entry| entry.pid.0)
                .collect::<Vec<_>>(),
        );
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let sizes: Vec<usize> = pages.iter().map(Vec::len).collect();
    assert_eq!(sizes, [4, 4, 2]);
    assert_eq!(
        pages.concat().into_iter().collect::<BTreeSet<_>>(),
        (0..10).collect()
    );
    assert!(a.page("t", None, 10).next.is_none());
    assert!(a.page("t", None, 9).next.is_some());
    let none = a.page("nothing", None, 5);
    assert!(none.entries.is_empty() && none.next.is_none());
}

#[test]
fn a_walk_through_pages_misses_no_entry_that_is_listed_throughout() {
    for leaving in 0..12_u64 {
        for size in 1..5 {
            let [mut a, _] = sets(["a", "b"]);
            for pid in 0..12 {
                join(&mut a, pid, "k");
            }
            let first = a.page("t", None, size);
            let mut seen: BTreeSet<u64> = first.entries.iter().map(|entry| entry.pid.0).collect();
            let mut cursor = first.next;
            leave(&mut a, leaving, "k");
            leave(&mut a, (leaving + 5) % 12, "k");
            join(&mut a, 99, "k");
            while cursor.is_some() {
                let page = a.page("t", cursor, size);
                seen.extend(page.entries.iter().map(|entry| entry.pid.0));
                cursor = page.next;
            }
            for pid in (0..12).filter(|pid| ![leaving, (leaving + 5) % 12].contains(pid)) {
                assert!(
                    seen.contains(&pid),
                    "{pid} while {leaving} left, pages of {size}"
                );
            }
        }
    }
}

#[test]
fn a_page_cursor_outlives_its_topic() {
    let [mut a, _] = sets(["a", "b"]);
    for pid in 0..10 {
        join(&mut a, pid, "k");
    }
    let cursor = a.page("t", None, 2).next;
    for pid in 0..9 {
        leave(&mut a, pid, "k");
    }
    let page = a.page("t", cursor, 2);
    assert_eq!(page.entries.len(), 1);
    assert!(page.next.is_none());
}

#[test]
fn pages_pass_over_who_is_down() {
    let [mut a, mut b] = sets(["a", "b"]);
    for pid in 0..3 {
        join(&mut a, pid, "k");
        join(&mut b, pid, "k");
        merge(&mut b, &a.take_delta());
    }
    b.down(&id("a"));
    let page = b.page("t", None, 2);
    assert!(page.entries.iter().all(|entry| *entry.replica == id("b")));
    assert_eq!(page.entries.len(), 2);
    let rest = b.page("t", page.next, 2);
    assert_eq!(rest.entries.len(), 1);
}

#[test]
fn a_merge_names_the_entries_that_joined() {
    let [mut a, mut b] = sets(["a", "b"]);
    a.join(&topic("t"), Pid(1), Key::Integer("7"), "{\"v\":1}")
        .unwrap();
    let mut diff = Diff::new();
    b.merge(&a.take_delta(), &mut diff).unwrap();
    let entry = b.entry(diff.joins[0]);
    assert_eq!(
        (&**entry.topic, entry.pid, entry.key),
        ("t", Pid(1), Key::Integer("7"))
    );
    assert_eq!(
        (entry.meta, entry.dot()),
        ("{\"v\":1}", presence_core::clock::Dot::new(id("a"), 1))
    );
}

/// A set and a naive one that take the same local steps, and one that hears of them.
struct Many {
    set: Set,
    naive: Naive,
    far: Set,
    far_naive: Naive,
}

impl Many {
    fn new() -> Self {
        let limits = Limits::default();
        let [set, far] = sets(["a", "b"]);
        let mut naive = Naive::new(id("a"), limits.removal_log, limits.observed);
        let mut far_naive = Naive::new(id("b"), limits.removal_log, limits.observed);
        naive.up(&id("b"));
        far_naive.up(&id("a"));
        Self {
            set,
            naive,
            far,
            far_naive,
        }
    }

    fn place(n: u64) -> Place {
        let topics = TOPICS.len() as u64;
        let keys = KEYS.len() as u64;
        let key = KEYS[(n / topics % keys) as usize];
        Place::new(TOPICS[(n % topics) as usize], n / 4, key)
    }

    fn join(&mut self, n: u64) {
        let place = Self::place(n);
        let meta = format!("{{\"n\":{n}}}");
        let handle = self
            .set
            .join(&place.topic, place.pid(), place.key(), &meta)
            .unwrap();
        let expected = self.naive.join(&place, &meta);
        assert_eq!(Some(Presence::from(self.set.entry(handle))), expected);
    }

    fn leave(&mut self, n: u64) {
        let place = Self::place(n);
        let left = self.set.leave(&place.topic, place.pid(), place.key());
        assert_eq!(left.as_ref().map(Presence::from), self.naive.leave(&place));
    }

    fn tell(&mut self) {
        let (delta, expected) = (self.set.take_delta(), self.naive.take_delta());
        assert_eq!(said(&delta), expected);
        self.far.merge(&delta, &mut Diff::new()).unwrap();
        self.far_naive.merge(&expected);
        self.far.compact();
        compare(&self.set, &self.naive, 100).unwrap();
        compare(&self.far, &self.far_naive, 100).unwrap();
    }
}

#[test]
fn a_set_that_shrinks_to_a_remainder_goes_on_as_before() {
    const ALL: u64 = 1100;
    let mut many = Many::new();
    (0..ALL).for_each(|n| many.join(n));
    many.tell();
    // What remains is spread over the whole, in every topic, key and crowd.
    (0..ALL).filter(|n| n % 11 != 3).for_each(|n| many.leave(n));
    many.tell();
    assert_eq!(many.set.len(), 100);
    // Compacted, it still finds, lists, leaves, updates and joins.
    for n in (0..ALL).filter(|n| n % 22 == 3) {
        many.leave(n);
    }
    for n in (0..ALL).filter(|n| n % 22 == 14) {
        let place = Many::place(n);
        let (left, handle) = many
            .set
            .update(&place.topic, place.pid(), place.key(), "{}")
            .unwrap();
        let pair = (
            Presence::from(&left),
            Presence::from(many.set.entry(handle)),
        );
        assert_eq!(Some(pair), many.naive.update(&place, "{}"));
    }
    (0..200).filter(|n| n % 11 != 3).for_each(|n| many.join(n));
    many.tell();
    let pids: BTreeSet<u64> = many.set.list_all().map(|entry| entry.pid.0).collect();
    for pid in pids {
        for left in many.set.leave_pid(Pid(pid)) {
            let left = Presence::from(&left);
            assert_eq!(Some(&left), many.naive.leave(&left.place).as_ref());
        }
    }
    many.tell();
    assert!(many.set.is_empty() && many.far.is_empty());
    assert_eq!((many.set.topic_count(), many.far.topic_count()), (0, 0));
}

#[test]
fn a_key_that_many_processes_share_loses_the_one_that_leaves() {
    let [mut a, mut b] = sets(["a", "b"]);
    for pid in 0..100 {
        join(&mut a, pid, "k");
        join(&mut b, pid, "k");
    }
    merge(&mut b, &a.take_delta());
    for pid in (0..100).filter(|pid| pid % 3 == 0) {
        let again = a.join(&topic("t"), Pid(pid), "k".into(), "{}");
        assert!(again.is_err(), "tracked already");
        leave(&mut a, pid, "k");
    }
    merge(&mut b, &a.take_delta());
    let expected: Vec<u64> = (0..100)
        .filter(|pid| pid % 3 != 0)
        .map(|pid| pid + 1)
        .collect();
    assert_eq!(listed(&b, "a"), expected);
    assert_eq!(listed(&b, "b").len(), 100);
    assert_eq!(b.list_key("t", "k".into()).count(), 166);
    // Down to one, and up again.
    for pid in (0..100).filter(|pid| *pid != 98) {
        a.leave("t", Pid(pid), "k".into());
        leave(&mut b, pid, "k");
    }
    assert_eq!((listed(&a, "a"), listed(&b, "b")), (vec![99], vec![99]));
    for pid in 0..50 {
        join(&mut a, pid, "k");
    }
    assert_eq!(a.list_key("t", "k".into()).count(), 51);
    assert_eq!(a.list_pid(Pid(7)).count(), 1);
}

#[test]
fn many_topics_come_and_go() {
    let [mut a, mut b] = sets(["a", "b"]);
    let name = |n: u64| topic(&format!("topic {n}"));
    for n in 0..2000 {
        a.join(&name(n), Pid(n % 50), "k".into(), "{}").unwrap();
    }
    merge(&mut b, &a.take_delta());
    assert_eq!((a.topic_count(), b.topic_count()), (2000, 2000));
    for n in (0..2000).filter(|n| n % 100 != 7) {
        a.leave(&name(n), Pid(n % 50), "k".into()).unwrap();
    }
    merge(&mut b, &a.take_delta());
    b.take_delta();
    b.compact();
    for set in [&a, &b] {
        assert_eq!(
            (set.topic_count(), set.topics().count(), set.len()),
            (20, 20, 20)
        );
        for n in 0..2000 {
            assert_eq!(set.count(&name(n)), usize::from(n % 100 == 7));
        }
    }
    for n in 0..100 {
        a.join(&name(n), Pid(77), "k".into(), "{}").unwrap();
    }
    merge(&mut b, &a.take_delta());
    for set in [&a, &b] {
        assert_eq!(set.topic_count(), 119);
        assert_eq!(set.count(&name(7)), 2);
        assert_eq!(set.list_key(&name(8), "k".into()).count(), 1);
    }
    assert_eq!(a.list_pid(Pid(77)).count(), 100);
}

/// So large that what a merge touches is read ahead, and more leaves than are read ahead at once.
#[test]
fn a_merge_into_a_large_set_takes_out_what_left_and_nothing_else() {
    let [mut a, mut b] = sets(["a", "b"]);
    let name = |pid: u64| topic(&format!("topic {}", pid % 70));
    for pid in 0..5000 {
        let key = format!("key {}", pid % 1900);
        a.join(&name(pid), Pid(pid), (&*key).into(), "{}").unwrap();
    }
    merge(&mut b, &a.take_delta());
    let leaving: Vec<u64> = (0..5000).filter(|pid| pid % 13 == 5).collect();
    assert!(leaving.len() > 300);
    for &pid in &leaving {
        assert_eq!(a.leave_pid(Pid(pid)).len(), 1);
    }
    for pid in 6000..6200 {
        a.join(&name(pid), Pid(pid), "".into(), "").unwrap();
    }
    let (joins, leaves) = merge(&mut b, &a.take_delta());
    assert_eq!((joins.len(), leaves.len()), (200, leaving.len()));
    let gone = |pid: &u64| leaving.binary_search(pid).is_err();
    let expected: BTreeSet<u64> = (0..5000).filter(gone).chain(6000..6200).collect();
    for set in [&a, &b] {
        let pids: Vec<u64> = set.list_all().map(|entry| entry.pid.0).collect();
        assert_eq!(pids.len(), expected.len());
        assert_eq!(pids.into_iter().collect::<BTreeSet<_>>(), expected);
        let in_topic = set.list("topic 5").count();
        assert_eq!(
            in_topic,
            expected.iter().filter(|pid| **pid % 70 == 5).count()
        );
    }
}
