//! A node of a simulation: its lives, the shards of each, and what was seen of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use presence_core::clock::ReplicaId;
use presence_core::delta::Delta;
use presence_core::tracker::Tracker;

use super::Micros;
use super::network::Inbox;
use super::view::View;
use crate::schedule::{NodeSpec, Schedule};
use crate::truth::{Alive, Number};

pub(super) struct Node {
    pub(super) name: Arc<str>,
    pub(super) spec: NodeSpec,
    /// How many shards it has.
    pub(super) pool: usize,
    pub(super) life: Option<Life>,
    /// How many lives it has had.
    pub(super) lives: u32,
    /// The incarnation of the last of them.
    pub(super) incarnation: u64,
    /// How far its wall clock is off.
    pub(super) wall_ms: i64,
    /// When its last life ended.
    pub(super) ended: Option<Micros>,
}

/// One life of a node.
pub(super) struct Life {
    pub(super) number: u32,
    started: Micros,
    clock_ppm: i64,
    pub(super) shards: Vec<Shard>,
    pub(super) alive: Alive,
    pub(super) inbox: Inbox,
    pub(super) paused_until: Micros,
    pub(super) busy_until: Micros,
    pub(super) slow_until: Micros,
    pub(super) slow_us: Micros,
    pub(super) stopping: bool,
    pub(super) defects: Defects,
}

/// What is wrong with a life from its start.
#[derive(Clone, Copy, Default)]
pub(super) struct Defects {
    pub(super) no_clocks: bool,
    pub(super) refuses_transfers: bool,
    /// It began under the incarnation of the life before, and is deaf to what tells it so.
    pub(super) reused: bool,
}

/// A tracker, and what was seen of it.
pub(super) struct Shard {
    pub(super) tracker: Tracker,
    /// When it is next called, if nothing comes before.
    pub(super) timer: Option<Micros>,
    /// The lists, as its diffs tell them.
    pub(super) view: View,
    /// Of each node, what was heard directly.
    pub(super) heard: Vec<Heard>,
    /// Own presences that have left, which nobody was told.
    pub(super) untold: Vec<Number>,
    /// Replicas that it has forgotten.
    pub(super) removed: BTreeSet<ReplicaId>,
    /// The last answer to each asker, for a defect to give again.
    pub(super) replies: BTreeMap<Arc<str>, Delta>,
    pub(super) last_diff: u64,
    /// Up to where its last heartbeat told.
    pub(super) told: u64,
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

/// A life that said that it stops.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopping {
    pub(super) incarnation: u64,
    /// Whether its presences are handed over.
    pub(super) handover: bool,
}

impl Node {
    pub(super) fn new(spec: &NodeSpec, schedule: &Schedule) -> Self {
        Self {
            name: spec.name.as_str().into(),
            spec: spec.clone(),
            pool: spec.pool_size.unwrap_or(schedule.settings.pool_size),
            life: None,
            lives: 0,
            incarnation: 0,
            wall_ms: 0,
            ended: None,
        }
    }
}

impl Life {
    pub(super) fn new(
        number: u32,
        started: Micros,
        clock_ppm: i64,
        shards: Vec<Shard>,
        defects: Defects,
    ) -> Self {
        Self {
            number,
            started,
            clock_ppm,
            shards,
            alive: Alive::new(),
            inbox: Inbox::new(),
            paused_until: 0,
            busy_until: 0,
            slow_until: 0,
            slow_us: 0,
            stopping: false,
            defects,
        }
    }

    /// What its clock says.
    pub(super) fn local(&self, now: Micros) -> Duration {
        let rate = (1_000_000 + self.clock_ppm) as u64;
        let since = u128::from(now - self.started) * u128::from(rate) / 1_000_000;
        Duration::from_micros(since as u64)
    }

    /// When its clock says `local`.
    pub(super) fn real(&self, local: Duration) -> Micros {
        let rate = (1_000_000 + self.clock_ppm) as u128;
        let since = (local.as_nanos().div_ceil(1000) * 1_000_000).div_ceil(rate);
        self.started + since as u64
    }
}

impl Shard {
    pub(super) fn new(tracker: Tracker) -> Self {
        Self {
            tracker,
            timer: None,
            view: View::default(),
            heard: vec![Heard::default(); 64],
            untold: Vec::new(),
            removed: BTreeSet::new(),
            replies: BTreeMap::new(),
            last_diff: 0,
            told: 0,
        }
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
