//! Hashes of topics and keys, under a seed from outside.

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::FixedState;

use super::entries::ReplicaIndex;
use crate::entry::{Key, Pid};

/// Hashes never reach an output, so a random seed does no harm to determinism, and keeps clients
/// from choosing keys that collide.
#[derive(Clone)]
pub(super) struct Hasher(FixedState);

impl Hasher {
    pub(super) fn new(seed: u64) -> Self {
        Self(FixedState::with_seed(seed))
    }

    pub(super) fn topic(&self, name: &str) -> u32 {
        self.0.hash_one(name) as u32
    }

    pub(super) fn key(&self, topic: u32, key: Key<'_>) -> u32 {
        let mut hasher = self.0.build_hasher();
        hasher.write_u64(u64::from(topic) << 1 | u64::from(key.is_integer()));
        hasher.write(key.as_str().as_bytes());
        hasher.finish() as u32
    }

    /// Of a process; the lowest bit is left to [`Slot`](super::entries::Slot).
    pub(super) fn process(&self, replica: ReplicaIndex, pid: Pid) -> u32 {
        let mut hasher = self.0.build_hasher();
        hasher.write_u64(u64::from(replica.0));
        hasher.write_u64(pid.0);
        hasher.finish() as u32 & !1
    }

    /// Of one member of a group.
    pub(super) fn member(group: u32, process: u32) -> u64 {
        let both = u64::from(group) << 32 | u64::from(process);
        (both ^ both >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// The 64 bits that a table wants of the 32 that an entry keeps.
    pub(super) fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
