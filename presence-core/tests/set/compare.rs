//! A set and a naive one, asked all that can be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use presence_core::clock::ReplicaId;
use presence_core::entry::Pid;
use presence_core::set::{PageCursor, Set, Status};

use crate::naive::{Known, Naive};
use crate::op::{KEYS, TOPICS};
use crate::presence::{Presence, counters, sorted};

/// An error says what differs.
pub(crate) type Outcome = Result<(), String>;

/// Both must be equal.
pub(crate) fn same<T: PartialEq + Debug>(what: &str, real: &T, expected: &T) -> Outcome {
    if real == expected {
        return Ok(());
    }
    Err(format!(
        "{what} differ\n  expected {expected:?}\n  received {real:?}"
    ))
}

pub(crate) fn holds(what: &str, truth: bool) -> Outcome {
    if truth {
        Ok(())
    } else {
        Err(format!("not true: {what}"))
    }
}

/// Everything that can be asked of a set equals what its naive twin says.
pub(crate) fn compare(set: &Set, naive: &Naive, page: usize) -> Outcome {
    let listed = naive.listed();
    same("whole lists", &sorted(set.list_all()), &listed)?;
    for topic in TOPICS {
        let mut of_topic = listed.clone();
        of_topic.retain(|presence| *presence.place.topic == *topic);
        same("lists of a topic", &sorted(set.list(topic)), &of_topic)?;
        same("counts of a topic", &set.count(topic), &of_topic.len())?;
        same("pages of a topic", &walk(set, topic, page)?, &of_topic)?;
        for key in KEYS {
            let mut of_key = of_topic.clone();
            of_key.retain(|presence| presence.place.key() == key);
            let listed = sorted(set.list_key(topic, key));
            same("lists of a key", &listed, &of_key)?;
        }
    }
    compare_own(set, naive)?;
    compare_replicas(set, naive)?;
    let all = naive.all();
    let topics: BTreeSet<_> = all.iter().map(|presence| &presence.place.topic).collect();
    let held: BTreeSet<_> = set.topics().collect();
    same("topics", &held, &topics)?;
    let counts = (set.topic_count(), set.topics().count());
    same("topic counts", &counts, &(topics.len(), topics.len()))?;
    same("lengths", &set.len(), &all.len())?;
    same("emptiness", &set.is_empty(), &all.is_empty())
}

fn compare_own(set: &Set, naive: &Naive) -> Outcome {
    let own: Vec<_> = naive.own().present.values().cloned().collect();
    let pids = own.iter().map(|presence| presence.place.pid);
    let pids: BTreeSet<u64> = pids.chain([99]).collect();
    for pid in pids {
        let mut of_pid = own.clone();
        of_pid.retain(|presence| presence.place.pid == pid);
        let listed = sorted(set.list_pid(Pid(pid)));
        same("lists of a pid", &listed, &of_pid)?;
    }
    for presence in &own {
        let place = &presence.place;
        let found = set.find(&place.topic, place.pid(), place.key());
        let found = found.map(Presence::from);
        same("what is found", &found.as_ref(), &Some(presence))?;
    }
    Ok(())
}

fn status(known: &Known) -> Status {
    if known.down { Status::Down } else { Status::Up }
}

fn compare_replicas(set: &Set, naive: &Naive) -> Outcome {
    let replicas: Vec<_> = set.replicas().collect();
    let known = naive.known.iter().map(|(id, known)| (id, status(known)));
    same("replicas", &replicas, &known.collect())?;
    let up = naive.known.iter().filter(|(_, known)| !known.down);
    let clocks: BTreeMap<_, _> = up.map(|(id, k)| (id.clone(), k.context())).collect();
    same("clocks", &counters(&set.clocks()), &clocks)?;
    for (id, known) in &naive.known {
        same("a status", &set.status(id), &Some(status(known)))?;
        let context = known.context();
        same("a counter", &set.counter(id), &Some(context))?;
        let mut ahead = known.seen.clone();
        ahead.retain(|dot| *dot > context && !known.present.contains_key(dot));
        same("clouds", &cloud_of(set, id), &Some(ahead))?;
        let entries: Vec<_> = set.entries_of(id).map(Presence::from).collect();
        let present: Vec<_> = known.present.values().cloned().collect();
        same("entries of a replica", &entries, &present)?;
        same("their count", &set.count_of(id), &present.len())?;
    }
    Ok(())
}

fn cloud_of(set: &Set, id: &ReplicaId) -> Option<BTreeSet<u64>> {
    let intervals = set.cloud(id)?.intervals().iter();
    Some(intervals.flat_map(|i| i.first..=i.last).collect())
}

/// Nothing is known of a replica that is unknown.
pub(crate) fn compare_unknown(set: &Set, id: &ReplicaId) -> Outcome {
    same("a status", &set.status(id), &None)?;
    same("a counter", &set.counter(id), &None)?;
    same("clouds", &cloud_of(set, id), &None)?;
    same("entries", &set.entries_of(id).count(), &0)
}

/// Where a set has seen everything of a replica up to, if it has seen nothing beyond.
fn settled(set: &Set, id: &ReplicaId) -> Option<u64> {
    let context = set.counter(id)?;
    let last = set.entries_of(id).last().map_or(0, |entry| entry.counter);
    let ahead = last.max(set.cloud(id)?.last().unwrap_or(0));
    (ahead <= context).then_some(context)
}

/// Whoever has seen as much of a replica as another, and nothing ahead, holds the same of it.
pub(crate) fn agree(one: &Set, two: &Set, id: &ReplicaId) -> Outcome {
    if settled(one, id).is_none() || settled(one, id) != settled(two, id) {
        return Ok(());
    }
    let [one, two] = [one, two].map(|set| sorted(set.entries_of(id)));
    same("entries under equal contexts", &one, &two)
}

/// The whole of a topic, page by page.
fn walk(set: &Set, topic: &str, size: usize) -> Result<Vec<Presence>, String> {
    let mut all = Vec::new();
    let mut cursor: Option<PageCursor> = None;
    loop {
        let page = set.page(topic, cursor, size);
        holds("a page is within its limit", page.entries.len() <= size)?;
        let full = page.entries.len() == size;
        all.extend(page.entries.into_iter().map(Presence::from));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        holds("only the last page is short", full)?;
    }
    all.sort();
    Ok(all)
}
