//! What clients see, held against what their nodes had and against who is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::client::Said;
use super::super::lists::{digest, sign};
use super::super::people::{Client, People};
use super::super::stage::Micros;
use super::{Checked, Judge, Owner};
use crate::coverage::Counted;
use crate::outcome::{Failure, Invariant};
use crate::truth::Number;

/// How old a list that is read may be: what others have told a node is in it soon, and not at once.
const STALE_US: Micros = 1_000_000;

/// The lists that each life of a node had, by topic.
#[derive(Default)]
pub(super) struct Histories(BTreeMap<(usize, u32), BTreeMap<Arc<str>, History>>);

/// The lists of a topic, one after the other: from when on, and what it was.
pub(super) struct History(Vec<(Micros, u64)>);

impl Histories {
    /// A node's diff changes a list.
    pub(super) fn note<'a>(
        &mut self,
        life: (usize, u32),
        at: Micros,
        topic: &Arc<str>,
        changed: impl Iterator<Item = &'a Number>,
    ) {
        let topics = self.0.entry(life).or_default();
        let history = topics
            .entry(Arc::clone(topic))
            .or_insert_with(|| History(vec![(0, 0)]));
        let before = history.0.last().map_or(0, |last| last.1);
        let after = changed.fold(before, |sum, &number| sum ^ sign(number));
        history.0.push((at, after));
    }

    /// The lists of a topic from some version on, with their numbers; an empty one where there was none.
    fn since(
        &self,
        life: (usize, u32),
        topic: &str,
        version: usize,
    ) -> impl Iterator<Item = (usize, u64)> {
        let history = self.0.get(&life).and_then(|topics| topics.get(topic));
        let versions = history.map_or(&[(0, 0)][..], |history| &history.0);
        let versions = versions.iter().map(|&(_, digest)| digest).enumerate();
        versions.skip(version)
    }

    /// The number of the last list that a topic had at some time.
    fn version_at(&self, life: (usize, u32), topic: &str, at: Micros) -> usize {
        let history = self.0.get(&life).and_then(|topics| topics.get(topic));
        let versions = history.map_or(&[][..], |history| &history.0);
        versions
            .partition_point(|&(since, _)| since <= at)
            .saturating_sub(1)
    }
}

impl Judge<'_> {
    /// A client says what happened to it.
    pub(super) fn said(&mut self, id: usize, said: Said, people: &mut People) -> Checked {
        let client = people.of(id);
        match said {
            Said::Connected { node } => {
                let name = Arc::clone(&self.cluster.nodes[node].name);
                self.log_of(client, || format!("connects to {name}"));
                self.cluster.client_connects(&client.name(), node);
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
                self.cluster.client_disconnects(&client.name());
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
            Said::Tracked {
                topic, key, number, ..
            } => {
                let place = (Arc::from(topic), Arc::from(key));
                if let Some(want) = client.wants.get_mut(&place) {
                    *want = Some(number);
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
                if !self.heard.insert((number, id)) {
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
        let name = client.name();
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
            for (topic, key) in client.wants.keys().filter(|_| client.is_there) {
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
                    let client = client.unwrap_or_default();
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
            if is_in && is_reached && !self.heard.contains(&(number, id)) {
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
            failure.client = Some(people.all()[owner.client].name());
        }
        failure
    }

    // What is written down.

    /// A client begins to live.
    pub(in super::super) fn comes(&mut self, people: &People, id: usize) {
        let client = &people.all()[id];
        self.log_of(client, || format!("comes, over {}", client.speaks));
        self.cluster.client_comes(&client.name(), &client.speaks);
    }

    /// Its user is gone.
    pub(in super::super) fn goes(&mut self, people: &People, id: usize, how: &str) {
        self.log_user(people, id, || how.into());
        self.cluster.client_goes(&people.all()[id].name());
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
            .log_client_user(&client.name(), client.node(), what);
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
        self.cluster.client_suffers(&client.name(), what, ms * 1000);
    }

    fn log_of(&mut self, client: &Client, what: impl FnOnce() -> String) {
        let name = client.name();
        self.cluster.log_client(&name, client.node(), what);
    }

    fn log_list(&mut self, client: &Client, topic: &str, joins: &[Number], leaves: &[Number]) {
        let name = client.name();
        self.cluster
            .log_client_list(&name, client.node(), topic, joins, leaves);
    }
}

/// A failure that concerns a client.
fn of_client(client: &Client, mut failure: Box<Failure>) -> Box<Failure> {
    failure.client = Some(client.name());
    failure
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::time::Duration;

    use presence_core::clock::ReplicaId;
    use presence_core::entry::Pid;
    use presence_core::presence::{KeyBuf, Meta};
    use presence_core::tracker::journal::{Header, Input, Record};
    use presence_core::tracker::{To, Transmit};
    use presence_core::wire::cluster::{Body, Message};
    use tokio::sync::mpsc;

    use super::*;
    use crate::bench;
    use crate::full::stage::{Happened, Stage};
    use crate::sabotage::Saboteur;
    use crate::schedule::Schedule;
    use crate::truth;

    const TOPIC: &str = "conf:a";

    /// One node, one client, and who judges them.
    struct Trial<'a> {
        judge: Judge<'a>,
        people: People,
    }

    fn schedule() -> Schedule {
        let mut schedule = bench::workload_with_clients(1);
        schedule.nodes.truncate(1);
        schedule.steps.clear();
        schedule
    }

    impl<'a> Trial<'a> {
        /// The client is connected, and is about to join.
        fn new(schedule: &'a Schedule) -> Self {
            let stage = Arc::new(Stage::new(schedule, Saboteur::new(None, 0)));
            let (births, _) = mpsc::unbounded_channel();
            let mut trial = Self {
                judge: Judge::new(schedule, false),
                people: People::new(stage, 1, vec![1], Vec::new(), vec![births]),
            };
            let header = Header {
                replica: ReplicaId::new(schedule.nodes[0].name.as_str(), 7),
                config: schedule.config(),
                hash_seed: 1,
                random: 2,
                at: Duration::ZERO,
            };
            let (node, shard, header) = (0, 0, Box::new(header));
            trial.holds(Happened::Began {
                node,
                shard,
                header,
            });
            let id = trial.people.find_or_begin(0, 5);
            trial.people.track(id, &TOPIC.into(), &"ada".into());
            trial.says(Said::Connected { node });
            trial
        }

        /// The client has joined, is tracked as presence 0, and lists itself.
        fn joined(schedule: &'a Schedule) -> Self {
            let mut trial = Self::new(schedule);
            trial.says(Said::Joined {
                topic: TOPIC.into(),
            });
            trial.track(0, "ada");
            trial.says(list(&[0], true));
            trial.judge.agree(&trial.people).unwrap();
            trial
        }

        #[track_caller]
        fn holds(&mut self, what: Happened) {
            self.judge.happened(what, &mut self.people).unwrap();
        }

        #[track_caller]
        fn fails(&mut self, what: Happened, invariant: Invariant) {
            let judged = self.judge.happened(what, &mut self.people);
            assert_eq!(judged.unwrap_err().invariant, invariant);
        }

        #[track_caller]
        fn says(&mut self, said: Said) {
            self.holds(Happened::Said { client: 0, said });
        }

        #[track_caller]
        fn says_wrongly(&mut self, said: Said, invariant: Invariant) {
            self.fails(Happened::Said { client: 0, said }, invariant);
        }

        /// The client's node tracks a presence of it.
        #[track_caller]
        fn track(&mut self, number: Number, key: &str) {
            self.holds(Happened::Numbered {
                client: 0,
                topic: TOPIC.into(),
                key: key.into(),
                number,
            });
            self.holds(input(
                0,
                Input::Track {
                    topic: TOPIC.into(),
                    pid: Pid(u64::from(number)),
                    key: KeyBuf::Text(key.into()),
                    meta: Meta::parse(&truth::meta(number)).unwrap(),
                },
            ));
        }

        #[track_caller]
        fn untrack(&mut self, number: Number) {
            let pid = Pid(u64::from(number));
            self.holds(input(0, Input::UntrackPid { pid }));
        }

        #[track_caller]
        fn disagrees(&self, invariant: Invariant) {
            let agreed = self.judge.agree(&self.people);
            assert_eq!(agreed.unwrap_err().invariant, invariant);
        }
    }

    fn input(ms: u64, input: Input) -> Happened {
        let at = Duration::from_millis(ms);
        Happened::Input {
            node: 0,
            shard: 0,
            record: Box::new(Record { at, input }),
        }
    }

    fn list(numbers: &[Number], synced: bool) -> Said {
        Said::List {
            topic: TOPIC.into(),
            numbers: numbers.to_vec(),
            joins: Vec::new(),
            leaves: Vec::new(),
            synced,
            is_state: synced,
        }
    }

    fn read(numbers: &[Number], asked: Micros) -> Happened {
        Happened::Listed {
            node: 0,
            topic: TOPIC.into(),
            numbers: numbers.to_vec(),
            asked,
        }
    }

    #[test]
    fn a_history_knows_which_list_was_when() {
        let (topic, life) = (Arc::from(TOPIC), (0, 1));
        let mut histories = Histories::default();
        assert_eq!(
            histories.since(life, TOPIC, 0).collect::<Vec<_>>(),
            [(0, 0)]
        );
        assert_eq!(histories.version_at(life, TOPIC, 9), 0);
        histories.note(life, 10, &topic, [3, 4].iter());
        histories.note(life, 10, &topic, [4].iter());
        histories.note(life, 20, &topic, [3].iter());
        let digests = [[].as_slice(), &[3, 4], &[3], &[]].map(digest);
        let versions: Vec<_> = histories.since(life, TOPIC, 1).collect();
        assert_eq!(
            versions,
            [(1, digests[1]), (2, digests[2]), (3, digests[3])]
        );
        let at = |at| histories.version_at(life, TOPIC, at);
        assert_eq!([9, 10, 19, 20, 99].map(at), [0, 2, 2, 3, 3]);
        let of_another = histories.since((0, 2), TOPIC, 0);
        assert_eq!(of_another.collect::<Vec<_>>(), [(0, 0)]);
    }

    #[test]
    fn a_list_that_the_node_never_had_is_none() {
        let schedule = schedule();
        let mut trial = Trial::joined(&schedule);
        trial.says_wrongly(list(&[7], true), Invariant::ClientLists);
        let mut trial = Trial::joined(&schedule);
        trial.says_wrongly(list(&[0, 0], true), Invariant::ClientLists);
        // One from before its join is not judged.
        Trial::joined(&schedule).says(list(&[7], false));
    }

    #[test]
    fn a_list_goes_no_way_back() {
        let schedule = schedule();
        let mut trial = Trial::joined(&schedule);
        trial.track(1, "grace");
        trial.says(list(&[0], true));
        trial.says(list(&[0, 1], true));
        trial.says_wrongly(list(&[0], true), Invariant::ClientLists);
        // Where it was so twice, it may be the later.
        let mut trial = Trial::joined(&schedule);
        trial.track(1, "grace");
        trial.untrack(1);
        trial.says(list(&[0, 1], true));
        trial.says(list(&[0], true));
    }

    #[test]
    fn a_reader_is_given_a_list_of_the_last_second() {
        let schedule = schedule();
        let mut trial = Trial::joined(&schedule);
        trial.judge.set_now(5_000_000);
        trial.track(1, "grace");
        trial.holds(read(&[0], 5_900_000));
        trial.holds(read(&[0, 1], 5_900_000));
        trial.holds(read(&[0, 1], 9_000_000));
        trial.fails(read(&[0], 6_100_000), Invariant::FreshLists);
        trial.fails(read(&[], 5_900_000), Invariant::FreshLists);
        trial.fails(read(&[1], 5_900_000), Invariant::FreshLists);
    }

    #[test]
    fn a_broken_rule_of_the_wire_is_a_failure() {
        let schedule = schedule();
        let rule = "a reply to nothing".into();
        Trial::new(&schedule).says_wrongly(Said::Broken { rule }, Invariant::WireRules);
    }

    #[test]
    fn in_the_end_each_client_is_tracked_once_and_nobody_else_is() {
        let schedule = schedule();
        let mut trial = Trial::joined(&schedule);
        trial.untrack(0);
        trial.says(list(&[], true));
        trial.disagrees(Invariant::ClientsAreTracked);

        let mut trial = Trial::joined(&schedule);
        trial.track(1, "ada");
        trial.says(list(&[0, 1], true));
        trial.disagrees(Invariant::ClientsAreTracked);

        let mut trial = Trial::joined(&schedule);
        assert!(trial.people.untrack(0, &TOPIC.into(), &"ada".into()));
        trial.disagrees(Invariant::ClientsAreTracked);

        let mut trial = Trial::joined(&schedule);
        trial.people.depart(0);
        trial.disagrees(Invariant::ClientsAreTracked);
        trial.untrack(0);
        trial.judge.agree(&trial.people).unwrap();
    }

    #[test]
    fn in_the_end_each_client_has_joined_and_lists_who_is_there() {
        let schedule = schedule();
        let mut trial = Trial::new(&schedule);
        trial.track(0, "ada");
        trial.disagrees(Invariant::ClientConvergence);
        trial.says(Said::Joined {
            topic: TOPIC.into(),
        });
        trial.disagrees(Invariant::ClientConvergence);
        trial.says(list(&[0], true));
        trial.judge.agree(&trial.people).unwrap();

        trial.people.track(0, &TOPIC.into(), &"grace".into());
        trial.track(1, "grace");
        trial.disagrees(Invariant::ClientConvergence);
        trial.says(list(&[0, 1], true));
        trial.judge.agree(&trial.people).unwrap();

        trial.says(Said::Disconnected {
            node: 0,
            why: "reset".into(),
        });
        trial.disagrees(Invariant::ClientConvergence);
    }

    /// What the node's tracker sends first of all.
    fn first_sent(schedule: &Schedule) -> Transmit {
        let mut trial = Trial::joined(schedule);
        trial.judge.set_now(60_000_000);
        trial.holds(input(60_000, Input::Timeout));
        let unsent = trial.judge.unsent.get_mut(&(0, 0)).unwrap();
        unsent.pop_front().unwrap()
    }

    #[test]
    fn a_tracker_sends_what_it_sends_when_it_is_played_again() {
        let schedule = schedule();
        let Transmit { to, message } = first_sent(&schedule);
        let sent = |to: &To, message: &Message| Happened::Sent {
            node: 0,
            shard: 0,
            to: to.clone(),
            message: Box::new(message.clone()),
        };
        let timed = || {
            let mut trial = Trial::joined(&schedule);
            trial.judge.set_now(60_000_000);
            trial.holds(input(60_000, Input::Timeout));
            trial
        };
        timed().holds(sent(&to, &message));
        timed().fails(sent(&To::One("n9".into()), &message), Invariant::TiersAgree);
        let other = Message {
            body: Body::Permdown,
            ..message.clone()
        };
        timed().fails(sent(&to, &other), Invariant::TiersAgree);
        // It comes too late, or twice.
        timed().fails(input(60_001, Input::Timeout), Invariant::TiersAgree);
        let mut trial = timed();
        trial.holds(sent(&to, &message));
        trial.fails(sent(&to, &message), Invariant::TiersAgree);
    }

    #[test]
    fn a_message_that_nobody_sent_is_not_delivered() {
        let schedule = bench::workload_with_clients(1);
        let mut trial = Trial::new(&schedule);
        let message = Arc::new(Message {
            from: ReplicaId::new("n1", 7),
            body: Body::Permdown,
        });
        let arrived = Happened::Arrived {
            from: 1,
            to: 0,
            shard: 0,
            message,
        };
        trial.fails(arrived, Invariant::Delivery);
    }
}
