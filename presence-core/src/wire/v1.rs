//! The frames of 1.0.0: objects, in text.

use super::envelope::{Envelope, Values};
use super::error::{DecodeError, Field};
use super::message::{Message, Reply, event};
use super::payload::Json;
use super::reference::Ref;
use super::text::{parse_object, write_string};
use super::{Frame, FrameRef, Limits};

/// `topic`, `event`, `payload` and `ref` must be there (Phoenix.Socket.Message.from_map!).
pub(super) fn open<'a>(frame: FrameRef<'a>, limits: &Limits) -> Result<Envelope<'a>, DecodeError> {
    let text = match frame {
        FrameRef::Text(text) => text,
        FrameRef::Binary(bytes) => str::from_utf8(bytes).map_err(|error| {
            let at = error.valid_up_to();
            DecodeError::FrameNotUtf8 { at }
        })?,
    };
    let fields = [
        Field::Topic,
        Field::Event,
        Field::Payload,
        Field::Ref,
        Field::JoinRef,
    ];
    let [topic, event, payload, msg_ref, join_ref] = parse_object(text, fields)?;
    let missing = |field| DecodeError::MissingKey { field };
    let values = Values {
        join_ref,
        topic: topic.ok_or_else(|| missing(Field::Topic))?,
        event: event.ok_or_else(|| missing(Field::Event))?,
        payload: payload.ok_or_else(|| missing(Field::Payload))?,
        msg_ref: msg_ref.ok_or_else(|| missing(Field::Ref))?,
    };
    Envelope::new(text, &values, limits)
}

/// With the `join_ref` if there is one: a server of 1.0.0 reads it.
pub(super) fn encode_client(message: &Message<'_>, payload: &Json<'_>) -> Frame {
    let join_ref = (!message.join_ref.is_null()).then_some(&message.join_ref);
    let payload = ["", payload.as_str(), ""];
    object(
        &message.topic,
        &message.event,
        join_ref,
        &message.msg_ref,
        &payload,
    )
}

pub(super) fn encode_push(message: &Message<'_>, payload: &Json<'_>) -> Frame {
    let payload = ["", payload.as_str(), ""];
    object(
        &message.topic,
        &message.event,
        None,
        &message.msg_ref,
        &payload,
    )
}

pub(super) fn encode_reply(reply: &Reply<'_>, response: &Json<'_>) -> Frame {
    let mut status = String::new();
    write_string(&mut status, reply.status.as_str());
    let payload = [
        r#"{"response":"#,
        response.as_str(),
        &format!(r#","status":{status}}}"#),
    ];
    object(&reply.topic, event::REPLY, None, &reply.msg_ref, &payload)
}

pub(super) fn encode_broadcast(topic: &str, event: &str, payload: &Json<'_>) -> Frame {
    object(topic, event, None, &Ref::NULL, &["", payload.as_str(), ""])
}

pub(super) fn enclose_push(message: &Message<'_>) -> (String, String) {
    let before = open_object(&message.event, None, 0);
    let mut after = String::new();
    close_object(&mut after, &message.msg_ref, &message.topic);
    (before, after)
}

/// The payload comes as three texts to write one after the other.
fn object(
    topic: &str,
    event: &str,
    join_ref: Option<&Ref<'_>>,
    msg_ref: &Ref<'_>,
    payload: &[&str; 3],
) -> Frame {
    let payload_len: usize = payload.iter().map(|part| part.len()).sum();
    let mut out = open_object(event, join_ref, payload_len + msg_ref.len() + topic.len());
    payload.iter().for_each(|part| out.push_str(part));
    close_object(&mut out, msg_ref, topic);
    Frame::Text(out.into())
}

/// What comes before the payload, with room for so much more.
fn open_object(event: &str, join_ref: Option<&Ref<'_>>, more: usize) -> String {
    let join_ref_len = join_ref.map_or(0, Ref::len);
    let mut out = String::with_capacity(more + join_ref_len + event.len() + 64);
    out.push_str(r#"{"event":"#);
    write_string(&mut out, event);
    if let Some(join_ref) = join_ref {
        out.push_str(r#","join_ref":"#);
        join_ref.write(&mut out);
    }
    out.push_str(r#","payload":"#);
    out
}

fn close_object(out: &mut String, msg_ref: &Ref<'_>, topic: &str) {
    out.push_str(r#","ref":"#);
    msg_ref.write(out);
    out.push_str(r#","topic":"#);
    write_string(out, topic);
    out.push('}');
}

#[cfg(test)]
mod tests {
    use crate::wire::{EncodeError, Payload, Serializer, ServerMessage, Status};

    use super::*;

    fn decode(text: &str) -> Result<Message<'_>, DecodeError> {
        Serializer::V1.decode_client(FrameRef::Text(text), &Limits::default())
    }

    fn text(frame: Result<Frame, EncodeError>) -> String {
        match frame.unwrap() {
            Frame::Text(text) => text.to_string(),
            Frame::Binary(_) => panic!("1.0.0 has text frames only"),
        }
    }

    #[test]
    fn keys_come_in_any_order_and_others_are_ignored() {
        let message =
            decode(r#"{"x":1,"ref":"2","payload":{"a" :1},"event":"e","topic":"t"}"#).unwrap();
        assert_eq!(message.topic, "t");
        assert_eq!(message.event, "e");
        assert_eq!(message.msg_ref, Ref::from("2"));
        assert_eq!(message.join_ref, Ref::NULL);
        assert_eq!(message.payload, Json::parse(r#"{"a" :1}"#).unwrap().into());
    }

    #[test]
    fn a_join_ref_is_read_but_a_server_never_writes_it() {
        let message =
            decode(r#"{"topic":"t","event":"e","payload":{},"ref":null,"join_ref":"7"}"#).unwrap();
        assert_eq!(message.join_ref, Ref::from("7"));
        assert_eq!(
            text(Serializer::V1.encode_push(&message)),
            r#"{"event":"e","payload":{},"ref":null,"topic":"t"}"#
        );
        assert_eq!(
            text(Serializer::V1.encode_client(&message)),
            r#"{"event":"e","join_ref":"7","payload":{},"ref":null,"topic":"t"}"#
        );
    }

    #[test]
    fn every_key_but_join_ref_is_required() {
        let all = [
            (Field::Topic, r#""topic":"t""#),
            (Field::Event, r#""event":"e""#),
            (Field::Payload, r#""payload":{}"#),
            (Field::Ref, r#""ref":"1""#),
        ];
        for (field, _) in all {
            let others: Vec<&str> = all
                .iter()
                .filter(|(other, _)| *other != field)
                .map(|(_, text)| *text)
                .collect();
            let frame = format!("{{{}}}", others.join(","));
            assert_eq!(decode(&frame), Err(DecodeError::MissingKey { field }));
        }
    }

    #[test]
    fn an_array_is_refused() {
        let expected = "an object";
        assert_eq!(
            decode(r#"["1","1","t","e",{}]"#),
            Err(DecodeError::WrongShape { expected })
        );
    }

    #[test]
    fn a_binary_frame_is_read_as_text() {
        let text = r#"{"topic":"t","event":"e","payload":{},"ref":"1"}"#;
        let limits = Limits::default();
        let binary = FrameRef::Binary(text.as_bytes());
        assert_eq!(Serializer::V1.decode_client(binary, &limits), decode(text));
        assert_eq!(
            Serializer::V1.decode_client(FrameRef::Binary(b"{\"\xff"), &limits),
            Err(DecodeError::FrameNotUtf8 { at: 2 })
        );
    }

    #[test]
    fn there_are_no_binary_payloads() {
        let mut message = decode(r#"{"topic":"t","event":"e","payload":{},"ref":"1"}"#).unwrap();
        message.payload = Payload::Binary(b"x"[..].into());
        let reply = Reply {
            join_ref: Ref::NULL,
            msg_ref: Ref::NULL,
            topic: "t".into(),
            status: Status::Ok,
            response: message.payload.clone(),
        };
        let refused = Err(EncodeError::BinaryInV1);
        assert_eq!(Serializer::V1.encode_client(&message), refused);
        assert_eq!(Serializer::V1.encode_push(&message), refused);
        assert_eq!(Serializer::V1.encode_reply(&reply), refused);
        let broadcast = Serializer::V1.encode_broadcast("t", "e", &message.payload);
        assert_eq!(broadcast, refused);
    }

    #[test]
    fn payloads_need_not_be_objects() {
        let payload = Json::parse("[1]").unwrap().into();
        assert_eq!(
            text(Serializer::V1.encode_broadcast("t", "e", &payload)),
            r#"{"event":"e","payload":[1],"ref":null,"topic":"t"}"#
        );
    }

    #[test]
    fn a_reply_is_written_and_read() {
        let reply = Reply {
            join_ref: Ref::NULL,
            msg_ref: Ref::from("3"),
            topic: "t".into(),
            status: Status::Ok,
            response: Payload::EMPTY,
        };
        let encoded = text(Serializer::V1.encode_reply(&reply));
        assert_eq!(
            encoded,
            r#"{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":"3","topic":"t"}"#
        );
        let limits = Limits::default();
        assert_eq!(
            Serializer::V1.decode_server(FrameRef::Text(&encoded), &limits),
            Ok(ServerMessage::Reply(reply))
        );
    }
}
