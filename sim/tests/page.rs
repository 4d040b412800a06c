//! The page of a run: whole, by itself, bounded, and the same each time.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use sim::generate;
use sim::outcome::Outcome;
use sim::page;
use sim::sabotage::Sabotage;
use sim::schedule::Schedule;
use sim::world::{Options, run};

fn drawn(schedule: &Schedule, sabotage: Option<Sabotage>) -> (String, Outcome) {
    let trace = true;
    let mut outcome = run(schedule, Options { sabotage, trace });
    let traced = outcome.trace.take().expect("it was written down");
    (page::render(schedule, &traced, &outcome), outcome)
}

#[test]
fn it_is_bounded_and_fetches_nothing() {
    for seed in 0..40 {
        let schedule = generate::random(seed);
        let (page, _) = drawn(&schedule, None);
        assert!(page.len() < 2_000_000, "seed {seed}: {} bytes", page.len());
        assert!(!page.contains("http://") && !page.contains("https://"));
        assert!(!page.contains("NaN") && !page.contains("inf\""));
        for node in &schedule.nodes {
            assert!(page.contains(&format!(">{}</text>", node.name)));
        }
    }
}

#[test]
fn it_is_the_same_each_time() {
    let schedule = generate::random(7);
    assert_eq!(drawn(&schedule, None).0, drawn(&schedule, None).0);
}

#[test]
fn it_tells_a_failure_in_words() {
    let sabotage = Some(Sabotage::DiffLost);
    let failed = (0..200).map(generate::random).find_map(|schedule| {
        let (page, outcome) = drawn(&schedule, sabotage);
        outcome.failure.map(|failure| (page, failure))
    });
    let (page, failure) = failed.expect("a lost diff is found");
    assert!(page.contains(failure.invariant.sentence()));
    assert!(page.contains(&format!("{:?} on {}", failure.invariant, failure.node)));
}

#[test]
fn names_cannot_break_it() {
    let mut schedule = generate::random(3);
    schedule.name = "</script><script>alert(1)</script>".into();
    schedule.steps.push(sim::schedule::Step {
        at_ms: schedule.heal_ms,
        action: sim::schedule::Action::Track {
            node: schedule.nodes[0].name.clone(),
            process: 1,
            topic: "</script>".into(),
            key: "<b>".into(),
        },
    });
    let (page, _) = drawn(&schedule, None);
    assert_eq!(page.matches("</script>").count(), 2);
}
