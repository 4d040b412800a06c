//! The fair pairs with `crdts::Orswot` at 100,000 entries, each in one group.

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::peer::Peer;
use benches::workload::{Writer, empty_reader, merge};
use criterion::{BatchSize, Criterion, SamplingMode, criterion_group, criterion_main};
use presence_core::set::Diff;

const ENTRIES: usize = 100_000;

/// The same 50 joins and 50 leaves as our delta, as its operations, and as the state that it needs to
/// see removals.
fn delta(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("delta of 100 into 100,000");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    let mut writer = Writer::new(ENTRIES);
    let mut set = writer.reader();
    let mut diff = Diff::new();
    group.bench_function("set", |bencher| {
        bencher.iter_custom(|iterations| {
            each(iterations, || {
                let change = writer.change();
                time(|| {
                    set.merge(&change.delta, &mut diff).expect("it fits");
                    black_box(&diff);
                })
            })
        });
    });
    let mut source = Peer::of(&writer.full_state());
    let mut peer = source.clone();
    group.bench_function("Orswot, operations", |bencher| {
        bencher.iter_custom(|iterations| {
            each(iterations, || {
                let ops = source.change(&writer.change(), writer.topics());
                time(|| peer.apply(ops))
            })
        });
    });
    group.bench_function("Orswot, state", |bencher| {
        bencher.iter_custom(|iterations| {
            each(iterations, || {
                source.change(&writer.change(), writer.topics());
                let state = source.clone();
                time(|| peer.merge(state))
            })
        });
    });
}

fn each(iterations: u64, one: impl FnMut() -> Duration) -> Duration {
    std::iter::repeat_with(one).take(iterations as usize).sum()
}

fn time(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

fn full_state(criterion: &mut Criterion) {
    let writer = Writer::new(ENTRIES);
    let state = writer.full_state();
    let source = Peer::of(&state);

    let mut group = criterion.benchmark_group("full state of 100,000 into empty, peers");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
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
    group.bench_function("Orswot", |bencher| {
        bencher.iter_batched(
            || (Peer::default(), source.clone()),
            |(mut peer, whole)| {
                peer.merge(whole);
                peer
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();

    let mut group = criterion.benchmark_group("full state of 100,000 into equal, peers");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    let mut set = writer.reader();
    group.bench_function("set", |bencher| bencher.iter(|| merge(&mut set, &state)));
    let mut peer = source.clone();
    group.bench_function("Orswot", |bencher| {
        bencher.iter_batched(
            || source.clone(),
            |whole| peer.merge(whole),
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(peers, delta, full_state);
criterion_main!(peers);
