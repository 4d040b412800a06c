//! Token cases, each verified by `presence_core::token`.

use std::collections::BTreeMap;

use presence_core::token::{KeyError, KeyOptions, MaxAge, SigningKey, TokenError};
use serde_json::{Value, json};

use super::failure::{guarded, values};
use super::read::At;
use super::{Difference, Failure, Unreadable};

const MS_PER_SECOND: i64 = 1000;

struct Case<'a> {
    name: String,
    token: String,
    salt: String,
    now: i64,
    now_ms: i64,
    max_age: Option<i64>,
    expect: &'a Value,
}

/// The keys that were derived, by salt: one secret serves many cases.
struct Keys<'a> {
    secret: &'a str,
    by_salt: BTreeMap<String, SigningKey>,
}

/// Replays the cases of one file: how many there are, and those that failed.
///
/// # Errors
///
/// [`Unreadable`] where `value` holds no token cases.
pub fn replay(value: &Value) -> Result<(usize, Vec<Failure>), Unreadable> {
    let root = At::root(value);
    let secret = root.member("secret_key_base")?;
    let cases = root.member("cases")?.numbered_elements("case")?;
    let cases = cases
        .map(|(_, case)| read(&case))
        .collect::<Result<Vec<_>, _>>()?;

    let mut keys = Keys {
        secret: secret.text()?,
        by_salt: BTreeMap::new(),
    };
    let mut failures = Vec::new();
    for (number, case) in (1..).zip(&cases) {
        let differences = guarded(|| verify(&mut keys, case));
        if !differences.is_empty() {
            failures.push(Failure {
                number,
                case: Some(case.name.clone()),
                doing: case.described(),
                differences,
            });
        }
    }
    Ok((cases.len(), failures))
}

fn verify(keys: &mut Keys<'_>, case: &Case<'_>) -> Vec<Difference> {
    let key = match keys.of(&case.salt) {
        Ok(key) => key,
        Err(error) => return vec![Difference::Refused(format!("refused: {error}"))],
    };
    let max_age = case.max_age.map(MaxAge::Seconds);
    let verdict = match key.verify(&case.token, case.now_ms, max_age) {
        Ok(data) => match data.to_json() {
            Ok(data) => json!({ "ok": data }),
            Err(error) => return vec![Difference::Refused(format!("data not shown: {error}"))],
        },
        Err(TokenError::Invalid) => json!({ "error": "invalid" }),
        Err(TokenError::Expired) => json!({ "error": "expired" }),
    };
    if verdict.get("ok").is_some() == case.expect.get("ok").is_some() {
        values("verdict", case.expect, &verdict)
    } else {
        vec![Difference::Changed {
            what: "verdict".to_owned(),
            expected: case.expect.to_string(),
            received: verdict.to_string(),
        }]
    }
}

impl Keys<'_> {
    fn of(&mut self, salt: &str) -> Result<&SigningKey, KeyError> {
        if !self.by_salt.contains_key(salt) {
            let key = SigningKey::derive(self.secret, salt, &KeyOptions::DEFAULT)?;
            self.by_salt.insert(salt.to_owned(), key);
        }
        Ok(&self.by_salt[salt])
    }
}

impl Case<'_> {
    fn described(&self) -> String {
        let age = match self.max_age {
            Some(seconds) => format!("with max_age {seconds}"),
            None => "with the age in the token".to_owned(),
        };
        let (salt, now) = (&self.salt, self.now);
        format!("verify at {now} {age}, salt {salt:?}: {}", self.token)
    }
}

fn read<'a>(case: &At<'a>) -> Result<Case<'a>, Unreadable> {
    let name = case.member("case")?.owned_text()?;
    let now = case.member("now")?;
    let now_ms = now.integer()?.checked_mul(MS_PER_SECOND);
    let max_age = case.member("max_age")?;
    let expect = case.member("expect")?;
    read_expect(&expect)?;
    Ok(Case {
        name,
        token: case.member("token")?.owned_text()?,
        salt: case.member("verify_salt")?.owned_text()?,
        now: now.integer()?,
        now_ms: now_ms.ok_or_else(|| now.wrong("is no time: too far away"))?,
        max_age: match max_age.value {
            Value::Null => None,
            _ => Some(max_age.integer()?),
        },
        expect: &case.value["expect"],
    })
}

fn read_expect(expect: &At<'_>) -> Result<(), Unreadable> {
    let verdict = expect.object()?;
    let error = verdict.get("error").and_then(Value::as_str);
    match (verdict.len(), verdict.get("ok"), error) {
        (1, Some(_), _) | (1, _, Some("invalid" | "expired")) => Ok(()),
        _ => {
            Err(expect
                .wrong(r#"must be {"ok": data}, {"error": "invalid"} or {"error": "expired"}"#))
        }
    }
}
