//! The opening handshake of RFC 6455, section 4.2.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CONNECTION, HOST, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::OnUpgrade;
use sha1::{Digest as _, Sha1};

/// The sub-protocol that phoenix.js asks for when it sends a token beside it.
const PROTOCOL: &str = "phoenix";

/// What is hashed with the client's key.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a request is no upgrade, in the words of the reference's server and in its order.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// The reference says nothing here.
    #[error("")]
    Method,
    #[error("'{name}' header is absent")]
    Absent { name: HeaderName },
    #[error("'{name}' header must contain '{token}', got {got:?}")]
    Header {
        name: HeaderName,
        token: &'static str,
        got: Vec<String>,
    },
    #[error("'sec-websocket-version' header must equal '13', got {got:?}")]
    Version { got: Vec<String> },
    #[error("the connection can't be upgraded")]
    NotUpgradable,
}

/// A request that may become a WebSocket.
pub(super) struct Handshake {
    accept: String,
    has_protocol: bool,
    upgrade: OnUpgrade,
}

impl Handshake {
    pub(super) fn of(request: &mut Request) -> Result<Self, HandshakeError> {
        if request.method() != Method::GET {
            return Err(HandshakeError::Method);
        }
        let headers = request.headers();
        header(headers, HOST)?;
        for (name, token) in [(CONNECTION, "upgrade"), (UPGRADE, "websocket")] {
            if !has_token(headers, &name, token) {
                let got = values(headers, &name);
                return Err(HandshakeError::Header { name, token, got });
            }
        }
        let key = header(headers, SEC_WEBSOCKET_KEY)?;
        let hash = Sha1::new().chain_update(key).chain_update(KEY_SUFFIX);
        let accept = STANDARD.encode(hash.finalize());
        let got = values(headers, &SEC_WEBSOCKET_VERSION);
        if got != ["13"] {
            return Err(HandshakeError::Version { got });
        }
        let has_protocol = has_token(headers, &SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        Ok(Self {
            accept,
            has_protocol,
            upgrade: upgrade.ok_or(HandshakeError::NotUpgradable)?,
        })
    }

    /// The answer to the client, and the connection once that was sent.
    pub(super) fn accept(self) -> (Response, OnUpgrade) {
        let mut answer = (StatusCode::SWITCHING_PROTOCOLS, Body::empty()).into_response();
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::try_from(self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if self.has_protocol {
            let protocol = HeaderValue::from_static(PROTOCOL);
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        (answer, self.upgrade)
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> Result<&HeaderValue, HandshakeError> {
    let value = headers.get(&name);
    value.ok_or(HandshakeError::Absent { name })
}

fn values(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter();
    let text = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    text.collect()
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = values(headers, name);
    let mut tokens = values.iter().flat_map(|value| value.split(','));
    tokens.any(|value| value.trim().eq_ignore_ascii_case(token))
}
