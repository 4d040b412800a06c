//! Failures in words: what was seen, and what is true.

use std::time::Duration;

use super::Cluster;
use crate::outcome::{Failure, Invariant};
use crate::truth::{How, Number};

impl Cluster<'_> {
    pub(crate) fn failure(
        &self,
        invariant: Invariant,
        node: usize,
        what: impl Into<String>,
    ) -> Box<Failure> {
        Box::new(Failure {
            invariant,
            at: Duration::from_micros(self.now),
            node: self.nodes[node].name.to_string(),
            what: what.into(),
            topic: None,
            key: None,
            truth: None,
            presence: None,
            owner: None,
            client: None,
        })
    }

    pub(crate) fn failure_of(
        &self,
        invariant: Invariant,
        node: usize,
        number: Number,
        what: impl Into<String>,
    ) -> Box<Failure> {
        let mut failure = self.failure(invariant, node, what);
        if let Some(presence) = self.truth.of(number) {
            failure.topic = Some(presence.topic.to_string());
            failure.key = Some(presence.key.as_key().as_str().into());
            failure.truth = Some(self.describe(number));
            failure.presence = Some(number);
            failure.owner = Some(self.nodes[presence.node].name.to_string());
        }
        failure
    }

    /// A panic. (On which node it was, the last lines of a trace tell.)
    pub(crate) fn panicked(&self, said: String) -> Box<Failure> {
        let mut failure = self.failure(Invariant::NoPanic, 0, said);
        failure.node = "the one that acted last".into();
        failure
    }

    /// What is true of a presence, in words.
    fn describe(&self, number: Number) -> String {
        let Some(presence) = self.truth.of(number) else {
            return format!("no presence {number} was ever tracked");
        };
        let seconds = |micros: u64| micros as f64 / 1e6;
        let node = &self.nodes[presence.node];
        let mut text = format!(
            "presence {number} of process {} was tracked at {:.3} s on {}, in its life {},",
            presence.pid.0,
            seconds(presence.since),
            node.name,
            presence.life,
        );
        match presence.left {
            None => text.push_str(" and is there"),
            Some(leaving) => {
                let how = match leaving.how {
                    How::Untracked => "left",
                    How::Updated => "was updated",
                    How::Crashed => "was lost with its node",
                    How::Stopped => "ended as its node stopped",
                };
                text.push_str(&format!(" and {how} at {:.3} s", seconds(leaving.at)));
                if let Some(told) = presence.told {
                    text.push_str(&format!(", which was told at {:.3} s", seconds(told)));
                }
            }
        }
        text
    }
}
