//! What is true: who is present, computed from the operations alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use presence_core::entry::Pid;

/// A presence, by the number that its meta carries. Each update makes another.
pub(crate) type Number = u32;

/// One presence, from the operation that brought it to the one that ended it.
#[derive(Clone, Debug)]
pub(crate) struct Presence {
    pub(crate) node: usize,
    pub(crate) life: u32,
    pub(crate) shard: usize,
    pub(crate) topic: Arc<str>,
    pub(crate) pid: Pid,
    pub(crate) key: Arc<str>,
    pub(crate) since: u64,
    pub(crate) left: Option<Leaving>,
    /// When its node first told another that it has left.
    pub(crate) told: Option<u64>,
    /// What it was updated into.
    pub(crate) next: Option<Number>,
}

/// When and how a presence ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaving {
    pub(crate) at: u64,
    pub(crate) how: How,
}

/// How a presence ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    /// Its process untracked it or ended.
    Untracked,
    /// Its meta changed.
    Updated,
    /// Its node is gone.
    Crashed,
    /// Its node stopped.
    Stopped,
}

/// Everything that was ever tracked.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    presences: Vec<Presence>,
    changes: u64,
}

/// The presences of one life of a node that are there now.
pub(crate) type Alive = BTreeMap<(Pid, Arc<str>, Arc<str>), Number>;

impl Truth {
    pub(crate) fn of(&self, number: Number) -> Option<&Presence> {
        self.presences.get(number as usize)
    }

    pub(crate) fn next_number(&self) -> Number {
        self.presences.len() as Number
    }

    pub(crate) fn add(&mut self, presence: Presence) -> Number {
        let number = self.next_number();
        self.presences.push(presence);
        self.changes += 1;
        number
    }

    pub(crate) fn leave(&mut self, number: Number, leaving: Leaving, next: Option<Number>) {
        let presence = &mut self.presences[number as usize];
        presence.left = Some(leaving);
        presence.next = next;
        self.changes += 1;
    }

    /// How often who is present has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn told(&mut self, number: Number, at: u64) {
        self.presences[number as usize].told.get_or_insert(at);
    }

    /// How a presence ended, if it did.
    pub(crate) fn how(&self, number: Number) -> Option<How> {
        Some(self.of(number)?.left?.how)
    }

    pub(crate) fn is_alive(&self, number: Number) -> bool {
        self.of(number)
            .is_some_and(|presence| presence.left.is_none())
    }

    /// What a presence became by updates, the latest last.
    pub(crate) fn successors(&self, number: Number) -> impl Iterator<Item = Number> {
        let next = |number: &Number| self.of(*number).and_then(|presence| presence.next);
        std::iter::successors(next(&number), next)
    }
}

/// The meta of a presence.
pub(crate) fn meta(number: Number) -> String {
    format!("{{\"n\":{number}}}")
}

/// The number that a meta carries.
pub(crate) fn number(meta: &str) -> Option<Number> {
    let digits = meta.strip_prefix("{\"n\":")?.as_bytes();
    let mut number: Number = 0;
    // By hand, since every meta that is listed is read after nearly every event.
    for (at, byte) in digits.iter().enumerate() {
        if !byte.is_ascii_digit() {
            return (at > 0).then_some(number);
        }
        let digit = Number::from(byte - b'0');
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_carries_its_number() {
        for n in [0, 7, 1234, Number::MAX] {
            assert_eq!(number(&meta(n)), Some(n));
        }
        for wrong in ["{}", "{\"n\":}", "{\"n\":12", "{\"n\":4294967296}"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
