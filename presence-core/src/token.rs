//! Signed tokens, compatible with Phoenix.Token both ways.
//!
//! A token carries a [`Term`], the time it was signed at and how long it is good for. Anyone can
//! read it; nobody without the key can change it. It is three parts joined by dots, each in
//! base64url without padding: the name of the signature's algorithm, the payload
//! `{data, signed_at_ms, max_age_s}` in the Erlang external term format, and the HMAC of the first
//! two with a key derived from a secret and a salt. What this module signs, Plug.Crypto 2.1.1
//! verifies; given the same key, data, time and age the two sign the same bytes (see
//! [`Term::to_bytes`] for maps of more than 32 entries).
//!
//! Time is Unix time in milliseconds and comes in as an argument, as everywhere in this crate.
//!
//! Where this module is stricter than the reference:
//! - base64 has one form only: without padding, unused bits zero. A token that was changed in any
//!   byte is invalid.
//! - A payload that makes the reference raise is [`TokenError::Invalid`]: one that is no term, holds
//!   an executable term, or is not of a known shape.
//! - So is a payload that [`Term::from_bytes`] refuses beyond that, such as a compressed one, and a
//!   token longer than [`MAX_TOKEN_LEN`].
//!
//! ```
//! use presence_core::token::{KeyOptions, MaxAge, SigningKey, Term, TokenError};
//!
//! let key = SigningKey::derive("a secret key base of at least 20 bytes", "user socket", &KeyOptions::DEFAULT)?;
//! let signed_at = 1_780_000_000_000;
//! let token = key.sign(&Term::from("user-7"), signed_at, MaxAge::DEFAULT)?;
//!
//! assert_eq!(key.verify(&token, signed_at + 1000, None)?.as_str(), Some("user-7"));
//! assert_eq!(key.verify(&token, signed_at + 5001, Some(MaxAge::Seconds(5))), Err(TokenError::Expired));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod age;
mod decode;
mod encode;
mod format;
mod integer;
mod json;
mod key;
mod term;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

pub use self::age::MaxAge;
pub use self::decode::DecodeError;
pub use self::encode::EncodeError;
pub use self::format::{MAX_TERM_DEPTH, MAX_TERM_LEN};
pub use self::integer::{BigInteger, IntegerTooLong, MAX_INTEGER_BYTES};
pub use self::json::JsonError;
pub use self::key::{Digest, KeyError, KeyOptions, MAX_KEY_LEN, MIN_SECRET_LEN, SigningKey};
pub use self::term::{Atom, AtomTooLong, Float, MAX_ATOM_CHARS, Term};

/// The longest token that is signed or verified, in bytes: a payload of [`MAX_TERM_LEN`] with the
/// longest signature.
pub const MAX_TOKEN_LEN: usize =
    base64_len("HS256".len()) + 1 + base64_len(MAX_TERM_LEN) + 1 + base64_len(64);

/// "HS256", "HS384" and "HS512" in base64url: the only headers there are.
const HEADERS: [(&str, Digest); 3] = [
    ("SFMyNTY", Digest::Sha256),
    ("SFMzODQ", Digest::Sha384),
    ("SFM1MTI", Digest::Sha512),
];

/// Why a token is refused (Phoenix.Token; an absent token, `:missing` there, is the caller's case).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It is no token, is not signed with this key, or comes from the future.
    #[error("the token is invalid")]
    Invalid,
    /// It is genuine, but older than it may be.
    #[error("the token has expired")]
    Expired,
}

/// Why [`sign`] gives no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignError {
    /// No key can be derived.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The data does not fit a token.
    #[error(transparent)]
    Data(#[from] EncodeError),
}

/// Why [`verify`] gives no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// No key can be derived.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The token is refused.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A token for `data`, signed with the key that `secret_key_base` and `salt` give by
/// [`KeyOptions::DEFAULT`].
///
/// It derives the key anew each time: who signs often keeps a [`SigningKey`]. See
/// [`SigningKey::sign`] for the other arguments.
///
/// # Errors
///
/// [`SignError`] when no key can be derived or the data does not fit.
pub fn sign(
    secret_key_base: impl AsRef<[u8]>,
    salt: impl AsRef<[u8]>,
    data: &Term,
    signed_at_ms: i64,
    max_age: MaxAge,
) -> Result<String, SignError> {
    let key = SigningKey::derive(secret_key_base, salt, &KeyOptions::DEFAULT)?;
    Ok(key.sign(data, signed_at_ms, max_age)?)
}

/// The data of `token`, if it is good and signed with the key that `secret_key_base` and `salt` give
/// by [`KeyOptions::DEFAULT`].
///
/// It derives the key anew each time: who verifies often keeps a [`SigningKey`]. See
/// [`SigningKey::verify`] for the other arguments.
///
/// # Errors
///
/// [`VerifyError`] when no key can be derived or the token is refused.
pub fn verify(
    secret_key_base: impl AsRef<[u8]>,
    salt: impl AsRef<[u8]>,
    token: &str,
    now_ms: i64,
    max_age: Option<MaxAge>,
) -> Result<Term, VerifyError> {
    let key = SigningKey::derive(secret_key_base, salt, &KeyOptions::DEFAULT)?;
    Ok(key.verify(token, now_ms, max_age)?)
}

impl SigningKey {
    /// A token for `data`, signed at `signed_at_ms` (Unix time in milliseconds) with HMAC-SHA256.
    ///
    /// `max_age` is written into the token and counts wherever the one who verifies it names none.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when the data does not fit a token. A token that is signed can be verified.
    pub fn sign(
        &self,
        data: &Term,
        signed_at_ms: i64,
        max_age: MaxAge,
    ) -> Result<String, EncodeError> {
        let payload =
            Term::Tuple(vec![data.clone(), signed_at_ms.into(), max_age.to_term()]).to_bytes()?;
        let (header, digest) = HEADERS[0];
        let mut token = format!("{header}.{}", BASE64URL.encode(payload));
        let signature = self.mac(digest, token.as_bytes());
        token.push('.');
        BASE64URL.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The data of `token`, if it is good at `now_ms` (Unix time in milliseconds).
    ///
    /// `max_age` overrides the age in the token; without it that one counts, or a day where there
    /// is none, in tokens of older versions. The payload is not looked at before its signature is
    /// found right, by a comparison in constant time.
    ///
    /// # Errors
    ///
    /// [`TokenError`]: the token is invalid, or expired.
    pub fn verify(
        &self,
        token: &str,
        now_ms: i64,
        max_age: Option<MaxAge>,
    ) -> Result<Term, TokenError> {
        let payload = self.authenticated(token).ok_or(TokenError::Invalid)?;
        let term = Term::from_bytes(&payload).map_err(|_| TokenError::Invalid)?;
        let Payload {
            data,
            signed_at,
            max_age: own,
        } = Payload::from_term(term).ok_or(TokenError::Invalid)?;
        let max_age = max_age
            .or_else(|| MaxAge::from_term(&own))
            .ok_or(TokenError::Invalid)?;
        max_age.check(&signed_at, now_ms)?;
        Ok(data)
    }

    /// The bytes of the payload, if the signature is right.
    fn authenticated(&self, token: &str) -> Option<Vec<u8>> {
        if token.len() > MAX_TOKEN_LEN {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        let (_, digest) = HEADERS.into_iter().find(|(name, _)| *name == header)?;
        let signature = BASE64URL.decode(signature).ok()?;
        let expected = self.mac(digest, message.as_bytes());
        if !bool::from(expected.ct_eq(&signature)) {
            return None;
        }
        BASE64URL.decode(payload).ok()
    }
}

/// What a token says; age and time are still to be understood, since they may not matter.
struct Payload {
    data: Term,
    signed_at: Term,
    max_age: Term,
}

impl Payload {
    /// Of the three shapes the first is today's, the second Plug.Crypto 1.1's, and the third, which
    /// may have other keys too, that of Phoenix before it.
    fn from_term(term: Term) -> Option<Self> {
        match term {
            Term::Tuple(elements) => {
                let mut elements = elements.into_iter();
                let (data, signed_at) = (elements.next()?, elements.next()?);
                let max_age = elements.next().unwrap_or_else(|| MaxAge::DEFAULT.to_term());
                elements.next().is_none().then_some(Self {
                    data,
                    signed_at,
                    max_age,
                })
            }
            Term::Map(mut entries) => {
                let mut value = |name| entries.remove(&Term::Atom(Atom::new(name).ok()?));
                Some(Self {
                    data: value("data")?,
                    signed_at: value("signed")?,
                    max_age: MaxAge::DEFAULT.to_term(),
                })
            }
            _ => None,
        }
    }
}

/// The length of `len` bytes in base64 without padding.
const fn base64_len(len: usize) -> usize {
    (len * 4).div_ceil(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED: i64 = 1_780_000_000_000;

    fn key() -> SigningKey {
        SigningKey::derive("a secret of twenty bytes", "salt", &KeyOptions::DEFAULT).unwrap()
    }

    /// A token with a payload of any kind, properly signed.
    fn signed(key: &SigningKey, payload: &[u8]) -> String {
        let message = format!("SFMyNTY.{}", BASE64URL.encode(payload));
        let signature = BASE64URL.encode(key.mac(Digest::Sha256, message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn tuple<const N: usize>(elements: [Term; N]) -> Vec<u8> {
        Term::Tuple(elements.into()).to_bytes().unwrap()
    }

    fn atom(name: &str) -> Term {
        Atom::new(name).unwrap().into()
    }

    #[test]
    fn payloads_of_older_versions_are_good_for_a_day() {
        let key = key();
        let map = |pairs: &[(&str, Term)]| {
            Term::Map(
                pairs
                    .iter()
                    .map(|(name, value)| (atom(name), value.clone()))
                    .collect(),
            )
            .to_bytes()
            .unwrap()
        };
        let old = tuple([42.into(), SIGNED.into()]);
        let oldest = map(&[("data", 42.into()), ("signed", SIGNED.into())]);
        let with_more = map(&[
            ("data", 42.into()),
            ("signed", SIGNED.into()),
            ("z", 1.into()),
        ]);
        for payload in [old, oldest, with_more] {
            let token = signed(&key, &payload);
            assert_eq!(key.verify(&token, SIGNED + 86_400_000, None), Ok(42.into()));
            assert_eq!(
                key.verify(&token, SIGNED + 86_400_001, None),
                Err(TokenError::Expired)
            );
            assert_eq!(
                key.verify(&token, SIGNED + 86_400_001, Some(MaxAge::Infinity)),
                Ok(42.into())
            );
        }
    }

    #[test]
    fn payloads_of_no_known_shape_are_invalid() {
        let key = key();
        let binary_keys =
            Term::Map([("data".into(), 1.into()), ("signed".into(), SIGNED.into())].into());
        let no_data = Term::Map([(atom("signed"), SIGNED.into())].into());
        let no_time = Term::Map([(atom("data"), 1.into())].into());
        let payloads = [
            tuple([]),
            tuple([1.into()]),
            tuple([1.into(), SIGNED.into(), 60.into(), 1.into()]),
            Term::List(vec![1.into(), SIGNED.into(), 60.into()])
                .to_bytes()
                .unwrap(),
            binary_keys.to_bytes().unwrap(),
            no_data.to_bytes().unwrap(),
            no_time.to_bytes().unwrap(),
            vec![],
            b"not a term".to_vec(),
            [tuple([1.into(), SIGNED.into(), 60.into()]), vec![0]].concat(),
        ];
        for payload in payloads {
            let token = signed(&key, &payload);
            assert_eq!(
                key.verify(&token, SIGNED, Some(MaxAge::Infinity)),
                Err(TokenError::Invalid),
                "{payload:?}"
            );
        }
    }

    #[test]
    fn an_executable_term_is_invalid_though_it_is_signed() {
        let key = key();
        let export = [
            113, 100, 0, 2, b'o', b's', 100, 0, 3, b'c', b'm', b'd', 97, 1,
        ];
        let payload = [&[131, 104, 2][..], &export, &[98, 0, 0, 0, 1]].concat();
        assert_eq!(
            key.verify(&signed(&key, &payload), 1, None),
            Err(TokenError::Invalid)
        );
    }

    #[test]
    fn an_age_in_the_token_matters_only_where_none_is_given() {
        let key = key();
        let token = signed(&key, &tuple([1.into(), SIGNED.into(), Term::nil()]));
        assert_eq!(key.verify(&token, SIGNED, None), Err(TokenError::Invalid));
        assert_eq!(
            key.verify(&token, SIGNED, Some(MaxAge::Seconds(1))),
            Ok(1.into())
        );
        let longer = key.sign(&1.into(), SIGNED, MaxAge::Seconds(60)).unwrap();
        assert_eq!(
            key.verify(&longer, SIGNED + 2000, Some(MaxAge::Seconds(1))),
            Err(TokenError::Expired)
        );
        let shorter = key.sign(&1.into(), SIGNED, MaxAge::Seconds(1)).unwrap();
        assert_eq!(
            key.verify(&shorter, SIGNED + 2000, Some(MaxAge::Seconds(60))),
            Ok(1.into())
        );
    }

    #[test]
    fn base64_has_one_form_only() {
        let key = key();
        let token = key.sign(&1.into(), SIGNED, MaxAge::DEFAULT).unwrap();
        assert_eq!(
            key.verify(&format!("{token}="), SIGNED, None),
            Err(TokenError::Invalid)
        );
        // A signature of 32 bytes leaves the last two bits of its last character unused.
        let last = token.chars().last().unwrap();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let next = alphabet
            .chars()
            .nth(alphabet.find(last).unwrap() + 1)
            .unwrap();
        let changed = format!("{}{next}", &token[..token.len() - 1]);
        assert_eq!(key.verify(&changed, SIGNED, None), Err(TokenError::Invalid));

        let message = "SFMyNTY.g2gDYQFhAWEB==";
        let signature = BASE64URL.encode(key.mac(Digest::Sha256, message.as_bytes()));
        assert_eq!(
            key.verify(&format!("{message}.{signature}"), 1, None),
            Err(TokenError::Invalid)
        );
    }

    #[test]
    fn a_token_of_more_or_fewer_parts_is_invalid() {
        let key = key();
        let token = key.sign(&1.into(), SIGNED, MaxAge::DEFAULT).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let longer = format!("{message}.{}", BASE64URL.encode("x"));
        let resigned = format!(
            "{longer}.{}",
            BASE64URL.encode(key.mac(Digest::Sha256, longer.as_bytes()))
        );
        for bad in [
            "",
            ".",
            "..",
            "...",
            message,
            signature,
            &format!("{token}."),
            &format!(".{token}"),
            &resigned,
        ] {
            assert_eq!(
                key.verify(bad, SIGNED, None),
                Err(TokenError::Invalid),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_longest_token_is_verified_and_one_byte_more_is_not() {
        let key = key();
        // Beside its bytes: the version, the tuple, the binary's count, the time and the age.
        let overhead = 1 + 2 + 5 + 9 + 5;
        let data = |len| Term::Binary(vec![7; len]);
        let longest = data(MAX_TERM_LEN - overhead);
        let token = key.sign(&longest, SIGNED, MaxAge::DEFAULT).unwrap();
        assert_eq!(key.verify(&token, SIGNED, None), Ok(longest));
        let too_long = data(MAX_TERM_LEN - overhead + 1);
        assert_eq!(
            key.sign(&too_long, SIGNED, MaxAge::DEFAULT),
            Err(EncodeError::TooLong)
        );

        let (message, _) = token.rsplit_once('.').unwrap();
        let message = message.replacen("SFMyNTY", "SFM1MTI", 1);
        let signature = BASE64URL.encode(key.mac(Digest::Sha512, message.as_bytes()));
        let token = format!("{message}.{signature}");
        assert_eq!(token.len(), MAX_TOKEN_LEN);
        assert!(key.verify(&token, SIGNED, None).is_ok());
    }
}
