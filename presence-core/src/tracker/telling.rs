//! What a replica tells of itself, and when.

use std::time::Duration;

use super::{HASTE, To, Tracker};
use crate::delta::Delta;
use crate::wire::cluster::Body;

impl Tracker {
    pub(super) fn speak(&mut self) {
        if self.stopping.is_some() {
            let body = self.idle_heartbeat();
            self.send(To::All, body);
        } else if self.set.has_delta() {
            self.tell_delta();
        } else if self.silent_periods >= self.config.max_silent_periods {
            let body = self.idle_heartbeat();
            self.send(To::All, body);
            self.stats.idle_heartbeats += 1;
            self.silent_periods = 0;
        } else {
            self.silent_periods += 1;
        }
    }

    /// When a delta is told that does not wait for the next period.
    pub(super) fn haste(&self) -> Option<Duration> {
        let period = self.config.broadcast_period;
        (self.hastens && self.stopping.is_none()).then(|| self.last_delta + period / HASTE)
    }

    /// Tells what no delta has told yet, or a part of it: the next timeouts tell the others.
    pub(super) fn tell_delta(&mut self) {
        self.last_delta = self.now;
        self.hastens = false;
        self.silent_periods = 0;
        let values = self.set.take_values(self.config.chunk_values);
        self.is_telling = values.is_some();
        let (delta, clocks) = match values {
            // Until the last part is there nobody is to think that something is missing.
            Some(values) => (values, self.set.told_clocks()),
            None => (self.set.take_delta(), self.set.clocks()),
        };
        self.send(To::All, Body::Heartbeat { delta, clocks });
        self.stats.deltas += u64::from(!self.is_telling);
    }

    /// That this replica lives, and what it has told so far.
    pub(super) fn idle_heartbeat(&self) -> Body {
        let clocks = self.set.told_clocks();
        match self.stopping {
            None => Body::Heartbeat {
                delta: Delta::default(),
                clocks,
            },
            Some(_) => Body::Stopping {
                clocks,
                handover: self.config.handover,
            },
        }
    }
}
