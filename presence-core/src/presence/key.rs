//! Keys as clients and applications give them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::entry::Key;

/// A [`Key`] that owns its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyBuf {
    /// An integer of any size, in canonical decimal digits.
    Integer(String),
    /// Any string.
    Text(String),
}

/// A JSON value that can't be a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key must be a string or an integer, not {0}")]
pub struct KeyError(String);

impl KeyBuf {
    /// The key that a client gave as JSON.
    ///
    /// # Errors
    ///
    /// Everything but a string and an integer is refused. A number with a fraction or an exponent is
    /// no integer, as in Elixir.
    pub fn from_json(value: &Value) -> Result<Self, KeyError> {
        match value {
            Value::String(text) => Ok(Self::Text(text.clone())),
            Value::Number(number) => {
                let digits = number.to_string();
                if digits.contains(['.', 'e', 'E']) {
                    return Err(KeyError(digits));
                }
                Ok(Self::Integer(match digits.as_str() {
                    "-0" => "0".into(),
                    _ => digits,
                }))
            }
            other => Err(KeyError(other.to_string())),
        }
    }

    /// The key, lent.
    pub fn as_key(&self) -> Key<'_> {
        match self {
            Self::Integer(digits) => Key::Integer(digits),
            Self::Text(text) => Key::Text(text),
        }
    }
}

impl From<&str> for KeyBuf {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for KeyBuf {
    fn from(integer: i64) -> Self {
        Self::Integer(integer.to_string())
    }
}

impl From<Key<'_>> for KeyBuf {
    fn from(key: Key<'_>) -> Self {
        match key {
            Key::Integer(digits) => Self::Integer(digits.into()),
            Key::Text(text) => Self::Text(text.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<KeyBuf, KeyError> {
        KeyBuf::from_json(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn strings_and_integers_of_any_size_are_keys() {
        assert_eq!(of("\"1\""), Ok(KeyBuf::from("1")));
        assert_eq!(of("1"), Ok(KeyBuf::from(1)));
        assert_eq!(of("-7"), Ok(KeyBuf::from(-7)));
        assert_eq!(of("-0"), Ok(KeyBuf::from(0)));
        let big = "123456789012345678901234567890";
        assert_eq!(of(big), Ok(KeyBuf::Integer(big.into())));
        assert_eq!(of("5").unwrap().as_key(), Key::Integer("5"));
        assert_eq!(KeyBuf::from(Key::Text("x")).as_key(), Key::Text("x"));
        assert_eq!(KeyBuf::from(Key::Integer("3")), KeyBuf::from(3));
    }

    #[test]
    fn nothing_else_is_a_key() {
        for json in ["1.5", "1e2", "1E2", "null", "true", "[]", "{}"] {
            let error = of(json).unwrap_err().to_string();
            assert!(
                error.starts_with("a key must be a string or an integer, not "),
                "{error}"
            );
        }
    }
}
