//! A few trackers, a clock, and a network that delivers at once unless it is told otherwise.
//!
//! After each call of a tracker the world checks what must always hold: diffs are numbered without a
//! gap and, folded, are the list; the tracker and its set know the same replicas; no answer tells the
//! asker of itself, and nobody is asked about a replica that is down.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use presence_core::clock::ReplicaId;
use presence_core::entry::{Key, Pid};
use presence_core::presence::{Meta, PhxRef};
use presence_core::tracker::journal::{Header, Input, Outcome, Record};
use presence_core::tracker::{Config, Stats, Status, To, Tracker, Transmit};
use presence_core::wire::cluster::{self, Body, Message};

use super::node::{Node, Told};

/// One message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) to: Arc<str>,
    pub(crate) message: Message,
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) config: Config,
    pub(crate) nodes: BTreeMap<Arc<str>, Node>,
    /// Pairs between which nothing is delivered, in this direction.
    pub(crate) cut: BTreeSet<(Arc<str>, Arc<str>)>,
    /// What else gets lost.
    pub(crate) lose: fn(&Sent) -> bool,
    /// Nodes whose process is stopped: they hear nothing and their timers wait.
    pub(crate) paused: BTreeSet<Arc<str>>,
    /// What was sent and not yet delivered.
    pub(crate) queue: VecDeque<Sent>,
    /// All that was delivered or lost.
    pub(crate) sent: Vec<Sent>,
    next_pid: u64,
}

pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

pub(crate) fn id(name: &str, incarnation: u64) -> ReplicaId {
    ReplicaId::new(name, incarnation)
}

/// Periods of one second: an idle node speaks every sixth, is down after ten and forgotten after sixty.
pub(crate) fn config() -> Config {
    let mut config = Config::with_periods(seconds(1.0), 5);
    config.permdown_period = seconds(60.0);
    config
}

impl World {
    pub(crate) fn new(names: &[&str]) -> Self {
        Self::with(config(), names)
    }

    pub(crate) fn with(config: Config, names: &[&str]) -> Self {
        let mut world = Self {
            now: Duration::ZERO,
            config,
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            lose: |_| false,
            paused: BTreeSet::new(),
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
        let header = Header {
            replica: id(name, incarnation),
            config: self.config.clone(),
            hash_seed: 7,
            // In the middle of the quarter of a period, and the least skip of incarnations.
            random: 1 << 63,
            at: self.now,
        };
        let node = Node::new(header);
        self.nodes.insert(name.into(), node);
    }

    // Faults.

    pub(crate) fn crash(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    pub(crate) fn cut(&mut self, a: &str, b: &str) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// What `a` sends no longer reaches `b`.
    pub(crate) fn cut_one_way(&mut self, a: &str, b: &str) {
        self.cut.insert((a.into(), b.into()));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.lose = |_| false;
    }

    /// Stops the process of a node. What is sent to it waits.
    pub(crate) fn pause(&mut self, name: &str) {
        self.paused.insert(name.into());
    }

    /// Lets a node go on: its timer, which is late, comes first, then what waits for it.
    pub(crate) fn resume(&mut self, name: &str) {
        self.paused.remove(name);
        let now = self.now;
        if self
            .tracker(name)
            .poll_timeout()
            .is_some_and(|at| at <= now)
        {
            self.call(name, Input::Timeout);
        }
    }

    // Reading.

    pub(crate) fn node(&self, name: &str) -> &Node {
        &self.nodes[name]
    }

    pub(crate) fn tracker(&self, name: &str) -> &Tracker {
        &self.nodes[name].tracker
    }

    pub(crate) fn stats(&self, name: &str) -> Stats {
        self.tracker(name).stats()
    }

    /// What `name` takes the node `peer` for.
    pub(crate) fn status(&self, name: &str, peer: &str) -> Option<Status> {
        self.tracker(name).status(peer).map(|(_, status)| status)
    }

    /// Who is listed: the keys, one for each presence.
    pub(crate) fn list(&self, name: &str, topic: &str) -> Vec<String> {
        let set = self.tracker(name).set();
        let mut keys: Vec<String> = set.list(topic).map(|e| e.key.as_str().into()).collect();
        keys.sort();
        keys
    }

    /// The refs under a key, ordered.
    pub(crate) fn refs(&self, name: &str, topic: &str, key: &str) -> Vec<String> {
        let entries = self.tracker(name).set().list_key(topic, Key::Text(key));
        let mut refs: Vec<String> = entries.map(|e| PhxRef::of(&e).to_string()).collect();
        refs.sort();
        refs
    }

    /// The diffs of `name` after the first `mark`.
    pub(crate) fn diffs_since(&self, name: &str, mark: usize) -> &[Told] {
        &self.node(name).diffs[mark..]
    }

    /// The messages of `from` since `mark`, each as a word.
    pub(crate) fn words(&self, from: &str, mark: usize) -> Vec<&'static str> {
        let sent = self.sent[mark..].iter();
        sent.filter(|sent| sent.message.from.name() == from)
            .map(|sent| word(&sent.message.body))
            .collect()
    }

    /// How many messages since `mark` are such a word, whoever sent them.
    pub(crate) fn count(&self, what: &str, mark: usize) -> usize {
        let sent = self.sent[mark..].iter();
        sent.filter(|sent| word(&sent.message.body) == what).count()
    }

    /// The last message from one node to another that is such a word.
    pub(crate) fn last(&self, from: &str, to: &str, what: &str) -> Sent {
        let of = |sent: &&Sent| {
            sent.message.from.name() == from && &*sent.to == to && word(&sent.message.body) == what
        };
        self.sent.iter().rev().find(of).unwrap().clone()
    }

    // Local calls.

    /// Tracks a new process.
    pub(crate) fn track(&mut self, name: &str, topic: &str, key: &str) -> Pid {
        self.next_pid += 1;
        let pid = Pid(self.next_pid);
        self.track_pid(name, topic, key, pid);
        pid
    }

    pub(crate) fn track_pid(&mut self, name: &str, topic: &str, key: &str, pid: Pid) -> PhxRef {
        let input = Input::Track {
            topic: topic.into(),
            pid,
            key: key.into(),
            meta: Meta::empty(),
        };
        match self.call(name, input) {
            Outcome::Tracked(tracked) => tracked.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Tracks `count` processes under the keys `prefix0`, `prefix1`, …
    pub(crate) fn track_many(
        &mut self,
        name: &str,
        topic: &str,
        prefix: &str,
        count: usize,
    ) -> Vec<Pid> {
        let keys = (0..count).map(|n| format!("{prefix}{n}"));
        keys.map(|key| self.track(name, topic, &key)).collect()
    }

    pub(crate) fn update(
        &mut self,
        name: &str,
        topic: &str,
        key: &str,
        pid: Pid,
        meta: &str,
    ) -> PhxRef {
        let input = Input::Update {
            topic: topic.into(),
            pid,
            key: key.into(),
            meta: Meta::parse(meta).unwrap(),
        };
        match self.call(name, input) {
            Outcome::Updated(updated) => updated.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn untrack(&mut self, name: &str, topic: &str, key: &str, pid: Pid) -> bool {
        let input = Input::Untrack {
            topic: topic.into(),
            pid,
            key: key.into(),
        };
        self.call(name, input) == Outcome::Untracked(1)
    }

    pub(crate) fn untrack_pid(&mut self, name: &str, pid: Pid) -> usize {
        match self.call(name, Input::UntrackPid { pid }) {
            Outcome::Untracked(count) => count,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn stop(&mut self, name: &str) {
        self.call(name, Input::Stop);
    }

    /// Tells a node that the process of another is gone.
    pub(crate) fn gone(&mut self, name: &str, peer: &str) {
        self.call(name, Input::Gone { peer: peer.into() });
    }

    /// Tells a node that a connection to another was made.
    pub(crate) fn connected(&mut self, name: &str, peer: &str) {
        self.call(name, Input::Connected { peer: peer.into() });
    }

    /// Calls a tracker now, and sends what it has to say.
    pub(crate) fn call(&mut self, name: &str, input: Input) -> Outcome {
        let at = self.now;
        let node = self.nodes.get_mut(name).unwrap();
        let (outcome, transmits) = node.call(Record { at, input });
        self.send(name, transmits);
        outcome
    }

    fn send(&mut self, from: &str, transmits: Vec<Transmit>) {
        for Transmit { to, message } in transmits {
            let to: Vec<Arc<str>> = match to {
                To::All => self
                    .nodes
                    .keys()
                    .filter(|to| &***to != from)
                    .cloned()
                    .collect(),
                To::One(to) => vec![to],
            };
            for to in to {
                let message = message.clone();
                self.queue.push_back(Sent { to, message });
            }
        }
    }

    // The network and the time.

    /// Delivers what was sent, and what that leads to.
    pub(crate) fn deliver(&mut self) {
        let mut waiting = VecDeque::new();
        while let Some(sent) = self.queue.pop_front() {
            if self.paused.contains(&sent.to) {
                waiting.push_back(sent);
                continue;
            }
            self.sent.push(sent.clone());
            let from = sent.message.from.shared_name();
            if !self.cut.contains(&(from, Arc::clone(&sent.to))) && !(self.lose)(&sent) {
                self.give(&sent);
            }
        }
        self.queue = waiting;
    }

    /// Gives a message to its receiver, whatever is cut; whether it was taken.
    pub(crate) fn give(&mut self, sent: &Sent) -> bool {
        if !self.nodes.contains_key(&sent.to) {
            return false;
        }
        // As it comes over a wire.
        let message = cluster::encode(&sent.message);
        let message = cluster::decode(&message, &cluster::Limits::default()).unwrap();
        let peer = message.from.shared_name();
        self.call(&sent.to, Input::Message { peer, message }) == Outcome::Heard(Ok(()))
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.deliver();
        loop {
            let running = |(name, _): &(&Arc<str>, &Node)| !self.paused.contains(*name);
            let next = self
                .nodes
                .iter()
                .filter(running)
                .filter_map(|(name, node)| {
                    let at = node.tracker.poll_timeout()?;
                    Some((at, Arc::clone(name)))
                });
            let Some((at, name)) = next.min().filter(|(at, _)| *at <= end) else {
                break;
            };
            self.now = at.max(self.now);
            self.call(&name, Input::Timeout);
            self.deliver();
        }
        self.now = end;
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
