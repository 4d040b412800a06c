//! The command `conformance cluster`.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{Case, Mismatch, replay};
use crate::exchange::sources::Sources;
use crate::exchange::{self, report::Report};
use crate::terminal::{Paint, Progress};
use crate::vectors::{Outcome, Transcript};

/// Replay cluster cases against embedded nodes
///
/// Starts the nodes of each case in this process, with the conformance application of this project,
/// and kills, stops, restarts, cuts apart and heals them as the case says, in real time. What each
/// client receives in each step must be what was recorded, save that the presences of a node that was
/// killed may leave sooner.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_long_help = "\
Prints a line for each case; where one fails, the step, and what was expected and received; and a \
summary last.

Exit code: 0 if all cases passed, 1 if one failed, 2 if a file could not be read.

Examples:
  conformance cluster                                    the recordings that are built in
  conformance cluster fixtures/cluster                   all cases in a folder
  conformance cluster --jobs 1 netsplit-heal.jsonl       one file")]
pub(crate) struct Args {
    /// Files, or folders of cases (*.jsonl) [default: the built-in recordings]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Cases that run at once; they mostly wait [default: 8, or 4 for each core if that is more]
    #[arg(short, long)]
    jobs: Option<NonZeroUsize>,
}

/// Runs the command on the terminal.
pub(crate) fn run_on_terminal(args: &Args) -> io::Result<Outcome> {
    exchange::wait_for(run(args, Paint::for_stdout(), &mut io::stdout()))
}

async fn run(args: &Args, paint: Paint, out: &mut dyn Write) -> io::Result<Outcome> {
    let sources = Sources::at(&args.paths, Transcript::Cluster);
    let places = Arc::new(Semaphore::new(args.jobs()));
    let mut taken = Vec::new();
    for (name, text) in sources.found {
        let case = text.and_then(|text| Case::parse(&text).map_err(|error| error.to_string()));
        taken.push((name, case.map(|case| begin(case, &places))));
    }
    let mut progress = Progress::new(taken.len());
    let mut report = Report::new(paint);
    for (at, (name, case)) in taken.into_iter().enumerate() {
        let mut said = Vec::new();
        match case {
            Err(reason) => report.unreadable(&name, &reason, &mut said)?,
            Ok(replayed) => {
                let (case, mismatch) = replayed.await.map_err(io::Error::other)?;
                report.case(&case.case, &case.title, mismatch.as_ref(), &mut said)?;
            }
        }
        progress.advance(at + 1);
        progress.print(&said, out)?;
    }
    drop(progress);
    report.finish(sources.skipped, Transcript::Wire, out)
}

impl Args {
    fn jobs(&self) -> usize {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.jobs.map_or((4 * cores).max(8), NonZeroUsize::get)
    }
}

/// Replays a case as soon as there is a place for it.
fn begin(case: Case, places: &Arc<Semaphore>) -> JoinHandle<(Case, Option<Mismatch>)> {
    let places = Arc::clone(places);
    tokio::spawn(async move {
        let _place = places.acquire_owned().await;
        let mismatch = replay(&case).await;
        (case, mismatch)
    })
}
