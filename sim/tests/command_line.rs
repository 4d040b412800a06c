//! What the commands say, and how they exit, in both tiers where they run something.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

const TIERS: [&str; 2] = ["core", "full"];

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(args)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{out}{err}")
}

#[track_caller]
fn exits(args: &[&str], code: i32, with: &[&str]) {
    let output = sim(args);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    for part in with {
        assert!(
            said.contains(part),
            "{args:?} does not say {part:?}: {said}"
        );
    }
}

/// A file of this test's own.
fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn a_run_without_a_word_names_its_seed() {
    let says = ["seed ", "cluster", "agreed", "All held.", "run --seed "];
    exits(&[], 0, &[&says[..], &["client"]].concat());
    let repeats = ["--tier core"];
    exits(&["--tier", "core"], 0, &[&says[..], &repeats].concat());
}

#[test]
fn wrong_usage_exits_with_2_and_a_sentence() {
    exits(&["run"], 2, &["--seed"]);
    exits(&["walk"], 2, &["walk"]);
    exits(&["run", "--seed", "x"], 2, &["invalid value 'x'"]);
    exits(
        &["run", "--scenario", "none"],
        2,
        &["there is no such scenario"],
    );
    exits(
        &["run", "--seed", "1", "--sabotage", "none"],
        2,
        &["diff-twice"],
    );
    exits(
        &["sweep", "--seeds", "9..3"],
        2,
        &["there is no seed in 9..3"],
    );
    exits(&["sweep", "--seeds", "5.."], 2, &["--until-covered"]);
    exits(&["sweep", "--jobs", "0"], 2, &["--jobs"]);
    exits(&["sabotage", "--seeds", "0.."], 2, &["needs an end"]);
    for (tier, defect) in [("core", "state-late"), ("full", "never-down")] {
        let other = ["sabotage", "--tier", tier, "--only", defect];
        exits(&other, 2, &[defect, "is not planted in the tier", tier]);
    }
    exits(
        &["replay", "no-such-file.json"],
        2,
        &["no-such-file.json: "],
    );
    exits(&["run", "--seed", "1", "--tier", "moon"], 2, &["core"]);
    exits(&["--tier", "moon"], 2, &["full"]);
    let both = ["run", "--seed", "1", "--twice", "--print-trace"];
    exits(&both, 2, &["--twice"]);
    for tier in TIERS {
        exits(
            &["shrink", "--seed", "1", "--tier", tier],
            2,
            &["seed 1 holds: there is nothing to shrink"],
        );
    }
}

#[test]
fn a_schedule_that_is_wrong_is_told_what_and_where() {
    let json = sim::generate::random(1).to_json();
    let wrong = [
        ("\"seed\": 1,", "\"sead\": 1,", "unknown field `sead`"),
        ("\"seed\": 1,", "\"seed\": true,", "line 3"),
        ("\"heal_ms\": ", "\"heal_ms\": 9999999999", "heal_ms"),
        (
            "\"node\": \"n0\"",
            "\"node\": \"n77\"",
            "there is no node \"n77\"",
        ),
        ("\"do\": \"track\"", "\"do\": \"dance\"", "dance"),
        ("\"at_ms\"", "\"oops\": 1, \"at_ms\"", "oops"),
        ("\"queue\": ", "\"queue\": -", "line 23"),
    ];
    for (at, (from, to, says)) in wrong.into_iter().enumerate() {
        let path = scratch(&format!("wrong-{at}.json"));
        assert!(json.contains(from), "{from}");
        fs::write(&path, json.replacen(from, to, 1)).unwrap();
        let path = path.to_str().unwrap();
        exits(&["replay", path], 2, &[path, says]);
    }
}

#[test]
fn a_schedule_that_was_written_replays_the_run() {
    for tier in TIERS {
        let path = scratch(&format!("schedule-{tier}.json"));
        let file = path.to_str().unwrap();
        let run = ["run", "--seed", "7", "--schedule", file];
        let [first, second] = [run.as_slice(), &["replay", file]]
            .map(|args| sim(&[args, &["--print-trace", "--tier", tier]].concat()));
        assert_eq!(said(&first), said(&second));
        assert_eq!(first.status.code(), Some(0));
    }
}

#[test]
fn a_failure_is_told_repeated_and_shrunk() {
    told_repeated_and_shrunk("core", "diff-twice", "DiffsAreTheTruth", "500");
}

#[test]
fn a_failure_of_a_client_is_told_repeated_and_shrunk() {
    told_repeated_and_shrunk("full", "diff-twice", "WireRules", "25");
}

fn told_repeated_and_shrunk(tier: &str, defect: &str, invariant: &str, budget: &str) {
    let planted = ["--tier", tier, "--sabotage", defect];
    let broken = format!("{invariant}: ");
    let seed = (0..100).map(|seed| seed.to_string()).find(|seed| {
        let output = sim(&[["run", "--seed", seed].as_slice(), &planted].concat());
        output.status.code() == Some(1) && said(&output).contains(&broken)
    });
    let seed = seed.expect("the defect is found");
    let repeat = match tier {
        "full" => format!("run --seed {seed} --sabotage {defect}"),
        tier => format!("run --seed {seed} --sabotage {defect} --tier {tier}"),
    };
    exits(
        &[["run", "--seed", &seed].as_slice(), &planted].concat(),
        1,
        &[&broken, "node ", "view ", "last events", &repeat],
    );
    let path = scratch(&format!("shrunk-{defect}.json"));
    let file = path.to_str().unwrap();
    let shrink = ["shrink", "--seed", &seed, "--out", file, "--budget", budget];
    exits(
        &[shrink.as_slice(), &planted].concat(),
        1,
        &[&broken, "#[test]", &format!("_seed_{seed}_")],
    );
    let replay = ["replay", file];
    exits(&[replay.as_slice(), &planted].concat(), 1, &[&broken]);
    exits(
        &[replay.as_slice(), &planted[..2]].concat(),
        0,
        &["All held."],
    );
}

#[test]
fn a_sweep_sums_up_and_misses_what_never_happened() {
    for (tier, seeds) in [("core", "0..3"), ("full", "0..2")] {
        let sweep = ["sweep", "--tier", tier, "--seeds", seeds, "--jobs", "2"];
        exits(&sweep, 0, &["swarm", "message lost", " runs", "All held."]);
    }
    let sweep = ["sweep", "--seeds", "0..1"];
    let strict = [sweep.as_slice(), &["--require-coverage"]].concat();
    exits(&strict, 1, &["FAILED: never happened: "]);
    let core = ["sweep", "--seeds", "0..1", "--tier", "core"];
    let all = ["--scenario", "all"];
    exits(&[core.as_slice(), &all].concat(), 0, &["All held."]);
}

#[test]
fn planted_defects_are_found_or_the_command_fails() {
    for (tier, defect, invariant) in [
        ("core", "diff-lost", "DiffsAreTheTruth"),
        ("full", "diff-twice", "WireRules"),
    ] {
        exits(
            &["sabotage", "--tier", tier, "--only", defect],
            0,
            &[defect, invariant, "The last events that touched it:"],
        );
    }
    // No network of these two seeds loses its silence.
    let few = [
        "sabotage",
        "--only",
        "incarnation-reused",
        "--seeds",
        "0..2",
        "--tier",
        "core",
    ];
    exits(&few, 1, &["NEVER FOUND", "FAILED"]);
}

#[test]
fn a_run_is_drawn() {
    for tier in TIERS {
        let path = scratch(&format!("run-{tier}.html"));
        let file = path.to_str().unwrap();
        let draw = ["trace", "--seed", "3", "--out", file, "--tier", tier];
        exits(&draw, 0, &["run-", ".html"]);
        assert!(fs::read_to_string(&path).unwrap().contains("seed 3"));
    }
}

#[test]
fn speed_is_measured() {
    for tier in TIERS {
        let bench = ["bench", "--count", "1", "--tier", tier];
        exits(&bench, 0, &["seeds/s", "simulated a second"]);
    }
}

#[test]
fn scenarios_are_listed_and_run_by_name() {
    for scenario in sim::scenarios::all() {
        exits(&["scenarios"], 0, &[scenario.name, scenario.rule]);
    }
    let first = sim::scenarios::all().remove(0).name;
    for tier in TIERS {
        let run = ["run", "--scenario", first, "--seed", "3", "--tier", tier];
        exits(&run, 0, &["All held."]);
    }
}

#[test]
fn a_journal_is_played_and_told() {
    use presence_core::clock::ReplicaId;
    use presence_core::entry::Pid;
    use presence_core::presence::{KeyBuf, Meta};
    use presence_core::tracker::Config;
    use presence_core::tracker::journal::{Header, Input, Record};
    use std::time::Duration;

    let header = Header {
        replica: ReplicaId::new("n0", 7),
        config: Config::default(),
        hash_seed: 1,
        random: 2,
        at: Duration::ZERO,
    };
    let record = |at, input| {
        let at = Duration::from_millis(at);
        Record { at, input }.to_line()
    };
    let track = Input::Track {
        topic: "room".into(),
        pid: Pid(3),
        key: KeyBuf::Text("ada".into()),
        meta: Meta::parse("{}").unwrap(),
    };
    let lines = [
        header.to_line(),
        record(100, track.clone()),
        record(200, track),
        record(2000, Input::Timeout),
        record(3000, Input::UntrackPid { pid: Pid(3) }),
    ];
    let path = scratch("node.journal");
    fs::write(&path, lines.join("\n")).unwrap();
    let file = path.to_str().unwrap();
    exits(
        &["replay", file],
        0,
        &[
            "n0#7 begins",
            "track \"ada\" of process 3 in \"room\"",
            "refused",
            "→ all: heartbeat",
            "diff 1 of \"room\": +ada",
            "diff 2 of \"room\": -ada",
            "0 presences are listed",
        ],
    );
    fs::write(&path, format!("{}\nnonsense\n", lines[..2].join("\n"))).unwrap();
    exits(&["replay", file], 2, &["+ada", "node.journal: line 3: "]);
}
