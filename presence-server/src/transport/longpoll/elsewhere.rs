//! Requests that reach another node than that of their session, behind a load balancer that does not
//! keep clients apart: that node is asked.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Duration;

use super::{Answer, Endpoint, fetch, take};
use crate::node::Node;

/// By how much an answer may be later than if the node itself were asked.
const WAY: Duration = Duration::from_secs(5);

/// What a client wants of its session.
#[derive(Serialize, Deserialize)]
pub(super) enum Errand<'a> {
    Fetch,
    Publish { is_lines: bool, body: &'a [u8] },
}

#[derive(Serialize, Deserialize)]
struct Request<'a> {
    token: &'a str,
    errand: Errand<'a>,
}

/// Lets the other nodes ask for the sessions of `endpoint`, which is behind `path`.
pub(in crate::transport) fn serve<U: Send + Sync + 'static>(
    node: &Node,
    path: &str,
    endpoint: &Arc<Endpoint<U>>,
) {
    let endpoint = Arc::downgrade(endpoint);
    let service = move |request: Bytes| {
        let endpoint = Weak::clone(&endpoint);
        Box::pin(async move {
            let answer = match endpoint.upgrade() {
                Some(endpoint) => run(&endpoint, &request).await,
                None => Answer::status(410),
            };
            postcard::to_allocvec(&answer).unwrap_or_default().into()
        }) as _
    };
    node.relay().serve(path, Arc::new(service));
}

async fn run<U>(endpoint: &Endpoint<U>, request: &[u8]) -> Answer {
    let Ok(Request { token, errand }) = postcard::from_bytes(request) else {
        return Answer::status(410);
    };
    match (endpoint.sessions.find(token), errand) {
        (Some(session), Errand::Fetch) => fetch(&endpoint.node, token, session).await,
        (Some(session), Errand::Publish { is_lines, body }) => {
            take(&endpoint.node, &session, is_lines, body).await
        }
        (None, _) => Answer::status(410),
    }
}

/// Asks the node of a session. One that does not answer is as good as gone: the client is told to begin
/// another session.
pub(super) async fn ask<U>(
    endpoint: &Endpoint<U>,
    peer: &str,
    token: &str,
    errand: Errand<'_>,
) -> Answer {
    let node = &endpoint.node;
    let request = postcard::to_allocvec(&Request { token, errand }).unwrap_or_default();
    let limit = node.config().poll_window.saturating_add(WAY);
    let asked = node.relay().ask(peer, &endpoint.path, &request);
    let answered = tokio::select! {
        biased;
        answered = tokio::time::timeout(limit, asked) => answered,
        // The server does not end before its requests have.
        () = node.env().stop() => return Answer::status(410),
    };
    let answer = answered.ok().flatten();
    let answer = answer.and_then(|answer| postcard::from_bytes(&answer).ok());
    answer.unwrap_or_else(|| Answer::status(410))
}
