//! The second tier: nodes that ship and their clients hold, and a seed gives the same run again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use sim::coverage::{Counted, Coverage};
use sim::outcome::Outcome;
use sim::tier::Tier;
use sim::world::Options;

fn run(seed: u64, trace: bool) -> Outcome {
    let options = Options {
        sabotage: None,
        trace,
    };
    let outcome = Tier::Full.run(&Tier::Full.random(seed), options);
    assert!(
        outcome.failure.is_none(),
        "seed {seed}: {}",
        outcome.failure.unwrap()
    );
    outcome
}

#[test]
fn a_handful_of_seeds_hold_and_much_happens_in_them() {
    let (mut coverage, mut messages) = (Coverage::default(), 0);
    for seed in 0..8 {
        let outcome = run(seed, false);
        assert!(outcome.events > 100, "seed {seed}");
        assert!(outcome.converged_after.is_some());
        messages += outcome.traffic.total();
        coverage.merge(&outcome.coverage);
    }
    assert!(messages > 1000, "nodes speak");
    for what in [
        Counted::Socket,
        Counted::Polling,
        Counted::Watched,
        Counted::Reconnected,
        Counted::Moved,
        Counted::TabClosed,
        Counted::Crash,
        Counted::Partition,
        Counted::Lost,
    ] {
        assert!(coverage.of(what) > 0, "never: {}", what.name());
    }
}

#[test]
fn a_seed_gives_the_same_run_again_whatever_ran_before_it() {
    let crashes = |outcome: &Outcome| outcome.coverage.of(Counted::Crash) > 0;
    let mut crashed = false;
    for seed in [1, 3, 5] {
        let (first, again) = (run(seed, true), run(seed, true));
        crashed |= crashes(&first);
        let (before, after) = (first.trace.unwrap(), again.trace.unwrap());
        for (line, again) in before.lines.iter().zip(&after.lines) {
            assert_eq!(line.to_string(), again.to_string(), "seed {seed}");
        }
        assert_eq!(before.lines.len(), after.lines.len(), "seed {seed}");
        assert!(before.lines.len() > 100, "seed {seed} is told");
        assert_eq!(first.coverage, again.coverage, "seed {seed}");
    }
    assert!(crashed, "in one of them a node crashes");
}

#[test]
fn writing_a_run_down_changes_nothing_in_it() {
    for seed in [2, 4] {
        let of = |trace| {
            let outcome = run(seed, trace);
            (outcome.events, outcome.traffic, outcome.coverage)
        };
        assert_eq!(of(false), of(true), "seed {seed}");
    }
}

#[test]
fn two_processes_give_the_same_run() {
    for seed in ["2", "6"] {
        let output = Command::new(env!("CARGO_BIN_EXE_sim"))
            .args(["run", "--seed", seed, "--twice"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "seed {seed}: {said}");
        assert!(said.starts_with("Twice the same "), "{said}");
    }
}
