//! What a run comes to.

use std::fmt;
use std::time::Duration;

use presence_core::wire::cluster::Body;

use crate::coverage::Coverage;
use crate::trace::Traced;

/// What must hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Invariant {
    /// The diffs that a node tells are the changes of what it lists.
    DiffsAreTheTruth,
    /// What has left is never listed again.
    NoGhosts,
    /// What is present stays listed, unless its node was not heard.
    NoLoss,
    /// An update swaps in one step.
    UpdateInOneStep,
    /// What a node leaves behind as it stops stays for as long as promised.
    Lingering,
    /// A key that is handed over counts once.
    Handover,
    /// What is tracked on a node is listed there, at once, and nothing else of it.
    OwnPresences,
    /// A node tells others of its presences only what is true.
    TellsTheTruth,
    /// A node that is silent is not listed for longer than promised.
    DownInTime,
    /// Once faults end, all list the same: who is there.
    Convergence,
    /// Once all agree, only idle heartbeats are sent.
    IdleTraffic,
    /// Memory is bounded by what is present.
    BoundedMemory,
    /// No message of an honest node is refused.
    Refused,
    /// Messages do not beget messages without end.
    NoStorm,
    /// Nothing panics.
    NoPanic,
    /// A real tracker does what the first tier's does with the same inputs.
    TiersAgree,
    /// What one node sends another arrives in order, and once.
    Delivery,
    /// What a node sends a client keeps to the rules of the wire.
    WireRules,
    /// A client's list is one that its node had, and goes no way back.
    ClientLists,
    /// Whoever reads a list is given the present one, or one of a moment ago.
    FreshLists,
    /// A crash is seen soon by those that were connected, and none is seen where there is none.
    CrashesSeen,
    /// What a node says as it stops arrives.
    LastWords,
    /// What is said to all in a topic reaches each client once at the most, and, once faults have ended,
    /// all.
    Broadcasts,
    /// Once faults end, each client is tracked once under each of its keys, and nobody else is.
    ClientsAreTracked,
    /// Once faults end, each client has joined and lists who is there.
    ClientConvergence,
}

impl Invariant {
    /// The invariant in a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::DiffsAreTheTruth => {
                "the diffs that a node tells are the changes of what it lists"
            }
            Self::NoGhosts => "what has left is never listed again",
            Self::NoLoss => "what is present stays listed, unless its node was not heard",
            Self::UpdateInOneStep => "an update swaps in one step",
            Self::Lingering => {
                "what a node that stopped leaves behind stays until it is down, back, or taken over"
            }
            Self::Handover => "with handover a key that is tracked elsewhere does not count twice",
            Self::OwnPresences => {
                "a node lists what is tracked on it, at once, and nothing else of itself"
            }
            Self::TellsTheTruth => "a node tells others of its presences only what is true",
            Self::DownInTime => "a node that is silent is not listed for longer than promised",
            Self::Convergence => "once faults end, all list the same: who is there",
            Self::IdleTraffic => "once all agree, only idle heartbeats are sent",
            Self::BoundedMemory => "memory is bounded by what is present",
            Self::Refused => "no message of an honest node is refused",
            Self::NoStorm => "messages do not beget messages without end",
            Self::NoPanic => "nothing panics",
            Self::TiersAgree => "a tracker does the same as when its journal is played again",
            Self::Delivery => "what one node sends another arrives in order, and once",
            Self::WireRules => "what a node sends a client keeps to the rules of the wire",
            Self::ClientLists => "a client's list is one that its node had, and none from before",
            Self::FreshLists => "whoever reads a list is given one that was true a second ago",
            Self::CrashesSeen => "whoever was connected to a process that is gone soon knows it",
            Self::LastWords => "what a node says as it stops arrives",
            Self::Broadcasts => "what is said to all in a topic reaches each client once",
            Self::ClientsAreTracked => {
                "once faults end, each client is tracked once under each key, and nobody else is"
            }
            Self::ClientConvergence => "once faults end, each client lists who is there",
        }
    }
}

/// An invariant that broke.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub invariant: Invariant,
    /// When.
    pub at: Duration,
    /// On which node.
    pub node: String,
    /// What was seen there.
    pub what: String,
    /// In which topic, where one is concerned.
    pub topic: Option<String>,
    /// Under which key, where one is concerned.
    pub key: Option<String>,
    /// What is true of the presence.
    pub truth: Option<String>,
    /// The presence that is concerned, by the number that its meta carries.
    pub presence: Option<u32>,
    /// The node where that presence was tracked.
    pub owner: Option<String>,
    /// The client that it concerns, where it concerns one.
    pub client: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}: {}", self.invariant, self.invariant.sentence())?;
        writeln!(f, "  when   {:.3} s", self.at.as_secs_f64())?;
        writeln!(f, "  node   {}", self.node)?;
        if let Some(topic) = &self.topic {
            writeln!(f, "  topic  {topic}")?;
        }
        if let Some(key) = &self.key {
            writeln!(f, "  key    {key}")?;
        }
        write!(f, "  view   {}", self.what)?;
        if let Some(truth) = &self.truth {
            write!(f, "\n  truth  {truth}")?;
        }
        Ok(())
    }
}

/// Messages that were sent, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Heartbeats that told a delta.
    pub deltas: u64,
    /// Heartbeats that told none.
    pub idle: u64,
    /// Requests, answers and what belongs to them.
    pub transfers: u64,
    /// All others.
    pub other: u64,
}

impl Traffic {
    pub(crate) fn count(&mut self, body: &Body) {
        let counter = match body {
            Body::Heartbeat { delta, .. } if delta.is_empty() => &mut self.idle,
            Body::Heartbeat { .. } => &mut self.deltas,
            Body::TransferRequest { .. }
            | Body::TransferReply { .. }
            | Body::TransferContinue { .. } => &mut self.transfers,
            Body::Stopping { .. } | Body::Permdown | Body::Superseded { .. } => &mut self.other,
        };
        *counter += 1;
    }

    /// All messages.
    pub fn total(&self) -> u64 {
        self.deltas + self.idle + self.transfers + self.other
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// The invariant that broke, if one did.
    pub failure: Option<Failure>,
    /// What happened.
    pub coverage: Coverage,
    /// What was sent.
    pub traffic: Traffic,
    /// How many events the run took.
    pub events: u64,
    /// How much time passed in it.
    pub simulated: Duration,
    /// How long after the end of all faults the last node agreed.
    pub converged_after: Option<Duration>,
    /// How often a planted defect acted.
    pub sabotaged: u64,
    /// What happened, where it was to be written down.
    pub trace: Option<Traced>,
}
