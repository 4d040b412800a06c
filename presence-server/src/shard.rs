//! A shard: the task that owns a tracker, and through which everything that changes or reads its topics
//! goes.
//!
//! Commands are taken in batches, and between two batches one message of the cluster, which merges in
//! less than a millisecond: so nobody waits long, however much there is to merge. The changes of such a
//! turn go out as one diff a topic, so that many joins at once cost each client few frames; then whoever
//! asked in the turn is answered. So a `presence_state` never reaches a client after a diff that is newer
//! than the state: a state older than a diff already sent would leave a ghost in the client's list for
//! good.
//!
//! A shard that panics begins a new life with nobody tracked, and the channels of its topics crash, so
//! that their clients join again.

mod changes;
mod pool;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use presence_core::channel::ChannelId;
use presence_core::clock::{Context, ReplicaId};
use presence_core::entry::Pid;
use presence_core::presence::{self, KeyBuf, Meta, PhxRef, Presences};
use presence_core::set::{JoinError, Set, UpdateError};
use presence_core::tracker::journal::{Header, Input, Outcome, Record};
use presence_core::tracker::{
    ChangeError, Config, ConfigError, Event as TrackerEvent, Refusal, Stats, Status, Tracker,
    Update,
};
use presence_core::wire::cluster::Body;
use presence_core::wire::{Json, cluster};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use self::changes::Telling;
use crate::cluster::{Message, Transport};
use crate::env::Environment;
use crate::inbox::Inbox;
use crate::journal::{Journal, Journals};
use crate::metrics::Merges;
use crate::sabotage::{Defect, Sabotage};
use crate::subscriptions::Subscriptions;

pub(crate) use self::changes::Pause;
pub(crate) use self::pool::{Pool, Words};
pub(crate) use self::snapshots::Snapshots;

/// How many commands one turn takes.
const BATCH: usize = 1024;

/// How many snapshots one turn makes.
const SNAPSHOTS: usize = 16;

/// What a shard is asked for.
pub(crate) enum Command {
    Track {
        topic: Arc<str>,
        pid: Pid,
        key: KeyBuf,
        meta: Meta,
        done: oneshot::Sender<Result<PhxRef, ChangeError<JoinError>>>,
    },
    Update {
        topic: Arc<str>,
        pid: Pid,
        key: KeyBuf,
        change: Box<dyn FnOnce(Meta) -> Meta + Send>,
        done: oneshot::Sender<Result<PhxRef, ChangeError<UpdateError>>>,
    },
    /// Update this node's presences of a topic.
    UpdateTopic {
        topic: Arc<str>,
        change: Box<Change>,
        done: oneshot::Sender<Result<usize, ChangeError<UpdateError>>>,
    },
    Untrack {
        topic: Arc<str>,
        pid: Pid,
        key: KeyBuf,
        done: oneshot::Sender<()>,
    },
    /// The process has ended.
    Gone {
        pid: Pid,
        done: Option<oneshot::Sender<()>>,
    },
    /// The node stops.
    Stop {
        done: oneshot::Sender<()>,
    },
    Report {
        done: oneshot::Sender<Report>,
    },
    Read(Read),
}

/// What becomes of the meta of a key, or `None` where it stays as it is.
pub(crate) type Change = dyn FnMut(&str, &Meta) -> Option<Meta> + Send;

/// What is answered once the changes of a turn have been told.
pub(crate) enum Read {
    List {
        topic: Arc<str>,
        done: oneshot::Sender<Arc<Json<'static>>>,
    },
    Key {
        topic: Arc<str>,
        key: KeyBuf,
        done: oneshot::Sender<Option<Json<'static>>>,
    },
    Count {
        topic: Arc<str>,
        done: oneshot::Sender<usize>,
    },
    /// Push the list to one channel, in its place among the diffs.
    State { topic: Arc<str>, state: State },
}

impl Read {
    pub(crate) fn topic(&self) -> &Arc<str> {
        match self {
            Self::List { topic, .. }
            | Self::Key { topic, .. }
            | Self::Count { topic, .. }
            | Self::State { topic, .. } => topic,
        }
    }
}

/// The channel that wants a list pushed, and as what.
pub(crate) struct State {
    pub(crate) event: &'static str,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) channel: ChannelId,
}

/// What the cluster says to a shard.
pub(crate) enum Word {
    Message {
        peer: Arc<str>,
        message: cluster::Message,
        /// The room that it takes in the queue.
        room: OwnedSemaphorePermit,
    },
    Connected(Arc<str>),
    Gone(Arc<str>),
}

/// How a shard is doing.
#[derive(Clone, Debug)]
pub struct Report {
    /// The shard's number, from 0.
    pub shard: u32,
    /// Its replica.
    pub replica: ReplicaId,
    /// What it has seen of each replica.
    pub clocks: Context,
    /// The other replicas.
    pub replicas: Vec<(ReplicaId, Status)>,
    /// Presences of all replicas, those that are down among them.
    pub presences: usize,
    /// Presences of this node.
    pub own_presences: usize,
    /// Topics with presences.
    pub topics: usize,
    /// Messages of the cluster that wait.
    pub waiting: usize,
    /// What happened so far, in all lives of the shard.
    pub stats: Stats,
    /// How often the shard has panicked and begun a new life.
    pub panics: u64,
    /// Whether the journal is written; `None` where there is to be none.
    pub journal: Option<bool>,
}

/// What a shard is made of, in each of its lives.
pub(crate) struct Setup {
    pub(crate) number: u32,
    pub(crate) pool_size: usize,
    pub(crate) name: Arc<str>,
    pub(crate) tracker: Config,
    pub(crate) pause: Pause,
    pub(crate) env: Arc<dyn Environment>,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) transport: Arc<OnceLock<Arc<dyn Transport>>>,
    pub(crate) journals: Option<Arc<dyn Journals>>,
    pub(crate) merges: Merges,
    pub(crate) sabotage: Sabotage,
}

impl Setup {
    /// Runs the shard, life after life, until the last sender of commands is gone.
    pub(crate) async fn run(
        self,
        (mut tracker, mut header): (Tracker, Header),
        origin: Instant,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut words: mpsc::UnboundedReceiver<Word>,
    ) {
        let mut is_stopping = false;
        let mut past = Past::default();
        loop {
            let shard = Shard::new(&self, tracker, &header, origin, &mut is_stopping, &mut past);
            let run = shard.run(&mut commands, &mut words);
            if AssertUnwindSafe(run).catch_unwind().await.is_ok() {
                return;
            }
            past.end_life();
            let (shard, pool_size) = (self.number, self.pool_size);
            tracing::error!(
                shard,
                "a shard has panicked and begins a new life: its clients join again"
            );
            self.subscriptions
                .crash(|topic| shard_of(topic, pool_size) == shard);
            self.snapshots.clear();
            let incarnation = incarnation(&*self.env).max(header.replica.incarnation() + 1);
            (tracker, header) = match self.life(incarnation, origin) {
                Ok(next) => next,
                Err(error) => {
                    return tracing::error!(shard, %error, "a shard can't begin a new life");
                }
            };
        }
    }

    /// A tracker for a life of the shard.
    pub(crate) fn life(
        &self,
        incarnation: u64,
        origin: Instant,
    ) -> Result<(Tracker, Header), ConfigError> {
        let header = Header {
            replica: ReplicaId::new(Arc::clone(&self.name), incarnation),
            config: self.tracker.clone(),
            hash_seed: self.env.random(),
            random: self.env.random(),
            at: origin.elapsed(),
        };
        Ok((header.tracker()?, header))
    }
}

/// An incarnation that begins now: microseconds since the Unix epoch.
pub(crate) fn incarnation(env: &dyn Environment) -> u64 {
    u64::try_from(env.unix_time().as_micros()).unwrap_or(u64::MAX)
}

/// The number of the shard that holds a topic.
pub(crate) fn shard_of(topic: &str, pool_size: usize) -> u32 {
    u32::try_from(presence_core::tracker::shard_of(topic, pool_size)).unwrap_or(0)
}

/// What is known of a shard beyond the end of a life.
#[derive(Default)]
struct Past {
    panics: u64,
    /// What happened in the lives that have ended.
    before: Stats,
    /// What happened in this one.
    now: Stats,
}

impl Past {
    fn end_life(&mut self) {
        self.panics += 1;
        self.before = self.stats();
        self.now = Stats::default();
    }

    fn stats(&self) -> Stats {
        self.before + self.now
    }
}

struct Shard<'a> {
    setup: &'a Setup,
    tracker: Tracker,
    /// What the tracker's time counts from.
    origin: Instant,
    telling: Telling,
    /// The nodes of which a message was refused.
    refused: BTreeSet<Arc<str>>,
    /// The topics whose snapshots are outdated.
    outdated: BTreeSet<Arc<str>>,
    journal: Option<Box<dyn Journal>>,
    /// Of the words that waited when a period of the tracker was over, how many are to be heard before it
    /// hears of that.
    unheard: Option<usize>,
    is_stopping: &'a mut bool,
    past: &'a mut Past,
}

impl<'a> Shard<'a> {
    fn new(
        setup: &'a Setup,
        tracker: Tracker,
        header: &Header,
        origin: Instant,
        is_stopping: &'a mut bool,
        past: &'a mut Past,
    ) -> Self {
        let journal = setup.journals.as_ref().and_then(|journals| {
            let opened = journals.open(setup.number, header);
            let shard = setup.number;
            opened
                .inspect_err(|error| tracing::error!(shard, %error, "a journal can't be written"))
                .ok()
        });
        Self {
            setup,
            tracker,
            origin,
            telling: Telling::new(
                Arc::clone(&setup.subscriptions),
                setup.pause,
                setup.sabotage.clone(),
            ),
            refused: BTreeSet::new(),
            outdated: BTreeSet::new(),
            journal,
            unheard: None,
            is_stopping,
            past,
        }
    }

    async fn run(
        mut self,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        words: &mut mpsc::UnboundedReceiver<Word>,
    ) {
        if *self.is_stopping {
            self.call(Input::Stop);
        }
        let mut batch = Vec::new();
        loop {
            let due = self.tracker.poll_timeout().map(|due| self.origin + due);
            let mut word = None;
            tokio::select! {
                biased;
                taken = commands.recv_many(&mut batch, BATCH) => if taken == 0 { return },
                some = words.recv() => word = some,
                () = until(self.telling.next_rest()) => {}
                () = until(due) => {}
                () = std::future::ready(()), if !self.outdated.is_empty() => {}
            }
            let mut reads = self.telling.end_rests(Instant::now());
            for command in batch.drain(..) {
                match command {
                    Command::Read(read) => reads.push(read),
                    // Nobody waits for it where this shard took too long.
                    Command::Report { done } if done.is_closed() => {}
                    Command::Report { done } => {
                        let _ = done.send(self.report(words.len()));
                    }
                    command => self.change(command),
                }
            }
            // Many commands must not keep the cluster waiting, nor the other way round.
            if let Some(word) = word.or_else(|| words.try_recv().ok()) {
                self.hear(word);
            }
            self.handle_timeout(words.len());
            self.telling.tell(Instant::now());
            self.answer(reads);
            self.make_snapshots();
            tokio::task::yield_now().await;
        }
    }

    /// Tells the tracker that its timer is due; at the end of a period, when it may accuse others of
    /// silence, once what had come by then is heard.
    fn handle_timeout(&mut self, waiting: usize) {
        let at = self.origin.elapsed();
        if self.tracker.poll_timeout().is_none_or(|due| at < due) {
            return;
        }
        if at >= self.tracker.period_ends() {
            if *self.unheard.get_or_insert(waiting) > 0 {
                return;
            }
            self.unheard = None;
        }
        self.call_at(at, Input::Timeout);
    }

    fn hear(&mut self, word: Word) {
        if let Some(unheard) = &mut self.unheard {
            *unheard = unheard.saturating_sub(1);
        }
        match word {
            Word::Message {
                peer,
                message,
                room,
            } => {
                let merge = self.setup.merges.begin(&message);
                let input = Input::Message {
                    peer: Arc::clone(&peer),
                    message,
                };
                if let Outcome::Heard(Err(refusal)) = self.call(input) {
                    self.log_refusal(&peer, &refusal);
                } else if let Some(merge) = merge {
                    merge.end();
                }
                drop(room);
            }
            Word::Connected(peer) => {
                self.refused.remove(&peer);
                self.call(Input::Connected { peer });
            }
            Word::Gone(peer) => {
                self.call(Input::Gone { peer });
            }
        }
    }

    /// Logs what an operator should know, of each node once until it is connected again.
    fn log_refusal(&mut self, peer: &Arc<str>, refusal: &Refusal) {
        let is_known = match refusal {
            // What comes late, as it may.
            Refusal::Departed(_) | Refusal::Superseded { .. } => true,
            Refusal::Sender { .. }
            | Refusal::OwnName(_)
            | Refusal::TooMany(_)
            | Refusal::Foreign { .. }
            | Refusal::Merge(_) => !self.refused.insert(Arc::clone(peer)),
        };
        let shard = self.setup.number;
        if is_known {
            tracing::debug!(shard, %peer, error = %refusal, "a message is refused");
        } else {
            tracing::warn!(shard, %peer, error = %refusal, "a message is refused, and more may be");
        }
    }

    fn change(&mut self, command: Command) {
        // Whoever asked may have ended, and does not take its answer.
        match command {
            Command::Track {
                topic,
                pid,
                key,
                meta,
                done,
            } => {
                let input = Input::Track {
                    topic,
                    pid,
                    key,
                    meta,
                };
                if let Outcome::Tracked(tracked) = self.call(input) {
                    let _ = done.send(tracked);
                }
            }
            Command::Update {
                topic,
                pid,
                key,
                change,
                done,
            } => {
                let _ = done.send(self.update(topic, pid, key, change));
            }
            Command::UpdateTopic {
                topic,
                mut change,
                done,
            } => {
                let change =
                    |key: presence_core::entry::Key<'_>, meta: &Meta| change(key.as_str(), meta);
                let updates = self.tracker.updates(&topic, change);
                let count = updates.len();
                let updated = self.update_all(topic, updates);
                let _ = done.send(updated.map(|()| count));
            }
            Command::Untrack {
                topic,
                pid,
                key,
                done,
            } => {
                if !self.setup.sabotage.acts(Defect::LeaveIgnored) {
                    self.call(Input::Untrack { topic, pid, key });
                }
                let _ = done.send(());
            }
            Command::Gone { pid, done } => {
                self.call(Input::UntrackPid { pid });
                if let Some(done) = done {
                    let _ = done.send(());
                }
            }
            Command::Stop { done } => {
                *self.is_stopping = true;
                self.call(Input::Stop);
                let _ = done.send(());
            }
            Command::Report { .. } | Command::Read(_) => {}
        }
    }

    fn update(
        &mut self,
        topic: Arc<str>,
        pid: Pid,
        key: KeyBuf,
        change: Box<dyn FnOnce(Meta) -> Meta + Send>,
    ) -> Result<PhxRef, ChangeError<UpdateError>> {
        let entry = self.tracker.set().find(&topic, pid, key.as_key());
        let before = Meta::of_entry(entry.ok_or(UpdateError::NotTracked)?.meta);
        let meta = change(before);
        let input = Input::Update {
            topic,
            pid,
            key,
            meta,
        };
        match self.call(input) {
            Outcome::Updated(updated) => updated,
            other => unreachable!("an update gives {other:?}"),
        }
    }

    fn update_all(
        &mut self,
        topic: Arc<str>,
        updates: Vec<Update>,
    ) -> Result<(), ChangeError<UpdateError>> {
        match self.call(Input::UpdateAll { topic, updates }) {
            Outcome::UpdatedAll(updated) => updated.map(|_| ()),
            other => unreachable!("an update gives {other:?}"),
        }
    }

    /// Calls the tracker and passes on all that comes of it.
    fn call(&mut self, input: Input) -> Outcome {
        self.call_at(self.origin.elapsed(), input)
    }

    fn call_at(&mut self, at: Duration, input: Input) -> Outcome {
        let is_own = match &input {
            Input::Track { .. }
            | Input::Update { .. }
            | Input::UpdateAll { .. }
            | Input::Untrack { .. }
            | Input::UntrackPid { .. } => true,
            Input::Message { .. }
            | Input::Connected { .. }
            | Input::Gone { .. }
            | Input::Timeout
            | Input::Stop => false,
        };
        let record = Record { at, input };
        if let Some(journal) = &mut self.journal {
            journal.record(&record);
        }
        let outcome = record.input.apply(&mut self.tracker, at);
        self.past.now = self.tracker.stats();
        self.drain(is_own);
        outcome
    }

    /// Passes on all that came of an input, which was this node's own or not.
    fn drain(&mut self, is_own: bool) {
        let shard = self.setup.number;
        let transport = self.setup.transport.get();
        while let Some(transmit) = self.tracker.poll_transmit() {
            if *self.is_stopping
                && is_change(&transmit.message)
                && self.setup.sabotage.acts(Defect::DrainForgets)
            {
                continue;
            }
            if let Some(transport) = transport {
                let message = transmit.message;
                transport.send(&transmit.to, &Message::Tracker { shard, message });
            }
        }
        let snapshots = &self.setup.snapshots;
        while let Some(diff) = self.tracker.poll_diff_of(|topic| {
            if snapshots.changed(topic, is_own) {
                self.outdated.insert(Arc::clone(topic));
            }
            self.telling.wants(topic)
        }) {
            self.telling.note(diff);
        }
        let mut down = None;
        while let Some(event) = self.tracker.poll_event() {
            // One that is forgotten at once has said goodbye, or its next life is there.
            if let Some(replica) = down.take()
                && !matches!(&event, TrackerEvent::Permdown(gone) if *gone == replica)
            {
                tracing::warn!(shard, %replica, "a replica is down");
            }
            match event {
                TrackerEvent::Up(replica) => tracing::info!(shard, %replica, "a replica is up"),
                TrackerEvent::Down(replica) => down = Some(replica),
                TrackerEvent::Permdown(replica) => {
                    tracing::info!(shard, %replica, "a replica is forgotten");
                }
                TrackerEvent::Reincarnated { from, to } => {
                    tracing::warn!(shard, %from, %to, "a later life of this node's name was heard of");
                }
            }
        }
        if let Some(replica) = down {
            tracing::warn!(shard, %replica, "a replica is down");
        }
    }

    fn answer(&mut self, reads: Vec<Read>) {
        let set = self.tracker.set();
        let mut lists: BTreeMap<Arc<str>, Arc<Json<'static>>> = BTreeMap::new();
        let mut list_of = |topic: &Arc<str>| {
            let list = lists
                .entry(Arc::clone(topic))
                .or_insert_with_key(|topic| list_of(set, topic));
            Arc::clone(list)
        };
        for read in reads {
            match read {
                Read::List { topic, done } => {
                    let list = list_of(&topic);
                    self.setup.snapshots.keep(&topic, &list);
                    self.outdated.remove(&topic);
                    let _ = done.send(list);
                }
                Read::Key { topic, key, done } => {
                    let presence = presence::by_key(set, &topic, key.as_key());
                    let _ = done.send(presence.as_deref().map(json));
                }
                Read::Count { topic, done } => {
                    let _ = done.send(set.count(&topic));
                }
                Read::State { topic, state } => {
                    if let Some(state) = self.telling.hold(&topic, state) {
                        let list = list_of(&topic);
                        if self.setup.sabotage.acts(Defect::StateLate) {
                            self.telling.delay(topic, state, list);
                        } else {
                            state.push(list);
                        }
                    }
                }
            }
        }
    }

    /// Makes some of the outdated snapshots anew, so many that nobody waits long.
    fn make_snapshots(&mut self) {
        for _ in 0..SNAPSHOTS {
            let Some(topic) = self.outdated.pop_first() else {
                return;
            };
            if self.setup.snapshots.expire(&topic) {
                let list = list_of(self.tracker.set(), &topic);
                self.setup.snapshots.keep(&topic, &list);
            }
        }
    }

    fn report(&self, waiting: usize) -> Report {
        let set = self.tracker.set();
        let replicas = self.tracker.replicas();
        Report {
            shard: self.setup.number,
            replica: self.tracker.replica().clone(),
            clocks: set.clocks(),
            replicas: replicas
                .map(|(replica, status)| (replica.clone(), status))
                .collect(),
            presences: set.len(),
            own_presences: set.count_of(set.replica()),
            topics: set.topic_count(),
            waiting,
            stats: self.past.stats(),
            panics: self.past.panics,
            journal: self.journal_is_whole(),
        }
    }

    fn journal_is_whole(&self) -> Option<bool> {
        self.setup.journals.as_ref()?;
        let journal = self.journal.as_ref();
        Some(journal.is_some_and(|journal| journal.is_whole()))
    }
}

/// Returns at a time, if there is one.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Whether a message tells what this node has changed.
fn is_change(message: &cluster::Message) -> bool {
    matches!(&message.body, Body::Heartbeat { delta, .. } if !delta.is_empty())
}

fn list_of(set: &Set, topic: &str) -> Arc<Json<'static>> {
    Arc::new(json(&Presences::group(set.list(topic)).to_json()))
}

fn json(text: &str) -> Json<'static> {
    Json::parse(text).map_or(Json::EMPTY, Json::into_owned)
}
