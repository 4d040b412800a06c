//! WebSocket clients that cost next to nothing, so that they do not starve the server beside them.
//!
//! They read only what tells frames apart: frames of a server are not masked, so that most of them
//! are counted without a look at their text.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes that are read at once.
const CHUNK: usize = 16 << 10;

/// One client.
pub(crate) struct Client {
    stream: TcpStream,
    /// What was read and not yet looked at.
    unread: Vec<u8>,
}

impl Client {
    /// Opens a WebSocket that speaks 2.0.0.
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: {address}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if !answer.starts_with(b"HTTP/1.1 101 ") {
            let answer = String::from_utf8_lossy(&answer).into_owned();
            return Err(io::Error::other(format!("no upgrade: {answer}")));
        }
        Ok(Self {
            stream,
            unread: Vec::new(),
        })
    }

    /// Sends one message, or several at once.
    pub(crate) async fn send<'a>(
        &mut self,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        for text in texts {
            bytes.push(0x81);
            match text.len() {
                len @ 0..126 => bytes.push(0x80 | len as u8),
                len => {
                    let len = u16::try_from(len).map_err(io::Error::other)?;
                    bytes.push(0x80 | 126);
                    bytes.extend(len.to_be_bytes());
                }
            }
            // A mask of zeros changes nothing.
            bytes.extend([0; 4]);
            bytes.extend(text.as_bytes());
        }
        self.stream.write_all(&bytes).await
    }

    /// Reads until `done` says so of the text of a frame.
    pub(crate) async fn until(&mut self, mut done: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
        loop {
            let mut rest = &*self.unread;
            let mut is_done = false;
            while !is_done && let Some((frame, after)) = split_frame(rest) {
                rest = after;
                is_done = done(frame);
            }
            let used = self.unread.len() - rest.len();
            self.unread.drain(..used);
            if is_done {
                if self.unread.is_empty() {
                    self.unread = Vec::new();
                }
                return Ok(());
            }
            self.unread.reserve(CHUNK);
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Waits until something came.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Reads past a number of frames.
    pub(crate) async fn skip(&mut self, frames: usize) -> io::Result<()> {
        let mut left = frames;
        self.until(|_| {
            left -= 1;
            left == 0
        })
        .await
    }
}

/// The payload of the first frame, and what comes after it.
fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[_, short], rest) = bytes.split_first_chunk::<2>()?;
    let (len, rest) = match short {
        126 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (u16::from_be_bytes(*len).into(), rest)
        }
        127 => {
            let (len, rest) = rest.split_first_chunk::<8>()?;
            (usize::try_from(u64::from_be_bytes(*len)).ok()?, rest)
        }
        short => (short.into(), rest),
    };
    rest.split_at_checked(len)
}

/// How often `part` is in `text`.
pub(crate) fn count(text: &[u8], part: &[u8]) -> usize {
    text.windows(part.len())
        .filter(|window| *window == part)
        .count()
}
