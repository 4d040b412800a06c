//! The smallest schedule that still does what a large one did.
//!
//! Steps are left out after Zeller and Hildebrandt, *Simplifying and Isolating Failure-Inducing Input*
//! (2002): halves first, then ever smaller parts. Nodes, settings and times are then tried one by one,
//! until nothing can be taken away any more.

mod simpler;

use crate::schedule::{Joining, Schedule, Step};

/// A schedule that was made small.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// It.
    pub schedule: Schedule,
    /// How many runs that took.
    pub runs: u64,
}

/// Makes a schedule smaller while `still` says that it does what it did. At most `budget` runs.
///
/// What chance decides falls otherwise once a step is gone; so each smaller schedule is tried with so
/// many `seeds` of the network's and the nodes' choices: a few, or hundreds where what is wanted happens
/// in one of a hundred cases.
pub fn shrink(
    schedule: &Schedule,
    budget: u64,
    seeds: u64,
    still: impl FnMut(&Schedule) -> bool,
) -> Shrunk {
    let mut shrinking = Shrinking {
        best: schedule.clone(),
        still,
        runs: 0,
        budget,
        seeds,
    };
    loop {
        let before = shrinking.best.clone();
        shrinking.leave_out_steps();
        shrinking.leave_out_nodes();
        shrinking.simplify();
        shrinking.shorten();
        if shrinking.best == before || shrinking.runs >= budget {
            break;
        }
    }
    Shrunk {
        schedule: shrinking.best,
        runs: shrinking.runs,
    }
}

struct Shrinking<F> {
    best: Schedule,
    still: F,
    runs: u64,
    budget: u64,
    seeds: u64,
}

impl<F: FnMut(&Schedule) -> bool> Shrinking<F> {
    /// Takes a smaller schedule for the best, if it still does.
    fn attempt(&mut self, mut candidate: Schedule) -> bool {
        if candidate == self.best || candidate.validate().is_err() {
            return false;
        }
        for _ in 0..self.seeds {
            if self.runs >= self.budget {
                return false;
            }
            self.runs += 1;
            if (self.still)(&candidate) {
                self.best = candidate;
                return true;
            }
            candidate.seed = candidate.seed.wrapping_add(1);
        }
        false
    }

    fn leave_out_steps(&mut self) {
        let mut size = self.best.steps.len();
        while size > 0 {
            let mut at = 0;
            while at < self.best.steps.len() {
                let mut candidate = self.best.clone();
                let end = (at + size).min(candidate.steps.len());
                candidate.steps.drain(at..end);
                if !self.attempt(candidate) {
                    at += size;
                }
            }
            size /= 2;
        }
    }

    fn leave_out_nodes(&mut self) {
        for at in (0..self.best.nodes.len()).rev() {
            let mut candidate = self.best.clone();
            let gone = candidate.nodes.remove(at).name;
            candidate.heal_first.retain(|name| *name != gone);
            if candidate.joining == Joining::Through(gone.clone()) {
                candidate.joining = Joining::Each;
            }
            candidate
                .steps
                .retain_mut(|step| step.action.without(&gone));
            self.attempt(candidate);
        }
    }

    fn simplify(&mut self) {
        for simpler in simpler::schedules(&self.best) {
            let mut candidate = self.best.clone();
            simpler(&mut candidate);
            self.attempt(candidate);
        }
        for at in 0..self.best.steps.len() {
            // Each simpler form that is taken may have simpler ones still.
            while let Some(simpler) = self.simpler_step(at) {
                self.best = simpler;
            }
        }
    }

    fn simpler_step(&mut self, at: usize) -> Option<Schedule> {
        for action in self.best.steps[at].action.simpler() {
            let mut candidate = self.best.clone();
            candidate.steps[at].action = action;
            if self.attempt(candidate) {
                return Some(self.best.clone());
            }
        }
        None
    }

    /// Less time before each step, and after the last.
    fn shorten(&mut self) {
        for at in 0..=self.best.steps.len() {
            let since = match at {
                0 => 0,
                _ => self.best.steps[at - 1].at_ms,
            };
            let until = self
                .best
                .steps
                .get(at)
                .map_or(self.best.heal_ms, |step| step.at_ms);
            let gap = until - since;
            // All of it or half of it, or as much as leaves each node's heartbeats where they were, or
            // what makes the time a round one.
            let period = self.best.settings.broadcast_period;
            let whole = gap - gap % period;
            let half = whole / 2 - whole / 2 % period;
            let some = [
                gap,
                whole,
                gap / 2,
                half,
                gap / 4,
                until % 1000,
                until % 100,
            ];
            for less in some {
                if less == 0 || less > gap {
                    continue;
                }
                let mut candidate = self.best.clone();
                let earlier = |step: &mut Step| step.at_ms -= less;
                candidate.steps[at..].iter_mut().for_each(earlier);
                candidate.heal_ms -= less;
                if self.attempt(candidate) {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::case::{Case, Family};
    use crate::sabotage::Sabotage;
    use crate::tier::Tier;
    use crate::world::{Options, run};

    #[test]
    fn what_is_not_needed_goes() {
        let schedule = crate::generate::random(3);
        let wanted = |schedule: &Schedule| {
            let named = |name: &str| schedule.nodes.iter().any(|node| node.name == name);
            named("n1")
                && schedule
                    .steps
                    .iter()
                    .filter(|step| step.action.nodes().contains(&"n1"))
                    .count()
                    > 1
        };
        assert!(wanted(&schedule));
        let shrunk = shrink(&schedule, 10_000, 1, wanted);
        assert_eq!(shrunk.schedule.validate(), Ok(()));
        assert_eq!(shrunk.schedule.steps.len(), 2);
        assert_eq!(shrunk.schedule.heal_ms, 0);
        assert!(
            shrunk.schedule.nodes.len() <= 2,
            "{:?}",
            shrunk.schedule.nodes
        );
        assert_eq!(shrunk.schedule.network.loss, 0);
    }

    #[test]
    fn a_budget_bounds_the_runs() {
        let shrunk = shrink(&crate::generate::random(3), 7, 5, |_| false);
        assert_eq!(
            (shrunk.runs, shrunk.schedule),
            (7, crate::generate::random(3))
        );
    }

    #[test]
    fn a_planted_defect_shrinks_to_a_few_steps() {
        let sabotage = Some(Sabotage::DiffTwice);
        let options = Options {
            sabotage,
            trace: false,
        };
        let found = (0..500).find_map(|seed| {
            let case = Case::new(Tier::Core, Family::Swarm, seed, sabotage);
            let failure = case.run(false).failure?;
            (case.schedule().steps.len() > 20).then_some((case, failure))
        });
        let (case, failure) = found.expect("a diff told twice is found");
        let shrunk = shrink(case.schedule(), 10_000, 100, |candidate| {
            let broken = run(candidate, options).failure;
            broken.is_some_and(|broken| broken.invariant == failure.invariant)
        });
        assert!(
            shrunk.schedule.steps.len() <= 5,
            "{}",
            shrunk.schedule.to_json()
        );
        assert!(
            shrunk.schedule.nodes.len() <= 2,
            "{}",
            shrunk.schedule.to_json()
        );
        let again = run(&shrunk.schedule, options).failure.unwrap();
        assert_eq!(again.invariant, failure.invariant);
    }
}
