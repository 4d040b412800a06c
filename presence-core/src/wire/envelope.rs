//! A message taken out of a text frame, its payload still raw.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Limits;
use super::error::{DecodeError, Field};
use super::message::{Message, Reply, ServerMessage, Status, event};
use super::payload::Payload;
use super::reference::Ref;
use super::text::{self, json, offset, parse_object};

/// What both serializers find in a text frame, before anyone asks who sent it.
pub(super) struct Envelope<'a> {
    frame: &'a str,
    join_ref: Ref<'a>,
    msg_ref: Ref<'a>,
    topic: Cow<'a, str>,
    event: Cow<'a, str>,
    payload: &'a RawValue,
}

/// The values of a message's fields; a `join_ref` that is not there counts as null.
pub(super) struct Values<'a> {
    pub(super) join_ref: Option<&'a RawValue>,
    pub(super) msg_ref: &'a RawValue,
    pub(super) topic: &'a RawValue,
    pub(super) event: &'a RawValue,
    pub(super) payload: &'a RawValue,
}

impl<'a> Envelope<'a> {
    pub(super) fn new(
        frame: &'a str,
        values: &Values<'a>,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        Ok(Self {
            frame,
            join_ref: match values.join_ref {
                Some(raw) => text::reference(frame, raw, Field::JoinRef, limits)?,
                None => Ref::NULL,
            },
            msg_ref: text::reference(frame, values.msg_ref, Field::Ref, limits)?,
            topic: text::string(frame, values.topic, Field::Topic, limits)?,
            event: text::string(frame, values.event, Field::Event, limits)?,
            payload: values.payload,
        })
    }

    pub(super) fn into_message(self) -> Result<Message<'a>, DecodeError> {
        Ok(Message {
            payload: Payload::Json(json(self.frame, self.payload, Field::Payload)?),
            join_ref: self.join_ref,
            msg_ref: self.msg_ref,
            topic: self.topic,
            event: self.event,
        })
    }

    /// A `phx_reply` is a reply, anything else a push, as in phoenix.js.
    pub(super) fn into_server_message(
        self,
        limits: &Limits,
    ) -> Result<ServerMessage<'a>, DecodeError> {
        if self.event == event::REPLY {
            self.into_reply(limits).map(ServerMessage::Reply)
        } else {
            self.into_message().map(ServerMessage::Push)
        }
    }

    fn into_reply(self, limits: &Limits) -> Result<Reply<'a>, DecodeError> {
        let [status, response] = parse_object(self.payload.get(), [Field::Status, Field::Response])
            .map_err(|_| DecodeError::ReplyNotAnObject {
                at: offset(self.frame, self.payload),
            })?;
        let (field, response_field) = (Field::Status, Field::Response);
        let status = status.ok_or(DecodeError::MissingKey { field })?;
        let status = text::string(self.frame, status, field, limits)?;
        let response = response.ok_or(DecodeError::MissingKey {
            field: response_field,
        })?;
        Ok(Reply {
            join_ref: self.join_ref,
            msg_ref: self.msg_ref,
            topic: self.topic,
            status: Status::from(&*status),
            response: Payload::Json(json(self.frame, response, response_field)?),
        })
    }
}
