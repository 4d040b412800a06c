//! The replicas that a set knows: which are listed, and what was seen of each.

use std::sync::Arc;

use super::dots::Dots;
use super::entries::ReplicaIndex;
use super::leaving::Leaving;
use super::{OWN, Set};
use crate::clock::{Context, Dot, MAX_COUNTER, ReplicaId};
use crate::cloud::{Cloud, Interval};
use crate::delta::Value;
use crate::entry::Left;

/// Whether a replica's entries are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// They are.
    Up,
    /// They are kept and not listed, or not all while it comes or goes [step by step](Set::step).
    Down,
}

/// What becomes of a replica step by step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// Nothing more.
    Done,
    /// It is listed.
    Up,
    /// It is hidden.
    Down,
    /// It is hidden and then removed, and is known no more.
    Away,
}

/// Why a replica was not admitted. The set is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// A later incarnation of the same node is known.
    #[error("{newest} is known, a later incarnation of the same node")]
    Superseded {
        /// The latest incarnation known.
        newest: ReplicaId,
    },
    /// As many replicas are known as the limits allow.
    #[error("{0} replicas are known, as many as the limits allow")]
    TooMany(usize),
}

pub(super) struct Replica {
    pub(super) id: ReplicaId,
    pub(super) status: Status,
    /// What becomes of it in the [steps](super::steps) to come.
    pub(super) turn: Turn,
    /// It is listed in the topics with ids below.
    pub(super) listed: u32,
    /// Everything up to this counter was seen.
    pub(super) context: u64,
    /// Dots beyond the context that were seen and are not present.
    pub(super) cloud: Cloud,
    pub(super) present: Dots,
    pub(super) leaving: Leaving,
}

impl Replica {
    /// The bound of a replica that is listed in all topics.
    pub(super) const EVERYWHERE: u32 = u32::MAX;

    pub(super) fn new(id: ReplicaId) -> Self {
        Self {
            id,
            status: Status::Up,
            turn: Turn::Done,
            listed: Self::EVERYWHERE,
            context: 0,
            cloud: Cloud::new(),
            present: Dots::default(),
            leaving: Leaving::default(),
        }
    }

    /// Whether the steps to come have nothing to do with it.
    pub(super) fn is_still(&self) -> bool {
        self.turn == Turn::Done && self.leaving.is_empty()
    }

    /// Remembers that a dot that is not present was seen.
    pub(super) fn saw(&mut self, counter: u64) {
        if counter > self.context {
            self.cloud.insert(counter);
        }
    }

    /// Up to where everything will have been seen once what is leaving has left.
    pub(super) fn known(&self) -> u64 {
        self.context.max(self.leaving.known)
    }

    /// Up to where everything is seen once `values` and the dots of `seen` are, where everything up to
    /// `from` is.
    pub(super) fn frontier<const N: usize>(
        &self,
        from: u64,
        values: &[Value],
        seen: [&[Interval]; N],
    ) -> u64 {
        let beyond = values.partition_point(|value| value.counter <= from);
        let mut values = values[beyond..].iter().peekable();
        let mut seen = seen.map(|intervals| {
            let beyond = intervals.partition_point(|interval| interval.last <= from);
            intervals[beyond..].iter().peekable()
        });
        let mut present = self.present.runs(from + 1).peekable();
        let mut through = from;
        loop {
            let next = through + 1;
            while values.next_if(|value| value.counter < next).is_some() {}
            if values.peek().is_some_and(|value| value.counter == next) {
                through = next;
                continue;
            }
            let mut last = None;
            for intervals in &mut seen {
                while intervals.next_if(|interval| interval.last < next).is_some() {}
                let covers = intervals.peek().filter(|interval| interval.first <= next);
                last = last.max(covers.map(|interval| interval.last));
            }
            let last = last.or_else(|| {
                while present.next_if(|run| run.last < next).is_some() {}
                let covers = present.peek().filter(|run| run.first <= next);
                covers.map(|run| run.last)
            });
            match last {
                Some(last) => through = last,
                None => return through,
            }
        }
    }
}

impl Set {
    /// Admits `replica`, from an empty context if it is unknown, and lists its entries from now on.
    ///
    /// Whether that is a change: [`entries_of`](Self::entries_of) are then the joins to report. A
    /// replica that was removed and is heard again is admitted like one never heard of, or the
    /// presences of a split longer than the permanent-down period would never come back.
    ///
    /// # Errors
    ///
    /// A lower incarnation than one that is known is refused, so that a late message of a node's old
    /// self can't evict the new one.
    pub fn up(&mut self, replica: &ReplicaId) -> Result<bool, AdmitError> {
        if let Some(&index) = self.indices.get(replica) {
            self.stop_turning(index);
            self.at_mut(index).listed = Replica::EVERYWHERE;
            return Ok(self.set_status(index, Status::Up));
        }
        let same_name = self.indices.keys().filter(|id| id.name() == replica.name());
        if let Some(newest) = same_name.max().filter(|newest| newest.supersedes(replica)) {
            return Err(AdmitError::Superseded {
                newest: newest.clone(),
            });
        }
        let max = self.limits.replicas.min(usize::from(u16::MAX));
        let vacant = self.replicas.iter().position(Option::is_none);
        let index = vacant.unwrap_or(self.replicas.len());
        if self.indices.len() >= max || index > usize::from(u16::MAX) {
            return Err(AdmitError::TooMany(max));
        }
        if index == self.replicas.len() {
            self.replicas.push(None);
        }
        self.replicas[index] = Some(Replica::new(replica.clone()));
        let index = ReplicaIndex(index as u16);
        self.indices.insert(replica.clone(), index);
        Ok(true)
    }

    /// Keeps the entries of `replica` and lists them no more.
    ///
    /// Whether that is a change: [`entries_of`](Self::entries_of) are then the leaves to report. The
    /// own replica is always up, and an unknown one has nothing to hide.
    pub fn down(&mut self, replica: &ReplicaId) -> bool {
        match self.indices.get(replica) {
            Some(&index) if index != OWN => {
                self.stop_turning(index);
                self.at_mut(index).listed = 0;
                self.set_status(index, Status::Down)
            }
            _ => false,
        }
    }

    fn stop_turning(&mut self, index: ReplicaIndex) {
        self.at_mut(index).turn = Turn::Done;
        if self.at(index).is_still() {
            self.turning.retain(|&turning| turning != index);
        }
    }

    pub(super) fn set_status(&mut self, index: ReplicaIndex, status: Status) -> bool {
        let replica = self.at_mut(index);
        let changed = replica.status != status;
        replica.status = status;
        if changed {
            match status {
                Status::Up => self.down -= 1,
                Status::Down => self.down += 1,
            }
        }
        changed
    }

    /// Forgets `replica` for good: its entries, which are handed out, its context and cloud, and what
    /// the next delta would have said of it. Nothing is merged of it until it is [`up`](Self::up)
    /// again.
    ///
    /// The own replica can't be removed.
    pub fn remove(&mut self, replica: &ReplicaId) -> Vec<Left> {
        let index = match self.indices.get(replica) {
            Some(&index) if index != OWN => index,
            _ => return Vec::new(),
        };
        let mut handles = Vec::new();
        let everything = Interval {
            first: 1,
            last: MAX_COUNTER,
        };
        let present = &mut self.at_mut(index).present;
        present.take(everything, |_, handle| handles.push(handle));
        self.at_mut(index).leaving = Leaving::default();
        let leaves = handles
            .into_iter()
            .map(|handle| self.detach(handle))
            .collect();
        self.observed.retain(|&(of, _)| of != index);
        self.stop_turning(index);
        self.vacate(index);
        self.indices.remove(replica);
        leaves
    }

    /// Gives the place of a replica without entries back.
    pub(super) fn vacate(&mut self, index: ReplicaIndex) {
        self.set_status(index, Status::Up);
        self.replicas[usize::from(index.0)] = None;
    }

    /// Removes one entry of another replica from this copy alone, which counts as seen from then on.
    ///
    /// Only what will never be told otherwise may be removed so: an entry of a replica that stops.
    /// `None` where the entry is not present, or is the own replica's.
    pub fn expel(&mut self, dot: &Dot) -> Option<Left> {
        let &index = self.indices.get(&dot.replica)?;
        if index == OWN {
            return None;
        }
        let replica = self.at_mut(index);
        let handle = replica.present.remove(dot.counter)?;
        replica.saw(dot.counter);
        Some(self.detach(handle))
    }

    /// Begins a new incarnation of the own replica, whose counter starts over: each own entry takes a
    /// new dot, in the order in which they joined.
    ///
    /// The entries as they were before; [`entries_of`](Self::entries_of) the new replica are what
    /// replaces them. `None` where `incarnation` is not later than the own one.
    pub fn reincarnate(&mut self, incarnation: u64) -> Option<Vec<Left>> {
        let before = self.replica().clone();
        let replica = ReplicaId::new(before.shared_name(), incarnation);
        if !replica.supersedes(&before) {
            return None;
        }
        let own = std::mem::replace(self.own_mut(), Replica::new(replica.clone()));
        self.indices.remove(&before);
        self.indices.insert(replica, OWN);
        self.told = 0;
        self.told_values = 0;
        self.removals.clear();
        self.removals_from = 0;
        let leaves = (1..)
            .zip(own.present.from(1))
            .map(|(counter, (_, handle))| {
                let record = self.record(handle);
                let left = Left {
                    topic: Arc::clone(&self.topics.of(self.entries[handle].topic).name),
                    pid: record.pid,
                    replica: before.clone(),
                    counter: record.counter(),
                    payload: record.payload(),
                    listed: true,
                };
                self.topics.renumber(handle, counter, &self.entries);
                self.own_mut().present.insert(counter, handle);
                self.own_mut().context = counter;
                left
            });
        Some(leaves.collect())
    }

    /// The known replicas and whether they are listed, ordered.
    pub fn replicas(&self) -> impl Iterator<Item = (&ReplicaId, Status)> {
        let of = |(id, &index)| (id, self.at(index).status);
        self.indices.iter().map(of)
    }

    /// Whether `replica` is known, and if so whether it is listed.
    pub fn status(&self, replica: &ReplicaId) -> Option<Status> {
        let &index = self.indices.get(replica)?;
        Some(self.at(index).status)
    }

    /// Up to where everything of `replica` was seen; `None` where it is unknown.
    pub fn counter(&self, replica: &ReplicaId) -> Option<u64> {
        let &index = self.indices.get(replica)?;
        Some(self.at(index).context)
    }

    /// As [`counter`](Self::counter), as it will be once the [steps](Self::step) to come have removed
    /// what was told to be gone.
    pub fn counter_after_steps(&self, replica: &ReplicaId) -> Option<u64> {
        let &index = self.indices.get(replica)?;
        Some(self.at(index).known())
    }

    /// What was seen of `replica` beyond its counter and is not present.
    pub fn cloud(&self, replica: &ReplicaId) -> Option<&Cloud> {
        let &index = self.indices.get(replica)?;
        Some(&self.at(index).cloud)
    }

    /// The [clocks](Self::clocks) less the own changes that no delta has told of yet.
    pub fn told_clocks(&self) -> Context {
        let mut clocks = self.clocks();
        clocks.remove(self.replica());
        clocks.advance(self.replica().clone(), self.told);
        clocks
    }

    /// The causal context of the set, without replicas that are down.
    ///
    /// Those are left out since they are not answered for either, or a replica that does not know
    /// them would ask for them over and over (`Phoenix.Tracker.State.clocks/1`).
    pub fn clocks(&self) -> Context {
        self.indices
            .iter()
            .map(|(id, &index)| (id, self.at(index)))
            .filter(|(_, replica)| replica.status == Status::Up)
            .map(|(id, replica)| (id.clone(), replica.context))
            .collect()
    }
}
