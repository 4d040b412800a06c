//! What must hold of a run, judged by what happened in it.
//!
//! Each input of a real tracker is played into a tracker of a [`Cluster`], with all invariants of the first
//! tier; what that one sends, the real one must have sent. What clients see is held against it: the lists
//! that their nodes had, and, once faults have ended, who is there.

mod clients;
mod histories;
mod promises;
mod roads;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use presence_core::tracker::journal::{Header, Input, Record};
use presence_core::tracker::{To, Transmit};
use presence_core::wire::cluster::{Body, Message};

use self::histories::Histories;
use self::promises::Promises;
use self::roads::{Parcel, Roads};
use super::happened::Happened;
use super::host::{IDLE, MAX_BACKOFF, POLL_WINDOW, silence};
use super::people::People;
pub(super) use crate::cluster::Checked;
use crate::cluster::{Cluster, Micros, words};
use crate::coverage::{Counted, Coverage};
use crate::outcome::{Failure, Invariant, Outcome, Traffic};
use crate::schedule::Schedule;
use crate::truth::Number;

/// For how long after its end a process may be taken for gone, though the next one runs.
const GONE_US: Micros = 30_000_000;

/// Whose a presence is: a client's, in a topic, under a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Owner {
    client: usize,
    topic: Arc<str>,
    key: Arc<str>,
}

pub(super) struct Judge<'a> {
    schedule: &'a Schedule,
    cluster: Cluster<'a>,
    /// By node and shard, what the real tracker must send next.
    unsent: BTreeMap<(usize, usize), VecDeque<Transmit>>,
    roads: Roads,
    histories: Histories,
    promises: Promises,
    /// Who has heard what was said to all, and in which life of which node last. (At another it may come
    /// again: whoever goes on there may be there before it is.)
    heard: BTreeMap<(Number, usize), Option<(usize, u32)>>,
    /// By number.
    owners: Vec<Option<Owner>>,
    inputs: u64,
    converged_after: Option<Micros>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(schedule: &'a Schedule, trace: bool) -> Self {
        Self {
            schedule,
            cluster: Cluster::new(schedule, trace),
            unsent: BTreeMap::new(),
            roads: Roads::new(schedule.nodes.len()),
            histories: Histories::default(),
            promises: Promises::default(),
            heard: BTreeMap::new(),
            owners: Vec::new(),
            inputs: 0,
            converged_after: None,
        }
    }

    pub(super) fn set_now(&mut self, now: Micros) {
        self.cluster.now = now;
    }

    /// Takes what happened, and judges it.
    pub(super) fn happened(&mut self, what: Happened, people: &mut People) -> Checked {
        match what {
            Happened::Began {
                node,
                shard,
                header,
            } => self.began(node, shard, &header),
            Happened::Input {
                node,
                shard,
                record,
            } => self.input(node, shard, *record),
            Happened::Sent {
                node,
                shard,
                to,
                message,
            } => self.sent(node, shard, &to, &message),
            Happened::Posted {
                from,
                to,
                shard,
                sent,
                is_late,
                message,
            } => {
                self.cluster.send(from, to, &message);
                let parcel = Parcel {
                    sent,
                    is_late,
                    shard,
                    message,
                };
                self.roads.post(from, to, parcel);
                Ok(())
            }
            Happened::Arrived {
                from,
                to,
                shard,
                message,
            } => {
                if self.roads.arrive(from, to, shard, &message) {
                    if let Body::Stopping { .. } | Body::Permdown = message.body {
                        self.promises.told_of_stop(from, to);
                    }
                    return Ok(());
                }
                let name = &self.cluster.nodes[from].name;
                let what =
                    format!("{name} did not send what came from it next, or not in this order");
                Err(self.cluster.failure(Invariant::Delivery, to, what))
            }
            Happened::Connected { at, of } => {
                self.promises.connected(at, of, self.cluster.now);
                Ok(())
            }
            Happened::Gone { at, of } => self.gone(at, of),
            Happened::Broke => {
                self.promises.broke(self.cluster.now);
                Ok(())
            }
            Happened::Over { node } => {
                self.over(node);
                Ok(())
            }
            Happened::Listed {
                node,
                topic,
                numbers,
                asked,
            } => self.listed(node, &topic, &numbers, asked),
            Happened::Numbered {
                client,
                topic,
                key,
                number,
            } => {
                self.own(number, Some(Owner { client, topic, key }));
                Ok(())
            }
            Happened::Renumbered { before, next } => {
                let owner = self.owners.get(before as usize).cloned().flatten();
                self.own(next, owner);
                Ok(())
            }
            Happened::Said { client, said } => self.said(client, said, people),
        }
    }

    fn own(&mut self, number: Number, owner: Option<Owner>) {
        let at = number as usize;
        if self.owners.len() <= at {
            self.owners.resize(at + 1, None);
        }
        self.owners[at] = owner;
    }

    // Nodes.

    fn began(&mut self, node: usize, shard: usize, header: &Header) -> Checked {
        if self.cluster.life(node).is_none() {
            self.promises.began(node);
            if header.replica.incarnation() < self.cluster.nodes[node].incarnation() {
                self.cluster.coverage.count(Counted::ClockBack);
            }
            self.cluster.begin_life(node, &header.replica);
        }
        let tracker = header.tracker().map_err(|error| {
            let what = format!("a shard began with settings that can't be: {error}");
            self.cluster.failure(Invariant::TiersAgree, node, what)
        })?;
        self.cluster.begin_shard(node, shard, tracker, header.at);
        self.unsent.insert((node, shard), VecDeque::new());
        self.drain(node, shard)
    }

    fn input(&mut self, node: usize, shard: usize, record: Record) -> Checked {
        self.inputs += 1;
        self.check_all_sent(node, shard)?;
        let sent = match &record.input {
            Input::Message { peer, message } => {
                let from = self.cluster.named(peer);
                self.roads.take(from, node, shard, message)
            }
            _ => None,
        };
        let sent = sent.unwrap_or(self.cluster.now);
        if let Input::Stop = record.input {
            self.stops(node);
        }
        self.cluster.play(node, shard, record, sent)?;
        self.drain(node, shard)
    }

    /// Takes all that came of an input from the tracker that plays along.
    fn drain(&mut self, node: usize, shard: usize) -> Checked {
        while let Some(transmit) = self.cluster.poll_transmit(node, shard) {
            self.cluster.check_sent(node, shard, &transmit)?;
            let unsent = self.unsent.entry((node, shard)).or_default();
            unsent.push_back(transmit);
        }
        while let Some(told) = self.cluster.poll_diff(node, shard)? {
            let (now, life) = (
                self.cluster.now,
                self.cluster.life(node).unwrap_or_default(),
            );
            self.histories.note(
                (node, life),
                now,
                &told.topic,
                told.joins.iter().chain(&told.leaves),
            );
            self.cluster.hear_diff(node, shard, &told)?;
            self.cluster.check_topic(node, shard, &told.topic)?;
        }
        self.cluster.settle(node, shard)
    }

    fn sent(&mut self, node: usize, shard: usize, to: &To, message: &Message) -> Checked {
        let unsent = self.unsent.entry((node, shard)).or_default();
        let due = unsent.pop_front();
        if due
            .as_ref()
            .is_some_and(|due| due.to == *to && due.message == *message)
        {
            return Ok(());
        }
        let due = due.map_or("nothing".into(), |Transmit { to, message }| {
            format!("{message:?} to {to:?}")
        });
        let what = format!("it sent {message:?} to {to:?}; played again, its tracker sends {due}");
        Err(self.cluster.failure(Invariant::TiersAgree, node, what))
    }

    /// Before its next input a tracker has sent all that came of the last.
    fn check_all_sent(&self, node: usize, shard: usize) -> Checked {
        let unsent = self.unsent.get(&(node, shard)).and_then(VecDeque::front);
        let Some(Transmit { to, message }) = unsent else {
            return Ok(());
        };
        let what =
            format!("it never sent {message:?} to {to:?}, as its tracker does, played again");
        Err(self.cluster.failure(Invariant::TiersAgree, node, what))
    }

    /// A node's mesh takes another for gone: so it must be, or have been a moment ago.
    fn gone(&mut self, at: usize, of: usize) -> Checked {
        self.promises.told_gone(at, of);
        let now = self.cluster.now;
        if self.cluster.nodes[of].life.is_none() {
            self.cluster.coverage.count(Counted::CrashSeen);
        }
        let gone = &self.cluster.nodes[of];
        let was_gone = gone.ended.is_some_and(|ended| ended + GONE_US > now);
        if gone.life.is_none() || was_gone {
            return Ok(());
        }
        let what = format!("takes {} for gone, whose process lives", gone.name);
        Err(self.cluster.failure(Invariant::CrashesSeen, at, what))
    }

    /// A node says that it stops.
    fn stops(&mut self, node: usize) {
        let (now, by) = (self.cluster.now, self.cluster.now + self.soon(1));
        for to in 0..self.schedule.nodes.len() {
            if to != node && self.cluster.life(to).is_some() {
                self.promises.stopped(node, to, now, by);
            }
        }
    }

    /// So many periods, and what messages take.
    fn soon(&self, periods: u64) -> Micros {
        let network = &self.schedule.network;
        let trip = network.trip_us();
        periods * self.schedule.settings.broadcast_period * 1000 + 10 * trip + 500_000
    }

    /// What a broadcast takes to all clients, where nothing is in the way.
    pub(super) fn answer_time(&self) -> Micros {
        self.soon(2) + 2_000_000
    }

    /// Something is in the way between two nodes.
    pub(super) fn trouble(&mut self, one: usize, other: usize) {
        self.promises.trouble((one, other), self.cluster.now);
    }

    /// What nodes have promised each other by now has come.
    pub(super) fn check_promises(&mut self) -> Checked {
        let now = self.cluster.now;
        if let Some((at, of)) = self.promises.overdue_gone(now).first() {
            let name = &self.cluster.nodes[*of].name;
            let what =
                format!("was connected to {name}, whose process is gone, and does not know it");
            return Err(self.cluster.failure(Invariant::CrashesSeen, *at, what));
        }
        for ((from, to), since) in self.promises.overdue_words(now) {
            if let Some(message) = self.roads.unheard(from, to, since) {
                let (name, words) = (&self.cluster.nodes[from].name, words(&message.body));
                let what = format!("{name} stopped, and this did not arrive: {words}");
                return Err(self.cluster.failure(Invariant::LastWords, to, what));
            }
        }
        Ok(())
    }

    fn over(&mut self, node: usize) {
        let is_stopped = self.cluster.nodes[node]
            .shards()
            .any(|shard| shard.stopping);
        if is_stopped || !self.schedule.network.detects_crashes {
            self.promises.ended(node);
        } else {
            let by = self.cluster.now + self.soon(3);
            self.promises.crashed(node, self.cluster.now, by);
        }
        if self.cluster.life(node).is_some() {
            self.cluster.log(node, || "its process is gone".into());
        }
        self.cluster.lose(node);
        self.roads.end(node);
        self.unsent.retain(|&(of, _), _| of != node);
    }

    pub(super) fn life_of(&self, node: usize) -> Option<u32> {
        self.cluster.life(node)
    }

    /// A node is about to be started.
    pub(super) fn count_restart(&mut self, node: usize) {
        self.cluster.count_restart(node);
    }

    // What is written down.

    pub(super) fn log_all(&mut self, what: impl Into<String>) {
        self.cluster.log_all(|| what.into());
    }

    /// How much was written by now.
    pub(super) fn log_written(&mut self, what: String) {
        self.cluster.log_written(|| what);
    }

    pub(super) fn log(&mut self, node: usize, what: impl Into<String>) {
        self.cluster.log(node, || what.into());
    }

    pub(super) fn paused(&mut self, node: usize, ms: u64) {
        self.cluster
            .log(node, || format!("does nothing for {ms} ms"));
        self.cluster.span(node, "paused", self.cluster.now);
    }

    pub(super) fn resumed(&mut self, node: usize) {
        self.cluster.end_span(node, "paused");
        self.cluster.log(node, || "goes on".into());
    }

    pub(super) fn slow(&mut self, node: usize, us_per_message: u64, ms: u64) {
        let until = self.cluster.now + ms * 1000;
        self.cluster.span_until(node, "slow", until);
        self.cluster.log(node, || {
            format!("takes {us_per_message} µs a message for {ms} ms")
        });
    }

    pub(super) fn fault(&mut self, links: &[(usize, usize)], what: String, ms: u64) {
        self.cluster.fault(links.iter().copied(), what, ms * 1000);
    }

    /// The ways from the ones to the others and, unless it is one way, back.
    pub(super) fn between(
        &self,
        from: &[String],
        to: &[String],
        one_way: bool,
    ) -> Vec<(usize, usize)> {
        self.cluster.between(from, to, one_way)
    }

    // What must hold in the end.

    /// How long all may take to agree once all faults have ended: the trackers, once the nodes are
    /// connected, and the clients, once each is at a node that lives.
    pub(super) fn bound(&self) -> Micros {
        let settings = &self.schedule.settings;
        let period = Duration::from_millis(settings.broadcast_period);
        let network = &self.schedule.network;
        let trip = Duration::from_micros(network.trip_us());
        let second = Duration::from_secs(1);
        // A connection that hangs is given up, the next dial waits, and takes its time.
        let dial = (period * 3).max(second).max(trip * 10) + MAX_BACKOFF + Duration::from_secs(5);
        let nodes = silence(period, trip) + dial;
        // A client notices by its heartbeats that its connection hangs, tries all nodes and joins; the
        // node that it left notices by its silence.
        let attempts = self.schedule.nodes.len() as u32 * 6;
        let clients = super::people::HEARTBEAT * 2
            + super::people::TIMEOUT * 3
            + (super::people::BACKOFF + second) * attempts
            + trip * 10;
        let silent = IDLE.max(POLL_WINDOW * 3);
        // What came late, for three periods at the most.
        let total = nodes + clients + silent + period * 4;
        self.cluster.bound() + total.as_micros() as Micros
    }

    /// Whether all nodes and all clients list who is there.
    pub(super) fn agree(&self, people: &People) -> Checked {
        let all: Vec<usize> = (0..self.schedule.nodes.len()).collect();
        self.cluster.check_agreement(&all)?;
        self.check_clients(people)
    }

    pub(super) fn check_part(&self, part: &[bool]) -> Checked {
        let part: Vec<usize> = (0..part.len()).filter(|&node| part[node]).collect();
        self.cluster.check_agreement(&part)
    }

    pub(super) fn agreed_after(&mut self, micros: Micros) {
        self.converged_after = Some(micros);
        let now = self.cluster.now as f64 / 1e6;
        self.cluster.log_all(|| format!("at {now:.3} s all agree"));
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.cluster.traffic
    }

    pub(super) fn idle_time(&self) -> Micros {
        self.cluster.idle_time()
    }

    /// Nothing was said but that everyone lives, since so much had been sent.
    pub(super) fn check_idle(&self, before: Traffic) -> Checked {
        self.cluster.check_idle(before)
    }

    /// After how long whoever is gone for good is forgotten, where that is soon.
    pub(super) fn forgetting_time(&self) -> Option<Micros> {
        self.cluster.forgetting_time()
    }

    pub(super) fn check_forgotten(&self) -> Checked {
        self.cluster.check_forgotten()
    }

    /// Some topic in which somebody was tracked.
    pub(super) fn some_topic(&self, rng: &mut Rng) -> Option<Arc<str>> {
        let owned = rng.choice(&self.owners)?;
        owned.as_ref().map(|owner| Arc::clone(&owner.topic))
    }

    pub(super) fn panicked(&self, said: String) -> Box<Failure> {
        self.cluster.panicked(said)
    }

    pub(super) fn outcome(
        mut self,
        failure: Option<Box<Failure>>,
        simulated: Duration,
        coverage: &Coverage,
        sabotaged: u64,
    ) -> Outcome {
        self.cluster.coverage.merge(coverage);
        Outcome {
            events: self.inputs,
            simulated,
            converged_after: self.converged_after.map(Duration::from_micros),
            sabotaged,
            ..self.cluster.outcome(failure)
        }
    }
}
