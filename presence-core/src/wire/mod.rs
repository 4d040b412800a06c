//! What a socket and its client say to each other, as bytes: the two Phoenix serializers.
//!
//! | | 1.0.0 ([`Serializer::V1`]) | 2.0.0 ([`Serializer::V2`]) |
//! |---|---|---|
//! | text | an object with the keys `topic`, `event`, `payload`, `ref` | `[join_ref, ref, topic, event, payload]` |
//! | binary payloads | none | push, reply and broadcast frames, with one byte for each length |
//! | `join_ref` | read when a client sends it, never written by a server | in every frame but a broadcast |
//!
//! Both halves live here: a server decodes with [`Serializer::decode_client`] and encodes with
//! [`encode_push`](Serializer::encode_push), [`encode_reply`](Serializer::encode_reply) and
//! [`encode_broadcast`](Serializer::encode_broadcast); a client uses
//! [`encode_client`](Serializer::encode_client) and [`decode_server`](Serializer::decode_server).
//!
//! A payload is never parsed here. Its text is checked to be JSON, borrowed from the frame, and written
//! again byte for byte: large integers, the order of keys and repeated keys all survive. (Phoenix parses
//! and prints, so that it drops repeated keys.) A [`Frame`] is shared, not copied: encode a broadcast
//! once for each serializer and clone the result for each subscriber.
//!
//! Nothing here panics, whatever the bytes, and nothing is kept between two calls.
//!
//! The rules follow Phoenix.Socket.V1.JSONSerializer, Phoenix.Socket.V2.JSONSerializer,
//! Phoenix.Socket.Message and, for the client's half, the serializer of phoenix.js.

use std::sync::Arc;

mod binary;
pub mod cluster;
mod envelope;
mod error;
mod message;
mod payload;
mod reference;
mod text;
mod v1;
mod v2;
mod version;

pub use error::{DecodeError, EncodeError, Field};
pub use message::{Message, Reply, ServerMessage, Status, event};
pub use payload::{Json, JsonError, Payload};
pub use reference::Ref;
pub use version::VersionError;

/// How messages are written on one socket.
///
/// The client's `vsn` parameter chooses it; see [`Serializer::negotiate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Serializer {
    /// 1.0.0: JSON objects, in text frames only.
    V1,
    /// 2.0.0: JSON arrays in text frames, and binary payloads in binary frames.
    V2,
}

impl Serializer {
    /// Decodes what a client sent.
    ///
    /// The message borrows from the frame wherever the frame holds the text as it is. 1.0.0 reads JSON
    /// from binary frames as well, since Phoenix's serializer does not look at the kind of frame.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] names the field and the byte. Phoenix's socket crashes on such a frame, which
    /// closes the connection; the code to close with is [`DecodeError::close_code`].
    pub fn decode_client<'a>(
        self,
        frame: FrameRef<'a>,
        limits: &Limits,
    ) -> Result<Message<'a>, DecodeError> {
        limits.check_frame(frame)?;
        match (self, frame) {
            (Self::V1, frame) => v1::open(frame, limits)?.into_message(),
            (Self::V2, FrameRef::Text(text)) => v2::open(text, limits)?.into_message(),
            (Self::V2, FrameRef::Binary(bytes)) => binary::decode_client(bytes, limits),
        }
    }

    /// Decodes what a server sent.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], as in [`decode_client`](Self::decode_client); and for a `phx_reply` whose payload
    /// is not an object with a `status` and a `response`.
    pub fn decode_server<'a>(
        self,
        frame: FrameRef<'a>,
        limits: &Limits,
    ) -> Result<ServerMessage<'a>, DecodeError> {
        limits.check_frame(frame)?;
        match (self, frame) {
            (Self::V1, frame) => v1::open(frame, limits)?.into_server_message(limits),
            (Self::V2, FrameRef::Text(text)) => v2::open(text, limits)?.into_server_message(limits),
            (Self::V2, FrameRef::Binary(bytes)) => binary::decode_server(bytes, limits),
        }
    }

    /// Encodes a message from a client to a server.
    ///
    /// A null ref goes into a binary frame as an empty one, and a server reads it as `""`.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] for a binary payload in 1.0.0, and for a field that is too long, or a ref of a
    /// shape that has no text, in a binary frame.
    pub fn encode_client(self, message: &Message<'_>) -> Result<Frame, EncodeError> {
        match (self, &message.payload) {
            (Self::V1, payload) => Ok(v1::encode_client(message, payload.json_for_v1()?)),
            (Self::V2, Payload::Json(json)) => Ok(v2::encode(message, json)),
            (Self::V2, Payload::Binary(data)) => binary::encode_client(message, data),
        }
    }

    /// Encodes a message from a server to one client.
    ///
    /// In a binary frame the `ref` of a push is not written, and a null `join_ref` is an empty one.
    ///
    /// # Errors
    ///
    /// [`EncodeError`], as in [`encode_client`](Self::encode_client); and in 2.0.0 for a JSON payload
    /// that is not an object. In Phoenix each of them crashes the channel that pushes.
    pub fn encode_push(self, message: &Message<'_>) -> Result<Frame, EncodeError> {
        match (self, &message.payload) {
            (Self::V1, payload) => Ok(v1::encode_push(message, payload.json_for_v1()?)),
            (Self::V2, Payload::Json(json)) => Ok(v2::encode(message, json.require_object()?)),
            (Self::V2, Payload::Binary(data)) => binary::encode_push(message, data),
        }
    }

    /// The text of a push around a payload that many sockets share, so that a large one is not copied
    /// for each of them.
    ///
    /// The frame is `before`, the text of the payload and `after`, as
    /// [`encode_push`](Self::encode_push) writes it; the payload of the message does not count. In
    /// 2.0.0 the shared payload must be an object.
    pub fn enclose_push(self, message: &Message<'_>) -> Enclosure {
        let (before, after) = match self {
            Self::V1 => v1::enclose_push(message),
            Self::V2 => v2::enclose_push(message),
        };
        Enclosure { before, after }
    }

    /// Encodes the answer to one message of one client.
    ///
    /// # Errors
    ///
    /// [`EncodeError`], as in [`encode_client`](Self::encode_client). The response need not be an object.
    pub fn encode_reply(self, reply: &Reply<'_>) -> Result<Frame, EncodeError> {
        match (self, &reply.response) {
            (Self::V1, response) => Ok(v1::encode_reply(reply, response.json_for_v1()?)),
            (Self::V2, Payload::Json(json)) => Ok(v2::encode_reply(reply, json)),
            (Self::V2, Payload::Binary(data)) => binary::encode_reply(reply, data),
        }
    }

    /// Encodes a message to every subscriber of a topic whose socket uses this serializer.
    ///
    /// The frame carries no refs, so that one frame serves all of them (Phoenix's fastlane).
    ///
    /// # Errors
    ///
    /// [`EncodeError`], as in [`encode_push`](Self::encode_push).
    pub fn encode_broadcast(
        self,
        topic: &str,
        event: &str,
        payload: &Payload<'_>,
    ) -> Result<Frame, EncodeError> {
        match (self, payload) {
            (Self::V1, payload) => Ok(v1::encode_broadcast(topic, event, payload.json_for_v1()?)),
            (Self::V2, Payload::Json(json)) => {
                Ok(v2::encode_broadcast(topic, event, json.require_object()?))
            }
            (Self::V2, Payload::Binary(data)) => binary::encode_broadcast(topic, event, data),
        }
    }
}

/// The text around a payload, see [`Serializer::enclose_push`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enclosure {
    /// What comes before the payload.
    pub before: String,
    /// What comes after it.
    pub after: String,
}

/// One WebSocket data frame, or one message of a long poll: ready to send, cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A text frame.
    Text(Arc<str>),
    /// A binary frame.
    Binary(Arc<[u8]>),
}

impl Frame {
    /// The frame, borrowed, as the decoders take it.
    pub fn as_frame_ref(&self) -> FrameRef<'_> {
        match self {
            Self::Text(text) => FrameRef::Text(text),
            Self::Binary(bytes) => FrameRef::Binary(bytes),
        }
    }
}

/// A frame as it came in, borrowed from the buffer of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRef<'a> {
    /// A text frame.
    Text(&'a str),
    /// A binary frame.
    Binary(&'a [u8]),
}

impl<'a> FrameRef<'a> {
    /// The content of the frame.
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// How large a frame, and what is kept of it, may be.
///
/// Phoenix has none of these limits in its serializers; the defaults are far above what phoenix.js
/// sends. In bytes, all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The whole frame: 8 MiB by default, about what Phoenix takes in one long-poll request.
    pub max_frame_bytes: usize,
    /// The topic: 4096 by default.
    pub max_topic_bytes: usize,
    /// The event, and the status of a reply: 4096 by default.
    pub max_event_bytes: usize,
    /// Each of `join_ref` and `ref`: 1024 by default.
    pub max_ref_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame_bytes: 8 * 1024 * 1024,
            max_topic_bytes: 4096,
            max_event_bytes: 4096,
            max_ref_bytes: 1024,
        }
    }
}

impl Limits {
    fn check_frame(&self, frame: FrameRef<'_>) -> Result<(), DecodeError> {
        let (len, max) = (frame.as_bytes().len(), self.max_frame_bytes);
        if len > max {
            return Err(DecodeError::FrameTooLarge { len, max });
        }
        Ok(())
    }

    fn check_field(&self, field: Field, at: usize, len: usize) -> Result<(), DecodeError> {
        let max = match field {
            Field::JoinRef | Field::Ref => self.max_ref_bytes,
            Field::Topic => self.max_topic_bytes,
            Field::Event | Field::Status => self.max_event_bytes,
            Field::Payload | Field::Response => self.max_frame_bytes,
        };
        if len > max {
            return Err(DecodeError::FieldTooLong {
                field,
                at,
                len,
                max,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_payload_makes_the_same_frame() {
        let payload = Json::parse(r#"{"a":"]}"}"#).unwrap();
        let message = Message {
            join_ref: Ref::from("7"),
            msg_ref: Ref::NULL,
            topic: "to\"pic".into(),
            event: "\"payload\":,".into(),
            payload: Payload::Json(payload.clone()),
        };
        for serializer in [Serializer::V1, Serializer::V2] {
            let Enclosure { before, after } = serializer.enclose_push(&message);
            let text = before + payload.as_str() + &after;
            let frame = serializer.encode_push(&message).unwrap();
            assert_eq!(frame, Frame::Text(text.into()));
        }
    }

    #[test]
    fn a_frame_may_be_as_large_as_the_limit_and_no_larger() {
        let text = r#"[null,"1","t","e",{}]"#;
        let mut limits = Limits {
            max_frame_bytes: text.len(),
            ..Limits::default()
        };
        for serializer in [Serializer::V1, Serializer::V2] {
            let at_limit = serializer.decode_client(FrameRef::Text(text), &limits);
            assert_ne!(
                at_limit.err().map(|error| error.close_code()),
                Some(1009),
                "{serializer:?}"
            );
        }
        limits.max_frame_bytes -= 1;
        for serializer in [Serializer::V1, Serializer::V2] {
            for frame in [FrameRef::Text(text), FrameRef::Binary(text.as_bytes())] {
                let expected = DecodeError::FrameTooLarge {
                    len: text.len(),
                    max: text.len() - 1,
                };
                assert_eq!(
                    serializer.decode_client(frame, &limits),
                    Err(expected.clone())
                );
                assert_eq!(serializer.decode_server(frame, &limits), Err(expected));
            }
        }
    }

    #[test]
    fn cloning_a_frame_shares_its_bytes() {
        let frame = Serializer::V2
            .encode_broadcast("t", "e", &Payload::EMPTY)
            .unwrap();
        let (Frame::Text(one), Frame::Text(two)) = (&frame, &frame.clone()) else {
            panic!("a JSON payload is a text frame");
        };
        assert!(Arc::ptr_eq(one, two));
    }
}
