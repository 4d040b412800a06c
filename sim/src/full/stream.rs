//! Connections that go wrong, as the schedule's seed has it: short reads, resets in the middle of a
//! frame, and streams that hang for good, with nobody told.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use presence_server::env::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::happened::Happened;
use super::stage::{Ended, Stage};
use crate::coverage::Counted;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fate {
    /// The most that a read gives, in bytes.
    pub(super) read_bytes: Option<usize>,
    /// After how many bytes that are written it ends, and how.
    pub(super) end: Option<(usize, Ended)>,
}

/// How much of what is written a narrow connection takes at once, in bytes.
const SIP: usize = 128;

/// A connection with its fate.
pub(super) struct Fated<S> {
    inner: S,
    /// From which node to which it is written, where it is between nodes.
    way: Option<(usize, usize)>,
    /// Until a narrow connection takes more.
    pause: Option<Pin<Box<Sleep>>>,
    fate: Fate,
    written: usize,
    ended: Option<Ended>,
    stage: Arc<Stage>,
}

impl<S> Fated<S> {
    pub(super) fn new(
        inner: S,
        way: Option<(usize, usize)>,
        fate: Fate,
        stage: Arc<Stage>,
    ) -> Self {
        Self {
            inner,
            way,
            pause: None,
            fate,
            written: 0,
            ended: None,
            stage,
        }
    }

    /// What a call comes to where the connection has ended. (Nobody is woken: it stays so.)
    fn end(&self) -> Option<Poll<io::Error>> {
        Some(match self.ended? {
            Ended::Hung => Poll::Pending,
            Ended::Reset => Poll::Ready(io::ErrorKind::ConnectionReset.into()),
        })
    }
}

impl<S: Stream> AsyncRead for Fated<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(end) = self.end() {
            return end.map(Err);
        }
        let Some(most) = self
            .fate
            .read_bytes
            .filter(|most| *most < buffer.remaining())
        else {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        };
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.inner).poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        if read == most {
            self.stage.count(Counted::ShortRead);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Fated<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(end) = self.end() {
            return end.map(Err);
        }
        let mut bytes = bytes;
        let fate = self.fate.end.filter(|_| !self.stage.is_calm());
        if let Some((after, how)) = fate {
            let left = after.saturating_sub(self.written);
            if left == 0 {
                self.ended = Some(how);
                self.stage.note(Happened::Broke);
                self.stage.count(match how {
                    Ended::Hung => Counted::Hung,
                    Ended::Reset => Counted::Reset,
                });
                return self.end().unwrap_or(Poll::Pending).map(Err);
            }
            bytes = &bytes[..bytes.len().min(left)];
        }
        let bytes_per_s = self.way.and_then(|way| self.stage.bytes_per_s(way));
        if let Some(pause) = self.pause.as_mut().filter(|_| bytes_per_s.is_some()) {
            ready!(pause.as_mut().poll(context));
        }
        let all = bytes.len();
        if bytes_per_s.is_some() {
            bytes = &bytes[..all.min(SIP)];
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.written += written;
        self.pause = bytes_per_s.map(|bytes_per_s| {
            if written < all {
                self.stage.count(Counted::Narrow);
            }
            let takes = written as f64 / bytes_per_s as f64;
            Box::pin(sleep(Duration::from_secs_f64(takes)))
        });
        self.stage.wrote(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.end() {
            Some(end) => end.map(Err),
            None => Pin::new(&mut self.inner).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.end() {
            Some(end) => end.map(Err),
            None => Pin::new(&mut self.inner).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::bench;
    use crate::sabotage::Saboteur;

    const FRAME: &[u8] = b"a frame";

    /// A connection of this fate, and its other end.
    fn fated(fate: Fate) -> (Fated<DuplexStream>, DuplexStream, Arc<Stage>) {
        let stage = Stage::new(&bench::workload(1), Saboteur::new(None, 0));
        let (stage, (end, other)) = (Arc::new(stage), duplex(64));
        let fated = Fated::new(end, Some((0, 1)), fate, Arc::clone(&stage));
        (fated, other, stage)
    }

    fn ends(after: usize, how: Ended) -> Fate {
        Fate {
            end: Some((after, how)),
            ..Fate::default()
        }
    }

    #[track_caller]
    fn counted(stage: &Stage, what: Counted, times: u64) {
        assert_eq!(stage.take_coverage().of(what), times);
    }

    #[tokio::test]
    async fn short_reads_give_all_in_parts() {
        let fate = Fate {
            read_bytes: Some(3),
            end: None,
        };
        let (mut stream, mut other, stage) = fated(fate);
        other.write_all(FRAME).await.unwrap();
        let mut buffer = [0; 16];
        let mut read = Vec::new();
        for length in [3, 3, 1] {
            assert_eq!(stream.read(&mut buffer).await.unwrap(), length);
            read.extend_from_slice(&buffer[..length]);
        }
        assert_eq!(read, FRAME);
        counted(&stage, Counted::ShortRead, 2);
        drop(other);
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_reset_comes_in_the_middle_of_a_frame_and_stays() {
        let (mut stream, mut other, stage) = fated(ends(10, Ended::Reset));
        stream.write_all(FRAME).await.unwrap();
        let reset = io::ErrorKind::ConnectionReset;
        assert_eq!(stream.write_all(FRAME).await.unwrap_err().kind(), reset);
        assert_eq!(stream.write_all(FRAME).await.unwrap_err().kind(), reset);
        assert_eq!(stream.flush().await.unwrap_err().kind(), reset);
        other.write_all(FRAME).await.unwrap();
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap_err().kind(), reset);
        counted(&stage, Counted::Reset, 1);
        assert_eq!(stage.written().bytes, 10);
        drop(stream);
        let mut arrived = Vec::new();
        other.read_to_end(&mut arrived).await.unwrap();
        assert_eq!(arrived, b"a framea f");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_hangs_tells_nobody() {
        let (mut stream, mut other, stage) = fated(ends(3, Ended::Hung));
        let long = Duration::from_secs(3600);
        assert!(timeout(long, stream.write_all(FRAME)).await.is_err());
        other.write_all(FRAME).await.unwrap();
        assert!(timeout(long, stream.read(&mut [0; 16])).await.is_err());
        assert!(timeout(long, stream.shutdown()).await.is_err());
        let mut arrived = [0; 3];
        other.read_exact(&mut arrived).await.unwrap();
        assert_eq!(arrived, FRAME[..3]);
        assert!(timeout(long, other.read(&mut arrived)).await.is_err());
        counted(&stage, Counted::Hung, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_narrow_connection_takes_so_many_bytes_a_second_until_it_is_wide_again() {
        let (mut stream, mut other, stage) = fated(Fate::default());
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            other.read_to_end(&mut read).await.map(|_| read.len())
        });
        let long = [0; 1000];
        let takes = async |stream: &mut Fated<DuplexStream>| {
            let since = Instant::now();
            stream.write_all(&long).await.unwrap();
            since.elapsed().as_secs_f64()
        };
        assert_eq!(takes(&mut stream).await, 0.0);
        stage.narrow(1, 0, 500, 1);
        assert_eq!(takes(&mut stream).await, 0.0, "the way back");
        stage.narrow(0, 1, 500, 1);
        let slowly = takes(&mut stream).await;
        // After the last sip nobody waits.
        assert!((1.5..=2.0).contains(&slowly), "{slowly}");
        stage.set_now(1);
        assert_eq!(takes(&mut stream).await, 0.0);
        assert!(stage.take_coverage().of(Counted::Narrow) > 0);
        drop(stream);
        assert_eq!(reading.await.unwrap().unwrap(), 4 * long.len());
    }

    #[tokio::test]
    async fn once_faults_have_ended_no_connection_ends() {
        let (mut stream, mut other, stage) = fated(ends(3, Ended::Reset));
        stage.calm(&[true; 5]);
        stream.write_all(FRAME).await.unwrap();
        drop(stream);
        let mut arrived = Vec::new();
        other.read_to_end(&mut arrived).await.unwrap();
        assert_eq!(arrived, FRAME);
        counted(&stage, Counted::Reset, 0);
    }
}
