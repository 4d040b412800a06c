//! What is true: who is present, computed from the operations alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use presence_core::entry::Pid;
use presence_core::presence::KeyBuf;

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
    pub(crate) key: KeyBuf,
    pub(crate) since: u64,
    pub(crate) left: Option<Leaving>,
    /// When its node first told another that it has left.
    pub(crate) told: Option<u64>,
    /// What it was updated into.
    pub(crate) next: Option<Number>,
    /// Whether its own node handed it over as it stopped.
    pub(crate) handed_over: bool,
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
    /// By number. A number may be given to what is then never tracked.
    presences: Vec<Option<Presence>>,
    tracked: usize,
    changes: u64,
}

/// What is tracked where: a process, in a topic, under a key.
pub(crate) type Place = (Pid, Arc<str>, KeyBuf);

/// The presences of one life of a shard that are there now.
pub(crate) type Alive = BTreeMap<Place, Number>;

impl Truth {
    pub(crate) fn of(&self, number: Number) -> Option<&Presence> {
        self.presences.get(number as usize)?.as_ref()
    }

    /// A number above all that were given.
    pub(crate) fn next_number(&self) -> Number {
        self.presences.len() as Number
    }

    /// How many presences were ever tracked.
    pub(crate) fn tracked(&self) -> usize {
        self.tracked
    }

    pub(crate) fn add(&mut self, number: Number, presence: Presence) {
        let at = number as usize;
        if self.presences.len() <= at {
            self.presences.resize(at + 1, None);
        }
        let before = self.presences[at].replace(presence);
        assert!(before.is_none(), "presence {number} is tracked twice");
        self.tracked += 1;
        self.changes += 1;
    }

    pub(crate) fn leave(&mut self, number: Number, leaving: Leaving, next: Option<Number>) {
        if let Some(presence) = self.presence(number) {
            presence.left = Some(leaving);
            presence.next = next;
            self.changes += 1;
        }
    }

    /// How often who is present has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn told(&mut self, number: Number, at: u64) {
        if let Some(presence) = self.presence(number) {
            presence.told.get_or_insert(at);
        }
    }

    /// Its own node, which stops, has seen its key tracked elsewhere.
    pub(crate) fn hand_over(&mut self, number: Number) {
        if let Some(Some(presence)) = self.presences.get_mut(number as usize) {
            presence.handed_over = true;
        }
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

    fn presence(&mut self, number: Number) -> Option<&mut Presence> {
        self.presences.get_mut(number as usize)?.as_mut()
    }
}

/// The meta of a presence.
pub(crate) fn meta(number: Number) -> String {
    format!("{{\"n\":{number}}}")
}

/// The number that the meta of a presence carries.
pub(crate) fn number_of(meta: &str) -> Number {
    number(meta).expect("every meta of a simulation carries a number")
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
