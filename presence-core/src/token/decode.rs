//! Reading the Erlang external term format, bounded in length, depth and memory.

use std::collections::BTreeMap;

use thiserror::Error;

use super::format::{self, MAX_TERM_DEPTH, MAX_TERM_LEN};
use super::integer::MAX_INTEGER_BYTES;
use super::term::{Atom, Float, MAX_ATOM_CHARS, Term};

impl Term {
    /// The term that these bytes hold, and nothing beside it.
    ///
    /// What any Erlang/OTP writes for the terms that [`Term`] knows is read, old forms of atoms and
    /// floats included. Memory follows the bytes that are there, not the counts they claim.
    /// Executable terms are refused, as `Plug.Crypto.non_executable_binary_to_term/2` does. So are,
    /// beyond it, compressed terms, pids, references, bitstrings, improper lists and bytes after the
    /// term.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]: the first fault, and the offset in `bytes` of the term that has it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_TERM_LEN {
            return Err(DecodeError::TooLong { len: bytes.len() });
        }
        let mut decoder = Decoder { bytes, at: 0 };
        match decoder.byte()? {
            format::VERSION => {}
            version => return Err(DecodeError::UnknownVersion { version }),
        }
        let term = decoder.term(0)?;
        if decoder.at < bytes.len() {
            return Err(DecodeError::TrailingBytes { at: decoder.at });
        }
        Ok(term)
    }
}

/// Why bytes are no term; `at` is an offset in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// There are more bytes than [`MAX_TERM_LEN`].
    #[error("{len} bytes are more than the {MAX_TERM_LEN} that a term may take")]
    TooLong {
        /// How many there are.
        len: usize,
    },
    /// The first byte names another version of the format.
    #[error("version {version} of the external term format is not known")]
    UnknownVersion {
        /// The first byte.
        version: u8,
    },
    /// The bytes end within a term.
    #[error("the term ends early, at byte {at}")]
    Truncated {
        /// Where the bytes end.
        at: usize,
    },
    /// There are bytes after the term.
    #[error("the term ends at byte {at}, where more bytes follow")]
    TrailingBytes {
        /// Where they begin.
        at: usize,
    },
    /// A fun, which must never come from outside.
    #[error("an executable term (tag {tag}) at byte {at}")]
    Executable {
        /// Its tag.
        tag: u8,
        /// Where it begins.
        at: usize,
    },
    /// The term is compressed.
    #[error("a compressed term at byte {at}")]
    Compressed {
        /// Where it begins.
        at: usize,
    },
    /// A term that [`Term`] has no place for.
    #[error("a term of an unsupported kind (tag {tag}) at byte {at}")]
    Unsupported {
        /// Its tag.
        tag: u8,
        /// Where it begins.
        at: usize,
    },
    /// Lists, tuples and maps are nested deeper than [`MAX_TERM_DEPTH`].
    #[error("a term nested deeper than {MAX_TERM_DEPTH} at byte {at}")]
    TooDeep {
        /// Where the innermost begins.
        at: usize,
    },
    /// An atom's name is not UTF-8.
    #[error("an atom that is not UTF-8 at byte {at}")]
    AtomNotUtf8 {
        /// Where it begins.
        at: usize,
    },
    /// An atom's name has more than [`MAX_ATOM_CHARS`] characters.
    #[error("an atom of more than {MAX_ATOM_CHARS} characters at byte {at}")]
    AtomTooLong {
        /// Where it begins.
        at: usize,
    },
    /// A float is an infinity, not a number, or not in decimal form.
    #[error("a float that is no finite number at byte {at}")]
    BadFloat {
        /// Where it begins.
        at: usize,
    },
    /// The sign of a big integer is neither 0 nor 1.
    #[error("a big integer with the sign {sign} at byte {at}")]
    BadSign {
        /// The sign.
        sign: u8,
        /// Where the integer begins.
        at: usize,
    },
    /// An integer takes more than [`MAX_INTEGER_BYTES`].
    #[error("an integer of more than {MAX_INTEGER_BYTES} bytes at byte {at}")]
    IntegerTooLong {
        /// Where it begins.
        at: usize,
    },
    /// A list ends in something else than the empty list.
    #[error("an improper list at byte {at}")]
    ImproperList {
        /// Where it begins.
        at: usize,
    },
    /// A map has a key twice.
    #[error("a key for the second time at byte {at}")]
    DuplicateKey {
        /// Where the second begins.
        at: usize,
    },
}

struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    /// `depth` is the number of lists, tuples and maps around this term.
    fn term(&mut self, depth: usize) -> Result<Term, DecodeError> {
        let at = self.at;
        let tag = self.byte()?;
        match tag {
            format::SMALL_INTEGER => Ok(Term::Integer(self.byte()?.into())),
            format::INTEGER => Ok(Term::Integer(i32::from_be_bytes(self.array()?).into())),
            format::SMALL_BIG => {
                let len = self.short_count()?;
                self.big(at, len)
            }
            format::LARGE_BIG => {
                let len = self.count()?;
                self.big(at, len)
            }
            format::NEW_FLOAT => float(at, f64::from_bits(u64::from_be_bytes(self.array()?))),
            format::FLOAT => self.old_float(at),
            format::ATOM => {
                let len = self.medium_count()?;
                self.latin1_atom(at, len)
            }
            format::SMALL_ATOM => {
                let len = self.short_count()?;
                self.latin1_atom(at, len)
            }
            format::ATOM_UTF8 => {
                let len = self.medium_count()?;
                self.utf8_atom(at, len)
            }
            format::SMALL_ATOM_UTF8 => {
                let len = self.short_count()?;
                self.utf8_atom(at, len)
            }
            format::BINARY => {
                let len = self.count()?;
                Ok(Term::Binary(self.take(len)?.to_vec()))
            }
            format::STRING => {
                let len = self.medium_count()?;
                Ok(Term::List(
                    self.take(len)?
                        .iter()
                        .map(|&byte| Term::Integer(byte.into()))
                        .collect(),
                ))
            }
            format::NIL => Ok(Term::List(Vec::new())),
            format::LIST => self.list(at, inner(at, depth)?),
            format::SMALL_TUPLE => {
                let len = self.short_count()?;
                Ok(Term::Tuple(self.elements(len, inner(at, depth)?)?))
            }
            format::LARGE_TUPLE => {
                let len = self.count()?;
                Ok(Term::Tuple(self.elements(len, inner(at, depth)?)?))
            }
            format::MAP => self.map(inner(at, depth)?),
            format::FUN | format::NEW_FUN | format::EXPORT => {
                Err(DecodeError::Executable { tag, at })
            }
            format::COMPRESSED => Err(DecodeError::Compressed { at }),
            _ => Err(DecodeError::Unsupported { tag, at }),
        }
    }

    fn big(&mut self, at: usize, len: usize) -> Result<Term, DecodeError> {
        let sign = self.byte()?;
        let negative = match sign {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::BadSign { sign, at }),
        };
        let magnitude = self.take(len)?;
        Term::integer_from_le_bytes(negative, magnitude)
            .map_err(|_| DecodeError::IntegerTooLong { at })
    }

    /// The form of old runtimes: 31 bytes of decimal text, filled up with zero bytes.
    fn old_float(&mut self, at: usize) -> Result<Term, DecodeError> {
        let field: [u8; 31] = self.array()?;
        let text = field.split(|&byte| byte == 0).next().unwrap_or_default();
        let value = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok());
        float(at, value.ok_or(DecodeError::BadFloat { at })?)
    }

    fn latin1_atom(&mut self, at: usize, len: usize) -> Result<Term, DecodeError> {
        let name: String = self.take(len)?.iter().copied().map(char::from).collect();
        atom(at, &name)
    }

    fn utf8_atom(&mut self, at: usize, len: usize) -> Result<Term, DecodeError> {
        let name =
            std::str::from_utf8(self.take(len)?).map_err(|_| DecodeError::AtomNotUtf8 { at })?;
        atom(at, name)
    }

    fn list(&mut self, at: usize, depth: usize) -> Result<Term, DecodeError> {
        let len = self.count()?;
        let elements = self.elements(len, depth)?;
        match self.byte()? {
            format::NIL => Ok(Term::List(elements)),
            _ => Err(DecodeError::ImproperList { at }),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Term, DecodeError> {
        let len = self.count()?;
        let mut entries = BTreeMap::new();
        for _ in 0..len {
            let at = self.at;
            let key = self.term(depth)?;
            let value = self.term(depth)?;
            if entries.insert(key, value).is_some() {
                return Err(DecodeError::DuplicateKey { at });
            }
        }
        Ok(Term::Map(entries))
    }

    /// Every element takes a byte at least, so a false count ends in [`DecodeError::Truncated`].
    fn elements(&mut self, len: usize, depth: usize) -> Result<Vec<Term>, DecodeError> {
        let mut elements = Vec::new();
        for _ in 0..len {
            elements.push(self.term(depth)?);
        }
        Ok(elements)
    }

    fn count(&mut self) -> Result<usize, DecodeError> {
        // A count that fits no usize is more than there can be bytes.
        Ok(usize::try_from(u32::from_be_bytes(self.array()?)).unwrap_or(usize::MAX))
    }

    fn medium_count(&mut self) -> Result<usize, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?).into())
    }

    fn short_count(&mut self) -> Result<usize, DecodeError> {
        Ok(self.byte()?.into())
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, _) = self
            .rest()
            .split_first_chunk()
            .ok_or_else(|| self.truncated())?;
        self.at += N;
        Ok(*array)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, _) = self
            .rest()
            .split_at_checked(len)
            .ok_or_else(|| self.truncated())?;
        self.at += len;
        Ok(taken)
    }

    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    const fn truncated(&self) -> DecodeError {
        DecodeError::Truncated {
            at: self.bytes.len(),
        }
    }
}

/// The depth within a list, tuple or map that begins at byte `at` and itself lies at `depth`.
fn inner(at: usize, depth: usize) -> Result<usize, DecodeError> {
    if depth == MAX_TERM_DEPTH {
        Err(DecodeError::TooDeep { at })
    } else {
        Ok(depth + 1)
    }
}

fn float(at: usize, value: f64) -> Result<Term, DecodeError> {
    Float::new(value)
        .map(Term::Float)
        .ok_or(DecodeError::BadFloat { at })
}

fn atom(at: usize, name: &str) -> Result<Term, DecodeError> {
    Atom::new(name)
        .map(Term::Atom)
        .map_err(|_| DecodeError::AtomTooLong { at })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The term after the version byte.
    fn read(bytes: &[u8]) -> Result<Term, DecodeError> {
        Term::from_bytes(&[&[131], bytes].concat())
    }

    fn named(name: &str) -> Result<Term, DecodeError> {
        Ok(Atom::new(name).unwrap().into())
    }

    #[test]
    fn atoms_are_read_in_all_four_forms() {
        assert_eq!(read(&[100, 0, 2, 0xe9, b'a']), named("éa"));
        assert_eq!(read(&[115, 2, 0xe9, b'a']), named("éa"));
        assert_eq!(read(&[118, 0, 3, 0xc3, 0xa9, b'a']), named("éa"));
        assert_eq!(read(&[119, 3, 0xc3, 0xa9, b'a']), named("éa"));
    }

    #[test]
    fn atoms_that_erlang_would_refuse_are_refused() {
        assert_eq!(
            read(&[119, 1, 0xc3]),
            Err(DecodeError::AtomNotUtf8 { at: 1 })
        );
        let long = [&[100, 1, 0][..], &[b'a'; 256]].concat();
        assert_eq!(read(&long), Err(DecodeError::AtomTooLong { at: 1 }));
        let longest = [&[118, 1, 0xfe][..], "é".repeat(255).as_bytes()].concat();
        assert_eq!(read(&longest), named(&"é".repeat(255)));
    }

    #[test]
    fn integers_are_read_in_all_forms_even_where_a_shorter_one_would_do() {
        assert_eq!(read(&[97, 200]), Ok(200.into()));
        assert_eq!(read(&[98, 255, 255, 255, 251]), Ok((-5).into()));
        assert_eq!(read(&[110, 2, 1, 5, 0]), Ok((-5).into()));
        assert_eq!(read(&[110, 0, 0]), Ok(0.into()));
        assert_eq!(read(&[111, 0, 0, 0, 2, 0, 5, 1]), Ok(261.into()));
        assert_eq!(
            read(&[110, 1, 2, 5]),
            Err(DecodeError::BadSign { sign: 2, at: 1 })
        );
    }

    #[test]
    fn an_integer_is_read_up_to_its_limit() {
        let big =
            |len: u32| [&[111][..], &len.to_be_bytes(), &[0], &vec![1; len as usize]].concat();
        assert!(matches!(read(&big(1024)), Ok(Term::BigInteger(_))));
        assert_eq!(read(&big(1025)), Err(DecodeError::IntegerTooLong { at: 1 }));
    }

    #[test]
    fn floats_are_read_in_both_forms() {
        let old = |text: &str| {
            let mut bytes = [0; 32];
            bytes[0] = 99;
            bytes[1..=text.len()].copy_from_slice(text.as_bytes());
            read(&bytes)
        };
        let expected = Ok(Float::new(1.5).unwrap().into());
        assert_eq!(read(&[70, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]), expected);
        assert_eq!(old("1.50000000000000000000e+00"), expected);
        assert_eq!(old("15.0000000000000000000000e-001"), expected);
        let bad = Err(DecodeError::BadFloat { at: 1 });
        for text in ["", "inf", "NaN", "1.5 ", "1e999", "one"] {
            assert_eq!(old(text), bad, "{text:?}");
        }
        assert_eq!(read(&[70, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0]), bad);
        assert_eq!(read(&[70, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]), bad);
    }

    #[test]
    fn lists_and_tuples_are_read_in_all_forms() {
        let bytes = || vec![Term::from(104), Term::from(255)];
        assert_eq!(read(&[106]), Ok(Term::List(vec![])));
        assert_eq!(read(&[108, 0, 0, 0, 0, 106]), Ok(Term::List(vec![])));
        assert_eq!(read(&[107, 0, 2, 104, 255]), Ok(Term::List(bytes())));
        assert_eq!(
            read(&[108, 0, 0, 0, 2, 97, 104, 97, 255, 106]),
            Ok(Term::List(bytes()))
        );
        assert_eq!(read(&[104, 2, 97, 104, 97, 255]), Ok(Term::Tuple(bytes())));
        assert_eq!(
            read(&[105, 0, 0, 0, 2, 97, 104, 97, 255]),
            Ok(Term::Tuple(bytes()))
        );
        assert_eq!(
            read(&[109, 0, 0, 0, 2, 104, 255]),
            Ok(Term::Binary(vec![104, 255]))
        );
    }

    #[test]
    fn improper_lists_are_refused() {
        assert_eq!(
            read(&[104, 1, 108, 0, 0, 0, 1, 97, 1, 97]),
            Err(DecodeError::ImproperList { at: 3 })
        );
    }

    #[test]
    fn maps_may_come_in_any_order_but_a_key_only_once() {
        let expected = Term::Map([(1.into(), 10.into()), (2.into(), 20.into())].into());
        assert_eq!(
            read(&[116, 0, 0, 0, 2, 97, 2, 97, 20, 97, 1, 97, 10]),
            Ok(expected)
        );
        assert_eq!(
            read(&[116, 0, 0, 0, 2, 97, 2, 97, 20, 97, 2, 97, 10]),
            Err(DecodeError::DuplicateKey { at: 10 })
        );
    }

    #[test]
    fn executable_and_unsupported_terms_are_told_apart() {
        for tag in [112, 113, 117] {
            assert_eq!(
                read(&[104, 1, tag, 0, 0]),
                Err(DecodeError::Executable { tag, at: 3 })
            );
        }
        assert_eq!(
            read(&[80, 0, 0, 0, 9]),
            Err(DecodeError::Compressed { at: 1 })
        );
        for tag in [0, 77, 82, 88, 89, 90, 102, 103, 114, 120, 121, 255] {
            assert_eq!(
                read(&[tag, 0, 0, 0, 0, 0]),
                Err(DecodeError::Unsupported { tag, at: 1 })
            );
        }
    }

    #[test]
    fn only_a_whole_term_of_the_known_version_is_read() {
        assert_eq!(Term::from_bytes(&[]), Err(DecodeError::Truncated { at: 0 }));
        assert_eq!(
            Term::from_bytes(&[130, 106]),
            Err(DecodeError::UnknownVersion { version: 130 })
        );
        assert_eq!(read(&[97, 1, 0]), Err(DecodeError::TrailingBytes { at: 3 }));
        let whole = [
            104, 2, 109, 0, 0, 0, 1, b'a', 108, 0, 0, 0, 1, 98, 0, 0, 1, 0, 106,
        ];
        assert!(read(&whole).is_ok());
        for len in 0..whole.len() {
            assert_eq!(
                read(&whole[..len]),
                Err(DecodeError::Truncated { at: len + 1 })
            );
        }
    }

    #[test]
    fn false_counts_cost_nothing() {
        for tag in [105, 108, 109, 116] {
            assert_eq!(
                read(&[tag, 255, 255, 255, 255, 106]),
                Err(DecodeError::Truncated { at: 7 })
            );
        }
        assert_eq!(
            read(&[111, 255, 255, 255, 255, 0, 1]),
            Err(DecodeError::Truncated { at: 8 })
        );
    }

    #[test]
    fn the_longest_term_is_read_and_one_byte_more_is_not() {
        let binary = |len: u32| {
            let mut bytes = [&[131, 109][..], &len.to_be_bytes()].concat();
            bytes.resize(6 + len as usize, 7);
            Term::from_bytes(&bytes)
        };
        let longest = u32::try_from(MAX_TERM_LEN).unwrap() - 6;
        assert!(binary(longest).is_ok());
        assert_eq!(
            binary(longest + 1),
            Err(DecodeError::TooLong {
                len: MAX_TERM_LEN + 1
            })
        );
    }

    #[test]
    fn the_deepest_term_is_read_and_one_level_more_is_not() {
        let kinds: [(&[u8], &[u8]); 4] = [
            (&[104, 1], &[]),
            (&[105, 0, 0, 0, 1], &[]),
            (&[108, 0, 0, 0, 1], &[106]),
            (&[116, 0, 0, 0, 1, 97, 1], &[]),
        ];
        for (open, close) in kinds {
            let nested =
                |depth| read(&[&open.repeat(depth)[..], &[97, 1], &close.repeat(depth)].concat());
            assert!(nested(MAX_TERM_DEPTH).is_ok());
            let at = 1 + open.len() * MAX_TERM_DEPTH;
            assert_eq!(nested(MAX_TERM_DEPTH + 1), Err(DecodeError::TooDeep { at }));
        }
    }
}
