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
}

/// The position of no record: a topic holds fewer.
const VACANT: u32 = u32::MAX;

impl Entries {
    pub(super) fn new() -> Self {
        Self {
            slots: Chunked::new(),
            len: 0,
            free: None,
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
        let free = self.free.unwrap_or(Handle::NONE);
        let slot = &mut self[handle];
        slot.position = VACANT;
        slot.topic = free.0;
        self.free = Some(handle);
        self.len -= 1;
    }

    /// Whether most of the slab is vacant, and worth [`packing`](Self::pack).
    pub(super) fn is_sparse(&self) -> bool {
        self.slots.len() > 1024 && self.len * 4 < self.slots.len()
    }

    /// Moves the entries behind into the vacant slots in front and gives the rest back.
    ///
    /// `moved` is told each entry's old and new place.
    pub(super) fn pack(&mut self, mut moved: impl FnMut(&mut Self, Handle, Handle)) {
        let mut to = 0;
        while self.slots.len() > self.len
            && let Some(slot) = self.slots.pop()
        {
            if slot.position == VACANT {
                continue;
            }
            let from = self.slots.len();
            while self.slots[to].position != VACANT {
                to += 1;
            }
            self.slots[to] = slot;
            moved(self, Handle(from as u32), Handle(to as u32));
        }
        self.slots.shrink();
        self.free = None;
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

    #[test]
    fn packing_moves_what_is_behind_and_gives_memory_back() {
        let mut entries = Entries::new();
        let handles: Vec<_> = (0..2000).map(|hash| entries.insert(slot(hash))).collect();
        assert!(!entries.is_sparse());
        for handle in handles.iter().filter(|handle| handle.0 % 8 != 7) {
            entries.remove(*handle);
        }
        assert!(entries.is_sparse());
        let mut moves = Vec::new();
        entries.pack(|entries, from, to| {
            assert_eq!(entries[to].hash, from.0);
            moves.push((from, to));
        });
        assert!(moves.iter().all(|(from, to)| from.0 >= 250 && to.0 < 250));
        assert_eq!(entries.len(), 250);
        assert_eq!(entries.slots.capacity(), 500, "as many again may join");
        let mut hashes: Vec<_> = entries.slots.iter().map(|slot| slot.hash).collect();
        hashes.sort_unstable();
        assert_eq!(hashes, (0..250).map(|n| n * 8 + 7).collect::<Vec<_>>());
        assert_eq!(entries.insert(slot(1)), Handle(250));
    }
}
