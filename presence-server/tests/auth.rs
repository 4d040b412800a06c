//! Sign-in to the guide: who is let in, under which name, and what everyone else is told.

#![allow(clippy::unwrap_used)] // A test may panic, and so may what builds its data.

mod program;

use presence_core::token::{self, MaxAge, Term};
use presence_server::env::{Environment as _, System};
use serde_json::{Value, json};

use program::{Client, Program};

const SECRET: &str = "a secret that only this test knows";
const DAY_MS: i64 = 86_400_000;

fn guarded() -> Program {
    Program::start(&["--auth", "--secret-key-base", SECRET])
}

/// A token signed some days ago, as Phoenix.Token signs it.
fn token(secret: &str, data: &Term, days_ago: i64) -> String {
    let now = System::new().unix_time();
    let signed_at = i64::try_from(now.as_millis()).unwrap() - days_ago * DAY_MS;
    token::sign(secret, "user socket", data, signed_at, MaxAge::DEFAULT).unwrap()
}

async fn sign_in(program: &Program, name: &str) -> String {
    let body = json!({ "name": name }).to_string();
    let (status, answer) = program.post("/sign-in", &body).await;
    assert_eq!(status, 200, "{answer}");
    answer["token"].as_str().unwrap().to_owned()
}

async fn check(program: &Program, token: &str) -> Value {
    let body = json!({ "token": token }).to_string();
    let (status, verdict) = program.post("/guide/check-token", &body).await;
    assert_eq!(status, 200);
    verdict
}

/// Joins the lobby and claims a name there; who is listed.
async fn listed(client: &mut Client, claimed: &str) -> Vec<String> {
    let answer = client.join("room:lobby", &json!({ "name": claimed })).await;
    assert_eq!(answer["status"], "ok");
    let state = client.event("presence_state").await;
    state.as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn the_room_tracks_the_user_of_the_token_whatever_name_is_claimed() {
    let program = guarded();
    let token = sign_in(&program, " Alice ").await;
    assert_eq!(
        check(&program, &token).await,
        json!({ "ok": true, "name": "Alice" })
    );
    let query = format!("token={token}&name=Mallory");
    let mut client = program.connect(&query).await.unwrap();
    assert_eq!(listed(&mut client, "Mallory").await, ["Alice"]);

    client
        .send(&json!(["1", "2", "room:lobby", "status", { "status": "away" }]))
        .await;
    assert_eq!(client.event("phx_reply").await["status"], "ok");
    let mut other = program.connect(&query).await.unwrap();
    other.join("room:lobby", &json!({})).await;
    let state = other.event("presence_state").await;
    assert_eq!(state["Alice"]["metas"].as_array().unwrap().len(), 2);
    assert_eq!(state["Alice"]["metas"][0]["status"], "away");
}

#[tokio::test]
async fn the_token_may_come_as_the_auth_token_of_phoenix_js_too() {
    let program = guarded();
    let token = sign_in(&program, "Alice").await;
    let coded = base64_url(&token);
    let protocols = format!("phoenix, base64url.bearer.phx.{coded}");
    let mut client = program.connect_with("", Some(&protocols)).await.unwrap();
    assert_eq!(listed(&mut client, "Mallory").await, ["Alice"]);

    let header = [("x-phoenix-authtoken", &*token)];
    let path = "/socket/longpoll?vsn=2.0.0";
    let (_, begun) = program.request("GET", path, &header, "").await;
    assert!(begun.starts_with(r#"{"status":410,"token":"#), "{begun}");
}

fn base64_url(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

#[tokio::test]
async fn a_token_of_another_phoenix_application_with_the_same_secret_is_good() {
    let program = guarded();
    let token = token(SECRET, &Term::from(7), 13);
    assert_eq!(
        check(&program, &token).await,
        json!({ "ok": true, "name": "7" })
    );
    let mut client = program.connect(&format!("token={token}")).await.unwrap();
    assert_eq!(listed(&mut client, "Mallory").await, ["7"]);
}

#[tokio::test]
async fn without_a_good_token_nobody_is_let_in_and_the_page_can_ask_why() {
    let program = guarded();
    let alice = Term::from("Alice");
    let good = token(SECRET, &alice, 0);
    let (forged_end, forged_middle) = (format!("{good}A"), good.replacen('.', ".A", 1));
    let cases = [
        ("", "missing"),
        ("nonsense", "invalid"),
        (&*forged_end, "invalid"),
        (&*forged_middle, "invalid"),
        (&*token("the secret of somebody else", &alice, 0), "invalid"),
        (&*token(SECRET, &alice, -1), "invalid"),
        (
            &*token(SECRET, &Term::List(vec![alice.clone()]), 0),
            "invalid",
        ),
        (&*token(SECRET, &alice, 15), "expired"),
    ];
    for (token, reason) in cases {
        let verdict = check(&program, token).await;
        assert_eq!(verdict, json!({ "ok": false, "reason": reason }), "{token}");
        let query = format!("token={token}");
        assert_eq!(program.connect(&query).await.err(), Some(403), "{token}");
        let path = format!("/socket/longpoll?vsn=2.0.0&{query}");
        let (status, answer) = program.get(&path).await;
        assert_eq!((status, &*answer), (200, r#"{"status":403}"#), "{token}");
    }
    assert_eq!(program.connect("name=Alice").await.err(), Some(403));
    let mut client = program.connect(&format!("token={good}")).await.unwrap();
    assert_eq!(listed(&mut client, "").await, ["Alice"]);
}

#[tokio::test]
async fn what_cannot_be_read_is_no_token() {
    let program = guarded();
    for (body, reason) in [
        ("", "invalid"),
        ("[]", "invalid"),
        (r#"{"token": 7}"#, "invalid"),
        ("{}", "missing"),
        (r#"{"token": null}"#, "missing"),
    ] {
        let (status, verdict) = program.post("/guide/check-token", body).await;
        let expected = json!({ "ok": false, "reason": reason });
        assert_eq!((status, verdict), (200, expected), "{body}");
    }
}

#[tokio::test]
async fn a_token_is_good_for_as_long_as_the_flag_says() {
    let old = token(SECRET, &Term::from("Alice"), 20);
    let args = ["--auth", "--secret-key-base", SECRET, "--token-max-age"];
    let long = Program::start(&[&args[..], &["30d"]].concat());
    assert_eq!(check(&long, &old).await["ok"], true);
    let short = Program::start(&[&args[..], &["19d"]].concat());
    assert_eq!(check(&short, &old).await["reason"], "expired");
}

#[tokio::test]
async fn sign_in_says_what_is_wrong_with_a_name() {
    let program = guarded();
    let long = json!({ "name": "é".repeat(41) }).to_string();
    let huge = json!({ "name": "x".repeat(100_000) }).to_string();
    let no_json = r#"the request must be JSON such as {"name": "Alice"}"#;
    for (body, expected, reason) in [
        (r#"{"name": "  "}"#, 400, "a name is needed"),
        (&*long, 400, "the name has 41 characters, more than 40"),
        (
            r#"{"name": "a\u0000b"}"#,
            400,
            "the name holds a control character",
        ),
        (r#"{"name": 7}"#, 400, no_json),
        ("{}", 400, no_json),
        ("name=Alice", 400, no_json),
        ("", 400, no_json),
    ] {
        let (status, answer) = program.post("/sign-in", body).await;
        assert_eq!(
            (status, &answer),
            (expected, &json!({ "reason": reason })),
            "{body}"
        );
    }
    let (status, answer) = program.post("/sign-in", &huge).await;
    assert_eq!(status, 413);
    let reason = answer["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("the request cannot be read: "),
        "{reason}"
    );
    assert_eq!(program.get("/sign-in").await.0, 405);
}

#[tokio::test]
async fn without_a_secret_tokens_end_with_the_process_and_the_log_says_so() {
    let first = Program::start(&["--auth"]);
    let token = sign_in(&first, "Alice").await;
    assert_eq!(check(&first, &token).await["ok"], true);
    first.signal("TERM");
    let ended = first.ended().await;
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains("tokens are signed with a random secret")
    );

    let second = Program::start(&["--auth"]);
    assert_eq!(check(&second, &token).await["reason"], "invalid");
}

#[tokio::test]
async fn a_secret_may_be_in_a_file_and_tokens_outlive_the_process() {
    let path = format!("{}/secret", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    let program = Program::start(&["--auth", "--secret-key-base-file", &path]);
    let token = sign_in(&program, "Alice").await;
    program.signal("TERM");
    assert_eq!(program.ended().await.stderr, "");
    assert_eq!(check(&guarded(), &token).await["name"], "Alice");
}

#[tokio::test]
async fn the_page_is_told_whether_to_ask_for_a_token() {
    let config = |auth| json!({ "auth": auth, "longpoll_fallback_ms": null });
    let said = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let path = "/guide/config.json";
    assert_eq!(said(guarded().get(path).await.1), config(true));

    for (value, auth) in [("true", true), ("0", false)] {
        let variables = [("PRESENCE_PORT", "0"), ("PRESENCE_AUTH", value)];
        let program = Program::start_with(&[], &variables);
        assert_eq!(said(program.get(path).await.1), config(auth));
    }

    let open = Program::start(&[]);
    assert_eq!(said(open.get(path).await.1), config(false));
    assert_eq!(open.post("/sign-in", r#"{"name": "Alice"}"#).await.0, 404);
    let mut client = open.connect("").await.unwrap();
    assert_eq!(listed(&mut client, "Alice").await, ["Alice"]);
}
