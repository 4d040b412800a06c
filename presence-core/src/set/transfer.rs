//! Answers for a replica that lags: what it lacks, in messages of bounded size.

use super::replicas::Replica;
use super::{OWN, Set};
use crate::clock::{Context, ReplicaId};
use crate::cloud::Interval;
use crate::delta::{Builder, Delta};

/// An answer under way, see [`Set::answer`].
///
/// It holds no entries: each [chunk](Set::next_chunk) is read from the set as it then is, which is
/// sound whatever changes between them.
#[derive(Clone, Debug)]
pub struct Transfer {
    steps: Vec<Step>,
    stage: Stage,
}

#[derive(Clone, Debug)]
struct Step {
    replica: ReplicaId,
    /// The asker has seen everything up to here.
    after: u64,
    /// Whether the log still holds every leave that the asker may lack.
    logged: bool,
}

/// What the next chunk tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The first: everything at once, if that fits.
    Whole,
    /// The values of a step, from a counter on.
    Values { step: usize, from: u64 },
    /// The gone dots of a step.
    Gone { step: usize },
}

impl Transfer {
    /// Whether the asker lacks nothing that is known here.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether the last message was given out. (Where only empty ones are left it may say no, and
    /// [`Set::next_chunk`] then gives none.)
    pub fn is_finished(&self) -> bool {
        match self.stage {
            Stage::Whole => self.is_empty(),
            Stage::Values { .. } => false,
            Stage::Gone { step } => step >= self.steps.len(),
        }
    }

    /// Whether no full state is needed: the log of leaves reaches back to what the asker has seen.
    ///
    /// This answers where the reference looks for a delta generation that fits.
    pub fn is_incremental(&self) -> bool {
        self.steps.iter().all(|step| step.logged)
    }
}

impl Set {
    /// Plans what to tell `asker`, whose clocks are `context`.
    ///
    /// Of each replica that the asker knows and of which more is seen here: the values above the
    /// asker's counter, and the gone dots. Of this replica's own leaves the log tells which are new;
    /// where it does not reach back far enough, and for other replicas, every dot that is not present
    /// is named as gone, which intervals keep short. The asker's own part is never told: nobody knows
    /// it better.
    pub fn answer(&self, asker: &ReplicaId, context: &Context) -> Transfer {
        let mut steps = Vec::new();
        for (id, &index) in &self.indices {
            let Some(after) = context.counter(id).filter(|_| id != asker) else {
                continue;
            };
            if self.at(index).context > after {
                steps.push(Step {
                    replica: id.clone(),
                    after,
                    logged: index == OWN && after >= self.removals_from,
                });
            }
        }
        Transfer {
            steps,
            stage: Stage::Whole,
        }
    }

    /// The next message of an answer, with at most `limit` values (at least one); `None` after the
    /// last. A closing part also repeats the values ahead of the context, few as they are.
    ///
    /// An answer that fits one message is one sound delta. A longer one begins with values and ends
    /// with the gone dots in closing parts.
    pub fn next_chunk(&self, transfer: &mut Transfer, limit: usize) -> Option<Delta> {
        let limit = limit.max(1);
        if transfer.stage == Stage::Whole {
            transfer.stage = Stage::Values { step: 0, from: 0 };
            if self.fits(transfer, limit) {
                transfer.stage = Stage::Gone {
                    step: transfer.steps.len(),
                };
                let mut builder = Builder::new(self.hash_seed);
                for step in &transfer.steps {
                    let closing = !self.is_logged(step);
                    self.tell_step_gone(step, closing, &mut builder);
                    self.tell_step_values(step, 0, limit, &mut builder);
                }
                return Some(builder.finish()).filter(|delta| !delta.is_empty());
            }
        }
        while let Some(delta) = self.advance(transfer, limit) {
            if !delta.is_empty() {
                return Some(delta);
            }
        }
        None
    }

    fn fits(&self, transfer: &Transfer, limit: usize) -> bool {
        let values = transfer.steps.iter().flat_map(|step| {
            let replica = self.known(&step.replica);
            replica
                .into_iter()
                .flat_map(|replica| replica.present.from(step.after + 1))
        });
        values.take(limit.saturating_add(1)).count() <= limit
    }

    fn advance(&self, transfer: &mut Transfer, limit: usize) -> Option<Delta> {
        let mut builder = Builder::new(self.hash_seed);
        while let Stage::Values { step: at, from } = transfer.stage {
            let Some(step) = transfer.steps.get(at) else {
                transfer.stage = Stage::Gone { step: 0 };
                break;
            };
            let room = limit - builder.values();
            if room == 0 {
                return Some(builder.finish());
            }
            transfer.stage = match self.tell_step_values_part(step, from, room, &mut builder) {
                Some(from) => Stage::Values { step: at, from },
                None => Stage::Values {
                    step: at + 1,
                    from: 0,
                },
            };
        }
        if builder.values() > 0 {
            return Some(builder.finish());
        }
        let Stage::Gone { step: at } = transfer.stage else {
            return None;
        };
        let step = transfer.steps.get(at)?;
        transfer.stage = Stage::Gone { step: at + 1 };
        self.tell_step_gone(step, true, &mut builder);
        // A dot may have been superseded by one ahead of the context, which the range of the closing
        // part does not reach: without its value the presence would blink.
        if let Some(replica) = self.known(&step.replica) {
            self.tell_values(replica, replica.context + 1, usize::MAX, &mut builder);
        }
        Some(builder.finish())
    }

    fn tell_step_gone(&self, step: &Step, closing: bool, builder: &mut Builder) {
        let Some(replica) = self.known(&step.replica) else {
            return;
        };
        builder.part(step.replica.clone(), replica.context, closing);
        if self.is_logged(step) {
            self.tell_own_gone_since(step.after, builder);
        } else {
            self.tell_gone(replica, builder);
        }
    }

    /// Whether the log, which may have moved on since the answer was planned, has what the step needs.
    fn is_logged(&self, step: &Step) -> bool {
        step.logged && step.after >= self.removals_from
    }

    fn tell_step_values_part(
        &self,
        step: &Step,
        from: u64,
        room: usize,
        builder: &mut Builder,
    ) -> Option<u64> {
        let replica = self.known(&step.replica)?;
        builder.part(step.replica.clone(), replica.context, false);
        self.tell_step_values(step, from, room, builder)
    }

    fn tell_step_values(
        &self,
        step: &Step,
        from: u64,
        room: usize,
        builder: &mut Builder,
    ) -> Option<u64> {
        let replica = self.known(&step.replica)?;
        self.tell_values(replica, from.max(step.after + 1), room, builder)
    }

    /// Own joins and leaves that no delta has told yet.
    pub(super) fn tell_own_untold(&self, builder: &mut Builder) {
        if self.told >= self.removals_from {
            self.tell_own_gone_since(self.told, builder);
        } else {
            self.tell_gone(self.own(), builder);
        }
        let first = self.told.max(self.told_values) + 1;
        self.tell_values(self.own(), first, usize::MAX, builder);
    }

    /// The own dots that were gone after `counter`, which the log reaches back to.
    fn tell_own_gone_since(&self, counter: u64, builder: &mut Builder) {
        let own = self.own();
        let from = self
            .removals
            .partition_point(|&(leave, _)| leave <= counter);
        let mut left: Vec<u64> = self.removals.range(from..).map(|&(_, dot)| dot).collect();
        left.sort_unstable();
        for dot in left {
            builder.gone(Interval {
                first: dot,
                last: dot,
            });
        }
        for interval in own.present.absent(counter + 1, own.context) {
            builder.gone(interval);
        }
    }

    /// Every dot of `replica` that was seen and is not present.
    pub(super) fn tell_gone(&self, replica: &Replica, builder: &mut Builder) {
        for interval in replica.present.absent(1, replica.context) {
            builder.gone(interval);
        }
        for &interval in replica.cloud.intervals() {
            builder.gone(interval);
        }
    }

    /// At most `room` values of `replica` from the counter `first` on; the first that had no room.
    pub(super) fn tell_values(
        &self,
        replica: &Replica,
        first: u64,
        room: usize,
        builder: &mut Builder,
    ) -> Option<u64> {
        for (told, (counter, handle)) in replica.present.from(first).enumerate() {
            if told == room {
                return Some(counter);
            }
            let slot = &self.entries[handle];
            let topic = self.topics.of(slot.topic);
            let record = &topic.records[slot.position as usize];
            builder.value(counter, record.pid, &topic.name, record.text());
        }
        None
    }

    fn known(&self, id: &ReplicaId) -> Option<&Replica> {
        let &index = self.indices.get(id)?;
        Some(self.at(index))
    }
}
