//! The dots of one replica that are present, in counter order, each with the handle of its entry.

use std::collections::BTreeMap;

use super::entries::Handle;
use crate::cloud::Interval;

/// How many counters a page spans.
const SPAN: u64 = 128;

/// Counters come in runs, so they are kept in pages: a bitmap of which are present and the handles of
/// those, packed. A page costs a fraction of a byte for each dot beside its handle where runs are
/// dense; it goes when it is empty, so that a sparse remainder of a long life stays small. Finding a
/// dot costs O(log pages).
#[derive(Default)]
pub(super) struct Dots {
    pages: BTreeMap<u64, Page>,
    len: usize,
}

#[derive(Default)]
struct Page {
    present: u128,
    handles: Vec<Handle>,
}

impl Page {
    /// Where the handle of `bit` is, or belongs.
    fn rank(&self, bit: u32) -> usize {
        (self.present & below(bit)).count_ones() as usize
    }

    fn has(&self, bit: u32) -> bool {
        self.present >> bit & 1 == 1
    }
}

/// The bits lower than `bit`.
fn below(bit: u32) -> u128 {
    (1 << bit) - 1
}

fn page_of(counter: u64) -> u64 {
    counter / SPAN
}

fn bit_of(counter: u64) -> u32 {
    (counter % SPAN) as u32
}

impl Dots {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn last(&self) -> Option<u64> {
        let (number, page) = self.pages.last_key_value()?;
        Some(number * SPAN + u64::from(page.present.ilog2()))
    }

    pub(super) fn find(&self, counter: u64) -> Option<Handle> {
        let page = self.pages.get(&page_of(counter))?;
        let bit = bit_of(counter);
        page.has(bit).then(|| page.handles[page.rank(bit)])
    }

    /// Adds a dot that is not present.
    pub(super) fn insert(&mut self, counter: u64, handle: Handle) {
        let page = self.pages.entry(page_of(counter)).or_default();
        let bit = bit_of(counter);
        debug_assert!(!page.has(bit), "a dot names one entry");
        let at = page.rank(bit);
        page.handles.insert(at, handle);
        page.present |= 1 << bit;
        self.len += 1;
    }

    /// Lets a dot that is present name `handle`, its entry's new place.
    pub(super) fn rename(&mut self, counter: u64, handle: Handle) {
        let bit = bit_of(counter);
        if let Some(page) = self.pages.get_mut(&page_of(counter))
            && page.has(bit)
        {
            let at = page.rank(bit);
            page.handles[at] = handle;
        }
    }

    pub(super) fn remove(&mut self, counter: u64) -> Option<Handle> {
        let number = page_of(counter);
        let page = self.pages.get_mut(&number)?;
        let bit = bit_of(counter);
        if !page.has(bit) {
            return None;
        }
        let at = page.rank(bit);
        let handle = page.handles.remove(at);
        page.present &= !(1 << bit);
        self.len -= 1;
        if page.present == 0 {
            self.pages.remove(&number);
        } else {
            page.give_back();
        }
        Some(handle)
    }

    /// Removes the dots of `interval` and hands them out, ascending.
    pub(super) fn take(&mut self, interval: Interval, mut taken: impl FnMut(u64, Handle)) {
        if interval.first == interval.last {
            if let Some(handle) = self.remove(interval.first) {
                taken(interval.first, handle);
            }
            return;
        }
        let mut from = page_of(interval.first);
        let end = page_of(interval.last);
        while from <= end
            && let Some((&number, page)) = self.pages.range_mut(from..=end).next()
        {
            let mut window = u128::MAX;
            if number == page_of(interval.first) {
                window &= !below(bit_of(interval.first));
            }
            if number == end {
                window &= below(bit_of(interval.last)) | 1 << bit_of(interval.last);
            }
            let mut leaving = page.present & window;
            if leaving != 0 {
                let at = page.rank(leaving.trailing_zeros());
                let count = leaving.count_ones() as usize;
                page.present &= !leaving;
                for handle in page.handles.drain(at..at + count) {
                    taken(number * SPAN + u64::from(leaving.trailing_zeros()), handle);
                    leaving &= leaving - 1;
                }
                self.len -= count;
                if page.present == 0 {
                    self.pages.remove(&number);
                } else {
                    page.give_back();
                }
            }
            from = number + 1;
        }
    }

    /// The dots from `first` on, ascending.
    pub(super) fn from(&self, first: u64) -> impl Iterator<Item = (u64, Handle)> {
        let start = page_of(first);
        self.pages.range(start..).flat_map(move |(&number, page)| {
            let skipped = if number == start {
                page.present & below(bit_of(first))
            } else {
                0
            };
            let mut left = page.present & !skipped;
            let handles = &page.handles[skipped.count_ones() as usize..];
            handles.iter().map(move |&handle| {
                let bit = left.trailing_zeros();
                left &= left - 1;
                (number * SPAN + u64::from(bit), handle)
            })
        })
    }

    /// The dots of `interval`, ascending.
    pub(super) fn within(&self, interval: Interval) -> impl Iterator<Item = (u64, Handle)> {
        self.from(interval.first)
            .take_while(move |&(counter, _)| counter <= interval.last)
    }

    /// The last counter of the run of present dots that begins with `first`, where that is present.
    pub(super) fn run_from(&self, first: u64) -> Option<u64> {
        let run = self.runs(first).next()?;
        (run.first == first).then_some(run.last)
    }

    /// The dots from `first` on as intervals, ascending.
    ///
    /// Costs what there are intervals and pages, not dots.
    pub(super) fn runs(&self, first: u64) -> impl Iterator<Item = Interval> {
        let mut next = first;
        let pages = self.pages.range(page_of(first)..);
        let mut pages = pages
            .map(|(&number, page)| (number, page.present))
            .peekable();
        std::iter::from_fn(move || {
            let start = loop {
                let &(number, present) = pages.peek()?;
                next = next.max(number * SPAN);
                let rest = present >> bit_of(next);
                if rest != 0 {
                    break next + u64::from(rest.trailing_zeros());
                }
                pages.next();
                next = (number + 1) * SPAN;
            };
            next = start;
            while let Some(&(_, present)) =
                pages.peek().filter(|&&(number, _)| number == page_of(next))
            {
                let bit = bit_of(next);
                let run = (present >> bit).trailing_ones();
                next += u64::from(run);
                if bit + run < SPAN as u32 {
                    break;
                }
                pages.next();
            }
            Some(Interval {
                first: start,
                last: next - 1,
            })
        })
    }

    /// The counters of `first..=last` that are not present, as intervals, ascending.
    pub(super) fn absent(&self, first: u64, last: u64) -> impl Iterator<Item = Interval> {
        let mut next = first;
        let mut runs = self.runs(first);
        std::iter::from_fn(move || {
            while next <= last {
                let start = next;
                let run = runs.next().filter(|run| run.first <= last);
                next = run.map_or(last, |run| run.last) + 1;
                let end = run.map_or(last, |run| run.first - 1);
                if start <= end {
                    return Some(Interval {
                        first: start,
                        last: end,
                    });
                }
            }
            None
        })
    }
}

impl Page {
    /// Keeps the room for handles within four times their number.
    fn give_back(&mut self) {
        if self.handles.len() * 4 < self.handles.capacity() {
            self.handles.shrink_to(self.handles.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn model_run(model: &BTreeMap<u64, u32>, first: u64) -> Option<u64> {
        (first..)
            .take_while(|counter| model.contains_key(counter))
            .last()
    }

    fn model_absent(model: &BTreeMap<u64, u32>, first: u64, last: u64) -> Vec<u64> {
        (first..=last)
            .filter(|counter| !model.contains_key(counter))
            .collect()
    }

    proptest! {
        #[test]
        fn dots_are_an_ordered_map_of_counters_to_handles(
            ops in prop::collection::vec((0..4_u8, 1..700_u64, 0..300_u64), 1..120)
        ) {
            let mut dots = Dots::default();
            let mut model = BTreeMap::new();
            for (step, (op, counter, more)) in ops.into_iter().enumerate() {
                let handle = step as u32;
                match op {
                    0 => {
                        if model.insert(counter, handle).is_some() {
                            dots.rename(counter, Handle(handle));
                        } else {
                            dots.insert(counter, Handle(handle));
                        }
                    }
                    1 => {
                        for counter in counter..counter + more {
                            if model.try_insert_absent(counter, handle) {
                                dots.insert(counter, Handle(handle));
                            }
                        }
                    }
                    2 => {
                        prop_assert_eq!(dots.remove(counter).map(|h| h.0), model.remove(&counter));
                    }
                    _ => {
                        let interval = Interval { first: counter, last: counter + more };
                        let mut taken = Vec::new();
                        dots.take(interval, |counter, handle| taken.push((counter, handle.0)));
                        let expected: Vec<_> = model
                            .range(counter..=counter + more)
                            .map(|(&counter, &handle)| (counter, handle))
                            .collect();
                        model.retain(|&c, _| c < counter || c > counter + more);
                        prop_assert_eq!(taken, expected);
                    }
                }
                prop_assert_eq!(dots.len(), model.len());
                prop_assert_eq!(dots.last(), model.keys().last().copied());
                prop_assert_eq!(dots.find(counter).map(|h| h.0), model.get(&counter).copied());
                let tail: Vec<_> = dots.from(counter).map(|(c, h)| (c, h.0)).collect();
                let expected: Vec<_> = model.range(counter..).map(|(&c, &h)| (c, h)).collect();
                prop_assert_eq!(tail, expected);
                prop_assert_eq!(dots.run_from(counter), model_run(&model, counter));
                let runs: Vec<_> = dots.runs(counter).collect();
                prop_assert!(runs.windows(2).all(|pair| pair[0].last + 1 < pair[1].first));
                let run: Vec<_> = runs.iter().flat_map(|run| run.first..=run.last).collect();
                let expected: Vec<_> = model.range(counter..).map(|(&c, _)| c).collect();
                prop_assert_eq!(run, expected);
                let absent: Vec<u64> = dots
                    .absent(counter, counter + more)
                    .flat_map(|interval| interval.first..=interval.last)
                    .collect();
                prop_assert_eq!(absent, model_absent(&model, counter, counter + more));
                let room: usize = dots.pages.values().map(|page| page.handles.capacity()).sum();
                prop_assert!(room <= 4 * dots.len() + 4 * dots.pages.len());
                prop_assert!(dots.pages.values().all(|page| page.present != 0));
            }
        }
    }

    #[test]
    fn a_page_gives_room_back_where_three_in_four_have_left() {
        let mut dots = Dots::default();
        for counter in 0..SPAN {
            dots.insert(counter, Handle(counter as u32));
        }
        let mut room = dots.pages[&0].handles.capacity();
        for counter in 0..SPAN - 1 {
            dots.remove(counter);
            let handles = &dots.pages[&0].handles;
            if handles.len() * 4 >= room {
                assert_eq!(handles.capacity(), room);
            } else {
                assert_eq!(handles.capacity(), handles.len() * 2);
                room = handles.capacity();
            }
        }
    }

    trait InsertAbsent {
        fn try_insert_absent(&mut self, counter: u64, handle: u32) -> bool;
    }

    impl InsertAbsent for BTreeMap<u64, u32> {
        fn try_insert_absent(&mut self, counter: u64, handle: u32) -> bool {
            let absent = !self.contains_key(&counter);
            if absent {
                self.insert(counter, handle);
            }
            absent
        }
    }
}
