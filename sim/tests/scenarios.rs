//! Each scenario reaches what it is about, and holds, in the first tier.

use sim::scenarios::{self, Scenario};
use sim::schedule::Schedule;
use sim::trace::Kind;
use sim::world::{Options, run};

const SEEDS: std::ops::Range<u64> = 0..6;

#[test]
fn each_holds_and_reaches_what_it_is_about() {
    let wrong: Vec<String> = scenarios::all().iter().flat_map(judged).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn judged(scenario: &Scenario) -> Vec<String> {
    let mut wrong = Vec::new();
    for seed in SEEDS {
        let schedule = (scenario.schedule)(seed);
        let outcome = run(&schedule, Options::default());
        let mut note = |what: String| wrong.push(format!("{} {seed}: {what}", scenario.name));
        if let Some(failure) = &outcome.failure {
            note(failure.to_string());
            continue;
        }
        for &state in scenario.reaches {
            if outcome.coverage.of(state) == 0 {
                note(format!("never: {}", state.name()));
            }
        }
        for &state in scenario.avoids {
            if outcome.coverage.of(state) > 0 {
                note(format!("happened: {}", state.name()));
            }
        }
    }
    wrong
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
