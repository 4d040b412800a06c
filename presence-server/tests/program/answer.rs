//! The answer to an HTTP request, as it came.

#![allow(dead_code)] // Each test uses its own part.
#![allow(clippy::unwrap_used)] // A test may panic, and so may what it is made of.

use serde_json::Value;

/// An answer of a server.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Self {
            status: status.parse().unwrap(),
            headers: headers.collect(),
            body: body.into(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The messages of a poll that brought some.
    pub(crate) fn messages(&self) -> Vec<Value> {
        let polled = self.json();
        assert_eq!(polled["status"], 200, "{polled}");
        let messages = polled["messages"].as_array().unwrap().iter();
        let parsed = messages.map(|message| serde_json::from_str(message.as_str().unwrap()));
        parsed.collect::<Result<_, _>>().unwrap()
    }
}
