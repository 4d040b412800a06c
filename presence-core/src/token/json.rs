//! Terms as JSON, for what goes on to clients, logs and tests.

use serde_json::{Map, Number, Value};
use thiserror::Error;

use super::term::Term;

impl Term {
    /// This term as JSON.
    ///
    /// `nil`, `true` and `false` become null, true and false, other atoms strings, binaries
    /// strings, lists and tuples arrays, maps objects whose keys are the text of an atom, a binary
    /// or an integer. Integers keep every digit, whatever their size.
    ///
    /// # Errors
    ///
    /// [`JsonError`] where JSON could only show the term by changing it.
    pub fn to_json(&self) -> Result<Value, JsonError> {
        Ok(match self {
            Self::Integer(value) => (*value).into(),
            Self::BigInteger(value) => {
                let digits = value.to_string();
                Value::Number(digits.parse().expect("decimal digits are a JSON number"))
            }
            Self::Float(value) => {
                Value::Number(Number::from_f64(value.value()).expect("a Float is finite"))
            }
            Self::Atom(atom) => match atom.as_str() {
                "nil" => Value::Null,
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                name => name.into(),
            },
            Self::Binary(_) => self.as_str().ok_or(JsonError::NotUtf8)?.into(),
            Self::List(elements) | Self::Tuple(elements) => elements
                .iter()
                .map(Self::to_json)
                .collect::<Result<_, _>>()?,
            Self::Map(entries) => {
                let mut object = Map::new();
                for (key, value) in entries {
                    let key = key.to_json_key()?;
                    if object.contains_key(&key) {
                        return Err(JsonError::DuplicateKey { key });
                    }
                    object.insert(key, value.to_json()?);
                }
                Value::Object(object)
            }
        })
    }

    fn to_json_key(&self) -> Result<String, JsonError> {
        match self {
            Self::Integer(value) => Ok(value.to_string()),
            Self::BigInteger(value) => Ok(value.to_string()),
            Self::Atom(atom) => Ok(atom.as_str().to_owned()),
            Self::Binary(_) => self.as_str().map(str::to_owned).ok_or(JsonError::NotUtf8),
            Self::Float(_) | Self::List(_) | Self::Tuple(_) | Self::Map(_) => {
                Err(JsonError::BadKey)
            }
        }
    }
}

/// Why a term has no JSON form.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JsonError {
    /// It holds a binary that is no text.
    #[error("a binary is not UTF-8")]
    NotUtf8,
    /// It holds a map with a key that is neither an atom, nor a binary, nor an integer.
    #[error("a map has a key that is neither an atom, nor a binary, nor an integer")]
    BadKey,
    /// It holds a map two keys of which have the same text, such as `:id` and `"id"`.
    #[error("two keys of a map have the text {key:?}")]
    DuplicateKey {
        /// That text.
        key: String,
    },
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::token::term::{Atom, Float};

    fn atom(name: &str) -> Term {
        Atom::new(name).unwrap().into()
    }

    #[test]
    fn every_kind_has_its_json_form() {
        let big = Term::integer_from_le_bytes(true, &[0, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap();
        let term = Term::List(vec![
            Term::nil(),
            true.into(),
            false.into(),
            atom("away"),
            "Zoë".into(),
            (-5).into(),
            Float::new(1.5).unwrap().into(),
            Term::Tuple(vec![1.into(), Term::List(vec![])]),
        ]);
        assert_eq!(
            term.to_json(),
            Ok(json!([null, true, false, "away", "Zoë", -5, 1.5, [1, []]]))
        );
        assert_eq!(big.to_json().unwrap().to_string(), "-18446744073709551616");
    }

    #[test]
    fn keys_are_the_text_of_atoms_binaries_and_integers() {
        let big = Term::from(u64::MAX);
        let map = Term::Map(
            [
                (atom("a"), 1.into()),
                ("b".into(), 2.into()),
                ((-3).into(), 3.into()),
                (big, 4.into()),
                (Term::nil(), 5.into()),
            ]
            .into(),
        );
        assert_eq!(
            map.to_json(),
            Ok(json!({"a": 1, "b": 2, "-3": 3, "18446744073709551615": 4, "nil": 5}))
        );
    }

    #[test]
    fn what_json_would_have_to_change_is_refused() {
        let map = |key: Term, value: Term| Term::Map([(key, value)].into()).to_json();
        let bytes = || Term::Binary(vec![0xff]);
        assert_eq!(bytes().to_json(), Err(JsonError::NotUtf8));
        assert_eq!(map(bytes(), 1.into()), Err(JsonError::NotUtf8));
        assert_eq!(map(1.into(), bytes()), Err(JsonError::NotUtf8));
        for key in [
            Float::new(1.0).unwrap().into(),
            Term::List(vec![]),
            Term::Tuple(vec![]),
            Term::Map([].into()),
        ] {
            assert_eq!(map(key, 1.into()), Err(JsonError::BadKey));
        }
        let twice = Term::Map([(atom("id"), 1.into()), ("id".into(), 2.into())].into());
        assert_eq!(
            twice.to_json(),
            Err(JsonError::DuplicateKey {
                key: "id".to_owned()
            })
        );
    }
}
