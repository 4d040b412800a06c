//! Integers beyond 64 bits, of bounded size.

use std::cmp::Ordering;
use std::fmt;

use thiserror::Error;

/// The longest magnitude of an integer, in bytes; it also bounds the work of writing one in decimal.
pub const MAX_INTEGER_BYTES: usize = 1024;

/// An integer that does not fit 64 bits; [`Term::integer_from_le_bytes`] makes one.
///
/// Its [`Display`](fmt::Display) is its decimal form.
///
/// [`Term::integer_from_le_bytes`]: super::Term::integer_from_le_bytes
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BigInteger {
    negative: bool,
    /// Little-endian, with no zero at its end, and beyond what 64 bits hold: equal integers have
    /// equal bytes.
    magnitude: Box<[u8]>,
}

impl BigInteger {
    /// `magnitude` ends in no zero and with that sign fits no `i64`.
    pub(super) fn from_trimmed(negative: bool, magnitude: &[u8]) -> Result<Self, IntegerTooLong> {
        if magnitude.len() > MAX_INTEGER_BYTES {
            return Err(IntegerTooLong {
                len: magnitude.len(),
            });
        }
        Ok(Self {
            negative,
            magnitude: magnitude.into(),
        })
    }

    /// Whether it is below zero.
    pub const fn is_negative(&self) -> bool {
        self.negative
    }

    /// Its magnitude, little-endian, with no zero at its end.
    pub const fn magnitude(&self) -> &[u8] {
        &self.magnitude
    }
}

impl Ord for BigInteger {
    fn cmp(&self, other: &Self) -> Ordering {
        let magnitudes = || {
            let (a, b) = (&self.magnitude, &other.magnitude);
            a.len()
                .cmp(&b.len())
                .then_with(|| a.iter().rev().cmp(b.iter().rev()))
        };
        match (self.negative, other.negative) {
            (false, false) => magnitudes(),
            (true, true) => magnitudes().reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for BigInteger {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for BigInteger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const GROUP: u64 = 1_000_000_000;
        // Most significant limb first, so that a division walks it in order.
        let mut limbs: Vec<u64> = self
            .magnitude
            .chunks(4)
            .rev()
            .map(|chunk| {
                chunk
                    .iter()
                    .rev()
                    .fold(0, |limb, &byte| limb << 8 | u64::from(byte))
            })
            .collect();
        let mut groups = Vec::new();
        while limbs.iter().any(|&limb| limb != 0) {
            let mut remainder = 0;
            for limb in &mut limbs {
                let dividend = remainder << 32 | *limb;
                *limb = dividend / GROUP;
                remainder = dividend % GROUP;
            }
            groups.push(remainder);
        }
        let mut digits = String::new();
        for (at, group) in groups.iter().rev().enumerate() {
            let text = if at == 0 {
                group.to_string()
            } else {
                format!("{group:09}")
            };
            digits.push_str(&text);
        }
        f.pad_integral(!self.negative, "", &digits)
    }
}

/// An integer takes more bytes than [`MAX_INTEGER_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an integer of {len} bytes is longer than {MAX_INTEGER_BYTES}")]
pub struct IntegerTooLong {
    /// The length of its magnitude, in bytes.
    pub len: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn big(negative: bool, magnitude: &[u8]) -> BigInteger {
        BigInteger::from_trimmed(negative, magnitude).unwrap()
    }

    #[test]
    fn decimal_form_is_exact() {
        let two_pow_64 = [0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(big(false, &two_pow_64).to_string(), "18446744073709551616");
        assert_eq!(big(true, &two_pow_64).to_string(), "-18446744073709551616");
        let ten_pow_27 = 1_000_000_000_000_000_000_000_000_000_u128.to_le_bytes();
        assert_eq!(
            big(false, &ten_pow_27[..12]).to_string(),
            "1000000000000000000000000000"
        );
        let with_zeros_inside = 123_000_000_004_000_000_050_000_u128.to_le_bytes();
        assert_eq!(
            big(false, &with_zeros_inside[..10]).to_string(),
            "123000000004000000050000"
        );
        assert_eq!(big(false, &[0xff; 16]).to_string(), u128::MAX.to_string());
        assert_eq!(
            big(false, &u128::MAX.to_le_bytes()[..13]).to_string(),
            (u128::MAX >> 24).to_string()
        );
    }

    #[test]
    fn order_is_that_of_the_numbers() {
        let ascending = [
            big(true, &[1; 10]),
            big(true, &[2, 0, 0, 0, 0, 0, 0, 0, 2]),
            big(true, &[1, 0, 0, 0, 0, 0, 0, 0, 2]),
            big(true, &[9, 0, 0, 0, 0, 0, 0, 0, 1]),
            big(false, &[9, 0, 0, 0, 0, 0, 0, 0, 1]),
            big(false, &[1, 0, 0, 0, 0, 0, 0, 0, 2]),
            big(false, &[2, 0, 0, 0, 0, 0, 0, 0, 2]),
            big(false, &[1; 10]),
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a} against {b}");
                assert_eq!(a.partial_cmp(b), Some(i.cmp(&j)));
            }
        }
    }

    #[test]
    fn the_longest_is_accepted_and_one_byte_more_is_not() {
        assert_eq!(
            big(false, &[1; MAX_INTEGER_BYTES]).magnitude().len(),
            MAX_INTEGER_BYTES
        );
        assert_eq!(
            BigInteger::from_trimmed(false, &[1; MAX_INTEGER_BYTES + 1]),
            Err(IntegerTooLong {
                len: MAX_INTEGER_BYTES + 1
            })
        );
    }
}
