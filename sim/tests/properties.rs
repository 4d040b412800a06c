//! Whatever is left out of a schedule, it holds in the first tier.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;
use sim::generate;
use sim::schedule::Schedule;
use sim::world::{Options, run};

/// Schedules of any seed, without some of their steps, with other settings and another network.
fn schedules() -> impl Strategy<Value = Schedule> {
    let kept = proptest::collection::vec(proptest::bool::weighted(0.8), 1..200);
    (any::<u64>(), any::<u64>(), kept).prop_map(|(seed, other, kept)| {
        let mut schedule = generate::random(seed);
        let mut kept = kept.iter().cycle();
        schedule.steps.retain(|_| kept.next() == Some(&true));
        let Schedule {
            settings, network, ..
        } = generate::random(other);
        // Steps may lie later than any heal of the other; the times stay those of the first.
        schedule.network = network;
        schedule.settings.max_delta_size = settings.max_delta_size;
        schedule.settings.chunk_values = settings.chunk_values;
        schedule.settings.handover = settings.handover;
        schedule.settings.permdown_on_shutdown = settings.permdown_on_shutdown;
        schedule
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_schedule_holds(schedule in schedules()) {
        prop_assert_eq!(schedule.validate(), Ok(()));
        let outcome = run(&schedule, Options::default());
        prop_assert!(outcome.failure.is_none(), "{}\n{}", outcome.failure.unwrap(), schedule.to_json());
    }

    #[test]
    fn json_keeps_a_schedule(schedule in schedules()) {
        prop_assert_eq!(Schedule::parse(&schedule.to_json()), Ok(schedule));
    }
}
