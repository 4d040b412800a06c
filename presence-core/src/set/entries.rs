//! Where entries live: a slab of fixed-size slots, named by handles.

use super::chunked::Chunked;

/// The place of an entry, valid until the set changes next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Handle(pub(super) u32);

impl Handle {
    /// Where a chain ends.
    pub(super) const NONE: Self = Self(u32::MAX);

    pub(super) fn some(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }
}

/// Which replica of the set an entry belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct ReplicaIndex(pub(super) u16);

/// The neighbours of an entry in a chain, [`Handle::NONE`] at either end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    pub(super) before: Handle,
    pub(super) after: Handle,
}

impl Links {
    pub(super) const ALONE: Self = Self {
        before: Handle::NONE,
        after: Handle::NONE,
    };
}

/// Where one entry is and what it is chained to: half a cache line (32 bytes). All that is shown of it
/// is in its topic, so that listing need not come here.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) topic: u32,
    /// Where in the topic its record is, or [`VACANT`].
    pub(super) position: u32,
    /// Of (topic, key), so that leaving a group needs no look at the key.
    pub(super) hash: u32,
    // The hash of the replica and the pid, above one bit that tells whether the group is crowded.
    process_hash: u32,
    /// Entries of the same topic and key.
    pub(super) group: Links,
    /// Entries of the same pid, for the set's own replica only.
    pub(super) process: Links,
}

const CROWDED: u32 = 1;

impl Slot {
    pub(super) fn new(topic: u32, hash: u32, process_hash: u32) -> Self {
        Self {
            topic,
            position: 0,
            hash,
            process_hash: process_hash & !CROWDED,
            group: Links::ALONE,
            process: Links::ALONE,
        }
    }

    /// Of the replica and the pid, so that leaving a chain needs no look at them (31 bits).
    pub(super) fn process_hash(&self) -> u32 {
        self.process_hash & !CROWDED
    }

    /// Whether the group has outgrown a walk, see [`super::groups`].
    pub(super) fn is_crowded(&self) -> bool {
        self.process_hash & CROWDED != 0
    }

    pub(super) fn set_crowded(&mut self) {
        self.process_hash |= CROWDED;
    }
}

/// The slab. Freed slots form a chain through `topic` and are taken again first.
pub(super) struct Entries {
    slots: Chunked<Slot>,
    len: usize,
    free: Option<Handle>,
    packing: Option<Packing>,
}

/// How far the slab is packed: first the vacant slots in front are chained, then the entries behind move
/// into them.
#[derive(Clone, Copy)]
struct Packing {
    /// The vacant slots from here on are to be chained, those below are.
    chained: usize,
    /// The slots from here on are to be given back.
    end: usize,
    /// So many joined meanwhile that they are not.
    is_full: bool,
}

/// How many slots are looked at for the price of one that moves.
const LOOKS: usize = 16;

/// The position of no record: a topic holds fewer.
const VACANT: u32 = u32::MAX;

impl Entries {
    pub(super) fn new() -> Self {
        Self {
            slots: Chunked::new(),
            len: 0,
            free: None,
            packing: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, slot: Slot) -> Handle {
        self.len += 1;
        match self.free {
            Some(handle) => {
                self.free = Handle(self[handle].topic).some();
                self[handle] = slot;
                handle
            }
            None => Handle(self.slots.push(slot) as u32),
        }
    }

    pub(super) fn remove(&mut self, handle: Handle) {
        self[handle].position = VACANT;
        self.len -= 1;
        let at = handle.0 as usize;
        let is_behind =
            |packing: Packing| at >= packing.chained && (at < packing.end || !packing.is_full);
        if !self.packing.is_some_and(is_behind) {
            self.chain(handle);
        }
    }

    fn chain(&mut self, vacant: Handle) {
        let free = self.free.unwrap_or(Handle::NONE);
        self[vacant].topic = free.0;
        self.free = Some(vacant);
    }

    /// Whether the slab is being [packed](Self::pack), or most of it is vacant and worth it.
    pub(super) fn is_sparse(&self) -> bool {
        self.packing.is_some() || self.slots.len() > 1024 && self.len * 4 < self.slots.len()
    }

    /// Moves the entries behind into the vacant slots in front and gives the rest back, until `room` is
    /// used up, of which each entry takes one. As many slots as hold entries stay vacant.
    ///
    /// `moved` is told each entry's old and new place.
    pub(super) fn pack(
        &mut self,
        mut room: usize,
        mut moved: impl FnMut(&mut Self, Handle, Handle),
    ) {
        let packing = self.packing.get_or_insert_with(|| {
            self.free = None;
            Packing {
                chained: 0,
                end: self.slots.len().min(self.len * 2),
                is_full: false,
            }
        });
        let mut packing = *packing;
        while room > 0 {
            room -= 1;
            if packing.chained < packing.end {
                packing.chained = self.chain_some(packing.chained, packing.end);
            } else if packing.is_full || self.slots.len() <= packing.end {
                self.slots.shrink();
                self.packing = None;
                return;
            } else if !self.move_last(packing.end, &mut moved) {
                packing.end = self.slots.len();
                packing.is_full = true;
            }
            self.packing = Some(packing);
        }
    }

    /// Chains vacant slots of a range, which is then this much shorter.
    fn chain_some(&mut self, from: usize, end: usize) -> usize {
        let to = end.min(from + LOOKS);
        for at in from..to {
            if self.slots[at].position == VACANT {
                self.chain(Handle(at as u32));
            }
        }
        to
    }

    /// Takes vacant slots off the end, or one with an entry, which moves; whether there is room for that.
    fn move_last(&mut self, end: usize, moved: &mut impl FnMut(&mut Self, Handle, Handle)) -> bool {
        let is_vacant = |slot: &Slot| slot.position == VACANT;
        let before = self.slots.len();
        while self.slots.last().is_some_and(is_vacant)
            && self.slots.len() > end.max(before.saturating_sub(LOOKS))
        {
            self.slots.pop();
        }
        if self.slots.len() < before {
            return true;
        }
        let Some(to) = self.free else {
            return false;
        };
        self.free = Handle(self[to].topic).some();
        if let Some(slot) = self.slots.pop() {
            let from = Handle(self.slots.len() as u32);
            self[to] = slot;
            moved(self, from, to);
        }
        true
    }
}

impl std::ops::Index<Handle> for Entries {
    type Output = Slot;

    fn index(&self, handle: Handle) -> &Slot {
        &self.slots[handle.0 as usize]
    }
}

impl std::ops::IndexMut<Handle> for Entries {
    fn index_mut(&mut self, handle: Handle) -> &mut Slot {
        &mut self.slots[handle.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(hash: u32) -> Slot {
        Slot::new(3, hash, 0)
    }

    #[test]
    fn a_slot_takes_32_bytes_and_keeps_its_hash_when_it_is_crowded() {
        assert_eq!(size_of::<Slot>(), 32);
        let mut slot = Slot::new(1, 2, u32::MAX);
        assert_eq!(
            (slot.process_hash(), slot.is_crowded()),
            (u32::MAX - 1, false)
        );
        slot.set_crowded();
        assert_eq!(
            (slot.process_hash(), slot.is_crowded()),
            (u32::MAX - 1, true)
        );
    }

    #[test]
    fn freed_slots_are_taken_again_first() {
        let mut entries = Entries::new();
        let handles: Vec<_> = (0..4).map(|hash| entries.insert(slot(hash))).collect();
        entries.remove(handles[1]);
        entries.remove(handles[2]);
        assert_eq!(entries.len(), 2);
        let again = [entries.insert(slot(8)), entries.insert(slot(9))];
        assert_eq!(again, [handles[2], handles[1]]);
        assert_eq!(entries.insert(slot(10)), Handle(4));
        assert_eq!(entries.len(), 5);
    }

    /// A slab of 2,000 slots of which every eighth holds an entry.
    fn sparse() -> Entries {
        let mut entries = Entries::new();
        let handles: Vec<_> = (0..2000).map(|hash| entries.insert(slot(hash))).collect();
        assert!(!entries.is_sparse());
        for handle in handles.iter().filter(|handle| handle.0 % 8 != 7) {
            entries.remove(*handle);
        }
        assert!(entries.is_sparse());
        entries
    }

    fn hashes(entries: &Entries) -> Vec<u32> {
        let taken = entries.slots.iter().filter(|slot| slot.position != VACANT);
        let mut hashes: Vec<_> = taken.map(|slot| slot.hash).collect();
        hashes.sort_unstable();
        hashes
    }

    #[test]
    fn packing_moves_what_is_behind_and_gives_memory_back() {
        let mut entries = sparse();
        let mut moves = Vec::new();
        entries.pack(usize::MAX, |entries, from, to| {
            assert_eq!(entries[to].hash, from.0);
            moves.push((from, to));
        });
        assert_eq!(moves.len(), 250 - 500 / 8);
        assert!(moves.iter().all(|(from, to)| from.0 >= 500 && to.0 < 500));
        assert!(!entries.is_sparse());
        assert_eq!((entries.len(), entries.slots.len()), (250, 500));
        assert!(entries.slots.capacity() <= 1000, "as many again may join");
        assert_eq!(
            hashes(&entries),
            (0..250).map(|n| n * 8 + 7).collect::<Vec<_>>()
        );
        for n in 0..250 {
            assert!(
                entries.insert(slot(n)).0 < 500,
                "those in front are taken first"
            );
        }
        assert_eq!(entries.insert(slot(1)), Handle(500));
    }

    /// Guards against: a slot taken twice, or never again, since it was freed or taken while the slab was
    /// packed.
    #[test]
    fn entries_come_and_go_while_the_slab_is_packed() {
        for (joins, leaves) in [(0, 1), (1, 0), (1, 1), (3, 1), (40, 0)] {
            let mut entries = sparse();
            let mut present: Vec<u32> = (0..250).map(|n| n * 8 + 7).collect();
            let mut at: std::collections::BTreeMap<u32, Handle> =
                present.iter().map(|&hash| (hash, Handle(hash))).collect();
            let mut next = 2000;
            let mut steps = 0;
            while entries.is_sparse() {
                entries.pack(3, |entries, _, to| {
                    at.insert(entries[to].hash, to);
                });
                for _ in 0..joins {
                    at.insert(next, entries.insert(slot(next)));
                    present.push(next);
                    next += 1;
                }
                for _ in 0..leaves {
                    let gone = present.swap_remove(steps * 7 % present.len());
                    entries.remove(at.remove(&gone).expect("it is present"));
                }
                steps += 1;
                assert!(steps < 2000, "it never ends");
                assert_eq!(entries.len(), present.len());
                assert!(
                    at.iter()
                        .all(|(&hash, &handle)| entries[handle].hash == hash)
                );
            }
            present.sort_unstable();
            assert_eq!(hashes(&entries), present);
            // Every vacant slot is taken again.
            let slots = entries.slots.len();
            for n in 0..(slots - entries.len()) as u32 {
                entries.insert(slot(n));
            }
            assert_eq!((entries.slots.len(), entries.len()), (slots, slots));
        }
    }
}
