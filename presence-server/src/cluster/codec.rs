//! How a [`Message`] is written between nodes.
//!
//! The kind of a message is the kind of its frame. The body has fields in [postcard]'s encoding:
//! integers as varints, strings with their length before them. A tracker's message is written by
//! [`presence_core::wire::cluster`] and takes the rest of the body. Whoever reads trusts nothing: what
//! is not understood is refused, with the name of what is wrong and where.
//!
//! Version 1 has no requests and answers.

use std::sync::Arc;

use bytes::Bytes;
use presence_core::wire::cluster::{CodecError, Limits, Version};
use presence_core::wire::{Json, JsonError, Payload, cluster};
use serde::{Deserialize, Serialize};

use super::Message;
use super::frame::{self, Frame};

mod kind {
    pub(super) const TRACKER: u8 = 16;
    pub(super) const BROADCAST: u8 = 17;
    pub(super) const DISCONNECT: u8 = 18;
    pub(super) const REQUEST: u8 = 19;
    pub(super) const ANSWER: u8 = 20;
}

/// Why a frame is no message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("version {} has no frame of kind {kind}", version.number())]
    Kind { kind: u8, version: Version },
    #[error("a frame of kind {kind}: byte {at}: no {what}")]
    Malformed {
        kind: u8,
        what: &'static str,
        at: usize,
    },
    #[error("a broadcast's payload: {0}")]
    Json(#[from] JsonError),
    #[error("a message for shard {shard} of {pool_size}")]
    Shard { shard: u32, pool_size: u32 },
    #[error("a message for shard {shard}: {error}")]
    Tracker { shard: u32, error: CodecError },
}

/// Whether a frame of this kind is a message; those below are between the meshes alone.
pub(super) fn is_message(kind: u8) -> bool {
    kind >= kind::TRACKER
}

/// The frame of a message; none where the version has no such message.
pub(super) fn encode(message: &Message, version: Version) -> Option<Bytes> {
    let frame = match message {
        Message::Tracker { shard, message } => {
            let mut frame = put(frame::begin(kind::TRACKER), shard);
            frame.extend(cluster::encode_as(message, version));
            frame
        }
        Message::Broadcast {
            topic,
            event,
            payload,
        } => {
            let mut frame = put(frame::begin(kind::BROADCAST), &(&**topic, &**event));
            match payload {
                Payload::Json(json) => {
                    frame.push(0);
                    frame.extend_from_slice(json.as_str().as_bytes());
                }
                Payload::Binary(bytes) => {
                    frame.push(1);
                    frame.extend_from_slice(bytes);
                }
            }
            frame
        }
        Message::Disconnect { socket_id } => put(frame::begin(kind::DISCONNECT), &**socket_id),
        Message::Request { .. } | Message::Answer { .. } if version < Version::V2 => return None,
        Message::Request { id, body } => numbered(kind::REQUEST, *id, body),
        Message::Answer { id, body } => numbered(kind::ANSWER, *id, body),
    };
    Some(frame::finish(frame).into())
}

fn numbered(kind: u8, id: u64, body: &Bytes) -> Vec<u8> {
    let mut frame = put(frame::begin(kind), &id);
    frame.extend_from_slice(body);
    frame
}

fn put(frame: Vec<u8>, value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    postcard::to_extend(value, frame).expect("a growing buffer takes any value")
}

/// The message of a frame.
pub(super) fn decode(
    frame: Frame<'_>,
    version: Version,
    pool_size: u32,
    limits: &Limits,
) -> Result<Message, DecodeError> {
    let kind = frame.kind;
    let mut fields = Fields {
        kind,
        body: frame.body,
        at: 0,
    };
    match kind {
        kind::TRACKER => {
            let shard = fields.take("number of a shard")?;
            if shard >= pool_size {
                return Err(DecodeError::Shard { shard, pool_size });
            }
            let message = cluster::decode(fields.rest(), limits)
                .map_err(|error| DecodeError::Tracker { shard, error })?;
            Ok(Message::Tracker { shard, message })
        }
        kind::BROADCAST => {
            let topic = fields.text("topic")?;
            let event = fields.text("event")?;
            let at = fields.at;
            let payload = match fields.take("kind of payload")? {
                0_u8 => {
                    let what = "text of a payload";
                    let at = fields.at;
                    let text = std::str::from_utf8(fields.rest())
                        .map_err(|_| DecodeError::Malformed { kind, what, at })?;
                    Payload::Json(Json::parse(text)?.into_owned())
                }
                1 => Payload::Binary(fields.rest().to_vec().into()),
                _ => {
                    let what = "kind of payload";
                    return Err(DecodeError::Malformed { kind, what, at });
                }
            };
            Ok(Message::Broadcast {
                topic,
                event,
                payload,
            })
        }
        kind::DISCONNECT => {
            let socket_id = fields.text("id of sockets")?;
            let at = fields.at;
            if !fields.rest().is_empty() {
                let what = "end of the frame";
                return Err(DecodeError::Malformed { kind, what, at });
            }
            Ok(Message::Disconnect { socket_id })
        }
        kind::REQUEST if version >= Version::V2 => Ok(Message::Request {
            id: fields.take("number of a request")?,
            body: Bytes::copy_from_slice(fields.rest()),
        }),
        kind::ANSWER if version >= Version::V2 => Ok(Message::Answer {
            id: fields.take("number of a request")?,
            body: Bytes::copy_from_slice(fields.rest()),
        }),
        kind => Err(DecodeError::Kind { kind, version }),
    }
}

struct Fields<'a> {
    kind: u8,
    body: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn take<T: Deserialize<'a>>(&mut self, what: &'static str) -> Result<T, DecodeError> {
        let (kind, at) = (self.kind, self.at);
        let (value, rest) = postcard::take_from_bytes(&self.body[at..])
            .map_err(|_| DecodeError::Malformed { kind, what, at })?;
        self.at = self.body.len() - rest.len();
        Ok(value)
    }

    fn text(&mut self, what: &'static str) -> Result<Arc<str>, DecodeError> {
        self.take::<&str>(what).map(Arc::from)
    }

    fn rest(&self) -> &'a [u8] {
        &self.body[self.at..]
    }
}

#[cfg(test)]
mod tests {
    use presence_core::clock::{Context, ReplicaId};
    use presence_core::wire::cluster::Body;

    use super::*;

    fn messages() -> Vec<Message> {
        let tracker = |shard, body| Message::Tracker {
            shard,
            message: cluster::Message {
                from: ReplicaId::new("a", 3),
                body,
            },
        };
        let broadcast = |payload| Message::Broadcast {
            topic: "room:ü".into(),
            event: "shout".into(),
            payload,
        };
        let json = Json::parse("{\"a\" : 1.50}").unwrap().into_owned();
        let body = Bytes::from_static(b"\0body");
        vec![
            tracker(3, Body::Permdown),
            tracker(
                0,
                Body::Stopping {
                    clocks: Context::new(),
                    handover: true,
                },
            ),
            broadcast(Payload::Json(json)),
            broadcast(Payload::Binary(vec![0, 255].into())),
            Message::Disconnect {
                socket_id: "user:1".into(),
            },
            Message::Request {
                id: u64::MAX,
                body: body.clone(),
            },
            Message::Answer { id: 0, body },
        ]
    }

    fn read(bytes: &[u8], version: Version) -> Result<Message, DecodeError> {
        let frame = Frame {
            kind: bytes[frame::HEADER_BYTES - 1],
            body: &bytes[frame::HEADER_BYTES..],
        };
        decode(frame, version, 4, &Limits::default())
    }

    fn there_and_back(message: &Message, version: Version) -> Option<Message> {
        encode(message, version).map(|bytes| {
            let len = u32::from_be_bytes(*bytes.first_chunk().unwrap()) as usize;
            assert_eq!(len + 4, bytes.len());
            read(&bytes, version).unwrap()
        })
    }

    #[test]
    fn every_kind_of_message_comes_back_as_it_was() {
        for message in messages() {
            assert_eq!(there_and_back(&message, Version::V2), Some(message));
        }
    }

    #[test]
    fn version_1_has_no_handover_no_requests_and_no_answers() {
        let messages = messages();
        let there_and_back = |message| there_and_back(message, Version::V1);
        for same in [0, 2, 3, 4] {
            let message = &messages[same];
            assert_eq!(there_and_back(message).as_ref(), Some(message));
        }
        let Some(Message::Tracker { message, .. }) = there_and_back(&messages[1]) else {
            panic!("a tracker's message stays one");
        };
        assert!(matches!(
            message.body,
            Body::Stopping {
                handover: false,
                ..
            }
        ));
        for none in [5, 6] {
            assert_eq!(there_and_back(&messages[none]), None);
            let bytes = encode(&messages[none], Version::V2).unwrap();
            let (kind, version) = (bytes[4], Version::V1);
            assert_eq!(
                read(&bytes, version),
                Err(DecodeError::Kind { kind, version })
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let refused = |kind, body: &[u8]| {
            let bytes = frame::frame(kind, body);
            read(&bytes, Version::V2).unwrap_err().to_string()
        };
        assert_eq!(refused(99, b""), "version 2 has no frame of kind 99");
        assert_eq!(refused(kind::TRACKER, &[4]), "a message for shard 4 of 4");
        assert_eq!(
            refused(kind::TRACKER, &[1, 9]),
            "a message for shard 1: the message is of version 9; 1 to 2 are spoken here"
        );
        assert_eq!(
            refused(kind::BROADCAST, b"\x01t\x05ev"),
            "a frame of kind 17: byte 2: no event"
        );
        assert_eq!(
            refused(kind::BROADCAST, b"\x01t\x01e\x02"),
            "a frame of kind 17: byte 4: no kind of payload"
        );
        assert!(refused(kind::BROADCAST, b"\x01t\x01e\0{").starts_with("a broadcast's payload: "));
        assert_eq!(
            refused(kind::DISCONNECT, b"\x01aX"),
            "a frame of kind 18: byte 2: no end of the frame"
        );
    }

    #[test]
    fn reading_spoiled_bytes_never_panics() {
        for message in messages() {
            let bytes = encode(&message, Version::V2).unwrap();
            for at in 4..bytes.len() {
                let _ = read(&bytes[..at.max(5)], Version::V2);
                for byte in [0, 1, 0x7F, 0x80, 0xFF] {
                    let mut bytes = bytes.to_vec();
                    bytes[at] = byte;
                    let _ = read(&bytes, Version::V2);
                }
            }
        }
    }
}
