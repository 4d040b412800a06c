//! The processes of a simulation: their clocks, their timers and what waits for them.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use presence_core::wire::cluster::Message;

use crate::cluster::Micros;
use crate::sabotage::spoil::Mouth;

/// What a node runs on.
#[derive(Default)]
pub(super) struct Host {
    /// How far its wall clock is off.
    pub(super) wall_ms: i64,
    pub(super) process: Option<Process>,
}

/// The process of one life of a node.
pub(super) struct Process {
    /// The number of that life.
    pub(super) life: u32,
    started: Micros,
    clock_ppm: i64,
    pub(super) shards: Vec<Shard>,
    pub(super) inbox: VecDeque<Parcel>,
    pub(super) paused_until: Micros,
    pub(super) busy_until: Micros,
    pub(super) slow_until: Micros,
    pub(super) slow_us: Micros,
    pub(super) stopping: bool,
    /// It began under the incarnation of the life before, and is deaf to what tells it so: a defect.
    pub(super) is_reused: bool,
}

/// A message on its way.
#[derive(Clone)]
pub(super) struct Parcel {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) shard: usize,
    pub(super) sent: Micros,
    pub(super) message: Rc<Message>,
}

/// What surrounds a tracker.
#[derive(Clone, Default)]
pub(super) struct Shard {
    /// When it is next called, if nothing comes before.
    pub(super) timer: Option<Micros>,
    pub(super) mouth: Mouth,
}

impl Process {
    pub(super) fn new(
        life: u32,
        started: Micros,
        clock_ppm: i64,
        shards: Vec<Shard>,
        is_reused: bool,
    ) -> Self {
        Self {
            life,
            started,
            clock_ppm,
            shards,
            inbox: VecDeque::new(),
            paused_until: 0,
            busy_until: 0,
            slow_until: 0,
            slow_us: 0,
            stopping: false,
            is_reused,
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
