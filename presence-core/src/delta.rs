//! Deltas: what one replica tells another about the set.
//!
//! A delta says two things about dots: which presences they brought ([values](Delta::values)), and
//! which of them are *gone*: their presence has left, or they only counted a leave. It says nothing
//! about any other dot. Deltas, full states and chunks of full states differ only in how many dots
//! they speak of, so all are merged by one rule, and any of them may come late, twice, out of order
//! or never:
//!
//! - a gone dot is removed where it is present, and counts as seen;
//! - a value is added where its dot was never seen.
//!
//! What makes a delta *sound* is that whoever has seen the dot that counts a leave has also been
//! told which dot left. Then two replicas with equal contexts list the same. In the reference a delta
//! holds a range, clouds and values (`Phoenix.Tracker.State`); the gone dots here are its range and
//! clouds less its values.
//!
//! A full state too large for one message goes in chunks: first values only, then, in the *closing*
//! part, the gone dots. Values alone are always sound. The closing part is merged only where
//! everything below its end is then known, since before that a gone dot may have been updated into
//! one that has not arrived, and removing it would let a listed presence blink.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::clock::{MAX_COUNTER, ReplicaId};
use crate::cloud::{Cloud, Interval};
use crate::entry::{Entry, Key, KeyTag, Pid};

/// What a replica tells about the dots of some replicas.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Delta {
    pub(crate) topics: Vec<Arc<str>>,
    // The key and the meta of each value, one after the other.
    pub(crate) text: String,
    // Ascending by replica.
    pub(crate) parts: Vec<Part>,
}

/// What a delta says about the dots of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) replica: ReplicaId,
    /// The end of the range: the counter up to which the sender has seen everything.
    pub(crate) through: u64,
    /// Whether the part may be merged only where everything up to `through` is known afterwards.
    pub(crate) closing: bool,
    pub(crate) gone: Cloud,
    /// Ascending by counter, and none of them gone.
    pub(crate) values: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) counter: u64,
    pub(crate) pid: Pid,
    /// Where in the text the key begins; the meta follows it.
    pub(crate) start: usize,
    pub(crate) len: u32,
    pub(crate) topic: u32,
    pub(crate) key: KeyTag,
}

/// Why a delta that came from elsewhere is no delta.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// Parts must name each replica once, in order.
    #[error("part {part} names {replica}, which does not follow the replica before it")]
    ReplicaOrder {
        /// The index of the part.
        part: usize,
        /// Its replica.
        replica: ReplicaId,
    },
    /// A counter is 0 or above [`MAX_COUNTER`].
    #[error("the counter {counter} of {replica} is not in 1..={MAX_COUNTER}")]
    Counter {
        /// The replica whose dot it is.
        replica: ReplicaId,
        /// The counter.
        counter: u64,
    },
    /// Values must come in ascending order of their counters.
    #[error("value {counter} of {replica} does not follow the value before it")]
    ValueOrder {
        /// The replica whose dot it is.
        replica: ReplicaId,
        /// The counter of the value.
        counter: u64,
    },
    /// A dot can't be present and gone.
    #[error("value {counter} of {replica} is also said to be gone")]
    ValueGone {
        /// The replica whose dot it is.
        replica: ReplicaId,
        /// The counter of the value.
        counter: u64,
    },
    /// A value names a topic that the delta does not list.
    #[error("value {counter} of {replica} is in topic {topic} of {topics}")]
    Topic {
        /// The replica whose dot it is.
        replica: ReplicaId,
        /// The counter of the value.
        counter: u64,
        /// The index of the topic.
        topic: u32,
        /// How many topics the delta lists.
        topics: usize,
    },
    /// A key or meta runs past the text, or ends within a character.
    #[error("the key and meta of value {counter} of {replica} do not fit the text")]
    Text {
        /// The replica whose dot it is.
        replica: ReplicaId,
        /// The counter of the value.
        counter: u64,
    },
}

impl Delta {
    /// The presences that the delta brings, by replica and in the order in which they joined.
    pub fn values(&self) -> impl Iterator<Item = Entry<'_>> {
        self.parts.iter().flat_map(|part| {
            part.values
                .iter()
                .map(|value| self.entry(&part.replica, value))
        })
    }

    /// The gone dots, by replica.
    pub fn gone(&self) -> impl Iterator<Item = (&ReplicaId, &Cloud)> {
        self.parts.iter().map(|part| (&part.replica, &part.gone))
    }

    /// The replicas that the delta speaks of, each with the end of the range that it covers: the
    /// counter up to which the sender had seen everything.
    pub fn ranges(&self) -> impl Iterator<Item = (&ReplicaId, u64)> {
        self.parts.iter().map(|part| (&part.replica, part.through))
    }

    /// How much the delta says: its values and its intervals of gone dots.
    pub fn size(&self) -> usize {
        let of = |part: &Part| part.values.len() + part.gone.intervals().len();
        self.parts.iter().map(of).sum()
    }

    /// Whether the delta says nothing.
    pub fn is_empty(&self) -> bool {
        self.size() == 0
    }

    /// Leaves out what it says of other replicas than `replica`.
    pub fn retain(&mut self, replica: &ReplicaId) {
        self.parts.retain(|part| part.replica == *replica);
    }

    pub(crate) fn entry<'a>(&'a self, replica: &'a ReplicaId, value: &Value) -> Entry<'a> {
        let (key, meta) = self.text_of(value).split_at(value.key.len());
        Entry {
            topic: &self.topics[value.topic as usize],
            pid: value.pid,
            key: Key::of(key, value.key.is_integer()),
            meta,
            replica,
            counter: value.counter,
        }
    }

    /// The key followed by the meta.
    pub(crate) fn text_of(&self, value: &Value) -> &str {
        &self.text[value.start..value.start + value.len as usize]
    }

    /// Checks what was read from elsewhere, so that merging can trust it.
    pub(crate) fn validate(&self) -> Result<(), DeltaError> {
        for (part, pair) in (1..).zip(self.parts.windows(2)) {
            if pair[0].replica >= pair[1].replica {
                let replica = pair[1].replica.clone();
                return Err(DeltaError::ReplicaOrder { part, replica });
            }
        }
        self.parts
            .iter()
            .try_for_each(|part| self.validate_part(part))
    }

    fn validate_part(&self, part: &Part) -> Result<(), DeltaError> {
        let replica = || part.replica.clone();
        let gone = part.gone.intervals();
        let bounds = [gone.first().map(|i| i.first), gone.last().map(|i| i.last)];
        let counters = bounds
            .into_iter()
            .flatten()
            .chain(part.values.iter().map(|value| value.counter));
        for counter in counters {
            if !(1..=MAX_COUNTER).contains(&counter) {
                let replica = replica();
                return Err(DeltaError::Counter { replica, counter });
            }
        }
        if part.through > MAX_COUNTER {
            let (replica, counter) = (replica(), part.through);
            return Err(DeltaError::Counter { replica, counter });
        }
        let mut earlier = 0;
        for value in &part.values {
            let Value { counter, topic, .. } = *value;
            if counter <= earlier {
                let replica = replica();
                return Err(DeltaError::ValueOrder { replica, counter });
            }
            earlier = counter;
            if part.gone.contains(counter) {
                let replica = replica();
                return Err(DeltaError::ValueGone { replica, counter });
            }
            if topic as usize >= self.topics.len() {
                let (replica, topics) = (replica(), self.topics.len());
                return Err(DeltaError::Topic {
                    replica,
                    counter,
                    topic,
                    topics,
                });
            }
            let text = value
                .start
                .checked_add(value.len as usize)
                .and_then(|end| self.text.get(value.start..end));
            if !text.is_some_and(|text| text.is_char_boundary(value.key.len())) {
                let replica = replica();
                return Err(DeltaError::Text { replica, counter });
            }
        }
        Ok(())
    }
}

/// Defects for a simulation to plant.
#[cfg(feature = "sabotage")]
impl Delta {
    /// Forgets which presences left that were told before, up to the counter `told`, and keeps that
    /// something was counted since.
    pub fn spoil_leaves(&mut self, told: u64) {
        for part in &mut self.parts {
            part.gone.remove_through(told);
        }
    }

    /// Claims that whatever is not among the values up to `counter` is gone.
    pub fn spoil_whole(&mut self, replica: &ReplicaId, counter: u64) {
        for part in self
            .parts
            .iter_mut()
            .filter(|part| part.replica == *replica)
        {
            let mut first = 1;
            for value in &part.values {
                if first < value.counter {
                    let last = value.counter - 1;
                    part.gone.insert_interval(Interval { first, last });
                }
                first = value.counter + 1;
            }
            if first <= counter {
                let last = counter;
                part.gone.insert_interval(Interval { first, last });
            }
            part.closing = false;
        }
    }
}

impl fmt::Debug for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for part in &self.parts {
            let values: Vec<_> = part
                .values
                .iter()
                .map(|value| self.entry(&part.replica, value))
                .collect();
            let closing = if part.closing { "closing " } else { "" };
            map.entry(
                &format_args!("{} {closing}..={}", part.replica, part.through),
                &format_args!("gone {:?} values {values:?}", part.gone),
            );
        }
        map.finish()
    }
}

/// Puts a delta together from a set's own records.
pub(crate) struct Builder {
    delta: Delta,
    topics: HashMap<Arc<str>, u32, foldhash::fast::FixedState>,
}

impl Builder {
    /// Topics are gathered in a table under `seed`, which is not seen in the delta.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            delta: Delta::default(),
            topics: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
        }
    }

    /// Begins the part of `replica`, which follows the replica of the part before it.
    pub(crate) fn part(&mut self, replica: ReplicaId, through: u64, closing: bool) {
        self.delta.parts.push(Part {
            replica,
            through,
            closing,
            gone: Cloud::new(),
            values: Vec::new(),
        });
    }

    pub(crate) fn gone(&mut self, interval: Interval) {
        self.last().gone.insert_interval(interval);
    }

    /// Adds a value; `text` is the key followed by the meta.
    pub(crate) fn value(
        &mut self,
        counter: u64,
        pid: Pid,
        topic: &Arc<str>,
        (text, key): (&str, KeyTag),
    ) {
        let next = self.topics.len() as u32;
        let topic = match self.topics.get(topic) {
            Some(&index) => index,
            None => {
                self.topics.insert(Arc::clone(topic), next);
                self.delta.topics.push(Arc::clone(topic));
                next
            }
        };
        let start = self.delta.text.len();
        self.delta.text.push_str(text);
        self.last().values.push(Value {
            counter,
            pid,
            start,
            len: text.len() as u32,
            topic,
            key,
        });
    }

    fn last(&mut self) -> &mut Part {
        self.delta.parts.last_mut().expect("a part was begun")
    }

    /// How many values there are so far.
    pub(crate) fn values(&self) -> usize {
        self.delta.parts.iter().map(|part| part.values.len()).sum()
    }

    /// The delta, without parts that say nothing.
    pub(crate) fn finish(mut self) -> Delta {
        self.delta
            .parts
            .retain(|part| !part.gone.is_empty() || !part.values.is_empty());
        debug_assert_eq!(self.delta.validate(), Ok(()));
        self.delta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ReplicaId {
        ReplicaId::new(name, 1)
    }

    /// Two replicas, two values of the one and a gap of gone dots of each.
    fn sound() -> Delta {
        let mut builder = Builder::new(1);
        let (s, t) = (Arc::from("s"), Arc::from("t"));
        let key = KeyTag::of(Key::Text("k"));
        builder.part(id("a"), 9, false);
        builder.gone(Interval { first: 1, last: 3 });
        builder.value(4, Pid(1), &s, ("k{}", key));
        builder.value(6, Pid(2), &t, ("k{\"ü\":1}", key));
        builder.part(id("b"), 5, true);
        builder.gone(Interval { first: 5, last: 5 });
        builder.part(id("c"), 7, false);
        builder.finish()
    }

    #[test]
    fn parts_that_say_nothing_are_left_out() {
        let delta = sound();
        assert_eq!(delta.validate(), Ok(()));
        let ranges: Vec<_> = delta.ranges().collect();
        assert_eq!(ranges, [(&id("a"), 9), (&id("b"), 5)]);
        let gone: Vec<_> = delta.gone().map(|(_, gone)| gone.dots()).collect();
        assert_eq!(gone, [3, 1]);
        assert_eq!(delta.size(), 4);
        assert!(!delta.is_empty());
        let metas: Vec<_> = delta.values().map(|entry| entry.meta).collect();
        assert_eq!(metas, ["{}", "{\"ü\":1}"]);
        let topics: Vec<_> = delta.values().map(|entry| &**entry.topic).collect();
        assert_eq!(topics, ["s", "t"]);
        assert!(Builder::new(1).finish().is_empty());
    }

    #[test]
    fn debug_tells_parts_gone_dots_and_values() {
        assert_eq!(
            format!("{:?}", sound()),
            "{a#1 ..=9: gone [1..=3] values [\"s\" \"k\" of Pid(1): {} (a#1@4), \
             \"t\" \"k\" of Pid(2): {\"ü\":1} (a#1@6)], b#1 closing ..=5: gone [5] values []}"
        );
    }

    #[test]
    fn replicas_are_named_once_and_in_order() {
        let replica = id("a");
        let mut delta = sound();
        delta.parts.swap(0, 1);
        let order = DeltaError::ReplicaOrder { part: 1, replica };
        assert_eq!(delta.validate(), Err(order.clone()));
        assert_eq!(
            order.to_string(),
            "part 1 names a#1, which does not follow the replica before it"
        );
        let mut delta = sound();
        delta.parts[1].replica = id("a");
        assert_eq!(delta.validate(), Err(order));
    }

    #[test]
    fn counters_are_within_their_bounds() {
        let refused = |change: fn(&mut Delta), counter| {
            let mut delta = sound();
            change(&mut delta);
            let replica = id("a");
            let error = DeltaError::Counter { replica, counter };
            assert_eq!(delta.validate(), Err(error));
        };
        refused(|d| d.parts[0].gone.insert(0), 0);
        refused(|d| d.parts[0].gone.insert(MAX_COUNTER + 1), MAX_COUNTER + 1);
        refused(|d| d.parts[0].through = MAX_COUNTER + 1, MAX_COUNTER + 1);
        refused(|d| d.parts[0].values[0].counter = 0, 0);
        refused(
            |d| d.parts[0].values[1].counter = MAX_COUNTER + 1,
            MAX_COUNTER + 1,
        );
        let mut delta = sound();
        delta.parts[0].through = MAX_COUNTER;
        delta.parts[0].gone.insert(MAX_COUNTER);
        delta.parts[0].values[1].counter = MAX_COUNTER - 1;
        assert_eq!(delta.validate(), Ok(()));
        delta.parts[0].through = 0;
        assert_eq!(
            delta.validate(),
            Ok(()),
            "nothing need be seen without a gap"
        );
        let (replica, counter) = (id("a"), 0);
        assert_eq!(
            DeltaError::Counter { replica, counter }.to_string(),
            "the counter 0 of a#1 is not in 1..=281474976710655"
        );
    }

    #[test]
    fn values_come_in_order_and_are_not_gone() {
        let replica = id("a");
        for counter in [4, 3] {
            let mut delta = sound();
            delta.parts[0].gone = Cloud::new();
            delta.parts[0].values[1].counter = counter;
            let replica = replica.clone();
            let error = DeltaError::ValueOrder { replica, counter };
            assert_eq!(delta.validate(), Err(error));
        }
        let mut delta = sound();
        delta.parts[0].gone.insert(6);
        let counter = 6;
        let error = DeltaError::ValueGone { replica, counter };
        assert_eq!(delta.validate(), Err(error.clone()));
        assert_eq!(error.to_string(), "value 6 of a#1 is also said to be gone");
    }

    #[test]
    fn values_are_in_topics_that_are_listed() {
        let mut delta = sound();
        delta.parts[0].values[1].topic = 2;
        let error = DeltaError::Topic {
            replica: id("a"),
            counter: 6,
            topic: 2,
            topics: 2,
        };
        assert_eq!(delta.validate(), Err(error.clone()));
        assert_eq!(error.to_string(), "value 6 of a#1 is in topic 2 of 2");
    }

    #[test]
    fn keys_and_metas_lie_in_the_text_and_end_between_characters() {
        let refused = |change: fn(&mut Value)| {
            let mut delta = sound();
            change(&mut delta.parts[0].values[1]);
            let (replica, counter) = (id("a"), 6);
            assert_eq!(delta.validate(), Err(DeltaError::Text { replica, counter }));
        };
        refused(|value| value.len += 1);
        refused(|value| value.start += 1);
        refused(|value| value.start = usize::MAX);
        refused(|value| value.len = u32::MAX);
        refused(|value| value.key = KeyTag::of(Key::Text("four")));
        refused(|value| value.key = KeyTag::of(Key::Text("longer than it all")));
        let mut delta = sound();
        let value = &mut delta.parts[0].values[1];
        value.key = KeyTag::of(Key::Integer("thr"));
        assert_eq!(delta.validate(), Ok(()));
    }
}
