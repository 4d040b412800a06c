//! A journal of a node in the field, played again and told.

use std::fmt::Write as _;
use std::time::Duration;

use presence_core::entry::Left;
use presence_core::tracker::journal::{Header, Outcome, Record};
use presence_core::tracker::{To, Tracker};
use presence_core::wire::cluster::Limits;

use crate::cluster::words;

/// Whether a file is a journal: its first line begins one.
pub fn is_journal(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    Header::parse(first).is_ok()
}

/// Plays a journal and tells each input with what came of it.
///
/// # Errors
///
/// Which line is wrong, and why. What came before it is in `told`.
pub fn replay(text: &str, told: &mut String) -> Result<(), String> {
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    let (_, first) = lines.next().ok_or("line 1: there is none")?;
    let wrong = |at: usize, error: &dyn std::fmt::Display| format!("line {at}: {error}");
    let header = Header::parse(first).map_err(|error| wrong(1, &error))?;
    let mut tracker = header.tracker().map_err(|error| wrong(1, &error))?;
    let _ = writeln!(
        told,
        "{:>12.6}  {} begins",
        header.at.as_secs_f64(),
        header.replica
    );
    let limits = Limits::default();
    let mut last = header.at;
    for (at, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let record = Record::parse(line, &limits).map_err(|error| wrong(at, &error))?;
        if record.at < last {
            return Err(format!("line {at}: it is from before the line above it"));
        }
        last = record.at;
        tell_input(&record, told);
        let outcome = record.input.apply(&mut tracker, last);
        tell_outputs(&mut tracker, &outcome, last, told);
    }
    let stats = tracker.stats();
    let _ = writeln!(
        told,
        "\n{} presences are listed. {stats:?}",
        tracker.set().list_all().count()
    );
    Ok(())
}

fn tell_input(record: &Record, told: &mut String) {
    use presence_core::tracker::journal::Input;
    let what = match &record.input {
        Input::Track {
            topic, pid, key, ..
        } => {
            format!(
                "track {:?} of process {} in {topic:?}",
                key.as_key().as_str(),
                pid.0
            )
        }
        Input::Update {
            topic, pid, key, ..
        } => {
            format!(
                "update {:?} of process {} in {topic:?}",
                key.as_key().as_str(),
                pid.0
            )
        }
        Input::UpdateAll { topic, updates } => {
            format!("update {} presences in {topic:?}", updates.len())
        }
        Input::Untrack { topic, pid, key } => {
            format!(
                "untrack {:?} of process {} in {topic:?}",
                key.as_key().as_str(),
                pid.0
            )
        }
        Input::UntrackPid { pid } => format!("process {} ended", pid.0),
        Input::Message { peer, message } => {
            format!("← {peer}, as {}: {}", message.from, words(&message.body))
        }
        Input::Connected { peer } => format!("connected to {peer}"),
        Input::Gone { peer } => format!("the process of {peer} is gone"),
        Input::Timeout => "timeout".into(),
        Input::Stop => "stop".into(),
    };
    let _ = writeln!(told, "{:>12.6}  {what}", record.at.as_secs_f64());
}

fn tell_outputs(tracker: &mut Tracker, outcome: &Outcome, now: Duration, told: &mut String) {
    let mut tell = |what: String| {
        let _ = writeln!(told, "{:14}{what}", "");
    };
    match outcome {
        Outcome::Done | Outcome::Heard(Ok(())) => {}
        Outcome::Tracked(Ok(phx_ref)) | Outcome::Updated(Ok(phx_ref)) => {
            tell(format!("= {phx_ref}"));
        }
        Outcome::Untracked(count) => tell(format!("= {count} untracked")),
        Outcome::Tracked(Err(error)) => tell(format!("= refused: {error}")),
        Outcome::Updated(Err(error)) | Outcome::UpdatedAll(Err(error)) => {
            tell(format!("= refused: {error}"));
        }
        Outcome::UpdatedAll(Ok(refs)) => tell(format!("= {} updated", refs.len())),
        Outcome::Heard(Err(refusal)) => tell(format!("= refused: {refusal}")),
    }
    while let Some(transmit) = tracker.poll_transmit() {
        let to = match &transmit.to {
            To::All => "all",
            To::One(name) => name,
        };
        tell(format!("→ {to}: {}", words(&transmit.message.body)));
    }
    while let Some(diff) = tracker.poll_diff() {
        let mut changes = Vec::new();
        for (sign, key) in (diff.joins.iter().map(|entry| ('+', entry.key.as_str()))).chain(
            diff.leaves
                .iter()
                .map(|left| ('-', Left::entry(left).key.as_str())),
        ) {
            changes.push(format!("{sign}{key}"));
        }
        tell(format!(
            "diff {} of {:?}: {}",
            diff.number,
            diff.topic,
            changes.join(" ")
        ));
    }
    while let Some(event) = tracker.poll_event() {
        tell(format!("{event:?}"));
    }
    if let Some(due) = tracker.poll_timeout().filter(|due| *due < now) {
        tell(format!(
            "its timer has been due since {:.6}",
            due.as_secs_f64()
        ));
    }
}
