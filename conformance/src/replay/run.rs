//! Replaying one transcript.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use presence_server::app::{self, Tokens};
use presence_server::env::{Environment as _, System};
use presence_server::node::{Config, Node};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::client::{Client, request, with_query};
use super::matching::Bindings;
use super::transcript::{Action, HttpRequest, Step, Transcript};

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

/// The first step of a transcript in which something else came than what was recorded.
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
            Err(error) => return Some(Mismatch::broken(transcript.steps.first(), error)),
        },
    };
    let (inbox, frames) = mpsc::unbounded_channel();
    let mut replay = Replay {
        authority,
        clients: BTreeMap::new(),
        bindings: Bindings::default(),
        inbox,
        frames,
    };
    let mut mismatch = None;
    for step in &transcript.steps {
        mismatch = replay.step(step).await;
        if mismatch.is_some() {
            break;
        }
    }
    for client in std::mem::take(&mut replay.clients).into_values() {
        client.abort().await;
    }
    mismatch
}

impl Mismatch {
    fn broken(step: Option<&Step>, reason: String) -> Self {
        Self {
            line: step.map_or(0, |step| step.line),
            doing: step.map_or_else(String::new, |step| step.text.clone()),
            frames: BTreeMap::new(),
            broken: Some(reason),
        }
    }
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
    clients: BTreeMap<String, Client>,
    bindings: Bindings,
    inbox: super::client::Inbox,
    frames: mpsc::UnboundedReceiver<(String, Value)>,
}

impl Replay {
    async fn step(&mut self, step: &Step) -> Option<Mismatch> {
        if let Err(reason) = self.act(&step.action).await {
            return Some(Mismatch::broken(Some(step), reason));
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

    async fn act(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Open {
                client,
                path,
                query,
                subprotocols,
            } => {
                let path = with_query(path, query);
                let authority = &self.authority;
                let opened =
                    Client::open(client, authority, &path, subprotocols, &self.inbox).await?;
                if let Some(opened) = opened {
                    self.clients.insert(client.clone(), opened);
                }
            }
            Action::Send { client, what } => self.client(client)?.send(what),
            Action::Close(client) => {
                self.client(client)?;
                if let Some(client) = self.clients.remove(client) {
                    client.close().await;
                }
            }
            Action::Abort(client) => {
                self.client(client)?;
                if let Some(client) = self.clients.remove(client) {
                    client.abort().await;
                }
            }
            Action::Http { client, request } => {
                let frame = self.request(request).await?;
                let _ = self.inbox.send((client.clone(), frame));
            }
            Action::Control(path) => {
                let control = HttpRequest {
                    method: "GET".into(),
                    path: path.clone(),
                    query: BTreeMap::new(),
                    headers: BTreeMap::new(),
                    body: String::new(),
                };
                self.request(&control).await?;
            }
        }
        Ok(())
    }

    fn client(&self, name: &str) -> Result<&Client, String> {
        let client = self.clients.get(name);
        client.ok_or_else(|| format!("the client {name:?} is not open"))
    }

    /// Makes a request, with the session's token where the transcript says so.
    async fn request(&self, recorded: &HttpRequest) -> Result<Value, String> {
        let mut made = recorded.clone();
        for value in made.query.values_mut() {
            if value == "$token" {
                let token = self.bindings.token.clone();
                *value = token.ok_or("no long-poll token has come yet")?;
            }
        }
        let answered = timeout(PATIENCE * 2, request(&self.authority, &made)).await;
        answered.map_err(|_| format!("{} {}: no answer", made.method, made.path))?
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
