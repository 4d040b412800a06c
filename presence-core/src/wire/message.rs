//! Messages and replies, free of how they are written.

use std::borrow::Cow;

use super::payload::Payload;
use super::reference::Ref;

/// The events and the topic that the protocol itself uses (Phoenix.Socket, phoenix.js).
pub mod event {
    /// A client joins a topic.
    pub const JOIN: &str = "phx_join";
    /// A client leaves a topic.
    pub const LEAVE: &str = "phx_leave";
    /// A server answers a message.
    pub const REPLY: &str = "phx_reply";
    /// A server has closed a channel, since the client left it, joined it again, or it stopped.
    pub const CLOSE: &str = "phx_close";
    /// A channel crashed on the server; the client joins it again.
    pub const ERROR: &str = "phx_error";
    /// A client says that it is still there, on [`HEARTBEAT_TOPIC`].
    pub const HEARTBEAT: &str = "heartbeat";
    /// The topic of heartbeats.
    pub const HEARTBEAT_TOPIC: &str = "phoenix";
}

/// What a client sends, and what a server pushes or broadcasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The ref of the join it belongs to; null in a broadcast.
    pub join_ref: Ref<'a>,
    /// Its own ref, which the reply to it carries; null in a push or a broadcast.
    pub msg_ref: Ref<'a>,
    /// The topic.
    pub topic: Cow<'a, str>,
    /// The event.
    pub event: Cow<'a, str>,
    /// The payload.
    pub payload: Payload<'a>,
}

impl Message<'_> {
    /// The same message, borrowing from nothing.
    pub fn into_owned(self) -> Message<'static> {
        Message {
            join_ref: self.join_ref.into_owned(),
            msg_ref: self.msg_ref.into_owned(),
            topic: Cow::Owned(self.topic.into_owned()),
            event: Cow::Owned(self.event.into_owned()),
            payload: self.payload.into_owned(),
        }
    }

    /// The bytes that it keeps.
    pub(crate) fn len(&self) -> usize {
        self.join_ref.len()
            + self.msg_ref.len()
            + self.topic.len()
            + self.event.len()
            + self.payload.len()
    }
}

/// A server's answer to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The ref of the join that the message belongs to.
    pub join_ref: Ref<'a>,
    /// The ref of the message it answers.
    pub msg_ref: Ref<'a>,
    /// The topic.
    pub topic: Cow<'a, str>,
    /// How it went.
    pub status: Status,
    /// What the answer carries.
    pub response: Payload<'a>,
}

impl Reply<'_> {
    /// The same reply, borrowing from nothing.
    pub fn into_owned(self) -> Reply<'static> {
        Reply {
            join_ref: self.join_ref.into_owned(),
            msg_ref: self.msg_ref.into_owned(),
            topic: Cow::Owned(self.topic.into_owned()),
            status: self.status,
            response: self.response.into_owned(),
        }
    }
}

/// How a message went.
///
/// On the wire it is any string; in Phoenix it is the atom that the handler chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// `ok`.
    Ok,
    /// `error`.
    Error,
    /// Anything else, which an application may choose.
    Other(Box<str>),
}

impl Status {
    /// Its text on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for Status {
    fn from(text: &str) -> Self {
        match text {
            "ok" => Self::Ok,
            "error" => Self::Error,
            other => Self::Other(other.into()),
        }
    }
}

/// What a client receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMessage<'a> {
    /// A push to this client alone, or a broadcast: nothing in a text frame tells which.
    Push(Message<'a>),
    /// An answer.
    Reply(Reply<'a>),
}

impl ServerMessage<'_> {
    /// The topic that it is about.
    pub fn topic(&self) -> &str {
        match self {
            ServerMessage::Push(message) => &message.topic,
            ServerMessage::Reply(reply) => &reply.topic,
        }
    }

    /// The ref of the join that it belongs to.
    pub fn join_ref(&self) -> &Ref<'_> {
        match self {
            ServerMessage::Push(message) => &message.join_ref,
            ServerMessage::Reply(reply) => &reply.join_ref,
        }
    }

    /// The same message, borrowing from nothing.
    pub fn into_owned(self) -> ServerMessage<'static> {
        match self {
            ServerMessage::Push(message) => ServerMessage::Push(message.into_owned()),
            ServerMessage::Reply(reply) => ServerMessage::Reply(reply.into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_its_text() {
        assert_eq!(Status::from("ok"), Status::Ok);
        assert_eq!(Status::from("error"), Status::Error);
        assert_eq!(Status::from("maybe"), Status::Other("maybe".into()));
        for text in ["ok", "error", "maybe", ""] {
            assert_eq!(Status::from(text).as_str(), text);
        }
    }

    #[test]
    fn the_length_counts_every_part() {
        let message = Message {
            join_ref: Ref::from("1"),
            msg_ref: Ref::from("22"),
            topic: Cow::Borrowed("333"),
            event: Cow::Borrowed("4444"),
            payload: Payload::Binary(Cow::Borrowed(b"55555")),
        };
        assert_eq!(message.len(), 15);
    }
}
