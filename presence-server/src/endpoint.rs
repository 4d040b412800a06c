//! Sockets and their routes: who may connect, and which channel serves which topic.
//!
//! A [`UserSocket`] is what a module with `use Phoenix.Socket` is in Elixir. It is told what a client
//! gave when it connected, and either [lets it in](Connected) with what its channels are to know of its
//! user, or [does not](Refused).

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_channel::mpsc;
use presence_core::wire::Payload;
use tokio::task::JoinHandle;

use crate::channel::{self, Channel, Input, Place};
use crate::env;

/// What a client gave when it connected.
#[derive(Clone, Debug, Default)]
pub struct ConnectInfo {
    /// The parameters of the URL.
    pub params: BTreeMap<String, String>,
    /// The token that phoenix.js sends as a sub-protocol, or as a header where it polls.
    pub auth_token: Option<String>,
}

impl ConnectInfo {
    /// A parameter of the URL.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(String::as_str)
    }
}

/// A socket that may connect.
#[derive(Debug)]
pub struct Connected<U> {
    /// What its channels know of its user.
    pub user: U,
    /// Its id, by which it can be disconnected.
    pub id: Option<Arc<str>>,
}

/// A socket that may not connect: the client is refused with 403.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

pub(crate) type Connect<U> =
    Arc<dyn Fn(&ConnectInfo) -> Result<Connected<U>, Refused> + Send + Sync>;

/// A kind of socket: who may connect to it, and the channels behind its topics (`Phoenix.Socket`).
pub struct UserSocket<U> {
    pub(crate) connect: Connect<U>,
    pub(crate) routes: Routes<U>,
}

impl<U: Send + Sync + 'static> UserSocket<U> {
    /// A socket whose clients `connect` lets in.
    pub fn new(
        connect: impl Fn(&ConnectInfo) -> Result<Connected<U>, Refused> + Send + Sync + 'static,
    ) -> Self {
        Self {
            connect: Arc::new(connect),
            routes: Routes { routes: Vec::new() },
        }
    }

    /// Serves the topics of `pattern` with `C`: a topic, or the beginning of topics and `*`.
    ///
    /// Patterns are tried in the order in which they were given.
    ///
    /// # Panics
    ///
    /// Panics where `*` is not at the end of the pattern.
    #[must_use]
    pub fn channel<C: Channel<User = U>>(mut self, pattern: &str) -> Self {
        let pattern = match pattern.strip_suffix('*') {
            Some(prefix) => Pattern::Prefix(prefix.into()),
            None => Pattern::Topic(pattern.into()),
        };
        let (Pattern::Prefix(text) | Pattern::Topic(text)) = &pattern;
        assert!(!text.contains('*'), "`*` belongs at the end of a pattern");
        let spawn: Spawn<U> = |place, user, params, inputs| {
            let env = Arc::clone(place.node.env());
            env::spawn(&*env, channel::run::<C>(place, user, params, inputs))
        };
        self.routes.routes.push((pattern, spawn));
        self
    }
}

/// Starts the task of a channel.
pub(crate) type Spawn<U> =
    fn(Place, Arc<U>, Payload<'static>, mpsc::UnboundedReceiver<Input>) -> JoinHandle<()>;

pub(crate) struct Routes<U> {
    routes: Vec<(Pattern, Spawn<U>)>,
}

enum Pattern {
    Topic(Box<str>),
    Prefix(Box<str>),
}

impl<U> Routes<U> {
    pub(crate) fn find(&self, topic: &str) -> Option<Spawn<U>> {
        let matching = self.routes.iter().find(|(pattern, _)| match pattern {
            Pattern::Topic(name) => **name == *topic,
            Pattern::Prefix(prefix) => topic.starts_with(&**prefix),
        });
        matching.map(|&(_, spawn)| spawn)
    }
}
