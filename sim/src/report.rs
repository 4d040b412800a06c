//! Runs and failures, told to people.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::HumanCount;

use crate::case::Case;
use crate::coverage::{Counted, Coverage};
use crate::outcome::{Failure, Outcome};
use crate::schedule::{Joining, Network, Schedule};
use crate::trace::{Kind, Line, Traced};

/// How many events are told with a failure.
const EVENTS: usize = 15;

/// What happened in a run that held.
pub fn story(schedule: &Schedule, outcome: &Outcome) -> String {
    let mut rows = vec![
        ("cluster", cluster(schedule)),
        ("settings", settings(schedule)),
        ("network", network(&schedule.network)),
        ("happened", happened(&outcome.coverage)),
        ("traffic", traffic(outcome)),
    ];
    if let Some(after) = outcome.converged_after {
        let healed = Duration::from_millis(schedule.heal_ms);
        rows.push((
            "agreed",
            format!(
                "{} after the last fault had ended, at {}",
                seconds(after),
                seconds(healed)
            ),
        ));
    }
    rows.push((
        "checked",
        format!(
            "every invariant after each of {} events, over {}",
            HumanCount(outcome.events),
            seconds(outcome.simulated)
        ),
    ));
    let mut text = format!("{}\n", schedule.name);
    for (name, what) in rows {
        for (at, line) in wrapped(&what, 86).iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            let _ = writeln!(text, "  {name:<9} {line}");
        }
    }
    text
}

fn cluster(schedule: &Schedule) -> String {
    let named = |starts: bool| {
        let nodes = schedule.nodes.iter().filter(|node| node.starts == starts);
        let names: Vec<&str> = nodes.map(|node| node.name.as_str()).collect();
        names.join(" ")
    };
    let mut text = named(true);
    let later = named(false);
    if !later.is_empty() {
        let _ = write!(text, ", later {later}");
    }
    let steps = HumanCount(schedule.steps.len() as u64);
    let _ = write!(text, "; {steps} steps");
    match &schedule.joining {
        Joining::Each => {}
        Joining::Name => text.push_str("; found by one name"),
        Joining::Through(node) => {
            let _ = write!(text, "; found through {node}");
        }
    }
    if !schedule.heal_first.is_empty() {
        let _ = write!(text, "; {} heal first", schedule.heal_first.join(" "));
    }
    text
}

fn settings(schedule: &Schedule) -> String {
    let settings = &schedule.settings;
    let ms = |ms: u64| seconds(Duration::from_millis(ms));
    let mut text = format!(
        "a period is {}, {} silent at most; down after {}, forgotten after {}; deltas of {}, parts of {}",
        ms(settings.broadcast_period),
        settings.max_silent_periods,
        ms(settings.down_period),
        ms(settings.permdown_period),
        settings.max_delta_size,
        settings.chunk_values,
    );
    if settings.pool_size > 1 {
        let _ = write!(text, "; {} shards", settings.pool_size);
    }
    for (on, what) in [
        (settings.handover, "handover"),
        (settings.permdown_on_shutdown, "permdown_on_shutdown"),
    ] {
        if on {
            let _ = write!(text, "; {what}");
        }
    }
    text
}

fn network(network: &Network) -> String {
    let ms = |us: u64| us as f64 / 1000.0;
    let mut text = format!(
        "{} to {} ms, {}",
        ms(network.latency_us),
        ms(network.trip_us()),
        if network.ordered {
            "in order"
        } else {
            "in any order"
        }
    );
    for (rate, what) in [
        (network.loss, "lost"),
        (network.repeat, "twice"),
        (network.late, "late"),
    ] {
        if rate > 0 {
            let _ = write!(text, ", {:.1} % {what}", f64::from(rate) / 10_000.0);
        }
    }
    let _ = write!(text, "; queues of {}", network.queue);
    for (on, what) in [
        (network.announces, "connections are announced"),
        (network.detects_crashes, "crashes are noticed"),
    ] {
        if on {
            let _ = write!(text, "; {what}");
        }
    }
    text
}

fn happened(coverage: &Coverage) -> String {
    let all = Counted::ALL.iter().map(|&what| (what, coverage.of(what)));
    let parts: Vec<String> = all
        .filter(|&(_, times)| times > 0)
        .map(|(what, times)| format!("{} {}", what.name(), HumanCount(times)))
        .collect();
    if parts.is_empty() {
        return "nothing out of the ordinary".into();
    }
    parts.join(", ")
}

fn traffic(outcome: &Outcome) -> String {
    let traffic = &outcome.traffic;
    format!(
        "{} messages: {} deltas, {} idle heartbeats, {} of transfers, {} others",
        HumanCount(traffic.total()),
        HumanCount(traffic.deltas),
        HumanCount(traffic.idle),
        HumanCount(traffic.transfers),
        HumanCount(traffic.other)
    )
}

/// A failure, the last events that touched what it is about, and how to go on from it.
pub fn failure(case: &Case, failure: &Failure) -> String {
    let mut text = format!("{}\n{failure}\n", case.schedule().name);
    // The same run once more, written down this time.
    if let Some(traced) = case.run(true).trace {
        let lines = touching(&traced, failure);
        let _ = writeln!(text, "\nThe last events that touched it:");
        for line in lines {
            let _ = writeln!(text, "{}", cut(&line.to_string(), 160));
        }
    }
    let _ = writeln!(text, "\nTo repeat it:  {}", case.repeat());
    let _ = writeln!(text, "the smallest:  {}", case.command("shrink"));
    let page = format!("{} --out {}.html", case.command("trace"), case.slug());
    let _ = writeln!(text, "as a picture:  {page}");
    text
}

/// The last lines of a trace that a failure is about: those of its client, those of its presence, and
/// what became of the nodes concerned and passed between them.
fn touching<'a>(traced: &'a Traced, failure: &Failure) -> Vec<&'a Line> {
    let names = |line: &Line, name: &str| {
        line.node.as_deref() == Some(name) || line.other.as_deref() == Some(name)
    };
    let at_node = |line: &Line| names(line, &failure.node);
    let at_owner = |line: &Line| match &failure.owner {
        Some(owner) => names(line, owner),
        None => true,
    };
    let of_client =
        |line: &Line| failure.client.is_some() && line.node.as_deref() == failure.client.as_deref();
    let of_presence = |line: &Line| match failure.presence {
        Some(presence) => {
            let here = at_node(line) || (line.kind != Kind::Message && at_owner(line));
            here && line.presences.contains(&presence)
        }
        None => failure
            .topic
            .as_ref()
            .is_some_and(|topic| line.text.contains(topic) && at_node(line)),
    };
    let of_nodes = |line: &Line| match line.kind {
        Kind::Cluster => true,
        // Of what nodes find of others, what these two find of each other.
        Kind::Life => {
            let concerned = |name: &str| {
                name == failure.node || failure.owner.as_deref().is_none_or(|owner| owner == name)
            };
            line.node.as_deref().is_some_and(concerned)
                && line.other.as_deref().is_none_or(concerned)
                && (at_node(line) || failure.owner.is_some())
        }
        // A delta names the dots that went, not whose they were.
        Kind::Message => at_node(line) && at_owner(line) && !line.text.ends_with(": heartbeat"),
        Kind::Diff | Kind::Operation => failure.owner.is_none() && at_node(line),
        Kind::User | Kind::Client | Kind::Written => false,
    };
    let mut groups = [const { Vec::new() }; 3];
    for (at, line) in traced.lines.iter().enumerate() {
        let group = match line.is_of_client() {
            // What other clients see is the same once more.
            true if of_client(line) => 0,
            true => continue,
            false if of_presence(line) => 1,
            false if of_nodes(line) => 2,
            false => continue,
        };
        groups[group].push((at, line));
    }
    let mut chosen = last_of_each(groups);
    chosen.sort_by_key(|(at, _)| *at);
    chosen.into_iter().map(|(_, line)| line).collect()
}

/// The last of each group, at most [`EVENTS`] together: of each a third at least, where there are so many,
/// and what room is left goes to the first.
fn last_of_each<T: Copy, const N: usize>(groups: [Vec<T>; N]) -> Vec<T> {
    let mut room = EVENTS;
    let mut waiting: usize = groups.iter().map(|group| group.len().min(EVENTS / 3)).sum();
    let mut chosen = Vec::new();
    for group in groups {
        waiting -= group.len().min(EVENTS / 3);
        let taken = group.len().min(room - waiting);
        room -= taken;
        chosen.extend_from_slice(&group[group.len() - taken..]);
    }
    chosen
}

/// A table with a head, columns of numbers to the right.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let numbers: Vec<bool> = (0..N)
        .map(|column| {
            let mut cells = rows.iter().map(|row| row[column].as_str());
            cells.all(|cell| cell.starts_with(|c: char| c.is_ascii_digit() || c == '–'))
        })
        .collect();
    let mut text = String::new();
    let head = head.map(String::from);
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::from(" ");
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = match numbers[column] {
                true => write!(line, " {cell:>width$} "),
                false => write!(line, " {cell:<width$} "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A time in seconds.
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::case::Family;
    use crate::sabotage::Sabotage;
    use crate::tier::Tier;

    #[test]
    fn a_failure_tells_of_its_presence_and_how_to_repeat_it() {
        let found = (0..500).find_map(|seed| {
            let case = Case::new(
                Tier::Core,
                Family::Swarm,
                seed,
                Some(Sabotage::LeavesDropped),
            );
            let failure = case.run(false).failure?;
            failure.presence.is_some().then_some((case, failure))
        });
        let (case, broken) = found.expect("dropped leaves are found");
        let text = failure(&case, &broken);
        let presence = broken.presence.unwrap();
        assert!(text.contains(broken.invariant.sentence()), "{text}");
        assert!(
            text.contains(&format!("presence {presence} of process")),
            "{text}"
        );
        assert!(text.contains(&case.repeat()), "{text}");
        let traced = case.run(true).trace.unwrap();
        let lines = touching(&traced, &broken);
        assert!(!lines.is_empty() && lines.len() <= EVENTS);
        assert!(lines.iter().any(|line| line.presences.contains(&presence)));
        assert!(lines.is_sorted_by_key(|line| line.at));
    }

    #[test]
    fn a_failure_of_a_client_tells_of_it_and_of_no_other() {
        let found = (0..40).find_map(|seed| {
            let case = Case::new(Tier::Full, Family::Swarm, seed, Some(Sabotage::DiffLost));
            let failure = case.run(false).failure?;
            failure.client.is_some().then_some((case, failure))
        });
        let (case, broken) = found.expect("a lost diff is seen by a client");
        let traced = case.run(true).trace.unwrap();
        let lines = touching(&traced, &broken);
        assert!(lines.is_sorted_by_key(|line| line.at) && lines.len() <= EVENTS);
        let of_clients: Vec<_> = lines.iter().filter(|line| line.is_of_client()).collect();
        assert!(!of_clients.is_empty());
        assert!(
            of_clients
                .iter()
                .all(|line| line.node.as_deref() == broken.client.as_deref())
        );
        assert!(of_clients.len() < lines.len(), "its node is told of, too");
        assert!(lines.iter().all(|line| line.kind != Kind::Written));
    }

    #[test]
    fn each_group_of_events_has_its_third_and_the_first_what_is_left() {
        let group = |count: usize| (0..count).collect::<Vec<_>>();
        let chosen = |counts: [usize; 3]| last_of_each(counts.map(group)).len();
        assert_eq!(chosen([0, 0, 0]), 0);
        assert_eq!(chosen([2, 0, 3]), 5);
        assert_eq!(chosen([40, 40, 40]), EVENTS);
        assert_eq!(
            last_of_each([group(40), group(40), group(1)])[..3],
            [31, 32, 33]
        );
        assert_eq!(last_of_each([group(40), group(0), group(0)]).len(), EVENTS);
        assert_eq!(last_of_each([group(0), group(0), group(40)])[0], 25);
    }

    #[test]
    fn a_run_is_told_with_its_cluster_and_when_it_agreed() {
        let case = Case::new(Tier::Core, Family::Swarm, 1, None);
        let text = story(case.schedule(), &case.run(false));
        for part in [
            "seed 1\n",
            "cluster   n0 n1",
            "network",
            "agreed",
            "checked",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "{text}"
        );
    }

    #[test]
    fn columns_of_a_table_stand_below_each_other() {
        let rows = [["a".into(), "1".into()], ["bcd".into(), "234".into()]];
        assert_eq!(
            table(["name", "n"], &rows),
            "  name    n\n  a       1\n  bcd   234\n"
        );
    }
}
