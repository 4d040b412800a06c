//! The sessions of long polling: what waits for the next poll, and what the client has posted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use presence_core::wire::Frame;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Duration, Instant};

use super::BINARY_PREFIX;
use crate::connection::{Gone, Received, Transport};
use crate::node::Node;

/// Messages of one request or several that may wait for the session's task.
const INCOMING: usize = 64;

/// The header in which a client may name its session, since phoenix.js 1.9; before, the query did.
const SESSION_TOKEN_HEADER: &str = "x-phoenix-longpoll-token";

/// The sessions of one socket on this node, by token.
#[derive(Debug)]
pub(in crate::transport) struct Sessions {
    open: Arc<Mutex<BTreeMap<Arc<str>, Arc<Session>>>>,
    max: usize,
}

/// As many sessions are open as may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NoRoom;

impl Sessions {
    pub(in crate::transport) fn new(max: usize) -> Self {
        Self {
            open: Arc::default(),
            max,
        }
    }

    pub(super) fn find(&self, token: &str) -> Option<Arc<Session>> {
        lock(&self.open).get(token).map(Arc::clone)
    }

    /// Begins a session of `node`; its token, and what carries its socket.
    pub(super) fn begin(&self, node: &Node) -> Result<(Arc<str>, Carrier), NoRoom> {
        let token = new_token(node);
        let (incoming, receiver) = mpsc::channel(INCOMING);
        let window = node.config().poll_window;
        let outgoing = Outgoing {
            messages: VecDeque::new(),
            bytes: 0,
            closed: false,
            open_polls: 0,
            last_poll_ended: Instant::now(),
        };
        let session = Arc::new(Session {
            incoming,
            outgoing: Mutex::new(outgoing),
            changed: Notify::new(),
            max_bytes: node.config().poll_queue_bytes,
            patience: window.saturating_add(window / 2),
        });
        {
            let mut open = lock(&self.open);
            if open.len() >= self.max {
                return Err(NoRoom);
            }
            open.insert(Arc::clone(&token), Arc::clone(&session));
        }
        let entry = Entry {
            sessions: Arc::clone(&self.open),
            token: Arc::clone(&token),
            session,
        };
        let carrier = Carrier {
            entry,
            receiver,
            sign_every: node.config().idle_timeout / 2,
            next_sign: Instant::now() + node.config().idle_timeout / 2,
            has_overflowed: false,
        };
        Ok((token, carrier))
    }
}

/// What nobody can guess, and the name of the node that has the session.
fn new_token(node: &Node) -> Arc<str> {
    let random = [node.env().random(), node.env().random()].map(u64::to_be_bytes);
    let random = URL_SAFE_NO_PAD.encode(random.concat());
    let name = URL_SAFE_NO_PAD.encode(&*node.config().name);
    format!("{random}.{name}").into()
}

/// The name of the node that gave a token.
pub(super) fn node_of(token: &str) -> Option<String> {
    let (_, name) = token.split_once('.')?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(name).ok()?).ok()
}

/// The token of a request's session.
pub(super) fn token_of<'a>(
    headers: &'a HeaderMap,
    params: &'a BTreeMap<String, String>,
) -> Option<&'a str> {
    let from_header = headers
        .get(SESSION_TOKEN_HEADER)
        .and_then(|value| value.to_str().ok());
    from_header.or_else(|| params.get("token").map(String::as_str))
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) incoming: mpsc::Sender<Frame>,
    outgoing: Mutex<Outgoing>,
    pub(super) changed: Notify,
    max_bytes: usize,
    /// How long the client may have no poll open.
    patience: Duration,
}

#[derive(Debug)]
struct Outgoing {
    /// Each as the text of a frame.
    messages: VecDeque<Arc<str>>,
    bytes: usize,
    closed: bool,
    open_polls: usize,
    last_poll_ended: Instant,
}

impl Session {
    /// How much longer the client may have no poll open.
    fn patience_left(&self) -> Duration {
        let outgoing = lock(&self.outgoing);
        match outgoing.open_polls {
            0 => self
                .patience
                .saturating_sub(outgoing.last_poll_ended.elapsed()),
            _ => self.patience,
        }
    }

    /// All that waits; `None` where nothing does.
    pub(super) fn fetch(&self) -> Option<Fetched> {
        let mut outgoing = lock(&self.outgoing);
        if outgoing.messages.is_empty() {
            return outgoing.closed.then_some(Fetched::Closed);
        }
        outgoing.bytes = 0;
        Some(Fetched::Messages(std::mem::take(&mut outgoing.messages)))
    }
}

pub(super) enum Fetched {
    Messages(VecDeque<Arc<str>>),
    Closed,
}

/// An open poll; dropped when it is answered, and when its client has gone away.
pub(super) struct Poll(Arc<Session>);

impl Poll {
    pub(super) fn open(session: Arc<Session>) -> Self {
        lock(&session.outgoing).open_polls += 1;
        Self(session)
    }

    pub(super) fn session(&self) -> &Session {
        &self.0
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        let mut outgoing = lock(&self.0.outgoing);
        outgoing.open_polls -= 1;
        outgoing.last_poll_ended = Instant::now();
    }
}

/// A session's place among the sessions, which ends with its task.
struct Entry {
    sessions: Arc<Mutex<BTreeMap<Arc<str>, Arc<Session>>>>,
    token: Arc<str>,
    session: Arc<Session>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.sessions).remove(&self.token);
        lock(&self.session.outgoing).closed = true;
        self.session.changed.notify_waiters();
        self.session.changed.notify_one();
    }
}

/// The session as its task sees it.
pub(super) struct Carrier {
    entry: Entry,
    receiver: mpsc::Receiver<Frame>,
    /// How often the socket is told that the client still polls.
    sign_every: Duration,
    /// Kept, since whoever receives gives up whenever there is something to send.
    next_sign: Instant,
    has_overflowed: bool,
}

impl Transport for Carrier {
    async fn receive(&mut self) -> Option<Received> {
        let session = &self.entry.session;
        let patience_ends = Instant::now() + session.patience_left();
        tokio::select! {
            biased;
            frame = self.receiver.recv() => frame.map(Received::Frame),
            () = tokio::time::sleep_until(patience_ends.min(self.next_sign)) => {
                self.next_sign = Instant::now() + self.sign_every;
                let polls = !session.patience_left().is_zero();
                polls.then_some(Received::Sign)
            }
        }
    }

    async fn feed(&mut self, frame: Frame) -> Result<(), Gone> {
        let message: Arc<str> = match frame {
            Frame::Text(text) => text,
            Frame::Binary(bytes) => {
                let data = STANDARD.encode(bytes);
                format!("{BINARY_PREFIX}{data}").into()
            }
        };
        let session = &self.entry.session;
        let mut outgoing = lock(&session.outgoing);
        outgoing.bytes += message.len();
        if outgoing.bytes > session.max_bytes {
            self.has_overflowed = true;
            return Err(Gone);
        }
        outgoing.messages.push_back(message);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        self.entry.session.changed.notify_one();
        Ok(())
    }

    fn has_overflowed(&self) -> bool {
        self.has_overflowed
    }

    async fn close(&mut self, _code: u16) {}
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
