//! The channels of one socket: who has joined which topic, and what the client is told.
//!
//! [`Socket`] is the state machine behind one connection of one client. It keeps the table of topics,
//! decides what each message means, and says what to send. The application's own code, which decides
//! whether a join is allowed and what a message does, runs outside: an [`Output`] asks for it, and a
//! `handle_*` call reports what came of it.
//!
//! ```text
//! frame -> decode -> handle_message -> poll_output -> Join      -> the join handler  -> handle_joined, ..
//!                                                  -> Deliver   -> a message handler -> handle_reply, ..
//!                                                  -> Subscribe -> broadcasts        -> handle_broadcast
//!                                                  -> Send      -> frame
//! ```
//!
//! **Mutate, then drain**: after each `handle_*` call, take [`Socket::poll_output`] until it is `None`
//! and act on the outputs in their order. No output waits for the next input, and none is lost. There
//! are no clocks here, so no timeouts either: a runtime that gives a join handler a time limit reports
//! [`handle_join_crashed`](Socket::handle_join_crashed) when it is over.
//!
//! # Where it follows Phoenix
//!
//! - A message counts as the channel's when its `join_ref` is null or that of the join; any other is
//!   ignored without a word. A leave, too.
//! - A channel that joined without a `join_ref`, as all do in 1.0.0, uses the `ref` of its join in its
//!   own replies and pushes, while `phx_close`, `phx_error` and the comparison stay with null.
//! - A second join of a topic ends the first channel before the new join starts, and yet the reply to the
//!   new join comes first and `phx_close` for the old one after it. Phoenix's socket process puts that
//!   `phx_close` into its own mailbox, runs the new join, and returns the reply; only then does it come
//!   to its mailbox. The client relies on no order here, but it may see a reply, `phx_close` and pushes
//!   in this order only, so this order is kept, also when the new join is refused.
//! - A leave of a topic that is not joined is answered ok. Any other message to it is answered with
//!   `unmatched topic` and a null `join_ref`, as a join of a topic without a route is.
//! - Once the client has left, further messages of it to that channel are lost, as they are behind the
//!   leave in the mailbox of a process that ends; until `phx_close` the topic still counts.
//!
//! # Where it differs
//!
//! - Phoenix's socket process blocks while a join handler runs, and every message waits behind it. Here
//!   only messages of the same topic wait; other topics and heartbeats proceed. What waits is bounded by
//!   [`Config::max_held_messages`] and [`Config::max_held_bytes`]; at the bound a message is given back
//!   as [`Busy`], and a runtime stops reading from the socket until a join is decided. The frames of one
//!   topic keep their order in both directions.
//! - A join under way counts as a channel against [`Config::max_channels`], since joins run side by side.
//! - What a channel sends after it was closed or replaced is dropped. In Phoenix a frame may come late;
//!   phoenix.js throws it away.
//! - A leave that was under way when the client joined again is answered, right before `phx_close`. In
//!   Phoenix that depends on which process runs first.
//!
//! The rules are those of Phoenix.Socket and Phoenix.Channel.Server.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::wire::{Frame, Payload, Ref};

mod held;
#[cfg(test)]
mod rules;
mod socket;

pub use socket::Socket;

/// How much one socket may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How many topics may be joined at once: 100 by default, as in Phoenix (`max_channels_per_transport`).
    pub max_channels: usize,
    /// How many messages may wait for joins under way, over all topics: 100 by default.
    pub max_held_messages: usize,
    /// How many bytes of refs, topics, events and payloads they may have: 1 MiB by default.
    ///
    /// A single message that is larger is not held at all; it waits with the runtime.
    pub max_held_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_channels: 100,
            max_held_messages: 100,
            max_held_bytes: 1024 * 1024,
        }
    }
}

/// One join of one topic, from its start until it is refused or the channel has ended.
///
/// Numbered from 0 in the order in which joins start, never used twice on one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(u64);

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The message that a reply answers (`socket_ref` in Phoenix.Channel).
///
/// It may be kept and used later; when the channel has ended by then, the reply is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    channel: ChannelId,
    msg_ref: Ref<'static>,
}

impl ReplyTo {
    /// The channel that the message was delivered to.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// The `ref` of the message; null when the client does not ask for a reply.
    pub fn msg_ref(&self) -> &Ref<'static> {
        &self.msg_ref
    }
}

/// What the runtime has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this frame to the client.
    Send(Frame),
    /// Run the join handler of the topic, and report
    /// [`handle_joined`](Socket::handle_joined), [`handle_join_refused`](Socket::handle_join_refused) or
    /// [`handle_join_crashed`](Socket::handle_join_crashed).
    ///
    /// After a `Stop` with [`StopReason::DuplicateJoin`], only once that channel has stopped.
    Join {
        /// The number of the new channel.
        channel: ChannelId,
        /// Its topic.
        topic: Arc<str>,
        /// What its replies and pushes will carry.
        join_ref: Ref<'static>,
        /// What the client gave to the join.
        payload: Payload<'static>,
    },
    /// Broadcasts on the topic are to be passed to [`handle_broadcast`](Socket::handle_broadcast).
    ///
    /// It comes before the reply to the join, so that no broadcast after the reply is missed.
    Subscribe {
        /// The channel, just joined.
        channel: ChannelId,
        /// Its topic.
        topic: Arc<str>,
    },
    /// Broadcasts are no longer for this channel.
    Unsubscribe {
        /// The channel, just ended.
        channel: ChannelId,
    },
    /// Run the message handler of the channel, after all that was delivered to it before.
    Deliver {
        /// The channel and the ref of the message, for the reply if there is one.
        reply_to: ReplyTo,
        /// The event.
        event: Box<str>,
        /// The payload.
        payload: Payload<'static>,
    },
    /// The client leaves. After all that was delivered before, end the channel and report
    /// [`handle_left`](Socket::handle_left).
    Leave {
        /// The channel.
        channel: ChannelId,
    },
    /// End the channel, or its join handler, at once. There is nothing to report.
    Stop {
        /// The channel.
        channel: ChannelId,
        /// Why.
        reason: StopReason,
    },
    /// Close the connection.
    Close {
        /// With this WebSocket code.
        code: u16,
    },
}

/// Why a channel must end at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The client joined its topic again.
    DuplicateJoin,
    /// The socket is closed.
    SocketClosed,
}

/// A message was not taken, since too much waits for joins already. Nothing has changed.
///
/// The join that it would have to wait for is under way: hand the message in again after the next
/// `handle_join*` call, and read nothing else from the client until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a join is under way on the topic, and {messages} messages of {bytes} bytes are held already"
)]
pub struct Busy {
    /// How many messages are held.
    pub messages: usize,
    /// How many bytes they have.
    pub bytes: usize,
}
