//! Deterministic simulation of presence clusters.
//!
//! A [schedule](schedule::Schedule) says what happens to a cluster: who joins and leaves where, and what
//! goes wrong. It is data, made from a seed or written by hand, and a [run](world::run) of it is the
//! same, byte for byte, in every process. After every event the invariants are checked against the
//! truth, which is computed from the operations alone; when all faults have ended, every node must list
//! exactly who is there.
//!
//! [`generate`] makes schedules from seeds and [`scenarios`] has those with a name; [`sweep`] runs many,
//! [`coverage`] counts what happened in them, and [`sabotage`] plants defects to show that they are
//! found. [`shrink`] makes a failing schedule small, [`report`], [`trace`] and [`page`] tell it.
//! [`convergence`] and [`mod@bench`] measure. [`journal`] plays what a node in the field has written.

pub mod bench;
pub mod case;
mod cluster;
pub mod convergence;
pub mod coverage;
pub mod full;
pub mod generate;
pub mod journal;
pub mod outcome;
pub mod page;
mod panic;
pub mod report;
pub mod sabotage;
pub mod scenarios;
pub mod schedule;
pub mod shrink;
pub mod sweep;
pub mod tier;
pub mod trace;
mod truth;
pub mod world;
