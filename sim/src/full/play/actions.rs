//! What a schedule does to the nodes, to the network between them, and to their clients.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::client::Order;
use super::super::people;
use super::super::stage::Call;
use super::{Due, Play, TICK};
use crate::coverage::Counted;
use crate::schedule::{Action, Schedule};
use crate::truth::Number;

impl Play<'_> {
    pub(super) fn act(&mut self, action: &Action) {
        match action {
            Action::Track {
                node,
                process,
                topic,
                key,
            } => self.track(self.node(node), *process, topic, key),
            Action::Update {
                node,
                process,
                topic,
                key,
            } => {
                let (topic, key) = (topic_of(topic), Arc::from(&**key));
                if let Some(id) = self.client(node, *process)
                    && self.people.update(id, &topic, &key)
                {
                    self.tell(id, || format!("updates {key:?} in {topic:?}"));
                }
            }
            Action::Untrack {
                node,
                process,
                topic,
                key,
            } => {
                let (topic, key) = (topic_of(topic), Arc::from(&**key));
                if let Some(id) = self.client(node, *process)
                    && self.people.untrack(id, &topic, &key)
                {
                    self.tell(id, || format!("untracks {key:?} in {topic:?}"));
                }
            }
            Action::End { node, process } => {
                if let Some(id) = self.client(node, *process) {
                    self.depart(id);
                }
            }
            Action::UpdateTopic { node, topic } => {
                self.stage.count(Counted::MassUpdate);
                let update = Call::UpdateTopic(topic_of(topic));
                self.stage.call(self.node(node), update);
            }
            Action::Storm {
                node,
                topic,
                first,
                count,
            } => {
                let node = self.node(node);
                if self.stage.is_up(node) {
                    self.stage.count(Counted::Storm);
                }
                for process in *first..*first + *count {
                    // One client for all of them: so many sockets would be a test of turmoil.
                    self.track(node, *first, topic, &format!("user {}", process % 1000));
                }
            }
            Action::Exodus { node } => {
                let there = self.people.of_node(self.node(node));
                if !there.is_empty() {
                    self.stage.count(Counted::Exodus);
                }
                there.into_iter().for_each(|id| self.depart(id));
            }
            Action::Start { node, clock_ms } => self.start(self.node(node), *clock_ms),
            Action::Crash { node } => self.crash(self.node(node)),
            // How long its sockets take to drain is the node's own matter.
            Action::Stop { node, .. } => self.stop(self.node(node)),
            Action::Pause { node, ms } => self.pause(self.node(node), *ms),
            Action::Slow {
                node,
                us_per_message,
                ms,
            } => self.slow(self.node(node), *us_per_message, *ms),
            Action::Cut {
                from,
                to,
                one_way,
                ms,
            } => {
                let links = self.judge.between(from, to, *one_way);
                if links.is_empty() {
                    return;
                }
                self.stage.count(match one_way {
                    true => Counted::OneWayCut,
                    false => Counted::Partition,
                });
                self.judge.fault(&links, action.fault(), *ms);
                for &(from, to) in &links {
                    self.links.cut(&self.sim, from, to);
                }
                self.in_ms(*ms, Due::Mend(links));
            }
            Action::Hold { from, to, ms } => {
                let links = self.judge.between(from, to, false);
                self.judge.fault(&links, action.fault(), *ms);
                for &(from, to) in &links {
                    self.links.hold(&self.sim, from, to);
                }
                self.in_ms(*ms, Due::Release(links));
            }
            Action::Narrow {
                from,
                to,
                bytes_per_s,
                ms,
            } => {
                let links = self.judge.between(from, to, false);
                self.judge.fault(&links, action.fault(), *ms);
                let until = self.now + ms * 1000;
                for (from, to) in links {
                    self.stage.narrow(from, to, *bytes_per_s, until);
                }
            }
            Action::Accuse { at, of } => self.accuse(self.node(at), self.node(of)),
            Action::Reset { node, process } => {
                if let Some(id) = self.client(node, *process) {
                    let told = || "loses its connection".into();
                    self.judge.befalls(&self.people, id, ("reset", 0), told);
                    self.people.order(id, Order::Reset);
                }
            }
            Action::Move { node, process, to } => {
                let to = self.node(to);
                if let Some(id) = self.client(node, *process) {
                    self.stage.count(Counted::Moved);
                    let name = self.stage.name(to);
                    self.tell(id, || format!("goes on at {name}"));
                    self.people.order(id, Order::Move { node: to });
                }
            }
            Action::Stall { node, process, ms } => {
                if let Some(id) = self.client(node, *process) {
                    self.stage.count(Counted::Stalled);
                    let told = || format!("is cut off for {ms} ms");
                    self.judge.befalls(&self.people, id, ("cut off", *ms), told);
                    self.people.stall(id, true);
                    self.in_ms(*ms, Due::Unstall(id));
                }
            }
            Action::Lag {
                node,
                process,
                us_per_message,
                ms,
            } => {
                if let Some(id) = self.client(node, *process) {
                    self.stage.count(Counted::SlowReader);
                    let told = || format!("takes {us_per_message} µs a message for {ms} ms");
                    self.judge.befalls(&self.people, id, ("slow", *ms), told);
                    self.people.order(id, people::slow(*us_per_message, *ms));
                }
            }
            Action::Leave {
                node,
                process,
                topic,
            } => {
                let topic = topic_of(topic);
                if let Some(id) = self.client(node, *process)
                    && self.people.leave(id, &topic)
                {
                    self.stage.count(Counted::Left);
                    self.tell(id, || format!("leaves {topic:?}"));
                }
            }
            Action::Shout {
                node,
                process,
                topic,
            } => {
                if let Some(id) = self.client(node, *process) {
                    self.stage.count(Counted::Shout);
                    self.shout(id, &topic_of(topic));
                }
            }
        }
    }

    fn node(&self, name: &str) -> usize {
        let found = self.stage.node_named(name);
        found.expect("a schedule names nodes that are there")
    }

    /// The client of a process that is there.
    fn client(&self, node: &str, process: u64) -> Option<usize> {
        self.people.find(self.node(node), process)
    }

    // What clients do.

    fn tell(&mut self, id: usize, what: impl FnOnce() -> String) {
        self.judge.log_user(&self.people, id, what);
    }

    /// A client says something that nobody has said.
    pub(super) fn shout(&mut self, id: usize, topic: &Arc<str>) -> Number {
        let number = self.stage.next_number();
        self.tell(id, || format!("shouts {number} in {topic:?}"));
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
        self.tell(id, || format!("tracks {key:?} in {topic:?}"));
        self.people.track(id, &topic, &key);
    }

    fn depart(&mut self, id: usize) {
        let what = self.people.depart(id);
        self.judge.goes(&self.people, id, what);
    }

    // What becomes of nodes.

    pub(super) fn start(&mut self, node: usize, clock_ms: i64) {
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

    fn crash(&mut self, node: usize) {
        if self.stage.runs(node) {
            self.stage.count(Counted::Crash);
            self.judge.log(node, "crashes");
            self.darken(node);
            self.stage.crash(node);
        }
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

    fn stop(&mut self, node: usize) {
        if self.stage.runs(node) && !self.stage.is_paused(node) {
            let says_goodbye = self.schedule.settings.permdown_on_shutdown;
            self.stage.count(match says_goodbye {
                true => Counted::Goodbye,
                false => Counted::Stop,
            });
            self.judge.log(node, "is asked to stop");
            self.stage.stop(node);
        }
    }

    fn pause(&mut self, node: usize, ms: u64) {
        let life = self.judge.life_of(node);
        if let Some(life) = life.filter(|_| !self.stage.is_paused(node)) {
            self.stage.count(Counted::Paused);
            self.judge.paused(node, ms);
            self.stage.pause(node, true);
            self.in_ms(ms, Due::Resume { node, life });
        }
    }

    pub(super) fn resume(&mut self, node: usize) {
        self.judge.resumed(node);
        self.stage.pause(node, false);
    }

    fn slow(&mut self, node: usize, us_per_message: u64, ms: u64) {
        if self.stage.is_up(node) {
            self.stage.count(Counted::SlowNode);
            self.judge.slow(node, us_per_message, ms);
            self.stage.slow(node, us_per_message, self.now + ms * 1000);
        }
    }

    fn accuse(&mut self, at: usize, of: usize) {
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
}

/// All topics of a schedule in which anybody is tracked.
pub(super) fn topics(schedule: &Schedule) -> Vec<Arc<str>> {
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
