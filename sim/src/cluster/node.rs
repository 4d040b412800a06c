//! A node of a cluster: its lives, the shards of each, and what was seen of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use presence_core::clock::ReplicaId;
use presence_core::tracker::Tracker;

use super::Micros;
use super::view::View;
use crate::schedule::{NodeSpec, Schedule};
use crate::truth::{Alive, Number};

pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    pub(crate) spec: NodeSpec,
    /// How many shards it has.
    pub(crate) pool: usize,
    pub(crate) life: Option<Life>,
    /// How many lives it has had, those of single shards that began anew among them.
    pub(crate) lives: u32,
    /// Of each shard, its last beginning.
    pub(super) begun: Vec<Begun>,
    /// When its last life ended.
    pub(crate) ended: Option<Micros>,
}

/// What a shard last began as.
#[derive(Clone, Copy, Default)]
pub(super) struct Begun {
    pub(super) life: u32,
    /// Its incarnation, or that which it has chosen since.
    pub(super) incarnation: u64,
}

/// One life of a node.
pub(crate) struct Life {
    pub(super) number: u32,
    /// Those that have begun.
    pub(super) shards: Vec<Option<Shard>>,
}

/// A tracker, and what was seen of it.
pub(crate) struct Shard {
    pub(crate) tracker: Tracker,
    /// In which life of its node it began.
    pub(crate) life: u32,
    /// What its clock said as it began.
    pub(super) began: Duration,
    /// What its clock said last.
    pub(super) local: Duration,
    /// What it was given last.
    pub(super) cause: Cause,
    /// Its presences that are there.
    pub(crate) alive: Alive,
    /// The lists, as its diffs tell them.
    pub(crate) view: View,
    /// Of each node, what was heard directly.
    pub(super) heard: Vec<Heard>,
    /// Own presences that have left, which nobody was told.
    pub(super) untold: Vec<Number>,
    /// Nodes that it has good reason to hide, while it does so.
    pub(super) excused: Vec<Excused>,
    /// Replicas that it has forgotten.
    pub(super) removed: BTreeSet<ReplicaId>,
    pub(super) last_diff: u64,
    pub(crate) stopping: bool,
}

/// What a shard was doing when its lists changed.
#[derive(Clone, Copy)]
pub(super) enum Cause {
    /// A call of its own.
    Local,
    /// A call of its own that brought this presence.
    Tracked(Number),
    /// A call of its own that changed many presences.
    UpdatedAll,
    /// Its timer, which was late by so much.
    Timer { late: Duration },
    /// It took a message, and with it perhaps a later life of the sender for an earlier.
    Message { from: usize, replaced: bool },
    /// It was told that a node's process is gone.
    Gone(usize),
}

/// What a shard has heard of a node directly.
#[derive(Clone, Copy, Default)]
pub(super) struct Heard {
    /// When last, by the hearer's clock.
    pub(super) last: Option<Duration>,
    /// When that was sent which began the hearer's present knowledge of the node.
    pub(super) session: Micros,
    /// The incarnation that said goodbye.
    pub(super) goodbye: u64,
    /// The life that said that it stops, unless a later one was heard since.
    pub(super) stopping: Option<Stopping>,
}

/// A node that is hidden step by step, and what its leaves need no other reason for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Excused {
    pub(super) node: usize,
    /// That it lives.
    pub(super) leaving: bool,
    /// That it stopped, and what it left behind is to stay.
    pub(super) lingering: bool,
}

/// A life that said that it stops.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopping {
    pub(super) incarnation: u64,
    /// Whether its presences are handed over.
    pub(super) handover: bool,
}

impl Node {
    pub(super) fn new(spec: &NodeSpec, schedule: &Schedule) -> Self {
        let pool = spec.pool(schedule);
        Self {
            name: spec.name.as_str().into(),
            spec: spec.clone(),
            pool,
            life: None,
            lives: 0,
            begun: vec![Begun::default(); pool],
            ended: None,
        }
    }

    /// The highest incarnation that its shards have had in their last lives; 0 before the first.
    pub(crate) fn incarnation(&self) -> u64 {
        let all = self.begun.iter().map(|begun| begun.incarnation);
        all.max().unwrap_or(0)
    }

    /// Its shards that live.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.life
            .iter()
            .flat_map(|life| life.shards.iter().flatten())
    }

    pub(crate) fn shard(&self, shard: usize) -> Option<&Shard> {
        self.life.as_ref()?.shards.get(shard)?.as_ref()
    }

    pub(super) fn shard_mut(&mut self, shard: usize) -> Option<&mut Shard> {
        self.life.as_mut()?.shards.get_mut(shard)?.as_mut()
    }
}

impl Shard {
    pub(super) fn new(tracker: Tracker, life: u32, began: Duration, nodes: usize) -> Self {
        Self {
            tracker,
            life,
            began,
            local: began,
            cause: Cause::Local,
            alive: Alive::new(),
            view: View::default(),
            heard: vec![Heard::default(); nodes],
            untold: Vec::new(),
            excused: Vec::new(),
            removed: BTreeSet::new(),
            last_diff: 0,
            stopping: false,
        }
    }

    /// Why a node may be hidden in steps to come.
    pub(super) fn excused_of(&self, node: usize) -> impl Iterator<Item = &Excused> {
        self.excused
            .iter()
            .filter(move |excused| excused.node == node)
    }

    /// Whether a node was not heard for so long.
    pub(super) fn is_silent(&self, of: usize, by: Duration) -> bool {
        let since = |last| self.local.saturating_sub(last);
        self.heard[of].last.is_none_or(|last| since(last) >= by)
    }
}

impl Heard {
    pub(super) fn hear(&mut self, local: Duration, sent: Micros, new: bool) {
        self.last = self.last.max(Some(local));
        if new {
            self.session = sent;
        }
    }

    /// A life was heard, which says that it stops or says nothing of it.
    pub(super) fn hear_stop(&mut self, incarnation: u64, handover: Option<bool>) {
        if let Some(handover) = handover {
            self.stopping = Some(Stopping {
                incarnation,
                handover,
            });
        }
        self.stopping = self
            .stopping
            .filter(|stopping| stopping.incarnation == incarnation);
    }

    /// The time for which the hearer did not run is no silence.
    pub(super) fn forgive(&mut self, late: Duration, local: Duration) {
        if let Some(last) = &mut self.last {
            *last = (*last + late).min(local);
        }
    }
}
