//! Conformance
pub mod vectors;
