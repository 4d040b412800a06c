//! The built-in recordings, every one of them, and the model of disorder against them.

#![allow(clippy::unwrap_used)] // A test may panic, and so may what builds its data.

use std::collections::BTreeMap;

use conformance::vectors::{Kind, disorder, replay};

#[test]
fn all_recordings_pass() {
    let mut cases: BTreeMap<Kind, usize> = BTreeMap::new();
    for (name, text) in conformance::fixtures::vectors() {
        let verdict = replay(text).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        if let Some(failure) = verdict.failures.first() {
            panic!("{name}, {failure}: {:#?}", failure.differences);
        }
        *cases.entry(verdict.kind).or_default() += verdict.cases;
    }
    let expected = [
        (Kind::Tracker, 150),
        (Kind::TrackerRule, 50),
        (Kind::Client, 100),
        (Kind::Token, 19),
    ];
    assert_eq!(cases, BTreeMap::from(expected));
}

#[test]
fn the_naive_model_agrees_with_every_recorded_history() {
    let mut histories = 0;
    for (name, text) in conformance::fixtures::vectors() {
        if !name.starts_with("tracker") {
            continue;
        }
        let history = serde_json::from_str(text).unwrap();
        let failure = disorder::replay_model(&history).unwrap();
        assert_eq!(failure, None, "{name}");
        histories += 1;
    }
    assert_eq!(histories, 200);
}

#[test]
fn the_sets_agree_with_the_model_in_fresh_histories_of_disorder() {
    for seed in 0..4_000 {
        let history = disorder::history(seed);
        let verdict = replay(&history.to_string()).unwrap();
        assert_eq!(verdict.kind, Kind::TrackerRule);
        if let Some(failure) = verdict.failures.first() {
            let shrunk = disorder::minimal(seed).unwrap_or_default();
            panic!(
                "seed {seed}, {failure}: {:#?}\nshrunk: {shrunk}",
                failure.differences
            );
        }
    }
}
