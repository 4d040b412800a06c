//! Presences by key, in the order in which a JavaScript object lists its keys.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::meta::Meta;

/// What a key, a meta or a field counts beside its text: about what its handles take in memory.
pub(super) const OVERHEAD: usize = 64;

/// What is known of one key: its metas, and the fields that the server's `fetch` put beside them.
///
/// A handle: clones share metas and fields.
#[derive(Clone)]
pub struct Presence {
    metas: Arc<[Meta]>,
    fields: Arc<Fields>,
    size: usize,
}

/// The members of a presence other than `metas`.
#[derive(Default)]
pub(super) struct Fields {
    values: BTreeMap<Box<str>, Box<RawValue>>,
}

impl Fields {
    /// As in `JSON.parse`, the last of several members of one name stays.
    pub(super) fn insert(&mut self, name: &str, value: Box<RawValue>) {
        self.values.insert(name.into(), value);
    }

    fn size(&self) -> usize {
        self.values
            .iter()
            .map(|(name, value)| OVERHEAD + name.len() + value.get().len())
            .sum()
    }
}

impl Presence {
    pub(super) fn new(metas: Vec<Meta>, fields: Fields) -> Self {
        Self::from_shared(metas, Arc::new(fields))
    }

    fn from_shared(metas: Vec<Meta>, fields: Arc<Fields>) -> Self {
        let texts: usize = metas
            .iter()
            .map(|meta| OVERHEAD + meta.json().get().len())
            .sum();
        Self {
            size: texts + fields.size(),
            metas: metas.into(),
            fields,
        }
    }

    /// The same fields with other metas.
    pub(super) fn with_metas(&self, metas: Vec<Meta>) -> Self {
        Self::from_shared(metas, Arc::clone(&self.fields))
    }

    /// The metas, oldest first.
    #[must_use]
    pub fn metas(&self) -> &[Meta] {
        &self.metas
    }

    /// The field `name` that the server's `fetch` put beside `metas`, such as `user`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&RawValue> {
        self.fields.values.get(name).map(AsRef::as_ref)
    }

    /// All members beside `metas`, sorted by name.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&str, &RawValue)> {
        self.fields
            .values
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

impl PartialEq for Presence {
    fn eq(&self, other: &Self) -> bool {
        let texts = |(name, value): (_, &RawValue)| (name, value.get().to_owned());
        self.metas == other.metas && self.fields().map(texts).eq(other.fields().map(texts))
    }
}

impl Eq for Presence {}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence")
            .field("metas", &self.metas)
            .field("fields", &self.fields.values)
            .finish()
    }
}

impl Serialize for Presence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.fields.values.len()))?;
        map.serialize_entry("metas", self.metas())?;
        for (name, value) in self.fields() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Presences by key.
///
/// Iterates as JavaScript's `Object.getOwnPropertyNames` does, which phoenix.js lists by: keys that
/// are array indices (`"0"` to `"4294967294"`, no leading zeros) first, by number, then the others in
/// the order of insertion. A key keeps its place while its presence changes; one that leaves and
/// comes back is last.
///
/// Looking up, inserting and removing cost O(log n). No hashing, so no key can be chosen to be slow.
#[derive(Clone, Default)]
pub struct Presences {
    by_rank: BTreeMap<Rank, (Arc<str>, Presence)>,
    /// The ranks of the keys that are no array index.
    inserted: BTreeMap<Arc<str>, u64>,
    next: u64,
    size: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Index(u32),
    Inserted(u64),
}

impl Presences {
    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_rank.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_rank.is_empty()
    }

    /// The presence of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Presence> {
        let (_, presence) = self.by_rank.get(&self.rank(key)?)?;
        Some(presence)
    }

    /// All keys with their presences, in JavaScript's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Presence)> {
        self.entries()
            .map(|(key, presence)| (key.as_ref(), presence))
    }

    /// Its size in bytes as the limits of this module count it: the text of its keys, metas and
    /// fields, and 64 bytes for each.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = &(Arc<str>, Presence)> {
        self.by_rank.values()
    }

    /// Sets the presence of `key`, which keeps its place if it had one.
    pub(super) fn insert(&mut self, key: Arc<str>, presence: Presence) {
        let rank = self.rank(&key).unwrap_or_else(|| {
            let rank = self.next;
            self.next += 1;
            self.inserted.insert(Arc::clone(&key), rank);
            Rank::Inserted(rank)
        });
        self.size += OVERHEAD + key.len() + presence.size;
        if let Some((key, replaced)) = self.by_rank.insert(rank, (key, presence)) {
            self.size -= OVERHEAD + key.len() + replaced.size;
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        let Some(rank) = self.rank(key) else { return };
        self.inserted.remove(key);
        if let Some((key, removed)) = self.by_rank.remove(&rank) {
            self.size -= OVERHEAD + key.len() + removed.size;
        }
    }

    /// Where `key` stands; for an array index that is known before it is inserted.
    fn rank(&self, key: &str) -> Option<Rank> {
        array_index(key)
            .map(Rank::Index)
            .or_else(|| self.inserted.get(key).copied().map(Rank::Inserted))
    }
}

/// The number that `key` spells, if JavaScript takes it for an array index.
fn array_index(key: &str) -> Option<u32> {
    let canonical = match key.as_bytes() {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let index = canonical.then(|| key.parse().ok())??;
    (index != u32::MAX).then_some(index)
}

impl fmt::Debug for Presences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Presences {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presences(json: &str) -> Presences {
        Presences::parse(json).unwrap()
    }

    fn keys(presences: &Presences) -> Vec<&str> {
        presences.iter().map(|(key, _)| key).collect()
    }

    fn one() -> Presence {
        presences(r#"{"k":{"metas":[{"phx_ref":"r"}]}}"#)
            .get("k")
            .unwrap()
            .clone()
    }

    #[test]
    fn array_indices_come_first_by_number_then_the_rest_as_inserted() {
        let list = presences(
            r#"{"b":{"metas":[]},"10":{"metas":[]},"01":{"metas":[]},"9":{"metas":[]},
                "-1":{"metas":[]},"0":{"metas":[]},"a":{"metas":[]},"":{"metas":[]},"1.0":{"metas":[]}}"#,
        );
        assert_eq!(
            keys(&list),
            ["0", "9", "10", "b", "01", "-1", "a", "", "1.0"]
        );
    }

    #[test]
    fn the_largest_array_index_is_4294967294() {
        let list = presences(
            r#"{"99999999999999999999":{"metas":[]},"4294967295":{"metas":[]},"4294967294":{"metas":[]}}"#,
        );
        assert_eq!(
            keys(&list),
            ["4294967294", "99999999999999999999", "4294967295"]
        );
    }

    #[test]
    fn a_key_keeps_its_place_when_replaced_and_is_last_when_it_comes_back() {
        let mut list = presences(r#"{"b":{"metas":[]},"a":{"metas":[]},"7":{"metas":[]}}"#);
        list.insert("b".into(), one());
        assert_eq!(keys(&list), ["7", "b", "a"]);
        assert_eq!(list.get("b"), Some(&one()));
        list.remove("b");
        assert_eq!(list.get("b"), None);
        list.remove("7");
        assert_eq!(keys(&list), ["a"]);
        list.insert("b".into(), one());
        list.insert("7".into(), one());
        assert_eq!(keys(&list), ["7", "a", "b"]);
        assert_eq!(list.len(), 3);
    }

    #[test]
    fn removing_an_unknown_key_does_nothing() {
        let mut list = presences(r#"{"a":{"metas":[]}}"#);
        let size = list.size();
        list.remove("b");
        list.remove("5");
        assert_eq!((keys(&list), list.size()), (vec!["a"], size));
        assert!(list.get("5").is_none());
    }

    #[test]
    fn size_counts_the_text_and_64_bytes_for_each_key_meta_and_field() {
        let mut list = presences(r#"{"ab":{"metas":[{"v":1},{}],"user":"x"}}"#);
        let expected = (64 + 2) + (64 + 7) + (64 + 2) + (64 + 4 + 3);
        assert_eq!(list.size(), expected);
        list.insert("ab".into(), one());
        assert_eq!(list.size(), (64 + 2) + (64 + r#"{"phx_ref":"r"}"#.len()));
        list.insert("1".into(), one());
        list.remove("ab");
        list.remove("1");
        assert_eq!(list.size(), 0);
        assert!(list.is_empty());
    }

    #[test]
    fn presences_are_equal_when_their_metas_and_fields_are() {
        let list = presences(
            r#"{"a":{"metas":[1],"u":1},"b":{"u":1,"metas":[1]},"c":{"metas":[2],"u":1},
                "d":{"metas":[1],"u":2},"e":{"metas":[1]},"f":{"metas":[1],"w":1}}"#,
        );
        let a = list.get("a").unwrap();
        assert_eq!(a, list.get("b").unwrap());
        for other in ["c", "d", "e", "f"] {
            assert_ne!(a, list.get(other).unwrap(), "{other}");
        }
    }

    #[test]
    fn serializes_to_what_came_in_except_for_the_place_of_fields() {
        let list = presences(
            r#"{"a":{"user":{"n": 1},"metas":[{"phx_ref":"r"}]},"__proto__":{"metas":[]}}"#,
        );
        assert_eq!(
            serde_json::to_string(&list).unwrap(),
            r#"{"a":{"metas":[{"phx_ref":"r"}],"user":{"n": 1}},"__proto__":{"metas":[]}}"#
        );
        let a = list.get("a").unwrap();
        assert_eq!(a.field("user").unwrap().get(), r#"{"n": 1}"#);
        assert!(a.field("metas").is_none());
    }
}
