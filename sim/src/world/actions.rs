//! What a schedule does to a cluster.

use std::sync::Arc;

use presence_core::entry::{Key, Pid};
use presence_core::presence::Meta;
use presence_core::tracker::shard_of;

use super::check::Cause;
use super::{Checked, Happening, Invariant, World, node_named};
use crate::coverage::Counted;
use crate::sabotage::Sabotage;
use crate::schedule::Action;
use crate::truth::{How, Leaving, Number, Presence, meta};

impl World<'_> {
    pub(super) fn act(&mut self, action: &Action) -> Checked {
        let named = |world: &Self, name: &str| node_named(&world.nodes, name);
        match action {
            Action::Track {
                node,
                process,
                topic,
                key,
            } => {
                let node = named(self, node);
                self.track(
                    node,
                    Pid(*process),
                    &topic.as_str().into(),
                    &key.as_str().into(),
                )
            }
            Action::Update {
                node,
                process,
                topic,
                key,
            } => {
                let node = named(self, node);
                self.update(
                    node,
                    Pid(*process),
                    &topic.as_str().into(),
                    &key.as_str().into(),
                )
            }
            Action::Untrack {
                node,
                process,
                topic,
                key,
            } => {
                let node = named(self, node);
                self.untrack(node, Pid(*process), topic, key)
            }
            Action::End { node, process } => {
                let node = named(self, node);
                self.end_process(node, Pid(*process))
            }
            Action::UpdateTopic { node, topic } => {
                let node = named(self, node);
                self.update_topic(node, topic)
            }
            Action::Storm {
                node,
                topic,
                first,
                count,
            } => {
                let node = named(self, node);
                if self.runs(node) {
                    self.coverage.count(Counted::Storm);
                }
                let topic = topic.as_str().into();
                for process in *first..*first + *count {
                    let key = format!("user {}", process % 1000).into();
                    self.track(node, Pid(process), &topic, &key)?;
                }
                Ok(())
            }
            Action::Exodus { node } => {
                let node = named(self, node);
                if !self.runs(node) {
                    return Ok(());
                }
                self.coverage.count(Counted::Exodus);
                let pids: std::collections::BTreeSet<Pid> = self.nodes[node]
                    .life
                    .iter()
                    .flat_map(|life| life.alive.keys().map(|&(pid, _, _)| pid))
                    .collect();
                for pid in pids {
                    self.end_process(node, pid)?;
                }
                Ok(())
            }
            Action::Start { node, clock_ms } => {
                let node = named(self, node);
                self.count_restart(node);
                self.start(node, *clock_ms)
            }
            Action::Crash { node } => {
                let node = named(self, node);
                self.crash(node);
                Ok(())
            }
            Action::Stop { node, drain_ms } => {
                let node = named(self, node);
                self.stop(node, drain_ms * 1000)
            }
            Action::Pause { node, ms } => {
                let node = named(self, node);
                self.pause(node, ms * 1000);
                Ok(())
            }
            Action::Slow {
                node,
                us_per_message,
                ms,
            } => {
                let (node, now) = (named(self, node), self.now);
                if let Some(life) = &mut self.nodes[node].life {
                    life.slow_us = *us_per_message;
                    life.slow_until = now + ms * 1000;
                    self.coverage.count(Counted::SlowNode);
                    self.span_until(node, "slow", now + ms * 1000);
                    self.log(node, || {
                        format!("takes {us_per_message} µs a message for {ms} ms")
                    });
                }
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
                self.coverage.count(if *one_way {
                    Counted::OneWayCut
                } else {
                    Counted::Partition
                });
                for &link in &links {
                    self.links[link].cuts += 1;
                }
                let way = if *one_way { "→" } else { "⇹" };
                self.fault(
                    &links,
                    format!("cut {} {way} {}", from.join(" "), to.join(" ")),
                    ms * 1000,
                );
                self.at(self.now + ms * 1000, Happening::Uncut { links });
                Ok(())
            }
            Action::Hold { from, to, ms } => {
                let links = self.between(from, to, false);
                for &link in &links {
                    self.links[link].holds += 1;
                }
                self.fault(
                    &links,
                    format!("hold {} ⇹ {}", from.join(" "), to.join(" ")),
                    ms * 1000,
                );
                self.at(self.now + ms * 1000, Happening::Release { links });
                Ok(())
            }
            Action::Accuse { at, of } => {
                let (at, of) = (named(self, at), named(self, of));
                if at != of && self.runs(at) && self.nodes[of].life.is_some() {
                    self.coverage.count(Counted::WrongGuess);
                    self.tell_gone(at, of)?;
                    // Both are connected, so they speak again.
                    let soon = self.now + 300_000;
                    self.at(soon, Happening::Connected { node: of, of: at });
                }
                Ok(())
            }
        }
    }

    // Operations.

    /// The shard of a topic, where the node can be called.
    fn shard(&self, node: usize, topic: &str) -> Option<usize> {
        let stopping = self.nodes[node].life.as_ref()?.stopping;
        (self.runs(node) && !stopping).then(|| shard_of(topic, self.nodes[node].pool))
    }

    fn track(&mut self, node: usize, pid: Pid, topic: &Arc<str>, key: &Arc<str>) -> Checked {
        let Some(shard) = self.shard(node, topic) else {
            return Ok(());
        };
        let number = self.truth.next_number();
        let (place, now) = ((pid, Arc::clone(topic), Arc::clone(key)), self.now);
        let Some(life) = &mut self.nodes[node].life else {
            return Ok(());
        };
        let known = life.alive.contains_key(&place);
        let tracker = &mut life.shards[shard].tracker;
        let meta = Meta::parse(&meta(number)).expect("it is an object");
        let tracked = tracker.track(topic, pid, Key::Text(key), &meta);
        if tracked.is_ok() == known {
            let what = format!("tracking gave {tracked:?}, and the presence was there: {known}");
            return Err(self.failure(Invariant::OwnPresences, node, what));
        }
        if known {
            return Ok(());
        }
        let life_number = life.number;
        life.alive.insert(place, number);
        self.truth.add(Presence {
            node,
            life: life_number,
            shard,
            topic: Arc::clone(topic),
            pid,
            key: Arc::clone(key),
            since: now,
            left: None,
            told: None,
            next: None,
        });
        self.log_user(node, &[number], || {
            format!("tracks {key:?} of process {} in {topic:?}: {number}", pid.0)
        });
        self.drain(node, shard, Cause::Local)?;
        self.check_own(node, shard, number)
    }

    fn update(&mut self, node: usize, pid: Pid, topic: &Arc<str>, key: &Arc<str>) -> Checked {
        let Some(shard) = self.shard(node, topic) else {
            return Ok(());
        };
        let next = self.truth.next_number();
        let place = (pid, Arc::clone(topic), Arc::clone(key));
        let Some(life) = &mut self.nodes[node].life else {
            return Ok(());
        };
        let before = life.alive.get(&place).copied();
        let tracker = &mut life.shards[shard].tracker;
        let meta = Meta::parse(&meta(next)).expect("it is an object");
        let updated = tracker.update(topic, pid, Key::Text(key), &meta);
        if updated.is_ok() != before.is_some() {
            let what = format!("updating gave {updated:?}, and the presence was {before:?}");
            return Err(self.failure(Invariant::OwnPresences, node, what));
        }
        let Some(before) = before else {
            return Ok(());
        };
        life.alive.insert(place, next);
        self.replace(before, next);
        self.log_user(node, &[before, next], || {
            format!(
                "updates {key:?} of process {} in {topic:?}: {before} becomes {next}",
                pid.0
            )
        });
        self.drain(node, shard, Cause::Local)?;
        self.check_own(node, shard, next)
    }

    fn replace(&mut self, before: Number, next: Number) {
        let Some(old) = self.truth.of(before).cloned() else {
            return;
        };
        let leaving = Leaving {
            at: self.now,
            how: How::Updated,
        };
        self.truth.leave(before, leaving, Some(next));
        let (node, shard) = (old.node, old.shard);
        self.truth.add(Presence {
            since: self.now,
            left: None,
            told: None,
            next: None,
            ..old
        });
        if let Some(life) = &mut self.nodes[node].life {
            life.shards[shard].untold.push(before);
        }
    }

    fn update_topic(&mut self, node: usize, topic: &str) -> Checked {
        let Some(shard) = self.shard(node, topic) else {
            return Ok(());
        };
        let Some(life) = &mut self.nodes[node].life else {
            return Ok(());
        };
        let mut next = self.truth.next_number();
        let mut befores = Vec::new();
        let tracker = &mut life.shards[shard].tracker;
        let updates = tracker.updates(topic, |_, before| {
            let before = crate::truth::number(before.as_str())?;
            befores.push((before, next));
            let meta = Meta::parse(&meta(next)).ok();
            next += 1;
            meta
        });
        let updated = tracker.update_all(topic, &updates);
        let there = life
            .alive
            .keys()
            .filter(|(_, in_topic, _)| **in_topic == *topic)
            .count();
        if updated.as_ref().map(Vec::len) != Ok(there) {
            let what = format!("updating the topic gave {updated:?}, and {there} are there");
            return Err(self.failure(Invariant::OwnPresences, node, what));
        }
        let mut replaced = Vec::new();
        for (before, next) in befores {
            if let Some(old) = self.truth.of(before) {
                replaced.push((
                    before,
                    next,
                    (old.pid, Arc::clone(&old.topic), Arc::clone(&old.key)),
                ));
            }
        }
        for (before, next, place) in &replaced {
            self.replace(*before, *next);
            if let Some(life) = &mut self.nodes[node].life {
                life.alive.insert(place.clone(), *next);
            }
        }
        if there > 0 {
            self.coverage.count(Counted::MassUpdate);
        }
        let presences: Vec<Number> = replaced
            .iter()
            .flat_map(|&(before, next, _)| [before, next])
            .collect();
        self.log_user(node, &presences, || {
            format!("updates all {there} presences in {topic:?}")
        });
        self.drain(node, shard, Cause::Local)?;
        self.check_list(node, shard)
    }

    fn untrack(&mut self, node: usize, pid: Pid, topic: &str, key: &str) -> Checked {
        let Some(shard) = self.shard(node, topic) else {
            return Ok(());
        };
        let ignored = self.saboteur.acts(Sabotage::LeaveIgnored);
        let Some(life) = &mut self.nodes[node].life else {
            return Ok(());
        };
        let gone = life.alive.remove(&(pid, topic.into(), key.into()));
        let tracker = &mut life.shards[shard].tracker;
        let untracked = ignored || tracker.untrack(topic, pid, Key::Text(key));
        if untracked != gone.is_some() && !ignored {
            let what = format!("untracking gave {untracked}, and the presence was {gone:?}");
            return Err(self.failure(Invariant::OwnPresences, node, what));
        }
        self.left(node, shard, gone);
        self.log_user(node, gone.as_slice(), || {
            format!("untracks {key:?} of process {} in {topic:?}", pid.0)
        });
        self.drain(node, shard, Cause::Local)
    }

    fn end_process(&mut self, node: usize, pid: Pid) -> Checked {
        if !self.runs(node) {
            return Ok(());
        }
        let Some(life) = &mut self.nodes[node].life else {
            return Ok(());
        };
        if life.stopping {
            return Ok(());
        }
        let places: Vec<_> = life
            .alive
            .keys()
            .filter(|place| place.0 == pid)
            .cloned()
            .collect();
        if places.is_empty() {
            return Ok(());
        }
        let ignored = self.saboteur.acts(Sabotage::LeaveIgnored);
        let presences: Vec<Number> = places
            .iter()
            .filter_map(|place| life.alive.get(place).copied())
            .collect();
        self.log_user(node, &presences, || format!("process {} ends", pid.0));
        for shard in 0..self.nodes[node].pool {
            let Some(life) = &mut self.nodes[node].life else {
                return Ok(());
            };
            if !ignored {
                life.shards[shard].tracker.untrack_pid(pid);
            }
            let mut gone = Vec::new();
            for place in &places {
                let number = life.alive.get(place).copied();
                if number
                    .and_then(|number| self.truth.of(number))
                    .is_some_and(|p| p.shard == shard)
                {
                    gone.extend(number);
                    life.alive.remove(place);
                }
            }
            for number in gone {
                self.left(node, shard, Some(number));
            }
            self.drain(node, shard, Cause::Local)?;
        }
        Ok(())
    }

    fn left(&mut self, node: usize, shard: usize, number: Option<Number>) {
        let Some(number) = number else {
            return;
        };
        let leaving = Leaving {
            at: self.now,
            how: How::Untracked,
        };
        self.truth.leave(number, leaving, None);
        if let Some(life) = &mut self.nodes[node].life {
            life.shards[shard].untold.push(number);
        }
    }

    /// What was just tracked is listed.
    fn check_own(&self, node: usize, shard: usize, number: Number) -> Checked {
        let Some(life) = &self.nodes[node].life else {
            return Ok(());
        };
        let listed = self.truth.of(number).is_some_and(|presence| {
            let key = Key::Text(&presence.key);
            let entries = life.shards[shard]
                .tracker
                .set()
                .list_key(&presence.topic, key);
            let mut numbers = entries.map(|entry| super::number_of(entry.meta));
            numbers.any(|listed| listed == number)
        });
        if listed {
            Ok(())
        } else {
            let what = "was tracked here, and is not listed";
            Err(self.failure_of(Invariant::OwnPresences, node, number, what))
        }
    }

    // Faults.

    fn count_restart(&mut self, node: usize) {
        let spec = &self.nodes[node];
        if spec.life.is_some() {
            return;
        }
        let Some(ended) = spec.ended else {
            // A first life: of a node that takes the place of one that is gone?
            let gone = self
                .nodes
                .iter()
                .any(|other| other.life.is_none() && other.lives > 0);
            if gone {
                self.coverage.count(Counted::NewName);
            }
            return;
        };
        let away = std::time::Duration::from_micros(self.now - ended);
        self.coverage.count(if away < self.config.down_period {
            Counted::RestartEarly
        } else if away < self.config.permdown_period {
            Counted::RestartDown
        } else {
            Counted::RestartPermdown
        });
    }

    fn crash(&mut self, node: usize) {
        if self.nodes[node].life.is_none() {
            return;
        }
        self.coverage.count(Counted::Crash);
        self.log(node, || "crashes".into());
        self.lose_processes(node, How::Crashed);
        self.end_life(node);
        if self.schedule.network.detects_crashes {
            for at in 0..self.nodes.len() {
                if let Some(life) = &self.nodes[at].life
                    && self.link(node, at).cuts == 0
                {
                    let periods = self.rng.u64(1..=3);
                    let when = self.now + periods * self.schedule.settings.broadcast_period * 1000;
                    let life = life.number;
                    let (node, of) = (at, node);
                    self.at(when, Happening::Gone { node, life, of });
                }
            }
        }
    }

    fn lose_processes(&mut self, node: usize, how: How) {
        let Some(life) = &mut self.nodes[node].life else {
            return;
        };
        let leaving = Leaving { at: self.now, how };
        for (_, number) in std::mem::take(&mut life.alive) {
            self.truth.leave(number, leaving, None);
            if let Some(presence) = self.truth.of(number) {
                life.shards[presence.shard].untold.push(number);
            }
        }
    }

    fn stop(&mut self, node: usize, drain: u64) -> Checked {
        if !self.runs(node)
            || self.nodes[node]
                .life
                .as_ref()
                .is_none_or(|life| life.stopping)
        {
            return Ok(());
        }
        self.coverage.count(if self.config.permdown_on_shutdown {
            Counted::Goodbye
        } else {
            Counted::Stop
        });
        self.log(node, || "stops".into());
        for shard in 0..self.nodes[node].pool {
            let now = self.now;
            if let Some(life) = &mut self.nodes[node].life {
                let local = life.local(now);
                life.shards[shard].tracker.handle_stop(local);
                if shard == 0 {
                    life.stopping = true;
                }
            }
            if shard == 0 {
                self.lose_processes(node, How::Stopped);
            }
            self.drain(node, shard, Cause::Local)?;
        }
        if let Some(life) = &self.nodes[node].life {
            let life = life.number;
            self.at(self.now + drain, Happening::Exit { node, life });
        }
        Ok(())
    }

    fn pause(&mut self, node: usize, us: u64) {
        let now = self.now;
        let Some(life) = &mut self.nodes[node].life else {
            return;
        };
        if life.paused_until > now {
            return;
        }
        life.paused_until = now + us;
        let number = life.number;
        self.coverage.count(Counted::Paused);
        self.log(node, || format!("does nothing for {} ms", us / 1000));
        self.span(node, "paused", now);
        let life = number;
        self.at(now + us, Happening::Resume { node, life });
    }

    /// The links from the ones to the others and, unless it is one way, back.
    fn between(&self, from: &[String], to: &[String], one_way: bool) -> Vec<usize> {
        let count = self.nodes.len();
        let mut links = Vec::new();
        for from in from.iter().map(|name| node_named(&self.nodes, name)) {
            for to in to.iter().map(|name| node_named(&self.nodes, name)) {
                if from != to {
                    links.push(from * count + to);
                    if !one_way {
                        links.push(to * count + from);
                    }
                }
            }
        }
        links.sort_unstable();
        links.dedup();
        links
    }
}
