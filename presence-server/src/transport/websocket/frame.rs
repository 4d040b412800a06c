//! The frames of RFC 6455, as a server reads and writes them: no extensions, messages whole.

use std::sync::Arc;

use presence_core::wire::Frame;

/// What a client sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Incoming {
    Message(Frame),
    /// To be answered with a pong of the same bytes.
    Ping(Vec<u8>),
    Pong,
    /// It closes, with this code.
    Close(Option<u16>),
}

/// Why a client is not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Violation {
    #[error("a frame has reserved bits set, but no extension was agreed on")]
    ReservedBits,
    #[error("a frame has the unknown opcode {opcode:#x}")]
    Opcode { opcode: u8 },
    #[error("a frame is not masked")]
    Unmasked,
    #[error("a control frame is fragmented")]
    FragmentedControl,
    #[error("a control frame has a payload of {bytes} bytes, more than 125")]
    LargeControl { bytes: u64 },
    #[error("a continuation comes where no message was begun")]
    Continuation,
    #[error("a message begins within another")]
    Interrupted,
    #[error("a close frame has a payload that is no code and reason")]
    Close,
    #[error("a text message is not UTF-8: {0}")]
    Utf8(#[from] std::str::Utf8Error),
    #[error("a message has {bytes} bytes or more, where {max} are allowed")]
    TooLarge { bytes: u64, max: usize },
}

impl Violation {
    /// The code to close with (RFC 6455, section 7.4.1).
    pub(super) fn close_code(&self) -> u16 {
        match self {
            Self::Utf8(_) => 1007,
            Self::TooLarge { .. } => 1009,
            _ => 1002,
        }
    }
}

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What a buffer keeps when it is empty. Most frames of a quiet client fit; more would be held by
/// every idle socket.
const KEPT_BYTES: usize = 128;

/// Takes frames out of the bytes of a client.
#[derive(Debug)]
pub(super) struct Decoder {
    buffer: Vec<u8>,
    /// How much of the buffer was looked at.
    used: usize,
    /// The message that was begun, if one was.
    begun: Option<Begun>,
    max_bytes: usize,
}

#[derive(Debug)]
struct Begun {
    is_text: bool,
    payload: Vec<u8>,
}

struct Header {
    is_final: bool,
    opcode: u8,
    mask: [u8; 4],
    /// Bytes of the header itself.
    len: usize,
    payload: usize,
}

impl Decoder {
    /// Takes messages of at most `max_bytes`.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            buffer: Vec::new(),
            used: 0,
            begun: None,
            max_bytes,
        }
    }

    /// Bytes that came. To be called when [`next`](Self::next) has no more.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether [`next`](Self::next) would say anything.
    pub(super) fn has_next(&self) -> bool {
        match self.header() {
            Ok(None) => false,
            Ok(Some(header)) => self.unused().len() - header.len >= header.payload,
            Err(_) => true,
        }
    }

    /// What comes next; `None` until more bytes come.
    ///
    /// # Errors
    ///
    /// [`Violation`], after which there is nothing more to be had. A message that is too large is
    /// refused as soon as it says so.
    pub(super) fn next(&mut self) -> Result<Option<Incoming>, Violation> {
        loop {
            let Some(header) = self.header()? else {
                self.compact();
                return Ok(None);
            };
            let start = self.used + header.len;
            let end = start + header.payload;
            let Some(payload) = self.buffer.get_mut(start..end) else {
                self.compact();
                return Ok(None);
            };
            unmask(payload, header.mask);
            self.used = end;
            let payload = &self.buffer[start..end];
            let incoming = match header.opcode {
                PING => Incoming::Ping(payload.to_vec()),
                PONG => Incoming::Pong,
                CLOSE => Incoming::Close(close_code(payload)?),
                TEXT | BINARY if header.is_final => message(header.opcode == TEXT, payload)?,
                TEXT | BINARY => {
                    self.begun = Some(Begun {
                        is_text: header.opcode == TEXT,
                        payload: payload.to_vec(),
                    });
                    continue;
                }
                _ => {
                    let Some(mut begun) = self.begun.take() else {
                        return Err(Violation::Continuation);
                    };
                    begun.payload.extend_from_slice(payload);
                    if !header.is_final {
                        self.begun = Some(begun);
                        continue;
                    }
                    message(begun.is_text, &begun.payload)?
                }
            };
            return Ok(Some(incoming));
        }
    }

    fn unused(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// The next header, if it is all there and good.
    fn header(&self) -> Result<Option<Header>, Violation> {
        let Some((&[first, second], rest)) = self.unused().split_first_chunk::<2>() else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        let (is_final, opcode) = (first & 0x80 != 0, first & 0xF);
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
            return Err(Violation::Opcode { opcode });
        }
        if second & 0x80 == 0 {
            return Err(Violation::Unmasked);
        }
        let (bytes, rest) = match second & 0x7F {
            126 => match rest.split_first_chunk::<2>() {
                Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((bytes, rest)) => (u64::from_be_bytes(*bytes), rest),
                None => return Ok(None),
            },
            bytes => (bytes.into(), rest),
        };
        if opcode >= CLOSE {
            if !is_final {
                return Err(Violation::FragmentedControl);
            }
            if bytes > 125 {
                return Err(Violation::LargeControl { bytes });
            }
        } else if opcode != CONTINUATION && self.begun.is_some() {
            return Err(Violation::Interrupted);
        } else if opcode == CONTINUATION && self.begun.is_none() {
            return Err(Violation::Continuation);
        }
        let before = self.begun.as_ref().map_or(0, |begun| begun.payload.len());
        let max = self.max_bytes;
        let payload = usize::try_from(bytes)
            .ok()
            .filter(|&bytes| opcode >= CLOSE || bytes <= max.saturating_sub(before));
        let Some(payload) = payload else {
            let bytes = bytes.saturating_add(before as u64);
            return Err(Violation::TooLarge { bytes, max });
        };
        let Some((&mask, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        Ok(Some(Header {
            is_final,
            opcode,
            mask,
            len: self.unused().len() - rest.len(),
            payload,
        }))
    }

    /// Forgets what was used.
    fn compact(&mut self) {
        if self.used == self.buffer.len() {
            empty(&mut self.buffer);
        } else {
            self.buffer.drain(..self.used);
        }
        self.used = 0;
    }
}

/// Empties a buffer, and gives back what an idle socket should not hold.
pub(super) fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > KEPT_BYTES {
        *buffer = Vec::new();
    }
}

fn message(is_text: bool, payload: &[u8]) -> Result<Incoming, Violation> {
    Ok(Incoming::Message(if is_text {
        Frame::Text(Arc::from(std::str::from_utf8(payload)?))
    } else {
        Frame::Binary(Arc::from(payload))
    }))
}

/// The code of a close frame, which may be without one.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(Violation::Close)
        };
    };
    std::str::from_utf8(reason)?;
    match u16::from_be_bytes(*code) {
        // 1004 to 1006 and 1015 are never sent (section 7.4.1).
        code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => Ok(Some(code)),
        _ => Err(Violation::Close),
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for part in payload.chunks_mut(4) {
        for (byte, mask) in part.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
}

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Text,
    Binary,
}

impl Kind {
    pub(super) fn of(frame: &Frame) -> Self {
        match frame {
            Frame::Text(_) => Self::Text,
            Frame::Binary(_) => Self::Binary,
        }
    }
}

/// Writes the header of a message's only frame, of `len` bytes.
pub(super) fn put_header(out: &mut Vec<u8>, kind: Kind, len: usize) {
    let opcode = match kind {
        Kind::Text => TEXT,
        Kind::Binary => BINARY,
    };
    out.push(0x80 | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ 0..=125), _) => out.push(len),
        (_, Ok(len)) => {
            out.push(126);
            out.extend(len.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend((len as u64).to_be_bytes());
        }
    }
}

/// Writes the answer to a ping, whose payload has at most 125 bytes.
pub(super) fn put_pong(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend([0x80 | PONG, payload.len() as u8]);
    out.extend(payload);
}

/// Writes a close frame.
pub(super) fn put_close(out: &mut Vec<u8>, code: u16) {
    out.extend([0x80 | CLOSE, 2]);
    out.extend(code.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

    /// A frame of a client; `first` holds the bits and the opcode.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            len @ 0..126 => bytes.push(0x80 | len as u8),
            len @ 126..65536 => {
                bytes.push(0x80 | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(0x80 | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        let start = bytes.len();
        bytes.extend(payload);
        unmask(&mut bytes[start..], MASK);
        bytes
    }

    fn text(text: &str) -> Incoming {
        Incoming::Message(Frame::Text(text.into()))
    }

    fn decode(bytes: &[u8]) -> Result<Vec<Incoming>, Violation> {
        let mut decoder = Decoder::new(70_000);
        decoder.extend(bytes);
        let mut all = Vec::new();
        while let Some(incoming) = decoder.next()? {
            all.push(incoming);
        }
        Ok(all)
    }

    #[test]
    fn the_example_of_the_rfc_is_read() {
        let bytes = [
            0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58,
        ];
        assert_eq!(decode(&bytes), Ok(vec![text("Hello")]));
    }

    #[test]
    fn each_length_is_read_and_written() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![b'a'; len];
            let sent = Frame::Binary(payload.as_slice().into());
            assert_eq!(
                decode(&frame(0x82, &payload)),
                Ok(vec![Incoming::Message(sent.clone())]),
                "{len}"
            );
            let mut header = Vec::new();
            put_header(&mut header, Kind::of(&sent), len);
            let masked = frame(0x82, &payload);
            // A server's header is that of a client without the mask and its bit.
            let mut expected = masked[..masked.len() - len - 4].to_vec();
            expected[1] &= 0x7F;
            assert_eq!(header, expected, "{len}");
        }
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let mut bytes = frame(0x01, b"so ");
        bytes.extend(frame(0x89, b"still there?"));
        bytes.extend(frame(0x00, b"it "));
        bytes.extend(frame(0x80, b"goes"));
        bytes.extend(frame(0x8A, b""));
        bytes.extend(frame(0x82, &[0xFF; 300]));
        bytes.extend(frame(0x88, &1001_u16.to_be_bytes()));
        let expected = vec![
            Incoming::Ping(b"still there?".to_vec()),
            text("so it goes"),
            Incoming::Pong,
            Incoming::Message(Frame::Binary([0xFF; 300].as_slice().into())),
            Incoming::Close(Some(1001)),
        ];
        for size in 1..=bytes.len() {
            let mut decoder = Decoder::new(1000);
            let mut all = Vec::new();
            for part in bytes.chunks(size) {
                decoder.extend(part);
                loop {
                    let announced = decoder.has_next();
                    let Some(incoming) = decoder.next().unwrap() else {
                        break;
                    };
                    assert!(announced);
                    all.push(incoming);
                }
            }
            assert_eq!(all, expected, "in parts of {size}");
            assert!(decoder.buffer.is_empty() && decoder.used == 0);
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_named() {
        let mut unmasked = frame(0x81, b"x");
        unmasked[1] &= 0x7F;
        let interrupted = [frame(0x01, b"a"), frame(0x81, b"b")].concat();
        let cases = [
            (frame(0xC1, b""), Violation::ReservedBits),
            (frame(0x83, b""), Violation::Opcode { opcode: 3 }),
            (frame(0x8B, b""), Violation::Opcode { opcode: 0xB }),
            (unmasked, Violation::Unmasked),
            (frame(0x09, b""), Violation::FragmentedControl),
            (
                frame(0x89, &[0; 126]),
                Violation::LargeControl { bytes: 126 },
            ),
            (frame(0x80, b""), Violation::Continuation),
            (interrupted, Violation::Interrupted),
            (frame(0x88, &[3]), Violation::Close),
            (frame(0x88, &1005_u16.to_be_bytes()), Violation::Close),
            (frame(0x88, &999_u16.to_be_bytes()), Violation::Close),
        ];
        for (bytes, violation) in cases {
            assert_eq!(decode(&bytes), Err(violation.clone()));
            assert_eq!(violation.close_code(), 1002);
        }
        let violation = decode(&frame(0x81, &[0xC3, 0x28])).unwrap_err();
        assert_eq!(violation.close_code(), 1007);
    }

    #[test]
    fn a_message_that_is_too_large_is_refused_by_its_header() {
        let mut decoder = Decoder::new(10);
        decoder.extend(&frame(0x82, &[0; 10]));
        assert!(decoder.next().unwrap().is_some());
        decoder.extend(&frame(0x82, &[0; 11])[..2]);
        let too_large = |bytes| Violation::TooLarge { bytes, max: 10 };
        assert_eq!(decoder.next(), Err(too_large(11)));

        let mut decoder = Decoder::new(10);
        let mut bytes = vec![0x82, 0xFF];
        bytes.extend(u64::MAX.to_be_bytes());
        decoder.extend(&bytes);
        assert_eq!(decoder.next(), Err(too_large(u64::MAX)));

        let mut decoder = Decoder::new(10);
        decoder.extend(&frame(0x02, &[0; 6]));
        assert_eq!(decoder.next(), Ok(None));
        decoder.extend(&frame(0x00, &[0; 5])[..2]);
        assert_eq!(decoder.next(), Err(too_large(11)));
    }

    #[test]
    fn an_idle_socket_holds_little() {
        let mut decoder = Decoder::new(1 << 20);
        decoder.extend(&frame(0x82, &[0; 100_000]));
        assert!(decoder.next().unwrap().is_some());
        assert_eq!(decoder.next(), Ok(None));
        assert!(decoder.buffer.capacity() <= KEPT_BYTES);
    }
}
