//! Long polling, for clients that WebSocket does not reach.
//!
//! A session begins with a GET without a token, which is answered with status 410 and a token. From
//! then on a GET fetches what waits, or waits for it as long as the poll window, and a POST brings
//! messages. The session ends when no GET has been open for one and a half poll windows.
//!
//! The status that counts is in the body of an answer. That of HTTP is 200, except where the request
//! is none that a client of this protocol sends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use presence_core::wire::Frame;
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Duration, Instant};

use super::{Endpoint, connect_info};
use crate::connection::{Gone, Received, Transport};

/// Messages of one request or several that may wait for the session's task.
const INCOMING: usize = 64;

/// The header in which a client may name its session, since phoenix.js 1.9; before, the query did.
const SESSION_TOKEN_HEADER: &str = "x-phoenix-longpoll-token";

/// The content type of a body with a message a line; any other body is one message.
const NDJSON: &str = "application/x-ndjson";

/// How a line of either direction begins that holds a binary frame.
const BINARY_PREFIX: &str = "data:application/octet-stream;base64,";

/// Messages in one body. phoenix.js 1.8 sends 100 at most, earlier versions all that they have; a bound
/// keeps millions of tiny lines from taking many times the memory of their body.
const MAX_MESSAGES: usize = 1000;

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

impl Sessions {
    pub(super) fn new(max: usize) -> Self {
        Self {
            open: Arc::default(),
            max,
        }
    }

    /// The session that a request belongs to, and its token.
    fn find(
        &self,
        headers: &HeaderMap,
        params: &BTreeMap<String, String>,
    ) -> Option<(Arc<str>, Arc<Session>)> {
        let from_header = headers
            .get(SESSION_TOKEN_HEADER)
            .and_then(|value| value.to_str().ok());
        let token = from_header.or_else(|| params.get("token").map(String::as_str))?;
        let open = lock(&self.open);
        let (token, session) = open.get_key_value(token)?;
        Some((Arc::clone(token), Arc::clone(session)))
    }
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
    fn fetch(&self) -> Option<Fetched> {
        let mut outgoing = lock(&self.outgoing);
        if outgoing.messages.is_empty() {
            return outgoing.closed.then_some(Fetched::Closed);
        }
        outgoing.bytes = 0;
        Some(Fetched::Messages(std::mem::take(&mut outgoing.messages)))
    }
}

/// An open poll; dropped when it is answered, and when its client has gone away.
struct Poll(Arc<Session>);

impl Poll {
    fn open(session: Arc<Session>) -> Self {
        lock(&session.outgoing).open_polls += 1;
        Self(session)
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        let mut outgoing = lock(&self.0.outgoing);
        outgoing.open_polls -= 1;
        outgoing.last_poll_ended = Instant::now();
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
    let params = match params {
        Ok(Query(params)) => params,
        Err(rejection) => return malformed(rejection.status(), &rejection.body_text()),
    };
    let Some((token, session)) = endpoint.sessions.find(&headers, &params) else {
        return begin(&endpoint, &headers, params);
    };
    let Poll(session) = &Poll::open(session);
    let node = &endpoint.node;
    let waiting = async {
        loop {
            if let Some(fetched) = session.fetch() {
                return fetched;
            }
            tokio::select! {
                () = session.changed.notified() => {}
                // The server does not end before its requests have.
                () = node.env().stop() => return Fetched::Closed,
            }
        }
    };
    match tokio::time::timeout(node.config().poll_window, waiting).await {
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
    let carrier = Carrier {
        entry,
        receiver,
        sign_every: node.config().idle_timeout / 2,
    };
    tokio::spawn(connection.run(carrier));
    answer(410, Some((&token, &VecDeque::new())))
}

/// POST: brings messages to a session.
pub(super) async fn publish<U: Send + Sync + 'static>(
    State(endpoint): State<Arc<Endpoint<U>>>,
    headers: HeaderMap,
    params: Params,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let params = match params {
        Ok(Query(params)) => params,
        Err(rejection) => return malformed(rejection.status(), &rejection.body_text()),
    };
    let Some((_, session)) = endpoint.sessions.find(&headers, &params) else {
        return answer(410, None);
    };
    let config = endpoint.node.config();
    let body = match body {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let max = config.wire.max_frame_bytes;
            return malformed(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("the body has more than the {max} bytes that are taken at once"),
            );
        }
        Err(rejection) => return malformed(rejection.status(), &rejection.body_text()),
    };
    let frames = match frames(&headers, &body) {
        Ok(frames) => frames,
        Err(error) => return malformed(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let sending = async {
        for frame in frames {
            session.incoming.send(frame).await?;
        }
        Ok::<_, mpsc::error::SendError<Frame>>(())
    };
    match tokio::time::timeout(config.poll_window, sending).await {
        Ok(Ok(())) => answer(200, None),
        Ok(Err(_)) => answer(410, None),
        Err(_) => answer(408, None),
    }
}

/// Why a body holds no messages.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("the body is not UTF-8 from byte {0} on")]
    NotUtf8(usize),
    #[error("line {0} of the body is neither a JSON message nor base64")]
    NoMessage(usize),
    #[error("the body has more than the {MAX_MESSAGES} messages that are taken at once")]
    TooMany,
}

/// The frames of a body: all of them, or none where one cannot be read.
fn frames(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Frame>, BodyError> {
    let text =
        std::str::from_utf8(body).map_err(|error| BodyError::NotUtf8(error.valid_up_to()))?;
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|value| value.split(';').next());
    let lines = kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(NDJSON));
    if !lines && !text.starts_with(BINARY_PREFIX) {
        // What is no message is answered as over WebSocket.
        return Ok(vec![Frame::Text(text.into())]);
    }
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty());
    if lines.clone().nth(MAX_MESSAGES).is_some() {
        return Err(BodyError::TooMany);
    }
    lines
        .map(|(at, line)| {
            if line.starts_with(['[', '{']) {
                return Ok(Frame::Text(line.into()));
            }
            let data = line.strip_prefix(BINARY_PREFIX).unwrap_or(line);
            let bytes = STANDARD.decode(data);
            let bytes = bytes.map_err(|_| BodyError::NoMessage(at + 1))?;
            Ok(Frame::Binary(bytes.into()))
        })
        .collect()
}

/// OPTIONS: a browser asks whether a page of another origin may poll and post.
pub(super) async fn options(headers: HeaderMap) -> Response {
    let mut response = StatusCode::OK.into_response();
    let allow = response.headers_mut();
    let fixed = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::ACCESS_CONTROL_MAX_AGE, "3600"),
    ];
    for (name, value) in fixed {
        allow.insert(name, HeaderValue::from_static(value));
    }
    // Whichever headers it asks about, as the reference does: none of them is trusted.
    for asked in headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        allow.append(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    response
}

/// Any other method.
pub(super) async fn no_such_method() -> Response {
    let reason = "long polling knows GET, POST and OPTIONS";
    malformed(StatusCode::BAD_REQUEST, reason)
}

/// The answer to what no client of this protocol sends; phoenix.js reads its status too.
fn malformed(status: StatusCode, reason: &str) -> Response {
    let body = json!({ "status": status.as_u16(), "reason": reason });
    let headers = [
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ];
    (status, headers, body.to_string()).into_response()
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
    /// How often the socket is told that the client still polls.
    sign_every: Duration,
}

impl Transport for Carrier {
    async fn receive(&mut self) -> Option<Received> {
        let session = &self.entry.session;
        let wait = session.patience_left().min(self.sign_every);
        tokio::select! {
            biased;
            frame = self.receiver.recv() => frame.map(Received::Frame),
            () = tokio::time::sleep(wait) => {
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
