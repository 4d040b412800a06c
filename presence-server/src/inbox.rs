//! What waits for a socket: events from its channels and broadcasts of its topics.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use presence_core::channel::{ChannelId, ReplyTo};
use presence_core::wire::{Frame, Payload, Status};
use tokio::sync::Notify;

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
    /// A handler answers a message.
    Reply {
        to: ReplyTo,
        status: Status,
        response: Payload<'static>,
    },
    /// A handler pushes to the client.
    Push {
        channel: ChannelId,
        event: Box<str>,
        payload: Payload<'static>,
    },
    /// A channel ended.
    Ended { channel: ChannelId, how: End },
    /// The channels have taken what was delivered to them: reading may go on.
    Drained,
    /// Close the socket, so that the client connects again.
    Disconnect,
    /// Close the socket since the node stops.
    Drain,
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
                Self::Joined { response, .. }
                | Self::Refused { response, .. }
                | Self::Reply { response, .. } => payload(response),
                Self::Push { payload: json, .. } => payload(json),
                Self::Ended { .. } | Self::Drained | Self::Disconnect | Self::Drain => 0,
            }
    }
}

/// The queue of one socket, bounded in bytes.
///
/// A frame of a broadcast is shared by all sockets and counts in each, since each may be the one that
/// keeps it alive.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    changed: Notify,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    bytes: usize,
    /// More came than may wait: the socket must be closed.
    overflowed: bool,
    closed: bool,
}

impl Inbox {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            queue: Mutex::default(),
            changed: Notify::new(),
            max_bytes,
        }
    }

    /// Queues an event; what comes after the bound is dropped, with everything before it.
    pub(crate) fn send(&self, event: Event) {
        let bytes = event.bytes();
        let mut queue = self.lock();
        if queue.closed || queue.overflowed {
            return;
        }
        if queue.bytes.saturating_add(bytes) > self.max_bytes {
            *queue = Queue {
                overflowed: true,
                ..Queue::default()
            };
        } else {
            queue.bytes += bytes;
            queue.events.push_back(event);
        }
        let first = queue.events.len() <= 1;
        drop(queue);
        // Whoever waits took all there was before; one word is enough until it takes again.
        if first {
            self.changed.notify_one();
        }
    }

    /// All that waits, once there is something; an error when more came than may wait.
    pub(crate) async fn take(&self) -> Result<VecDeque<Event>, Overflow> {
        loop {
            {
                let mut queue = self.lock();
                if queue.overflowed {
                    return Err(Overflow);
                }
                if !queue.events.is_empty() {
                    queue.bytes = 0;
                    return Ok(std::mem::take(&mut queue.events));
                }
            }
            self.changed.notified().await;
        }
    }

    /// Returns once more came than may wait.
    pub(crate) async fn overflow(&self) {
        while !self.lock().overflowed {
            self.changed.notified().await;
        }
    }

    /// Drops what waits and all that comes.
    pub(crate) fn close(&self) {
        *self.lock() = Queue {
            closed: true,
            ..Queue::default()
        };
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A queue is whole at every point where a panic could come from.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// More came for a socket than it took in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Overflow;
