//! The guide made safe: whoever brings a good token is let in, and the room tracks the user that the
//! token was signed for, whatever name the client gives.

use std::fmt;

use presence_core::presence::KeyBuf;
use presence_core::token::TokenError;
use presence_core::wire::Payload;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Tokens, online_now, read, unix_ms};
use crate::channel::{Channel, Failure, JoinError, Joined, Next, Socket};
use crate::endpoint::{Connected, Refused, UserSocket};
use crate::node::Node;
use crate::presence::Presence;

/// The socket of users with a token: the param `token`, or the auth token of phoenix.js.
///
/// Its id is `user_socket:` and the user's id, by which a user can be disconnected.
pub fn socket(node: &Node, tokens: Tokens) -> UserSocket<User> {
    let node = node.clone();
    UserSocket::new(move |info| {
        let token = info.param("token").or(info.auth_token.as_deref());
        let user = User::of_token(&tokens, token, unix_ms(&node)).map_err(|reason| {
            tracing::info!(error = %reason, "a client without a good token is refused");
            Refused
        })?;
        let id = Some(format!("user_socket:{user}").into());
        Ok(Connected { user, id })
    })
    .channel::<RoomChannel>("room:*")
}

/// What a socket knows of its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What the token was signed for.
    pub id: KeyBuf,
}

impl User {
    /// The user of a token that is good at `now_ms`, Unix time in milliseconds.
    ///
    /// # Errors
    ///
    /// [`NoUser`] where there is none.
    pub fn of_token(tokens: &Tokens, token: Option<&str>, now_ms: i64) -> Result<Self, NoUser> {
        let token = token.filter(|token| !token.is_empty());
        let data = tokens.verify(token.ok_or(NoUser::Missing)?, now_ms)?;
        // A user's id is text or an integer; another application may have signed anything.
        let id = KeyBuf::from_json(&data).map_err(|_| NoUser::Invalid)?;
        Ok(Self { id })
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id.as_key().as_str())
    }
}

/// Why a token names no user, in the words that the guide's page knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoUser {
    /// There is no token.
    #[error("missing")]
    Missing,
    /// It is forged, signed with another key, or comes from the future.
    #[error("invalid")]
    Invalid,
    /// It is older than it may be.
    #[error("expired")]
    Expired,
}

impl From<TokenError> for NoUser {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Invalid => Self::Invalid,
            TokenError::Expired => Self::Expired,
        }
    }
}

/// A user in a room.
#[derive(Debug)]
pub struct RoomChannel;

/// Sent to itself once the client has joined.
#[derive(Debug)]
pub struct AfterJoin;

#[derive(Deserialize)]
struct Status {
    status: Value,
}

impl Channel for RoomChannel {
    type User = User;
    type Info = AfterJoin;

    async fn join(
        _topic: &str,
        _params: Payload<'static>,
        socket: &mut Socket<Self>,
    ) -> Result<Joined<Self>, JoinError> {
        socket.send_self(AfterJoin);
        Ok(Self.into())
    }

    async fn handle_info(
        &mut self,
        AfterJoin: AfterJoin,
        socket: &mut Socket<Self>,
    ) -> Result<Next, Failure> {
        let meta = online_now(socket.node());
        Presence::track(socket, socket.user().id.clone(), &meta).await?;
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
                Presence::merge(socket, socket.user().id.clone(), &meta).await?;
                Ok(Next::ok(Payload::EMPTY))
            }
            other => Err(Failure::no_handler(other)),
        }
    }
}
