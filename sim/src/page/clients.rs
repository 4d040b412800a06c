//! The clients below the nodes: a thin row for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::chart::{AXIS, Chart, RIGHT, WIDTH};
use super::escaped;
use crate::trace::{Client, Line, Mark, Span};

/// The height of a row.
const ROW: f64 = 13.0;
/// What all rows may take, in bytes: a client that finds no room is named in the list of events only.
const BYTES: usize = 250_000;
/// So few clients are all shown; of more, those without incident are folded away.
const FEW: usize = 24;
/// Within how many microseconds a client should be connected.
const SOON: u64 = 1_000_000;
/// How many colours there are.
const COLOURS: usize = 8;

/// The rows, drawn.
pub(super) struct Clients<'a> {
    chart: &'a Chart<'a>,
    rows: Vec<Row<'a>>,
}

struct Row<'a> {
    client: &'a Client,
    /// Its place among all clients.
    place: usize,
    /// What its user did, by place on the drawing, in halves of a unit.
    ticks: BTreeSet<u64>,
    is_failing: bool,
}

impl<'a> Clients<'a> {
    pub(super) fn new(chart: &'a Chart<'a>) -> Self {
        let failing = chart.outcome.failure.as_ref();
        let failing = failing.and_then(|failure| failure.client.as_deref());
        let mut ticks: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        let users = |line: &&Line| line.is_of_client() && line.mark() == Mark::Operation;
        for line in chart.traced.lines.iter().filter(users) {
            if let Some(name) = line.node.as_deref().filter(|_| line.at <= chart.end) {
                let ticks = ticks.entry(name).or_default();
                ticks.insert((chart.x(line.at) * 2.0) as u64);
            }
        }
        let clients = chart.traced.clients.iter().enumerate();
        let mut rows: Vec<Row<'_>> = clients
            .map(|(place, client)| Row {
                client,
                place,
                ticks: ticks.remove(&*client.name).unwrap_or_default(),
                is_failing: failing == Some(&*client.name),
            })
            .collect();
        rows.sort_by_key(|row| !row.is_failing);
        Self { chart, rows }
    }

    /// The class that has the colour of a node.
    pub(super) fn colour(node: usize) -> String {
        format!("c{}", node % COLOURS)
    }

    /// Nothing, where there are no clients.
    pub(super) fn html(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let few = self.rows.len() <= FEW;
        let (shown, folded): (Vec<_>, Vec<_>) = self
            .rows
            .iter()
            .partition(|row| few || row.has_incident(self.chart.end));
        let mut html = String::from("<div class=\"chart\" id=\"clients\">");
        let mut room = BYTES;
        let count = self.rows.len();
        let title = match (shown.len(), folded.len()) {
            (_, 0) => clients(count),
            (0, _) => String::new(),
            (shown, _) => format!(
                "{shown} of {}: moved, cut off, slow, disconnected, or concerned by a failure",
                clients(count)
            ),
        };
        self.draw(&mut html, &shown, &title, true, &mut room);
        let title = format!("{} without incident", clients(folded.len()));
        self.draw(&mut html, &folded, &title, false, &mut room);
        html.push_str(KEY);
        html.push_str("</div>");
        html
    }

    fn draw(
        &self,
        html: &mut String,
        rows: &[&Row<'_>],
        title: &str,
        is_open: bool,
        room: &mut usize,
    ) {
        if rows.is_empty() {
            return;
        }
        let mut drawn = String::new();
        let mut count = 0;
        for row in rows {
            let mut text = String::new();
            self.draw_row(&mut text, row, AXIS + 2.0 + count as f64 * ROW);
            if text.len() > *room {
                break;
            }
            *room -= text.len();
            count += 1;
            drawn.push_str(&text);
        }
        let left_out = match rows.len() - count {
            0 => String::new(),
            more => format!("; {more} are not drawn, for the size of the page"),
        };
        let open = if is_open { " open" } else { "" };
        let bottom = AXIS + 2.0 + count as f64 * ROW;
        let _ = write!(
            html,
            "<details{open}><summary>{title}{left_out}</summary>\
             <svg class=\"lanes\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}: when each was \
             connected, and to which node\">",
            bottom + 4.0,
            clients(count),
        );
        self.chart.axis(html, bottom);
        html.push_str(&drawn);
        self.chart.moments(html, bottom);
        self.chart.cursor(html, bottom);
        html.push_str("</svg></details>");
    }

    fn draw_row(&self, svg: &mut String, row: &Row<'_>, top: f64) {
        let (client, chart) = (row.client, self.chart);
        let (name, middle, base) = (escaped(&client.name), top + ROW / 2.0, top + ROW - 3.0);
        let class = if row.is_failing {
            "client at-fault"
        } else {
            "client"
        };
        let _ = write!(
            svg,
            "<g class=\"{class}\" data-client=\"{}\"><rect class=\"row\" x=\"0\" y=\"{top}\" \
             width=\"{WIDTH}\" height=\"{ROW}\"/><text class=\"who\" x=\"8\" y=\"{base}\">{name}</text>",
            row.place
        );
        // Wherever the line shows, its user is there, and it is not connected.
        let went = client.went.unwrap_or(chart.end).min(chart.end);
        if client.came < went {
            let (from, to) = (chart.x(client.came), chart.x(went));
            let _ = write!(
                svg,
                "<path class=\"wants\" d=\"M{from:.1} {middle}H{to:.1}\"/>"
            );
        }
        let mut labels = String::new();
        for span in client.spans.iter().filter(|span| span.from <= chart.end) {
            let (x, width) = self.extent(span);
            let (class, top, height) = match span.node {
                Some(node) => (Self::colour(node), top + 1.5, ROW - 3.0),
                None => (span.what.replace(' ', "-"), top + 1.5, 4.0),
            };
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\"/>"
            );
            if let Some(node) = span.node.filter(|_| width > 26.0) {
                let (x, node) = (x + 4.0, escaped(&chart.schedule.nodes[node].name));
                let _ = write!(
                    labels,
                    "<text class=\"whither\" x=\"{x:.1}\" y=\"{base}\">{node}</text>"
                );
            }
        }
        if !row.ticks.is_empty() {
            let mut path = String::new();
            for &x in &row.ticks {
                let _ = write!(path, "M{:.1} {}v4", x as f64 / 2.0, top + ROW - 5.0);
            }
            let _ = write!(svg, "<path class=\"did\" d=\"{path}\"/>");
        }
        svg.push_str(&labels);
        if let Some(failure) = chart.outcome.failure.as_ref().filter(|_| row.is_failing) {
            let x = chart.x(failure.at.as_micros() as u64);
            let _ = write!(
                svg,
                "<path class=\"broke\" d=\"M{:.1} {:.1}l7 7m0 -7l-7 7\"/>",
                x - 3.5,
                middle - 3.5
            );
        }
        svg.push_str("</g>");
    }

    /// From where on a span is drawn, and how wide.
    fn extent(&self, span: &Span) -> (f64, f64) {
        let x = self.chart.x(span.from);
        let to = self.chart.x(span.to.unwrap_or(u64::MAX));
        let least = if span.what == "reset" { 2.5 } else { 1.0 };
        (x.min(RIGHT - least), (to - x).max(least))
    }
}

impl Row<'_> {
    /// Whether anything became of it but that its user came and went.
    fn has_incident(&self, end: u64) -> bool {
        let mut connections = self.client.spans.iter().filter(|span| span.node.is_some());
        let lost = |span: &Span| {
            let went = self.client.went.unwrap_or(u64::MAX);
            span.to.is_some_and(|to| to < went)
        };
        let befallen = self.client.spans.iter().any(|span| span.node.is_none());
        let is_well = match connections.next() {
            Some(first) => !lost(first) && connections.next().is_none(),
            // Its user, or the run, did not wait for it.
            None => {
                self.client
                    .went
                    .unwrap_or(end)
                    .saturating_sub(self.client.came)
                    < SOON
            }
        };
        self.is_failing || befallen || !is_well
    }
}

fn clients(count: usize) -> String {
    match count {
        1 => "1 client".into(),
        count => format!("{count} clients"),
    }
}

const KEY: &str = "<div class=\"key\">\
    <span><i class=\"c0\"></i><i class=\"c1\"></i><i class=\"c2\"></i>connected to the node of that colour</span>\
    <span><b></b>wants to be, and is not</span>\
    <span><i style=\"background:var(--pause)\"></i>cut off</span>\
    <span><i style=\"background:var(--missing)\"></i>reads slowly</span>\
    <span><i style=\"background:var(--extra)\"></i>connection reset</span>\
    <span>ticks: what its user did</span><span>a click on a row lists its events</span></div>";
