//! The recorded cluster cases, replayed against embedded nodes; and proof that a replay can fail.

use conformance::cluster::{Case, Mismatch, replay};
use conformance::fixtures;
use futures_util::StreamExt as _;

/// How many cases run at once: they mostly wait.
const JOBS: usize = 8;

async fn replayed(text: &str) -> Option<Mismatch> {
    replay(&Case::parse(text).expect("a cluster case")).await
}

/// The first lines of a recording, at five times the speed.
fn beginning(name: &str, lines: usize) -> String {
    let found = fixtures::ALL.iter().find(|(known, _)| *known == name);
    let (_, text) = found.unwrap_or_else(|| panic!("no recording {name}"));
    let lines: Vec<&str> = text.lines().take(lines).collect();
    let periods = [
        ("\"broadcast_period\":100,", "\"broadcast_period\":20,"),
        ("\"down_period\":1000,", "\"down_period\":200,"),
    ];
    periods
        .into_iter()
        .fold(lines.join("\n"), |text, (slow, fast)| {
            assert!(text.contains(slow), "{slow}");
            text.replace(slow, fast)
        })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_case_is_seen_as_on_nodes_of_phoenix() {
    let cases = fixtures::ALL
        .iter()
        .filter(|(name, _)| name.starts_with("cluster/"))
        .map(|(name, text)| tokio::spawn(async move { (*name, replayed(text).await) }));
    let cases = futures_util::stream::iter(cases).buffer_unordered(JOBS);
    let done: Vec<_> = cases.map(|done| done.expect("no panic")).collect().await;
    assert_eq!(done.len(), 26);
    let failed: Vec<_> = done
        .iter()
        .filter(|(_, mismatch)| mismatch.is_some())
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test]
async fn another_frame_than_the_recorded_one_is_reported_with_its_line() {
    let text = beginning("cluster/join-across.jsonl", 3);
    let changed = text.replace("\"status\":\"ok\"", "\"status\":\"error\"");
    assert_ne!(text, changed);
    let mismatch = replayed(&changed).await.expect("another status");
    assert_eq!((mismatch.line, mismatch.broken), (3, None));
    assert_eq!(mismatch.frames.len(), 1);
    let (expected, received) = &mismatch.frames["a"];
    assert_eq!(expected.len(), 1);
    assert_eq!(received[0]["text"][4]["status"], "ok");
}

#[tokio::test]
async fn another_presence_than_the_recorded_one_is_reported_by_topic() {
    let text = beginning("cluster/join-across.jsonl", 5);
    let changed = text.replace("\"Bob\":[", "\"Robert\":[");
    let mismatch = replayed(&changed).await.expect("another key");
    assert_eq!(mismatch.line, 5);
    let clients: Vec<_> = mismatch.frames.keys().collect();
    assert_eq!(clients, ["a", "b"]);
    let (expected, received) = &mismatch.frames["a"];
    for (side, key) in [(expected, "Robert"), (received, "Bob")] {
        assert_eq!(side.len(), 1);
        assert_eq!(side[0]["presence"], "room:lobby");
        assert!(side[0]["joins"].get(key).is_some(), "{side:?}");
        // Who is known is shown by the name that the recording has for it.
        assert_eq!(side[0]["list"]["Alice"][0]["phx_ref"], "$ref:1");
    }
}

/// That nodes which are apart do not hear of each other, and those that have met do.
#[tokio::test]
async fn what_comes_from_a_node_that_is_apart_is_missed() {
    let text = beginning("cluster/join-across.jsonl", 5);
    assert_eq!(replayed(&text).await, None);
    let apart = text.replace("\"settings\"", "\"apart\":true,\"settings\"");
    let mismatch = replayed(&apart)
        .await
        .expect("nothing of Bob on the other node");
    assert_eq!(mismatch.line, 5);
    assert_eq!(mismatch.frames["a"].1.len(), 0);
    let meet = r#"{"do":{"meet":["n1","n2"]},"wait":"transfer","then":{}}"#;
    let mut lines: Vec<&str> = apart.lines().collect();
    lines.insert(1, meet);
    assert_eq!(replayed(&lines.join("\n")).await, None);
}

#[tokio::test]
async fn what_cant_be_done_is_reported() {
    let text = beginning("cluster/join-across.jsonl", 2);
    let send = r#"{"do":{"send":"b","text":[]},"wait":"sync","then":{}}"#;
    let mismatch = replayed(&format!("{text}\n{send}")).await;
    let mismatch = mismatch.expect("a client that is not open");
    assert_eq!(mismatch.line, 3);
    assert_eq!(
        mismatch.broken.as_deref(),
        Some("the client \"b\" is not open")
    );
}
