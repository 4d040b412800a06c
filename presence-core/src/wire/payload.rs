//! Payloads: JSON text that is passed through, or bytes.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::error::EncodeError;
use super::text::has_lone_surrogate;

/// What a message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// JSON.
    Json(Json<'a>),
    /// Bytes, in a binary frame of 2.0.0.
    Binary(Cow<'a, [u8]>),
}

impl Payload<'_> {
    /// `{}`.
    pub const EMPTY: Payload<'static> = Payload::Json(Json::EMPTY);

    /// The JSON, if it is JSON.
    pub fn as_json(&self) -> Option<&Json<'_>> {
        match self {
            Payload::Json(json) => Some(json),
            Payload::Binary(_) => None,
        }
    }

    /// The same payload, borrowing from this one: nothing is copied.
    pub fn as_borrowed(&self) -> Payload<'_> {
        match self {
            Payload::Json(json) => Payload::Json(Json(Cow::Borrowed(&json.0))),
            Payload::Binary(data) => Payload::Binary(Cow::Borrowed(data)),
        }
    }

    /// The same payload, borrowing from nothing.
    pub fn into_owned(self) -> Payload<'static> {
        match self {
            Payload::Json(json) => Payload::Json(json.into_owned()),
            Payload::Binary(data) => Payload::Binary(Cow::Owned(data.into_owned())),
        }
    }

    /// The bytes that it keeps.
    pub(crate) fn len(&self) -> usize {
        match self {
            Payload::Json(json) => json.0.len(),
            Payload::Binary(data) => data.len(),
        }
    }

    pub(super) fn json_for_v1(&self) -> Result<&Json<'_>, EncodeError> {
        self.as_json().ok_or(EncodeError::BinaryInV1)
    }
}

impl<'a> From<Json<'a>> for Payload<'a> {
    fn from(json: Json<'a>) -> Self {
        Payload::Json(json)
    }
}

/// The text of one JSON value, known to be JSON.
///
/// It is kept as it came, byte for byte, and compared so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json<'a>(Cow<'a, str>);

impl<'a> Json<'a> {
    /// `{}`.
    pub const EMPTY: Json<'static> = Json(Cow::Borrowed("{}"));

    /// Checks that the text is one JSON value, and drops the white space around it.
    ///
    /// # Errors
    ///
    /// [`JsonError`] for what is not JSON, and for a string with half of a surrogate pair, which is no
    /// Unicode text; JavaScript lets it pass, Elixir and Rust do not.
    pub fn parse(text: &'a str) -> Result<Self, JsonError> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| JsonError::Syntax {
            reason: error.to_string(),
        })?;
        Self::from_raw(raw).ok_or(JsonError::LoneSurrogate)
    }

    /// The JSON of a value.
    ///
    /// # Errors
    ///
    /// Whatever keeps `serde_json` from writing it, such as a map whose keys are not strings.
    pub fn serialize(
        value: &(impl Serialize + ?Sized),
    ) -> Result<Json<'static>, serde_json::Error> {
        serde_json::to_string(value).map(|text| Json(Cow::Owned(text)))
    }

    /// Reads a value out of it.
    ///
    /// # Errors
    ///
    /// That of `serde_json`, when the JSON is not of the type that was asked for.
    pub fn deserialize<'de, T: Deserialize<'de>>(&'de self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }

    /// The same JSON, borrowing from nothing.
    pub fn into_owned(self) -> Json<'static> {
        Json(Cow::Owned(self.0.into_owned()))
    }

    /// None where a string in it has half of a surrogate pair.
    pub(super) fn from_raw(raw: &'a RawValue) -> Option<Self> {
        (!has_lone_surrogate(raw.get())).then(|| Self(Cow::Borrowed(raw.get())))
    }

    pub(crate) const fn from_literal(text: &'static str) -> Json<'static> {
        Json(Cow::Borrowed(text))
    }

    pub(super) fn require_object(&self) -> Result<&Self, EncodeError> {
        if self.is_object() {
            Ok(self)
        } else {
            Err(EncodeError::PayloadNotAnObject)
        }
    }
}

/// Why a text is not a [`Json`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JsonError {
    /// It breaks the grammar.
    #[error("the text is not JSON: {reason}")]
    Syntax {
        /// What was found, with its line and column.
        reason: String,
    },
    /// A string has a `\u` escape that is half of a surrogate pair.
    #[error("a string has a lone surrogate")]
    LoneSurrogate,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_kept_but_for_the_space_around_it() {
        let json = Json::parse(" {\"b\" : 1.50, \"a\":90071992547409931234 }\n").unwrap();
        assert_eq!(json.as_str(), "{\"b\" : 1.50, \"a\":90071992547409931234 }");
        assert!(json.is_object());
        assert!(!Json::parse("[{}]").unwrap().is_object());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            "{",
            "{} {}",
            "nul",
            "'a'",
            "\"\\x\"",
            "[1,]",
            "\"\u{1}\"",
        ] {
            assert!(
                matches!(Json::parse(text), Err(JsonError::Syntax { .. })),
                "{text}"
            );
        }
        assert_eq!(Json::parse(r#"["\ud800"]"#), Err(JsonError::LoneSurrogate));
    }

    #[test]
    fn values_go_in_and_come_out() {
        let json = Json::serialize(&("a", 1)).unwrap();
        assert_eq!(json.as_str(), r#"["a",1]"#);
        assert_eq!(json.deserialize::<(&str, u8)>().unwrap(), ("a", 1));
        assert!(json.deserialize::<u8>().is_err());
        assert_eq!(Json::EMPTY, Json::parse("{}").unwrap());
    }

    #[test]
    fn the_length_counts_the_bytes_kept() {
        assert_eq!(Payload::EMPTY.len(), 2);
        assert_eq!(Payload::Binary(Cow::Borrowed(b"abc")).len(), 3);
        assert_eq!(Payload::EMPTY.as_json(), Some(&Json::EMPTY));
        assert_eq!(Payload::Binary(Cow::Borrowed(b"{}")).as_json(), None);
    }
}
