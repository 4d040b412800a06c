//! What a file holds, told from its content.

use std::fmt;

use serde_json::Value;

use super::Unreadable;

/// What a vector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A recorded history of the replicated set: it names the vector that it is.
    Tracker,
    /// A computed history, which has no name.
    TrackerRule,
    /// A series of messages to a client.
    Client,
    /// Token cases.
    Token,
}

impl Kind {
    /// Every kind, in the order in which they are counted.
    pub const ALL: [Self; 4] = [Self::Tracker, Self::TrackerRule, Self::Client, Self::Token];

    /// What its cases are called.
    #[must_use]
    pub fn cases(self) -> &'static str {
        match self {
            Self::Tracker => "tracker",
            Self::TrackerRule => "tracker-rule",
            Self::Client => "client",
            Self::Token => "token",
        }
    }
}

/// A recording of another kind, which has a command of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transcript {
    /// Clients that talk to a server.
    Wire,
    /// Clients on the nodes of a cluster.
    Cluster,
}

impl Transcript {
    /// What replays it, in words.
    #[must_use]
    pub fn replayed_by(self) -> &'static str {
        match self {
            Self::Wire => "`conformance replay` replays",
            Self::Cluster => "`conformance cluster` replays",
        }
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wire => "wire transcript",
            Self::Cluster => "cluster transcript",
        })
    }
}

/// What a text was found to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A vector, still to be read.
    Vector(Kind, Value),
    /// A transcript.
    Transcript(Transcript),
}

/// Tells what `text` is by the members of its JSON object, or, of several lines of JSON, of the first.
///
/// # Errors
///
/// [`Unreadable`] where it is not JSON, or none of the recordings.
pub fn content(text: &str) -> Result<Content, Unreadable> {
    let value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            // A transcript is a JSON object a line.
            let first = text.lines().next().unwrap_or_default();
            let first = serde_json::from_str(first).unwrap_or_default();
            return match transcript(&first) {
                Some(transcript) => Ok(Content::Transcript(transcript)),
                None => Err(Unreadable::new("", format_args!("not JSON: {error}"))),
            };
        }
    };
    if let Some(transcript) = transcript(&value) {
        return Ok(Content::Transcript(transcript));
    }
    let has = |name| value.get(name).is_some();
    let has_ops = || {
        let steps = value.get("steps").and_then(Value::as_array);
        steps.is_some_and(|steps| steps.iter().any(|step| step.get("op").is_some()))
    };
    let kind = if has("cases") || has("secret_key_base") {
        Kind::Token
    } else if has("replicas") || has_ops() {
        if has("vector") {
            Kind::Tracker
        } else {
            Kind::TrackerRule
        }
    } else if has("steps") {
        Kind::Client
    } else {
        let reason = "neither a tracker history, nor a client series, nor token cases";
        return Err(Unreadable::new("", reason));
    };
    Ok(Content::Vector(kind, value))
}

/// A transcript begins with a line that says what its case is.
fn transcript(first: &Value) -> Option<Transcript> {
    let has = |name| first.get(name).is_some();
    if !has("case") || !has("title") {
        return None;
    }
    let is_cluster = has("nodes") || has("settings");
    Some(if is_cluster {
        Transcript::Cluster
    } else {
        Transcript::Wire
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recording_is_told_by_its_content() {
        for (name, text) in crate::fixtures::ALL {
            let expected = match name.split(['/', '.']).next() {
                Some("tracker") => Ok(Kind::Tracker),
                Some("tracker-rule") => Ok(Kind::TrackerRule),
                Some("client") => Ok(Kind::Client),
                Some("token") => Ok(Kind::Token),
                Some("wire") => Err(Transcript::Wire),
                Some("cluster") => Err(Transcript::Cluster),
                _ => panic!("{name} is of no kind"),
            };
            let found = match content(text).unwrap() {
                Content::Vector(kind, _) => Ok(kind),
                Content::Transcript(transcript) => Err(transcript),
            };
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_damaged_vector_is_still_of_its_kind() {
        let kind = |text| match content(text) {
            Ok(Content::Vector(kind, _)) => Some(kind),
            _ => None,
        };
        assert_eq!(
            kind(r#"{"steps":[{},{"op":"up"}]}"#),
            Some(Kind::TrackerRule)
        );
        assert_eq!(
            kind(r#"{"replicas":[],"vector":"seed-1"}"#),
            Some(Kind::Tracker)
        );
        assert_eq!(kind(r#"{"steps":5}"#), Some(Kind::Client));
        assert_eq!(kind(r#"{"cases":[]}"#), Some(Kind::Token));
    }

    #[test]
    fn other_text_is_of_no_kind() {
        for text in ["", "# Title", "{", "5", "[]", "{}", r#"{"case":1}"#] {
            assert!(content(text).is_err(), "{text:?}");
        }
        let line = r#"{"case":"a","title":"b"}"#;
        for text in [
            line.to_owned(),
            format!("{line}\n{{"),
            format!("{line}\n{{}}"),
        ] {
            let found = content(&text);
            assert_eq!(found, Ok(Content::Transcript(Transcript::Wire)), "{text:?}");
        }
    }
}
