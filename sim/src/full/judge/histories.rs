//! The lists that nodes have had, as their diffs made them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::lists::sign;
use crate::cluster::Micros;
use crate::truth::Number;

/// The lists that each life of a node had, by topic.
#[derive(Default)]
pub(super) struct Histories(BTreeMap<(usize, u32), BTreeMap<Arc<str>, History>>);

/// The lists of a topic, one after the other: from when on, and what it was.
struct History(Vec<(Micros, u64)>);

impl Histories {
    /// A node's diff changes a list.
    pub(super) fn note<'a>(
        &mut self,
        life: (usize, u32),
        at: Micros,
        topic: &Arc<str>,
        changed: impl Iterator<Item = &'a Number>,
    ) {
        let topics = self.0.entry(life).or_default();
        let history = topics
            .entry(Arc::clone(topic))
            .or_insert_with(|| History(vec![(0, 0)]));
        let before = history.0.last().map_or(0, |last| last.1);
        let after = changed.fold(before, |sum, &number| sum ^ sign(number));
        history.0.push((at, after));
    }

    /// The lists of a topic from some version on, with their numbers; an empty one where there was none.
    pub(super) fn since(
        &self,
        life: (usize, u32),
        topic: &str,
        version: usize,
    ) -> impl Iterator<Item = (usize, u64)> {
        let history = self.0.get(&life).and_then(|topics| topics.get(topic));
        let versions = history.map_or(&[(0, 0)][..], |history| &history.0);
        let versions = versions.iter().map(|&(_, digest)| digest).enumerate();
        versions.skip(version)
    }

    /// The number of the last list that a topic had at some time.
    pub(super) fn version_at(&self, life: (usize, u32), topic: &str, at: Micros) -> usize {
        let history = self.0.get(&life).and_then(|topics| topics.get(topic));
        let versions = history.map_or(&[][..], |history| &history.0);
        versions
            .partition_point(|&(since, _)| since <= at)
            .saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::lists::digest;
    use super::*;

    const TOPIC: &str = "conf:a";

    #[test]
    fn a_history_knows_which_list_was_when() {
        let (topic, life) = (Arc::from(TOPIC), (0, 1));
        let mut histories = Histories::default();
        assert_eq!(
            histories.since(life, TOPIC, 0).collect::<Vec<_>>(),
            [(0, 0)]
        );
        assert_eq!(histories.version_at(life, TOPIC, 9), 0);
        histories.note(life, 10, &topic, [3, 4].iter());
        histories.note(life, 10, &topic, [4].iter());
        histories.note(life, 20, &topic, [3].iter());
        let digests = [[].as_slice(), &[3, 4], &[3], &[]].map(digest);
        let versions: Vec<_> = histories.since(life, TOPIC, 1).collect();
        assert_eq!(
            versions,
            [(1, digests[1]), (2, digests[2]), (3, digests[3])]
        );
        let at = |at| histories.version_at(life, TOPIC, at);
        assert_eq!([9, 10, 19, 20, 99].map(at), [0, 2, 2, 3, 3]);
        let of_another = histories.since((0, 2), TOPIC, 0);
        assert_eq!(of_another.collect::<Vec<_>>(), [(0, 0)]);
    }
}
