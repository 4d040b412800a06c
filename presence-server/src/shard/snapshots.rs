//! The lists of topics that are read again and again, for whoever reads them without asking the shard:
//! so a list waits for nobody, whatever the shard has to merge.
//!
//! A topic has a snapshot from when its list is first read, until it changes and nobody has read it
//! since it changed before. What this node itself changes is in every list that is read afterwards: until
//! the shard has made the new snapshot it is asked. What other nodes change is there a moment later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use presence_core::wire::Json;

use crate::sabotage::{Defect, Sabotage};

/// The longest list that is kept, in bytes of JSON. A longer one is made for each that reads it, or to
/// keep it up to date would cost more than it saves.
const LONGEST: usize = 64 << 10;

/// The snapshots of one node.
#[derive(Debug)]
pub(crate) struct Snapshots {
    kept: Mutex<Kept>,
    max_bytes: usize,
    sabotage: Sabotage,
}

#[derive(Debug, Default)]
struct Kept {
    topics: BTreeMap<Arc<str>, Snapshot>,
    /// Of the lists.
    bytes: usize,
}

#[derive(Debug)]
struct Snapshot {
    list: Arc<Json<'static>>,
    /// This node has changed the topic since.
    is_stale: bool,
    /// Somebody has read it since it was made.
    is_read: bool,
}

impl Snapshots {
    pub(crate) fn new(max_bytes: usize, sabotage: Sabotage) -> Self {
        Self {
            kept: Mutex::default(),
            max_bytes,
            sabotage,
        }
    }

    /// The list of a topic, if it is at hand.
    pub(crate) fn read(&self, topic: &str) -> Option<Arc<Json<'static>>> {
        let mut kept = self.lock();
        let snapshot = kept.topics.get_mut(topic)?;
        if snapshot.is_stale {
            return None;
        }
        snapshot.is_read = true;
        Some(Arc::clone(&snapshot.list))
    }

    /// A topic has changed, by what this node itself did if `is_own`; whether it has a snapshot.
    pub(super) fn changed(&self, topic: &str, is_own: bool) -> bool {
        let mut kept = self.lock();
        let snapshot = kept.topics.get_mut(topic);
        snapshot.is_some_and(|snapshot| {
            if self.sabotage.acts(Defect::SnapshotLate) {
                return false;
            }
            snapshot.is_stale |= is_own;
            true
        })
    }

    /// Takes the outdated snapshot of a topic away; whether another is to be made.
    pub(super) fn expire(&self, topic: &str) -> bool {
        let mut kept = self.lock();
        match kept.topics.get(topic) {
            Some(Snapshot { is_read: true, .. }) => true,
            Some(_) => {
                kept.remove(topic);
                false
            }
            None => false,
        }
    }

    /// Keeps the list of a topic as it is now.
    pub(super) fn keep(&self, topic: &Arc<str>, list: &Arc<Json<'static>>) {
        let mut kept = self.lock();
        kept.remove(topic);
        let bytes = list.as_str().len();
        if bytes > LONGEST {
            return;
        }
        if kept.bytes + bytes > self.max_bytes {
            *kept = Kept::default();
        }
        kept.bytes += bytes;
        let snapshot = Snapshot {
            list: Arc::clone(list),
            is_stale: false,
            is_read: false,
        };
        kept.topics.insert(Arc::clone(topic), snapshot);
    }

    /// Forgets all, since a shard has.
    pub(super) fn clear(&self) {
        *self.lock() = Kept::default();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn remove(&mut self, topic: &str) {
        if let Some(Snapshot { list, .. }) = self.topics.remove(topic) {
            self.bytes -= list.as_str().len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(bytes: usize) -> Arc<Json<'static>> {
        let text = format!("\"{}\"", "x".repeat(bytes - 2));
        Arc::new(Json::parse(&text).unwrap().into_owned())
    }

    fn snapshots() -> (Snapshots, [Arc<str>; 2]) {
        (
            Snapshots::new(1000, Sabotage::default()),
            ["a".into(), "b".into()],
        )
    }

    #[test]
    fn a_list_that_this_node_has_changed_is_not_read() {
        let (snapshots, [a, b]) = snapshots();
        assert!(!snapshots.changed(&a, true));
        snapshots.keep(&a, &list(10));
        assert!(!snapshots.changed(&b, true));
        assert!(snapshots.changed(&a, false));
        assert!(snapshots.read(&a).is_some());
        assert!(snapshots.changed(&a, true));
        assert!(snapshots.read(&a).is_none());
        snapshots.keep(&a, &list(11));
        assert_eq!(snapshots.read(&a).unwrap().as_str().len(), 11);
    }

    #[test]
    fn what_nobody_has_read_since_it_was_made_is_not_made_again() {
        let (snapshots, [a, _]) = snapshots();
        snapshots.keep(&a, &list(10));
        assert!(snapshots.read(&a).is_some());
        assert!(snapshots.expire(&a));
        snapshots.keep(&a, &list(10));
        assert!(!snapshots.expire(&a));
        assert!(snapshots.read(&a).is_none());
        assert!(!snapshots.expire(&a));
    }

    #[test]
    fn the_bytes_of_all_lists_are_bounded_and_those_of_each() {
        let (snapshots, [a, b]) = snapshots();
        snapshots.keep(&a, &list(600));
        snapshots.keep(&a, &list(600));
        assert!(snapshots.read(&a).is_some());
        snapshots.keep(&b, &list(600));
        assert!(snapshots.read(&a).is_none());
        assert!(snapshots.read(&b).is_some());
        let large = Snapshots::new(usize::MAX, Sabotage::default());
        large.keep(&a, &list(LONGEST + 1));
        assert!(large.read(&a).is_none());
        snapshots.clear();
        assert!(snapshots.read(&b).is_none());
    }
}
