//! What trackers are asked to do, and what is true from then on.

use std::sync::Arc;
use std::time::Duration;

use presence_core::entry::Pid;
use presence_core::presence::Meta;
use presence_core::tracker::Update;
use presence_core::tracker::journal::{Input, Outcome, Record};

use super::node::Cause;
use super::{Checked, Cluster, Micros};
use crate::outcome::Invariant;
use crate::truth::{How, Leaving, Number, Place, Presence, number_of};

impl Cluster<'_> {
    /// A shard is given an input, at the time that its own clock shows; drain it then. `sent` is when
    /// the message was sent, where it is one.
    ///
    /// A call may ask for what can't be done: its tracker must then refuse it.
    pub(crate) fn play(
        &mut self,
        node: usize,
        shard: usize,
        record: Record,
        sent: Micros,
    ) -> Checked {
        let Record { at: local, input } = record;
        let Some(of_shard) = self.shard_mut(node, shard) else {
            return Ok(());
        };
        of_shard.local = of_shard.local.max(local);
        of_shard.cause = Cause::Local;
        match input {
            Input::Message { peer, message } => {
                let from = self.named(&peer);
                return self.hear(node, shard, from, message, sent);
            }
            Input::Timeout => self.wake(node, shard, local),
            Input::Gone { ref peer } => {
                let of = self.named(peer);
                self.because(node, shard, Cause::Gone(of));
            }
            _ => {}
        }
        let changes = self.come_true(node, shard, &input);
        let Some(of_shard) = self.shard_mut(node, shard) else {
            return Ok(());
        };
        let outcome = input.apply(&mut of_shard.tracker, local);
        if changed(&outcome) == changes {
            return Ok(());
        }
        let what = match changes {
            None => "should have been refused".into(),
            Some(count) => format!("should have changed {count} presences"),
        };
        let what = format!("a call gave {outcome:?}, and {what}");
        Err(self.failure(Invariant::OwnPresences, node, what))
    }

    /// What a call makes true, without the call: a defect, of which the tracker knows nothing.
    pub(crate) fn miss(&mut self, node: usize, shard: usize, input: &Input) {
        self.because(node, shard, Cause::Local);
        self.come_true(node, shard, input);
    }

    fn because(&mut self, node: usize, shard: usize, cause: Cause) {
        if let Some(of_shard) = self.shard_mut(node, shard) {
            of_shard.cause = cause;
        }
    }

    fn wake(&mut self, node: usize, shard: usize, local: Duration) {
        let Some(of_shard) = self.shard_mut(node, shard) else {
            return;
        };
        let late = local.saturating_sub(of_shard.tracker.period_ends());
        for heard in &mut of_shard.heard {
            heard.forgive(late, local);
        }
        of_shard.cause = Cause::Timer { late };
    }

    /// Makes true what a call asks for; how many presences it changes, or `None` where it is to be
    /// refused.
    fn come_true(&mut self, node: usize, shard: usize, input: &Input) -> Option<usize> {
        match input {
            Input::Track {
                topic,
                pid,
                key,
                meta,
            } => self.track(node, shard, (*pid, Arc::clone(topic), key.clone()), meta),
            Input::Update {
                topic,
                pid,
                key,
                meta,
            } => self.update(node, shard, &(*pid, Arc::clone(topic), key.clone()), meta),
            Input::UpdateAll { topic, updates } => self.update_all(node, shard, topic, updates),
            Input::Untrack { topic, pid, key } => {
                Some(self.untrack(node, shard, &(*pid, Arc::clone(topic), key.clone())))
            }
            Input::UntrackPid { pid } => Some(self.untrack_pid(node, shard, *pid)),
            Input::Stop => {
                self.stop(node, shard);
                Some(0)
            }
            Input::Message { .. }
            | Input::Connected { .. }
            | Input::Gone { .. }
            | Input::Timeout => Some(0),
        }
    }

    fn track(&mut self, node: usize, shard: usize, place: Place, meta: &Meta) -> Option<usize> {
        let now = self.now;
        let of_shard = self.shard_mut(node, shard)?;
        if of_shard.stopping || of_shard.alive.contains_key(&place) {
            return None;
        }
        let number = number_of(meta.as_str());
        of_shard.cause = Cause::Tracked(number);
        of_shard.alive.insert(place.clone(), number);
        let life = of_shard.life;
        let (pid, topic, key) = place;
        self.log_user(node, &[number], || {
            let key = key.as_key().as_str();
            format!("tracks {key:?} of process {} in {topic:?}: {number}", pid.0)
        });
        let presence = Presence {
            node,
            life,
            shard,
            topic,
            pid,
            key,
            since: now,
            left: None,
            told: None,
            handed_over: false,
            next: None,
        };
        self.truth.add(number, presence);
        Some(1)
    }

    fn update(&mut self, node: usize, shard: usize, place: &Place, meta: &Meta) -> Option<usize> {
        let (before, next) = self.replace(node, shard, place, meta)?;
        self.because(node, shard, Cause::Tracked(next));
        self.log_user(node, &[before, next], || {
            let (pid, topic, key) = place;
            let key = key.as_key().as_str();
            format!(
                "updates {key:?} of process {} in {topic:?}: {before} becomes {next}",
                pid.0
            )
        });
        Some(1)
    }

    fn update_all(
        &mut self,
        node: usize,
        shard: usize,
        topic: &Arc<str>,
        updates: &[Update],
    ) -> Option<usize> {
        let mut replaced = Vec::new();
        for Update { pid, key, meta } in updates {
            let place = (*pid, Arc::clone(topic), key.clone());
            // Those before one that is not there are updated.
            let Some((before, next)) = self.replace(node, shard, &place, meta) else {
                break;
            };
            replaced.extend([before, next]);
        }
        let count = replaced.len() / 2;
        self.because(node, shard, Cause::UpdatedAll);
        self.log_user(node, &replaced, || {
            format!("updates all {count} presences in {topic:?}")
        });
        (count == updates.len()).then_some(count)
    }

    /// A presence becomes another, in one step.
    fn replace(
        &mut self,
        node: usize,
        shard: usize,
        place: &Place,
        meta: &Meta,
    ) -> Option<(Number, Number)> {
        let leaving = Leaving {
            at: self.now,
            how: How::Updated,
        };
        let of_shard = self.nodes[node].shard_mut(shard)?;
        let listed = of_shard.alive.get_mut(place)?;
        let next = number_of(meta.as_str());
        let before = std::mem::replace(listed, next);
        of_shard.untold.push(before);
        let old = self.truth.of(before)?.clone();
        self.truth.leave(before, leaving, Some(next));
        let presence = Presence {
            since: self.now,
            left: None,
            told: None,
            handed_over: false,
            next: None,
            ..old
        };
        self.truth.add(next, presence);
        Some((before, next))
    }

    fn untrack(&mut self, node: usize, shard: usize, place: &Place) -> usize {
        let left = self.leave(node, shard, place);
        self.log_user(node, left.as_slice(), || {
            let (pid, topic, key) = place;
            let key = key.as_key().as_str();
            format!("untracks {key:?} of process {} in {topic:?}", pid.0)
        });
        left.iter().len()
    }

    fn untrack_pid(&mut self, node: usize, shard: usize, pid: Pid) -> usize {
        let Some(of_shard) = self.shard(node, shard) else {
            return 0;
        };
        let places: Vec<Place> = of_shard
            .alive
            .keys()
            .filter(|place| place.0 == pid)
            .cloned()
            .collect();
        let left: Vec<Number> = places
            .iter()
            .filter_map(|place| self.leave(node, shard, place))
            .collect();
        if !left.is_empty() {
            self.log_user(node, &left, || format!("process {} ends", pid.0));
        }
        left.len()
    }

    fn leave(&mut self, node: usize, shard: usize, place: &Place) -> Option<Number> {
        let leaving = Leaving {
            at: self.now,
            how: How::Untracked,
        };
        let of_shard = self.nodes[node].shard_mut(shard)?;
        let number = of_shard.alive.remove(place)?;
        of_shard.untold.push(number);
        self.truth.leave(number, leaving, None);
        Some(number)
    }

    fn stop(&mut self, node: usize, shard: usize) {
        if let Some(of_shard) = self.shard_mut(node, shard) {
            of_shard.stopping = true;
        }
        self.lose_processes(node, shard, How::Stopped);
    }
}

/// How many presences a call changed, or `None` where it was refused.
fn changed(outcome: &Outcome) -> Option<usize> {
    match outcome {
        Outcome::Tracked(Ok(_)) | Outcome::Updated(Ok(_)) => Some(1),
        Outcome::UpdatedAll(Ok(refs)) => Some(refs.len()),
        Outcome::Untracked(count) => Some(*count),
        Outcome::Done | Outcome::Heard(_) => Some(0),
        Outcome::Tracked(Err(_)) | Outcome::Updated(Err(_)) | Outcome::UpdatedAll(Err(_)) => None,
    }
}
