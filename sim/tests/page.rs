//! The page of a run: whole, by itself, bounded, and the same each time.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use sim::generate;
use sim::outcome::Outcome;
use sim::page;
use sim::sabotage::Sabotage;
use sim::schedule::Schedule;
use sim::tier::Tier;
use sim::trace::{Client, Kind, Line, Span, Traced};
use sim::world::{Options, run};

/// A run with clients, written down.
fn with_clients(seed: u64, sabotage: Option<Sabotage>) -> (Schedule, Traced, Outcome) {
    let schedule = Tier::Full.random(seed);
    let trace = true;
    let mut outcome = Tier::Full.run(&schedule, Options { sabotage, trace });
    let traced = outcome.trace.take().expect("it was written down");
    (schedule, traced, outcome)
}

fn drawn(schedule: &Schedule, sabotage: Option<Sabotage>) -> (String, Outcome) {
    let trace = true;
    let mut outcome = run(schedule, Options { sabotage, trace });
    let traced = outcome.trace.take().expect("it was written down");
    (page::render(schedule, &traced, &outcome), outcome)
}

/// A run of a schedule, and what was written down of it.
fn written_down(schedule: &Schedule) -> (Traced, Outcome) {
    let options = Options {
        sabotage: None,
        trace: true,
    };
    let mut outcome = run(schedule, options);
    (outcome.trace.take().unwrap(), outcome)
}

#[test]
fn it_is_bounded_and_fetches_nothing() {
    for seed in 0..40 {
        let schedule = generate::random(seed);
        let (page, _) = drawn(&schedule, None);
        assert!(page.len() < 2_000_000, "seed {seed}: {} bytes", page.len());
        assert!(!page.contains("http://") && !page.contains("https://"));
        assert!(!page.contains("NaN") && !page.contains("inf\""));
        for node in &schedule.nodes {
            assert!(page.contains(&format!(">{}</text>", node.name)));
        }
    }
}

#[test]
fn it_is_the_same_each_time() {
    let schedule = generate::random(7);
    assert_eq!(drawn(&schedule, None).0, drawn(&schedule, None).0);
}

#[test]
fn it_tells_a_failure_in_words() {
    let sabotage = Some(Sabotage::DiffLost);
    let failed = (0..200).map(generate::random).find_map(|schedule| {
        let (page, outcome) = drawn(&schedule, sabotage);
        outcome.failure.map(|failure| (page, failure))
    });
    let (page, failure) = failed.expect("a lost diff is found");
    assert!(page.contains(failure.invariant.sentence()));
    assert!(page.contains(&format!("{:?} on {}", failure.invariant, failure.node)));
}

#[test]
fn names_cannot_break_it() {
    let mut schedule = generate::random(3);
    schedule.name = "</script><script>alert(1)</script>".into();
    schedule.steps.push(sim::schedule::Step {
        at_ms: schedule.heal_ms,
        action: sim::schedule::Action::Track {
            node: schedule.nodes[0].name.clone(),
            process: 1,
            topic: "</script>".into(),
            key: "<b>".into(),
        },
    });
    let (page, _) = drawn(&schedule, None);
    assert_eq!(page.matches("</script>").count(), 2);
}

#[test]
fn each_client_has_a_row_and_its_events() {
    for seed in [3, 5, 77] {
        let (schedule, traced, outcome) = with_clients(seed, None);
        let page = page::render(&schedule, &traced, &outcome);
        assert!(page.len() < 2_000_000, "seed {seed}: {} bytes", page.len());
        assert!(!page.contains("NaN") && !page.contains("inf\""));
        for (place, client) in traced.clients.iter().enumerate() {
            let row = format!("data-client=\"{place}\"");
            assert_eq!(page.matches(&row).count(), 1, "seed {seed}: {row}");
            let option = schedule.nodes.len() + place;
            let option = format!("<option value=\"{option}\">{}</option>", client.name);
            assert!(page.contains(&option), "seed {seed}: {option}");
        }
        let clients = traced.lines.iter().filter(|line| line.kind == Kind::Client);
        assert_eq!(page.matches(",\"client\",").count(), clients.count());
        let written = traced.lines.iter().any(|line| line.kind == Kind::Written);
        assert!(written && !page.contains("were written by now"));
    }
}

#[test]
fn connections_are_drawn_from_when_they_are_made_until_they_end() {
    let (schedule, traced, _) = with_clients(77, None);
    let mut connections = 0;
    for client in &traced.clients {
        let of_client =
            |line: &&Line| line.is_of_client() && line.node.as_ref() == Some(&client.name);
        let lines: Vec<&Line> = traced.lines.iter().filter(of_client).collect();
        let times = |with: &str| -> Vec<u64> {
            let found = lines.iter().filter(|line| line.text.starts_with(with));
            found.map(|line| line.at).collect()
        };
        let connected = client.spans.iter().filter(|span| span.what == "connected");
        let connected: Vec<&Span> = connected.collect();
        let from: Vec<u64> = connected.iter().map(|span| span.from).collect();
        let to: Vec<u64> = connected.iter().filter_map(|span| span.to).collect();
        assert_eq!(from, times("connects to"), "{}", client.name);
        assert_eq!(to, times("is disconnected"), "{}", client.name);
        for span in connected {
            let node = &schedule.nodes[span.node.unwrap()].name;
            let told = format!("connects to {node}");
            let tells = |line: &&Line| line.at == span.from && line.text == told;
            assert!(lines.iter().copied().any(|line| tells(&line)), "{told}");
            connections += 1;
        }
    }
    assert!(connections > traced.clients.len());
}

#[test]
fn the_client_that_a_failure_concerns_comes_first() {
    let found = (0..40).find_map(|seed| {
        let (schedule, traced, outcome) = with_clients(seed, Some(Sabotage::DiffLost));
        let client = outcome.failure.as_ref()?.client.clone()?;
        Some((page::render(&schedule, &traced, &outcome), traced, client))
    });
    let (page, traced, name) = found.expect("a lost diff is seen by a client");
    let place = traced
        .clients
        .iter()
        .position(|client| *client.name == *name);
    let row = page.find("class=\"client").unwrap();
    let marked = format!(
        "class=\"client at-fault\" data-client=\"{}\"",
        place.unwrap()
    );
    assert!(page[row..].starts_with(&marked));
    assert_eq!(page.matches("class=\"broke\"").count(), 1);
}

/// A client that is connected all the time, and whatever else befalls it.
fn client(at: usize, befallen: &[(u64, u64)]) -> Client {
    let span = |node, what: &str, from, to| Span {
        node,
        what: what.into(),
        from,
        to,
        nodes: Vec::new(),
    };
    let mut spans = vec![span(Some(0), "connected", 20_000, None)];
    let slow = befallen
        .iter()
        .map(|&(from, to)| span(None, "slow", from, Some(to)));
    spans.extend(slow);
    Client {
        name: format!("u{at}").into(),
        speaks: "a WebSocket, vsn 2.0.0".into(),
        came: 10_000,
        went: None,
        spans,
    }
}

#[test]
fn of_many_clients_those_without_incident_are_folded_away() {
    let schedule = generate::random(7);
    let (mut traced, outcome) = written_down(&schedule);
    let unlucky = [(30_000, 40_000)];
    traced.clients = (0..150)
        .map(|at| client(at, if at % 10 == 0 { &unlucky } else { &[] }))
        .collect();
    // A lost connection is an incident; that a user goes is none, connected or not yet.
    traced.clients[1].spans[0].to = Some(50_000);
    traced.clients[2].spans[0].to = Some(50_000);
    traced.clients[2].went = Some(50_000);
    traced.clients[3].spans.clear();
    traced.clients[3].went = Some(50_000);
    let page = page::render(&schedule, &traced, &outcome);
    let (shown, folded) = page.split_once("<details><summary>").unwrap();
    assert!(shown.contains("16 of 150 clients") && folded.starts_with("134 clients"));
    assert_eq!(shown.matches("data-client=").count(), 16);
    assert_eq!(folded.matches("data-client=").count(), 134);
    // So few need no folding.
    traced.clients.truncate(20);
    let page = page::render(&schedule, &traced, &outcome);
    assert!(!page.contains("<details>") && page.contains("20 clients"));
    traced.clients.clear();
    assert!(!page::render(&schedule, &traced, &outcome).contains("<details"));
}

#[test]
fn it_is_bounded_whatever_clients_there_are() {
    let schedule = generate::random(7);
    let (mut traced, outcome) = written_down(&schedule);
    let often: Vec<(u64, u64)> = (0..100)
        .map(|at| (at * 10_000, at * 10_000 + 5_000))
        .collect();
    for (count, befallen) in [(3_000, &[][..]), (400, &often[..])] {
        traced.clients = (0..count).map(|at| client(at, befallen)).collect();
        let page = page::render(&schedule, &traced, &outcome);
        assert!(
            page.len() < 2_000_000,
            "{count} clients: {} bytes",
            page.len()
        );
        assert!(page.contains("are not drawn, for the size of the page"));
    }
}
