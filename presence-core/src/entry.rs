//! What the set holds: a process, tracked under a key in a topic, with a meta.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::{Dot, ReplicaId};

/// The longest key in bytes.
pub const MAX_KEY_BYTES: usize = (1 << 15) - 1;

/// A tracked process, named by a number that its replica gives out once in each incarnation.
///
/// Pids of different replicas have nothing to do with each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Pid(pub u64);

/// What a presence is tracked under, such as a user id.
///
/// A string and an integer that look alike are different keys where they are tracked and looked up,
/// and one key where they are shown (`Phoenix.Presence.group/1` turns keys into strings).
/// Integers come before strings, as in Erlang's term order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key<'a> {
    /// An integer of any size, in canonical decimal digits.
    Integer(&'a str),
    /// Any string.
    Text(&'a str),
}

impl<'a> Key<'a> {
    /// The key as it is shown.
    pub fn as_str(self) -> &'a str {
        match self {
            Self::Integer(text) | Self::Text(text) => text,
        }
    }

    /// Whether the key is an integer.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::Integer(_))
    }

    pub(crate) fn of(text: &'a str, integer: bool) -> Self {
        if integer {
            Self::Integer(text)
        } else {
            Self::Text(text)
        }
    }
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(digits) => f.write_str(digits),
            Self::Text(text) => fmt::Debug::fmt(text, f),
        }
    }
}

/// A presence as the set lends it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The topic on which the process is tracked.
    pub topic: &'a Arc<str>,
    /// The process.
    pub pid: Pid,
    /// What it is tracked under.
    pub key: Key<'a>,
    /// The meta as it was given, a JSON object for [`presence`](crate::presence).
    pub meta: &'a str,
    /// The replica on which the process lives.
    pub replica: &'a ReplicaId,
    /// The number of the join or update there.
    pub counter: u64,
}

impl Entry<'_> {
    /// The change that brought this presence.
    pub fn dot(&self) -> Dot {
        Dot::new(self.replica.clone(), self.counter)
    }
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {:?} of {:?}: {} ({}@{})",
            self.topic, self.key, self.pid, self.meta, self.replica, self.counter
        )
    }
}

/// A presence that has left the set, which owns what it was.
#[derive(Clone, PartialEq, Eq)]
pub struct Left {
    pub(crate) topic: Arc<str>,
    pub(crate) pid: Pid,
    pub(crate) replica: ReplicaId,
    pub(crate) counter: u64,
    pub(crate) payload: Payload,
    /// Whether it was listed until then.
    pub(crate) listed: bool,
}

impl Left {
    /// The presence as it was before it left.
    pub fn entry(&self) -> Entry<'_> {
        Entry {
            topic: &self.topic,
            pid: self.pid,
            key: self.payload.key(),
            meta: self.payload.meta(),
            replica: &self.replica,
            counter: self.counter,
        }
    }
}

impl From<Entry<'_>> for Left {
    fn from(entry: Entry<'_>) -> Self {
        let payload = Payload::joined(Payload::text(entry.key, entry.meta), KeyTag::of(entry.key));
        Self {
            topic: Arc::clone(entry.topic),
            pid: entry.pid,
            replica: entry.replica.clone(),
            counter: entry.counter,
            payload,
            listed: true,
        }
    }
}

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.entry(), f)
    }
}

/// A key and a meta in one allocation.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    text: Box<str>,
    key: KeyTag,
}

impl Payload {
    /// The key followed by the meta.
    pub(crate) fn text(key: Key<'_>, meta: &str) -> Box<str> {
        let mut text = String::with_capacity(key.as_str().len() + meta.len());
        text.push_str(key.as_str());
        text.push_str(meta);
        text.into_boxed_str()
    }

    /// `text` is the key followed by the meta.
    pub(crate) fn joined(text: Box<str>, key: KeyTag) -> Self {
        debug_assert!(text.is_char_boundary(key.len()));
        Self { text, key }
    }

    pub(crate) fn key(&self) -> Key<'_> {
        Key::of(&self.text[..self.key.len()], self.key.is_integer())
    }

    pub(crate) fn meta(&self) -> &str {
        &self.text[self.key.len()..]
    }
}

/// The length and the kind of a key, in 16 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeyTag(u16);

impl KeyTag {
    const INTEGER: u16 = 1 << 15;

    pub(crate) fn of(key: Key<'_>) -> Self {
        Self::new(key.as_str().len(), key.is_integer())
    }

    /// The tag of a key of `len` bytes, which is no longer than [`MAX_KEY_BYTES`].
    pub(crate) fn new(len: usize, integer: bool) -> Self {
        let len = u16::try_from(len)
            .ok()
            .filter(|&len| len < Self::INTEGER)
            .expect("keys are checked against MAX_KEY_BYTES where they enter");
        Self(if integer { len | Self::INTEGER } else { len })
    }

    pub(crate) fn len(self) -> usize {
        usize::from(self.0 & !Self::INTEGER)
    }

    pub(crate) fn is_integer(self) -> bool {
        self.0 & Self::INTEGER != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_key_differs_from_the_string_that_looks_alike() {
        assert_ne!(Key::Integer("1"), Key::Text("1"));
        assert_eq!(Key::Integer("1").as_str(), Key::Text("1").as_str());
        assert!(Key::Integer("9") < Key::Text("1"));
        assert_eq!(Key::from("x"), Key::Text("x"));
    }

    #[test]
    fn a_payload_keeps_key_kind_and_meta_apart() {
        for key in [Key::Text(""), Key::Integer("12"), Key::Text("ünï")] {
            let text = Payload::text(key, "{\"a\":1}");
            let payload = Payload::joined(text, KeyTag::of(key));
            assert_eq!(payload.key(), key);
            assert_eq!(payload.meta(), "{\"a\":1}");
        }
    }

    #[test]
    fn the_longest_key_fits_its_tag() {
        let longest = "k".repeat(MAX_KEY_BYTES);
        for key in [Key::Text(&longest), Key::Integer(&longest)] {
            let tag = KeyTag::of(key);
            assert_eq!(
                (tag.len(), tag.is_integer()),
                (MAX_KEY_BYTES, key.is_integer())
            );
        }
    }
}
