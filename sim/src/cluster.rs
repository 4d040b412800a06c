//! A cluster of trackers, each checked after whatever happens to it.
//!
//! It has no clock, no network and no chance: whoever drives it says what time it is, gives each tracker
//! its inputs, and carries what the trackers send. After each input of a shard, and after its beginning,
//! everything is drained, in this order:
//!
//! 1. [`poll_transmit`](Cluster::poll_transmit) until there is none; each goes to
//!    [`check_sent`](Cluster::check_sent), and for each receiver to [`send`](Cluster::send).
//! 2. [`poll_diff`](Cluster::poll_diff) until there is none; each goes to
//!    [`hear_diff`](Cluster::hear_diff) and then to [`check_topic`](Cluster::check_topic).
//! 3. [`settle`](Cluster::settle).
//!
//! The truth is made of what the trackers were asked to do.

mod check;
mod diffs;
mod failure;
mod healed;
mod inputs;
mod judge;
mod messages;
mod node;
mod view;
mod writing;

use std::time::Duration;

use presence_core::clock::ReplicaId;
use presence_core::tracker::{Config, Stats, Tracker};

pub(crate) use self::diffs::Told;
use self::node::{Begun, Life, Node, Shard};
use self::writing::Trace;
pub(crate) use self::writing::words;
use crate::coverage::{Counted, Coverage};
use crate::outcome::{Failure, Outcome, Traffic};
use crate::schedule::Schedule;
use crate::truth::{How, Leaving, Truth};

/// Microseconds since the start of a simulation.
pub(crate) type Micros = u64;

/// The first invariant that broke; boxed since it is rare.
pub(crate) type Checked<T = ()> = Result<T, Box<Failure>>;

pub(crate) struct Cluster<'a> {
    schedule: &'a Schedule,
    /// What the trackers should keep to.
    pub(crate) config: Config,
    pub(crate) now: Micros,
    pub(crate) nodes: Vec<Node>,
    pub(crate) truth: Truth,
    pub(crate) coverage: Coverage,
    pub(crate) traffic: Traffic,
    /// What the trackers that are gone counted.
    stats: Stats,
    /// How often a list has changed, or a life has begun or ended.
    changes: u64,
    /// Whether all agreed, as of so many changes.
    agreed: Option<(u64, bool)>,
    trace: Option<Trace>,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(schedule: &'a Schedule, trace: bool) -> Self {
        let nodes = schedule.nodes.iter().map(|spec| Node::new(spec, schedule));
        Self {
            schedule,
            config: schedule.config(),
            now: 0,
            nodes: nodes.collect(),
            truth: Truth::default(),
            coverage: Coverage::default(),
            traffic: Traffic::default(),
            stats: Stats::default(),
            changes: 0,
            agreed: None,
            trace: trace.then(Trace::default),
        }
    }

    /// A node's process begins, the last one having ended; the number of its life. None of its shards
    /// has begun yet.
    pub(crate) fn begin_life(&mut self, node: usize, replica: &ReplicaId) -> u32 {
        let begins = &mut self.nodes[node];
        begins.lives += 1;
        let number = begins.lives;
        let shards = (0..begins.pool).map(|_| None).collect();
        begins.life = Some(Life { number, shards });
        self.changes += 1;
        self.log(node, || format!("starts as {replica}"));
        self.span(node, "life", self.now);
        number
    }

    /// A shard begins within the life of its node, at the time that its own clock shows, or begins anew:
    /// what it had before is lost. Drain it then.
    pub(crate) fn begin_shard(
        &mut self,
        node: usize,
        shard: usize,
        tracker: Tracker,
        local: Duration,
    ) {
        let nodes = self.nodes.len();
        let Some(mut number) = self.life(node) else {
            return;
        };
        let incarnation = tracker.replica().incarnation();
        if self.nodes[node].shard(shard).is_some() {
            self.nodes[node].lives += 1;
            number = self.nodes[node].lives;
            self.log(node, || {
                format!("shard {shard} begins anew as {}", tracker.replica())
            });
            self.lose_processes(node, shard, How::Crashed);
        }
        let begins = &mut self.nodes[node];
        let Some(life) = &mut begins.life else {
            return;
        };
        let life = &mut life.shards[shard];
        if let Some(before) = life.replace(Shard::new(tracker, number, local, nodes)) {
            self.stats = self.stats + before.tracker.stats();
        }
        begins.begun[shard] = Begun {
            life: number,
            incarnation,
        };
        self.changes += 1;
    }

    /// A node's process is gone without a word.
    pub(crate) fn crash(&mut self, node: usize) {
        self.coverage.count(Counted::Crash);
        self.log(node, || "crashes".into());
        for shard in 0..self.nodes[node].pool {
            self.lose_processes(node, shard, How::Crashed);
        }
        self.end_life(node);
    }

    /// A node's process is gone.
    pub(crate) fn end_life(&mut self, node: usize) {
        let Some(life) = self.nodes[node].life.take() else {
            return;
        };
        self.nodes[node].ended = Some(self.now);
        self.changes += 1;
        self.end_span(node, "life");
        for shard in life.shards.iter().flatten() {
            self.stats = self.stats + shard.tracker.stats();
        }
    }

    /// The processes of a shard end with it.
    fn lose_processes(&mut self, node: usize, shard: usize, how: How) {
        let leaving = Leaving { at: self.now, how };
        let Some(of_shard) = self.nodes[node].shard_mut(shard) else {
            return;
        };
        for (_, number) in std::mem::take(&mut of_shard.alive) {
            self.truth.leave(number, leaving, None);
            of_shard.untold.push(number);
        }
    }

    /// The number of a node's life, where it lives.
    pub(crate) fn life(&self, node: usize) -> Option<u32> {
        self.nodes[node].life.as_ref().map(|life| life.number)
    }

    /// A shard, where it lives.
    pub(crate) fn shard(&self, node: usize, shard: usize) -> Option<&Shard> {
        self.nodes[node].shard(shard)
    }

    fn shard_mut(&mut self, node: usize, shard: usize) -> Option<&mut Shard> {
        self.nodes[node].shard_mut(shard)
    }

    /// A shard's tracker, to plant a defect into.
    pub(crate) fn tracker_mut(&mut self, node: usize, shard: usize) -> Option<&mut Tracker> {
        self.shard_mut(node, shard).map(|shard| &mut shard.tracker)
    }

    /// The node of this name.
    pub(crate) fn named(&self, name: &str) -> usize {
        let found = self.nodes.iter().position(|node| *node.name == *name);
        found.expect("a schedule names nodes that are there")
    }

    /// What a run came to, as far as the cluster knows it.
    pub(crate) fn outcome(mut self, failure: Option<Box<Failure>>) -> Outcome {
        for node in 0..self.nodes.len() {
            self.end_life(node);
        }
        let stats = self.stats;
        for (counted, times) in [
            (Counted::FromLog, stats.transfers_incremental),
            (Counted::FullState, stats.transfers_full),
            (Counted::Chunks, stats.chunks),
            (Counted::Deferred, stats.deferred),
            (Counted::Superseded, stats.superseded),
            (Counted::Replaced, stats.replaced),
            (Counted::SuspectedItself, stats.suspected_itself),
            (Counted::HandedOver, stats.handed_over),
        ] {
            self.coverage.add(counted, times);
        }
        Outcome {
            failure: failure.map(|failure| *failure),
            coverage: self.coverage,
            traffic: self.traffic,
            events: 0,
            simulated: Duration::from_micros(self.now),
            converged_after: None,
            sabotaged: 0,
            trace: self.trace.map(Trace::finish),
        }
    }
}
