//! Times every step of two trackers while one tells the other of 1,000,000 presences that come and go.
//!
//! A step is one call of a tracker and all that comes of it, encoded messages and diffs among it: so
//! long waits whoever asks a shard for something. What is a timeout due at once counts as a step of its
//! own, since the shard serves others in between.

mod pair;

use std::process::ExitCode;
use std::time::Duration;

use benches::latencies::Latencies;
use clap::Parser;
use presence_core::tracker::Config;

use self::pair::{Pair, Steps};

/// Times every step of two trackers while many presences come and go.
#[derive(Parser)]
struct Arguments {
    /// How many presences the one has.
    #[arg(long, default_value_t = 1_000_000)]
    presences: u64,
    /// In how many topics they are.
    #[arg(long, default_value_t = 10_000)]
    topics: usize,
    /// Values in one message, and changes in one step: a setting of trackers.
    #[arg(long, default_value_t = Config::default().chunk_values)]
    chunk_values: usize,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Arguments {
        presences,
        topics,
        chunk_values,
    } = Arguments::parse();
    let config = Config {
        chunk_values,
        ..Config::default()
    };
    if let Err(error) = config.validate() {
        eprintln!("steps: {error}");
        return ExitCode::FAILURE;
    }
    let mut pair = Pair::new(&config, presences, topics);
    println!("{presences} presences of a in {topics} topics, and what b hears of them");
    println!(
        "{:<38} {:>8} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "step by step", "steps", "in all s", "median", "p99", "p99.9", "worst ms", "> 1 ms"
    );
    let tell = |what: &str, steps: Steps| {
        for (name, steps) in ["a", "b"].into_iter().zip(steps) {
            report(&format!("{what}, on {name}"), steps);
        }
    };
    tell("b hears of all", pair.meet());
    tell("b loses a", pair.lose());
    tell("b hears a again", pair.meet());
    tell("half of them leave", pair.leave(|number| number % 2 == 0));
    tell("as many come", pair.join(presences / 2));
    tell("all are updated", pair.update());
    tell("all leave", pair.leave(|_| true));
    ExitCode::SUCCESS
}

fn report(what: &str, steps: Vec<Duration>) {
    let steps = Latencies::of(steps);
    println!(
        "{what:<38} {:>8} {:>9.2} {:>8.3} {:>8.3} {:>8.3} {:>8.3} {:>8}",
        steps.count(),
        steps.total().as_secs_f64(),
        steps.at(0.5),
        steps.at(0.99),
        steps.at(0.999),
        steps.at(1.0),
        steps.longer_than(Duration::from_millis(1)),
    );
}
