//! What can be wrong with a frame, and where.

use std::fmt;

use thiserror::Error;

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// The ref of the join that the message belongs to: element 0 in 2.0.0.
    JoinRef,
    /// The ref of the message itself: element 1 in 2.0.0.
    Ref,
    /// The topic: element 2 in 2.0.0.
    Topic,
    /// The event: element 3 in 2.0.0.
    Event,
    /// The payload: element 4 in 2.0.0.
    Payload,
    /// The `status` in the payload of a reply.
    Status,
    /// The `response` in the payload of a reply.
    Response,
}

impl Field {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::JoinRef => "join_ref",
            Self::Ref => "ref",
            Self::Topic => "topic",
            Self::Event => "event",
            Self::Payload => "payload",
            Self::Status => "status",
            Self::Response => "response",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a frame is no message.
///
/// `at` is the byte of the frame at which the field begins.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame is larger than [`max_frame_bytes`](super::Limits::max_frame_bytes).
    #[error("the frame has {len} bytes, more than the {max} allowed")]
    FrameTooLarge {
        /// Its bytes.
        len: usize,
        /// How many are allowed.
        max: usize,
    },
    /// A field is larger than its limit in [`Limits`](super::Limits).
    #[error("the {field} at byte {at} has {len} bytes, more than the {max} allowed")]
    FieldTooLong {
        /// Which one.
        field: Field,
        /// Where it begins.
        at: usize,
        /// Its bytes.
        len: usize,
        /// How many are allowed.
        max: usize,
    },
    /// The frame is not JSON.
    #[error("the frame is not JSON: {reason}")]
    NotJson {
        /// What was found, with its line and column.
        reason: String,
    },
    /// The frame is JSON, but not an array (2.0.0) or not an object (1.0.0).
    #[error("the frame is JSON, but not {expected}")]
    WrongShape {
        /// What it should be.
        expected: &'static str,
    },
    /// The array ends before its fifth element.
    #[error("the array has {found} elements: element {found}, its {missing}, is missing")]
    TooFewElements {
        /// How many there are.
        found: usize,
        /// The first that is missing.
        missing: Field,
    },
    /// The object has no such key.
    #[error("the object has no key `{field}`")]
    MissingKey {
        /// Which one.
        field: Field,
    },
    /// A field that must be a string is something else.
    #[error("the {field} at byte {at} is not a string")]
    NotAString {
        /// Which one.
        field: Field,
        /// Where it begins.
        at: usize,
    },
    /// A string has a `\u` escape that is half of a surrogate pair.
    #[error("the {field} at byte {at} has a lone surrogate in a string")]
    LoneSurrogate {
        /// In which field.
        field: Field,
        /// Where the field begins.
        at: usize,
    },
    /// The payload of a `phx_reply` is not an object.
    #[error("the payload of the reply at byte {at} is not an object")]
    ReplyNotAnObject {
        /// Where the payload begins.
        at: usize,
    },
    /// The first byte of a binary frame is no kind that its receiver knows.
    #[error("the binary frame is of the unknown kind {kind}")]
    UnknownKind {
        /// The first byte.
        kind: u8,
    },
    /// A binary frame ends within its header of lengths.
    #[error("the binary frame has {len} bytes, fewer than the {needed} of its header")]
    HeaderTruncated {
        /// Its bytes.
        len: usize,
        /// The bytes of the header.
        needed: usize,
    },
    /// A length in a binary frame runs past its end.
    #[error("the {field} ends at byte {end} of a binary frame of {len} bytes")]
    Truncated {
        /// Which field.
        field: Field,
        /// Where it should end.
        end: usize,
        /// The bytes of the frame.
        len: usize,
    },
    /// A text is not UTF-8.
    #[error("the {field} is not UTF-8 at byte {at}")]
    FieldNotUtf8 {
        /// Which one.
        field: Field,
        /// The first byte that is wrong.
        at: usize,
    },
    /// A binary frame that should hold JSON (1.0.0) is not UTF-8.
    #[error("the frame is not UTF-8 at byte {at}")]
    FrameNotUtf8 {
        /// The first byte that is wrong.
        at: usize,
    },
}

impl DecodeError {
    /// The WebSocket code to close with: 1009 for a frame that is too large, 1011 for any other.
    ///
    /// 1011 since the socket process of Phoenix crashes on a frame that it cannot decode.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::FrameTooLarge { .. } => 1009,
            _ => 1011,
        }
    }
}

/// Why a message has no frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The length of a field of a binary frame is one byte.
    #[error("the {field} has {len} bytes, and a binary frame takes 255 at most")]
    FieldTooLong {
        /// Which one.
        field: Field,
        /// Its bytes.
        len: usize,
    },
    /// A ref that is an array or an object has no text for a binary frame.
    #[error("the {field} is an array or an object, which a binary frame cannot carry")]
    RefNotScalar {
        /// Which one.
        field: Field,
    },
    /// 1.0.0 has no binary payloads. (In Phoenix the sender crashes.)
    #[error("the 1.0.0 serializer has no binary payloads")]
    BinaryInV1,
    /// A server pushes and broadcasts objects only, in 2.0.0. (In Phoenix the sender crashes.)
    #[error("the payload of a push or a broadcast in 2.0.0 is not an object")]
    PayloadNotAnObject,
}
