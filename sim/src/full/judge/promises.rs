//! What nodes promise each other, where nothing is in the way between them.

use std::collections::BTreeMap;

use crate::cluster::Micros;

/// How long ago the last trouble between two nodes must lie for a promise to be held to: a connection
/// that hangs is given up by then.
const QUIET_US: Micros = 20_000_000;

/// A way from a node to another, or a node and another of which it is told.
type Pair = (usize, usize);

/// What is promised, and when something was in the way of it.
#[derive(Default)]
pub(super) struct Promises {
    /// When something was in the way between two nodes, either way, last.
    troubled: BTreeMap<Pair, Micros>,
    /// When a connection broke or hung last, whichever it was.
    broken: Micros,
    /// Since when a node has had a connection to another, as it was told.
    connected: BTreeMap<Pair, Micros>,
    /// By when a node is to know that another is gone, and since when that is so.
    gone: BTreeMap<Pair, (Micros, Micros)>,
    /// By when what a node said as it stopped is to have arrived, and when it said it first.
    last_words: BTreeMap<Pair, (Micros, Micros)>,
}

impl Promises {
    /// Something is in the way between two nodes now.
    pub(super) fn trouble(&mut self, (one, other): Pair, now: Micros) {
        self.troubled.insert((one.min(other), one.max(other)), now);
    }

    /// Some connection broke or hung.
    pub(super) fn broke(&mut self, now: Micros) {
        self.broken = now;
    }

    /// Whether nothing was in the way between two nodes since then, nor for a while before.
    fn was_quiet(&self, (one, other): Pair, since: Micros) -> bool {
        let pair = (one.min(other), one.max(other));
        let troubled = self
            .troubled
            .get(&pair)
            .copied()
            .unwrap_or(0)
            .max(self.broken);
        troubled == 0 || troubled + QUIET_US <= since
    }

    pub(super) fn connected(&mut self, at: usize, of: usize, now: Micros) {
        self.connected.insert((at, of), now);
        self.gone.remove(&(at, of));
    }

    /// A node is told that another is gone.
    pub(super) fn told_gone(&mut self, at: usize, of: usize) {
        self.connected.remove(&(at, of));
        self.gone.remove(&(at, of));
    }

    /// A process is gone without a word: those that have a connection to it are to know by then.
    pub(super) fn crashed(&mut self, of: usize, now: Micros, by: Micros) {
        let pairs: Vec<Pair> = self
            .connected
            .keys()
            .filter(|pair| pair.1 == of)
            .copied()
            .collect();
        for pair in pairs {
            self.gone.insert(pair, (by, now));
        }
        self.ended(of);
    }

    /// A process begins: whoever knew the one before may meet it before it misses that one.
    pub(super) fn began(&mut self, of: usize) {
        self.gone.retain(|pair, _| pair.1 != of);
    }

    /// A process stops: what it says from `since` on is to arrive by then.
    pub(super) fn stopped(&mut self, of: usize, to: usize, since: Micros, by: Micros) {
        self.last_words.insert((of, to), (by, since));
    }

    /// A process that stops has said so. (It says it again until its mesh closes.)
    pub(super) fn told_of_stop(&mut self, of: usize, to: usize) {
        self.last_words.remove(&(of, to));
    }

    /// A process ends, and what was promised to it.
    pub(super) fn ended(&mut self, node: usize) {
        self.connected
            .retain(|pair, _| pair.0 != node && pair.1 != node);
        self.gone.retain(|pair, _| pair.0 != node);
        self.last_words.retain(|pair, _| pair.1 != node);
    }

    /// Nodes that should know by now that another is gone.
    pub(super) fn overdue_gone(&mut self, now: Micros) -> Vec<Pair> {
        let due = take_due(&mut self.gone, now);
        due.into_iter()
            .filter(|&(pair, since)| self.was_quiet(pair, since))
            .map(|due| due.0)
            .collect()
    }

    /// Ways on which a node's last words should have arrived by now, and when it said the first of them.
    pub(super) fn overdue_words(&mut self, now: Micros) -> Vec<(Pair, Micros)> {
        let due = take_due(&mut self.last_words, now);
        due.into_iter()
            .filter(|&(pair, since)| self.was_quiet(pair, since))
            .collect()
    }
}

fn take_due(all: &mut BTreeMap<Pair, (Micros, Micros)>, now: Micros) -> Vec<(Pair, Micros)> {
    let due = all.iter().filter(|(_, (by, _))| *by <= now);
    let due: Vec<(Pair, Micros)> = due.map(|(pair, (_, since))| (*pair, *since)).collect();
    for (pair, _) in &due {
        all.remove(pair);
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    #[test]
    fn a_crash_is_to_be_known_by_those_that_were_connected() {
        let mut promises = Promises::default();
        promises.connected(0, 1, 0);
        promises.connected(2, 1, 0);
        promises.connected(3, 1, 0);
        promises.crashed(1, 50 * SECOND, 53 * SECOND);
        promises.told_gone(2, 1);
        promises.connected(3, 1, 51 * SECOND);
        assert_eq!(promises.overdue_gone(52 * SECOND), []);
        assert_eq!(promises.overdue_gone(53 * SECOND), [(0, 1)]);
        assert_eq!(promises.overdue_gone(54 * SECOND), []);
    }

    #[test]
    fn nothing_is_promised_where_something_is_in_the_way() {
        let mut promises = Promises::default();
        promises.trouble((1, 0), 40 * SECOND);
        promises.stopped(0, 1, 50 * SECOND, 51 * SECOND);
        promises.stopped(0, 2, 50 * SECOND, 51 * SECOND);
        assert_eq!(promises.overdue_words(51 * SECOND), [((0, 2), 50 * SECOND)]);
        promises.stopped(0, 2, 50 * SECOND, 51 * SECOND);
        promises.told_of_stop(0, 2);
        assert_eq!(promises.overdue_words(51 * SECOND), []);
        promises.broke(45 * SECOND);
        promises.stopped(0, 2, 50 * SECOND, 51 * SECOND);
        assert_eq!(promises.overdue_words(51 * SECOND), []);
    }
}
