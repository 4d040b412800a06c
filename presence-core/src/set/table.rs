//! Hash tables that grow and shrink a part at a time.
//!
//! A table that doubles moves all that it holds at once, and a large one misses the caches for each of
//! them. This one is spiral storage (Martin, *Spiral storage: incrementally augmentable hash addressed
//! storage*, 1979): its parts are tables of bounded size, and whenever it has grown by [`SHARE`] the
//! fullest is split in two. For that the parts are numbered from `first` to twice `first`, the end not
//! among them, and the hashes spread over the numbers so that the lower hold more, up to twice as much.
//! Part `n` is split into the parts `2n` and `2n + 1`, which hold what the next part will after as many
//! splits as there are parts. So each part is split when its turn comes and is then nearly full, and
//! none grows in between.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// How many values the table holds for each of its parts, where it has several.
const SHARE: usize = 2_200;

/// The room of a part: the fullest hold half as much again as the average, give or take what chance
/// brings. (4,096 places, of which hashbrown fills seven eighths.) A table that holds no more is one
/// part and costs what hashbrown's does. To split a part takes one or two tenths of a millisecond.
const ROOM: usize = 3_584;

/// Values by their hashes, of which the caller knows how to find them.
///
/// Each method that may move values is told how to find their hashes, and moves those of few parts.
pub(super) struct Table<T> {
    /// A ring with a power of two of places: part `n` is at `n` modulo that.
    parts: Vec<HashTable<T>>,
    /// The lowest number of a part, at least 1, and how many parts there are.
    first: usize,
    /// By how much a share is moved to be a number, see [`place`](Self::place).
    shift: u32,
    /// How many values there may be before a part is split.
    room: usize,
    len: usize,
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Self {
            parts: vec![HashTable::new()],
            first: 1,
            shift: 31,
            room: ROOM,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, eq: impl FnMut(&T) -> bool) -> Option<&T> {
        self.parts[self.place(hash)].find(hash, eq)
    }

    #[inline]
    pub(super) fn find_mut(&mut self, hash: u64, eq: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let place = self.place(hash);
        self.parts[place].find_mut(hash, eq)
    }

    /// Adds a value that is not there.
    #[inline]
    pub(super) fn insert_unique(&mut self, hash: u64, value: T, hash_of: impl Fn(&T) -> u64) {
        self.make_room(&hash_of);
        self.len += 1;
        let place = self.place(hash);
        self.parts[place].insert_unique(hash, value, hash_of);
    }

    /// The value that is there; where none is, adds one.
    #[inline]
    pub(super) fn find_or_insert(
        &mut self,
        hash: u64,
        eq: impl FnMut(&T) -> bool,
        value: T,
        hash_of: impl Fn(&T) -> u64,
    ) -> Option<&mut T> {
        self.make_room(&hash_of);
        let place = self.place(hash);
        match self.parts[place].entry(hash, eq, hash_of) {
            Entry::Occupied(found) => Some(found.into_mut()),
            Entry::Vacant(vacant) => {
                vacant.insert(value);
                self.len += 1;
                None
            }
        }
    }

    /// Puts another value of the same hash in the place of one, or takes that one out.
    #[inline]
    pub(super) fn replace(
        &mut self,
        hash: u64,
        eq: impl FnMut(&T) -> bool,
        other: Option<T>,
        hash_of: impl Fn(&T) -> u64,
    ) {
        let place = self.place(hash);
        let Ok(mut found) = self.parts[place].find_entry(hash, eq) else {
            return;
        };
        if let Some(other) = other {
            *found.get_mut() = other;
            return;
        }
        found.remove();
        self.len -= 1;
        if self.first > 1 && self.len * 4 < self.first * SHARE {
            self.unite(hash_of);
        }
    }

    /// Gives memory back that a larger number of values needed, where there is one part. (Several are
    /// united as values go.)
    pub(super) fn shrink(&mut self, hash_of: impl Fn(&T) -> u64) {
        let part = &mut self.parts[0];
        if self.first == 1 && part.len() * 8 < part.capacity() {
            part.shrink_to(part.len() * 2, hash_of);
        }
    }

    /// Where the part is that values with this hash are in.
    #[inline]
    fn place(&self, hash: u64) -> usize {
        if self.first == 1 {
            return 0;
        }
        self.number(hash) & (self.parts.len() - 1)
    }

    /// The number of the part.
    fn number(&self, hash: u64) -> usize {
        // A 1 and leading bits of the share: one less of them where that is no number of a part yet, or
        // no more.
        let number = ((1 << 32 | share(hash)) >> self.shift) as usize;
        number >> u32::from(number >= 2 * self.first)
    }

    #[inline]
    fn make_room(&mut self, hash_of: impl Fn(&T) -> u64) {
        if self.len >= self.room {
            self.split(hash_of);
        }
    }

    /// Splits the part that is the fullest.
    #[cold]
    #[inline(never)]
    fn split(&mut self, hash_of: impl Fn(&T) -> u64) {
        let full = std::mem::take(self.part_mut(self.first));
        if self.first == self.parts.len() {
            self.turn(self.parts.len() * 2);
        }
        // All hashes first: to find them waits for memory, and so the waits overlap.
        let full: Vec<_> = full
            .into_iter()
            .map(|value| (hash_of(&value), value))
            .collect();
        let mut halves = [(); 2].map(|()| HashTable::with_capacity(ROOM));
        let even = 2 * self.first;
        self.begin_at(self.first + 1);
        for (hash, value) in full {
            halves[self.number(hash) % 2].insert_unique(hash, value, &hash_of);
        }
        for (number, half) in (even..).zip(halves) {
            *self.part_mut(number) = half;
        }
    }

    /// Undoes the last split.
    #[cold]
    #[inline(never)]
    fn unite(&mut self, hash_of: impl Fn(&T) -> u64) {
        self.begin_at(self.first - 1);
        let halves = [2 * self.first, 2 * self.first + 1];
        let [mut one, mut other] = halves.map(|half| std::mem::take(self.part_mut(half)));
        if one.len() < other.len() {
            std::mem::swap(&mut one, &mut other);
        }
        for value in other {
            one.insert_unique(hash_of(&value), value, &hash_of);
        }
        *self.part_mut(self.first) = one;
        if self.first == 1 {
            self.turn(1);
        } else if self.first * 4 <= self.parts.len() {
            self.turn(self.parts.len() / 2);
        }
    }

    fn begin_at(&mut self, first: usize) {
        self.first = first;
        self.shift = 31 - first.ilog2();
        self.room = (first * SHARE).max(ROOM);
    }

    fn part_mut(&mut self, number: usize) -> &mut HashTable<T> {
        let place = number & (self.parts.len() - 1);
        &mut self.parts[place]
    }

    /// Gives the ring so many places.
    fn turn(&mut self, places: usize) {
        let mut parts = Vec::with_capacity(places);
        parts.resize_with(places, HashTable::new);
        for number in self.first..2 * self.first {
            parts[number & (places - 1)] = std::mem::take(self.part_mut(number));
        }
        self.parts = parts;
    }
}

/// Which share of the numbers a hash is at, in 32 bits: of evenly spread hashes, those near the start
/// are twice as close as those near the end.
///
/// The best would be `2^x - 1` for `x` from 0 to 1; this is `x (2 + x) / 3`, with which the fullest part
/// holds up to 6 % more or less. It takes bits by which no part of this size tells its values apart.
fn share(hash: u64) -> u64 {
    const THIRD: u64 = (1 << 30) / 3;
    let even = hash >> 24 & u64::from(u32::MAX);
    let square = (even * even) >> 32;
    ((2 * even + square) * THIRD) >> 30
}

#[cfg(test)]
impl<T> Table<T> {
    /// The places of all parts.
    pub(super) fn num_buckets(&self) -> usize {
        self.parts.iter().map(HashTable::num_buckets).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::hash::Hasher;
    use super::*;

    /// As much as one step may move: what two parts hold.
    const MOST: usize = 2 * ROOM;

    /// A table of numbers, and how many hashes it asked for since it was last looked at.
    struct Counted {
        table: Table<u32>,
        moved: Cell<usize>,
    }

    impl Counted {
        fn new() -> Self {
            let (table, moved) = (Table::new(), Cell::new(0));
            Self { table, moved }
        }

        fn insert(&mut self, value: u32) {
            let moved = &self.moved;
            let hash_of = |&value: &u32| counted(moved, value);
            self.table
                .insert_unique(Hasher::spread(value), value, hash_of);
        }

        fn find_or_insert(&mut self, value: u32) -> bool {
            let moved = &self.moved;
            let hash_of = |&value: &u32| counted(moved, value);
            let is_it = |&other: &u32| other == value;
            let hash = Hasher::spread(value);
            let found = self.table.find_or_insert(hash, is_it, value, hash_of);
            found.is_some()
        }

        fn remove(&mut self, value: u32) {
            let moved = &self.moved;
            let hash_of = |&value: &u32| counted(moved, value);
            let is_it = |&other: &u32| other == value;
            self.table
                .replace(Hasher::spread(value), is_it, None, hash_of);
        }

        fn holds(&mut self, value: u32) -> bool {
            let hash = Hasher::spread(value);
            let found = self.table.find(hash, |&other| other == value).is_some();
            let again = self.table.find_mut(hash, |&other| other == value);
            assert_eq!(again.is_some(), found);
            found
        }

        fn moved(&self) -> usize {
            self.moved.take()
        }
    }

    fn counted(moved: &Cell<usize>, value: u32) -> u64 {
        moved.set(moved.get() + 1);
        Hasher::spread(value)
    }

    /// Numbers like hashes: each of the first so many is another.
    fn scattered(n: u32) -> u32 {
        let n = (n ^ n >> 16).wrapping_mul(0x7feb_352d);
        let n = (n ^ n >> 15).wrapping_mul(0x846c_a68b);
        n ^ n >> 16
    }

    #[test]
    fn no_step_moves_more_than_a_few_parts_however_many_there_are() {
        const ALL: u32 = 300_000;
        let mut counted = Counted::new();
        let mut total = 0;
        for n in 0..ALL {
            counted.insert(scattered(n));
            let moved = counted.moved();
            assert!(moved <= MOST, "{moved} at {n}");
            total += moved;
        }
        assert!(total < 2 * ALL as usize, "{total} moves in all");
        assert_eq!(counted.table.len(), ALL as usize);
        assert!((0..ALL).all(|n| counted.holds(scattered(n))));
        assert!(!counted.holds(scattered(ALL)));
        counted.moved();
        for n in 0..ALL {
            counted.remove(scattered(n));
            let moved = counted.moved();
            assert!(moved <= MOST, "{moved} at {n}");
        }
        assert_eq!((counted.table.len(), counted.table.first), (0, 1));
        assert_eq!(counted.table.parts.len(), 1);
    }

    /// Guards against: parts that are fuller than their room and double it.
    #[test]
    fn parts_keep_their_room_at_every_size() {
        let mut counted = Counted::new();
        for n in 0..400_000 {
            counted.insert(scattered(n));
            let Table { parts, first, .. } = &counted.table;
            if n % 1000 > 0 || *first == 1 {
                continue;
            }
            let full: Vec<_> = parts.iter().filter(|part| !part.is_empty()).collect();
            assert_eq!(full.len(), *first);
            assert!(
                full.iter().all(|part| part.num_buckets() == ROOM * 8 / 7),
                "{n}"
            );
            let least = full.iter().map(|part| part.len()).min().unwrap();
            assert!(least * 4 > ROOM, "{least} at {n}");
        }
        let Table { parts, first, .. } = &counted.table;
        // The next to be split is among the fullest.
        let next = parts[first & (parts.len() - 1)].len();
        let fullest = parts.iter().map(HashTable::len).max().unwrap();
        assert!(next * 10 > fullest * 9, "{next}, the fullest {fullest}");
    }

    #[test]
    fn all_shares_are_within_the_numbers_and_in_order() {
        let hash = |even: u64| even << 24;
        let shares: Vec<_> = (0..=0xffff).map(|n| share(hash(n * 0x1_0001))).collect();
        assert!(shares.is_sorted());
        assert_eq!(shares[0], 0);
        let last = *shares.last().unwrap();
        assert!((0xffff_ff00..1 << 32).contains(&last), "{last:x}");
    }

    #[test]
    fn a_table_takes_its_room_back_only_once_it_is_a_fourth_full() {
        let mut counted = Counted::new();
        for n in 0..60_000 {
            counted.insert(scattered(n));
        }
        let first = counted.table.first;
        for n in 16_000..60_000 {
            counted.remove(scattered(n));
        }
        assert!(first > 4 && counted.table.first == first);
        for n in 100..16_000 {
            counted.remove(scattered(n));
        }
        assert_eq!(counted.table.first, 1);
        counted.table.shrink(|&value| Hasher::spread(value));
        assert!(counted.table.num_buckets() <= 256);
        assert!((0..100).all(|n| counted.holds(scattered(n))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Runs of joins and leaves, each of some thousand values next to each other.
        #[test]
        fn a_table_holds_what_a_set_holds(
            runs in prop::collection::vec((any::<bool>(), 0..60_000_u32, 1..40_000_u32), 1..12),
        ) {
            let (mut counted, mut model) = (Counted::new(), BTreeSet::new());
            for (joins, start, count) in runs {
                for n in start..start + count {
                    let value = scattered(n);
                    if joins && n % 2 == 0 {
                        prop_assert_eq!(counted.find_or_insert(value), !model.insert(value));
                    } else if joins {
                        if model.insert(value) {
                            counted.insert(value);
                        }
                    } else {
                        counted.remove(value);
                        model.remove(&value);
                    }
                    prop_assert!(counted.moved() <= MOST);
                }
                prop_assert_eq!(counted.table.len(), model.len());
                for n in (0..100_000).step_by(7) {
                    let value = scattered(n);
                    prop_assert_eq!(counted.holds(value), model.contains(&value));
                }
            }
        }
    }

    #[test]
    fn a_value_gives_its_place_to_another_of_its_hash() {
        let mut table = Table::new();
        for n in 0..20_000_u32 {
            table.insert_unique(Hasher::spread(n / 2), n, |&n| Hasher::spread(n / 2));
        }
        let hash = Hasher::spread(700);
        table.replace(hash, |&n| n == 1401, Some(50_000), |_| unreachable!());
        assert!(table.find(hash, |&n| n == 1401).is_none());
        assert_eq!(table.find(hash, |&n| n == 50_000), Some(&50_000));
        assert_eq!(table.find(hash, |&n| n == 1400), Some(&1400));
        table.replace(hash, |&n| n == 1401, None, |_| unreachable!());
        assert_eq!(table.len(), 20_000);
    }
}
