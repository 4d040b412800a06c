//! One run: told, printed, drawn.

use std::io::Write;

use sim::case::{Case, Family};
use sim::{page, report};

use super::{Held, Run, Stopped, Trace, case_of, file};

/// A seed that nobody chose.
pub(super) fn random(out: &mut dyn Write) -> Held {
    // Half the digits do, and are easier to read out.
    let seed = getrandom::u32()
        .map_err(|error| Stopped::Usage(format!("the system gives no random number: {error}")))?;
    let case = Case::new(Family::Swarm, seed.into(), None);
    let held = tell(&case, false, out)?;
    if held {
        writeln!(out, "\nTo repeat it:  {}", case.repeat())?;
    }
    Ok(held)
}

pub(super) fn run(run: &Run, out: &mut dyn Write) -> Held {
    let case = run.subject.case();
    if let Some(path) = &run.schedule {
        file::write(path, &case.schedule().to_json())?;
    }
    tell(&case, run.print_trace, out)
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

pub(super) fn draw(trace: &Trace, out: &mut dyn Write) -> Held {
    let case = case_of(
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
