//! Erlang terms as values: the part of them that tokens carry, in Erlang's own order.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use thiserror::Error;

use super::integer::{BigInteger, IntegerTooLong};

/// The longest atom, in characters (the limit of the Erlang runtime).
pub const MAX_ATOM_CHARS: usize = 255;

/// An Erlang term that a token can carry.
///
/// What Erlang calls a string is a [`List`](Self::List) of integers; what Elixir calls a string is
/// a [`Binary`](Self::Binary). Funs, pids, ports, references, bitstrings whose length is no whole
/// number of bytes, and improper lists have no representation here.
///
/// The order is Erlang's order of map keys: integer < float < atom < tuple < map < list < binary,
/// tuples and maps first by size. A map therefore iterates in the order in which Erlang/OTP 25
/// writes the keys of a small map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// An integer that fits 64 bits.
    Integer(i64),
    /// An integer that does not fit 64 bits.
    BigInteger(BigInteger),
    /// A floating point number.
    Float(Float),
    /// An atom, among them `nil`, `true` and `false`.
    Atom(Atom),
    /// A sequence of bytes; Elixir's strings are UTF-8 in one of these.
    Binary(Vec<u8>),
    /// A proper list.
    List(Vec<Self>),
    /// A tuple.
    Tuple(Vec<Self>),
    /// A map; an Elixir struct is one with the key `__struct__`.
    Map(BTreeMap<Self, Self>),
}

impl Term {
    /// The atom `nil`.
    pub fn nil() -> Self {
        Self::Atom(Atom("nil".into()))
    }

    /// The integer with this sign and this little-endian magnitude, in the smallest variant that
    /// holds it.
    ///
    /// # Errors
    ///
    /// [`IntegerTooLong`] when the magnitude takes more than
    /// [`MAX_INTEGER_BYTES`](super::integer::MAX_INTEGER_BYTES).
    pub fn integer_from_le_bytes(negative: bool, magnitude: &[u8]) -> Result<Self, IntegerTooLong> {
        let len = magnitude
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        let magnitude = &magnitude[..len];
        if len <= size_of::<u64>() {
            let mut bytes = [0; size_of::<i128>()];
            bytes[..len].copy_from_slice(magnitude);
            let value = i128::from_le_bytes(bytes);
            if let Ok(value) = i64::try_from(if negative { -value } else { value }) {
                return Ok(Self::Integer(value));
            }
        }
        BigInteger::from_trimmed(negative, magnitude).map(Self::BigInteger)
    }

    /// The text of a binary that is UTF-8, which is what Elixir calls a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Binary(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The value of an integer that fits 64 bits.
    pub const fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// The place of this kind of term in Erlang's order of kinds.
    const fn rank(&self) -> u8 {
        match self {
            Self::Integer(_) | Self::BigInteger(_) => 0,
            Self::Float(_) => 1,
            Self::Atom(_) => 2,
            Self::Tuple(_) => 3,
            Self::Map(_) => 4,
            Self::List(_) => 5,
            Self::Binary(_) => 6,
        }
    }
}

impl Ord for Term {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::BigInteger(a), Self::BigInteger(b)) => a.cmp(b),
            // A big integer lies beyond every small one, on the side of its sign.
            (Self::Integer(_), Self::BigInteger(b)) if b.is_negative() => Ordering::Greater,
            (Self::Integer(_), Self::BigInteger(_)) => Ordering::Less,
            (Self::BigInteger(_), Self::Integer(_)) => other.cmp(self).reverse(),
            (Self::Float(a), Self::Float(b)) => a.cmp(b),
            (Self::Atom(a), Self::Atom(b)) => a.cmp(b),
            (Self::Binary(a), Self::Binary(b)) => a.cmp(b),
            (Self::List(a), Self::List(b)) => a.cmp(b),
            (Self::Tuple(a), Self::Tuple(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (Self::Map(a), Self::Map(b)) => a
                .len()
                .cmp(&b.len())
                .then_with(|| a.keys().cmp(b.keys()))
                .then_with(|| a.values().cmp(b.values())),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Term {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<i64> for Term {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<i32> for Term {
    fn from(value: i32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u32> for Term {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u64> for Term {
    fn from(value: u64) -> Self {
        Self::integer_from_le_bytes(false, &value.to_le_bytes())
            .expect("eight bytes are within MAX_INTEGER_BYTES")
    }
}

impl From<bool> for Term {
    fn from(value: bool) -> Self {
        Self::Atom(Atom(if value { "true" } else { "false" }.into()))
    }
}

impl From<&str> for Term {
    fn from(value: &str) -> Self {
        Self::Binary(value.as_bytes().to_vec())
    }
}

impl From<String> for Term {
    fn from(value: String) -> Self {
        Self::Binary(value.into_bytes())
    }
}

impl From<Atom> for Term {
    fn from(value: Atom) -> Self {
        Self::Atom(value)
    }
}

impl From<Float> for Term {
    fn from(value: Float) -> Self {
        Self::Float(value)
    }
}

/// An atom: at most [`MAX_ATOM_CHARS`] characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Atom(Box<str>);

impl Atom {
    /// The atom of that name.
    ///
    /// # Errors
    ///
    /// [`AtomTooLong`] when the name has more than [`MAX_ATOM_CHARS`] characters.
    pub fn new(name: &str) -> Result<Self, AtomTooLong> {
        // Counting ends at the limit, however long the name is.
        let chars = name.chars().take(MAX_ATOM_CHARS + 1).count();
        if chars > MAX_ATOM_CHARS {
            Err(AtomTooLong)
        } else {
            Ok(Self(name.into()))
        }
    }

    /// Its name.
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of an atom has more characters than Erlang allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the name of an atom has more than {MAX_ATOM_CHARS} characters")]
pub struct AtomTooLong;

/// A finite floating point number, the only kind there is in Erlang.
///
/// Zero and negative zero are two different keys of a map, as from Erlang/OTP 27 on.
#[derive(Debug, Clone, Copy)]
pub struct Float(f64);

impl Float {
    /// The number, unless it is an infinity or not a number.
    pub const fn new(value: f64) -> Option<Self> {
        if value.is_finite() {
            Some(Self(value))
        } else {
            None
        }
    }

    /// Its value.
    pub const fn value(self) -> f64 {
        self.0
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Float {}

impl Ord for Float {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atom(name: &str) -> Term {
        Atom::new(name).unwrap().into()
    }

    fn float(value: f64) -> Term {
        Float::new(value).unwrap().into()
    }

    fn map<const N: usize>(pairs: [(Term, Term); N]) -> Term {
        Term::Map(pairs.into())
    }

    #[test]
    fn kinds_follow_erlangs_order_of_map_keys() {
        let ascending = [
            Term::integer_from_le_bytes(true, &[0, 0, 0, 0, 0, 0, 0, 0, 2]).unwrap(),
            Term::integer_from_le_bytes(true, &[0, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap(),
            Term::from(i64::MIN),
            Term::from(2),
            Term::from(10),
            Term::from(u64::MAX),
            Term::integer_from_le_bytes(false, &[0, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap(),
            float(-1.5),
            float(-0.0),
            float(0.0),
            float(1.5),
            atom("a"),
            atom("ab"),
            atom("b"),
            atom("é"),
            Term::Tuple(vec![9.into()]),
            Term::Tuple(vec![1.into(), 2.into()]),
            Term::Tuple(vec![1.into(), 3.into()]),
            map([(9.into(), 9.into())]),
            map([(1.into(), 5.into()), (2.into(), 1.into())]),
            map([(1.into(), 6.into()), (2.into(), 1.into())]),
            map([(1.into(), 1.into()), (3.into(), 1.into())]),
            Term::List(vec![]),
            Term::List(vec![1.into()]),
            Term::List(vec![1.into(), 1.into()]),
            Term::List(vec![2.into()]),
            Term::from(""),
            Term::from("a"),
            Term::from("aa"),
            Term::from("b"),
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a:?} against {b:?}");
                assert_eq!(a.partial_cmp(b), Some(i.cmp(&j)));
                assert_eq!(a == b, i == j);
            }
        }
    }

    #[test]
    fn integers_take_the_smallest_variant() {
        let from_le =
            |negative, magnitude: &[u8]| Term::integer_from_le_bytes(negative, magnitude).unwrap();
        assert_eq!(from_le(false, &[]), Term::Integer(0));
        assert_eq!(from_le(true, &[0]), Term::Integer(0));
        assert_eq!(from_le(true, &[5, 1, 0, 0]), Term::Integer(-261));
        assert_eq!(
            from_le(false, &i64::MAX.to_le_bytes()),
            Term::Integer(i64::MAX)
        );
        assert_eq!(
            from_le(true, &i64::MIN.to_le_bytes()),
            Term::Integer(i64::MIN)
        );
        let first_beyond = from_le(false, &[0, 0, 0, 0, 0, 0, 0, 0x80]);
        assert!(matches!(&first_beyond, Term::BigInteger(big) if !big.is_negative()));
        assert_eq!(Term::from(1_u64 << 63), first_beyond);
        let last_below = from_le(true, &[1, 0, 0, 0, 0, 0, 0, 0x80, 0, 0]);
        assert!(matches!(&last_below, Term::BigInteger(big) if big.is_negative()));
    }

    #[test]
    fn atoms_are_limited_in_characters_not_in_bytes() {
        assert_eq!(
            Atom::new(&"é".repeat(255)).unwrap().as_str(),
            "é".repeat(255)
        );
        assert_eq!(Atom::new(&"é".repeat(256)), Err(AtomTooLong));
        assert_eq!(Atom::new("").unwrap().as_str(), "");
    }

    #[test]
    fn floats_are_finite() {
        assert_eq!(Float::new(f64::NAN), None);
        assert_eq!(Float::new(f64::INFINITY), None);
        assert_eq!(Float::new(f64::NEG_INFINITY), None);
        assert_eq!(Float::new(1.5).map(Float::value), Some(1.5));
    }

    #[test]
    fn views_and_conversions_name_the_same_value() {
        assert_eq!(Term::from("Zoë").as_str(), Some("Zoë"));
        assert_eq!(Term::from("x".to_owned()).as_str(), Some("x"));
        assert_eq!(Term::Binary(vec![0xff]).as_str(), None);
        assert_eq!(atom("x").as_str(), None);
        assert_eq!(Term::from(-7).as_i64(), Some(-7));
        assert_eq!(Term::from(u32::MAX).as_i64(), Some(4_294_967_295));
        assert_eq!(Term::from("7").as_i64(), None);
        assert_eq!(Term::from(true), atom("true"));
        assert_eq!(Term::from(false), atom("false"));
        assert_eq!(Term::nil(), atom("nil"));
    }
}
