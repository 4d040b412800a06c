//! What clients see, held against what their nodes had and against who is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::client::Said;
use super::super::lists::digest;
use super::super::people::{Client, People};
use super::{Checked, Judge, Owner};
use crate::cluster::Micros;
use crate::coverage::Counted;
use crate::outcome::{Failure, Invariant};
use crate::truth::Number;

/// How old a list that is read may be: what others have told a node is in it soon, and not at once.
const STALE_US: Micros = 1_000_000;

impl Judge<'_> {
    /// A client says what happened to it.
    pub(super) fn said(&mut self, id: usize, said: Said, people: &mut People) -> Checked {
        let client = people.of(id);
        match said {
            Said::Connected { node } => {
                let name = Arc::clone(&self.cluster.nodes[node].name);
                self.log_of(client, || format!("connects to {name}"));
                self.cluster.client_connects(client.name(), node);
                client.connected = self.cluster.life(node).map(|life| (node, life));
                if std::mem::replace(&mut client.has_connected, true) {
                    self.cluster.coverage.count(Counted::Reconnected);
                }
            }
            Said::ConnectFailed { node, why } => {
                let name = &self.cluster.nodes[node].name;
                let what = format!("cannot connect to {name}: {why}");
                self.log_of(client, || what);
            }
            Said::Disconnected { why, .. } => {
                self.log_of(client, || format!("is disconnected: {why}"));
                self.cluster.client_disconnects(client.name());
                client.disconnect();
            }
            Said::Joined { topic } => {
                self.log_of(client, || format!("has joined {topic:?}"));
                if let (Some(life), Some(membership)) =
                    (client.connected, client.topics.get_mut(&*topic))
                {
                    membership.is_joined = true;
                    membership.is_synced = false;
                    // Its node has had this list by now, or a later one.
                    membership.version = self.histories.version_at(
                        life,
                        &topic,
                        self.cluster.now.saturating_sub(STALE_US),
                    );
                }
            }
            Said::JoinFailed { topic, .. }
            | Said::ChannelClosed { topic }
            | Said::ChannelErrored { topic } => {
                self.log_of(client, || format!("has not joined {topic:?}"));
                if let Some(membership) = client.topics.get_mut(&*topic) {
                    membership.is_joined = false;
                }
            }
            Said::List {
                topic,
                numbers,
                joins,
                leaves,
                synced,
                ..
            } => return self.client_list(id, people, &topic, numbers, [&joins, &leaves], synced),
            Said::Heard { topic, number } => {
                self.log_of(client, || format!("hears {number} in {topic:?}"));
                let before = self.heard.insert((number, id), client.connected);
                if before == Some(client.connected) {
                    let what = format!("client {} has heard {number} before", client.name());
                    return Err(self
                        .cluster
                        .failure(Invariant::Broadcasts, client.node(), what));
                }
            }
            Said::Broken { rule } => {
                let node = client.node();
                let what = format!("client {}: {rule}", client.name());
                let failure = self.cluster.failure(Invariant::WireRules, node, what);
                return Err(of_client(client, failure));
            }
            _ => {}
        }
        Ok(())
    }

    /// A client's list is one that its node had, no earlier than the one before.
    fn client_list(
        &mut self,
        id: usize,
        people: &mut People,
        topic: &str,
        numbers: Vec<Number>,
        [joins, leaves]: [&[Number]; 2],
        is_synced: bool,
    ) -> Checked {
        let client = people.of(id);
        self.log_list(client, topic, joins, leaves);
        let name = Arc::clone(client.name());
        let (Some(life), Some(membership)) = (client.connected, client.topics.get_mut(topic))
        else {
            return Ok(());
        };
        if !is_synced {
            return Ok(());
        }
        let seen = digest(&numbers);
        let mut versions = self.histories.since(life, topic, membership.version);
        let found = versions.find(|&(_, digest)| digest == seen);
        membership.is_synced = true;
        membership.list = numbers;
        if let Some((version, _)) = found {
            membership.version = version;
            return Ok(());
        }
        let list = &membership.list;
        let what = format!(
            "client {name} lists {list:?}, which its node has not listed, or not since then"
        );
        let mut failure = self.cluster.failure(Invariant::ClientLists, life.0, what);
        failure.topic = Some(topic.into());
        failure.presence = joins.first().or(leaves.first()).copied();
        Err(of_client(client, failure))
    }

    /// A list that is read on a node is one that it had a moment ago, or has.
    pub(super) fn listed(
        &mut self,
        node: usize,
        topic: &Arc<str>,
        numbers: &[Number],
        asked: Micros,
    ) -> Checked {
        let Some(life) = self.cluster.life(node) else {
            return Ok(());
        };
        let oldest = asked.saturating_sub(STALE_US);
        let oldest = self.histories.version_at((node, life), topic, oldest);
        let seen = digest(numbers);
        let mut versions = self.histories.since((node, life), topic, oldest);
        if versions.any(|(_, digest)| digest == seen) {
            return Ok(());
        }
        let what = format!(
            "a reader was given the list {numbers:?}, which was not its list in the last second"
        );
        let mut failure = self.cluster.failure(Invariant::FreshLists, node, what);
        failure.topic = Some(topic.to_string());
        Err(failure)
    }

    /// Each client that is there is connected, has joined, is tracked, and lists whom its node is to
    /// list; nobody else is tracked.
    pub(super) fn check_clients(&self, people: &People) -> Checked {
        let mut wanted = BTreeSet::new();
        for (id, client) in people.all().iter().enumerate() {
            for (topic, key) in client.wants.iter().filter(|_| client.is_there) {
                let (topic, key) = (Arc::clone(topic), Arc::clone(key));
                wanted.insert(Owner {
                    client: id,
                    topic,
                    key,
                });
            }
        }
        let pools = || self.cluster.nodes.iter().map(|node| node.pool);
        for pool in pools().collect::<BTreeSet<_>>() {
            let nodes: Vec<usize> = pools()
                .enumerate()
                .filter(|n| n.1 == pool)
                .map(|n| n.0)
                .collect();
            let mut alive: BTreeMap<Arc<str>, Vec<Number>> = BTreeMap::new();
            for (topic, number) in nodes.iter().flat_map(|&node| self.cluster.alive(node)) {
                alive.entry(topic).or_default().push(number);
                let owner = self.owners.get(number as usize).and_then(Option::as_ref);
                if !owner.is_some_and(|owner| wanted.remove(owner)) {
                    let node = self
                        .cluster
                        .truth
                        .of(number)
                        .map_or(0, |presence| presence.node);
                    let client = owner.map(|owner| people.all()[owner.client].name());
                    let client = client.cloned().unwrap_or_default();
                    let what =
                        format!("is tracked, and client {client} is gone, or is tracked twice");
                    return Err(self.cluster.failure_of(
                        Invariant::ClientsAreTracked,
                        node,
                        number,
                        what,
                    ));
                }
            }
            for numbers in alive.values_mut() {
                numbers.sort_unstable();
            }
            for client in people.all().iter().filter(|client| client.is_there) {
                if client
                    .connected
                    .is_none_or(|(node, _)| nodes.contains(&node))
                {
                    self.check_client(client, &alive)?;
                }
            }
        }
        let Some(Owner { client, topic, key }) = wanted.first() else {
            return Ok(());
        };
        // Nobody is tracked where no node lives.
        if self.cluster.nodes.iter().all(|node| node.life.is_none()) {
            return Ok(());
        }
        let client = &people.all()[*client];
        let what = format!("client {} is not tracked under {key:?}", client.name());
        let mut failure = self
            .cluster
            .failure(Invariant::ClientsAreTracked, client.node(), what);
        failure.topic = Some(topic.to_string());
        failure.key = Some(key.to_string());
        Err(of_client(client, failure))
    }

    /// All who are in a topic, in the cluster of whoever said it, have heard it.
    pub(in super::super) fn check_heard(
        &self,
        people: &People,
        topic: &Arc<str>,
        speaker: usize,
        number: Number,
    ) -> Checked {
        let pool = |client: &Client| {
            let (node, _) = client.connected?;
            Some(self.cluster.nodes[node].pool)
        };
        let speaks = &people.all()[speaker];
        for (id, client) in people.all().iter().enumerate() {
            let is_in = client.is_there && client.topics.contains_key(topic);
            let is_reached = pool(client).is_some() && pool(client) == pool(speaks);
            if is_in && is_reached && !self.heard.contains_key(&(number, id)) {
                let (name, who) = (client.name(), speaks.name());
                let what =
                    format!("client {name} has not heard {number}, said by {who} in {topic:?}");
                return Err(self
                    .cluster
                    .failure(Invariant::Broadcasts, client.node(), what));
            }
        }
        Ok(())
    }

    fn check_client(&self, client: &Client, alive: &BTreeMap<Arc<str>, Vec<Number>>) -> Checked {
        let broken = |topic: Option<&Arc<str>>, what: String| {
            let what = format!("client {} {what}", client.name());
            let invariant = Invariant::ClientConvergence;
            let mut failure = self.cluster.failure(invariant, client.node(), what);
            failure.topic = topic.map(ToString::to_string);
            of_client(client, failure)
        };
        let lives = self.cluster.nodes.iter().any(|node| node.life.is_some());
        if client.connected.is_none() {
            return match lives {
                true => Err(broken(None, "is not connected".into())),
                false => Ok(()),
            };
        }
        for (topic, membership) in &client.topics {
            if !membership.is_joined || !membership.is_synced {
                let what = "has not joined, or has no list".into();
                return Err(broken(Some(topic), what));
            }
            let (list, there) = (
                &membership.list,
                alive.get(topic).map_or(&[][..], Vec::as_slice),
            );
            if list != there {
                let what = format!("lists {list:?}, where {there:?} are");
                let mut failure = broken(Some(topic), what);
                let differs = |number: &&Number| list.contains(number) != there.contains(number);
                failure.presence = list.iter().chain(there).find(differs).copied();
                return Err(failure);
            }
        }
        Ok(())
    }

    /// A failure of a presence concerns the client whose it is, unless it is that of another.
    pub(in super::super) fn of_owner(
        &self,
        mut failure: Box<Failure>,
        people: &People,
    ) -> Box<Failure> {
        let number = failure.presence.filter(|_| failure.client.is_none());
        let owner = number.and_then(|number| self.owners.get(number as usize)?.as_ref());
        if let Some(owner) = owner {
            failure.client = Some(people.all()[owner.client].name().to_string());
        }
        failure
    }

    // What is written down.

    /// A client begins to live.
    pub(in super::super) fn comes(&mut self, people: &People, id: usize) {
        let client = &people.all()[id];
        self.log_of(client, || format!("comes, over {}", client.speaks));
        self.cluster.client_comes(client.name(), &client.speaks);
    }

    /// Its user is gone.
    pub(in super::super) fn goes(&mut self, people: &People, id: usize, how: &str) {
        self.log_user(people, id, || how.into());
        self.cluster.client_goes(people.all()[id].name());
    }

    /// What its user does.
    pub(in super::super) fn log_user(
        &mut self,
        people: &People,
        id: usize,
        what: impl FnOnce() -> String,
    ) {
        let client = &people.all()[id];
        self.cluster
            .log_client_user(client.name(), client.node(), what);
    }

    /// Whatever cuts clients off has ended.
    pub(in super::super) fn calm(&mut self) {
        self.cluster.clients_reached();
    }

    /// What befalls it, for so long.
    pub(in super::super) fn befalls(
        &mut self,
        people: &People,
        id: usize,
        (what, ms): (&str, u64),
        told: impl FnOnce() -> String,
    ) {
        let client = &people.all()[id];
        self.log_of(client, told);
        self.cluster.client_suffers(client.name(), what, ms * 1000);
    }

    fn log_of(&mut self, client: &Client, what: impl FnOnce() -> String) {
        let name = client.name();
        self.cluster.log_client(name, client.node(), what);
    }

    fn log_list(&mut self, client: &Client, topic: &str, joins: &[Number], leaves: &[Number]) {
        let name = client.name();
        self.cluster
            .log_client_list(name, client.node(), topic, joins, leaves);
    }
}

/// A failure that concerns a client.
fn of_client(client: &Client, mut failure: Box<Failure>) -> Box<Failure> {
    failure.client = Some(client.name().to_string());
    failure
}
