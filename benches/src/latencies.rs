//! How long calls took, and what part of them took how long at most.

use std::time::Duration;

/// How long each of some calls took, ascending.
#[derive(Clone, Default, Debug)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Of calls in any order.
    pub fn of(mut calls: Vec<Duration>) -> Self {
        calls.sort_unstable();
        Self(calls)
    }

    /// The milliseconds that this part of the calls, of 1 all, took at most; 0 where there was none.
    pub fn at(&self, part: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let at = (last as f64 * part).round() as usize;
        self.0.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    /// How many calls there were.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many of them took longer.
    pub fn longer_than(&self, time: Duration) -> usize {
        self.0.len() - self.0.partition_point(|&call| call <= time)
    }

    /// How long they took together.
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }
}
