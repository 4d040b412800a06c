//! What waits for a peer: frames, bounded in bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// How much is taken at once, if there is more than one frame.
const TAKE_BYTES: usize = 256 << 10;

/// The room that nodes' news of each other has beyond the bound: they are few, and lost for long.
const NEWS_BYTES: usize = 1 << 20;

/// The frames that wait for one peer. One task takes them.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Notify,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    /// Of the frames, and of what was taken and is not yet written.
    bytes: usize,
    is_closed: bool,
    /// By a defect: what comes is dropped, and nobody is told.
    is_deaf: bool,
}

impl Queue {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            changed: Notify::new(),
            max_bytes,
        }
    }

    /// Queues a message, or returns false where there is no room for it.
    pub(super) fn push(&self, frame: Bytes) -> bool {
        self.push_below(frame, self.max_bytes)
    }

    /// Queues what nodes tell of each other.
    pub(super) fn push_news(&self, frame: Bytes) -> bool {
        self.push_below(frame, self.max_bytes.saturating_add(NEWS_BYTES))
    }

    fn push_below(&self, frame: Bytes, max: usize) -> bool {
        let mut waiting = self.lock();
        if waiting.is_deaf {
            return true;
        }
        let bytes = waiting.bytes.saturating_add(frame.len());
        if waiting.is_closed || bytes > max {
            return false;
        }
        waiting.bytes = bytes;
        waiting.frames.push_back(frame);
        drop(waiting);
        self.changed.notify_one();
        true
    }

    /// The next frames, at least one, once there are any; none once the queue is closed and empty.
    /// They count until they are [settled](Self::settle).
    pub(super) async fn take(&self) -> Option<Vec<Bytes>> {
        loop {
            if let Some(taken) = self.lock().take() {
                return taken;
            }
            self.changed.notified().await;
        }
    }

    /// Bytes that were taken are written, and count no longer.
    pub(super) fn settle(&self, bytes: usize) {
        self.lock().bytes -= bytes;
    }

    /// Takes nothing more; what waits is still given out.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// From now on drops what comes and says that it is queued.
    pub(super) fn deafen(&self) {
        self.lock().is_deaf = true;
    }

    /// Bytes that wait, and those that are being written.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // It is whole at every point where a panic could come from.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    #[expect(
        clippy::option_option,
        reason = "nothing yet, nothing any more, or something"
    )]
    fn take(&mut self) -> Option<Option<Vec<Bytes>>> {
        if self.frames.is_empty() {
            return self.is_closed.then_some(None);
        }
        let mut bytes = 0;
        let within = |frame: &&Bytes| {
            bytes += frame.len();
            bytes <= TAKE_BYTES
        };
        let count = self.frames.iter().take_while(within).count().max(1);
        Some(Some(self.frames.drain(..count).collect()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn frame(bytes: usize) -> Bytes {
        vec![0; bytes].into()
    }

    fn take(queue: &Queue) -> Option<Option<usize>> {
        let taken = queue.take().now_or_never();
        taken.map(|frames| frames.map(|frames| frames.len()))
    }

    #[test]
    fn what_was_taken_counts_until_it_is_settled() {
        let queue = Queue::new(100);
        assert!(queue.push(frame(60)));
        assert!(!queue.push(frame(41)));
        assert!(queue.push(frame(40)));
        assert_eq!(take(&queue), Some(Some(2)));
        assert!(!queue.push(frame(1)));
        queue.settle(60);
        assert_eq!(queue.bytes(), 40);
        assert!(queue.push(frame(60)));
        assert!(!queue.push(frame(1)));
        assert!(queue.push_news(frame(1)));
    }

    #[test]
    fn frames_are_taken_together_but_not_all_at_once() {
        let queue = Queue::new(10 << 20);
        for bytes in [1 << 20, 100 << 10, 100 << 10, 100 << 10] {
            assert!(queue.push(frame(bytes)));
        }
        assert_eq!(take(&queue), Some(Some(1)));
        assert_eq!(take(&queue), Some(Some(2)));
        assert_eq!(take(&queue), Some(Some(1)));
        assert_eq!(take(&queue), None);
    }

    #[test]
    fn a_deaf_queue_gives_out_what_waits_and_drops_what_comes() {
        let queue = Queue::new(100);
        assert!(queue.push(frame(60)));
        queue.deafen();
        assert!(queue.push(frame(60)));
        assert_eq!(take(&queue), Some(Some(1)));
        assert_eq!(take(&queue), None);
    }

    #[test]
    fn a_closed_queue_gives_out_what_waits() {
        let queue = Queue::new(100);
        assert!(queue.push(frame(1)));
        queue.close();
        assert!(!queue.push(frame(1)));
        assert_eq!(take(&queue), Some(Some(1)));
        assert_eq!(take(&queue), Some(None));
    }
}
