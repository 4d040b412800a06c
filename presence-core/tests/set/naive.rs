//! A set so simple that it can be checked by reading: every dot ever seen is kept, and everything is
//! found by looking at all there is. It shares no idea with the real one beyond the rules.

use std::collections::{BTreeMap, BTreeSet};

use presence_core::clock::ReplicaId;

use crate::presence::{Place, Presence};

/// What one replica tells of the dots of another.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Claims {
    /// Up to where the sender has seen everything.
    pub(crate) through: u64,
    /// To be merged only where everything up to `through` is then seen.
    pub(crate) closing: bool,
    /// The dots spoken of; those without a value are gone.
    pub(crate) dots: BTreeSet<u64>,
    pub(crate) values: BTreeMap<u64, Presence>,
}

pub(crate) type Message = BTreeMap<ReplicaId, Claims>;

#[derive(Clone, Default)]
pub(crate) struct Known {
    pub(crate) down: bool,
    pub(crate) seen: BTreeSet<u64>,
    pub(crate) present: BTreeMap<u64, Presence>,
}

impl Known {
    pub(crate) fn context(&self) -> u64 {
        prefix(&self.seen)
    }

    fn gone(&self) -> BTreeSet<u64> {
        let absent = |dot: &&u64| !self.present.contains_key(dot);
        self.seen.iter().filter(absent).copied().collect()
    }
}

/// Up to where no counter is missing.
fn prefix(seen: &BTreeSet<u64>) -> u64 {
    (1..)
        .take_while(|dot| seen.contains(dot))
        .last()
        .unwrap_or(0)
}

#[derive(Clone)]
pub(crate) struct Naive {
    pub(crate) own: ReplicaId,
    pub(crate) known: BTreeMap<ReplicaId, Known>,
    /// How many own leaves, and how many leaves of others, are remembered.
    pub(crate) log_limit: usize,
    pub(crate) observed_limit: usize,
    log: Vec<(u64, u64)>,
    forgotten: u64,
    observed: Vec<(ReplicaId, u64)>,
    told: u64,
}

impl Naive {
    pub(crate) fn new(own: ReplicaId, log_limit: usize, observed_limit: usize) -> Self {
        Self {
            known: BTreeMap::from([(own.clone(), Known::default())]),
            own,
            log_limit,
            observed_limit,
            log: Vec::new(),
            forgotten: 0,
            observed: Vec::new(),
            told: 0,
        }
    }

    pub(crate) fn own(&self) -> &Known {
        &self.known[&self.own]
    }

    fn own_mut(&mut self) -> &mut Known {
        self.known.get_mut(&self.own).expect("always known")
    }

    /// The entries of every known replica, listed or not.
    pub(crate) fn all(&self) -> Vec<Presence> {
        let present = self.known.values().flat_map(|known| known.present.values());
        present.cloned().collect()
    }

    pub(crate) fn listed(&self) -> Vec<Presence> {
        let up = self.known.values().filter(|known| !known.down);
        up.flat_map(|known| known.present.values())
            .cloned()
            .collect()
    }

    pub(crate) fn entries_of(&self, id: &ReplicaId) -> Vec<Presence> {
        let known = self.known.get(id).into_iter();
        known
            .flat_map(|known| known.present.values())
            .cloned()
            .collect()
    }

    fn at(&self, place: &Place) -> Option<u64> {
        let mut found = self.own().present.iter();
        let (&dot, _) = found.find(|(_, presence)| presence.place == *place)?;
        Some(dot)
    }

    pub(crate) fn join(&mut self, place: &Place, meta: &str) -> Option<Presence> {
        if self.at(place).is_some() {
            return None;
        }
        let counter = self.own().context() + 1;
        let presence = Presence::new(&self.own, counter, place, meta);
        self.own_mut().seen.insert(counter);
        self.own_mut().present.insert(counter, presence.clone());
        Some(presence)
    }

    pub(crate) fn leave(&mut self, place: &Place) -> Option<Presence> {
        let dot = self.at(place)?;
        let left = self.leave_dot(dot);
        self.trim_log();
        left
    }

    fn leave_dot(&mut self, dot: u64) -> Option<Presence> {
        let counter = self.own().context() + 1;
        self.own_mut().seen.insert(counter);
        self.log.push((counter, dot));
        self.own_mut().present.remove(&dot)
    }

    /// A leave beyond the limit is remembered while it was not told and there are twice as many presences.
    fn trim_log(&mut self) {
        while self.log.len() > self.log_limit {
            let (counter, _) = self.log[0];
            if counter > self.told && self.log.len() * 2 <= self.own().present.len() {
                break;
            }
            self.log.remove(0);
            self.forgotten = counter;
        }
    }

    pub(crate) fn update(&mut self, place: &Place, meta: &str) -> Option<(Presence, Presence)> {
        let left = self.leave_dot(self.at(place)?)?;
        let joined = self.join(place, meta)?;
        self.trim_log();
        Some((left, joined))
    }

    /// Own gone dots that whoever has seen everything up to `after` may lack.
    fn own_gone(&self, after: u64) -> BTreeSet<u64> {
        let mut gone = self.own().gone();
        if after >= self.forgotten {
            let left = |dot: &u64| self.log.iter().any(|(at, of)| of == dot && *at > after);
            gone.retain(|dot| *dot > after || left(dot));
        }
        gone
    }

    fn claims(&self, of: &ReplicaId, gone: BTreeSet<u64>, after: u64, room: usize) -> Claims {
        let known = &self.known[of];
        let values = known.present.range(after + 1..).take(room);
        let values: BTreeMap<_, _> = values.map(|(dot, value)| (*dot, value.clone())).collect();
        Claims {
            through: known.context(),
            closing: false,
            dots: gone.into_iter().chain(values.keys().copied()).collect(),
            values,
        }
    }

    pub(crate) fn take_delta(&mut self) -> Message {
        let mut message = Message::new();
        for (of, dot) in std::mem::take(&mut self.observed) {
            let through = self.known[&of].context();
            let claims = message.entry(of).or_default();
            claims.through = through;
            claims.dots.insert(dot);
        }
        let gone = self.own_gone(self.told);
        let mut claims = self.claims(&self.own, gone, self.told, usize::MAX);
        claims.closing = self.told < self.forgotten;
        message.insert(self.own.clone(), claims);
        self.told = self.own().context();
        self.trim_log();
        telling(message)
    }

    pub(crate) fn extract(&self, asker: &ReplicaId, context: &BTreeMap<ReplicaId, u64>) -> Message {
        let told = |id: &&ReplicaId| *id != asker && context.contains_key(*id);
        let claims = |id: &ReplicaId| self.claims(id, self.known[id].gone(), 0, usize::MAX);
        let message = self.known.keys().filter(told);
        telling(message.map(|id| (id.clone(), claims(id))).collect())
    }

    pub(crate) fn up(&mut self, id: &ReplicaId) -> Option<bool> {
        if let Some(known) = self.known.get_mut(id) {
            return Some(std::mem::replace(&mut known.down, false));
        }
        if self.known.keys().any(|other| other.supersedes(id)) {
            return None;
        }
        self.known.insert(id.clone(), Known::default());
        Some(true)
    }

    pub(crate) fn down(&mut self, id: &ReplicaId) -> bool {
        let other = *id != self.own;
        let known = self.known.get_mut(id).filter(|known| other && !known.down);
        known.map(|known| known.down = true).is_some()
    }

    pub(crate) fn remove(&mut self, id: &ReplicaId) -> Vec<Presence> {
        if *id == self.own {
            return Vec::new();
        }
        self.observed.retain(|(of, _)| of != id);
        let known = self.known.remove(id).unwrap_or_default();
        known.present.into_values().collect()
    }

    pub(crate) fn merge(&mut self, message: &Message) -> Merged {
        let mut merged = Merged::default();
        for (id, claims) in message.iter().filter(|(id, _)| **id != self.own) {
            let Some(known) = self.known.get_mut(id) else {
                merged.unknown += 1;
                continue;
            };
            let after: BTreeSet<u64> = known.seen.union(&claims.dots).copied().collect();
            if claims.closing && prefix(&after) < claims.through {
                merged.deferred += 1;
                continue;
            }
            for dot in claims
                .dots
                .iter()
                .filter(|dot| !claims.values.contains_key(dot))
            {
                if let Some(left) = known.present.remove(dot) {
                    merged.leaves.push(left);
                    if self.observed.len() < self.observed_limit {
                        self.observed.push((id.clone(), *dot));
                    }
                }
            }
            for (dot, value) in claims.values.iter().rev() {
                if known.seen.contains(dot) {
                    continue;
                }
                let mut rivals = known.present.values();
                let rival = rivals.find(|rival| rival.place == value.place).cloned();
                if rival.as_ref().is_none_or(|rival| rival.counter < *dot) {
                    merged.joins.push(value.clone());
                    known.present.insert(*dot, value.clone());
                    if let Some(rival) = rival {
                        known.present.remove(&rival.counter);
                        merged.leaves.push(rival);
                    }
                }
            }
            known.seen = after;
        }
        merged
    }

    pub(crate) fn answer(&self, asker: &ReplicaId, context: &BTreeMap<ReplicaId, u64>) -> Transfer {
        let behind = |(id, known): (&ReplicaId, &Known)| {
            let after = *context.get(id).filter(|_| id != asker)?;
            let logged = *id == self.own && after >= self.forgotten;
            (known.context() > after).then(|| (id.clone(), after, logged))
        };
        Transfer {
            steps: self.known.iter().filter_map(behind).collect(),
            stage: Some(Stage::Whole),
        }
    }

    pub(crate) fn next_chunk(&self, transfer: &mut Transfer, limit: usize) -> Option<Message> {
        let steps: Vec<_> = transfer.steps.iter().enumerate().collect();
        let known = |id: &ReplicaId| self.known.contains_key(id);
        if transfer.stage == Some(Stage::Whole) {
            let mut message = Message::new();
            let mut values = 0;
            for (_, (id, after, logged)) in steps.iter().filter(|(_, step)| known(&step.0)) {
                let mut claims =
                    self.claims(id, self.step_gone(id, *after, *logged), *after, usize::MAX);
                claims.closing = !logged || *after < self.forgotten;
                values += claims.values.len();
                message.insert(id.clone(), claims);
            }
            if values <= limit {
                transfer.stage = None;
                return Some(telling(message)).filter(|message| !message.is_empty());
            }
            transfer.stage = Some(Stage::Values(0, 0));
        }
        let mut message = Message::new();
        let mut room = limit;
        while let Some(Stage::Values(step, from)) = transfer.stage {
            let Some((_, (id, after, _))) = steps.get(step) else {
                transfer.stage = Some(Stage::Gone(0));
                break;
            };
            if room == 0 {
                return Some(telling(message));
            }
            transfer.stage = Some(Stage::Values(step + 1, 0));
            if known(id) {
                let first = from.max(after + 1);
                let claims = self.claims(id, BTreeSet::new(), first - 1, room);
                let rest = self.known[id].present.range(first..).nth(room);
                if let Some((next, _)) = rest {
                    transfer.stage = Some(Stage::Values(step, *next));
                }
                room -= claims.values.len();
                message.insert(id.clone(), claims);
            }
        }
        message = telling(message);
        if !message.is_empty() {
            return Some(message);
        }
        while let Some(Stage::Gone(step)) = transfer.stage {
            let (_, (id, after, logged)) = steps.get(step)?;
            transfer.stage = Some(Stage::Gone(step + 1));
            if known(id) {
                let gone = self.step_gone(id, *after, *logged);
                let ahead = self.known[id].context();
                let mut claims = self.claims(id, gone, ahead, usize::MAX);
                claims.closing = true;
                message = telling(Message::from([(id.clone(), claims)]));
                if !message.is_empty() {
                    return Some(message);
                }
            }
        }
        None
    }

    fn step_gone(&self, id: &ReplicaId, after: u64, logged: bool) -> BTreeSet<u64> {
        if logged {
            self.own_gone(after)
        } else {
            self.known[id].gone()
        }
    }
}

/// An answer under way: of whom, from where on, and whether the log reaches back that far.
#[derive(Clone)]
pub(crate) struct Transfer {
    pub(crate) steps: Vec<(ReplicaId, u64, bool)>,
    stage: Option<Stage>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Whole,
    Values(usize, u64),
    Gone(usize),
}

#[derive(Default, PartialEq, Eq, Debug)]
pub(crate) struct Merged {
    pub(crate) joins: Vec<Presence>,
    pub(crate) leaves: Vec<Presence>,
    pub(crate) unknown: usize,
    pub(crate) deferred: usize,
}

/// The message without parts that say nothing.
fn telling(mut message: Message) -> Message {
    message.retain(|_, claims| !claims.dots.is_empty());
    message
}
