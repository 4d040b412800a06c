//! Reading a cluster case.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::received::Received;
use crate::exchange::action::Action;
use crate::exchange::lines::{Object, Unreadable, head, lines};

/// A recorded exchange of clients with the nodes of a cluster, which fail and heal meanwhile.
#[derive(Clone, Debug)]
pub struct Case {
    /// The case's name.
    pub case: String,
    /// The rule that it shows, in a sentence.
    pub title: String,
    /// Those started before the first step.
    pub(super) nodes: Vec<String>,
    /// Whether they do not know each other at first.
    pub(super) is_apart: bool,
    pub(super) settings: Settings,
    pub(super) steps: Vec<Step>,
}

/// What all nodes of a case are set to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) broadcast_period: Duration,
    pub(super) down_period: Duration,
    pub(super) permdown_period: Duration,
    pub(super) permdown_on_shutdown: bool,
}

/// One step: what the test does, how much time passes, and what every client receives in it.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The line that holds it.
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) deed: Deed,
    pub(super) wait: Duration,
    pub(super) then: BTreeMap<String, Received>,
    pub(super) unordered: Vec<String>,
}

/// What the test does.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// A client does something.
    Client(Action),
    /// The same, with the node that it goes to. A client that is open stays with its node.
    At(String, Action),
    Start(String),
    Kill(Vec<String>),
    Stop(String),
    Cut(Vec<[String; 2]>),
    Heal(Vec<[String; 2]>),
    Meet(Vec<String>),
    Bulk(Bulk),
}

/// Processes of a node that track.
#[derive(Clone, Debug)]
pub(super) struct Bulk {
    pub(super) node: String,
    pub(super) topic: String,
    pub(super) count: u64,
    pub(super) tag: String,
}

impl Deed {
    /// Who does it, if it is a client.
    pub(super) fn client(&self) -> Option<&str> {
        match self {
            Self::At(_, action) | Self::Client(action) => action.client(),
            _ => None,
        }
    }
}

impl Case {
    /// Reads a cluster case.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] names the line.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut lines = lines(text);
        let mut case = head(&mut lines)?.read(Self::read)?;
        let mut nodes = Nodes {
            known: case.nodes.iter().cloned().collect(),
            running: case.nodes.iter().cloned().collect(),
        };
        for line in lines {
            let line = line?;
            let step =
                line.read(|step| Step::read(line.number, step, &case.settings, &mut nodes))?;
            case.steps.push(step);
        }
        Ok(case)
    }

    fn read(head: &Object) -> Result<Self, String> {
        let case = head.text("case")?;
        let title = head.text("title")?;
        if !head.has("nodes") {
            return Err("nodes is missing: a wire transcript, not a cluster case".into());
        }
        let nodes = head.names("nodes")?;
        let different: BTreeSet<_> = nodes.iter().collect();
        if nodes.is_empty() || different.len() < nodes.len() {
            return Err("nodes must be names, each another".into());
        }
        Ok(Self {
            case,
            title,
            nodes,
            is_apart: head.flag("apart")?,
            settings: Settings::read(&head.object("settings")?)?,
            steps: Vec::new(),
        })
    }
}

impl Settings {
    fn read(settings: &Object) -> Result<Self, String> {
        let period = |name: &str| match settings.number(name)? {
            0 => Err(format!("{name} must not be 0")),
            ms => Ok(Duration::from_millis(ms)),
        };
        settings.required("permdown_on_shutdown")?;
        Ok(Self {
            broadcast_period: period("broadcast_period")?,
            down_period: period("down_period")?,
            permdown_period: period("permdown_period")?,
            permdown_on_shutdown: settings.flag("permdown_on_shutdown")?,
        })
    }

    /// How much time a `wait` stands for.
    fn wait(&self, wait: &str) -> Result<Duration, String> {
        let periods = |count| self.broadcast_period * count;
        Ok(match wait {
            "sync" => periods(8),
            "transfer" => periods(14),
            "before-down" => self.down_period / 3,
            "down" => self.down_period + periods(9),
            "permdown" => self.permdown_period + periods(12),
            _ => return Err(format!("wait {wait:?} is unknown")),
        })
    }
}

impl Step {
    fn read(
        line: usize,
        step: &Object,
        settings: &Settings,
        nodes: &mut Nodes,
    ) -> Result<Self, String> {
        let deed = step.object("do")?;
        let then = step.object("then")?;
        let received = then.members().map(|(client, received)| {
            let received = Received::read(received, client)?;
            Ok((client.clone(), received))
        });
        Ok(Self {
            line,
            text: deed.to_text(),
            wait: settings.wait(&step.text("wait")?)?,
            then: received.collect::<Result<_, String>>()?,
            unordered: step.names("unordered")?,
            deed: nodes.deed(&deed)?,
        })
    }
}

/// The nodes as they are at a step.
struct Nodes {
    known: BTreeSet<String>,
    running: BTreeSet<String>,
}

impl Nodes {
    /// Reads what a step does, which must be possible at this step.
    fn deed(&mut self, deed: &Object) -> Result<Deed, String> {
        if deed.has("start") {
            let node = deed.text("start")?;
            if !self.running.insert(node.clone()) {
                return Err(format!("the node {node:?} runs already"));
            }
            self.known.insert(node.clone());
            return Ok(Deed::Start(node));
        }
        if deed.has("kill") {
            let nodes = match deed.required("kill")? {
                serde_json::Value::Array(_) => deed.names("kill")?,
                _ => vec![deed.text("kill")?],
            };
            for node in &nodes {
                self.ended(node)?;
            }
            return Ok(Deed::Kill(nodes));
        }
        if deed.has("stop") {
            let node = deed.text("stop")?;
            self.ended(&node)?;
            return Ok(Deed::Stop(node));
        }
        if deed.has("cut") {
            return Ok(Deed::Cut(self.pairs(deed, "cut")?));
        }
        if deed.has("heal") {
            return Ok(Deed::Heal(self.pairs(deed, "heal")?));
        }
        if deed.has("meet") {
            let nodes = deed.names("meet")?;
            for node in &nodes {
                self.known(node)?;
            }
            return Ok(Deed::Meet(nodes));
        }
        if deed.has("bulk") {
            let bulk = Bulk {
                node: deed.text("bulk")?,
                topic: deed.text("topic")?,
                count: deed.number("count")?,
                tag: deed.text("tag")?,
            };
            self.running(&bulk.node)?;
            return Ok(Deed::Bulk(bulk));
        }
        let action = Action::read(deed)?;
        let goes_to_a_node = matches!(action, Action::Open { .. } | Action::Control(_));
        if goes_to_a_node || deed.has("node") {
            let node = deed.text("node")?;
            self.running(&node)?;
            return Ok(Deed::At(node, action));
        }
        Ok(Deed::Client(action))
    }

    fn pairs(&self, deed: &Object, name: &str) -> Result<Vec<[String; 2]>, String> {
        let value = deed.required(name)?;
        let one = serde_json::from_value(value.clone()).map(|pair| vec![pair]);
        let pairs = one.or_else(|_| serde_json::from_value(value.clone()));
        let pairs: Vec<[String; 2]> =
            pairs.map_err(|_| format!("{name} must be a pair of nodes or an array of pairs"))?;
        for [one, other] in &pairs {
            self.known(one)?;
            self.known(other)?;
            if one == other {
                return Err(format!("{name} must be of two nodes"));
            }
        }
        Ok(pairs)
    }

    fn known(&self, node: &str) -> Result<(), String> {
        match self.known.contains(node) {
            true => Ok(()),
            false => Err(format!("the node {node:?} is unknown")),
        }
    }

    fn running(&self, node: &str) -> Result<(), String> {
        match self.running.contains(node) {
            true => Ok(()),
            false => Err(format!("the node {node:?} does not run")),
        }
    }

    fn ended(&mut self, node: &str) -> Result<(), String> {
        match self.running.remove(node) {
            true => Ok(()),
            false => Err(format!("the node {node:?} does not run")),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures;

    use super::*;

    const HEAD: &str = r#"{"case":"c","title":"t","nodes":["n1","n2"],"settings":{"broadcast_period":100,"down_period":1000,"permdown_period":3000,"permdown_on_shutdown":true}}"#;

    fn step(deed: &str) -> Result<Step, String> {
        let text = format!("{HEAD}\n{{\"do\":{deed},\"wait\":\"sync\",\"then\":{{}}}}");
        let case = Case::parse(&text).map_err(|error| error.to_string())?;
        Ok(case.steps[0].clone())
    }

    #[test]
    fn every_recorded_case_is_read() {
        let cases = fixtures::ALL
            .iter()
            .filter(|(name, _)| name.starts_with("cluster/"));
        for (name, text) in cases {
            let case = Case::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(*name, format!("cluster/{}.jsonl", case.case));
        }
    }

    #[test]
    fn one_or_several_are_read_where_either_may_stand() {
        let pair = || ["n1".to_owned(), "n2".to_owned()];
        for cut in [r#"{"cut":["n1","n2"]}"#, r#"{"cut":[["n1","n2"]]}"#] {
            assert!(matches!(step(cut).unwrap().deed, Deed::Cut(pairs) if pairs == [pair()]));
        }
        let kill = step(r#"{"kill":["n1","n2"]}"#).unwrap().deed;
        assert!(matches!(kill, Deed::Kill(nodes) if nodes == pair()));
        let kill = step(r#"{"kill":"n1"}"#).unwrap().deed;
        assert!(matches!(kill, Deed::Kill(nodes) if nodes == ["n1"]));
    }

    #[test]
    fn waits_are_told_in_periods() {
        let text = |wait| {
            format!("{HEAD}\n{{\"do\":{{\"stop\":\"n1\"}},\"wait\":\"{wait}\",\"then\":{{}}}}")
        };
        let waits = [
            ("sync", 800),
            ("transfer", 1400),
            ("before-down", 333),
            ("down", 1900),
            ("permdown", 4200),
        ];
        for (wait, ms) in waits {
            let case = Case::parse(&text(wait)).unwrap();
            assert_eq!(case.steps[0].wait.as_millis(), ms, "{wait}");
        }
        let error = Case::parse(&text("long")).unwrap_err().to_string();
        assert_eq!(error, "line 2: wait \"long\" is unknown");
    }

    #[test]
    fn what_cant_be_done_is_named() {
        let reasons = [
            (r#"{"jump":"n1"}"#, "do names nothing that can be done"),
            (r#"{"open":"a"}"#, "node is missing"),
            (
                r#"{"open":"a","node":"n3"}"#,
                "the node \"n3\" does not run",
            ),
            (r#"{"ctl":"/ctl/disconnect/1"}"#, "node is missing"),
            (r#"{"start":"n1"}"#, "the node \"n1\" runs already"),
            (r#"{"kill":["n1","n1"]}"#, "the node \"n1\" does not run"),
            (r#"{"stop":["n1"]}"#, "stop must be a string"),
            (
                r#"{"cut":["n1"]}"#,
                "cut must be a pair of nodes or an array of pairs",
            ),
            (r#"{"heal":["n1","n3"]}"#, "the node \"n3\" is unknown"),
            (r#"{"cut":["n1","n1"]}"#, "cut must be of two nodes"),
            (r#"{"meet":["n1","n3"]}"#, "the node \"n3\" is unknown"),
            (r#"{"bulk":"n1","topic":"t","tag":"k"}"#, "count is missing"),
        ];
        for (deed, reason) in reasons {
            assert_eq!(
                step(deed).unwrap_err(),
                format!("line 2: {reason}"),
                "{deed}"
            );
        }
    }

    #[test]
    fn the_head_is_read_whole() {
        let of = |head: &str| Case::parse(head).unwrap_err().to_string();
        assert_eq!(of(""), "line 1: the file is empty");
        let wire = r#"{"case":"c","title":"t"}"#;
        assert!(of(wire).ends_with("a wire transcript, not a cluster case"));
        assert_eq!(
            of(&HEAD.replace("\"n2\"", "\"n1\"")),
            "line 1: nodes must be names, each another"
        );
        assert_eq!(
            of(&HEAD.replace("\"down_period\":1000,", "")),
            "line 1: down_period is missing"
        );
        assert_eq!(
            of(&HEAD.replace("true", "1")),
            "line 1: permdown_on_shutdown must be true or false"
        );
        assert_eq!(
            of(&HEAD.replace("100,", "0,")),
            "line 1: broadcast_period must not be 0"
        );
    }
}
