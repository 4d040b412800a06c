//! The program as whoever runs it meets it: its flags, its words, its exit codes, its end.

#![allow(clippy::unwrap_used)] // A test may panic, and so may what builds its data.

mod program;

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use program::{Ended, Program, patient, run};

/// So long that no test waits for it.
const NO_LIMIT: &str = "--shutdown-timeout=1h";

#[test]
fn help_names_each_flag_with_its_variable_and_default() {
    let ended = run(
        &["--help"],
        &[
            ("PRESENCE_SECRET_KEY_BASE", "not to be shown"),
            ("PRESENCE_CLUSTER_SECRET", "not to be shown"),
        ],
    );
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    assert!(!ended.stdout.contains("not to be shown"));
    for said in [
        "--port <PORT>",
        "[PRESENCE_PORT, default 4000]",
        "[PRESENCE_TOKEN_MAX_AGE, default 14d]",
        "[PRESENCE_MAX_FRAME, default 8MiB]",
        "[PRESENCE_SHUTDOWN_TIMEOUT, default 30s]",
        "[PRESENCE_CLUSTER_SECRET]",
        "[PRESENCE_BROADCAST_PERIOD, default 1500ms]",
        "[PRESENCE_PERMDOWN_PERIOD, default 20m]",
        "Exit code: 0 after a stop, 2 if it cannot start.",
    ] {
        assert!(ended.stdout.contains(said), "{said}\n{}", ended.stdout);
    }
}

/// Each flag takes its value from the variable of its name, and all of them are in the help.
#[test]
fn variables_are_named_after_their_flags() {
    let help = run(&["--help"], &[]).stdout;
    let flags: Vec<_> = help
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("--"))
        .filter(|flag| !["help", "version", "app"].contains(flag))
        .collect();
    assert!(flags.len() > 35, "{flags:?}");
    for flag in flags {
        let variable = format!("PRESENCE_{}", flag.to_uppercase().replace('-', "_"));
        assert!(help.contains(&format!("[{variable}")), "{variable}\n{help}");
    }
}

/// Runs the program, which must end at once with code 2 and these words first.
fn refused(args: &[&str], variables: &[(&str, &str)], said: &str) -> Ended {
    let ended = run(args, variables);
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{args:?}");
    assert!(ended.stderr.starts_with(said), "{args:?}\n{}", ended.stderr);
    ended
}

#[test]
fn a_bad_flag_or_variable_is_named_and_ends_with_code_2() {
    type Case = (
        &'static [&'static str],
        &'static [(&'static str, &'static str)],
        &'static str,
    );
    let cases: [Case; 14] = [
        (&["--frob"], &[], "unexpected argument '--frob' found"),
        (&["guide"], &[], "unexpected argument 'guide' found"),
        (
            &["--port=70000"],
            &[],
            "invalid value '70000' for '--port <PORT>': write a number from 0 to 65535",
        ),
        (
            &[],
            &[("PRESENCE_PORT", "x")],
            "invalid value 'x' for 'PRESENCE_PORT': write a number from 0 to 65535",
        ),
        (
            &["--port", "y"],
            &[("PRESENCE_PORT", "1")],
            "invalid value 'y' for '--port <PORT>'",
        ),
        (
            &[],
            &[("PRESENCE_AUTH", "maybe")],
            "invalid value 'maybe' for 'PRESENCE_AUTH': write true or false",
        ),
        (
            &["--app=chat"],
            &[],
            "invalid value 'chat' for '--app <APP>'",
        ),
        (
            &["--log=loud"],
            &[],
            "invalid value 'loud' for '--log <FILTER>': \"loud\" is no level",
        ),
        (
            &["--log=presence_server=loud"],
            &[],
            "invalid value 'presence_server=loud' for '--log <FILTER>'",
        ),
        (
            &[],
            &[("PRESENCE_LOG_FORMAT", "xml")],
            "invalid value 'xml' for 'PRESENCE_LOG_FORMAT'",
        ),
        (
            &["--max-frame=0"],
            &[],
            "invalid value '0' for '--max-frame <SIZE>': it must be at least one byte",
        ),
        (
            &["--max-key=64KiB"],
            &[],
            "invalid value '64KiB' for '--max-key <SIZE>': a key has at most 32767 bytes",
        ),
        (
            &["--token-max-age=never"],
            &[],
            "invalid value 'never' for '--token-max-age <TIME>': write a time such as",
        ),
        (
            &["--secret-key-base=a", "--secret-key-base-file=b"],
            &[],
            "the argument '--secret-key-base <SECRET>' cannot be used with '--secret-key-base-file <FILE>'",
        ),
    ];
    for (args, variables, said) in cases {
        refused(args, variables, &format!("error: {said}"));
    }
}

#[test]
fn a_bad_flag_of_a_cluster_is_named_and_ends_with_code_2() {
    type Case = (
        &'static [&'static str],
        &'static [(&'static str, &'static str)],
        &'static str,
    );
    let cases: [Case; 13] = [
        (
            &["--cluster-bind=127.0.0.1:0"],
            &[],
            "the following required arguments were not provided:\n  --node <NAME>\n  <--cluster-secret <SECRET>|--cluster-secret-file <FILE>>",
        ),
        // Alone it would not be noticed that the node is alone.
        (
            &["--node=a", "--join=b:1"],
            &[],
            "the following required arguments were not provided:\n  --cluster-bind <HOST:PORT>",
        ),
        (
            &["--node=a"],
            &[("PRESENCE_CLUSTER_SECRET", "sixteen bytes of")],
            "the following required arguments were not provided:\n  --cluster-bind <HOST:PORT>",
        ),
        (
            &["--cluster-secret=a", "--cluster-secret-file=b"],
            &[],
            "the argument '--cluster-secret <SECRET>' cannot be used with '--cluster-secret-file <FILE>'",
        ),
        (
            &["--cluster-bind=127.0.0.1"],
            &[],
            "invalid value '127.0.0.1' for '--cluster-bind <HOST:PORT>': write HOST:PORT, such as ",
        ),
        (
            &[],
            &[("PRESENCE_JOIN", "a:1,b")],
            "invalid value 'b' for 'PRESENCE_JOIN': write HOST:PORT, such as ",
        ),
        (
            &["--cluster-advertise=a:b"],
            &[],
            "invalid value 'a:b' for '--cluster-advertise <HOST:PORT>': write HOST:PORT, such as ",
        ),
        (
            &["--node="],
            &[],
            "invalid value '' for '--node <NAME>': a name has 1 to 255 bytes",
        ),
        (
            &["--node=a\nb"],
            &[],
            "invalid value 'a\nb' for '--node <NAME>': a name has 1 to 255 bytes",
        ),
        (
            &[],
            &[("PRESENCE_BROADCAST_PERIOD", "soon")],
            "invalid value 'soon' for 'PRESENCE_BROADCAST_PERIOD': write a time such as 500ms, 30s, 5m, 12h or 14d; a bare number is milliseconds",
        ),
        (
            &["--down-period=0"],
            &[],
            "invalid value '0' for '--down-period <MS>': it must be more than zero",
        ),
        (
            &["--pool-size=65537"],
            &[],
            "invalid value '65537' for '--pool-size <COUNT>': write a whole number from 1 to 65536",
        ),
        (
            &["--handover", "--permdown-on-shutdown"],
            &[],
            "the argument '--handover' cannot be used with '--permdown-on-shutdown'",
        ),
    ];
    for (args, variables, said) in cases {
        let ended = refused(args, variables, &format!("error: {said}"));
        assert!(!ended.stderr.contains("sixteen bytes of"));
    }
}

#[test]
fn what_keeps_it_from_starting_is_told_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    // Too long for a label of a name, so that nobody is asked for it.
    let host = "x".repeat(70);
    let taken_by_node = format!("--cluster-bind=127.0.0.1:{port}");
    let [node, bind, secret] = [
        "--node=a",
        "--cluster-bind=127.0.0.1:0",
        "--cluster-secret=sixteen bytes of",
    ];
    let cases: [(&[&str], String); 12] = [
        (
            &["--port", &port],
            format!("cannot listen on 127.0.0.1:{port}: the port is in use; --port takes another, and 0 a free one\n"),
        ),
        (
            &["--host", &host],
            format!("the host {host:?} has no address: "),
        ),
        (
            &["--auth", "--secret-key-base=short", "--port=0"],
            "the secret key base has 5 bytes, fewer than 20 (--secret-key-base or --secret-key-base-file)\n".into(),
        ),
        (
            &["--auth", "--secret-key-base-file=/nowhere/secret", "--port=0"],
            "the secret key base cannot be read from /nowhere/secret: ".into(),
        ),
        (
            &["--auth", "--secret-key-base-file=/dev/null", "--port=0"],
            "the secret key base has 0 bytes, fewer than 20".into(),
        ),
        (
            &["--auth", "--app=conformance", "--port=0"],
            "--auth is for --app guide: ".into(),
        ),
        (
            &["--port=0", node, &taken_by_node, secret],
            format!("cannot await other nodes on 127.0.0.1:{port}: the port is in use; --cluster-bind takes another\n"),
        ),
        (
            &["--port=0", node, bind, "--cluster-secret=short"],
            "the secret has 5 bytes, fewer than 16 (--cluster-secret or --cluster-secret-file)\n".into(),
        ),
        (
            &["--port=0", node, bind, "--cluster-secret-file=/nowhere/secret"],
            "the cluster's secret cannot be read from /nowhere/secret: ".into(),
        ),
        (
            &["--port=0", "--broadcast-period=1000", "--down-period=12000"],
            "down_period is 12s, but an idle replica speaks every max_silent_periods + 1 = 11 periods of 1s: it must be more than 12s\n".into(),
        ),
        (
            &["--port=0", "--permdown-period=30000"],
            "permdown_period is 30s, but must be more than down_period, 30s\n".into(),
        ),
        (
            &["--port=0", "--journal=/dev/null/journal"],
            "journals cannot be written to /dev/null/journal: ".into(),
        ),
    ];
    for (args, said) in cases {
        let ended = refused(args, &[], &format!("presence-server: {said}"));
        assert_eq!(
            ended.stderr.lines().count(),
            1,
            "{args:?}\n{}",
            ended.stderr
        );
    }
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_in_one_line() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("certificates");
    std::fs::create_dir_all(&folder).unwrap();
    let key = KeyPair::generate().unwrap();
    let signed = CertificateParams::new(["b.test".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("b.pem", signed.self_signed(&key).unwrap().pem());
    let key = file("b.key", key.serialize_pem());
    let cases = [
        (
            [&*good, &key, "/nowhere/ca"],
            "the CA's certificate cannot be read from /nowhere/ca: ".to_owned(),
        ),
        (
            [&key, &key, &good],
            format!("the node's certificate is missing: there is no PEM section of a CERTIFICATE ({key})\n"),
        ),
        (
            [&good, "/dev/null", &good],
            "the node's key is missing: there is no PEM section of a PRIVATE KEY that is not encrypted (/dev/null)\n".to_owned(),
        ),
        (
            [&good, &key, &good],
            "the node's name is \"a.test\", and its certificate is for \"b.test\"\n".to_owned(),
        ),
    ];
    for ([certificate, key, ca], said) in cases {
        let args = [
            "--port=0",
            "--node=a.test",
            "--cluster-bind=127.0.0.1:0",
            "--cluster-secret=of these tests alone",
            "--cluster-cert",
            certificate,
            "--cluster-key",
            key,
        ];
        let ended = run(&args, &[("PRESENCE_CLUSTER_CA", ca)]);
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""));
        let said = format!("presence-server: {said}");
        assert!(ended.stderr.starts_with(&said), "{said}{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        for missing in [4..6, 6..8] {
            let mut args = args.to_vec();
            args.drain(missing);
            let ended = run(&args, &[("PRESENCE_CLUSTER_CA", ca)]);
            assert_eq!(ended.code, Some(2));
            let said = "error: the following required arguments were not provided:\n  --cluster-";
            assert!(ended.stderr.starts_with(said), "{}", ended.stderr);
        }
        let ended = run(&args, &[]);
        assert!(
            ended.stderr.contains("--cluster-ca <FILE>"),
            "{}",
            ended.stderr
        );
    }
}

#[tokio::test]
async fn one_line_says_where_it_listens() {
    let program = Program::start(&[]);
    let port = program.address.port();
    assert_ne!(port, 0);
    let line = format!("listening on http://127.0.0.1:{port}/?name=Alice\n");
    assert_eq!(program.line, line);
    let (status, page) = program.get("/?name=Alice").await;
    assert!(status == 200 && page.starts_with("<!doctype html>"));
    program.signal("TERM");
    let ended = program.ended().await;
    assert_eq!(
        (ended.code, &*ended.stdout, &*ended.stderr),
        (Some(0), "", "")
    );
}

#[tokio::test]
async fn variables_stand_for_flags() {
    let variables = [("PRESENCE_PORT", "0"), ("PRESENCE_APP", "conformance")];
    let program = Program::start_with(&["--host=localhost"], &variables);
    assert_eq!(
        program.line,
        format!("listening on http://{}\n", program.address)
    );
    let mut client = program.connect("").await.unwrap();
    let answer = client
        .join("conf:1", &json!({ "reply": { "hello": 1 } }))
        .await;
    assert_eq!(answer["response"], json!({ "hello": 1 }));
}

#[tokio::test]
async fn limits_are_those_that_were_given() {
    let program = Program::start(&["--max-channels=1", "--max-frame=1KiB"]);
    let mut client = program.connect("").await.unwrap();
    let name = json!({ "name": "Alice" });
    assert_eq!(client.join("room:1", &name).await["status"], "ok");
    let second = json!(["2", "2", "room:2", "phx_join", name]);
    client.send(&second).await;
    assert_eq!(client.event("phx_reply").await["status"], "error");

    let beat = |len| json!([null, "1", "phoenix", "heartbeat", { "long": "x".repeat(len) }]);
    client.send(&beat(900)).await;
    assert_eq!(client.event("phx_reply").await["status"], "ok");
    client.send(&beat(1100)).await;
    // The frame is too large (1009), or the connection broke before that was heard.
    assert!([1009, 1006].contains(&client.close_code().await));
}

#[tokio::test]
async fn a_stop_closes_sockets_with_1012_and_ends_polls() {
    for signal in ["TERM", "INT"] {
        let program = Program::start(&[NO_LIMIT, "--poll-window=1h"]);
        let mut joined = program.connect("").await.unwrap();
        let answer = joined.join("room:lobby", &json!({ "name": "Alice" })).await;
        assert_eq!(answer["status"], "ok");
        let mut silent = program.connect("").await.unwrap();
        // A connection without a request, and one that was used and is kept.
        let _unused = program.tcp().await;
        let mut kept = program.tcp().await;
        let request = b"GET /guide/config.json HTTP/1.1\r\nhost: localhost\r\n\r\n";
        kept.write_all(request).await.unwrap();
        assert_ne!(kept.read(&mut [0; 1024]).await.unwrap(), 0);

        let (_, begun) = program.get("/socket/longpoll?vsn=2.0.0").await;
        let begun: Value = serde_json::from_str(&begun).unwrap();
        let path = format!(
            "/socket/longpoll?vsn=2.0.0&token={}",
            begun["token"].as_str().unwrap()
        );
        let mut poll = program.tcp().await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        poll.write_all(request.as_bytes()).await.unwrap();
        program.settle().await;

        program.signal(signal);
        assert_eq!(joined.close_code().await, 1012);
        assert_eq!(silent.close_code().await, 1012);
        let mut answer = String::new();
        patient(poll.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.ends_with("{\"status\":410}"), "{answer}");
        let ended = program.ended().await;
        assert_eq!(
            (ended.code, &*ended.stdout, &*ended.stderr),
            (Some(0), "", "")
        );
    }
}

#[tokio::test]
async fn a_log_of_json_is_an_object_a_line() {
    let flags = ["--log=info", "--log-format=json", "--app=conformance"];
    let program = Program::start(&flags);
    let address = program.address.to_string();
    let mut client = program.connect("").await.unwrap();
    let answer = client.join("conf:1", &json!({ "crash": true })).await;
    assert_eq!(answer["status"], "error");
    program.signal("TERM");
    let ended = program.ended().await;
    let said = |line| serde_json::from_str::<Value>(line).unwrap();
    let said: Vec<_> = ended.stderr.lines().map(said).collect();
    let find = |message: &str| {
        let found = said.iter().find(|said| said["message"] == message);
        found.unwrap_or_else(|| panic!("no {message:?} in {}", ended.stderr))
    };
    assert_eq!(find("listening")["level"], "INFO");
    assert_eq!(find("listening")["address"], *address);
    assert_eq!(find("a channel has panicked")["topic"], "conf:1");
    let error = &find("a panic")["error"];
    assert!(
        error.as_str().unwrap().contains("asked the join to crash"),
        "{error}"
    );
    assert_eq!(find("closing the open sockets")["sockets"], 1);
}

/// Begins a request and does not finish it, which no server can wait for.
async fn half_a_request(program: &Program) -> TcpStream {
    let mut stream = program.tcp().await;
    stream.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    program.settle().await;
    stream
}

#[tokio::test]
async fn what_does_not_end_is_cut_when_the_time_is_over() {
    let program = Program::start(&["--shutdown-timeout=200ms"]);
    let mut half = half_a_request(&program).await;
    program.signal("TERM");
    let ended = program.ended().await;
    assert_eq!((ended.code, &*ended.stdout), (Some(0), ""));
    assert!(
        ended.stderr.contains("what is still open is cut"),
        "{}",
        ended.stderr
    );
    assert!(matches!(half.read(&mut [0]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_client_that_does_not_read_cannot_hold_a_stop_up() {
    let program = Program::start(&[
        "--app=conformance",
        "--max-socket-queue=1GiB",
        "--shutdown-timeout=200ms",
    ]);
    let mut client = program.connect("").await.unwrap();
    client.join("conf:1", &json!({})).await;
    let echo = json!(["1", "2", "conf:1", "echo", { "long": "x".repeat(1 << 20) }]);
    // Until the server waits for us and takes nothing more.
    let taken = Duration::from_secs(1);
    while tokio::time::timeout(taken, client.send(&echo))
        .await
        .is_ok()
    {}
    program.signal("TERM");
    let ended = program.ended().await;
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("what is still open is cut"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let program = Program::start(&[NO_LIMIT]);
    let _half = half_a_request(&program).await;
    program.signal("TERM");
    // Until it has seen the first one, and listens no more.
    let deaf = async { while TcpStream::connect(program.address).await.is_ok() {} };
    patient(deaf).await;
    program.signal("TERM");
    assert_eq!(program.ended().await.code, Some(128 + 15));
}

#[tokio::test]
async fn a_request_that_does_not_come_is_given_up() {
    let program = Program::start(&["--auth", "--request-timeout=100ms"]);
    let head = "POST /sign-in HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n";
    let body = format!("{head}{{\"name\"");
    let whole = "GET /guide/config.json HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for (sent, answered) in [
        ("", ""),
        ("POST /sign-in HT", ""),
        (head, "HTTP/1.1 400 "),
        (&body, "HTTP/1.1 400 "),
        (whole, "HTTP/1.1 200 "),
    ] {
        let mut stream = program.tcp().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        patient(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with(answered), "{sent:?} gave {answer:?}");
    }
    let (status, _) = program.get("/guide/config.json").await;
    assert_eq!(status, 200);
}

/// Two nodes find each other, one with its flags, the other with variables and a secret of a file.
#[tokio::test]
async fn flags_and_variables_make_a_cluster() {
    let file = std::env::temp_dir().join(format!("presence-secret-{}", std::process::id()));
    std::fs::write(&file, " sixteen bytes of\n").unwrap();
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let first = reserved.local_addr().unwrap().to_string();
    drop(reserved);
    let bind = format!("--cluster-bind={first}");
    let a = Program::start(&[
        "--node=a",
        &bind,
        "--cluster-secret=sixteen bytes of",
        "--broadcast-period=100",
        "--log=info",
    ]);
    let file_path = file.display().to_string();
    let variables = [
        ("PRESENCE_PORT", "0"),
        ("PRESENCE_NODE", "b"),
        ("PRESENCE_CLUSTER_BIND", "127.0.0.1:0"),
        ("PRESENCE_JOIN", &first),
        ("PRESENCE_CLUSTER_SECRET_FILE", &file_path),
        ("PRESENCE_BROADCAST_PERIOD", "100"),
        ("PRESENCE_HANDOVER", "true"),
    ];
    let b = Program::start_with(&[], &variables);
    for (node, other) in [(&a, "b"), (&b, "a")] {
        let connected = async {
            loop {
                let (_, cluster) = node.get("/cluster").await;
                let cluster: Value = serde_json::from_str(&cluster).unwrap();
                let peer = &cluster["peers"][0];
                if peer["name"] == other && peer["connected"] == true {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        patient(connected).await;
    }
    std::fs::remove_file(&file).unwrap();
    // A stop is no reason to warn, neither here nor there.
    b.signal("TERM");
    let ended = b.ended().await;
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    // By then it is known that nobody listens there any more.
    tokio::time::sleep(Duration::from_millis(600)).await;
    a.signal("TERM");
    let ended = a.ended().await;
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("a node's process is gone"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("WARN"), "{}", ended.stderr);
}
