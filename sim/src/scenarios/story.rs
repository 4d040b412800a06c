//! Stories: schedules written as they would be told.

use std::ops::Range;

use fastrand::Rng;

use crate::schedule::{Action, Joining, Network, NodeSpec, Schedule, Settings, Step};

/// The topic in which most of it happens.
pub(super) const ROOM: &str = "room";

/// When a story begins: all nodes that run from the start await connections by then.
const BEGINS_MS: u64 = 100;

/// A schedule in the making: what is told next happens at the time that the story has come to.
pub(super) struct Story {
    rng: Rng,
    now_ms: u64,
    next_process: u64,
    schedule: Schedule,
}

/// Who is tracked in the room: processes of one node, each under the key of its user.
#[derive(Clone)]
pub(super) struct Users {
    node: String,
    processes: Range<u64>,
    first_user: u64,
}

impl Users {
    /// Each process and its user.
    fn each(&self) -> impl Iterator<Item = (u64, u64)> {
        self.processes.clone().zip(self.first_user..)
    }
}

impl Story {
    /// A calm cluster of nodes `a`, `b`, `c` and so on, with usual settings; the seed varies its details.
    pub(super) fn new(name: &str, seed: u64, nodes: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let broadcast_period = [500, 1000, 1500][rng.usize(0..3)];
        let max_silent_periods = rng.u32(4..11);
        let down_period = 2 * u64::from(max_silent_periods) * broadcast_period;
        let settings = Settings {
            broadcast_period,
            max_silent_periods,
            down_period,
            permdown_period: 4 * down_period,
            clock_sample_periods: rng.u32(1..4),
            max_delta_size: 1000,
            permdown_on_shutdown: false,
            handover: false,
            chunk_values: 100,
            pool_size: 1,
        };
        let network = Network {
            latency_us: rng.u64(100..40_000),
            jitter_us: rng.u64(0..20_000),
            ordered: true,
            loss: 0,
            repeat: 0,
            late: 0,
            queue: 10_000,
            announces: true,
            detects_crashes: false,
        };
        let nodes = ('a'..='z').take(nodes).map(|name| NodeSpec {
            name: name.to_string(),
            starts: true,
            clock_ppm: 0,
            pool_size: None,
        });
        let schedule = Schedule {
            name: name.into(),
            seed,
            settings,
            network,
            nodes: nodes.collect(),
            steps: Vec::new(),
            heal_ms: 0,
            joining: Joining::Each,
            heal_first: Vec::new(),
        };
        Self {
            rng,
            now_ms: BEGINS_MS,
            next_process: 1,
            schedule,
        }
    }

    // Before it begins.

    pub(super) fn settings(&mut self) -> &mut Settings {
        &mut self.schedule.settings
    }

    pub(super) fn network(&mut self) -> &mut Network {
        &mut self.schedule.network
    }

    pub(super) fn node(&mut self, name: &str) -> &mut NodeSpec {
        let mut nodes = self.schedule.nodes.iter_mut();
        let found = nodes.find(|node| node.name == name);
        found.expect("a story tells of its own nodes")
    }

    /// These nodes do not run from the start.
    pub(super) fn not_yet(&mut self, names: &[&str]) {
        for name in names {
            self.node(name).starts = false;
        }
    }

    /// The names of all nodes.
    pub(super) fn names(&self) -> Vec<String> {
        let nodes = self.schedule.nodes.iter();
        nodes.map(|node| node.name.clone()).collect()
    }

    // Time.

    pub(super) fn some(&mut self, range: Range<u64>) -> u64 {
        self.rng.u64(range)
    }

    pub(super) fn period(&self) -> u64 {
        self.schedule.settings.broadcast_period
    }

    pub(super) fn down(&self) -> u64 {
        self.schedule.settings.down_period
    }

    pub(super) fn permdown(&self) -> u64 {
        self.schedule.settings.permdown_period
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// Waits for so many periods and a part of one.
    pub(super) fn wait_periods(&mut self, periods: u64) {
        let part = self.some(0..self.period());
        self.wait(periods * self.period() + part);
    }

    /// Waits until whoever is silent from now on is down for everyone.
    pub(super) fn wait_until_down(&mut self) {
        self.wait(self.down() + 2 * self.period());
    }

    /// Waits until whoever is silent from now on is forgotten by everyone.
    pub(super) fn wait_until_forgotten(&mut self) {
        self.wait(self.permdown() + 2 * self.period());
    }

    // People.

    /// So many users come to a node, one after the other within a period.
    pub(super) fn come(&mut self, node: &str, count: u64) -> Users {
        let users = self.users(node, count);
        for (process, user) in users.each() {
            let soon = self.some(0..self.period());
            self.come_as(node, process, user, soon);
        }
        self.wait(self.period());
        users
    }

    /// Some users come to a node, as many as the seed says.
    pub(super) fn some_come(&mut self, node: &str, count: Range<u64>) -> Users {
        let count = self.some(count);
        self.come(node, count)
    }

    /// So many users come to a node in one moment.
    pub(super) fn rush(&mut self, node: &str, count: u64) -> Users {
        let users = self.users(node, count);
        self.happens(Action::Storm {
            node: node.into(),
            topic: ROOM.into(),
            first: users.processes.start,
            count,
        });
        users
    }

    /// Users of a node come back to another, each after a while of its own.
    pub(super) fn come_again(&mut self, users: &Users, node: &str, within_ms: u64) -> Users {
        let count = users.processes.end - users.processes.start;
        // A user is known by its key; the process is another.
        let mut again = self.users(node, count);
        again.first_user = users.first_user;
        for (process, user) in again.each() {
            let soon = self.some(1..within_ms.max(2));
            self.come_as(node, process, user, soon);
        }
        again
    }

    fn users(&mut self, node: &str, count: u64) -> Users {
        let processes = self.next_process..self.next_process + count;
        let first_user = processes.start;
        self.next_process += count;
        Users {
            node: node.into(),
            processes,
            first_user,
        }
    }

    fn come_as(&mut self, node: &str, process: u64, user: u64, after_ms: u64) {
        let action = Action::Track {
            node: node.into(),
            process,
            topic: ROOM.into(),
            key: format!("user {user}"),
        };
        self.happens_after(after_ms, action);
    }

    /// The metas of users change.
    pub(super) fn change(&mut self, users: &Users) {
        for (process, user) in users.each() {
            self.happens(Action::Update {
                node: users.node.clone(),
                process,
                topic: ROOM.into(),
                key: format!("user {user}"),
            });
        }
    }

    /// The metas of all users of a node change in one call.
    pub(super) fn change_all(&mut self, node: &str) {
        self.happens(Action::UpdateTopic {
            node: node.into(),
            topic: ROOM.into(),
        });
    }

    /// Users leave.
    pub(super) fn leave(&mut self, users: &Users) {
        for process in users.processes.clone() {
            self.happens(Action::End {
                node: users.node.clone(),
                process,
            });
        }
    }

    /// All users of a node leave in one moment.
    pub(super) fn all_leave(&mut self, node: &str) {
        self.happens(Action::Exodus { node: node.into() });
    }

    // Nodes.

    pub(super) fn starts(&mut self, node: &str) {
        let clock_ms = self.rng.i64(0..500);
        self.starts_with_clock(node, clock_ms);
    }

    /// A node starts with a wall clock that has gone forward, or back.
    pub(super) fn starts_with_clock(&mut self, node: &str, clock_ms: i64) {
        self.happens(Action::Start {
            node: node.into(),
            clock_ms,
        });
    }

    pub(super) fn crashes(&mut self, node: &str) {
        self.happens(Action::Crash { node: node.into() });
    }

    /// A node stops, and its sockets are drained after so long.
    pub(super) fn stops(&mut self, node: &str, drain_ms: u64) {
        self.happens(Action::Stop {
            node: node.into(),
            drain_ms,
        });
    }

    pub(super) fn pauses(&mut self, node: &str, ms: u64) {
        self.happens(Action::Pause {
            node: node.into(),
            ms,
        });
    }

    pub(super) fn is_slow(&mut self, node: &str, us_per_message: u64, ms: u64) {
        self.happens(Action::Slow {
            node: node.into(),
            us_per_message,
            ms,
        });
    }

    /// A node is wrongly told that another's process is gone.
    pub(super) fn accuses(&mut self, at: &str, of: &str) {
        self.happens(Action::Accuse {
            at: at.into(),
            of: of.into(),
        });
    }

    // The network.

    pub(super) fn cut(&mut self, from: &[&str], to: &[&str], ms: u64) {
        self.happens(Action::Cut {
            from: owned(from),
            to: owned(to),
            one_way: false,
            ms,
        });
    }

    pub(super) fn cut_one_way(&mut self, from: &[&str], to: &[&str], ms: u64) {
        self.happens(Action::Cut {
            from: owned(from),
            to: owned(to),
            one_way: true,
            ms,
        });
    }

    pub(super) fn hold(&mut self, from: &[&str], to: &[&str], ms: u64) {
        self.happens(Action::Hold {
            from: owned(from),
            to: owned(to),
            ms,
        });
    }

    // The end.

    /// These find together before the others do.
    pub(super) fn heal_first(&mut self, names: &[&str]) {
        self.schedule.heal_first = owned(names);
    }

    /// All faults end.
    pub(super) fn ends(mut self) -> Schedule {
        let steps = &mut self.schedule.steps;
        steps.sort_by_key(|step| step.at_ms);
        let last = steps.last().map_or(0, |step| step.at_ms);
        self.schedule.heal_ms = self.now_ms.max(last);
        self.schedule
    }

    fn happens(&mut self, action: Action) {
        self.happens_after(0, action);
    }

    fn happens_after(&mut self, ms: u64, action: Action) {
        let at_ms = self.now_ms + ms;
        self.schedule.steps.push(Step { at_ms, action });
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}
