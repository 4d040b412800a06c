//! Schedules made from a seed.
//!
//! Each turns on a random part of what can go wrong, at random rates (swarm testing, after Groce et
//! al., *Swarm testing*, 2012): a run in which everything goes wrong at once seldom gets anywhere.

use fastrand::Rng;

use crate::schedule::{Action, Joining, Network, NodeSpec, Schedule, Settings, Step};

/// The schedule of a seed, for the first tier.
pub fn random(seed: u64) -> Schedule {
    Generator::new(seed, &TRACKERS).generate()
}

/// The schedule of a seed, for the second tier: smaller, since each process is a client with a socket, and
/// with what happens to clients.
pub fn with_clients(seed: u64) -> Schedule {
    Generator::new(seed, &CLIENTS).generate()
}

/// How large schedules are.
struct Scale {
    /// Nodes at the start, fewer than so many; others may come later.
    nodes: usize,
    /// Periods until faults end, fewer than so many.
    periods: u64,
    operations: u32,
    storms: [u64; 4],
    latencies_us: [u64; 4],
    jitters_us: [u64; 4],
    has_clients: bool,
}

const TRACKERS: Scale = Scale {
    nodes: 10,
    periods: 80,
    operations: 400,
    storms: [5, 30, 120, 300],
    latencies_us: [100, 2_000, 50_000, 200_000],
    jitters_us: [0, 500, 20_000, 300_000],
    has_clients: false,
};

const CLIENTS: Scale = Scale {
    nodes: 7,
    periods: 50,
    operations: 150,
    storms: [5, 10, 30, 60],
    latencies_us: [1_000, 2_000, 20_000, 80_000],
    jitters_us: [0, 1_000, 20_000, 100_000],
    has_clients: true,
};

struct Generator {
    scale: &'static Scale,
    rng: Rng,
    seed: u64,
    settings: Settings,
    nodes: Vec<NodeSpec>,
    end_ms: u64,
    steps: Vec<Step>,
    topics: u32,
    keys: u32,
    next_process: u64,
    /// What is tracked, as far as the operations go: node, process, topic, key.
    tracked: Vec<(usize, u64, String, String)>,
}

impl Generator {
    fn new(seed: u64, scale: &'static Scale) -> Self {
        let mut rng = Rng::with_seed(seed);
        let settings = settings(&mut rng);
        let count = match rng.u32(0..10) {
            0..2 => 2,
            2..5 => 3,
            5..8 => rng.usize(4..6),
            _ => rng.usize(6..scale.nodes),
        };
        let mut nodes: Vec<NodeSpec> = (0..count).map(|n| node(&format!("n{n}"))).collect();
        if rng.u32(0..4) == 0 {
            for node in &mut nodes {
                if rng.bool() {
                    node.clock_ppm = rng.i64(-30_000..30_000);
                }
            }
        }
        if rng.u32(0..30) == 0
            && let Some(odd) = nodes.last_mut()
        {
            odd.pool_size = Some(settings.pool_size + 1);
        }
        let periods = rng.u64(20..scale.periods);
        Self {
            scale,
            end_ms: periods * settings.broadcast_period,
            topics: rng.u32(1..6),
            keys: rng.u32(1..10),
            rng,
            seed,
            settings,
            nodes,
            steps: Vec::new(),
            next_process: 1,
            tracked: Vec::new(),
        }
    }

    fn generate(mut self) -> Schedule {
        self.operations();
        self.storms();
        if self.rng.u32(0..10) > 0 {
            self.lives();
            self.stops();
            self.pauses();
            self.cuts();
            self.guesses();
        }
        self.additions();
        if self.scale.has_clients {
            self.clients();
            self.strains();
        }
        self.steps.retain(|step| step.at_ms <= self.end_ms);
        self.steps.sort_by_key(|step| step.at_ms);
        let network = network(&mut self.rng, self.scale);
        let heal_first = self.part();
        let joining = self.joining(&heal_first);
        Schedule {
            name: format!("seed {}", self.seed),
            seed: self.seed,
            settings: self.settings,
            network,
            nodes: self.nodes,
            steps: self.steps,
            heal_ms: self.end_ms,
            joining,
            heal_first,
        }
    }

    /// People come, change and go.
    fn operations(&mut self) {
        let period = self.settings.broadcast_period;
        let mean_gap = [period / 20, period / 4, period, period * 4][self.rng.usize(0..4)].max(1);
        let most = self.scale.operations;
        let idle = (self.rng.u32(0..5) == 0).then(|| {
            let from = self.rng.u64(0..self.end_ms);
            from..from + self.end_ms / 3
        });
        let mut at = self.rng.u64(0..=mean_gap);
        let mut made = 0;
        let [joins, updates] = [self.rng.u32(3..8), self.rng.u32(0..5)];
        while at < self.end_ms && made < most {
            if idle.as_ref().is_none_or(|idle| !idle.contains(&at)) {
                self.operation(at, joins, updates);
                made += 1;
            }
            at += self.rng.u64(0..=2 * mean_gap);
        }
    }

    fn operation(&mut self, at: u64, joins: u32, updates: u32) {
        let roll = self.rng.u32(0..12);
        if self.tracked.is_empty() || roll < joins {
            let node = self.rng.usize(0..self.nodes.len());
            // One process may be tracked in many topics, and under many keys.
            let again = self.tracked.iter().rev().find(|tracked| tracked.0 == node);
            let process = match again {
                Some(tracked) if self.rng.u32(0..3) == 0 => tracked.1,
                _ => {
                    self.next_process += 1;
                    self.next_process
                }
            };
            let topic = format!("t{}", self.rng.u32(0..self.topics));
            let key = format!("k{}", self.rng.u32(0..self.keys));
            self.tracked
                .push((node, process, topic.clone(), key.clone()));
            let node = self.nodes[node].name.clone();
            self.push(
                at,
                Action::Track {
                    node,
                    process,
                    topic,
                    key,
                },
            );
            return;
        }
        let which = self.rng.usize(0..self.tracked.len());
        let (node, process, topic, key) = self.tracked[which].clone();
        let name = self.nodes[node].name.clone();
        let action = if roll < joins + updates {
            if self.rng.u32(0..12) == 0 {
                Action::UpdateTopic { node: name, topic }
            } else {
                Action::Update {
                    node: name,
                    process,
                    topic,
                    key,
                }
            }
        } else if self.rng.bool() {
            self.tracked.swap_remove(which);
            Action::Untrack {
                node: name,
                process,
                topic,
                key,
            }
        } else {
            self.tracked
                .retain(|tracked| (tracked.0, tracked.1) != (node, process));
            Action::End {
                node: name,
                process,
            }
        };
        self.push(at, action);
    }

    fn storms(&mut self) {
        if self.rng.u32(0..3) > 0 {
            return;
        }
        for _ in 0..self.rng.u32(1..4) {
            let node = self.some_node();
            let at = self.rng.u64(0..self.end_ms);
            let count = self.scale.storms[self.rng.usize(0..4)];
            self.storm(at, node.clone(), count);
            if self.rng.bool() {
                let later = at + self.rng.u64(0..self.end_ms / 2);
                self.push(later, Action::Exodus { node });
            }
        }
    }

    fn storm(&mut self, at: u64, node: String, count: u64) {
        let topic = format!("t{}", self.rng.u32(0..self.topics));
        let first = 1_000_000 + self.next_process;
        self.next_process += count;
        let storm = Action::Storm {
            node,
            topic,
            first,
            count,
        };
        self.push(at, storm);
    }

    /// Crashes and restarts.
    fn lives(&mut self) {
        if self.rng.u32(0..3) == 0 {
            return;
        }
        for _ in 0..self.rng.u32(1..7) {
            let node = self.some_node();
            let at = self.rng.u64(0..self.end_ms);
            self.push(at, Action::Crash { node: node.clone() });
            self.again(at, &node);
        }
        if self.rng.u32(0..4) == 0 {
            self.crash_loop();
        }
    }

    /// A node that crashes soon after each start, as one does whose disk is full. Its users come back
    /// each time.
    fn crash_loop(&mut self) {
        let (node, period) = (self.some_node(), self.settings.broadcast_period);
        let mut at = self.rng.u64(0..self.end_ms);
        for _ in 0..self.rng.u32(3..12) {
            self.push(at, Action::Crash { node: node.clone() });
            at += self.rng.u64(1..period);
            let start = Action::Start {
                node: node.clone(),
                clock_ms: 0,
            };
            self.push(at, start);
            self.rejoin(at, &node);
            at += self.rng.u64(1..4 * period);
        }
    }

    /// A node that is gone comes back, or another takes its place, or neither.
    fn again(&mut self, at: u64, node: &str) {
        let Settings {
            broadcast_period: period,
            down_period: down,
            permdown_period: permdown,
            ..
        } = self.settings;
        let away = match self.rng.u32(0..9) {
            0 => return,
            1..4 => self.rng.u64(0..100),
            4 | 5 => self.rng.u64(0..2 * period),
            6 => self.rng.u64(0..down),
            7 => down + self.rng.u64(0..down),
            _ => permdown + self.rng.u64(0..permdown / 2),
        };
        if self.rng.u32(0..6) == 0 && self.nodes.len() < 12 {
            let fresh = self.fresh_node();
            self.push(
                at + away,
                Action::Start {
                    node: fresh,
                    clock_ms: 0,
                },
            );
            return;
        }
        let clock_ms = match self.rng.u32(0..4) {
            0 => -(self.rng.i64(1..3_600_000)),
            _ => self.rng.i64(0..1000),
        };
        self.push(
            at + away,
            Action::Start {
                node: node.to_owned(),
                clock_ms,
            },
        );
        if self.rng.bool() {
            self.rejoin(at + away, node);
        }
    }

    /// The users of a node that has started again come back to it.
    fn rejoin(&mut self, at: u64, node: &str) {
        let named = |tracked: &&(usize, u64, String, String)| self.nodes[tracked.0].name == node;
        let users: Vec<_> = self.tracked.iter().filter(named).cloned().collect();
        for (_, _, topic, key) in users {
            self.next_process += 1;
            let process = self.next_process;
            let soon = at + self.rng.u64(1..=self.settings.broadcast_period);
            let node = node.to_owned();
            self.push(
                soon,
                Action::Track {
                    node,
                    process,
                    topic,
                    key,
                },
            );
        }
    }

    /// Graceful stops: users go on to other nodes.
    fn stops(&mut self) {
        if self.rng.u32(0..3) > 0 {
            return;
        }
        for _ in 0..self.rng.u32(1..3) {
            let node = self.rng.usize(0..self.nodes.len());
            let at = self.rng.u64(0..self.end_ms);
            let drain_ms = self.rng.u64(0..4 * self.settings.broadcast_period);
            let name = self.nodes[node].name.clone();
            self.push(
                at,
                Action::Stop {
                    node: name.clone(),
                    drain_ms,
                },
            );
            let users: Vec<_> = self
                .tracked
                .iter()
                .filter(|tracked| tracked.0 == node)
                .cloned()
                .collect();
            for (_, _, topic, key) in users {
                if self.rng.u32(0..3) > 0 {
                    self.next_process += 1;
                    let process = self.next_process;
                    let node = self.some_node();
                    let soon = at + self.rng.u64(0..2 * self.settings.broadcast_period);
                    self.push(
                        soon,
                        Action::Track {
                            node,
                            process,
                            topic,
                            key,
                        },
                    );
                }
            }
            self.again(at + drain_ms, &name);
        }
    }

    fn pauses(&mut self) {
        if self.rng.u32(0..3) == 0 {
            for _ in 0..self.rng.u32(1..4) {
                let (node, at) = (self.some_node(), self.rng.u64(0..self.end_ms));
                let ms = [
                    self.rng.u64(0..2 * self.settings.broadcast_period),
                    self.rng.u64(0..2 * self.settings.down_period),
                ][self.rng.usize(0..2)];
                self.push(at, Action::Pause { node, ms });
            }
        }
        if self.rng.u32(0..4) == 0 {
            for _ in 0..self.rng.u32(1..3) {
                let (node, at) = (self.some_node(), self.rng.u64(0..self.end_ms));
                let us_per_message = self.rng.u64(1_000..400_000);
                let ms = self.rng.u64(0..self.end_ms / 2);
                self.push(
                    at,
                    Action::Slow {
                        node,
                        us_per_message,
                        ms,
                    },
                );
            }
        }
    }

    fn cuts(&mut self) {
        if self.rng.u32(0..5) < 2 {
            return;
        }
        let Settings {
            broadcast_period: period,
            down_period: down,
            permdown_period: permdown,
            ..
        } = self.settings;
        for _ in 0..self.rng.u32(1..5) {
            let at = self.rng.u64(0..self.end_ms);
            let ms = match self.rng.u32(0..4) {
                0 => self.rng.u64(0..2 * period),
                1 => self.rng.u64(0..down),
                2 => down + self.rng.u64(0..2 * down),
                _ => permdown + self.rng.u64(0..permdown),
            };
            let (from, to) = if self.rng.u32(0..3) == 0 {
                // A single link.
                let from = self.rng.usize(0..self.nodes.len());
                let to = self.rng.usize(0..self.nodes.len());
                if from == to {
                    continue;
                }
                (
                    vec![self.nodes[from].name.clone()],
                    vec![self.nodes[to].name.clone()],
                )
            } else {
                let mut sides = [Vec::new(), Vec::new()];
                for node in &self.nodes {
                    sides[self.rng.usize(0..2)].push(node.name.clone());
                }
                let [from, to] = sides;
                if from.is_empty() || to.is_empty() {
                    continue;
                }
                (from, to)
            };
            let action = match self.rng.u32(0..5) {
                0 => Action::Hold { from, to, ms },
                kind => Action::Cut {
                    from,
                    to,
                    one_way: kind == 1,
                    ms,
                },
            };
            self.push(at, action);
        }
    }

    fn guesses(&mut self) {
        if self.rng.u32(0..5) > 0 {
            return;
        }
        for _ in 0..self.rng.u32(1..4) {
            let (at, of) = (self.some_node(), self.some_node());
            let when = self.rng.u64(0..self.end_ms);
            self.push(when, Action::Accuse { at, of });
        }
    }

    /// Nodes that join the cluster later.
    fn additions(&mut self) {
        if self.rng.u32(0..4) > 0 {
            return;
        }
        let node = self.fresh_node();
        let at = self.rng.u64(0..self.end_ms);
        self.push(
            at,
            Action::Start {
                node: node.clone(),
                clock_ms: 0,
            },
        );
        for _ in 0..self.rng.u32(0..10) {
            self.next_process += 1;
            let process = self.next_process;
            let topic = format!("t{}", self.rng.u32(0..self.topics));
            let key = format!("k{}", self.rng.u32(0..self.keys));
            let later = at + self.rng.u64(0..self.end_ms);
            let node = node.clone();
            self.push(
                later,
                Action::Track {
                    node,
                    process,
                    topic,
                    key,
                },
            );
        }
    }

    /// What goes wrong between clients and their nodes, and what clients do beside their operations.
    fn clients(&mut self) {
        let mut clients = Vec::new();
        for step in &self.steps {
            if let Action::Track {
                node,
                process,
                topic,
                ..
            } = &step.action
            {
                clients.push((step.at_ms, node.clone(), *process, topic.clone()));
            }
        }
        if clients.is_empty() {
            return;
        }
        for _ in 0..self.rng.u32(0..16) {
            let which = self.rng.usize(0..clients.len());
            let (since, node, process, topic) = clients[which].clone();
            let at = since + self.rng.u64(0..self.end_ms / 2);
            let ms = self.rng.u64(0..self.settings.down_period);
            let action = match self.rng.u32(0..8) {
                0 | 1 => Action::Reset { node, process },
                2 => Action::Move {
                    node,
                    process,
                    to: self.some_node(),
                },
                3 => Action::Stall { node, process, ms },
                4 => Action::Lag {
                    node,
                    process,
                    us_per_message: self.rng.u64(1_000..2_000_000),
                    ms,
                },
                5 => Action::Leave {
                    node,
                    process,
                    topic,
                },
                _ => Action::Shout {
                    node,
                    process,
                    topic,
                },
            };
            self.push(at, action);
        }
    }

    /// Connections that take little, and machines that do.
    fn strains(&mut self) {
        // Drawn apart, so that the rest of a schedule is what it is without them.
        let own = Rng::with_seed(self.seed ^ 0x57a1_4ed0);
        let others = std::mem::replace(&mut self.rng, own);
        if self.rng.u32(0..4) == 0 {
            self.narrow_connections();
        }
        if self.rng.u32(0..4) == 0 {
            self.thrashing();
        }
        self.rng = others;
    }

    /// Connections of a node to one other or to all that take less than there is to say.
    fn narrow_connections(&mut self) {
        for _ in 0..self.rng.u32(1..4) {
            let (from, at) = (self.some_node(), self.rng.u64(0..self.end_ms));
            let to = match self.rng.bool() {
                true => vec![self.some_node()],
                false => self.nodes.iter().map(|node| node.name.clone()).collect(),
            };
            let narrow = Action::Narrow {
                from: vec![from.clone()],
                to: to.into_iter().filter(|to| *to != from).collect(),
                bytes_per_s: [300, 1000, 4000][self.rng.usize(0..3)],
                ms: self.rng.u64(0..self.end_ms / 2),
            };
            self.push(at, narrow);
            if self.rng.bool() {
                let soon = at + self.rng.u64(0..2 * self.settings.broadcast_period);
                let most = self.scale.storms[3];
                self.storm(soon, from, most);
            }
        }
    }

    /// A machine that is short of memory: its node is slow, does nothing for so long that the others give up
    /// their connections to it, and goes on with all that they said before.
    fn thrashing(&mut self) {
        let (node, at) = (self.some_node(), self.rng.u64(0..self.end_ms));
        let Settings {
            broadcast_period: period,
            down_period: down,
            ..
        } = self.settings;
        let ms = self.rng.u64(4 * period..2 * down);
        let slow = Action::Slow {
            node: node.clone(),
            us_per_message: self.rng.u64(50_000..400_000),
            ms: ms + self.rng.u64(period..10 * period),
        };
        self.push(at, slow);
        self.push(at, Action::Pause { node, ms });
    }

    fn part(&mut self) -> Vec<String> {
        if self.rng.u32(0..6) > 0 {
            return Vec::new();
        }
        let mut part = Vec::new();
        for node in &self.nodes {
            if self.rng.bool() {
                part.push(node.name.clone());
            }
        }
        part
    }

    fn joining(&self, heal_first: &[String]) -> Joining {
        // Drawn apart as well.
        let mut rng = Rng::with_seed(self.seed ^ 0x901c_0f7e);
        if !self.scale.has_clients {
            return Joining::Each;
        }
        match rng.u32(0..4) {
            0 => Joining::Name,
            1 => {
                let stay = self
                    .nodes
                    .iter()
                    .filter(|node| self.is_there_at_the_end(node));
                let stay: Vec<_> = stay.filter(|_| heal_first.is_empty()).collect();
                let through = rng.choice(stay);
                through.map_or(Joining::Each, |node| Joining::Through(node.name.clone()))
            }
            _ => Joining::Each,
        }
    }

    /// Whether a node can introduce the others to each other once faults have ended.
    fn is_there_at_the_end(&self, node: &NodeSpec) -> bool {
        let mut is_there = node.starts;
        for step in &self.steps {
            match &step.action {
                Action::Crash { node: gone } | Action::Stop { node: gone, .. } => {
                    is_there &= *gone != node.name;
                }
                Action::Start { node: begins, .. } => is_there |= *begins == node.name,
                _ => {}
            }
        }
        is_there && node.pool_size.is_none()
    }

    fn fresh_node(&mut self) -> String {
        let name = format!("n{}", self.nodes.len());
        let mut fresh = node(&name);
        fresh.starts = false;
        self.nodes.push(fresh);
        name
    }

    fn some_node(&mut self) -> String {
        let node = self.rng.usize(0..self.nodes.len());
        self.nodes[node].name.clone()
    }

    fn push(&mut self, at_ms: u64, action: Action) {
        self.steps.push(Step { at_ms, action });
    }
}

fn node(name: &str) -> NodeSpec {
    NodeSpec {
        name: name.into(),
        starts: true,
        clock_ppm: 0,
        pool_size: None,
    }
}

fn settings(rng: &mut Rng) -> Settings {
    let broadcast_period = [500, 1000, 1500][rng.usize(0..3)];
    let max_silent_periods = rng.u32(3..11);
    let least = (u64::from(max_silent_periods) + 2) * broadcast_period;
    let down_period = match rng.u32(0..3) {
        // Little more than it must be.
        0 => least + rng.u64(1..broadcast_period),
        _ => (2 * u64::from(max_silent_periods) * broadcast_period).max(least + 1),
    };
    Settings {
        broadcast_period,
        max_silent_periods,
        down_period,
        permdown_period: down_period * rng.u64(2..6) + rng.u64(0..down_period),
        clock_sample_periods: rng.u32(1..4),
        max_delta_size: [1, 4, 20, 100, 10_000][rng.usize(0..5)],
        permdown_on_shutdown: rng.bool(),
        handover: rng.bool(),
        chunk_values: [1, 3, 10, 50, 2000][rng.usize(0..5)],
        pool_size: if rng.u32(0..5) == 0 {
            rng.usize(2..4)
        } else {
            1
        },
    }
}

fn network(rng: &mut Rng, scale: &Scale) -> Network {
    let calm = rng.u32(0..4) == 0;
    let mut rate = |most: u32| match calm || rng.bool() {
        true => 0,
        false => rng.u32(0..most),
    };
    let (loss, repeat, late) = (rate(200_000), rate(200_000), rate(200_000));
    Network {
        latency_us: scale.latencies_us[rng.usize(0..4)],
        jitter_us: scale.jitters_us[rng.usize(0..4)],
        ordered: rng.bool(),
        loss,
        repeat,
        late,
        queue: [4, 50, 1000, 10_000][rng.usize(0..4)],
        announces: rng.bool(),
        detects_crashes: rng.u32(0..3) == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_valid_schedule_each_time() {
        for seed in 0..500 {
            for make in [random, with_clients] {
                let schedule = make(seed);
                assert_eq!(schedule, make(seed));
                assert_eq!(Schedule::parse(&schedule.to_json()), Ok(schedule));
            }
        }
    }
}
