//! The task of one socket: its state machine between a transport and its channels.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use futures_channel::mpsc;
use presence_core::channel::{ChannelId, Output, Socket as Machine, StopReason};
use presence_core::entry::Pid;
use presence_core::wire::{Enclosure, EncodeError, Frame, Json, Serializer};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};

use crate::channel::{Delivered, Input, Place};
use crate::endpoint::Routes;
use crate::env;
use crate::inbox::{End as ChannelEnd, Event, Inbox, Overflow, Reply};
use crate::node::Node;
use crate::shard::Command;
use crate::sockets::{OpenSocket, Via};

/// The close code of a client that reads too slowly: "try again later".
const CODE_OVERFLOW: u16 = 1013;

/// The close code of a client that said nothing for too long.
const CODE_IDLE: u16 = 1000;

/// What carries the frames of one socket.
pub(crate) trait Transport: Send {
    /// The next frame of the client; `None` when the connection is gone. Nothing is lost where it is
    /// dropped before it is ready.
    fn receive(&mut self) -> impl Future<Output = Option<Received>> + Send;

    /// Whether there is something to receive at once.
    fn has_received(&self) -> bool {
        false
    }

    /// Takes a frame to be sent with the next flush, or before it where there are many.
    fn feed(&mut self, frame: Frame) -> impl Future<Output = Result<(), Gone>> + Send;

    /// As [`feed`](Self::feed), with a payload that other sockets send as well.
    fn feed_shared(
        &mut self,
        around: Enclosure,
        payload: Arc<Json<'static>>,
    ) -> impl Future<Output = Result<(), Gone>> + Send {
        let Enclosure { before, after } = around;
        self.feed(Frame::Text((before + payload.as_str() + &after).into()))
    }

    /// Sends all that was fed.
    fn flush(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Whether it is gone since more was fed than may wait for the client.
    fn has_overflowed(&self) -> bool {
        false
    }

    /// Ends the connection, also after a flush that was dropped before it was ready.
    fn close(&mut self, code: u16) -> impl Future<Output = ()> + Send;
}

/// What came from a client.
#[derive(Debug)]
pub(crate) enum Received {
    Frame(Frame),
    /// Something that only shows that it lives.
    Sign,
    /// The connection is to be closed with this code, as the client asks or since it can't be
    /// understood.
    Close(u16),
}

/// The connection is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Gone;

/// One socket.
pub(crate) struct Connection<U> {
    node: Node,
    routes: Arc<Routes<U>>,
    user: Arc<U>,
    id: Option<Arc<str>>,
    machine: Machine,
    inbox: Arc<Inbox>,
    /// Until the client was told why its socket is closed.
    open: OpenSocket,
    /// In the order of their ids. Most sockets have few, and a map would take more.
    channels: Vec<ChannelTask>,
    undelivered: Arc<AtomicUsize>,
    /// A message that waits for a join to be decided.
    held_back: Option<Frame>,
}

struct ChannelTask {
    channel: ChannelId,
    topic: Arc<str>,
    pid: Pid,
    inputs: mpsc::UnboundedSender<Input>,
    task: JoinHandle<()>,
}

/// What the socket does next.
enum Step {
    Events(VecDeque<Event>),
    Received(Received),
    End(End),
}

/// How a socket ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// It is closed with this code.
    Close(u16),
    /// The connection is gone.
    Gone,
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Overflow> for End {
    fn from(_: Overflow) -> Self {
        Self::Close(CODE_OVERFLOW)
    }
}

impl<U: Send + Sync + 'static> Connection<U> {
    pub(crate) fn new(
        node: Node,
        via: Via,
        routes: Arc<Routes<U>>,
        serializer: Serializer,
        user: Arc<U>,
        id: Option<Arc<str>>,
    ) -> Self {
        let config = node.config();
        let inbox = Arc::new(Inbox::new(config.socket_queue_bytes));
        let machine = Machine::new(serializer, config.channels.clone());
        let open = node.sockets().open(via, &inbox);
        Self {
            node,
            routes,
            user,
            id,
            machine,
            inbox,
            open,
            channels: Vec::new(),
            undelivered: Arc::default(),
            held_back: None,
        }
    }

    /// Begins a task that serves the socket until it is closed.
    pub(crate) fn start(self, transport: impl Transport + 'static)
    where
        U: Send + Sync + 'static,
    {
        let env = Arc::clone(self.node.env());
        env::spawn(&*env, self.run(transport));
    }

    /// Serves the socket until it is closed.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn would keep what it is given twice, for every socket"
    )]
    fn run<T: Transport>(mut self, mut transport: T) -> impl Future<Output = ()> + Send {
        async move {
            if let Some(id) = &self.id {
                let subscriptions = self.node.subscriptions();
                subscriptions.add_socket(Arc::clone(id), Arc::clone(&self.inbox));
            }
            let end = self.serve(&mut transport).await;
            if end == End::Close(CODE_OVERFLOW) || transport.has_overflowed() {
                let socket_id = self.id.as_deref();
                tracing::warn!(socket_id, "a client takes too little: its socket is closed");
                self.open.overflowed();
            }
            self.machine.handle_closed();
            // Nobody is there to be told.
            while let Some(output) = self.machine.poll_output() {
                self.act(output).await;
            }
            if let Some(id) = &self.id {
                self.node.subscriptions().remove_socket(id, &self.inbox);
            }
            self.inbox.close();
            let open = self.end();
            // Last, since a client may take its time, and its presences should not. The node waits for
            // it, or it would end before the client knows.
            if let End::Close(code) = end {
                transport.close(code).await;
            }
            drop(open);
        }
    }

    /// Ends its channels.
    fn end(self) -> OpenSocket {
        self.open
    }

    async fn serve<T: Transport>(&mut self, transport: &mut T) -> End {
        let mut silence = pin!(tokio::time::sleep(self.node.config().idle_timeout));
        let mut heard = Instant::now();
        loop {
            let done = match self.next(transport, silence.as_mut(), &mut heard).await {
                Step::Events(events) => self.handle_all(events, transport).await,
                Step::Received(received) => {
                    heard = Instant::now();
                    match received {
                        Received::Frame(frame) => {
                            self.receive(frame);
                            self.drain(transport).await
                        }
                        Received::Sign => Ok(()),
                        Received::Close(code) => Err(End::Close(code)),
                    }
                }
                Step::End(end) => Err(end),
            };
            if let Err(end) = done {
                return end;
            }
            // What else the client sent is answered with the same write.
            if self.reads() && transport.has_received() {
                continue;
            }
            if let Err(end) = self.unless_overflowed(transport.flush()).await {
                return end;
            }
            self.inbox.settle();
        }
    }

    async fn next<T: Transport>(
        &self,
        transport: &mut T,
        mut silence: Pin<&mut Sleep>,
        heard: &mut Instant,
    ) -> Step {
        let reads = self.reads();
        let mut received = pin!(async {
            if reads {
                transport.receive().await
            } else {
                std::future::pending().await
            }
        });
        std::future::poll_fn(|context| {
            if let Poll::Ready(events) = self.inbox.poll_take(context) {
                return Poll::Ready(
                    events.map_or_else(|full| Step::End(full.into()), Step::Events),
                );
            }
            if let Poll::Ready(received) = received.as_mut().poll(context) {
                return Poll::Ready(received.map_or(Step::End(End::Gone), Step::Received));
            }
            while silence.as_mut().poll(context).is_ready() {
                let now = Instant::now();
                if !reads {
                    // It may well have said something.
                    *heard = now;
                }
                let until = *heard + self.node.config().idle_timeout;
                if until <= now {
                    return Poll::Ready(Step::End(End::Close(CODE_IDLE)));
                }
                silence.as_mut().reset(until);
            }
            Poll::Pending
        })
        .await
    }

    /// Whether something of the client may be taken in.
    fn reads(&self) -> bool {
        let undelivered = self.undelivered.load(Ordering::Acquire);
        self.held_back.is_none() && undelivered < self.node.config().undelivered_messages
    }

    async fn handle_all<T: Transport>(
        &mut self,
        events: VecDeque<Event>,
        transport: &mut T,
    ) -> Result<(), End> {
        for event in events {
            if let Event::State {
                channel,
                event,
                list,
            } = event
            {
                // All before it was drained.
                if let Some(around) = self.machine.enclose_push(channel, event) {
                    let fed = transport.feed_shared(around, list);
                    self.unless_overflowed(fed).await?;
                }
                continue;
            }
            self.handle(event);
            self.drain(transport).await?;
        }
        self.retry();
        self.drain(transport).await
    }

    /// Acts on all outputs.
    async fn drain<T: Transport>(&mut self, transport: &mut T) -> Result<(), End> {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send(frame) => self.unless_overflowed(transport.feed(frame)).await?,
                Output::Close { code } => return Err(End::Close(code)),
                output => self.act(output).await,
            }
        }
        Ok(())
    }

    /// Gives a client up that takes nothing while ever more waits for it.
    async fn unless_overflowed(
        &self,
        sent: impl Future<Output = Result<(), Gone>>,
    ) -> Result<(), End> {
        let mut sent = pin!(sent);
        std::future::poll_fn(|context| {
            if let Poll::Ready(sent) = sent.as_mut().poll(context) {
                return Poll::Ready(sent.map_err(End::from));
            }
            self.inbox
                .poll_overflow(context)
                .map(|full| Err(full.into()))
        })
        .await
    }

    /// A frame of the client.
    fn receive(&mut self, frame: Frame) {
        let serializer = self.machine.serializer();
        match serializer.decode_client(frame.as_frame_ref(), &self.node.config().wire) {
            Ok(message) => {
                let routes = &self.routes;
                let taken = self
                    .machine
                    .handle_message(&message, |topic| routes.find(topic).is_some());
                if taken.is_err() {
                    drop(message);
                    self.held_back = Some(frame);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a client sent what is no message");
                self.machine.handle_decode_error(&error);
            }
        }
    }

    /// Tries again what had to wait for a join.
    fn retry(&mut self) {
        if let Some(frame) = self.held_back.take() {
            self.receive(frame);
        }
    }

    fn handle(&mut self, event: Event) {
        let encoded = match event {
            Event::Broadcast { channel, frame } => {
                self.machine.handle_broadcast(channel, frame);
                return;
            }
            Event::Joined { channel, response } => {
                let joined = self.machine.handle_joined(channel, &response);
                if let Err(error) = joined {
                    tracing::error!(%error, "the answer to a join has no frame");
                    self.machine.handle_join_crashed(channel);
                }
                return;
            }
            Event::Refused { channel, response } => {
                let refused = self.machine.handle_join_refused(channel, &response);
                if let Err(error) = refused {
                    tracing::error!(%error, "the answer to a join has no frame");
                    self.machine.handle_join_crashed(channel);
                }
                return;
            }
            Event::Reply(reply) => {
                let Reply {
                    to,
                    status,
                    response,
                } = *reply;
                let channel = to.channel();
                (channel, self.machine.handle_reply(&to, status, &response))
            }
            Event::Push {
                channel,
                event,
                payload,
            } => (channel, self.machine.handle_push(channel, &event, &payload)),
            Event::Ended { channel, how } => {
                match how {
                    ChannelEnd::Left => self.machine.handle_left(channel),
                    ChannelEnd::Stopped => self.machine.handle_stopped(channel),
                    ChannelEnd::Crashed => self.machine.handle_crashed(channel),
                }
                return;
            }
            Event::Crash { channel } => {
                if let Ok(at) = self.position(channel) {
                    self.channels.remove(at).task.abort();
                }
                return self.machine.handle_crashed(channel);
            }
            // Handled before, since it is sent and not encoded.
            Event::State { .. } | Event::Drained => return,
            Event::Disconnect => return self.machine.handle_disconnect(),
            Event::Drain => return self.machine.handle_drain(),
        };
        self.crash_unless_encoded(encoded);
    }

    /// What has no frame crashes the channel that sends it, as in Phoenix.
    fn crash_unless_encoded(&mut self, (channel, encoded): (ChannelId, Result<(), EncodeError>)) {
        if let Err(error) = encoded {
            tracing::error!(%error, "a channel sent what has no frame");
            self.machine.handle_crashed(channel);
        }
    }

    /// Does what is not for the transport.
    async fn act(&mut self, output: Output) {
        match output {
            Output::Send(_) | Output::Close { .. } => {}
            Output::Join {
                channel,
                topic,
                payload,
                ..
            } => {
                let Some(spawn) = self.routes.find(&topic) else {
                    return self.machine.handle_join_crashed(channel);
                };
                self.forget_ended();
                let (inputs, receiver) = mpsc::unbounded();
                let pid = self.node.next_pid();
                let place = Place {
                    node: self.node.clone(),
                    topic: Arc::clone(&topic),
                    channel,
                    pid,
                    inbox: Arc::clone(&self.inbox),
                    serializer: self.machine.serializer(),
                };
                let task = spawn(place, Arc::clone(&self.user), payload, receiver);
                // Ids ascend.
                self.channels.push(ChannelTask {
                    channel,
                    topic,
                    pid,
                    inputs,
                    task,
                });
            }
            // The channel's task holds the subscription, so that it ends with it in any case.
            Output::Subscribe { .. } => {}
            Output::Unsubscribe { .. } => self.forget_ended(),
            Output::Deliver {
                reply_to,
                event,
                payload,
            } => {
                if let Some(task) = self.channel(reply_to.channel()) {
                    self.undelivered.fetch_add(1, Ordering::AcqRel);
                    let delivered = Delivered {
                        undelivered: Arc::clone(&self.undelivered),
                        inbox: Arc::clone(&self.inbox),
                        max: self.node.config().undelivered_messages,
                    };
                    let message = Input::Message {
                        reply_to,
                        event,
                        payload,
                        delivered,
                    };
                    // A channel that has just ended takes nothing any more.
                    let _ = task.inputs.unbounded_send(message);
                }
            }
            Output::Leave { channel } => {
                if let Some(task) = self.channel(channel) {
                    let _ = task.inputs.unbounded_send(Input::Leave);
                }
            }
            Output::Stop { channel, reason } => {
                if let Ok(at) = self.position(channel) {
                    let task = self.channels.remove(at);
                    task.task.abort();
                    if reason == StopReason::DuplicateJoin {
                        // Boxed, since it is rare, and every socket would have room for it.
                        Box::pin(self.until_gone(task)).await;
                    }
                }
            }
        }
    }

    /// Waits until the presences of a channel that was stopped have left, so that the client's next
    /// join of the topic does not hear of them.
    async fn until_gone(&self, task: ChannelTask) {
        // Aborted or not, it has ended.
        let _ = task.task.await;
        let (done, gone) = oneshot::channel();
        let (pid, done) = (task.pid, Some(done));
        let command = Command::Gone { pid, done };
        self.node.shards().send(&task.topic, command);
        let _ = gone.await;
    }

    fn channel(&self, channel: ChannelId) -> Option<&ChannelTask> {
        self.position(channel).ok().map(|at| &self.channels[at])
    }

    fn position(&self, channel: ChannelId) -> Result<usize, usize> {
        self.channels
            .binary_search_by_key(&channel, |task| task.channel)
    }

    fn forget_ended(&mut self) {
        let machine = &self.machine;
        self.channels.retain(|task| {
            machine.channel(&task.topic) == Some(task.channel) || !task.task.is_finished()
        });
    }
}
