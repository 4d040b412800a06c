//! The first tier: a cluster of pure trackers on an event queue.
//!
//! Nothing in it depends on the process that runs it: one thread, one queue ordered by time and then by
//! what was queued first, and random numbers from the schedule's seed.

mod actions;
mod check;
mod healed;
mod network;
mod node;
mod outcome;
mod panic;
mod spoil;
mod trackers;
mod view;
mod writing;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use presence_core::clock::ReplicaId;
use presence_core::tracker::{Config, Stats, Tracker};

use self::check::Cause;
use self::network::{Link, Parcel};
use self::node::{Life, Node, Shard};
pub use self::outcome::{Failure, Invariant, Outcome, Traffic};
use self::writing::Trace;
pub(crate) use self::writing::words;
use crate::coverage::{Counted, Coverage};
use crate::sabotage::{Sabotage, Saboteur};
use crate::schedule::Schedule;
use crate::truth::{self, Truth};

/// Microseconds since the start of a simulation.
pub(crate) type Micros = u64;

/// How a schedule is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A defect to plant.
    pub sabotage: Option<Sabotage>,
    /// Whether what happens is written down.
    pub trace: bool,
}

/// Runs a schedule to its end, or to the first invariant that breaks.
///
/// A panic is a failure like any other: what happened before it is kept.
pub fn run(schedule: &Schedule, options: Options) -> Outcome {
    let mut world = World::new(schedule, options);
    let held = panic::caught(|| world.run());
    let failure = match held {
        Ok(held) => held.err(),
        Err(panic) => Some(world.panicked(panic)),
    };
    world.outcome(failure)
}

/// The first invariant that broke; boxed since it is rare.
type Checked<T = ()> = Result<T, Box<Failure>>;

struct World<'a> {
    schedule: &'a Schedule,
    config: Config,
    rng: fastrand::Rng,
    saboteur: Saboteur,
    now: Micros,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    nodes: Vec<Node>,
    /// From each node to each.
    links: Vec<Link>,
    truth: Truth,
    coverage: Coverage,
    traffic: Traffic,
    /// What the trackers that are gone counted.
    stats: Vec<Stats>,
    events: u64,
    /// How often a list has changed, or a life has begun or ended.
    changes: u64,
    /// Nodes for which the faults have ended.
    healed: Vec<bool>,
    converged_after: Option<Micros>,
    trace: Option<Trace>,
}

struct Queued {
    at: Micros,
    order: u64,
    happening: Happening,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// What can come to pass.
enum Happening {
    Step(usize),
    Deliver(Parcel),
    /// A node takes the next message that waits for it.
    Work {
        node: usize,
        life: u32,
    },
    Timer {
        node: usize,
        life: u32,
        shard: usize,
    },
    Resume {
        node: usize,
        life: u32,
    },
    /// A node that stopped has drained its sockets.
    Exit {
        node: usize,
        life: u32,
    },
    /// A node learns that another's process is gone.
    Gone {
        node: usize,
        life: u32,
        of: usize,
    },
    /// A node is connected to another, anew or again.
    Connected {
        node: usize,
        of: usize,
    },
    Uncut {
        links: Vec<usize>,
    },
    Release {
        links: Vec<usize>,
    },
    /// Faults end within a part of the cluster, or everywhere.
    Heal {
        all: bool,
    },
}

impl<'a> World<'a> {
    fn new(schedule: &'a Schedule, options: Options) -> Self {
        let count = schedule.nodes.len();
        let links = (0..count * count).map(|_| Link::default()).collect();
        let nodes = schedule.nodes.iter().map(|spec| Node::new(spec, schedule));
        Self {
            schedule,
            config: schedule.config(),
            rng: fastrand::Rng::with_seed(schedule.seed),
            saboteur: Saboteur::new(options.sabotage, schedule.seed),
            now: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            nodes: nodes.collect(),
            links,
            truth: Truth::default(),
            coverage: Coverage::default(),
            traffic: Traffic::default(),
            stats: Vec::new(),
            events: 0,
            changes: 0,
            healed: vec![false; count],
            converged_after: None,
            trace: options.trace.then(Trace::default),
        }
    }

    fn run(&mut self) -> Checked {
        for node in 0..self.nodes.len() {
            if self.nodes[node].spec.clock_ppm != 0 {
                self.coverage.count(Counted::ClockSkew);
            }
            if self.nodes[node].spec.starts {
                self.start(node, 0)?;
            }
        }
        for (index, step) in self.schedule.steps.iter().enumerate() {
            self.at(step.at_ms * 1000, Happening::Step(index));
        }
        let heal = self.schedule.heal_ms * 1000;
        let parts = !self.schedule.heal_first.is_empty();
        self.at(heal, Happening::Heal { all: !parts });
        self.run_until(heal)?;
        if parts {
            self.run_until(heal + self.bound())?;
            self.check_part()?;
            self.at(self.now, Happening::Heal { all: true });
            self.run_until(self.now)?;
        }
        let healed = self.now;
        self.run_until_converged(healed)?;
        self.check_idle()?;
        self.check_forgotten()
    }

    fn run_until(&mut self, end: Micros) -> Checked {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at > end {
                break;
            }
            let Some(Reverse(next)) = self.queue.pop() else {
                break;
            };
            self.now = next.at;
            self.events += 1;
            let sabotaged = self.saboteur.acted;
            let held = self.happen(next.happening);
            if self.saboteur.acted > sabotaged {
                self.log_all(|| "here the planted defect acted".into());
            }
            held?;
            self.check_storm()?;
        }
        self.now = end;
        Ok(())
    }

    fn at(&mut self, at: Micros, happening: Happening) {
        let order = self.queued;
        self.queued += 1;
        self.queue.push(Reverse(Queued {
            at: at.max(self.now),
            order,
            happening,
        }));
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Step(index) => {
                let action = &self.schedule.steps[index].action;
                self.act(action)
            }
            Happening::Deliver(parcel) => self.deliver(parcel),
            Happening::Work { node, life } => self.work(node, life),
            Happening::Timer { node, life, shard } => self.timer(node, life, shard),
            Happening::Resume { node, life } => self.resume(node, life),
            Happening::Exit { node, life } => {
                if self.is_life(node, life) {
                    self.log(node, || "its sockets are drained, its process ends".into());
                    self.end_life(node);
                }
                Ok(())
            }
            Happening::Gone { node, life, of } => {
                // One that lives again is connected again, and nobody takes it for gone.
                if self.is_life(node, life) && self.nodes[of].life.is_none() {
                    self.coverage.count(Counted::CrashSeen);
                    self.tell_gone(node, of)?;
                }
                Ok(())
            }
            Happening::Connected { node, of } => self.connect(node, of),
            Happening::Uncut { links } => {
                for &link in &links {
                    self.links[link].cuts = self.links[link].cuts.saturating_sub(1);
                }
                self.reconnect(&links);
                Ok(())
            }
            Happening::Release { links } => {
                for link in links {
                    self.release(link);
                }
                Ok(())
            }
            Happening::Heal { all } => self.heal(all),
        }
    }

    fn heal(&mut self, all: bool) -> Checked {
        let first: Vec<bool> = self
            .nodes
            .iter()
            .map(|node| all || self.schedule.heal_first.contains(&node.spec.name))
            .collect();
        self.healed.clone_from(&first);
        if all {
            self.log_all(|| "all faults end".into());
        } else {
            self.coverage.count(Counted::HealedPart);
            self.log_all(|| "faults end within a part".into());
        }
        let count = self.nodes.len();
        let mut mended = Vec::new();
        for from in 0..count {
            for to in 0..count {
                let link = from * count + to;
                if first[from] && first[to] {
                    if self.links[link].cuts > 0 {
                        mended.push(link);
                    }
                    self.links[link].cuts = 0;
                    self.links[link].holds = 0;
                    self.release(link);
                } else if first[from] != first[to] {
                    // Until all heals.
                    self.links[link].cuts += 1;
                }
            }
        }
        for (node, _) in first.iter().enumerate().filter(|(_, first)| **first) {
            if let Some(life) = &mut self.nodes[node].life {
                life.slow_until = 0;
                let number = life.number;
                if life.paused_until > self.now {
                    self.resume(node, number)?;
                }
            }
        }
        self.reconnect(&mended);
        Ok(())
    }

    // Nodes.

    fn start(&mut self, node: usize, clock_ms: i64) -> Checked {
        if self.nodes[node].life.is_some() {
            return Ok(());
        }
        let apart = self.links.iter().any(|link| link.cuts > 0);
        if apart && self.now > 0 {
            self.coverage.count(Counted::StartedApart);
        }
        let incarnation = self.incarnation(node, clock_ms);
        let reused = self.nodes[node].lives > 0 && incarnation == self.nodes[node].incarnation;
        let spec = &mut self.nodes[node];
        spec.lives += 1;
        spec.incarnation = incarnation;
        let number = spec.lives;
        let mut config = self.config.clone();
        if self.saboteur.acts(Sabotage::EagerDown) {
            // No shorter than what an idle node needs, which the configuration refuses.
            config.down_period = config
                .broadcast_period
                .saturating_mul(config.max_silent_periods + 2)
                + Duration::from_millis(1);
        }
        if self.saboteur.acts(Sabotage::LazyDown) {
            config.down_period *= 3;
            config.permdown_period *= 3;
        }
        let defects = node::Defects {
            no_clocks: self.saboteur.acts(Sabotage::NoClocks),
            refuses_transfers: self.saboteur.acts(Sabotage::TransfersRefused),
            reused,
        };
        let replica = ReplicaId::new(Arc::clone(&self.nodes[node].name), incarnation);
        let mut shards = Vec::new();
        for _ in 0..self.nodes[node].pool {
            let random = self.rng.u64(..);
            let tracker = Tracker::new(replica.clone(), config.clone(), 11, random, Duration::ZERO);
            let tracker = tracker.expect("a schedule's settings were checked");
            shards.push(Shard::new(tracker));
        }
        let life = Life::new(
            number,
            self.now,
            self.nodes[node].spec.clock_ppm,
            shards,
            defects,
        );
        self.nodes[node].life = Some(life);
        self.changes += 1;
        self.log(node, || format!("starts as {replica}"));
        self.span(node, "life", self.now);
        for shard in 0..self.nodes[node].pool {
            self.drain(node, shard, Cause::Local)?;
        }
        for of in 0..self.nodes.len() {
            if of != node && self.schedule.network.announces {
                let soon = self.now + self.rng.u64(0..200_000);
                self.at(soon, Happening::Connected { node, of });
                self.at(soon, Happening::Connected { node: of, of: node });
            }
        }
        Ok(())
    }

    /// The incarnation that a node's wall clock gives it.
    fn incarnation(&mut self, node: usize, clock_ms: i64) -> u64 {
        let spec = &mut self.nodes[node];
        spec.wall_ms += clock_ms;
        let wall = 1_000_000_000 + (self.now / 1000) as i64 + spec.wall_ms;
        let mut incarnation = wall.max(1) as u64;
        if spec.lives > 0 && incarnation == spec.incarnation {
            incarnation += 1;
        }
        let last = spec.incarnation;
        if spec.lives > 0 {
            if incarnation < last {
                self.coverage.count(Counted::ClockBack);
            }
            if self.saboteur.acts(Sabotage::IncarnationReused) {
                incarnation = last;
            }
        }
        incarnation
    }

    /// A node's process is gone.
    fn end_life(&mut self, node: usize) {
        let Some(life) = self.nodes[node].life.take() else {
            return;
        };
        self.nodes[node].ended = Some(self.now);
        self.changes += 1;
        self.end_span(node, "life");
        for shard in &life.shards {
            self.stats.push(shard.tracker.stats());
        }
    }

    fn is_life(&self, node: usize, number: u32) -> bool {
        let life = self.nodes[node].life.as_ref();
        life.is_some_and(|life| life.number == number)
    }

    /// Whether a node can do something now.
    fn runs(&self, node: usize) -> bool {
        let life = self.nodes[node].life.as_ref();
        life.is_some_and(|life| life.paused_until <= self.now)
    }

    fn timer(&mut self, node: usize, number: u32, shard: usize) -> Checked {
        if !self.is_life(node, number) || !self.runs(node) {
            return Ok(());
        }
        let now = self.now;
        let Some(life) = &mut self.nodes[node].life else {
            return Ok(());
        };
        if life.shards[shard].timer != Some(now) {
            return Ok(());
        }
        self.tick(node, shard)
    }

    /// Lets a shard's time pass.
    fn tick(&mut self, node: usize, shard: usize) -> Checked {
        let count = self.nodes.len();
        let now = self.now;
        let Some(life) = &mut self.nodes[node].life else {
            return Ok(());
        };
        let local = life.local(now);
        let of_shard = &mut life.shards[shard];
        of_shard.timer = None;
        let late = local.saturating_sub(of_shard.tracker.period_ends());
        for of in 0..count {
            of_shard.heard[of].forgive(late, local);
        }
        if self.saboteur.is(Sabotage::NeverDown) {
            self.forge_words(node, shard, local);
        }
        let Some(life) = &mut self.nodes[node].life else {
            return Ok(());
        };
        life.shards[shard].tracker.handle_timeout(local);
        self.drain(node, shard, Cause::Timer)?;
        if late <= self.config.broadcast_period {
            self.check_promises(node, shard)?;
        }
        self.check_list(node, shard)
    }

    fn resume(&mut self, node: usize, number: u32) -> Checked {
        if !self.is_life(node, number) {
            return Ok(());
        }
        let now = self.now;
        let Some(life) = &mut self.nodes[node].life else {
            return Ok(());
        };
        life.paused_until = 0;
        life.busy_until = now;
        let waiting = life.inbox.len();
        self.end_span(node, "paused");
        self.log(node, || format!("goes on, {waiting} messages wait for it"));
        // Which comes first, its timers or its inbox, is a matter of chance.
        let timers_first = self.rng.bool();
        if timers_first {
            self.overdue(node)?;
        }
        self.at(self.now, Happening::Work { node, life: number });
        if !timers_first {
            let later = self.now + self.rng.u64(1..10_000);
            for shard in 0..self.nodes[node].pool {
                if let Some(life) = &mut self.nodes[node].life {
                    life.shards[shard].timer = Some(later);
                }
                let life = number;
                self.at(later, Happening::Timer { node, life, shard });
            }
        }
        Ok(())
    }

    fn overdue(&mut self, node: usize) -> Checked {
        for shard in 0..self.nodes[node].pool {
            self.tick(node, shard)?;
        }
        Ok(())
    }

    fn tell_gone(&mut self, node: usize, of: usize) -> Checked {
        if !self.runs(node) {
            return Ok(());
        }
        let name = Arc::clone(&self.nodes[of].name);
        self.log_found(node, &name, || format!("is told that {name} is gone"));
        for shard in 0..self.nodes[node].pool {
            let now = self.now;
            if let Some(life) = &mut self.nodes[node].life {
                let local = life.local(now);
                life.shards[shard].tracker.handle_gone(&name, local);
            }
            self.drain(node, shard, Cause::Gone(of))?;
        }
        Ok(())
    }

    fn connect(&mut self, node: usize, of: usize) -> Checked {
        let both_run = self.runs(node) && self.nodes[of].life.is_some();
        if !both_run || self.link(node, of).cuts > 0 || self.link(of, node).cuts > 0 {
            return Ok(());
        }
        let name = Arc::clone(&self.nodes[of].name);
        for shard in 0..self.nodes[node].pool {
            let now = self.now;
            if let Some(life) = &mut self.nodes[node].life {
                let local = life.local(now);
                life.shards[shard].tracker.handle_connected(&name, local);
            }
            self.drain(node, shard, Cause::Local)?;
        }
        Ok(())
    }

    fn outcome(mut self, failure: Option<Box<Failure>>) -> Outcome {
        for node in 0..self.nodes.len() {
            self.end_life(node);
        }
        for stats in std::mem::take(&mut self.stats) {
            self.coverage
                .add(Counted::FromLog, stats.transfers_incremental);
            self.coverage.add(Counted::FullState, stats.transfers_full);
            self.coverage.add(Counted::Chunks, stats.chunks);
            self.coverage.add(Counted::Deferred, stats.deferred);
            self.coverage.add(Counted::Superseded, stats.superseded);
            self.coverage.add(Counted::Replaced, stats.replaced);
            self.coverage
                .add(Counted::SuspectedItself, stats.suspected_itself);
            self.coverage.add(Counted::HandedOver, stats.handed_over);
        }
        Outcome {
            failure: failure.map(|failure| *failure),
            coverage: self.coverage,
            traffic: self.traffic,
            events: self.events,
            simulated: Duration::from_micros(self.now),
            converged_after: self.converged_after.map(Duration::from_micros),
            sabotaged: self.saboteur.acted,
            trace: self.trace.map(Trace::finish),
        }
    }
}

/// The number that an entry's meta carries.
fn number_of(meta: &str) -> truth::Number {
    truth::number(meta).expect("every meta of a simulation carries a number")
}

/// The action's node.
fn node_named(nodes: &[Node], name: &str) -> usize {
    let found = nodes.iter().position(|node| *node.name == *name);
    found.expect("a schedule names nodes that are there")
}
