//! What shards tell of their lists, and what they find of others.

use std::collections::BTreeSet;
use std::sync::Arc;

use presence_core::entry::Left;
use presence_core::tracker::Event;

use super::node::Cause;
use super::{Checked, Cluster};
use crate::coverage::Counted;
use crate::outcome::Invariant;
use crate::truth::{How, Number, number_of};

/// A diff as it was told.
pub(crate) struct Told {
    pub(crate) topic: Arc<str>,
    pub(crate) joins: Vec<Number>,
    pub(crate) leaves: Vec<Number>,
}

impl Cluster<'_> {
    /// What a shard next has to tell of its lists.
    pub(crate) fn poll_diff(&mut self, node: usize, shard: usize) -> Checked<Option<Told>> {
        let Some(of_shard) = self.shard_mut(node, shard) else {
            return Ok(None);
        };
        let Some(diff) = of_shard.tracker.poll_diff() else {
            return Ok(None);
        };
        let (number, last) = (diff.number, of_shard.last_diff);
        of_shard.last_diff = number;
        let joins = diff.joins.iter();
        let leaves = diff.leaves.iter().map(Left::entry);
        let told = Told {
            joins: joins.map(|entry| number_of(entry.meta)).collect(),
            leaves: leaves.map(|entry| number_of(entry.meta)).collect(),
            topic: diff.topic,
        };
        if number != last + 1 {
            let what = format!("diff {number} was told after {last}");
            return Err(self.failure(Invariant::DiffsAreTheTruth, node, what));
        }
        self.log_diff(node, &told.topic, &told.joins, &told.leaves);
        Ok(Some(told))
    }

    /// A listener on the node is told of a change.
    pub(crate) fn hear_diff(&mut self, node: usize, shard: usize, told: &Told) -> Checked {
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
            let Some(of_shard) = self.shard_mut(node, shard) else {
                return Ok(());
            };
            if !of_shard.view.leave(&told.topic, number) {
                let what = "a diff says that it left, and it was not listed";
                return Err(self.failure_of(Invariant::DiffsAreTheTruth, node, number, what));
            }
        }
        for &number in &told.joins {
            let Some(of_shard) = self.shard_mut(node, shard) else {
                return Ok(());
            };
            let again = of_shard.view.has_left(number);
            if !of_shard.view.join(&told.topic, number) {
                let what = "a diff says that it joined, and it was listed already";
                return Err(self.failure_of(Invariant::DiffsAreTheTruth, node, number, what));
            }
            if !renewed.contains(&number) {
                self.judge_join(node, shard, number, again)?;
            }
        }
        let left = told.leaves.iter();
        for &number in left.filter(|number| !renewed.contains(number)) {
            self.judge_leave(node, shard, number)?;
            let is_own = self
                .truth
                .of(number)
                .is_some_and(|presence| presence.node == node);
            if self.config.handover && is_own && self.truth.how(number) == Some(How::Stopped) {
                self.truth.hand_over(number);
            }
            self.judge_lingering(node, shard, number, told)?;
        }
        self.judge_handover(node, shard, told, &renewed)
    }

    /// All that a shard had to tell is told: notes what it found of others, and checks what its last
    /// input calls for.
    pub(crate) fn settle(&mut self, node: usize, shard: usize) -> Checked {
        self.measure();
        while let Some(of_shard) = self.shard_mut(node, shard) {
            let Some(event) = of_shard.tracker.poll_event() else {
                break;
            };
            self.note_event(node, shard, &event);
        }
        if let Some(of_shard) = self.shard_mut(node, shard)
            && !of_shard.tracker.is_turning()
        {
            of_shard.excused.clear();
        }
        let Some(of_shard) = self.shard(node, shard) else {
            return Ok(());
        };
        match of_shard.cause {
            Cause::Tracked(number) => self.check_own(node, shard, number),
            Cause::UpdatedAll => self.check_list(node, shard),
            Cause::Timer { late } => {
                if late <= self.config.broadcast_period {
                    self.check_promises(node, shard)?;
                }
                self.check_list(node, shard)
            }
            Cause::Local | Cause::Message { .. } | Cause::Gone(_) => Ok(()),
        }
    }

    fn note_event(&mut self, node: usize, shard: usize, event: &Event) {
        if let Event::Down(replica) | Event::Permdown(replica) = event {
            let of = self.named(replica.name());
            self.excuse(node, shard, of);
        }
        match event {
            Event::Up(replica) => {
                let removed = self.shard_mut(node, shard);
                if removed.is_some_and(|of_shard| of_shard.removed.remove(replica)) {
                    self.coverage.count(Counted::AdmittedAgain);
                }
                self.log_found(node, replica.name(), || format!("finds {replica} up"));
            }
            Event::Down(replica) => {
                self.coverage.count(Counted::Down);
                self.log_found(node, replica.name(), || format!("finds {replica} down"));
            }
            Event::Permdown(replica) => {
                let of = self.named(replica.name());
                if let Some(of_shard) = self.shard_mut(node, shard) {
                    of_shard.removed.insert(replica.clone());
                    // A later life may be the one that stops.
                    let stopping = &mut of_shard.heard[of].stopping;
                    *stopping =
                        stopping.filter(|stopping| stopping.incarnation != replica.incarnation());
                }
                self.coverage.count(Counted::Permdown);
                self.log_found(node, replica.name(), || format!("forgets {replica}"));
            }
            Event::Reincarnated { from, to } => {
                self.coverage.count(Counted::Reincarnated);
                self.nodes[node].begun[shard].incarnation = to.incarnation();
                self.log(node, || format!("was {from}, is {to}"));
            }
        }
    }
}
