//! The network of a simulation: what becomes of a message on its way.

use std::rc::Rc;

use presence_core::wire::cluster::Message;

use super::process::Parcel;
use super::{Happening, World};
use crate::cluster::{Checked, Micros};
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

impl World<'_> {
    pub(super) fn link(&self, from: usize, to: usize) -> &Link {
        &self.links[from * self.hosts.len() + to]
    }

    fn link_mut(&mut self, from: usize, to: usize) -> &mut Link {
        let count = self.hosts.len();
        &mut self.links[from * count + to]
    }

    /// Sends a message on its way.
    pub(super) fn post(&mut self, from: usize, to: usize, shard: usize, message: &Rc<Message>) {
        if self.link(from, to).cuts > 0 {
            self.cluster.coverage.count(Counted::CutOff);
            self.cluster
                .log_message(from, to, |to| format!("cut off from {to}"), message);
            return;
        }
        let network = &self.schedule.network;
        let calm = self.healed[from] && self.healed[to];
        let mut copies = 1;
        if !calm {
            if self.rng.u32(0..1_000_000) < network.loss {
                self.cluster.coverage.count(Counted::Lost);
                self.cluster.log_message(
                    from,
                    to,
                    |to| format!("lost on its way to {to}"),
                    message,
                );
                return;
            }
            if self.rng.u32(0..1_000_000) < network.repeat {
                self.cluster.coverage.count(Counted::Repeated);
                copies = 2;
            }
        }
        for _ in 0..copies {
            let mut at = self.cluster.now + network.latency_us;
            if network.jitter_us > 0 {
                at += self.rng.u64(0..=network.jitter_us);
            }
            if !calm && self.rng.u32(0..1_000_000) < network.late {
                self.cluster.coverage.count(Counted::Late);
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
                sent: self.cluster.now,
                message: Rc::clone(message),
            };
            self.at(at, Happening::Deliver(parcel));
        }
    }

    pub(super) fn deliver(&mut self, parcel: Parcel) -> Checked {
        let Parcel { from, to, sent, .. } = parcel;
        let link = self.link_mut(from, to);
        if link.cuts > 0 {
            self.cluster.coverage.count(Counted::CutOff);
            let way = |to: &str| format!("cut off on its way to {to}");
            self.cluster.log_message(from, to, way, &parcel.message);
            return Ok(());
        }
        if link.holds > 0 {
            link.held.push(parcel);
            self.cluster.coverage.count(Counted::Held);
            return Ok(());
        }
        let reordered = sent < link.last_sent;
        link.last_sent = link.last_sent.max(sent);
        let silent = link.silent;
        if reordered {
            self.cluster.coverage.count(Counted::Reordered);
        }
        let (now, queue) = (self.cluster.now, self.schedule.network.queue);
        let Some(process) = &mut self.hosts[to].process else {
            self.cluster.coverage.count(Counted::NobodyThere);
            return Ok(());
        };
        if silent {
            // It counts as arrived: that it is dropped is the defect.
            let local = process.local(now);
            self.cluster.mishear(to, from, local, sent);
            return Ok(());
        }
        if process.paused_until <= now && process.busy_until <= now && process.inbox.is_empty() {
            return self.take_parcel(to, parcel);
        }
        if process.inbox.len() >= queue {
            self.cluster.coverage.count(Counted::Overflow);
            let way = |from: &str| format!("its queue is full, drops what came from {from}");
            self.cluster.log_message(to, from, way, &parcel.message);
            if self.saboteur.acts(crate::sabotage::Sabotage::QueueSilent) {
                self.link_mut(from, to).silent = true;
            }
            return Ok(());
        }
        process.inbox.push_back(parcel);
        Ok(())
    }

    /// A node takes what waits for it.
    pub(super) fn work(&mut self, node: usize, life: u32) -> Checked {
        if !self.is_life(node, life) || !self.runs(node) {
            return Ok(());
        }
        while let Some(process) = &mut self.hosts[node].process {
            if process.busy_until > self.cluster.now {
                break;
            }
            let Some(parcel) = process.inbox.pop_front() else {
                break;
            };
            self.take_parcel(node, parcel)?;
        }
        Ok(())
    }

    fn take_parcel(&mut self, node: usize, parcel: Parcel) -> Checked {
        self.take(node, parcel)?;
        if let Some(process) = &self.hosts[node].process
            && process.busy_until > self.cluster.now
        {
            let (at, life) = (process.busy_until, process.life);
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
            let at = self.cluster.now + self.rng.u64(0..=spread);
            self.at(at, Happening::Deliver(parcel));
        }
    }

    /// Nodes between which nothing is cut any more connect again.
    pub(super) fn reconnect(&mut self, links: &[usize]) {
        if !self.schedule.network.announces {
            return;
        }
        let count = self.hosts.len();
        for &link in links {
            let (node, of) = (link / count, link % count);
            if node != of {
                let soon = self.cluster.now + self.rng.u64(0..1_000_000);
                self.at(soon, Happening::Connected { node, of });
            }
        }
    }
}
