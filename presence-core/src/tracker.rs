//! One replica's protocol: heartbeats, transfers, and who is up or down.
//!
//! A [`Tracker`] holds a [`Set`] and keeps it in step with those of other nodes, after
//! `Phoenix.Tracker.Shard`. It is a pure state machine: it is told of local calls, messages and the
//! passing of time, and says what to send, what changed in which topic, and when it next wants to be
//! called. **Call one method that changes it, then drain [`poll_transmit`](Tracker::poll_transmit),
//! [`poll_diff`](Tracker::poll_diff) and [`poll_event`](Tracker::poll_event), then sleep until
//! [`poll_timeout`](Tracker::poll_timeout).** Time is a [`Duration`] since an origin of the caller's
//! choosing, by a clock that never goes back.
//!
//! # Protocol
//!
//! - In every `broadcast_period` a replica that changed tells all others its delta, with its clocks.
//!   One that did not speaks after `max_silent_periods` such periods.
//! - Whoever finds in clocks more than has arrived asks for it, see [`transfers`](self#transfers).
//! - A replica that was not heard for `down_period` is down: its presences are kept and not listed.
//!   After `permdown_period` it is forgotten.
//! - A replica that is heard for the first time, or again, is greeted, so that both know each other
//!   within one round trip, however idle they are.
//!
//! # Rules beyond the reference
//!
//! - A replica that is heard, for the first time or after it was down or forgotten, is listed once all
//!   that it had told by then has arrived, so that no presence that left in the meantime is ever shown,
//!   and all of a topic comes in one diff.
//! - One that holds more than `chunk_values` presences is listed, hidden and removed a few topics at a
//!   time, each step being a timeout that is due at once; so is a delta told that is larger, and so do
//!   presences leave of which more are told to be gone at once. What is called in between finds each
//!   topic as the diffs have told it.
//! - Lives of one name are ordered. A lower one is ignored, and told so; a replica that is told of a
//!   higher life of its own name begins one higher still, with all its presences.
//! - A replica whose own timer ran late was not there to hear the others: that time is no silence of
//!   theirs, and it accuses nobody before it has heard what waits for it.
//! - A heartbeat tells of its sender's presences only. That one of another replica's dots is gone may
//!   be said in it but is not believed: it may have been updated, and would blink.
//! - A replica that stops says so, and is then not taken for crashed. With `handover` one of its
//!   presences leaves in the same diff in which its key is tracked elsewhere. What takes its place is
//!   told at once, not in the next period: the node that stops may be back before, and its earlier
//!   presences leave then.
//! - What was said goodbye to does not come back by a late message.
//!
//! # Transfers
//!
//! A request names replicas and what was seen of each. The answer brings what is missing: the changes
//! since then where the log of leaves reaches back far enough, else every dot that is present or gone.
//! It comes in chunks, each sound by itself, and few of them before the ones before have arrived.

mod changes;
mod config;
mod handover;
pub mod journal;

mod peers;
mod pool;
mod stats;
mod telling;
mod transfers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::changes::Changes;
use self::peers::{Departed, Peer};
use self::transfers::{Part, Taken};
use crate::clock::{Dot, ReplicaId};
use crate::delta::Delta;
use crate::entry::{Key, Pid};
use crate::presence::{self, KeyBuf, Meta, PhxRef};
use crate::set::{self, Diff, MergeError, Set};
use crate::wire::cluster::{Body, Message};

pub use self::changes::NumberedDiff;
pub use self::config::{Config, ConfigError};
pub use self::peers::Status;
pub use self::pool::shard_of;
pub use self::stats::Stats;

/// How many deltas a period may have while presences are handed over.
const HASTE: u32 = 16;

/// One replica of one shard.
#[derive(Debug)]
pub struct Tracker {
    config: Config,
    set: Set,
    /// By name. The set knows these replicas and its own, no others.
    peers: BTreeMap<Arc<str>, Peer>,
    departed: BTreeMap<Arc<str>, Departed>,
    changes: Changes,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    last_diff: u64,
    now: Duration,
    next_heartbeat: Duration,
    /// When a delta was last told.
    last_delta: Duration,
    /// A delta is being told, in parts.
    is_telling: bool,
    /// Memory is being given back.
    is_compacting: bool,
    /// Something was handed over, which is told sooner than in the next period: [`HASTE`].
    hastens: bool,
    silent_periods: u32,
    /// Periods until the next look at what is missing.
    sample_in: u32,
    /// What was told of replicas that did not tell it themselves, at the last look.
    noted: BTreeMap<ReplicaId, u64>,
    last_request: u64,
    /// Of this life, for what it chooses by chance.
    random: u64,
    stopping: Option<Stopping>,
    stats: Stats,
    merged: Diff,
}

/// How a replica stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stopping {
    /// It lives until its sockets are drained.
    Draining,
    /// It has said goodbye.
    Gone,
}

/// A message to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// To whom.
    pub to: To,
    /// What.
    pub message: Message,
}

/// To whom a message goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum To {
    /// Every node that is connected, known to the tracker or not.
    All,
    /// One node.
    One(Arc<str>),
}

/// What became of a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// All of it is listed.
    Up(ReplicaId),
    /// It is not listed any more, from topic to topic, or was about to be and is not.
    Down(ReplicaId),
    /// It is forgotten.
    Permdown(ReplicaId),
    /// This replica has begun a new life.
    Reincarnated {
        /// Its life before.
        from: ReplicaId,
        /// Its life now.
        to: ReplicaId,
    },
}

/// Why a message was refused. Each is counted in [`Stats::refused`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The sender is not the node that the message came from. Nothing changed.
    #[error("a message of {from} came from {peer:?}")]
    Sender {
        /// Whose message it says that it is.
        from: ReplicaId,
        /// The node that it came from.
        peer: Arc<str>,
    },
    /// A node has this node's own name. Nothing changed.
    #[error("{0} has the name of this node")]
    OwnName(ReplicaId),
    /// The sender has said goodbye. Nothing changed.
    #[error("{0} has said goodbye")]
    Departed(ReplicaId),
    /// A later life of the sender is known. It is told so.
    #[error("{replica} is superseded by {newest}")]
    Superseded {
        /// The sender.
        replica: ReplicaId,
        /// Its later life.
        newest: ReplicaId,
    },
    /// As many replicas are known as the limits allow. Nothing changed.
    #[error("{0} replicas are known, as many as the limits allow")]
    TooMany(usize),
    /// A heartbeat brings a presence that is not its sender's. Nothing changed.
    #[error("a heartbeat of {from} brings the presence {dot}")]
    Foreign {
        /// The sender.
        from: ReplicaId,
        /// The presence.
        dot: Dot,
    },
    /// The set refused the delta. The sender counts as heard; nothing was merged.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

/// Why a local change was refused. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError<E> {
    /// The replica is about to stop.
    #[error("the node is stopping")]
    Stopping,
    /// The set refused it.
    #[error(transparent)]
    Set(#[from] E),
}

/// A new meta for a presence of this replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update {
    /// The process.
    pub pid: Pid,
    /// What it is tracked under.
    pub key: KeyBuf,
    /// Its new meta.
    pub meta: Meta,
}

impl Tracker {
    /// The tracker of `replica`, which knows nobody else.
    ///
    /// `random` is this life's own: it staggers its first heartbeat over a quarter of a period, and tells
    /// it from another life of the same name. `hash_seed` is the set's.
    ///
    /// # Errors
    ///
    /// See [`Config::validate`].
    pub fn new(
        replica: ReplicaId,
        config: Config,
        hash_seed: u64,
        random: u64,
        now: Duration,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let stagger = config.broadcast_period / 4;
        let stagger = stagger.mul_f64(random as f64 / u64::MAX as f64);
        Ok(Self {
            set: Set::new(replica, config.set_limits(), hash_seed),
            peers: BTreeMap::new(),
            departed: BTreeMap::new(),
            changes: Changes::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            last_diff: 0,
            now,
            next_heartbeat: now + stagger,
            last_delta: now,
            is_telling: false,
            is_compacting: false,
            hastens: false,
            silent_periods: config.max_silent_periods,
            sample_in: config.clock_sample_periods,
            noted: BTreeMap::new(),
            last_request: 0,
            random,
            stopping: None,
            stats: Stats::default(),
            merged: Diff::new(),
            config,
        })
    }

    // Local changes. Drain the diffs after each.

    /// Tracks a process of this node under a key in a topic; the presence's ref.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`] and [`set::JoinError`].
    pub fn track(
        &mut self,
        topic: &Arc<str>,
        pid: Pid,
        key: Key<'_>,
        meta: &Meta,
    ) -> Result<PhxRef, ChangeError<set::JoinError>> {
        self.check_running()?;
        let handle = presence::track(&mut self.set, topic, pid, key, meta)?;
        let entry = self.set.entry(handle);
        let phx_ref = PhxRef::of(&entry);
        self.changes.join(&entry);
        self.hastens |= self.hand_over(topic, key);
        Ok(phx_ref)
    }

    /// Replaces the meta of a tracked process in one step; the new ref.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`] and [`set::UpdateError`].
    pub fn update(
        &mut self,
        topic: &str,
        pid: Pid,
        key: Key<'_>,
        meta: &Meta,
    ) -> Result<PhxRef, ChangeError<set::UpdateError>> {
        self.check_running()?;
        let (left, handle) = presence::update(&mut self.set, topic, pid, key, meta)?;
        let entry = self.set.entry(handle);
        let phx_ref = PhxRef::of(&entry);
        self.changes.join(&entry);
        self.changes.leave(left);
        Ok(phx_ref)
    }

    /// Replaces the metas of presences of this node in a topic in one call, which is one diff; their
    /// refs.
    ///
    /// Presences of other nodes are theirs to change.
    ///
    /// # Errors
    ///
    /// The first presence that could not be updated; those before it were.
    pub fn update_all(
        &mut self,
        topic: &str,
        updates: &[Update],
    ) -> Result<Vec<PhxRef>, ChangeError<set::UpdateError>> {
        let refs = updates
            .iter()
            .map(|Update { pid, key, meta }| self.update(topic, *pid, key.as_key(), meta));
        refs.collect()
    }

    /// What [`update_all`](Self::update_all) is to be given for a change of a whole topic: `change` is
    /// told the key and the meta of each presence of this node and says what it becomes, or `None` where
    /// it stays as it is.
    pub fn updates(
        &self,
        topic: &str,
        mut change: impl FnMut(Key<'_>, &Meta) -> Option<Meta>,
    ) -> Vec<Update> {
        let own = self.set.list(topic);
        let own = own.filter(|entry| entry.replica == self.set.replica());
        let mut updates: Vec<_> = own
            .filter_map(|entry| {
                let meta = change(entry.key, &Meta::of_entry(entry.meta))?;
                let (pid, key) = (entry.pid, entry.key.into());
                Some(Update { pid, key, meta })
            })
            .collect();
        updates.sort_unstable_by(|a, b| (a.pid, &a.key).cmp(&(b.pid, &b.key)));
        updates
    }

    /// Untracks a process under a key in a topic; whether it was tracked.
    ///
    /// Once the replica is stopping its presences end with it, and nothing is untracked any more.
    pub fn untrack(&mut self, topic: &str, pid: Pid, key: Key<'_>) -> bool {
        if self.stopping.is_some() {
            return false;
        }
        let left = self.set.leave(topic, pid, key);
        let was_tracked = left.is_some();
        left.into_iter().for_each(|left| self.changes.leave(left));
        was_tracked
    }

    /// Untracks a process under everything; under how much it was tracked.
    ///
    /// As [`untrack`](Self::untrack), nothing once the replica is stopping.
    pub fn untrack_pid(&mut self, pid: Pid) -> usize {
        if self.stopping.is_some() {
            return 0;
        }
        let leaves = self.set.leave_pid(pid);
        let count = leaves.len();
        leaves.into_iter().for_each(|left| self.changes.leave(left));
        count
    }

    fn check_running<E>(&self) -> Result<(), ChangeError<E>> {
        match self.stopping {
            None => Ok(()),
            Some(_) => Err(ChangeError::Stopping),
        }
    }

    // What comes from the cluster. Drain everything after each.

    /// A message has come from the node `peer`.
    ///
    /// # Errors
    ///
    /// See [`Refusal`].
    pub fn handle_message(
        &mut self,
        peer: &str,
        message: Message,
        now: Duration,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let taken = self.take(peer, message);
        if taken.is_err() {
            self.stats.refused += 1;
        }
        self.step();
        taken
    }

    /// A connection to the node `peer` has been made, anew or again: it is told what this replica has
    /// told so far, so that it asks for what got lost when it next looks.
    pub fn handle_connected(&mut self, peer: &str, now: Duration) {
        self.advance(now);
        if self.stopping != Some(Stopping::Gone) {
            let body = self.idle_heartbeat();
            self.send(To::One(peer.into()), body);
        }
    }

    /// The process of the node `peer` is known to be gone: its presences leave at once.
    ///
    /// One that said that it stops is left alone. A wrong guess costs one leave and one join.
    pub fn handle_gone(&mut self, peer: &str, now: Duration) {
        self.advance(now);
        if let Some(peer) = self.peers.get(peer)
            && peer.stopping.is_none()
            && peer.status != Status::Down
        {
            let replica = peer.replica.clone();
            self.take_down(&replica);
            self.step();
        }
    }

    /// Time has passed. A call before [`poll_timeout`](Self::poll_timeout) does nothing.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.advance(now);
        if self.stopping == Some(Stopping::Gone) {
            return;
        }
        if self.now >= self.next_heartbeat {
            self.end_period();
        } else if self.is_telling || self.haste().is_some_and(|at| at <= self.now) {
            self.tell_delta();
        }
        self.answer_ahead();
        self.step();
    }

    fn end_period(&mut self) {
        let late = self.now - self.next_heartbeat;
        self.forgive(late);
        self.speak();
        if late <= self.config.broadcast_period {
            self.detect_downs();
        } else {
            self.stats.suspected_itself += 1;
        }
        // Last, so that nobody is asked who has just been found down.
        self.sample_in -= 1;
        if self.sample_in == 0 {
            self.sample_in = self.config.clock_sample_periods;
            self.ask_for_missing();
        }
        self.drop_stalled_answers();
        self.is_compacting = true;
        self.next_heartbeat = self.now + self.config.broadcast_period;
    }

    /// This node is about to stop: what waits to be told is told, and then that it stops.
    ///
    /// With `permdown_on_shutdown` it says goodbye and nothing more. Otherwise it goes on to hear and
    /// to be heard until its sockets are drained; their presences stay.
    pub fn handle_stop(&mut self, now: Duration) {
        self.advance(now);
        if self.stopping.is_some() {
            return;
        }
        if self.config.permdown_on_shutdown {
            self.stopping = Some(Stopping::Gone);
            self.send(To::All, Body::Permdown);
        } else {
            while self.set.has_delta() {
                self.tell_delta();
            }
            self.stopping = Some(Stopping::Draining);
            let body = self.idle_heartbeat();
            self.send(To::All, body);
        }
    }

    // Outputs.

    /// The next message to send.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next topic whose list has changed, with all that changed since it was last told.
    #[must_use]
    pub fn poll_diff(&mut self) -> Option<NumberedDiff<'_>> {
        self.poll_diff_of(|_| true)
    }

    /// As [`poll_diff`](Self::poll_diff), without the diffs of topics that are not `wanted`, of which
    /// only the numbers are used: to make one of a topic that nobody listens to costs as much as any.
    #[must_use]
    pub fn poll_diff_of(
        &mut self,
        mut wanted: impl FnMut(&Arc<str>) -> bool,
    ) -> Option<NumberedDiff<'_>> {
        let net = loop {
            let net = self.changes.pop()?;
            self.last_diff += 1;
            if wanted(&net.topic) {
                break net;
            }
        };
        let joins = net.joins.iter().map(|dot| {
            let entry = self.set.find_dot(dot);
            entry.expect("what joined and did not leave is present")
        });
        Some(NumberedDiff {
            number: self.last_diff,
            topic: net.topic,
            joins: joins.collect(),
            leaves: net.leaves,
        })
    }

    /// What next became of a replica.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next due, at once where there is more to do than
    /// one call does; `None` once it has said goodbye.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let has_more =
            self.is_turning() || self.is_telling || self.is_compacting || self.is_answering();
        let at_once = has_more.then_some(self.now);
        let next = at_once.or(self.haste()).unwrap_or(Duration::MAX);
        (self.stopping != Some(Stopping::Gone)).then_some(next.min(self.next_heartbeat))
    }

    /// Whether replicas are being listed or hidden, or presences wait to be removed, which the next
    /// timeouts go on with.
    pub fn is_turning(&self) -> bool {
        self.set.is_turning()
    }

    /// When the present period ends: a timeout that is handled later is late by the difference, which
    /// is no silence of others.
    pub fn period_ends(&self) -> Duration {
        self.next_heartbeat
    }

    // What can be read.

    /// The set, to list from. It shows what was changed and not yet drained as well.
    pub fn set(&self) -> &Set {
        &self.set
    }

    /// This replica.
    pub fn replica(&self) -> &ReplicaId {
        self.set.replica()
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The number of the last diff that was drained: a list that is read now contains it and no later
    /// one, once all are drained.
    pub fn last_diff(&self) -> u64 {
        debug_assert!(self.changes.is_empty(), "drain the diffs, then list");
        self.last_diff
    }

    /// The other replicas that are known, ordered by name.
    pub fn replicas(&self) -> impl Iterator<Item = (&ReplicaId, Status)> {
        self.peers.values().map(|peer| (&peer.replica, peer.status))
    }

    /// The replica of a node that is known, and whether it is listed.
    pub fn status(&self, name: &str) -> Option<(&ReplicaId, Status)> {
        let peer = self.peers.get(name)?;
        Some((&peer.replica, peer.status))
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    // The parts.

    fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    fn send(&mut self, to: To, body: Body) {
        let from = self.set.replica().clone();
        let message = Message { from, body };
        self.transmits.push_back(Transmit { to, message });
    }

    fn take(&mut self, peer: &str, message: Message) -> Result<(), Refusal> {
        let Message { from, body } = message;
        if from.name() != peer {
            let peer = peer.into();
            return Err(Refusal::Sender { from, peer });
        }
        if from.name() == self.replica().name() {
            return Err(Refusal::OwnName(from));
        }
        if self.stopping == Some(Stopping::Gone) {
            return Ok(());
        }
        match body {
            Body::Heartbeat { mut delta, clocks } => {
                self.check_heartbeat(&from, &delta)?;
                delta.retain(&from);
                self.hear(&from, Some(&clocks))?;
                self.merge(&delta)?;
                self.settle(&from, clocks);
            }
            Body::TransferRequest { id, clocks } => {
                self.hear(&from, None)?;
                self.answer(&from, id, &clocks);
            }
            Body::TransferReply {
                id,
                part,
                delta,
                clocks,
                last,
            } => {
                self.hear(&from, Some(&clocks))?;
                let merged = self.merge(&delta);
                let taken = match merged {
                    Ok(false) => Taken::Merged,
                    Ok(true) => Taken::Deferred,
                    Err(_) => Taken::Refused,
                };
                let part = Part {
                    number: part,
                    is_last: last,
                    taken,
                };
                self.took(&from, id, part);
                merged?;
                self.settle(&from, clocks);
            }
            Body::TransferContinue { id, part } => {
                self.hear(&from, None)?;
                self.go_on(&from, id, part);
            }
            Body::Stopping { clocks, handover } => {
                self.hear(&from, Some(&clocks))?;
                if let Some(peer) = self.peers.get_mut(from.name()) {
                    peer.stopping = Some(handover);
                }
                self.settle(&from, clocks);
            }
            Body::Permdown => self.take_leave_of(&from)?,
            Body::Superseded { newest } => {
                // Taken from whatever life of its sender, and never answered: two nodes may each know a
                // later life of the other, and would tell each other so for ever. One that names this
                // life answers an earlier one, whose late word its sender heard.
                let known = self.peers.get(from.name());
                if known.is_some_and(|peer| peer.replica == from) {
                    self.hear(&from, None)?;
                }
                if newest > self.replica().incarnation() {
                    self.reincarnate(newest);
                }
            }
        }
        Ok(())
    }

    fn check_heartbeat(&self, from: &ReplicaId, delta: &Delta) -> Result<(), Refusal> {
        if let Some(entry) = delta.values().find(|entry| entry.replica != from) {
            let (from, dot) = (from.clone(), entry.dot());
            return Err(Refusal::Foreign { from, dot });
        }
        match self.invented(delta) {
            Some(counter) => {
                let dot = Dot::new(self.replica().clone(), counter);
                Err(MergeError::Invented(dot).into())
            }
            None => Ok(()),
        }
    }

    /// Merges what a peer tells, and notes what changed in what is listed; whether a part of it waits for
    /// what has not arrived.
    fn merge(&mut self, delta: &Delta) -> Result<bool, MergeError> {
        if delta.is_empty() {
            return Ok(false);
        }
        let mut merged = std::mem::take(&mut self.merged);
        let limit = self.config.chunk_values;
        let taken = self.set.merge_in_steps(delta, limit, &mut merged);
        if taken.is_ok() {
            self.stats.deferred += merged.deferred as u64;
            self.stats.superseded += merged.superseded as u64;
            self.note(&mut merged);
        }
        let waits = merged.deferred > 0;
        self.merged = merged;
        taken.map(|()| waits)
    }

    fn note(&mut self, merged: &mut Diff) {
        let joined = self.joined_while_any_hands_over(merged);
        for &handle in merged
            .joins
            .iter()
            .filter(|&&handle| self.set.lists(handle))
        {
            self.changes.join(&self.set.entry(handle));
        }
        for left in merged.leaves.drain(..) {
            if left.listed {
                self.changes.leave(left);
            }
        }
        // Only now, since it may take out what has just joined.
        for (topic, key) in joined {
            self.hand_over(&topic, key.as_key());
        }
    }

    /// Goes on to list and hide the replicas that have come and gone, and to remove what was told to be
    /// gone in great numbers; where there is none, to give memory back. Whatever led to it, it happens
    /// here alone, and so much at a time that nobody waits long.
    fn step(&mut self) {
        if !self.set.is_turning() {
            if self.is_compacting {
                self.is_compacting = self.set.compact_some(self.config.chunk_values);
            }
            return;
        }
        let mut turned = std::mem::take(&mut self.merged);
        let shown = self.set.step(self.config.chunk_values, &mut turned);
        self.note(&mut turned);
        self.merged = turned;
        for replica in shown {
            self.has_arrived(replica);
        }
        // What had left of one that arrives may be gone only now.
        self.list_arrived();
    }
}
