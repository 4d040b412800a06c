//! Comparing what came with what was recorded, placeholders included.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::json;

/// What the placeholders of one recording stand for so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bindings {
    /// Presence refs by their number.
    refs: BTreeMap<String, String>,
    /// The long-poll session token last received.
    pub(crate) token: Option<String>,
}

impl Bindings {
    /// Whether the frames of one client are those recorded; the bindings grow only if so.
    pub(crate) fn frames(
        &mut self,
        expected: &[Value],
        received: &[Value],
        unordered: bool,
    ) -> bool {
        let mut bindings = self.clone();
        let same = if unordered {
            bindings.in_any_order(expected, received, true)
        } else {
            bindings.in_order(expected, received, false)
        };
        if same {
            *self = bindings;
        }
        same
    }

    /// Whether the elements are the same in any order; the bindings grow only if so.
    pub(crate) fn set(&mut self, expected: &[Value], received: &[Value]) -> bool {
        expected.len() == received.len() && self.in_any_order(expected, received, false)
    }

    /// A value that came, with the placeholders of those refs that stand for something so far.
    pub(crate) fn named(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => match self.name_of(text) {
                Some(name) => name.into(),
                None => value.clone(),
            },
            Value::Array(elements) => elements.iter().map(|element| self.named(element)).collect(),
            Value::Object(members) => {
                let named = |(key, value): (&String, &Value)| (key.clone(), self.named(value));
                Value::Object(members.iter().map(named).collect())
            }
            _ => value.clone(),
        }
    }

    /// The placeholder of a ref that came.
    pub(crate) fn name_of(&self, phx_ref: &str) -> Option<&str> {
        let known = self.refs.iter().find(|(_, known)| *known == phx_ref);
        known.map(|(name, _)| name.as_str())
    }

    fn in_order(&mut self, expected: &[Value], received: &[Value], unordered: bool) -> bool {
        expected.len() == received.len()
            && expected
                .iter()
                .zip(received)
                .all(|(expected, received)| self.value(expected, received, unordered))
    }

    /// Tries each of the received for the first of the expected, and so on.
    fn in_any_order(&mut self, expected: &[Value], received: &[Value], unordered: bool) -> bool {
        let Some((first, rest)) = expected.split_first() else {
            return received.is_empty();
        };
        for at in 0..received.len() {
            let mut bindings = self.clone();
            if !bindings.value(first, &received[at], unordered) {
                continue;
            }
            let others = [&received[..at], &received[at + 1..]].concat();
            if bindings.in_any_order(rest, &others, unordered) {
                *self = bindings;
                return true;
            }
        }
        false
    }

    fn value(&mut self, expected: &Value, received: &Value, unordered: bool) -> bool {
        match (expected, received) {
            (Value::String(text), _) if text.starts_with('$') => self.placeholder(text, received),
            (Value::Array(expected), Value::Array(received)) => {
                self.in_order(expected, received, unordered)
            }
            (Value::Object(expected), Value::Object(received)) => {
                expected.len() == received.len()
                    && expected.iter().all(|(key, expected)| {
                        let Some(received) = received.get(key) else {
                            return false;
                        };
                        match (expected, received) {
                            (Value::Array(expected), Value::Array(received))
                                if unordered && key == "messages" =>
                            {
                                self.in_any_order(expected, received, unordered)
                            }
                            _ => self.value(expected, received, unordered),
                        }
                    })
            }
            _ => json::same(expected, received),
        }
    }

    fn placeholder(&mut self, name: &str, received: &Value) -> bool {
        let Some(text) = received.as_str() else {
            return false;
        };
        match name {
            "$unix" => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
            "$token" => {
                self.token = Some(text.to_owned());
                !text.is_empty()
            }
            _ if name.starts_with("$ref:") => match self.refs.get(name) {
                Some(known) => known == text,
                None => {
                    let is_new = !text.is_empty() && !self.refs.values().any(|other| other == text);
                    if is_new {
                        self.refs.insert(name.to_owned(), text.to_owned());
                    }
                    is_new
                }
            },
            _ => name == text,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn same(bindings: &mut Bindings, expected: Value, received: Value, unordered: bool) -> bool {
        let list = |value: Value| value.as_array().cloned().unwrap_or_default();
        bindings.frames(&list(expected), &list(received), unordered)
    }

    #[test]
    fn a_ref_is_the_same_for_the_same_number_and_another_for_another() {
        let mut bindings = Bindings::default();
        assert!(same(
            &mut bindings,
            json!(["$ref:1", "$ref:2"]),
            json!(["x", "y"]),
            false
        ));
        assert!(same(&mut bindings, json!(["$ref:1"]), json!(["x"]), false));
        assert!(!same(&mut bindings, json!(["$ref:1"]), json!(["y"]), false));
        assert!(!same(&mut bindings, json!(["$ref:3"]), json!(["x"]), false));
        assert!(!same(&mut bindings, json!(["$ref:3"]), json!([""]), false));
        assert!(!same(&mut bindings, json!(["$ref:3"]), json!([1]), false));
    }

    #[test]
    fn what_fails_binds_nothing() {
        let mut bindings = Bindings::default();
        assert!(!same(
            &mut bindings,
            json!(["$ref:1", 1]),
            json!(["x", 2]),
            false
        ));
        assert!(same(&mut bindings, json!(["$ref:1"]), json!(["y"]), false));
    }

    #[test]
    fn frames_of_an_unordered_client_come_in_any_order_each_once() {
        let mut bindings = Bindings::default();
        assert!(!same(&mut bindings, json!([1, 2]), json!([2, 1]), false));
        assert!(same(&mut bindings, json!([1, 2]), json!([2, 1]), true));
        assert!(!same(&mut bindings, json!([1, 2]), json!([2, 2]), true));
        assert!(!same(&mut bindings, json!([1]), json!([1, 1]), true));
        let refs = json!([{"a": "$ref:1", "n": 1}, {"a": "$ref:1", "n": 2}]);
        let received = json!([{"a": "r", "n": 2}, {"a": "r", "n": 1}]);
        assert!(same(&mut bindings, refs, received, true));
    }

    #[test]
    fn what_a_ref_stands_for_is_shown_by_its_name() {
        let mut bindings = Bindings::default();
        assert!(same(&mut bindings, json!(["$ref:1"]), json!(["x"]), false));
        let named = bindings.named(&json!({"a": ["x", "y", 1]}));
        assert_eq!(named, json!({"a": ["$ref:1", "y", 1]}));
    }

    #[test]
    fn a_unix_time_is_digits_and_a_token_is_remembered() {
        let mut bindings = Bindings::default();
        assert!(same(&mut bindings, json!(["$unix"]), json!(["17"]), false));
        assert!(!same(
            &mut bindings,
            json!(["$unix"]),
            json!(["17x"]),
            false
        ));
        assert!(!same(&mut bindings, json!(["$unix"]), json!([17]), false));
        assert!(same(
            &mut bindings,
            json!([{"token": "$token"}]),
            json!([{"token": "t"}]),
            false
        ));
        assert_eq!(bindings.token.as_deref(), Some("t"));
    }

    #[test]
    fn members_missing_or_beside_those_expected_differ() {
        let mut bindings = Bindings::default();
        assert!(!same(
            &mut bindings,
            json!([{"a": 1}]),
            json!([{"a": 1, "b": 2}]),
            false
        ));
        assert!(!same(
            &mut bindings,
            json!([{"a": 1, "b": 2}]),
            json!([{"a": 1}]),
            false
        ));
        assert!(same(
            &mut bindings,
            json!([{"messages": [1, 2]}]),
            json!([{"messages": [2, 1]}]),
            true
        ));
        assert!(!same(
            &mut bindings,
            json!([{"metas": [1, 2]}]),
            json!([{"metas": [2, 1]}]),
            true
        ));
    }
}
