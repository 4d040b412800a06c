//! What stands in files.

use std::fs;
use std::io::Write;
use std::path::Path;

use sim::case::Case;
use sim::journal;
use sim::schedule::Schedule;
use sim::tier::Tier;

use super::{Held, Replay, Stopped, one};

pub(super) fn replay(tier: Tier, replay: &Replay, out: &mut dyn Write) -> Held {
    let text = read(&replay.file)?;
    if journal::is_journal(&text) {
        let mut told = String::new();
        let played = journal::replay(&text, &mut told);
        out.write_all(told.as_bytes())?;
        played.map_err(|wrong| named(&replay.file, &wrong))?;
        return Ok(true);
    }
    let schedule = parse(&replay.file, &text)?;
    let case = Case::saved(tier, &replay.file, schedule, replay.sabotage);
    one::tell(&case, replay.print_trace, out)
}

/// Reads a schedule.
pub(super) fn schedule(path: &Path) -> Result<Schedule, Stopped> {
    parse(path, &read(path)?)
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), Stopped> {
    fs::write(path, text).map_err(|error| named(path, &error.to_string()))
}

fn read(path: &Path) -> Result<String, Stopped> {
    fs::read_to_string(path).map_err(|error| named(path, &error.to_string()))
}

fn parse(path: &Path, text: &str) -> Result<Schedule, Stopped> {
    Schedule::parse(text).map_err(|wrong| named(path, &wrong))
}

fn named(path: &Path, wrong: &str) -> Stopped {
    Stopped::Usage(format!("{}: {wrong}", path.display()))
}
