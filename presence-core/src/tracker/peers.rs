//! The other replicas: who lives, who is silent, who has stopped.

use std::sync::Arc;
use std::time::Duration;

use super::transfers::{Answering, Asked};
use super::{Event, Refusal, To, Tracker};
use crate::clock::{Context, ReplicaId};
use crate::set;
use crate::wire::cluster::Body;

/// By how much a new incarnation is at most higher than the one that is known: microseconds, where
/// incarnations come from a clock.
const MAX_SKIP: u64 = 1 << 20;

/// What is known of another node's replica.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) replica: ReplicaId,
    pub(super) status: Status,
    /// When it was last heard directly.
    pub(super) heard: Duration,
    /// What it last said that it has seen.
    pub(super) clocks: Context,
    /// The answer that it owes.
    pub(super) asked: Option<Asked>,
    /// The answer that it is given.
    pub(super) answering: Option<Answering>,
    /// How many of its answers in a row could not be merged.
    pub(super) unmerged: u32,
    /// Before when it is not asked.
    pub(super) ask_after: Duration,
    /// That it is about to stop; whether its presences are handed over.
    pub(super) stopping: Option<bool>,
}

/// Whether a replica is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It is.
    Up,
    /// It is heard, for the first time or again, and is listed, topic by topic, once all that it had told
    /// by then has arrived: before that its entries may be ones that have left in the meantime.
    Arriving {
        /// The counter up to which it had told; `None` until it says so.
        until: Option<u64>,
    },
    /// It was not heard for `down_period`, or its node is known to be gone.
    Down,
}

/// A replica that said goodbye: late messages of it are not to bring it back.
#[derive(Debug)]
pub(super) struct Departed {
    incarnation: u64,
    at: Duration,
}

impl Tracker {
    /// A message came from `from`, which had seen `clocks`.
    pub(super) fn hear(
        &mut self,
        from: &ReplicaId,
        clocks: Option<&Context>,
    ) -> Result<(), Refusal> {
        let name = from.name();
        if let Some(departed) = self.departed.get(name)
            && departed.incarnation >= from.incarnation()
        {
            let newest = departed.incarnation;
            if newest > from.incarnation() {
                self.send(To::One(from.shared_name()), Body::Superseded { newest });
            }
            return Err(Refusal::Departed(from.clone()));
        }
        match self.peers.get_mut(name) {
            Some(peer) if peer.replica == *from => {
                peer.heard = self.now;
                let until = clocks.and_then(|clocks| clocks.counter(from));
                match peer.status {
                    Status::Up | Status::Arriving { until: Some(_) } => {}
                    Status::Arriving { until: None } => peer.status = Status::Arriving { until },
                    Status::Down => {
                        peer.status = Status::Arriving { until };
                        self.greet(name);
                    }
                }
            }
            Some(peer) if from.supersedes(&peer.replica) => {
                let old = peer.replica.clone();
                self.stats.replaced += 1;
                self.forget(&old);
                self.admit(from, clocks)?;
            }
            Some(peer) => {
                let newest = peer.replica.clone();
                self.send(
                    To::One(from.shared_name()),
                    Body::Superseded {
                        newest: newest.incarnation(),
                    },
                );
                return Err(Refusal::Superseded {
                    replica: from.clone(),
                    newest,
                });
            }
            None => self.admit(from, clocks)?,
        }
        Ok(())
    }

    fn admit(&mut self, replica: &ReplicaId, clocks: Option<&Context>) -> Result<(), Refusal> {
        match self.set.up(replica) {
            Ok(_) => self.set.down(replica),
            Err(set::AdmitError::TooMany(max)) => return Err(Refusal::TooMany(max)),
            // The set knows the peers and this replica, no others.
            Err(set::AdmitError::Superseded { newest }) => {
                let replica = replica.clone();
                return Err(Refusal::Superseded { replica, newest });
            }
        };
        self.departed.remove(replica.name());
        let peer = Peer {
            replica: replica.clone(),
            status: Status::Arriving {
                until: clocks.and_then(|clocks| clocks.counter(replica)),
            },
            heard: self.now,
            clocks: Context::new(),
            asked: None,
            answering: None,
            unmerged: 0,
            ask_after: Duration::ZERO,
            stopping: None,
        };
        self.peers.insert(replica.shared_name(), peer);
        self.greet(replica.name());
        Ok(())
    }

    /// Takes note of what a peer has seen, lists it where it arrives and nothing of what it told before
    /// is missing, and asks for what is.
    pub(super) fn settle(&mut self, from: &ReplicaId, clocks: Context) {
        self.follow_own_name(&clocks);
        let Some(peer) = self.peers.get_mut(from.name()) else {
            return;
        };
        // One that arrives is waited for; what is missing of others is seen at the next look.
        let waits = matches!(peer.status, Status::Arriving { .. });
        peer.clocks = clocks;
        self.list_arrived();
        if waits {
            self.ask_owner(from.name());
        }
    }

    /// Lists the replicas that arrive and of which nothing is missing.
    pub(super) fn list_arrived(&mut self) {
        let set = &self.set;
        let arrived: Vec<ReplicaId> = self
            .peers
            .values()
            .filter(|peer| match peer.status {
                Status::Arriving { until: Some(until) } => {
                    set.counter(&peer.replica) >= Some(until)
                }
                Status::Up | Status::Arriving { until: None } | Status::Down => false,
            })
            .map(|peer| peer.replica.clone())
            .collect();
        for replica in arrived {
            self.set.show(&replica);
        }
    }

    /// All of a replica is listed now.
    pub(super) fn has_arrived(&mut self, replica: ReplicaId) {
        if let Some(peer) = self.peers.get_mut(replica.name()) {
            peer.status = Status::Up;
        }
        self.stats.arrived += 1;
        self.events.push_back(Event::Up(replica));
    }

    /// Hides a replica that is not heard any more.
    pub(super) fn take_down(&mut self, replica: &ReplicaId) {
        let Some(peer) = self.peers.get_mut(replica.name()) else {
            return;
        };
        if peer.replica != *replica {
            return;
        }
        peer.status = Status::Down;
        peer.clocks = Context::new();
        peer.asked = None;
        peer.answering = None;
        if self.set.hide(replica) {
            self.events.push_back(Event::Down(replica.clone()));
        }
    }

    /// Forgets a replica for good.
    pub(super) fn forget(&mut self, replica: &ReplicaId) {
        self.take_down(replica);
        self.set.dismiss(replica);
        self.noted.remove(replica);
        if self.peers.remove(replica.name()).is_some() {
            self.events.push_back(Event::Permdown(replica.clone()));
        }
    }

    /// A replica stops for good.
    pub(super) fn take_leave_of(&mut self, from: &ReplicaId) -> Result<(), Refusal> {
        match self.peers.get(from.name()).map(|peer| &peer.replica) {
            Some(known) if known == from => self.forget(&from.clone()),
            Some(known) if !from.supersedes(known) => {
                return Err(Refusal::Superseded {
                    replica: from.clone(),
                    newest: known.clone(),
                });
            }
            // A later life of the same node came and went unheard: this one is over as well.
            Some(known) => {
                let known = known.clone();
                self.forget(&known);
            }
            None => {}
        }
        let (incarnation, at) = (from.incarnation(), self.now);
        let has_room = self.departed.len() < self.config.limits.replicas;
        match self.departed.get_mut(from.name()) {
            // A late goodbye of an earlier life must not let a later one in again.
            Some(departed) if departed.incarnation > incarnation => {}
            Some(departed) => *departed = Departed { incarnation, at },
            None if has_room => {
                let departed = Departed { incarnation, at };
                self.departed.insert(from.shared_name(), departed);
            }
            None => {}
        }
        Ok(())
    }

    /// Finds the replicas that were silent for too long.
    pub(super) fn detect_downs(&mut self) {
        let silent: Vec<_> = self
            .peers
            .values()
            .map(|peer| (peer, self.now.saturating_sub(peer.heard)))
            .filter(|&(_, silence)| silence >= self.config.down_period)
            .map(|(peer, silence)| {
                let gone = silence >= self.config.permdown_period;
                (peer.replica.clone(), peer.status, gone)
            })
            .collect();
        for (replica, status, gone) in silent {
            if gone {
                self.forget(&replica);
            } else if status != Status::Down {
                self.take_down(&replica);
            }
        }
        let (now, kept) = (self.now, self.config.permdown_period);
        self.departed
            .retain(|_, departed| now.saturating_sub(departed.at) < kept);
    }

    /// The time for which this replica did not run is no silence of others.
    pub(super) fn forgive(&mut self, late: Duration) {
        let now = self.now;
        for peer in self.peers.values_mut() {
            peer.heard = (peer.heard + late).min(now);
        }
    }

    /// Tells a peer that this replica lives and what it has told so far.
    fn greet(&mut self, name: &str) {
        if let Some((name, _)) = self.peers.get_key_value(name) {
            let name = Arc::clone(name);
            let body = self.idle_heartbeat();
            self.send(To::One(name), body);
        }
    }

    /// Whoever is told of a later life of its own name begins a later one still: its clock went back, or
    /// nobody would hear it. So does whoever is told of changes of its own that it never made: an
    /// earlier life had the same incarnation.
    fn follow_own_name(&mut self, clocks: &Context) {
        let own = self.set.replica();
        let made = self.set.counter(own);
        let newest = clocks
            .iter()
            .filter(|&(replica, counter)| {
                replica.supersedes(own) || replica == own && Some(counter) > made
            })
            .map(|(replica, _)| replica.incarnation())
            .max();
        if let Some(newest) = newest {
            self.reincarnate(newest);
        }
    }

    /// Begins a life later than `newest`: by how much is this life's own random choice, since another
    /// life may be told the same.
    pub(super) fn reincarnate(&mut self, newest: u64) {
        let from = self.set.replica().clone();
        let more = 1 + self.random % MAX_SKIP;
        let next = newest
            .checked_add(more)
            .filter(|_| newest >= from.incarnation());
        let Some(leaves) = next.and_then(|next| self.set.reincarnate(next)) else {
            return;
        };
        for left in leaves {
            self.changes.leave(left);
        }
        let to = self.set.replica().clone();
        for entry in self.set.entries_of(&to) {
            self.changes.join(&entry);
        }
        for peer in self.peers.values_mut() {
            peer.asked = None;
            peer.answering = None;
        }
        self.silent_periods = self.config.max_silent_periods;
        self.stats.reincarnated += 1;
        self.events.push_back(Event::Reincarnated { from, to });
    }
}
