//! Instruction counts under callgrind, the same on a busy machine as on a quiet one.
//!
//! Run it through `cargo run --release -p benches --bin instructions -- check`, which compares the
//! counts with those kept in `benches/instructions.json`.

// The macros make public items without docs, and write paths out.
#![allow(missing_docs, unused_qualifications)]

use std::hint::black_box;
use std::sync::Arc;

use benches::workload::{
    Change, Copied, Writer, copy_listing, empty_reader, known, reader_id, writer_id,
};
use gungraun::{library_benchmark, library_benchmark_group, main};
use presence_core::clock::Context;
use presence_core::delta::Delta;
use presence_core::entry::{Key, Pid};
use presence_core::set::{Diff, Set};

const ENTRIES: usize = 10_000;

fn set_and_changes() -> (Set, Vec<Change>) {
    let mut writer = Writer::new(ENTRIES);
    let set = writer.reader();
    let changes = (0..10).map(|_| writer.change()).collect();
    (set, changes)
}

#[library_benchmark(setup = set_and_changes)]
#[bench::of_100_each()]
fn merge_10_deltas((mut set, changes): (Set, Vec<Change>)) -> (Set, Vec<Change>) {
    let mut diff = Diff::new();
    for change in &changes {
        set.merge(black_box(&change.delta), &mut diff)
            .expect("it fits");
    }
    black_box(diff);
    (set, changes)
}

fn empty_and_state() -> (Set, Delta) {
    (empty_reader(), Writer::new(ENTRIES).full_state())
}

fn equal_and_state() -> (Set, Delta) {
    let writer = Writer::new(ENTRIES);
    (writer.reader(), writer.full_state())
}

#[library_benchmark]
#[bench::into_empty(setup = empty_and_state)]
#[bench::into_equal(setup = equal_and_state)]
fn merge_full_state((mut set, state): (Set, Delta)) -> (Set, Delta, Diff) {
    let mut diff = Diff::new();
    set.merge(black_box(&state), &mut diff).expect("it fits");
    (set, state, diff)
}

type Joins = Vec<(Arc<str>, Pid, String, String)>;

fn set_and_joins() -> (Set, Joins) {
    let writer = Writer::new(ENTRIES);
    let joins = (0..1_000)
        .map(|number| ENTRIES as u64 + number)
        .map(|number| {
            let topic = Arc::clone(writer.topics().of(number));
            let key = benches::workload::key(number);
            (topic, Pid(number), key, benches::workload::meta(number))
        })
        .collect();
    (writer.into_set(), joins)
}

#[library_benchmark(setup = set_and_joins)]
#[bench::of_1000()]
fn join((mut set, joins): (Set, Joins)) -> (Set, Joins) {
    for (topic, pid, key, meta) in &joins {
        let joined = set.join(topic, *pid, Key::Text(key), meta);
        black_box(joined.expect("it is new"));
    }
    (set, joins)
}

fn topic_of_1000() -> (Set, Arc<str>) {
    let writer = Writer::with_topics(ENTRIES, 10);
    let topic = Arc::clone(&writer.topics().names()[0]);
    (writer.into_set(), topic)
}

#[library_benchmark(setup = topic_of_1000)]
#[bench::topic_of_1000()]
fn list((set, topic): (Set, Arc<str>)) -> (Set, Copied) {
    let mut copied = Copied::default();
    copy_listing(&set, black_box(&topic), &mut copied);
    (set, copied)
}

fn set_and_stranger() -> (Set, Context) {
    (Writer::new(ENTRIES).into_set(), known())
}

fn set_and_lagging() -> (Set, Context) {
    let mut writer = Writer::new(ENTRIES);
    let mut context = known();
    let seen = writer.set().counter(&writer_id()).unwrap_or(0);
    context.advance(writer_id(), seen);
    for _ in 0..10 {
        writer.change();
    }
    (writer.into_set(), context)
}

#[library_benchmark]
#[bench::everything(setup = set_and_stranger)]
fn extract((set, context): (Set, Context)) -> (Set, Delta) {
    let delta = set.extract(&reader_id(), black_box(&context));
    (set, delta)
}

#[library_benchmark]
#[bench::of_1000_changes(setup = set_and_lagging)]
fn answer((set, context): (Set, Context)) -> (Set, Option<Delta>) {
    let mut transfer = set.answer(&reader_id(), black_box(&context));
    let delta = set.next_chunk(&mut transfer, ENTRIES);
    (set, delta)
}

library_benchmark_group!(
    name = set,
    benchmarks = [
        merge_10_deltas,
        merge_full_state,
        join,
        list,
        extract,
        answer
    ]
);

main!(library_benchmark_groups = set);
