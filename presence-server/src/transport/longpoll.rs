//! Long polling, for clients that WebSocket does not reach.
//!
//! A session begins with a GET without a token, which is answered with status 410 and a token. From
//! then on a GET fetches what waits, or waits for it as long as the poll window, and a POST brings
//! messages, one a line. The HTTP status is always 200; the one that counts is in the body.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use presence_core::wire::Frame;
use tokio::sync::{Notify, mpsc};

use super::{Endpoint, connect_info};
use crate::connection::{Gone, Received, Transport};

/// Messages of one request or several that may wait for the session's task.
const INCOMING: usize = 64;

type Params = Result<Query<BTreeMap<String, String>>, QueryRejection>;

/// The sessions of one socket, by token.
#[derive(Debug)]
pub(super) struct Sessions {
    open: Arc<Mutex<BTreeMap<Arc<str>, Arc<Session>>>>,
    max: usize,
}

#[derive(Debug)]
struct Session {
    incoming: mpsc::Sender<Frame>,
    outgoing: Mutex<Outgoing>,
    changed: Notify,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Outgoing {
    /// Each as the text of a frame.
    messages: VecDeque<Arc<str>>,
    bytes: usize,
    closed: bool,
}

impl Sessions {
    pub(super) fn new(max: usize) -> Self {
        Self {
            open: Arc::default(),
            max,
        }
    }

    fn find(&self, token: &str) -> Option<Arc<Session>> {
        lock(&self.open).get(token).cloned()
    }
}

impl Session {
    /// All that waits; `None` where nothing does.
    fn fetch(&self) -> Option<Fetched> {
        let mut outgoing = lock(&self.outgoing);
        if outgoing.messages.is_empty() {
            return outgoing.closed.then_some(Fetched::Closed);
        }
        outgoing.bytes = 0;
        Some(Fetched::Messages(std::mem::take(&mut outgoing.messages)))
    }
}

enum Fetched {
    Messages(VecDeque<Arc<str>>),
    Closed,
}

/// GET: begins a session, or fetches what waits in one.
pub(super) async fn poll<U: Send + Sync + 'static>(
    State(endpoint): State<Arc<Endpoint<U>>>,
    headers: HeaderMap,
    params: Params,
) -> Response {
    let Ok(Query(params)) = params else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let session = params
        .get("token")
        .and_then(|token| Some((token.clone(), endpoint.sessions.find(token)?)));
    let Some((token, session)) = session else {
        return begin(&endpoint, &headers, params);
    };
    let window = endpoint.node.config().poll_window;
    let fetched = tokio::time::timeout(window, async {
        loop {
            if let Some(fetched) = session.fetch() {
                return fetched;
            }
            session.changed.notified().await;
        }
    });
    match fetched.await {
        Ok(Fetched::Messages(messages)) => answer(200, Some((&token, &messages))),
        Ok(Fetched::Closed) => answer(410, None),
        Err(_) => answer(204, Some((&token, &VecDeque::new()))),
    }
}

fn begin<U: Send + Sync + 'static>(
    endpoint: &Endpoint<U>,
    headers: &HeaderMap,
    params: BTreeMap<String, String>,
) -> Response {
    let info = connect_info(params, headers);
    let Ok(connection) = endpoint.connect(&info) else {
        return answer(403, None);
    };
    let node = &endpoint.node;
    let random = [node.env().random(), node.env().random()].map(u64::to_be_bytes);
    let token: Arc<str> = URL_SAFE_NO_PAD.encode(random.concat()).into();
    let (incoming, receiver) = mpsc::channel(INCOMING);
    let session = Arc::new(Session {
        incoming,
        outgoing: Mutex::default(),
        changed: Notify::new(),
        max_bytes: node.config().poll_queue_bytes,
    });
    {
        let mut open = lock(&endpoint.sessions.open);
        if open.len() >= endpoint.sessions.max {
            tracing::warn!(
                sessions = open.len(),
                "one long-poll session more is refused"
            );
            return answer(503, None);
        }
        open.insert(Arc::clone(&token), Arc::clone(&session));
    }
    let entry = Entry {
        sessions: Arc::clone(&endpoint.sessions.open),
        token: Arc::clone(&token),
        session,
    };
    let carrier = Carrier { entry, receiver };
    tokio::spawn(connection.run(carrier));
    answer(410, Some((&token, &VecDeque::new())))
}

/// POST: brings messages to a session, one a line.
pub(super) async fn publish<U: Send + Sync + 'static>(
    State(endpoint): State<Arc<Endpoint<U>>>,
    params: Params,
    body: Bytes,
) -> Response {
    let Ok(Query(params)) = params else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let session = params
        .get("token")
        .and_then(|token| endpoint.sessions.find(token));
    let Some(session) = session else {
        return answer(410, None);
    };
    let Ok(text) = std::str::from_utf8(&body) else {
        return answer(400, None);
    };
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let frame = Frame::Text(line.into());
        if session.incoming.send(frame).await.is_err() {
            return answer(410, None);
        }
    }
    answer(200, None)
}

/// OPTIONS: a browser asks whether another origin may post.
pub(super) async fn options() -> Response {
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    let star = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, star);
    let methods = HeaderValue::from_static("GET, POST, OPTIONS");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    let allowed = HeaderValue::from_static("content-type, x-phoenix-authtoken");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    response
}

/// The body of an answer.
fn answer(status: u16, session: Option<(&str, &VecDeque<Arc<str>>)>) -> Response {
    let mut body = format!("{{\"status\":{status}");
    if let Some((token, messages)) = session {
        body.push_str(",\"token\":\"");
        body.push_str(token);
        body.push_str("\",\"messages\":[");
        for (at, message) in messages.iter().enumerate() {
            if at > 0 {
                body.push(',');
            }
            // A client reads each as it reads a frame: a message is a string that holds JSON.
            body.push_str(&serde_json::Value::from(&**message).to_string());
        }
        body.push(']');
    }
    body.push('}');
    let headers = [
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, body).into_response()
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
struct Carrier {
    entry: Entry,
    receiver: mpsc::Receiver<Frame>,
}

impl Transport for Carrier {
    async fn receive(&mut self) -> Option<Received> {
        self.receiver.recv().await.map(Received::Frame)
    }

    async fn feed(&mut self, frame: Frame) -> Result<(), Gone> {
        let message: Arc<str> = match frame {
            Frame::Text(text) => text,
            Frame::Binary(bytes) => {
                let data = STANDARD.encode(bytes);
                format!("data:application/octet-stream;base64,{data}").into()
            }
        };
        let session = &self.entry.session;
        let mut outgoing = lock(&session.outgoing);
        outgoing.bytes += message.len();
        if outgoing.bytes > session.max_bytes {
            tracing::warn!("a client does not poll: its session is closed");
            return Err(Gone);
        }
        outgoing.messages.push_back(message);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        self.entry.session.changed.notify_one();
        Ok(())
    }

    async fn close(&mut self, _code: u16) {}
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
