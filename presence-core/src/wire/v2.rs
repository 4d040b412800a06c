//! The text frames of 2.0.0: `[join_ref, ref, topic, event, payload]`.

use super::envelope::{Envelope, Values};
use super::error::{DecodeError, Field};
use super::message::{Message, Reply, event};
use super::payload::Json;
use super::reference::Ref;
use super::text::{parse_array, write_string};
use super::{Frame, Limits};

/// Elements after the fifth are ignored, as in Phoenix, but they must be JSON.
pub(super) fn open<'a>(text: &'a str, limits: &Limits) -> Result<Envelope<'a>, DecodeError> {
    let elements = parse_array(text)?;
    let [
        join_ref,
        Some(msg_ref),
        Some(topic),
        Some(event),
        Some(payload),
    ] = elements
    else {
        let fields = [Field::JoinRef, Field::Ref, Field::Topic, Field::Event];
        let found = elements.iter().flatten().count();
        let missing = fields.get(found).copied().unwrap_or(Field::Payload);
        return Err(DecodeError::TooFewElements { found, missing });
    };
    let values = Values {
        join_ref,
        msg_ref,
        topic,
        event,
        payload,
    };
    Envelope::new(text, &values, limits)
}

pub(super) fn encode(message: &Message<'_>, payload: &Json<'_>) -> Frame {
    array(
        (&message.join_ref, &message.msg_ref),
        &message.topic,
        &message.event,
        &["", payload.as_str(), ""],
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
    array(
        (&reply.join_ref, &reply.msg_ref),
        &reply.topic,
        event::REPLY,
        &payload,
    )
}

pub(super) fn encode_broadcast(topic: &str, event: &str, payload: &Json<'_>) -> Frame {
    array(
        (&Ref::NULL, &Ref::NULL),
        topic,
        event,
        &["", payload.as_str(), ""],
    )
}

pub(super) fn enclose_push(message: &Message<'_>) -> (String, String) {
    let refs = (&message.join_ref, &message.msg_ref);
    let before = open_array(refs, &message.topic, &message.event, 0);
    (before, "]".into())
}

/// The payload comes as three texts to write one after the other.
fn array(refs: (&Ref<'_>, &Ref<'_>), topic: &str, event: &str, payload: &[&str; 3]) -> Frame {
    let payload_len: usize = payload.iter().map(|part| part.len()).sum();
    let mut out = open_array(refs, topic, event, payload_len);
    payload.iter().for_each(|part| out.push_str(part));
    out.push(']');
    Frame::Text(out.into())
}

/// What comes before the payload, with room for so much more.
fn open_array(
    (join_ref, msg_ref): (&Ref<'_>, &Ref<'_>),
    topic: &str,
    event: &str,
    more: usize,
) -> String {
    let fields_len = join_ref.len() + msg_ref.len() + topic.len() + event.len();
    let mut out = String::with_capacity(more + fields_len + 24);
    out.push('[');
    join_ref.write(&mut out);
    out.push(',');
    msg_ref.write(&mut out);
    out.push(',');
    write_string(&mut out, topic);
    out.push(',');
    write_string(&mut out, event);
    out.push(',');
    out
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use crate::wire::{FrameRef, Serializer, ServerMessage, Status};

    use super::*;

    fn decode(text: &str) -> Result<Message<'_>, DecodeError> {
        Serializer::V2.decode_client(FrameRef::Text(text), &Limits::default())
    }

    fn decode_server(text: &str) -> Result<ServerMessage<'_>, DecodeError> {
        Serializer::V2.decode_server(FrameRef::Text(text), &Limits::default())
    }

    #[test]
    fn the_five_elements_are_the_message_and_further_ones_are_ignored() {
        let text = r#" ["1", 2 ,"t\n","e",{"a" : [1.0]} ,"extra",{}] "#;
        let message = decode(text).unwrap();
        assert_eq!(message.join_ref, Ref::from("1"));
        assert_eq!(message.msg_ref, Ref::from(2));
        assert_eq!(message.topic, "t\n");
        assert_eq!(message.event, "e");
        assert_eq!(
            message.payload,
            Json::parse(r#"{"a" : [1.0]}"#).unwrap().into()
        );
    }

    #[test]
    fn what_needs_no_unescaping_is_borrowed() {
        let message = decode(r#"["1","2","topic","event",{"a":1}]"#).unwrap();
        assert!(matches!(message.topic, Cow::Borrowed("topic")));
        assert!(matches!(message.event, Cow::Borrowed("event")));
        let text = String::from(r#"["1","2","t","e",{"a":1}]"#);
        let message = decode(&text).unwrap();
        let payload = message.payload.as_json().unwrap().as_str();
        assert_eq!(payload.as_ptr(), text[17..].as_ptr());
    }

    #[test]
    fn the_first_missing_element_is_named() {
        for (text, found, missing) in [
            ("[]", 0, Field::JoinRef),
            ("[null]", 1, Field::Ref),
            (r#"["1","1"]"#, 2, Field::Topic),
            (r#"["1","1","t"]"#, 3, Field::Event),
            (r#"["1","1","t","e"]"#, 4, Field::Payload),
        ] {
            let error = DecodeError::TooFewElements { found, missing };
            assert_eq!(decode(text), Err(error));
        }
    }

    #[test]
    fn a_field_of_the_wrong_kind_is_named_with_its_place() {
        let not_a_string = |field, at| Err(DecodeError::NotAString { field, at });
        assert_eq!(
            decode(r#"["1","1",7,"e",{}]"#),
            not_a_string(Field::Topic, 9)
        );
        assert_eq!(
            decode(r#"["1","1",null,"e",{}]"#),
            not_a_string(Field::Topic, 9)
        );
        assert_eq!(
            decode(r#"["1","1","t", {},{}]"#),
            not_a_string(Field::Event, 14)
        );
        let lone = |field, at| Err(DecodeError::LoneSurrogate { field, at });
        assert_eq!(
            decode(r#"["\ud800","1","t","e",{}]"#),
            lone(Field::JoinRef, 1)
        );
        assert_eq!(
            decode(r#"["1",["\ud800"],"t","e",{}]"#),
            lone(Field::Ref, 5)
        );
        assert_eq!(
            decode(r#"["1","1","\ud800","e",{}]"#),
            lone(Field::Topic, 9)
        );
        assert_eq!(
            decode(r#"["1","1","t","\ud800",{}]"#),
            lone(Field::Event, 13)
        );
        assert_eq!(
            decode(r#"["1","1","t","e",["\ud800"]]"#),
            lone(Field::Payload, 17)
        );
    }

    #[test]
    fn each_field_has_its_limit() {
        let limits = Limits {
            max_ref_bytes: 2,
            max_topic_bytes: 3,
            max_event_bytes: 4,
            ..Limits::default()
        };
        let decode = |text| Serializer::V2.decode_client(FrameRef::Text(text), &limits);
        assert!(decode(r#"["12","12","123","1234",{}]"#).is_ok());
        for (text, field, at, len, max) in [
            (r#"["123","12","123","1234",{}]"#, Field::JoinRef, 1, 3, 2),
            (r#"["12",123,"123","1234",{}]"#, Field::Ref, 6, 3, 2),
            (r#"["12","12","1234","1234",{}]"#, Field::Topic, 11, 4, 3),
            (r#"["12","12","123","12345",{}]"#, Field::Event, 17, 5, 4),
        ] {
            let error = DecodeError::FieldTooLong {
                field,
                at,
                len,
                max,
            };
            assert_eq!(decode(text), Err(error));
        }
    }

    #[test]
    fn a_ref_may_be_any_json_and_comes_back_as_it_was() {
        for reference in [
            "null",
            "\"1\"",
            "1",
            "1.50",
            "true",
            "[1, 2]",
            r#"{"a" :1}"#,
        ] {
            let text = format!(r#"[{reference},{reference},"t","e",{{}}]"#);
            let message = decode(&text).unwrap();
            assert_eq!(message.join_ref, message.msg_ref);
            let Frame::Text(encoded) = Serializer::V2.encode_push(&message).unwrap() else {
                panic!("a JSON payload is a text frame");
            };
            assert_eq!(*encoded, *text);
        }
    }

    #[test]
    fn frames_are_written_as_arrays() {
        let message = decode(r#"["1","2","t\"","e",{ }]"#).unwrap();
        let text = |frame| match frame {
            Frame::Text(text) => text.to_string(),
            Frame::Binary(_) => panic!("a JSON payload is a text frame"),
        };
        assert_eq!(
            text(Serializer::V2.encode_push(&message).unwrap()),
            r#"["1","2","t\"","e",{ }]"#
        );
        assert_eq!(
            text(
                Serializer::V2
                    .encode_broadcast("t", "e", &message.payload)
                    .unwrap()
            ),
            r#"[null,null,"t","e",{ }]"#
        );
        let reply = Reply {
            join_ref: Ref::NULL,
            msg_ref: Ref::from("2"),
            topic: "t".into(),
            status: Status::Other("a\"".into()),
            response: Json::parse("[1]").unwrap().into(),
        };
        assert_eq!(
            text(Serializer::V2.encode_reply(&reply).unwrap()),
            r#"[null,"2","t","phx_reply",{"response":[1],"status":"a\""}]"#
        );
    }

    #[test]
    fn a_server_pushes_and_broadcasts_objects_only() {
        let message = decode(r#"["1","2","t","e",[{}]]"#).unwrap();
        let error = super::super::EncodeError::PayloadNotAnObject;
        assert_eq!(Serializer::V2.encode_push(&message), Err(error.clone()));
        assert_eq!(
            Serializer::V2.encode_broadcast("t", "e", &message.payload),
            Err(error)
        );
        assert!(Serializer::V2.encode_client(&message).is_ok());
    }

    #[test]
    fn a_client_tells_replies_from_pushes() {
        let text = r#"["1","2","t","phx_reply",{"status":"error","response":{"a": 1},"x":0}]"#;
        let ServerMessage::Reply(reply) = decode_server(text).unwrap() else {
            panic!("phx_reply is a reply");
        };
        assert_eq!(reply.status, Status::Error);
        assert_eq!(reply.response, Json::parse(r#"{"a": 1}"#).unwrap().into());
        assert!(matches!(
            decode_server(r#"["1",null,"t","phx_close",{}]"#),
            Ok(ServerMessage::Push(_))
        ));
    }

    #[test]
    fn a_reply_must_have_a_status_and_a_response() {
        let reply = |payload: &str| format!(r#"["1","2","t","phx_reply",{payload}]"#);
        let error = |payload: &str| decode_server(&reply(payload)).unwrap_err();
        assert_eq!(error("[]"), DecodeError::ReplyNotAnObject { at: 25 });
        let missing = |field| DecodeError::MissingKey { field };
        assert_eq!(error(r#"{"response":{}}"#), missing(Field::Status));
        assert_eq!(error(r#"{"status":"ok"}"#), missing(Field::Response));
        assert_eq!(
            error(r#"{"status":1,"response":{}}"#),
            DecodeError::NotAString {
                field: Field::Status,
                at: 35
            }
        );
        assert_eq!(
            error(r#"{"status":"ok","response":"\ud800"}"#),
            DecodeError::LoneSurrogate {
                field: Field::Response,
                at: 51
            }
        );
    }
}
