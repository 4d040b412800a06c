//! The command `conformance vectors`.

use std::io::{self, Write};
use std::path::PathBuf;

use super::kind::Transcript;
use super::ordered::each;
use super::report::{Outcome, Report, counted};
use super::sources::{Held, Skipped, Source, built_in, expand};
use super::{Unreadable, Verdict, replay_as};
use crate::terminal::{Paint, Progress};

/// Replay tracker histories, client series and token cases
///
/// Replays recordings into the set, the client and the tokens of presence-core, and compares what they
/// give with what the real Phoenix gave, step by step.
///
/// What a file holds is told from its content: a tracker history (recorded or computed), a client
/// series or token cases. In a folder, hidden files and files that hold no JSON are passed over, and so
/// are wire and cluster transcripts, which have commands of their own; the output says how many. A file
/// that is named itself must hold a vector.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_long_help = "\
Prints a line for each case that fails, followed by its first step that differs; a line for each file \
that can't be read; and a summary last.

Exit code: 0 if all cases passed, 1 if one failed, 2 if a file could not be read or a path holds no case.

Examples:
  conformance vectors                     the recordings that are built in
  conformance vectors fixtures/tracker    all histories in a folder
  conformance vectors seed-1.json         one file")]
pub struct Args {
    /// Files, or folders to look through with all their folders [default: the built-in recordings]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Print the summary and the files that can't be read, not the cases that fail
    #[arg(short, long)]
    pub quiet: bool,

    /// List the files and what each holds, and replay nothing
    #[arg(short, long, conflicts_with = "quiet")]
    pub list: bool,
}

/// What became of a source.
enum Taken {
    Replayed(Verdict),
    Listed(super::Kind),
    Skipped(Skipped),
    Unreadable(Unreadable),
}

/// What was found in a folder that was named.
#[derive(Clone, Default)]
struct Folder {
    cases: usize,
    unreadable: usize,
    transcripts: Vec<(Transcript, usize)>,
}

/// Runs the command and writes what it finds to `out`.
///
/// # Errors
///
/// Those of `out`.
pub fn run(args: &Args, out: &mut (dyn Write + Send)) -> io::Result<Outcome> {
    run_with(args, Paint::PLAIN, true, out)
}

/// Runs the command on the terminal.
pub(crate) fn run_on_terminal(args: &Args) -> io::Result<Outcome> {
    run_with(args, Paint::for_stdout(), false, &mut io::stdout())
}

fn run_with(
    args: &Args,
    paint: Paint,
    hidden: bool,
    out: &mut (dyn Write + Send),
) -> io::Result<Outcome> {
    let sources = if args.paths.is_empty() {
        built_in()
    } else {
        expand(&args.paths)
    };
    let mut progress = if hidden {
        Progress::hidden()
    } else {
        Progress::new(sources.len())
    };
    let mut report = Report::new(paint, args.quiet);
    let mut folders = vec![Folder::default(); args.paths.len()];
    let work = |at: usize| take(&sources[at], args.list);
    each(sources.len(), work, |at, result| {
        progress.advance(at + 1);
        let source = &sources[at];
        if let Source::Found { folder, .. } = source {
            folders[*folder].count(&result);
        }
        let mut said = Vec::new();
        match result {
            Taken::Replayed(verdict) => report.verdict(&source.name(), &verdict, &mut said)?,
            Taken::Listed(kind) => writeln!(said, "{:<12} {}", kind.cases(), source.name())?,
            Taken::Unreadable(reason) => report.unreadable(&source.name(), &reason, &mut said)?,
            Taken::Skipped(skipped) => report.skipped(skipped),
        }
        progress.print(&said, out)
    })?;
    drop(progress);
    for (path, folder) in args.paths.iter().zip(&folders) {
        if path.is_dir() && folder.cases + folder.unreadable == 0 {
            report.unreadable(&path.display().to_string(), &folder.empty(), out)?;
        }
    }
    if args.list {
        return Ok(report.outcome());
    }
    report.finish(out)
}

fn take(source: &Source, list: bool) -> Taken {
    let held = match source.read() {
        Ok(held) => held,
        Err(reason) => return Taken::Unreadable(reason),
    };
    match held {
        Held::Skipped(skipped) => Taken::Skipped(skipped),
        Held::Vector(kind, _) if list => Taken::Listed(kind),
        Held::Vector(kind, value) => match replay_as(kind, &value) {
            Ok(verdict) => Taken::Replayed(verdict),
            Err(reason) => Taken::Unreadable(reason),
        },
    }
}

impl Folder {
    fn count(&mut self, result: &Taken) {
        match result {
            Taken::Replayed(_) | Taken::Listed(_) => self.cases += 1,
            Taken::Unreadable(_) => self.unreadable += 1,
            Taken::Skipped(Skipped::Other) => {}
            Taken::Skipped(Skipped::Transcript(transcript)) => {
                let known = self.transcripts.iter_mut();
                match known.into_iter().find(|(kind, _)| kind == transcript) {
                    Some((_, count)) => *count += 1,
                    None => self.transcripts.push((*transcript, 1)),
                }
            }
        }
    }

    /// Why a folder without a vector is refused: a green run that replayed nothing would mislead.
    fn empty(&self) -> Unreadable {
        let mut reason = "holds no tracker history, client series or token cases".to_owned();
        for (transcript, count) in &self.transcripts {
            let transcripts = counted(*count, &transcript.to_string());
            let replayed_by = transcript.replayed_by();
            reason.push_str(&format!(", but {transcripts}, which {replayed_by}"));
        }
        Unreadable::new("", reason)
    }
}
