//! The state machine of one socket.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::wire::{
    DecodeError, Enclosure, EncodeError, Frame, Json, Message, Payload, Ref, Reply, Serializer,
    Status, event,
};

use super::held::Held;
use super::{Busy, ChannelId, Config, Output, ReplyTo, StopReason};

const UNMATCHED_TOPIC: Json<'static> = Json::from_literal(r#"{"reason":"unmatched topic"}"#);
const TOO_MANY_CHANNELS: Json<'static> =
    Json::from_literal(r#"{"reason":"too many channels joined"}"#);
const JOIN_CRASHED: Json<'static> = Json::from_literal(r#"{"reason":"join crashed"}"#);
const CHANNEL_CRASH: Json<'static> = Json::from_literal(r#"{"reason":"channel_crash"}"#);

/// The invariant behind what this module itself encodes.
const OBJECTS_ENCODE: &str = "a JSON object encodes in both serializers";

/// Going away: the socket was told to disconnect (Phoenix.Socket).
const CODE_DISCONNECTED: u16 = 1001;
/// Service restart: the node is draining its sockets (Phoenix.Socket).
const CODE_RESTART: u16 = 1012;

/// The channels of one socket.
///
/// After each `handle_*` call drain [`poll_output`](Self::poll_output). Reports about a channel that is
/// unknown or has ended change nothing, so that a runtime need not know which of two racing events came
/// first. Once the socket is closed nothing changes any more.
#[derive(Debug)]
pub struct Socket {
    serializer: Serializer,
    config: Config,
    /// Boxed: a map has room for eleven, and most sockets have one.
    channels: BTreeMap<ChannelId, Box<Channel>>,
    /// The inverse of `channels`: each of them by its topic.
    topics: BTreeMap<Arc<str>, ChannelId>,
    held: Held,
    next_channel: u64,
    outputs: VecDeque<Output>,
    is_closed: bool,
}

#[derive(Debug)]
struct Channel {
    topic: Arc<str>,
    /// As the client sent it: null in 1.0.0.
    join_ref: Ref<'static>,
    /// What the channel's own replies and pushes carry: the ref of the join where `join_ref` is null.
    own_ref: Ref<'static>,
    state: State,
}

#[derive(Debug)]
enum State {
    Joining {
        msg_ref: Ref<'static>,
        /// The channel that this join replaces; the client hears of its end after the reply.
        replaced: Option<Farewell>,
    },
    Joined,
    Leaving {
        msg_ref: Ref<'static>,
    },
}

/// What the client must be told at the end of a channel.
#[derive(Debug)]
struct Farewell {
    topic: Arc<str>,
    join_ref: Ref<'static>,
    own_ref: Ref<'static>,
    /// The leave that must be answered.
    leave: Option<Ref<'static>>,
}

impl From<Channel> for Farewell {
    fn from(channel: Channel) -> Self {
        Self {
            topic: channel.topic,
            join_ref: channel.join_ref,
            own_ref: channel.own_ref,
            leave: match channel.state {
                State::Leaving { msg_ref } => Some(msg_ref),
                State::Joining { .. } | State::Joined => None,
            },
        }
    }
}

impl Socket {
    /// A socket that has just connected, with nothing joined.
    pub fn new(serializer: Serializer, config: Config) -> Self {
        Self {
            serializer,
            config,
            channels: BTreeMap::new(),
            topics: BTreeMap::new(),
            held: Held::default(),
            next_channel: 0,
            outputs: VecDeque::new(),
            is_closed: false,
        }
    }

    /// The serializer of its client.
    pub fn serializer(&self) -> Serializer {
        self.serializer
    }

    /// Whether it is closed, so that nothing more will come of it but what is still to be polled.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The channel of a topic, be it joining, joined or leaving.
    pub fn channel(&self, topic: &str) -> Option<ChannelId> {
        self.topics.get(topic).copied()
    }

    /// The channels and their topics, be they joining, joined or leaving, in the order of their joins.
    pub fn channels(&self) -> impl Iterator<Item = (ChannelId, &str)> {
        self.channels
            .iter()
            .map(|(&id, channel)| (id, &*channel.topic))
    }

    /// The next thing to do, until there is none.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// A message from the client.
    ///
    /// `is_routed` tells whether the application has a channel for a topic; it is asked about joins only.
    ///
    /// # Errors
    ///
    /// [`Busy`] when the message would have to wait for a join under way and there is no room for it.
    /// Nothing has changed then.
    pub fn handle_message(
        &mut self,
        message: &Message<'_>,
        is_routed: impl FnOnce(&str) -> bool,
    ) -> Result<(), Busy> {
        if self.is_closed {
            return Ok(());
        }
        if message.topic == event::HEARTBEAT_TOPIC && message.event == event::HEARTBEAT {
            self.reply(Ref::NULL, message, Status::Ok, Json::EMPTY);
            return Ok(());
        }
        if let Some((topic, _)) = self.joining(&message.topic) {
            return self.held.push(topic, message, &self.config);
        }
        self.dispatch(message.clone(), is_routed);
        Ok(())
    }

    /// The join handler accepted, and answers with `response`.
    ///
    /// Subscribes the channel, replies to the client, and delivers what it has sent meanwhile.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when the reply has no frame. Nothing has changed then; report
    /// [`handle_join_crashed`](Self::handle_join_crashed).
    pub fn handle_joined(
        &mut self,
        channel: ChannelId,
        response: &Payload<'_>,
    ) -> Result<(), EncodeError> {
        let Some((topic, frame)) = self.join_reply(channel, Status::Ok, response)? else {
            return Ok(());
        };
        let Some(entry) = self.channels.get_mut(&channel) else {
            return Ok(());
        };
        let state = std::mem::replace(&mut entry.state, State::Joined);
        self.outputs.push_back(Output::Subscribe {
            channel,
            topic: Arc::clone(&topic),
        });
        self.join_decided(&topic, frame, state);
        Ok(())
    }

    /// The join handler refused, and answers with `response`.
    ///
    /// Replies to the client; what it has sent meanwhile meets a topic that is not joined.
    ///
    /// # Errors
    ///
    /// [`EncodeError`], as in [`handle_joined`](Self::handle_joined).
    pub fn handle_join_refused(
        &mut self,
        channel: ChannelId,
        response: &Payload<'_>,
    ) -> Result<(), EncodeError> {
        let Some((topic, frame)) = self.join_reply(channel, Status::Error, response)? else {
            return Ok(());
        };
        let Some(entry) = self.remove(channel) else {
            return Ok(());
        };
        self.join_decided(&topic, frame, entry.state);
        Ok(())
    }

    /// The join handler crashed, or took too long: the client is refused with `join crashed`.
    pub fn handle_join_crashed(&mut self, channel: ChannelId) {
        self.handle_join_refused(channel, &Payload::Json(JOIN_CRASHED))
            .expect(OBJECTS_ENCODE);
    }

    /// The channel answers a message, now or later. Polls to one frame, or to none if the channel has
    /// ended.
    ///
    /// To reply and stop, call this and then [`handle_stopped`](Self::handle_stopped).
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when the reply has no frame. Nothing has changed then; in Phoenix the channel
    /// crashes ([`handle_crashed`](Self::handle_crashed)).
    pub fn handle_reply(
        &mut self,
        to: &ReplyTo,
        status: Status,
        response: &Payload<'_>,
    ) -> Result<(), EncodeError> {
        let Some(channel) = self.active(to.channel) else {
            return Ok(());
        };
        let frame = self.serializer.encode_reply(&Reply {
            join_ref: channel.own_ref.clone(),
            msg_ref: to.msg_ref.clone(),
            topic: (&*channel.topic).into(),
            status,
            response: response.as_borrowed(),
        })?;
        self.outputs.push_back(Output::Send(frame));
        Ok(())
    }

    /// The channel pushes to its client. Polls to one frame, or to none if the channel has ended.
    ///
    /// A push while the join is still under way is dropped (in Phoenix it makes the join crash): a
    /// runtime keeps what a join handler wants to push until it has reported
    /// [`handle_joined`](Self::handle_joined).
    ///
    /// # Errors
    ///
    /// [`EncodeError`], as in [`handle_reply`](Self::handle_reply).
    pub fn handle_push(
        &mut self,
        channel: ChannelId,
        event: &str,
        payload: &Payload<'_>,
    ) -> Result<(), EncodeError> {
        let Some(channel) = self.active(channel) else {
            return Ok(());
        };
        let frame = self.serializer.encode_push(&Message {
            join_ref: channel.own_ref.clone(),
            msg_ref: Ref::NULL,
            topic: (&*channel.topic).into(),
            event: event.into(),
            payload: payload.as_borrowed(),
        })?;
        self.outputs.push_back(Output::Send(frame));
        Ok(())
    }

    /// The text around a payload that the channel pushes and that many sockets share, for the runtime
    /// to send at once; `None` if the channel has ended or its join is still under way.
    ///
    /// It changes nothing and is no output: ask when all outputs were polled, or the frame overtakes
    /// them.
    pub fn enclose_push(&self, channel: ChannelId, event: &str) -> Option<Enclosure> {
        let channel = self.active(channel)?;
        Some(self.serializer.enclose_push(&Message {
            join_ref: channel.own_ref.clone(),
            msg_ref: Ref::NULL,
            topic: (&*channel.topic).into(),
            event: event.into(),
            payload: Payload::EMPTY,
        }))
    }

    /// A broadcast for the channel, encoded once for all sockets of this serializer.
    ///
    /// Polls to the frame, or to nothing if the channel has ended. So the client never hears of a topic
    /// before the reply to its join, nor after `phx_close`.
    pub fn handle_broadcast(&mut self, channel: ChannelId, frame: Frame) {
        if self.active(channel).is_some() {
            self.outputs.push_back(Output::Send(frame));
        }
    }

    /// The channel has ended since the client left: the leave is answered, then `phx_close` follows.
    ///
    /// Without a leave it is the same as [`handle_stopped`](Self::handle_stopped).
    pub fn handle_left(&mut self, channel: ChannelId) {
        if let Some(entry) = self.end(channel) {
            self.say_farewell(entry.into());
        }
    }

    /// The channel has stopped of its own will: `phx_close`, and no answer to a leave that came too late.
    ///
    /// While the join is under way it counts as a crash of the join.
    pub fn handle_stopped(&mut self, channel: ChannelId) {
        if let Some(entry) = self.end(channel) {
            self.say_farewell(Farewell {
                leave: None,
                ..entry.into()
            });
        }
    }

    /// The channel has crashed: `phx_error`, upon which phoenix.js joins again.
    ///
    /// While the join is under way it counts as a crash of the join.
    pub fn handle_crashed(&mut self, channel: ChannelId) {
        if let Some(entry) = self.end(channel) {
            self.push_end(&entry.topic, event::ERROR, entry.join_ref, CHANNEL_CRASH);
        }
    }

    /// A frame came that is no message: closes with [`DecodeError::close_code`].
    pub fn handle_decode_error(&mut self, error: &DecodeError) {
        self.close(Some(error.close_code()));
    }

    /// Someone broadcast `disconnect` to the socket's id: closes with 1001, so that the client connects
    /// again.
    pub fn handle_disconnect(&mut self) {
        self.close(Some(CODE_DISCONNECTED));
    }

    /// The node drains its sockets: closes with 1012.
    pub fn handle_drain(&mut self) {
        self.close(Some(CODE_RESTART));
    }

    /// The connection is gone: all channels are stopped, and there is nobody to tell.
    ///
    /// Frames that were polled for it before have nowhere to go, which is no harm.
    pub fn handle_closed(&mut self) {
        self.close(None);
    }

    /// A message to a topic whose channel is not joining.
    fn dispatch(&mut self, message: Message<'_>, is_routed: impl FnOnce(&str) -> bool) {
        let Some(id) = self.channel(&message.topic) else {
            match &*message.event {
                event::JOIN => self.start_join(message, None, is_routed),
                event::LEAVE => {
                    let join_ref = message.join_ref.clone();
                    self.reply(join_ref, &message, Status::Ok, Json::EMPTY);
                }
                _ => self.reply(Ref::NULL, &message, Status::Error, UNMATCHED_TOPIC),
            }
            return;
        };
        if message.event == event::JOIN {
            let replaced = self.remove(id).map(Farewell::from);
            self.outputs.push_back(Output::Unsubscribe { channel: id });
            self.outputs.push_back(Output::Stop {
                channel: id,
                reason: StopReason::DuplicateJoin,
            });
            self.start_join(message, replaced, is_routed);
            return;
        }
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        let is_stale = !message.join_ref.is_null() && message.join_ref != channel.join_ref;
        if is_stale || !matches!(channel.state, State::Joined) {
            return;
        }
        let msg_ref = message.msg_ref.into_owned();
        self.outputs.push_back(if message.event == event::LEAVE {
            channel.state = State::Leaving { msg_ref };
            Output::Leave { channel: id }
        } else {
            Output::Deliver {
                reply_to: ReplyTo {
                    channel: id,
                    msg_ref,
                },
                event: message.event.into(),
                payload: message.payload.into_owned(),
            }
        });
    }

    fn start_join(
        &mut self,
        message: Message<'_>,
        replaced: Option<Farewell>,
        is_routed: impl FnOnce(&str) -> bool,
    ) {
        if !is_routed(&message.topic) {
            self.reply(Ref::NULL, &message, Status::Error, UNMATCHED_TOPIC);
        } else if self.channels.len() >= self.config.max_channels {
            let join_ref = message.join_ref.clone();
            self.reply(join_ref, &message, Status::Error, TOO_MANY_CHANNELS);
        } else {
            self.insert_joining(message.into_owned(), replaced);
            return;
        }
        if let Some(replaced) = replaced {
            self.say_farewell(replaced);
        }
    }

    fn insert_joining(&mut self, message: Message<'static>, replaced: Option<Farewell>) {
        let channel = ChannelId(self.next_channel);
        self.next_channel += 1;
        let topic: Arc<str> = message.topic.into();
        let own_ref = message.join_ref.clone().or(message.msg_ref.clone());
        self.topics.insert(Arc::clone(&topic), channel);
        self.channels.insert(
            channel,
            Box::new(Channel {
                topic: Arc::clone(&topic),
                join_ref: message.join_ref,
                own_ref: own_ref.clone(),
                state: State::Joining {
                    msg_ref: message.msg_ref,
                    replaced,
                },
            }),
        );
        self.outputs.push_back(Output::Join {
            channel,
            topic,
            join_ref: own_ref,
            payload: message.payload,
        });
    }

    /// The frame that answers the join of a channel; None unless its join is under way.
    fn join_reply(
        &self,
        channel: ChannelId,
        status: Status,
        response: &Payload<'_>,
    ) -> Result<Option<(Arc<str>, Frame)>, EncodeError> {
        let Some(Channel {
            topic,
            join_ref,
            state: State::Joining { msg_ref, .. },
            ..
        }) = self.channels.get(&channel).map(|entry| &**entry)
        else {
            return Ok(None);
        };
        let frame = self.serializer.encode_reply(&Reply {
            join_ref: join_ref.clone(),
            msg_ref: msg_ref.clone(),
            topic: (&**topic).into(),
            status,
            response: response.as_borrowed(),
        })?;
        Ok(Some((Arc::clone(topic), frame)))
    }

    /// Answers a join whose state was `joining`, then goes on with what has waited for it.
    fn join_decided(&mut self, topic: &str, reply: Frame, joining: State) {
        self.outputs.push_back(Output::Send(reply));
        if let State::Joining {
            replaced: Some(replaced),
            ..
        } = joining
        {
            self.say_farewell(replaced);
        }
        // A message that waited may be a join; then the rest waits for that one. Its topic has a route,
        // since a join of it was started.
        while self.joining(topic).is_none()
            && let Some(message) = self.held.pop(topic)
        {
            self.dispatch(message, |_| true);
        }
    }

    /// The topic and the channel, if a join of it is under way.
    fn joining(&self, topic: &str) -> Option<(Arc<str>, ChannelId)> {
        let id = self.channel(topic)?;
        let channel = self.channels.get(&id)?;
        matches!(channel.state, State::Joining { .. }).then(|| (Arc::clone(&channel.topic), id))
    }

    /// The channel, if it may send: it is joined or leaving.
    fn active(&self, channel: ChannelId) -> Option<&Channel> {
        let channel = self.channels.get(&channel).map(|channel| &**channel);
        channel.filter(|channel| !matches!(channel.state, State::Joining { .. }))
    }

    /// Takes out a channel that has ended by itself; one that is joining has failed to join.
    fn end(&mut self, channel: ChannelId) -> Option<Channel> {
        if self.active(channel).is_none() {
            self.handle_join_crashed(channel);
            return None;
        }
        self.outputs.push_back(Output::Unsubscribe { channel });
        self.remove(channel)
    }

    fn remove(&mut self, channel: ChannelId) -> Option<Channel> {
        let entry = self.channels.remove(&channel)?;
        self.topics.remove(&entry.topic);
        Some(*entry)
    }

    fn say_farewell(&mut self, farewell: Farewell) {
        let Farewell {
            topic,
            join_ref,
            own_ref,
            leave,
        } = farewell;
        if let Some(msg_ref) = leave {
            self.push_reply(&Reply {
                join_ref: own_ref,
                msg_ref,
                topic: (&*topic).into(),
                status: Status::Ok,
                response: Payload::EMPTY,
            });
        }
        self.push_end(&topic, event::CLOSE, join_ref, Json::EMPTY);
    }

    /// `phx_close` and `phx_error` carry the `join_ref` as both refs.
    fn push_end(&mut self, topic: &str, event: &str, join_ref: Ref<'_>, payload: Json<'_>) {
        let message = Message {
            join_ref: join_ref.clone(),
            msg_ref: join_ref,
            topic: topic.into(),
            event: event.into(),
            payload: payload.into(),
        };
        let frame = self.serializer.encode_push(&message);
        self.outputs
            .push_back(Output::Send(frame.expect(OBJECTS_ENCODE)));
    }

    fn reply(&mut self, join_ref: Ref<'_>, to: &Message<'_>, status: Status, response: Json<'_>) {
        self.push_reply(&Reply {
            join_ref,
            msg_ref: to.msg_ref.clone(),
            topic: (&*to.topic).into(),
            status,
            response: response.into(),
        });
    }

    fn push_reply(&mut self, reply: &Reply<'_>) {
        let frame = self.serializer.encode_reply(reply);
        self.outputs
            .push_back(Output::Send(frame.expect(OBJECTS_ENCODE)));
    }

    fn close(&mut self, code: Option<u16>) {
        if self.is_closed {
            return;
        }
        self.is_closed = true;
        self.held.clear();
        self.topics.clear();
        self.outputs.extend(code.map(|code| Output::Close { code }));
        for (channel, entry) in std::mem::take(&mut self.channels) {
            if !matches!(entry.state, State::Joining { .. }) {
                self.outputs.push_back(Output::Unsubscribe { channel });
            }
            self.outputs.push_back(Output::Stop {
                channel,
                reason: StopReason::SocketClosed,
            });
        }
    }
}
