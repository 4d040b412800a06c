//! Serving an axum router in a node's world.

mod body;
mod places;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::{BoxError, Router};
use futures_util::TryFutureExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::task::JoinSet;

use self::body::TimedBody;
use self::places::{Placed, Places};
use crate::env::{self, BoxStream, Environment, Listener};
use crate::node::Node;

/// Bytes of a request's head, and of a body that are read ahead.
const HEAD_BYTES: usize = 64 << 10;

/// Serves `router` on what `listener` accepts, until the node's world says stop, and then until
/// everything has come to its end.
///
/// That is: nothing more is accepted, requests under way are answered, the node's sockets are
/// [drained](Node::drain), and long polls end with theirs. What is still open after
/// [`shutdown_timeout`](crate::node::Config::shutdown_timeout) is cut.
pub async fn serve(node: &Node, mut listener: Box<dyn Listener>, router: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    // It would be that of the process, and not of the node's world.
    http.auto_date_header(false);
    let request_timeout = node.config().request_timeout;
    http.header_read_timeout(request_timeout);
    http.max_buf_size(HEAD_BYTES);
    let places = Places::new(node.config().max_connections, node.config().send_timeout);
    // Wakes the connections in their order, which a watch does not.
    let stopping = Arc::new(Notify::new());
    let mut connections = JoinSet::new();

    let mut stop = node.env().stop();
    loop {
        let stream = tokio::select! {
            biased;
            () = &mut stop => break,
            stream = accept(&mut *listener) => stream,
        };
        let Some(stream) = places.take(stream).await else {
            continue;
        };
        let router = TowerToHyperService::new(router.clone());
        let env = Arc::clone(node.env());
        let service = service_fn(move |request: Request<Incoming>| {
            let env = Arc::clone(&env);
            let request = request.map(|body| TimedBody::new(body, request_timeout));
            router
                .call(request)
                .map_ok(move |answer| dated(answer, &*env))
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let carry = carry(connection, Arc::clone(&stopping).notified_owned());
        env::spawn_among(&mut connections, &**node.env(), carry);
        // Forget those that have ended.
        while connections.try_join_next().is_some() {}
    }

    drop(listener);
    stopping.notify_waiters();
    let ended = async {
        node.drain().await;
        while connections.join_next().await.is_some() {}
    };
    let limit = node.config().shutdown_timeout;
    if tokio::time::timeout(limit, ended).await.is_err() {
        tracing::warn!(
            ?limit,
            "what is still open is cut, since the time to stop is over"
        );
    }
}

/// Dates an answer by the clock of the node's world.
fn dated(mut answer: Response, env: &dyn Environment) -> Response {
    let date = httpdate::fmt_http_date(UNIX_EPOCH + env.unix_time());
    if let Ok(date) = HeaderValue::try_from(date) {
        answer.headers_mut().insert(header::DATE, date);
    }
    answer
}

async fn accept(listener: &mut dyn Listener) -> BoxStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                // Such as too many open files: wait for some to close.
                tracing::error!(%error, "no connection could be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves the requests of one connection, until it has ended or is a WebSocket.
async fn carry<S>(connection: http1::Connection<TokioIo<Placed>, S>, stopping: OwnedNotified)
where
    S: HttpService<Incoming, ResBody = axum::body::Body>,
    S::Error: Into<BoxError>,
{
    let mut connection = pin!(connection.with_upgrades());
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stopping => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
