//! What happens in a run, written down for people.

use std::fmt;
use std::sync::Arc;

/// A run as it was written down.
#[derive(Clone, Debug, Default)]
pub struct Traced {
    /// What happened, in order.
    pub lines: Vec<Line>,
    /// What lasted: lives, pauses, faults.
    pub spans: Vec<Span>,
    /// By how many presences a node's view differed from the truth, from each time on.
    pub differences: Vec<Difference>,
    /// The clients, in the order in which they came.
    pub clients: Vec<Client>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Line {
    /// When, in microseconds.
    pub at: u64,
    /// Where: a node or a client; `None` where it concerns all.
    pub node: Option<Arc<str>>,
    /// The other node, where it concerns two; of a client, its node.
    pub other: Option<Arc<str>>,
    /// Of what kind it is.
    pub kind: Kind,
    /// What.
    pub text: String,
    /// The presences that it names.
    pub presences: Vec<u32>,
}

/// What a line is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The cluster or its network.
    Cluster,
    /// The life of a node, and what it finds of others.
    Life,
    /// What was done on a node for a user.
    Operation,
    /// What the user of a client did.
    User,
    /// A message, sent, taken or lost.
    Message,
    /// A diff that was told.
    Diff,
    /// What a client does, and what it sees.
    Client,
    /// How much was written by now: for comparing runs, not for reading.
    Written,
}

/// Something that lasted.
#[derive(Clone, Debug)]
pub struct Span {
    /// On which node; `None` where it lies on the network.
    pub node: Option<usize>,
    /// What: `life`, `paused`, or a fault's name; of a client also `connected`.
    pub what: String,
    /// From when, in microseconds.
    pub from: u64,
    /// Until when; `None` where it did not end.
    pub to: Option<u64>,
    /// The nodes that a fault of the network concerns.
    pub nodes: Vec<usize>,
}

/// A client, and when it was connected.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its name.
    pub name: Arc<str>,
    /// Its transport and its serializer.
    pub speaks: String,
    /// When its user came, in microseconds.
    pub came: u64,
    /// When its user went.
    pub went: Option<u64>,
    /// Its connections, each with its node, and what befell it.
    pub spans: Vec<Span>,
}

/// By how much a node's view differs from the truth.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// From when, in microseconds.
    pub at: u64,
    /// On which node.
    pub node: usize,
    /// Presences that are there and not listed.
    pub missing: usize,
    /// Presences that are listed and not there.
    pub extra: usize,
}

/// How a line is shown on a page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mark {
    /// A message is sent.
    Message,
    /// A node tells a change of its lists.
    Diff,
    /// Somebody comes, changes or goes.
    Operation,
    /// A node lists a replica.
    Up,
    /// A node lists a replica no more.
    Down,
    /// A node forgets a replica.
    Forgotten,
    /// What becomes of a client, and what it sees.
    Client,
    /// All else: lives of nodes, faults and what ends them.
    Happening,
}

impl Mark {
    /// Its name on a page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Diff => "diff",
            Self::Operation => "operation",
            Self::Up => "up",
            Self::Down => "down",
            Self::Forgotten => "permdown",
            Self::Client => "client",
            Self::Happening => "happening",
        }
    }
}

impl Line {
    /// Whether it is about a client, whose name stands in the place of a node's.
    pub fn is_of_client(&self) -> bool {
        matches!(self.kind, Kind::User | Kind::Client)
    }

    /// How it is shown.
    pub fn mark(&self) -> Mark {
        match self.kind {
            Kind::Message => Mark::Message,
            Kind::Diff => Mark::Diff,
            Kind::Operation | Kind::User => Mark::Operation,
            Kind::Client => Mark::Client,
            Kind::Cluster | Kind::Life | Kind::Written => match self.text.split(' ').next() {
                Some("finds") if self.text.ends_with(" up") => Mark::Up,
                Some("finds") => Mark::Down,
                Some("forgets") => Mark::Forgotten,
                _ => Mark::Happening,
            },
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.as_deref().unwrap_or("");
        write!(f, "{:>10.3}  {node:<4} {}", self.at as f64 / 1e6, self.text)
    }
}

impl fmt::Display for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
