//! The drawing: lanes, faults, and how far each view was from the truth.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::clients::Clients;
use super::escaped;
use crate::outcome::Outcome;
use crate::schedule::Schedule;
use crate::trace::{Difference, Mark, Span, Traced};

pub(super) const WIDTH: f64 = 1320.0;
pub(super) const LEFT: f64 = 70.0;
pub(super) const RIGHT: f64 = 1300.0;
pub(super) const AXIS: f64 = 20.0;
const FAULT: f64 = 16.0;
/// More rows of faults than these share the last.
const FAULT_ROWS: usize = 12;

pub(super) const KEY: &str = "<div class=\"key\">\
    <span><i style=\"background:var(--life)\"></i>a life of the node</span>\
    <span><i style=\"background:var(--extra)\"></i>listed, and not there (above the line)</span>\
    <span><i style=\"background:var(--missing)\"></i>there, and not listed (below the line)</span>\
    <span><i style=\"background:var(--fault)\"></i>fault of the network</span>\
    <span><i style=\"background:var(--pause)\"></i>paused</span>\
    <span><i style=\"background:var(--missing);opacity:.4\"></i>slow</span>\
    <span>▲ finds a replica up</span><span>▼ finds one down</span><span>◆ forgets one</span>\
    <span>ticks: operations</span><span>heights grow with the square root</span></div>";

/// What is drawn.
pub(super) struct Chart<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) traced: &'a Traced,
    pub(super) outcome: &'a Outcome,
    /// Up to where, in microseconds: what follows is idle, and folded.
    pub(super) end: u64,
    /// When all faults ended.
    pub(super) healed: Option<u64>,
    agreed: Option<u64>,
    lane: f64,
    rows: Vec<(usize, &'a Span)>,
}

impl<'a> Chart<'a> {
    pub(super) fn new(schedule: &'a Schedule, traced: &'a Traced, outcome: &'a Outcome) -> Self {
        let healed = traced
            .lines
            .iter()
            .find(|line| line.text == "all faults end");
        let healed = healed.map(|line| line.at);
        let after = outcome
            .converged_after
            .map(|after| after.as_micros() as u64);
        let agreed = healed.zip(after).map(|(healed, after)| healed + after);
        let simulated = outcome.simulated.as_micros() as u64;
        let end = match &outcome.failure {
            Some(_) => simulated,
            None => {
                let last = traced
                    .differences
                    .last()
                    .map_or(0, |difference| difference.at);
                let last = last
                    .max(agreed.unwrap_or(0))
                    .max(healed.unwrap_or(simulated));
                (last + last / 20).min(simulated)
            }
        };
        Self {
            schedule,
            traced,
            outcome,
            end: end.max(1),
            healed,
            agreed,
            lane: if schedule.nodes.len() > 5 { 66.0 } else { 84.0 },
            rows: packed(traced),
        }
    }

    /// By node: when its difference changed, how many it missed then and how many it had too many.
    pub(super) fn views(&self) -> Vec<Vec<(u64, usize, usize)>> {
        let of = |node| {
            self.differences(node)
                .map(|d| (d.at, d.missing, d.extra))
                .collect()
        };
        (0..self.schedule.nodes.len()).map(of).collect()
    }

    /// By node: from when to when it lived.
    pub(super) fn lives(&self) -> Vec<Vec<(u64, u64)>> {
        let of = |node| {
            self.spans(node, "life")
                .map(|span| self.range(span))
                .collect()
        };
        (0..self.schedule.nodes.len()).map(of).collect()
    }

    pub(super) fn faults(&self) -> Vec<(u64, u64, &str)> {
        let faults = self.rows.iter().map(|(_, span)| span);
        faults
            .map(|span| {
                let (from, to) = self.range(span);
                (from, to, span.what.as_str())
            })
            .collect()
    }

    pub(super) fn svg(&self) -> String {
        let (nodes, height) = (self.schedule.nodes.len(), self.bottom() + 8.0);
        let mut svg = format!(
            "<svg class=\"lanes\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"{nodes} nodes over {:.1} seconds: lives, faults, and by how much each list \
             differs from the truth\">",
            self.end as f64 / 1e6
        );
        self.axis(&mut svg, self.bottom());
        self.draw_faults(&mut svg);
        for node in 0..nodes {
            self.draw_lane(&mut svg, node);
        }
        self.moments(&mut svg, self.bottom());
        self.label_moments(&mut svg);
        self.cursor(&mut svg, self.bottom());
        svg.push_str("</svg>");
        svg
    }

    /// The line that follows the pointer.
    pub(super) fn cursor(&self, svg: &mut String, bottom: f64) {
        let _ = write!(
            svg,
            "<line class=\"cursor\" y1=\"{AXIS}\" y2=\"{bottom}\" x1=\"0\" x2=\"0\" visibility=\"hidden\"/>"
        );
    }

    pub(super) fn axis(&self, svg: &mut String, bottom: f64) {
        let seconds = self.end as f64 / 1e6;
        let rough = seconds / 10.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
        let step = step
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let mut at = 0.0;
        while at <= seconds {
            let x = self.x((at * 1e6) as u64);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{AXIS}\" y2=\"{bottom}\"/>\
                 <text class=\"soft\" x=\"{x:.1}\" y=\"13\" text-anchor=\"middle\">{at} s</text>"
            );
            at += step;
        }
    }

    fn draw_faults(&self, svg: &mut String) {
        for (row, span) in &self.rows {
            let (from, to) = self.range(span);
            let (x, width) = (self.x(from), (self.x(to) - self.x(from)).max(1.5));
            let y = AXIS + 6.0 + *row as f64 * FAULT;
            let what = escaped(&span.what);
            let (start, end) = (from as f64 / 1e6, to as f64 / 1e6);
            let _ = write!(
                svg,
                "<g><title>{what}, {start:.1} s to {end:.1} s</title>\
                 <rect class=\"fault\" x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"13\" rx=\"3\"/>"
            );
            let fits = (width / 5.6) as usize;
            if fits > 5 {
                let label: String = if span.what.chars().count() > fits {
                    span.what.chars().take(fits - 1).chain(['…']).collect()
                } else {
                    span.what.clone()
                };
                let (x, y, label) = (x + 5.0, y + 10.0, escaped(&label));
                let _ = write!(
                    svg,
                    "<text class=\"faulttext\" x=\"{x:.1}\" y=\"{y}\">{label}</text>"
                );
            }
            for &node in &span.nodes {
                let (top, height) = (self.top(node), self.lane - 6.0);
                let _ = write!(
                    svg,
                    "<rect class=\"band\" x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\"/>"
                );
            }
            svg.push_str("</g>");
        }
    }

    fn draw_lane(&self, svg: &mut String, node: usize) {
        let (top, name) = (self.top(node), &self.schedule.nodes[node].name);
        let zero = self.zero(node);
        let (mid, escaped_name) = (zero + 4.0, escaped(name));
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"8\" y=\"{mid}\">{escaped_name}</text>\
             <line class=\"zero\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{zero}\" y2=\"{zero}\"/>"
        );
        if !self.traced.clients.is_empty() {
            // The colour that clients have there.
            let (y, class) = (zero + 10.0, Clients::colour(node));
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"8\" y=\"{y}\" width=\"26\" height=\"5\" rx=\"2\"/>"
            );
        }
        if self
            .outcome
            .failure
            .as_ref()
            .is_some_and(|failure| failure.node == *name)
        {
            let (width, height) = (RIGHT - LEFT, self.lane - 6.0);
            let _ = write!(
                svg,
                "<rect class=\"at\" x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"/>"
            );
        }
        self.draw_away(svg, node);
        for (number, span) in self.spans(node, "life").enumerate() {
            let (from, to) = self.range(span);
            let (x, width) = (self.x(from), (self.x(to) - self.x(from)).max(1.5));
            let born = self.traced.lines.iter().find(|line| {
                line.at == span.from
                    && line.node.as_deref() == Some(name)
                    && line.text.starts_with("starts as")
            });
            let number = number + 1;
            let label = match born.and_then(|line| line.text.split('#').nth(1)) {
                Some(incarnation) => format!("life {number} #{incarnation}"),
                None => format!("life {number}"),
            };
            let _ = write!(
                svg,
                "<g><title>{label}</title><rect class=\"life\" x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" \
                 height=\"12\" rx=\"3\"/>"
            );
            let short = format!("{number}");
            let shown = if width > 120.0 { &label } else { &short };
            if width > 14.0 {
                let (x, y) = (x + 5.0, top + 9.5);
                let _ = write!(
                    svg,
                    "<text class=\"lifetext\" x=\"{x:.1}\" y=\"{y}\">{shown}</text>"
                );
            }
            svg.push_str("</g>");
        }
        for class in ["paused", "slow"] {
            for span in self.spans(node, class) {
                let (from, to) = self.range(span);
                // It ends with the life at the latest.
                let mut lives = self.spans(node, "life").map(|life| self.range(life));
                let life = lives.find(|life| (life.0..life.1).contains(&from));
                let to = life.map_or(to, |life| to.min(life.1));
                let (x, width) = (self.x(from), (self.x(to) - self.x(from)).max(1.5));
                let (top, height) = (top + 13.0, self.lane - 19.0);
                let _ = write!(
                    svg,
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" \
                     height=\"{height}\"><title>{class}</title></rect>"
                );
            }
        }
        self.draw_view(svg, node);
        self.draw_events(svg, node);
    }

    /// The times at which a node does not run.
    fn draw_away(&self, svg: &mut String, node: usize) {
        let mut last = 0;
        let mut away = Vec::new();
        for span in self.spans(node, "life") {
            let (from, to) = self.range(span);
            away.push((last, from));
            last = to;
        }
        away.push((last, self.end));
        for (from, to) in away.into_iter().filter(|(from, to)| from < to) {
            let (x, width) = (self.x(from), self.x(to) - self.x(from));
            let (top, height) = (self.top(node), self.lane - 6.0);
            let _ = write!(
                svg,
                "<rect class=\"off\" x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\">\
                 <title>does not run</title></rect>"
            );
        }
    }

    fn draw_view(&self, svg: &mut String, node: usize) {
        let most = self
            .traced
            .differences
            .iter()
            .map(|d| d.missing.max(d.extra))
            .max();
        let most = (most.unwrap_or(0).max(4) as f64).sqrt();
        let half = (self.lane - 38.0) / 2.0;
        let lives = self.lives().swap_remove(node);
        for (class, sign) in [("extra", -1.0), ("missing", 1.0)] {
            let mut path = String::new();
            for &(born, died) in &lives {
                let zero = self.zero(node);
                let _ = write!(path, "M{:.1} {zero}", self.x(born));
                let within = |d: &&Difference| (born..died).contains(&d.at);
                for difference in self.differences(node).filter(within) {
                    let count = if sign < 0.0 {
                        difference.extra
                    } else {
                        difference.missing
                    };
                    let y = zero + sign * half * (count as f64).sqrt() / most;
                    let _ = write!(path, "H{:.1}V{y:.1}", self.x(difference.at));
                }
                let _ = write!(path, "H{:.1}V{zero}Z", self.x(died));
            }
            let _ = write!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }

    /// Operations as ticks, and what became of replicas.
    fn draw_events(&self, svg: &mut String, node: usize) {
        let name = &self.schedule.nodes[node].name;
        let base = self.top(node) + self.lane - 8.0;
        let mut ticks = BTreeSet::new();
        let mut marks = BTreeSet::new();
        for line in &self.traced.lines {
            if line.node.as_deref() != Some(name) || line.at > self.end {
                continue;
            }
            let x = self.x(line.at);
            match line.mark() {
                // What falls into one place is drawn once.
                Mark::Operation => drop(ticks.insert((x * 2.0) as u64)),
                Mark::Up | Mark::Down | Mark::Forgotten => {
                    // Side by side, since a replica is often found down, forgotten and replaced at once.
                    let (beside, y, shape) = match line.mark() {
                        Mark::Up => (5.0, base - 3.0, "l3.5 6h-7z"),
                        Mark::Down => (-5.0, base + 3.0, "l3.5 -6h-7z"),
                        _ => (0.0, base - 3.5, "l2.5 3.5l-2.5 3.5l-2.5 -3.5z"),
                    };
                    if !marks.insert(((x * 2.0) as u64, line.text.clone())) {
                        continue;
                    }
                    let (class, text) = (line.mark().name(), escaped(&line.text));
                    let (at, x) = (line.at as f64 / 1e6, x + beside);
                    let _ = write!(
                        svg,
                        "<path class=\"{class}\" d=\"M{x:.1} {y}{shape}\"><title>{at:.3} s {text}</title></path>"
                    );
                }
                Mark::Message | Mark::Diff | Mark::Client | Mark::Happening => {}
            }
        }
        let (from, mut path) = (self.top(node) + 14.0, String::new());
        for x in ticks {
            let _ = write!(path, "M{:.1} {from}v4", x as f64 / 2.0);
        }
        let _ = write!(svg, "<path class=\"op\" d=\"{path}\"/>");
    }

    /// When faults ended, when all agreed and where it failed: class, time, and words for it.
    fn marked(&self) -> Vec<(&'static str, u64, String)> {
        let mut marked = Vec::new();
        if let Some(healed) = self.healed {
            marked.push(("heal", healed, "faults end".into()));
        }
        if let Some(agreed) = self.agreed.filter(|_| self.outcome.failure.is_none()) {
            marked.push(("agree", agreed, "all agree".into()));
        }
        if let Some(failure) = &self.outcome.failure {
            let at = failure.at.as_micros() as u64;
            let label = format!("{:?} on {}", failure.invariant, escaped(&failure.node));
            marked.push(("fail", at, label));
        }
        marked
    }

    /// A line for each of these moments.
    pub(super) fn moments(&self, svg: &mut String, bottom: f64) {
        for (class, at, _) in self.marked() {
            let x = self.x(at);
            let _ = write!(
                svg,
                "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{AXIS}\" y2=\"{bottom}\"/>"
            );
        }
    }

    /// What they are, and what is folded.
    fn label_moments(&self, svg: &mut String) {
        let bottom = self.bottom();
        for (class, at, label) in self.marked() {
            let x = self.x(at);
            let (anchor, beside) = if x > RIGHT - 120.0 {
                ("end", x - 4.0)
            } else {
                ("start", x + 4.0)
            };
            let (text, y) = match class {
                "heal" => ("oktext", bottom - 14.0),
                "agree" => ("oktext", bottom - 1.0),
                _ => ("failtext", bottom - 1.0),
            };
            let _ = write!(
                svg,
                "<text class=\"{text}\" x=\"{beside:.1}\" y=\"{y}\" text-anchor=\"{anchor}\">{label}</text>"
            );
        }
        let simulated = self.outcome.simulated.as_micros() as u64;
        if simulated > self.end + 1_000_000 {
            let more = (simulated - self.end) / 1_000_000;
            let _ = write!(
                svg,
                "<text class=\"soft\" x=\"{LEFT}\" y=\"{}\">then {more} s without a difference, folded</text>",
                bottom - 1.0
            );
        }
    }

    fn differences(&self, node: usize) -> impl Iterator<Item = &Difference> {
        let (differences, end) = (self.traced.differences.iter(), self.end);
        differences.filter(move |d| d.node == node && d.at <= end)
    }

    fn spans(&self, node: usize, what: &'static str) -> impl Iterator<Item = &'a Span> {
        let (spans, end) = (self.traced.spans.iter(), self.end);
        spans.filter(move |span| span.node == Some(node) && span.what == what && span.from < end)
    }

    fn range(&self, span: &Span) -> (u64, u64) {
        // A fault of the network ends with all others.
        let healed = self
            .healed
            .filter(|_| span.node.is_none() || span.what == "slow");
        let to = span.to.unwrap_or(self.end).min(healed.unwrap_or(self.end));
        (span.from, to.min(self.end))
    }

    pub(super) fn x(&self, at: u64) -> f64 {
        LEFT + (RIGHT - LEFT) * at.min(self.end) as f64 / self.end as f64
    }

    fn top(&self, node: usize) -> f64 {
        let rows = self.rows.iter().map(|(row, _)| row + 1).max().unwrap_or(0);
        AXIS + 12.0 + rows as f64 * FAULT + node as f64 * self.lane
    }

    fn zero(&self, node: usize) -> f64 {
        self.top(node) + 20.0 + (self.lane - 38.0) / 2.0
    }

    fn bottom(&self) -> f64 {
        self.top(self.schedule.nodes.len()) + 26.0
    }
}

/// The faults of the network, each in the first row that is free.
fn packed(traced: &Traced) -> Vec<(usize, &Span)> {
    let mut free: Vec<u64> = Vec::new();
    let faults = traced.spans.iter().filter(|span| span.node.is_none());
    faults
        .map(|span| {
            let row = free.iter().position(|&from| from <= span.from);
            let row = row.unwrap_or(free.len()).min(FAULT_ROWS - 1);
            if row == free.len() {
                free.push(0);
            }
            free[row] = free[row].max(span.to.unwrap_or(u64::MAX));
            (row, span)
        })
        .collect()
}
