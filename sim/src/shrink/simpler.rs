//! What is simpler than a schedule, and than each of its steps.

use crate::schedule::{Action, Joining, Schedule};

/// A change that makes a schedule simpler.
pub(super) type Simpler = Box<dyn Fn(&mut Schedule)>;

/// All changes that make the network, the settings and the nodes simpler, each on its own.
pub(super) fn schedules(schedule: &Schedule) -> Vec<Simpler> {
    let mut all: Vec<Simpler> = vec![
        Box::new(|s| s.heal_first.clear()),
        Box::new(|s| s.joining = Joining::Each),
        Box::new(|s| s.network.loss = 0),
        Box::new(|s| s.network.repeat = 0),
        Box::new(|s| s.network.late = 0),
        Box::new(|s| s.network.jitter_us = 0),
        Box::new(|s| s.network.latency_us = 1000),
        Box::new(|s| s.network.ordered = true),
        Box::new(|s| s.network.queue = 10_000),
        Box::new(|s| s.network.announces = false),
        Box::new(|s| s.network.detects_crashes = false),
        Box::new(|s| s.settings.pool_size = 1),
        Box::new(|s| s.settings.permdown_on_shutdown = false),
        Box::new(|s| s.settings.handover = false),
        Box::new(|s| s.settings.chunk_values = 2000),
        Box::new(|s| s.settings.max_delta_size = 100),
        Box::new(|s| s.settings.clock_sample_periods = 2),
        Box::new(|s| {
            let settings = &mut s.settings;
            settings.broadcast_period = 1000;
            settings.max_silent_periods = 3;
            settings.down_period = 6000;
            settings.permdown_period = 12_000;
        }),
    ];
    for at in 0..schedule.nodes.len() {
        all.push(Box::new(move |s| s.nodes[at].clock_ppm = 0));
        all.push(Box::new(move |s| s.nodes[at].pool_size = None));
    }
    all
}

impl Action {
    /// Takes a node out; whether anything is left to do.
    pub(super) fn without(&mut self, gone: &str) -> bool {
        match self {
            Self::Cut { from, to, .. }
            | Self::Hold { from, to, .. }
            | Self::Narrow { from, to, .. } => {
                from.retain(|name| name != gone);
                to.retain(|name| name != gone);
                !from.is_empty() && !to.is_empty()
            }
            _ => !self.nodes().contains(&gone),
        }
    }

    /// The same action with less in it, the least first.
    pub(super) fn simpler(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut push = |change: &dyn Fn(&mut Self)| {
            let mut action = self.clone();
            change(&mut action);
            if action != *self {
                all.push(action);
            }
        };
        match *self {
            Self::Storm { count, .. } => {
                for fewer in fewer(count, 1) {
                    push(&|action| {
                        if let Self::Storm { count, first, .. } = action {
                            *count = fewer;
                            *first = 1;
                        }
                    });
                }
            }
            Self::Start { .. } => push(&|action| {
                if let Self::Start { clock_ms, .. } = action {
                    *clock_ms = 0;
                }
            }),
            Self::Stop { drain_ms, .. } => {
                for fewer in fewer(drain_ms, 0) {
                    push(&|action| {
                        if let Self::Stop { drain_ms, .. } = action {
                            *drain_ms = fewer;
                        }
                    });
                }
            }
            Self::Pause { ms, .. }
            | Self::Slow { ms, .. }
            | Self::Stall { ms, .. }
            | Self::Lag { ms, .. } => {
                for fewer in fewer(ms, 1) {
                    push(&|action| {
                        if let Self::Pause { ms, .. }
                        | Self::Slow { ms, .. }
                        | Self::Stall { ms, .. }
                        | Self::Lag { ms, .. } = action
                        {
                            *ms = fewer;
                        }
                    });
                }
            }
            Self::Cut {
                ref from,
                ref to,
                ms,
                ..
            }
            | Self::Hold {
                ref from,
                ref to,
                ms,
            }
            | Self::Narrow {
                ref from,
                ref to,
                ms,
                ..
            } => {
                for fewer in fewer(ms, 1) {
                    push(&|action| {
                        if let Self::Cut { ms, .. }
                        | Self::Hold { ms, .. }
                        | Self::Narrow { ms, .. } = action
                        {
                            *ms = fewer;
                        }
                    });
                }
                for name in from.iter().chain(to) {
                    push(&|action| {
                        let mut without = action.clone();
                        if without.without(name) {
                            *action = without;
                        }
                    });
                }
            }
            _ => {}
        }
        all
    }
}

/// Smaller numbers, down to the least that means anything, and rounder ones.
fn fewer(number: u64, least: u64) -> Vec<u64> {
    let round = |by: u64| number - number % by;
    let mut all = vec![
        least,
        number / 2,
        number - number / 4,
        round(1000),
        round(100),
    ];
    all.retain(|&fewer| fewer < number && fewer >= least);
    all.dedup();
    all
}
