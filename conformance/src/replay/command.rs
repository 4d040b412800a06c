//! The command `conformance replay`.

use std::io::{self, Write};
use std::path::PathBuf;

use super::{Server, Transcript, replay};
use crate::exchange::sources::Sources;
use crate::exchange::{self, report::Report};
use crate::terminal::Paint;
use crate::vectors::{Outcome, Transcript as Kind};

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
    exchange::wait_for(run(args, Paint::for_stdout(), &mut io::stdout()))
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
    let sources = Sources::at(&args.paths, Kind::Wire);
    let mut report = Report::new(paint);
    for (name, text) in sources.found {
        let transcript =
            text.and_then(|text| Transcript::parse(&text).map_err(|error| error.to_string()));
        match transcript {
            Err(reason) => report.unreadable(&name, &reason, out)?,
            Ok(transcript) => {
                let mismatch = replay(&transcript, &server).await;
                report.case(&transcript.case, &transcript.title, mismatch.as_ref(), out)?;
            }
        }
    }
    report.finish(sources.skipped, Kind::Cluster, out)
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
