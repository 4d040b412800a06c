//! As much of HTTP/1.1 as a client needs: heads, and bodies whose length is told.

use std::io;

use presence_server::env::BoxStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Bytes that are read at once.
pub(super) const READ: usize = 4 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is none of HTTP.
    #[error("{0}")]
    Malformed(String),
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    /// Names are in lower case.
    headers: Vec<(String, String)>,
}

impl Head {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?;
        let status = status.get(..3)?.parse().ok()?;
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        let headers = headers.collect::<Option<_>>()?;
        Some(Self { status, headers })
    }
}

/// Sends a request and reads the head of its answer, and what came behind it.
pub(super) async fn ask(
    stream: &mut BoxStream,
    request: &[u8],
) -> Result<(Head, Vec<u8>), HttpError> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut read = Vec::with_capacity(512);
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            read.truncate(end);
            let text = String::from_utf8_lossy(&read);
            let malformed = || HttpError::Malformed(format!("the head of an answer is {text:?}"));
            return Ok((Head::parse(&text).ok_or_else(malformed)?, rest));
        }
        read_more(stream, &mut read).await?;
    }
}

/// An answer, read to its end.
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Whether another request may follow on the same connection.
    pub(super) fn keeps_alive(&self) -> bool {
        self.head.header("connection") != Some("close")
    }
}

/// Sends a request and reads its answer.
pub(super) async fn exchange(stream: &mut BoxStream, request: &[u8]) -> Result<Answer, HttpError> {
    let (head, mut body) = ask(stream, request).await?;
    let length = head.header("content-length").map(str::parse::<usize>);
    let Some(Ok(length)) = length else {
        let why = "an answer does not say how long it is";
        return Err(HttpError::Malformed(why.into()));
    };
    while body.len() < length {
        read_more(stream, &mut body).await?;
    }
    if body.len() > length {
        return Err(HttpError::Malformed(
            "an answer goes on behind its end".into(),
        ));
    }
    Ok(Answer { head, body })
}

async fn read_more(stream: &mut BoxStream, to: &mut Vec<u8>) -> io::Result<()> {
    let before = to.len();
    to.resize(before + READ, 0);
    let read = stream.read(&mut to[before..]).await?;
    to.truncate(before + read);
    match read {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
