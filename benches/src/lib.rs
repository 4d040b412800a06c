//! What the set costs, beside the least that it could cost and beside its peers.
//!
//! - `cargo run --release -p benches --bin ratios` measures every goal in one run, ours and what it is
//!   compared with in turns, and prints the table; with `--features peers` those beside `crdts` too.
//! - `cargo run --release -p benches --bin bytes` counts the bytes that a presence takes.
//! - `cargo run --release -p benches --bin instructions -- check` counts instructions under callgrind
//!   and compares them with `benches/instructions.json`.
//! - `cargo run --release -p benches --bin load` measures what the server costs: CPU a frame, memory a
//!   socket, many joins at once.
//! - `cargo run --release -p benches --bin cluster` measures nodes that meet, and what lists and tracks
//!   wait meanwhile.
//! - `cargo run --release -p benches --bin steps` times every step of two trackers while a million
//!   presences come and go.
//! - `cargo bench -p benches` is criterion's detail at four sizes.
//!
//! The [limit] of an operation is one bare hash map that owns its keys and values: nothing that
//! keeps the entries can do less. All of it runs on made [workloads](workload), the same in every run.

pub mod latencies;
pub mod limit;
#[cfg(feature = "peers")]
pub mod peer;
pub mod workload;
