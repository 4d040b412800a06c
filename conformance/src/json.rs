//! JSON compared as the recordings mean it: keys in any order, arrays in order, numbers by value.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Beyond so many digits a number is written with an exponent.
const PLAIN_DIGITS: i64 = 40;

/// The one text of all values that compare equal to `value`: keys sorted, numbers by their value.
///
/// `1.0e20` and `1e+20` are one number, so are `1.0` and `1`, and no digit of a big integer is lost.
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

/// Whether the two are equal.
#[must_use]
pub fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            decimal(&one.to_string()) == decimal(&other.to_string())
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}

/// A place where two values differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs<'a> {
    /// Where, such as `["alice"]["metas"]`; empty for the whole value.
    pub path: String,
    /// What one has there.
    pub one: Option<&'a Value>,
    /// What the other has there.
    pub other: Option<&'a Value>,
}

/// The innermost members of objects that differ. Arrays and scalars differ as a whole.
#[must_use]
pub fn differences<'a>(one: &'a Value, other: &'a Value) -> Vec<Differs<'a>> {
    let mut found = Vec::new();
    descend(String::new(), Some(one), Some(other), &mut found);
    found
}

fn descend<'a>(
    path: String,
    one: Option<&'a Value>,
    other: Option<&'a Value>,
    found: &mut Vec<Differs<'a>>,
) {
    match (one, other) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let members = one
                .keys()
                .chain(other.keys().filter(|key| !one.contains_key(*key)));
            for key in members {
                let path = format!("{path}[{}]", Value::from(key.as_str()));
                descend(path, one.get(key), other.get(key), found);
            }
        }
        (Some(one), Some(other)) if same(one, other) => {}
        _ => found.push(Differs { path, one, other }),
    }
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Number(number) => text.push_str(&decimal(&number.to_string())),
        Value::Array(elements) => {
            text.push('[');
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write(element, text);
            }
            text.push(']');
        }
        Value::Object(members) => write_object(members, text),
        // Never fails for a String.
        scalar => drop(write!(text, "{scalar}")),
    }
}

fn write_object(members: &Map<String, Value>, text: &mut String) {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_unstable_by_key(|(key, _)| *key);
    text.push('{');
    for (at, (key, value)) in members.into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        let _ = write!(text, "{}:", Value::from(key.as_str()));
        write(value, text);
    }
    text.push('}');
}

/// A JSON number in the one spelling of its value.
fn decimal(number: &str) -> String {
    let (negative, unsigned) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    // Almost all numbers are short integers.
    let is_plain = unsigned.len() <= PLAIN_DIGITS as usize
        && unsigned.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain && unsigned != "0" {
        return number.to_owned();
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent),
        None => (unsigned, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    let trimmed = significant.trim_end_matches('0');
    if trimmed.is_empty() {
        return "0".to_owned();
    }
    let shift = (significant.len() - trimmed.len()) as i64 - fraction.len() as i64;
    // An exponent beyond 64 bits stays as it is spelled: no recording means such a number.
    let Some(exponent) = exponent
        .parse::<i64>()
        .ok()
        .and_then(|exponent| exponent.checked_add(shift))
    else {
        return number.to_owned();
    };
    let sign = if negative { "-" } else { "" };
    let len = trimmed.len() as i64;
    match exponent {
        0.. if len.saturating_add(exponent) <= PLAIN_DIGITS => {
            format!("{sign}{trimmed}{}", "0".repeat(exponent as usize))
        }
        0 => format!("{sign}{trimmed}"),
        _ if (-PLAIN_DIGITS..0).contains(&exponent) => {
            let padded = format!("{trimmed:0>width$}", width = (1 - exponent) as usize);
            let (whole, fraction) = padded.split_at((padded.len() as i64 + exponent) as usize);
            format!("{sign}{whole}.{fraction}")
        }
        _ => format!("{sign}{trimmed}e{exponent}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn numbers_compare_by_value_whatever_their_spelling() {
        let equal = [
            ("1.0e20", "1e+20"),
            ("1E20", "100000000000000000000"),
            ("1.0", "1"),
            ("1.50", "15e-1"),
            ("0.001", "1e-3"),
            ("-0.0", "0"),
            ("0e999999999999999999999", "0"),
            ("-12.5", "-0.125e2"),
            ("1e1000000000", "10e999999999"),
            ("1e-1000000000", "0.1e-999999999"),
        ];
        for (one, other) in equal {
            assert!(same(&parsed(one), &parsed(other)), "{one} {other}");
            let (one, other) = (canonical(&parsed(one)), canonical(&parsed(other)));
            assert_eq!(one, other);
        }
        let different = [
            ("1", "10"),
            ("1", "-1"),
            ("0.1", "0.01"),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567891",
            ),
            ("123456789012345678901234567890", "1.2345678901234568e29"),
            ("1e400", "1e401"),
            ("1", "\"1\""),
        ];
        for (one, other) in different {
            assert!(!same(&parsed(one), &parsed(other)), "{one} {other}");
            let (one, other) = (canonical(&parsed(one)), canonical(&parsed(other)));
            assert_ne!(one, other);
        }
    }

    #[test]
    fn canonical_numbers_are_plain_where_that_is_short() {
        let spelled = [
            ("1.0e20", "100000000000000000000"),
            ("1500e-3", "1.5"),
            ("1e-3", "0.001"),
            ("-7", "-7"),
            ("1e41", "1e41"),
            ("12e-42", "12e-42"),
        ];
        for (number, expected) in spelled {
            assert_eq!(canonical(&parsed(number)), expected);
        }
        let long = "1234567890".repeat(5);
        assert_eq!(canonical(&parsed(&long)), format!("{}e1", &long[..49]));
    }

    #[test]
    fn the_order_of_keys_does_not_matter_and_that_of_elements_does() {
        let (one, other) = (
            parsed(r#"{"a":[1,2],"b":null}"#),
            parsed(r#"{"b":null,"a":[1,2.0]}"#),
        );
        assert!(same(&one, &other));
        assert_eq!(canonical(&one), canonical(&other));
        assert!(!same(&parsed("[1,2]"), &parsed("[2,1]")));
        assert!(!same(&parsed("[1]"), &parsed("[1,1]")));
        assert!(!same(&parsed(r#"{"a":null}"#), &parsed("{}")));
        assert!(!same(&parsed(r#"{"a":null}"#), &parsed(r#"{"b":null}"#)));
    }

    #[test]
    fn differences_name_the_innermost_member() {
        let one = parsed(r#"{"a":{"m":[1],"n":1},"b":1}"#);
        let other = parsed(r#"{"a":{"m":[2],"n":1.0},"c":1}"#);
        let found: Vec<String> = differences(&one, &other)
            .into_iter()
            .map(|at| {
                format!(
                    "{} {:?} {:?}",
                    at.path,
                    at.one.is_some(),
                    at.other.is_some()
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                r#"["a"]["m"] true true"#,
                r#"["b"] true false"#,
                r#"["c"] false true"#
            ]
        );
        assert!(differences(&one, &one).is_empty());
    }
}
