//! The cluster codec: what nodes send each other.
//!
//! A message is one byte of version, the sender, one byte of kind, and fields in [postcard]'s encoding: integers as
//! varints, strings with their length before them. Whoever reads it trusts nothing: each length is
//! checked against its cap and against the bytes that are left before anything is allocated, and a
//! delta is checked to be one ([`DeltaError`]).
//!
//! The messages keep the meaning that they have in `Phoenix.Tracker`. Dots are written as gaps, since
//! they come in runs.
//!
//! Two versions are spoken, so that a cluster can be renewed node by node: the newest is written unless
//! the other is asked for, and both are read. See [`Version`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::{Context, MAX_COUNTER, ReplicaId};
use crate::cloud::{Cloud, Interval};
use crate::delta::{Delta, DeltaError, Part, Value};
use crate::entry::{KeyTag, MAX_KEY_BYTES, Pid};

/// A version of the codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    /// The first. Its [`Stopping`](Body::Stopping) has no `handover`, which is read as false.
    V1 = 1,
    /// The second, which has everything.
    V2 = 2,
}

impl Version {
    /// The oldest that is spoken.
    pub const OLDEST: Self = Self::V1;
    /// The newest, which is written.
    pub const NEWEST: Self = Self::V2;

    /// Its number, the first byte of a message.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The version of a number; none where it is not spoken.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }
}

/// What one replica sends another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender.
    pub from: ReplicaId,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The sender lives, has seen `clocks`, and changed by `delta` since its last heartbeat (which is
    /// empty where nothing changed).
    Heartbeat {
        /// What changed.
        delta: Delta,
        /// The sender's clocks.
        clocks: Context,
    },
    /// The sender lacks something of these replicas: it has seen `clocks` only.
    TransferRequest {
        /// The sender's number for the request.
        id: u64,
        /// What the sender has seen of the replicas that it asks about.
        clocks: Context,
    },
    /// A part of what the asker lacks.
    TransferReply {
        /// The asker's number for the request.
        id: u64,
        /// Which part of the answer this is, from 1.
        part: u32,
        /// A delta, sound by itself.
        delta: Delta,
        /// The sender's clocks.
        clocks: Context,
        /// Whether this is the last part of the answer. After any other the asker says
        /// [`TransferContinue`](Self::TransferContinue).
        last: bool,
    },
    /// The asker has taken the parts of the answer before this one, and waits for it.
    TransferContinue {
        /// The asker's number for the request.
        id: u64,
        /// Which part it waits for.
        part: u32,
    },
    /// The sender lives and is about to stop, without a word about the presences that end with it.
    Stopping {
        /// The sender's clocks.
        clocks: Context,
        /// Whether one of its presences goes as soon as its key is tracked elsewhere.
        handover: bool,
    },
    /// The sender stops for good: its presences have left.
    Permdown,
    /// The receiver's incarnation is not taken, since a later one of its name is known.
    Superseded {
        /// The later incarnation.
        newest: u64,
    },
}

/// The bounds of a message that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message. 64 MiB by default.
    pub message_bytes: usize,
    /// Replicas that a context or a delta names. 65,535 by default.
    pub replicas: usize,
    /// Bytes of a replica's name. 255 by default.
    pub name_bytes: usize,
    /// Topics that a delta names. 1,048,576 by default.
    pub topics: usize,
    /// Bytes of a topic's name. 65,536 by default.
    pub topic_bytes: usize,
    /// Values of a delta. 1,048,576 by default.
    pub values: usize,
    /// Intervals of gone dots of one replica. 4,194,304 by default.
    pub intervals: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 64 << 20,
            replicas: usize::from(u16::MAX),
            name_bytes: 255,
            topics: 1 << 20,
            topic_bytes: 1 << 16,
            values: 1 << 20,
            intervals: 1 << 22,
        }
    }
}

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The message is too long to be read.
    #[error("the message has {len} bytes, more than {max}")]
    TooLong {
        /// Its bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The version is not spoken here.
    #[error(
        "the message is of version {0}; {oldest} to {newest} are spoken here",
        oldest = Version::OLDEST.number(),
        newest = Version::NEWEST.number()
    )]
    Version(u8),
    /// The kind of message is not known.
    #[error("there is no kind of message {0}")]
    Kind(u8),
    /// The bytes end early, or are not of the form that belongs there.
    #[error("byte {at}: no {what}")]
    Malformed {
        /// What should be there.
        what: &'static str,
        /// Where it should begin.
        at: usize,
    },
    /// A length is over its cap.
    #[error("byte {at}: {len} {what}, more than {max}")]
    Cap {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        len: u64,
        /// The cap.
        max: usize,
        /// Where the length is.
        at: usize,
    },
    /// The message ends before the bytes do.
    #[error("byte {at}: {len} bytes after the end of the message")]
    Trailing {
        /// Where the message ends.
        at: usize,
        /// How many follow.
        len: usize,
    },
    /// The delta in the message is none.
    #[error(transparent)]
    Delta(#[from] DeltaError),
}

/// Writes a message in the newest version.
pub fn encode(message: &Message) -> Vec<u8> {
    encode_as(message, Version::NEWEST)
}

/// Writes a message in a version, for those who read no newer one. What the version can't say is left
/// out, see [`Version`].
pub fn encode_as(message: &Message, version: Version) -> Vec<u8> {
    let mut writer = Writer(vec![version.number()]);
    writer.replica(&message.from);
    match &message.body {
        Body::Heartbeat { delta, clocks } => {
            writer.put(0_u8);
            writer.context(clocks);
            writer.delta(delta);
        }
        Body::TransferRequest { id, clocks } => {
            writer.put(1_u8);
            writer.put(*id);
            writer.context(clocks);
        }
        Body::TransferReply {
            id,
            part,
            delta,
            clocks,
            last,
        } => {
            writer.put(2_u8);
            writer.put(*id);
            writer.put(*part);
            writer.put(*last);
            writer.context(clocks);
            writer.delta(delta);
        }
        Body::TransferContinue { id, part } => {
            writer.put(3_u8);
            writer.put(*id);
            writer.put(*part);
        }
        Body::Stopping { clocks, handover } => {
            writer.put(4_u8);
            if version >= Version::V2 {
                writer.put(*handover);
            }
            writer.context(clocks);
        }
        Body::Permdown => writer.put(5_u8),
        Body::Superseded { newest } => {
            writer.put(6_u8);
            writer.put(*newest);
        }
    }
    writer.0
}

/// Reads a message, of either version.
///
/// # Errors
///
/// See [`CodecError`], which says what is wrong and where.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Message, CodecError> {
    let (len, max) = (bytes.len(), limits.message_bytes);
    if len > max {
        return Err(CodecError::TooLong { len, max });
    }
    let mut reader = Reader {
        bytes,
        at: 0,
        limits,
    };
    let version: u8 = reader.take("version")?;
    let version = Version::from_number(version).ok_or(CodecError::Version(version))?;
    let from = reader.replica()?;
    let body = match reader.take("kind of message")? {
        0_u8 => {
            let clocks = reader.context()?;
            let delta = reader.delta()?;
            Body::Heartbeat { delta, clocks }
        }
        1 => Body::TransferRequest {
            id: reader.take("number of a request")?,
            clocks: reader.context()?,
        },
        2 => {
            let id = reader.take("number of a request")?;
            let part = reader.take("number of a part")?;
            let last = reader.take("flag")?;
            let clocks = reader.context()?;
            let delta = reader.delta()?;
            Body::TransferReply {
                id,
                part,
                delta,
                clocks,
                last,
            }
        }
        3 => Body::TransferContinue {
            id: reader.take("number of a request")?,
            part: reader.take("number of a part")?,
        },
        4 => Body::Stopping {
            handover: version >= Version::V2 && reader.take::<bool>("flag")?,
            clocks: reader.context()?,
        },
        5 => Body::Permdown,
        6 => Body::Superseded {
            newest: reader.take("incarnation")?,
        },
        kind => return Err(CodecError::Kind(kind)),
    };
    let at = reader.at;
    match len - at {
        0 => Ok(Message { from, body }),
        len => Err(CodecError::Trailing { at, len }),
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn put<T: Serialize>(&mut self, value: T) {
        let bytes = std::mem::take(&mut self.0);
        self.0 = postcard::to_extend(&value, bytes).expect("a growing buffer takes any value");
    }

    /// As `put` writes it, of which there are many: seven bits in each byte, the lowest first.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn replica(&mut self, replica: &ReplicaId) {
        self.put(replica.name());
        self.put(replica.incarnation());
    }

    fn context(&mut self, context: &Context) {
        self.put(context.len());
        for (replica, counter) in context.iter() {
            self.replica(replica);
            self.put(counter);
        }
    }

    fn delta(&mut self, delta: &Delta) {
        self.put(delta.topics.len());
        for topic in &delta.topics {
            self.put(&**topic);
        }
        self.put(&delta.text);
        self.put(delta.parts.len());
        for part in &delta.parts {
            self.replica(&part.replica);
            self.put(part.through);
            self.put(part.closing);
            self.put(part.gone.intervals().len());
            let mut end = 0;
            for interval in part.gone.intervals() {
                self.number(interval.first - end);
                self.number(interval.last - interval.first);
                end = interval.last;
            }
            self.put(part.values.len());
            let mut end = 0;
            for value in &part.values {
                self.number(value.counter - end);
                end = value.counter;
                self.number(value.pid.0);
                self.number(value.topic.into());
                self.number((value.key.len() as u64) << 1 | u64::from(value.key.is_integer()));
                self.number(u64::from(value.len) - value.key.len() as u64);
            }
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    limits: &'a Limits,
}

impl<'a> Reader<'a> {
    fn take<T: Deserialize<'a>>(&mut self, what: &'static str) -> Result<T, CodecError> {
        let at = self.at;
        let (value, rest) = postcard::take_from_bytes(&self.bytes[at..])
            .map_err(|_| CodecError::Malformed { what, at })?;
        self.at = self.bytes.len() - rest.len();
        Ok(value)
    }

    /// A length, of things that take at least `size` bytes each.
    fn length(&mut self, what: &'static str, max: usize, size: usize) -> Result<usize, CodecError> {
        let at = self.at;
        let len: u64 = self.take(what)?;
        let room = (self.bytes.len() - self.at) / size;
        match usize::try_from(len) {
            Ok(len) if len > room => Err(CodecError::Malformed { what, at }),
            Ok(len) if len <= max => Ok(len),
            _ => Err(CodecError::Cap { what, len, max, at }),
        }
    }

    fn text(&mut self, what: &'static str, max: usize) -> Result<&'a str, CodecError> {
        let at = self.at;
        let text: &str = self.take(what)?;
        if text.len() > max {
            let len = text.len() as u64;
            return Err(CodecError::Cap { what, len, max, at });
        }
        Ok(text)
    }

    fn replica(&mut self) -> Result<ReplicaId, CodecError> {
        let name = self.text("bytes of a replica's name", self.limits.name_bytes)?;
        Ok(ReplicaId::new(name, self.take("incarnation")?))
    }

    fn context(&mut self) -> Result<Context, CodecError> {
        let replicas = self.length("replicas", self.limits.replicas, 3)?;
        let mut context = Context::new();
        for _ in 0..replicas {
            let replica = self.replica()?;
            let at = self.at;
            let counter = self.take("counter")?;
            if counter > MAX_COUNTER {
                let what = "counter";
                return Err(CodecError::Malformed { what, at });
            }
            context.advance(replica, counter);
        }
        Ok(context)
    }

    fn delta(&mut self) -> Result<Delta, CodecError> {
        let topics = self.length("topics", self.limits.topics, 1)?;
        let mut delta = Delta::default();
        for _ in 0..topics {
            let topic = self.text("bytes of a topic", self.limits.topic_bytes)?;
            delta.topics.push(Arc::from(topic));
        }
        delta.text = self
            .text("bytes of text", self.limits.message_bytes)?
            .into();
        let parts = self.length("parts", self.limits.replicas, 7)?;
        let mut start = 0;
        let mut room = self.limits.values;
        for _ in 0..parts {
            let part = self.part(&mut start, room)?;
            room -= part.values.len();
            delta.parts.push(part);
        }
        delta.validate()?;
        Ok(delta)
    }

    fn part(&mut self, start: &mut usize, room: usize) -> Result<Part, CodecError> {
        let replica = self.replica()?;
        let through = self.take("end of range")?;
        let closing = self.take("flag")?;
        let intervals = self.length("intervals", self.limits.intervals, 2)?;
        let mut gone = Cloud::new();
        let mut end = 0;
        for _ in 0..intervals {
            let first = self.step("interval", end)?;
            let last = self.step("interval", first)?;
            gone.insert_interval(Interval { first, last });
            end = last;
        }
        let count = self.length("values", room, 5)?;
        let mut values = Vec::with_capacity(count);
        let mut end = 0;
        for _ in 0..count {
            let counter = self.step("counter", end)?;
            end = counter;
            values.push(self.value(counter, start)?);
        }
        Ok(Part {
            replica,
            through,
            closing,
            gone,
            values,
        })
    }

    /// A counter that is written as its distance from an earlier one.
    fn step(&mut self, what: &'static str, from: u64) -> Result<u64, CodecError> {
        let at = self.at;
        let gap: u64 = self.take(what)?;
        from.checked_add(gap)
            .filter(|&counter| counter <= MAX_COUNTER)
            .ok_or(CodecError::Malformed { what, at })
    }

    fn value(&mut self, counter: u64, start: &mut usize) -> Result<Value, CodecError> {
        let pid = Pid(self.take("pid")?);
        let topic = self.take("topic index")?;
        let at = self.at;
        let key: u64 = self.take("key")?;
        let (key_len, integer) = (key >> 1, key & 1 == 1);
        if key_len > MAX_KEY_BYTES as u64 {
            return Err(CodecError::Cap {
                what: "bytes of a key",
                len: key_len,
                max: MAX_KEY_BYTES,
                at,
            });
        }
        let at = self.at;
        let meta_len: u32 = self.take("meta")?;
        let what = "meta";
        let len = meta_len
            .checked_add(key_len as u32)
            .ok_or(CodecError::Malformed { what, at })?;
        let value = Value {
            counter,
            pid,
            start: *start,
            len,
            topic,
            key: KeyTag::new(key_len as usize, integer),
        };
        *start = start.saturating_add(len as usize);
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
