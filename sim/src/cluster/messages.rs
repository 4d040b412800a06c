//! What trackers hear, and what they send.

use std::sync::Arc;
use std::time::Duration;

use presence_core::tracker::{Refusal, Status, To, Transmit};
use presence_core::wire::cluster::{Body, Message};

use super::node::Cause;
use super::{Checked, Cluster, Micros};
use crate::coverage::Counted;
use crate::outcome::Invariant;
use crate::truth::{How, number_of};

impl Cluster<'_> {
    /// A shard takes a message that was sent then.
    pub(super) fn hear(
        &mut self,
        node: usize,
        shard: usize,
        from: usize,
        message: Message,
        sent: Micros,
    ) -> Checked {
        self.log_message(node, from, |from| format!("← {from}"), &message);
        let name = Arc::clone(&self.nodes[from].name);
        let Some(of_shard) = self.nodes[node].shard_mut(shard) else {
            return Ok(());
        };
        let local = of_shard.local;
        let before = of_shard
            .tracker
            .status(&name)
            .map(|(replica, status)| (replica.clone(), status));
        let from_replica = message.from.clone();
        let goodbye = matches!(message.body, Body::Permdown);
        let is_notice = matches!(message.body, Body::Superseded { .. });
        let stopping = match message.body {
            Body::Stopping { handover, .. } => Some(handover),
            _ => None,
        };
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
                if let Some((_, Status::Down)) = &before
                    && new
                {
                    self.coverage.count(Counted::Returned);
                }
            }
            Err(Refusal::Superseded { .. } | Refusal::Departed(_)) => {
                self.coverage.count(Counted::LowerIgnored);
            }
            Err(refusal) => {
                let what = format!("{refusal}, although every node is honest");
                return Err(self.failure(Invariant::Refused, node, what));
            }
        }
        let known = before.map(|(known, _)| known);
        if known
            .as_ref()
            .is_some_and(|known| known.supersedes(&from_replica))
        {
            self.coverage.count(Counted::OldLife);
        }
        let cloud = of_shard.tracker.set().cloud(&from_replica);
        if cloud.is_some_and(|cloud| !cloud.is_empty()) {
            self.coverage.count(Counted::Cloud);
        }
        let replaced = known.is_some_and(|known| from_replica.supersedes(&known));
        of_shard.cause = Cause::Message { from, replaced };
        Ok(())
    }

    /// A message that was sent then came to a node, which loses it and counts it as heard.
    pub(crate) fn mishear(&mut self, node: usize, from: usize, local: Duration, sent: Micros) {
        let life = self.nodes[node].life.as_mut();
        for shard in life
            .into_iter()
            .flat_map(|life| life.shards.iter_mut().flatten())
        {
            shard.heard[from].hear(local, sent, false);
        }
    }

    /// What a shard next has to send.
    pub(crate) fn poll_transmit(&mut self, node: usize, shard: usize) -> Option<Transmit> {
        self.shard_mut(node, shard)?.tracker.poll_transmit()
    }

    /// What a shard says of its own presences is true. From then on it has told what it says.
    pub(crate) fn check_sent(&mut self, node: usize, shard: usize, transmit: &Transmit) -> Checked {
        let now = self.now;
        let Some(of_shard) = self.nodes[node].shard_mut(shard) else {
            return Ok(());
        };
        let body = &transmit.message.body;
        if let Body::Heartbeat { delta, .. } | Body::TransferReply { delta, .. } = body
            && !of_shard.stopping
        {
            let own = of_shard.tracker.replica();
            for entry in delta.values().filter(|entry| entry.replica == own) {
                let number = number_of(entry.meta);
                if !self.truth.is_alive(number) {
                    let what = "is told of by its own node, where it is not any more";
                    return Err(self.failure_of(Invariant::TellsTheTruth, node, number, what));
                }
            }
        }
        let tells = match body {
            Body::Heartbeat { delta, .. } => transmit.to == To::All && !delta.is_empty(),
            Body::Permdown => true,
            _ => false,
        };
        if tells {
            // What ends with a node that stops is told by its goodbye, if at all.
            let goodbye = *body == Body::Permdown;
            let truth = &mut self.truth;
            of_shard.untold.retain(|&number| {
                let stopped = truth.how(number) == Some(How::Stopped);
                if goodbye || !stopped {
                    truth.told(number, now);
                }
                stopped && !goodbye
            });
        }
        Ok(())
    }

    /// A message goes on its way to a node.
    pub(crate) fn send(&mut self, from: usize, to: usize, message: &Message) {
        self.traffic.count(&message.body);
        self.log_message(from, to, |to| format!("→ {to}"), message);
    }
}
