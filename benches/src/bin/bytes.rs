//! Counts the bytes that a presence takes beyond its key and meta, in a set of 1,000,000.
//!
//! What is counted is what is asked of the allocator. The allocator's own overhead comes on top, as it
//! does for the bare map: glibc rounds each block up to 16 bytes after adding 8.

use std::alloc::System;

use benches::limit::Map;
use benches::workload::{KEY_BYTES, META_BYTES, Writer};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ENTRIES: usize = 1_000_000;

fn main() {
    let (writer, local) = held(|| Writer::new(ENTRIES));
    // The writer also keeps the names of topics and the numbers of its presences, for itself.
    let numbers = size_of_val(writer.present());
    let names: usize = writer
        .topics()
        .names()
        .iter()
        .map(|name| size_of::<Box<str>>() + 2 * size_of::<usize>() + name.len())
        .sum();
    let (reader, remote) = held(|| writer.reader());
    let state = writer.full_state();
    let (map, bare) = held(|| Map::of(&state));
    assert_eq!((reader.len(), map.len()), (ENTRIES, ENTRIES));
    println!("bytes a presence beyond key and meta, {ENTRIES} entries, goal at most 115:");
    for (what, bytes) in [
        ("of another replica", remote),
        ("of the set's own replica", local - numbers - names),
        ("in the bare map, topics shared", bare),
    ] {
        let beyond = bytes as f64 / ENTRIES as f64 - (KEY_BYTES + META_BYTES) as f64;
        println!("{beyond:8.1}  {what}");
    }
}

/// The bytes that are held by what `make` makes.
fn held<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let before = in_use();
    let made = make();
    (made, in_use() - before)
}

fn in_use() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}
