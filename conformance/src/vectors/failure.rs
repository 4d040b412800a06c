//! How what was received differs from what was recorded.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use crate::json;

/// The first step of a case that differs from what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The number of the step, or of the case in a file of several, from 1.
    pub number: usize,
    /// The case's name, in a file of several.
    pub case: Option<String>,
    /// What the step does.
    pub doing: String,
    /// What was expected and what was received.
    pub differences: Vec<Difference>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.case {
            Some(case) => write!(f, "case {} {case:?}: {}", self.number, self.doing),
            None => write!(f, "step {}: {}", self.number, self.doing),
        }
    }
}

/// One way in which a step differs from what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// A member of a set was expected and did not come.
    Missing {
        /// Which set.
        what: &'static str,
        /// The member.
        value: String,
    },
    /// A member of a set came that was not expected, or once more than expected.
    Unexpected {
        /// Which set.
        what: &'static str,
        /// The member.
        value: String,
    },
    /// A value is another one.
    Changed {
        /// Which value.
        what: String,
        /// What was expected.
        expected: String,
        /// What was received.
        received: String,
    },
    /// The code under test refused the step, or panicked.
    Refused(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { what, value } => {
                write!(f, "{what}: expected, not received: {value}")
            }
            Self::Unexpected { what, value } => {
                write!(f, "{what}: received, not expected: {value}")
            }
            Self::Changed {
                what,
                expected,
                received,
            } => {
                let width = what.chars().count();
                writeln!(f, "{what}: expected {expected}")?;
                write!(f, "{:width$}  received {received}", "")
            }
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

/// The members in which two sets differ; each member counts as often as it comes.
pub(super) fn sets(what: &'static str, expected: &[Value], received: &[Value]) -> Vec<Difference> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for value in expected {
        *counts.entry(json::canonical(value)).or_default() += 1;
    }
    for value in received {
        *counts.entry(json::canonical(value)).or_default() -= 1;
    }
    let mut differences = Vec::new();
    for (value, count) in counts {
        for _ in 0..count.unsigned_abs() {
            let value = value.clone();
            differences.push(if count > 0 {
                Difference::Missing { what, value }
            } else {
                Difference::Unexpected { what, value }
            });
        }
    }
    // What is missing first.
    differences.sort_by_key(|difference| matches!(difference, Difference::Unexpected { .. }));
    differences
}

/// The members in which two values differ.
pub(super) fn values(what: &str, expected: &Value, received: &Value) -> Vec<Difference> {
    let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
    json::differences(expected, received)
        .into_iter()
        .map(|at| Difference::Changed {
            what: format!("{what}{}", at.path),
            expected: shown(at.one),
            received: shown(at.other),
        })
        .collect()
}

/// Runs a step of the code under test; a panic there is a failure of this step, not of the tool.
pub(super) fn guarded(step: impl FnOnce() -> Vec<Difference>) -> Vec<Difference> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        vec![Difference::Refused(format!("panicked: {said}"))]
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(differences: &[Difference]) -> Vec<String> {
        differences.iter().map(Difference::to_string).collect()
    }

    #[test]
    fn sets_compare_in_any_order_and_each_member_as_often_as_it_comes() {
        let expected = [json!([1.0]), json!("a"), json!("a"), json!("c")];
        let received = [json!("a"), json!([1]), json!("b"), json!("b"), json!("c")];
        assert_eq!(
            lines(&sets("joins", &expected, &received)),
            [
                r#"joins: expected, not received: "a""#,
                r#"joins: received, not expected: "b""#,
                r#"joins: received, not expected: "b""#,
            ]
        );
        assert!(sets("joins", &expected, &expected).is_empty());
    }

    #[test]
    fn changed_values_stand_below_each_other() {
        let (expected, received) = (json!({"a": 1, "b": 2}), json!({"a": 1, "b": 3, "c": 4}));
        assert_eq!(
            lines(&values("clocks", &expected, &received)),
            [
                "clocks[\"b\"]: expected 2\n             received 3",
                "clocks[\"c\"]: expected nothing\n             received 4",
            ]
        );
    }

    #[test]
    fn a_panic_is_a_difference() {
        let differences = guarded(|| panic!("at the {}", "disco"));
        assert_eq!(lines(&differences), ["panicked: at the disco"]);
    }
}
