//! How a state or a diff changes the list: the static functions of phoenix.js `Presence`.

use std::sync::Arc;

use super::Event;
use super::meta;
use super::presences::{Presence, Presences};

/// The presences that joined and those that left, as a `presence_diff` brings them.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    joins: Presences,
    leaves: Presences,
}

impl Diff {
    pub(super) fn new(joins: Presences, leaves: Presences) -> Self {
        Self { joins, leaves }
    }

    /// What joined: by key, only the metas that are new.
    #[must_use]
    pub fn joins(&self) -> &Presences {
        &self.joins
    }

    /// What left: by key, only the metas that are gone.
    #[must_use]
    pub fn leaves(&self) -> &Presences {
        &self.leaves
    }

    /// The sum of [`Presences::size`] of both sides.
    #[must_use]
    pub fn size(&self) -> usize {
        self.joins.size().saturating_add(self.leaves.size())
    }
}

/// Changes `state` into what the server says it is, and reports how they differ.
///
/// The difference of the two is taken as a [`Diff`] and then applied as [`sync_diff`] does it: all
/// joins, then all leaves. A key's fields are replaced only if one of its metas joins. Costs
/// O((n + m) log(n + m)) for n keys and metas held and m told. As `Presence.syncState` of phoenix.js,
/// except that it changes `state` in place.
pub fn sync_state(state: &mut Presences, new: &Presences, on_event: impl FnMut(Event)) {
    let mut joins = Presences::default();
    let mut leaves = Presences::default();
    for (key, current) in state.entries() {
        if new.get(key).is_none() {
            leaves.insert(Arc::clone(key), current.clone());
        }
    }
    for (key, told) in new.entries() {
        let Some(current) = state.get(key) else {
            joins.insert(Arc::clone(key), told.clone());
            continue;
        };
        let joined = meta::without(told.metas(), current.metas());
        if !joined.is_empty() {
            joins.insert(Arc::clone(key), told.with_metas(joined));
        }
        let left = meta::without(current.metas(), told.metas());
        if !left.is_empty() {
            leaves.insert(Arc::clone(key), current.with_metas(left));
        }
    }
    sync_diff(state, &Diff { joins, leaves }, on_event);
}

/// Applies one diff to `state` and reports each key that joined, then each that left.
///
/// - A join appends its metas to those that the key has with other refs, and replaces its fields.
/// - A leave takes out the metas with its refs. It is reported even if there were none; a key that
///   then has no meta is removed. A leave of a key that is not there is not reported.
///
/// Reports only [`Event::Join`] and [`Event::Leave`], in the order of the diff's keys. Costs O(log n)
/// for each key in the diff, and O(m log m) for its metas and those that `state` holds of that key;
/// other keys are not touched. As `Presence.syncDiff` of phoenix.js.
pub fn sync_diff(state: &mut Presences, diff: &Diff, mut on_event: impl FnMut(Event)) {
    for (key, joined) in diff.joins.entries() {
        let current = state.get(key).cloned();
        let next = match &current {
            Some(current) => {
                let mut metas = meta::without(current.metas(), joined.metas());
                metas.extend_from_slice(joined.metas());
                joined.with_metas(metas)
            }
            None => joined.clone(),
        };
        state.insert(Arc::clone(key), next);
        on_event(Event::Join {
            key: Arc::clone(key),
            current,
            joined: joined.clone(),
        });
    }
    for (key, left) in diff.leaves.entries() {
        let Some(before) = state.get(key) else {
            continue;
        };
        let current = before.with_metas(meta::without(before.metas(), left.metas()));
        if current.metas().is_empty() {
            state.remove(key);
        } else {
            state.insert(Arc::clone(key), current.clone());
        }
        on_event(Event::Leave {
            key: Arc::clone(key),
            current,
            left: left.clone(),
        });
    }
}

/// What `chooser` makes of each key and its presence, in the order of the keys.
///
/// As `Presence.list` of phoenix.js.
#[must_use]
pub fn list<T>(presences: &Presences, mut chooser: impl FnMut(&str, &Presence) -> T) -> Vec<T> {
    presences
        .iter()
        .map(|(key, presence)| chooser(key, presence))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presences(json: &str) -> Presences {
        Presences::parse(json).unwrap()
    }

    fn json(value: &impl serde::Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    /// `+ key current joined` and `- key current left`.
    fn shown(event: &Event) -> String {
        match event {
            Event::Join {
                key,
                current,
                joined,
            } => format!("+ {key} {} {}", json(current), json(joined)),
            Event::Leave { key, current, left } => {
                format!("- {key} {} {}", json(current), json(left))
            }
            Event::Sync => "sync".to_owned(),
        }
    }

    fn after_state(before: &str, payload: &str) -> (String, Vec<String>) {
        let mut state = presences(before);
        let mut events = Vec::new();
        sync_state(&mut state, &presences(payload), |event| {
            events.push(shown(&event));
        });
        (json(&state), events)
    }

    fn after_diff(before: &str, joins: &str, leaves: &str) -> (String, Vec<String>) {
        let mut state = presences(before);
        let diff = Diff::parse(&format!(r#"{{"joins":{joins},"leaves":{leaves}}}"#)).unwrap();
        let mut events = Vec::new();
        sync_diff(&mut state, &diff, |event| events.push(shown(&event)));
        (json(&state), events)
    }

    const A1: &str = r#"{"a":{"metas":[{"phx_ref":"1"}]}}"#;

    #[test]
    fn a_join_of_a_new_key_has_no_current_presence() {
        let (state, events) = after_diff("{}", A1, "{}");
        assert_eq!(state, A1);
        assert_eq!(events, [r#"+ a null {"metas":[{"phx_ref":"1"}]}"#]);
    }

    #[test]
    fn a_join_appends_its_metas_and_reports_only_those() {
        let (state, events) = after_diff(A1, r#"{"a":{"metas":[{"phx_ref":"2"}]}}"#, "{}");
        assert_eq!(
            state,
            r#"{"a":{"metas":[{"phx_ref":"1"},{"phx_ref":"2"}]}}"#
        );
        assert_eq!(
            events,
            [r#"+ a {"metas":[{"phx_ref":"1"}]} {"metas":[{"phx_ref":"2"}]}"#]
        );
    }

    #[test]
    fn a_join_of_a_ref_that_is_there_moves_it_to_the_end() {
        let (state, events) = after_diff(
            r#"{"a":{"metas":[{"phx_ref":"1"},{"phx_ref":"2"}]}}"#,
            r#"{"a":{"metas":[{"phx_ref":"1","v":1}]}}"#,
            "{}",
        );
        assert_eq!(
            state,
            r#"{"a":{"metas":[{"phx_ref":"2"},{"phx_ref":"1","v":1}]}}"#
        );
        assert_eq!(events.len(), 1);
    }

    #[test]
    fn a_join_replaces_the_fields_and_a_leave_keeps_them() {
        let held = r#"{"a":{"metas":[{"phx_ref":"1"}],"old":1}}"#;
        let (state, events) = after_diff(
            held,
            r#"{"a":{"metas":[{"phx_ref":"2"}],"user":2}}"#,
            r#"{"a":{"metas":[{"phx_ref":"1"}],"user":3}}"#,
        );
        assert_eq!(state, r#"{"a":{"metas":[{"phx_ref":"2"}],"user":2}}"#);
        assert_eq!(
            events,
            [
                r#"+ a {"metas":[{"phx_ref":"1"}],"old":1} {"metas":[{"phx_ref":"2"}],"user":2}"#,
                r#"- a {"metas":[{"phx_ref":"2"}],"user":2} {"metas":[{"phx_ref":"1"}],"user":3}"#
            ]
        );
    }

    #[test]
    fn a_leave_of_the_last_meta_removes_the_key_and_shows_it_empty() {
        let (state, events) = after_diff(A1, "{}", A1);
        assert_eq!(state, "{}");
        assert_eq!(events, [r#"- a {"metas":[]} {"metas":[{"phx_ref":"1"}]}"#]);
    }

    #[test]
    fn a_leave_of_an_unknown_key_is_not_reported() {
        let (state, events) = after_diff(A1, "{}", r#"{"b":{"metas":[{"phx_ref":"1"}]}}"#);
        assert_eq!((state.as_str(), events.len()), (A1, 0));
    }

    #[test]
    fn a_leave_of_unknown_refs_is_reported_and_changes_nothing() {
        let (state, events) = after_diff(A1, "{}", r#"{"a":{"metas":[{"phx_ref":"9"}]}}"#);
        assert_eq!(state, A1);
        assert_eq!(
            events,
            [r#"- a {"metas":[{"phx_ref":"1"}]} {"metas":[{"phx_ref":"9"}]}"#]
        );
    }

    #[test]
    fn joins_come_before_leaves_each_in_the_order_of_keys() {
        let (state, events) = after_diff(
            A1,
            r#"{"b":{"metas":[{"phx_ref":"2"}]},"3":{"metas":[{"phx_ref":"3"}]}}"#,
            r#"{"b":{"metas":[{"phx_ref":"2"}]},"a":{"metas":[{"phx_ref":"1"}]}}"#,
        );
        assert_eq!(state, r#"{"3":{"metas":[{"phx_ref":"3"}]}}"#);
        let order: Vec<&str> = events.iter().map(|event| &event[..3]).collect();
        assert_eq!(order, ["+ 3", "+ b", "- b", "- a"]);
    }

    #[test]
    fn a_presence_with_no_metas_joins_and_goes_with_its_first_leave() {
        let empty = r#"{"a":{"metas":[]}}"#;
        let (state, events) = after_diff("{}", empty, "{}");
        assert_eq!((state.as_str(), events.len()), (empty, 1));
        let (state, events) = after_diff(empty, "{}", r#"{"a":{"metas":[]}}"#);
        assert_eq!(state, "{}");
        assert_eq!(events, [r#"- a {"metas":[]} {"metas":[]}"#]);
    }

    #[test]
    fn metas_without_a_ref_replace_each_other_and_leave_together() {
        let bare = r#"{"a":{"metas":[{"v":1},{"phx_ref":"1"},{"v":2}]}}"#;
        let (state, _) = after_diff(bare, r#"{"a":{"metas":[{"v":3}]}}"#, "{}");
        assert_eq!(state, r#"{"a":{"metas":[{"phx_ref":"1"},{"v":3}]}}"#);
        let (state, _) = after_diff(bare, "{}", r#"{"a":{"metas":[{}]}}"#);
        assert_eq!(state, A1);
        let (state, events) = after_state(bare, r#"{"a":{"metas":[{"v":4},{"phx_ref":"1"}]}}"#);
        assert_eq!((state.as_str(), events.len()), (bare, 0));
    }

    #[test]
    fn a_repeated_ref_joins_twice_and_leaves_at_once() {
        let twice = r#"{"a":{"metas":[{"phx_ref":"1","v":1},{"phx_ref":"1","v":2}]}}"#;
        let (state, _) = after_diff("{}", twice, "{}");
        assert_eq!(state, twice);
        let (state, _) = after_diff(twice, "{}", A1);
        assert_eq!(state, "{}");
    }

    #[test]
    fn a_state_joins_what_is_new_and_drops_what_it_does_not_name() {
        let (state, events) = after_state(
            r#"{"b":{"metas":[{"phx_ref":"2"}]},"a":{"metas":[{"phx_ref":"1"}]}}"#,
            r#"{"c":{"metas":[{"phx_ref":"3"}]},"a":{"metas":[{"phx_ref":"1"}]}}"#,
        );
        assert_eq!(
            state,
            r#"{"a":{"metas":[{"phx_ref":"1"}]},"c":{"metas":[{"phx_ref":"3"}]}}"#
        );
        assert_eq!(
            events,
            [
                r#"+ c null {"metas":[{"phx_ref":"3"}]}"#,
                r#"- b {"metas":[]} {"metas":[{"phx_ref":"2"}]}"#
            ]
        );
    }

    #[test]
    fn a_state_reports_only_the_metas_that_differ() {
        let (state, events) = after_state(
            r#"{"a":{"metas":[{"phx_ref":"1"},{"phx_ref":"2"}],"old":1}}"#,
            r#"{"a":{"metas":[{"phx_ref":"3"},{"phx_ref":"2"}],"user":2}}"#,
        );
        assert_eq!(
            state,
            r#"{"a":{"metas":[{"phx_ref":"2"},{"phx_ref":"3"}],"user":2}}"#
        );
        assert_eq!(
            events,
            [
                r#"+ a {"metas":[{"phx_ref":"1"},{"phx_ref":"2"}],"old":1} {"metas":[{"phx_ref":"3"}],"user":2}"#,
                r#"- a {"metas":[{"phx_ref":"2"},{"phx_ref":"3"}],"user":2} {"metas":[{"phx_ref":"1"}],"old":1}"#
            ]
        );
    }

    #[test]
    fn a_state_in_which_no_meta_joins_keeps_the_fields_held() {
        let (state, events) = after_state(
            r#"{"a":{"metas":[{"phx_ref":"1"},{"phx_ref":"2"}],"old":1}}"#,
            r#"{"a":{"metas":[{"phx_ref":"2","v":9}],"user":2}}"#,
        );
        assert_eq!(state, r#"{"a":{"metas":[{"phx_ref":"2"}],"old":1}}"#);
        assert_eq!(events.len(), 1);
    }

    #[test]
    fn a_presence_that_a_state_empties_is_removed() {
        let (state, events) = after_state(A1, r#"{"a":{"metas":[]}}"#);
        assert_eq!(state, "{}");
        assert_eq!(events, [r#"- a {"metas":[]} {"metas":[{"phx_ref":"1"}]}"#]);
        let empty = r#"{"a":{"metas":[]}}"#;
        assert_eq!(after_state(empty, empty), (empty.to_owned(), vec![]));
    }

    #[test]
    fn keys_of_the_prototype_are_keys_like_any_other() {
        let odd = r#"{"__proto__":{"metas":[{"phx_ref":"1"}]},"constructor":{"metas":[{"phx_ref":"2"}]}}"#;
        let (state, events) = after_state("{}", odd);
        assert_eq!((state.as_str(), events.len()), (odd, 2));
        let (state, events) = after_diff(&state, "{}", odd);
        assert_eq!((state.as_str(), events.len()), ("{}", 2));
    }

    #[test]
    fn a_diff_shares_what_it_does_not_change() {
        let mut state = presences(
            r#"{"a":{"metas":[{"phx_ref":"1"}],"user":1},"b":{"metas":[{"phx_ref":"2"}]}}"#,
        );
        let before = state.clone();
        let diff =
            Diff::parse(r#"{"joins":{"b":{"metas":[{"phx_ref":"3"}]}},"leaves":{}}"#).unwrap();
        sync_diff(&mut state, &diff, drop);
        let metas = |list: &Presences, key| list.get(key).unwrap().metas().as_ptr();
        assert_eq!(metas(&state, "a"), metas(&before, "a"));
        let text = |list: &Presences| list.get("b").unwrap().metas()[0].json().get().as_ptr();
        assert_eq!(text(&state), text(&before));
    }

    #[test]
    fn list_gives_the_chooser_each_key_with_its_presence() {
        let state = presences(r#"{"b":{"metas":[1,2]},"1":{"metas":[3]}}"#);
        let counts = list(&state, |key, presence| {
            (key.to_owned(), presence.metas().len())
        });
        assert_eq!(counts, [("1".to_owned(), 1), ("b".to_owned(), 2)]);
    }
}
