//! What is expected: what was recorded, except where the recordings' page says otherwise.
//!
//! Where a node was killed, others may notice sooner than those of the reference did. From the kill on,
//! a node may report the leaves of the dead one's presences to a client in an earlier step than was
//! recorded. It then reports all of them there, its lists are without them from then on, and the later
//! step has none. What is expected of the clients of such a node is recomputed from the recording, and
//! compared as strictly as anything else.
//!
//! And a leave that a client was told of must not be told again, though the reference does so where the
//! leave comes through another node while the replica is down (in `one-link-cut`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::case::{Bulk, Case, Deed, Step};
use super::received::{Metas, Received, ref_of};
use crate::exchange::action::Action;

/// What is expected of each step, given who has noticed which kill.
#[derive(Clone)]
pub(super) struct Expected<'a> {
    case: &'a Case,
    /// Where the presence that a placeholder stands for was tracked.
    origins: BTreeMap<String, Origin>,
    /// The node of each client.
    homes: BTreeMap<String, String>,
    /// The lives that were ended by a kill.
    dead: Vec<Dead>,
    /// What each client lists, by client and topic.
    lists: BTreeMap<(String, String), Metas>,
    /// The refs of which each client was told that they left, by client and topic.
    gone: BTreeMap<(String, String), BTreeSet<String>>,
}

#[derive(Clone)]
struct Origin {
    node: String,
    step: usize,
}

/// A life that was ended by a kill.
#[derive(Clone)]
struct Dead {
    node: String,
    refs: BTreeSet<String>,
    /// The nodes that noticed sooner.
    noticed_by: BTreeSet<String>,
}

impl<'a> Expected<'a> {
    pub(super) fn of(case: &'a Case) -> Self {
        Self {
            case,
            origins: origins(case),
            homes: BTreeMap::new(),
            dead: Vec::new(),
            lists: BTreeMap::new(),
            gone: BTreeMap::new(),
        }
    }

    /// Begins a step: who is dead by now, and which client is where.
    pub(super) fn begin(&mut self, at: usize) {
        let deed = &self.case.steps[at].deed;
        place(deed, &mut self.homes);
        if let Deed::At(_, Action::Open { client, .. }) = deed {
            self.lists.retain(|(name, _), _| name != client);
            self.gone.retain(|(name, _), _| name != client);
        }
        let Deed::Kill(nodes) = deed else { return };
        for node in nodes {
            let refs = self.origins.iter();
            let refs = refs.filter(|(_, origin)| origin.node == *node && origin.step < at);
            self.dead.push(Dead {
                node: node.clone(),
                refs: refs.map(|(name, _)| name.clone()).collect(),
                noticed_by: BTreeSet::new(),
            });
        }
    }

    /// What every client is to receive in a step.
    pub(super) fn at(&self, at: usize) -> BTreeMap<String, Received> {
        let mut expected = self.case.steps[at].then.clone();
        for ((client, topic), gone) in &self.gone {
            if let Some(received) = expected.get_mut(client)
                && let Some(presence) = received.presence.get_mut(topic)
            {
                presence.leaves.remove_refs(gone);
                received
                    .presence
                    .retain(|_, presence| !presence.is_nothing());
            }
        }
        for (client, home) in &self.homes {
            let refs = self.refs_noticed(at, client, home);
            if !refs.is_empty() {
                let received = expected.entry(client.clone()).or_default();
                self.without(client, &refs, received);
            }
        }
        expected
    }

    /// Adds what a client should list in the topics that it was told of, where nothing was recorded.
    pub(super) fn complete(&self, client: &str, expected: &mut Received, came: &Received) {
        for topic in came.presence.keys() {
            let presence = expected.presence.entry(topic.clone()).or_default();
            if presence.list.is_none() {
                let list = self.lists.get(&(client.to_owned(), topic.clone()));
                presence.list = list.cloned();
            }
        }
    }

    /// The node of a client.
    pub(super) fn home(&self, client: &str) -> Option<&str> {
        self.homes.get(client).map(String::as_str)
    }

    /// Each way in which the node of a client may have noticed, in this step, more than it had before.
    pub(super) fn ways(&self, at: usize, client: &str) -> Vec<Self> {
        let Some(home) = self.homes.get(client) else {
            return Vec::new();
        };
        let unnoticed = |dead: &Dead| {
            let guests = self.homes.iter().filter(|(_, node)| *node == home);
            let mut movable = guests.map(|(guest, _)| self.movable(at, guest, &dead.refs));
            dead.node != *home
                && !dead.noticed_by.contains(home)
                && movable.any(|it| !it.is_empty())
        };
        let unnoticed: Vec<usize> = (0..self.dead.len())
            .filter(|&dead| unnoticed(&self.dead[dead]))
            .collect();
        // Nobody kills so many nodes that this gets long.
        let ways = 1..1_usize << unnoticed.len().min(8);
        let way = |chosen: usize| {
            let mut way = self.clone();
            for (bit, &dead) in unnoticed.iter().enumerate() {
                if chosen >> bit & 1 == 1 {
                    way.dead[dead].noticed_by.insert(home.clone());
                }
            }
            way
        };
        ways.map(way).collect()
    }

    /// Whether two clients are on one node.
    pub(super) fn are_together(&self, one: &str, other: &str) -> bool {
        self.homes.get(one) == self.homes.get(other)
    }

    /// Ends a step in which what was expected came.
    pub(super) fn end(&mut self, at: usize) {
        for (client, received) in self.at(at) {
            for (topic, presence) in received.presence {
                let view = (client.clone(), topic);
                let gone = self.gone.entry(view.clone()).or_default();
                gone.extend(presence.leaves.refs().map(str::to_owned));
                let here = presence.list.iter().flat_map(Metas::refs);
                for phx_ref in presence.joins.refs().chain(here) {
                    gone.remove(phx_ref);
                }
                if let Some(list) = presence.list {
                    self.lists.insert(view, list);
                }
            }
        }
    }

    /// The refs of which the client's node reports the leaves sooner.
    fn refs_noticed(&self, at: usize, client: &str, home: &str) -> BTreeSet<String> {
        let noticed = self
            .dead
            .iter()
            .filter(|dead| dead.noticed_by.contains(home));
        noticed
            .flat_map(|dead| self.movable(at, client, &dead.refs))
            .collect()
    }

    /// Those of the refs whose leaves were recorded for the client in this step or a later one.
    fn movable(&self, at: usize, client: &str, refs: &BTreeSet<String>) -> BTreeSet<String> {
        let later = self.case.steps[at..].iter();
        let leaves = later
            .filter_map(|step| step.then.get(client))
            .flat_map(|received| received.presence.values())
            .flat_map(|presence| presence.leaves.refs());
        leaves
            .filter(|phx_ref| refs.contains(*phx_ref))
            .map(str::to_owned)
            .collect()
    }

    /// Changes what was recorded to what a node tells that has noticed by the end of the step: those that
    /// the client still lists leave now, and nothing else tells of any.
    fn without(&self, client: &str, refs: &BTreeSet<String>, received: &mut Received) {
        for presence in received.presence.values_mut() {
            presence.joins.remove_refs(refs);
            presence.leaves.remove_refs(refs);
            if let Some(list) = &mut presence.list {
                list.remove_refs(refs);
            }
        }
        for ((_, topic), list) in self.lists.iter().filter(|((name, _), _)| name == client) {
            let mut left = list
                .each()
                .filter(|(_, meta)| is_one_of(meta, refs))
                .peekable();
            if left.peek().is_none() {
                continue;
            }
            let presence = received.presence.entry(topic.clone()).or_default();
            for (key, meta) in left {
                presence.leaves.insert(key, meta);
            }
            if presence.list.is_none() {
                let mut list = list.clone();
                list.remove_refs(refs);
                presence.list = Some(list);
            }
        }
        received
            .presence
            .retain(|_, presence| !presence.is_nothing());
        for frame in &mut received.frames {
            remove_metas(frame, refs);
        }
    }
}

fn is_one_of(meta: &Value, refs: &BTreeSet<String>) -> bool {
    ref_of(meta).is_some_and(|phx_ref| refs.contains(phx_ref))
}

/// Takes metas out of a list in a frame, or of the presence of one key.
fn remove_metas(value: &mut Value, refs: &BTreeSet<String>) {
    let is_emptied = |presence: &mut Value| {
        let Some(metas) = presence.get_mut("metas").and_then(Value::as_array_mut) else {
            return false;
        };
        let count = metas.len();
        metas.retain(|meta| !is_one_of(meta, refs));
        metas.is_empty() && count > 0
    };
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|it| remove_metas(it, refs)),
        Value::Object(members) => {
            // The answer to `get_by_key`, where nobody has the key.
            if let Some(presence) = members.get_mut("presence")
                && is_emptied(presence)
            {
                *presence = Value::Array(Vec::new());
            }
            members.retain(|_, presence| !is_emptied(presence));
            members.values_mut().for_each(|it| remove_metas(it, refs));
        }
        _ => {}
    }
}

/// Notes where a client is from this step on.
fn place(deed: &Deed, homes: &mut BTreeMap<String, String>) {
    if let Deed::At(node, action) = deed
        && let Some(client) = action.client()
    {
        homes.insert(client.to_owned(), node.clone());
    }
}

/// Where each placeholder's presence was tracked: it is first seen in the step that tracks it, on the
/// node of the client that does, unless a process of a node tracked it, which its key tells.
fn origins(case: &Case) -> BTreeMap<String, Origin> {
    let mut origins = BTreeMap::new();
    let mut homes = BTreeMap::new();
    let mut bulks: Vec<(usize, &Bulk)> = Vec::new();
    for (at, step) in case.steps.iter().enumerate() {
        place(&step.deed, &mut homes);
        if let Deed::Bulk(bulk) = &step.deed {
            bulks.push((at, bulk));
        }
        let actor = step.deed.client().and_then(|client| homes.get(client));
        for (key, phx_ref) in refs_of(step) {
            let bulk = bulks.iter().find(|(_, bulk)| bulk.tracks(&key));
            let origin = match (bulk, actor) {
                (Some(&(step, bulk)), _) => (&bulk.node, step),
                (None, Some(node)) => (node, at),
                (None, None) => continue,
            };
            origins.entry(phx_ref).or_insert_with(|| Origin {
                node: origin.0.clone(),
                step: origin.1,
            });
        }
    }
    origins
}

impl Bulk {
    fn tracks(&self, key: &str) -> bool {
        let number = key.strip_prefix(&self.tag);
        let number = number.and_then(|number| number.parse::<u64>().ok());
        number.is_some_and(|number| (1..=self.count).contains(&number))
    }
}

/// The placeholders of presences in what was recorded for a step, each with its key, if that is known.
fn refs_of(step: &Step) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for received in step.then.values() {
        for frame in &received.frames {
            collect_refs(frame, "", &mut found);
        }
        for presence in received.presence.values() {
            let lists = [
                Some(&presence.joins),
                Some(&presence.leaves),
                presence.list.as_ref(),
            ];
            for (key, meta) in lists.into_iter().flatten().flat_map(Metas::each) {
                collect_refs(&meta, &key, &mut found);
            }
        }
    }
    found
}

fn collect_refs(value: &Value, key: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if text.starts_with("$ref:") => {
            found.push((key.to_owned(), text.clone()));
        }
        Value::Array(elements) => elements.iter().for_each(|it| collect_refs(it, key, found)),
        Value::Object(members) => {
            for (name, member) in members {
                let is_of_key = name == "metas" || name.starts_with("phx_ref");
                collect_refs(member, if is_of_key { key } else { name }, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::fixtures;

    use super::*;

    fn case(name: &str) -> Case {
        let name = format!("cluster/{name}.jsonl");
        let text = fixtures::ALL.iter().find(|(known, _)| *known == name);
        Case::parse(text.unwrap().1).unwrap()
    }

    fn step_of(case: &Case, is_it: fn(&Deed) -> bool) -> usize {
        case.steps
            .iter()
            .position(|step| is_it(&step.deed))
            .unwrap()
    }

    /// Passes over the steps before, in which what was recorded came.
    fn at_step(case: &Case, at: usize) -> Expected<'_> {
        let mut expected = Expected::of(case);
        for step in 0..at {
            expected.begin(step);
            expected.end(step);
        }
        expected.begin(at);
        expected
    }

    #[test]
    fn leaves_may_come_in_the_step_of_the_kill_and_then_do_not_come_later() {
        let case = case("restart-before-down");
        let kill = step_of(&case, |deed| matches!(deed, Deed::Kill(_)));
        let start = step_of(&case, |deed| matches!(deed, Deed::Start(_)));
        let recorded = at_step(&case, kill);
        assert_eq!(recorded.at(kill), case.steps[kill].then);
        let ways = recorded.ways(kill, "a");
        assert_eq!(ways.len(), 1);
        let mut sooner = ways[0].clone();

        let presence = &sooner.at(kill)["a"].presence["room:lobby"];
        let later = &case.steps[start].then["a"].presence["room:lobby"];
        assert_eq!(presence, later);
        sooner.end(kill);
        sooner.begin(start);
        assert_eq!(sooner.at(start)["a"], Received::default());
        // Nobody else may notice anything.
        assert!(recorded.ways(kill, "b").is_empty());
        assert!(sooner.ways(start, "a").is_empty());
    }

    #[test]
    fn nothing_moves_without_a_kill_or_past_the_step_that_was_recorded() {
        let case = case("stop-gracefully");
        for at in 0..case.steps.len() {
            assert!(at_step(&case, at).ways(at, "a").is_empty());
        }
        let case = self::case("restart-after-down");
        let kill = step_of(&case, |deed| matches!(deed, Deed::Kill(_)));
        let expected = at_step(&case, kill);
        assert!(
            expected
                .ways(kill, "a")
                .iter()
                .all(|way| way.at(kill) == expected.at(kill))
        );
        assert!(at_step(&case, kill + 1).ways(kill + 1, "a").is_empty());
    }

    #[test]
    fn of_two_killed_nodes_either_may_be_noticed_first() {
        let case = case("kill-two-of-three");
        let kill = step_of(&case, |deed| matches!(deed, Deed::Kill(_)));
        assert_eq!(at_step(&case, kill).ways(kill, "a").len(), 3);
    }

    #[test]
    fn a_leave_that_was_told_is_not_told_again() {
        let case = case("one-link-cut");
        let is_leave = |deed: &Deed| matches!(deed, Deed::Client(Action::Send { client, .. }) if client == "c");
        let leave = case
            .steps
            .iter()
            .rposition(|step| is_leave(&step.deed))
            .unwrap();
        let expected = at_step(&case, leave).at(leave);
        assert_eq!(expected["a"], Received::default());
        for other in ["b", "c"] {
            assert_eq!(expected[other], case.steps[leave].then[other]);
        }
    }

    /// Nothing else in the recordings is read otherwise than it stands there.
    #[test]
    fn what_was_recorded_is_expected() {
        for (name, text) in fixtures::ALL
            .iter()
            .filter(|(name, _)| name.starts_with("cluster/"))
        {
            let case = Case::parse(text).unwrap();
            for at in 0..case.steps.len() {
                let expected = at_step(&case, at).at(at);
                let is_repeated = case.case == "one-link-cut" && at + 2 == case.steps.len();
                assert_eq!(
                    expected == case.steps[at].then,
                    !is_repeated,
                    "{name}, step {at}"
                );
            }
        }
    }

    #[test]
    fn presences_of_processes_are_told_by_their_keys() {
        let case = case("met-with-many");
        let origins = origins(&case);
        let nodes = origins.values().map(|origin| origin.node.as_str());
        let count = |node| nodes.clone().filter(|it| *it == node).count();
        assert_eq!((count("n1"), count("n2")), (60, 60));
    }

    #[test]
    fn metas_are_taken_out_of_answers() {
        let refs = BTreeSet::from(["$ref:1".to_owned()]);
        let mut answer = json!({"response": {
            "presences": {
                "a": {"metas": [{"phx_ref": "$ref:1"}]},
                "b": {"metas": [{"phx_ref": "$ref:1"}, {"phx_ref": "$ref:2"}]},
            },
            "presence": {"metas": [{"phx_ref": "$ref:1"}]},
        }});
        remove_metas(&mut answer, &refs);
        let left = json!({"response": {
            "presences": {"b": {"metas": [{"phx_ref": "$ref:2"}]}},
            "presence": [],
        }});
        assert_eq!(answer, left);
    }
}
