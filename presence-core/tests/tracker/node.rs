//! A tracker with what came out of it, and what must hold of that after each call.

use std::collections::{BTreeMap, BTreeSet};

use presence_core::entry::Entry;
use presence_core::presence::PhxRef;
use presence_core::set;
use presence_core::tracker::journal::{Header, Outcome, Record};
use presence_core::tracker::{Event, Refusal, Status, To, Tracker, Transmit};
use presence_core::wire::cluster::{self, Body};

/// A diff as a listener sees it: the keys and refs that joined and left, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) number: u64,
    pub(crate) topic: String,
    pub(crate) joins: Vec<(String, String)>,
    pub(crate) leaves: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) tracker: Tracker,
    pub(crate) events: Vec<Event>,
    pub(crate) diffs: Vec<Told>,
    pub(crate) refusals: Vec<Refusal>,
    /// The list of each topic as the diffs alone tell it: key and ref.
    pub(crate) folded: BTreeMap<String, BTreeSet<(String, String)>>,
    /// What it began with, all that it was called with, and all that came out.
    pub(crate) header: Header,
    pub(crate) journal: Vec<Record>,
    pub(crate) outputs: Vec<String>,
}

impl Node {
    pub(crate) fn new(header: Header) -> Self {
        Self {
            tracker: header.tracker().unwrap(),
            events: Vec::new(),
            diffs: Vec::new(),
            refusals: Vec::new(),
            folded: BTreeMap::new(),
            header,
            journal: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Makes a call, takes out all that it led to, and checks it.
    pub(crate) fn call(&mut self, record: Record) -> (Outcome, Vec<Transmit>) {
        self.journal.push(record.clone());
        let outcome = record.input.apply(&mut self.tracker, record.at);
        if let Outcome::Heard(Err(refusal)) = &outcome {
            self.refusals.push(refusal.clone());
        }
        self.outputs.push(format!("{outcome:?}"));
        let transmits = self.drain();
        self.check();
        (outcome, transmits)
    }

    /// Takes out all that the tracker has to say; what is to be sent.
    pub(crate) fn drain(&mut self) -> Vec<Transmit> {
        let mut transmits = Vec::new();
        while let Some(transmit) = self.tracker.poll_transmit() {
            let bytes = cluster::encode(&transmit.message);
            self.outputs
                .push(format!("to {:?}: {bytes:02x?}", transmit.to));
            self.check_transfer(&transmit.to, &transmit.message.body);
            transmits.push(transmit);
        }
        while let Some(diff) = self.tracker.poll_diff() {
            self.outputs.push(format!("{diff:?}"));
            let of = |e: &Entry<'_>| (e.key.as_str().to_owned(), PhxRef::of(e).to_string());
            let told = Told {
                number: diff.number,
                topic: diff.topic.to_string(),
                joins: diff.joins.iter().map(of).collect(),
                leaves: diff.leaves.iter().map(|left| of(&left.entry())).collect(),
            };
            let last = self.diffs.last().map_or(0, |diff| diff.number);
            assert_eq!(told.number, last + 1, "diffs are numbered without a gap");
            assert!(
                !told.joins.is_empty() || !told.leaves.is_empty(),
                "an empty diff"
            );
            let list = self.folded.entry(told.topic.clone()).or_default();
            for leave in &told.leaves {
                assert!(
                    list.remove(leave),
                    "{leave:?} left and was not there: {told:?}"
                );
            }
            for join in &told.joins {
                assert!(list.insert(join.clone()), "{join:?} joined twice: {told:?}");
            }
            self.diffs.push(told);
        }
        while let Some(event) = self.tracker.poll_event() {
            self.outputs.push(format!("{event:?}"));
            self.events.push(event);
        }
        self.outputs
            .push(format!("next at {:?}", self.tracker.poll_timeout()));
        transmits
    }

    fn check(&self) {
        let name = self.tracker.replica();
        let set = self.tracker.set();
        for (topic, list) in &self.folded {
            let listed = set.list(topic);
            let listed: BTreeSet<_> = listed
                .map(|e| (e.key.as_str().to_owned(), PhxRef::of(&e).to_string()))
                .collect();
            assert_eq!(
                *list, listed,
                "{name}: the diffs of {topic} are not its list"
            );
        }
        assert!(set.topics().all(|topic| {
            self.folded.contains_key(&**topic) || set.list(topic).next().is_none()
        }));
        let known: Vec<_> = self
            .tracker
            .replicas()
            .map(|(replica, _)| replica)
            .collect();
        let own = self.tracker.replica();
        let in_set: Vec<_> = set
            .replicas()
            .map(|(replica, _)| replica)
            .filter(|id| *id != own)
            .collect();
        assert_eq!(
            known, in_set,
            "{name}: its set knows the replicas that it knows"
        );
        for (replica, status) in self.tracker.replicas() {
            let listed = set.status(replica) == Some(set::Status::Up);
            assert_eq!(
                listed,
                status == Status::Up,
                "{name}: {replica} is {status:?}"
            );
        }
        let last = self.diffs.last().map_or(0, |diff| diff.number);
        assert_eq!(self.tracker.last_diff(), last);
    }

    fn check_transfer(&self, to: &To, body: &Body) {
        match (to, body) {
            (To::One(asker), Body::TransferReply { delta, .. }) => {
                let echo = delta
                    .ranges()
                    .find(|(replica, _)| replica.name() == &**asker);
                assert_eq!(echo, None, "an answer tells {asker} of itself");
            }
            (_, Body::TransferRequest { clocks, .. }) => {
                for (replica, _) in clocks.iter() {
                    let status = self.tracker.status(replica.name());
                    let asked = status
                        .is_some_and(|(known, status)| known == replica && status != Status::Down);
                    assert!(asked, "asks about {replica}, which is {status:?}");
                }
            }
            (To::All, Body::TransferReply { .. }) => panic!("an answer for everyone"),
            _ => {}
        }
    }
}
