//! One node and one client, and what the judge says of them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

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
use crate::full::client::Said;
use crate::full::happened::Happened;
use crate::full::people::People;
use crate::full::stage::Stage;
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

#[test]
fn a_fault_of_the_network_is_drawn_at_the_nodes_that_it_concerns() {
    let schedule = bench::workload_with_clients(1);
    let mut judge = Judge::new(&schedule, true);
    judge.fault(&[(2, 1), (1, 2)], "cut".into(), 5);
    let outcome = judge.outcome(None, Duration::ZERO, &Coverage::default(), 0);
    let spans = outcome.trace.unwrap().spans;
    assert_eq!(spans[0].nodes, [1, 2]);
}
