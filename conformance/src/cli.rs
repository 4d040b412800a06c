//! The command line.

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cluster::command as cluster;
use crate::replay::command as replay;
use crate::vectors::{Outcome, command as vectors, disorder::command as disorder};

/// Compare a presence system with what was recorded from the real Phoenix
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Vectors(vectors::Args),
    Disorder(disorder::Args),
    Replay(replay::Args),
    Cluster(cluster::Args),
}

/// Parses the arguments of the process and does what they say.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Vectors(args) => vectors::run_on_terminal(&args),
        Command::Disorder(args) => disorder::run_on_terminal(&args),
        Command::Replay(args) => replay::run_on_terminal(&args),
        Command::Cluster(args) => cluster::run_on_terminal(&args),
    };
    match done {
        Ok(outcome) => ExitCode::from(outcome as u8),
        // Who reads the output has seen enough; but a run that was broken off is no pass.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::from(Outcome::Unreadable as u8)
        }
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::from(Outcome::Unreadable as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
