//! What goes into a tracker, and what comes out of it.

use std::rc::Rc;
use std::sync::Arc;

use presence_core::tracker::{Event, Refusal, Status, To};
use presence_core::wire::cluster::{Body, Message};

use super::check::Cause;
use super::network::Parcel;
use super::spoil::spoil_taken;
use super::{Checked, Happening, Invariant, World, node_named};
use crate::coverage::Counted;
use crate::truth::How;

impl World<'_> {
    /// A shard takes a message.
    pub(super) fn take(&mut self, node: usize, parcel: Parcel) -> Checked {
        let Parcel {
            from, shard, sent, ..
        } = parcel;
        let now = self.now;
        self.log_message(node, from, |from| format!("← {from}"), &parcel.message);
        let name = Arc::clone(&self.nodes[from].name);
        let Some(life) = &mut self.nodes[node].life else {
            return Ok(());
        };
        let local = life.local(now);
        if life.slow_until > now {
            life.busy_until = now + life.slow_us;
        }
        let Some(of_shard) = life.shards.get_mut(shard) else {
            return Ok(());
        };
        let mut message = Rc::unwrap_or_clone(parcel.message);
        let before = of_shard
            .tracker
            .status(&name)
            .map(|(replica, status)| (replica.clone(), status));
        let from_replica = message.from.clone();
        if life.defects.reused
            && let Body::Heartbeat { clocks, .. } | Body::TransferReply { clocks, .. } =
                &mut message.body
        {
            clocks.remove(of_shard.tracker.replica());
        }
        spoil_taken(
            &mut self.saboteur,
            &mut of_shard.tracker,
            &mut message,
            local,
        );
        let goodbye = matches!(message.body, Body::Permdown);
        let is_notice = matches!(message.body, Body::Superseded { .. });
        let stopping = match message.body {
            Body::Stopping { handover, .. } => Some(handover),
            _ => None,
        };
        let old = before
            .as_ref()
            .is_some_and(|(known, _)| known.supersedes(&from_replica));
        let taken = of_shard.tracker.handle_message(&name, message, local);
        let after = of_shard.tracker.status(&name);
        let heard = &mut of_shard.heard[from];
        match taken {
            Ok(()) => {
                let known =
                    |status| matches!(status, Status::Up | Status::Arriving { until: Some(_) });
                let new = match (&before, after) {
                    (_, None) => false,
                    (None, Some((_, is))) => known(is),
                    (Some((before, was)), Some((now, is))) => {
                        known(is) && (before != now || !known(*was))
                    }
                };
                // A notice is taken from a life that is not known, too, which is not heard by that.
                let is_heard = after.is_some_and(|(now, _)| *now == from_replica) || !is_notice;
                if is_heard {
                    heard.hear(local, sent, new);
                    heard.hear_stop(from_replica.incarnation(), stopping);
                }
                if goodbye {
                    heard.goodbye = heard.goodbye.max(from_replica.incarnation());
                }
                if let Some((_, Status::Down)) = before
                    && new
                {
                    self.coverage.count(Counted::Returned);
                }
            }
            Err(Refusal::Superseded { .. } | Refusal::Departed(_)) => {
                self.coverage.count(Counted::LowerIgnored);
            }
            Err(refusal) => {
                return Err(self.failure(
                    Invariant::Refused,
                    node,
                    format!("{refusal}, although every node is honest"),
                ));
            }
        }
        if old {
            self.coverage.count(Counted::OldLife);
        }
        let cloud = self.nodes[node].life.as_ref().is_some_and(|life| {
            let set = life.shards[shard].tracker.set();
            set.cloud(&from_replica)
                .is_some_and(|cloud| !cloud.is_empty())
        });
        if cloud {
            self.coverage.count(Counted::Cloud);
        }
        let replaced = before.is_some_and(|(before, _)| from_replica.supersedes(&before));
        self.drain(node, shard, Cause::Message { from, replaced })
    }

    /// Passes on all that a shard has to say, and checks it.
    pub(super) fn drain(&mut self, node: usize, shard: usize, cause: Cause) -> Checked {
        loop {
            let Some(life) = &mut self.nodes[node].life else {
                return Ok(());
            };
            let Some(transmit) = life.shards[shard].tracker.poll_transmit() else {
                break;
            };
            self.send(node, shard, transmit.to, transmit.message)?;
        }
        self.drain_diffs(node, shard, cause)?;
        while let Some(life) = &mut self.nodes[node].life {
            let Some(event) = life.shards[shard].tracker.poll_event() else {
                break;
            };
            self.note_event(node, shard, &event);
        }
        self.schedule_timer(node, shard);
        Ok(())
    }

    fn note_event(&mut self, node: usize, shard: usize, event: &Event) {
        match event {
            Event::Up(replica) => {
                let again = self.nodes[node]
                    .life
                    .as_mut()
                    .is_some_and(|life| life.shards[shard].removed.remove(replica));
                if again {
                    self.coverage.count(Counted::AdmittedAgain);
                }
                self.log_found(node, replica.name(), || format!("finds {replica} up"));
            }
            Event::Down(replica) => {
                self.coverage.count(Counted::Down);
                self.log_found(node, replica.name(), || format!("finds {replica} down"));
            }
            Event::Permdown(replica) => {
                if let Some(life) = &mut self.nodes[node].life {
                    life.shards[shard].removed.insert(replica.clone());
                    let of = node_named(&self.nodes, replica.name());
                    if let Some(life) = &mut self.nodes[node].life {
                        // A later life may be the one that stops.
                        let stopping = &mut life.shards[shard].heard[of].stopping;
                        *stopping = stopping
                            .filter(|stopping| stopping.incarnation != replica.incarnation());
                    }
                }
                self.coverage.count(Counted::Permdown);
                self.log_found(node, replica.name(), || format!("forgets {replica}"));
            }
            Event::Reincarnated { from, to } => {
                self.coverage.count(Counted::Reincarnated);
                self.nodes[node].incarnation = to.incarnation();
                self.log(node, || format!("was {from}, is {to}"));
            }
        }
    }

    fn schedule_timer(&mut self, node: usize, shard: usize) {
        let now = self.now;
        let Some(life) = &mut self.nodes[node].life else {
            return;
        };
        let at = life.shards[shard]
            .tracker
            .poll_timeout()
            .map(|at| life.real(at).max(now));
        if at == life.shards[shard].timer {
            return;
        }
        life.shards[shard].timer = at;
        let life = life.number;
        if let Some(at) = at {
            self.at(at, Happening::Timer { node, life, shard });
        }
    }

    /// Sends a message to whoever it is for.
    pub(super) fn send(
        &mut self,
        node: usize,
        shard: usize,
        to: To,
        mut message: Message,
    ) -> Checked {
        if !self.spoil_sent(node, shard, &to, &mut message) {
            return Ok(());
        }
        self.check_sent(node, shard, &message)?;
        let (now, is_all) = (self.now, to == To::All);
        let Some(life) = &mut self.nodes[node].life else {
            return Ok(());
        };
        let tells = match &message.body {
            Body::Heartbeat { delta, .. } => is_all && !delta.is_empty(),
            Body::Permdown => true,
            _ => false,
        };
        if tells {
            // What ends with a node that stops is told by its goodbye, if at all.
            let goodbye = message.body == Body::Permdown;
            let truth = &mut self.truth;
            life.shards[shard].untold.retain(|&number| {
                let stopped = truth.how(number) == Some(How::Stopped);
                if goodbye || !stopped {
                    truth.told(number, now);
                }
                stopped && !goodbye
            });
        }
        let message = Rc::new(message);
        let targets: Vec<usize> = match to {
            To::All => (0..self.nodes.len()).filter(|&to| to != node).collect(),
            To::One(name) => self
                .nodes
                .iter()
                .position(|node| node.name == name)
                .into_iter()
                .collect(),
        };
        for to in targets {
            if self.nodes[to].pool != self.nodes[node].pool {
                self.coverage.count(Counted::PoolMismatch);
                continue;
            }
            self.traffic.count(&message.body);
            self.log_message(node, to, |to| format!("→ {to}"), &message);
            self.post(node, to, shard, &message);
        }
        Ok(())
    }
}
