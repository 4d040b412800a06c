//! Recordings of a JSON object a line: the first says what the case is, each further one is a step.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Why a text is no recording: the line, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct Unreadable {
    line: usize,
    reason: String,
}

/// A line, which holds an object.
pub(crate) struct Line {
    pub(crate) number: usize,
    object: Object,
}

/// A JSON object, read member by member.
pub(crate) struct Object(Map<String, Value>);

/// The lines of a recording, without those that are empty.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Result<Line, Unreadable>> {
    let lines = (1..).zip(text.lines());
    let lines = lines.filter(|(_, text)| !text.trim().is_empty());
    lines.map(|(number, text)| match serde_json::from_str(text) {
        Ok(object) => Ok(Line {
            number,
            object: Object(object),
        }),
        Err(error) => Err(Unreadable {
            line: number,
            reason: format!("not a JSON object: {error}"),
        }),
    })
}

/// The line that says what the case is.
pub(crate) fn head(
    lines: &mut impl Iterator<Item = Result<Line, Unreadable>>,
) -> Result<Line, Unreadable> {
    lines.next().unwrap_or_else(|| {
        Err(Unreadable {
            line: 1,
            reason: "the file is empty".into(),
        })
    })
}

impl Line {
    /// What `read` makes of it.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Object) -> Result<T, String>,
    ) -> Result<T, Unreadable> {
        read(&self.object).map_err(|reason| Unreadable {
            line: self.number,
            reason,
        })
    }
}

impl Object {
    pub(crate) fn new(value: &Value, name: &str) -> Result<Self, String> {
        let object = value.as_object();
        object
            .map(|object| Self(object.clone()))
            .ok_or_else(|| format!("{name} must be an object"))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn optional(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(crate) fn required(&self, name: &str) -> Result<&Value, String> {
        self.0.get(name).ok_or_else(|| format!("{name} is missing"))
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter()
    }

    /// A member that is an object, and must be there.
    pub(crate) fn object(&self, name: &str) -> Result<Self, String> {
        Self::new(self.optional(name).unwrap_or(&Value::Null), name)
    }

    pub(crate) fn text(&self, name: &str) -> Result<String, String> {
        let text = self.required(name)?.as_str().map(str::to_owned);
        text.ok_or_else(|| format!("{name} must be a string"))
    }

    pub(crate) fn number(&self, name: &str) -> Result<u64, String> {
        let number = self.required(name)?.as_u64();
        number.ok_or_else(|| format!("{name} must be a whole number"))
    }

    /// A member that says yes or no, which no member does as well.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, String> {
        match self.optional(name) {
            None => Ok(false),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| format!("{name} must be true or false")),
        }
    }

    /// A list of names; empty where there is no such member.
    pub(crate) fn names(&self, name: &str) -> Result<Vec<String>, String> {
        match self.optional(name) {
            None => Ok(Vec::new()),
            Some(names) => serde_json::from_value(names.clone())
                .map_err(|_| format!("{name} must be an array of names")),
        }
    }

    /// Texts by name, such as a query; empty where there is no such member.
    pub(crate) fn texts(&self, name: &str) -> Result<BTreeMap<String, String>, String> {
        if !self.has(name) {
            return Ok(BTreeMap::new());
        }
        let texts = self.object(name)?.0.into_iter();
        let texts = texts.map(|(name, value)| match value {
            Value::String(text) => (name, text),
            other => (name, other.to_string()),
        });
        Ok(texts.collect())
    }

    /// It as JSON, in one line.
    pub(crate) fn to_text(&self) -> String {
        Value::from(self.0.clone()).to_string()
    }
}
