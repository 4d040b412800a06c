//! core
pub mod client;
pub mod clock;
pub mod cloud;
pub mod delta;
pub mod entry;
pub mod set;
pub mod token;
