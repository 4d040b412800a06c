//! A journal: what a tracker was told, written down and played again.

use std::time::Duration;

use presence_core::entry::Pid;
use presence_core::presence::{KeyBuf, Meta};
use presence_core::tracker::journal::{Header, Input, JournalError, Outcome, Record};
use presence_core::wire::cluster;

use super::node::Node;
use super::world::{World, config, seconds};

/// A run in which a node is called in every way.
fn eventful() -> World {
    let mut config = config();
    config.chunk_values = 3;
    let mut world = World::with(config, &["a", "b", "c"]);
    let pids = world.track_many("a", "t", "user", 8);
    world.track_many("b", "t", "bot", 4);
    world.now = Duration::from_nanos(1_234_567);
    world.run(seconds(2.3));
    world.update("a", "t", "user1", pids[1], r#"{"n":1.50,"s":"ü\n"}"#);
    assert!(world.untrack("a", "t", "user2", pids[2]));
    assert_eq!(world.untrack_pid("a", pids[3]), 1);
    assert_eq!(world.untrack_pid("a", pids[3]), 0);
    let twice = Input::Track {
        topic: "t".into(),
        pid: pids[4],
        key: "user4".into(),
        meta: Meta::empty(),
    };
    assert!(matches!(world.call("a", twice), Outcome::Tracked(Err(_))));
    let integer = Input::Track {
        topic: "numbers".into(),
        pid: Pid(u64::MAX),
        key: KeyBuf::Integer("12345678901234567890123".into()),
        meta: Meta::empty(),
    };
    assert!(matches!(world.call("a", integer), Outcome::Tracked(Ok(_))));
    let updates = world.node("a").tracker.updates("t", |key, _| {
        Meta::parse(&format!("{{\"k\":{key:?}}}")).ok()
    });
    let topic = "t".into();
    world.call("a", Input::UpdateAll { topic, updates });
    world.cut("a", "b");
    world.untrack_pid("b", Pid(9));
    world.run(seconds(12.0));
    world.heal();
    world.connected("a", "b");
    world.run(seconds(3.0));
    world.gone("a", "c");
    world.run(seconds(7.0));
    world.start("a2", 1);
    world.start("b", 2);
    world.run(seconds(2.0));
    let late = world.last("c", "a", "idle");
    assert!(world.give(&late));
    world.stop("c");
    world.run(seconds(2.0));
    world.stop("a");
    world.run(seconds(2.0));
    world
}

/// Plays a journal again, from its lines.
fn replayed(lines: &[String]) -> Node {
    let header = Header::parse(&lines[0]).unwrap();
    let mut node = Node::new(header);
    for line in &lines[1..] {
        let record = Record::parse(line, &cluster::Limits::default()).unwrap();
        assert_eq!(record.to_string(), *line);
        node.call(record);
    }
    node
}

fn lines(node: &Node) -> Vec<String> {
    let records = node.journal.iter().map(Record::to_line);
    [node.header.to_line()].into_iter().chain(records).collect()
}

/// Guards against: an output that depends on anything but the inputs, and inputs that change as they
/// are written down (a time cut short, a number read as another).
#[test]
fn a_journal_that_is_played_again_gives_the_same_outputs_byte_for_byte() {
    let world = eventful();
    let kinds = |node: &Node| -> std::collections::BTreeSet<_> {
        let kinds = node
            .journal
            .iter()
            .map(|record| std::mem::discriminant(&record.input));
        kinds.map(|kind| format!("{kind:?}")).collect()
    };
    assert_eq!(kinds(world.node("a")).len(), 10, "every input occurs");
    for name in ["a", "b", "c"] {
        let node = world.node(name);
        let again = replayed(&lines(node));
        assert_eq!(again.header, node.header);
        for (again, first) in again.journal.iter().zip(&node.journal) {
            assert_eq!(again, first, "at {name}");
        }
        for (again, first) in again.outputs.iter().zip(&node.outputs) {
            assert_eq!(again, first, "at {name}");
        }
        assert_eq!(again.outputs.len(), node.outputs.len());
        assert_eq!(again.diffs, node.diffs);
        assert_eq!(again.tracker.stats(), node.tracker.stats());
        assert_eq!(
            format!("{:?}", again.tracker),
            format!("{:?}", node.tracker)
        );
    }
}

/// Guards against: an order that comes from a hash table.
#[test]
fn outputs_do_not_depend_on_the_seed_of_the_hash_tables() {
    let world = eventful();
    let node = world.node("a");
    let mut header = node.header.clone();
    header.hash_seed = 0xdead_beef;
    let mut other = Node::new(header);
    node.journal.iter().cloned().for_each(|record| {
        other.call(record);
    });
    assert_eq!(other.outputs, node.outputs);
}

fn error(line: &str) -> String {
    let limits = cluster::Limits::default();
    let error: JournalError = Record::parse(line, &limits).unwrap_err();
    error.to_string()
}

#[test]
fn a_line_that_is_none_of_a_journal_says_what_is_wrong() {
    let cases = [
        (
            "",
            "no line of a journal: EOF while parsing a value at line 1 column 0",
        ),
        (
            r#"{"do":"timeout"}"#,
            "no line of a journal: missing field `at`",
        ),
        (r#"{"at":1}"#, "no line of a journal: missing field `do`"),
        (
            r#"{"at":1,"do":"sing"}"#,
            "no line of a journal: unknown variant `sing`",
        ),
        (
            r#"{"at":-1,"do":"stop"}"#,
            "no line of a journal: invalid value: integer `-1`",
        ),
        (
            r#"{"at":1,"do":"gone"}"#,
            "no line of a journal: missing field `peer`",
        ),
        (
            r#"{"at":1,"do":"untrack_pid","pid":"x"}"#,
            "no line of a journal: invalid type: string",
        ),
        (
            r#"{"at":1,"do":"message","peer":"b","message":"~"}"#,
            "a message is not base64: Invalid",
        ),
        (
            r#"{"at":1,"do":"message","peer":"b","message":"/w=="}"#,
            "a message can't be read: the message is of version 255",
        ),
        (
            r#"{"at":1,"do":"track","topic":"t","pid":1,"key":{"text":"k"},"meta":"[]"}"#,
            "a meta is none: ",
        ),
        (
            r#"{"at":1,"do":"update","topic":"t","pid":1,"key":{"text":"k"},"meta":"{"}"#,
            "a meta is none: ",
        ),
    ];
    for (line, expected) in cases {
        let error = error(line);
        assert!(error.starts_with(expected), "{line}: {error}");
    }
    let header = Header::parse("{}").unwrap_err().to_string();
    assert!(
        header.starts_with("no line of a journal: missing field `replica`"),
        "{header}"
    );
}

#[test]
fn a_message_beyond_the_limits_is_refused_by_its_reader() {
    let world = eventful();
    let message = world
        .node("a")
        .journal
        .iter()
        .find(|record| matches!(record.input, Input::Message { .. }));
    let line = message.unwrap().to_line();
    let limits = cluster::Limits {
        message_bytes: 3,
        ..cluster::Limits::default()
    };
    let error = Record::parse(&line, &limits).unwrap_err().to_string();
    assert!(
        error.starts_with("a message can't be read: the message has "),
        "{error}"
    );
    assert!(error.ends_with("more than 3"), "{error}");
}

#[test]
fn a_header_with_settings_that_cant_work_begins_no_tracker() {
    let world = World::new(&["a"]);
    let mut header = world.node("a").header.clone();
    header.config.chunk_values = 0;
    let header = Header::parse(&header.to_line()).unwrap();
    assert_eq!(
        header.tracker().unwrap_err().to_string(),
        "chunk_values must not be 0"
    );
}
