//! The task of one socket: its state machine between a transport and its channels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use presence_core::channel::{ChannelId, Output, Socket as Machine, StopReason};
use presence_core::entry::Pid;
use presence_core::wire::{EncodeError, Frame, Serializer};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::channel::{Delivered, Input, Place};
use crate::endpoint::Routes;
use crate::inbox::{End, Event, Inbox};
use crate::node::Node;
use crate::shard::Command;
use crate::sockets::OpenSocket;

/// The close code of a client that reads too slowly: "try again later".
const CODE_OVERFLOW: u16 = 1013;

/// The close code of a client that said nothing for too long.
const CODE_IDLE: u16 = 1000;

/// What carries the frames of one socket.
pub(crate) trait Transport: Send {
    /// The next frame of the client; `None` when the connection is gone.
    fn receive(&mut self) -> impl Future<Output = Option<Received>> + Send;

    /// Takes a frame to be sent with the next flush.
    fn feed(&mut self, frame: Frame) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Sends all that was fed.
    fn flush(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Ends the connection.
    fn close(&mut self, code: u16) -> impl Future<Output = ()> + Send;
}

/// What came from a client.
#[derive(Debug)]
pub(crate) enum Received {
    Frame(Frame),
    /// Something that only shows that it lives.
    Sign,
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
    /// Dropped with the connection.
    _open: OpenSocket,
    channels: BTreeMap<ChannelId, ChannelTask>,
    undelivered: Arc<AtomicUsize>,
    /// A message that waits for a join to be decided.
    held_back: Option<Frame>,
}

struct ChannelTask {
    topic: Arc<str>,
    pid: Pid,
    inputs: mpsc::UnboundedSender<Input>,
    task: JoinHandle<()>,
}

/// What the socket does next.
enum Step {
    Events(std::collections::VecDeque<Event>),
    Frame(Frame),
    Sign,
    Overflow,
    Idle,
    Gone,
}

impl<U: Send + Sync + 'static> Connection<U> {
    pub(crate) fn new(
        node: Node,
        routes: Arc<Routes<U>>,
        serializer: Serializer,
        user: Arc<U>,
        id: Option<Arc<str>>,
    ) -> Self {
        let config = node.config();
        let inbox = Arc::new(Inbox::new(config.socket_queue_bytes));
        let machine = Machine::new(serializer, config.channels.clone());
        let open = node.sockets().open(&inbox);
        Self {
            node,
            routes,
            user,
            id,
            machine,
            inbox,
            _open: open,
            channels: BTreeMap::new(),
            undelivered: Arc::default(),
            held_back: None,
        }
    }

    /// Serves the socket until it is closed.
    pub(crate) async fn run<T: Transport>(mut self, mut transport: T) {
        if let Some(id) = &self.id {
            let subscriptions = self.node.subscriptions();
            subscriptions.add_socket(Arc::clone(id), Arc::clone(&self.inbox));
        }
        self.serve(&mut transport).await;
        self.machine.handle_closed();
        // Nobody is there to be told.
        while let Some(output) = self.machine.poll_output() {
            self.act(output).await;
        }
        if let Some(id) = &self.id {
            self.node.subscriptions().remove_socket(id, &self.inbox);
        }
        self.inbox.close();
    }

    async fn serve<T: Transport>(&mut self, transport: &mut T) {
        loop {
            match self.next(transport).await {
                Step::Events(events) => {
                    for event in events {
                        self.handle(event);
                    }
                    self.retry();
                }
                Step::Frame(frame) => self.receive(frame),
                Step::Sign => continue,
                Step::Overflow => {
                    tracing::warn!("a client reads too slowly: its socket is closed");
                    return transport.close(CODE_OVERFLOW).await;
                }
                Step::Idle => return transport.close(CODE_IDLE).await,
                Step::Gone => return,
            }
            if self.drain(transport).await.is_err() {
                return;
            }
        }
    }

    async fn next<T: Transport>(&self, transport: &mut T) -> Step {
        let config = self.node.config();
        let reads = self.held_back.is_none()
            && self.undelivered.load(Ordering::Acquire) < config.undelivered_messages;
        let received = async {
            if !reads {
                return std::future::pending().await;
            }
            tokio::time::timeout(config.idle_timeout, transport.receive()).await
        };
        tokio::select! {
            biased;
            events = self.inbox.take() => match events {
                Ok(events) => Step::Events(events),
                Err(_) => Step::Overflow,
            },
            received = received => match received {
                Ok(Some(Received::Frame(frame))) => Step::Frame(frame),
                Ok(Some(Received::Sign)) => Step::Sign,
                Ok(None) => Step::Gone,
                Err(_) => Step::Idle,
            },
        }
    }

    /// Acts on all outputs, then sends what there is to send at once.
    async fn drain<T: Transport>(&mut self, transport: &mut T) -> Result<(), Gone> {
        let mut fed = false;
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send(frame) => {
                    self.unless_overflowed(transport.feed(frame)).await?;
                    fed = true;
                }
                Output::Close { code } => {
                    transport.close(code).await;
                    return Err(Gone);
                }
                output => self.act(output).await,
            }
        }
        if fed {
            self.unless_overflowed(transport.flush()).await?;
        }
        Ok(())
    }

    /// Gives a client up that takes nothing while ever more waits for it.
    async fn unless_overflowed(
        &self,
        sent: impl Future<Output = Result<(), Gone>>,
    ) -> Result<(), Gone> {
        tokio::select! {
            biased;
            sent = sent => sent,
            () = self.inbox.overflow() => {
                tracing::warn!("a client does not read: its socket is closed");
                Err(Gone)
            }
        }
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
                tracing::info!(%error, "a client sent what is no message");
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
            Event::Reply {
                to,
                status,
                response,
            } => (
                to.channel(),
                self.machine.handle_reply(&to, status, &response),
            ),
            Event::Push {
                channel,
                event,
                payload,
            } => (channel, self.machine.handle_push(channel, &event, &payload)),
            Event::Ended { channel, how } => {
                match how {
                    End::Left => self.machine.handle_left(channel),
                    End::Stopped => self.machine.handle_stopped(channel),
                    End::Crashed => self.machine.handle_crashed(channel),
                }
                return;
            }
            Event::Drained => return,
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
                let (inputs, receiver) = mpsc::unbounded_channel();
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
                let task = ChannelTask {
                    topic,
                    pid,
                    inputs,
                    task,
                };
                self.channels.insert(channel, task);
            }
            // The channel's task holds the subscription, so that it ends with it in any case.
            Output::Subscribe { .. } => {}
            Output::Unsubscribe { .. } => self.forget_ended(),
            Output::Deliver {
                reply_to,
                event,
                payload,
            } => {
                if let Some(task) = self.channels.get(&reply_to.channel()) {
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
                    let _ = task.inputs.send(message);
                }
            }
            Output::Leave { channel } => {
                if let Some(task) = self.channels.get(&channel) {
                    let _ = task.inputs.send(Input::Leave);
                }
            }
            Output::Stop { channel, reason } => {
                if let Some(task) = self.channels.remove(&channel) {
                    task.task.abort();
                    if reason == StopReason::DuplicateJoin {
                        self.until_gone(task).await;
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
        let _ = self.node.commands().send(Command::Gone { pid, done });
        let _ = gone.await;
    }

    fn forget_ended(&mut self) {
        let machine = &self.machine;
        self.channels.retain(|&channel, task| {
            machine.channel(&task.topic) == Some(channel) || !task.task.is_finished()
        });
    }
}
