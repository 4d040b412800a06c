//! What changed in the topics of a shard, until it is told.
//!
//! After a diff to many clients its topic rests for a while, see [`Pause`]: what changes meanwhile goes
//! out as one diff when the rest is over, and a `presence_state` waits with it. A lone change is told
//! at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use presence_core::clock::Dot;
use presence_core::entry::Left;
use presence_core::presence::{DIFF_EVENT, Presences, TopicDiff};
use presence_core::tracker::NumberedDiff;
use presence_core::wire::Json;
use tokio::time::Instant;

use super::{Read, State};
use crate::inbox::Event;
use crate::sabotage::{Defect, Sabotage};
use crate::subscriptions::Subscriptions;

/// How long a topic rests after a diff: so long for each client that was told.
///
/// So the diffs of a topic take a bounded part of the time, however many clients come and go: what one
/// costs grows with the clients, too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause(pub(crate) Duration);

impl Pause {
    /// The shortest rest: no timer is finer.
    const MIN: Duration = Duration::from_millis(1);
    /// The longest rest, after which even a very large room is told.
    const MAX: Duration = Duration::from_secs(1);

    /// `None` where so few are told that there is no need to rest.
    fn after(self, told: usize) -> Option<Duration> {
        let told = u32::try_from(told).unwrap_or(u32::MAX);
        let rest = self.0.saturating_mul(told).min(Self::MAX);
        (rest >= Self::MIN).then_some(rest)
    }
}

/// What is to be told, and when.
pub(super) struct Telling {
    subscriptions: Arc<Subscriptions>,
    pause: Pause,
    /// What is to be told with this turn, by topic.
    changes: BTreeMap<Arc<str>, Changes>,
    resting: BTreeMap<Arc<str>, Rest>,
    /// When the rests end: each of `resting`, once.
    rests: BTreeSet<(Instant, Arc<str>)>,
    sabotage: Sabotage,
    /// The states that a defect delays.
    late: Vec<Late>,
}

/// What waits for a topic that rests.
#[derive(Default)]
struct Rest {
    changes: Changes,
    states: Vec<State>,
}

/// A state that is pushed after the next diff of its topic.
struct Late {
    topic: Arc<str>,
    state: State,
    list: Arc<Json<'static>>,
    /// The turns that it waits for a diff.
    turns: u32,
}

/// What joined and left, without what did both: that was never told, and is not.
#[derive(Default)]
struct Changes {
    joins: BTreeMap<Dot, Left>,
    leaves: BTreeMap<Dot, Left>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.joins.is_empty() && self.leaves.is_empty()
    }

    fn has_both(&self) -> bool {
        !self.joins.is_empty() && !self.leaves.is_empty()
    }

    /// Adds what changed next. A presence may come and go several times, as its replica does.
    fn add(&mut self, diff: NumberedDiff<'_>) {
        for left in diff.leaves {
            let dot = left.entry().dot();
            if self.joins.remove(&dot).is_none() {
                self.leaves.insert(dot, left);
            }
        }
        for entry in diff.joins {
            let dot = entry.dot();
            if self.leaves.remove(&dot).is_none() {
                self.joins.insert(dot, Left::from(entry));
            }
        }
    }
}

impl Telling {
    pub(super) fn new(subscriptions: Arc<Subscriptions>, pause: Pause, sabotage: Sabotage) -> Self {
        Self {
            subscriptions,
            pause,
            changes: BTreeMap::new(),
            resting: BTreeMap::new(),
            rests: BTreeSet::new(),
            sabotage,
            late: Vec::new(),
        }
    }

    /// When the first rest ends.
    pub(super) fn next_rest(&self) -> Option<Instant> {
        self.rests.first().map(|&(until, _)| until)
    }

    /// Whether anybody is to be told what changes in a topic. Whoever joins it from now on is given a
    /// list that has the change.
    pub(super) fn wants(&self, topic: &str) -> bool {
        self.resting.contains_key(topic)
            || self.changes.contains_key(topic)
            || self.subscriptions.count(topic) > 0
    }

    /// Takes note of what changed in a topic.
    pub(super) fn note(&mut self, diff: NumberedDiff<'_>) {
        let changes = match self.resting.get_mut(&diff.topic) {
            Some(rest) => &mut rest.changes,
            None => self.changes.entry(Arc::clone(&diff.topic)).or_default(),
        };
        changes.add(diff);
    }

    /// Makes what waited for a rest that is over a part of this turn.
    pub(super) fn end_rests(&mut self, now: Instant) -> Vec<Read> {
        let mut reads = Vec::new();
        while self.rests.first().is_some_and(|&(until, _)| until <= now) {
            let Some((_, topic)) = self.rests.pop_first() else {
                break;
            };
            let Some(rest) = self.resting.remove(&topic) else {
                continue;
            };
            reads.extend(rest.states.into_iter().map(|state| Read::State {
                topic: Arc::clone(&topic),
                state,
            }));
            if !rest.changes.is_empty() {
                self.changes.insert(topic, rest.changes);
            }
        }
        reads
    }

    /// Lets a state wait where the list has changes that wait.
    pub(super) fn hold(&mut self, topic: &str, state: State) -> Option<State> {
        match self.resting.get_mut(topic) {
            Some(rest) if !rest.changes.is_empty() => {
                rest.states.push(state);
                None
            }
            _ => Some(state),
        }
    }

    /// Tells each topic's channels what changed in it.
    pub(super) fn tell(&mut self, now: Instant) {
        for (topic, mut changes) in std::mem::take(&mut self.changes) {
            let subscribers = self.subscriptions.count(&topic);
            if changes.is_empty() || subscribers == 0 {
                continue;
            }
            if self.sabotage.acts(Defect::DiffLost) {
                continue;
            }
            if changes.has_both() && self.sabotage.acts(Defect::UpdateSplit) {
                let leaves = std::mem::take(&mut changes.leaves);
                let joins = BTreeMap::new();
                self.broadcast(&topic, &Changes { joins, leaves });
            }
            self.broadcast(&topic, &changes);
            if self.sabotage.acts(Defect::DiffTwice) {
                self.broadcast(&topic, &changes);
            }
            for late in self.late.iter_mut().filter(|late| late.topic == topic) {
                late.turns = 0;
            }
            if let Some(rest) = self.pause.after(subscribers) {
                self.rests.insert((now + rest, Arc::clone(&topic)));
                self.resting.insert(topic, Rest::default());
            }
        }
        for late in self.late.extract_if(.., Late::is_due) {
            late.state.push(late.list);
        }
    }

    fn broadcast(&self, topic: &str, changes: &Changes) {
        let diff = TopicDiff {
            joins: Presences::group(changes.joins.values().map(Left::entry)),
            leaves: Presences::group(changes.leaves.values().map(Left::entry)),
        };
        let payload = super::json(&diff.to_json());
        let told = self
            .subscriptions
            .broadcast(topic, DIFF_EVENT, &payload.into(), None);
        if let Err(error) = told {
            tracing::error!(%topic, %error, "a presence diff has no frame");
        }
    }

    /// Keeps a state until its topic's next diff has gone out.
    pub(super) fn delay(&mut self, topic: Arc<str>, state: State, list: Arc<Json<'static>>) {
        self.late.push(Late {
            topic,
            state,
            list,
            turns: Late::TURNS,
        });
    }
}

impl Late {
    /// How many turns it waits at most.
    const TURNS: u32 = 32;

    /// Whether it is pushed with this turn.
    fn is_due(&mut self) -> bool {
        self.turns = self.turns.saturating_sub(1);
        self.turns == 0
    }
}

impl State {
    pub(super) fn push(self, list: Arc<Json<'static>>) {
        self.inbox.send(Event::State {
            channel: self.channel,
            event: self.event,
            list,
        });
    }
}
