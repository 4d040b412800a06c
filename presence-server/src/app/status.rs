//! What a node tells whoever operates it: whether it serves, what it counts, how it sees its cluster.

mod cluster;

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use prometheus_client::encoding::prometheus_text;
use serde_json::json;

use self::cluster::Cluster;
use crate::metrics::Scrape;
use crate::node::Node;

const JSON: &str = "application/json";

/// How long a shard is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// `GET /health`, `GET /metrics` and `GET /cluster`.
///
/// Whoever reaches them may read them: they tell names and addresses of nodes, and nothing of clients.
///
/// # `/health`
///
/// 200 `{"status": "ok"}` while the node serves. 503 from the moment that it begins to stop:
/// `{"status": "stopping"}`. 503 also where a shard does not answer within a second:
/// `{"status": "failing", "silent_shards": [0]}`.
///
/// # `/metrics`
///
/// The text format of Prometheus. Each family has a line that says what it means.
///
/// # `/cluster`
///
/// The node, the others as its transport knows them, and its shards as their replicas stand:
///
/// ```json
/// {
///   "name": "a",
///   "incarnation": 1700000000000000,
///   "version": "0.1.0",
///   "status": "ok",
///   "uptime_ms": 60000,
///   "peers": [
///     {
///       "name": "b",
///       "incarnation": 1700000000000001,
///       "address": "10.0.0.2:4100",
///       "connected": true,
///       "version": 1,
///       "queued_bytes": 0,
///       "dropped": 0,
///       "sent": 40,
///       "sent_bytes": 3000,
///       "received": 40,
///       "received_bytes": 3000
///     }
///   ],
///   "silent_shards": [],
///   "shards": [
///     {
///       "shard": 0,
///       "name": "a",
///       "incarnation": 1700000000000000,
///       "clocks": { "a#1700000000000000": 2, "b#1700000000000001": 5 },
///       "replicas": [
///         { "name": "b", "incarnation": 1700000000000001, "status": "up" }
///       ],
///       "presences": 3,
///       "own_presences": 1,
///       "topics": 1,
///       "waiting": 0,
///       "panics": 0,
///       "journal": null,
///       "stats": { "refused": 0, "deltas": 2 }
///     }
///   ]
/// }
/// ```
///
/// - `incarnation`: of a node that is not known yet 0. That of a shard is later than the node's where the
///   shard has begun a new life.
/// - `status`: as in `/health`; that of a replica is `up`, `arriving` or `down`.
/// - `version`: of a peer, that of the protocol which is spoken with it.
/// - `dropped`, `sent`, `received`: messages.
/// - `silent_shards`: those that did not answer within a second, of which nothing else is told.
/// - `clocks`: up to which change of each replica everything was seen, by name and incarnation. Two nodes
///   that agree have the same.
/// - `presences`: of all replicas, those that are down among them; `own_presences` are this node's.
/// - `waiting`: messages of other nodes.
/// - `journal`: whether all is written; null where none is kept.
/// - `stats`: the fields of [`Stats`](presence_core::tracker::Stats).
pub fn status(node: &Node) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/cluster", get(cluster))
        .layer(map_response(no_store))
        .with_state(node.clone())
}

async fn health(State(node): State<Node>) -> Response {
    let bad = StatusCode::SERVICE_UNAVAILABLE;
    let (status, said) = if node.is_stopping() {
        (bad, json!({ "status": "stopping" }))
    } else {
        let (_, silent) = node.reports_within(PATIENCE).await;
        if silent.is_empty() {
            (StatusCode::OK, json!({ "status": "ok" }))
        } else {
            (bad, json!({ "status": "failing", "silent_shards": silent }))
        }
    };
    (status, answer(JSON, Some(said.to_string()))).into_response()
}

async fn metrics(State(node): State<Node>) -> Response {
    let (reports, silent) = node.reports_within(PATIENCE).await;
    let scrape = Scrape {
        node,
        reports,
        silent,
    };
    answer(prometheus_text::CONTENT_TYPE, scrape.into_text().ok())
}

async fn cluster(State(node): State<Node>) -> Response {
    let (reports, silent) = node.reports_within(PATIENCE).await;
    let seen = serde_json::to_string_pretty(&Cluster::of(&node, &reports, silent));
    answer(JSON, seen.ok().map(|seen| seen + "\n"))
}

fn answer(kind: &'static str, text: Option<String>) -> Response {
    match text {
        Some(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// What is told is old at once.
async fn no_store(mut response: Response) -> Response {
    let never = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, never);
    response
}
