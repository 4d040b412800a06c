//! A recorded case in which one expected value was changed fails at that step, and says how.

#![allow(clippy::unwrap_used)] // A test may panic, and so may what builds its data.

mod common;

use common::{folder, recorded, told};
use conformance::vectors::replay;
use serde_json::{Value, json};

/// Changes the first step of the recording that `is_it` picks; its number and the case.
fn changed(
    name: &str,
    is_it: impl Fn(&Value) -> bool,
    change: impl Fn(&mut Value),
) -> (usize, String) {
    let mut case = recorded(name);
    let steps = case["steps"].as_array_mut().unwrap();
    let at = steps.iter().position(is_it).expect("there is such a step");
    change(&mut steps[at]);
    (at + 1, case.to_string())
}

fn op<'a>(name: &'a str, filled: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |step| step["op"] == name && step[filled].as_array().is_some_and(|list| !list.is_empty())
}

/// Replays each case, asserts that it fails at its step alone, and returns what is printed of all.
fn printed(name: &str, cases: Vec<(&str, (usize, String))>) -> String {
    for (name, (number, case)) in &cases {
        let verdict = replay(case).unwrap();
        let failed: Vec<usize> = verdict.failures.iter().map(|case| case.number).collect();
        assert_eq!(failed, [*number], "{name}");
    }
    let files: Vec<_> = cases
        .into_iter()
        .map(|(name, (_, case))| (name, case))
        .collect();
    let folder = folder(name, &files);
    let (code, out) = told(&folder, &["vectors", "."]);
    assert_eq!(code, 1, "{out}");
    assert_eq!(out.matches("FAIL ").count(), files.len());
    out
}

#[test]
fn of_a_history_every_kind_of_step_that_tells_something() {
    let history = "tracker/seed-1.json";
    let drop_one = |list: &'static str| {
        move |step: &mut Value| drop(step[list].as_array_mut().unwrap().remove(0))
    };
    let cases = vec![
        (
            "check-clocks.json",
            changed(
                history,
                |step| step["op"] == "check",
                |step| {
                    let clock = step["clocks"]["a"].as_u64().unwrap();
                    step["clocks"]["a"] = json!(clock + 1);
                },
            ),
        ),
        (
            "check-online.json",
            changed(history, op("check", "online"), |step| {
                step["online"][0][3] = json!({"v": "another meta"});
            }),
        ),
        (
            "down.json",
            changed(history, op("down", "leaves"), drop_one("leaves")),
        ),
        (
            "merge-joins.json",
            changed(history, op("merge", "joins"), |step| {
                step["joins"][0][4][1] = json!(99);
            }),
        ),
        (
            "merge-joins-nothing.json",
            changed(
                history,
                |step| step["op"] == "merge" && step["joins"] == json!([]),
                |step| step["joins"] = json!([["t1", "a1", "k1", {"v": 1}, ["a", 1]]]),
            ),
        ),
        (
            "merge-leaves.json",
            changed(history, op("merge", "leaves"), drop_one("leaves")),
        ),
        (
            "refused.json",
            changed(
                history,
                |step| step["op"] == "update",
                |step| {
                    step["topic"] = json!("another topic");
                },
            ),
        ),
        (
            "up.json",
            changed(history, op("up", "joins"), |step| {
                step["joins"][0][1] = json!("another pid");
            }),
        ),
    ];
    insta::assert_snapshot!(printed("failing-histories", cases));
}

#[test]
fn of_a_series_its_calls_its_state_and_whether_a_state_is_awaited() {
    // It rejoins, and it has leaves.
    let series = "client/seed-2.json";
    let calls = |step: &Value, kind: &str| {
        let calls = step["calls"].as_array().unwrap();
        calls.iter().position(|call| call["call"] == kind)
    };
    let has = |kind: &'static str| move |step: &Value| calls(step, kind).is_some();
    let cases = vec![
        (
            "join.json",
            changed(series, has("join"), |step| {
                let at = calls(step, "join").unwrap();
                step["calls"][at]["presence"]["metas"][0]["v"] = json!(-1);
            }),
        ),
        (
            "leave.json",
            changed(series, has("leave"), |step| {
                let at = calls(step, "leave").unwrap();
                step["calls"][at]["key"] = json!("nobody");
            }),
        ),
        (
            "order.json",
            changed(series, has("leave"), |step| {
                step["calls"].as_array_mut().unwrap().reverse();
            }),
        ),
        (
            "pending.json",
            changed(
                series,
                |step| step["event"] == "rejoin",
                |step| step["pending"] = json!(false),
            ),
        ),
        (
            "state.json",
            changed(series, has("join"), |step| {
                step["state"] = json!({"nobody": {"metas": []}});
            }),
        ),
        (
            "sync.json",
            changed(series, has("sync"), |step| step["calls"] = json!([])),
        ),
    ];
    insta::assert_snapshot!(printed("failing-series", cases));
}

#[test]
fn of_token_cases_each_verdict() {
    let mut file = recorded("token.json");
    let cases = file["cases"].as_array_mut().unwrap();
    let mut expect = |name: &str, verdict: Value| {
        let at = cases.iter().position(|case| case["case"] == name).unwrap();
        cases[at]["expect"] = verdict;
        at + 1
    };
    let numbers = [
        expect("integer id", json!({"ok": 43})),
        expect(
            "map with atom keys",
            json!({"ok": {"id": 7, "name": "Zoe"}}),
        ),
        expect("expired", json!({"error": "invalid"})),
        expect("other salt", json!({"ok": 42})),
    ];
    let verdict = replay(&file.to_string()).unwrap();
    let failed: Vec<usize> = verdict.failures.iter().map(|case| case.number).collect();
    assert_eq!(verdict.cases, 19);
    assert_eq!(failed, numbers);
    let folder = folder("failing-tokens", &[("token.json", file.to_string())]);
    let (code, out) = told(&folder, &["vectors", "token.json"]);
    assert_eq!(code, 1);
    insta::assert_snapshot!(out);
}

#[test]
fn a_value_that_is_only_spelled_otherwise_passes() {
    let mut file = recorded("token.json");
    let cases = file["cases"].as_array_mut().unwrap();
    for case in cases {
        if case["expect"] == json!({"ok": 42}) {
            case["expect"]["ok"] = serde_json::from_str("4.20e+1").unwrap();
        }
    }
    let text = file.to_string();
    assert!(text.contains("4.20e+1"));
    assert_eq!(replay(&text).unwrap().failures, []);
}

/// The lists of a history are sets.
#[test]
fn a_presence_that_is_expected_twice_is_expected_once() {
    let (_, case) = changed("tracker/seed-1.json", op("merge", "leaves"), |step| {
        let again = step["leaves"][0].clone();
        step["leaves"].as_array_mut().unwrap().push(again);
    });
    assert_eq!(replay(&case).unwrap().failures, []);
}
