//! Clusters of the first tier take no longer to agree than they did.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use sim::convergence::Convergence;

#[test]
fn healing_takes_as_long_as_it_did() {
    let before = Convergence::parse(include_str!("../convergence.json")).unwrap();
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let now = Convergence::measure(before.seeds, jobs).unwrap();
    let changes = now.changes(&before);
    assert!(
        changes.is_empty(),
        "{}\nIf that is as it should be: cargo run --release -p sim -- convergence --accept",
        changes.join("\n")
    );
}
