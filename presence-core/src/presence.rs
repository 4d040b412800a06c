//! Presence: what clients see of the set.
//!
//! A presence is a key with the metas of all processes tracked under it, as JSON:
//! `{"metas": [{..., "phx_ref": "..."}]}`. Clients are given the whole list of a topic once
//! (`presence_state`: presences by key) and then its changes (`presence_diff`:
//! `{"joins": ..., "leaves": ...}`, each presences by key). After `Phoenix.Presence`.
//!
//! # Rules
//!
//! - A meta is a JSON object. It is parsed once, at the edge, and then passes as it came.
//! - Each meta is told apart by its `phx_ref`, made of the replica and the counter of its dot, so
//!   that it is unique in the cluster and over restarts and takes no memory. After an update
//!   `phx_ref_prev` is the ref before. What a client itself writes under these two names is dropped.
//! - The metas of a key are ordered by replica, then pid: an updated meta keeps its place. (In a
//!   client's list it moves last, so lists compare as sets of refs by key.)
//! - An integer key and the string that looks alike are tracked apart and shown as one.

mod key;
mod meta;
mod phx_ref;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::entry::{Entry, Key, Left, Pid};
use crate::set::{Diff, Handle, JoinError, Set, UpdateError};

pub use self::key::{KeyBuf, KeyError};
pub use self::meta::{Meta, MetaError};
pub use self::phx_ref::PhxRef;

/// The event that gives a client the list of a topic.
pub const STATE_EVENT: &str = "presence_state";
/// The event that tells a client of changes.
pub const DIFF_EVENT: &str = "presence_diff";

/// Tracks a process under a key in a topic.
///
/// # Errors
///
/// See [`Set::join`].
pub fn track(
    set: &mut Set,
    topic: &Arc<str>,
    pid: Pid,
    key: Key<'_>,
    meta: &Meta,
) -> Result<Handle, JoinError> {
    set.join(topic, pid, key, meta.as_str())
}

/// Replaces the meta of a tracked process in one step; what it was before, and the entry.
///
/// The new meta carries the earlier one's ref as `phx_ref_prev`.
///
/// # Errors
///
/// See [`Set::update`].
pub fn update(
    set: &mut Set,
    topic: &str,
    pid: Pid,
    key: Key<'_>,
    meta: &Meta,
) -> Result<(Left, Handle), UpdateError> {
    let entry = set.find(topic, pid, key).ok_or(UpdateError::NotTracked)?;
    let meta = meta.following(&PhxRef::of(&entry));
    set.update(topic, pid, key, &meta)
}

/// Presences by key, ordered by key as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presences<'a> {
    // Ordered by shown key, then as the metas of one key are.
    entries: Vec<Entry<'a>>,
}

impl<'a> Presences<'a> {
    /// Groups entries of one topic by their keys.
    pub fn group(entries: impl IntoIterator<Item = Entry<'a>>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
        Self { entries }
    }

    /// The keys as they are shown, each with the entries tracked under it.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &[Entry<'a>])> {
        self.entries
            .chunk_by(|a, b| a.key.as_str() == b.key.as_str())
            .map(|metas| (metas[0].key.as_str(), metas))
    }

    /// Whether nobody is present.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many metas there are, of all keys.
    pub fn metas(&self) -> usize {
        self.entries.len()
    }

    /// The payload of `presence_state`.
    pub fn to_json(&self) -> String {
        let mut json = String::new();
        self.write_json(&mut json);
        json
    }

    /// Appends the payload of `presence_state`.
    pub fn write_json(&self, out: &mut String) {
        out.push('{');
        for (at, (key, metas)) in self.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            push_json_string(out, key);
            out.push(':');
            write_presence(out, metas);
        }
        out.push('}');
    }
}

/// The presence of one key, `{"metas": [...]}`; `None` where nobody is tracked under it.
///
/// After `Phoenix.Presence.get_by_key/2`, which takes an integer and the string that looks alike for
/// different keys.
pub fn by_key(set: &Set, topic: &str, key: Key<'_>) -> Option<String> {
    let presences = Presences::group(set.list_key(topic, key));
    let (_, metas) = presences.iter().next()?;
    let mut json = String::new();
    write_presence(&mut json, metas);
    Some(json)
}

/// What changed in one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicDiff<'a> {
    /// The presences that joined.
    pub joins: Presences<'a>,
    /// The presences that left, those before an update among them.
    pub leaves: Presences<'a>,
}

impl TopicDiff<'_> {
    /// The payload of `presence_diff`.
    pub fn to_json(&self) -> String {
        let mut json = String::from("{\"joins\":");
        self.joins.write_json(&mut json);
        json.push_str(",\"leaves\":");
        self.leaves.write_json(&mut json);
        json.push('}');
        json
    }
}

/// What a merge changed, topic by topic.
pub fn by_topic<'a>(set: &'a Set, diff: &'a Diff) -> BTreeMap<&'a str, TopicDiff<'a>> {
    let joins = diff.joins.iter().map(|&handle| set.entry(handle));
    let leaves = diff.leaves.iter().map(Left::entry);
    let mut topics: BTreeMap<&str, (Vec<Entry<'_>>, Vec<Entry<'_>>)> = BTreeMap::new();
    for entry in joins {
        topics.entry(entry.topic).or_default().0.push(entry);
    }
    for entry in leaves {
        topics.entry(entry.topic).or_default().1.push(entry);
    }
    topics
        .into_iter()
        .map(|(topic, (joins, leaves))| {
            let (joins, leaves) = (Presences::group(joins), Presences::group(leaves));
            (topic, TopicDiff { joins, leaves })
        })
        .collect()
}

fn order<'a>(entry: &Entry<'a>) -> impl Ord + use<'a> {
    (
        entry.key.as_str(),
        entry.replica,
        entry.pid,
        entry.key,
        entry.counter,
    )
}

fn write_presence(out: &mut String, metas: &[Entry<'_>]) {
    out.push_str("{\"metas\":[");
    for (at, entry) in metas.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        meta::write_with_ref(out, entry.meta, &PhxRef::of(entry));
    }
    out.push_str("]}");
}

/// Appends `text` as a JSON string.
fn push_json_string(out: &mut String, text: &str) {
    let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::ReplicaId;
    use crate::set::Limits;

    fn set(name: &str) -> Set {
        Set::new(ReplicaId::new(name, 1), Limits::default(), 7)
    }

    fn meta(value: &Value) -> Meta {
        Meta::parse(&value.to_string()).unwrap()
    }

    fn parsed(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    fn state(set: &Set, topic: &str) -> Value {
        parsed(&Presences::group(set.list(topic)).to_json())
    }

    fn tracked(set: &mut Set, pid: u64, key: Key<'_>, value: &Value) -> String {
        let handle = track(set, &"t".into(), Pid(pid), key, &meta(value)).unwrap();
        PhxRef::of(&set.entry(handle)).to_string()
    }

    #[test]
    fn two_tabs_of_one_user_are_one_presence_with_two_metas() {
        let mut set = set("a");
        let second = tracked(&mut set, 2, "Alice".into(), &json!({"at": 2}));
        let first = tracked(&mut set, 1, "Alice".into(), &json!({"at": 1}));
        let bob = tracked(&mut set, 3, "Bob".into(), &json!({}));
        let expected = json!({
            "Alice": {"metas": [{"at": 1, "phx_ref": first}, {"at": 2, "phx_ref": second}]},
            "Bob": {"metas": [{"phx_ref": bob}]},
        });
        assert_eq!(state(&set, "t"), expected);
        assert_eq!(state(&set, "empty"), json!({}));
    }

    #[test]
    fn an_update_names_the_ref_before_and_keeps_its_place() {
        let mut set = set("a");
        let first = tracked(&mut set, 1, "u".into(), &json!({"n": 1}));
        let other = tracked(&mut set, 2, "u".into(), &json!({"n": 2}));
        let (left, handle) =
            update(&mut set, "t", Pid(1), "u".into(), &meta(&json!({"n": 3}))).unwrap();
        assert_eq!(PhxRef::of(&left.entry()).to_string(), first);
        let second = PhxRef::of(&set.entry(handle)).to_string();
        let updated = json!({"n": 3, "phx_ref": second, "phx_ref_prev": first});
        let metas = json!([updated, {"n": 2, "phx_ref": other}]);
        assert_eq!(state(&set, "t"), json!({"u": {"metas": metas}}));
        let again = meta(&json!({}));
        let (_, handle) = update(&mut set, "t", Pid(1), "u".into(), &again).unwrap();
        let entry = set.entry(handle);
        assert_eq!(parsed(entry.meta), json!({"phx_ref_prev": second}));
        assert_eq!(
            update(&mut set, "t", Pid(9), "u".into(), &again),
            Err(UpdateError::NotTracked)
        );
    }

    #[test]
    fn an_integer_and_the_string_alike_are_tracked_apart_and_shown_as_one() {
        let mut set = set("a");
        let text = tracked(&mut set, 1, Key::Text("12"), &json!({}));
        let integer = tracked(&mut set, 1, Key::Integer("12"), &json!({}));
        let metas = json!([{"phx_ref": integer}, {"phx_ref": text}]);
        assert_eq!(state(&set, "t"), json!({"12": {"metas": metas}}));
        let alone = by_key(&set, "t", Key::Integer("12")).unwrap();
        assert_eq!(parsed(&alone), json!({"metas": [{"phx_ref": integer}]}));
        assert_eq!(by_key(&set, "t", Key::Integer("13")), None);
        assert!(set.leave("t", Pid(1), Key::Text("12")).is_some());
        assert!(by_key(&set, "t", Key::Text("12")).is_none());
        assert!(by_key(&set, "t", Key::Integer("12")).is_some());
    }

    #[test]
    fn keys_that_are_special_in_json_are_escaped() {
        let mut set = set("a");
        for (pid, key) in ["\"", "\\", "a\nb", "ünï", "__proto__", "", "\u{7f}"]
            .into_iter()
            .enumerate()
        {
            tracked(&mut set, pid as u64, key.into(), &json!({}));
        }
        let keys: Vec<String> = state(&set, "t")
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        assert_eq!(keys, ["", "\"", "\\", "__proto__", "a\nb", "\u{7f}", "ünï"]);
    }

    #[test]
    fn a_merge_is_told_topic_by_topic_and_looks_alike_on_every_replica() {
        let mut here = set("a");
        let mut there = set("b");
        there.up(&ReplicaId::new("a", 1)).unwrap();
        let first = tracked(&mut here, 1, "u".into(), &json!({"n": 1}));
        track(
            &mut here,
            &"s".into(),
            Pid(1),
            "u".into(),
            &meta(&json!({})),
        )
        .unwrap();
        let mut diff = Diff::new();
        there.merge(&here.take_delta(), &mut diff).unwrap();
        let told: Vec<_> = by_topic(&there, &diff).keys().copied().collect();
        assert_eq!(told, ["s", "t"]);
        assert_eq!(state(&there, "t"), state(&here, "t"));

        update(&mut here, "t", Pid(1), "u".into(), &meta(&json!({"n": 2}))).unwrap();
        there.merge(&here.take_delta(), &mut diff).unwrap();
        let topics = by_topic(&there, &diff);
        let second = PhxRef::of(&here.list("t").next().unwrap()).to_string();
        let expected = json!({
            "joins": {"u": {"metas": [{"n": 2, "phx_ref": second, "phx_ref_prev": first}]}},
            "leaves": {"u": {"metas": [{"n": 1, "phx_ref": first}]}},
        });
        assert_eq!(parsed(&topics["t"].to_json()), expected);
        assert_eq!(topics.len(), 1);
        assert_eq!(topics["t"].joins.metas(), 1);
        assert!(!topics["t"].leaves.is_empty());
    }
}
