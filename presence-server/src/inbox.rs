//! What waits for a socket: events from its channels and broadcasts of its topics.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use presence_core::channel::{ChannelId, ReplyTo};
use presence_core::wire::{Frame, Json, Payload, Status};

/// Something that the socket's task must do.
#[derive(Debug)]
pub(crate) enum Event {
    /// Pass a broadcast on.
    Broadcast { channel: ChannelId, frame: Frame },
    /// The join handler accepted.
    Joined {
        channel: ChannelId,
        response: Payload<'static>,
    },
    /// The join handler refused.
    Refused {
        channel: ChannelId,
        response: Payload<'static>,
    },
    /// A handler answers a message. Boxed, since broadcasts are many and it would make them larger.
    Reply(Box<Reply>),
    /// A handler pushes to the client.
    Push {
        channel: ChannelId,
        event: Box<str>,
        payload: Payload<'static>,
    },
    /// Push a list that others get as well.
    State {
        channel: ChannelId,
        event: &'static str,
        list: Arc<Json<'static>>,
    },
    /// End a channel: its presences are lost.
    Crash { channel: ChannelId },
    /// A channel ended.
    Ended { channel: ChannelId, how: End },
    /// The channels have taken what was delivered to them: reading may go on.
    Drained,
    /// Close the socket, so that the client connects again.
    Disconnect,
    /// Close the socket since the node stops.
    Drain,
}

/// The answer to one message.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) to: ReplyTo,
    pub(crate) status: Status,
    pub(crate) response: Payload<'static>,
}

/// How a channel ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The client left.
    Left,
    /// The handler stopped.
    Stopped,
    /// The handler panicked or failed.
    Crashed,
}

impl Event {
    fn bytes(&self) -> usize {
        let payload = |payload: &Payload<'_>| match payload {
            Payload::Json(json) => json.as_str().len(),
            Payload::Binary(bytes) => bytes.len(),
        };
        size_of::<Self>()
            + match self {
                Self::Broadcast { frame, .. } => frame.as_frame_ref().as_bytes().len(),
                Self::Joined { response, .. } | Self::Refused { response, .. } => payload(response),
                Self::Reply(reply) => size_of::<Reply>() + payload(&reply.response),
                Self::Push {
                    event,
                    payload: pushed,
                    ..
                } => event.len() + payload(pushed),
                Self::State { list, .. } => list.as_str().len(),
                Self::Crash { .. }
                | Self::Ended { .. }
                | Self::Drained
                | Self::Disconnect
                | Self::Drain => 0,
            }
    }
}

/// The queue of one socket, bounded in bytes: those of the events that wait, and those of the events
/// that its task has taken and not yet [settled](Self::settle).
///
/// A frame of a broadcast is shared by all sockets and counts in each, since each may be the one that
/// keeps it alive.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    /// Of the events, and of what was taken and is not yet with the client.
    bytes: usize,
    /// Those of the latter alone.
    taken: usize,
    state: State,
    /// The task that waits for a change.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Open,
    /// More came than may wait: the socket must be closed.
    Overflowed,
    Closed,
}

impl Inbox {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            queue: Mutex::default(),
            max_bytes,
        }
    }

    /// Queues an event; what comes after the bound is dropped, with everything before it.
    pub(crate) fn send(&self, event: Event) {
        let bytes = event.bytes();
        let mut queue = self.lock();
        if queue.state != State::Open {
            return;
        }
        if queue.bytes.saturating_add(bytes) > self.max_bytes {
            queue.state = State::Overflowed;
            queue.events = VecDeque::new();
        } else {
            queue.bytes += bytes;
            queue.events.push_back(event);
        }
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// All that waits, once there is something; an error when more came than may wait.
    ///
    /// It counts until it is [settled](Self::settle). One task takes at a time.
    pub(crate) fn poll_take(
        &self,
        context: &Context<'_>,
    ) -> Poll<Result<VecDeque<Event>, Overflow>> {
        let mut queue = self.lock();
        if queue.state == State::Overflowed {
            return Poll::Ready(Err(Overflow));
        }
        if queue.events.is_empty() {
            queue.wait(context);
            return Poll::Pending;
        }
        queue.taken = queue.bytes;
        Poll::Ready(Ok(std::mem::take(&mut queue.events)))
    }

    /// What was taken is with the client, and counts no longer.
    pub(crate) fn settle(&self) {
        let mut queue = self.lock();
        queue.bytes -= std::mem::take(&mut queue.taken);
    }

    /// Ready once more came than may wait. Only the task that takes may ask.
    pub(crate) fn poll_overflow(&self, context: &Context<'_>) -> Poll<Overflow> {
        let mut queue = self.lock();
        if queue.state == State::Overflowed {
            return Poll::Ready(Overflow);
        }
        queue.wait(context);
        Poll::Pending
    }

    /// Drops what waits and all that comes.
    pub(crate) fn close(&self) {
        *self.lock() = Queue {
            state: State::Closed,
            ..Queue::default()
        };
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A queue is whole at every point where a panic could come from.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn wait(&mut self, context: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => self.waker = Some(context.waker().clone()),
        }
    }
}

/// More came for a socket than it took in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Overflow;

#[cfg(test)]
mod tests {
    use super::*;

    fn broadcast(bytes: usize) -> Event {
        let mut machine = presence_core::channel::Socket::new(
            presence_core::wire::Serializer::V2,
            presence_core::channel::Config::default(),
        );
        let join = presence_core::wire::Message {
            join_ref: presence_core::wire::Ref::from("1"),
            msg_ref: presence_core::wire::Ref::from("1"),
            topic: "t".into(),
            event: "phx_join".into(),
            payload: Payload::EMPTY,
        };
        machine.handle_message(&join, |_| true).unwrap();
        let channel = machine.channel("t").unwrap();
        let frame = Frame::Binary(Arc::from(vec![0; bytes]));
        Event::Broadcast { channel, frame }
    }

    fn take(inbox: &Inbox) -> Poll<Result<usize, Overflow>> {
        let taken = inbox.poll_take(&Context::from_waker(Waker::noop()));
        taken.map_ok(|events| events.len())
    }

    #[test]
    fn what_was_taken_counts_until_it_is_settled() {
        let inbox = Inbox::new(1000);
        inbox.send(broadcast(600));
        assert_eq!(take(&inbox), Poll::Ready(Ok(1)));
        inbox.send(broadcast(100));
        inbox.settle();
        // 100 wait, 600 are gone.
        inbox.send(broadcast(600));
        assert_eq!(take(&inbox), Poll::Ready(Ok(2)));
        // 700 are under way.
        inbox.send(broadcast(600));
        assert_eq!(take(&inbox), Poll::Ready(Err(Overflow)));
    }

    #[test]
    fn an_overflow_is_told_even_when_nothing_waits() {
        let inbox = Inbox::new(100);
        let context = Context::from_waker(Waker::noop());
        assert_eq!(inbox.poll_overflow(&context), Poll::Pending);
        inbox.send(broadcast(200));
        assert_eq!(inbox.poll_overflow(&context), Poll::Ready(Overflow));
        assert_eq!(take(&inbox), Poll::Ready(Err(Overflow)));
    }

    #[test]
    fn a_closed_inbox_keeps_nothing() {
        let inbox = Inbox::new(1000);
        inbox.send(broadcast(1));
        inbox.close();
        inbox.send(broadcast(1));
        assert_eq!(take(&inbox), Poll::Pending);
    }
}
