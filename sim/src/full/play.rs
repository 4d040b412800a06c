//! A run: the schedule's steps, tick after tick.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fastrand::Rng;
use presence_core::wire::cluster::Version;
use presence_server::app::{Tokens, conformance};
use tokio::sync::mpsc;
use turmoil::Sim;

use super::client::Order;
use super::host::{self, Setup};
use super::judge::{Checked, Judge};
use super::links::Links;
use super::people::{self, HOSTS, People};
use super::stage::{Call, EPOCH, Happened, Micros, Stage, Written};
use crate::coverage::Counted;
use crate::outcome::{Failure, Outcome};
use crate::panic;
use crate::sabotage::Saboteur;
use crate::schedule::{Action, NodeSpec, Schedule};
use crate::truth::Number;
use crate::world::Options;

/// A step of time, in microseconds: what happens within one happens at once.
pub(super) const TICK: Micros = 10_000;

/// Runs a schedule with the real node, to its end or to the first invariant that breaks.
pub fn run(schedule: &Schedule, options: Options) -> Outcome {
    Play::new(schedule, options).finish()
}

struct Play<'a> {
    schedule: &'a Schedule,
    sim: Sim<'static>,
    stage: Arc<Stage>,
    people: People,
    judge: Judge<'a>,
    links: Links,
    now: Micros,
    /// By time and then by what came first.
    due: BTreeMap<(Micros, u64), Due>,
    queued: u64,
    happened: Vec<Happened>,
    rng: Rng,
}

/// What comes to pass at a time.
enum Due {
    Step(usize),
    Start {
        node: usize,
        clock_ms: i64,
    },
    Resume {
        node: usize,
        life: u32,
    },
    Mend(Vec<(usize, usize)>),
    Release(Vec<(usize, usize)>),
    /// A node learns that it is connected to another, whom it took for gone.
    Connected {
        at: usize,
        of: usize,
    },
    Unstall(usize),
    /// Some list is read on some node.
    Read,
}

impl<'a> Play<'a> {
    fn new(schedule: &'a Schedule, options: Options) -> Self {
        let saboteur = Saboteur::new(options.sabotage, schedule.seed);
        let stage = Arc::new(Stage::new(schedule, saboteur));
        let network = &schedule.network;
        let mut sim = turmoil::Builder::new()
            .rng_seed(schedule.seed)
            .epoch(UNIX_EPOCH + EPOCH)
            .simulation_duration(Duration::MAX)
            .tick_duration(Duration::from_micros(TICK))
            .tcp_capacity(1024)
            .min_message_latency(Duration::from_micros(network.latency_us))
            .max_message_latency(Duration::from_micros(
                network.latency_us + network.jitter_us,
            ))
            .enable_random_order()
            .build();
        let names: Vec<Arc<str>> = schedule
            .nodes
            .iter()
            .map(|n| n.name.as_str().into())
            .collect();
        // Each host is known by name before any runs.
        for name in &names {
            sim.lookup(&**name);
        }
        for setup in setups(schedule, &stage, &names) {
            let (stage, name) = (Arc::clone(&stage), Arc::clone(&setup.name));
            sim.host(&*name, move || host::run(Arc::clone(&stage), setup.clone()));
        }
        let hosts = (0..HOSTS).map(|host| {
            let (births, born) = mpsc::unbounded_channel();
            sim.client(format!("clients-{host}"), people::host(born));
            births
        });
        let hosts = hosts.collect();
        let pool = |node: &NodeSpec| node.pool_size.unwrap_or(schedule.settings.pool_size);
        let pools = schedule.nodes.iter().map(pool).collect();
        let people = People::new(
            Arc::clone(&stage),
            schedule.seed,
            pools,
            topics(schedule),
            hosts,
        );
        Self {
            schedule,
            sim,
            people,
            judge: Judge::new(schedule, options.trace),
            links: Links::new(Arc::clone(&stage), names),
            stage,
            now: 0,
            due: BTreeMap::new(),
            queued: 0,
            happened: Vec::new(),
            rng: Rng::with_seed(schedule.seed ^ 0x91a7),
        }
    }

    fn finish(mut self) -> Outcome {
        let failure = match panic::caught(|| self.run()) {
            Ok(held) => held.err(),
            Err(said) => Some(self.judge.panicked(said)),
        };
        self.outcome(failure)
    }

    fn run(&mut self) -> Checked {
        for (index, step) in self.schedule.steps.iter().enumerate() {
            self.at(step.at_ms * 1000, Due::Step(index));
        }
        self.at(self.period(), Due::Read);
        self.run_until(self.schedule.heal_ms * 1000)?;
        if !self.schedule.heal_first.is_empty() {
            let first = &self.schedule.heal_first;
            let names = self.schedule.nodes.iter().map(|node| &node.name);
            let part: Vec<bool> = names.map(|name| first.contains(name)).collect();
            self.heal(&part);
            self.run_until(self.now + self.judge.bound())?;
            self.judge.check_part(&part)?;
        }
        self.heal(&vec![true; self.schedule.nodes.len()]);
        self.run_until_converged()?;
        self.check_broadcasts()?;
        self.check_idle()?;
        self.check_forgotten()
    }

    fn run_until(&mut self, end: Micros) -> Checked {
        while self.now < end {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Checked {
        self.stage.set_now(self.now);
        self.judge.set_now(self.now);
        while let Some(entry) = self.due.first_entry().filter(|due| due.key().0 <= self.now) {
            let due = entry.remove();
            self.happen(due);
        }
        let sabotaged = self.stage.sabotaged();
        if let Err(error) = self.sim.step() {
            return Err(self.judge.panicked(format!("a host ended: {error}")));
        }
        if self.stage.sabotaged() > sabotaged {
            self.judge.log_all("here the planted defect acted");
        }
        self.now += TICK;
        if self.now.is_multiple_of(1_000_000) {
            let Written { bytes, digest } = self.stage.written();
            self.judge
                .log_written(format!("{bytes} bytes were written by now, {digest:016x}"));
        }
        let mut happened = std::mem::take(&mut self.happened);
        self.stage.take_happened(&mut happened);
        for what in happened.drain(..) {
            self.judge.happened(what, &mut self.people)?;
        }
        self.happened = happened;
        self.note_trouble();
        self.judge.check_promises()?;
        match panic::said() {
            Some(said) => Err(self.judge.panicked(said)),
            None => Ok(()),
        }
    }

    /// Tells the judge where something is in the way.
    fn note_trouble(&mut self) {
        let count = self.schedule.nodes.len();
        let stops = |node| self.stage.is_paused(node) || self.stage.slowness(node).is_some();
        let stops: Vec<bool> = (0..count).map(stops).collect();
        for one in 0..count {
            for other in 0..one {
                let links = &self.links;
                let is_cut = links.is_cut(one, other) || links.is_cut(other, one);
                let is_held = links.is_held(one, other) || links.is_held(other, one);
                if is_cut || is_held || stops[one] || stops[other] {
                    self.judge.trouble(one, other);
                }
            }
        }
    }

    fn at(&mut self, at: Micros, due: Due) {
        self.due.insert((at, self.queued), due);
        self.queued += 1;
    }

    fn in_ms(&mut self, ms: u64, due: Due) {
        self.at(self.now + ms * 1000, due);
    }

    fn period(&self) -> Micros {
        self.schedule.settings.broadcast_period * 1000
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Step(index) => self.act(&self.schedule.steps[index].action),
            Due::Start { node, clock_ms } => self.start(node, clock_ms),
            Due::Resume { node, life } => {
                if self.judge.life_of(node) == Some(life) && self.stage.is_paused(node) {
                    self.resume(node);
                }
            }
            Due::Mend(links) => {
                for (from, to) in links {
                    self.links.mend(&self.sim, from, to);
                }
            }
            Due::Release(links) => {
                for (from, to) in links {
                    self.links.release(&self.sim, from, to);
                }
            }
            Due::Connected { at, of } => {
                let reach = !self.stage.is_cut(at, of);
                if let Some(handler) = self.stage.handler(at).filter(|_| reach) {
                    handler.connected(&self.stage.name(of));
                }
            }
            Due::Unstall(client) => self.people.stall(client, false),
            Due::Read => {
                let node = self.rng.usize(0..self.schedule.nodes.len());
                if let Some(topic) = self.judge.some_topic(&mut self.rng) {
                    self.stage.call(node, Call::List(topic));
                }
                let soon = self.now + self.rng.u64(0..self.period());
                self.at(soon, Due::Read);
            }
        }
    }

    /// Faults end for these nodes, and lie on the links between them and the others only.
    fn heal(&mut self, healed: &[bool]) {
        self.stage.calm(healed);
        let all = healed.iter().all(|&healed| healed);
        if all {
            self.judge.log_all("all faults end");
            self.people.calm();
            self.judge.calm();
        } else {
            self.stage.count(Counted::HealedPart);
            self.judge.log_all("faults end within a part");
        }
        for from in 0..healed.len() {
            for to in 0..healed.len() {
                if from == to {
                    continue;
                }
                if healed[from] && healed[to] {
                    self.links.clear(&self.sim, from, to);
                } else if healed[from] != healed[to] {
                    // Until all heals.
                    self.links.cut(&self.sim, from, to);
                }
            }
            if healed[from] && self.stage.is_paused(from) {
                self.resume(from);
            }
        }
        // What is still to be mended is mended.
        self.due
            .retain(|_, due| !matches!(due, Due::Mend(_) | Due::Release(_)) || !all);
    }

    // What the schedule does.

    fn act(&mut self, action: &Action) {
        let node = |name: &str| self.stage.node_named(name).unwrap_or_default();
        match action {
            Action::Track {
                node: name,
                process,
                topic,
                key,
            } => self.track(node(name), *process, topic, key),
            Action::Update {
                node: name,
                process,
                topic,
                key,
            } => {
                let (node, topic, key) = (node(name), topic_of(topic), Arc::from(&**key));
                if let Some(id) = self.people.find(node, *process)
                    && self.people.update(id, &topic, &key)
                {
                    self.judge
                        .log_user(&self.people, id, || format!("updates {key:?} in {topic:?}"));
                }
            }
            Action::Untrack {
                node: name,
                process,
                topic,
                key,
            } => {
                let (node, topic, key) = (node(name), topic_of(topic), Arc::from(&**key));
                if let Some(id) = self.people.find(node, *process)
                    && self.people.untrack(id, &topic, &key)
                {
                    self.judge.log_user(&self.people, id, || {
                        format!("untracks {key:?} in {topic:?}")
                    });
                }
            }
            Action::End {
                node: name,
                process,
            } => {
                if let Some(id) = self.people.find(node(name), *process) {
                    self.depart(id);
                }
            }
            Action::UpdateTopic { node: name, topic } => {
                let (node, topic) = (node(name), topic_of(topic));
                self.stage.count(Counted::MassUpdate);
                self.stage.call(node, Call::UpdateTopic(topic));
            }
            Action::Storm {
                node: name,
                topic,
                first,
                count,
            } => {
                let node = node(name);
                if self.stage.is_up(node) {
                    self.stage.count(Counted::Storm);
                }
                for process in *first..*first + *count {
                    // One client for all of them: so many sockets would be a test of turmoil.
                    self.track(node, *first, topic, &format!("user {}", process % 1000));
                }
            }
            Action::Exodus { node: name } => {
                let there = self.people.of_node(node(name));
                if !there.is_empty() {
                    self.stage.count(Counted::Exodus);
                }
                there.into_iter().for_each(|id| self.depart(id));
            }
            Action::Start {
                node: name,
                clock_ms,
            } => self.start(node(name), *clock_ms),
            Action::Crash { node: name } => {
                let node = node(name);
                if self.stage.runs(node) {
                    self.stage.count(Counted::Crash);
                    self.judge.log(node, "crashes");
                    self.darken(node);
                    self.stage.crash(node);
                }
            }
            // How long its sockets take to drain is the node's own matter.
            Action::Stop { node: name, .. } => {
                let node = node(name);
                if self.stage.runs(node) && !self.stage.is_paused(node) {
                    self.stage
                        .count(match self.schedule.settings.permdown_on_shutdown {
                            true => Counted::Goodbye,
                            false => Counted::Stop,
                        });
                    self.judge.log(node, "is asked to stop");
                    self.stage.stop(node);
                }
            }
            Action::Pause { node: name, ms } => {
                let node = node(name);
                let life = self.judge.life_of(node);
                if let Some(life) = life.filter(|_| !self.stage.is_paused(node)) {
                    self.stage.count(Counted::Paused);
                    self.judge.paused(node, *ms);
                    self.stage.pause(node, true);
                    self.in_ms(*ms, Due::Resume { node, life });
                }
            }
            Action::Slow {
                node: name,
                us_per_message,
                ms,
            } => {
                let node = node(name);
                if self.stage.is_up(node) {
                    self.stage.count(Counted::SlowNode);
                    self.judge.slow(node, *us_per_message, *ms);
                    self.stage.slow(node, *us_per_message, self.now + ms * 1000);
                }
            }
            Action::Cut {
                from,
                to,
                one_way,
                ms,
            } => {
                let links = self.between(from, to, *one_way);
                if links.is_empty() {
                    return;
                }
                self.stage.count(match one_way {
                    true => Counted::OneWayCut,
                    false => Counted::Partition,
                });
                let way = if *one_way { "→" } else { "⇹" };
                let what = format!("cut {} {way} {}", from.join(" "), to.join(" "));
                self.judge.fault(&links, what, *ms);
                for &(from, to) in &links {
                    self.links.cut(&self.sim, from, to);
                }
                self.in_ms(*ms, Due::Mend(links));
            }
            Action::Hold { from, to, ms } => {
                let links = self.between(from, to, false);
                let what = format!("hold {} ⇹ {}", from.join(" "), to.join(" "));
                self.judge.fault(&links, what, *ms);
                for &(from, to) in &links {
                    self.links.hold(&self.sim, from, to);
                }
                self.in_ms(*ms, Due::Release(links));
            }
            Action::Accuse { at, of } => {
                let (at, of) = (node(at), node(of));
                let handler = self.stage.handler(at).filter(|_| !self.stage.is_paused(at));
                if let Some(handler) = handler.filter(|_| at != of && self.stage.runs(of)) {
                    self.stage.count(Counted::WrongGuess);
                    let name = self.stage.name(of);
                    self.judge.log(at, format!("is told that {name} is gone"));
                    handler.gone(&name);
                    // Both are connected, so they speak again.
                    self.in_ms(300, Due::Connected { at: of, of: at });
                }
            }
            Action::Reset {
                node: name,
                process,
            } => {
                if let Some(id) = self.people.find(node(name), *process) {
                    let reset = ("reset", 0);
                    self.judge
                        .befalls(&self.people, id, reset, || "loses its connection".into());
                    self.people.order(id, Order::Reset);
                }
            }
            Action::Move {
                node: name,
                process,
                to,
            } => {
                let (node, to) = (node(name), node(to));
                if let Some(id) = self.people.find(node, *process) {
                    self.stage.count(Counted::Moved);
                    let name = self.stage.name(to);
                    self.judge
                        .log_user(&self.people, id, || format!("goes on at {name}"));
                    self.people.order(id, Order::Move { node: to });
                }
            }
            Action::Stall {
                node: name,
                process,
                ms,
            } => {
                if let Some(id) = self.people.find(node(name), *process) {
                    self.stage.count(Counted::Stalled);
                    let told = || format!("is cut off for {ms} ms");
                    self.judge.befalls(&self.people, id, ("cut off", *ms), told);
                    self.people.stall(id, true);
                    self.in_ms(*ms, Due::Unstall(id));
                }
            }
            Action::Lag {
                node: name,
                process,
                us_per_message,
                ms,
            } => {
                if let Some(id) = self.people.find(node(name), *process) {
                    self.stage.count(Counted::SlowReader);
                    let told = || format!("takes {us_per_message} µs a message for {ms} ms");
                    self.judge.befalls(&self.people, id, ("slow", *ms), told);
                    self.people.order(id, people::slow(*us_per_message, *ms));
                }
            }
            Action::Leave {
                node: name,
                process,
                topic,
            } => {
                let (node, topic) = (node(name), topic_of(topic));
                if let Some(id) = self.people.find(node, *process)
                    && self.people.leave(id, &topic)
                {
                    self.stage.count(Counted::Left);
                    self.judge
                        .log_user(&self.people, id, || format!("leaves {topic:?}"));
                }
            }
            Action::Shout {
                node: name,
                process,
                topic,
            } => {
                if let Some(id) = self.people.find(node(name), *process) {
                    self.stage.count(Counted::Shout);
                    self.shout(id, &topic_of(topic));
                }
            }
        }
    }

    /// A client says something that nobody has said.
    fn shout(&mut self, id: usize, topic: &Arc<str>) -> Number {
        let number = self.stage.next_number();
        self.judge
            .log_user(&self.people, id, || format!("shouts {number} in {topic:?}"));
        let topic = topic.to_string();
        self.people.order(id, Order::Shout { topic, number });
        number
    }

    fn track(&mut self, node: usize, process: u64, topic: &str, key: &str) {
        // As in the first tier: nobody comes to a node that does not run.
        let is_new = self.people.find(node, process).is_none();
        if is_new && !self.stage.is_up(node) {
            return;
        }
        let (topic, key) = (topic_of(topic), Arc::from(key));
        let id = self.people.find_or_begin(node, process);
        if is_new {
            self.judge.comes(&self.people, id);
        }
        self.judge
            .log_user(&self.people, id, || format!("tracks {key:?} in {topic:?}"));
        self.people.track(id, &topic, &key);
    }

    fn depart(&mut self, id: usize) {
        let what = self.people.depart(id);
        self.judge.goes(&self.people, id, what);
    }

    /// Where a machine goes with its process, nobody is told that their connections end.
    fn darken(&mut self, node: usize) {
        if self.stage.machines_stay() {
            return;
        }
        let others = (0..self.schedule.nodes.len()).filter(|&other| other != node);
        let links: Vec<_> = others
            .flat_map(|other| [(node, other), (other, node)])
            .collect();
        for &(from, to) in &links {
            self.links.cut(&self.sim, from, to);
        }
        // Once they have ended.
        self.at(self.now + 2 * TICK, Due::Mend(links));
    }

    fn start(&mut self, node: usize, clock_ms: i64) {
        if self.stage.is_ending(node) {
            // Its process is there yet: whoever starts it again waits for that.
            return self.at(self.now + TICK, Due::Start { node, clock_ms });
        }
        if self.stage.runs(node) {
            return;
        }
        self.judge.count_restart(node);
        if self.stage.is_apart() {
            self.stage.count(Counted::StartedApart);
        }
        self.stage.want(node, clock_ms);
        self.sim.bounce(&*self.stage.name(node));
    }

    fn resume(&mut self, node: usize) {
        self.judge.resumed(node);
        self.stage.pause(node, false);
    }

    /// The links from the ones to the others and, unless it is one way, back.
    fn between(&self, from: &[String], to: &[String], one_way: bool) -> Vec<(usize, usize)> {
        let nodes = |names: &[String]| -> Vec<usize> {
            names
                .iter()
                .filter_map(|name| self.stage.node_named(name))
                .collect()
        };
        let mut links = Vec::new();
        for &from in &nodes(from) {
            for to in nodes(to).into_iter().filter(|&to| to != from) {
                links.push((from, to));
                if !one_way {
                    links.push((to, from));
                }
            }
        }
        links.sort_unstable();
        links.dedup();
        links
    }

    // What must hold once faults have ended.

    fn run_until_converged(&mut self) -> Checked {
        let (healed, bound) = (self.now, self.judge.bound());
        let mut agreed = None;
        while self.now < healed + bound {
            let agrees = self.judge.agree(&self.people).is_ok();
            agreed = agreed.filter(|_| agrees).or(agrees.then_some(self.now));
            self.run_until(self.now + self.period() / 4)?;
        }
        self.judge.agree(&self.people)?;
        self.judge.agreed_after(agreed.unwrap_or(self.now) - healed);
        Ok(())
    }

    /// What is said to all in a topic reaches all, once.
    fn check_broadcasts(&mut self) -> Checked {
        let mut shouted = Vec::new();
        for (topic, id) in self.people.speakers() {
            shouted.push((topic.clone(), id, self.shout(id, &topic)));
        }
        // What a long poll may take, and the way there, over another node at times.
        self.run_until(self.now + self.judge.answer_time())?;
        for (topic, id, number) in shouted {
            self.judge.check_heard(&self.people, &topic, id, number)?;
        }
        Ok(())
    }

    fn check_idle(&mut self) -> Checked {
        let before = self.judge.traffic();
        self.run_until(self.now + self.judge.idle_time())?;
        self.judge.check_idle(before)?;
        self.judge.agree(&self.people)
    }

    fn check_forgotten(&mut self) -> Checked {
        // It takes minutes, which not each run waits for.
        let time = self.judge.forgetting_time();
        let Some(time) = time.filter(|_| self.schedule.seed.is_multiple_of(4)) else {
            return Ok(());
        };
        self.run_until(self.now + time)?;
        self.judge.agree(&self.people)?;
        self.judge.check_forgotten()
    }

    fn outcome(self, failure: Option<Box<Failure>>) -> Outcome {
        let simulated = Duration::from_micros(self.now);
        let (coverage, sabotaged) = (self.stage.take_coverage(), self.stage.sabotaged());
        let failure = failure.map(|failure| self.judge.of_owner(failure, &self.people));
        // The hosts go first: what they drop must find the network.
        drop(self.sim);
        self.judge.outcome(failure, simulated, &coverage, sabotaged)
    }
}

/// All topics of a schedule in which anybody is tracked.
fn topics(schedule: &Schedule) -> Vec<Arc<str>> {
    let tracked = schedule.steps.iter().filter_map(|step| match &step.action {
        Action::Track { topic, .. } | Action::Storm { topic, .. } => Some(topic_of(topic)),
        _ => None,
    });
    let topics: BTreeSet<_> = tracked.collect();
    topics.into_iter().collect()
}

/// The topic of the application that stands for one of the schedule.
fn topic_of(topic: &str) -> Arc<str> {
    format!("conf:{topic}").into()
}

fn setups(schedule: &Schedule, stage: &Stage, names: &[Arc<str>]) -> Vec<Setup> {
    let tokens = Tokens::new(&conformance::secret_key_base()).expect("the secret is long enough");
    let slowest = schedule.nodes.iter().map(|node| node.clock_ppm).min();
    let older = stage.below(3) == 0;
    let setup = |(node, spec): (usize, &NodeSpec)| {
        let is_older = older && stage.below(2) == 0;
        if is_older {
            stage.note_older();
        }
        if spec.clock_ppm != 0 {
            stage.count(Counted::ClockSkew);
        }
        if spec
            .pool_size
            .is_some_and(|pool| pool != schedule.settings.pool_size)
        {
            stage.count(Counted::PoolMismatch);
        }
        Setup {
            name: Arc::clone(&names[node]),
            node,
            names: names.to_vec(),
            tracker: schedule.config(),
            pool_size: spec.pool_size.unwrap_or(schedule.settings.pool_size),
            fast_ppm: spec.clock_ppm.abs_diff(slowest.unwrap_or_default()),
            version: match is_older {
                true => Version::OLDEST,
                false => Version::NEWEST,
            },
            trip: Duration::from_micros(schedule.network.latency_us + schedule.network.jitter_us),
            // A message is some hundred bytes. A part of an answer must fit, of which each value is one
            // or two hundred.
            queue_bytes: (schedule.network.queue * 256)
                .max(schedule.settings.chunk_values * 200)
                .max(6 << 10),
            socket_queue_bytes: 256 << 10,
            drain_batch: 3,
            tokens: tokens.clone(),
            tick: Duration::from_micros(TICK),
        }
    };
    schedule.nodes.iter().enumerate().map(setup).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::panic::catch_unwind;

    use super::*;
    use crate::bench;
    use crate::outcome::Invariant;

    /// A short run, in which a host does something besides.
    fn run_beside(what: impl Future<Output = ()> + 'static) -> Outcome {
        let mut schedule = bench::workload_with_clients(1);
        (schedule.heal_ms, schedule.steps) = (1000, Vec::new());
        let mut play = Play::new(&schedule, Options::default());
        play.sim.client("beside", async move {
            what.await;
            Ok(())
        });
        play.finish()
    }

    #[track_caller]
    fn fails(outcome: Outcome) {
        let failure = outcome.failure.unwrap();
        assert_eq!(failure.invariant, Invariant::NoPanic);
        assert!(failure.what.contains("no dot"), "{}", failure.what);
    }

    #[test]
    fn nothing_that_goes_on_beside_fails_a_run() {
        assert!(run_beside(async {}).failure.is_none());
    }

    #[test]
    fn a_panic_fails_a_run() {
        fails(run_beside(async { panic!("no dot") }));
    }

    #[test]
    fn a_panic_in_a_task_of_which_nobody_hears_fails_a_run() {
        fails(run_beside(async {
            drop(tokio::spawn(async { panic!("no dot") }));
        }));
    }

    #[test]
    fn a_panic_that_is_caught_fails_a_run() {
        fails(run_beside(async {
            assert!(catch_unwind(|| panic!("no dot")).is_err());
        }));
    }
}
