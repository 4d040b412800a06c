//! Cluster cases, replayed against embedded nodes that are started, killed, stopped, cut apart and
//! healed.
//!
//! Each case has a network of its own, on which its nodes find each other. A step's time is real time;
//! what a client receives in it is folded as the recordings have it, and compared with what was
//! recorded, save that the presences of a node that was killed may leave sooner.

mod case;
pub(crate) mod command;
mod expected;
mod network;
mod node;
mod nodes;
mod received;
mod run;
mod view;

pub use self::case::Case;
pub use self::run::replay;
pub use crate::exchange::{Mismatch, Unreadable};
