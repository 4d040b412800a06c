//! The same seed gives the same trace of the first tier, byte for byte, in every process. (For the second,
//! `full.rs` sees to it.)

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

fn trace(seed: u64) -> Vec<u8> {
    let seed = seed.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["run", "--tier", "core", "--print-trace", "--seed", &seed])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn two_processes_write_the_same_trace_of_a_seed() {
    for seed in 0..20 {
        let (first, second) = (trace(seed), trace(seed));
        assert!(first.len() > 1000, "seed {seed} is told");
        assert!(first == second, "the traces of seed {seed} differ");
    }
}

#[test]
fn writing_a_run_down_changes_nothing_in_it() {
    use sim::world::{Options, run};
    for seed in 0..20 {
        let schedule = sim::generate::random(seed);
        let of = |trace| {
            let outcome = run(
                &schedule,
                Options {
                    sabotage: None,
                    trace,
                },
            );
            (outcome.events, outcome.traffic, outcome.coverage)
        };
        assert_eq!(of(false), of(true), "seed {seed}");
    }
}
