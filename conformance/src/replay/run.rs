//! Replaying one transcript.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use presence_server::app::{self, Tokens};
use presence_server::env::{Environment as _, System};
use presence_server::node::{Config, Node};
use serde_json::{Value, json};

use super::transcript::{Step, Transcript};
use crate::exchange::Mismatch;
use crate::exchange::clients::{Clients, Frames, OwnEnds};
use crate::exchange::matching::Bindings;

/// How long the frames of a step may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long nothing else may come after them.
const QUIET: Duration = Duration::from_millis(60);

/// The server under test.
#[derive(Clone, Debug)]
pub enum Server {
    /// A fresh one of this project for each case, in this process.
    Embedded,
    /// One that runs elsewhere: `HOST:PORT`.
    At(String),
}

/// Replays one transcript: `None` when all that came was what was recorded.
pub async fn replay(transcript: &Transcript, server: &Server) -> Option<Mismatch> {
    let embedded;
    let authority = match server {
        Server::At(authority) => authority.clone(),
        Server::Embedded => match Embedded::start().await {
            Ok(started) => {
                embedded = started;
                embedded.authority.clone()
            }
            Err(error) => return Some(Mismatch::broken(0, "the server's start", error)),
        },
    };
    let (clients, frames) = Clients::new(OwnEnds::Silent);
    let mut replay = Replay {
        authority,
        clients,
        bindings: Bindings::default(),
        frames,
    };
    let mut mismatch = None;
    for step in &transcript.steps {
        mismatch = replay.step(step).await;
        if mismatch.is_some() {
            break;
        }
    }
    replay.clients.abort().await;
    mismatch
}

/// The conformance application on a free port, until it is dropped.
struct Embedded {
    authority: String,
    system: System,
}

impl Embedded {
    async fn start() -> Result<Self, String> {
        let system = System::new();
        let listener = system.listen(([127, 0, 0, 1], 0).into()).await;
        let listener = listener.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let config = Config {
            poll_window: Duration::from_secs(1),
            ..Config::default()
        };
        let node = Node::start(Arc::new(system.clone()), config);
        let node = node.map_err(|error| error.to_string())?;
        let tokens = Tokens::new(&app::conformance::secret_key_base());
        let router = app::conformance(&node, tokens.map_err(|error| error.to_string())?);
        tokio::spawn(async move { presence_server::serve::serve(&node, listener, router).await });
        Ok(Self {
            authority: address.to_string(),
            system,
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.system.request_stop();
    }
}

struct Replay {
    authority: String,
    clients: Clients,
    bindings: Bindings,
    frames: Frames,
}

impl Replay {
    async fn step(&mut self, step: &Step) -> Option<Mismatch> {
        let token = self.bindings.token.as_deref();
        let done = self.clients.act(&step.action, &self.authority, token).await;
        if let Err(reason) = done {
            return Some(Mismatch::broken(step.line, &step.text, reason));
        }
        let received = self.receive(&step.then).await;
        let mut differing = BTreeMap::new();
        let names = step.then.keys().chain(
            received
                .keys()
                .filter(|name| !step.then.contains_key(*name)),
        );
        for name in names {
            let expected = step.then.get(name).cloned().unwrap_or_default();
            let came = received.get(name).cloned().unwrap_or_default();
            let unordered = step.unordered.contains(name);
            if !self.bindings.frames(&expected, &came, unordered) {
                differing.insert(name.clone(), (expected, came));
            }
        }
        (!differing.is_empty()).then(|| Mismatch {
            line: step.line,
            doing: step.text.clone(),
            frames: differing,
            broken: None,
        })
    }

    /// Takes what comes until all that is expected has come, then what comes in the quiet time.
    async fn receive(
        &mut self,
        then: &BTreeMap<String, Vec<Value>>,
    ) -> BTreeMap<String, Vec<Value>> {
        let mut received: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let complete = |received: &BTreeMap<String, Vec<Value>>| {
            then.iter()
                .all(|(name, frames)| received.get(name).map_or(0, Vec::len) >= frames.len())
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !complete(&received) {
            match tokio::time::timeout_at(deadline, self.frames.recv()).await {
                Ok(Some((name, frame))) => received.entry(name).or_default().push(frame),
                Ok(None) => break,
                Err(_) => {
                    let late = json!({ "waited_in_vain": format!("{PATIENCE:?}") });
                    for (name, frames) in then {
                        if received.get(name).map_or(0, Vec::len) < frames.len() {
                            received.entry(name.clone()).or_default().push(late.clone());
                        }
                    }
                    return received;
                }
            }
        }
        let quiet = tokio::time::Instant::now() + QUIET;
        while let Ok(Some((name, frame))) = tokio::time::timeout_at(quiet, self.frames.recv()).await
        {
            received.entry(name).or_default().push(frame);
        }
        received
    }
}
