//! The guide's RoomChannel: everyone in a room sees who else is there.

use presence_core::wire::Payload;
use serde::Deserialize;
use serde_json::json;

use super::User;
use crate::channel::{Channel, Failure, JoinError, Joined, Next, Socket};
use crate::presence::Presence;

/// A client in a room.
#[derive(Debug)]
pub struct RoomChannel {
    name: String,
    online_at: String,
}

/// Sent to itself once the client has joined.
#[derive(Debug)]
pub struct AfterJoin;

#[derive(Deserialize)]
struct Params {
    name: String,
}

#[derive(Deserialize)]
struct Status {
    status: serde_json::Value,
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
        let Params { name } = super::read(&params)?;
        socket.send_self(AfterJoin);
        let online_at = socket.node().env().unix_time().as_secs().to_string();
        Ok(Self { name, online_at }.into())
    }

    async fn handle_info(
        &mut self,
        AfterJoin: AfterJoin,
        socket: &mut Socket<Self>,
    ) -> Result<Next, Failure> {
        let meta = json!({ "online_at": self.online_at });
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
                let Status { status } = super::read(&payload)?;
                let meta = json!({ "status": status });
                Presence::merge(socket, self.name.as_str(), &meta).await?;
                Ok(Next::ok(Payload::EMPTY))
            }
            other => Err(Failure::no_handler(other)),
        }
    }
}
