//! Counts of what happened.

use std::ops::Add;

use serde::Serialize;

/// What happened so far, as counts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Messages refused.
    pub refused: u64,
    /// Heartbeats that told a delta.
    pub deltas: u64,
    /// Heartbeats without one.
    pub idle_heartbeats: u64,
    /// Requests made.
    pub transfers_asked: u64,
    /// Requests answered from the log.
    pub transfers_incremental: u64,
    /// Requests answered with a full state.
    pub transfers_full: u64,
    /// Parts of answers beyond the first.
    pub chunks: u64,
    /// Parts that came too early to be merged.
    pub deferred: u64,
    /// Dots that gave way to a later one of the same presence out of order.
    pub superseded: u64,
    /// Replicas that were listed, for the first time or again.
    pub arrived: u64,
    /// Replicas that a later life has replaced.
    pub replaced: u64,
    /// New lives of this replica.
    pub reincarnated: u64,
    /// Times at which this replica's timer ran late by more than a period.
    pub suspected_itself: u64,
    /// Presences of stopping replicas that were handed over.
    pub handed_over: u64,
}

/// What happened to two trackers, or in two lives of one.
impl Add for Stats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            refused: self.refused + other.refused,
            deltas: self.deltas + other.deltas,
            idle_heartbeats: self.idle_heartbeats + other.idle_heartbeats,
            transfers_asked: self.transfers_asked + other.transfers_asked,
            transfers_incremental: self.transfers_incremental + other.transfers_incremental,
            transfers_full: self.transfers_full + other.transfers_full,
            chunks: self.chunks + other.chunks,
            deferred: self.deferred + other.deferred,
            superseded: self.superseded + other.superseded,
            arrived: self.arrived + other.arrived,
            replaced: self.replaced + other.replaced,
            reincarnated: self.reincarnated + other.reincarnated,
            suspected_itself: self.suspected_itself + other.suspected_itself,
            handed_over: self.handed_over + other.handed_over,
        }
    }
}
