//! Each rule with what breaks it.

use presence_core::wire::{FrameRef, Limits};
use serde_json::{Value, json};

use super::*;

/// A connection that has joined `t` under the join_ref 1, and has asked for the state with ref 2.
struct Wire(Rules);

const OK: &str = r#"{"status":"ok","response":{}}"#;
const UNMATCHED: &str = r#"{"status":"error","response":{"reason":"unmatched topic"}}"#;

impl Wire {
    fn joined() -> Self {
        let mut wire = Self(Rules::new(Serializer::V2));
        wire.send(1, "phx_join", 1);
        wire.reply("1", 1).unwrap();
        wire.send(1, "state", 2);
        wire
    }

    /// The same, with a state that has the refs a and b.
    fn synced() -> Self {
        let mut wire = Self::joined();
        wire.state(r#"{"x":{"metas":[{"phx_ref":"a","n":1},{"phx_ref":"b","n":2}]}}"#)
            .unwrap();
        wire
    }

    fn send(&mut self, join_ref: u64, event: &str, msg_ref: u64) {
        self.send_with(join_ref, event, msg_ref, &json!({}));
    }

    fn send_with(&mut self, join_ref: u64, event: &str, msg_ref: u64, payload: &Value) {
        self.0.sent(&Sent {
            topic: "t",
            event,
            join_ref: Some(join_ref),
            msg_ref,
            payload,
        });
    }

    fn receive(&mut self, text: &str) -> Result<(), Rule> {
        let frame = FrameRef::Text(text);
        let message = self.0.serializer.decode_server(frame, &Limits::default());
        self.0.received(&message.unwrap())
    }

    /// An ok; the join_ref is given as JSON within quotes.
    fn reply(&mut self, join_ref: &str, msg_ref: u64) -> Result<(), Rule> {
        self.receive(&format!(
            r#"["{join_ref}","{msg_ref}","t","phx_reply",{OK}]"#
        ))
    }

    fn unmatched(&mut self, msg_ref: u64) -> Result<(), Rule> {
        self.receive(&format!(
            r#"[null,"{msg_ref}","t","phx_reply",{UNMATCHED}]"#
        ))
    }

    fn end(&mut self, event: &str, join_ref: u64) -> Result<(), Rule> {
        self.receive(&format!(
            r#"["{join_ref}","{join_ref}","t","{event}",{{}}]"#
        ))
    }

    fn state(&mut self, state: &str) -> Result<(), Rule> {
        self.receive(&format!(r#"["1",null,"t","presence_state",{state}]"#))
    }

    fn diff(&mut self, joins: &str, leaves: &str) -> Result<(), Rule> {
        let presences = |metas: &str| match metas {
            "" => "{}".to_owned(),
            metas => format!(r#"{{"x":{{"metas":[{metas}]}}}}"#),
        };
        self.receive(&format!(
            r#"[null,null,"t","presence_diff",{{"joins":{},"leaves":{}}}]"#,
            presences(joins),
            presences(leaves)
        ))
    }
}

fn meta(phx_ref: &str) -> String {
    format!(r#"{{"phx_ref":"{phx_ref}"}}"#)
}

#[test]
fn a_reply_answers_once_what_waits_on_its_topic() {
    let mut wire = Wire::joined();
    assert_eq!(wire.reply("1", 1), Err(Rule::ReplyOnce), "the join again");
    assert_eq!(wire.reply("1", 9), Err(Rule::ReplyOnce), "never sent");
    wire.send(1, "track", 3);
    let elsewhere = format!(r#"["1","3","u","phx_reply",{OK}]"#);
    assert_eq!(wire.receive(&elsewhere), Err(Rule::ReplyOnce));
    assert_eq!(wire.reply("1", 3), Ok(()));
    assert_eq!(wire.reply("1", 3), Err(Rule::ReplyOnce));
    assert_eq!(wire.reply("1", 2), Err(Rule::ReplyOnce), "a state has none");
}

#[test]
fn a_reply_carries_its_join_ref_and_keeps_the_order() {
    let mut wire = Wire::joined();
    (3..6).for_each(|msg_ref| wire.send(1, "track", msg_ref));
    assert_eq!(wire.reply("7", 3), Err(Rule::ReplyJoinRef));
    assert_eq!(wire.reply("1", 5), Err(Rule::ReplyOrder));
    assert_eq!(wire.reply("1", 4), Ok(()));
}

#[test]
fn a_join_is_answered_first() {
    let mut wire = Wire(Rules::new(Serializer::V2));
    wire.send(1, "phx_join", 1);
    assert_eq!(wire.diff("", ""), Err(Rule::Silence));
    assert_eq!(wire.state("{}"), Err(Rule::Silence));
    assert_eq!(wire.end("phx_error", 1), Err(Rule::ErrorOnce));
    wire.send(1, "phx_leave", 2);
    assert_eq!(wire.reply("1", 2), Err(Rule::JoinFirst));
    wire.send(3, "phx_join", 3);
    assert_eq!(wire.reply("3", 3), Err(Rule::JoinFirst), "before the first");
    wire.send(3, "track", 4);
    assert_eq!(wire.reply("3", 4), Err(Rule::JoinFirst));
}

#[test]
fn a_join_that_timed_out_is_left_and_replaced() {
    let mut wire = Wire(Rules::new(Serializer::V2));
    wire.send(1, "phx_join", 1);
    wire.send(1, "phx_leave", 2);
    wire.send(3, "phx_join", 3);
    assert_eq!(wire.reply("1", 1), Ok(()));
    assert_eq!(wire.diff("", ""), Ok(()), "it raced the leave");
    assert_eq!(wire.reply("3", 3), Ok(()));
    assert_eq!(
        wire.end("phx_close", 1),
        Err(Rule::CloseOnce),
        "before the leave"
    );
    assert_eq!(wire.reply("1", 2), Ok(()));
    assert_eq!(wire.end("phx_close", 1), Ok(()));
    assert_eq!(wire.diff("", ""), Ok(()));
}

#[test]
fn a_refused_join_brings_nothing() {
    let mut wire = Wire(Rules::new(Serializer::V2));
    wire.send(1, "phx_join", 1);
    let refused = r#"["1","1","t","phx_reply",{"status":"error","response":{}}]"#;
    assert_eq!(wire.receive(refused), Ok(()));
    assert_eq!(wire.diff("", ""), Err(Rule::Silence));
    assert_eq!(wire.end("phx_close", 1), Err(Rule::CloseOnce));
}

#[test]
fn a_channel_is_closed_once_and_only_after_a_leave_or_another_join() {
    let mut wire = Wire::joined();
    assert_eq!(wire.end("phx_close", 1), Err(Rule::CloseOnce), "unasked");
    wire.send(1, "phx_leave", 3);
    assert_eq!(
        wire.end("phx_close", 1),
        Err(Rule::CloseOnce),
        "before the reply"
    );
    assert_eq!(wire.diff("", ""), Ok(()), "it raced the leave");
    assert_eq!(wire.reply("1", 3), Ok(()));
    assert_eq!(wire.end("phx_close", 1), Ok(()));
    assert_eq!(wire.end("phx_close", 1), Err(Rule::CloseOnce));
    assert_eq!(wire.diff("", ""), Err(Rule::Silence));

    let mut wire = Wire::joined();
    wire.send(3, "phx_join", 3);
    assert_eq!(
        wire.end("phx_close", 1),
        Err(Rule::CloseOnce),
        "before the reply"
    );
    assert_eq!(wire.reply("3", 3), Ok(()));
    assert_eq!(wire.end("phx_error", 1), Err(Rule::ErrorOnce));
    assert_eq!(wire.end("phx_close", 1), Ok(()));
    assert_eq!(wire.end("phx_close", 8), Err(Rule::PresentJoin));
}

#[test]
fn after_a_crash_only_what_it_missed_is_answered() {
    let mut wire = Wire::synced();
    (3..6).for_each(|msg_ref| wire.send(1, "track", msg_ref));
    assert_eq!(wire.reply("1", 3), Ok(()));
    assert_eq!(wire.end("phx_error", 1), Ok(()));
    assert_eq!(wire.end("phx_error", 1), Err(Rule::ErrorOnce));
    assert_eq!(wire.diff("", ""), Err(Rule::Silence));
    assert_eq!(wire.reply("1", 4), Err(Rule::Silence));
    assert_eq!(wire.unmatched(5), Ok(()));
    wire.send(6, "phx_join", 6);
    assert_eq!(wire.reply("6", 6), Ok(()));
    assert_eq!(
        wire.state("{}"),
        Err(Rule::PresentJoin),
        "of the earlier join"
    );
    assert_eq!(wire.diff(&meta("a"), ""), Ok(()), "its list is a new one");
}

#[test]
fn what_was_sent_before_another_join_is_answered_no_more() {
    let mut wire = Wire::joined();
    wire.send(1, "track", 3);
    wire.send(4, "phx_join", 4);
    assert_eq!(wire.reply("4", 4), Ok(()));
    assert_eq!(wire.reply("1", 3), Err(Rule::ReplyOnce));
}

#[test]
fn nothing_comes_for_another_topic_or_with_another_event() {
    let mut wire = Wire::joined();
    let other = r#"[null,null,"u","presence_diff",{"joins":{},"leaves":{}}]"#;
    assert_eq!(wire.receive(other), Err(Rule::Silence));
    let unknown = r#"[null,null,"t","whisper",{}]"#;
    assert_eq!(wire.receive(unknown), Err(Rule::Events));
}

#[test]
fn a_shout_comes_to_whoever_has_joined_and_answers_nothing() {
    let mut wire = Wire::joined();
    assert_eq!(wire.receive(r#"[null,null,"t","shout",{}]"#), Ok(()));
    assert_eq!(
        wire.receive(r#"[null,null,"u","shout",{}]"#),
        Err(Rule::Silence)
    );
    assert_eq!(
        wire.receive(r#"["1",null,"t","shout",{}]"#),
        Err(Rule::RefsOfSerializer)
    );
}

#[test]
fn refs_are_as_the_serializer_has_them() {
    let mut wire = Wire::joined();
    let diff = r#"["1",null,"t","presence_diff",{"joins":{},"leaves":{}}]"#;
    assert_eq!(wire.receive(diff), Err(Rule::RefsOfSerializer));
    let state = r#"["1","2","t","presence_state",{}]"#;
    assert_eq!(wire.receive(state), Err(Rule::RefsOfSerializer));
    assert_eq!(
        wire.receive(r#"["1","2","t","phx_close",{}]"#),
        Err(Rule::PresentJoin)
    );

    let mut wire = Wire(Rules::new(Serializer::V1));
    wire.send(1, "phx_join", 1);
    let reply = |join_ref: &str| {
        format!(r#"{{"topic":"t","event":"phx_reply","payload":{OK},"ref":"1"{join_ref}}}"#)
    };
    assert_eq!(
        wire.receive(&reply(r#","join_ref":"1""#)),
        Err(Rule::RefsOfSerializer)
    );
    assert_eq!(wire.receive(&reply("")), Ok(()));
    let error = r#"{"topic":"t","event":"phx_error","payload":{},"ref":"1"}"#;
    assert_eq!(wire.receive(error), Ok(()));
    assert_eq!(wire.receive(error), Err(Rule::ErrorOnce));
}

#[test]
fn heartbeats_are_answered_in_their_order() {
    let beat = |wire: &mut Wire, msg_ref| {
        wire.0.sent(&Sent {
            topic: "phoenix",
            event: "heartbeat",
            join_ref: None,
            msg_ref,
            payload: &json!({}),
        });
    };
    let reply = |msg_ref: u64| format!(r#"[null,"{msg_ref}","phoenix","phx_reply",{OK}]"#);
    let mut wire = Wire::joined();
    assert_eq!(wire.receive(&reply(3)), Err(Rule::Heartbeats), "unasked");
    (3..6).for_each(|msg_ref| beat(&mut wire, msg_ref));
    assert_eq!(wire.receive(&reply(3)), Ok(()));
    assert_eq!(
        wire.receive(&reply(5)),
        Err(Rule::Heartbeats),
        "out of order"
    );
    let refused = format!(r#"[null,"5","phoenix","phx_reply",{UNMATCHED}]"#);
    assert_eq!(wire.receive(&refused), Err(Rule::Heartbeats));
}

#[test]
fn a_state_comes_once_for_each_time_that_it_was_asked_for() {
    let mut wire = Wire::synced();
    assert_eq!(wire.state("{}"), Err(Rule::StateOnce));
    wire.send(1, "state", 3);
    assert_eq!(wire.state("{}"), Ok(()));
}

#[test]
fn a_state_has_what_the_diffs_before_it_told() {
    let mut wire = Wire::joined();
    wire.diff(&meta("a"), &meta("c")).unwrap();
    wire.diff("", &meta("a")).unwrap();
    wire.diff(&meta("b"), "").unwrap();
    let one = |phx_ref| format!(r#"{{"x":{{"metas":[{}]}}}}"#, meta(phx_ref));
    assert_eq!(wire.state(&one("d")), Err(Rule::StatePlace), "it lacks b");

    let mut wire = Wire::joined();
    wire.diff("", &meta("c")).unwrap();
    assert_eq!(wire.state(&one("c")), Err(Rule::StatePlace), "c has left");

    let mut wire = Wire::joined();
    wire.diff("", &meta("c")).unwrap();
    wire.diff(&meta("c"), "").unwrap();
    assert_eq!(wire.state(&one("c")), Ok(()), "c is back");
}

#[test]
fn a_ref_joins_a_list_without_it_and_leaves_one_with_it() {
    for wire in [Wire::synced, || {
        let mut wire = Wire::joined();
        wire.diff(&[meta("a"), meta("b")].join(","), "").unwrap();
        wire
    }] {
        assert_eq!(wire().diff(&meta("a"), ""), Err(Rule::JoinsOnce));
        assert_eq!(wire().diff(&meta("c"), &meta("c")), Err(Rule::JoinsOnce));
        let twice = [meta("c"), meta("c")].join(",");
        assert_eq!(wire().diff(&twice, ""), Err(Rule::JoinsOnce));
        let mut wire = wire();
        assert_eq!(wire.diff(&meta("c"), &meta("a")), Ok(()));
        assert_eq!(wire.diff("", &meta("a")), Err(Rule::LeavesOnce));
        assert_eq!(wire.diff(&meta("a"), &meta("c")), Ok(()), "a is back");
    }
    assert_eq!(Wire::synced().diff("", &meta("c")), Err(Rule::LeavesOnce));
    assert_eq!(Wire::joined().diff("", &meta("c")), Ok(()), "not known yet");
}

#[test]
fn payloads_are_presences_with_refs() {
    let bare = r#"{"n":1}"#;
    assert_eq!(Wire::synced().diff(bare, ""), Err(Rule::Payloads));
    assert_eq!(Wire::joined().state("[]"), Err(Rule::Payloads));
    let odd = r#"{"phx_ref":"c","phx_ref_prev":7}"#;
    assert_eq!(Wire::synced().diff(odd, ""), Err(Rule::Payloads));
}

#[test]
fn an_update_takes_the_place_of_what_it_updates_in_one_diff() {
    let updated = r#"{"phx_ref":"c","phx_ref_prev":"a"}"#;
    assert_eq!(Wire::synced().diff(updated, ""), Err(Rule::UpdateWhole));
    assert_eq!(Wire::synced().diff(updated, &meta("a")), Ok(()));
    let never_told = r#"{"phx_ref":"c","phx_ref_prev":"q"}"#;
    assert_eq!(Wire::synced().diff(never_told, ""), Ok(()));
}

#[test]
fn what_the_client_tracks_leaves_only_when_it_says_so() {
    let own = |n: u32, phx_ref: &str| format!(r#"{{"phx_ref":"{phx_ref}","n":{n}}}"#);
    let tracked = || {
        let mut wire = Wire::synced();
        let payload = json!({ "key": "x", "meta": { "n": 7 } });
        wire.send_with(1, "track", 3, &payload);
        wire.diff(&own(7, "c"), "").unwrap();
        wire
    };
    assert_eq!(tracked().diff("", &own(7, "c")), Err(Rule::OwnStays));

    let mut wire = tracked();
    wire.send_with(1, "untrack", 4, &json!({ "key": "y" }));
    assert_eq!(
        wire.diff("", &own(7, "c")),
        Err(Rule::OwnStays),
        "of another key"
    );

    let mut wire = tracked();
    wire.send_with(1, "untrack", 4, &json!({ "key": "x" }));
    assert_eq!(wire.diff("", &own(7, "c")), Ok(()));

    let mut wire = tracked();
    wire.send(1, "phx_leave", 4);
    assert_eq!(wire.diff("", &own(7, "c")), Ok(()));

    let mut wire = tracked();
    wire.send_with(1, "update", 4, &json!({ "key": "x", "meta": { "n": 8 } }));
    assert_eq!(wire.diff(&own(8, "d"), &own(7, "c")), Ok(()));
    let mut back = tracked();
    back.send_with(1, "update", 4, &json!({ "key": "x", "meta": { "n": 8 } }));
    back.diff(&own(8, "d"), &own(7, "c")).unwrap();
    back.send_with(1, "update", 5, &json!({ "key": "x", "meta": { "n": 6 } }));
    assert_eq!(
        back.diff(&own(6, "e"), &own(8, "d")),
        Err(Rule::OwnStays),
        "what was sent before takes the place of what came after"
    );
    assert_eq!(
        tracked().diff(&own(7, "z"), &own(7, "c")),
        Ok(()),
        "in another incarnation of its node"
    );
    assert_eq!(
        tracked().diff(&own(5, "z"), &own(7, "c")),
        Ok(()),
        "another's, as its node hands over"
    );
    let mut split = tracked();
    split.send_with(1, "update", 4, &json!({ "key": "x", "meta": { "n": 8 } }));
    assert_eq!(
        split.diff("", &own(7, "c")),
        Err(Rule::OwnStays),
        "an update in halves"
    );
}
