//! How old a token may be.

use super::TokenError;
use super::term::{Atom, Float, Term};

/// The longest time from the signing of a token to its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxAge {
    /// That many seconds; zero and less: it is always expired.
    Seconds(i64),
    /// That many seconds, cut to whole milliseconds; zero and less: it is always expired.
    FractionalSeconds(Float),
    /// For ever. The time of signing plays no part, not even when it lies in the future.
    Infinity,
}

impl MaxAge {
    /// A day: the age of a token that names none (Plug.Crypto).
    pub const DEFAULT: Self = Self::Seconds(86_400);

    pub(super) fn to_term(self) -> Term {
        match self {
            Self::Seconds(seconds) => seconds.into(),
            Self::FractionalSeconds(seconds) => seconds.into(),
            Self::Infinity => Term::Atom(Atom::new("infinity").expect("a short name is an atom")),
        }
    }

    pub(super) fn from_term(term: &Term) -> Option<Self> {
        match term {
            Term::Integer(seconds) => Some(Self::Seconds(*seconds)),
            // Beyond any time that can be named in milliseconds: the nearest end will do.
            Term::BigInteger(seconds) => Some(Self::Seconds(if seconds.is_negative() {
                i64::MIN
            } else {
                i64::MAX
            })),
            Term::Float(seconds) => Some(Self::FractionalSeconds(*seconds)),
            Term::Atom(atom) if atom.as_str() == "infinity" => Some(Self::Infinity),
            _ => None,
        }
    }

    /// Whether a token signed at `signed_at` (Unix time in milliseconds) is good at `now_ms`.
    ///
    /// A token is good from the very millisecond it was signed at to the very one its age ends at.
    /// The order of the questions is Plug.Crypto's: an age that ends the matter is asked first.
    pub(super) fn check(self, signed_at: &Term, now_ms: i64) -> Result<(), TokenError> {
        let age_ms = match self {
            Self::Infinity => return Ok(()),
            Self::Seconds(seconds) if seconds <= 0 => return Err(TokenError::Expired),
            Self::Seconds(seconds) => i128::from(seconds) * 1000,
            Self::FractionalSeconds(seconds) if seconds.value() <= 0.0 => {
                return Err(TokenError::Expired);
            }
            // The cast cuts the fraction off, and ends at the largest value.
            Self::FractionalSeconds(seconds) => (seconds.value() * 1000.0) as i128,
        };
        let signed_at = match signed_at {
            Term::Integer(signed_at) => i128::from(*signed_at),
            Term::BigInteger(signed_at) if signed_at.is_negative() => {
                return Err(TokenError::Expired);
            }
            _ => return Err(TokenError::Invalid),
        };
        let now = i128::from(now_ms);
        if signed_at > now {
            Err(TokenError::Invalid)
        } else if signed_at.saturating_add(age_ms) < now {
            Err(TokenError::Expired)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED: i64 = 1_780_000_000_000;

    fn check(age: MaxAge, now_ms: i64) -> Result<(), TokenError> {
        age.check(&SIGNED.into(), now_ms)
    }

    fn fractional(seconds: f64) -> MaxAge {
        MaxAge::FractionalSeconds(Float::new(seconds).unwrap())
    }

    #[test]
    fn a_token_is_good_to_the_very_millisecond_its_age_ends_at() {
        let age = MaxAge::Seconds(60);
        assert_eq!(check(age, SIGNED - 1), Err(TokenError::Invalid));
        assert_eq!(check(age, SIGNED), Ok(()));
        assert_eq!(check(age, SIGNED + 60_000), Ok(()));
        assert_eq!(check(age, SIGNED + 60_001), Err(TokenError::Expired));
    }

    #[test]
    fn fractions_of_a_second_are_cut_to_milliseconds() {
        assert_eq!(check(fractional(1.5), SIGNED + 1500), Ok(()));
        assert_eq!(
            check(fractional(1.5), SIGNED + 1501),
            Err(TokenError::Expired)
        );
        assert_eq!(check(fractional(0.001_9), SIGNED + 1), Ok(()));
        assert_eq!(
            check(fractional(0.001_9), SIGNED + 2),
            Err(TokenError::Expired)
        );
        assert_eq!(check(fractional(0.000_1), SIGNED), Ok(()));
        assert_eq!(check(fractional(1e300), i64::MAX), Ok(()));
        assert_eq!(
            check(fractional(1e300), SIGNED - 1),
            Err(TokenError::Invalid)
        );
    }

    #[test]
    fn no_age_at_all_is_expired_even_for_a_token_from_the_future() {
        for age in [
            MaxAge::Seconds(0),
            MaxAge::Seconds(-1),
            fractional(0.0),
            fractional(-0.0),
            fractional(-1.5),
        ] {
            assert_eq!(check(age, SIGNED), Err(TokenError::Expired), "{age:?}");
            assert_eq!(check(age, SIGNED - 1), Err(TokenError::Expired), "{age:?}");
        }
    }

    #[test]
    fn an_infinite_age_does_not_ask_when_the_token_was_signed() {
        assert_eq!(check(MaxAge::Infinity, SIGNED - 1), Ok(()));
        assert_eq!(check(MaxAge::Infinity, i64::MAX), Ok(()));
        assert_eq!(MaxAge::Infinity.check(&Term::nil(), SIGNED), Ok(()));
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        let longest = MaxAge::Seconds(i64::MAX);
        assert_eq!(longest.check(&i64::MIN.into(), i64::MAX), Ok(()));
        assert_eq!(
            MaxAge::Seconds(1).check(&i64::MIN.into(), i64::MAX),
            Err(TokenError::Expired)
        );
        assert_eq!(
            longest.check(&i64::MAX.into(), i64::MIN),
            Err(TokenError::Invalid)
        );
        assert_eq!(
            longest.check(&u64::MAX.into(), i64::MAX),
            Err(TokenError::Invalid)
        );
        let long_ago = Term::integer_from_le_bytes(true, &[1; 9]).unwrap();
        assert_eq!(longest.check(&long_ago, 0), Err(TokenError::Expired));
    }

    #[test]
    fn a_time_of_signing_that_is_no_integer_is_invalid() {
        assert_eq!(
            MaxAge::DEFAULT.check(&Term::nil(), SIGNED),
            Err(TokenError::Invalid)
        );
        assert_eq!(
            MaxAge::DEFAULT.check(&"1780000000000".into(), SIGNED),
            Err(TokenError::Invalid)
        );
    }

    #[test]
    fn ages_survive_the_way_through_a_term() {
        for age in [
            MaxAge::Seconds(-3),
            MaxAge::DEFAULT,
            fractional(1.5),
            MaxAge::Infinity,
        ] {
            assert_eq!(MaxAge::from_term(&age.to_term()), Some(age));
        }
        assert_eq!(
            MaxAge::from_term(&u64::MAX.into()),
            Some(MaxAge::Seconds(i64::MAX))
        );
        let negative = Term::integer_from_le_bytes(true, &[1; 9]).unwrap();
        assert_eq!(
            MaxAge::from_term(&negative),
            Some(MaxAge::Seconds(i64::MIN))
        );
        assert_eq!(MaxAge::from_term(&Term::nil()), None);
        assert_eq!(MaxAge::from_term(&"infinity".into()), None);
    }
}
