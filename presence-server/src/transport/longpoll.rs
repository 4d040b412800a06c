//! Long polling, for clients that WebSocket does not reach.
//!
//! A session begins with a GET without a token, which is answered with status 410 and a token. From
//! then on a GET fetches what waits, or waits for it as long as the poll window, and a POST brings
//! messages. The session ends when no GET has been open for one and a half poll windows.
//!
//! The status that counts is in the body of an answer. That of HTTP is 200, except where the request
//! is none that a client of this protocol sends.

mod answer;
mod elsewhere;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use presence_core::wire::Frame;
use tokio::sync::mpsc;

use self::answer::Answer;
use self::elsewhere::Errand;
use self::session::{Fetched, NoRoom, Poll, Session};
use super::{Endpoint, connect_info};
use crate::node::Node;
use crate::sockets::Via;

pub(super) use self::elsewhere::serve;
pub(super) use self::session::Sessions;

/// The content type of a body with a message a line; any other body is one message.
const NDJSON: &str = "application/x-ndjson";

/// How a line of either direction begins that holds a binary frame.
const BINARY_PREFIX: &str = "data:application/octet-stream;base64,";

/// Messages in one body. phoenix.js 1.8 sends 100 at most, earlier versions all that they have; a bound
/// keeps millions of tiny lines from taking many times the memory of their body.
const MAX_MESSAGES: usize = 1000;

type Params = Result<Query<BTreeMap<String, String>>, QueryRejection>;

/// Where the session of a request is.
enum Place {
    Here(Arc<Session>),
    /// On the node of this name.
    Elsewhere(String),
    Nowhere,
}

impl<U> Endpoint<U> {
    fn place_of(&self, token: &str) -> Place {
        if let Some(session) = self.sessions.find(token) {
            return Place::Here(session);
        }
        let peer = session::node_of(token);
        match peer.filter(|peer| self.node.relay().reaches(peer)) {
            Some(peer) => Place::Elsewhere(peer),
            None => Place::Nowhere,
        }
    }
}

/// GET: begins a session, or fetches what waits in one.
pub(super) async fn poll<U: Send + Sync + 'static>(
    State(endpoint): State<Arc<Endpoint<U>>>,
    headers: HeaderMap,
    params: Params,
) -> Answer {
    let params = match params {
        Ok(Query(params)) => params,
        Err(rejection) => return Answer::malformed(rejection.status(), &rejection.body_text()),
    };
    let Some(token) = session::token_of(&headers, &params) else {
        return begin(&endpoint, &headers, params);
    };
    match endpoint.place_of(token) {
        Place::Here(session) => fetch(&endpoint.node, token, session).await,
        Place::Elsewhere(peer) => elsewhere::ask(&endpoint, &peer, token, Errand::Fetch).await,
        Place::Nowhere => begin(&endpoint, &headers, params),
    }
}

/// What waits in a session, or comes within the poll window.
async fn fetch(node: &Node, token: &str, session: Arc<Session>) -> Answer {
    let poll = Poll::open(session);
    let session = poll.session();
    let waiting = async {
        loop {
            if let Some(fetched) = session.fetch() {
                return fetched;
            }
            tokio::select! {
                biased;
                () = session.changed.notified() => {}
                // The server does not end before its requests have.
                () = node.env().stop() => return Fetched::Closed,
            }
        }
    };
    match tokio::time::timeout(node.config().poll_window, waiting).await {
        Ok(Fetched::Messages(messages)) => Answer::messages(200, token, &messages),
        Ok(Fetched::Closed) => Answer::status(410),
        Err(_) => Answer::messages(204, token, &[].into()),
    }
}

fn begin<U: Send + Sync + 'static>(
    endpoint: &Endpoint<U>,
    headers: &HeaderMap,
    params: BTreeMap<String, String>,
) -> Answer {
    let info = connect_info(params, headers);
    let Ok(connection) = endpoint.connect(&info, Via::LongPoll) else {
        return Answer::status(403);
    };
    match endpoint.sessions.begin(&endpoint.node) {
        Ok((token, carrier)) => {
            connection.start(carrier);
            Answer::messages(410, &token, &[].into())
        }
        Err(NoRoom) => {
            let max = endpoint.node.config().poll_sessions;
            tracing::warn!(
                max,
                "a long-poll session is refused: there are as many as may be"
            );
            // The status at which phoenix.js tries again later.
            Answer::status(500)
        }
    }
}

/// POST: brings messages to a session.
pub(super) async fn publish<U: Send + Sync + 'static>(
    State(endpoint): State<Arc<Endpoint<U>>>,
    headers: HeaderMap,
    params: Params,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let params = match params {
        Ok(Query(params)) => params,
        Err(rejection) => return Answer::malformed(rejection.status(), &rejection.body_text()),
    };
    let Some(token) = session::token_of(&headers, &params) else {
        return Answer::status(410);
    };
    let place = endpoint.place_of(token);
    if matches!(place, Place::Nowhere) {
        return Answer::status(410);
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let max = endpoint.node.config().wire.max_frame_bytes;
            return Answer::malformed(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("the body has more than the {max} bytes that are taken at once"),
            );
        }
        Err(rejection) => return Answer::malformed(rejection.status(), &rejection.body_text()),
    };
    let is_lines = is_lines(&headers);
    match place {
        Place::Here(session) => take(&endpoint.node, &session, is_lines, &body).await,
        Place::Elsewhere(peer) => {
            let body = &*body;
            let errand = Errand::Publish { is_lines, body };
            elsewhere::ask(&endpoint, &peer, token, errand).await
        }
        Place::Nowhere => Answer::status(410),
    }
}

/// Gives messages to a session.
async fn take(node: &Node, session: &Session, is_lines: bool, body: &[u8]) -> Answer {
    let frames = match frames(is_lines, body) {
        Ok(frames) => frames,
        Err(error) => return Answer::malformed(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let sending = async {
        for frame in frames {
            session.incoming.send(frame).await?;
        }
        Ok::<_, mpsc::error::SendError<Frame>>(())
    };
    match tokio::time::timeout(node.config().poll_window, sending).await {
        Ok(Ok(())) => Answer::status(200),
        Ok(Err(_)) => Answer::status(410),
        Err(_) => Answer::status(408),
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

/// Whether a body has a message a line.
fn is_lines(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|value| value.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(NDJSON))
}

/// The frames of a body: all of them, or none where one cannot be read.
fn frames(is_lines: bool, body: &[u8]) -> Result<Vec<Frame>, BodyError> {
    let text =
        std::str::from_utf8(body).map_err(|error| BodyError::NotUtf8(error.valid_up_to()))?;
    if !is_lines && !text.starts_with(BINARY_PREFIX) {
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
pub(super) async fn no_such_method() -> Answer {
    let reason = "long polling knows GET, POST and OPTIONS";
    Answer::malformed(StatusCode::BAD_REQUEST, reason)
}
