//! What recordings of clients have in common: what a client does and receives, how that is compared
//! with what was recorded, and how it is told.

pub(crate) mod action;
pub(crate) mod client;
pub(crate) mod clients;
pub(crate) mod lines;
pub(crate) mod matching;
pub(crate) mod report;
pub(crate) mod sources;

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;

pub use self::lines::Unreadable;

/// The first step of a recording in which something else came than what was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// The line of the step.
    pub line: usize,
    /// What the step does.
    pub doing: String,
    /// By client: what was expected, and what was received.
    pub frames: BTreeMap<String, (Vec<Value>, Vec<Value>)>,
    /// What kept the step from being taken, if something did.
    pub broken: Option<String>,
}

impl Mismatch {
    pub(crate) fn broken(line: usize, doing: &str, reason: String) -> Self {
        Self {
            line,
            doing: doing.to_owned(),
            frames: BTreeMap::new(),
            broken: Some(reason),
        }
    }
}

/// Runs a command to its end. A channel that crashes since the case asks for it is no news.
pub(crate) fn wait_for<T>(command: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = runtime.block_on(command);
    std::panic::set_hook(hook);
    done
}
