//! The built program, and what talks to it.

#![allow(dead_code)] // Each test uses its own part.
#![allow(clippy::unwrap_used)] // A test may panic, and so may what it is made of.
#![allow(clippy::disallowed_methods)] // What a test begins is no task of a node.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::ops::Deref;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program that runs; it is killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) line: String,
    site: Site,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) status: ExitStatus,
    /// Without the line that says where it listens.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

fn command(args: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_presence-server"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PRESENCE_") {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str], variables: &[(&str, &str)]) -> Ended {
    let output = command(args, variables).output().unwrap();
    Ended {
        code: output.status.code(),
        status: output.status,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Program {
    /// Starts the program on a free port.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[("PRESENCE_PORT", "0")])
    }

    pub(crate) fn start_with(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = command(args, variables).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://").unwrap();
        let address = address.split(['/', '\n']).next().unwrap().parse().unwrap();
        Self {
            child,
            stdout,
            line,
            site: Site { address },
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until the program has ended.
    pub(crate) async fn ended(mut self) -> Ended {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let status = patient(ended).await;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        let mut errors = self.child.stderr.take().unwrap();
        errors.read_to_string(&mut stderr).unwrap();
        Ended {
            code: status.code(),
            status,
            stdout,
            stderr,
        }
    }
}

impl Deref for Program {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server, as its clients see it.
#[derive(Clone, Copy)]
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
}

impl Site {
    /// Opens a WebSocket with this query; the status where it is refused.
    pub(crate) async fn connect(&self, query: &str) -> Result<Client, u16> {
        self.connect_with(query, None).await
    }

    /// The same, with these sub-protocols.
    pub(crate) async fn connect_with(
        &self,
        query: &str,
        protocols: Option<&str>,
    ) -> Result<Client, u16> {
        Client::connect(self.address, query, protocols).await
    }

    /// Opens a WebSocket; `None` where there is no server, or it ends.
    pub(crate) async fn try_connect(&self, query: &str) -> Option<Client> {
        let url = format!("ws://{}/socket/websocket?vsn=2.0.0&{query}", self.address);
        let stream = TcpStream::connect(self.address).await.ok()?;
        let opened = tokio_tungstenite::client_async(url, stream);
        let (socket, _) = patient(opened).await.ok()?;
        Some(Client(socket))
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Has the program answer a number of requests, so that it has read what was sent to it before.
    pub(crate) async fn settle(&self) {
        for _ in 0..20 {
            self.get("/guide/config.json").await;
        }
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path, &[], "").await
    }

    /// Posts JSON; the status and the JSON of the answer, null where it is none.
    pub(crate) async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let json = [("content-type", "application/json")];
        let (status, body) = self.request("POST", path, &json, body).await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, String) {
        let stream = TokioIo::new(self.tcp().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(Bytes::from(body.to_owned()));
        let answer = sender.send_request(request.body(body).unwrap());
        let answer = patient(answer).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        connection.abort();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

/// A client of the socket.
pub(crate) struct Client(WebSocketStream<TcpStream>);

impl Client {
    /// Opens a WebSocket; the status where it is refused.
    pub(crate) async fn connect(
        address: SocketAddr,
        query: &str,
        protocols: Option<&str>,
    ) -> Result<Self, u16> {
        let url = format!("ws://{address}/socket/websocket?vsn=2.0.0&{query}");
        let mut request = url.into_client_request().unwrap();
        if let Some(protocols) = protocols {
            let headers = request.headers_mut();
            headers.insert("sec-websocket-protocol", protocols.parse().unwrap());
        }
        let stream = TcpStream::connect(address).await.unwrap();
        match patient(tokio_tungstenite::client_async(request, stream)).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Joins a topic; the payload of the answer.
    pub(crate) async fn join(&mut self, topic: &str, params: &Value) -> Value {
        let join = serde_json::json!(["1", "1", topic, "phx_join", params]);
        self.send(&join).await;
        self.event("phx_reply").await
    }

    pub(crate) async fn send(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// `None` where the socket is closed.
    pub(crate) async fn try_send(&mut self, frame: &Value) -> Option<()> {
        self.0.send(Message::text(frame.to_string())).await.ok()
    }

    /// The next message; `None` once the socket is closed.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            match self.0.next().await? {
                Ok(Message::Text(text)) => return serde_json::from_str(&text).ok(),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The payload of the next message of this event; others before it are passed over.
    pub(crate) async fn event(&mut self, event: &str) -> Value {
        loop {
            let message = patient(self.0.next()).await.unwrap().unwrap();
            let mut frame: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            if frame[3] == event {
                return frame[4].take();
            }
        }
    }

    /// The code with which the server closes.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            match patient(self.0.next()).await {
                Some(Ok(Message::Close(close))) => {
                    // Its answer goes out with the next read.
                    while let Some(Ok(_)) = self.0.next().await {}
                    return close.map_or(1005, |close| close.code.into());
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return 1006,
            }
        }
    }
}

/// What comes of `future`, unless it takes for ever.
pub(crate) async fn patient<F: Future>(future: F) -> F::Output {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.expect("it takes for ever")
}
