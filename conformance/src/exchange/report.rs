//! What a person reads of a replay: a line for each case, what differed where one fails, and a summary.

use std::io::{self, Write};

use super::Mismatch;
use crate::terminal::Paint;
use crate::vectors::{Outcome, Transcript};

/// Counts the cases, and writes of each what a person has to know.
pub(crate) struct Report {
    paint: Paint,
    cases: usize,
    failed: usize,
    unreadable: usize,
}

impl Report {
    pub(crate) fn new(paint: Paint) -> Self {
        Self {
            paint,
            cases: 0,
            failed: 0,
            unreadable: 0,
        }
    }

    pub(crate) fn unreadable(
        &mut self,
        name: &str,
        reason: &str,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        self.unreadable += 1;
        writeln!(out, "{} {name}: {reason}", self.paint.red("UNREADABLE"))
    }

    pub(crate) fn case(
        &mut self,
        case: &str,
        title: &str,
        mismatch: Option<&Mismatch>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        self.cases += 1;
        let Some(mismatch) = mismatch else {
            return writeln!(out, "{} {case}", self.paint.green("ok  "));
        };
        self.failed += 1;
        writeln!(out, "{} {case}: {title}", self.paint.red("FAIL"))?;
        explain(mismatch, out)
    }

    /// What was passed over, which `other` is, then the summary line.
    pub(crate) fn finish(
        self,
        skipped: usize,
        other: Transcript,
        out: &mut dyn Write,
    ) -> io::Result<Outcome> {
        if skipped > 0 {
            let plural = if skipped == 1 { "" } else { "s" };
            writeln!(
                out,
                "{} {skipped} {other}{plural}, which {}",
                self.paint.yellow("skipped"),
                other.replayed_by()
            )?;
        }
        let outcome = match (self.unreadable, self.failed, self.cases) {
            (0, 0, 1..) => Outcome::Passed,
            (0, 1.., _) => Outcome::Failed,
            _ => Outcome::Unreadable,
        };
        let cases = self.cases;
        let plural = if cases == 1 { "" } else { "s" };
        let mut summary = match (cases, self.failed) {
            (0, _) => "no case replayed".to_owned(),
            (_, 0) => format!("{cases} case{plural} passed"),
            (_, failed) => format!("{failed} of {cases} case{plural} failed"),
        };
        if self.unreadable > 0 {
            summary = format!("{summary}; {} unreadable", self.unreadable);
        }
        let summary = match outcome {
            Outcome::Passed => self.paint.green(&summary),
            Outcome::Failed | Outcome::Unreadable => self.paint.red(&summary),
        };
        writeln!(out, "{summary}")?;
        Ok(outcome)
    }
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
