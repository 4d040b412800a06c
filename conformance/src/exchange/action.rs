//! What a client does in a step.

use std::collections::BTreeMap;

use serde_json::Value;

use super::lines::Object;

/// What a client does.
#[derive(Clone, Debug)]
pub(crate) enum Action {
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
pub(crate) enum Sent {
    Text(String),
    Binary(Vec<u8>),
}

#[derive(Clone, Debug)]
pub(crate) struct HttpRequest {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Action {
    /// Reads the `do` of a step.
    pub(crate) fn read(action: &Object) -> Result<Self, String> {
        if action.has("open") {
            return Ok(Self::Open {
                client: action.text("open")?,
                path: match action.has("path") {
                    true => action.text("path")?,
                    false => "/socket/websocket".into(),
                },
                query: action.texts("query")?,
                subprotocols: action.names("subprotocols")?,
            });
        }
        if action.has("send") {
            let what = if let Some(json) = action.optional("text") {
                Sent::Text(json.to_string())
            } else if action.has("raw") {
                Sent::Text(action.text("raw")?)
            } else {
                Sent::Binary(unhex(&action.text("binary")?)?)
            };
            let client = action.text("send")?;
            return Ok(Self::Send { client, what });
        }
        if action.has("close") {
            return Ok(Self::Close(action.text("close")?));
        }
        if action.has("abort") {
            return Ok(Self::Abort(action.text("abort")?));
        }
        if action.has("http") {
            let client = action.text("http")?;
            let request = HttpRequest::read(action)?;
            return Ok(Self::Http { client, request });
        }
        if action.has("ctl") {
            return Ok(Self::Control(action.text("ctl")?));
        }
        Err("do names nothing that can be done".into())
    }

    /// Who does it; nobody makes the requests on the control route.
    pub(crate) fn client(&self) -> Option<&str> {
        match self {
            Self::Open { client, .. }
            | Self::Send { client, .. }
            | Self::Close(client)
            | Self::Abort(client)
            | Self::Http { client, .. } => Some(client),
            Self::Control(_) => None,
        }
    }
}

impl HttpRequest {
    fn read(action: &Object) -> Result<Self, String> {
        let body = match action.optional("body") {
            None => String::new(),
            Some(Value::Array(lines)) => {
                let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
                lines.join("\n")
            }
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        Ok(Self {
            method: action.text("method")?,
            path: action.text("path")?,
            query: action.texts("query")?,
            headers: action.texts("headers")?,
            body,
        })
    }

    pub(crate) fn of(path: &str) -> Self {
        Self {
            method: "GET".into(),
            path: path.to_owned(),
            query: BTreeMap::new(),
            headers: BTreeMap::new(),
            body: String::new(),
        }
    }
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
