//! Transfers: asking for what is missing, and answering.
//!
//! Whoever sees that a peer has told more than has arrived asks that peer, and of another replica's
//! changes only where their own replica does not tell them itself for a whole sample period. The
//! request names the replicas that are asked about, so no answer brings what was not wanted, and none
//! asks about a replica that is down: it would be asked over and over. An answer that does not fit one
//! message goes chunk by chunk, a few of them ahead of what has arrived, so that it neither waits for each
//! on its way there and back, nor floods a queue, nor holds heartbeats up. What gets lost is asked for
//! again, with all that came after it. An answer that can't be merged, since
//! the limits of the two differ, is asked for again ever more rarely.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::peers::{Peer, Status};
use super::{To, Tracker};
use crate::clock::{Context, ReplicaId};
use crate::delta::Delta;
use crate::set;
use crate::wire::cluster::Body;

/// How often what got lost is asked for again before the answer is asked for anew.
const TRIES: u32 = 4;

/// How many parts of an answer may be on their way.
const AHEAD: usize = 4;

/// How often the time between two requests doubles while answers can't be merged.
const DOUBLINGS: u32 = 6;

/// An answer that is waited for.
#[derive(Debug)]
pub(super) struct Asked {
    id: u64,
    /// How many parts of it have come, without a gap.
    parts: u32,
    /// Which of the parts that follow have come, the next being the lowest bit.
    early: u64,
    /// The last part, once that has come.
    last: Option<u32>,
    /// When it was last asked for.
    at: Duration,
    /// How often it was asked for since a part of it came.
    tries: u32,
}

/// A part of an answer, and what became of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) number: u32,
    pub(super) is_last: bool,
    pub(super) taken: Taken,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    Merged,
    /// It waits for what has not arrived.
    Deferred,
    Refused,
}

/// An answer that is given.
#[derive(Debug)]
pub(super) struct Answering {
    id: u64,
    /// How many parts of it the peer has taken.
    taken: u32,
    /// What was before each part that is on its way, since that may get lost.
    before: VecDeque<set::Transfer>,
    transfer: set::Transfer,
    /// When the last part was given.
    at: Duration,
}

impl Answering {
    /// Whether another part may be given.
    fn has_room(&self) -> bool {
        self.before.len() < AHEAD && !self.transfer.is_finished()
    }
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
                    0 => {
                        // It begins anew.
                        asked.early = 0;
                        let id = asked.id;
                        Body::TransferRequest { id, clocks }
                    }
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
                    early: 0,
                    last: None,
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
                taken: 0,
                before: VecDeque::new(),
                transfer,
                at: self.now,
            });
        }
        self.send_part(&from.shared_name());
    }

    /// A peer has taken the parts before this one, and asks for it again where it was not heard of since.
    pub(super) fn go_on(&mut self, from: &ReplicaId, id: u64, part: u32) {
        let peer = self.peers.get_mut(from.name());
        let Some(answering) = peer.and_then(|peer| peer.answering.as_mut()) else {
            return;
        };
        let newly = part
            .checked_sub(1 + answering.taken)
            .map(|newly| newly as usize);
        let Some(newly) =
            newly.filter(|&newly| answering.id == id && newly <= answering.before.len())
        else {
            return;
        };
        if newly == 0
            && let Some(lost) = answering.before.pop_front()
        {
            answering.transfer = lost;
            answering.before.clear();
        }
        answering.before.drain(..newly);
        answering.taken = part - 1;
        if answering.has_room() {
            self.stats.chunks += 1;
            self.send_part(&from.shared_name());
        }
    }

    /// The first peer that may be given another part of an answer.
    fn answered_ahead(&self) -> Option<&Arc<str>> {
        let is_ahead = |peer: &Peer| peer.answering.as_ref().is_some_and(Answering::has_room);
        self.peers
            .iter()
            .find(|(_, peer)| is_ahead(peer))
            .map(|(name, _)| name)
    }

    /// Whether a part of an answer can be given before the ones before it have arrived.
    pub(super) fn is_answering(&self) -> bool {
        self.answered_ahead().is_some()
    }

    /// Gives a part of an answer before the ones before it have arrived.
    pub(super) fn answer_ahead(&mut self) {
        if let Some(name) = self.answered_ahead().cloned() {
            self.stats.chunks += 1;
            self.send_part(&name);
        }
    }

    fn send_part(&mut self, name: &Arc<str>) {
        let peer = self.peers.get_mut(name);
        let Some(answering) = peer.and_then(|peer| peer.answering.as_mut()) else {
            return;
        };
        answering.before.push_back(answering.transfer.clone());
        let part = self
            .set
            .next_chunk(&mut answering.transfer, self.config.chunk_values);
        answering.at = self.now;
        let reply = Body::TransferReply {
            id: answering.id,
            part: answering.taken + answering.before.len() as u32,
            last: part.is_none() || answering.transfer.is_finished(),
            delta: part.unwrap_or_default(),
            clocks: self.set.clocks(),
        };
        self.send(To::One(Arc::clone(name)), reply);
    }

    /// A part of an answer has arrived, and was merged, was deferred or was refused.
    pub(super) fn took(&mut self, from: &ReplicaId, id: u64, part: Part) {
        let (now, timeout) = (self.now, self.config.transfer_timeout());
        let Some(peer) = self.peers.get_mut(from.name()) else {
            return;
        };
        let Some(asked) = peer.asked.as_mut().filter(|asked| asked.id == id) else {
            return;
        };
        let ahead = part.number.checked_sub(asked.parts + 1);
        let Some(ahead) = ahead.filter(|&ahead| ahead < u64::BITS) else {
            return;
        };
        match part.taken {
            Taken::Refused => {
                peer.asked = None;
                peer.ask_after = now + timeout.saturating_mul(1 << peer.unmerged.min(DOUBLINGS));
                peer.unmerged += 1;
                return;
            }
            // Once what it waits for is there it is asked for again.
            Taken::Deferred if ahead > 0 => return,
            Taken::Merged | Taken::Deferred => {}
        }
        peer.unmerged = 0;
        asked.early |= 1 << ahead;
        if part.is_last {
            asked.last = Some(part.number);
        }
        let newly = asked.early.trailing_ones();
        if newly == 0 {
            return;
        }
        asked.early = asked.early.checked_shr(newly).unwrap_or(0);
        asked.parts += newly;
        asked.at = now;
        asked.tries = 0;
        if asked.last == Some(asked.parts) {
            peer.asked = None;
        } else {
            let part = asked.parts + 1;
            let body = Body::TransferContinue { id, part };
            self.send(To::One(from.shared_name()), body);
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
