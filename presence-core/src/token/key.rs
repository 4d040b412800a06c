//! Keys: derived from a secret once, then kept to sign and verify many tokens.

use std::fmt;
use std::num::NonZeroU32;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384, Sha512};
use thiserror::Error;

/// The shortest secret key base, in bytes (Phoenix.Token).
pub const MIN_SECRET_LEN: usize = 20;

/// The longest key that is derived, in bytes.
pub const MAX_KEY_LEN: usize = 4096;

/// A hash function of the SHA-2 family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Digest {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// How a key is derived from a secret and a salt (Plug.Crypto.KeyGenerator).
///
/// Both sides must use the same: nothing of it is written in the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyOptions {
    /// Rounds of PBKDF2 (`key_iterations`).
    pub iterations: NonZeroU32,
    /// The length of the key, 1 to [`MAX_KEY_LEN`] bytes (`key_length`).
    pub length: usize,
    /// The hash function of PBKDF2, not that of the signature (`key_digest`).
    pub digest: Digest,
}

impl KeyOptions {
    /// 1000 iterations, 32 bytes, SHA-256.
    pub const DEFAULT: Self = Self {
        iterations: NonZeroU32::new(1000).expect("1000 is not zero"),
        length: 32,
        digest: Digest::Sha256,
    };
}

impl Default for KeyOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why no key can be derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The secret key base is shorter than [`MIN_SECRET_LEN`].
    #[error("the secret key base has {len} bytes, fewer than {MIN_SECRET_LEN}")]
    SecretTooShort {
        /// Its length in bytes.
        len: usize,
    },
    /// The length asked for is zero or above [`MAX_KEY_LEN`].
    #[error("a key of {len} bytes is not between 1 and {MAX_KEY_LEN}")]
    BadLength {
        /// That length in bytes.
        len: usize,
    },
}

/// A key to sign and verify tokens with; its `Debug` does not show it.
#[derive(Clone)]
pub struct SigningKey {
    bytes: Vec<u8>,
}

impl SigningKey {
    /// The key that `secret_key_base` and `salt` give: PBKDF2 with HMAC.
    ///
    /// The work grows with the iterations and the length, so that a key is best derived once and
    /// kept. The salt sets tokens for one purpose apart from those for another and may be empty.
    ///
    /// # Errors
    ///
    /// [`KeyError`] when the secret is too short or the length out of bounds.
    pub fn derive(
        secret_key_base: impl AsRef<[u8]>,
        salt: impl AsRef<[u8]>,
        options: &KeyOptions,
    ) -> Result<Self, KeyError> {
        let (secret, salt) = (secret_key_base.as_ref(), salt.as_ref());
        if secret.len() < MIN_SECRET_LEN {
            return Err(KeyError::SecretTooShort { len: secret.len() });
        }
        if !(1..=MAX_KEY_LEN).contains(&options.length) {
            return Err(KeyError::BadLength {
                len: options.length,
            });
        }
        let derive = match options.digest {
            Digest::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>,
            Digest::Sha384 => pbkdf2::pbkdf2_hmac::<Sha384>,
            Digest::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>,
        };
        let mut bytes = vec![0; options.length];
        derive(secret, salt, options.iterations.get(), &mut bytes);
        Ok(Self { bytes })
    }

    /// The signature of `message`: its HMAC with this key.
    pub(super) fn mac(&self, digest: Digest, message: &[u8]) -> Vec<u8> {
        match digest {
            Digest::Sha256 => mac::<Hmac<Sha256>>(&self.bytes, message),
            Digest::Sha384 => mac::<Hmac<Sha384>>(&self.bytes, message),
            Digest::Sha512 => mac::<Hmac<Sha512>>(&self.bytes, message),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str =
        "presence-conformance-secret-presence-conformance-secret-presence-conformance-secret-";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn derive(
        salt: &str,
        iterations: u32,
        length: usize,
        digest: Digest,
    ) -> Result<String, KeyError> {
        let options = KeyOptions {
            iterations: NonZeroU32::new(iterations).unwrap(),
            length,
            digest,
        };
        SigningKey::derive(SECRET, salt, &options).map(|key| hex(&key.bytes))
    }

    /// The expected values were computed with Python's `hashlib.pbkdf2_hmac`.
    #[test]
    fn keys_are_those_of_pbkdf2() {
        let default = SigningKey::derive(SECRET, "user socket", &KeyOptions::default()).unwrap();
        assert_eq!(
            hex(&default.bytes),
            "9996ff1fe455fda0461cefe09dd93ac327438aa056b2f1f804dfa958a371e2ed"
        );
        assert_eq!(
            derive("user socket", 7, 48, Digest::Sha384).unwrap(),
            "742c3e973a97781b58253921b3d6e9abe88b6c54de75f570d2bc37a093b1ff629d00123765f7fe079e6a9c90fea08e37"
        );
        assert_eq!(
            derive("", 2, 70, Digest::Sha512).unwrap(),
            "b0536f0503e2e6095458c924269a67b155a0fa0ea2c0368f1fdb08ca9e695d2b43f44bc9f59504129a79e26cc9c22ec9\
             ce25a0f1936ef917b4e937b60cc54f42f6c24b267d06"
        );
        assert_eq!(derive("s", 1, 1, Digest::Sha256).unwrap(), "e3");
    }

    #[test]
    fn lengths_out_of_bounds_are_refused() {
        assert_eq!(
            derive("s", 1, 0, Digest::Sha256),
            Err(KeyError::BadLength { len: 0 })
        );
        assert_eq!(
            derive("s", 1, MAX_KEY_LEN, Digest::Sha256).unwrap().len(),
            2 * MAX_KEY_LEN
        );
        assert_eq!(
            derive("s", 1, MAX_KEY_LEN + 1, Digest::Sha256),
            Err(KeyError::BadLength {
                len: MAX_KEY_LEN + 1
            })
        );
    }

    #[test]
    fn a_secret_of_20_bytes_is_long_enough() {
        let derive = |secret: &str| SigningKey::derive(secret, "salt", &KeyOptions::DEFAULT);
        assert!(derive("12345678901234567890").is_ok());
        assert_eq!(
            derive("1234567890123456789").unwrap_err(),
            KeyError::SecretTooShort { len: 19 }
        );
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let key = SigningKey::derive(SECRET, "salt", &KeyOptions::DEFAULT).unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey { .. }");
    }
}
