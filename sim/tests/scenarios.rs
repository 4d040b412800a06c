//! Each scenario reaches what it is about, and holds, in both tiers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sim::scenarios::{self, Scenario};
use sim::schedule::Schedule;
use sim::tier::Tier;
use sim::trace::Kind;
use sim::world::{Options, run};

const SEEDS: std::ops::Range<u64> = 0..6;

#[test]
fn each_holds_and_reaches_what_it_is_about() {
    let wrong: Vec<String> = scenarios::all()
        .iter()
        .flat_map(|scenario| SEEDS.flat_map(|seed| judged(Tier::Core, scenario, seed)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_holds_and_reaches_what_it_is_about_with_the_real_node() {
    let all = scenarios::all();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(scenario) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let judged = judged(Tier::Full, scenario, 1);
            wrong.lock().unwrap().extend(judged);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What was wrong with a run of a scenario.
fn judged(tier: Tier, scenario: &Scenario, seed: u64) -> Vec<String> {
    let outcome = tier.run(&(scenario.schedule)(seed), Options::default());
    let wrong = match &outcome.failure {
        Some(failure) => vec![failure.to_string()],
        None => scenario.unmet(tier, &outcome.coverage),
    };
    let named = |what| format!("{} {seed}: {what}", scenario.name);
    wrong.into_iter().map(named).collect()
}

#[test]
fn each_is_a_valid_schedule_under_its_name() {
    let all = scenarios::all();
    for (at, scenario) in all.iter().enumerate() {
        assert!(all[..at].iter().all(|other| other.name != scenario.name));
        for seed in SEEDS {
            let schedule = (scenario.schedule)(seed);
            assert_eq!(schedule.name, scenario.name);
            assert_eq!(Schedule::parse(&schedule.to_json()), Ok(schedule));
        }
    }
}

#[test]
fn the_seed_varies_a_scenario() {
    for scenario in scenarios::all() {
        assert_ne!(
            (scenario.schedule)(1),
            (scenario.schedule)(2),
            "{}",
            scenario.name
        );
    }
}

#[test]
fn leaves_before_a_stop_are_told_at_once() {
    let scenario = scenarios::named("leaves-before-stop").expect("it is there");
    for seed in SEEDS {
        let schedule = (scenario.schedule)(seed);
        let trace = true;
        let outcome = run(
            &schedule,
            Options {
                trace,
                sabotage: None,
            },
        );
        let lines = outcome.trace.expect("it was written down").lines;
        let stop = lines
            .iter()
            .position(|line| line.text == "stops")
            .expect("a stops");
        let is_end = |text: &str| text.starts_with("process ") && text.ends_with(" ends");
        let ended = lines[..stop]
            .iter()
            .filter(|line| is_end(&line.text))
            .count();
        assert!(ended > 0);
        // A message takes no longer.
        let network = &schedule.network;
        let by = lines[stop].at + network.latency_us + network.jitter_us;
        for node in ["b", "c"] {
            let told = lines.iter().filter(|line| {
                line.node.as_deref() == Some(node)
                    && line.kind == Kind::Diff
                    && line.text.contains("left ")
                    && line.at <= by
            });
            let left: usize = told.map(|line| line.presences.len()).sum();
            assert_eq!(left, ended, "seed {seed}, node {node}");
        }
    }
}
