//! The tokens of users, as Phoenix.Token signs and verifies them.

use std::time::Duration;

use presence_core::token::{
    EncodeError, KeyError, KeyOptions, MaxAge, SigningKey, Term, TokenError,
};
use serde_json::Value;

/// Signs and verifies the tokens of users, with the salt `user socket` of the guide.
#[derive(Clone, Debug)]
pub struct Tokens {
    key: SigningKey,
    max_age: MaxAge,
}

impl Tokens {
    /// How long a token is good for: two weeks, as in Phoenix's guide.
    pub const MAX_AGE: Duration = Duration::from_secs(14 * 86_400);

    /// The tokens that `secret_key_base` signs, good for [`MAX_AGE`](Self::MAX_AGE).
    ///
    /// # Errors
    ///
    /// [`KeyError`] where the secret is too short.
    pub fn new(secret_key_base: &str) -> Result<Self, KeyError> {
        let key = SigningKey::derive(secret_key_base, "user socket", &KeyOptions::DEFAULT)?;
        Ok(Self {
            key,
            max_age: whole_seconds(Self::MAX_AGE),
        })
    }

    /// The same, good for another time: that many seconds, a part of one counting as a whole.
    #[must_use]
    pub fn with_max_age(mut self, max_age: Duration) -> Self {
        self.max_age = whole_seconds(max_age);
        self
    }

    /// A token for a user.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] where the id does not fit a token.
    pub fn sign(&self, user_id: &str, now_ms: i64) -> Result<String, EncodeError> {
        self.key.sign(&Term::from(user_id), now_ms, self.max_age)
    }

    /// What a token was signed for, if it is good at `now_ms`.
    ///
    /// # Errors
    ///
    /// [`TokenError`] where it is not, or where JSON cannot show what it was signed for.
    pub fn verify(&self, token: &str, now_ms: i64) -> Result<Value, TokenError> {
        let data = self.key.verify(token, now_ms, Some(self.max_age))?;
        data.to_json().map_err(|_| TokenError::Invalid)
    }
}

fn whole_seconds(age: Duration) -> MaxAge {
    let seconds = age.as_secs() + u64::from(age.subsec_nanos() > 0);
    MaxAge::Seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}
