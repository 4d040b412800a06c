//! Two trackers, a clock, and what they say to each other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::workload::{Topics, key, meta};
use presence_core::clock::ReplicaId;
use presence_core::entry::{Key, Pid};
use presence_core::presence::Meta;
use presence_core::tracker::{Config, Tracker};
use presence_core::wire::cluster::{self, Message};

/// How long each step of either took.
pub(crate) type Steps = [Vec<Duration>; 2];

const NAMES: [&str; 2] = ["a", "b"];

pub(crate) struct Pair {
    nodes: [Tracker; 2],
    steps: Steps,
    /// On its way, by whom it is for.
    messages: [VecDeque<Vec<u8>>; 2],
    /// Whether what they say arrives.
    connected: bool,
    now: Duration,
    topics: Topics,
    /// The numbers of the presences of `a`.
    present: Vec<u64>,
    next: u64,
}

impl Pair {
    /// Two that have not met; `a` has told itself of its presences.
    pub(crate) fn new(config: &Config, presences: u64, topics: usize) -> Self {
        let node = |name| {
            let replica = ReplicaId::new(name, 1);
            Tracker::new(replica, config.clone(), 1, 0, Duration::ZERO).expect("it was validated")
        };
        let mut pair = Self {
            nodes: NAMES.map(node),
            steps: Default::default(),
            messages: Default::default(),
            connected: false,
            now: Duration::ZERO,
            topics: Topics::new(topics),
            present: Vec::new(),
            next: 0,
        };
        pair.join(presences);
        pair
    }

    /// They meet, and talk until the one has all of the other.
    pub(crate) fn meet(&mut self) -> Steps {
        self.connected = true;
        self.call(0, |tracker, now| tracker.handle_connected("b", now));
        self.settle()
    }

    /// The connection breaks, and `b` hears that `a` is gone.
    pub(crate) fn lose(&mut self) -> Steps {
        self.connected = false;
        self.call(1, |tracker, now| tracker.handle_gone("a", now));
        while self.nodes[1].is_turning() {
            self.call(1, Tracker::handle_timeout);
        }
        std::mem::take(&mut self.steps)
    }

    /// More join at `a`.
    pub(crate) fn join(&mut self, more: u64) -> Steps {
        for number in self.next..self.next + more {
            let topic = Arc::clone(self.topics.of(number));
            let (key, meta) = (key(number), meta(number));
            let meta = Meta::parse(&meta).expect("it is an object");
            self.call(0, |tracker, _| {
                let tracked = tracker.track(&topic, Pid(number), Key::Text(&key), &meta);
                tracked.expect("it joins once");
            });
            self.present.push(number);
        }
        self.next += more;
        self.settle()
    }

    /// Those leave.
    pub(crate) fn leave(&mut self, leaves: impl Fn(u64) -> bool) -> Steps {
        for number in self
            .present
            .clone()
            .into_iter()
            .filter(|&number| leaves(number))
        {
            self.call(0, |tracker, _| {
                assert_eq!(tracker.untrack_pid(Pid(number)), 1);
            });
        }
        self.present.retain(|&number| !leaves(number));
        self.settle()
    }

    /// All change their metas.
    pub(crate) fn update(&mut self) -> Steps {
        for &number in &self.present.clone() {
            let topic = Arc::clone(self.topics.of(number));
            let (key, meta) = (key(number), meta(number + 1));
            let meta = Meta::parse(&meta).expect("it is an object");
            self.call(0, |tracker, _| {
                let updated = tracker.update(&topic, Pid(number), Key::Text(&key), &meta);
                updated.expect("it is tracked");
            });
        }
        self.settle()
    }

    /// They talk until both hold and show the same.
    fn settle(&mut self) -> Steps {
        loop {
            self.deliver();
            let [a, b] = &self.nodes;
            let is_same = || a.set().list_all().count() == b.set().list_all().count();
            let own = a.set().counter(a.replica());
            let is_heard = !self.connected || own == b.set().counter(a.replica());
            let is_quiet = !b.is_turning() && !a.set().has_delta();
            if is_quiet && is_heard && (!self.connected || is_same()) {
                return std::mem::take(&mut self.steps);
            }
            let due = self
                .nodes
                .each_ref()
                .map(|node| node.poll_timeout().expect("it lives"));
            let first = usize::from(due[1] < due[0]);
            self.now = self.now.max(due[first]);
            self.call(first, Tracker::handle_timeout);
        }
    }

    fn deliver(&mut self) {
        while let Some(to) = (0..2).find(|&to| !self.messages[to].is_empty()) {
            let Some(message) = self.messages[to].pop_front() else {
                return;
            };
            // Decoded by the task of the connection.
            let limits = cluster::Limits::default();
            let message: Message = cluster::decode(&message, &limits).expect("it was encoded");
            let from = message.from.shared_name();
            self.call(to, |tracker, now| {
                tracker
                    .handle_message(&from, message, now)
                    .expect("it is sound");
            });
        }
    }

    fn call(&mut self, at: usize, call: impl FnOnce(&mut Tracker, Duration)) {
        let tracker = &mut self.nodes[at];
        let start = Instant::now();
        call(tracker, self.now);
        while let Some(transmit) = tracker.poll_transmit() {
            let message = cluster::encode(&transmit.message);
            if self.connected {
                self.messages[1 - at].push_back(message);
            }
        }
        while tracker.poll_diff().is_some() {}
        while tracker.poll_event().is_some() {}
        self.steps[at].push(start.elapsed());
    }
}
