//! A shard: the task that owns a set, and through which everything that changes or reads it goes.
//!
//! Commands are taken in batches. The changes of a batch go out as one diff a topic, so that many
//! joins at once cost each client few frames; then whoever asked in the batch is answered. So a
//! `presence_state` never reaches a client after a diff that is newer than the state: a state older
//! than a diff already sent would leave a ghost in the client's list for good.
//!
//! After a diff to many clients its topic rests for a while, see [`Pause`]: what changes meanwhile goes
//! out as one diff when the rest is over, and a `presence_state` waits with it. A lone change is told
//! at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use presence_core::channel::ChannelId;
use presence_core::clock::ReplicaId;
use presence_core::entry::{Left, Pid};
use presence_core::presence::{self, DIFF_EVENT, KeyBuf, Meta, PhxRef, Presences, TopicDiff};
use presence_core::set::{JoinError, Limits, Set, UpdateError};
use presence_core::wire::Json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::inbox::{Event, Inbox};
use crate::subscriptions::Subscriptions;

/// How many commands one batch takes.
const BATCH: usize = 1024;

/// What a shard is asked for.
pub(crate) enum Command {
    Track {
        topic: Arc<str>,
        pid: Pid,
        key: KeyBuf,
        meta: Meta,
        done: oneshot::Sender<Result<PhxRef, JoinError>>,
    },
    Update {
        topic: Arc<str>,
        pid: Pid,
        key: KeyBuf,
        change: Box<dyn FnOnce(Meta) -> Meta + Send>,
        done: oneshot::Sender<Result<PhxRef, UpdateError>>,
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
    Read(Read),
}

/// What is answered once the changes of a batch have been told.
pub(crate) enum Read {
    List {
        topic: Arc<str>,
        done: oneshot::Sender<Json<'static>>,
    },
    Key {
        topic: Arc<str>,
        key: KeyBuf,
        done: oneshot::Sender<Option<Json<'static>>>,
    },
    /// Push the list to one channel, in its place among the diffs.
    State { topic: Arc<str>, state: State },
}

/// The channel that wants a list pushed, and as what.
pub(crate) struct State {
    pub(crate) event: &'static str,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) channel: ChannelId,
}

/// How long a topic rests after a diff: so long for each client that was told.
///
/// So the diffs of a topic take a bounded part of the time, however many clients come and go: what one
/// costs grows with the clients, too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause(pub(crate) Duration);

impl Pause {
    /// The shortest rest: no timer is finer.
    const MIN: Duration = Duration::from_millis(1);
    /// The longest rest, after which even a very large room is told.
    const MAX: Duration = Duration::from_secs(1);

    /// `None` where so few are told that there is no need to rest.
    fn after(self, told: usize) -> Option<Duration> {
        let told = u32::try_from(told).unwrap_or(u32::MAX);
        let rest = self.0.saturating_mul(told).min(Self::MAX);
        (rest >= Self::MIN).then_some(rest)
    }
}

/// Where commands go. Each channel has at most one under way, beside the word that it has ended, so
/// that the number of channels bounds the queue.
pub(crate) type Commands = mpsc::UnboundedSender<Command>;

/// Starts a shard; it ends when the last sender of commands is dropped.
pub(crate) fn start(
    replica: ReplicaId,
    limits: Limits,
    hash_seed: u64,
    pause: Pause,
    subscriptions: Arc<Subscriptions>,
) -> Commands {
    let (commands, inbox) = mpsc::unbounded_channel();
    let shard = Shard {
        set: Set::new(replica, limits, hash_seed),
        subscriptions,
        pause,
        changes: BTreeMap::new(),
        resting: BTreeMap::new(),
        rests: BTreeSet::new(),
    };
    tokio::spawn(shard.run(inbox));
    commands
}

struct Shard {
    set: Set,
    subscriptions: Arc<Subscriptions>,
    pause: Pause,
    /// What is to be told with this batch, by topic.
    changes: BTreeMap<Arc<str>, Changes>,
    resting: BTreeMap<Arc<str>, Rest>,
    /// When the rests end: each of `resting`, once.
    rests: BTreeSet<(Instant, Arc<str>)>,
}

/// What waits for a topic that rests.
#[derive(Default)]
struct Rest {
    changes: Changes,
    states: Vec<State>,
}

#[derive(Default)]
struct Changes {
    /// By counter.
    joins: BTreeMap<u64, Left>,
    leaves: Vec<Left>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.joins.is_empty() && self.leaves.is_empty()
    }
}

impl Shard {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                taken = inbox.recv_many(&mut batch, BATCH) => if taken == 0 { return },
                () = until(self.rests.first()) => {}
            }
            let mut reads = self.end_rests(Instant::now());
            for command in batch.drain(..) {
                match command {
                    Command::Read(read) => reads.push(read),
                    command => self.change(command),
                }
            }
            // Nobody else's copy needs the delta until there is a cluster.
            drop(self.set.take_delta());
            self.tell_changes(Instant::now());
            self.answer(reads);
            tokio::task::yield_now().await;
        }
    }

    /// Makes what waited for a rest that is over a part of this batch.
    fn end_rests(&mut self, now: Instant) -> Vec<Read> {
        let mut reads = Vec::new();
        while self.rests.first().is_some_and(|&(until, _)| until <= now) {
            let Some((_, topic)) = self.rests.pop_first() else {
                break;
            };
            let Some(rest) = self.resting.remove(&topic) else {
                continue;
            };
            reads.extend(rest.states.into_iter().map(|state| Read::State {
                topic: Arc::clone(&topic),
                state,
            }));
            if !rest.changes.is_empty() {
                self.changes.insert(topic, rest.changes);
            }
        }
        reads
    }

    fn change(&mut self, command: Command) {
        match command {
            Command::Track {
                topic,
                pid,
                key,
                meta,
                done,
            } => {
                let tracked = presence::track(&mut self.set, &topic, pid, key.as_key(), &meta);
                let tracked = tracked.map(|handle| {
                    let entry = self.set.entry(handle);
                    let phx_ref = PhxRef::of(&entry);
                    let joined = Left::from(entry);
                    self.joined(joined);
                    phx_ref
                });
                // Whoever asked may have ended.
                let _ = done.send(tracked);
            }
            Command::Update {
                topic,
                pid,
                key,
                change,
                done,
            } => {
                let updated = self.update(&topic, pid, &key, change);
                let _ = done.send(updated);
            }
            Command::Untrack {
                topic,
                pid,
                key,
                done,
            } => {
                if let Some(left) = self.set.leave(&topic, pid, key.as_key()) {
                    self.left(left);
                }
                let _ = done.send(());
            }
            Command::Gone { pid, done } => {
                for left in self.set.leave_pid(pid) {
                    self.left(left);
                }
                if let Some(done) = done {
                    let _ = done.send(());
                }
            }
            Command::Read(_) => {}
        }
    }

    fn update(
        &mut self,
        topic: &str,
        pid: Pid,
        key: &KeyBuf,
        change: Box<dyn FnOnce(Meta) -> Meta + Send>,
    ) -> Result<PhxRef, UpdateError> {
        let entry = self.set.find(topic, pid, key.as_key());
        let before = Meta::of_entry(entry.ok_or(UpdateError::NotTracked)?.meta);
        let meta = change(before);
        let (left, handle) = presence::update(&mut self.set, topic, pid, key.as_key(), &meta)?;
        let entry = self.set.entry(handle);
        let phx_ref = PhxRef::of(&entry);
        let joined = Left::from(entry);
        self.left(left);
        self.joined(joined);
        Ok(phx_ref)
    }

    fn joined(&mut self, joined: Left) {
        let entry = joined.entry();
        let changes = self.changes_of(entry.topic);
        changes.joins.insert(entry.counter, joined);
    }

    /// What joined and left between two diffs was never told, and is not.
    fn left(&mut self, left: Left) {
        let entry = left.entry();
        let changes = self.changes_of(entry.topic);
        if changes.joins.remove(&entry.counter).is_none() {
            changes.leaves.push(left);
        }
    }

    fn changes_of(&mut self, topic: &Arc<str>) -> &mut Changes {
        match self.resting.get_mut(topic) {
            Some(rest) => &mut rest.changes,
            None => self.changes.entry(Arc::clone(topic)).or_default(),
        }
    }

    fn tell_changes(&mut self, now: Instant) {
        for (topic, changes) in std::mem::take(&mut self.changes) {
            if changes.is_empty() {
                continue;
            }
            let Changes { joins, leaves } = changes;
            let diff = TopicDiff {
                joins: Presences::group(joins.values().map(Left::entry)),
                leaves: Presences::group(leaves.iter().map(Left::entry)),
            };
            let payload = json(&diff.to_json());
            let told = self
                .subscriptions
                .broadcast(&topic, DIFF_EVENT, &payload.into(), None);
            if let Err(error) = told {
                tracing::error!(%topic, %error, "a presence diff has no frame");
            }
            let subscribers = self.subscriptions.count(&topic);
            if let Some(rest) = self.pause.after(subscribers) {
                self.rests.insert((now + rest, Arc::clone(&topic)));
                self.resting.insert(topic, Rest::default());
            }
        }
    }

    fn answer(&mut self, reads: Vec<Read>) {
        let mut lists: BTreeMap<Arc<str>, Arc<Json<'static>>> = BTreeMap::new();
        let list_of = |set: &Set, topic: &str| json(&Presences::group(set.list(topic)).to_json());
        for read in reads {
            match read {
                Read::List { topic, done } => {
                    let _ = done.send(list_of(&self.set, &topic));
                }
                Read::Key { topic, key, done } => {
                    let presence = presence::by_key(&self.set, &topic, key.as_key());
                    let _ = done.send(presence.as_deref().map(json));
                }
                Read::State { topic, state } => match self.resting.get_mut(&topic) {
                    Some(rest) if !rest.changes.is_empty() => rest.states.push(state),
                    _ => {
                        let list = lists
                            .entry(topic)
                            .or_insert_with_key(|topic| Arc::new(list_of(&self.set, topic)));
                        state.inbox.send(Event::State {
                            channel: state.channel,
                            event: state.event,
                            list: Arc::clone(list),
                        });
                    }
                },
            }
        }
    }
}

/// Returns at the end of a rest.
async fn until(rest: Option<&(Instant, Arc<str>)>) {
    match rest {
        Some(&(until, _)) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn json(text: &str) -> Json<'static> {
    Json::parse(text).map_or(Json::EMPTY, Json::into_owned)
}
