//! The network of a simulation: what becomes of a message on its way.

use std::collections::VecDeque;
use std::rc::Rc;

use presence_core::wire::cluster::Message;

use super::{Checked, Happening, Micros, World};
use crate::coverage::Counted;

/// The way from one node to another.
#[derive(Default)]
pub(super) struct Link {
    /// How many cuts lie on it.
    pub(super) cuts: u32,
    /// How many hold it.
    pub(super) holds: u32,
    held: Vec<Parcel>,
    last_arrival: Micros,
    last_sent: Micros,
    /// The receiver's queue has been full once and takes nothing any more.
    pub(super) silent: bool,
}

/// A message on its way.
#[derive(Clone)]
pub(super) struct Parcel {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) shard: usize,
    pub(super) sent: Micros,
    pub(super) message: Rc<Message>,
}

/// The messages that wait for a node.
pub(super) type Inbox = VecDeque<Parcel>;

impl World<'_> {
    pub(super) fn link(&self, from: usize, to: usize) -> &Link {
        &self.links[from * self.nodes.len() + to]
    }

    fn link_mut(&mut self, from: usize, to: usize) -> &mut Link {
        let count = self.nodes.len();
        &mut self.links[from * count + to]
    }

    /// Sends a message on its way.
    pub(super) fn post(&mut self, from: usize, to: usize, shard: usize, message: &Rc<Message>) {
        if self.link(from, to).cuts > 0 {
            self.coverage.count(Counted::CutOff);
            self.log_message(from, to, |to| format!("cut off from {to}"), message);
            return;
        }
        let network = &self.schedule.network;
        let calm = self.healed[from] && self.healed[to];
        let mut copies = 1;
        if !calm {
            if self.rng.u32(0..1_000_000) < network.loss {
                self.coverage.count(Counted::Lost);
                self.log_message(from, to, |to| format!("lost on its way to {to}"), message);
                return;
            }
            if self.rng.u32(0..1_000_000) < network.repeat {
                self.coverage.count(Counted::Repeated);
                copies = 2;
            }
        }
        for _ in 0..copies {
            let mut at = self.now + network.latency_us;
            if network.jitter_us > 0 {
                at += self.rng.u64(0..=network.jitter_us);
            }
            if !calm && self.rng.u32(0..1_000_000) < network.late {
                self.coverage.count(Counted::Late);
                at += self
                    .rng
                    .u64(0..=3000 * self.schedule.settings.broadcast_period);
            }
            let ordered = network.ordered;
            let link = self.link_mut(from, to);
            if ordered {
                at = at.max(link.last_arrival);
            }
            link.last_arrival = at;
            let parcel = Parcel {
                from,
                to,
                shard,
                sent: self.now,
                message: Rc::clone(message),
            };
            self.at(at, Happening::Deliver(parcel));
        }
    }

    pub(super) fn deliver(&mut self, parcel: Parcel) -> Checked {
        let Parcel { from, to, sent, .. } = parcel;
        let link = self.link_mut(from, to);
        if link.cuts > 0 {
            self.coverage.count(Counted::CutOff);
            let way = |to: &str| format!("cut off on its way to {to}");
            self.log_message(from, to, way, &parcel.message);
            return Ok(());
        }
        if link.holds > 0 {
            link.held.push(parcel);
            self.coverage.count(Counted::Held);
            return Ok(());
        }
        let reordered = sent < link.last_sent;
        link.last_sent = link.last_sent.max(sent);
        let silent = link.silent;
        if reordered {
            self.coverage.count(Counted::Reordered);
        }
        let (now, queue) = (self.now, self.schedule.network.queue);
        let Some(life) = &mut self.nodes[to].life else {
            self.coverage.count(Counted::NobodyThere);
            return Ok(());
        };
        if silent {
            // It counts as arrived: that it is dropped is the defect.
            let local = life.local(now);
            for shard in &mut life.shards {
                shard.heard[from].hear(local, sent, false);
            }
            return Ok(());
        }
        if life.paused_until <= now && life.busy_until <= now && life.inbox.is_empty() {
            return self.take_parcel(to, parcel);
        }
        if life.inbox.len() >= queue {
            self.coverage.count(Counted::Overflow);
            let way = |from: &str| format!("its queue is full, drops what came from {from}");
            self.log_message(to, from, way, &parcel.message);
            if self.saboteur.acts(crate::sabotage::Sabotage::QueueSilent) {
                self.link_mut(from, to).silent = true;
            }
            return Ok(());
        }
        life.inbox.push_back(parcel);
        Ok(())
    }

    /// A node takes what waits for it.
    pub(super) fn work(&mut self, node: usize, number: u32) -> Checked {
        if !self.is_life(node, number) || !self.runs(node) {
            return Ok(());
        }
        loop {
            let now = self.now;
            let Some(life) = &mut self.nodes[node].life else {
                return Ok(());
            };
            if life.busy_until > now {
                return Ok(());
            }
            let Some(parcel) = life.inbox.pop_front() else {
                return Ok(());
            };
            self.take_parcel(node, parcel)?;
        }
    }

    fn take_parcel(&mut self, node: usize, parcel: Parcel) -> Checked {
        self.take(node, parcel)?;
        let now = self.now;
        if let Some(life) = &self.nodes[node].life
            && life.busy_until > now
        {
            let (at, life) = (life.busy_until, life.number);
            self.at(at, Happening::Work { node, life });
        }
        Ok(())
    }

    /// What was held on a link arrives.
    pub(super) fn release(&mut self, link: usize) {
        let link = &mut self.links[link];
        link.holds = link.holds.saturating_sub(1);
        if link.holds > 0 {
            return;
        }
        for parcel in std::mem::take(&mut link.held) {
            let spread = if self.schedule.network.ordered {
                0
            } else {
                2000
            };
            let at = self.now + self.rng.u64(0..=spread);
            self.at(at, Happening::Deliver(parcel));
        }
    }

    /// Nodes between which nothing is cut any more connect again.
    pub(super) fn reconnect(&mut self, links: &[usize]) {
        if !self.schedule.network.announces {
            return;
        }
        let count = self.nodes.len();
        for &link in links {
            let (node, of) = (link / count, link % count);
            if node != of {
                let soon = self.now + self.rng.u64(0..1_000_000);
                self.at(soon, Happening::Connected { node, of });
            }
        }
    }
}
