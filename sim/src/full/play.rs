//! A run: the schedule's steps, tick after tick.

mod actions;
mod setups;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fastrand::Rng;
use tokio::sync::mpsc;
use turmoil::Sim;

use self::actions::topics;
use self::setups::setups;
use super::happened::Happened;
use super::host;
use super::judge::{Checked, Judge};
use super::links::Links;
use super::people::{self, HOSTS, People};
use super::stage::{Call, EPOCH, Stage, Written};
use crate::cluster::Micros;
use crate::coverage::Counted;
use crate::outcome::{Failure, Outcome};
use crate::panic;
use crate::sabotage::Saboteur;
use crate::schedule::Schedule;
use crate::world::Options;

/// A step of time, in microseconds: what happens within one happens at once.
pub(super) const TICK: Micros = 10_000;

/// Runs a schedule with the real node, to its end or to the first invariant that breaks.
pub fn run(schedule: &Schedule, options: Options) -> Outcome {
    Play::new(schedule, options).finish()
}

struct Play<'a> {
    schedule: &'a Schedule,
    sim: Sim<'static>,
    stage: Arc<Stage>,
    people: People,
    judge: Judge<'a>,
    links: Links,
    now: Micros,
    /// By time and then by what came first.
    due: BTreeMap<(Micros, u64), Due>,
    queued: u64,
    happened: Vec<Happened>,
    rng: Rng,
}

/// What comes to pass at a time.
enum Due {
    Step(usize),
    Start {
        node: usize,
        clock_ms: i64,
    },
    Resume {
        node: usize,
        life: u32,
    },
    Mend(Vec<(usize, usize)>),
    Release(Vec<(usize, usize)>),
    /// A node learns that it is connected to another, whom it took for gone.
    Connected {
        at: usize,
        of: usize,
    },
    Unstall(usize),
    /// Some list is read on some node.
    Read,
}

impl<'a> Play<'a> {
    fn new(schedule: &'a Schedule, options: Options) -> Self {
        let saboteur = Saboteur::new(options.sabotage, schedule.seed);
        let stage = Arc::new(Stage::new(schedule, saboteur));
        let network = &schedule.network;
        let mut sim = turmoil::Builder::new()
            .rng_seed(schedule.seed)
            .epoch(UNIX_EPOCH + EPOCH)
            .simulation_duration(Duration::MAX)
            .tick_duration(Duration::from_micros(TICK))
            .tcp_capacity(1024)
            .min_message_latency(Duration::from_micros(network.latency_us))
            .max_message_latency(Duration::from_micros(network.trip_us()))
            .enable_random_order()
            .build();
        let names: Vec<Arc<str>> = schedule
            .nodes
            .iter()
            .map(|n| n.name.as_str().into())
            .collect();
        // Each host is known by name before any runs.
        for name in &names {
            sim.lookup(&**name);
        }
        for setup in setups(schedule, &stage, &names) {
            let (stage, name) = (Arc::clone(&stage), Arc::clone(&setup.name));
            sim.host(&*name, move || host::run(Arc::clone(&stage), setup.clone()));
        }
        let hosts = (0..HOSTS).map(|host| {
            let (births, born) = mpsc::unbounded_channel();
            sim.client(format!("clients-{host}"), people::host(born));
            births
        });
        let hosts = hosts.collect();
        let pools = schedule.nodes.iter().map(|node| node.pool(schedule));
        let pools = pools.collect();
        let people = People::new(
            Arc::clone(&stage),
            schedule.seed,
            pools,
            topics(schedule),
            hosts,
        );
        Self {
            schedule,
            sim,
            people,
            judge: Judge::new(schedule, options.trace),
            links: Links::new(Arc::clone(&stage), names),
            stage,
            now: 0,
            due: BTreeMap::new(),
            queued: 0,
            happened: Vec::new(),
            rng: Rng::with_seed(schedule.seed ^ 0x91a7),
        }
    }

    fn finish(mut self) -> Outcome {
        let failure = match panic::caught(|| self.run()) {
            Ok(held) => held.err(),
            Err(said) => Some(self.judge.panicked(said)),
        };
        self.outcome(failure)
    }

    fn run(&mut self) -> Checked {
        for (index, step) in self.schedule.steps.iter().enumerate() {
            self.at(step.at_ms * 1000, Due::Step(index));
        }
        self.at(self.period(), Due::Read);
        self.run_until(self.schedule.heal_ms * 1000)?;
        if !self.schedule.heal_first.is_empty() {
            let first = &self.schedule.heal_first;
            let names = self.schedule.nodes.iter().map(|node| &node.name);
            let part: Vec<bool> = names.map(|name| first.contains(name)).collect();
            self.heal(&part);
            self.run_until(self.now + self.judge.bound())?;
            self.judge.check_part(&part)?;
        }
        self.heal(&vec![true; self.schedule.nodes.len()]);
        self.run_until_converged()?;
        self.check_broadcasts()?;
        self.check_idle()?;
        self.check_forgotten()
    }

    fn run_until(&mut self, end: Micros) -> Checked {
        while self.now < end {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Checked {
        self.stage.set_now(self.now);
        self.judge.set_now(self.now);
        while let Some(entry) = self.due.first_entry().filter(|due| due.key().0 <= self.now) {
            let due = entry.remove();
            self.happen(due);
        }
        let sabotaged = self.stage.sabotaged();
        if let Err(error) = self.sim.step() {
            return Err(self.judge.panicked(format!("a host ended: {error}")));
        }
        if self.stage.sabotaged() > sabotaged {
            self.judge.log_all("here the planted defect acted");
        }
        self.now += TICK;
        if self.now.is_multiple_of(1_000_000) {
            let Written { bytes, digest } = self.stage.written();
            self.judge
                .log_written(format!("{bytes} bytes were written by now, {digest:016x}"));
        }
        let mut happened = std::mem::take(&mut self.happened);
        self.stage.take_happened(&mut happened);
        for what in happened.drain(..) {
            self.judge.happened(what, &mut self.people)?;
        }
        self.happened = happened;
        self.note_trouble();
        self.judge.check_promises()?;
        match panic::said() {
            Some(said) => Err(self.judge.panicked(said)),
            None => Ok(()),
        }
    }

    /// Tells the judge where something is in the way.
    fn note_trouble(&mut self) {
        let count = self.schedule.nodes.len();
        let stops = |node| self.stage.is_paused(node) || self.stage.slowness(node).is_some();
        let stops: Vec<bool> = (0..count).map(stops).collect();
        for one in 0..count {
            for other in 0..one {
                let links = &self.links;
                let is_cut = links.is_cut(one, other) || links.is_cut(other, one);
                let is_held = links.is_held(one, other) || links.is_held(other, one);
                let is_narrow = self.stage.is_narrow(one, other);
                if is_cut || is_held || is_narrow || stops[one] || stops[other] {
                    self.judge.trouble(one, other);
                }
            }
        }
    }

    fn at(&mut self, at: Micros, due: Due) {
        self.due.insert((at, self.queued), due);
        self.queued += 1;
    }

    fn in_ms(&mut self, ms: u64, due: Due) {
        self.at(self.now + ms * 1000, due);
    }

    fn period(&self) -> Micros {
        self.schedule.settings.broadcast_period * 1000
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Step(index) => self.act(&self.schedule.steps[index].action),
            Due::Start { node, clock_ms } => self.start(node, clock_ms),
            Due::Resume { node, life } => {
                if self.judge.life_of(node) == Some(life) && self.stage.is_paused(node) {
                    self.resume(node);
                }
            }
            Due::Mend(links) => {
                for (from, to) in links {
                    self.links.mend(&self.sim, from, to);
                }
            }
            Due::Release(links) => {
                for (from, to) in links {
                    self.links.release(&self.sim, from, to);
                }
            }
            Due::Connected { at, of } => {
                let reach = !self.stage.is_cut(at, of);
                if let Some(handler) = self.stage.handler(at).filter(|_| reach) {
                    handler.connected(&self.stage.name(of));
                }
            }
            Due::Unstall(client) => self.people.stall(client, false),
            Due::Read => {
                let node = self.rng.usize(0..self.schedule.nodes.len());
                if let Some(topic) = self.judge.some_topic(&mut self.rng) {
                    self.stage.call(node, Call::List(topic));
                }
                let soon = self.now + self.rng.u64(0..self.period());
                self.at(soon, Due::Read);
            }
        }
    }

    /// Faults end for these nodes, and lie on the links between them and the others only.
    fn heal(&mut self, healed: &[bool]) {
        self.stage.calm(healed);
        let all = healed.iter().all(|&healed| healed);
        if all {
            self.judge.log_all("all faults end");
            self.people.calm();
            self.judge.calm();
        } else {
            self.stage.count(Counted::HealedPart);
            self.judge.log_all("faults end within a part");
        }
        for from in 0..healed.len() {
            for to in 0..healed.len() {
                if from == to {
                    continue;
                }
                if healed[from] && healed[to] {
                    self.links.clear(&self.sim, from, to);
                } else if healed[from] != healed[to] {
                    // Until all heals.
                    self.links.cut(&self.sim, from, to);
                }
            }
            if healed[from] && self.stage.is_paused(from) {
                self.resume(from);
            }
        }
        // What is still to be mended is mended.
        self.due
            .retain(|_, due| !matches!(due, Due::Mend(_) | Due::Release(_)) || !all);
    }

    // What must hold once faults have ended.

    fn run_until_converged(&mut self) -> Checked {
        let (healed, bound) = (self.now, self.judge.bound());
        let mut agreed = None;
        while self.now < healed + bound {
            let agrees = self.judge.agree(&self.people).is_ok();
            agreed = agreed.filter(|_| agrees).or(agrees.then_some(self.now));
            self.run_until(self.now + self.period() / 4)?;
        }
        self.judge.agree(&self.people)?;
        self.judge.agreed_after(agreed.unwrap_or(self.now) - healed);
        Ok(())
    }

    /// What is said to all in a topic reaches all, once.
    fn check_broadcasts(&mut self) -> Checked {
        let mut shouted = Vec::new();
        for (topic, id) in self.people.speakers() {
            shouted.push((topic.clone(), id, self.shout(id, &topic)));
        }
        // What a long poll may take, and the way there, over another node at times.
        self.run_until(self.now + self.judge.answer_time())?;
        for (topic, id, number) in shouted {
            self.judge.check_heard(&self.people, &topic, id, number)?;
        }
        Ok(())
    }

    fn check_idle(&mut self) -> Checked {
        let before = self.judge.traffic();
        self.run_until(self.now + self.judge.idle_time())?;
        self.judge.check_idle(before)?;
        self.judge.agree(&self.people)
    }

    fn check_forgotten(&mut self) -> Checked {
        // It takes minutes, which not each run waits for.
        let time = self.judge.forgetting_time();
        let Some(time) = time.filter(|_| self.schedule.seed.is_multiple_of(4)) else {
            return Ok(());
        };
        self.run_until(self.now + time)?;
        self.judge.agree(&self.people)?;
        self.judge.check_forgotten()
    }

    fn outcome(self, failure: Option<Box<Failure>>) -> Outcome {
        let simulated = Duration::from_micros(self.now);
        let (coverage, sabotaged) = (self.stage.take_coverage(), self.stage.sabotaged());
        let failure = failure.map(|failure| self.judge.of_owner(failure, &self.people));
        // The hosts go first: what they drop must find the network.
        drop(self.sim);
        self.judge.outcome(failure, simulated, &coverage, sabotaged)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::panic::catch_unwind;

    use super::*;
    use crate::bench;
    use crate::outcome::Invariant;

    /// A short run, in which a host does something besides.
    fn run_beside(what: impl Future<Output = ()> + 'static) -> Outcome {
        let mut schedule = bench::workload_with_clients(1);
        (schedule.heal_ms, schedule.steps) = (1000, Vec::new());
        let mut play = Play::new(&schedule, Options::default());
        play.sim.client("beside", async move {
            what.await;
            Ok(())
        });
        play.finish()
    }

    #[track_caller]
    fn fails(outcome: Outcome) {
        let failure = outcome.failure.unwrap();
        assert_eq!(failure.invariant, Invariant::NoPanic);
        assert!(failure.what.contains("no dot"), "{}", failure.what);
    }

    #[test]
    fn nothing_that_goes_on_beside_fails_a_run() {
        assert!(run_beside(async {}).failure.is_none());
    }

    #[test]
    fn a_panic_fails_a_run() {
        fails(run_beside(async { panic!("no dot") }));
    }

    #[test]
    fn a_panic_in_a_task_of_which_nobody_hears_fails_a_run() {
        fails(run_beside(async {
            drop(tokio::spawn(async { panic!("no dot") }));
        }));
    }

    #[test]
    fn a_panic_that_is_caught_fails_a_run() {
        fails(run_beside(async {
            assert!(catch_unwind(|| panic!("no dot")).is_err());
        }));
    }
}
