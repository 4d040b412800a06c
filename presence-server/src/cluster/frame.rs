//! Frames: what the bytes between two nodes are cut into.
//!
//! A frame is the length of what follows (four bytes, the highest first), one byte of kind, and its
//! body. A length is checked against its cap before anything is kept for it, and memory grows with the
//! bytes that come, never with the length that is claimed.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes before the body.
pub(super) const HEADER_BYTES: usize = 5;

/// How much is read at once, and how much of a buffer is kept that a large frame has made.
const READ_BYTES: usize = 64 << 10;

/// The kinds of frames that are not a message of the node; those are the [codec's](super::codec).
pub(super) mod kind {
    pub(in super::super) const HELLO: u8 = 1;
    pub(in super::super) const CHALLENGE: u8 = 2;
    pub(in super::super) const BEGIN: u8 = 3;
    pub(in super::super) const WELCOME: u8 = 4;
    pub(in super::super) const REFUSE: u8 = 5;
    pub(in super::super) const KEEPALIVE: u8 = 6;
    pub(in super::super) const PEERS: u8 = 7;
}

/// One frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) body: &'a [u8],
}

impl Frame<'_> {
    /// Its bytes, header and body.
    pub(super) fn bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }
}

/// Why no frame comes.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the connection was closed")]
    Closed,
    #[error("the connection was closed within a frame, after {0} bytes of it")]
    Truncated(usize),
    #[error("a frame of {len} bytes, more than {max}{}", hint(*.len))]
    TooLong { len: usize, max: usize },
    #[error("a frame without a kind")]
    Empty,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What a length that can't be one was meant as, where that is plain: somebody has taken a port for
/// another.
fn hint(len: usize) -> &'static str {
    let is = |text: &[u8; 4]| len == (u32::from_be_bytes(*text) as usize).saturating_add(4);
    if is(b"HTTP") {
        " (a web server answers: nodes have a port of their own for each other)"
    } else if is(b"GET ") || is(b"POST") || is(b"HEAD") {
        " (a request of HTTP: clients have another port)"
    } else {
        ""
    }
}

/// Begins a frame, to be [finished](finish) once its body is written.
pub(super) fn begin(kind: u8) -> Vec<u8> {
    vec![0, 0, 0, 0, kind]
}

/// Writes the length of a frame that was [begun](begin).
pub(super) fn finish(mut frame: Vec<u8>) -> Vec<u8> {
    // A length that has no place is that of a frame that nobody reads, which is not sent.
    let len = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame
}

/// A frame of this kind and body.
pub(super) fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = begin(kind);
    frame.extend_from_slice(body);
    finish(frame)
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    /// Of the frame that was given out last, and is still in the buffer.
    used: usize,
    max: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames of at most `max` bytes.
    pub(super) fn new(io: R, max: usize) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            used: 0,
            max,
        }
    }

    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Reads until a whole frame is there. Nothing is lost where this is given up and called again.
    pub(super) async fn ready(&mut self) -> Result<(), FrameError> {
        while !self.is_ready()? {
            self.read_some().await?;
        }
        Ok(())
    }

    /// Whether a whole frame is there.
    pub(super) fn is_ready(&mut self) -> Result<bool, FrameError> {
        self.release();
        Ok(self.waiting()?.is_some())
    }

    /// Reads once, whatever comes.
    pub(super) async fn read_some(&mut self) -> Result<(), FrameError> {
        self.release();
        self.buffer.reserve(READ_BYTES);
        match self.io.read_buf(&mut self.buffer).await {
            Ok(1..) => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error.into()),
            // TLS that ends without a goodbye is an error of this kind: frames tell what is whole.
            _ if self.buffer.is_empty() => Err(FrameError::Closed),
            _ => Err(FrameError::Truncated(self.buffer.len())),
        }
    }

    /// The next frame, if it is [there](Self::is_ready).
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        self.release();
        let Some(len) = self.waiting()? else {
            return Ok(None);
        };
        self.used = len;
        Ok(Some(Frame {
            kind: self.buffer[HEADER_BYTES - 1],
            body: &self.buffer[HEADER_BYTES..len],
        }))
    }

    /// Drops everything that was read.
    pub(super) fn discard(&mut self) {
        self.used = 0;
        self.buffer.clear();
    }

    /// The bytes of the first frame, once it is whole.
    fn waiting(&self) -> Result<Option<usize>, FrameError> {
        let Some(len) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let len = (u32::from_be_bytes(*len) as usize).saturating_add(4);
        if len < HEADER_BYTES {
            return Err(FrameError::Empty);
        }
        if len > self.max {
            let max = self.max;
            return Err(FrameError::TooLong { len, max });
        }
        Ok((self.buffer.len() >= len).then_some(len))
    }

    fn release(&mut self) {
        self.buffer.advance(std::mem::take(&mut self.used));
        if self.buffer.is_empty() && self.buffer.capacity() > 4 * READ_BYTES {
            self.buffer = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All frames of the bytes, and what ended them.
    async fn read(bytes: &[u8], max: usize) -> (Vec<(u8, Vec<u8>)>, FrameError) {
        let mut reader = FrameReader::new(bytes, max);
        let mut frames = Vec::new();
        loop {
            match reader.ready().await {
                Ok(()) => {
                    let frame = reader.next().unwrap().unwrap();
                    frames.push((frame.kind, frame.body.to_vec()));
                }
                Err(end) => return (frames, end),
            }
        }
    }

    #[tokio::test]
    async fn frames_come_out_as_they_went_in() {
        let bytes = [frame(7, b""), frame(8, b"ab"), frame(9, &[1; 200_000])].concat();
        let (frames, end) = read(&bytes, 200_005).await;
        let expected = [(7, vec![]), (8, b"ab".to_vec()), (9, vec![1; 200_000])];
        assert_eq!(frames, expected);
        assert!(matches!(end, FrameError::Closed));
    }

    #[tokio::test]
    async fn what_is_no_frame_is_named() {
        let end = |bytes: Vec<u8>| async move { read(&bytes, 100).await.1.to_string() };
        assert_eq!(
            end(frame(1, &[0; 96])).await,
            "a frame of 101 bytes, more than 100"
        );
        assert_eq!(
            end(vec![0xFF; 4]).await,
            format!(
                "a frame of {} bytes, more than 100",
                u64::from(u32::MAX) + 4
            )
        );
        assert_eq!(end(vec![0; 4]).await, "a frame without a kind");
        assert_eq!(
            end(frame(1, b"abc")[..7].to_vec()).await,
            "the connection was closed within a frame, after 7 bytes of it"
        );
    }

    #[tokio::test]
    async fn a_buffer_that_was_large_is_not_kept() {
        let bytes = [frame(1, &[0; 1 << 20]), frame(2, b"")].concat();
        let mut reader = FrameReader::new(&bytes[..], 2 << 20);
        for _ in 0..2 {
            reader.ready().await.unwrap();
            assert!(reader.next().unwrap().is_some());
        }
        assert!(!reader.is_ready().unwrap());
        assert!(reader.buffer.capacity() <= 4 * READ_BYTES);
    }
}
