//! The recorded wire transcripts, replayed against the embedded server; and proof that a replay can
//! fail.

use conformance::fixtures;
use conformance::replay::{Mismatch, Server, Transcript, replay};

fn recorded(name: &str) -> &'static str {
    let found = fixtures::ALL.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no recording {name}")).1
}

async fn embedded(text: &str) -> Option<Mismatch> {
    replay(
        &Transcript::parse(text).expect("a transcript"),
        &Server::Embedded,
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_transcript_is_answered_as_by_phoenix() {
    let mut running = tokio::task::JoinSet::new();
    for &(name, text) in fixtures::ALL {
        if name.starts_with("wire/") {
            running.spawn(async move { (name, embedded(text).await) });
        }
    }
    assert_eq!(running.len(), 65);
    let done = running.join_all().await;
    let failed: Vec<_> = done
        .iter()
        .filter(|(_, mismatch)| mismatch.is_some())
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test]
async fn another_answer_than_the_recorded_one_is_reported_with_its_line() {
    let text = recorded("wire/join-ok.jsonl");
    let changed = text.replace("\"status\": \"ok\"", "\"status\": \"error\"");
    assert_ne!(text, changed);
    let mismatch = embedded(&changed).await.unwrap();
    assert_eq!(mismatch.line, 3);
    let (expected, received) = &mismatch.frames["a"];
    assert_eq!((expected.len(), received.len()), (1, 1));
    assert_ne!(expected, received);
}

#[tokio::test]
async fn a_frame_that_no_step_expects_is_reported() {
    let text = recorded("wire/heartbeat.jsonl");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = &lines[2];
    let at = line.find("\"then\"").unwrap();
    lines[2] = format!("{}\"then\": {{}}}}", &line[..at]);
    let mismatch = embedded(&lines.join("\n")).await.unwrap();
    assert_eq!(mismatch.line, 3);
    let (expected, received) = &mismatch.frames["a"];
    assert!(expected.is_empty() && received.len() == 1);
}

#[test]
fn what_is_no_transcript_is_named_by_its_line() {
    let of = |text: &str| Transcript::parse(text).unwrap_err().to_string();
    assert!(of("").starts_with("line 1: "));
    assert!(of("{}").starts_with("line 1: case is missing"));
    let head = r#"{"case": "c", "title": "t"}"#;
    assert!(
        of(&format!("{head}\n{{\"do\": {{}}, \"then\": {{}}}}"))
            .starts_with("line 2: do names nothing")
    );
    assert!(of(&format!("{head}\n\n{{\"do\": {{}}}}")).starts_with("line 3: then must be"));
    assert!(of(&format!("{head}\nnonsense")).starts_with("line 2: not a JSON object"));
}
