//! Long polling, as phoenix.js does it: one poll at a time, and beside it one post at a time.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use presence_core::wire::Frame;
use presence_server::env::BoxStream;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use super::carrier::{OpenError, Received};
use super::http::{self, HttpError};
use super::rules::{Broken, Rule};
use super::{Outside, Settings};

/// Messages in one post (phoenix.js, `MAX_LONGPOLL_BATCH_SIZE`).
const MAX_BATCH: usize = 100;

/// An open session.
pub(super) struct LongPoll {
    origin: Origin,
    /// The path and query of its requests.
    target: String,
    token: String,
    poll: Option<Request>,
    post: Option<Request>,
    /// Connections that wait for the next request.
    idle: Vec<BoxStream>,
    /// What was fetched and is not received yet.
    fetched: VecDeque<String>,
    /// What waits for the post that is under way.
    queue: VecDeque<String>,
    /// Why it has ended, once it has.
    ended: Option<String>,
}

/// Where requests go, and how long they may take.
#[derive(Clone)]
struct Origin {
    outside: Arc<dyn Outside>,
    client: usize,
    node: usize,
    timeout: Duration,
    /// Whether a request may come to another node.
    has_session: bool,
}

/// A request under way: its answer, and its connection if that may be used again.
struct Request(BoxFuture<'static, Result<(Answer, Option<BoxStream>), HttpError>>);

/// The body of an answer. The status that counts is in there.
#[derive(Debug, Deserialize)]
struct Answer {
    status: u16,
    token: Option<String>,
    messages: Option<Vec<String>>,
}

impl LongPoll {
    pub(super) async fn open(
        settings: &Settings,
        client: usize,
        node: usize,
        outside: Arc<dyn Outside>,
    ) -> Result<Self, OpenError> {
        let origin = Origin {
            outside,
            client,
            node,
            timeout: settings.poll_timeout,
            has_session: false,
        };
        let path = format!("/socket/longpoll?vsn={}", settings.serializer.vsn());
        let (answer, stream) = match origin.request(None, get(&path, node)).0.await {
            Ok(answered) => answered,
            Err(HttpError::Io(error)) => return Err(OpenError::Failed(error.to_string())),
            Err(HttpError::Malformed(what)) => return Err(Broken::new(Rule::Http, what).into()),
        };
        let token = match answer {
            Answer {
                status: 410,
                token: Some(token),
                messages: Some(messages),
            } if messages.is_empty() => token,
            // It has no room, or stops.
            Answer {
                status: status @ (500 | 503),
                ..
            } => return Err(OpenError::Failed(format!("refused with {status}"))),
            answer => {
                let what = format!("a session begins with {answer:?}");
                return Err(Broken::new(Rule::LongPoll, what).into());
            }
        };
        Ok(Self {
            // Where the session is the client counts as connected.
            origin: Origin {
                has_session: true,
                ..origin
            },
            target: format!("{path}&token={token}"),
            token,
            poll: None,
            post: None,
            idle: Vec::from_iter(stream),
            fetched: VecDeque::new(),
            queue: VecDeque::new(),
            ended: None,
        })
    }

    pub(super) fn send(&mut self, frame: &Frame) {
        let message = match frame {
            Frame::Text(text) => text.to_string(),
            Frame::Binary(bytes) => STANDARD.encode(bytes),
        };
        self.queue.push_back(message);
    }

    pub(super) fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        reads: bool,
    ) -> Poll<Received> {
        loop {
            if let Some(why) = &self.ended {
                return Poll::Ready(Received::Closed(why.clone()));
            }
            self.begin_post();
            if let Some(request) = &mut self.post
                && let Poll::Ready(answered) = request.0.poll_unpin(context)
            {
                self.post = None;
                if let Err(broken) = self.posted(answered) {
                    return Poll::Ready(Received::Broken(broken));
                }
                continue;
            }
            if reads && let Some(message) = self.fetched.pop_front() {
                return Poll::Ready(Received::Frame(Frame::Text(message.into())));
            }
            if self.poll.is_none() && self.fetched.is_empty() {
                let idle = self.take_idle();
                let request = get(&self.target, self.origin.node);
                self.poll = Some(self.origin.request(idle, request));
            }
            let Some(request) = &mut self.poll else {
                return Poll::Pending;
            };
            let Poll::Ready(answered) = request.0.poll_unpin(context) else {
                return Poll::Pending;
            };
            self.poll = None;
            if let Err(broken) = self.polled(answered) {
                return Poll::Ready(Received::Broken(broken));
            }
        }
    }

    /// Posts what waits, unless a post is under way.
    fn begin_post(&mut self) {
        if self.post.is_some() || self.queue.is_empty() {
            return;
        }
        let batch = self.queue.len().min(MAX_BATCH);
        let lines: Vec<_> = self.queue.drain(..batch).collect();
        let body = lines.join("\n");
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: n{}\r\ncontent-type: application/x-ndjson\r\n\
             content-length: {}\r\n\r\n{body}",
            self.target,
            self.origin.node,
            body.len()
        );
        let idle = self.take_idle();
        self.post = Some(self.origin.request(idle, request));
    }

    fn posted(
        &mut self,
        answered: Result<(Answer, Option<BoxStream>), HttpError>,
    ) -> Result<(), Broken> {
        let Some(answer) = self.answered(answered)? else {
            return Ok(());
        };
        match answer.status {
            200 => {}
            // The session is gone, its node does not take messages in time, or has no room.
            status @ (408 | 410 | 503) => self.end(&format!("a post is answered {status}")),
            _ => return Err(self.fail(format!("a post is answered {answer:?}"))),
        }
        Ok(())
    }

    fn polled(
        &mut self,
        answered: Result<(Answer, Option<BoxStream>), HttpError>,
    ) -> Result<(), Broken> {
        let Some(answer) = self.answered(answered)? else {
            return Ok(());
        };
        let is_own = answer.token.as_deref() == Some(&*self.token);
        match (answer.status, &answer.messages) {
            (200, Some(messages)) if is_own && !messages.is_empty() => {
                self.fetched.extend(answer.messages.into_iter().flatten());
            }
            (204, Some(messages)) if is_own && messages.is_empty() => {}
            // The session is gone, maybe for another one that was begun with this answer. (Or was not:
            // the application is asked again whether it lets this client in, with the token of the
            // session that is gone as its parameter `token`, as in Phoenix.)
            (410, _) if !is_own => self.end("a poll is answered 410"),
            (403, None) => self.end("a poll is answered 403"),
            (500 | 503, None) => self.end("a poll is refused"),
            _ => return Err(self.fail(format!("a poll is answered {answer:?}"))),
        }
        Ok(())
    }

    /// The answer of a request, unless the session has ended with it.
    fn answered(
        &mut self,
        answered: Result<(Answer, Option<BoxStream>), HttpError>,
    ) -> Result<Option<Answer>, Broken> {
        match answered {
            Ok((answer, stream)) => {
                self.idle.extend(stream);
                Ok(Some(answer))
            }
            Err(HttpError::Io(error)) => {
                self.end(&error.to_string());
                Ok(None)
            }
            Err(HttpError::Malformed(what)) => {
                self.end("the node is not understood");
                Err(Broken::new(Rule::Http, what))
            }
        }
    }

    fn fail(&mut self, what: String) -> Broken {
        self.end("the node is not understood");
        Broken::new(Rule::LongPoll, what)
    }

    /// Requests under way are given up.
    fn end(&mut self, why: &str) {
        self.ended = Some(why.into());
        (self.poll, self.post) = (None, None);
    }

    /// A connection that the node has not closed meanwhile.
    fn take_idle(&mut self) -> Option<BoxStream> {
        while let Some(mut stream) = self.idle.pop() {
            // Nothing comes unasked but its end.
            if stream.read(&mut [0]).now_or_never().is_none() {
                return Some(stream);
            }
        }
        None
    }
}

impl Origin {
    /// Makes a request, over an idle connection if there is one.
    fn request(&self, idle: Option<BoxStream>, request: String) -> Request {
        let origin = self.clone();
        let exchange = async move {
            let away = origin
                .has_session
                .then(|| origin.outside.elsewhere(origin.client));
            let away = away.flatten();
            let mut stream = match (away, idle) {
                (Some(node), _) => origin.outside.connect(origin.client, node).await?,
                (None, Some(stream)) => stream,
                (None, None) => origin.outside.connect(origin.client, origin.node).await?,
            };
            let answer = http::exchange(&mut stream, request.as_bytes()).await?;
            let is_kept = away.is_none() && answer.keeps_alive();
            let stream = is_kept.then_some(stream);
            Ok((Answer::of(&answer)?, stream))
        };
        let timeout = self.timeout;
        Request(Box::pin(async move {
            let answered = tokio::time::timeout(timeout, exchange).await;
            answered.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
        }))
    }
}

impl Answer {
    fn of(answer: &http::Answer) -> Result<Self, HttpError> {
        let http::Answer { head, body } = answer;
        match head.status {
            200 => serde_json::from_slice(body).map_err(|error| {
                let body = String::from_utf8_lossy(body);
                HttpError::Malformed(format!("the body of an answer is {body:?}: {error}"))
            }),
            // It takes no connections at the moment, which is said in HTTP alone.
            503 => Ok(Self {
                status: 503,
                token: None,
                messages: None,
            }),
            status => Err(HttpError::Malformed(format!(
                "the status of an answer is {status}"
            ))),
        }
    }
}

fn get(target: &str, node: usize) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: n{node}\r\naccept: application/json\r\n\r\n")
}
