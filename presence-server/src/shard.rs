//! A shard: the task that owns a set, and through which everything that changes or reads it goes.
//!
//! Commands are taken in batches. The changes of a batch go out as one diff a topic, so that many
//! joins at once cost each client few frames; then whoever asked in the batch is answered. So a
//! `presence_state` never reaches a client after a diff that is newer than the state: a state older
//! than a diff already sent would leave a ghost in the client's list for good.

use std::collections::BTreeMap;
use std::sync::Arc;

use presence_core::channel::ChannelId;
use presence_core::clock::ReplicaId;
use presence_core::entry::{Left, Pid};
use presence_core::presence::{self, DIFF_EVENT, KeyBuf, Meta, PhxRef, Presences, TopicDiff};
use presence_core::set::{JoinError, Limits, Set, UpdateError};
use presence_core::wire::{Json, Payload};
use tokio::sync::{mpsc, oneshot};

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
    /// Push the list to one channel.
    State {
        topic: Arc<str>,
        event: &'static str,
        inbox: Arc<Inbox>,
        channel: ChannelId,
    },
}

/// Where commands go. Each channel has at most one under way, beside the word that it has ended, so
/// that the number of channels bounds the queue.
pub(crate) type Commands = mpsc::UnboundedSender<Command>;

/// Starts a shard; it ends when the last sender of commands is dropped.
pub(crate) fn start(
    replica: ReplicaId,
    limits: Limits,
    hash_seed: u64,
    subscriptions: Arc<Subscriptions>,
) -> Commands {
    let (commands, inbox) = mpsc::unbounded_channel();
    let shard = Shard {
        set: Set::new(replica, limits, hash_seed),
        subscriptions,
        changes: BTreeMap::new(),
    };
    tokio::spawn(shard.run(inbox));
    commands
}

struct Shard {
    set: Set,
    subscriptions: Arc<Subscriptions>,
    /// What changed in this batch, by topic.
    changes: BTreeMap<Arc<str>, Changes>,
}

#[derive(Default)]
struct Changes {
    /// By counter.
    joins: BTreeMap<u64, Left>,
    leaves: Vec<Left>,
}

impl Shard {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut batch = Vec::new();
        while inbox.recv_many(&mut batch, BATCH).await > 0 {
            let mut reads = Vec::new();
            for command in batch.drain(..) {
                match command {
                    Command::Read(read) => reads.push(read),
                    command => self.change(command),
                }
            }
            // Nobody else's copy needs the delta until there is a cluster.
            drop(self.set.take_delta());
            self.tell_changes();
            self.answer(reads);
            tokio::task::yield_now().await;
        }
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
        let changes = self.changes.entry(Arc::clone(entry.topic)).or_default();
        changes.joins.insert(entry.counter, joined);
    }

    /// What joined and left in one batch was never told, and is not.
    fn left(&mut self, left: Left) {
        let entry = left.entry();
        let changes = self.changes.entry(Arc::clone(entry.topic)).or_default();
        if changes.joins.remove(&entry.counter).is_none() {
            changes.leaves.push(left);
        }
    }

    fn tell_changes(&mut self) {
        for (topic, Changes { joins, leaves }) in std::mem::take(&mut self.changes) {
            if joins.is_empty() && leaves.is_empty() {
                continue;
            }
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
        }
    }

    fn answer(&self, reads: Vec<Read>) {
        let mut lists: BTreeMap<Arc<str>, Json<'static>> = BTreeMap::new();
        let mut list = |topic: Arc<str>| {
            let of = |topic: &Arc<str>| json(&Presences::group(self.set.list(topic)).to_json());
            let list = lists.entry(topic).or_insert_with_key(of);
            list.clone()
        };
        for read in reads {
            match read {
                Read::List { topic, done } => {
                    let _ = done.send(list(topic));
                }
                Read::Key { topic, key, done } => {
                    let presence = presence::by_key(&self.set, &topic, key.as_key());
                    let _ = done.send(presence.as_deref().map(json));
                }
                Read::State {
                    topic,
                    event,
                    inbox,
                    channel,
                } => inbox.send(Event::Push {
                    channel,
                    event: event.into(),
                    payload: Payload::Json(list(topic)),
                }),
            }
        }
    }
}

fn json(text: &str) -> Json<'static> {
    Json::parse(text).map_or(Json::EMPTY, Json::into_owned)
}
