//! Refs, which tie replies to messages and messages to joins.

use std::borrow::Cow;

use super::error::{EncodeError, Field};
use super::text::write_string;

/// A `ref` or a `join_ref`: whatever JSON the client chose, given back as it came.
///
/// phoenix.js sends strings of digits, and null. Phoenix takes any JSON value, and so does this type.
/// Two refs are equal when they are of one type and of one value: `1` is not `"1"`. Strings are compared
/// by what they say, anything else by its text, so that `1.0` and `1.00` differ, as do two objects with
/// other white space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ref<'a>(Repr<'a>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Repr<'a> {
    #[default]
    Null,
    String(Cow<'a, str>),
    /// The text of any other JSON value.
    Json(Cow<'a, str>),
}

impl<'a> Ref<'a> {
    /// No ref.
    pub const NULL: Ref<'static> = Ref(Repr::Null);

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self.0, Repr::Null)
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Repr::String(text) => Some(text),
            Repr::Null | Repr::Json(_) => None,
        }
    }

    /// This ref, or the other one if this is null or `false`.
    ///
    /// So Phoenix.Channel.Server chooses the ref of a join that came without a `join_ref`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match &self.0 {
            Repr::Null => other,
            Repr::Json(text) if text == "false" => other,
            Repr::String(_) | Repr::Json(_) => self,
        }
    }

    /// The same ref, borrowing from nothing.
    pub fn into_owned(self) -> Ref<'static> {
        Ref(match self.0 {
            Repr::Null => Repr::Null,
            Repr::String(text) => Repr::String(Cow::Owned(text.into_owned())),
            Repr::Json(text) => Repr::Json(Cow::Owned(text.into_owned())),
        })
    }

    /// The bytes that it keeps.
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Repr::Null => 0,
            Repr::String(text) | Repr::Json(text) => text.len(),
        }
    }

    /// From the text of a JSON value that is not a string.
    pub(super) fn from_json_text(text: &'a str) -> Self {
        match text {
            "null" => Self::NULL,
            text => Self(Repr::Json(Cow::Borrowed(text))),
        }
    }

    pub(super) fn from_string(text: Cow<'a, str>) -> Self {
        Self(Repr::String(text))
    }

    pub(super) fn write(&self, out: &mut String) {
        match &self.0 {
            Repr::Null => out.push_str("null"),
            Repr::String(text) => write_string(out, text),
            Repr::Json(text) => out.push_str(text),
        }
    }

    /// Its text in a binary frame, as Elixir's `to_string` gives it: empty for null, without quotes.
    pub(super) fn binary_text(&self, field: Field) -> Result<&str, EncodeError> {
        match &self.0 {
            Repr::Null => Ok(""),
            Repr::Json(text) if text.starts_with(['[', '{']) => {
                Err(EncodeError::RefNotScalar { field })
            }
            Repr::String(text) | Repr::Json(text) => Ok(text),
        }
    }
}

impl<'a> From<&'a str> for Ref<'a> {
    fn from(text: &'a str) -> Self {
        Self::from_string(Cow::Borrowed(text))
    }
}

impl From<String> for Ref<'_> {
    fn from(text: String) -> Self {
        Self::from_string(Cow::Owned(text))
    }
}

impl From<u64> for Ref<'_> {
    fn from(number: u64) -> Self {
        Self(Repr::Json(Cow::Owned(number.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_not_the_string_of_its_digits() {
        assert_ne!(Ref::from(1), Ref::from("1"));
        assert_eq!(Ref::from(1), Ref::from_json_text("1"));
        assert_eq!(Ref::from("1"), Ref::from(String::from("1")));
        assert_ne!(Ref::from("null"), Ref::NULL);
        assert_eq!(Ref::from_json_text("null"), Ref::NULL);
    }

    #[test]
    fn null_and_false_give_way_to_the_other() {
        let other = Ref::from("2");
        assert_eq!(Ref::NULL.or(other.clone()), other);
        assert_eq!(Ref::from_json_text("false").or(other.clone()), other);
        for kept in [
            Ref::from(""),
            Ref::from("false"),
            Ref::from(0),
            Ref::from_json_text("true"),
        ] {
            assert_eq!(kept.clone().or(other.clone()), kept);
        }
    }

    #[test]
    fn in_a_binary_frame_it_has_no_quotes_and_must_be_a_scalar() {
        for (reference, text) in [
            (Ref::NULL, ""),
            (Ref::from("a\"b"), "a\"b"),
            (Ref::from(17), "17"),
            (Ref::from_json_text("true"), "true"),
            (Ref::from("[1]"), "[1]"),
        ] {
            assert_eq!(reference.binary_text(Field::Ref), Ok(text));
        }
        for text in ["[1]", "{}"] {
            let error = EncodeError::RefNotScalar {
                field: Field::JoinRef,
            };
            assert_eq!(
                Ref::from_json_text(text).binary_text(Field::JoinRef),
                Err(error)
            );
        }
    }

    #[test]
    fn only_null_is_null_and_only_a_string_has_a_text() {
        assert!(Ref::NULL.is_null());
        assert!(!Ref::from("").is_null());
        assert_eq!(Ref::from("7").as_str(), Some("7"));
        assert_eq!(Ref::from(7).as_str(), None);
        assert_eq!(Ref::NULL.as_str(), None);
        assert_eq!(Ref::from("abc").len(), 3);
        assert_eq!(Ref::from(12).len(), 2);
        assert_eq!(Ref::NULL.len(), 0);
    }
}
