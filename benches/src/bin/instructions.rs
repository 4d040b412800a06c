//! Compares instruction counts under callgrind with those that the repository keeps.
//!
//! Gungraun compares with the run before, on the same machine; this compares with
//! `benches/instructions.json`, so that a change that makes the set dearer is seen where it is made.
//! Exit code 0 (as kept), 1 (some benchmark changed by more than 5 %) or 2 (nothing could be
//! compared). Counts hang on the compiler: under another version a change is only a warning.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};

use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where the counts are kept.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json");

/// By how much a count may change, in percent, either way.
const TOLERANCE: u64 = 5;

/// Compares instruction counts of the set with those that the repository keeps.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Fails where a count has changed by more than 5 %.
    Check,
    /// Keeps the counts as they now are.
    Accept,
}

/// The counts, and what they hang on.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Counts {
    /// What `rustc --version` says.
    rustc: String,
    instructions: BTreeMap<String, u64>,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("gungraun-runner can't be run ({0}); install it with: cargo install {RUNNER}")]
    NoRunner(io::Error),
    #[error("{program} can't be run: {error}")]
    Run {
        program: &'static str,
        error: io::Error,
    },
    #[error("{program} failed with {status}")]
    Failed {
        program: &'static str,
        status: std::process::ExitStatus,
    },
    #[error("{program} printed what is not UTF-8")]
    NotText { program: &'static str },
    #[error("{KEPT}: {0}")]
    File(io::Error),
    #[error("{KEPT}: {0}")]
    Json(serde_json::Error),
    #[error("gungraun's report is no JSON: {0}")]
    Report(serde_json::Error),
    #[error("gungraun's report names no benchmark and count: {0}")]
    NoCount(String),
}

/// The runner must be of the version of the library; without optimisation it is built much faster.
const RUNNER: &str = "gungraun-runner --version 0.20.0 --locked --debug";

fn main() -> ExitCode {
    let Arguments { action } = Arguments::parse();
    let result = match action {
        Action::Check => check(),
        Action::Accept => accept(),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("instructions: {failure}");
        ExitCode::from(2)
    })
}

fn check() -> Result<ExitCode, Failure> {
    let kept = fs::read_to_string(KEPT).map_err(Failure::File)?;
    let kept: Counts = serde_json::from_str(&kept).map_err(Failure::Json)?;
    let now = count()?;
    let changes = kept.changes(&now);
    for (name, instructions) in &now.instructions {
        println!("{instructions:>12}  {name}");
    }
    if changes.is_empty() {
        println!("no count changed by more than {TOLERANCE} %");
        return Ok(ExitCode::SUCCESS);
    }
    for change in &changes {
        eprintln!("{change}");
    }
    if kept.rustc != now.rustc {
        eprintln!(
            "warning: the counts were kept under {} and this is {}, so the changes above may be the \
             compiler's and do not fail. {}",
            kept.rustc, now.rustc, HOW_TO_ACCEPT
        );
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{HOW_TO_ACCEPT}");
    Ok(ExitCode::FAILURE)
}

const HOW_TO_ACCEPT: &str = "If that is as it should be, run\n    \
    cargo run --release -p benches --bin instructions -- accept\n\
    and commit benches/instructions.json with the change that explains it.";

fn accept() -> Result<ExitCode, Failure> {
    let now = count()?;
    let mut text = serde_json::to_string_pretty(&now).map_err(Failure::Json)?;
    text.push('\n');
    fs::write(KEPT, text).map_err(Failure::File)?;
    println!("kept {} counts in {KEPT}", now.instructions.len());
    Ok(ExitCode::SUCCESS)
}

/// Runs the benchmarks under callgrind.
fn count() -> Result<Counts, Failure> {
    let runner = env::var_os("GUNGRAUN_RUNNER").unwrap_or_else(|| "gungraun-runner".into());
    Command::new(runner)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .map_err(Failure::NoRunner)?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let report = printed(
        "cargo bench",
        Command::new(cargo).current_dir(package).args([
            "bench",
            "--features",
            "instructions",
            "--bench",
            "instructions",
            "--",
            "--output-format=json",
        ]),
    )?;
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let rustc = printed("rustc", Command::new(rustc).arg("--version"))?;
    let instructions = report
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| {
            let report = serde_json::from_str(line).map_err(Failure::Report)?;
            counted(&report).ok_or_else(|| Failure::NoCount(line.chars().take(200).collect()))
        })
        .collect::<Result<_, _>>()?;
    Ok(Counts {
        rustc: rustc.trim().to_owned(),
        instructions,
    })
}

/// What a program prints; its errors go to ours.
fn printed(program: &'static str, command: &mut Command) -> Result<String, Failure> {
    let Output { status, stdout, .. } = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::Run { program, error })?;
    if !status.success() {
        return Err(Failure::Failed { program, status });
    }
    String::from_utf8(stdout).map_err(|_| Failure::NotText { program })
}

/// The name and the count of one benchmark in gungraun's report.
fn counted(report: &Value) -> Option<(String, u64)> {
    let name = format!(
        "{} {}",
        report["function_name"].as_str()?,
        report["id"].as_str()?
    );
    let values = &report["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"];
    // Beside the count of an earlier run, where there is one.
    let count = values.get("new").unwrap_or(&values["both"][0]);
    Some((name, count.as_u64()?))
}

impl Counts {
    /// What differs by more than the tolerance, a line each.
    fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for (name, &was) in &self.instructions {
            let Some(&is) = now.instructions.get(name) else {
                changes.push(format!("{name}: {was} instructions are kept, none counted"));
                continue;
            };
            if is.abs_diff(was) * 100 > was * TOLERANCE {
                let percent = (is as f64 / was as f64 - 1.0) * 100.0;
                changes.push(format!(
                    "{name}: {was} -> {is} instructions, {percent:+.1} %, more than {TOLERANCE} %"
                ));
            }
        }
        for (name, is) in &now.instructions {
            if !self.instructions.contains_key(name) {
                changes.push(format!("{name}: {is} instructions, none are kept"));
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(instructions: &[(&str, u64)]) -> Counts {
        Counts {
            rustc: "rustc 1".to_owned(),
            instructions: instructions
                .iter()
                .map(|&(name, count)| (name.to_owned(), count))
                .collect(),
        }
    }

    #[test]
    fn only_changes_beyond_the_tolerance_are_told_either_way() {
        let kept = counts(&[("a", 1_000), ("b", 1_000), ("c", 1_000), ("d", 1_000)]);
        let now = counts(&[("a", 1_050), ("b", 1_051), ("c", 949), ("d", 950)]);
        assert_eq!(
            kept.changes(&now),
            [
                "b: 1000 -> 1051 instructions, +5.1 %, more than 5 %",
                "c: 1000 -> 949 instructions, -5.1 %, more than 5 %",
            ]
        );
    }

    #[test]
    fn a_benchmark_that_came_or_went_is_told() {
        let changes = counts(&[("old", 1)]).changes(&counts(&[("new", 2)]));
        assert_eq!(
            changes,
            [
                "old: 1 instructions are kept, none counted",
                "new: 2 instructions, none are kept",
            ]
        );
    }

    #[test]
    fn counts_are_read_from_a_report_with_and_without_an_earlier_run() {
        for values in [r#"{"new":7}"#, r#"{"both":[7,9]}"#] {
            let report = format!(
                r#"{{"function_name":"join","id":"x","profiles":[{{"data":{{"total":
                {{"metrics":{{"Ir":{{"values":{values}}}}}}}}}}}]}}"#
            );
            let report = serde_json::from_str(&report).expect("the test's own JSON");
            assert_eq!(counted(&report), Some(("join x".to_owned(), 7)));
        }
        assert_eq!(counted(&Value::Null), None);
    }
}
