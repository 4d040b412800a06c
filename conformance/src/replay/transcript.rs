//! Reading a transcript.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::exchange::action::Action;
use crate::exchange::lines::{Object, Unreadable, head, lines};

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

impl Transcript {
    /// Reads a transcript.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] names the line.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut lines = lines(text);
        let (case, title) = head(&mut lines)?.read(|head| {
            let names = (head.text("case")?, head.text("title")?);
            match head.has("nodes") {
                true => Err("a cluster transcript, not a wire transcript".into()),
                false => Ok(names),
            }
        })?;
        let steps = lines.map(|line| {
            let line = line?;
            line.read(|step| Step::read(line.number, step))
        });
        Ok(Self {
            case,
            title,
            steps: steps.collect::<Result<_, _>>()?,
        })
    }
}

impl Step {
    fn read(line: usize, step: &Object) -> Result<Self, String> {
        let action = step.object("do")?;
        let then = step.object("then")?;
        let frames = |(client, frames): (&String, &Value)| match frames.as_array() {
            Some(frames) => Ok((client.clone(), frames.clone())),
            None => Err(format!("then.{client} must be an array")),
        };
        Ok(Self {
            line,
            text: action.to_text(),
            action: Action::read(&action)?,
            then: then.members().map(frames).collect::<Result<_, String>>()?,
            unordered: step.names("unordered")?,
        })
    }
}
