//! The open sockets of a node, so that it can close them when it stops.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::inbox::{Event, Inbox};

/// What carries a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Via {
    WebSocket,
    LongPoll,
}

impl Via {
    pub(crate) const ALL: [Self; 2] = [Self::WebSocket, Self::LongPoll];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::LongPoll => "longpoll",
        }
    }
}

/// How many sockets there are and were.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) open: u64,
    pub(crate) opened: u64,
    /// Those that were closed since more came for them than may wait.
    pub(crate) overflowed: u64,
}

/// The open sockets of one node.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    open: Mutex<Open>,
    /// The last one was closed.
    none_left: Notify,
}

#[derive(Debug, Default)]
struct Open {
    /// By number, the oldest first.
    inboxes: BTreeMap<u64, (Via, Arc<Inbox>)>,
    opened: u64,
    /// By [`Via`].
    counts: [Counts; 2],
    /// What opens now is closed at once.
    draining: bool,
}

impl Sockets {
    /// Counts a socket as open until what is returned is dropped.
    pub(crate) fn open(self: &Arc<Self>, via: Via, inbox: &Arc<Inbox>) -> OpenSocket {
        let mut open = self.lock();
        let number = open.opened;
        open.opened += 1;
        open.inboxes.insert(number, (via, Arc::clone(inbox)));
        let counts = &mut open.counts[via as usize];
        counts.open += 1;
        counts.opened += 1;
        if open.draining {
            inbox.send(Event::Drain);
        }
        OpenSocket {
            sockets: Arc::clone(self),
            number,
        }
    }

    /// How many of a kind there are and were.
    pub(crate) fn counts(&self, via: Via) -> Counts {
        self.lock().counts[via as usize]
    }

    /// Closes all sockets, `batch` at a time with `pause` between, and waits until they are closed.
    ///
    /// The batches keep their clients from coming to the other nodes all at once (the drainer of
    /// Phoenix.Socket).
    pub(crate) async fn drain(&self, batch: usize, pause: Duration) {
        let inboxes: Vec<_> = {
            let mut open = self.lock();
            open.draining = true;
            let inboxes = open.inboxes.values();
            inboxes.map(|(_, inbox)| Arc::clone(inbox)).collect()
        };
        if !inboxes.is_empty() {
            tracing::info!(sockets = inboxes.len(), "closing the open sockets");
        }
        for (at, batch) in inboxes.chunks(batch.max(1)).enumerate() {
            if at > 0 {
                tokio::time::sleep(pause).await;
            }
            for inbox in batch {
                inbox.send(Event::Drain);
            }
        }
        drop(inboxes);
        loop {
            let none_left = self.none_left.notified();
            if self.lock().inboxes.is_empty() {
                return;
            }
            none_left.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That a socket is open.
#[derive(Debug)]
pub(crate) struct OpenSocket {
    sockets: Arc<Sockets>,
    number: u64,
}

impl OpenSocket {
    /// Counts that more came for it than may wait.
    pub(crate) fn overflowed(&self) {
        let mut open = self.sockets.lock();
        if let Some(&(via, _)) = open.inboxes.get(&self.number) {
            open.counts[via as usize].overflowed += 1;
        }
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        let mut open = self.sockets.lock();
        if let Some((via, _)) = open.inboxes.remove(&self.number) {
            open.counts[via as usize].open -= 1;
        }
        if open.inboxes.is_empty() {
            self.sockets.none_left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn inbox() -> Arc<Inbox> {
        Arc::new(Inbox::new(1024))
    }

    fn is_told_to_drain(inbox: &Inbox) -> bool {
        let taken = poll_fn(|context| inbox.poll_take(context)).now_or_never();
        match taken {
            Some(Ok(events)) => events.iter().any(|event| matches!(event, Event::Drain)),
            _ => false,
        }
    }

    #[tokio::test]
    async fn a_drain_goes_in_batches_and_waits_for_the_last_socket() {
        let sockets = Arc::new(Sockets::default());
        let inboxes = [inbox(), inbox(), inbox()];
        let open = inboxes
            .each_ref()
            .map(|inbox| sockets.open(Via::WebSocket, inbox));
        let mut drain = Box::pin(sockets.drain(2, HOUR));
        assert!(drain.as_mut().now_or_never().is_none());
        let told = inboxes.each_ref().map(|inbox| is_told_to_drain(inbox));
        assert_eq!(told, [true, true, false]);
        drop(drain);

        let mut drain = Box::pin(sockets.drain(3, HOUR));
        assert!(drain.as_mut().now_or_never().is_none());
        let [first, second, third] = open;
        drop((first, second));
        assert!(drain.as_mut().now_or_never().is_none());
        drop(third);
        assert!(drain.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_socket_that_opens_during_a_drain_is_closed_at_once() {
        let sockets = Arc::new(Sockets::default());
        sockets.drain(1, HOUR).await;
        let late = inbox();
        let _open = sockets.open(Via::LongPoll, &late);
        assert!(is_told_to_drain(&late));
    }
}
