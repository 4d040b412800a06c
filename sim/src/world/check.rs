//! The invariants that are checked as things happen.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use presence_core::entry::Left;
use presence_core::wire::cluster::{Body, Message};

use super::{Checked, Invariant, World, number_of};
use crate::sabotage::Sabotage;
use crate::truth::{How, Number};

/// What a node was doing when its lists changed.
#[derive(Clone, Copy)]
pub(super) enum Cause {
    /// A call of its own.
    Local,
    Timer,
    /// It took a message, and with it perhaps a later life of the sender for an earlier.
    Message {
        from: usize,
        replaced: bool,
    },
    /// It was told that a node's process is gone.
    Gone(usize),
}

/// A diff as it was told: numbers and whether each has a new dot only.
struct Told {
    topic: Arc<str>,
    joins: Vec<Number>,
    leaves: Vec<Number>,
}

impl World<'_> {
    /// Takes the diffs of a shard and judges each change.
    pub(super) fn drain_diffs(&mut self, node: usize, shard: usize, cause: Cause) -> Checked {
        let mut diffs = Vec::new();
        {
            let Some(life) = &mut self.nodes[node].life else {
                return Ok(());
            };
            let of_shard = &mut life.shards[shard];
            while let Some(diff) = of_shard.tracker.poll_diff() {
                let number = diff.number;
                let told = Told {
                    topic: Arc::clone(&diff.topic),
                    joins: diff
                        .joins
                        .iter()
                        .map(|entry| number_of(entry.meta))
                        .collect(),
                    leaves: diff
                        .leaves
                        .iter()
                        .map(Left::entry)
                        .map(|entry| number_of(entry.meta))
                        .collect(),
                };
                diffs.push((number, told));
            }
        }
        for (number, told) in diffs {
            let Some(life) = &mut self.nodes[node].life else {
                return Ok(());
            };
            let of_shard = &mut life.shards[shard];
            let last = of_shard.last_diff;
            of_shard.last_diff = number;
            if number != last + 1 {
                let what = format!("diff {number} was told after {last}");
                return Err(self.failure(Invariant::DiffsAreTheTruth, node, what));
            }
            self.log_diff(node, &told.topic, &told.joins, &told.leaves);
            let updates = !told.joins.is_empty() && !told.leaves.is_empty();
            if self.saboteur.acts(Sabotage::DiffLost) {
                // Nobody is told.
            } else if updates && self.saboteur.acts(Sabotage::UpdateSplit) {
                let topic = Arc::clone(&told.topic);
                let leaves = Told {
                    topic: Arc::clone(&topic),
                    joins: Vec::new(),
                    leaves: told.leaves,
                };
                let joins = Told {
                    topic,
                    joins: told.joins,
                    leaves: Vec::new(),
                };
                self.hear_diff(node, shard, &leaves, cause)?;
                self.hear_diff(node, shard, &joins, cause)?;
            } else {
                if self.saboteur.acts(Sabotage::DiffTwice) {
                    self.hear_diff(node, shard, &told, cause)?;
                }
                self.hear_diff(node, shard, &told, cause)?;
            }
            self.check_topic(node, shard, &told.topic)?;
        }
        self.measure();
        Ok(())
    }

    /// A listener on the node is told of a change.
    fn hear_diff(&mut self, node: usize, shard: usize, told: &Told, cause: Cause) -> Checked {
        self.changes += 1;
        // A new life of the node gives its presences new refs: the same presence leaves and joins.
        let renewed: BTreeSet<Number> = match (told.joins.is_empty(), told.leaves.is_empty()) {
            (false, false) => told
                .joins
                .iter()
                .copied()
                .filter(|n| told.leaves.contains(n))
                .collect(),
            _ => BTreeSet::new(),
        };
        for &number in &told.leaves {
            let view = &mut self.view(node, shard);
            if !view.leave(&told.topic, number) {
                return Err(self.failure_of(
                    Invariant::DiffsAreTheTruth,
                    node,
                    number,
                    "a diff says that it left, and it was not listed",
                ));
            }
        }
        for &number in &told.joins {
            let again = self.view(node, shard).has_left(number);
            if !self.view(node, shard).join(&told.topic, number) {
                return Err(self.failure_of(
                    Invariant::DiffsAreTheTruth,
                    node,
                    number,
                    "a diff says that it joined, and it was listed already",
                ));
            }
            if !renewed.contains(&number) {
                self.judge_join(node, shard, number, again)?;
            }
        }
        for &number in told
            .leaves
            .iter()
            .filter(|number| !renewed.contains(number))
        {
            self.judge_leave(node, shard, number, cause)?;
            self.judge_lingering(node, shard, number, told, cause)?;
        }
        self.judge_handover(node, shard, told, &renewed)
    }

    fn view(&mut self, node: usize, shard: usize) -> &mut super::view::View {
        let life = self.nodes[node].life.as_mut();
        &mut life.expect("only a node that lives tells a diff").shards[shard].view
    }

    fn judge_join(&self, node: usize, shard: usize, number: Number, again: bool) -> Checked {
        let Some(life) = &self.nodes[node].life else {
            return Ok(());
        };
        let Some(presence) = self.truth.of(number) else {
            return Err(self.failure(
                Invariant::NoGhosts,
                node,
                format!("lists presence {number}, which was never tracked"),
            ));
        };
        if presence.node == node {
            if presence.life != life.number {
                let what = "is listed on its own node, in another life";
                return Err(self.failure_of(Invariant::NoGhosts, node, number, what));
            }
            return Ok(());
        }
        let heard = &life.shards[shard].heard[presence.node];
        let Some(leaving) = presence.left else {
            return Ok(());
        };
        let ghost = |why: &str| {
            Err(self.failure_of(
                Invariant::NoGhosts,
                node,
                number,
                format!("is listed although {why}"),
            ))
        };
        if again && presence.told.is_some_and(|told| told < heard.session) {
            return ghost(
                "it was listed before, left, and its node told so before it was heard again",
            );
        }
        let owner = &self.nodes[presence.node];
        if leaving.how == How::Stopped
            && heard.goodbye >= owner.incarnation
            && owner.lives == presence.life
        {
            return ghost("its node has said goodbye");
        }
        Ok(())
    }

    fn judge_leave(&self, node: usize, shard: usize, number: Number, cause: Cause) -> Checked {
        let (Some(life), Some(presence)) = (&self.nodes[node].life, self.truth.of(number)) else {
            return Ok(());
        };
        let owner = presence.node;
        if owner == node {
            // What the node itself lists of its own is judged by the whole list.
            return Ok(());
        }
        let last = match presence.left {
            None => number,
            Some(leaving) if leaving.how == How::Updated => {
                let last = self.truth.successors(number).last().unwrap_or(number);
                if !self.truth.is_alive(last) {
                    return Ok(());
                }
                let view = &life.shards[shard].view;
                if self
                    .truth
                    .successors(number)
                    .any(|next| view.has(&presence.topic, next))
                {
                    return Ok(());
                }
                last
            }
            Some(_) => return Ok(()),
        };
        let heard = &life.shards[shard].heard[owner];
        let silent = |by: Duration| {
            let local = life.local(self.now);
            heard
                .last
                .is_none_or(|last| local.saturating_sub(last) >= by)
        };
        let explained = match cause {
            Cause::Local => false,
            Cause::Timer => silent(self.config.down_period),
            Cause::Message { from, replaced } => from == owner && replaced,
            Cause::Gone(of) => of == owner,
        };
        if explained {
            return Ok(());
        }
        if last == number {
            let what = "left the list although its node was heard within down_period";
            Err(self.failure_of(Invariant::NoLoss, node, number, what))
        } else {
            let what = format!("left the list, and presence {last}, which it became, is not there");
            Err(self.failure_of(Invariant::UpdateInOneStep, node, number, what))
        }
    }

    /// What a node leaves behind as it stops stays until the node is down, back, said goodbye, or until
    /// its key is tracked elsewhere.
    fn judge_lingering(
        &self,
        node: usize,
        shard: usize,
        number: Number,
        told: &Told,
        cause: Cause,
    ) -> Checked {
        let (Some(life), Some(presence)) = (&self.nodes[node].life, self.truth.of(number)) else {
            return Ok(());
        };
        let owner = presence.node;
        if owner == node || self.truth.how(number) != Some(How::Stopped) {
            return Ok(());
        }
        let heard = &life.shards[shard].heard[owner];
        let silence = heard.last.map(|last| life.local(self.now) - last);
        // With handover the key is listed all the time, and never less than once.
        let handed_over = heard.stopping.is_some_and(|stopping| stopping.handover) && {
            let mut listed = life.shards[shard].view.numbers_of(&told.topic);
            listed.any(|n| self.is_elsewhere(n, number))
        };
        let explained = handed_over
            || match cause {
                Cause::Local => false,
                Cause::Timer => silence.is_none_or(|silence| silence >= self.config.down_period),
                // A node that hands over sees itself who takes its places, and others learn it from
                // whoever has heard it, at times before they hear the join.
                Cause::Message { from, replaced } => {
                    let goodbye = self.config.permdown_on_shutdown;
                    self.config.handover || from == owner && (replaced || goodbye)
                }
                Cause::Gone(of) => of == owner && heard.stopping.is_none(),
            };
        if explained {
            return Ok(());
        }
        let what = "left the list although its node stopped and counts neither as down nor as back";
        Err(self.failure_of(Invariant::Lingering, node, number, what))
    }

    /// Whether two presences have the same key and live on two nodes.
    fn is_elsewhere(&self, one: Number, other: Number) -> bool {
        match (self.truth.of(one), self.truth.of(other)) {
            (Some(one), Some(other)) => {
                one.node != other.node && one.topic == other.topic && one.key == other.key
            }
            _ => false,
        }
    }

    /// Whoever joins under the key of a presence that is handed over takes its place in the same diff.
    fn judge_handover(
        &self,
        node: usize,
        shard: usize,
        told: &Told,
        renewed: &BTreeSet<Number>,
    ) -> Checked {
        if !self.config.handover || told.joins.is_empty() {
            return Ok(());
        }
        let Some(life) = &self.nodes[node].life else {
            return Ok(());
        };
        let of_shard = &life.shards[shard];
        let hands_over = |number: Number| {
            self.truth.of(number).is_some_and(|presence| {
                let stopping = of_shard.heard[presence.node].stopping;
                presence.node != node && stopping.is_some_and(|stopping| stopping.handover)
            })
        };
        let listed = of_shard.view.numbers_of(&told.topic);
        let mut left: Vec<Number> = listed.filter(|&n| hands_over(n)).collect();
        if left.is_empty() {
            return Ok(());
        }
        // Updated, or untracked and tracked again: the same process is there as before.
        let same =
            |join: &Number, leave: &Number| match (self.truth.of(*join), self.truth.of(*leave)) {
                (Some(join), Some(leave)) => {
                    (join.node, join.life, join.pid, &join.key)
                        == (leave.node, leave.life, leave.pid, &leave.key)
                }
                _ => false,
            };
        let updated = |join: &Number| told.leaves.iter().any(|leave| same(join, leave));
        let is_new =
            |join: &&Number| !renewed.contains(join) && !hands_over(**join) && !updated(join);
        let mut taken: Vec<Number> = told.leaves.clone();
        for &join in told.joins.iter().filter(is_new) {
            let stopped = |leave: &Number| {
                let stopped = self.truth.how(*leave) == Some(How::Stopped);
                (stopped || hands_over(*leave)) && self.is_elsewhere(join, *leave)
            };
            // Whoever was there before the stop, and is listed again, takes nobody's place.
            let since = self.truth.of(join).map_or(0, |presence| presence.since);
            let is_later = |left: Number| {
                let leaving = self.truth.of(left).and_then(|presence| presence.left);
                leaving.is_some_and(|leaving| leaving.how == How::Stopped && leaving.at < since)
            };
            if let Some(at) = taken.iter().position(stopped) {
                taken.swap_remove(at);
            } else if let Some(at) = left
                .iter()
                .position(|&left| is_later(left) && self.is_elsewhere(join, left))
            {
                let twice = left.swap_remove(at);
                let what = format!("is still listed as {join} joins, which takes its place");
                return Err(self.failure_of(Invariant::Handover, node, twice, what));
            }
        }
        Ok(())
    }

    /// The list of a topic is what the diffs say.
    fn check_topic(&self, node: usize, shard: usize, topic: &str) -> Checked {
        let Some(life) = &self.nodes[node].life else {
            return Ok(());
        };
        let of_shard = &life.shards[shard];
        let mut listed = 0;
        let has = of_shard.view.list(topic);
        for entry in of_shard.tracker.set().list(topic) {
            let number = number_of(entry.meta);
            listed += 1;
            if !has(number) {
                let what = "is listed, and no diff has told of it";
                return Err(self.failure_of(Invariant::DiffsAreTheTruth, node, number, what));
            }
        }
        let told_len = of_shard.view.len_of(topic);
        if listed != told_len {
            let what =
                format!("topic {topic} lists {listed} presences, the diffs come to {told_len}");
            return Err(self.failure(Invariant::DiffsAreTheTruth, node, what));
        }
        Ok(())
    }

    /// All lists of a shard are what its diffs say, and of its own presences what is true.
    pub(super) fn check_list(&self, node: usize, shard: usize) -> Checked {
        let Some(life) = &self.nodes[node].life else {
            return Ok(());
        };
        let of_shard = &life.shards[shard];
        let set = of_shard.tracker.set();
        let (mut listed, mut own) = (0, 0);
        let replica = of_shard.tracker.replica();
        // Neighbours in the list share their topic and mostly their replica.
        let (mut topic, mut from): (Option<&Arc<str>>, _) = (None, replica);
        let (mut has, mut is_own) = (of_shard.view.list(""), true);
        for entry in set.list_all() {
            let number = number_of(entry.meta);
            listed += 1;
            if !topic.is_some_and(|topic| Arc::ptr_eq(topic, entry.topic)) {
                topic = Some(entry.topic);
                has = of_shard.view.list(entry.topic);
            }
            if !std::ptr::eq(entry.replica, from) {
                from = entry.replica;
                is_own = from == replica;
            }
            if !has(number) {
                let what = "is listed, and no diff has told of it";
                return Err(self.failure_of(Invariant::DiffsAreTheTruth, node, number, what));
            }
            if is_own {
                own += 1;
                if !life.stopping && !self.truth.is_alive(number) {
                    let what = "is listed on its own node, where it is not any more";
                    return Err(self.failure_of(Invariant::OwnPresences, node, number, what));
                }
            }
        }
        if listed != of_shard.view.len() {
            let told = of_shard.view.len();
            let what = format!("{listed} presences are listed, the diffs come to {told}");
            return Err(self.failure(Invariant::DiffsAreTheTruth, node, what));
        }
        let alive = life.alive.values();
        let alive =
            alive.filter(|&&number| self.truth.of(number).is_some_and(|p| p.shard == shard));
        let alive = alive.count();
        if !life.stopping && own != alive {
            let what = format!("{own} of its own presences are listed, {alive} are there");
            return Err(self.failure(Invariant::OwnPresences, node, what));
        }
        Ok(())
    }

    /// What a message says of its sender's own presences is true.
    pub(super) fn check_sent(&self, node: usize, shard: usize, message: &Message) -> Checked {
        let (Body::Heartbeat { delta, .. } | Body::TransferReply { delta, .. }) = &message.body
        else {
            return Ok(());
        };
        let Some(life) = &self.nodes[node].life else {
            return Ok(());
        };
        let own = life.shards[shard].tracker.replica();
        for entry in delta.values().filter(|entry| entry.replica == own) {
            let number = number_of(entry.meta);
            if !life.stopping && !self.truth.is_alive(number) {
                let what = "is told of by its own node, where it is not any more";
                return Err(self.failure_of(Invariant::TellsTheTruth, node, number, what));
            }
        }
        Ok(())
    }

    /// Whoever was silent for longer than promised is not listed.
    pub(super) fn check_promises(&self, node: usize, shard: usize) -> Checked {
        let Some(life) = &self.nodes[node].life else {
            return Ok(());
        };
        let of_shard = &life.shards[shard];
        let local = life.local(self.now);
        let limit = self.config.down_period + self.config.broadcast_period * 2;
        let silence = |of: usize| local.saturating_sub(of_shard.heard[of].last.unwrap_or_default());
        if (0..self.nodes.len()).all(|of| of == node || silence(of) <= limit) {
            return Ok(());
        }
        for number in of_shard.view.numbers() {
            let Some(presence) = self.truth.of(number).filter(|p| p.node != node) else {
                continue;
            };
            let silence = silence(presence.node);
            if silence > limit {
                let what = format!(
                    "is listed although its node was not heard for {:.3} s; down_period is {:.3} s",
                    silence.as_secs_f64(),
                    self.config.down_period.as_secs_f64()
                );
                return Err(self.failure_of(Invariant::DownInTime, node, number, what));
            }
        }
        Ok(())
    }

    /// A run comes to an end, and what is on its way has a bound.
    pub(super) fn check_storm(&self) -> Checked {
        const EVENTS: u64 = 50_000_000;
        const WAITING: usize = 2_000_000;
        if self.events < EVENTS && self.queue.len() < WAITING {
            return Ok(());
        }
        let what = format!(
            "after {} events {} more are waiting",
            self.events,
            self.queue.len()
        );
        Err(self.failure(Invariant::NoStorm, 0, what))
    }
}
