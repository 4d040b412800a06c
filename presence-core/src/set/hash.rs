//! Hashes of topics and keys, under a seed from outside.

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::FixedState;

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

    /// Of one member of a group whose hash is `group`.
    pub(super) fn member(&self, group: u32, replica: u16, pid: Pid) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write_u64(u64::from(group) << 16 | u64::from(replica));
        hasher.write_u64(pid.0);
        hasher.finish()
    }

    pub(super) fn pid(&self, pid: Pid) -> u64 {
        self.0.hash_one(pid.0)
    }

    /// The 64 bits that a table wants of the 32 that an entry keeps.
    pub(super) fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
