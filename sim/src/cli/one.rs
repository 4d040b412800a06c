//! One run: told, printed, drawn.

use std::env;
use std::fmt::Display;
use std::io::Write;
use std::process::Command;

use indicatif::HumanCount;
use sim::case::{Case, Family};
use sim::tier::Tier;
use sim::{page, report};

use super::{Held, Run, Stopped, Trace, case_of, file};

/// A seed that nobody chose.
pub(super) fn random(tier: Tier, out: &mut dyn Write) -> Held {
    // Half the digits do, and are easier to read out.
    let seed = getrandom::u32()
        .map_err(|error| Stopped::Usage(format!("the system gives no random number: {error}")))?;
    let case = Case::new(tier, Family::Swarm, seed.into(), None);
    let held = tell(&case, false, out)?;
    if held {
        writeln!(out, "\nTo repeat it:  {}", case.repeat())?;
    }
    Ok(held)
}

pub(super) fn run(tier: Tier, run: &Run, out: &mut dyn Write) -> Held {
    let case = run.subject.case(tier);
    if let Some(path) = &run.schedule {
        file::write(path, &case.schedule().to_json())?;
    }
    match run.twice {
        true => twice(&case, out),
        false => tell(&case, run.print_trace, out),
    }
}

/// Runs a case in two processes and compares all that happened in them.
fn twice(case: &Case, out: &mut dyn Write) -> Held {
    let (first, second) = (elsewhere(case)?, elsewhere(case)?);
    let mut pairs = first.lines().zip(second.lines()).enumerate();
    if let Some((at, (one, other))) = pairs.find(|(_, (one, other))| one != other) {
        let at = at + 1;
        writeln!(
            out,
            "FAILED: the traces differ in line {at}:\n{one}\n{other}"
        )?;
        return Ok(false);
    }
    let counts = (first.lines().count(), second.lines().count());
    if counts.0 != counts.1 {
        let (one, other) = counts;
        writeln!(out, "FAILED: one trace has {one} lines, the other {other}")?;
        return Ok(false);
    }
    writeln!(out, "Twice the same {} lines.", HumanCount(counts.0 as u64))?;
    Ok(true)
}

/// What a run in a process of its own prints: all that happens.
fn elsewhere(case: &Case) -> Result<String, Stopped> {
    let wrong = |what: &dyn Display| Stopped::Usage(format!("a process of its own: {what}"));
    let sim = env::current_exe().map_err(|error| wrong(&error))?;
    let arguments = case.arguments("run");
    let output = Command::new(sim)
        .args(arguments)
        .arg("--print-trace")
        .output();
    let output = output.map_err(|error| wrong(&error))?;
    // That an invariant breaks is what it tells, too.
    match output.status.code() {
        Some(0 | 1) => String::from_utf8(output.stdout).map_err(|error| wrong(&error)),
        _ => Err(wrong(&String::from_utf8_lossy(&output.stderr))),
    }
}

/// Runs a case and tells how it went.
pub(super) fn tell(case: &Case, print_trace: bool, out: &mut dyn Write) -> Held {
    let outcome = case.run(print_trace);
    if let Some(traced) = &outcome.trace {
        writeln!(out, "{traced}")?;
    }
    if let Some(failure) = &outcome.failure {
        out.write_all(report::failure(case, failure).as_bytes())?;
        return Ok(false);
    }
    out.write_all(report::story(case.schedule(), &outcome).as_bytes())?;
    if let Some(sabotage) = case.sabotage() {
        writeln!(
            out,
            "  planted   {sabotage}, which acted {} times",
            outcome.sabotaged
        )?;
    }
    writeln!(out, "All held.")?;
    Ok(true)
}

pub(super) fn draw(tier: Tier, trace: &Trace, out: &mut dyn Write) -> Held {
    let case = case_of(
        tier,
        trace.file.as_ref(),
        trace.seed,
        trace.scenario,
        trace.sabotage,
    )?;
    let outcome = case.run(true);
    let traced = outcome.trace.clone().unwrap_or_default();
    file::write(
        &trace.out,
        &page::render(case.schedule(), &traced, &outcome),
    )?;
    writeln!(
        out,
        "{} shows {} events.",
        trace.out.display(),
        traced.lines.len()
    )?;
    if let Some(failure) = &outcome.failure {
        writeln!(out, "\n{failure}")?;
    }
    // That a run fails is no failure of its picture.
    Ok(true)
}
