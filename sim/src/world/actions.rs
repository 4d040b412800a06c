//! What a schedule does to a cluster.

use std::collections::BTreeSet;

use presence_core::entry::Pid;
use presence_core::presence::{KeyBuf, Meta};
use presence_core::tracker::journal::Input;
use presence_core::tracker::shard_of;

use super::{Happening, World};
use crate::cluster::Checked;
use crate::coverage::Counted;
use crate::outcome::Invariant;
use crate::sabotage::Sabotage;
use crate::schedule::Action;
use crate::truth::{self, Number};

impl World<'_> {
    pub(super) fn act(&mut self, action: &Action) -> Checked {
        match action {
            Action::Track {
                node,
                process,
                topic,
                key,
            } => {
                let node = self.cluster.named(node);
                self.track(node, Pid(*process), topic, key)
            }
            Action::Update {
                node,
                process,
                topic,
                key,
            } => {
                let node = self.cluster.named(node);
                self.update(node, Pid(*process), topic, key)
            }
            Action::Untrack {
                node,
                process,
                topic,
                key,
            } => {
                let node = self.cluster.named(node);
                self.untrack(node, Pid(*process), topic, key)
            }
            Action::End { node, process } => {
                let node = self.cluster.named(node);
                self.end_process(node, Pid(*process))
            }
            Action::UpdateTopic { node, topic } => {
                let node = self.cluster.named(node);
                self.update_topic(node, topic)
            }
            Action::Storm {
                node,
                topic,
                first,
                count,
            } => {
                let node = self.cluster.named(node);
                if self.runs(node) {
                    self.cluster.coverage.count(Counted::Storm);
                }
                for process in *first..*first + *count {
                    let key = format!("user {}", process % 1000);
                    self.track(node, Pid(process), topic, &key)?;
                }
                Ok(())
            }
            Action::Exodus { node } => {
                let node = self.cluster.named(node);
                if !self.runs(node) {
                    return Ok(());
                }
                self.cluster.coverage.count(Counted::Exodus);
                let shards = self.cluster.nodes[node].shards();
                let places = shards.flat_map(|shard| shard.alive.keys());
                let pids: BTreeSet<Pid> = places.map(|&(pid, _, _)| pid).collect();
                for pid in pids {
                    self.end_process(node, pid)?;
                }
                Ok(())
            }
            Action::Start { node, clock_ms } => {
                let node = self.cluster.named(node);
                self.cluster.count_restart(node);
                self.start(node, *clock_ms)
            }
            Action::Crash { node } => {
                let node = self.cluster.named(node);
                self.crash(node);
                Ok(())
            }
            Action::Stop { node, drain_ms } => {
                let node = self.cluster.named(node);
                self.stop(node, drain_ms * 1000)
            }
            Action::Pause { node, ms } => {
                let node = self.cluster.named(node);
                self.pause(node, ms * 1000);
                Ok(())
            }
            Action::Slow {
                node,
                us_per_message,
                ms,
            } => {
                let node = self.cluster.named(node);
                self.slow(node, *us_per_message, *ms);
                Ok(())
            }
            Action::Cut {
                from,
                to,
                one_way,
                ms,
            } => {
                let links = self.between(from, to, *one_way);
                if links.is_empty() {
                    return Ok(());
                }
                self.cluster.coverage.count(if *one_way {
                    Counted::OneWayCut
                } else {
                    Counted::Partition
                });
                for &link in &links {
                    self.links[link].cuts += 1;
                }
                self.fault(&links, action.fault(), ms * 1000);
                self.at(self.cluster.now + ms * 1000, Happening::Uncut { links });
                Ok(())
            }
            Action::Hold { from, to, ms } => {
                let links = self.between(from, to, false);
                for &link in &links {
                    self.links[link].holds += 1;
                }
                self.fault(&links, action.fault(), ms * 1000);
                self.at(self.cluster.now + ms * 1000, Happening::Release { links });
                Ok(())
            }
            Action::Accuse { at, of } => {
                let (at, of) = (self.cluster.named(at), self.cluster.named(of));
                if at != of && self.runs(at) && self.hosts[of].process.is_some() {
                    self.cluster.coverage.count(Counted::WrongGuess);
                    self.tell_gone(at, of)?;
                    // Both are connected, so they speak again.
                    let soon = self.cluster.now + 300_000;
                    self.at(soon, Happening::Connected { node: of, of: at });
                }
                Ok(())
            }
            // There are no clients here.
            Action::Narrow { .. }
            | Action::Reset { .. }
            | Action::Move { .. }
            | Action::Stall { .. }
            | Action::Lag { .. }
            | Action::Leave { .. }
            | Action::Shout { .. } => Ok(()),
        }
    }

    // Operations.

    /// The shard of a topic, where the node can be called.
    fn shard(&self, node: usize, topic: &str) -> Option<usize> {
        let pool = self.cluster.nodes[node].pool;
        self.can_be_called(node).then(|| shard_of(topic, pool))
    }

    fn can_be_called(&self, node: usize) -> bool {
        let process = self.hosts[node].process.as_ref();
        self.runs(node) && process.is_some_and(|process| !process.stopping)
    }

    fn track(&mut self, node: usize, pid: Pid, topic: &str, key: &str) -> Checked {
        let Some(shard) = self.shard(node, topic) else {
            return Ok(());
        };
        let input = Input::Track {
            topic: topic.into(),
            pid,
            key: KeyBuf::Text(key.into()),
            meta: meta(self.cluster.truth.next_number()),
        };
        self.call(node, shard, input)
    }

    fn update(&mut self, node: usize, pid: Pid, topic: &str, key: &str) -> Checked {
        let Some(shard) = self.shard(node, topic) else {
            return Ok(());
        };
        let input = Input::Update {
            topic: topic.into(),
            pid,
            key: KeyBuf::Text(key.into()),
            meta: meta(self.cluster.truth.next_number()),
        };
        self.call(node, shard, input)
    }

    fn update_topic(&mut self, node: usize, topic: &str) -> Checked {
        let Some(shard) = self.shard(node, topic) else {
            return Ok(());
        };
        let Some(of_shard) = self.cluster.shard(node, shard) else {
            return Ok(());
        };
        let mut next = self.cluster.truth.next_number()..;
        let updates = of_shard
            .tracker
            .updates(topic, |_, _| next.next().map(meta));
        let places = of_shard.alive.keys();
        let there = places.filter(|(_, of, _)| **of == *topic).count();
        if updates.len() != there {
            let what = format!("{updates:?} would update the topic, and {there} are there");
            return Err(self.cluster.failure(Invariant::OwnPresences, node, what));
        }
        if there > 0 {
            self.cluster.coverage.count(Counted::MassUpdate);
        }
        let topic = topic.into();
        self.call(node, shard, Input::UpdateAll { topic, updates })
    }

    fn untrack(&mut self, node: usize, pid: Pid, topic: &str, key: &str) -> Checked {
        let Some(shard) = self.shard(node, topic) else {
            return Ok(());
        };
        let ignored = self.saboteur.acts(Sabotage::LeaveIgnored);
        let input = Input::Untrack {
            topic: topic.into(),
            pid,
            key: KeyBuf::Text(key.into()),
        };
        self.call_unless(ignored, node, shard, input)
    }

    fn end_process(&mut self, node: usize, pid: Pid) -> Checked {
        let shards = self.cluster.nodes[node].shards();
        let there = shards
            .flat_map(|shard| shard.alive.keys())
            .any(|place| place.0 == pid);
        if !there || !self.can_be_called(node) {
            return Ok(());
        }
        let ignored = self.saboteur.acts(Sabotage::LeaveIgnored);
        for shard in 0..self.cluster.nodes[node].pool {
            self.call_unless(ignored, node, shard, Input::UntrackPid { pid })?;
        }
        Ok(())
    }

    /// Calls a shard, or lets the call get lost.
    fn call_unless(&mut self, ignored: bool, node: usize, shard: usize, input: Input) -> Checked {
        if ignored {
            self.cluster.miss(node, shard, &input);
            return self.drain(node, shard);
        }
        self.call(node, shard, input)
    }

    // Faults.

    fn crash(&mut self, node: usize) {
        if self.hosts[node].process.take().is_none() {
            return;
        }
        self.cluster.crash(node);
        if !self.schedule.network.detects_crashes {
            return;
        }
        for at in 0..self.hosts.len() {
            if let Some(process) = &self.hosts[at].process
                && self.link(node, at).cuts == 0
            {
                let life = process.life;
                let periods = self.rng.u64(1..=3);
                let us = periods * self.schedule.settings.broadcast_period * 1000;
                let (node, of) = (at, node);
                self.at(self.cluster.now + us, Happening::Gone { node, life, of });
            }
        }
    }

    fn stop(&mut self, node: usize, drain: u64) -> Checked {
        if !self.can_be_called(node) {
            return Ok(());
        }
        let Some(process) = &mut self.hosts[node].process else {
            return Ok(());
        };
        process.stopping = true;
        let life = process.life;
        let goodbye = self.cluster.config.permdown_on_shutdown;
        self.cluster.coverage.count(if goodbye {
            Counted::Goodbye
        } else {
            Counted::Stop
        });
        self.cluster.log(node, || "stops".into());
        for shard in 0..self.cluster.nodes[node].pool {
            self.call(node, shard, Input::Stop)?;
        }
        self.at(self.cluster.now + drain, Happening::Exit { node, life });
        Ok(())
    }

    fn pause(&mut self, node: usize, us: u64) {
        let now = self.cluster.now;
        let Some(process) = &mut self.hosts[node].process else {
            return;
        };
        if process.paused_until > now {
            return;
        }
        process.paused_until = now + us;
        let life = process.life;
        self.cluster.coverage.count(Counted::Paused);
        self.cluster
            .log(node, || format!("does nothing for {} ms", us / 1000));
        self.cluster.span(node, "paused", now);
        self.at(now + us, Happening::Resume { node, life });
    }

    fn slow(&mut self, node: usize, us_per_message: u64, ms: u64) {
        let until = self.cluster.now + ms * 1000;
        let Some(process) = &mut self.hosts[node].process else {
            return;
        };
        process.slow_us = us_per_message;
        process.slow_until = until;
        self.cluster.coverage.count(Counted::SlowNode);
        self.cluster.span_until(node, "slow", until);
        self.cluster.log(node, || {
            format!("takes {us_per_message} µs a message for {ms} ms")
        });
    }

    fn fault(&mut self, links: &[usize], what: String, us: u64) {
        let count = self.hosts.len();
        let links = links.iter().map(|link| (link / count, link % count));
        self.cluster.fault(links, what, us);
    }

    /// The links from the ones to the others and, unless it is one way, back.
    fn between(&self, from: &[String], to: &[String], one_way: bool) -> Vec<usize> {
        let count = self.hosts.len();
        let links = self.cluster.between(from, to, one_way).into_iter();
        links.map(|(from, to)| from * count + to).collect()
    }
}

/// The meta of a presence.
fn meta(number: Number) -> Meta {
    Meta::parse(&truth::meta(number)).expect("it is an object")
}
