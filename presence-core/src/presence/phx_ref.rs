//! The ref by which clients tell metas apart.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::entry::Entry;

const BYTES: usize = 14;
const CHARS: usize = 19;

/// A `phx_ref`: the [fingerprint](crate::clock::ReplicaId::fingerprint) of the replica and the
/// counter of the dot, in 19 characters of URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PhxRef([u8; CHARS]);

impl PhxRef {
    /// The ref of a presence's meta: the same on every node, and another after each update.
    pub fn of(entry: &Entry<'_>) -> Self {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&entry.replica.fingerprint().to_be_bytes());
        bytes[8..].copy_from_slice(&entry.counter.to_be_bytes()[2..]);
        let mut text = [0; CHARS];
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
        debug_assert_eq!(written, Ok(CHARS));
        Self(text)
    }

    /// The ref as it is written.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64 is ASCII")
    }
}

impl fmt::Display for PhxRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PhxRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::clock::{MAX_COUNTER, ReplicaId};
    use crate::entry::{Key, Pid};

    fn phx_ref(replica: &ReplicaId, counter: u64) -> String {
        let topic: Arc<str> = "t".into();
        let entry = Entry {
            topic: &topic,
            pid: Pid(1),
            key: Key::Text("k"),
            meta: "{}",
            replica,
            counter,
        };
        PhxRef::of(&entry).to_string()
    }

    #[test]
    fn refs_differ_by_node_incarnation_and_counter() {
        let replicas = [("a", 1), ("a", 2), ("b", 1)].map(|(n, i)| ReplicaId::new(n, i));
        let counters = [1, 2, 255, 256, 1 << 32, MAX_COUNTER];
        let refs: BTreeSet<_> = replicas
            .iter()
            .flat_map(|replica| counters.map(|counter| phx_ref(replica, counter)))
            .collect();
        assert_eq!(refs.len(), replicas.len() * counters.len());
        assert!(refs.iter().all(|text| text.len() == CHARS));
    }

    #[test]
    fn a_ref_is_the_same_in_every_run() {
        assert_eq!(phx_ref(&ReplicaId::new("a", 1), 1), "67oXDQ4HhP8AAAAAAAE");
    }
}
