//! Reading a transcript.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A recorded exchange of one or more clients with a server.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// The case's name.
    pub case: String,
    /// The rule that it shows, in a sentence.
    pub title: String,
    pub(super) steps: Vec<Step>,
}

/// One step: what the test does, and what every client then receives.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The line that holds it.
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) action: Action,
    pub(super) then: BTreeMap<String, Vec<Value>>,
    pub(super) unordered: Vec<String>,
}

/// What the test does.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Open {
        client: String,
        path: String,
        query: BTreeMap<String, String>,
        subprotocols: Vec<String>,
    },
    Send {
        client: String,
        what: Sent,
    },
    Close(String),
    Abort(String),
    Http {
        client: String,
        request: HttpRequest,
    },
    Control(String),
}

#[derive(Clone, Debug)]
pub(super) enum Sent {
    Text(String),
    Binary(Vec<u8>),
}

#[derive(Clone, Debug)]
pub(super) struct HttpRequest {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

/// Why a text is no transcript: the line, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct Unreadable {
    line: usize,
    reason: String,
}

impl Transcript {
    /// Reads a transcript.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] names the line.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut lines = (1..)
            .zip(text.lines())
            .filter(|(_, text)| !text.trim().is_empty());
        let at = |line: usize| move |reason: String| Unreadable { line, reason };
        let (line, head) = lines
            .next()
            .ok_or_else(|| at(1)("the file is empty".into()))?;
        let head = object(head).map_err(at(line))?;
        let case = text_of(&head, "case").map_err(at(line))?;
        let title = text_of(&head, "title").map_err(at(line))?;
        if head.contains_key("nodes") {
            return Err(at(line)(
                "a cluster transcript, not a wire transcript".into(),
            ));
        }
        let steps = lines.map(|(line, text)| step(line, text).map_err(at(line)));
        Ok(Self {
            case,
            title,
            steps: steps.collect::<Result<_, _>>()?,
        })
    }
}

type Object = Map<String, Value>;

fn object(text: &str) -> Result<Object, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

fn text_of(object: &Object, name: &str) -> Result<String, String> {
    let value = object
        .get(name)
        .ok_or_else(|| format!("{name} is missing"))?;
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("{name} must be a string"))
}

fn texts_of(object: &Object, name: &str) -> Result<BTreeMap<String, String>, String> {
    let Some(value) = object.get(name) else {
        return Ok(BTreeMap::new());
    };
    let members = value
        .as_object()
        .ok_or_else(|| format!("{name} must be an object"))?;
    let text = |(key, value): (&String, &Value)| match value.as_str() {
        Some(text) => Ok((key.clone(), text.to_owned())),
        None => Ok((key.clone(), value.to_string())),
    };
    members.iter().map(text).collect()
}

fn step(line: usize, text: &str) -> Result<Step, String> {
    let step = object(text)?;
    let action = step
        .get("do")
        .and_then(Value::as_object)
        .ok_or("do must be an object")?;
    let then = step
        .get("then")
        .and_then(Value::as_object)
        .ok_or("then must be an object")?;
    let frames = |(client, frames): (&String, &Value)| match frames.as_array() {
        Some(frames) => Ok((client.clone(), frames.clone())),
        None => Err(format!("then.{client} must be an array")),
    };
    let unordered = match step.get("unordered") {
        None => Vec::new(),
        Some(names) => serde_json::from_value(names.clone())
            .map_err(|_| "unordered must be an array of names")?,
    };
    Ok(Step {
        line,
        text: Value::from(action.clone()).to_string(),
        action: read_action(action)?,
        then: then.iter().map(frames).collect::<Result<_, String>>()?,
        unordered,
    })
}

fn read_action(action: &Object) -> Result<Action, String> {
    if action.contains_key("open") {
        let subprotocols = match action.get("subprotocols") {
            None => Vec::new(),
            Some(names) => serde_json::from_value(names.clone())
                .map_err(|_| "subprotocols must be an array of names")?,
        };
        return Ok(Action::Open {
            client: text_of(action, "open")?,
            path: match action.contains_key("path") {
                true => text_of(action, "path")?,
                false => "/socket/websocket".into(),
            },
            query: texts_of(action, "query")?,
            subprotocols,
        });
    }
    if action.contains_key("send") {
        let what = if let Some(json) = action.get("text") {
            Sent::Text(json.to_string())
        } else if action.contains_key("raw") {
            Sent::Text(text_of(action, "raw")?)
        } else {
            Sent::Binary(unhex(&text_of(action, "binary")?)?)
        };
        let client = text_of(action, "send")?;
        return Ok(Action::Send { client, what });
    }
    if action.contains_key("close") {
        return Ok(Action::Close(text_of(action, "close")?));
    }
    if action.contains_key("abort") {
        return Ok(Action::Abort(text_of(action, "abort")?));
    }
    if action.contains_key("http") {
        let body = match action.get("body") {
            None => String::new(),
            Some(Value::Array(lines)) => {
                let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
                lines.join("\n")
            }
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let request = HttpRequest {
            method: text_of(action, "method")?,
            path: text_of(action, "path")?,
            query: texts_of(action, "query")?,
            headers: texts_of(action, "headers")?,
            body,
        };
        let client = text_of(action, "http")?;
        return Ok(Action::Http { client, request });
    }
    if action.contains_key("ctl") {
        return Ok(Action::Control(text_of(action, "ctl")?));
    }
    Err("do names nothing that can be done".into())
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
        _ => None,
    });
    let bytes: Option<_> = bytes.collect();
    bytes.ok_or_else(|| format!("{text:?} is not hexadecimal"))
}
