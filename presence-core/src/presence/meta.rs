//! Metas: JSON objects that pass as they came.

use std::fmt;

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::phx_ref::PhxRef;
use super::push_json_string;

/// The members that only the owning replica writes.
const REFS: [&str; 2] = ["phx_ref", "phx_ref_prev"];

/// A meta without refs: the text of a JSON object, as its sender wrote it.
///
/// A sender's own `phx_ref` and `phx_ref_prev` are dropped, so that nobody can pass a meta off as
/// another; everything else stays as it is, to the byte.
#[derive(Clone, PartialEq, Eq)]
pub struct Meta(Box<str>);

/// Text that is no meta.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a meta must be a JSON object: {0}")]
pub struct MetaError(String);

impl Meta {
    /// Reads a meta.
    ///
    /// # Errors
    ///
    /// Refuses what is not JSON, or not an object.
    pub fn parse(text: &str) -> Result<Self, MetaError> {
        let object: Object<'_> =
            serde_json::from_str(text).map_err(|error| MetaError(error.to_string()))?;
        Ok(if object.forged {
            Self::of(&object.members)
        } else {
            Self(text.trim_matches(JSON_SPACE).into())
        })
    }

    /// The empty meta, `{}`.
    pub fn empty() -> Self {
        Self("{}".into())
    }

    /// The meta of an entry, or any other text of an object, without its refs; the empty one where
    /// the text is no object.
    pub fn of_entry(meta: &str) -> Self {
        Self::parse(meta).unwrap_or_else(|_| Self::empty())
    }

    /// The text of the object.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This meta with the members of `over` added or replaced, as `Map.merge/2` in Elixir.
    #[must_use]
    pub fn merge(&self, over: &Self) -> Self {
        let mut members = self.members();
        members.extend(over.members());
        Self::of(&members)
    }

    fn members(&self) -> Members<'_> {
        let object: Object<'_> = serde_json::from_str(&self.0).expect("a meta is a JSON object");
        object.members
    }

    fn of(members: &Members<'_>) -> Self {
        let mut text = String::from("{");
        for (name, value) in members {
            if text.len() > 1 {
                text.push(',');
            }
            push_json_string(&mut text, name);
            text.push(':');
            text.push_str(value.get());
        }
        text.push('}');
        Self(text.into())
    }

    /// The text that an update keeps: this meta, and the ref before.
    pub(super) fn following(&self, before: &PhxRef) -> String {
        let mut text = String::with_capacity(self.0.len() + 40);
        write_member(&mut text, &self.0, "phx_ref_prev", before);
        text
    }
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const JSON_SPACE: [char; 4] = [' ', '\n', '\r', '\t'];

/// Appends a meta as clients see it.
///
/// The metas of entries were parsed where they came into the cluster; one that is no object all the
/// same, which only a faulty peer can send, is shown as an empty one.
pub(super) fn write_with_ref(out: &mut String, meta: &str, phx_ref: &PhxRef) {
    write_member(out, meta, "phx_ref", phx_ref);
}

/// Appends the object `meta` with one more member.
fn write_member(out: &mut String, meta: &str, name: &str, phx_ref: &PhxRef) {
    let members = meta
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .map_or("", |members| members.trim_matches(JSON_SPACE));
    out.push('{');
    if !members.is_empty() {
        out.push_str(members);
        out.push(',');
    }
    out.push('"');
    out.push_str(name);
    out.push_str("\":\"");
    out.push_str(phx_ref.as_str());
    out.push_str("\"}");
}

type Members<'a> = IndexMap<String, &'a RawValue, foldhash::fast::FixedState>;

/// The members of an object, less [`REFS`].
struct Object<'a> {
    members: Members<'a>,
    /// Whether there were any of [`REFS`].
    forged: bool,
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = Object {
            members: Members::default(),
            forged: false,
        };
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            if REFS.contains(&name.as_str()) {
                object.forged = true;
            } else {
                object.members.insert(name, value);
            }
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::ReplicaId;
    use crate::entry::{Entry, Key, Pid};

    fn parsed(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    fn phx_ref() -> PhxRef {
        let topic = "t".into();
        let replica = ReplicaId::new("a", 1);
        PhxRef::of(&Entry {
            topic: &topic,
            pid: Pid(1),
            key: Key::Text("k"),
            meta: "{}",
            replica: &replica,
            counter: 1,
        })
    }

    #[test]
    fn a_meta_passes_as_it_came() {
        for text in [
            "{}",
            "{ \"a\" : 1.50 , \"b\":[ ],\"big\":12345678901234567890123 }",
            "{\"a\":1,\"a\":2}",
            "{\"metas\":{\"phx_ref\":\"inner\"}}",
        ] {
            assert_eq!(Meta::parse(text).unwrap().as_str(), text);
        }
        assert_eq!(Meta::parse(" \n{}\t\r").unwrap().as_str(), "{}");
    }

    #[test]
    fn what_is_no_object_is_no_meta() {
        for text in [
            "", "1", "[]", "null", "\"{}\"", "{", "{} {}", "{\"a\":}", "{a:1}",
        ] {
            let error = Meta::parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with("a meta must be a JSON object: "),
                "{error}"
            );
        }
    }

    #[test]
    fn a_sender_cannot_forge_refs() {
        let text = "{\"phx_ref\":\"x\",\"a\":1.0,\"phx\\u005fref_prev\":{\"y\":[1]},\"q\\\"\":2}";
        assert_eq!(
            Meta::parse(text).unwrap().as_str(),
            "{\"a\":1.0,\"q\\\"\":2}"
        );
        assert_eq!(Meta::parse("{\"phx_ref\":1}").unwrap().as_str(), "{}");
        let kept = Meta::parse("{\"a\":1}").unwrap().following(&phx_ref());
        assert_eq!(Meta::of_entry(&kept).as_str(), "{\"a\":1}");
        assert_eq!(Meta::of_entry("no meta"), Meta::empty());
    }

    #[test]
    fn merging_adds_and_replaces_members_and_keeps_their_text() {
        let meta = |text| Meta::parse(text).unwrap();
        let merged = meta("{\"a\":1.0,\"b\":2}").merge(&meta("{\"b\":[3],\"c\":1e2}"));
        assert_eq!(merged.as_str(), "{\"a\":1.0,\"b\":[3],\"c\":1e2}");
        assert_eq!(meta("{}").merge(&meta("{}")), Meta::empty());
    }

    #[test]
    fn a_text_that_is_no_object_is_shown_as_an_empty_meta() {
        for text in ["", "{", "}", "1", "[1]"] {
            let mut out = String::new();
            write_with_ref(&mut out, text, &phx_ref());
            assert_eq!(
                parsed(&out),
                json!({"phx_ref": phx_ref().as_str()}),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_shown_meta_is_what_was_given_and_its_ref(
            members in prop::collection::btree_map(".{0,8}", 0..100_i32, 0..5)
        ) {
            let given = serde_json::to_string_pretty(&members).unwrap();
            let meta = Meta::parse(&given).unwrap();
            let mut shown = String::new();
            write_with_ref(&mut shown, meta.as_str(), &phx_ref());
            let mut expected = json!(members);
            expected["phx_ref"] = phx_ref().as_str().into();
            prop_assert_eq!(parsed(&shown), expected);
        }

        #[test]
        fn reading_a_meta_never_panics(text in "[{}\\[\\]\":,a1\\\\ ]{0,24}|.{0,12}") {
            if let Ok(meta) = Meta::parse(&text) {
                prop_assert!(parsed(meta.as_str()).is_object());
            }
        }
    }
}
