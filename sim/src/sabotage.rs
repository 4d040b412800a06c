//! Deliberate defects, each at the boundary of a node, to prove that the simulation finds them.

pub(crate) mod spoil;

use std::fmt;

macro_rules! defects {
    ($($(#[doc = $doc:literal])+ $name:ident = $id:literal,)+) => {
        /// A defect. It acts at most once in a hundred opportunities, or, where few runs have any, in two.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Sabotage { $($(#[doc = $doc])+ $name,)+ }

        impl Sabotage {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name on the command line.
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }

            /// What it does.
            pub fn describe(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

defects! {
    /// a delta is told without its leaves
    LeavesDropped = "leaves-dropped",
    /// an answer to a transfer is the one that was given before
    OldStateReplayed = "old-state-replayed",
    /// a silent replica is kept up by words that it never said
    NeverDown = "never-down",
    /// the heartbeats of a node carry no clocks
    NoClocks = "no-clocks",
    /// a node answers no transfer request
    TransfersRefused = "transfers-refused",
    /// a node begins its next life under the incarnation of the last
    IncarnationReused = "incarnation-reused",
    /// a diff is told twice
    DiffTwice = "diff-twice",
    /// a diff is never told
    DiffLost = "diff-lost",
    /// an update is told as a leave and then a join
    UpdateSplit = "update-split",
    /// once it is full, the queue from one node to another takes nothing any more and does not say so
    QueueSilent = "queue-silent",
    /// a node counts others as down as soon as a configuration may
    EagerDown = "eager-down",
    /// a node counts others as down after three times the time
    LazyDown = "lazy-down",
    /// a part of an answer is merged as if it were the whole
    ChunkAsWhole = "chunk-as-whole",
    /// a message of an earlier life takes the place of the present life
    OldLifeBelieved = "old-life-believed",
    /// a leave of a process is not carried out
    LeaveIgnored = "leave-ignored",
    /// a client does not join a topic again after it has connected again
    RejoinMissed = "rejoin-missed",
    /// what a channel tracked is not dropped when its task ends
    PresencesKept = "presences-kept",
    /// a list that is kept for readers is not made anew when its topic changes
    SnapshotLate = "snapshot-late",
    /// a state is pushed to a client after a newer diff
    StateLate = "state-late",
    /// the first message to a channel that has just joined is lost
    BroadcastLost = "broadcast-lost",
    /// frames of a connection are taken although another has taken its place
    OldConnection = "old-connection",
    /// a node that stops does not tell what has changed last
    DrainForgets = "drain-forgets",
    /// a queue to a node that overflowed takes nothing any more and does not say so
    OverflowUnhealed = "overflow-unhealed",
}

impl Sabotage {
    /// Whether it is planted in the first tier alone: nothing of the node that ships could be broken so, or
    /// it takes hundreds of runs to be found, of which the first tier makes thousands.
    pub fn is_core_only(self) -> bool {
        matches!(
            self,
            Self::NeverDown
                | Self::IncarnationReused
                | Self::QueueSilent
                | Self::OldStateReplayed
                | Self::EagerDown
                | Self::OldLifeBelieved
        )
    }

    /// Whether it is planted in the second tier alone: a defect of the runtime, or of a client.
    pub fn is_full_only(self) -> bool {
        self as usize >= Self::RejoinMissed as usize
    }

    /// In one of how many opportunities it acts.
    fn one_in(self) -> u32 {
        match self {
            // A node that stops seldom has something to tell, a queue seldom overflows, and two connections
            // between the same nodes seldom live at once.
            Self::DrainForgets | Self::OverflowUnhealed | Self::OldConnection => 2,
            _ => 100,
        }
    }

    /// The defect of this name.
    pub fn named(id: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|sabotage| sabotage.id() == id)
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// One defect and the chance by which it acts.
#[derive(Debug)]
pub(crate) struct Saboteur {
    what: Option<Sabotage>,
    rng: fastrand::Rng,
    /// How often it has acted.
    pub(crate) acted: u64,
}

impl Saboteur {
    pub(crate) fn new(what: Option<Sabotage>, seed: u64) -> Self {
        Self {
            what,
            rng: fastrand::Rng::with_seed(seed ^ 0x5ab0_7a6e),
            acted: 0,
        }
    }

    pub(crate) fn is(&self, what: Sabotage) -> bool {
        self.what == Some(what)
    }

    /// Whether the defect acts at this opportunity.
    pub(crate) fn acts(&mut self, what: Sabotage) -> bool {
        let acts = self.is(what) && self.rng.u32(0..what.one_in()) == 0;
        self.acted += u64::from(acts);
        acts
    }
}
