//! From the text of a payload to presences, or to an error that says where it went wrong.
//!
//! Stricter than phoenix.js in one way: every presence must be an object with an array of metas, none
//! of them null. phoenix.js throws on anything else as soon as it compares it, halfway through a
//! change; but it stores it unseen when the key is new, and ignores it when a leave is of a key that
//! it does not hold. Here nothing malformed gets in, whatever the list holds.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

use super::meta::{Meta, Ref};
use super::presences::{Fields, Presence, Presences};
use super::sync::Diff;

/// How much of a key an error repeats, in characters.
const SHOWN: usize = 64;

/// Why a payload is none that Phoenix Presence sends.
///
/// `path` is where in the payload, in JavaScript's notation: `payload.joins["a"].metas[0]`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The text is not JSON, or holds a string that is not Unicode (a lone surrogate).
    #[error("{path} is not valid JSON: {source}")]
    Json {
        /// Where in the payload.
        path: String,
        /// What the JSON parser found.
        source: serde_json::Error,
    },
    /// A value is missing or of the wrong type.
    #[error("{path} must be {expected}, but is {found}")]
    Shape {
        /// Where in the payload.
        path: String,
        /// What is needed there.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
}

impl PayloadError {
    fn shape(expected: &'static str, found: &'static str) -> Self {
        Self::Shape {
            path: String::new(),
            expected,
            found,
        }
    }

    /// The same error seen from one level up.
    fn within(mut self, step: &str) -> Self {
        let (Self::Json { path, .. } | Self::Shape { path, .. }) = &mut self;
        path.insert_str(0, step);
        self
    }
}

impl From<serde_json::Error> for PayloadError {
    fn from(source: serde_json::Error) -> Self {
        Self::Json {
            path: String::new(),
            source,
        }
    }
}

impl Presences {
    /// Reads the payload of a `presence_state`: an object of presences by key.
    ///
    /// As in `JSON.parse`, of several members of one name the last stays, at the place of the first.
    ///
    /// # Errors
    /// [`PayloadError`] if it is anything else.
    pub fn parse(payload: &str) -> Result<Self, PayloadError> {
        document(payload)
            .and_then(presences)
            .map_err(|error| error.within("payload"))
    }
}

impl Diff {
    /// Reads the payload of a `presence_diff`: an object with `joins` and `leaves`, each an object of
    /// presences by key.
    ///
    /// # Errors
    /// [`PayloadError`] if it is anything else.
    pub fn parse(payload: &str) -> Result<Self, PayloadError> {
        document(payload)
            .and_then(diff)
            .map_err(|error| error.within("payload"))
    }
}

fn document(payload: &str) -> Result<&RawValue, PayloadError> {
    Ok(serde_json::from_str(payload)?)
}

fn diff(raw: &RawValue) -> Result<Diff, PayloadError> {
    let members = members(raw)?;
    let side = |name: &'static str| {
        last(&members, name)
            .ok_or_else(|| PayloadError::shape("an object", "missing"))
            .and_then(presences)
            .map_err(|error| error.within(&format!(".{name}")))
    };
    Ok(Diff::new(side("joins")?, side("leaves")?))
}

fn presences(raw: &RawValue) -> Result<Presences, PayloadError> {
    let mut presences = Presences::default();
    for (key, value) in members(raw)? {
        let presence = presence(value).map_err(|error| error.within(&step(&key)))?;
        presences.insert(key.into(), presence);
    }
    Ok(presences)
}

fn presence(raw: &RawValue) -> Result<Presence, PayloadError> {
    let members = members(raw)?;
    let metas = last(&members, "metas")
        .ok_or_else(|| PayloadError::shape("an array", "missing"))
        .and_then(metas)
        .map_err(|error| error.within(".metas"))?;
    let mut fields = Fields::default();
    for (name, value) in members {
        if name != "metas" {
            fields.insert(&name, value.to_owned());
        }
    }
    Ok(Presence::new(metas, fields))
}

fn metas(raw: &RawValue) -> Result<Vec<Meta>, PayloadError> {
    if !raw.get().starts_with('[') {
        return Err(PayloadError::shape("an array", kind(raw)));
    }
    let items: Vec<&RawValue> = serde_json::from_str(raw.get())?;
    items
        .into_iter()
        .enumerate()
        .map(|(at, item)| meta(item).map_err(|error| error.within(&format!("[{at}]"))))
        .collect()
}

/// Any value but null: JavaScript finds no `phx_ref` in a number or a string, and does not mind.
pub(super) fn meta(raw: &RawValue) -> Result<Meta, PayloadError> {
    let phx_ref = match raw.get().as_bytes().first() {
        Some(b'n') => return Err(PayloadError::shape("a meta", kind(raw))),
        Some(b'{') => match last(&members(raw)?, "phx_ref") {
            Some(value) => phx_ref(value).map_err(|error| error.within(".phx_ref"))?,
            None => Some(Ref::Undefined),
        },
        _ => Some(Ref::Undefined),
    };
    Ok(Meta::new(raw.to_owned(), phx_ref))
}

fn phx_ref(raw: &RawValue) -> Result<Option<Ref>, PayloadError> {
    let text = raw.get();
    Ok(match kind(raw) {
        "a string" => Some(Ref::Text(serde_json::from_str(text)?)),
        "null" => Some(Ref::Null),
        "a boolean" => Some(Ref::Bool(text == "true")),
        "a number" => text.parse().ok().map(Ref::number),
        _ => None,
    })
}

fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    }
}

/// A key as a step of a path, cut short, since a peer chooses its length.
fn step(key: &str) -> String {
    match key.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("[{:?}…]", &key[..end]),
        None => format!("[{key:?}]"),
    }
}

fn last<'a>(members: &[(Cow<'_, str>, &'a RawValue)], name: &str) -> Option<&'a RawValue> {
    members
        .iter()
        .rfind(|(key, _)| key == name)
        .map(|(_, value)| *value)
}

/// The members of an object in order, repeated names included, each value still as text.
///
/// Only one level deep and nothing below it is built, so that neither nesting nor numbers that no
/// type can hold stand in the way of passing metas on verbatim.
fn members(raw: &RawValue) -> Result<Vec<(Cow<'_, str>, &RawValue)>, PayloadError> {
    if !raw.get().starts_with('{') {
        return Err(PayloadError::shape("an object", kind(raw)));
    }
    let mut json = serde_json::Deserializer::from_str(raw.get());
    Ok(json.deserialize_map(Members)?)
}

struct Members;

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state_error(payload: &str) -> String {
        Presences::parse(payload).unwrap_err().to_string()
    }

    fn diff_error(payload: &str) -> String {
        Diff::parse(payload).unwrap_err().to_string()
    }

    #[test]
    fn a_payload_that_is_no_object_is_refused() {
        for (payload, found) in [
            ("[]", "an array"),
            ("null", "null"),
            ("12", "a number"),
            ("-1", "a number"),
            (" false ", "a boolean"),
            (r#""x""#, "a string"),
        ] {
            let expected = format!("payload must be an object, but is {found}");
            assert_eq!(state_error(payload), expected);
            assert_eq!(diff_error(payload), expected);
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for payload in ["", "{", "{}x", r#"{"a":{"metas":[}}"#, "\0", r#"{"a" 1}"#] {
            assert!(state_error(payload).starts_with("payload is not valid JSON: "));
        }
    }

    #[test]
    fn a_diff_needs_both_sides() {
        assert_eq!(
            diff_error(r#"{"joins":{}}"#),
            "payload.leaves must be an object, but is missing"
        );
        assert_eq!(
            diff_error(r#"{"leaves":{}}"#),
            "payload.joins must be an object, but is missing"
        );
        assert_eq!(
            diff_error(r#"{"joins":{},"leaves":[]}"#),
            "payload.leaves must be an object, but is an array"
        );
    }

    #[test]
    fn a_presence_needs_an_array_of_metas() {
        assert_eq!(
            state_error(r#"{"a":{"metas":[]},"b":null}"#),
            r#"payload["b"] must be an object, but is null"#
        );
        assert_eq!(
            state_error(r#"{"b":{"meta":[]}}"#),
            r#"payload["b"].metas must be an array, but is missing"#
        );
        assert_eq!(
            diff_error(r#"{"joins":{},"leaves":{"b":{"metas":{}}}}"#),
            r#"payload.leaves["b"].metas must be an array, but is an object"#
        );
    }

    #[test]
    fn a_null_meta_is_refused_and_its_place_named() {
        assert_eq!(
            diff_error(r#"{"joins":{"a\"b":{"metas":[{},null]}},"leaves":{}}"#),
            r#"payload.joins["a\"b"].metas[1] must be a meta, but is null"#
        );
    }

    #[test]
    fn a_lone_surrogate_is_refused_where_it_must_be_compared() {
        assert!(
            state_error(r#"{"a":{"metas":[{"phx_ref":"\ud800"}]}}"#)
                .starts_with(r#"payload["a"].metas[0].phx_ref is not valid JSON: "#)
        );
        let kept = r#"{"a":{"metas":[{"v":"\ud800"}]}}"#;
        assert_eq!(
            serde_json::to_string(&Presences::parse(kept).unwrap()).unwrap(),
            kept
        );
    }

    #[test]
    fn an_error_repeats_only_the_start_of_a_long_key() {
        let shown = "é".repeat(64);
        let exact = state_error(&format!(r#"{{"{shown}":1}}"#));
        assert_eq!(
            exact,
            format!(r#"payload["{shown}"] must be an object, but is a number"#)
        );
        let long = state_error(&format!(r#"{{"{shown}{shown}":1}}"#));
        assert_eq!(
            long,
            format!(r#"payload["{shown}"…] must be an object, but is a number"#)
        );
    }

    #[test]
    fn of_repeated_members_the_last_counts_at_the_place_of_the_first() {
        let list = Presences::parse(
            r#"{"a":{"metas":[1],"metas":[2],"u":1,"u":2},"b":{"metas":[]},"b":{"metas":[3]},
                "a":{"metas":[4],"metas":[5],"u":1,"u":2}}"#,
        )
        .unwrap();
        assert_eq!(
            serde_json::to_string(&list).unwrap(),
            r#"{"a":{"metas":[5],"u":2},"b":{"metas":[3]}}"#
        );
        let diff = Diff::parse(r#"{"joins":{"x":{"metas":[]}},"joins":{},"leaves":1,"leaves":{}}"#)
            .unwrap();
        assert!(diff.joins().is_empty() && diff.leaves().is_empty());
    }

    #[test]
    fn members_beside_joins_and_leaves_are_ignored() {
        let diff = Diff::parse(r#"{"joins":{},"x":[null],"leaves":{"a":{"metas":[]}}}"#).unwrap();
        assert_eq!((diff.joins().len(), diff.leaves().len()), (0, 1));
    }

    #[test]
    fn metas_pass_verbatim_however_deep_or_large() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let payload = format!(
            r#"{{"a":{{"metas":[{{"phx_ref":"r","n": 12345678901234567890123.10,"d":{deep}}}]}}}}"#
        );
        let list = Presences::parse(&payload).unwrap();
        assert_eq!(serde_json::to_string(&list).unwrap(), payload);
        assert_eq!(list.get("a").unwrap().metas()[0].phx_ref(), Some("r"));
    }
}
