//! core
pub mod client;
pub mod clock;
pub mod cloud;
pub mod delta;
pub mod entry;
pub mod presence;
pub mod set;
pub mod token;
pub mod wire {
    //! The wire formats.
    pub mod cluster;
}
