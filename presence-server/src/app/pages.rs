//! The guide's page and the client that it uses, held in the program.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

type File = (&'static str, &'static str, &'static str);

macro_rules! files {
    ($folder:literal: $($name:literal $kind:expr),* $(,)?) => {
        [$(($name, $kind, include_str!(concat!("../../", $folder, "/", $name)))),*]
    };
}

const GUIDE: [File; 6] = files!("pages":
    "guide.css" CSS,
    "guide.js" JAVASCRIPT,
    "people.js" JAVASCRIPT,
    "activity.js" JAVASCRIPT,
    "identity.js" JAVASCRIPT,
    "icon.svg" SVG,
);

const CLIENT: [File; 8] = files!("client":
    "index.js" JAVASCRIPT,
    "socket.js" JAVASCRIPT,
    "channel.js" JAVASCRIPT,
    "push.js" JAVASCRIPT,
    "presence.js" JAVASCRIPT,
    "backoff.js" JAVASCRIPT,
    "serializer.js" JAVASCRIPT,
    "longpoll.js" JAVASCRIPT,
);

const PAGE: &str = include_str!("../../pages/guide.html");

/// The page at `/`, its files at `/guide` and the client at `/client`; `auth` where it asks for a token.
pub fn pages(auth: bool) -> Router {
    let config = if auth {
        r#"{"auth": true, "longpoll_fallback_ms": null}"#
    } else {
        r#"{"auth": false, "longpoll_fallback_ms": null}"#
    };
    Router::new()
        .route("/", get(|| async { file(HTML, PAGE) }))
        .route(
            "/guide/config.json",
            get(move || async move { file("application/json", config) }),
        )
        .route(
            "/guide/{name}",
            get(|Path(name): Path<String>| async move { find(&GUIDE, &name) }),
        )
        .route(
            "/client/{name}",
            get(|Path(name): Path<String>| async move { find(&CLIENT, &name) }),
        )
}

fn find(files: &[File], name: &str) -> Response {
    match files.iter().find(|(known, _, _)| *known == name) {
        Some((_, kind, text)) => file(kind, text),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let policy = "default-src 'self'; connect-src 'self' ws: wss:";
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(policy),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}
