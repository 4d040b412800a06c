//! Channels: the application's own code behind a topic.
//!
//! A [`Channel`] reads as in Elixir: `join` decides whether a client may join and makes the channel's
//! state, `handle_in` takes the client's messages, `handle_info` what the application sends to the
//! channel itself. Each channel runs in a task of its own. When that ends, for whatever reason, its
//! presences are dropped; a handler that panics or fails is told to the client as `phx_error`.

use std::collections::VecDeque;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_channel::mpsc as inputs;
use futures_util::{FutureExt as _, StreamExt as _};
use presence_core::channel::{ChannelId, ReplyTo};
use presence_core::entry::Pid;
use presence_core::wire::{EncodeError, Json, Payload, Serializer, Status};
use tokio::sync::mpsc;

use crate::inbox::{End, Event, Inbox, Reply};
use crate::node::Node;
use crate::sabotage::Defect;
use crate::shard::Command;
use crate::subscriptions::Subscriber;

/// The application's code behind the topics of a route.
pub trait Channel: Sized + Send + 'static {
    /// What the socket knows of its user (`socket.assigns`).
    type User: Send + Sync + 'static;
    /// What the application sends to the channel itself.
    type Info: Send + 'static;

    /// A client asks to join `topic`.
    fn join(
        topic: &str,
        params: Payload<'static>,
        socket: &mut Socket<Self>,
    ) -> impl Future<Output = Result<Joined<Self>, JoinError>> + Send;

    /// The client sent a message. What has no handler should be refused with
    /// [`Failure::no_handler`].
    fn handle_in(
        &mut self,
        event: &str,
        payload: Payload<'static>,
        socket: &mut Socket<Self>,
    ) -> impl Future<Output = Result<Next, Failure>> + Send;

    /// The application sent something to the channel, see [`Socket::send_self`] and
    /// [`Socket::sender`].
    fn handle_info(
        &mut self,
        info: Self::Info,
        socket: &mut Socket<Self>,
    ) -> impl Future<Output = Result<Next, Failure>> + Send {
        let _ = (info, socket);
        async { Ok(Next::NoReply) }
    }
}

/// A join that was accepted: the channel, and what the client is answered.
#[derive(Debug)]
pub struct Joined<C> {
    /// The channel's state.
    pub channel: C,
    /// The answer, `{}` where there is nothing to say.
    pub response: Payload<'static>,
}

impl<C> From<C> for Joined<C> {
    fn from(channel: C) -> Self {
        Self {
            channel,
            response: Payload::EMPTY,
        }
    }
}

/// A join that was not accepted.
#[derive(Debug)]
pub enum JoinError {
    /// It is refused, with this answer.
    Refused(Payload<'static>),
    /// The handler failed: the client is told `join crashed`, and the log why.
    Failed(Failure),
}

impl JoinError {
    /// The refusal `{"reason": reason}`.
    pub fn reason(reason: &str) -> Self {
        Self::Refused(serde_json::json!({ "reason": reason }).into_payload())
    }
}

impl<E: Into<Failure>> From<E> for JoinError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Why a handler failed, which ends the channel: any error will do.
pub struct Failure(Box<dyn std::error::Error + Send + Sync>);

impl Failure {
    /// No handler takes this event.
    pub fn no_handler(event: &str) -> Self {
        Self(format!("no handler takes the event {event:?}").into())
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What becomes of a channel after a message.
#[derive(Debug)]
pub enum Next {
    /// It goes on.
    NoReply,
    /// It answers the message and goes on.
    Reply(Status, Payload<'static>),
    /// It stops.
    Stop,
    /// It answers the message and stops.
    ReplyAndStop(Status, Payload<'static>),
}

impl Next {
    /// Answers ok.
    pub fn ok(response: impl IntoPayload) -> Self {
        Self::Reply(Status::Ok, response.into_payload())
    }

    /// Answers error.
    pub fn error(response: impl IntoPayload) -> Self {
        Self::Reply(Status::Error, response.into_payload())
    }
}

/// What can be sent to a client.
pub trait IntoPayload {
    /// The payload.
    fn into_payload(self) -> Payload<'static>;
}

impl IntoPayload for Payload<'static> {
    fn into_payload(self) -> Payload<'static> {
        self
    }
}

impl IntoPayload for Json<'static> {
    fn into_payload(self) -> Payload<'static> {
        Payload::Json(self)
    }
}

impl IntoPayload for serde_json::Value {
    fn into_payload(self) -> Payload<'static> {
        let json = Json::serialize(&self).expect("a JSON value is JSON");
        Payload::Json(json)
    }
}

/// One client on one topic, as its channel sees it.
pub struct Socket<C: Channel> {
    pub(crate) place: Place,
    user: Arc<C::User>,
    reply_to: Option<ReplyTo>,
    /// What a join handler pushes, until the client knows that it has joined.
    early: Option<Vec<Event>>,
    infos: VecDeque<C::Info>,
    /// What other tasks send to it, once it has asked for a sender: most channels never do.
    others: Option<Infos<C::Info>>,
}

/// Where a channel is.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) node: Node,
    pub(crate) topic: Arc<str>,
    pub(crate) channel: ChannelId,
    pub(crate) pid: Pid,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) serializer: Serializer,
}

impl<C: Channel> Socket<C> {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.place.topic
    }

    /// What the socket knows of its user.
    pub fn user(&self) -> &C::User {
        &self.user
    }

    /// The node that it is connected to.
    pub fn node(&self) -> &Node {
        &self.place.node
    }

    /// Sends to this client alone.
    pub fn push(&mut self, event: &str, payload: impl IntoPayload) {
        self.tell(Event::Push {
            channel: self.place.channel,
            event: event.into(),
            payload: payload.into_payload(),
        });
    }

    /// Sends to every client of the topic.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] where the payload has no frame in a serializer that a client speaks.
    pub fn broadcast(&self, event: &str, payload: impl IntoPayload) -> Result<(), EncodeError> {
        let payload = payload.into_payload();
        self.node().broadcast(self.topic(), event, &payload)
    }

    /// Sends to every client of the topic but this one.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    pub fn broadcast_from(
        &self,
        event: &str,
        payload: impl IntoPayload,
    ) -> Result<(), EncodeError> {
        let payload = payload.into_payload();
        self.node()
            .broadcast_elsewhere(self.topic(), event, &payload);
        let except = Some((&self.place.inbox, self.place.channel));
        let subscriptions = self.node().subscriptions();
        subscriptions.broadcast(self.topic(), event, &payload, except)
    }

    /// The message at hand, for an answer later; `None` in a join and in
    /// [`handle_info`](Channel::handle_info). (`socket_ref/1` in Elixir.)
    pub fn reply_to(&self) -> Option<Replier> {
        Some(Replier {
            to: self.reply_to.clone()?,
            inbox: Arc::clone(&self.place.inbox),
        })
    }

    /// Sends to the channel itself: [`handle_info`](Channel::handle_info) is called next.
    pub fn send_self(&mut self, info: C::Info) {
        self.infos.push_back(info);
    }

    /// A sender for other tasks. What they send waits in a bounded queue.
    pub fn sender(&mut self) -> mpsc::Sender<C::Info> {
        let infos = self.others.get_or_insert_with(Infos::new);
        infos.sender.clone()
    }

    fn tell(&mut self, event: Event) {
        match &mut self.early {
            Some(early) => early.push(event),
            None => self.place.inbox.send(event),
        }
    }
}

/// What other tasks send to a channel.
struct Infos<I> {
    /// Kept, so that the queue never ends.
    sender: mpsc::Sender<I>,
    receiver: mpsc::Receiver<I>,
}

impl<I> Infos<I> {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel(INFOS);
        Self { sender, receiver }
    }

    /// What comes next, if there is a queue.
    async fn next(infos: &mut Option<Self>) -> Option<I> {
        infos.as_mut()?.receiver.recv().await
    }
}

/// Answers one message, now or later.
#[derive(Clone, Debug)]
pub struct Replier {
    to: ReplyTo,
    inbox: Arc<Inbox>,
}

impl Replier {
    /// Answers the message; nothing happens when the channel has ended.
    pub fn reply(&self, status: Status, response: impl IntoPayload) {
        self.inbox.send(Event::Reply(Box::new(Reply {
            to: self.to.clone(),
            status,
            response: response.into_payload(),
        })));
    }
}

/// What a socket passes to a channel's task.
#[derive(Debug)]
pub(crate) enum Input {
    Message {
        reply_to: ReplyTo,
        event: Box<str>,
        payload: Payload<'static>,
        /// Frees its place among the undelivered messages of the socket.
        delivered: Delivered,
    },
    Leave,
}

/// Counts a message as delivered when it is dropped.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) undelivered: Arc<std::sync::atomic::AtomicUsize>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) max: usize,
}

impl Drop for Delivered {
    fn drop(&mut self) {
        let before = self
            .undelivered
            .fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
        // Not at the first, or a busy socket would read its messages one by one.
        if before == self.max / 2 + 1 {
            self.inbox.send(Event::Drained);
        }
    }
}

/// Infos that other tasks may have under way to one channel.
const INFOS: usize = 32;

/// Runs one channel from its join to its end.
///
/// This and `serve` are no `async fn`s: those would keep what they are given twice, for every channel.
pub(crate) fn run<C: Channel>(
    place: Place,
    user: Arc<C::User>,
    params: Payload<'static>,
    inputs: inputs::UnboundedReceiver<Input>,
) -> impl Future<Output = ()> + Send {
    let presences = Presences {
        node: place.node.clone(),
        topic: Arc::clone(&place.topic),
        pid: place.pid,
    };
    let (inbox, channel) = (Arc::clone(&place.inbox), place.channel);
    let run = AssertUnwindSafe(serve::<C>(place, user, params, inputs)).catch_unwind();
    let run = Box::pin(run);
    async move {
        // Dropped last, whatever happens, and so after the socket was told.
        let presences = presences;
        let how = run.await.unwrap_or_else(|_| {
            tracing::error!(topic = %presences.topic, "a channel has panicked");
            End::Crashed
        });
        inbox.send(Event::Ended { channel, how });
        drop(presences);
    }
}

/// Drops the presences of a channel with it.
struct Presences {
    node: Node,
    topic: Arc<str>,
    pid: Pid,
}

impl Drop for Presences {
    fn drop(&mut self) {
        if self.node.config().sabotage.acts(Defect::PresencesKept) {
            return;
        }
        let pid = self.pid;
        let gone = Command::Gone { pid, done: None };
        // A shard that has ended holds no presences.
        self.node.shards().send(&self.topic, gone);
    }
}

fn serve<C: Channel>(
    place: Place,
    user: Arc<C::User>,
    params: Payload<'static>,
    mut inputs: inputs::UnboundedReceiver<Input>,
) -> impl Future<Output = End> + Send {
    let mut socket = Socket {
        place,
        user,
        reply_to: None,
        early: Some(Vec::new()),
        infos: VecDeque::new(),
        others: None,
    };
    let topic = Arc::clone(&socket.place.topic);
    let channel = socket.place.channel;
    async move {
        // What a handler needs while it runs is not held by a channel that waits.
        let (mut state, response) = match Box::pin(C::join(&topic, params, &mut socket)).await {
            Ok(Joined {
                channel: state,
                response,
            }) => (state, response),
            Err(JoinError::Refused(response)) => {
                socket
                    .place
                    .inbox
                    .send(Event::Refused { channel, response });
                return End::Stopped;
            }
            Err(JoinError::Failed(failure)) => {
                tracing::warn!(%topic, error = %failure, "a join crashed");
                return End::Crashed;
            }
        };
        // Before the answer, so that no broadcast after it is missed; one before it is not for this client.
        let subscriber = Subscriber {
            inbox: Arc::clone(&socket.place.inbox),
            channel,
            serializer: socket.place.serializer,
            is_new: true,
        };
        let _subscription = socket.node().subscriptions().subscribe(&topic, subscriber);
        socket.place.inbox.send(Event::Joined { channel, response });
        for event in socket.early.take().into_iter().flatten() {
            socket.place.inbox.send(event);
        }
        loop {
            let next = if let Some(info) = socket.infos.pop_front() {
                Box::pin(state.handle_info(info, &mut socket)).await
            } else {
                tokio::select! {
                    biased;
                    Some(info) = Infos::next(&mut socket.others) => Box::pin(state.handle_info(info, &mut socket)).await,
                    input = inputs.next() => match input {
                        Some(Input::Message { reply_to, event, payload, delivered }) => {
                            drop(delivered);
                            socket.reply_to = Some(reply_to);
                            Box::pin(state.handle_in(&event, payload, &mut socket)).await
                        }
                        Some(Input::Leave) => return End::Left,
                        // The socket is gone.
                        None => return End::Stopped,
                    },
                }
            };
            let reply_to = socket.reply_to.take();
            let (reply, stop) = match next {
                Ok(Next::NoReply) => (None, false),
                Ok(Next::Stop) => (None, true),
                Ok(Next::Reply(status, response)) => (Some((status, response)), false),
                Ok(Next::ReplyAndStop(status, response)) => (Some((status, response)), true),
                Err(failure) => {
                    tracing::warn!(%topic, error = %failure, "a channel crashed");
                    return End::Crashed;
                }
            };
            if let (Some(to), Some((status, response))) = (reply_to, reply) {
                socket.tell(Event::Reply(Box::new(Reply {
                    to,
                    status,
                    response,
                })));
            }
            if stop {
                return End::Stopped;
            }
        }
    }
}
