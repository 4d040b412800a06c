//! Clients against a node that does what a test says.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::*;

/// Where the connections of the clients arrive.
struct Script {
    nodes: Arc<Nodes>,
    arrivals: mpsc::UnboundedReceiver<DuplexStream>,
}

struct Socket(WebSocketStream<DuplexStream>);

impl Script {
    fn start(kind: Kind) -> (Self, mpsc::UnboundedSender<Order>) {
        let nodes = Nodes::start(0);
        let (door, arrivals) = mpsc::unbounded_channel();
        nodes.doors.lock().unwrap().push(Some(door));
        let orders = nodes.client(0, kind);
        (Self { nodes, arrivals }, orders)
    }

    async fn stream(&mut self) -> DuplexStream {
        self.arrivals.recv().await.unwrap()
    }

    async fn socket(&mut self) -> Socket {
        let stream = self.stream().await;
        Socket(tokio_tungstenite::accept_async(stream).await.unwrap())
    }

    /// Answers the next request with these bytes.
    async fn answer(&mut self, answer: &str) -> DuplexStream {
        let mut stream = self.stream().await;
        answer_on(&mut stream, answer).await;
        stream
    }

    /// Waits until the client has said that a rule was broken, and which.
    async fn broken(&self) -> String {
        for _ in 0..1000 {
            if let Some(rule) = self.nodes.broken.lock().unwrap().pop() {
                return rule;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("nothing is broken: {:#?}", self.nodes.said.lock().unwrap())
    }

    fn count(&self, wanted: impl Fn(&Said) -> bool) -> usize {
        self.nodes.has_said(0, wanted)
    }
}

impl Socket {
    /// The next message of the client but heartbeats; `None` once it has closed.
    async fn next(&mut self) -> Option<Value> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message[3] != "heartbeat" {
                        return Some(message);
                    }
                    self.reply(&message).await;
                }
                Some(Ok(Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }

    /// The next message, which must be this event; its join_ref and ref.
    async fn expect(&mut self, event: &str) -> Value {
        let message = self.next().await.unwrap();
        assert_eq!(message[3], event, "{message}");
        message
    }

    async fn send(&mut self, frame: Value) {
        let frame = Message::text(frame.to_string());
        self.0.send(frame).await.unwrap();
    }

    async fn reply(&mut self, to: &Value) {
        let ok = json!({ "status": "ok", "response": {} });
        self.send(json!([to[0], to[1], to[2], "phx_reply", ok]))
            .await;
    }

    /// Accepts a join, and takes what follows it.
    async fn join(&mut self) -> Value {
        let join = self.expect("phx_join").await;
        self.reply(&join).await;
        self.expect("state").await;
        let track = self.expect("track").await;
        self.reply(&track).await;
        join
    }
}

async fn answer_on(stream: &mut DuplexStream, answer: &str) -> String {
    let mut request = vec![0; 1 << 10];
    let read = stream.read(&mut request).await.unwrap();
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8_lossy(&request[..read]).into_owned()
}

fn body(body: &Value) -> String {
    let body = body.to_string();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

const WEBSOCKET: Kind = KINDS[1];
const LONG_POLL: Kind = KINDS[3];

#[tokio::test(start_paused = true)]
async fn a_channel_that_crashes_joins_again_after_longer_and_longer() {
    let (mut script, orders) = Script::start(WEBSOCKET);
    orders.send(track("a")).unwrap();
    let mut socket = script.socket().await;
    let mut join = socket.join().await;
    for _ in 0..2 {
        let crashed = Instant::now();
        socket
            .send(json!([join[0], join[0], TOPIC, "phx_error", {}]))
            .await;
        join = socket.join().await;
        assert_eq!(
            crashed.elapsed().as_millis() / 100,
            10,
            "a join that works begins anew"
        );
    }
    let refusal = json!({ "status": "error", "response": { "reason": "full" } });
    socket
        .send(json!([join[0], join[0], TOPIC, "phx_error", {}]))
        .await;
    let mut join = socket.expect("phx_join").await;
    for pause in [2, 5, 10, 10] {
        let refused = Instant::now();
        socket
            .send(json!([join[0], join[1], TOPIC, "phx_reply", refusal]))
            .await;
        join = socket.expect("phx_join").await;
        assert_eq!(refused.elapsed().as_millis() / 100, pause * 10);
    }
    assert_eq!(
        script.count(|said| matches!(said, Said::ChannelErrored { .. })),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn a_join_without_an_answer_is_left_and_tried_again() {
    let (mut script, orders) = Script::start(WEBSOCKET);
    orders.send(track("a")).unwrap();
    let mut socket = script.socket().await;
    let join = socket.expect("phx_join").await;
    let leave = socket.expect("phx_leave").await;
    assert_eq!(leave[0], join[0]);
    let again = socket.expect("phx_join").await;
    assert_ne!(again[0], join[0]);
    // Late, and so of no account.
    socket.reply(&join).await;
    socket.reply(&leave).await;
    socket
        .send(json!([join[0], join[0], TOPIC, "phx_close", {}]))
        .await;
    socket.reply(&again).await;
    assert_eq!(socket.expect("state").await[0], again[0]);
    assert_eq!(
        script.count(|said| matches!(said, Said::JoinFailed { .. })),
        1
    );
    assert_eq!(script.count(|said| matches!(said, Said::Joined { .. })), 1);
    assert!(script.nodes.broken.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_closed_stays_closed() {
    let (mut script, orders) = Script::start(WEBSOCKET);
    orders.send(track("a")).unwrap();
    let mut socket = script.socket().await;
    let join = socket.join().await;
    socket
        .send(json!([join[0], join[0], TOPIC, "phx_close", {}]))
        .await;
    assert!(
        script
            .broken()
            .await
            .starts_with("a channel is closed once")
    );
    assert_eq!(
        script.count(|said| matches!(said, Said::ChannelClosed { .. })),
        1
    );
    let silence = tokio::time::timeout(Duration::from_secs(100), socket.next());
    assert!(silence.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_without_an_answer_ends_the_connection() {
    let (mut script, orders) = Script::start(WEBSOCKET);
    orders.send(track("a")).unwrap();
    let mut socket = script.socket().await;
    socket.join().await;
    let silent = Instant::now();
    let mut frames = 0;
    while let Some(Ok(Message::Text(text))) = socket.0.next().await {
        assert!(text.contains("heartbeat"), "{text}");
        frames += 1;
    }
    assert_eq!((frames, silent.elapsed().as_secs()), (1, 60));
    script.socket().await.join().await;
}

#[tokio::test(start_paused = true)]
async fn a_track_without_an_answer_is_told_and_may_be_answered_yet() {
    let (mut script, orders) = Script::start(WEBSOCKET);
    orders.send(track("a")).unwrap();
    let mut socket = script.socket().await;
    let join = socket.expect("phx_join").await;
    socket.reply(&join).await;
    socket.expect("state").await;
    let track = socket.expect("track").await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(
        script.count(|said| matches!(said, Said::Unanswered { number: 1, .. })),
        1
    );
    socket.reply(&track).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        script.count(|said| matches!(said, Said::Tracked { number: 1, .. })),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_close_of_the_node_is_followed_by_another_connection() {
    let (mut script, orders) = Script::start(WEBSOCKET);
    orders.send(track("a")).unwrap();
    let mut socket = script.socket().await;
    socket.join().await;
    let restart = tokio_tungstenite::tungstenite::protocol::CloseFrame {
        code: 1012.into(),
        reason: "".into(),
    };
    socket.0.close(Some(restart)).await.unwrap();
    script.socket().await.join().await;
    let closed =
        |said: &Said| matches!(said, Said::Disconnected { why, .. } if why == "closed with 1012");
    assert_eq!(script.count(closed), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_frame_is_told() {
    let (mut script, _orders) = Script::start(WEBSOCKET);
    let mut socket = script.socket().await;
    socket.send(json!({ "topic": "t" })).await;
    assert!(script.broken().await.starts_with("every frame parses"));
    // Pings are answered, and frames may come in parts.
    socket
        .0
        .send(Message::Ping(vec![7; 3].into()))
        .await
        .unwrap();
    assert_eq!(
        socket.0.next().await.unwrap().unwrap(),
        Message::Pong(vec![7; 3].into())
    );
    let mut stream = socket.0.into_inner();
    let beat = br#"[null,"9","phoenix","phx_reply",{"status":"ok","response":{}}]"#;
    let (head, tail) = beat.split_at(10);
    let parts = [
        &[0x01, head.len() as u8],
        head,
        &[0x80, tail.len() as u8],
        tail,
    ]
    .concat();
    stream.write_all(&parts).await.unwrap();
    assert!(script.broken().await.starts_with("heartbeats are answered"));
    for bytes in [[0xC1, 0], [0x81, 0x80], [0x83, 0], [0x80, 0], [0x09, 0]] {
        let bytes = [&bytes[..], &[0; 4]].concat();
        stream.write_all(&bytes).await.unwrap();
        assert!(
            script.broken().await.starts_with("a WebSocket is"),
            "{bytes:x?}"
        );
        // The client gives this connection up.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        stream = script.socket().await.0.into_inner();
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_none_is_told() {
    let cases = [
        (
            "HTTP/1.1 101 Yes\r\nsec-websocket-accept: me\r\n\r\n",
            "a WebSocket is",
        ),
        ("HTTP/1.1 403 No\r\n\r\n", "a WebSocket is"),
        ("HTTP/2 101 Yes\r\n\r\n", "answers are HTTP/1.1"),
    ];
    for (answer, rule) in cases {
        let (mut script, _orders) = Script::start(WEBSOCKET);
        script.answer(answer).await;
        assert!(script.broken().await.starts_with(rule), "{answer}");
    }
    let (mut script, _orders) = Script::start(WEBSOCKET);
    script.answer("HTTP/1.1 503 Full\r\n\r\n").await;
    let _again = script.stream().await;
    assert!(script.nodes.broken.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_is_answered_with_something_else_is_told() {
    let begun = body(&json!({ "status": 410, "token": "me", "messages": [] }));
    let begins = [
        (
            body(&json!({ "status": 200, "token": "me", "messages": [] })),
            "a long poll",
        ),
        (body(&json!({ "status": 410 })), "a long poll"),
        (
            "HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n".into(),
            "answers are",
        ),
        ("HTTP/1.1 200 OK\r\n\r\n{}".into(), "answers are"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".into(),
            "answers are",
        ),
    ];
    for (answer, rule) in begins {
        let (mut script, _orders) = Script::start(LONG_POLL);
        script.answer(&answer).await;
        assert!(script.broken().await.starts_with(rule), "{answer}");
    }
    let polls = [
        json!({ "status": 200, "token": "me", "messages": [] }),
        json!({ "status": 200, "token": "you", "messages": ["[]"] }),
        json!({ "status": 204, "token": "me", "messages": ["[]"] }),
        json!({ "status": 403, "messages": [] }),
    ];
    for answer in polls {
        let (mut script, _orders) = Script::start(LONG_POLL);
        let mut stream = script.answer(&begun).await;
        let poll = answer_on(&mut stream, &body(&answer)).await;
        assert!(poll.contains("token=me"), "{poll}");
        assert!(script.broken().await.starts_with("a long poll"), "{answer}");
    }
    // One that has nothing is followed by another, and one whose session is gone by a new session, be it
    // that the application did not let this client in for one at once.
    for gone in [410, 403] {
        let (mut script, _orders) = Script::start(LONG_POLL);
        let mut stream = script.answer(&begun).await;
        let nothing = json!({ "status": 204, "token": "me", "messages": [] });
        answer_on(&mut stream, &body(&nothing)).await;
        answer_on(&mut stream, &body(&json!({ "status": gone }))).await;
        script.answer(&begun).await;
        assert!(script.nodes.broken.lock().unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_that_is_not_taken_ends_the_session() {
    let begun = body(&json!({ "status": 410, "token": "me", "messages": [] }));
    for (status, is_broken) in [(408, false), (410, false), (403, true)] {
        let (mut script, orders) = Script::start(LONG_POLL);
        orders.send(track("a")).unwrap();
        // The post takes the connection that the session was begun with, and the poll opens another.
        let mut post = script.answer(&begun).await;
        let _poll = script.stream().await;
        let posted = answer_on(&mut post, &body(&json!({ "status": status }))).await;
        assert!(posted.contains("phx_join"), "{posted}");
        script.answer(&begun).await;
        assert_eq!(
            script.nodes.broken.lock().unwrap().len(),
            usize::from(is_broken)
        );
    }
}
