//! The binary frames of 2.0.0.
//!
//! The first byte is the kind: 0 push, 1 reply, 2 broadcast. Then comes one byte for the length of each
//! text, then the texts in the same order, and the rest is the payload.
//!
//! | frame | texts |
//! |---|---|
//! | push of a client | `join_ref`, `ref`, `topic`, `event` |
//! | push of a server | `join_ref`, `topic`, `event` |
//! | reply | `join_ref`, `ref`, `topic`, `status` |
//! | broadcast | `topic`, `event` |

use std::borrow::Cow;

use super::error::{DecodeError, EncodeError, Field};
use super::message::{Message, Reply, ServerMessage, Status};
use super::payload::Payload;
use super::reference::Ref;
use super::{Frame, Limits};

const PUSH: u8 = 0;
const REPLY: u8 = 1;
const BROADCAST: u8 = 2;

pub(super) fn decode_client<'a>(
    frame: &'a [u8],
    limits: &Limits,
) -> Result<Message<'a>, DecodeError> {
    match kind(frame)? {
        PUSH => {
            let fields = [Field::JoinRef, Field::Ref, Field::Topic, Field::Event];
            let ([join_ref, msg_ref, topic, event], data) = split(frame, fields, limits)?;
            Ok(Message {
                join_ref: Ref::from(join_ref),
                msg_ref: Ref::from(msg_ref),
                topic: Cow::Borrowed(topic),
                event: Cow::Borrowed(event),
                payload: Payload::Binary(Cow::Borrowed(data)),
            })
        }
        kind => Err(DecodeError::UnknownKind { kind }),
    }
}

pub(super) fn decode_server<'a>(
    frame: &'a [u8],
    limits: &Limits,
) -> Result<ServerMessage<'a>, DecodeError> {
    match kind(frame)? {
        PUSH => {
            let fields = [Field::JoinRef, Field::Topic, Field::Event];
            let ([join_ref, topic, event], data) = split(frame, fields, limits)?;
            Ok(push(Ref::from(join_ref), topic, event, data))
        }
        REPLY => {
            let fields = [Field::JoinRef, Field::Ref, Field::Topic, Field::Status];
            let ([join_ref, msg_ref, topic, status], data) = split(frame, fields, limits)?;
            Ok(ServerMessage::Reply(Reply {
                join_ref: Ref::from(join_ref),
                msg_ref: Ref::from(msg_ref),
                topic: Cow::Borrowed(topic),
                status: Status::from(status),
                response: Payload::Binary(Cow::Borrowed(data)),
            }))
        }
        BROADCAST => {
            let ([topic, event], data) = split(frame, [Field::Topic, Field::Event], limits)?;
            Ok(push(Ref::NULL, topic, event, data))
        }
        kind => Err(DecodeError::UnknownKind { kind }),
    }
}

fn push<'a>(
    join_ref: Ref<'a>,
    topic: &'a str,
    event: &'a str,
    data: &'a [u8],
) -> ServerMessage<'a> {
    ServerMessage::Push(Message {
        join_ref,
        msg_ref: Ref::NULL,
        topic: Cow::Borrowed(topic),
        event: Cow::Borrowed(event),
        payload: Payload::Binary(Cow::Borrowed(data)),
    })
}

fn kind(frame: &[u8]) -> Result<u8, DecodeError> {
    frame
        .first()
        .copied()
        .ok_or(DecodeError::HeaderTruncated { len: 0, needed: 1 })
}

/// The texts and the payload behind the kind.
fn split<'a, const N: usize>(
    frame: &'a [u8],
    fields: [Field; N],
    limits: &Limits,
) -> Result<([&'a str; N], &'a [u8]), DecodeError> {
    let len = frame.len();
    let needed = 1 + N;
    let lengths = frame
        .get(1..needed)
        .ok_or(DecodeError::HeaderTruncated { len, needed })?;
    let mut texts = [""; N];
    let mut at = needed;
    for ((text, field), length) in texts.iter_mut().zip(fields).zip(lengths) {
        let end = at + usize::from(*length);
        let bytes = frame
            .get(at..end)
            .ok_or(DecodeError::Truncated { field, end, len })?;
        limits.check_field(field, at, bytes.len())?;
        *text = str::from_utf8(bytes).map_err(|error| {
            let at = at + error.valid_up_to();
            DecodeError::FieldNotUtf8 { field, at }
        })?;
        at = end;
    }
    Ok((texts, &frame[at..]))
}

pub(super) fn encode_client(message: &Message<'_>, data: &[u8]) -> Result<Frame, EncodeError> {
    let texts = [
        (
            Field::JoinRef,
            message.join_ref.binary_text(Field::JoinRef)?,
        ),
        (Field::Ref, message.msg_ref.binary_text(Field::Ref)?),
        (Field::Topic, &*message.topic),
        (Field::Event, &*message.event),
    ];
    join(PUSH, &texts, data)
}

pub(super) fn encode_push(message: &Message<'_>, data: &[u8]) -> Result<Frame, EncodeError> {
    let texts = [
        (
            Field::JoinRef,
            message.join_ref.binary_text(Field::JoinRef)?,
        ),
        (Field::Topic, &*message.topic),
        (Field::Event, &*message.event),
    ];
    join(PUSH, &texts, data)
}

pub(super) fn encode_reply(reply: &Reply<'_>, data: &[u8]) -> Result<Frame, EncodeError> {
    let texts = [
        (Field::JoinRef, reply.join_ref.binary_text(Field::JoinRef)?),
        (Field::Ref, reply.msg_ref.binary_text(Field::Ref)?),
        (Field::Topic, &*reply.topic),
        (Field::Status, reply.status.as_str()),
    ];
    join(REPLY, &texts, data)
}

pub(super) fn encode_broadcast(
    topic: &str,
    event: &str,
    data: &[u8],
) -> Result<Frame, EncodeError> {
    join(
        BROADCAST,
        &[(Field::Topic, topic), (Field::Event, event)],
        data,
    )
}

fn join(kind: u8, texts: &[(Field, &str)], data: &[u8]) -> Result<Frame, EncodeError> {
    let texts_len: usize = texts.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(1 + texts.len() + texts_len + data.len());
    out.push(kind);
    for &(field, text) in texts {
        let len = text.len();
        out.push(u8::try_from(len).map_err(|_| EncodeError::FieldTooLong { field, len })?);
    }
    for (_, text) in texts {
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(data);
    Ok(Frame::Binary(out.into()))
}

#[cfg(test)]
mod tests {
    use crate::wire::{FrameRef, Serializer};

    use super::*;

    fn client(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
        Serializer::V2.decode_client(FrameRef::Binary(bytes), &Limits::default())
    }

    fn server(bytes: &[u8]) -> Result<ServerMessage<'_>, DecodeError> {
        Serializer::V2.decode_server(FrameRef::Binary(bytes), &Limits::default())
    }

    fn message(payload: &[u8]) -> Message<'_> {
        Message {
            join_ref: Ref::from("1"),
            msg_ref: Ref::from(23),
            topic: "conf:1".into(),
            event: "echo".into(),
            payload: Payload::Binary(payload.into()),
        }
    }

    fn reply(payload: &[u8]) -> Reply<'_> {
        Reply {
            join_ref: Ref::from("1"),
            msg_ref: Ref::from("23"),
            topic: "conf:1".into(),
            status: Status::Ok,
            response: Payload::Binary(payload.into()),
        }
    }

    fn bytes(frame: Result<Frame, EncodeError>) -> Vec<u8> {
        match frame.unwrap() {
            Frame::Binary(bytes) => bytes.to_vec(),
            Frame::Text(_) => panic!("a binary payload is a binary frame"),
        }
    }

    #[test]
    fn frames_have_the_layout_of_the_table() {
        let v2 = Serializer::V2;
        let data = &[0, 255];
        assert_eq!(
            bytes(v2.encode_client(&message(data))),
            b"\x00\x01\x02\x06\x04123conf:1echo\x00\xff"
        );
        assert_eq!(
            bytes(v2.encode_push(&message(data))),
            b"\x00\x01\x06\x041conf:1echo\x00\xff"
        );
        assert_eq!(
            bytes(v2.encode_reply(&reply(data))),
            b"\x01\x01\x02\x06\x02123conf:1ok\x00\xff"
        );
        assert_eq!(
            bytes(v2.encode_broadcast("conf:1", "echo", &message(data).payload)),
            b"\x02\x06\x04conf:1echo\x00\xff"
        );
    }

    #[test]
    fn refs_are_strings_and_an_empty_one_is_not_null() {
        let message = client(b"\x00\x01\x02\x06\x04123conf:1echo").unwrap();
        assert_eq!(message.join_ref, Ref::from("1"));
        assert_eq!(message.msg_ref, Ref::from("23"));
        assert_eq!(message.payload, Payload::Binary(b""[..].into()));
        let message = client(b"\x00\x00\x00\x01\x01te!").unwrap();
        assert_eq!(message.join_ref, Ref::from(""));
        assert_eq!(message.msg_ref, Ref::from(""));
    }

    #[test]
    fn a_client_reads_each_kind() {
        let ServerMessage::Push(push) = server(b"\x00\x01\x01\x021tev!").unwrap() else {
            panic!("kind 0 is a push");
        };
        assert_eq!((&*push.topic, &*push.event), ("t", "ev"));
        assert_eq!((push.join_ref, push.msg_ref), (Ref::from("1"), Ref::NULL));
        assert_eq!(push.payload, Payload::Binary(b"!"[..].into()));
        let ServerMessage::Push(push) = server(b"\x02\x01\x02tev!").unwrap() else {
            panic!("kind 2 is a broadcast");
        };
        assert_eq!((&*push.topic, &*push.event), ("t", "ev"));
        assert_eq!((push.join_ref, push.msg_ref), (Ref::NULL, Ref::NULL));
        let decoded = server(b"\x01\x01\x02\x06\x02123conf:1ok\x00\xff").unwrap();
        assert_eq!(decoded, ServerMessage::Reply(reply(&[0, 255])));
    }

    #[test]
    fn a_frame_that_ends_early_says_where() {
        assert_eq!(
            client(b""),
            Err(DecodeError::HeaderTruncated { len: 0, needed: 1 })
        );
        assert_eq!(
            client(b"\x00\xff\x01"),
            Err(DecodeError::HeaderTruncated { len: 3, needed: 5 })
        );
        assert_eq!(
            server(b"\x02\xff"),
            Err(DecodeError::HeaderTruncated { len: 2, needed: 3 })
        );
        let truncated = |field, end, len| Err(DecodeError::Truncated { field, end, len });
        assert_eq!(client(b"\x00\x02\0\0\0x"), truncated(Field::JoinRef, 7, 6));
        assert_eq!(client(b"\x00\x01\x01\0\0x"), truncated(Field::Ref, 7, 6));
        assert_eq!(client(b"\x00\0\0\x02\0x"), truncated(Field::Topic, 7, 6));
        assert_eq!(client(b"\x00\0\0\0\xffx"), truncated(Field::Event, 260, 6));
        assert_eq!(
            server(b"\x01\0\0\0\x02x").unwrap_err(),
            DecodeError::Truncated {
                field: Field::Status,
                end: 7,
                len: 6
            }
        );
    }

    #[test]
    fn a_text_that_is_not_utf_8_says_where() {
        let error = |field, at| DecodeError::FieldNotUtf8 { field, at };
        assert_eq!(
            client(b"\x00\x01\x01\x03\x0112ab\xffe"),
            Err(error(Field::Topic, 9))
        );
        assert_eq!(server(b"\x02\x00\x01\xc3"), Err(error(Field::Event, 3)));
    }

    #[test]
    fn a_client_may_only_push_and_a_server_has_three_kinds() {
        for kind in 1..=255 {
            let frame = [kind, 0, 0, 0, 0];
            assert_eq!(client(&frame), Err(DecodeError::UnknownKind { kind }));
            assert_eq!(server(&frame).is_ok(), kind <= BROADCAST, "{kind}");
        }
    }

    #[test]
    fn the_limits_hold_for_binary_frames_too() {
        let limits = Limits {
            max_topic_bytes: 1,
            ..Limits::default()
        };
        let frame = FrameRef::Binary(b"\x00\x00\x00\x02\x00tt");
        assert_eq!(
            Serializer::V2.decode_client(frame, &limits),
            Err(DecodeError::FieldTooLong {
                field: Field::Topic,
                at: 5,
                len: 2,
                max: 1
            })
        );
    }

    #[test]
    fn a_text_of_255_bytes_fits_and_one_of_256_is_named() {
        let v2 = Serializer::V2;
        let (fits, long) = ("x".repeat(255), "x".repeat(256));
        let with = |text: &'static str| {
            move |field: Field, message: &mut Message<'static>| match field {
                Field::JoinRef => message.join_ref = Ref::from(text),
                Field::Ref => message.msg_ref = Ref::from(text),
                Field::Topic => message.topic = text.into(),
                _ => message.event = text.into(),
            }
        };
        let (fits, long): (&'static str, &'static str) = (fits.leak(), long.leak());
        for field in [Field::JoinRef, Field::Ref, Field::Topic, Field::Event] {
            let mut message = message(b"!").into_owned();
            with(fits)(field, &mut message);
            assert!(v2.encode_client(&message).is_ok());
            with(long)(field, &mut message);
            let error = EncodeError::FieldTooLong { field, len: 256 };
            assert_eq!(v2.encode_client(&message), Err(error.clone()));
            // The ref of a push is not written.
            let pushed = v2.encode_push(&message);
            assert_eq!(pushed.err(), (field != Field::Ref).then_some(error));
        }
        let mut reply = reply(b"");
        reply.status = Status::Other(long.into());
        let field = Field::Status;
        let error = EncodeError::FieldTooLong { field, len: 256 };
        assert_eq!(v2.encode_reply(&reply), Err(error));
    }

    #[test]
    fn a_null_ref_is_written_as_an_empty_one() {
        let mut reply = reply(b"!");
        reply.join_ref = Ref::NULL;
        assert_eq!(
            bytes(Serializer::V2.encode_reply(&reply)),
            b"\x01\x00\x02\x06\x0223conf:1ok!"
        );
    }
}
