use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::super::tracker::history::Told;
use super::super::super::tracker::run;
use super::super::model::Fault;
use super::*;

/// Who tracks what at the end, from the operations alone.
fn truth(history: &History) -> BTreeSet<String> {
    let mut tracked = BTreeMap::new();
    for Step { at, op, .. } in &history.steps {
        match op {
            Op::Join { place, meta } | Op::Update { place, meta } => {
                tracked.insert((at, place.clone()), meta);
            }
            Op::Leave { place } => drop(tracked.remove(&(at, place.clone()))),
            Op::LeavePid { pid } => {
                tracked.retain(|(of, place), _| *of != at || place.pid != *pid);
            }
            _ => {}
        }
    }
    tracked
        .into_iter()
        .map(|((_, Place { topic, pid, key }), meta)| json!([topic, pid, key, meta]).to_string())
        .collect()
}

#[test]
fn every_history_heals_to_what_its_replicas_track() {
    for seed in 0..2_000 {
        let history = generate(seed);
        let truth = truth(&history);
        let count = history.replicas.len();
        let checks = &history.steps[history.steps.len() - count..];
        let mut clocks_agreed = None;
        for Step { op, told, .. } in checks {
            assert_eq!(*op, Op::Check);
            let Told::Listed { online, clocks } = told else {
                panic!("a check lists")
            };
            let online: BTreeSet<String> = online
                .iter()
                .map(|presence| Value::from(&presence.as_array().unwrap()[..4]).to_string())
                .collect();
            assert_eq!(online, truth, "seed {seed}");
            let clocks = clocks.clone();
            assert_eq!(*clocks_agreed.get_or_insert(clocks.clone()), clocks);
        }
    }
}

#[test]
fn a_seed_always_gives_the_same_history() {
    for seed in 0..20 {
        assert_eq!(generate(seed).to_json(), generate(seed).to_json());
    }
    assert_ne!(generate(0).to_json(), generate(1).to_json());
}

#[test]
fn a_history_can_be_read_back() {
    for seed in 0..200 {
        let json = generate(seed).to_json();
        assert_eq!(History::read(&json).unwrap().to_json(), json, "seed {seed}");
    }
}

/// Histories in which nothing goes wrong would prove nothing.
#[test]
fn every_kind_of_disorder_comes_up() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut count = |what, seen: bool| *counts.entry(what).or_default() += usize::from(seen);
    for seed in 0..300 {
        let history = generate(seed);
        let mut taken: BTreeMap<&str, (usize, BTreeSet<&str>)> = BTreeMap::new();
        let mut newest: BTreeMap<&str, usize> = BTreeMap::new();
        let mut removed = BTreeSet::new();
        for (number, Step { at, op, told }) in history.steps.iter().enumerate() {
            match op {
                Op::Delta { name } | Op::Extract { name, .. } => {
                    taken.insert(name, (number, BTreeSet::new()));
                }
                Op::Merge { of } => {
                    let (when, by) = taken.get_mut(of.as_str()).unwrap();
                    let last = newest.entry(at).or_default();
                    count("repeated", !by.insert(at));
                    count("out of order", *when < *last);
                    count("late", number - *when > 30);
                    *last = (*last).max(*when);
                    let Told::Diff { joins, leaves } = told else {
                        panic!("a merge tells a diff")
                    };
                    let place = |entry: &Value| entry.as_array().unwrap()[..3].to_vec();
                    let swapped = leaves
                        .iter()
                        .any(|left| joins.iter().any(|joined| place(left) == place(joined)));
                    count("swapped", swapped);
                }
                Op::Down { .. } => count("down", true),
                Op::Remove { replica } => {
                    count("removed", true);
                    removed.insert((at, replica));
                }
                Op::Up { replica } => count("admitted again", removed.contains(&(at, replica))),
                _ => {}
            }
        }
        for (_, by) in taken.values() {
            count("lost", by.is_empty());
        }
    }
    for (what, seen) in &counts {
        assert!(*seen >= 100, "{what}: {seen} of {counts:?}");
    }
    assert_eq!(counts.len(), 8);
}

#[test]
fn a_faulty_set_is_found_out_within_a_few_histories() {
    for fault in [
        Fault::ForgetsLeftAhead,
        Fault::LaterArrivalWins,
        Fault::SilentSupersede,
        Fault::ForgetsSuperseded,
        Fault::RemembersRemoved,
        Fault::MergesOwn,
        Fault::KeepsLeavesToItself,
    ] {
        let found = (0..500).filter(|&seed| {
            let history = generate(seed);
            run(&history, &mut Model::with_fault(&history.replicas, fault)).is_some()
        });
        let found = found.count();
        println!("{fault:?}: {found} of 500");
        assert!(found >= 5, "{fault:?}: {found} of 500 histories");
    }
}
