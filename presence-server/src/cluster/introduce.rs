//! How nodes tell each other of others: the body of a frame of peers.
//!
//! Names and addresses, as many as there are, each a string in postcard's encoding.

use std::sync::Arc;

use bytes::Bytes;

use super::config::{MAX_NAME_BYTES, MIN_MAX_FRAME_BYTES, split_address};
use super::frame::{self, kind};

/// A node that one knows and another may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Introduction {
    pub(super) name: Arc<str>,
    pub(super) address: String,
}

/// The bytes are no introductions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("introductions: byte {at}: no {what}")]
pub(super) struct NoIntroduction {
    what: &'static str,
    at: usize,
}

/// The frames that introduce nodes: as many as it takes, since each fits the smallest bound there is.
pub(super) fn encode<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut frame = frame::begin(kind::PEERS);
    for introduction in all {
        let one = postcard::to_stdvec(&introduction).expect("a growing buffer takes any value");
        if frame.len() + one.len() > MIN_MAX_FRAME_BYTES {
            let full = std::mem::replace(&mut frame, frame::begin(kind::PEERS));
            frames.push(frame::finish(full).into());
        }
        frame.extend(one);
    }
    if frame.len() > frame::HEADER_BYTES {
        frames.push(frame::finish(frame).into());
    }
    frames
}

/// Reads a frame's body: the first `max` introductions, the rest is ignored.
pub(super) fn decode(body: &[u8], max: usize) -> Result<Vec<Introduction>, NoIntroduction> {
    let mut all = Vec::new();
    let mut rest = body;
    while !rest.is_empty() && all.len() < max {
        let at = body.len() - rest.len();
        let malformed = |what| NoIntroduction { what, at };
        let ((name, address), after): ((&str, &str), _) =
            postcard::take_from_bytes(rest).map_err(|_| malformed("name and address"))?;
        let is_name = (1..=MAX_NAME_BYTES).contains(&name.len());
        if !is_name || name.contains(char::is_control) {
            return Err(malformed("name of a node"));
        }
        if split_address(address).is_none() {
            return Err(malformed("address"));
        }
        all.push(Introduction {
            name: name.into(),
            address: address.into(),
        });
        rest = after;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(all: &[(&str, &str)]) -> Vec<u8> {
        let frames = encode(all.iter().copied());
        assert_eq!(frames.len(), 1);
        frames[0][frame::HEADER_BYTES..].to_vec()
    }

    #[test]
    fn many_are_introduced_in_frames_that_every_node_takes() {
        assert!(encode(std::iter::empty()).is_empty());
        let name = "n".repeat(MAX_NAME_BYTES);
        let address = format!("{}:65535", "h".repeat(200));
        let frames = encode((0..100).map(|_| (&*name, &*address)));
        let read = |frame: &Bytes| {
            assert!(frame.len() <= MIN_MAX_FRAME_BYTES);
            decode(&frame[frame::HEADER_BYTES..], 1000).unwrap().len()
        };
        assert_eq!(frames.iter().map(read).sum::<usize>(), 100);
    }

    #[test]
    fn introductions_come_back_up_to_the_bound() {
        let all = body(&[("a", "h:1"), ("ü", "[::1]:2")]);
        let read = decode(&all, 9).unwrap();
        assert_eq!((&*read[0].name, &*read[0].address), ("a", "h:1"));
        assert_eq!((&*read[1].name, &*read[1].address), ("ü", "[::1]:2"));
        assert_eq!(decode(&all, 1).unwrap().len(), 1);
        assert_eq!(decode(&[], 1), Ok(vec![]));
    }

    #[test]
    fn what_is_none_is_named_with_its_place() {
        let wrong = |body: &[u8]| decode(body, 9).unwrap_err().to_string();
        let first = body(&[("a", "h:1")]);
        let at = first.len();
        assert_eq!(
            wrong(&[&first[..], &[200]].concat()),
            format!("introductions: byte {at}: no name and address")
        );
        assert_eq!(
            wrong(&body(&[("", "h:1")])),
            "introductions: byte 0: no name of a node"
        );
        assert_eq!(
            wrong(&body(&[("a", "h")])),
            "introductions: byte 0: no address"
        );
    }
}
