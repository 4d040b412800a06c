//! Replaying one cluster case.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::case::{Case, Deed, Step};
use super::expected::Expected;
use super::nodes::Nodes;
use super::received::Received;
use super::view::{Views, message_parts, polls_presence};
use crate::exchange::Mismatch;
use crate::exchange::action::{Action, Sent};
use crate::exchange::clients::{Clients, Frames, OwnEnds};
use crate::exchange::matching::Bindings;

/// Replays one case: `None` when all that came was what was recorded.
pub async fn replay(case: &Case) -> Option<Mismatch> {
    let nodes = match Nodes::start(case).await {
        Ok(nodes) => nodes,
        Err(reason) => return Some(Mismatch::broken(1, "the start of the nodes", reason)),
    };
    let (clients, frames) = Clients::new(OwnEnds::Told);
    let mut replay = Replay {
        nodes,
        clients,
        frames,
        views: Views::default(),
        check: Check {
            case,
            expected: Expected::of(case),
            bindings: Bindings::default(),
        },
    };
    let mut mismatch = None;
    for (at, step) in case.steps.iter().enumerate() {
        mismatch = replay.step(at, step).await;
        if mismatch.is_some() {
            break;
        }
    }
    replay.clients.abort().await;
    mismatch
}

struct Replay<'a> {
    nodes: Nodes,
    clients: Clients,
    frames: Frames,
    views: Views,
    check: Check<'a>,
}

impl Replay<'_> {
    async fn step(&mut self, at: usize, step: &Step) -> Option<Mismatch> {
        if let Err(reason) = self.act(&step.deed).await {
            return Some(Mismatch::broken(step.line, &step.text, reason));
        }
        let received = self.receive(step).await;
        let differing = self.check.step(at, &received);
        (!differing.is_empty()).then(|| Mismatch {
            line: step.line,
            doing: step.text.clone(),
            frames: differing,
            broken: None,
        })
    }

    async fn act(&mut self, deed: &Deed) -> Result<(), String> {
        match deed {
            Deed::At(node, action) => {
                let authority = self.nodes.authority(node)?;
                if let Action::Open { client, .. } = action {
                    self.views.opened(client);
                }
                self.client(action, &authority).await?;
            }
            Deed::Client(action) => {
                // A client that is open needs no address, and one that polls is on any node at first.
                let home = action
                    .client()
                    .and_then(|client| self.check.expected.home(client));
                let home = home.or(self.nodes.any());
                let authority = home.and_then(|node| self.nodes.authority(node).ok());
                self.client(action, &authority.unwrap_or_default()).await?;
            }
            Deed::Start(node) => self.nodes.begin(node).await?,
            Deed::Kill(nodes) => self.nodes.kill(nodes).await?,
            Deed::Stop(node) => self.nodes.stop(node).await?,
            Deed::Cut(pairs) => self.nodes.cut(pairs),
            Deed::Heal(pairs) => self.nodes.heal(pairs),
            Deed::Meet(nodes) => self.nodes.meet(nodes),
            Deed::Bulk(bulk) => self.nodes.bulk(bulk).await?,
        }
        Ok(())
    }

    async fn client(&mut self, action: &Action, authority: &str) -> Result<(), String> {
        for (client, topic) in joins(action) {
            self.views.joining(&client, &topic);
        }
        let token = self.check.bindings.token.as_deref();
        self.clients.act(action, authority, token).await
    }

    /// Takes what comes in the time of the step.
    async fn receive(&mut self, step: &Step) -> BTreeMap<String, Received> {
        let mut received: BTreeMap<String, Received> = BTreeMap::new();
        let deadline = Instant::now() + step.wait;
        while let Ok(Some((client, frame))) = timeout_at(deadline, self.frames.recv()).await {
            let came = received.entry(client.clone()).or_default();
            let recorded = step.then.get(&client);
            // Polled presence is folded, unless it was recorded as it came.
            if recorded.is_some_and(|recorded| recorded.frames.iter().any(polls_presence)) {
                came.frames.push(frame);
            } else {
                self.views.take(&client, frame, came);
            }
        }
        for (client, came) in &mut received {
            self.views.finish(client, came);
        }
        received
    }
}

/// The channels that a client asks to join, with its name.
fn joins(action: &Action) -> Vec<(String, String)> {
    let (client, text) = match action {
        Action::Send {
            client,
            what: Sent::Text(text),
        } => (client, text),
        Action::Http { client, request } => (client, &request.body),
        _ => return Vec::new(),
    };
    let joined = text.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let (topic, event, _) = message_parts(&message)?;
        (event == "phx_join").then(|| (client.clone(), topic.to_owned()))
    });
    joined.collect()
}

/// Compares what came with what was recorded.
struct Check<'a> {
    case: &'a Case,
    expected: Expected<'a>,
    bindings: Bindings,
}

/// How a step compares.
struct Compared {
    /// By client: what was expected, and what was received.
    differing: BTreeMap<String, (Vec<Value>, Vec<Value>)>,
    /// What the placeholders stand for, those of this step too.
    bindings: Bindings,
}

impl Check<'_> {
    /// The clients that received something else than what was recorded, and than what they do on a node
    /// that noticed a kill sooner: what was expected, and what came.
    fn step(
        &mut self,
        at: usize,
        received: &BTreeMap<String, Received>,
    ) -> BTreeMap<String, (Vec<Value>, Vec<Value>)> {
        self.expected.begin(at);
        let mut best = self.compare(&self.expected, at, received);
        let clients: Vec<String> = best.differing.keys().cloned().collect();
        for client in clients {
            // Explained by now, with another client of its node.
            if !best.differing.contains_key(&client) {
                continue;
            }
            for way in self.expected.ways(at, &client) {
                let compared = self.compare(&way, at, received);
                let mut others = compared.differing.keys();
                if others.all(|other| !way.are_together(other, &client)) {
                    best = compared;
                    self.expected = way;
                    break;
                }
            }
        }
        if best.differing.is_empty() {
            self.bindings = best.bindings;
            self.expected.end(at);
        }
        best.differing
    }

    fn compare(
        &self,
        expected: &Expected<'_>,
        at: usize,
        received: &BTreeMap<String, Received>,
    ) -> Compared {
        let step = &self.case.steps[at];
        let recorded = expected.at(at);
        // Who acts comes first: its reply tells which ref is new.
        let actor = step.deed.client().into_iter();
        let others = recorded.keys().chain(received.keys()).map(String::as_str);
        let mut compared = BTreeSet::new();
        let mut bindings = self.bindings.clone();
        let mut differing = BTreeMap::new();
        let nothing = Received::default();
        for client in actor
            .chain(others)
            .filter(|client| compared.insert(*client))
        {
            let came = received.get(client).unwrap_or(&nothing);
            let mut wanted = recorded.get(client).cloned().unwrap_or_default();
            expected.complete(client, &mut wanted, came);
            let is_unordered = step.unordered.iter().any(|other| other == client);
            if let Some(difference) = wanted.compare(came, is_unordered, &mut bindings) {
                differing.insert(client.to_owned(), difference);
            }
        }
        Compared {
            differing,
            bindings,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures;

    use super::*;

    /// What is received where all is as recorded, which a test may change.
    type Came = Vec<BTreeMap<String, Received>>;

    /// The number of the first step that differs, if one does, and its clients.
    fn first_differing(
        name: &str,
        change: impl Fn(&Case, &mut Came),
    ) -> Option<(usize, Vec<String>)> {
        let name = format!("cluster/{name}.jsonl");
        let (_, text) = fixtures::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap();
        let case = Case::parse(text).unwrap();
        // A time that came has digits; for refs any text will do.
        let came = Case::parse(&text.replace("$unix", "17")).unwrap();
        let mut came = came.steps.into_iter().map(|step| step.then).collect();
        change(&case, &mut came);
        let mut check = Check {
            case: &case,
            expected: Expected::of(&case),
            bindings: Bindings::default(),
        };
        for (at, came) in came.iter().enumerate() {
            let differing = check.step(at, came);
            if !differing.is_empty() {
                return Some((at, differing.into_keys().collect()));
            }
        }
        None
    }

    fn kill(case: &Case) -> usize {
        let is_kill = |step: &Step| matches!(step.deed, Deed::Kill(_));
        case.steps.iter().position(is_kill).unwrap()
    }

    /// Lets a client be told in the step of the kill what it was told in the one after.
    fn sooner(case: &Case, came: &mut Came, client: &str) {
        let kill = kill(case);
        let leaves = came[kill + 1].remove(client).unwrap();
        came[kill].insert(client.to_owned(), leaves);
    }

    #[test]
    fn what_was_recorded_passes_and_leaves_of_a_killed_node_may_come_sooner() {
        let name = "restart-before-down";
        assert_eq!(first_differing(name, |_, _| {}), None);
        assert_eq!(
            first_differing(name, |case, came| sooner(case, came, "a")),
            None
        );
    }

    #[test]
    fn sooner_is_not_twice_nor_without_the_list() {
        let differing = first_differing("restart-before-down", |case, came| {
            let leaves = came[kill(case) + 1]["a"].clone();
            came[kill(case)].insert("a".into(), leaves);
        });
        assert_eq!(differing, Some((5, vec!["a".into()])));
        let differing = first_differing("restart-before-down", |case, came| {
            sooner(case, came, "a");
            let told = came[kill(case)].get_mut("a").unwrap();
            let told = told.presence.get_mut("room:lobby").unwrap();
            let (key, meta) = told.leaves.each().next().unwrap();
            told.list.as_mut().unwrap().insert(key, meta);
        });
        assert_eq!(differing, Some((4, vec!["a".into()])));
    }

    #[test]
    fn what_was_recorded_in_the_step_of_the_kill_may_not_come_later() {
        let differing = first_differing("kill-node", |case, came| {
            came[kill(case)].remove("c").unwrap();
        });
        assert_eq!(differing, Some((8, vec!["c".into()])));
    }

    #[test]
    fn of_a_stopped_node_nothing_comes_sooner() {
        let differing = first_differing("rolling-restart", |case, came| {
            let is_stop = |step: &Step| matches!(step.deed, Deed::Stop(_));
            let stop = case.steps.iter().position(is_stop).unwrap();
            let leaves = came[stop + 1].remove("a").unwrap();
            came[stop].insert("a".into(), leaves);
        });
        assert_eq!(differing, Some((4, vec!["a".into()])));
    }

    #[test]
    fn what_nobody_recorded_differs() {
        let differing = first_differing("join-across", |_, came| {
            let nothing = came[2]["b"].clone();
            came[2].insert("a".into(), nothing);
        });
        assert_eq!(differing, Some((2, vec!["a".into()])));
    }

    #[test]
    fn joins_are_seen_in_every_serializer_and_in_requests() {
        let joined = |text: &str| {
            let what = Sent::Text(text.to_owned());
            joins(&Action::Send {
                client: "a".into(),
                what,
            })
        };
        let expected = [("a".to_owned(), "t".to_owned())];
        assert_eq!(joined(r#"["1","1","t","phx_join",{}]"#), expected);
        assert_eq!(
            joined(r#"{"topic":"t","event":"phx_join","payload":{},"ref":"1"}"#),
            expected
        );
        assert_eq!(joined(r#"["1","1","t","phx_leave",{}]"#), []);
        assert_eq!(joined("nonsense"), []);
    }
}
