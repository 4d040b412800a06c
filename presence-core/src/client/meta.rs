//! One meta, verbatim, and the identity that its `phx_ref` gives it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// From how many metas on a sorted set of refs is quicker than looking at each.
const SORT_FROM: usize = 16;

/// One meta of a presence, exactly as it came over the wire.
///
/// A handle: clones share the JSON text. Two metas are equal when their texts are.
#[derive(Clone)]
pub struct Meta(Arc<Inner>);

struct Inner {
    json: Box<RawValue>,
    /// `None` for an object or array, which in JavaScript is identical to no other.
    phx_ref: Option<Ref>,
}

/// A `phx_ref` as JavaScript's strict equality sees it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ref {
    /// The meta has no `phx_ref`, or is no object. All such metas have the same ref.
    Undefined,
    Null,
    Bool(bool),
    /// The bits of the double, zero without its sign.
    Number(u64),
    Text(Box<str>),
}

impl Ref {
    pub(super) fn number(value: f64) -> Self {
        if value == 0.0 {
            Self::Number(0)
        } else if value.is_finite() {
            Self::Number(value.to_bits())
        } else {
            // JSON cannot say infinity: phoenix.js clones by JSON and is left with null.
            Self::Null
        }
    }
}

impl Meta {
    pub(super) fn new(json: Box<RawValue>, phx_ref: Option<Ref>) -> Self {
        Self(Arc::new(Inner { json, phx_ref }))
    }

    /// The meta's JSON text, unchanged.
    #[must_use]
    pub fn json(&self) -> &RawValue {
        &self.0.json
    }

    /// The meta's `phx_ref`, where that is a string, as every Phoenix server sends it.
    #[must_use]
    pub fn phx_ref(&self) -> Option<&str> {
        match &self.0.phx_ref {
            Some(Ref::Text(text)) => Some(text),
            _ => None,
        }
    }
}

impl PartialEq for Meta {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.json().get() == other.json().get()
    }
}

impl Eq for Meta {}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json().get())
    }
}

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json().serialize(serializer)
    }
}

/// Those of `metas` whose ref none of `others` has, in order.
///
/// The one comparison that phoenix.js `Presence` makes:
/// `metas.filter(m => refs.indexOf(m.phx_ref) < 0)`. Costs O((m + o) log o), not their product.
pub(super) fn without(metas: &[Meta], others: &[Meta]) -> Vec<Meta> {
    let sorted: Option<BTreeSet<&Ref>> =
        (others.len() >= SORT_FROM).then(|| refs_of(others).collect());
    let is_among = |wanted: &Ref| match &sorted {
        Some(sorted) => sorted.contains(wanted),
        None => refs_of(others).any(|held| held == wanted),
    };
    metas
        .iter()
        .filter(|meta| !meta.0.phx_ref.as_ref().is_some_and(is_among))
        .cloned()
        .collect()
}

fn refs_of(metas: &[Meta]) -> impl Iterator<Item = &Ref> {
    metas.iter().filter_map(|meta| meta.0.phx_ref.as_ref())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::parse;
    use super::*;

    fn metas(texts: &[&str]) -> Vec<Meta> {
        texts
            .iter()
            .map(|text| parse::meta(serde_json::from_str(text).unwrap()).unwrap())
            .collect()
    }

    fn kept(texts: &[&str], others: &[&str]) -> Vec<String> {
        without(&metas(texts), &metas(others))
            .iter()
            .map(|meta| meta.json().get().to_owned())
            .collect()
    }

    const A: &str = r#"{"phx_ref":"a"}"#;
    const B: &str = r#"{"phx_ref":"b"}"#;
    const BARE: &str = r#"{"v":1}"#;

    #[test]
    fn a_meta_goes_when_another_has_its_ref_whatever_else_it_says() {
        assert_eq!(kept(&[A, B], &[r#"{"v":7,"phx_ref":"a"}"#]), [B]);
        assert_eq!(kept(&[A, B], &[]), [A, B]);
        assert_eq!(kept(&[A, B, A], &[A]), [B]);
    }

    #[test]
    fn metas_without_a_ref_all_have_the_same_one() {
        assert_eq!(kept(&[BARE, A, "5", r#""text""#, "[1]"], &["{}"]), [A]);
        assert_eq!(kept(&[BARE, A], &[A]), [BARE]);
    }

    #[test]
    fn a_null_ref_is_not_a_missing_one() {
        let null = r#"{"phx_ref":null}"#;
        assert_eq!(kept(&[null, BARE], &[BARE]), [null]);
        assert_eq!(kept(&[null, BARE], &[null]), [BARE]);
    }

    #[test]
    fn refs_compare_by_type_and_numbers_by_value() {
        let one = r#"{"phx_ref":1}"#;
        let zero = r#"{"phx_ref":0}"#;
        let yes = r#"{"phx_ref":true}"#;
        let no = r#"{"phx_ref":false}"#;
        let all = [one, zero, yes, no];
        assert_eq!(kept(&all, &[r#"{"phx_ref":1.0e0}"#]), [zero, yes, no]);
        assert_eq!(kept(&all, &[r#"{"phx_ref":-0.0}"#]), [one, yes, no]);
        assert_eq!(kept(&all, &[r#"{"phx_ref":"1"}"#]), all);
        assert_eq!(kept(&all, &[yes]), [one, zero, no]);
        let huge = r#"{"phx_ref":1e999}"#;
        assert_eq!(kept(&all, &[huge]), all);
        assert!(kept(&[huge], &[r#"{"phx_ref":null}"#]).is_empty());
    }

    #[test]
    fn a_ref_that_is_an_object_or_array_equals_none_not_even_itself() {
        let object = r#"{"phx_ref":{}}"#;
        let array = r#"{"phx_ref":[]}"#;
        assert_eq!(kept(&[object, array], &[object, array]), [object, array]);
    }

    #[test]
    fn of_repeated_phx_refs_in_one_meta_the_last_counts() {
        let twice = r#"{"phx_ref":"a","phx_ref":"b"}"#;
        assert_eq!(kept(&[twice], &[A]), [twice]);
        assert!(kept(&[twice], &[B]).is_empty());
    }

    #[test]
    fn a_ref_is_compared_unescaped_and_the_text_stays_verbatim() {
        let escaped = r#"{ "phx_\u0072ef" : "\u0061", "n": 1.50 }"#;
        assert!(kept(&[escaped], &[A]).is_empty());
        assert_eq!(kept(&[escaped], &[B]), [escaped]);
        assert_eq!(metas(&[escaped])[0].phx_ref(), Some("a"));
        assert_eq!(metas(&[BARE])[0].phx_ref(), None);
    }

    proptest! {
        #[test]
        fn many_metas_compare_as_few_do(
            metas_of in prop::collection::vec(0u32..60, 0..50),
            others_of in prop::collection::vec(0u32..60, 0..50),
        ) {
            let text = |n: &u32| match n {
                0 => "{}".to_owned(),
                1 => r#"{"phx_ref":[]}"#.to_owned(),
                n => format!(r#"{{"phx_ref":"{n}"}}"#),
            };
            let metas_text: Vec<String> = metas_of.iter().map(text).collect();
            let others_text: Vec<String> = others_of.iter().map(text).collect();
            let expected: Vec<String> = metas_of
                .iter()
                .filter(|n| **n == 1 || !others_of.contains(n))
                .map(text)
                .collect();
            prop_assert_eq!(
                kept(
                    &metas_text.iter().map(String::as_str).collect::<Vec<_>>(),
                    &others_text.iter().map(String::as_str).collect::<Vec<_>>(),
                ),
                expected
            );
        }
    }
}
