//! The workload by which the simulation's speed is measured.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::schedule::{Action, Joining, Network, NodeSpec, Schedule, Settings, Step};
use crate::tier::Tier;
use crate::world::Options;

const NODES: u64 = 5;
const PRESENCES: u64 = 200;
const HEAL_MS: u64 = 60_000;

/// Five nodes over sixty seconds with 200 presences that come and go, a crash, a restart, a partition
/// and a network that loses, repeats and reorders.
pub fn workload(seed: u64) -> Schedule {
    let mut rng = Rng::with_seed(seed);
    let name = |node: u64| format!("n{node}");
    let mut steps = Vec::new();
    let mut push = |at_ms, action| steps.push(Step { at_ms, action });
    for process in 0..PRESENCES {
        let node = name(process % NODES);
        let (topic, key) = (format!("t{}", process % 10), format!("k{process}"));
        let at = rng.u64(0..5_000);
        push(
            at,
            Action::Track {
                node: node.clone(),
                process,
                topic: topic.clone(),
                key: key.clone(),
            },
        );
        // A user in five changes, and one in five goes and comes again.
        let later = rng.u64(5_000..30_000);
        match rng.u32(0..5) {
            0 => push(
                later,
                Action::Update {
                    node,
                    process,
                    topic,
                    key,
                },
            ),
            1 => {
                push(
                    later,
                    Action::End {
                        node: node.clone(),
                        process,
                    },
                );
                push(
                    later + rng.u64(1..20_000),
                    Action::Track {
                        node,
                        process: process + PRESENCES,
                        topic,
                        key,
                    },
                );
            }
            _ => {}
        }
    }
    let (crashed, away) = (name(rng.u64(0..NODES)), rng.u64(100..10_000));
    let crash = rng.u64(10_000..30_000);
    push(
        crash,
        Action::Crash {
            node: crashed.clone(),
        },
    );
    push(
        crash + away,
        Action::Start {
            node: crashed,
            clock_ms: 0,
        },
    );
    push(
        rng.u64(30_000..40_000),
        Action::Cut {
            from: vec![name(0), name(1)],
            to: vec![name(2), name(3), name(4)],
            one_way: false,
            ms: rng.u64(2_000..20_000),
        },
    );
    steps.sort_by_key(|step| step.at_ms);
    Schedule {
        name: format!("bench {seed}"),
        seed,
        settings: Settings {
            broadcast_period: 1500,
            max_silent_periods: 10,
            down_period: 30_000,
            permdown_period: 20 * 60_000,
            clock_sample_periods: 2,
            max_delta_size: 100,
            permdown_on_shutdown: false,
            handover: false,
            chunk_values: 2000,
            pool_size: 1,
        },
        network: Network {
            latency_us: 500,
            jitter_us: 5_000,
            ordered: false,
            loss: 10_000,
            repeat: 10_000,
            late: 0,
            queue: 1000,
            announces: true,
            detects_crashes: false,
        },
        nodes: (0..NODES)
            .map(|node| NodeSpec {
                name: name(node),
                starts: true,
                clock_ppm: 0,
                pool_size: None,
            })
            .collect(),
        steps,
        heal_ms: HEAL_MS,
        joining: Joining::Each,
        heal_first: Vec::new(),
    }
}

/// Five nodes over two minutes with 50 clients in 10 topics, of which each changes its presence every 5
/// seconds or so, with one crash, restart and partition.
pub fn workload_with_clients(seed: u64) -> Schedule {
    const CLIENTS: u64 = 50;
    let mut schedule = workload(seed);
    schedule.name = format!("bench with clients {seed}");
    schedule.network.loss = 0;
    schedule.network.repeat = 0;
    schedule.steps.retain(|step| {
        matches!(
            step.action,
            Action::Crash { .. } | Action::Start { .. } | Action::Cut { .. }
        )
    });
    schedule.heal_ms = 120_000;
    let mut rng = Rng::with_seed(seed);
    for process in 0..CLIENTS {
        let node = format!("n{}", process % NODES);
        let (topic, key) = (format!("t{}", process % 10), format!("k{process}"));
        let mut at_ms = rng.u64(0..5_000);
        let action = Action::Track {
            node: node.clone(),
            process,
            topic: topic.clone(),
            key: key.clone(),
        };
        schedule.steps.push(Step { at_ms, action });
        loop {
            at_ms += rng.u64(4_000..6_000);
            if at_ms >= schedule.heal_ms {
                break;
            }
            let action = Action::Update {
                node: node.clone(),
                process,
                topic: topic.clone(),
                key: key.clone(),
            };
            schedule.steps.push(Step { at_ms, action });
        }
    }
    schedule.steps.sort_by_key(|step| step.at_ms);
    schedule
}

/// What was measured on one core.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// Runs that were made.
    pub seeds: u64,
    /// What they took together: the time that this thread had a core, where the system tells it.
    pub elapsed: Duration,
    /// Events of all of them.
    pub events: u64,
    /// What passed in them.
    pub simulated: Duration,
}

impl Speed {
    /// Runs a second.
    pub fn seeds_per_second(&self) -> f64 {
        self.seeds as f64 / self.elapsed.as_secs_f64()
    }

    /// Events a second.
    pub fn events_per_second(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64()
    }
}

/// Runs the workload of so many seeds on this thread.
///
/// # Errors
///
/// A sentence that names the first seed that did not hold.
pub fn measure(tier: Tier, seeds: u64) -> Result<Speed, String> {
    let start = on_core().ok_or_else(Instant::now);
    let (mut events, mut simulated) = (0, Duration::ZERO);
    for seed in 0..seeds {
        let schedule = match tier {
            Tier::Core => workload(seed),
            Tier::Full => workload_with_clients(seed),
        };
        let outcome = tier.run(&schedule, Options::default());
        if let Some(failure) = outcome.failure {
            return Err(format!(
                "seed {seed} of the workload did not hold: {failure}"
            ));
        }
        events += outcome.events;
        simulated += outcome.simulated;
    }
    Ok(Speed {
        seeds,
        elapsed: match start {
            Ok(before) => on_core().unwrap_or_default().saturating_sub(before),
            Err(start) => start.elapsed(),
        },
        events,
        simulated,
    })
}

/// For how long this thread has had a core. (What else runs on the machine then does not count.)
fn on_core() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_workload_is_valid_and_holds_with_200_presences_on_5_nodes() {
        for seed in 0..5 {
            let schedule = workload(seed);
            assert_eq!(schedule.validate(), Ok(()));
            assert_eq!(schedule.nodes.len(), 5);
            assert!(schedule.steps.len() >= 200);
        }
        measure(Tier::Core, 2).unwrap();
    }
}
