//! What a person reads of a replay: a line for each case that fails, and a summary.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::kind::Kind;
use super::sources::Skipped;
use super::{Failure, Unreadable, Verdict};
use crate::terminal::Paint;

/// How many differences of one step are shown.
const SHOWN: usize = 20;

/// What a replay came to. Its number is the exit code of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every case passed.
    Passed = 0,
    /// A case failed.
    Failed = 1,
    /// A file could not be read, whatever the others gave.
    Unreadable = 2,
}

/// Counts what comes, and writes of it what a person has to know.
pub(super) struct Report {
    paint: Paint,
    quiet: bool,
    /// Cases by kind, and those of them that failed.
    cases: BTreeMap<Kind, (usize, usize)>,
    skipped: BTreeMap<Skipped, usize>,
    unreadable: usize,
}

impl Report {
    pub(super) fn new(paint: Paint, quiet: bool) -> Self {
        Self {
            paint,
            quiet,
            cases: BTreeMap::new(),
            skipped: BTreeMap::new(),
            unreadable: 0,
        }
    }

    pub(super) fn verdict(
        &mut self,
        name: &str,
        verdict: &Verdict,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let (cases, failed) = self.cases.entry(verdict.kind).or_default();
        *cases += verdict.cases;
        *failed += verdict.failures.len();
        for failure in &verdict.failures {
            self.failure(name, failure, out)?;
        }
        Ok(())
    }

    fn failure(&self, name: &str, failure: &Failure, out: &mut dyn Write) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        writeln!(out, "{} {name}, {failure}", self.paint.red("FAIL"))?;
        for difference in failure.differences.iter().take(SHOWN) {
            for line in difference.to_string().lines() {
                writeln!(out, "     {line}")?;
            }
        }
        let more = failure.differences.len().saturating_sub(SHOWN);
        if more > 0 {
            writeln!(out, "     and {more} more")?;
        }
        Ok(())
    }

    /// Unreadable files are named even where the rest is quiet.
    pub(super) fn unreadable(
        &mut self,
        name: &str,
        reason: &Unreadable,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        self.unreadable += 1;
        let error = self.paint.red("UNREADABLE");
        writeln!(out, "{error} {name}: {reason}")
    }

    pub(super) fn skipped(&mut self, skipped: Skipped) {
        *self.skipped.entry(skipped).or_default() += 1;
    }

    pub(super) fn outcome(&self) -> Outcome {
        if self.unreadable > 0 {
            Outcome::Unreadable
        } else if self.cases.values().any(|&(_, failed)| failed > 0) {
            Outcome::Failed
        } else {
            Outcome::Passed
        }
    }

    /// What was passed over, then the summary line.
    pub(super) fn finish(&self, out: &mut dyn Write) -> io::Result<Outcome> {
        if !self.quiet {
            for (skipped, &count) in &self.skipped {
                let what = match skipped {
                    Skipped::Transcript(transcript) => format!(
                        "{}, which {}",
                        counted(count, &transcript.to_string()),
                        transcript.replayed_by()
                    ),
                    Skipped::Other => format!("{} without JSON", counted(count, "file")),
                };
                writeln!(out, "{} {what}", self.paint.yellow("skipped"))?;
            }
        }
        let cases: usize = self.cases.values().map(|(cases, _)| cases).sum();
        let failed: usize = self.cases.values().map(|(_, failed)| failed).sum();
        let by_kind: Vec<String> = self
            .cases
            .iter()
            .map(|(kind, (cases, failed))| match failed {
                0 => format!("{cases} {}", kind.cases()),
                _ => format!("{failed} of {cases} {}", kind.cases()),
            })
            .collect();
        let mut summary = match (cases, failed) {
            (0, _) => "no case replayed".to_owned(),
            (_, 0) => format!("{} passed", counted(cases, "case")),
            _ => format!("{failed} of {} failed", counted(cases, "case")),
        };
        if !by_kind.is_empty() {
            summary = format!("{summary}: {}", by_kind.join(", "));
        }
        if self.unreadable > 0 {
            summary = format!("{summary}; {} unreadable", self.unreadable);
        }
        let outcome = self.outcome();
        let summary = match outcome {
            Outcome::Passed => self.paint.green(&summary),
            Outcome::Failed | Outcome::Unreadable => self.paint.red(&summary),
        };
        writeln!(out, "{summary}")?;
        Ok(outcome)
    }
}

pub(super) fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
