//! The command: its exit codes, what it passes over, and what it says of input it can't read.

#![allow(clippy::unwrap_used)] // A test may panic, and so may what builds its data.

mod common;

use std::path::Path;

use common::{folder, recorded, recording, run, told};
use serde_json::{Value, json};

/// A recording whose step, or case, of that number is changed.
fn damaged(name: &str, list: &str, number: usize, change: Box<dyn FnOnce(&mut Value)>) -> String {
    let mut case = recorded(name);
    change(&mut case[list][number - 1]);
    case.to_string()
}

fn without(member: &'static str) -> Box<dyn FnOnce(&mut Value)> {
    Box::new(move |step| drop(step.as_object_mut().unwrap().remove(member)))
}

fn with(member: &'static str, value: Value) -> Box<dyn FnOnce(&mut Value)> {
    Box::new(move |step| step[member] = value)
}

/// The number of the first step of that operation.
fn first(op: &str) -> usize {
    let case = recorded("tracker/seed-1.json");
    let steps = case["steps"].as_array().unwrap();
    1 + steps.iter().position(|step| step["op"] == op).unwrap()
}

#[test]
fn the_built_in_recordings_pass_from_anywhere() {
    let folder = folder("anywhere", &[("empty", String::new())]);
    let (code, out) = told(&folder, &["vectors"]);
    assert_eq!(code, 0);
    assert_eq!(
        out,
        "319 cases passed: 150 tracker, 50 tracker-rule, 100 client, 19 token\n"
    );
}

#[test]
fn a_folder_may_hold_other_files_which_are_passed_over() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let (code, out) = told(&fixtures, &["vectors", "."]);
    assert_eq!(code, 0);
    insta::assert_snapshot!(out);
}

/// Each is named with the place of the fault; the sound file beside them is replayed all the same.
#[test]
fn unreadable_files_are_named_and_give_code_2() {
    let short = json!([["t1", "a1"]]);
    let negative = json!([["t1", "a1", "k1", {}, ["a", -1]]]);
    let history = [
        ("up", "at-missing", without("at")),
        ("up", "at-unknown", with("at", json!("nobody"))),
        ("up", "op-unknown", with("op", json!("jump"))),
        ("up", "op-no-text", with("op", json!(5))),
        ("merge", "of-unknown", with("of", json!("m999"))),
        ("merge", "joins-missing", without("joins")),
        ("merge", "leaves-short", with("leaves", short)),
        ("merge", "dot-wrong", with("joins", negative)),
        ("leave", "pid-unknown", with("pid", json!("b99"))),
        ("leave_pid", "pid-unknown", with("pid", json!("b99"))),
        ("update", "meta-missing", without("meta")),
        (
            "extract",
            "context-unknown",
            with("context", json!({"z": 1})),
        ),
        (
            "extract",
            "context-wrong",
            with("context", json!({"a": "1"})),
        ),
        ("check", "clocks-missing", without("clocks")),
        ("down", "replica-unknown", with("replica", json!("z"))),
    ];
    let series = [
        ("calls-missing", without("calls")),
        ("event", with("event", json!("shout"))),
        ("payload", with("payload", json!({"joins": []}))),
        ("pending", with("pending", json!("no"))),
    ];
    let tokens = [
        ("now", with("now", json!(1.5))),
        ("far", with("now", json!(i64::MAX))),
        ("verdict", with("expect", json!({"error": "late"}))),
    ];
    let mut files: Vec<(String, String)> = Vec::new();
    for (op, name, change) in history {
        let text = damaged("tracker/seed-1.json", "steps", first(op), change);
        files.push((format!("history-{op}-{name}.json"), text));
    }
    for (name, change) in series {
        let text = damaged("client/seed-1.json", "steps", 2, change);
        files.push((format!("client-{name}.json"), text));
    }
    for (name, change) in tokens {
        let text = damaged("token.json", "cases", 4, change);
        files.push((format!("token-{name}.json"), text));
    }
    for (name, text) in [
        ("cut-off.json", "{\"replicas\":[\"a\"],\"ste"),
        ("deep.json", &"[".repeat(1_000)),
        ("empty.json", ""),
        ("no-steps.json", r#"{"replicas":["a"],"steps":[]}"#),
        ("other.json", r#"{"name":"a package"}"#),
        ("twice.json", r#"{"replicas":["a","a"],"steps":[]}"#),
        ("sound.json", &recorded("client/seed-1.json").to_string()),
    ] {
        files.push((name.to_owned(), text.to_owned()));
    }
    let files: Vec<(&str, String)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.clone()))
        .collect();
    let folder = folder("unreadable", &files);
    std::fs::write(folder.join("bytes.json"), b"{\"a\":\"\xff\"}").unwrap();
    let (code, out) = told(&folder, &["vectors", "."]);
    assert_eq!(code, 2);
    assert_eq!(out.matches("UNREADABLE ").count(), files.len());
    insta::assert_snapshot!(out);
    for (name, _) in files.iter().filter(|(name, _)| *name != "sound.json") {
        let (code, out) = told(&folder, &["vectors", "--quiet", name]);
        assert_eq!(code, 2, "{name}");
        assert!(out.contains(&format!("UNREADABLE {name}: ")), "{out}");
    }
}

#[test]
fn what_was_named_must_be_there_and_hold_a_case() {
    let wire = conformance::fixtures::ALL
        .iter()
        .find(|(name, _)| name.starts_with("wire/"));
    let folder = folder(
        "no-cases",
        &[
            ("page/README.md", "# A page\n".to_owned()),
            ("wire/case.jsonl", wire.unwrap().1.to_owned()),
            ("notes.md", "# Notes\n".to_owned()),
        ],
    );
    let mut all = String::new();
    for path in ["nowhere", "page", "wire", "wire/case.jsonl", "notes.md"] {
        let (code, out) = told(&folder, &["vectors", path]);
        assert_eq!(code, 2, "{path}: {out}");
        all.push_str(&format!("$ conformance vectors {path}\n{out}\n"));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_file_that_cant_be_read_outweighs_a_case_that_fails() {
    let failing = damaged(
        "client/seed-1.json",
        "steps",
        1,
        with("pending", json!(true)),
    );
    let folder = folder("both", &[("a.json", "{".to_owned()), ("b.json", failing)]);
    assert_eq!(told(&folder, &["vectors", "b.json"]).0, 1);
    let (code, out) = told(&folder, &["vectors", "."]);
    assert_eq!(code, 2);
    assert!(out.contains("FAIL ./b.json, step 1: "), "{out}");
    let (code, out) = told(&folder, &["vectors", "--quiet", "."]);
    assert_eq!(code, 2);
    assert!(!out.contains("FAIL"), "{out}");
    assert!(
        out.ends_with("1 of 1 case failed: 1 of 1 client; 1 unreadable\n"),
        "{out}"
    );
}

#[test]
fn files_come_in_order_and_listing_replays_nothing() {
    let failing = damaged(
        "client/seed-1.json",
        "steps",
        1,
        with("pending", json!(true)),
    );
    let names: Vec<String> = (1..=40).rev().map(|n| format!("seed-{n}.json")).collect();
    let files: Vec<(&str, String)> = names
        .iter()
        .map(|name| (name.as_str(), failing.clone()))
        .collect();
    let folder = folder("ordered", &files);
    let (code, out) = told(&folder, &["vectors", "."]);
    assert_eq!(code, 1);
    let failed = out.lines().filter_map(|line| line.strip_prefix("FAIL ./"));
    let failed: Vec<&str> = failed.filter_map(|line| line.split(',').next()).collect();
    assert!(failed.iter().eq(names.iter().rev()), "{failed:?}");
    let (code, out) = told(&folder, &["vectors", "--list", "."]);
    assert_eq!((code, out.lines().count()), (0, 40));
    assert_eq!(out.lines().next(), Some("client       ./seed-1.json"));
}

#[test]
fn a_fresh_history_is_written_and_passes_as_a_vector() {
    let folder = folder("fresh", &[("empty", String::new())]);
    let args = ["disorder", "--seeds", "7..12", "--out", "made"];
    assert_eq!(
        told(&folder, &args),
        (0, "5 cases passed: 5 tracker-rule\n".to_owned())
    );
    let made = std::fs::read_to_string(folder.join("made/disorder-7.json")).unwrap();
    let history = conformance::vectors::disorder::history(7);
    assert_eq!(made, history.to_string());
    let (code, out) = told(&folder, &["vectors", "made"]);
    assert_eq!(
        (code, out.as_str()),
        (0, "5 cases passed: 5 tracker-rule\n")
    );
    let args = [
        "disorder",
        "--seeds",
        "7..12",
        "--out",
        "made/disorder-7.json",
    ];
    let output = run(&folder, &args);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("made/disorder-7.json"), "{said}");
}

/// Each is named with its line; what is no cluster case is passed over in a folder.
#[test]
fn a_cluster_case_that_cant_be_read_is_named_with_its_line() {
    let text = recording("cluster/netsplit-short.jsonl");
    let changes = [
        ("action", "\"cut\"", "\"split\""),
        ("client", "\"frames\"", "\"frame\""),
        ("node", "\"node\":\"n2\"", "\"node\":\"n9\""),
        (
            "pair",
            "[\"n1\",\"n2\"]},\"wait\":\"before",
            "[\"n1\"]},\"wait\":\"before",
        ),
        ("presence", "\"joins\"", "\"join\""),
        ("settings", "\"down_period\"", "\"downtime\""),
        ("wait", "before-down", "a while"),
    ];
    let mut files = vec![(
        "wire.jsonl".to_owned(),
        recording("wire/heartbeat.jsonl").to_owned(),
    )];
    for (name, sound, spoilt) in changes {
        assert!(text.contains(sound), "{sound}");
        files.push((format!("{name}.jsonl"), text.replacen(sound, spoilt, 1)));
    }
    let files: Vec<(&str, String)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.clone()))
        .collect();
    let folder = folder("cluster-unreadable", &files);
    let (code, out) = told(&folder, &["cluster", "."]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(out);
    let (code, out) = told(&folder, &["cluster", "wire.jsonl", "nowhere.jsonl"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(out);
}

#[test]
fn a_cluster_case_that_fails_is_told_by_step_and_client() {
    let text = recording("cluster/disconnect-across.jsonl");
    let lines: Vec<&str> = text.lines().take(2).collect();
    let text = lines
        .join("\n")
        .replace("\"broadcast_period\":100", "\"broadcast_period\":20");
    let failing = text.replace("\"opened\":true", "\"opened\":false");
    let folder = folder("cluster", &[("a.jsonl", text), ("b.jsonl", failing)]);
    assert_eq!(
        told(&folder, &["cluster", "a.jsonl"]),
        (0, "ok   disconnect-across\n1 case passed\n".to_owned())
    );
    let (code, out) = told(&folder, &["cluster", "--jobs", "1", "."]);
    assert_eq!(code, 1);
    insta::assert_snapshot!(out);
}

#[test]
fn wrong_arguments_give_code_2() {
    let folder = folder("arguments", &[("empty", String::new())]);
    for args in [
        &[][..],
        &["vector"],
        &["disorder"],
        &["disorder", "--seeds", "5"],
        &["cluster", "--jobs", "0"],
    ] {
        let output = run(&folder, args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn help_tells_the_exit_codes() {
    let folder = folder("help", &[("empty", String::new())]);
    for command in ["vectors", "disorder", "replay", "cluster"] {
        let (code, out) = told(&folder, &[command, "--help"]);
        assert_eq!(code, 0);
        assert!(out.contains("Exit code: 0 if"), "{out}");
    }
}
