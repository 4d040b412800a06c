//! What changed in the list of each topic and was not told yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::clock::Dot;
use crate::entry::{Entry, Left};
use crate::presence::{Presences, TopicDiff};

/// Topics for which room is kept.
const KEPT: usize = 64;

/// The changes of all topics.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Since one was last popped: for each topic one, mostly.
    new: Vec<(Arc<str>, Change)>,
    /// Where in `new` the change of a topic is, by the address of its name: a set has each name once, and
    /// a replica that comes or goes changes more topics than could be compared. Nothing is ever listed
    /// in its order.
    at: HashMap<usize, usize, FixedState>,
    topics: BTreeMap<Arc<str>, Change>,
}

#[derive(Debug, Default)]
struct Change {
    joins: Vec<Dot>,
    leaves: Vec<Left>,
}

/// What a topic's change comes to.
pub(super) struct Net {
    pub(super) topic: Arc<str>,
    pub(super) joins: Vec<Dot>,
    pub(super) leaves: Vec<Left>,
}

impl Changes {
    pub(super) fn join(&mut self, entry: &Entry<'_>) {
        self.of(entry.topic).joins.push(entry.dot());
    }

    pub(super) fn leave(&mut self, left: Left) {
        self.of(left.entry().topic).leaves.push(left);
    }

    fn of(&mut self, topic: &Arc<str>) -> &mut Change {
        // The name is kept, so that no other gets its address.
        let at = *self.at.entry(topic.as_ptr().addr()).or_insert_with(|| {
            self.new.push((Arc::clone(topic), Change::default()));
            self.new.len() - 1
        });
        &mut self.new[at].1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.topics.is_empty()
    }

    /// The first topic whose list has changed; what joined and left since was never told, and is not.
    pub(super) fn pop(&mut self) -> Option<Net> {
        if !self.at.is_empty() {
            self.at.clear();
            // One that was large once would be wiped as a whole after each change for ever.
            self.at.shrink_to(KEPT);
        }
        for (topic, mut change) in self.new.drain(..) {
            let known = self.topics.entry(topic).or_default();
            known.joins.append(&mut change.joins);
            known.leaves.append(&mut change.leaves);
        }
        loop {
            let (topic, change) = self.topics.pop_first()?;
            let (joins, leaves) = change.net();
            if !joins.is_empty() || !leaves.is_empty() {
                return Some(Net {
                    topic,
                    joins,
                    leaves,
                });
            }
        }
    }
}

impl Change {
    fn net(self) -> (Vec<Dot>, Vec<Left>) {
        let Self {
            mut joins,
            mut leaves,
        } = self;
        if joins.is_empty() || leaves.is_empty() {
            return (joins, leaves);
        }
        // An entry may join and leave several times, as its replica comes and goes, but by turns: each
        // leave takes one join away.
        joins.sort_unstable();
        leaves.sort_unstable_by_key(|left| left.entry().dot());
        let mut rest = Vec::new();
        let mut all = joins.into_iter().peekable();
        leaves.retain(|left| {
            let dot = left.entry().dot();
            while let Some(join) = all.next_if(|join| *join < dot) {
                rest.push(join);
            }
            all.next_if_eq(&dot).is_none()
        });
        rest.extend(all);
        (rest, leaves)
    }
}

/// A numbered change of one topic's list.
///
/// Each comes after those with lower numbers. A list that was read when `n` was the
/// [last](super::Tracker::last_diff) number, with all diffs above `n` applied, is the list now, as refs
/// by key.
#[derive(Debug)]
pub struct NumberedDiff<'a> {
    /// The number, from 1.
    pub number: u64,
    /// The topic.
    pub topic: Arc<str>,
    /// What joined.
    pub joins: Vec<Entry<'a>>,
    /// What left, of an update what was before.
    pub leaves: Vec<Left>,
}

impl NumberedDiff<'_> {
    /// The diff by keys.
    pub fn by_key(&self) -> TopicDiff<'_> {
        TopicDiff {
            joins: Presences::group(self.joins.iter().copied()),
            leaves: Presences::group(self.leaves.iter().map(Left::entry)),
        }
    }
}
