//! How many connections there may be, and for how long one may take nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Sleep, sleep};

use crate::env::BoxStream;

/// What one connection too many is told.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
    content-type: text/plain\r\ncontent-length: 27\r\n\r\nthe server has no room now\n";

/// The places of the connections, WebSockets among them.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    max: usize,
    send_timeout: Duration,
}

impl Places {
    pub(super) fn new(max: usize, send_timeout: Duration) -> Self {
        let free = Semaphore::new(max.min(Semaphore::MAX_PERMITS));
        let free = Arc::new(free);
        Self {
            free,
            max,
            send_timeout,
        }
    }

    /// Gives a connection its place, or tells it that there is none.
    pub(super) async fn take(&self, stream: BoxStream) -> Option<Placed> {
        match Arc::clone(&self.free).try_acquire_owned() {
            Ok(place) => Some(Placed {
                stream,
                send_timeout: self.send_timeout,
                stuck: None,
                _place: place,
            }),
            Err(_) => {
                let max = self.max;
                tracing::warn!(max, "a connection is refused: there are as many as may be");
                refuse(stream).await;
                None
            }
        }
    }
}

/// Tells a client that there is no room for it. It is not waited for: what it is told fits into the
/// buffer of a new connection.
async fn refuse(mut stream: BoxStream) {
    let told = std::future::poll_fn(|context| {
        let written = Pin::new(&mut stream).poll_write(context, REFUSAL);
        Poll::Ready(matches!(written, Poll::Ready(Ok(_))))
    });
    if told.await {
        // The end of the stream is sent either way.
        let _ = futures_util::FutureExt::now_or_never(stream.shutdown());
    }
}

/// A connection that holds its place among all until it is closed, whatever it has become.
///
/// What is written to it fails once its client has taken nothing for too long. Nobody reads from a client
/// while it takes nothing, so that no silence tells that it is gone, and the operating system may try for
/// a quarter of an hour.
pub(super) struct Placed {
    stream: BoxStream,
    send_timeout: Duration,
    /// While its client takes nothing: until when it may.
    stuck: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Placed {
    /// Gives up what has been pending for too long.
    fn unless_stuck<T>(
        &mut self,
        context: &mut Context<'_>,
        sent: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.stuck = None;
            return sent;
        }
        let timeout = self.send_timeout;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(timeout)));
        stuck
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placed").finish_non_exhaustive()
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_stuck(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.unless_stuck(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.unless_stuck(context, shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.unless_stuck(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::time::Instant;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_and_one_that_takes_little_is_not() {
        let places = Places::new(2, 30 * SECOND);
        let (ours, mut client) = tokio::io::duplex(10);
        let mut placed = places.take(Box::new(ours)).await.unwrap();
        let since = Instant::now();
        let slow = async {
            for _ in 0..5 {
                sleep(20 * SECOND).await;
                client.read_exact(&mut [0; 10]).await.unwrap();
            }
            sleep(100 * SECOND).await;
        };
        let writing = async {
            let written = placed.write_all(&[7; 1000]).await;
            (written.unwrap_err().kind(), since.elapsed())
        };
        let (written, ()) = tokio::join!(writing, slow);
        assert_eq!(written, (io::ErrorKind::TimedOut, 130 * SECOND));
    }
}
