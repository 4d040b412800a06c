//! A few short traces of the first tier, so that a change of what nodes say is seen in review.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use sim::schedule::Schedule;
use sim::world::{Options, run};

fn trace(json: &str) -> String {
    let schedule = Schedule::parse(json).unwrap();
    let outcome = run(
        &schedule,
        Options {
            sabotage: None,
            trace: true,
        },
    );
    assert!(outcome.failure.is_none(), "{}", outcome.failure.unwrap());
    outcome.trace.unwrap().to_string()
}

#[test]
fn a_node_crashes_and_starts_again_before_its_old_life_is_down() {
    insta::assert_snapshot!(trace(include_str!("traces/restart.json")));
}

#[test]
fn a_split_of_two_heals() {
    insta::assert_snapshot!(trace(include_str!("traces/split.json")));
}

#[test]
fn a_node_stops_and_its_user_goes_on_to_another() {
    insta::assert_snapshot!(trace(include_str!("traces/handover.json")));
}
