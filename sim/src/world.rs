//! The first tier: a cluster of pure trackers on an event queue.
//!
//! Nothing in it depends on the process that runs it: one thread, one queue ordered by time and then by
//! what was queued first, and random numbers from the schedule's seed.

mod actions;
mod network;
mod process;
mod spoil;
mod trackers;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use presence_core::clock::ReplicaId;
use presence_core::tracker::Tracker;
use presence_core::tracker::journal::Input;

use self::network::Link;
use self::process::{Host, Parcel, Process, Shard};
use crate::cluster::{Checked, Cluster, Micros};
use crate::coverage::Counted;
use crate::outcome::{Failure, Invariant, Outcome};
use crate::panic;
use crate::sabotage::spoil::{Mouth, spoil_config};
use crate::sabotage::{Sabotage, Saboteur};
use crate::schedule::Schedule;

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
        Err(panic) => Some(world.cluster.panicked(panic)),
    };
    world.outcome(failure)
}

struct World<'a> {
    schedule: &'a Schedule,
    cluster: Cluster<'a>,
    rng: fastrand::Rng,
    saboteur: Saboteur,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    /// What each node runs on.
    hosts: Vec<Host>,
    /// From each node to each.
    links: Vec<Link>,
    events: u64,
    /// Nodes for which the faults have ended.
    healed: Vec<bool>,
    converged_after: Option<Micros>,
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
        Self {
            schedule,
            cluster: Cluster::new(schedule, options.trace),
            rng: fastrand::Rng::with_seed(schedule.seed),
            saboteur: Saboteur::new(options.sabotage, schedule.seed),
            queue: BinaryHeap::new(),
            queued: 0,
            hosts: (0..count).map(|_| Host::default()).collect(),
            links: (0..count * count).map(|_| Link::default()).collect(),
            events: 0,
            healed: vec![false; count],
            converged_after: None,
        }
    }

    fn run(&mut self) -> Checked {
        for (node, spec) in self.schedule.nodes.iter().enumerate() {
            if spec.clock_ppm != 0 {
                self.cluster.coverage.count(Counted::ClockSkew);
            }
            if spec.starts {
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
            self.run_until(heal + self.cluster.bound())?;
            let part = self.schedule.heal_first.iter();
            let part: Vec<usize> = part.map(|name| self.cluster.named(name)).collect();
            self.cluster.check_agreement(&part)?;
            let now = self.cluster.now;
            self.at(now, Happening::Heal { all: true });
            self.run_until(now)?;
        }
        self.run_until_converged()?;
        let before = self.cluster.traffic;
        self.run_until(self.cluster.now + self.cluster.idle_time())?;
        self.cluster.check_idle(before)?;
        if let Some(time) = self.cluster.forgetting_time() {
            self.run_until(self.cluster.now + time)?;
            self.cluster.check_forgotten()?;
        }
        Ok(())
    }

    /// All agree within the bound; notes after how long they did.
    fn run_until_converged(&mut self) -> Checked {
        let healed = self.cluster.now;
        let end = healed + self.cluster.bound();
        let period = self.cluster.config.broadcast_period.as_micros() as u64;
        let step = (period / 4).max(1);
        while self.cluster.now < end {
            let now = self.cluster.now;
            if self.cluster.agree() {
                self.converged_after.get_or_insert(now - healed);
            } else {
                self.converged_after = None;
            }
            self.run_until((now + step).min(end))?;
        }
        let all: Vec<usize> = (0..self.hosts.len()).collect();
        self.cluster.check_agreement(&all)?;
        let now = self.cluster.now;
        self.converged_after.get_or_insert(now - healed);
        self.cluster
            .log_all(|| format!("at {:.3} s all agree", now as f64 / 1e6));
        Ok(())
    }

    fn run_until(&mut self, end: Micros) -> Checked {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at > end {
                break;
            }
            let Some(Reverse(next)) = self.queue.pop() else {
                break;
            };
            self.cluster.now = next.at;
            self.events += 1;
            let sabotaged = self.saboteur.acted;
            let held = self.happen(next.happening);
            if self.saboteur.acted > sabotaged {
                self.cluster
                    .log_all(|| "here the planted defect acted".into());
            }
            held?;
            self.check_storm()?;
        }
        self.cluster.now = end;
        Ok(())
    }

    /// A run comes to an end, and what is on its way has a bound.
    fn check_storm(&self) -> Checked {
        const EVENTS: u64 = 50_000_000;
        const WAITING: usize = 2_000_000;
        let (events, waiting) = (self.events, self.queue.len());
        if events < EVENTS && waiting < WAITING {
            return Ok(());
        }
        let what = format!("after {events} events {waiting} more are waiting");
        Err(self.cluster.failure(Invariant::NoStorm, 0, what))
    }

    fn at(&mut self, at: Micros, happening: Happening) {
        let order = self.queued;
        self.queued += 1;
        self.queue.push(Reverse(Queued {
            at: at.max(self.cluster.now),
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
                    let what = || "its sockets are drained, its process ends".into();
                    self.cluster.log(node, what);
                    self.cluster.end_life(node);
                    self.hosts[node].process = None;
                }
                Ok(())
            }
            Happening::Gone { node, life, of } => {
                // One that lives again is connected again, and nobody takes it for gone.
                if self.is_life(node, life) && self.hosts[of].process.is_none() {
                    self.cluster.coverage.count(Counted::CrashSeen);
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
        let nodes = self.schedule.nodes.iter();
        let first: Vec<bool> = nodes
            .map(|node| all || self.schedule.heal_first.contains(&node.name))
            .collect();
        self.healed.clone_from(&first);
        if all {
            self.cluster.log_all(|| "all faults end".into());
        } else {
            self.cluster.coverage.count(Counted::HealedPart);
            self.cluster.log_all(|| "faults end within a part".into());
        }
        let count = self.hosts.len();
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
            if let Some(process) = &mut self.hosts[node].process {
                process.slow_until = 0;
                let life = process.life;
                if process.paused_until > self.cluster.now {
                    self.resume(node, life)?;
                }
            }
        }
        self.reconnect(&mended);
        Ok(())
    }

    // Nodes.

    fn start(&mut self, node: usize, clock_ms: i64) -> Checked {
        if self.hosts[node].process.is_some() {
            return Ok(());
        }
        let now = self.cluster.now;
        let apart = self.links.iter().any(|link| link.cuts > 0);
        if apart && now > 0 {
            self.cluster.coverage.count(Counted::StartedApart);
        }
        let incarnation = self.incarnation(node, clock_ms);
        let spec = &self.cluster.nodes[node];
        let (name, pool) = (Arc::clone(&spec.name), spec.pool);
        let is_reused = spec.lives > 0 && incarnation == spec.incarnation();
        let mut config = self.cluster.config.clone();
        spoil_config(&mut self.saboteur, &mut config);
        let mut mouth = Mouth::default();
        mouth.is_clockless = self.saboteur.acts(Sabotage::NoClocks);
        mouth.is_mute = self.saboteur.acts(Sabotage::TransfersRefused);
        let replica = ReplicaId::new(name, incarnation);
        let life = self.cluster.begin_life(node, &replica);
        for shard in 0..pool {
            let random = self.rng.u64(..);
            let tracker = Tracker::new(replica.clone(), config.clone(), 11, random, Duration::ZERO);
            let tracker = tracker.expect("a schedule's settings were checked");
            self.cluster
                .begin_shard(node, shard, tracker, Duration::ZERO);
        }
        let clock_ppm = self.schedule.nodes[node].clock_ppm;
        let shard = Shard { timer: None, mouth };
        let process = Process::new(life, now, clock_ppm, vec![shard; pool], is_reused);
        self.hosts[node].process = Some(process);
        for shard in 0..pool {
            self.drain(node, shard)?;
        }
        for of in 0..self.hosts.len() {
            if of != node && self.schedule.network.announces {
                let soon = now + self.rng.u64(0..200_000);
                self.at(soon, Happening::Connected { node, of });
                self.at(soon, Happening::Connected { node: of, of: node });
            }
        }
        Ok(())
    }

    /// The incarnation that a node's wall clock gives it.
    fn incarnation(&mut self, node: usize, clock_ms: i64) -> u64 {
        let host = &mut self.hosts[node];
        host.wall_ms += clock_ms;
        let wall = 1_000_000_000 + (self.cluster.now / 1000) as i64 + host.wall_ms;
        let incarnation = wall.max(1) as u64;
        let spec = &self.cluster.nodes[node];
        if spec.lives == 0 {
            return incarnation;
        }
        let last = spec.incarnation();
        let incarnation = incarnation + u64::from(incarnation == last);
        if incarnation < last {
            self.cluster.coverage.count(Counted::ClockBack);
        }
        if self.saboteur.acts(Sabotage::IncarnationReused) {
            return last;
        }
        incarnation
    }

    fn is_life(&self, node: usize, life: u32) -> bool {
        let process = self.hosts[node].process.as_ref();
        process.is_some_and(|process| process.life == life)
    }

    /// Whether a node can do something now.
    fn runs(&self, node: usize) -> bool {
        let process = self.hosts[node].process.as_ref();
        process.is_some_and(|process| process.paused_until <= self.cluster.now)
    }

    fn timer(&mut self, node: usize, life: u32, shard: usize) -> Checked {
        if !self.is_life(node, life) || !self.runs(node) {
            return Ok(());
        }
        let process = self.hosts[node].process.as_ref();
        if process.is_none_or(|process| process.shards[shard].timer != Some(self.cluster.now)) {
            return Ok(());
        }
        self.tick(node, shard)
    }

    fn resume(&mut self, node: usize, life: u32) -> Checked {
        if !self.is_life(node, life) {
            return Ok(());
        }
        let now = self.cluster.now;
        let Some(process) = &mut self.hosts[node].process else {
            return Ok(());
        };
        process.paused_until = 0;
        process.busy_until = now;
        let waiting = process.inbox.len();
        let pool = process.shards.len();
        self.cluster.end_span(node, "paused");
        self.cluster
            .log(node, || format!("goes on, {waiting} messages wait for it"));
        // Which comes first, its timers or its inbox, is a matter of chance.
        let timers_first = self.rng.bool();
        if timers_first {
            for shard in 0..pool {
                self.tick(node, shard)?;
            }
        }
        self.at(now, Happening::Work { node, life });
        if !timers_first {
            let later = now + self.rng.u64(1..10_000);
            for shard in 0..pool {
                if let Some(process) = &mut self.hosts[node].process {
                    process.shards[shard].timer = Some(later);
                }
                self.at(later, Happening::Timer { node, life, shard });
            }
        }
        Ok(())
    }

    fn tell_gone(&mut self, node: usize, of: usize) -> Checked {
        if !self.runs(node) {
            return Ok(());
        }
        let name = Arc::clone(&self.cluster.nodes[of].name);
        self.cluster
            .log_found(node, &name, || format!("is told that {name} is gone"));
        for shard in 0..self.cluster.nodes[node].pool {
            let peer = Arc::clone(&name);
            self.call(node, shard, Input::Gone { peer })?;
        }
        Ok(())
    }

    fn connect(&mut self, node: usize, of: usize) -> Checked {
        let both_run = self.runs(node) && self.hosts[of].process.is_some();
        if !both_run || self.link(node, of).cuts > 0 || self.link(of, node).cuts > 0 {
            return Ok(());
        }
        for shard in 0..self.cluster.nodes[node].pool {
            let peer = Arc::clone(&self.cluster.nodes[of].name);
            self.call(node, shard, Input::Connected { peer })?;
        }
        Ok(())
    }

    fn outcome(self, failure: Option<Box<Failure>>) -> Outcome {
        Outcome {
            events: self.events,
            converged_after: self.converged_after.map(Duration::from_micros),
            sabotaged: self.saboteur.acted,
            ..self.cluster.outcome(failure)
        }
    }
}
