//! What a client may do to a server: it is told what was wrong, the server goes on, and no other
//! client notices.
//!
//! The clients are bare TCP connections, since no WebSocket library sends what is sent here. Every
//! wait has a generous time limit, so that a test stops by itself.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "what a test begins is no task of a node"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use presence_core::wire::Payload;
use presence_server::channel::{Channel, Failure, JoinError, Joined, Next, Socket};
use presence_server::endpoint::{Connected, UserSocket};
use presence_server::env::{Environment, System};
use presence_server::node::{Config, Node};
use presence_server::{serve, socket_routes};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// A server with a room that does what its clients say.
struct Server {
    system: System,
    node: Node,
    address: SocketAddr,
    /// Handlers of `wait` go on as it has permits.
    gate: Arc<Semaphore>,
}

struct Room;

impl Channel for Room {
    type User = Arc<Semaphore>;
    type Info = Infallible;

    async fn join(
        topic: &str,
        _: Payload<'static>,
        socket: &mut Socket<Self>,
    ) -> Result<Joined<Self>, JoinError> {
        if topic == "room:slow" {
            let _ = socket.user().acquire().await?;
        }
        Ok(Self.into())
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload<'static>,
        socket: &mut Socket<Self>,
    ) -> Result<Next, Failure> {
        match event {
            "echo" => return Ok(Next::ok(payload)),
            "shout" => socket.broadcast("shout", payload)?,
            "wait" => socket.user().acquire().await?.forget(),
            other => return Err(Failure::no_handler(other)),
        }
        Ok(Next::NoReply)
    }
}

impl Server {
    async fn start(config: Config) -> Self {
        let system = System::new();
        let listener = system.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let node = Node::start(Arc::new(system.clone()), config).unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let user = Arc::clone(&gate);
        let socket = UserSocket::new(move |_| {
            Ok(Connected {
                user: Arc::clone(&user),
                id: None,
            })
        })
        .channel::<Room>("room:*");
        let router = socket_routes(&node, "/socket", socket);
        let serving = node.clone();
        tokio::spawn(async move { serve::serve(&serving, listener, router).await });
        Self {
            system,
            node,
            address,
            gate,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn client(&self) -> Client {
        let mut stream = self.connect().await;
        let answer = exchange(&mut stream, &upgrade(&[])).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        Client { stream }
    }

    /// A client that has joined.
    async fn joined(&self, topic: &str) -> Client {
        let mut client = self.client().await;
        client.join(topic).await;
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.system.request_stop();
    }
}

struct Client {
    stream: TcpStream,
}

#[derive(Debug, PartialEq)]
enum Got {
    Text(Value),
    Pong(Vec<u8>),
    Close(u16),
    /// The end of the connection.
    End,
}

impl Client {
    async fn send_frame(&mut self, first: u8, payload: &[u8]) {
        let bytes = masked(first, payload);
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn send(&mut self, message: &Value) {
        self.send_frame(TEXT, message.to_string().as_bytes()).await;
    }

    async fn join(&mut self, topic: &str) {
        self.send(&json!(["1", "1", topic, "phx_join", {}])).await;
        let expected = json!(["1", "1", topic, "phx_reply", {"status": "ok", "response": {}}]);
        assert_eq!(self.next().await, Got::Text(expected));
    }

    /// What comes next.
    async fn next(&mut self) -> Got {
        timeout(LIMIT, self.read()).await.expect("nothing comes")
    }

    async fn read(&mut self) -> Got {
        let mut head = [0; 2];
        if self.stream.read_exact(&mut head).await.is_err() {
            return Got::End;
        }
        let len = match head[1] {
            126 => self.stream.read_u16().await.unwrap().into(),
            127 => self.stream.read_u64().await.unwrap(),
            len => len.into(),
        };
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        self.stream.read_exact(&mut payload).await.unwrap();
        match head[0] {
            TEXT => Got::Text(serde_json::from_slice(&payload).unwrap()),
            PONG => Got::Pong(payload),
            CLOSE => Got::Close(u16::from_be_bytes(payload[..2].try_into().unwrap())),
            other => panic!("a frame of the kind {other:#x}"),
        }
    }

    /// Expects to be closed with this code, and nothing else.
    async fn is_closed(&mut self, code: u16) {
        assert_eq!(self.next().await, Got::Close(code));
        assert_eq!(self.next().await, Got::End);
    }

    /// Says something and is answered, with nothing in between.
    async fn notices_nothing(&mut self, topic: &str) {
        let asked = json!(["1", "9", topic, "echo", {"n": 1}]);
        self.send(&asked).await;
        let expected =
            json!(["1", "9", topic, "phx_reply", {"status": "ok", "response": {"n": 1}}]);
        assert_eq!(self.next().await, Got::Text(expected));
    }
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | u8::try_from(len).unwrap()),
        len @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    bytes
}

/// An upgrade with some of its headers replaced (or left out, where the value is empty).
fn upgrade(replaced: &[(&str, &str)]) -> String {
    let mut request = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\n".to_owned();
    let headers = [
        ("Host", "localhost"),
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (name, value) in headers {
        let value = replaced
            .iter()
            .find(|(other, _)| *other == name)
            .map_or(value, |(_, value)| value);
        if !value.is_empty() {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    request + "\r\n"
}

/// Sends a request and reads the answer: its head, and its body as far as its length is given.
async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    timeout(LIMIT, answer(stream)).await.expect("no answer")
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::from_utf8(head).unwrap(),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    head + &String::from_utf8(body).unwrap()
}

/// Reads until the server closes; what it said.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset is an end, too.
    let _ = timeout(LIMIT, stream.read_to_end(&mut said))
        .await
        .expect("the connection stays open");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn a_frame_that_is_no_message_closes_its_socket_alone() {
    let server = Server::start(Config::default()).await;
    let mut other = server.joined("room:1").await;
    let cases: [(u8, &[u8], u16); 9] = [
        (TEXT, b"not json", 1011),
        (TEXT, b"{\"topic\":1}", 1011),
        (TEXT, b"[1,2]", 1011),
        (TEXT, b"", 1011),
        (TEXT, b"[\"1\",\"1\",\"room:1\",\xFF]", 1007),
        (BINARY, b"\0\x01\x01", 1011),
        (BINARY, b"", 1011),
        (0x83, b"x", 1002),
        (0xC1, b"x", 1002),
    ];
    for (first, payload, code) in cases {
        let mut client = server.joined("room:1").await;
        client.send_frame(first, payload).await;
        client.is_closed(code).await;
    }
    // Not even WebSocket: an unmasked frame.
    let mut client = server.joined("room:1").await;
    client.stream.write_all(b"\x81\x02[]").await.unwrap();
    client.is_closed(1002).await;
    other.notices_nothing("room:1").await;
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_before_it_is_there() {
    let mut config = Config::default();
    config.wire.max_frame_bytes = 10_000;
    let server = Server::start(config).await;
    let mut other = server.joined("room:1").await;

    let mut client = server.joined("room:1").await;
    let head = &masked(TEXT, &[b' '; 10_001])[..4];
    client.stream.write_all(head).await.unwrap();
    client.is_closed(1009).await;

    let mut client = server.joined("room:1").await;
    let mut head = vec![TEXT, 0xFF];
    head.extend(u64::MAX.to_be_bytes());
    client.stream.write_all(&head).await.unwrap();
    client.is_closed(1009).await;

    let mut client = server.joined("room:1").await;
    client.send_frame(0x01, &[b' '; 9_000]).await;
    client.send_frame(0x00, &[b' '; 1_000]).await;
    client.send_frame(0x00, b"").await;
    client.send_frame(0x00, b" ").await;
    client.is_closed(1009).await;
    other.notices_nothing("room:1").await;
}

#[tokio::test]
async fn a_message_may_come_in_fragments_with_pings_between() {
    let server = Server::start(Config::default()).await;
    let mut client = server.joined("room:1").await;
    client.send_frame(0x01, b"[\"1\",\"2\",\"roo").await;
    client.send_frame(PING, b"there?").await;
    client.send_frame(0x00, b"m:1\",\"ec").await;
    client.send_frame(0x80, b"ho\",{}]").await;
    assert_eq!(client.next().await, Got::Pong(b"there?".to_vec()));
    let expected = json!(["1", "2", "room:1", "phx_reply", {"status": "ok", "response": {}}]);
    assert_eq!(client.next().await, Got::Text(expected));
}

#[tokio::test]
async fn topics_beyond_the_limit_are_refused_and_the_others_stay() {
    let server = Server::start(Config::default()).await;
    let mut other = server.joined("room:1").await;
    let (read, mut write) = server.client().await.stream.into_split();
    let sending = tokio::spawn(async move {
        for at in 0..10_000 {
            let reference = at.to_string();
            let topic = format!("room:{at}");
            let join = json!([reference, reference, topic, "phx_join", {}]);
            let bytes = masked(TEXT, join.to_string().as_bytes());
            write.write_all(&bytes).await.unwrap();
        }
        write
    });
    let mut read = tokio::io::BufReader::new(read);
    let (mut joined, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let reply = timeout(LIMIT, async {
            let head = read.read_u16().await.unwrap().to_be_bytes();
            let len = match head[1] {
                126 => read.read_u16().await.unwrap().into(),
                len => usize::from(len),
            };
            let mut payload = vec![0; len];
            read.read_exact(&mut payload).await.unwrap();
            serde_json::from_slice::<Value>(&payload).unwrap()
        });
        let reply = reply.await.expect("a join is not answered");
        match &reply[4] {
            payload if payload["status"] == "ok" => joined += 1,
            payload => {
                let reason = &payload["response"]["reason"];
                assert_eq!(*reason, "too many channels joined");
                refused += 1;
            }
        }
    }
    assert_eq!((joined, refused), (100, 9_900));
    let write = sending.await.unwrap();
    other.notices_nothing("room:1").await;
    let stream = read.into_inner().reunite(write).unwrap();
    let mut client = Client { stream };
    client
        .send(&json!(["99", "x", "room:99", "echo", {}]))
        .await;
    let ok = json!({"status": "ok", "response": {}});
    let expected = json!(["99", "x", "room:99", "phx_reply", ok]);
    assert_eq!(client.next().await, Got::Text(expected));
}

#[tokio::test]
async fn a_client_that_never_reads_is_given_up_and_the_others_get_everything() {
    let config = Config {
        socket_queue_bytes: 1 << 20,
        ..Config::default()
    };
    let server = Server::start(config).await;
    let mut deaf = server.joined("room:1").await;
    let mut other = server.joined("room:1").await;
    // More than the system's buffers and the bound together.
    let payload = Payload::from(
        presence_core::wire::Json::serialize(&json!({ "text": "x".repeat(100_000) })).unwrap(),
    );
    let sent = 400;
    for _ in 0..sent {
        server.node.broadcast("room:1", "shout", &payload).unwrap();
        let Got::Text(frame) = other.next().await else {
            panic!("no broadcast comes");
        };
        assert_eq!(frame[3], "shout");
    }
    other.notices_nothing("room:1").await;
    // What was on its way still comes, and then the reason or, within a frame, the end.
    let mut got = 0;
    loop {
        match timeout(LIMIT, deaf.stream.read_u8())
            .await
            .expect("it stays open")
        {
            Ok(_) => got += 1,
            Err(_) => break,
        }
        let mut bytes = vec![0; 1 << 16];
        got += deaf.stream.read(&mut bytes).await.unwrap_or(0);
    }
    assert!(
        got < sent * 100_000,
        "all of it was kept for who did not read"
    );
}

#[tokio::test]
async fn a_client_that_sends_no_request_is_dropped() {
    let config = Config {
        request_timeout: Duration::from_millis(300),
        ..Config::default()
    };
    let server = Server::start(config).await;
    let mut other = server.joined("room:1").await;

    let mut silent = server.connect().await;
    assert_eq!(until_closed(&mut silent).await, "");

    let mut half = server.connect().await;
    half.write_all(b"GET /socket/websocket HTTP/1.1\r\nHos")
        .await
        .unwrap();
    assert_eq!(until_closed(&mut half).await, "");

    // A byte now and then makes no difference.
    let (mut read, mut write) = server.connect().await.into_split();
    let dripping = tokio::spawn(async move {
        write.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        while write.write_all(b"a: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut said = Vec::new();
    let _ = timeout(LIMIT, read.read_to_end(&mut said))
        .await
        .expect("it stays open");
    drop(read);
    timeout(LIMIT, dripping)
        .await
        .expect("it stays open")
        .unwrap();

    // Neither does an answer before.
    let mut idle = server.connect().await;
    let answer = exchange(
        &mut idle,
        "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(until_closed(&mut idle).await, "");

    // The limit is not for a socket.
    other.notices_nothing("room:1").await;
}

#[tokio::test]
async fn a_request_head_without_end_is_refused() {
    let server = Server::start(Config::default()).await;
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\na: ").await.unwrap();
    let filler = [b'x'; 1 << 16];
    while client.write_all(&filler).await.is_ok() {}
    let mut client = server.connect().await;
    assert!(
        exchange(&mut client, "\x01\x02\x03 nonsense\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    server
        .joined("room:1")
        .await
        .notices_nothing("room:1")
        .await;
}

#[tokio::test]
async fn a_socket_that_is_silent_is_closed_however_busy_its_room() {
    let config = Config {
        idle_timeout: Duration::from_millis(500),
        ..Config::default()
    };
    let server = Server::start(config).await;
    let mut silent = server.joined("room:1").await;
    let mut other = server.joined("room:1").await;
    let mut pinging = server.joined("room:2").await;
    let is_closed = std::cell::Cell::new(false);
    let closed = async {
        let got = loop {
            match silent.next().await {
                Got::Text(frame) => assert_eq!(frame[3], "shout"),
                got => break got,
            }
        };
        is_closed.set(true);
        got
    };
    let busy = async {
        while !is_closed.get() {
            other.send(&json!(["1", "2", "room:1", "shout", {}])).await;
            other.next().await;
            pinging.send_frame(PING, b"").await;
            assert_eq!(pinging.next().await, Got::Pong(Vec::new()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (closed, ()) = tokio::join!(closed, busy);
    assert_eq!(closed, Got::Close(1000));
    other.notices_nothing("room:1").await;
    pinging.notices_nothing("room:2").await;
}

#[tokio::test]
async fn an_upgrade_without_the_right_headers_is_told_why() {
    let server = Server::start(Config::default()).await;
    let cases = [
        ("Host", "", "'host' header is absent"),
        (
            "Connection",
            "",
            "'connection' header must contain 'upgrade', got []",
        ),
        (
            "Connection",
            "keep-alive",
            "'connection' header must contain 'upgrade', got [\"keep-alive\"]",
        ),
        (
            "Upgrade",
            "",
            "'upgrade' header must contain 'websocket', got []",
        ),
        (
            "Upgrade",
            "h2c",
            "'upgrade' header must contain 'websocket', got [\"h2c\"]",
        ),
        (
            "Sec-WebSocket-Key",
            "",
            "'sec-websocket-key' header is absent",
        ),
        (
            "Sec-WebSocket-Version",
            "",
            "'sec-websocket-version' header must equal '13', got []",
        ),
        (
            "Sec-WebSocket-Version",
            "8",
            "'sec-websocket-version' header must equal '13', got [\"8\"]",
        ),
    ];
    for (name, value, reason) in cases {
        let mut stream = server.connect().await;
        let answer = exchange(&mut stream, &upgrade(&[(name, value)])).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{reason}")), "{answer}");
    }
    let mut stream = server.connect().await;
    let request = upgrade(&[]).replace("vsn=2.0.0", "vsn=%FF");
    let answer = exchange(&mut stream, &request).await;
    assert!(!answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let mut stream = server.connect().await;
    let answer = exchange(&mut stream, &upgrade(&[])).await;
    // The example of RFC 6455.
    let accept = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    assert!(answer.contains(accept), "{answer}");
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_as_it_is_read() {
    let server = Server::start(Config::default()).await;
    let mut other = server.joined("room:1").await;
    let (read, mut write) = server.joined("room:1").await.stream.into_split();
    let flood = masked(PING, b"ping").repeat(1000);
    // Nobody reads the answers: the server stops to read, and so this stops to send.
    let blocked = async {
        loop {
            let sent = timeout(Duration::from_millis(500), write.write_all(&flood));
            match sent.await {
                Ok(sent) => sent.unwrap(),
                Err(_) => return,
            }
        }
    };
    timeout(LIMIT, blocked)
        .await
        .expect("the server takes in pings without end");
    other.notices_nothing("room:1").await;
    drop((read, write));
    other.notices_nothing("room:1").await;
}

#[tokio::test]
async fn a_flood_of_messages_to_a_slow_channel_waits_with_the_client() {
    let server = Server::start(Config::default()).await;
    let mut other = server.joined("room:1").await;
    let (read, mut write) = server.joined("room:1").await.stream.into_split();
    let wait = json!(["1", null, "room:1", "wait", { "text": "x".repeat(10_000) }]).to_string();
    let wait = masked(TEXT, wait.as_bytes());
    // A frame that was cut off by the time limit is completed later.
    let (mut sent, mut left) = (1, wait.clone());
    let flood = async {
        loop {
            match timeout(Duration::from_millis(500), write.write(&left)).await {
                Ok(written) => {
                    left.drain(..written.unwrap());
                    if left.is_empty() {
                        left.extend(&wait);
                        sent += 1;
                    }
                }
                Err(_) => return,
            }
        }
    };
    timeout(LIMIT, flood)
        .await
        .expect("the server takes in messages without end");
    other.notices_nothing("room:1").await;
    // All of them are handled in the end.
    server.gate.add_permits(sent);
    write.write_all(&left).await.unwrap();
    let stream = read.reunite(write).unwrap();
    Client { stream }.notices_nothing("room:1").await;
    assert_eq!(server.gate.available_permits(), 0);
}

#[tokio::test]
async fn messages_behind_a_slow_join_wait_with_the_client() {
    let server = Server::start(Config::default()).await;
    let mut other = server.joined("room:1").await;
    let mut slow = server.client().await;
    slow.send(&json!(["1", "1", "room:slow", "phx_join", {}]))
        .await;
    let messages = 1000;
    for at in 0..messages {
        let echo = json!(["1", at.to_string(), "room:slow", "echo", {}]);
        slow.send(&echo).await;
    }
    other.notices_nothing("room:1").await;
    server.gate.add_permits(1);
    assert_eq!(
        slow.next().await,
        Got::Text(json!(["1", "1", "room:slow", "phx_reply", {"status": "ok", "response": {}}])),
    );
    for at in 0..messages {
        let reference = at.to_string();
        let ok = json!({"status": "ok", "response": {}});
        let expected = json!(["1", reference, "room:slow", "phx_reply", ok]);
        assert_eq!(slow.next().await, Got::Text(expected));
    }
}

#[tokio::test]
async fn one_connection_too_many_is_refused_until_one_closes() {
    let config = Config {
        max_connections: 2,
        ..Config::default()
    };
    let server = Server::start(config).await;
    let mut first = server.joined("room:1").await;
    let second = server.joined("room:1").await;
    let mut third = server.connect().await;
    let refusal = until_closed(&mut third).await;
    assert!(
        refusal.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{refusal}"
    );
    assert!(
        refusal.ends_with("\r\n\r\nthe server has no room now\n"),
        "{refusal}"
    );
    first.notices_nothing("room:1").await;
    drop(second);
    // The server learns of it by and by.
    let joined = async {
        loop {
            let mut stream = server.connect().await;
            if stream.write_all(upgrade(&[]).as_bytes()).await.is_ok()
                && answer(&mut stream).await.starts_with("HTTP/1.1 101 ")
            {
                break Client { stream };
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut joined = timeout(LIMIT, joined).await.expect("there is no room");
    joined.join("room:1").await;
    first.notices_nothing("room:1").await;
}
