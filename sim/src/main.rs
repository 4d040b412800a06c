//! Runs simulations: `sim --help` tells how.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
