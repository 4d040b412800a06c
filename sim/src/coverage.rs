//! What happened in a simulation: each fault and each interesting state, counted where it acts.

use std::fmt;

use crate::tier::Tier;

macro_rules! counted {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A fault or a state that is worth reaching.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(usize)]
        pub enum Counted { $($(#[doc = $doc])+ $name,)+ }

        impl Counted {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// What it is called in a summary.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

counted! {
    /// A message got lost by chance.
    Lost = "message lost",
    /// A message came twice.
    Repeated = "message repeated",
    /// A message came late.
    Late = "message late",
    /// A message arrived before one that was sent earlier on its link.
    Reordered = "message reordered",
    /// A message was cut off.
    CutOff = "message cut off",
    /// A message was held.
    Held = "message held",
    /// A message came to a node that was gone.
    NobodyThere = "message to a node that is gone",
    /// A message of an earlier life arrived.
    OldLife = "message of an earlier life",
    /// More messages came than may wait.
    Overflow = "queue overflow",
    /// A partition, both ways.
    Partition = "partition",
    /// A cut in one direction only.
    OneWayCut = "one-way cut",
    /// A node was added while others were apart.
    StartedApart = "node started during a partition",
    /// A process was gone without a word.
    Crash = "crash",
    /// A crash was noticed before the silence told it.
    CrashSeen = "crash seen at once",
    /// A living node was wrongly taken for gone.
    WrongGuess = "wrong guess of a crash",
    /// A restart before the old life was down.
    RestartEarly = "restart before down",
    /// A restart after the old life was down.
    RestartDown = "restart after down",
    /// A restart after the old life was forgotten.
    RestartPermdown = "restart after permdown",
    /// A restart with a wall clock that went back.
    ClockBack = "restart with a clock that went back",
    /// A node under a new name took the place of one that was gone.
    NewName = "restart under a new name",
    /// A node stopped as it should.
    Stop = "graceful stop",
    /// A node said goodbye.
    Goodbye = "graceful stop with permdown",
    /// A presence was handed over.
    HandedOver = "presence handed over",
    /// A process did nothing for a while.
    Paused = "process paused",
    /// A node was slow.
    SlowNode = "slow node",
    /// A clock was off.
    ClockSkew = "skewed clock",
    /// Many joined at once.
    Storm = "join storm",
    /// All left at once.
    Exodus = "mass leave",
    /// All metas of a topic changed.
    MassUpdate = "mass update",
    /// A node had another number of shards.
    PoolMismatch = "pool size refused",
    /// A transfer was answered from the log.
    FromLog = "transfer answered from the log",
    /// A transfer was answered with a full state.
    FullState = "transfer of a full state",
    /// An answer took more than one part.
    Chunks = "transfer in more than one part",
    /// A part came too early to be merged.
    Deferred = "part that came too early",
    /// Dots were seen ahead of the context.
    Cloud = "cloud that had to wait",
    /// A dot gave way to a later one out of order.
    Superseded = "superseded dot",
    /// A replica was down.
    Down = "replica down",
    /// A replica was listed again.
    Returned = "replica returned",
    /// A replica was forgotten.
    Permdown = "permdown",
    /// A forgotten replica was heard again.
    AdmittedAgain = "removed replica admitted again",
    /// A later life took the place of an earlier one.
    Replaced = "incarnation replaced",
    /// An earlier life was ignored.
    LowerIgnored = "lower incarnation ignored",
    /// A node took a later life than its clock gave it.
    Reincarnated = "incarnation chosen anew",
    /// A node's timer ran late.
    SuspectedItself = "node that suspected itself",
    /// A part of the cluster healed before the rest.
    HealedPart = "part healed first",
    /// A connection was reset in the middle of a frame.
    Reset = "connection reset",
    /// A connection hung for good, and nobody was told.
    Hung = "connection hung",
    /// A connection took less than was to be written, and the rest waited.
    Narrow = "narrow connection",
    /// A read gave a part of what was there.
    ShortRead = "short read",
    /// A node spoke an older version.
    OlderVersion = "node of an older version",
    /// Nodes found each other by one name for all.
    FoundByName = "nodes found by name",
    /// Nodes heard of each other from one that all knew.
    Introduced = "nodes introduced by one",
    /// A client used a WebSocket.
    Socket = "client with a WebSocket",
    /// A client used long polling.
    Polling = "client that polls",
    /// A client connected again.
    Reconnected = "client connected again",
    /// A client went on at another node.
    Moved = "client moved",
    /// A client closed its tab.
    TabClosed = "tab closed",
    /// A client was gone without a word.
    ClientCrash = "client crash",
    /// A client said and read nothing any more, on a connection that stayed.
    ClientSilent = "client fell silent",
    /// Nothing passed between a client and its node.
    Stalled = "client cut off",
    /// A client read slowly.
    SlowReader = "slow reader",
    /// A client joined a topic in which it had nothing to track.
    Watched = "client that watches",
    /// A client left a topic.
    Left = "client left a topic",
    /// A client said something to all in a topic.
    Shout = "broadcast",
    /// Requests of a client came to any node.
    Wanders = "client that polls any node",
}

impl Counted {
    /// Whether the first tier alone has it: the real transport has no such fault, or tells nobody.
    pub fn is_core_only(self) -> bool {
        matches!(self, Self::NobodyThere)
    }

    /// Whether the second tier alone has it.
    pub fn is_full_only(self) -> bool {
        self >= Self::Reset
    }
}

/// How often each happened.
#[derive(Clone, PartialEq, Eq)]
pub struct Coverage {
    counts: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self {
            counts: vec![0; Counted::ALL.len()],
        }
    }
}

impl Coverage {
    /// One more.
    pub fn count(&mut self, what: Counted) {
        self.add(what, 1);
    }

    /// So many more.
    pub fn add(&mut self, what: Counted, times: u64) {
        self.counts[what as usize] += times;
    }

    /// How often it happened.
    pub fn of(&self, what: Counted) -> u64 {
        self.counts[what as usize]
    }

    /// Adds what happened elsewhere.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// What never happened, of what can in a tier.
    pub fn missing(&self, tier: Tier) -> Vec<Counted> {
        tier.counted().filter(|what| self.of(*what) == 0).collect()
    }
}

impl fmt::Debug for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = Counted::ALL
            .iter()
            .map(|&what| (what.name(), self.of(what)));
        f.debug_map()
            .entries(counts.filter(|(_, count)| *count > 0))
            .finish()
    }
}
