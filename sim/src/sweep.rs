//! Many runs on all cores.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::case::{Case, Family};
use crate::coverage::{Counted, Coverage};
use crate::outcome::{Failure, Outcome};
use crate::sabotage::Sabotage;
use crate::tier::Tier;

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is simulated.
    pub tier: Tier,
    /// Each is run with each seed.
    pub families: Vec<Family>,
    /// The first seed.
    pub first: u64,
    /// The seed after the last; `None` goes on for ever.
    pub end: Option<u64>,
    /// Threads.
    pub jobs: usize,
    /// A defect to plant.
    pub sabotage: Option<Sabotage>,
    /// Whether it ends as soon as everything that is counted was reached.
    pub until_covered: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Swept {
    /// By family, in the plan's order.
    pub tallies: Vec<Tally>,
    /// The case that failed, of the lowest seed.
    pub failure: Option<(Case, Failure)>,
    /// How many seeds came before the one that failed, that one included.
    pub seeds: u64,
}

/// What came of the runs of one family.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Which.
    pub family: Family,
    /// How many runs.
    pub runs: u64,
    /// Their events.
    pub events: u64,
    /// Their messages.
    pub messages: u64,
    /// What happened in them.
    pub coverage: Coverage,
    /// In how many of them it happened.
    reached: Vec<u64>,
    /// How long each took to agree.
    agreed: Vec<Duration>,
    /// How often the planted defect acted.
    pub sabotaged: u64,
}

impl Tally {
    /// None yet.
    pub fn new(family: Family) -> Self {
        Self {
            family,
            runs: 0,
            events: 0,
            messages: 0,
            coverage: Coverage::default(),
            reached: vec![0; Counted::ALL.len()],
            agreed: Vec::new(),
            sabotaged: 0,
        }
    }

    /// In how many runs it happened.
    pub fn runs_with(&self, what: Counted) -> u64 {
        self.reached[what as usize]
    }

    /// The time within which such a part of the runs agreed.
    pub fn agreed_within(&self, part: f64) -> Option<Duration> {
        let mut times = self.agreed.clone();
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        Some(times[(last as f64 * part).round() as usize])
    }

    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.events += outcome.events;
        self.messages += outcome.traffic.total();
        self.sabotaged += outcome.sabotaged;
        self.coverage.merge(&outcome.coverage);
        for &what in Counted::ALL {
            self.reached[what as usize] += u64::from(outcome.coverage.of(what) > 0);
        }
        self.agreed.extend(outcome.converged_after);
    }

    /// Adds the runs of another.
    pub fn merge(&mut self, other: &Self) {
        self.runs += other.runs;
        self.events += other.events;
        self.messages += other.messages;
        self.sabotaged += other.sabotaged;
        self.coverage.merge(&other.coverage);
        for (reached, more) in self.reached.iter_mut().zip(&other.reached) {
            *reached += more;
        }
        self.agreed.extend_from_slice(&other.agreed);
    }
}

impl Swept {
    /// All families together.
    pub fn total(&self) -> Tally {
        let mut total = Tally::new(Family::Swarm);
        for tally in &self.tallies {
            total.merge(tally);
        }
        total
    }
}

/// Runs a plan; `progress` is told after each run.
///
/// The failure that it returns is that of the lowest seed, whatever the number of threads.
pub fn sweep(plan: &Plan, progress: &(dyn Fn() + Sync)) -> Swept {
    let families = plan.families.len() as u64;
    let end = plan.end.map_or(u64::MAX, |end| {
        end.saturating_sub(plan.first).saturating_mul(families)
    });
    let next = AtomicU64::new(0);
    // No case from here on is run any more.
    let stop = AtomicU64::new(if families == 0 { 0 } else { end });
    let tallies = plan.families.iter().map(|&family| Tally::new(family));
    let swept = Mutex::new(Swept {
        tallies: tallies.collect(),
        failure: None,
        seeds: 0,
    });
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= stop.load(Ordering::Relaxed) {
                return;
            }
            let which = (at % families) as usize;
            let seed = plan.first.wrapping_add(at / families);
            let case = Case::new(plan.tier, plan.families[which], seed, plan.sabotage);
            let outcome = case.run(false);
            let mut swept = swept.lock().unwrap_or_else(PoisonError::into_inner);
            swept.tallies[which].add(&outcome);
            if let Some(failure) = outcome.failure {
                if at < stop.fetch_min(at, Ordering::Relaxed) {
                    swept.failure = Some((case, failure));
                    swept.seeds = at / families + 1;
                }
            } else if plan.until_covered && swept.total().coverage.missing(plan.tier).is_empty() {
                stop.fetch_min(at, Ordering::Relaxed);
            }
            drop(swept);
            progress();
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    });
    let mut swept = swept.into_inner().unwrap_or_else(PoisonError::into_inner);
    if swept.failure.is_none() {
        swept.seeds = swept
            .tallies
            .iter()
            .map(|tally| tally.runs)
            .max()
            .unwrap_or(0);
    }
    swept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(jobs: usize) -> Plan {
        Plan {
            tier: Tier::Core,
            families: vec![Family::Swarm],
            first: 0,
            end: Some(40),
            jobs,
            sabotage: None,
            until_covered: false,
        }
    }

    #[test]
    fn a_sweep_comes_to_the_same_on_any_number_of_threads() {
        let (one, four) = (sweep(&plan(1), &|| ()), sweep(&plan(4), &|| ()));
        assert!(one.failure.is_none() && four.failure.is_none());
        let (one, four) = (one.total(), four.total());
        assert_eq!((one.runs, one.events), (40, four.events));
        assert_eq!(one.coverage, four.coverage);
        assert_eq!(one.agreed_within(0.9), four.agreed_within(0.9));
    }

    #[test]
    fn the_first_seed_that_fails_is_found_on_any_number_of_threads() {
        let of = |jobs| {
            let plan = Plan {
                sabotage: Some(Sabotage::DiffTwice),
                end: Some(500),
                ..plan(jobs)
            };
            let swept = sweep(&plan, &|| ());
            let (case, _) = swept.failure.expect("a diff told twice is found");
            (case.repeat(), swept.seeds)
        };
        assert_eq!(of(1), of(3));
    }

    #[test]
    fn a_sweep_until_all_is_covered_ends() {
        let plan = Plan {
            end: None,
            until_covered: true,
            ..plan(2)
        };
        let swept = sweep(&plan, &|| ());
        assert_eq!(swept.total().coverage.missing(Tier::Core), []);
    }
}
