//! Vectors
pub mod tracker;

/// A step that differs from what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The number of the step, from 1.
    pub step: usize,
    /// What the step does.
    pub doing: String,
    /// What was expected and what was received, a line each.
    pub differences: Vec<String>,
}

/// A file that holds no case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl Unreadable {
    fn json(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }

    fn step(number: usize, step: &str, reason: &dyn std::fmt::Display) -> Self {
        Self(format!("step {number}: {reason}: {step}"))
    }
}
