//! What changes of a list are judged by.

use std::collections::BTreeSet;

use super::diffs::Told;
use super::node::{Cause, Excused, Shard};
use super::{Checked, Cluster};
use crate::outcome::Invariant;
use crate::truth::{How, Number};

impl Cluster<'_> {
    pub(super) fn judge_join(
        &self,
        node: usize,
        shard: usize,
        number: Number,
        again: bool,
    ) -> Checked {
        let Some(of_shard) = self.shard(node, shard) else {
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
            if presence.life != of_shard.life {
                let what = "is listed on its own node, in another life";
                return Err(self.failure_of(Invariant::NoGhosts, node, number, what));
            }
            return Ok(());
        }
        let heard = &of_shard.heard[presence.node];
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
        let owner = self.nodes[presence.node].begun[presence.shard];
        if leaving.how == How::Stopped
            && heard.goodbye >= owner.incarnation
            && owner.life == presence.life
        {
            return ghost("its node has said goodbye");
        }
        Ok(())
    }

    pub(super) fn judge_leave(&self, node: usize, shard: usize, number: Number) -> Checked {
        let (Some(of_shard), Some(presence)) = (self.shard(node, shard), self.truth.of(number))
        else {
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
                let view = &of_shard.view;
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
        let mut excused = of_shard.excused_of(owner);
        if excused.any(|excused| excused.leaving) || self.explains_leave(of_shard, owner) {
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
    pub(super) fn judge_lingering(
        &self,
        node: usize,
        shard: usize,
        number: Number,
        told: &Told,
    ) -> Checked {
        let (Some(of_shard), Some(presence)) = (self.shard(node, shard), self.truth.of(number))
        else {
            return Ok(());
        };
        let owner = presence.node;
        if owner == node || self.truth.how(number) != Some(How::Stopped) {
            return Ok(());
        }
        let heard = &of_shard.heard[owner];
        // With handover the key is listed all the time, and never less than once.
        let handed_over = heard.stopping.is_some_and(|stopping| stopping.handover) && {
            let mut listed = of_shard.view.numbers_of(&told.topic);
            listed.any(|n| self.is_elsewhere(n, number))
        };
        let mut excused = of_shard.excused_of(owner);
        // Whoever asks the node is told what that has handed over itself, and may hear of that before it
        // hears of what came instead, if that is still there.
        if handed_over
            || presence.handed_over
            || excused.any(|excused| excused.lingering)
            || self.explains_lingering(of_shard, owner)
        {
            return Ok(());
        }
        let what = "left the list although its node stopped and counts neither as down nor as back";
        Err(self.failure_of(Invariant::Lingering, node, number, what))
    }

    /// Whether a node that lives may be hidden for what the shard was doing.
    fn explains_leave(&self, of_shard: &Shard, owner: usize) -> bool {
        match of_shard.cause {
            Cause::Local | Cause::Tracked(_) | Cause::UpdatedAll => false,
            Cause::Timer { .. } => of_shard.is_silent(owner, self.config.down_period),
            Cause::Message { from, replaced } => from == owner && replaced,
            Cause::Gone(of) => of == owner,
        }
    }

    /// Whether what a node that stopped left behind may be hidden for what the shard was doing.
    fn explains_lingering(&self, of_shard: &Shard, owner: usize) -> bool {
        match of_shard.cause {
            Cause::Local | Cause::Tracked(_) | Cause::UpdatedAll => false,
            Cause::Timer { .. } => of_shard.is_silent(owner, self.config.down_period),
            // A node that hands over sees itself who takes its places, and others learn it from
            // whoever has heard it, at times before they hear the join.
            Cause::Message { from, replaced } => {
                let goodbye = self.config.permdown_on_shutdown;
                self.config.handover || from == owner && (replaced || goodbye)
            }
            Cause::Gone(of) => of == owner && of_shard.heard[owner].stopping.is_none(),
        }
    }

    /// A node is found down or gone: what is hidden of it in the steps to come is so for this cause.
    pub(super) fn excuse(&mut self, node: usize, shard: usize, owner: usize) {
        let Some(of_shard) = self.shard(node, shard) else {
            return;
        };
        let excused = Excused {
            node: owner,
            leaving: self.explains_leave(of_shard, owner),
            lingering: self.explains_lingering(of_shard, owner),
        };
        if let Some(of_shard) = self.shard_mut(node, shard) {
            of_shard.excused.push(excused);
        }
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
    pub(super) fn judge_handover(
        &self,
        node: usize,
        shard: usize,
        told: &Told,
        renewed: &BTreeSet<Number>,
    ) -> Checked {
        if !self.config.handover || told.joins.is_empty() {
            return Ok(());
        }
        let Some(of_shard) = self.shard(node, shard) else {
            return Ok(());
        };
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
}
