//! The application of the conformance tests: `conf:*` and `exact` let a test drive each operation.

use presence_core::presence::KeyBuf;
use presence_core::set::{JoinError as SetJoinError, UpdateError};
use presence_core::wire::{Payload, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::User;
use super::room::RoomChannel;
use crate::channel::{Channel, Failure, IntoPayload as _, JoinError, Joined, Next, Socket};
use crate::endpoint::UserSocket;
use crate::node::Node;
use crate::presence::{Presence, PresenceError, TrackError};

/// The secret key base of the conformance application.
pub fn secret_key_base() -> String {
    "presence-conformance-secret-".repeat(3)
}

/// The socket of the conformance application.
pub fn socket(node: &Node, tokens: super::Tokens) -> UserSocket<User> {
    let node = node.clone();
    UserSocket::new(move |info| {
        if info.param("refuse") == Some("error") {
            return Err(crate::endpoint::Refused);
        }
        let now_ms = i64::try_from(node.env().unix_time().as_millis()).unwrap_or(i64::MAX);
        tokens.connect(info, now_ms)
    })
    .channel::<RoomChannel>("room:*")
    .channel::<ConformanceChannel>("conf:*")
    .channel::<ConformanceChannel>("exact")
}

/// A channel that does what its client says.
#[derive(Debug)]
pub struct ConformanceChannel;

#[derive(Deserialize)]
struct Change {
    key: Value,
    meta: Value,
}

#[derive(Deserialize)]
struct Named {
    key: Value,
}

impl Channel for ConformanceChannel {
    type User = User;
    type Info = std::convert::Infallible;

    async fn join(
        _topic: &str,
        params: Payload<'static>,
        socket: &mut Socket<Self>,
    ) -> Result<Joined<Self>, JoinError> {
        let params: Value = super::read(&params)?;
        if let Some(reason) = params.get("reject") {
            return Err(JoinError::Refused(
                json!({ "reason": reason }).into_payload(),
            ));
        }
        assert!(
            params.get("crash").is_none(),
            "the client asked the join to crash"
        );
        let response = match (params.get("reply"), params.get("user")) {
            (Some(reply), _) => reply.clone(),
            (None, Some(Value::Bool(true))) => json!({ "user_id": socket.user().id }),
            (None, _) => json!({}),
        };
        let channel = Self;
        let response = response.into_payload();
        Ok(Joined { channel, response })
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload<'static>,
        socket: &mut Socket<Self>,
    ) -> Result<Next, Failure> {
        Ok(match event {
            "track" => {
                let Change { key, meta } = super::read(&payload)?;
                match Presence::track(socket, KeyBuf::from_json(&key)?, &meta).await {
                    Ok(phx_ref) => Next::ok(json!({ "ref": phx_ref })),
                    Err(TrackError::Set(SetJoinError::AlreadyTracked)) => Next::error(json!({
                        "reason": "already_tracked",
                        "topic": socket.topic(),
                        "key": key,
                    })),
                    Err(error) => return Err(error.into()),
                }
            }
            "update" => {
                let Change { key, meta } = super::read(&payload)?;
                updated(Presence::update(socket, KeyBuf::from_json(&key)?, &meta).await)?
            }
            "merge" => {
                let Change { key, meta } = super::read(&payload)?;
                updated(Presence::merge(socket, KeyBuf::from_json(&key)?, &meta).await)?
            }
            "untrack" => {
                let Named { key } = super::read(&payload)?;
                Presence::untrack(socket, KeyBuf::from_json(&key)?).await;
                Next::ok(Payload::EMPTY)
            }
            "list" => {
                let list = Presence::list(socket).await;
                let presences: Value = list.deserialize()?;
                Next::ok(json!({ "presences": presences }))
            }
            "get_by_key" => {
                let Named { key } = super::read(&payload)?;
                let presence = Presence::by_key(socket, KeyBuf::from_json(&key)?).await;
                let presence: Value = match presence {
                    Some(presence) => presence.deserialize()?,
                    None => json!([]),
                };
                Next::ok(json!({ "presence": presence }))
            }
            "state" => {
                Presence::push_state(socket);
                Next::NoReply
            }
            "echo" => Next::ok(payload),
            "fail" => Next::error(payload),
            "ok" => Next::ok(Payload::EMPTY),
            "noreply" => Next::NoReply,
            "shout" => {
                socket.broadcast("shout", payload)?;
                Next::NoReply
            }
            "shout_from" => {
                socket.broadcast_from("shout", payload)?;
                Next::ok(Payload::EMPTY)
            }
            "push" => {
                socket.push("pushed", payload);
                Next::NoReply
            }
            "stop" => Next::Stop,
            "stop_reply" => Next::ReplyAndStop(Status::Ok, payload),
            "crash" => panic!("the client asked the handler to crash"),
            other => return Err(Failure::no_handler(other)),
        })
    }
}

fn updated(updated: Result<String, PresenceError>) -> Result<Next, Failure> {
    match updated {
        Ok(phx_ref) => Ok(Next::ok(json!({ "ref": phx_ref }))),
        Err(PresenceError::Set(UpdateError::NotTracked)) => {
            Ok(Next::error(json!({ "reason": "nopresence" })))
        }
        Err(error) => Err(error.into()),
    }
}
