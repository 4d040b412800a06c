//! What a client receives in one step: frames in order, and presence folded by topic.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::exchange::lines::Object;
use crate::exchange::matching::Bindings;

/// What a client receives in one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Received {
    /// In order, without presence.
    pub(super) frames: Vec<Value>,
    /// By topic.
    pub(super) presence: BTreeMap<String, Presence>,
}

/// What a client receives of the presences of one topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Presence {
    /// What joined by all diffs of the step, and has not left again by them.
    pub(super) joins: Metas,
    /// What left, and had not joined before in the same step.
    pub(super) leaves: Metas,
    /// Whether a presence_state came.
    pub(super) state: bool,
    /// The client's whole list at the end of the step.
    pub(super) list: Option<Metas>,
}

/// Metas by key, which compare as sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Metas(BTreeMap<String, Vec<Value>>);

impl Received {
    /// Reads what was recorded for one client.
    pub(super) fn read(value: &Value, client: &str) -> Result<Self, String> {
        let value = Object::new(value, &format!("then.{client}"))?;
        let known = |name: &str| matches!(name, "frames" | "presence");
        if let Some((name, _)) = value.members().find(|(name, _)| !known(name)) {
            return Err(format!("then.{client}.{name} is unknown"));
        }
        let frames = match value.optional("frames") {
            None => Vec::new(),
            Some(frames) => {
                let frames = frames.as_array().cloned();
                frames.ok_or_else(|| format!("then.{client}.frames must be an array"))?
            }
        };
        let mut presence = BTreeMap::new();
        if value.has("presence") {
            for (topic, value) in value.object("presence")?.members() {
                let read = Presence::read(value)
                    .map_err(|reason| format!("then.{client}.presence[{topic:?}]: {reason}"))?;
                presence.insert(topic.clone(), read);
            }
        }
        Ok(Self { frames, presence })
    }

    /// Whether all that came is `self`, as recorded; the frames and topics that differ if not.
    pub(super) fn compare(
        &self,
        came: &Self,
        is_unordered: bool,
        bindings: &mut Bindings,
    ) -> Option<(Vec<Value>, Vec<Value>)> {
        let (mut expected, mut received) = (Vec::new(), Vec::new());
        if !bindings.frames(&self.frames, &came.frames, is_unordered) {
            expected.extend(self.frames.iter().cloned());
            received.extend(came.frames.iter().cloned());
        }
        let nothing = Presence::default();
        let topics: BTreeSet<_> = self.presence.keys().chain(came.presence.keys()).collect();
        for topic in topics {
            let [one, other] =
                [self, came].map(|side| side.presence.get(topic).unwrap_or(&nothing));
            if !one.is_same(other, bindings) {
                expected.extend(one.told(topic));
                received.extend(other.told(topic));
            }
        }
        let received: Vec<_> = received.iter().map(|value| bindings.named(value)).collect();
        (!expected.is_empty() || !received.is_empty()).then_some((expected, received))
    }
}

impl Presence {
    fn read(value: &Value) -> Result<Self, String> {
        let value = Object::new(value, "it")?;
        let known = |name: &str| matches!(name, "joins" | "leaves" | "state" | "list");
        if let Some((name, _)) = value.members().find(|(name, _)| !known(name)) {
            return Err(format!("{name} is unknown"));
        }
        let list = match value.has("list") {
            true => Some(Metas::read(&value, "list")?),
            false => None,
        };
        Ok(Self {
            joins: Metas::read(&value, "joins")?,
            leaves: Metas::read(&value, "leaves")?,
            state: value.flag("state")?,
            list,
        })
    }

    /// Adds a diff to what came before it in the step.
    ///
    /// What joined in the step and leaves in it again was not there before and is not after: the
    /// recordings have neither. (When a netsplit heals, the reference first tells the joins of what it
    /// last knew of the other side, then the leaves of what has gone meanwhile.) What leaves and joins
    /// again is told as both.
    pub(super) fn fold(&mut self, joins: &Metas, leaves: &Metas) {
        for (key, meta) in joins.each() {
            self.joins.insert(key, meta);
        }
        for (key, meta) in leaves.each() {
            if !self.joins.remove(&key, &meta) {
                self.leaves.insert(key, meta);
            }
        }
    }

    /// Whether no client could tell it from nothing.
    pub(super) fn is_nothing(&self) -> bool {
        !self.state && self.joins.is_empty() && self.leaves.is_empty()
    }

    fn is_same(&self, came: &Self, bindings: &mut Bindings) -> bool {
        let list = match (&self.list, &came.list) {
            (Some(list), Some(came)) => Some((list, came)),
            _ => None,
        };
        self.state == came.state
            && self.joins.is_same(&came.joins, bindings)
            && self.leaves.is_same(&came.leaves, bindings)
            && list.is_none_or(|(list, came)| list.is_same(came, bindings))
    }

    /// It as a value to show, if it is something.
    fn told(&self, topic: &str) -> Option<Value> {
        let mut told = json!({
            "presence": topic,
            "joins": self.joins.to_json(),
            "leaves": self.leaves.to_json(),
        });
        if self.state {
            told["state"] = true.into();
        }
        if let Some(list) = &self.list {
            told["list"] = list.to_json();
        }
        (!self.is_nothing() || self.list.is_some()).then_some(told)
    }
}

impl Metas {
    /// A member of an object with arrays of metas by key; none where there is no such member.
    fn read(object: &Object, name: &str) -> Result<Self, String> {
        if !object.has(name) {
            return Ok(Self::default());
        }
        let mut metas = BTreeMap::new();
        for (key, value) in object.object(name)?.members() {
            let value = value.as_array().cloned();
            let value = value.ok_or_else(|| format!("{name}[{key:?}] must be an array"))?;
            metas.insert(key.clone(), value);
        }
        Ok(Self(metas))
    }

    /// From the presences by key of a message to a client, which hold their metas in `metas`.
    pub(super) fn of_presences(presences: &Value) -> Self {
        let metas = |presence: &Value| presence["metas"].as_array().cloned();
        let presences = presences.as_object().into_iter().flatten();
        let by_key =
            presences.map(|(key, presence)| (key.clone(), metas(presence).unwrap_or_default()));
        Self(by_key.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every meta with its key.
    pub(super) fn each(&self) -> impl Iterator<Item = (String, Value)> {
        let each = |(key, metas): (&String, &Vec<Value>)| {
            let key = key.clone();
            metas
                .clone()
                .into_iter()
                .map(move |meta| (key.clone(), meta))
        };
        self.0.iter().flat_map(each)
    }

    /// The refs of all metas.
    pub(super) fn refs(&self) -> impl Iterator<Item = &str> {
        self.0.values().flatten().filter_map(ref_of)
    }

    pub(super) fn insert(&mut self, key: String, meta: Value) {
        let metas = self.0.entry(key).or_default();
        if !metas.contains(&meta) {
            metas.push(meta);
        }
    }

    /// Takes out the meta with the same ref; whether there was one.
    fn remove(&mut self, key: &str, meta: &Value) -> bool {
        let (Some(metas), Some(phx_ref)) = (self.0.get_mut(key), ref_of(meta)) else {
            return false;
        };
        let Some(at) = metas.iter().position(|meta| ref_of(meta) == Some(phx_ref)) else {
            return false;
        };
        metas.remove(at);
        if metas.is_empty() {
            self.0.remove(key);
        }
        true
    }

    /// Takes out all metas with one of these refs.
    pub(super) fn remove_refs(&mut self, refs: &BTreeSet<String>) {
        self.0.retain(|_, metas| {
            metas.retain(|meta| !ref_of(meta).is_some_and(|phx_ref| refs.contains(phx_ref)));
            !metas.is_empty()
        });
    }

    fn is_same(&self, came: &Self, bindings: &mut Bindings) -> bool {
        self.0.len() == came.0.len()
            && self.0.iter().all(|(key, metas)| {
                let came = came.0.get(key);
                came.is_some_and(|came| bindings.set(metas, came))
            })
    }

    fn to_json(&self) -> Value {
        let by_key = self.0.iter();
        let by_key: Map<_, _> = by_key
            .map(|(key, metas)| (key.clone(), metas.clone().into()))
            .collect();
        by_key.into()
    }
}

/// The ref of a meta.
pub(super) fn ref_of(meta: &Value) -> Option<&str> {
    meta.get("phx_ref")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metas(value: &Value) -> Metas {
        let object = Object::new(&json!({ "metas": value }), "it").unwrap();
        Metas::read(&object, "metas").unwrap()
    }

    fn folded(diffs: &[(&Value, &Value)]) -> Presence {
        let mut presence = Presence::default();
        for (joins, leaves) in diffs {
            presence.fold(&metas(joins), &metas(leaves));
        }
        presence
    }

    #[test]
    fn what_joins_and_leaves_in_one_step_is_not_told() {
        let [one, two] = ["1", "2"].map(|phx_ref| json!({"k": [{"phx_ref": phx_ref}]}));
        let none = json!({});
        let presence = folded(&[(&one, &none), (&two, &one)]);
        assert_eq!(presence.joins, metas(&two));
        assert!(presence.leaves.is_empty());
        assert!(folded(&[(&one, &none), (&none, &one)]).is_nothing());
    }

    #[test]
    fn what_leaves_and_joins_again_is_told_as_both() {
        let (one, none) = (json!({"k": [{"phx_ref": "1"}]}), json!({}));
        let presence = folded(&[(&none, &one), (&one, &none)]);
        assert_eq!(presence.joins, metas(&one));
        assert_eq!(presence.leaves, metas(&one));
    }

    #[test]
    fn metas_of_a_key_compare_as_sets_and_keys_must_be_the_same() {
        let mut bindings = Bindings::default();
        let meta = |n: u8, phx_ref: &str| json!({"n": n, "phx_ref": phx_ref});
        let expected = metas(&json!({"k": [meta(1, "$ref:1"), meta(2, "$ref:2")]}));
        let mut is_same = |came: Value| expected.is_same(&metas(&came), &mut bindings);
        assert!(is_same(json!({"k": [meta(2, "y"), meta(1, "x")]})));
        assert!(!is_same(json!({"k": [meta(2, "x"), meta(1, "y")]})));
        assert!(!is_same(json!({"k": [meta(2, "y")]})));
        assert!(!is_same(
            json!({"k": [meta(2, "y"), meta(1, "x")], "l": []})
        ));
    }

    #[test]
    fn what_is_not_of_the_format_is_named() {
        let of = |value: Value| Received::read(&value, "a").unwrap_err();
        assert_eq!(of(json!([])), "then.a must be an object");
        assert_eq!(of(json!({"frame": []})), "then.a.frame is unknown");
        assert_eq!(of(json!({"frames": {}})), "then.a.frames must be an array");
        assert_eq!(
            of(json!({"presence": {"t": {"joins": {"k": 1}}}})),
            "then.a.presence[\"t\"]: joins[\"k\"] must be an array"
        );
        assert_eq!(
            of(json!({"presence": {"t": {"state": "yes"}}})),
            "then.a.presence[\"t\"]: state must be true or false"
        );
    }
}
