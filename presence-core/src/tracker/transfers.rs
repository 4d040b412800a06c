//! Transfers: asking for what is missing, and answering.
//!
//! Whoever sees that a peer has told more than has arrived asks that peer, and of another replica's
//! changes only where their own replica does not tell them itself for a whole sample period. The
//! request names the replicas that are asked about, so no answer brings what was not wanted, and none
//! asks about a replica that is down: it would be asked over and over. An answer that does not fit one
//! message goes chunk by chunk, the next when the one before has arrived, so that it neither floods a
//! queue nor holds heartbeats up. What gets lost is asked for again. An answer that can't be merged, since
//! the limits of the two differ, is asked for again ever more rarely.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::peers::Status;
use super::{To, Tracker};
use crate::clock::{Context, ReplicaId};
use crate::delta::Delta;
use crate::set;
use crate::wire::cluster::Body;

/// How often what got lost is asked for again before the answer is asked for anew.
const TRIES: u32 = 4;

/// How often the time between two requests doubles while answers can't be merged.
const DOUBLINGS: u32 = 6;

/// An answer that is waited for.
#[derive(Debug)]
pub(super) struct Asked {
    id: u64,
    /// How many parts of it have come.
    parts: u32,
    /// When it was last asked for.
    at: Duration,
    /// How often it was asked for since a part of it came.
    tries: u32,
}

/// An answer that is given.
#[derive(Debug)]
pub(super) struct Answering {
    id: u64,
    /// How many parts of it were given.
    parts: u32,
    transfer: set::Transfer,
    /// Where it was before the last part, which may have got lost.
    before: set::Transfer,
    /// When the last part was given.
    at: Duration,
}

impl Tracker {
    /// Asks whoever has told more than has arrived.
    pub(super) fn ask_for_missing(&mut self) {
        let mut wanted: BTreeMap<Arc<str>, Context> = BTreeMap::new();
        let mut want = |name: &Arc<str>, replica: &ReplicaId, seen: u64| {
            let context = wanted.entry(Arc::clone(name)).or_default();
            context.advance(replica.clone(), seen);
        };
        let mut noted = BTreeMap::new();
        for (name, peer) in &self.peers {
            if peer.status == Status::Down {
                continue;
            }
            let others = peer.clocks.iter();
            let others = others.filter(|(replica, _)| *replica != self.set.replica());
            for (replica, told) in others {
                let seen = self.set.counter_after_steps(replica);
                let Some(seen) = seen.filter(|&seen| seen < told) else {
                    continue;
                };
                if *replica == peer.replica {
                    want(name, replica, seen);
                } else if self.set.status(replica) == Some(set::Status::Up)
                    && !self.told(replica, told)
                {
                    let best = noted.entry(replica.clone()).or_insert((told, name));
                    if told > best.0 {
                        *best = (told, name);
                    }
                }
            }
        }
        for (replica, &(_, name)) in &noted {
            let seen = self.set.counter_after_steps(replica).unwrap_or(0);
            if self.noted.get(replica).is_some_and(|&before| before > seen) {
                want(name, replica, seen);
            }
        }
        self.noted = noted
            .into_iter()
            .map(|(replica, (told, _))| (replica, told))
            .collect();
        for (name, clocks) in wanted {
            self.ask(&name, clocks);
        }
    }

    /// Whether `replica` itself has told of its changes up to `counter`, so that it will be asked.
    fn told(&self, replica: &ReplicaId, counter: u64) -> bool {
        self.peers.get(replica.name()).is_some_and(|owner| {
            owner.replica == *replica && owner.clocks.counter(replica) >= Some(counter)
        })
    }

    /// Asks a peer for what it has told of itself and has not arrived.
    pub(super) fn ask_owner(&mut self, name: &str) {
        let Some((name, peer)) = self.peers.get_key_value(name) else {
            return;
        };
        let told = peer.clocks.counter(&peer.replica);
        let seen = self.set.counter_after_steps(&peer.replica);
        if let Some(seen) = seen.filter(|_| told > seen) {
            let clocks = Context::from_iter([(peer.replica.clone(), seen)]);
            let name = Arc::clone(name);
            self.ask(&name, clocks);
        }
    }

    /// Asks a peer; where it has been asked and owes the answer, again for the part that is missing.
    fn ask(&mut self, name: &Arc<str>, clocks: Context) {
        let (now, timeout) = (self.now, self.config.transfer_timeout());
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        if now < peer.ask_after {
            return;
        }
        let body = match &mut peer.asked {
            Some(asked) if now.saturating_sub(asked.at) < timeout => return,
            Some(asked) if asked.tries < TRIES => {
                asked.at = now;
                asked.tries += 1;
                match asked.parts {
                    0 => Body::TransferRequest {
                        id: asked.id,
                        clocks,
                    },
                    parts => Body::TransferContinue {
                        id: asked.id,
                        part: parts + 1,
                    },
                }
            }
            asked => {
                self.last_request += 1;
                let id = self.last_request;
                *asked = Some(Asked {
                    id,
                    parts: 0,
                    at: now,
                    tries: 0,
                });
                self.stats.transfers_asked += 1;
                Body::TransferRequest { id, clocks }
            }
        };
        self.send(To::One(Arc::clone(name)), body);
    }

    /// A peer asks.
    pub(super) fn answer(&mut self, from: &ReplicaId, id: u64, clocks: &Context) {
        let transfer = self.set.answer(from, clocks);
        if transfer.is_incremental() {
            self.stats.transfers_incremental += 1;
        } else {
            self.stats.transfers_full += 1;
        }
        if let Some(peer) = self.peers.get_mut(from.name()) {
            peer.answering = Some(Answering {
                id,
                parts: 0,
                before: transfer.clone(),
                transfer,
                at: self.now,
            });
        }
        self.send_part(from);
    }

    /// A peer has taken the parts before this one.
    pub(super) fn go_on(&mut self, from: &ReplicaId, id: u64, part: u32) {
        let peer = self.peers.get_mut(from.name());
        let Some(answering) = peer.and_then(|peer| peer.answering.as_mut()) else {
            return;
        };
        if answering.id != id {
            return;
        }
        if part == answering.parts {
            // It got lost.
            answering.transfer = answering.before.clone();
            answering.parts -= 1;
        } else if part != answering.parts + 1 || answering.transfer.is_finished() {
            return;
        }
        self.stats.chunks += 1;
        self.send_part(from);
    }

    fn send_part(&mut self, from: &ReplicaId) {
        let peer = self.peers.get_mut(from.name());
        let Some(answering) = peer.and_then(|peer| peer.answering.as_mut()) else {
            return;
        };
        answering.before = answering.transfer.clone();
        let part = self
            .set
            .next_chunk(&mut answering.transfer, self.config.chunk_values);
        answering.parts += 1;
        answering.at = self.now;
        let reply = Body::TransferReply {
            id: answering.id,
            part: answering.parts,
            last: part.is_none() || answering.transfer.is_finished(),
            delta: part.unwrap_or_default(),
            clocks: self.set.clocks(),
        };
        self.send(To::One(from.shared_name()), reply);
    }

    /// A part of an answer has arrived; whether it was merged.
    pub(super) fn took(
        &mut self,
        from: &ReplicaId,
        id: u64,
        part: u32,
        last: bool,
        is_merged: bool,
    ) {
        let (now, timeout) = (self.now, self.config.transfer_timeout());
        let Some(peer) = self.peers.get_mut(from.name()) else {
            return;
        };
        let expected = |asked: &&mut Asked| asked.id == id && asked.parts + 1 == part;
        let Some(asked) = peer.asked.as_mut().filter(expected) else {
            return;
        };
        if !is_merged {
            peer.asked = None;
            peer.ask_after = now + timeout.saturating_mul(1 << peer.unmerged.min(DOUBLINGS));
            peer.unmerged += 1;
            return;
        }
        peer.unmerged = 0;
        asked.parts = part;
        asked.at = now;
        asked.tries = 0;
        if last {
            peer.asked = None;
        } else {
            let part = part + 1;
            self.send(
                To::One(from.shared_name()),
                Body::TransferContinue { id, part },
            );
        }
    }

    /// Gives up answers that nobody takes any more.
    pub(super) fn drop_stalled_answers(&mut self) {
        let timeout = self.config.transfer_timeout().saturating_mul(TRIES);
        let now = self.now;
        for peer in self.peers.values_mut() {
            let stalled = |answering: &mut Answering| now.saturating_sub(answering.at) > timeout;
            peer.answering.take_if(stalled);
        }
    }

    /// Refuses a delta that speaks of changes of this replica which it never made.
    pub(super) fn invented(&self, delta: &Delta) -> Option<u64> {
        let own = self.set.replica();
        let seen = self.set.counter(own);
        let values = delta.values().filter(|entry| entry.replica == own);
        let values = values.map(|entry| entry.counter);
        let gone = delta.gone().filter(|(replica, _)| *replica == own);
        let gone = gone.filter_map(|(_, gone)| gone.last());
        values.chain(gone).max().filter(|&last| Some(last) > seen)
    }
}
