//! The bounds of a set, and what a local change beyond them is told.

use serde::{Deserialize, Serialize};

use crate::entry::{Key, MAX_KEY_BYTES};

/// The bounds of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Entries, of all replicas together. At most 4,294,967,294, which is the default.
    pub entries: usize,
    /// Known replicas. At most 65,535, which is the default.
    pub replicas: usize,
    /// Bytes of a topic's name. 65,536 by default.
    pub topic_bytes: usize,
    /// Bytes of a key. At most [`MAX_KEY_BYTES`], which is the default.
    pub key_bytes: usize,
    /// Bytes of a meta. 1 MiB by default.
    pub meta_bytes: usize,
    /// Intervals of one replica's cloud. 65,536 by default.
    pub cloud_intervals: usize,
    /// Own leaves that a lagging replica can be told of without a full state. 10,000 by default, the
    /// largest of the reference's `max_delta_sizes`. Until they were told once half as many are remembered
    /// as there are presences, where that is more.
    pub removal_log: usize,
    /// Leaves of other replicas that the next delta names. 10,000 by default; those beyond are told
    /// by their own replica alone.
    pub observed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: u32::MAX as usize - 1,
            replicas: usize::from(u16::MAX),
            topic_bytes: 1 << 16,
            key_bytes: MAX_KEY_BYTES,
            meta_bytes: 1 << 20,
            cloud_intervals: 1 << 16,
            removal_log: 10_000,
            observed: 10_000,
        }
    }
}

impl Limits {
    pub(super) fn check(&self, topic: &str, key: Key<'_>, meta: &str) -> Result<(), TooLong> {
        let key_bytes = self.key_bytes.min(MAX_KEY_BYTES);
        let parts = [
            ("topic", topic.len(), self.topic_bytes),
            ("key", key.as_str().len(), key_bytes),
            (
                "meta",
                meta.len(),
                self.meta_bytes.min(u32::MAX as usize - MAX_KEY_BYTES),
            ),
        ];
        match parts.into_iter().find(|(_, len, max)| len > max) {
            Some((what, len, max)) => Err(TooLong { what, len, max }),
            None => Ok(()),
        }
    }
}

/// A topic, key or meta is longer than its limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {what} has {len} bytes, more than {max}")]
pub struct TooLong {
    /// Which of them.
    pub what: &'static str,
    /// Its bytes.
    pub len: usize,
    /// The limit.
    pub max: usize,
}

/// Why a presence was not added. The set is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The process is tracked there already.
    #[error("the process is already tracked under this key in this topic")]
    AlreadyTracked,
    /// A part is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The set holds as many entries as its limits allow.
    #[error("the set is full: it holds {0} entries")]
    Full(usize),
    /// The counter would pass [`MAX_COUNTER`](crate::clock::MAX_COUNTER).
    #[error("the replica has no counters left and must begin a new incarnation")]
    Exhausted,
}

/// Why a presence was not updated. The set is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The process is not tracked there.
    #[error("the process is not tracked under this key in this topic")]
    NotTracked,
    /// The new meta is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The counter would pass [`MAX_COUNTER`](crate::clock::MAX_COUNTER).
    #[error("the replica has no counters left and must begin a new incarnation")]
    Exhausted,
}
