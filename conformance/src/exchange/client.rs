//! One client of a recording: a WebSocket, or an HTTP request.

use std::collections::BTreeMap;

use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::action::{HttpRequest, Sent};
use super::clients::{BROKEN, closed};

/// An open WebSocket. What it receives goes to the inbox of the replay.
pub(crate) struct Client {
    sender: mpsc::UnboundedSender<Command>,
    /// Ends with the code of the connection's close.
    task: JoinHandle<u16>,
}

enum Command {
    Send(Message),
    Close,
}

/// Frames as they come, each with the name of its client.
pub(crate) type Inbox = mpsc::UnboundedSender<(String, Value)>;

impl Client {
    /// Connects, and reports `opened` or `refused`.
    pub(crate) async fn open(
        name: &str,
        authority: &str,
        path_and_query: &str,
        subprotocols: &[String],
        inbox: &Inbox,
    ) -> Result<Option<Self>, String> {
        let url = format!("ws://{authority}{path_and_query}");
        let mut request = url
            .into_client_request()
            .map_err(|error| error.to_string())?;
        if !subprotocols.is_empty() {
            let value = HeaderValue::from_str(&subprotocols.join(", "));
            let value = value.map_err(|error| error.to_string())?;
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
        let stream = TcpStream::connect(authority).await;
        let stream = stream.map_err(|error| format!("can't connect to {authority}: {error}"))?;
        let connected = tokio_tungstenite::client_async(request, stream).await;
        let (socket, response) = match connected {
            Ok(connected) => connected,
            Err(Error::Http(response)) => {
                let refused = json!({ "refused": response.status().as_u16() });
                let _ = inbox.send((name.to_owned(), refused));
                return Ok(None);
            }
            Err(error) => return Err(format!("no WebSocket: {error}")),
        };
        let mut opened = json!({ "opened": true });
        if let Some(protocol) = response.headers().get(SEC_WEBSOCKET_PROTOCOL) {
            opened["subprotocol"] = String::from_utf8_lossy(protocol.as_bytes()).into();
        }
        let _ = inbox.send((name.to_owned(), opened));
        let (sender, commands) = mpsc::unbounded_channel();
        let task = tokio::spawn(carry(name.to_owned(), socket, commands, inbox.clone()));
        Ok(Some(Self { sender, task }))
    }

    pub(crate) fn send(&self, what: &Sent) {
        let message = match what {
            Sent::Text(text) => Message::text(text.clone()),
            Sent::Binary(bytes) => Message::binary(bytes.clone()),
        };
        let _ = self.sender.send(Command::Send(message));
    }

    /// Closes with a close frame, and waits until the connection has ended: the code that it did with.
    pub(crate) async fn close(self) -> u16 {
        let _ = self.sender.send(Command::Close);
        self.task.await.unwrap_or(BROKEN)
    }

    /// Cuts the connection.
    pub(crate) async fn abort(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn carry(
    name: String,
    mut socket: WebSocketStream<TcpStream>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    inbox: Inbox,
) -> u16 {
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(Command::Send(message)) => {
                    // Where it is broken, that is the next to be read.
                    let _ = socket.send(message).await;
                }
                Some(Command::Close) => {
                    let _ = socket.close(None).await;
                    // What still comes is not for the case.
                    while let Some(Ok(message)) = socket.next().await {
                        if let Message::Close(close) = message {
                            return code_of(close);
                        }
                    }
                    return BROKEN;
                }
                None => return BROKEN,
            },
            message = socket.next() => {
                let frame = match message {
                    Some(Ok(Message::Text(text))) => match serde_json::from_str::<Value>(&text) {
                        Ok(json) => json!({ "text": json }),
                        Err(_) => json!({ "text_that_is_no_json": text.as_str() }),
                    },
                    Some(Ok(Message::Binary(bytes))) => json!({ "binary": hex(&bytes) }),
                    Some(Ok(Message::Close(close))) => {
                        let code = code_of(close);
                        let _ = inbox.send((name, closed(code)));
                        return code;
                    }
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => {
                        let _ = inbox.send((name, closed(BROKEN)));
                        return BROKEN;
                    }
                };
                let _ = inbox.send((name.clone(), frame));
            }
        }
    }
}

/// The code of a close frame, or the one that stands for a frame without.
fn code_of(close: Option<CloseFrame>) -> u16 {
    close.map_or(1005, |close| close.code.into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a request; the answer as a frame.
pub(crate) async fn request(authority: &str, request: &HttpRequest) -> Result<Value, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("{} {}: {error}", request.method, request.path);
    let stream = TcpStream::connect(authority)
        .await
        .map_err(|error| failed(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| failed(&error))?;
    let connection = tokio::spawn(connection);
    let uri = with_query(&request.path, &request.query);
    let mut builder = hyper::Request::builder()
        .method(request.method.as_str())
        .uri(uri)
        .header("host", authority);
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let body = Full::new(Bytes::from(request.body.clone()));
    let made = builder.body(body).map_err(|error| failed(&error))?;
    let response = sender
        .send_request(made)
        .await
        .map_err(|error| failed(&error))?;
    let status = response.status().as_u16();
    let is_json = response
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| failed(&error))?;
    connection.abort();
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    if is_json && let Ok(mut json) = serde_json::from_str::<Value>(&body) {
        if let Some(messages) = json.get_mut("messages").and_then(Value::as_array_mut) {
            for message in messages {
                // Each must be a string that holds the JSON of a frame.
                let parsed = message.as_str().map(serde_json::from_str);
                *message = match parsed {
                    Some(Ok(frame)) => frame,
                    _ => json!({ "no_frame_in_a_string": message }),
                };
            }
        }
        return Ok(json!({ "status": status, "json": json }));
    }
    Ok(json!({ "status": status, "body": body }))
}

/// A path with its query, encoded.
pub(crate) fn with_query(path: &str, query: &BTreeMap<String, String>) -> String {
    let mut text = path.to_owned();
    for (at, (name, value)) in query.iter().enumerate() {
        text.push(if at == 0 { '?' } else { '&' });
        percent(name, &mut text);
        text.push('=');
        percent(value, &mut text);
    }
    text
}

fn percent(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}
