//! A run as one page of HTML, which needs nothing beside it.

mod chart;
mod clients;

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use self::chart::Chart;
use self::clients::Clients;
use crate::outcome::Outcome;
use crate::schedule::Schedule;
use crate::trace::{Kind, Line, Mark, Traced};

/// What the list of events and what is told of clients may take, in bytes.
const LIST_BYTES: usize = 1_400_000;
/// What one event may take of it, in characters.
const EVENT_CHARS: usize = 300;

/// Draws a run: a lane for each node, a row for each client, and below all that happened.
///
/// The page is smaller than 2 MB: of a run that is too long for it, messages are left out first.
pub fn render(schedule: &Schedule, traced: &Traced, outcome: &Outcome) -> String {
    let chart = Chart::new(schedule, traced, outcome);
    let clients = clients_of(traced);
    // The choices of the filter name each client once more.
    let taken = clients.to_string().len() + traced.clients.len() * 50;
    let (lines, left_out) = listed(schedule, traced, LIST_BYTES.saturating_sub(taken));
    let data = json!({
        "nodes": schedule.nodes.iter().map(|node| &node.name).collect::<Vec<_>>(),
        "clients": clients,
        "lines": lines,
        "views": chart.views(),
        "lives": chart.lives(),
        "faults": chart.faults(),
        "left": chart::LEFT,
        "right": chart::RIGHT,
        "width": chart::WIDTH,
        "end": chart.end,
    });
    // Nothing in it may end the element that holds it.
    let data = data.to_string().replace('<', "\\u003c");
    let nodes = schedule.nodes.iter().map(|node| node.name.as_str());
    let clients = traced.clients.iter().map(|client| &*client.name);
    let mut options = options(0, nodes);
    if !traced.clients.is_empty() {
        let clients = self::options(schedule.nodes.len(), clients);
        let _ = write!(options, "<optgroup label=\"clients\">{clients}</optgroup>");
    }
    let left_out = match left_out {
        0 => String::new(),
        count => {
            format!("<p class=\"sub\">{count} events are left out, for the size of the page.</p>")
        }
    };
    let (css, js) = (include_str!("page/page.css"), include_str!("page/page.js"));
    let title = escaped(&schedule.name);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{css}</style></head><body>\n<h1>{title}</h1>\n<p class=\"sub\">{}</p>\n{}\n\
         <div class=\"chart\">{}{}</div>\n{}\n\
         <h2 id=\"events\">What happened</h2><form id=\"filter\">\
         <label>Where <select id=\"node\"><option value=\"\">all</option>{options}</select></label>\
         <label>Kind <select id=\"kind\"><option value=\"quiet\">all but messages</option>\
         <option value=\"all\">all</option>{}</select></label>\
         <label>From second <input id=\"from\" type=\"number\" min=\"0\" step=\"0.1\" size=\"8\"></label>\
         <label>Text <input id=\"text\" type=\"search\"></label>\
         <span id=\"count\" role=\"status\"></span></form>{left_out}\n\
         <table><thead><tr><th>second</th><th>where</th><th>kind</th><th class=\"wide\">event</th></tr></thead>\
         <tbody id=\"rows\"></tbody></table><p><button id=\"more\" type=\"button\">Show more</button></p>\n\
         <div id=\"tip\"></div><script type=\"application/json\" id=\"data\">{data}</script>\
         <script>{js}</script></body></html>\n",
        summary(schedule, outcome),
        verdict(&chart, outcome),
        chart.svg(),
        chart::KEY,
        Clients::new(&chart).html(),
        kinds(),
    )
}

/// The choices of the filter, numbered from `first` on.
fn options<'a>(first: usize, names: impl Iterator<Item = &'a str>) -> String {
    let option = |(at, name)| format!("<option value=\"{at}\">{}</option>", escaped(name));
    (first..).zip(names).map(option).collect()
}

/// Name, what it speaks, from when to when its user was there, and what lasted: node (or -1), from, to and
/// what.
fn clients_of(traced: &Traced) -> Value {
    let clients = traced.clients.iter();
    let clients = clients.map(|client| {
        let spans = client.spans.iter();
        let spans = spans.map(|span| {
            let node = span.node.map_or(-1, |node| node as i64);
            (node, span.from, span.to, &span.what)
        });
        json!([
            client.name,
            client.speaks,
            client.came,
            client.went,
            spans.collect::<Vec<_>>()
        ])
    });
    clients.collect()
}

/// Time, place (or -1), kind and text of each event that finds room, with the node of a client (or -1), and
/// how many do not. Places are those of the nodes, and after them those of the clients.
fn listed(schedule: &Schedule, traced: &Traced, mut room: usize) -> (Vec<Value>, usize) {
    let size = |text: &str| text.len().min(EVENT_CHARS) + 40;
    // What was written by when is for comparing runs.
    let lines = traced
        .lines
        .iter()
        .filter(|line| line.kind != Kind::Written);
    let lines: Vec<&Line> = lines.collect();
    let mut kept = vec![false; lines.len()];
    for messages in [false, true] {
        for (at, line) in lines.iter().enumerate() {
            if (line.mark() == Mark::Message) == messages && size(&line.text) <= room {
                room -= size(&line.text);
                kept[at] = true;
            }
        }
    }
    let nodes = schedule.nodes.iter().map(|node| node.name.as_str());
    let places: BTreeMap<&str, i64> = nodes.zip(0..).collect();
    let after = schedule.nodes.len() as i64;
    let clients = traced.clients.iter().map(|client| &*client.name);
    let clients: BTreeMap<&str, i64> = clients.zip(after..).collect();
    let place = |places: &BTreeMap<&str, i64>, name: Option<&str>| {
        name.and_then(|name| places.get(name).copied())
            .unwrap_or(-1)
    };
    let all = lines.len();
    let lines = lines.into_iter().zip(kept).filter(|(_, kept)| *kept);
    let lines: Vec<_> = lines
        .map(|(line, _)| {
            let (name, other) = (line.node.as_deref(), line.other.as_deref());
            let (at, node) = match line.is_of_client() {
                true => (place(&clients, name), place(&places, other)),
                false => (place(&places, name), -1),
            };
            let text: String = line.text.chars().take(EVENT_CHARS).collect();
            json!([line.at, at, line.mark().name(), text, node])
        })
        .collect();
    let left_out = all - lines.len();
    (lines, left_out)
}

fn summary(schedule: &Schedule, outcome: &Outcome) -> String {
    let settings = &schedule.settings;
    format!(
        "{} nodes, {:.1} s, {} events, {} messages. A period is {} ms, down after {:.1} s of silence, \
         permdown after {:.1} s. Seed {}.",
        schedule.nodes.len(),
        outcome.simulated.as_secs_f64(),
        outcome.events,
        outcome.traffic.total(),
        settings.broadcast_period,
        settings.down_period as f64 / 1000.0,
        settings.permdown_period as f64 / 1000.0,
        schedule.seed,
    )
}

fn verdict(chart: &Chart<'_>, outcome: &Outcome) -> String {
    if let Some(failure) = &outcome.failure {
        let sentence = escaped(failure.invariant.sentence());
        let told = escaped(&failure.to_string());
        return format!(
            "<div class=\"verdict bad\" role=\"alert\"><strong>An invariant broke: {sentence}.</strong>\
             <pre>{told}</pre></div>"
        );
    }
    let mut text = "<div class=\"verdict\"><strong>All invariants held.</strong>".to_owned();
    if let (Some(healed), Some(after)) = (chart.healed, outcome.converged_after) {
        let healed = healed as f64 / 1e6;
        let after = after.as_secs_f64();
        let _ = write!(
            text,
            " Faults ended at {healed:.1} s; all agreed {after:.2} s later."
        );
    }
    text.push_str("</div>");
    text
}

fn kinds() -> String {
    let kinds = [
        Mark::Happening,
        Mark::Operation,
        Mark::Diff,
        Mark::Message,
        Mark::Up,
        Mark::Down,
        Mark::Forgotten,
        Mark::Client,
    ];
    let option = |kind: Mark| format!("<option>{}</option>", kind.name());
    kinds.into_iter().map(option).collect()
}

/// Text that may stand in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
