//! The hot path at four sizes, each operation beside its limit in one group.

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::limit::{Lists, Map};
use benches::workload::{
    Change, Copied, Random, Writer, copy_listing, empty_reader, merge, writer_id,
};
use criterion::{
    BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use presence_core::delta::Delta;
use presence_core::set::{Diff, Limits, Set};

const FULL: usize = 100_000;

/// Changes made ahead, outside the time that is measured.
const AHEAD: u64 = 64;

/// A delta of 50 joins and 50 leaves spread over the whole set, message in, diff out.
fn delta(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("delta of 100");
    group.throughput(Throughput::Elements(100));
    for entries in [1_000, 10_000, 100_000, 1_000_000] {
        let mut writer = Writer::new(entries);
        let mut set = writer.reader();
        let mut diff = Diff::new();
        group.bench_function(BenchmarkId::new("set", entries), |bencher| {
            bencher.iter_custom(|iterations| {
                each_change(&mut writer, iterations, |change| {
                    set.merge(&change.delta, &mut diff).expect("it fits");
                    black_box(&diff);
                })
            });
        });
        drop(set);
        let mut map = Map::of(&writer.full_state());
        group.bench_function(BenchmarkId::new("bare map", entries), |bencher| {
            bencher.iter_custom(|iterations| {
                each_change(&mut writer, iterations, |change| map.apply(change))
            });
        });
    }
}

fn each_change(writer: &mut Writer, iterations: u64, mut apply: impl FnMut(&Change)) -> Duration {
    let mut elapsed = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        let changes: Vec<_> = (0..left.min(AHEAD)).map(|_| writer.change()).collect();
        left -= changes.len() as u64;
        let start = Instant::now();
        changes.iter().for_each(&mut apply);
        elapsed += start.elapsed();
    }
    elapsed
}

fn full_state(criterion: &mut Criterion) {
    let writer = Writer::new(FULL);
    let state = writer.full_state();

    let mut group = criterion.benchmark_group("full state of 100,000 into empty");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.bench_function("set", |bencher| {
        bencher.iter_batched(
            empty_reader,
            |mut set| {
                let diff = merge(&mut set, &state);
                (set, diff)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("bare map", |bencher| {
        bencher.iter_batched(
            Map::default,
            |mut map| {
                map.insert_all(&state);
                map
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();

    let mut group = criterion.benchmark_group("full state of 100,000 into equal");
    group.sample_size(20);
    let (mut set, map) = (writer.reader(), Map::of(&state));
    group.bench_function("set", |bencher| bencher.iter(|| merge(&mut set, &state)));
    group.bench_function("bare map, look-ups", |bencher| {
        bencher.iter(|| map.look_up_all(&state));
    });
}

fn join(criterion: &mut Criterion) {
    let state = Writer::new(FULL).full_state();
    let mut group = criterion.benchmark_group("100,000 joins");
    group.throughput(Throughput::Elements(FULL as u64));
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.bench_function("set", |bencher| {
        bencher.iter_batched(
            || Set::new(writer_id(), Limits::default(), 1),
            |set| join_all(set, &state),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("bare map", |bencher| {
        bencher.iter_batched(
            Map::default,
            |mut map| {
                map.insert_all(&state);
                map
            },
            BatchSize::PerIteration,
        );
    });
}

fn join_all(mut set: Set, state: &Delta) -> Set {
    for entry in state.values() {
        let joined = set.join(entry.topic, entry.pid, entry.key, entry.meta);
        black_box(joined.expect("it is new"));
    }
    set
}

fn list(criterion: &mut Criterion) {
    const ENTRIES: usize = 1_000_000;
    const TOPICS: usize = 1_000;
    let writer = Writer::with_topics(ENTRIES, TOPICS);
    let set = writer.reader();
    let lists = Lists::new(ENTRIES, writer.topics());
    let names = writer.topics().names().to_vec();
    drop(writer);

    let mut group = criterion.benchmark_group("list of a topic of 1,000 in 1,000,000");
    let mut copied = Copied::default();
    let mut random = Random::new(2);
    group.bench_function("set", |bencher| {
        bencher.iter(|| {
            copy_listing(&set, &names[random.below(TOPICS)], &mut copied);
            black_box(&copied);
        });
    });
    group.bench_function("the payloads from a Vec", |bencher| {
        bencher.iter(|| {
            lists.copy(random.below(TOPICS), &mut copied);
            black_box(&copied);
        });
    });
}

criterion_group!(hot_path, delta, full_state, join, list);
criterion_main!(hot_path);
