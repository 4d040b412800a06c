//! All faults end: what a cluster then does to agree.

use std::collections::BTreeSet;

use presence_core::clock::ReplicaId;
use presence_core::set::Set;

use crate::compare::{Outcome, holds, same};
use crate::op::Op;
use crate::presence::{Place, Presence, counters, state};
use crate::world::World;

/// Who hears whom once the faults are over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Net {
    /// Everyone hears everyone.
    Full,
    /// Each hears only its neighbours, so that what is told at one end goes through all between.
    Line,
}

impl World {
    /// Marks every live replica up and removes what is no more, everywhere.
    pub(crate) fn meet(&mut self) -> Outcome {
        self.trace.push("all meet".to_owned());
        for node in 0..self.nodes.len() {
            for lives in self.lives.clone() {
                let Some((newest, older)) = lives.split_last() else {
                    continue;
                };
                for old in older {
                    self.remove(node, old)?;
                }
                self.up(node, newest)?;
            }
        }
        Ok(())
    }

    /// Lets everyone ask those it hears for what it lacks, until nobody lacks a thing.
    ///
    /// Answers come in chunks of at most `limit` values.
    pub(crate) fn exchange(&mut self, net: Net, limit: usize) -> Outcome {
        // What is told at one end of a line is at the other after as many rounds as there are nodes.
        for _ in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                for from in 0..self.nodes.len() {
                    let hears = net == Net::Full || from.abs_diff(to) == 1;
                    if from != to && hears {
                        self.ask(from, to, limit)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets `to` ask `from` for what it lacks; the chunks arrive in order.
    pub(crate) fn ask(&mut self, from: usize, to: usize, limit: usize) -> Outcome {
        let first = self.pool.len();
        self.plan(from, to, limit)?;
        (first..self.pool.len()).try_for_each(|message| self.deliver(message, to))
    }

    /// Puts the answer of `from` to what `to` lacks into the pool.
    pub(crate) fn plan(&mut self, from: usize, to: usize, limit: usize) -> Outcome {
        let asker = self.nodes[to].id.clone();
        let context = self.nodes[to].set.clocks();
        let answerer = &self.nodes[from];
        let id = answerer.id.clone();
        let mut transfer = answerer.set.answer(&asker, &context);
        let mut expected = answerer.naive.answer(&asker, &counters(&context));
        self.trace.push(format!("{asker} asks {id}"));
        while let Some(chunk) = self.nodes[from].set.next_chunk(&mut transfer, limit) {
            let said = self.nodes[from].naive.next_chunk(&mut expected, limit);
            self.send(id.clone(), chunk, said.ok_or("a chunk too many")?)?;
        }
        let said = self.nodes[from].naive.next_chunk(&mut expected, limit);
        same("what follows the last chunk", &said, &None)
    }

    /// Everything that is tracked leaves, process by process.
    pub(crate) fn everyone_leaves(&mut self) -> Outcome {
        for node in 0..self.nodes.len() {
            let own = self.nodes[node].naive.own().present.values();
            let pids: BTreeSet<u64> = own.map(|presence| presence.place.pid).collect();
            for pid in pids {
                let (at, pid) = (node as u8, pid as u8);
                self.step(Op::LeavePid { at, pid })?;
            }
        }
        Ok(())
    }

    /// Every node lists exactly what the operations say is tracked, and remembers no more than that.
    pub(crate) fn agreed(&self) -> Outcome {
        let live: Vec<ReplicaId> = self.nodes.iter().map(|node| node.id.clone()).collect();
        for node in &self.nodes {
            for id in &live {
                let of_replica = |presence: &Presence| presence.replica == *id;
                let listed = node.set.list_all().map(Presence::from).filter(of_replica);
                let mut listed: Vec<(Place, String)> = listed
                    .map(|presence| (presence.place, presence.meta))
                    .collect();
                listed.sort();
                same(
                    "what is listed and what is tracked",
                    &listed,
                    &self.tracked_by(id),
                )?;
                let ahead = node.set.cloud(id).map(|cloud| cloud.intervals().len());
                same("what is seen ahead", &ahead, &Some(0))?;
            }
            let mut known: Vec<_> = node.set.replicas().map(|(id, _)| id.clone()).collect();
            known.sort();
            let mut expected = live.clone();
            expected.sort();
            same("known replicas", &known, &expected)?;
        }
        Ok(())
    }

    /// Delivers every message once more to every node: nothing changes.
    pub(crate) fn nothing_comes_back(&mut self) -> Outcome {
        self.trace.push("every message once more".to_owned());
        let before: Vec<_> = self.nodes.iter().map(|node| state(&node.set)).collect();
        for message in 0..self.pool.len() {
            for (to, before) in before.iter().enumerate() {
                self.deliver(message, to)?;
                let after = state(&self.nodes[to].set);
                holds("a late message changes nothing", *before == after)?;
            }
        }
        Ok(())
    }

    pub(crate) fn sets(&self) -> impl Iterator<Item = &Set> {
        self.nodes.iter().map(|node| &node.set)
    }
}
