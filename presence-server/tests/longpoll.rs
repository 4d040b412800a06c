//! Long polling, as plain HTTP requests.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "what a test begins is no task of a node"
)]

#[path = "program/answer.rs"]
mod answer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use answer::Answer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use presence_server::app::{self, Tokens};
use presence_server::env::{Environment as _, System};
use presence_server::node::{Config, Node};
use presence_server::serve;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const NDJSON: &str = "content-type: application/x-ndjson";

/// How long anything may take before a test gives up.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_session_token_may_come_in_a_header() {
    let server = Server::start(Config::default()).await;
    let token = server.begin("vsn=2.0.0").await;
    let in_header = format!("x-phoenix-longpoll-token: {token}");
    let join = r#"["1","1","conf:a","phx_join",{}]"#;
    let posted = server
        .post("vsn=2.0.0", &[NDJSON, &in_header], join.as_bytes())
        .await;
    assert_eq!(posted.json(), json!({ "status": 200 }));
    let polled = server.get("vsn=2.0.0", &[&in_header]).await;
    assert_eq!(polled.json()["token"], *token);
    assert_eq!(
        polled.messages(),
        [json!(["1", "1", "conf:a", "phx_reply", {"status": "ok", "response": {}}])]
    );
}

#[tokio::test]
async fn a_session_token_in_the_header_leaves_that_of_the_query_to_the_application() {
    let server = Server::start(Config::default()).await;
    let query = format!("token={}&vsn=2.0.0", server.sign("ann"));
    let token = server.begin(&query).await;
    let in_header = format!("x-phoenix-longpoll-token: {token}");
    let join = r#"["1","1","conf:a","phx_join",{"user":true}]"#;
    let posted = server
        .post(&query, &[NDJSON, &in_header], join.as_bytes())
        .await;
    assert_eq!(posted.json(), json!({ "status": 200 }));
    let polled = server.get(&query, &[&in_header]).await;
    assert_eq!(polled.messages()[0][4]["response"]["user_id"], "ann");

    let gone = server
        .get(&query, &["x-phoenix-longpoll-token: of-another-run"])
        .await;
    assert_eq!(gone.json()["status"], 410);
    assert_ne!(gone.json()["token"], *token, "it begins a session anew");
}

#[tokio::test]
async fn the_last_token_of_the_query_is_that_of_the_session() {
    let server = Server::start(Config::default()).await;
    let of_the_app = format!("token={}&vsn=2.0.0", server.sign("ann"));
    let token = server.begin(&of_the_app).await;
    let query = format!("{of_the_app}&token={token}");
    let join = r#"["1","1","conf:a","phx_join",{"user":true}]"#;
    let posted = server.post(&query, &[NDJSON], join.as_bytes()).await;
    assert_eq!(posted.json(), json!({ "status": 200 }));
    let polled = server.get(&query, &[]).await;
    assert_eq!(polled.messages()[0][4]["response"]["user_id"], "ann");
}

#[tokio::test]
async fn a_line_of_base64_is_a_binary_frame() {
    let server = Server::start(Config::default()).await;
    let session = server.join("conf:a").await;
    let push = [
        b"\x00\x01\x01\x06\x0412conf:aecho".as_slice(),
        b"\x00\xff\n[",
    ]
    .concat();
    let reply = [b"\x01\x01\x01\x06\x0212conf:aok".as_slice(), b"\x00\xff\n["].concat();
    let as_line = STANDARD.encode(&push);
    let as_data = format!("data:application/octet-stream;base64,{as_line}");
    let bodies = [
        (vec![NDJSON], as_line),
        (vec![NDJSON], as_data.clone()),
        (vec!["content-type: application/json"], as_data),
    ];
    for (headers, body) in bodies {
        let posted = server.post(&session, &headers, body.as_bytes()).await;
        assert_eq!(posted.json(), json!({ "status": 200 }), "{body}");
        let polled = server.get(&session, &[]).await.json();
        let message = polled["messages"][0].as_str().unwrap();
        let data = message.strip_prefix("data:application/octet-stream;base64,");
        assert_eq!(STANDARD.decode(data.unwrap()).unwrap(), reply, "{body}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_ndjson_is_one_message() {
    let server = Server::start(Config::default()).await;
    let session = server.join("conf:a").await;
    let body = "[\"1\",\n\"2\",\n\"conf:a\",\"echo\",\n{\"x\":1}]\n";
    let posted = server
        .post(
            &session,
            &["content-type: application/json"],
            body.as_bytes(),
        )
        .await;
    assert_eq!(posted.json(), json!({ "status": 200 }));
    let polled = server.get(&session, &[]).await;
    let response = json!({ "status": "ok", "response": { "x": 1 } });
    assert_eq!(
        polled.messages(),
        [json!(["1", "2", "conf:a", "phx_reply", response])]
    );
}

#[tokio::test]
async fn a_body_with_a_line_that_is_no_message_is_refused_as_a_whole() {
    let server = Server::start(Config::default()).await;
    let session = server.join("conf:a").await;
    let ok = r#"["1","2","conf:a","ok",{}]"#;
    let garbage = format!("{ok}\n\nwhat's this?");
    let refused = server.post(&session, &[NDJSON], garbage.as_bytes()).await;
    let reason = "line 3 of the body is neither a JSON message nor base64";
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json(), json!({ "status": 400, "reason": reason }));
    let refused = server.post(&session, &[NDJSON], b"[\"1\",\xff]").await;
    let reason = "the body is not UTF-8 from byte 5 on";
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json(), json!({ "status": 400, "reason": reason }));

    let echo = r#"["1","3","conf:a","echo",{}]"#;
    let posted = server.post(&session, &[NDJSON], echo.as_bytes()).await;
    assert_eq!(posted.json(), json!({ "status": 200 }));
    let polled = server.get(&session, &[]).await;
    let response = json!({ "status": "ok", "response": {} });
    assert_eq!(
        polled.messages(),
        [json!(["1", "3", "conf:a", "phx_reply", response])],
        "the session goes on, and the good line of the bad body was not taken"
    );
}

#[tokio::test]
async fn a_body_may_be_as_large_as_a_frame_and_no_larger() {
    let mut config = Config::default();
    config.wire.max_frame_bytes = 1000;
    let server = Server::start(config).await;
    let session = server.join("conf:a").await;
    let echo = |bytes: usize| {
        let rest = r#"["1","2","conf:a","echo",{"x":""}]"#.len();
        let filling = "x".repeat(bytes - rest);
        format!(r#"["1","2","conf:a","echo",{{"x":"{filling}"}}]"#)
    };
    let refused = server
        .post(&session, &[NDJSON], echo(1001).as_bytes())
        .await;
    let reason = "the body has more than the 1000 bytes that are taken at once";
    assert_eq!(refused.status, 413);
    assert_eq!(refused.json(), json!({ "status": 413, "reason": reason }));
    let posted = server
        .post(&session, &[NDJSON], echo(1000).as_bytes())
        .await;
    assert_eq!(posted.json(), json!({ "status": 200 }));
    let polled = server.get(&session, &[]).await;
    assert_eq!(polled.messages()[0][4]["status"], "ok");
}

#[tokio::test]
async fn a_body_may_hold_a_thousand_messages_and_no_more() {
    let server = Server::start(Config::default()).await;
    let session = server.join("conf:a").await;
    let lines = |count: u32| -> String {
        let line = |r: u32| format!("[\"1\",\"{r}\",\"conf:a\",\"noreply\",{{}}]\n");
        (0..count).map(line).collect()
    };
    let refused = server
        .post(&session, &[NDJSON], lines(1001).as_bytes())
        .await;
    let reason = "the body has more than the 1000 messages that are taken at once";
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json(), json!({ "status": 400, "reason": reason }));
    let posted = server
        .post(&session, &[NDJSON], lines(1000).as_bytes())
        .await;
    assert_eq!(posted.json(), json!({ "status": 200 }));
}

#[tokio::test]
async fn a_session_lasts_while_it_is_polled_even_if_its_client_sends_nothing() {
    let config = Config {
        poll_window: Duration::from_secs(2),
        idle_timeout: Duration::from_millis(500),
        ..Config::default()
    };
    let server = Server::start(config).await;
    let session = server.join("conf:a").await;
    let polled = server.get(&session, &[]).await;
    assert_eq!(polled.json()["status"], 204);
    let posted = server
        .post(&session, &[NDJSON], br#"["1","2","conf:a","ok",{}]"#)
        .await;
    assert_eq!(posted.json(), json!({ "status": 200 }));
}

#[tokio::test]
async fn a_session_lasts_while_it_is_polled_however_much_it_is_sent() {
    let config = Config {
        idle_timeout: Duration::from_millis(500),
        ..Config::default()
    };
    let server = Server::start(config).await;
    let (listens, speaks) = (server.join("conf:a").await, server.join("conf:a").await);
    let since = tokio::time::Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        let shout = br#"["1","2","conf:a","shout",{}]"#;
        let posted = server.post(&speaks, &[NDJSON], shout).await;
        assert_eq!(posted.json(), json!({ "status": 200 }));
        for session in [&listens, &speaks] {
            let polled = server.get(session, &[]).await;
            assert_eq!(polled.json()["status"], 200);
        }
    }
}

#[tokio::test]
async fn a_session_that_is_not_polled_ends_and_its_presences_leave() {
    let config = Config {
        poll_window: Duration::from_secs(1),
        ..Config::default()
    };
    let server = Server::start(config).await;
    let abandoned = server.join("conf:a").await;
    let track = br#"["1","2","conf:a","track",{"key":"ann","meta":{}}]"#;
    let posted = server.post(&abandoned, &[NDJSON], track).await;
    assert_eq!(posted.json(), json!({ "status": 200 }));
    // A message is no poll.
    let ended = async {
        loop {
            let noreply = br#"["1","3","conf:a","noreply",{}]"#;
            let posted = server.post(&abandoned, &[NDJSON], noreply).await.json();
            if posted["status"] == 410 {
                return;
            }
            assert_eq!(posted["status"], 200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, ended).await.unwrap();
    let session = server.join("conf:a").await;
    let list = br#"["1","2","conf:a","list",{}]"#;
    server.post(&session, &[NDJSON], list).await;
    let listed = server.get(&session, &[]).await;
    assert_eq!(
        listed.messages()[0][4]["response"],
        json!({ "presences": {} })
    );
}

#[tokio::test]
async fn an_open_poll_ends_when_the_server_stops() {
    let config = Config {
        poll_window: Duration::from_secs(600),
        ..Config::default()
    };
    let server = Server::start(config).await;
    let session = server.join("conf:a").await;
    let request = format!("GET /socket/longpoll?{session} HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut poll = TcpStream::connect(server.address).await.unwrap();
    poll.write_all(request.as_bytes()).await.unwrap();
    // Connections are served in turn: once a later one is answered, the poll is open.
    server.begin("vsn=2.0.0").await;
    server.system.request_stop();
    let ended = async {
        let mut answer = String::new();
        poll.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(r#"{"status":410}"#), "{answer:?}");
        server.serving.await.unwrap();
    };
    tokio::time::timeout(LIMIT, ended).await.unwrap();
}

#[tokio::test]
async fn a_page_of_another_origin_may_poll_and_post() {
    let server = Server::start(Config::default()).await;
    let asked = [
        "origin: http://elsewhere.example",
        "access-control-request-method: POST",
        "access-control-request-headers: content-type, x-phoenix-longpoll-token",
    ];
    let allowed = server.request("OPTIONS", "vsn=2.0.0", &asked, b"").await;
    assert_eq!(allowed.status, 200);
    let expected = [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "GET, POST, OPTIONS"),
        (
            "access-control-allow-headers",
            "content-type, x-phoenix-longpoll-token",
        ),
        ("access-control-max-age", "3600"),
    ];
    for (name, value) in expected {
        assert_eq!(allowed.header(name), Some(value), "{name}");
    }
    let begun = server.get("vsn=2.0.0", &asked[..1]).await;
    assert_eq!(begun.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn another_method_is_a_bad_request() {
    let server = Server::start(Config::default()).await;
    let refused = server.request("PUT", "vsn=2.0.0", &[], b"").await;
    assert_eq!(refused.status, 400);
    let reason = "long polling knows GET, POST and OPTIONS";
    assert_eq!(refused.json(), json!({ "status": 400, "reason": reason }));
}

/// The conformance application on a loopback port.
struct Server {
    address: SocketAddr,
    system: System,
    tokens: Tokens,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start(config: Config) -> Self {
        let system = System::new();
        let listener = system.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let node = Node::start(Arc::new(system.clone()), config).unwrap();
        let tokens = Tokens::new(&app::conformance::secret_key_base()).unwrap();
        let router = app::conformance(&node, tokens.clone());
        let serving = tokio::spawn(async move {
            serve::serve(&node, listener, router).await;
        });
        Self {
            address,
            system,
            tokens,
            serving,
        }
    }

    fn sign(&self, user: &str) -> String {
        let now = self.system.unix_time().as_millis();
        self.tokens.sign(user, i64::try_from(now).unwrap()).unwrap()
    }

    /// Begins a session and returns its token.
    async fn begin(&self, query: &str) -> String {
        let begun = self.get(query, &[]).await.json();
        assert_eq!(begun["status"], 410, "{begun}");
        assert_eq!(begun["messages"], json!([]));
        begun["token"].as_str().unwrap().into()
    }

    /// Begins a session that joins a topic, and returns the query of its requests.
    async fn join(&self, topic: &str) -> String {
        let token = self.begin("vsn=2.0.0").await;
        let session = format!("vsn=2.0.0&token={token}");
        let join = format!(r#"["1","1","{topic}","phx_join",{{}}]"#);
        let posted = self.post(&session, &[NDJSON], join.as_bytes()).await;
        assert_eq!(posted.json(), json!({ "status": 200 }));
        let joined = self.get(&session, &[]).await;
        assert_eq!(joined.messages()[0][4]["status"], "ok");
        session
    }

    async fn get(&self, query: &str, headers: &[&str]) -> Answer {
        self.request("GET", query, headers, b"").await
    }

    async fn post(&self, query: &str, headers: &[&str], body: &[u8]) -> Answer {
        self.request("POST", query, headers, body).await
    }

    async fn request(&self, method: &str, query: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut request = format!(
            "{method} /socket/longpoll?{query} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n",
            self.address,
            body.len()
        );
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request = [request.as_bytes(), body].concat();
            stream.write_all(&request).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            Answer::parse(&answer)
        };
        let answered = tokio::time::timeout(LIMIT, exchange).await;
        answered.unwrap_or_else(|_| panic!("no answer to {method} {query}"))
    }
}
