//! A few trackers, a clock, and a network that delivers at once unless it is told otherwise.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use presence_core::clock::ReplicaId;
use presence_core::entry::{Key, Left, Pid};
use presence_core::presence::{Meta, PhxRef};
use presence_core::tracker::{Config, Event, Refusal, To, Tracker};
use presence_core::wire::cluster::{Body, Message};

/// One message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) to: Arc<str>,
    pub(crate) message: Message,
}

/// A diff as a listener sees it: the refs that joined and left, in order.
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
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) config: Config,
    pub(crate) nodes: BTreeMap<Arc<str>, Node>,
    /// Pairs between which nothing is delivered, in this direction.
    pub(crate) cut: BTreeSet<(Arc<str>, Arc<str>)>,
    /// What was sent and not yet delivered.
    pub(crate) queue: VecDeque<Sent>,
    /// All that was delivered or lost.
    pub(crate) sent: Vec<Sent>,
    next_pid: u64,
}

pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

impl World {
    /// Periods of one second; an idle node speaks every sixth.
    pub(crate) fn new(names: &[&str]) -> Self {
        let mut config = Config::with_periods(seconds(1.0), 5);
        config.permdown_period = seconds(60.0);
        Self::with(config, names)
    }

    pub(crate) fn with(config: Config, names: &[&str]) -> Self {
        let mut world = Self {
            now: Duration::ZERO,
            config,
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            queue: VecDeque::new(),
            sent: Vec::new(),
            next_pid: 0,
        };
        for name in names {
            world.start(name, 1);
        }
        world
    }

    pub(crate) fn start(&mut self, name: &str, incarnation: u64) {
        let replica = ReplicaId::new(name, incarnation);
        let tracker =
            Tracker::new(replica, self.config.clone(), 7, u64::MAX / 2, self.now).unwrap();
        let node = Node {
            tracker,
            events: Vec::new(),
            diffs: Vec::new(),
            refusals: Vec::new(),
            folded: BTreeMap::new(),
        };
        self.nodes.insert(name.into(), node);
    }

    pub(crate) fn crash(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    pub(crate) fn cut(&mut self, a: &str, b: &str) {
        self.cut.insert((a.into(), b.into()));
        self.cut.insert((b.into(), a.into()));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).unwrap()
    }

    pub(crate) fn tracker(&mut self, name: &str) -> &mut Tracker {
        &mut self.node(name).tracker
    }

    /// Tracks a new process.
    pub(crate) fn track(&mut self, name: &str, topic: &str, key: &str) -> Pid {
        self.next_pid += 1;
        let pid = Pid(self.next_pid);
        self.track_pid(name, topic, key, pid);
        pid
    }

    pub(crate) fn track_pid(&mut self, name: &str, topic: &str, key: &str, pid: Pid) -> PhxRef {
        let tracker = self.tracker(name);
        let tracked = tracker.track(&topic.into(), pid, Key::Text(key), &Meta::empty());
        let phx_ref = tracked.unwrap();
        self.drain(name);
        phx_ref
    }

    pub(crate) fn update(
        &mut self,
        name: &str,
        topic: &str,
        key: &str,
        pid: Pid,
        meta: &str,
    ) -> PhxRef {
        let meta = Meta::parse(meta).unwrap();
        let tracker = self.tracker(name);
        let updated = tracker.update(topic, pid, Key::Text(key), &meta).unwrap();
        self.drain(name);
        updated
    }

    pub(crate) fn untrack_pid(&mut self, name: &str, pid: Pid) -> usize {
        let untracked = self.tracker(name).untrack_pid(pid);
        self.drain(name);
        untracked
    }

    /// Takes out all that a tracker has to say.
    pub(crate) fn drain(&mut self, name: &str) {
        let names: Vec<Arc<str>> = self.nodes.keys().cloned().collect();
        let node = self.nodes.get_mut(name).unwrap();
        while let Some(transmit) = node.tracker.poll_transmit() {
            let to: Vec<Arc<str>> = match transmit.to {
                To::All => names.iter().filter(|to| &***to != name).cloned().collect(),
                To::One(to) => vec![to],
            };
            for to in to {
                let message = transmit.message.clone();
                self.queue.push_back(Sent { to, message });
            }
        }
        let mut told = Vec::new();
        while let Some(diff) = node.tracker.poll_diff() {
            let of = |key: Key<'_>, phx_ref: PhxRef| (key.as_str().into(), phx_ref.to_string());
            let left = diff.leaves.iter().map(Left::entry);
            told.push(Told {
                number: diff.number,
                topic: diff.topic.to_string(),
                joins: diff
                    .joins
                    .iter()
                    .map(|e| of(e.key, PhxRef::of(e)))
                    .collect(),
                leaves: left.map(|e| of(e.key, PhxRef::of(&e))).collect(),
            });
        }
        for diff in told {
            let last = node.diffs.last().map_or(0, |diff| diff.number);
            assert_eq!(
                diff.number,
                last + 1,
                "diffs are numbered one after the other"
            );
            let list = node.folded.entry(diff.topic.clone()).or_default();
            for leave in &diff.leaves {
                assert!(
                    list.remove(leave),
                    "{name}: {leave:?} left and was not there: {diff:?}"
                );
            }
            for join in &diff.joins {
                assert!(
                    list.insert(join.clone()),
                    "{name}: {join:?} joined twice: {diff:?}"
                );
            }
            node.diffs.push(diff);
        }
        while let Some(event) = node.tracker.poll_event() {
            node.events.push(event);
        }
        for (topic, list) in &node.folded {
            let listed = node.tracker.set().list(topic);
            let listed: BTreeSet<_> = listed
                .map(|e| (e.key.as_str().to_owned(), PhxRef::of(&e).to_string()))
                .collect();
            assert_eq!(
                *list, listed,
                "{name}: the diffs of {topic} are not its list"
            );
        }
    }

    /// Delivers what was sent, and what that leads to.
    pub(crate) fn deliver(&mut self) {
        while let Some(sent) = self.queue.pop_front() {
            self.sent.push(sent.clone());
            let from = sent.message.from.shared_name();
            if !self.cut.contains(&(from, Arc::clone(&sent.to))) {
                self.give(&sent);
            }
        }
    }

    /// Gives a message to its receiver, whatever is cut.
    pub(crate) fn give(&mut self, sent: &Sent) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&sent.to) else {
            return;
        };
        let message = sent.message.clone();
        let peer = message.from.shared_name();
        if let Err(refusal) = node.tracker.handle_message(&peer, message, now) {
            node.refusals.push(refusal);
        }
        self.drain(&sent.to);
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.deliver();
        loop {
            let next = self.nodes.iter().filter_map(|(name, node)| {
                let at = node.tracker.poll_timeout()?;
                Some((at, Arc::clone(name)))
            });
            let Some((at, name)) = next.min().filter(|(at, _)| *at <= end) else {
                break;
            };
            self.now = at.max(self.now);
            let now = self.now;
            self.tracker(&name).handle_timeout(now);
            self.drain(&name);
            self.deliver();
        }
        self.now = end;
    }

    /// Who is listed: the keys, one for each presence.
    pub(crate) fn list(&mut self, name: &str, topic: &str) -> Vec<String> {
        let set = self.tracker(name).set();
        let mut keys: Vec<String> = set.list(topic).map(|e| e.key.as_str().into()).collect();
        keys.sort();
        keys
    }

    /// The messages of `from` since `mark`, each as a word.
    pub(crate) fn words(&self, from: &str, mark: usize) -> Vec<&'static str> {
        let sent = self.sent[mark..].iter();
        sent.filter(|sent| sent.message.from.name() == from)
            .map(|sent| word(&sent.message.body))
            .collect()
    }
}

pub(crate) fn word(body: &Body) -> &'static str {
    match body {
        Body::Heartbeat { delta, .. } if delta.is_empty() => "idle",
        Body::Heartbeat { .. } => "delta",
        Body::TransferRequest { .. } => "request",
        Body::TransferReply { last: false, .. } => "part",
        Body::TransferReply { .. } => "reply",
        Body::TransferContinue { .. } => "continue",
        Body::Stopping { .. } => "stopping",
        Body::Permdown => "permdown",
        Body::Superseded { .. } => "superseded",
    }
}
