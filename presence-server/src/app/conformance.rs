//! The application of the conformance tests: `conf:*` and `exact` let a test drive each operation.

mod room;

use std::time::Duration;

use presence_core::presence::KeyBuf;
use presence_core::set::{JoinError as SetJoinError, UpdateError};
use presence_core::wire::{Payload, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use self::room::RoomChannel;
use super::{Tokens, read, unix_ms};
use crate::channel::{Channel, Failure, IntoPayload as _, JoinError, Joined, Next, Socket};
use crate::endpoint::{ConnectInfo, Connected, Refused, UserSocket};
use crate::node::Node;
use crate::presence::{Presence, PresenceError, TrackError};

/// How long a token is good for: ten years.
const MAX_AGE: Duration = Duration::from_secs(315_360_000);

/// The secret key base of the conformance application.
pub fn secret_key_base() -> String {
    "presence-conformance-secret-".repeat(3)
}

/// What a socket knows of its user.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// What its token was signed for; `None` where the client gave no token.
    pub id: Option<Value>,
}

/// The socket of the conformance application.
pub fn socket(node: &Node, tokens: Tokens) -> UserSocket<User> {
    let node = node.clone();
    let tokens = tokens.with_max_age(MAX_AGE);
    UserSocket::new(move |info| connect(&tokens, info, unix_ms(&node)))
        .channel::<RoomChannel>("room:*")
        .channel::<ConformanceChannel>("conf:*")
        .channel::<ConformanceChannel>("exact")
}

/// Lets in whoever brings no token, or a good one.
fn connect(tokens: &Tokens, info: &ConnectInfo, now_ms: i64) -> Result<Connected<User>, Refused> {
    if info.param("refuse") == Some("error") {
        return Err(Refused);
    }
    let Some(token) = info.param("token").or(info.auth_token.as_deref()) else {
        let user = User::default();
        return Ok(Connected { user, id: None });
    };
    let id = tokens.verify(token, now_ms).map_err(|error| {
        tracing::info!(%error, "a client without a good token is refused");
        Refused
    })?;
    let text = match &id {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Ok(Connected {
        user: User { id: Some(id) },
        id: Some(format!("user_socket:{text}").into()),
    })
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
        let params: Value = read(&params)?;
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
                let Change { key, meta } = read(&payload)?;
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
                let Change { key, meta } = read(&payload)?;
                updated(Presence::update(socket, KeyBuf::from_json(&key)?, &meta).await)?
            }
            "merge" => {
                let Change { key, meta } = read(&payload)?;
                updated(Presence::merge(socket, KeyBuf::from_json(&key)?, &meta).await)?
            }
            "untrack" => {
                let Named { key } = read(&payload)?;
                Presence::untrack(socket, KeyBuf::from_json(&key)?).await;
                Next::ok(Payload::EMPTY)
            }
            "list" => {
                let list = Presence::list(socket).await;
                let presences: Value = list.deserialize()?;
                Next::ok(json!({ "presences": presences }))
            }
            "get_by_key" => {
                let Named { key } = read(&payload)?;
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
