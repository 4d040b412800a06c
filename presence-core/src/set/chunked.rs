//! Lists that grow without being moved.

use std::ops::{Index, IndexMut};

/// How many items the first chunk holds, which grows as a `Vec` does: so a small list takes no more
/// room than one, and no more time.
const FIRST: usize = 1 << 14;

/// How many items each other chunk holds, for which it has room from the start.
const CHUNK: usize = 1 << 12;

/// A `Vec` in chunks.
///
/// A `Vec` that is full is copied as a whole, which takes milliseconds where it is large.
#[derive(Debug)]
pub(super) struct Chunked<T> {
    first: Vec<T>,
    /// All but the last are full, and none is empty.
    more: Vec<Vec<T>>,
}

impl<T> Chunked<T> {
    pub(super) fn new() -> Self {
        Self {
            first: Vec::new(),
            more: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self.more.last() {
            None => self.first.len(),
            Some(last) => FIRST + (self.more.len() - 1) * CHUNK + last.len(),
        }
    }

    /// Adds an item at the end; where that is.
    pub(super) fn push(&mut self, item: T) -> usize {
        let at = self.first.len();
        if at < FIRST {
            self.first.push(item);
            at
        } else {
            self.push_beyond(item)
        }
    }

    #[inline(never)]
    fn push_beyond(&mut self, item: T) -> usize {
        let at = self.len();
        match self.more.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(item),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(item);
                self.more.push(chunk);
            }
        }
        at
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let Some(last) = self.more.last_mut() else {
            return self.first.pop();
        };
        let item = last.pop();
        if last.is_empty() {
            self.more.pop();
        }
        item
    }

    pub(super) fn last(&self) -> Option<&T> {
        self.more.last().unwrap_or(&self.first).last()
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.first.get(at).or_else(|| {
            let beyond = at.checked_sub(FIRST)?;
            self.more.get(beyond / CHUNK)?.get(beyond % CHUNK)
        })
    }

    // Apart from the index, so that it stays small enough to be a part of whatever uses it. Both panic
    // where there is no item, as a `Vec` does.

    #[inline(never)]
    fn beyond(&self, at: usize) -> &T {
        &self.more[at.wrapping_sub(FIRST) / CHUNK][at % CHUNK]
    }

    #[inline(never)]
    fn beyond_mut(&mut self, at: usize) -> &mut T {
        &mut self.more[at.wrapping_sub(FIRST) / CHUNK][at % CHUNK]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(self.more.iter().flatten())
    }

    /// Gives room back that a larger number of items needed; whether there was much.
    pub(super) fn shrink(&mut self) -> bool {
        let is_sparse = self.first.len() * 4 < self.first.capacity();
        if is_sparse {
            self.first.shrink_to(self.first.len() * 2);
        }
        is_sparse
    }

    /// For how many items there is room.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.first.capacity() + self.more.iter().map(Vec::capacity).sum::<usize>()
    }
}

impl<T> Index<usize> for Chunked<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        match self.first.get(at) {
            Some(item) => item,
            None => self.beyond(at),
        }
    }
}

impl<T> IndexMut<usize> for Chunked<T> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        if at < self.first.len() {
            &mut self.first[at]
        } else {
            self.beyond_mut(at)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_list_in_chunks_is_a_list(
            runs in prop::collection::vec((any::<bool>(), 0..20_000_usize), 1..8),
        ) {
            let (mut chunked, mut model) = (Chunked::new(), Vec::new());
            for (grows, count) in runs {
                for n in 0..count {
                    if grows {
                        chunked.push(n);
                        model.push(n);
                    } else {
                        prop_assert_eq!(chunked.pop(), model.pop());
                    }
                }
                prop_assert_eq!(chunked.len(), model.len());
                prop_assert_eq!(chunked.last(), model.last());
                prop_assert!(chunked.iter().eq(&model));
                for at in (0..model.len()).step_by(97) {
                    prop_assert_eq!(chunked[at], model[at]);
                    chunked[at] += 1;
                    model[at] += 1;
                    prop_assert_eq!(chunked.get(at), model.get(at));
                }
                prop_assert_eq!(chunked.get(model.len()), None);
                prop_assert!(chunked.capacity() < 2 * model.len() + 4 + FIRST + CHUNK);
            }
        }
    }

    #[test]
    fn what_is_there_stays_where_it_is_as_a_list_grows() {
        let mut chunked = Chunked::new();
        for n in 0..FIRST {
            chunked.push(n);
        }
        let first = chunked.first.as_ptr();
        for n in FIRST..FIRST + 3 * CHUNK {
            chunked.push(n);
            assert_eq!(chunked[n], n);
        }
        let more: Vec<_> = chunked.more.iter().map(Vec::as_ptr).collect();
        for n in 0..CHUNK {
            chunked.push(n);
        }
        assert_eq!(chunked.first.as_ptr(), first);
        let still = chunked.more.iter().map(Vec::as_ptr);
        assert!(still.zip(more).all(|(now, then)| now == then));
        assert_eq!(chunked.capacity(), chunked.len());
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn there_is_nothing_beyond_the_end() {
        let mut chunked = Chunked::new();
        chunked.push(1);
        let _ = chunked[1];
    }
}
