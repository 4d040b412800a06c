//! Measures every goal in one run and prints the table.
//!
//! Ours and what it is compared with take turns, so that a busy machine slows both alike. The times
//! are medians over the rounds, and so are the ratios, each taken within one round: where other work
//! comes and goes they differ a little from the ratio of the times. Times are of this machine at this
//! hour; the ratios are the result.

use std::fmt;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use benches::limit::{Lists, Map};
use benches::workload::{
    Change, Copied, Random, Writer, copy_listing, empty_reader, merge, reader_id, writer_id,
};
use clap::Parser;
use presence_core::entry::{Key, Pid};
use presence_core::set::{Diff, Limits, Set};

/// Measures the set beside its limits, and with the feature `peers` beside `crdts`.
#[derive(Parser)]
struct Arguments {
    /// How many times more rounds than usual.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Leaves the bytes out, which another program counts.
    #[arg(long)]
    no_bytes: bool,
}

const FULL: usize = 100_000;
const DELTAS_A_ROUND: usize = 10;
const LISTINGS_A_ROUND: usize = 20;

fn main() {
    let Arguments { rounds, no_bytes } = Arguments::parse();
    println!(
        "{:<52} {:>10} {:>10} {:>9}  {:<10} ",
        "what", "ours", "beside", "ratio", "goal"
    );
    for entries in [1_000, 10_000, 100_000, 1_000_000] {
        delta(entries, 200 * rounds);
    }
    full_state(20 * rounds);
    join(20 * rounds);
    list(200 * rounds);
    #[cfg(feature = "peers")]
    peers::measure(rounds);
    if !no_bytes {
        bytes();
    }
}

fn delta(entries: usize, rounds: usize) {
    let mut writer = Writer::new(entries);
    let mut set = writer.reader();
    let mut map = Map::of(&writer.full_state());
    let mut diff = Diff::new();
    let pair = Pair::take(rounds, || {
        let changes: Vec<Change> = (0..DELTAS_A_ROUND).map(|_| writer.change()).collect();
        let ours = timed(|| {
            for change in &changes {
                set.merge(&change.delta, &mut diff).expect("it fits");
                black_box(&diff);
            }
        });
        let beside = timed(|| changes.iter().for_each(|change| map.apply(change)));
        (ours, beside)
    });
    let goal = (entries == 1_000_000).then_some(Goal::AtMost(2.0));
    let what = format!("delta of 100 into {}", Grouped(entries));
    pair.scaled(DELTAS_A_ROUND).print(&what, "map", goal);
}

fn full_state(rounds: usize) {
    let writer = Writer::new(FULL);
    let state = writer.full_state();
    let pair = Pair::take(rounds, || {
        let (mut set, mut map) = (empty_reader(), Map::default());
        let ours = timed(|| _ = black_box(merge(&mut set, &state)));
        let beside = timed(|| map.insert_all(&state));
        (ours, beside)
    });
    pair.print(
        "full state of 100,000 into empty",
        "map",
        Some(Goal::AtMost(2.5)),
    );
    let (mut set, map) = (writer.reader(), Map::of(&state));
    let pair = Pair::take(rounds, || {
        let ours = timed(|| _ = black_box(merge(&mut set, &state)));
        let beside = timed(|| _ = black_box(map.look_up_all(&state)));
        (ours, beside)
    });
    pair.print(
        "full state of 100,000 into equal",
        "look-ups",
        Some(Goal::AtMost(1.0)),
    );
}

fn join(rounds: usize) {
    let state = Writer::new(FULL).full_state();
    let pair = Pair::take(rounds, || {
        let mut set = Set::new(writer_id(), Limits::default(), 1);
        let mut map = Map::default();
        let ours = timed(|| {
            for entry in state.values() {
                let joined = set.join(entry.topic, entry.pid, entry.key, entry.meta);
                black_box(joined.expect("it is new"));
            }
        });
        let beside = timed(|| map.insert_all(&state));
        (ours, beside)
    });
    pair.print("100,000 joins", "map", Some(Goal::AtMost(2.5)));
    joins_into_many(rounds);
}

/// The same joins where the tables are already large.
fn joins_into_many(rounds: usize) {
    const MORE: u64 = 1_000;
    let writer = Writer::new(1_000_000);
    let mut set = Set::new(reader_id(), Limits::default(), 1);
    let mut map = Map::default();
    let topics = writer.topics();
    let presence = |number: u64| {
        let topic = topics.of(number);
        let (key, meta) = (
            benches::workload::key(number),
            benches::workload::meta(number),
        );
        (topic, Pid(number), key, meta)
    };
    for number in 0..1_000_000 {
        let (topic, pid, key, meta) = presence(number);
        let joined = set.join(topic, pid, Key::Text(&key), &meta);
        joined.expect("it is new");
        map.insert(topic, pid, &key, &meta);
    }
    let mut next = 1_000_000;
    let pair = Pair::take(rounds, || {
        let more: Vec<_> = (next..next + MORE).map(presence).collect();
        next += MORE;
        let ours = timed(|| {
            for (topic, pid, key, meta) in &more {
                let joined = set.join(topic, *pid, Key::Text(key), meta);
                black_box(joined.expect("it is new"));
            }
        });
        let beside = timed(|| {
            for (topic, pid, key, meta) in &more {
                map.insert(topic, *pid, key, meta);
            }
        });
        (ours, beside)
    });
    pair.scaled(MORE as usize)
        .print("join into 1,000,000", "map", Some(Goal::AtMost(2.5)));
}

fn list(rounds: usize) {
    const ENTRIES: usize = 1_000_000;
    const TOPICS: usize = 1_000;
    let writer = Writer::with_topics(ENTRIES, TOPICS);
    let set = writer.reader();
    let lists = Lists::new(ENTRIES, writer.topics());
    let names = writer.topics().names().to_vec();
    drop(writer);
    let mut random = Random::new(2);
    let mut copied = Copied::default();
    let pair = Pair::take(rounds, || {
        let topics: Vec<usize> = (0..LISTINGS_A_ROUND)
            .map(|_| random.below(TOPICS))
            .collect();
        let ours = timed(|| {
            for &topic in &topics {
                copy_listing(&set, &names[topic], &mut copied);
                black_box(&copied);
            }
        });
        let beside = timed(|| {
            for &topic in &topics {
                lists.copy(topic, &mut copied);
                black_box(&copied);
            }
        });
        (ours, beside)
    });
    pair.scaled(LISTINGS_A_ROUND).print(
        "list of a topic of 1,000 in 1,000,000",
        "Vec",
        Some(Goal::AtMost(1.3)),
    );
}

#[cfg(feature = "peers")]
mod peers {
    use benches::peer::Peer;

    use super::*;

    pub(super) fn measure(rounds: usize) {
        operations(200 * rounds);
        states(20 * rounds);
    }

    fn operations(rounds: usize) {
        let mut writer = Writer::new(FULL);
        let mut set = writer.reader();
        let mut source = Peer::of(&writer.full_state());
        let mut peer = source.clone();
        let mut diff = Diff::new();
        let pair = Pair::take(rounds, || {
            let changes: Vec<_> = (0..DELTAS_A_ROUND)
                .map(|_| {
                    let change = writer.change();
                    let ops = source.change(&change, writer.topics());
                    (change, ops)
                })
                .collect();
            let ours = timed(|| {
                for (change, _) in &changes {
                    set.merge(&change.delta, &mut diff).expect("it fits");
                    black_box(&diff);
                }
            });
            let beside = timed(|| changes.into_iter().for_each(|(_, ops)| peer.apply(ops)));
            (ours, beside)
        });
        assert_eq!(peer, source, "the peer followed");
        let goal = Some(Goal::Faster(1.4));
        pair.scaled(DELTAS_A_ROUND)
            .print("delta of 100 into 100,000", "apply", goal);
    }

    fn states(rounds: usize) {
        let mut writer = Writer::new(FULL);
        let mut set = writer.reader();
        let mut source = Peer::of(&writer.full_state());
        let mut peer = source.clone();
        let mut diff = Diff::new();
        let pair = Pair::take(rounds, || {
            let changes: Vec<_> = (0..DELTAS_A_ROUND).map(|_| writer.change()).collect();
            let ours = timed(|| {
                for change in &changes {
                    set.merge(&change.delta, &mut diff).expect("it fits");
                    black_box(&diff);
                }
            });
            // A state for each delta; one of them is timed.
            let (last, earlier) = changes.split_last().expect("a round has deltas");
            for change in earlier {
                let ops = source.change(change, writer.topics());
                peer.apply(ops);
            }
            source.change(last, writer.topics());
            let state = source.clone();
            let beside = timed(|| peer.merge(state));
            (ours / DELTAS_A_ROUND as u32, beside)
        });
        assert_eq!(peer, source, "the peer followed");
        pair.print(
            "delta of 100 into 100,000",
            "merge",
            Some(Goal::Faster(2_000.0)),
        );

        let state = writer.full_state();
        let pair = Pair::take(rounds, || {
            let (mut set, mut peer) = (empty_reader(), Peer::default());
            let whole = source.clone();
            let ours = timed(|| _ = black_box(merge(&mut set, &state)));
            let beside = timed(|| peer.merge(whole));
            (ours, beside)
        });
        pair.print(
            "full state of 100,000 into empty",
            "merge",
            Some(Goal::Faster(1.2)),
        );

        let pair = Pair::take(rounds, || {
            let whole = source.clone();
            let ours = timed(|| _ = black_box(merge(&mut set, &state)));
            let beside = timed(|| peer.merge(whole));
            (ours, beside)
        });
        pair.print(
            "full state of 100,000 into equal",
            "merge",
            Some(Goal::Faster(50.0)),
        );
    }
}

/// Lets the other program count: its allocator would slow what is timed here, and the bare map more
/// than ours.
fn bytes() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "benches",
            "--bin",
            "bytes",
        ])
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => eprintln!("counting the bytes failed: {status}"),
        Err(error) => eprintln!("cargo could not be run to count the bytes: {error}"),
    }
}

/// What a ratio should be.
#[derive(Clone, Copy)]
enum Goal {
    /// Ours takes at most so many times as long.
    AtMost(f64),
    /// Ours is at least so many times faster.
    #[cfg(feature = "peers")]
    Faster(f64),
}

/// The medians of two that took turns, in nanoseconds, and of how many times as long ours took.
struct Pair {
    ours: f64,
    beside: f64,
    slower: f64,
}

impl Pair {
    fn take(rounds: usize, mut round: impl FnMut() -> (Duration, Duration)) -> Self {
        for _ in 0..rounds.div_ceil(10) {
            round();
        }
        let times: Vec<_> = (0..rounds).map(|_| round()).collect();
        let nanos = |time: Duration| time.as_nanos() as f64;
        Self {
            ours: median(times.iter().map(|&(ours, _)| nanos(ours))),
            beside: median(times.iter().map(|&(_, beside)| nanos(beside))),
            slower: median(
                times
                    .iter()
                    .map(|&(ours, beside)| nanos(ours) / nanos(beside)),
            ),
        }
    }

    /// Of one operation, where a round made `operations`.
    fn scaled(self, operations: usize) -> Self {
        Self {
            ours: self.ours / operations as f64,
            beside: self.beside / operations as f64,
            slower: self.slower,
        }
    }

    fn print(&self, what: &str, beside: &str, goal: Option<Goal>) {
        let slower = self.slower;
        let (ratio, goal, met) = match goal {
            Some(Goal::AtMost(most)) => (slower, format!("<= {most}"), Some(slower <= most)),
            #[cfg(feature = "peers")]
            Some(Goal::Faster(least)) => {
                let faster = 1.0 / slower;
                (faster, format!(">= {least}"), Some(faster >= least))
            }
            None => (slower, String::new(), None),
        };
        let verdict = match met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        println!(
            "{:<52} {:>10} {:>10} {ratio:>9.2}  {goal:<10} {verdict}",
            format!("{what} / {beside}"),
            Time(self.ours).to_string(),
            Time(self.beside).to_string(),
        );
    }
}

fn timed(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds in the unit that suits them.
struct Time(f64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            nanos if nanos < 1e4 => write!(f, "{nanos:.0} ns"),
            nanos if nanos < 1e6 => write!(f, "{:.1} µs", nanos / 1e3),
            nanos => write!(f, "{:.2} ms", nanos / 1e6),
        }
    }
}

/// A number with commas between thousands.
struct Grouped(usize);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1_000 {
            return write!(f, "{}", self.0);
        }
        write!(f, "{},{:03}", Self(self.0 / 1_000), self.0 % 1_000)
    }
}
