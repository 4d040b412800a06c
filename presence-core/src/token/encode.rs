//! Writing the Erlang external term format, byte for byte as `term_to_binary/1` of Erlang/OTP 25.

use std::collections::BTreeMap;

use thiserror::Error;

use super::format::{self, MAX_TERM_DEPTH, MAX_TERM_LEN};
use super::term::{Atom, Term};

impl Term {
    /// This term in the external term format.
    ///
    /// The bytes are those of `term_to_binary/1` in Erlang/OTP 25, with one exception: the keys of
    /// a map of more than 32 entries are in order here, while there they follow the runtime's
    /// internal hash. Any Erlang/OTP reads either.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when the term is too deep or too long.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        let mut encoder = Encoder { out: Vec::new() };
        encoder.put(&[format::VERSION])?;
        encoder.term(self, 0)?;
        Ok(encoder.out)
    }
}

/// Why a term cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// Encoded, it would be longer than [`MAX_TERM_LEN`].
    #[error("the term takes more than {MAX_TERM_LEN} bytes")]
    TooLong,
    /// Its lists, tuples and maps are nested deeper than [`MAX_TERM_DEPTH`].
    #[error("the term is nested deeper than {MAX_TERM_DEPTH}")]
    TooDeep,
}

struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    /// `depth` is the number of lists, tuples and maps around this term.
    fn term(&mut self, term: &Term, depth: usize) -> Result<(), EncodeError> {
        match term {
            Term::Integer(value) => self.integer(*value),
            Term::BigInteger(value) => self.magnitude(value.is_negative(), value.magnitude()),
            Term::Float(value) => {
                self.put(&[format::NEW_FLOAT])?;
                self.put(&value.value().to_bits().to_be_bytes())
            }
            Term::Atom(atom) => self.atom(atom),
            Term::Binary(bytes) => {
                self.put(&[format::BINARY])?;
                self.count(bytes.len())?;
                self.put(bytes)
            }
            Term::List(elements) => self.list(elements, depth),
            Term::Tuple(elements) => self.tuple(elements, inner(depth)?),
            Term::Map(entries) => self.map(entries, inner(depth)?),
        }
    }

    fn integer(&mut self, value: i64) -> Result<(), EncodeError> {
        if let Ok(byte) = u8::try_from(value) {
            self.put(&[format::SMALL_INTEGER, byte])
        } else if let Ok(value) = i32::try_from(value) {
            self.put(&[format::INTEGER])?;
            self.put(&value.to_be_bytes())
        } else {
            let magnitude = value.unsigned_abs().to_le_bytes();
            let len = magnitude.len() - value.unsigned_abs().leading_zeros() as usize / 8;
            self.magnitude(value < 0, &magnitude[..len])
        }
    }

    fn magnitude(&mut self, negative: bool, magnitude: &[u8]) -> Result<(), EncodeError> {
        if let Ok(len) = u8::try_from(magnitude.len()) {
            self.put(&[format::SMALL_BIG, len])?;
        } else {
            self.put(&[format::LARGE_BIG])?;
            self.count(magnitude.len())?;
        }
        self.put(&[negative.into()])?;
        self.put(magnitude)
    }

    /// OTP 25 writes what it can in Latin-1; UTF-8 only where that does not suffice.
    fn atom(&mut self, atom: &Atom) -> Result<(), EncodeError> {
        let name = atom.as_str();
        let latin1: Option<Vec<u8>> = name.chars().map(|c| u8::try_from(c).ok()).collect();
        let (long_tag, bytes) = match &latin1 {
            Some(bytes) => (format::ATOM, bytes.as_slice()),
            None => (format::ATOM_UTF8, name.as_bytes()),
        };
        match u8::try_from(bytes.len()) {
            Ok(len) if long_tag == format::ATOM_UTF8 => {
                self.put(&[format::SMALL_ATOM_UTF8, len])?;
            }
            _ => {
                let len = u16::try_from(bytes.len()).expect("an atom has at most 255 characters");
                self.put(&[long_tag])?;
                self.put(&len.to_be_bytes())?;
            }
        }
        self.put(bytes)
    }

    fn list(&mut self, elements: &[Term], depth: usize) -> Result<(), EncodeError> {
        if elements.is_empty() {
            return self.put(&[format::NIL]);
        }
        if let Some((len, bytes)) = as_string(elements) {
            self.put(&[format::STRING])?;
            self.put(&len.to_be_bytes())?;
            return self.put(&bytes);
        }
        let depth = inner(depth)?;
        self.put(&[format::LIST])?;
        self.count(elements.len())?;
        for element in elements {
            self.term(element, depth)?;
        }
        self.put(&[format::NIL])
    }

    fn tuple(&mut self, elements: &[Term], depth: usize) -> Result<(), EncodeError> {
        if let Ok(len) = u8::try_from(elements.len()) {
            self.put(&[format::SMALL_TUPLE, len])?;
        } else {
            self.put(&[format::LARGE_TUPLE])?;
            self.count(elements.len())?;
        }
        for element in elements {
            self.term(element, depth)?;
        }
        Ok(())
    }

    fn map(&mut self, entries: &BTreeMap<Term, Term>, depth: usize) -> Result<(), EncodeError> {
        self.put(&[format::MAP])?;
        self.count(entries.len())?;
        for (key, value) in entries {
            self.term(key, depth)?;
            self.term(value, depth)?;
        }
        Ok(())
    }

    fn count(&mut self, len: usize) -> Result<(), EncodeError> {
        let len = u32::try_from(len).map_err(|_| EncodeError::TooLong)?;
        self.put(&len.to_be_bytes())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if bytes.len() > MAX_TERM_LEN - self.out.len() {
            return Err(EncodeError::TooLong);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

/// The depth within a list, tuple or map that itself lies at `depth`.
fn inner(depth: usize) -> Result<usize, EncodeError> {
    if depth == MAX_TERM_DEPTH {
        Err(EncodeError::TooDeep)
    } else {
        Ok(depth + 1)
    }
}

/// The bytes of a list of bytes, which the format writes as a string, if it is short enough for one.
fn as_string(elements: &[Term]) -> Option<(u16, Vec<u8>)> {
    let len = u16::try_from(elements.len()).ok()?;
    let byte = |element: &Term| element.as_i64().and_then(|value| u8::try_from(value).ok());
    Some((len, elements.iter().map(byte).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::term::Float;

    fn bytes(term: impl Into<Term>) -> Vec<u8> {
        term.into().to_bytes().unwrap()
    }

    fn atom(name: &str) -> Term {
        Atom::new(name).unwrap().into()
    }

    #[test]
    fn integers_are_written_in_the_shortest_of_three_forms() {
        assert_eq!(bytes(0), [131, 97, 0]);
        assert_eq!(bytes(255), [131, 97, 255]);
        assert_eq!(bytes(256), [131, 98, 0, 0, 1, 0]);
        assert_eq!(bytes(-1), [131, 98, 255, 255, 255, 255]);
        assert_eq!(bytes(i32::MAX), [131, 98, 0x7f, 255, 255, 255]);
        assert_eq!(bytes(i32::MIN), [131, 98, 0x80, 0, 0, 0]);
        assert_eq!(bytes(1_i64 << 31), [131, 110, 4, 0, 0, 0, 0, 0x80]);
        assert_eq!(bytes(-(1_i64 << 31) - 1), [131, 110, 4, 1, 1, 0, 0, 0x80]);
        assert_eq!(bytes(1_i64 << 32), [131, 110, 5, 0, 0, 0, 0, 0, 1]);
        assert_eq!(bytes(i64::MIN), [131, 110, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0x80]);
        assert_eq!(
            bytes(u64::MAX),
            [131, 110, 8, 0, 255, 255, 255, 255, 255, 255, 255, 255]
        );
    }

    #[test]
    fn magnitudes_beyond_255_bytes_have_a_long_count() {
        let longest_small = Term::integer_from_le_bytes(true, &[7; 255]).unwrap();
        assert_eq!(bytes(longest_small)[..4], [131, 110, 255, 1]);
        let large = Term::integer_from_le_bytes(true, &[7; 256]).unwrap();
        let encoded = bytes(large);
        assert_eq!(encoded[..8], [131, 111, 0, 0, 1, 0, 1, 7]);
        assert_eq!(encoded.len(), 7 + 256);
    }

    #[test]
    fn atoms_are_latin1_where_they_can_be() {
        assert_eq!(bytes(atom("ok")), [131, 100, 0, 2, b'o', b'k']);
        assert_eq!(bytes(atom("é")), [131, 100, 0, 1, 0xe9]);
        assert_eq!(bytes(atom("ÿ")), [131, 100, 0, 1, 0xff]);
        assert_eq!(bytes(atom("Ā")), [131, 119, 2, 0xc4, 0x80]);
        assert_eq!(bytes(atom(&"é".repeat(255)))[..5], [131, 100, 0, 255, 0xe9]);
        assert_eq!(bytes(atom(&"Ā".repeat(127)))[..3], [131, 119, 254]);
        assert_eq!(bytes(atom(&"Ā".repeat(128)))[..4], [131, 118, 1, 0]);
    }

    #[test]
    fn lists_of_bytes_are_strings() {
        assert_eq!(bytes(Term::List(vec![])), [131, 106]);
        assert_eq!(
            bytes(Term::List(vec![104.into(), 255.into()])),
            [131, 107, 0, 2, 104, 255]
        );
        assert_eq!(
            bytes(Term::List(vec![104.into(), 256.into()])),
            [131, 108, 0, 0, 0, 2, 97, 104, 98, 0, 0, 1, 0, 106]
        );
        assert_eq!(
            bytes(Term::List(vec!["a".into()])),
            [131, 108, 0, 0, 0, 1, 109, 0, 0, 0, 1, b'a', 106]
        );
    }

    #[test]
    fn tuples_beyond_255_elements_have_a_long_count() {
        assert_eq!(bytes(Term::Tuple(vec![])), [131, 104, 0]);
        assert_eq!(
            bytes(Term::Tuple(vec![1.into(); 255]))[..4],
            [131, 104, 255, 97]
        );
        assert_eq!(
            bytes(Term::Tuple(vec![1.into(); 256]))[..7],
            [131, 105, 0, 0, 1, 0, 97]
        );
    }

    #[test]
    fn map_keys_are_in_erlangs_order() {
        let map = Term::Map(
            [
                (atom("b"), 1.into()),
                ("a".into(), 2.into()),
                (atom("a"), 3.into()),
                (9.into(), 4.into()),
            ]
            .into(),
        );
        assert_eq!(
            bytes(map),
            [
                131, 116, 0, 0, 0, 4, 97, 9, 97, 4, 100, 0, 1, b'a', 97, 3, 100, 0, 1, b'b', 97, 1,
                109, 0, 0, 0, 1, b'a', 97, 2
            ]
        );
    }

    #[test]
    fn floats_are_eight_bytes() {
        assert_eq!(
            bytes(Float::new(-2.5).unwrap()),
            [131, 70, 0xc0, 4, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn the_longest_term_is_written_and_one_byte_more_is_not() {
        let binary = |len| Term::Binary(vec![0; len]).to_bytes();
        assert_eq!(binary(MAX_TERM_LEN - 6).unwrap().len(), MAX_TERM_LEN);
        assert_eq!(binary(MAX_TERM_LEN - 5), Err(EncodeError::TooLong));
        assert_eq!(
            Term::Tuple(vec![Term::nil(); MAX_TERM_LEN]).to_bytes(),
            Err(EncodeError::TooLong)
        );
    }

    #[test]
    fn the_deepest_term_is_written_and_one_level_more_is_not() {
        let wraps: [fn(Term) -> Term; 3] = [
            |inner| Term::List(vec![inner]),
            |inner| Term::Tuple(vec![inner]),
            |inner| Term::Map([(1.into(), inner)].into()),
        ];
        for wrap in wraps {
            let mut term = Term::from(-1);
            for _ in 0..MAX_TERM_DEPTH {
                term = wrap(term);
            }
            assert!(term.to_bytes().is_ok());
            assert_eq!(wrap(term).to_bytes(), Err(EncodeError::TooDeep));
        }
    }

    /// The empty list and a string hold no terms: neither side counts them as a level.
    #[test]
    fn both_sides_agree_on_what_is_too_deep() {
        let innermost = [
            Term::List(vec![]),
            Term::List(vec![7.into()]),
            Term::Tuple(vec![]),
            Term::Map([].into()),
        ];
        for (innermost, fits) in innermost.into_iter().zip([true, true, false, false]) {
            let open = [104, 1].repeat(MAX_TERM_DEPTH);
            let encoded = [&[131][..], &open, &bytes(innermost.clone())[1..]].concat();
            let term = (0..MAX_TERM_DEPTH).fold(innermost, |inner, _| Term::Tuple(vec![inner]));
            assert_eq!(term.to_bytes().ok(), fits.then(|| encoded.clone()));
            assert_eq!(Term::from_bytes(&encoded).ok(), fits.then_some(term));
        }
    }
}
