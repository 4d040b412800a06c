//! The clients of one recording, and what comes to them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::action::{Action, HttpRequest};
use super::client::{Client, Inbox, request, with_query};

/// How long an answer to an HTTP request may take; a long poll takes one second.
const PATIENCE: Duration = Duration::from_secs(10);

/// The clients that are open.
pub(crate) struct Clients {
    open: BTreeMap<String, Client>,
    inbox: Inbox,
    own_ends: OwnEnds,
}

/// Whether a client receives how its connection ended that it ended itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnEnds {
    Told,
    Silent,
}

/// What comes, each with the name of its client.
pub(crate) type Frames = mpsc::UnboundedReceiver<(String, Value)>;

impl Clients {
    pub(crate) fn new(own_ends: OwnEnds) -> (Self, Frames) {
        let (inbox, frames) = mpsc::unbounded_channel();
        let clients = Self {
            open: BTreeMap::new(),
            inbox,
            own_ends,
        };
        (clients, frames)
    }

    /// Does what a step says, with the server at `authority`; `token` is the long-poll session's that
    /// the recording means by `$token`.
    pub(crate) async fn act(
        &mut self,
        action: &Action,
        authority: &str,
        token: Option<&str>,
    ) -> Result<(), String> {
        match action {
            Action::Open {
                client,
                path,
                query,
                subprotocols,
            } => {
                let path = with_query(path, query);
                let opened =
                    Client::open(client, authority, &path, subprotocols, &self.inbox).await?;
                if let Some(opened) = opened {
                    self.open.insert(client.clone(), opened);
                }
            }
            Action::Send { client, what } => self.client(client)?.send(what),
            Action::Close(name) => {
                self.client(name)?;
                if let Some(client) = self.open.remove(name) {
                    let code = timeout(PATIENCE, client.close()).await;
                    self.tell_end(name, code.map_err(|_| "the close is not answered")?);
                }
            }
            Action::Abort(name) => {
                self.client(name)?;
                if let Some(client) = self.open.remove(name) {
                    client.abort().await;
                    self.tell_end(name, BROKEN);
                }
            }
            Action::Http { client, request } => {
                let frame = answer(request, authority, token).await?;
                let _ = self.inbox.send((client.clone(), frame));
            }
            Action::Control(path) => {
                answer(&HttpRequest::of(path), authority, token).await?;
            }
        }
        Ok(())
    }

    /// Cuts all connections.
    pub(crate) async fn abort(self) {
        for client in self.open.into_values() {
            client.abort().await;
        }
    }

    fn client(&self, name: &str) -> Result<&Client, String> {
        let client = self.open.get(name);
        client.ok_or_else(|| format!("the client {name:?} is not open"))
    }

    fn tell_end(&self, client: &str, code: u16) {
        if self.own_ends == OwnEnds::Told {
            let _ = self.inbox.send((client.to_owned(), closed(code)));
        }
    }
}

/// The code of a connection that ended without a close frame.
pub(crate) const BROKEN: u16 = 1006;

/// The frame that a client receives last.
pub(crate) fn closed(code: u16) -> Value {
    json!({ "closed": code })
}

/// Makes a request, with the session's token where the recording says so.
async fn answer(
    recorded: &HttpRequest,
    authority: &str,
    token: Option<&str>,
) -> Result<Value, String> {
    let mut made = recorded.clone();
    for value in made.query.values_mut() {
        if value == "$token" {
            let token = token.ok_or("no long-poll token has come yet")?;
            value.replace_range(.., token);
        }
    }
    let answered = timeout(PATIENCE, request(authority, &made)).await;
    answered.map_err(|_| format!("{} {}: no answer", made.method, made.path))?
}
