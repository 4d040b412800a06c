//! The replicated set from outside: against a naive set, by its properties, and rule by rule.

#![allow(clippy::unwrap_used)] // A test may panic, and so may what builds its data.

mod admission;
mod compare;
mod heal;
mod listing;
mod model;
mod naive;
mod op;
mod presence;
mod properties;
mod refusals;
mod rules;
mod steps;
mod transfers;
mod watch;
mod world;

use proptest::test_runner::Config;

/// So many times the number of cases that is set (`PROPTEST_CASES`, 256 by default).
fn cases(times: u32) -> Config {
    let config = Config::default();
    Config {
        cases: config.cases * times,
        ..config
    }
}
