//! The guide's RoomChannel with one room that is private.

use presence_core::wire::Payload;
use serde::Deserialize;
use serde_json::{Value, json};

use super::User;
use crate::app::{online_now, read};
use crate::channel::{Channel, Failure, JoinError, Joined, Next, Socket};
use crate::presence::Presence;

/// A client in a room, under the name that it gave.
#[derive(Debug)]
pub(super) struct RoomChannel {
    name: String,
}

/// Sent to itself once the client has joined.
#[derive(Debug)]
pub(super) struct AfterJoin;

#[derive(Deserialize)]
struct Params {
    name: String,
}

#[derive(Deserialize)]
struct Status {
    status: Value,
}

impl Channel for RoomChannel {
    type User = User;
    type Info = AfterJoin;

    async fn join(
        topic: &str,
        params: Payload<'static>,
        socket: &mut Socket<Self>,
    ) -> Result<Joined<Self>, JoinError> {
        if topic == "room:private" && socket.user().id.is_none() {
            return Err(JoinError::reason("unauthorized"));
        }
        let Params { name } = read(&params)?;
        socket.send_self(AfterJoin);
        Ok(Self { name }.into())
    }

    async fn handle_info(
        &mut self,
        AfterJoin: AfterJoin,
        socket: &mut Socket<Self>,
    ) -> Result<Next, Failure> {
        let meta = online_now(socket.node());
        Presence::track(socket, self.name.as_str(), &meta).await?;
        Presence::push_state(socket);
        Ok(Next::NoReply)
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload<'static>,
        socket: &mut Socket<Self>,
    ) -> Result<Next, Failure> {
        match event {
            "status" => {
                let Status { status } = read(&payload)?;
                let meta = json!({ "status": status });
                Presence::merge(socket, self.name.as_str(), &meta).await?;
                Ok(Next::ok(Payload::EMPTY))
            }
            other => Err(Failure::no_handler(other)),
        }
    }
}
