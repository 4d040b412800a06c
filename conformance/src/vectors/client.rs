//! Series of messages to a client, replayed into a [`ChannelPresence`].

use presence_core::client::{ChannelPresence, Config, Event};
use serde_json::{Value, json};

use super::failure::{guarded, sets, values};
use super::read::At;
use super::{Difference, Failure, Unreadable};

/// One step of a series.
struct Step<'a> {
    message: Message<'a>,
    calls: Vec<Value>,
    state: &'a Value,
    pending: bool,
}

enum Message<'a> {
    /// The channel's join_ref changes.
    Rejoin,
    /// The payload of that event.
    Payload(&'a str, &'a Value),
}

/// Replays one series; the first step that differs, if any does.
///
/// # Errors
///
/// [`Unreadable`] where `value` is no series.
pub fn replay(value: &Value) -> Result<Option<Failure>, Unreadable> {
    let steps = At::root(value);
    let steps = steps.member("steps")?.numbered_elements("step")?;
    let steps = steps
        .map(|(_, step)| read(&step))
        .collect::<Result<Vec<_>, _>>()?;

    let mut joins = 1;
    let mut presence = ChannelPresence::new(Config::default());
    presence.rejoined("1");
    for (number, step) in (1..).zip(steps) {
        let differences = guarded(|| take(&mut presence, &mut joins, &step));
        if !differences.is_empty() {
            return Ok(Some(Failure {
                number,
                case: None,
                doing: step.message.described(),
                differences,
            }));
        }
    }
    Ok(None)
}

fn take(presence: &mut ChannelPresence, joins: &mut u32, step: &Step<'_>) -> Vec<Difference> {
    match step.message {
        Message::Rejoin => {
            *joins += 1;
            presence.rejoined(&joins.to_string());
        }
        Message::Payload(event, payload) => {
            match presence.handle_message(event, &payload.to_string()) {
                Ok(true) => {}
                Ok(false) => {
                    let reason = "refused: not an event of presence".to_owned();
                    return vec![Difference::Refused(reason)];
                }
                Err(error) => return vec![Difference::Refused(format!("refused: {error}"))],
            }
        }
    }
    let calls: Vec<Value> = std::iter::from_fn(|| presence.poll_event())
        .map(|event| call(&event))
        .collect();
    [
        passes(&step.calls, &calls),
        values("state", step.state, &json!(presence.state())),
        values(
            "pending",
            &step.pending.into(),
            &presence.is_pending().into(),
        ),
    ]
    .concat()
}

/// An event as the callback of phoenix.js that it stands for.
fn call(event: &Event) -> Value {
    match event {
        Event::Join {
            key,
            current,
            joined,
        } => json!({ "call": "join", "key": **key, "current": current, "presence": joined }),
        Event::Leave { key, current, left } => {
            json!({ "call": "leave", "key": **key, "current": current, "presence": left })
        }
        Event::Sync => json!({ "call": "sync" }),
    }
}

/// Compares pass by pass: joins or leaves that follow each other, in any order among themselves.
fn passes(expected: &[Value], received: &[Value]) -> Vec<Difference> {
    let split = |calls: &[Value]| -> Vec<Vec<Value>> {
        let passes = calls.chunk_by(|one, next| one["call"] == next["call"]);
        passes.map(<[Value]>::to_vec).collect()
    };
    let order = |passes: &[Vec<Value>]| -> Value {
        passes.iter().map(|pass| pass[0]["call"].clone()).collect()
    };
    let (expected_passes, received_passes) = (split(expected), split(received));
    let (expected_order, received_order) = (order(&expected_passes), order(&received_passes));
    if expected_order != received_order {
        let mut differences = sets("calls", expected, received);
        differences.extend(values("order of calls", &expected_order, &received_order));
        return differences;
    }
    let pairs = expected_passes.iter().zip(&received_passes);
    pairs
        .flat_map(|(expected, received)| sets("calls", expected, received))
        .collect()
}

impl Message<'_> {
    fn described(&self) -> String {
        match self {
            Self::Rejoin => "the channel joins again".to_owned(),
            Self::Payload(event, payload) => format!("{event} {payload}"),
        }
    }
}

fn read<'a>(step: &At<'a>) -> Result<Step<'a>, Unreadable> {
    let members = step.value;
    let event = step.member("event")?;
    let message = match event.text()? {
        "rejoin" => Message::Rejoin,
        "presence_state" => {
            let payload = step.member("payload")?;
            presences(&payload)?;
            Message::Payload("presence_state", &members["payload"])
        }
        "presence_diff" => {
            let payload = step.member("payload")?;
            presences(&payload.member("joins")?)?;
            presences(&payload.member("leaves")?)?;
            Message::Payload("presence_diff", &members["payload"])
        }
        _ => return Err(event.wrong(format_args!("there is no event {}", event.value))),
    };
    let state = step.member("state")?;
    presences(&state)?;
    let pending = step.member("pending")?.boolean()?;
    let mut calls = Vec::new();
    for call in step.member("calls")?.elements()? {
        read_call(&call)?;
        calls.push(call.value.clone());
    }
    Ok(Step {
        message,
        calls,
        state: &members["state"],
        pending,
    })
}

fn read_call(call: &At<'_>) -> Result<(), Unreadable> {
    let name = call.member("call")?;
    match name.text()? {
        "sync" => return Ok(()),
        "join" => {
            let current = call.member("current")?;
            if !current.value.is_null() {
                presence(&current)?;
            }
        }
        "leave" => presence(&call.member("current")?)?,
        _ => return Err(name.wrong(format_args!("there is no call {}", name.value))),
    }
    call.member("key")?.text()?;
    presence(&call.member("presence")?)
}

fn presences(list: &At<'_>) -> Result<(), Unreadable> {
    for (_, of) in list.members()? {
        presence(&of)?;
    }
    Ok(())
}

fn presence(of: &At<'_>) -> Result<(), Unreadable> {
    let metas = of.member("metas")?;
    metas.elements().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(text: &str) -> Vec<Value> {
        let call = |(at, kind): (usize, char)| match kind {
            's' => json!({ "call": "sync" }),
            'l' => json!({ "call": "leave", "at": at / 2 }),
            _ => json!({ "call": "join", "key": kind.to_string() }),
        };
        text.chars().enumerate().map(call).collect()
    }

    #[test]
    fn joins_of_one_pass_come_in_any_order_and_passes_in_theirs() {
        assert!(passes(&calls("abs"), &calls("bas")).is_empty());
        assert!(!passes(&calls("abs"), &calls("aas")).is_empty());
        assert!(!passes(&calls("abs"), &calls("abbs")).is_empty());
        assert!(!passes(&calls("al"), &calls("la")).is_empty());
        assert!(!passes(&calls("as"), &calls("sa")).is_empty());
        assert!(!passes(&calls("as"), &calls("a")).is_empty());
        let order = &passes(&calls("abs"), &calls("sab"))[0];
        assert_eq!(
            order.to_string(),
            "order of calls: expected [\"join\",\"sync\"]\n                received [\"sync\",\"join\"]"
        );
    }
}
