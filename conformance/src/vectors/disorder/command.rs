//! The command `conformance disorder`.

use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::ordered::each;
use super::super::report::{Outcome, Report};
use super::super::tracker::run_sets;
use super::super::{Failure, Kind, Verdict};
use super::{generate, minimal};
use crate::terminal::{Paint, Progress};

/// Make fresh histories of disorder and replay them
///
/// Makes a tracker history from each seed, with loss, delay, repetition and reordering of deltas and
/// full states, replicas that go down, are removed and come back, and healing at the end; what each
/// step must give is computed by a naive model. Each is replayed as by `vectors`; one that fails is
/// shrunk to the steps that matter.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Exit code: 0 if all histories passed, 1 if one failed, 2 if DIR could not be written.

Example:
  conformance disorder --seeds 0..1000 --out /tmp/histories")]
pub struct Args {
    /// The seeds, the last left out
    #[arg(long, value_name = "A..B", value_parser = range)]
    pub seeds: Range<u64>,

    /// Also write each history to DIR/disorder-SEED.json
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(first, end)| {
        let range = first.parse().ok()?..end.parse().ok()?;
        (!range.is_empty()).then_some(range)
    });
    parsed.ok_or_else(|| "must be two numbers such as 0..1000, the first the lower".to_owned())
}

/// What became of a seed.
struct Made {
    json: Option<Value>,
    failure: Option<(Failure, Option<Value>)>,
}

/// Runs the command and writes what it finds to `out`.
///
/// # Errors
///
/// Those of `out`, and of the files that are written, named.
pub fn run(args: &Args, out: &mut (dyn Write + Send)) -> io::Result<Outcome> {
    run_with(args, Paint::PLAIN, Progress::hidden(), out)
}

/// Runs the command on the terminal.
pub(crate) fn run_on_terminal(args: &Args) -> io::Result<Outcome> {
    let progress = Progress::new(count(&args.seeds));
    run_with(args, Paint::for_stdout(), progress, &mut io::stdout())
}

fn count(seeds: &Range<u64>) -> usize {
    usize::try_from(seeds.end - seeds.start).unwrap_or(usize::MAX)
}

fn run_with(
    args: &Args,
    paint: Paint,
    mut progress: Progress,
    out: &mut (dyn Write + Send),
) -> io::Result<Outcome> {
    if let Some(folder) = &args.out {
        fs::create_dir_all(folder).map_err(|error| named(folder, &error))?;
    }
    let mut report = Report::new(paint, false);
    let seed = |at: usize| args.seeds.start + at as u64;
    let work = |at: usize| take(seed(at), args.out.is_some());
    each(count(&args.seeds), work, |at, result| {
        progress.advance(at + 1);
        let seed = seed(at);
        let name = format!("disorder-{seed}");
        if let (Some(folder), Some(json)) = (&args.out, &result.json) {
            let path = folder.join(format!("{name}.json"));
            fs::write(&path, json.to_string()).map_err(|error| named(&path, &error))?;
        }
        let (failure, shrunk) = result.failure.unzip();
        let verdict = Verdict {
            kind: Kind::TrackerRule,
            cases: 1,
            failures: failure.into_iter().collect(),
        };
        let mut said = Vec::new();
        report.verdict(&name, &verdict, &mut said)?;
        if let Some(shrunk) = shrunk.flatten() {
            writeln!(said, "     shrunk: {shrunk}")?;
        }
        progress.print(&said, out)
    })?;
    drop(progress);
    report.finish(out)
}

fn take(seed: u64, keep: bool) -> Made {
    let history = generate(seed);
    let failure = run_sets(&history);
    Made {
        json: keep.then(|| history.to_json()),
        failure: failure.map(|failure| (failure, minimal(seed))),
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_that_is_not_empty() {
        assert_eq!(range("3..10"), Ok(3..10));
        for text in [
            "", "3", "3..", "..3", "3..3", "4..3", "a..b", "-1..3", "0..=3",
        ] {
            assert!(range(text).is_err(), "{text:?}");
        }
    }
}
