//! A tracker's inputs, written down and played again.
//!
//! A tracker is deterministic: from the same [`Header`], the same [`Input`]s at the same times give the
//! same outputs, byte for byte. So a journal of a node in the field is a test. It is JSON, a line for
//! the header and a line for each [`Record`]; times stand in it as nanoseconds, messages as base64 of the
//! [cluster codec](crate::wire::cluster).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{ChangeError, Config, ConfigError, Refusal, Tracker, Update};
use crate::clock::ReplicaId;
use crate::entry::Pid;
use crate::presence::{KeyBuf, Meta, PhxRef};
use crate::set::{JoinError, UpdateError};
use crate::wire::cluster::{self, CodecError, Message};

/// What a tracker began with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its replica.
    pub replica: ReplicaId,
    /// Its settings.
    pub config: Config,
    /// The seed of its hash tables.
    pub hash_seed: u64,
    /// The random number that staggered its first heartbeat.
    pub random: u64,
    /// When it began (in JSON, in nanoseconds).
    #[serde(with = "nanos")]
    pub at: Duration,
}

/// One call of a tracker, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When.
    pub at: Duration,
    /// What.
    pub input: Input,
}

/// One call of a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// [`Tracker::track`].
    Track {
        /// The topic.
        topic: Arc<str>,
        /// The process.
        pid: Pid,
        /// What it is tracked under.
        key: KeyBuf,
        /// The meta.
        meta: Meta,
    },
    /// [`Tracker::update`].
    Update {
        /// The topic.
        topic: Arc<str>,
        /// The process.
        pid: Pid,
        /// What it is tracked under.
        key: KeyBuf,
        /// The new meta.
        meta: Meta,
    },
    /// [`Tracker::update_all`].
    UpdateAll {
        /// The topic.
        topic: Arc<str>,
        /// The new metas.
        updates: Vec<Update>,
    },
    /// [`Tracker::untrack`].
    Untrack {
        /// The topic.
        topic: Arc<str>,
        /// The process.
        pid: Pid,
        /// What it is tracked under.
        key: KeyBuf,
    },
    /// [`Tracker::untrack_pid`].
    UntrackPid {
        /// The process.
        pid: Pid,
    },
    /// [`Tracker::handle_message`].
    Message {
        /// The node that it came from.
        peer: Arc<str>,
        /// The message.
        message: Message,
    },
    /// [`Tracker::handle_connected`].
    Connected {
        /// The node.
        peer: Arc<str>,
    },
    /// [`Tracker::handle_gone`].
    Gone {
        /// The node.
        peer: Arc<str>,
    },
    /// [`Tracker::handle_timeout`].
    Timeout,
    /// [`Tracker::handle_stop`].
    Stop,
}

/// What a call returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Done,
    /// What [`Tracker::track`] returned.
    Tracked(Result<PhxRef, ChangeError<JoinError>>),
    /// What [`Tracker::update`] returned.
    Updated(Result<PhxRef, ChangeError<UpdateError>>),
    /// What [`Tracker::update_all`] returned.
    UpdatedAll(Result<Vec<PhxRef>, ChangeError<UpdateError>>),
    /// How many presences were untracked.
    Untracked(usize),
    /// What [`Tracker::handle_message`] returned.
    Heard(Result<(), Refusal>),
}

impl Header {
    /// A tracker that begins as this one began.
    ///
    /// # Errors
    ///
    /// See [`Config::validate`].
    pub fn tracker(&self) -> Result<Tracker, ConfigError> {
        let Self {
            replica,
            config,
            hash_seed,
            random,
            at,
        } = self.clone();
        Tracker::new(replica, config, hash_seed, random, at)
    }

    /// The line of a journal, without its end.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a header is JSON")
    }

    /// Reads the first line of a journal.
    ///
    /// # Errors
    ///
    /// See [`JournalError`].
    pub fn parse(line: &str) -> Result<Self, JournalError> {
        Ok(serde_json::from_str(line)?)
    }
}

impl Input {
    /// Makes the call. What it leads to is then to be drained.
    pub fn apply(self, tracker: &mut Tracker, now: Duration) -> Outcome {
        match self {
            Self::Track {
                topic,
                pid,
                key,
                meta,
            } => Outcome::Tracked(tracker.track(&topic, pid, key.as_key(), &meta)),
            Self::Update {
                topic,
                pid,
                key,
                meta,
            } => Outcome::Updated(tracker.update(&topic, pid, key.as_key(), &meta)),
            Self::UpdateAll { topic, updates } => {
                Outcome::UpdatedAll(tracker.update_all(&topic, &updates))
            }
            Self::Untrack { topic, pid, key } => {
                Outcome::Untracked(usize::from(tracker.untrack(&topic, pid, key.as_key())))
            }
            Self::UntrackPid { pid } => Outcome::Untracked(tracker.untrack_pid(pid)),
            Self::Message { peer, message } => {
                Outcome::Heard(tracker.handle_message(&peer, message, now))
            }
            Self::Connected { peer } => {
                tracker.handle_connected(&peer, now);
                Outcome::Done
            }
            Self::Gone { peer } => {
                tracker.handle_gone(&peer, now);
                Outcome::Done
            }
            Self::Timeout => {
                tracker.handle_timeout(now);
                Outcome::Done
            }
            Self::Stop => {
                tracker.handle_stop(now);
                Outcome::Done
            }
        }
    }
}

impl Record {
    /// The line of a journal, without its end.
    pub fn to_line(&self) -> String {
        let line = Line {
            at: self.at,
            call: Call::from(&self.input),
        };
        serde_json::to_string(&line).expect("a record is JSON")
    }

    /// Reads a line of a journal.
    ///
    /// # Errors
    ///
    /// See [`JournalError`].
    pub fn parse(line: &str, limits: &cluster::Limits) -> Result<Self, JournalError> {
        let Line { at, call } = serde_json::from_str(line)?;
        let input = call.into_input(limits)?;
        Ok(Self { at, input })
    }
}

/// Why a line is none of a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It is not JSON of the form that belongs there.
    #[error("no line of a journal: {0}")]
    Json(#[from] serde_json::Error),
    /// A message is not base64.
    #[error("a message is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// A message can't be read.
    #[error("a message can't be read: {0}")]
    Message(#[from] CodecError),
    /// A meta is none.
    #[error("a meta is none: {0}")]
    Meta(#[from] crate::presence::MetaError),
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(with = "nanos")]
    at: Duration,
    #[serde(flatten)]
    call: Call,
}

/// An input as it stands in a line.
#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Call {
    Track(Tracked),
    Update(Tracked),
    UpdateAll {
        topic: Arc<str>,
        updates: Vec<Updated>,
    },
    Untrack {
        topic: Arc<str>,
        pid: Pid,
        key: KeyBuf,
    },
    UntrackPid {
        pid: Pid,
    },
    Message {
        peer: Arc<str>,
        message: String,
    },
    Connected {
        peer: Arc<str>,
    },
    Gone {
        peer: Arc<str>,
    },
    Timeout,
    Stop,
}

#[derive(Serialize, Deserialize)]
struct Updated {
    pid: Pid,
    key: KeyBuf,
    /// As that of [`Tracked`].
    meta: String,
}

#[derive(Serialize, Deserialize)]
struct Tracked {
    topic: Arc<str>,
    pid: Pid,
    key: KeyBuf,
    /// The text as it was given, since numbers must not change.
    meta: String,
}

impl From<&Input> for Call {
    fn from(input: &Input) -> Self {
        let tracked = |topic: &Arc<str>, pid: Pid, key: &KeyBuf, meta: &Meta| Tracked {
            topic: Arc::clone(topic),
            pid,
            key: key.clone(),
            meta: meta.as_str().into(),
        };
        match input {
            Input::Track {
                topic,
                pid,
                key,
                meta,
            } => Self::Track(tracked(topic, *pid, key, meta)),
            Input::Update {
                topic,
                pid,
                key,
                meta,
            } => Self::Update(tracked(topic, *pid, key, meta)),
            Input::UpdateAll { topic, updates } => Self::UpdateAll {
                topic: Arc::clone(topic),
                updates: updates
                    .iter()
                    .map(|Update { pid, key, meta }| Updated {
                        pid: *pid,
                        key: key.clone(),
                        meta: meta.as_str().into(),
                    })
                    .collect(),
            },
            Input::Untrack { topic, pid, key } => Self::Untrack {
                topic: Arc::clone(topic),
                pid: *pid,
                key: key.clone(),
            },
            Input::UntrackPid { pid } => Self::UntrackPid { pid: *pid },
            Input::Message { peer, message } => Self::Message {
                peer: Arc::clone(peer),
                message: STANDARD.encode(cluster::encode(message)),
            },
            Input::Connected { peer } => Self::Connected {
                peer: Arc::clone(peer),
            },
            Input::Gone { peer } => Self::Gone {
                peer: Arc::clone(peer),
            },
            Input::Timeout => Self::Timeout,
            Input::Stop => Self::Stop,
        }
    }
}

impl Call {
    fn into_input(self, limits: &cluster::Limits) -> Result<Input, JournalError> {
        Ok(match self {
            Self::Track(Tracked {
                topic,
                pid,
                key,
                meta,
            }) => Input::Track {
                topic,
                pid,
                key,
                meta: Meta::parse(&meta)?,
            },
            Self::Update(Tracked {
                topic,
                pid,
                key,
                meta,
            }) => Input::Update {
                topic,
                pid,
                key,
                meta: Meta::parse(&meta)?,
            },
            Self::UpdateAll { topic, updates } => {
                let updates = updates.into_iter().map(|Updated { pid, key, meta }| {
                    let meta = Meta::parse(&meta)?;
                    Ok::<_, JournalError>(Update { pid, key, meta })
                });
                let updates = updates.collect::<Result<_, _>>()?;
                Input::UpdateAll { topic, updates }
            }
            Self::Untrack { topic, pid, key } => Input::Untrack { topic, pid, key },
            Self::UntrackPid { pid } => Input::UntrackPid { pid },
            Self::Message { peer, message } => Input::Message {
                peer,
                message: cluster::decode(&STANDARD.decode(message)?, limits)?,
            },
            Self::Connected { peer } => Input::Connected { peer },
            Self::Gone { peer } => Input::Gone { peer },
            Self::Timeout => Input::Timeout,
            Self::Stop => Input::Stop,
        })
    }
}

/// A time as whole nanoseconds, since a time that is cut short may come before the timer that it woke.
pub(super) mod nanos {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        at: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        Ok(Duration::from_nanos(u64::deserialize(deserializer)?))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_line())
    }
}
