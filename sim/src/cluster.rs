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

use std::collections::BTreeSet;
use std::sync::Arc;

use presence_core::clock::ReplicaId;
use presence_core::tracker::{Config, Stats, Tracker};

pub(crate) use self::diffs::Told;
use self::node::{Begun, Life, Node, Shard};
use self::writing::Trace;
pub(crate) use self::writing::words;
use crate::coverage::{Counted, Coverage};
use crate::outcome::{Failure, Outcome, Traffic};
use crate::schedule::Schedule;
use crate::truth::{How, Leaving, Number, Truth};

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
        if self.nodes[node].life.is_none() {
            return;
        }
        self.coverage.count(Counted::Crash);
        self.log(node, || "crashes".into());
        self.lose(node);
    }

    /// A node's process is gone, and with it the processes that are tracked there.
    pub(crate) fn lose(&mut self, node: usize) {
        for shard in 0..self.nodes[node].pool {
            self.lose_processes(node, shard, How::Crashed);
        }
        self.end_life(node);
    }

    /// A node that does not live is to start: notes how long it was away.
    pub(crate) fn count_restart(&mut self, node: usize) {
        let nodes = &self.nodes;
        if nodes[node].life.is_some() {
            return;
        }
        let Some(ended) = nodes[node].ended else {
            // A first life: of a node that takes the place of one that is gone?
            if nodes.iter().any(|of| of.life.is_none() && of.lives > 0) {
                self.coverage.count(Counted::NewName);
            }
            return;
        };
        let away = Duration::from_micros(self.now - ended);
        let counted = if away < self.config.down_period {
            Counted::RestartEarly
        } else if away < self.config.permdown_period {
            Counted::RestartDown
        } else {
            Counted::RestartPermdown
        };
        self.coverage.count(counted);
    }

    /// What is tracked on a node: in which topic, and by which number.
    pub(crate) fn alive(&self, node: usize) -> impl Iterator<Item = (Arc<str>, Number)> {
        let alive = self.nodes[node].shards().flat_map(|shard| &shard.alive);
        alive.map(|((_, topic, _), number)| (Arc::clone(topic), *number))
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
    pub(crate) fn lose_processes(&mut self, node: usize, shard: usize, how: How) {
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

    /// The ways from the ones to the others and, unless it is one way, back; each once.
    pub(crate) fn between(
        &self,
        from: &[String],
        to: &[String],
        one_way: bool,
    ) -> Vec<(usize, usize)> {
        let mut ways = BTreeSet::new();
        for from in from.iter().map(|name| self.named(name)) {
            for to in to.iter().map(|name| self.named(name)) {
                if from != to {
                    ways.insert((from, to));
                    ways.extend((!one_way).then_some((to, from)));
                }
            }
        }
        ways.into_iter().collect()
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use presence_core::entry::{Key, Pid};
    use presence_core::presence::{KeyBuf, Meta};
    use presence_core::tracker::journal::{Input, Record};

    use super::*;
    use crate::bench::workload;
    use crate::outcome::Invariant;
    use crate::truth::{Number, meta};

    const SHARD: usize = 0;

    /// A clock need not begin with 0.
    const AT: Duration = Duration::from_secs(1_000);

    fn begin(cluster: &mut Cluster<'_>, node: usize, incarnation: u64) {
        let replica = ReplicaId::new(cluster.nodes[node].name.clone(), incarnation);
        let tracker = Tracker::new(replica.clone(), cluster.config.clone(), 11, 0, AT).unwrap();
        if cluster.life(node).is_none() {
            cluster.begin_life(node, &replica);
        }
        cluster.begin_shard(node, SHARD, tracker, AT);
        drain(cluster, node).unwrap();
    }

    /// Gives an input a second after the beginning; what was sent and what was told.
    fn play(
        cluster: &mut Cluster<'_>,
        node: usize,
        input: Input,
    ) -> Checked<(Vec<Input>, Vec<Told>)> {
        let at = AT + Duration::from_secs(1);
        cluster.play(node, SHARD, Record { at, input }, 0)?;
        drain(cluster, node)
    }

    fn drain(cluster: &mut Cluster<'_>, node: usize) -> Checked<(Vec<Input>, Vec<Told>)> {
        let (mut sent, mut told) = (Vec::new(), Vec::new());
        while let Some(transmit) = cluster.poll_transmit(node, SHARD) {
            cluster.check_sent(node, SHARD, &transmit)?;
            cluster.send(node, 1 - node, &transmit.message);
            let peer = cluster.nodes[node].name.clone();
            let message = transmit.message;
            sent.push(Input::Message { peer, message });
        }
        while let Some(diff) = cluster.poll_diff(node, SHARD)? {
            cluster.hear_diff(node, SHARD, &diff)?;
            cluster.check_topic(node, SHARD, &diff.topic)?;
            told.push(diff);
        }
        cluster.settle(node, SHARD)?;
        Ok((sent, told))
    }

    fn track(pid: u64, number: Number) -> Input {
        Input::Track {
            topic: "t".into(),
            pid: Pid(pid),
            key: KeyBuf::Text("k".into()),
            meta: Meta::parse(&meta(number)).unwrap(),
        }
    }

    fn listed(cluster: &Cluster<'_>, node: usize) -> Vec<Number> {
        let of_shard = cluster.shard(node, SHARD).unwrap();
        of_shard.view.numbers_of("t").collect()
    }

    #[test]
    fn numbers_may_have_gaps_and_what_cannot_be_done_is_refused() {
        let schedule = workload(0);
        let mut cluster = Cluster::new(&schedule, false);
        begin(&mut cluster, 0, 1);
        let (_, told) = play(&mut cluster, 0, track(1, 7)).unwrap();
        assert_eq!((told[0].joins.as_slice(), told.len()), (&[7][..], 1));
        let (_, told) = play(&mut cluster, 0, track(1, 9)).unwrap();
        assert!(told.is_empty() && cluster.truth.of(9).is_none());
        let untrack = |pid| Input::Untrack {
            topic: "t".into(),
            pid: Pid(pid),
            key: KeyBuf::Text("k".into()),
        };
        play(&mut cluster, 0, untrack(2)).unwrap();
        assert_eq!(listed(&cluster, 0), [7]);
        play(&mut cluster, 0, Input::Stop).unwrap();
        play(&mut cluster, 0, track(3, 12)).unwrap();
        play(&mut cluster, 0, untrack(1)).unwrap();
        assert_eq!(
            (cluster.truth.tracked(), cluster.truth.is_alive(7)),
            (1, false)
        );
    }

    #[test]
    fn a_tracker_that_does_what_it_was_not_asked_for_is_found() {
        let schedule = workload(0);
        let mut cluster = Cluster::new(&schedule, false);
        begin(&mut cluster, 0, 1);
        let tracker = cluster.tracker_mut(0, SHARD).unwrap();
        let forged = Meta::parse(&meta(3)).unwrap();
        let tracked = tracker.track(&"t".into(), Pid(1), Key::Text("k"), &forged);
        tracked.unwrap();
        let failure = play(&mut cluster, 0, track(1, 4)).err().unwrap();
        assert_eq!(failure.invariant, Invariant::OwnPresences);
        let failure = drain(&mut cluster, 0).err().unwrap();
        assert_eq!(failure.invariant, Invariant::NoGhosts);
    }

    #[test]
    fn a_shard_that_begins_anew_loses_what_it_had_and_others_learn_it() {
        let schedule = workload(0);
        let mut cluster = Cluster::new(&schedule, false);
        begin(&mut cluster, 0, 1);
        begin(&mut cluster, 1, 1);
        let speak = |cluster: &mut Cluster<'_>, at| {
            let (sent, _) = play(cluster, 0, Input::Timeout)?;
            cluster.now = at;
            for message in sent {
                play(cluster, 1, message)?;
            }
            Ok::<_, Box<Failure>>(())
        };
        play(&mut cluster, 0, track(1, 3)).unwrap();
        speak(&mut cluster, 1).unwrap();
        assert_eq!(listed(&cluster, 1), [3]);

        begin(&mut cluster, 0, 2);
        assert_eq!(cluster.shard(0, SHARD).unwrap().life, 2);
        assert!(!cluster.truth.is_alive(3) && cluster.life(0) == Some(1));
        play(&mut cluster, 0, track(1, 5)).unwrap();
        speak(&mut cluster, 2).unwrap();
        assert_eq!(listed(&cluster, 1), [5]);
        assert!(cluster.agree());
    }
}
