//! The command `conformance replay`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Mismatch, Server, Transcript, replay};
use crate::terminal::Paint;
use crate::vectors::Outcome;

/// Replay wire transcripts against a server
///
/// Starts the conformance application of this project on a free loopback port for each case, or talks
/// to a server that runs it elsewhere.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_long_help = "\
Prints a line for each case; where one fails, the step, and what was expected and received; and a \
summary last.

Exit code: 0 if all cases passed, 1 if one failed, 2 if a file could not be read.

Examples:
  conformance replay                                     the recordings that are built in
  conformance replay fixtures/wire                       all transcripts in a folder
  conformance replay --url ws://localhost:4000/socket    against a server that runs")]
pub(crate) struct Args {
    /// Files, or folders of transcripts (*.jsonl) [default: the built-in recordings]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// The socket of a server that runs the conformance application, such as
    /// ws://localhost:4000/socket
    #[arg(long)]
    url: Option<String>,
}

/// Runs the command on the terminal.
pub(crate) fn run_on_terminal(args: &Args) -> io::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // A channel that crashes since the case asks for it is no news.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = runtime.block_on(run(args, Paint::for_stdout(), &mut io::stdout()));
    std::panic::set_hook(hook);
    done
}

async fn run(args: &Args, paint: Paint, out: &mut dyn Write) -> io::Result<Outcome> {
    let server = match args.url.as_deref().map(authority) {
        None => Server::Embedded,
        Some(Ok(authority)) => Server::At(authority),
        Some(Err(reason)) => {
            writeln!(out, "{} {reason}", paint.red("UNREADABLE"))?;
            return Ok(Outcome::Unreadable);
        }
    };
    let (mut cases, mut failed, mut unreadable) = (0, 0, 0);
    for (name, text) in sources(&args.paths) {
        let transcript =
            text.and_then(|text| Transcript::parse(&text).map_err(|error| error.to_string()));
        let transcript = match transcript {
            Ok(transcript) => transcript,
            Err(reason) => {
                unreadable += 1;
                writeln!(out, "{} {name}: {reason}", paint.red("UNREADABLE"))?;
                continue;
            }
        };
        cases += 1;
        match replay(&transcript, &server).await {
            None => writeln!(out, "{} {}", paint.green("ok  "), transcript.case)?,
            Some(mismatch) => {
                failed += 1;
                writeln!(
                    out,
                    "{} {}: {}",
                    paint.red("FAIL"),
                    transcript.case,
                    transcript.title
                )?;
                explain(&mismatch, out)?;
            }
        }
    }
    let outcome = match (unreadable, failed, cases) {
        (0, 0, 1..) => Outcome::Passed,
        (0, 1.., _) => Outcome::Failed,
        _ => Outcome::Unreadable,
    };
    let mut summary = match failed {
        0 => format!("{cases} cases passed"),
        _ => format!("{failed} of {cases} cases failed"),
    };
    if unreadable > 0 {
        summary = format!("{summary}; {unreadable} unreadable");
    }
    let summary = match outcome {
        Outcome::Passed => paint.green(&summary),
        Outcome::Failed | Outcome::Unreadable => paint.red(&summary),
    };
    writeln!(out, "{summary}")?;
    Ok(outcome)
}

fn explain(mismatch: &Mismatch, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "     line {}: {}", mismatch.line, mismatch.doing)?;
    if let Some(reason) = &mismatch.broken {
        writeln!(out, "     {reason}")?;
    }
    for (client, (expected, received)) in &mismatch.frames {
        for (what, frames) in [("expected", expected), ("received", received)] {
            if frames.is_empty() {
                writeln!(out, "     {client} {what} nothing")?;
            }
            for frame in frames {
                writeln!(out, "     {client} {what} {frame}")?;
            }
        }
    }
    Ok(())
}

/// The host and port of a socket's URL.
fn authority(url: &str) -> Result<String, String> {
    let rest = url
        .strip_prefix("ws://")
        .or_else(|| url.strip_prefix("http://"))
        .ok_or_else(|| format!("--url {url:?} must begin with ws://"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() && path.trim_end_matches('/') != "socket" {
        return Err(format!(
            "--url {url:?}: the application's socket is at /socket"
        ));
    }
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    })
}

type Read = Result<String, String>;

/// The transcripts to replay, by name.
fn sources(paths: &[PathBuf]) -> Vec<(String, Read)> {
    if paths.is_empty() {
        let wire = crate::fixtures::ALL
            .iter()
            .filter(|(name, _)| name.starts_with("wire/"));
        return wire
            .map(|&(name, text)| (name.to_owned(), Ok(text.to_owned())))
            .collect();
    }
    let mut sources = Vec::new();
    for path in paths {
        collect(path, true, &mut sources);
    }
    sources
}

fn collect(path: &Path, named: bool, sources: &mut Vec<(String, Read)>) {
    let name = path.display().to_string();
    if path.is_dir() {
        match fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(mut entries) => {
                entries.sort_by_key(fs::DirEntry::file_name);
                for entry in entries {
                    collect(&entry.path(), false, sources);
                }
            }
            Err(error) => sources.push((name, Err(error.to_string()))),
        }
    } else if named
        || path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
    {
        let text = fs::read_to_string(path).map_err(|error| error.to_string());
        sources.push((name, text));
    }
}
