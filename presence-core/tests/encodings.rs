//! How each kind of message is written, in every serializer and in the cluster codec: a change is seen in
//! review.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::sync::Arc;

use presence_core::clock::{Context, ReplicaId};
use presence_core::entry::{Key, Pid};
use presence_core::presence::{self, DIFF_EVENT, Meta, Presences, STATE_EVENT, TopicDiff};
use presence_core::set::{Limits, Set};
use presence_core::wire::cluster::{self, Body};
use presence_core::wire::{
    EncodeError, Frame, Json, Message, Payload, Ref, Reply, Serializer, Status, event,
};

type Encoded = Result<Frame, EncodeError>;

fn json(text: &str) -> Payload<'static> {
    Payload::Json(Json::parse(text).unwrap().into_owned())
}

fn message(
    msg_ref: Ref<'static>,
    topic: &str,
    event: &str,
    payload: Payload<'static>,
) -> Message<'static> {
    Message {
        join_ref: Ref::from("1"),
        msg_ref,
        topic: topic.to_owned().into(),
        event: event.to_owned().into(),
        payload,
    }
}

fn asked(event: &str, payload: Payload<'static>) -> Message<'static> {
    message(Ref::from("2"), "room:1", event, payload)
}

fn pushed(event: &str, payload: Payload<'static>) -> Message<'static> {
    message(Ref::default(), "room:1", event, payload)
}

fn answered(status: Status, response: Payload<'static>) -> Reply<'static> {
    Reply {
        join_ref: Ref::from("1"),
        msg_ref: Ref::from("2"),
        topic: "room:1".into(),
        status,
        response,
    }
}

/// Two tabs of Alice, the second of which is updated, and the diff of that.
fn presences() -> (Payload<'static>, Payload<'static>) {
    let mut set = Set::new(ReplicaId::new("a", 1), Limits::default(), 1);
    let topic: Arc<str> = "room:1".into();
    let meta = |text| Meta::parse(text).unwrap();
    for pid in 1..=2 {
        let meta = meta("{\"online_at\":\"1700000000\"}");
        presence::track(&mut set, &topic, Pid(pid), Key::Text("Alice"), &meta).unwrap();
    }
    let away = meta("{\"status\":\"away\"}");
    let (left, handle) =
        presence::update(&mut set, &topic, Pid(2), Key::Text("Alice"), &away).unwrap();
    let diff = TopicDiff {
        joins: Presences::group([set.entry(handle)]),
        leaves: Presences::group([left.entry()]),
    };
    let state = Presences::group(set.list(&topic));
    (json(&state.to_json()), json(&diff.to_json()))
}

fn every_kind(serializer: Serializer) -> Vec<(&'static str, Encoded)> {
    let s = serializer;
    let binary = || Payload::Binary(vec![0, 1, 0xff].into());
    let object = || json("{\"a\": 1.50, \"b\": 12345678901234567890}");
    let (state, diff) = presences();
    let heartbeat = Message {
        join_ref: Ref::default(),
        ..message(
            Ref::from("3"),
            event::HEARTBEAT_TOPIC,
            event::HEARTBEAT,
            Payload::EMPTY,
        )
    };
    let heard = Reply {
        join_ref: Ref::default(),
        topic: event::HEARTBEAT_TOPIC.into(),
        ..answered(Status::Ok, Payload::EMPTY)
    };
    vec![
        (
            "client: join",
            s.encode_client(&message(Ref::from("1"), "room:1", event::JOIN, object())),
        ),
        (
            "client: leave",
            s.encode_client(&asked(event::LEAVE, Payload::EMPTY)),
        ),
        ("client: heartbeat", s.encode_client(&heartbeat)),
        ("client: event", s.encode_client(&asked("shout", object()))),
        (
            "client: binary event",
            s.encode_client(&asked("shout", binary())),
        ),
        (
            "server: reply ok",
            s.encode_reply(&answered(Status::Ok, object())),
        ),
        (
            "server: reply error",
            s.encode_reply(&answered(Status::Error, json("{\"reason\":\"no\"}"))),
        ),
        (
            "server: binary reply",
            s.encode_reply(&answered(Status::Ok, binary())),
        ),
        ("server: heartbeat reply", s.encode_reply(&heard)),
        ("server: push", s.encode_push(&pushed("pushed", object()))),
        (
            "server: binary push",
            s.encode_push(&pushed("pushed", binary())),
        ),
        (
            "server: close",
            s.encode_push(&asked(event::CLOSE, Payload::EMPTY)),
        ),
        (
            "server: error",
            s.encode_push(&asked(event::ERROR, Payload::EMPTY)),
        ),
        (
            "server: broadcast",
            s.encode_broadcast("room:1", "shout", &object()),
        ),
        (
            "server: binary broadcast",
            s.encode_broadcast("room:1", "shout", &binary()),
        ),
        (
            "server: presence_state",
            s.encode_push(&pushed(STATE_EVENT, state)),
        ),
        (
            "server: presence_diff",
            s.encode_broadcast("room:1", DIFF_EVENT, &diff),
        ),
    ]
}

fn written(encoded: &Encoded) -> String {
    match encoded {
        Ok(Frame::Text(text)) => text.to_string(),
        Ok(Frame::Binary(bytes)) => hex(bytes),
        Err(error) => format!("none: {error}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("hex ");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn lines(kinds: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let line = |(name, text)| format!("{name:<26} {text}\n");
    kinds.into_iter().map(line).collect()
}

#[test]
fn every_kind_of_message_in_1_0_0() {
    let kinds = every_kind(Serializer::V1);
    insta::assert_snapshot!(lines(
        kinds.iter().map(|(name, frame)| (*name, written(frame)))
    ));
}

#[test]
fn every_kind_of_message_in_2_0_0() {
    let kinds = every_kind(Serializer::V2);
    insta::assert_snapshot!(lines(
        kinds.iter().map(|(name, frame)| (*name, written(frame)))
    ));
}

fn every_kind_between_nodes() -> [(&'static str, Body); 8] {
    let mut set = Set::new(ReplicaId::new("a", 1), Limits::default(), 1);
    let topic: Arc<str> = "room:1".into();
    for pid in 1..=3 {
        set.join(&topic, Pid(pid), Key::Text("Alice"), "{}")
            .unwrap();
    }
    set.leave_pid(Pid(2));
    let clocks: Context = [(ReplicaId::new("a", 1), 4), (ReplicaId::new("b", 7), 300)]
        .into_iter()
        .collect();
    let whole = set.extract(&ReplicaId::new("b", 7), &clocks);
    let delta = set.take_delta();
    [
        (
            "heartbeat",
            Body::Heartbeat {
                delta,
                clocks: clocks.clone(),
            },
        ),
        (
            "idle heartbeat",
            Body::Heartbeat {
                delta: Default::default(),
                clocks: clocks.clone(),
            },
        ),
        (
            "transfer request",
            Body::TransferRequest {
                id: 5,
                clocks: clocks.clone(),
            },
        ),
        (
            "transfer reply",
            Body::TransferReply {
                id: 5,
                part: 1,
                delta: whole,
                clocks: clocks.clone(),
                last: true,
            },
        ),
        (
            "transfer continue",
            Body::TransferContinue { id: 5, part: 2 },
        ),
        (
            "stopping",
            Body::Stopping {
                clocks: clocks.clone(),
                handover: true,
            },
        ),
        ("permdown", Body::Permdown),
        ("superseded", Body::Superseded { newest: 9 }),
    ]
}

fn between_nodes(version: cluster::Version) -> String {
    let from = ReplicaId::new("a", 1);
    lines(every_kind_between_nodes().map(|(name, body)| {
        let from = from.clone();
        let message = cluster::Message { from, body };
        (name, hex(&cluster::encode_as(&message, version)))
    }))
}

#[test]
fn every_kind_of_message_between_nodes() {
    insta::assert_snapshot!(between_nodes(cluster::Version::V2));
}

#[test]
fn every_kind_of_message_between_nodes_in_the_version_before() {
    insta::assert_snapshot!(between_nodes(cluster::Version::V1));
}
