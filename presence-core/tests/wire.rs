//! The serializers: whatever is written is read again, no bytes make them panic, and the recorded frames
//! are read and written as the reference does.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;

use presence_core::wire::{
    Frame, FrameRef, Json, Limits, Message, Payload, Ref, Reply, Serializer, ServerMessage, Status,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Number, Value};

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("JSON has no NaN", |f| Number::from_f64(f).map(Value::from)),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((".{0,4}", inner), 0..4).prop_map(|entries| entries.into_iter().collect()),
        ]
    })
}

fn json() -> impl Strategy<Value = Json<'static>> {
    (json_value(), any::<bool>()).prop_map(|(value, pretty)| {
        let text = if pretty {
            serde_json::to_string_pretty(&value).unwrap()
        } else {
            value.to_string()
        };
        Json::parse(&text).unwrap().into_owned()
    })
}

fn object() -> impl Strategy<Value = Json<'static>> {
    vec((".{0,4}", json_value()), 0..4).prop_map(|entries| {
        let value: Value = entries.into_iter().collect();
        Json::serialize(&value).unwrap()
    })
}

fn bytes() -> impl Strategy<Value = Payload<'static>> {
    vec(any::<u8>(), 0..40).prop_map(|bytes| Payload::Binary(Cow::Owned(bytes)))
}

/// Texts that fit into a binary frame: 63 characters of up to four bytes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,63}",
        "[\\PC\"\\\\\n\u{0}]{0,63}",
        Just("phx_join".to_owned()),
        Just(String::new()),
    ]
}

fn event() -> impl Strategy<Value = String> {
    text().prop_filter("a reply has its own strategy", |event| event != "phx_reply")
}

fn string_ref() -> impl Strategy<Value = Ref<'static>> {
    text().prop_map(Ref::from)
}

fn any_ref() -> impl Strategy<Value = Ref<'static>> {
    prop_oneof![
        Just(Ref::NULL),
        any::<u64>().prop_map(Ref::from),
        string_ref()
    ]
}

fn message(
    join_ref: impl Strategy<Value = Ref<'static>>,
    msg_ref: impl Strategy<Value = Ref<'static>>,
    payload: impl Strategy<Value = Payload<'static>>,
) -> impl Strategy<Value = Message<'static>> {
    (join_ref, msg_ref, text(), event(), payload).prop_map(
        |(join_ref, msg_ref, topic, event, payload)| Message {
            join_ref,
            msg_ref,
            topic: topic.into(),
            event: event.into(),
            payload,
        },
    )
}

fn reply(
    refs: impl Strategy<Value = (Ref<'static>, Ref<'static>)>,
    response: impl Strategy<Value = Payload<'static>>,
) -> impl Strategy<Value = Reply<'static>> {
    let status = prop_oneof![Just("ok".to_owned()), Just("error".to_owned()), text()];
    (refs, text(), status, response).prop_map(|((join_ref, msg_ref), topic, status, response)| {
        Reply {
            join_ref,
            msg_ref,
            topic: topic.into(),
            status: Status::from(&*status),
            response,
        }
    })
}

fn both() -> impl Strategy<Value = Serializer> {
    prop_oneof![Just(Serializer::V1), Just(Serializer::V2)]
}

fn decode_client(serializer: Serializer, frame: &Frame) -> Message<'_> {
    serializer
        .decode_client(frame.as_frame_ref(), &Limits::default())
        .unwrap()
}

fn decode_server(serializer: Serializer, frame: &Frame) -> ServerMessage<'_> {
    serializer
        .decode_server(frame.as_frame_ref(), &Limits::default())
        .unwrap()
}

/// What 1.0.0 loses on the way from a server to a client.
fn without_join_ref(serializer: Serializer, join_ref: &mut Ref<'static>) {
    if serializer == Serializer::V1 {
        *join_ref = Ref::NULL;
    }
}

proptest! {
    #[test]
    fn a_client_message_is_read_as_it_was_written(
        serializer in both(),
        message in message(any_ref(), any_ref(), json().prop_map(Payload::Json)),
    ) {
        let frame = serializer.encode_client(&message).unwrap();
        prop_assert_eq!(decode_client(serializer, &frame), message);
    }

    #[test]
    fn a_binary_client_message_is_read_as_it_was_written(
        message in message(string_ref(), string_ref(), bytes()),
    ) {
        let frame = Serializer::V2.encode_client(&message).unwrap();
        prop_assert_eq!(decode_client(Serializer::V2, &frame), message);
    }

    #[test]
    fn a_push_is_read_as_it_was_written(
        serializer in both(),
        message in message(any_ref(), any_ref(), object().prop_map(Payload::Json)),
    ) {
        let frame = serializer.encode_push(&message).unwrap();
        let mut expected = message;
        without_join_ref(serializer, &mut expected.join_ref);
        prop_assert_eq!(decode_server(serializer, &frame), ServerMessage::Push(expected));
    }

    #[test]
    fn a_binary_push_is_read_as_it_was_written(
        message in message(string_ref(), Just(Ref::NULL), bytes()),
    ) {
        let frame = Serializer::V2.encode_push(&message).unwrap();
        prop_assert_eq!(decode_server(Serializer::V2, &frame), ServerMessage::Push(message));
    }

    #[test]
    fn a_broadcast_is_read_as_a_push_without_refs(
        serializer in both(),
        message in message(Just(Ref::NULL), Just(Ref::NULL), object().prop_map(Payload::Json)),
        binary in bytes(),
    ) {
        let Message { topic, event, payload, .. } = &message;
        let frame = serializer.encode_broadcast(topic, event, payload).unwrap();
        let expected = ServerMessage::Push(message.clone());
        prop_assert_eq!(decode_server(serializer, &frame), expected);
        let frame = Serializer::V2.encode_broadcast(topic, event, &binary).unwrap();
        let expected = ServerMessage::Push(Message { payload: binary, ..message.clone() });
        prop_assert_eq!(decode_server(Serializer::V2, &frame), expected);
    }

    #[test]
    fn a_reply_is_read_as_it_was_written(
        serializer in both(),
        reply in reply((any_ref(), any_ref()), json().prop_map(Payload::Json)),
    ) {
        let frame = serializer.encode_reply(&reply).unwrap();
        let mut expected = reply;
        without_join_ref(serializer, &mut expected.join_ref);
        prop_assert_eq!(decode_server(serializer, &frame), ServerMessage::Reply(expected));
    }

    #[test]
    fn a_binary_reply_is_read_as_it_was_written(
        reply in reply((string_ref(), string_ref()), bytes()),
    ) {
        let frame = Serializer::V2.encode_reply(&reply).unwrap();
        prop_assert_eq!(decode_server(Serializer::V2, &frame), ServerMessage::Reply(reply));
    }

    #[test]
    fn a_text_frame_is_json_for_everyone(
        serializer in both(),
        message in message(any_ref(), any_ref(), object().prop_map(Payload::Json)),
    ) {
        let Frame::Text(text) = serializer.encode_client(&message).unwrap() else {
            panic!("a JSON payload is a text frame");
        };
        let value: Value = serde_json::from_str(&text).unwrap();
        let of = |key: &str, index: usize| match serializer {
            Serializer::V1 => value[key].clone(),
            Serializer::V2 => value[index].clone(),
        };
        prop_assert_eq!(of("topic", 2), &*message.topic);
        prop_assert_eq!(of("event", 3), &*message.event);
        let payload: Value = message.payload.as_json().unwrap().deserialize().unwrap();
        prop_assert_eq!(of("payload", 4), payload);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..64)) {
        decode_all(&bytes);
    }

    #[test]
    fn no_binary_frame_makes_a_decoder_panic(
        kind in 0_u8..4,
        lengths in vec(0_u8..12, 0..6),
        rest in vec(any::<u8>(), 0..48),
    ) {
        decode_all(&[vec![kind], lengths, rest].concat());
    }

    #[test]
    fn no_text_makes_a_decoder_panic(text in "[\\[\\]{}:, \"\\\\1eu0d8tnul\\PC]{0,64}") {
        decode_all(text.as_bytes());
    }

    #[test]
    fn no_damage_to_a_frame_makes_a_decoder_panic(
        serializer in both(),
        message in message(any_ref(), any_ref(), object().prop_map(Payload::Json)),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let frame = serializer.encode_client(&message).unwrap();
        let mut bytes = frame.as_frame_ref().as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = with;
        if cut {
            bytes.truncate(at);
        }
        decode_all(&bytes);
    }

    #[test]
    fn what_is_decoded_is_encoded_again_to_the_same_message(
        text in "\\[(null|1|\"[a-z\\\\\"]{0,3}\"),(null|1|\"[1-9]\"),\"[a-z]{0,3}\",\"e\",(\\{\\}|[0-9])(,1)?\\]",
    ) {
        let limits = Limits::default();
        if let Ok(message) = Serializer::V2.decode_client(FrameRef::Text(&text), &limits) {
            for serializer in [Serializer::V1, Serializer::V2] {
                let frame = serializer.encode_client(&message).unwrap();
                prop_assert_eq!(&decode_client(serializer, &frame), &message);
            }
        }
    }

    #[test]
    fn no_version_makes_the_choice_panic(vsn in "[0-9.+a-z\\-]{0,12}|\\PC{0,8}") {
        let chosen = Serializer::negotiate(Some(&vsn));
        if let Ok(serializer) = chosen {
            prop_assert!(vsn.starts_with(&serializer.vsn()[..4]));
        }
    }
}

/// In every way; errors must have something to say.
fn decode_all(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for serializer in [Serializer::V1, Serializer::V2] {
        for frame in [FrameRef::Binary(bytes), FrameRef::Text(&text)] {
            let limits = Limits::default();
            if let Err(error) = serializer.decode_client(frame, &limits) {
                assert!(!error.to_string().is_empty());
            }
            if let Err(error) = serializer.decode_server(frame, &limits) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}

/// Every line of every transcript of the wire.
fn recorded_steps() -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../conformance/fixtures/wire");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "jsonl"))
        .collect();
    paths.sort();
    let mut steps = Vec::new();
    for path in paths {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        for line in fs::read_to_string(&path).unwrap().lines().skip(1) {
            steps.push((name.clone(), serde_json::from_str(line).unwrap()));
        }
    }
    assert!(steps.len() > 300, "the recordings are there");
    steps
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The serializer that wrote a frame shows in its form.
fn frame_and_serializer(value: &Value) -> Option<(Serializer, Frame)> {
    if let Some(digits) = value["binary"].as_str() {
        return Some((Serializer::V2, Frame::Binary(hex(digits).into())));
    }
    let text = value.get("text")?;
    let serializer = if text.is_array() {
        Serializer::V2
    } else {
        Serializer::V1
    };
    Some((serializer, Frame::Text(text.to_string().into())))
}

fn as_json(frame: &Frame) -> Value {
    match frame {
        Frame::Text(text) => serde_json::from_str(text).unwrap(),
        Frame::Binary(bytes) => Value::from(&bytes[..]),
    }
}

#[test]
fn every_recorded_frame_of_the_server_is_read_and_written_again() {
    let mut frames = 0;
    for (case, step) in recorded_steps() {
        let clients = step["then"].as_object().unwrap().values();
        for recorded in clients.flat_map(|frames| frames.as_array().unwrap()) {
            let Some((serializer, frame)) = frame_and_serializer(recorded) else {
                continue;
            };
            let written = match decode_server(serializer, &frame) {
                ServerMessage::Reply(reply) => serializer.encode_reply(&reply),
                // The first byte tells a broadcast from a push.
                ServerMessage::Push(message) if frame.as_frame_ref().as_bytes()[0] == 2 => {
                    serializer.encode_broadcast(&message.topic, &message.event, &message.payload)
                }
                ServerMessage::Push(message) => serializer.encode_push(&message),
            };
            assert_eq!(as_json(&written.unwrap()), as_json(&frame), "{case}");
            frames += 1;
        }
    }
    assert!(frames > 300, "{frames}");
}

#[test]
fn every_recorded_frame_of_a_client_is_read_and_written_again() {
    let mut frames = 0;
    for (case, step) in recorded_steps() {
        let is_malformed = case.starts_with("malformed");
        let Some((serializer, frame)) = frame_and_serializer(&step["do"]) else {
            continue;
        };
        let decoded = serializer.decode_client(frame.as_frame_ref(), &Limits::default());
        if is_malformed {
            assert_eq!(decoded.unwrap_err().close_code(), 1011, "{case}");
            continue;
        }
        let written = serializer.encode_client(&decoded.unwrap()).unwrap();
        assert_eq!(as_json(&written), as_json(&frame), "{case}");
        frames += 1;
    }
    assert!(frames > 250, "{frames}");
}

#[test]
fn every_recorded_vsn_is_served_or_refused() {
    let mut served = 0;
    for (case, step) in recorded_steps() {
        let Some(client) = step["do"]["open"].as_str() else {
            continue;
        };
        let chosen = Serializer::negotiate(step["do"]["query"]["vsn"].as_str());
        let outcome = &step["then"][client][0];
        if outcome["opened"] == true {
            assert!(chosen.is_ok(), "{case}");
            served += 1;
        } else if case.starts_with("vsn") {
            assert!(chosen.is_err(), "{case}");
        }
    }
    assert!(served > 60, "{served}");
}
