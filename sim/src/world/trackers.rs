//! What goes into a tracker, and what becomes of what comes out of it.

use std::rc::Rc;
use std::sync::Arc;

use presence_core::tracker::journal::{Input, Record};
use presence_core::tracker::{To, Transmit};

use super::process::Parcel;
use super::{Happening, World};
use crate::cluster::Checked;
use crate::coverage::Counted;
use crate::sabotage::Sabotage;

impl World<'_> {
    /// A shard is called.
    pub(super) fn call(&mut self, node: usize, shard: usize, input: Input) -> Checked {
        let now = self.cluster.now;
        let Some(process) = &self.hosts[node].process else {
            return Ok(());
        };
        let at = process.local(now);
        self.cluster.play(node, shard, Record { at, input }, now)?;
        self.drain(node, shard)
    }

    /// A shard takes a message.
    pub(super) fn take(&mut self, node: usize, parcel: Parcel) -> Checked {
        let Parcel {
            from, shard, sent, ..
        } = parcel;
        let now = self.cluster.now;
        let Some(process) = &mut self.hosts[node].process else {
            return Ok(());
        };
        let at = process.local(now);
        if process.slow_until > now {
            process.busy_until = now + process.slow_us;
        }
        let mut message = Rc::unwrap_or_clone(parcel.message);
        self.spoil_taken(node, shard, &mut message, at);
        let peer = Arc::clone(&self.cluster.nodes[from].name);
        let input = Input::Message { peer, message };
        self.cluster.play(node, shard, Record { at, input }, sent)?;
        self.drain(node, shard)
    }

    /// Lets a shard's time pass.
    pub(super) fn tick(&mut self, node: usize, shard: usize) -> Checked {
        let Some(process) = &mut self.hosts[node].process else {
            return Ok(());
        };
        process.shards[shard].timer = None;
        let local = process.local(self.cluster.now);
        if self.saboteur.is(Sabotage::NeverDown) {
            self.forge_words(node, shard, local);
        }
        self.call(node, shard, Input::Timeout)
    }

    /// Passes on all that a shard has to say.
    pub(super) fn drain(&mut self, node: usize, shard: usize) -> Checked {
        while let Some(transmit) = self.cluster.poll_transmit(node, shard) {
            self.send(node, shard, transmit)?;
        }
        while let Some(told) = self.cluster.poll_diff(node, shard)? {
            self.spoil_diff(node, shard, &told)?;
            self.cluster.check_topic(node, shard, &told.topic)?;
        }
        self.cluster.settle(node, shard)?;
        self.schedule_timer(node, shard);
        Ok(())
    }

    fn schedule_timer(&mut self, node: usize, shard: usize) {
        let (Some(process), Some(of_shard)) = (
            &mut self.hosts[node].process,
            self.cluster.shard(node, shard),
        ) else {
            return;
        };
        let due = of_shard.tracker.poll_timeout();
        let at = due.map(|due| process.real(due).max(self.cluster.now));
        if at == process.shards[shard].timer {
            return;
        }
        process.shards[shard].timer = at;
        let life = process.life;
        if let Some(at) = at {
            self.at(at, Happening::Timer { node, life, shard });
        }
    }

    /// Sends a message to whoever it is for.
    fn send(&mut self, node: usize, shard: usize, mut transmit: Transmit) -> Checked {
        if !self.spoil_sent(node, shard, &mut transmit) {
            return Ok(());
        }
        self.cluster.check_sent(node, shard, &transmit)?;
        let message = Rc::new(transmit.message);
        let nodes = &self.cluster.nodes;
        let targets: Vec<usize> = match transmit.to {
            To::All => (0..nodes.len()).filter(|&to| to != node).collect(),
            To::One(name) => nodes
                .iter()
                .position(|node| node.name == name)
                .into_iter()
                .collect(),
        };
        for to in targets {
            if self.cluster.nodes[to].pool != self.cluster.nodes[node].pool {
                self.cluster.coverage.count(Counted::PoolMismatch);
                continue;
            }
            self.cluster.send(node, to, &message);
            self.post(node, to, shard, &message);
        }
        Ok(())
    }
}
