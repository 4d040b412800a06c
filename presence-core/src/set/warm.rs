//! Reading ahead.
//!
//! A large set does not fit the caches, and what one change touches hangs together by links: the slot
//! says where the record is, the record where the text. Followed one change at a time, each step waits
//! for memory. Read for many changes in turn, step by step, the waits overlap. Nothing depends on what
//! is read here: it only makes the plain loop that follows find its data near.

use std::hint::black_box;

use super::entries::{Entries, Handle};
use super::groups::Groups;
use super::topics::{Record, Topics};

/// How many records' texts are read ahead of listing them.
pub(super) const RECORDS: usize = 32;

/// A smaller set is in the caches as it is.
pub(super) const WORTH: usize = 4_096;

/// How many changes are read ahead at once, so that the first is still near when the last was read.
pub(super) const CHANGES: usize = 128;

/// The texts of the next [`RECORDS`] records.
pub(super) fn texts(records: &[Record]) {
    let touch = |seen, record: &Record| seen ^ record.touch();
    black_box(records.iter().take(RECORDS).fold(0, touch));
}

/// What taking these entries, each beside its counter, out will touch.
pub(super) fn leaving(
    leaving: &[(u64, Handle)],
    entries: &Entries,
    topics: &Topics,
    groups: &Groups,
) {
    let mut seen = 0;
    for &(_, handle) in leaving {
        seen ^= entries[handle].hash;
    }
    for &(_, handle) in leaving {
        seen ^= topics.record(handle, entries).handle.0;
        seen ^= groups.touch(entries[handle].hash);
    }
    for &(_, handle) in leaving {
        seen ^= u32::from(topics.record(handle, entries).touch());
        // The last record will move into the gap, and its entry be told.
        if let Some(last) = topics.of(entries[handle].topic).records.last() {
            seen ^= entries[last.handle].position;
        }
    }
    black_box(seen);
}
