//! One channel of a client: what its user wants of a topic, and how far that has come.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use presence_core::client::{ChannelPresence, Config, Event, Meta, StaleDiffs};
use tokio::time::Instant;

/// A topic that the user wants to be in.
pub(super) struct Channel {
    /// What the user tracks.
    pub(super) keys: BTreeSet<String>,
    pub(super) state: State,
    /// Of its last join on this connection.
    pub(super) join_ref: Option<u64>,
    /// Whether it has ever joined, on whatever connection.
    pub(super) has_joined: bool,
    /// Joins that failed in a row.
    tries: usize,
    /// What the node tracks for this join once it has done all that it was sent, by key.
    pub(super) sent: BTreeMap<String, u32>,
    /// What the node has said to track.
    pub(super) tracked: BTreeMap<String, u32>,
    presence: ChannelPresence,
}

/// How far a join has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It joins again at this time, or with the next connection.
    Apart {
        rejoin: Option<Instant>,
    },
    /// The join is to be answered until then.
    Joining {
        until: Instant,
    },
    Joined,
}

/// What a message did to the list.
pub(super) struct Listed {
    pub(super) numbers: Vec<u32>,
    pub(super) joins: Vec<u32>,
    pub(super) leaves: Vec<u32>,
    pub(super) synced: bool,
}

impl Default for Channel {
    fn default() -> Self {
        // What phoenix.js does with outdated diffs leaves ghosts, which are no fault of a node.
        let presence = ChannelPresence::new(Config {
            stale_diffs: StaleDiffs::Discard,
            ..Config::default()
        });
        Self {
            keys: BTreeSet::new(),
            state: State::Apart { rejoin: None },
            join_ref: None,
            has_joined: false,
            tries: 0,
            sent: BTreeMap::new(),
            tracked: BTreeMap::new(),
            presence,
        }
    }
}

impl Channel {
    /// The pauses before a join that failed is tried again (phoenix.js, `rejoinAfterMs`).
    const REJOIN_MS: [u64; 4] = [1000, 2000, 5000, 10_000];

    pub(super) fn is_joined(&self) -> bool {
        self.state == State::Joined
    }

    /// When it wants to do something by itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Apart { rejoin } => rejoin,
            State::Joining { until } => Some(until),
            State::Joined => None,
        }
    }

    /// A join was sent.
    pub(super) fn joining(&mut self, join_ref: u64, until: Instant) {
        self.state = State::Joining { until };
        self.join_ref = Some(join_ref);
        self.forget_tracked();
    }

    /// Its join was accepted.
    pub(super) fn joined(&mut self) {
        self.state = State::Joined;
        self.has_joined = true;
        self.tries = 0;
        // Not when the join was sent: a diff that comes before the answer is of an earlier join.
        if let Some(join_ref) = self.join_ref {
            self.presence.rejoined(&join_ref.to_string());
        }
    }

    /// It is joined no longer, and joins again after a pause. What still comes of that join is not for it,
    /// the end of what it left unanswered among it.
    pub(super) fn failed(&mut self, now: Instant) {
        let at = self.tries.min(Self::REJOIN_MS.len() - 1);
        self.tries += 1;
        self.state = State::Apart {
            rejoin: Some(now + Duration::from_millis(Self::REJOIN_MS[at])),
        };
        self.join_ref = None;
        self.forget_tracked();
    }

    /// Its connection has ended.
    pub(super) fn disconnected(&mut self) {
        self.state = State::Apart { rejoin: None };
        self.join_ref = None;
        self.tries = 0;
        self.forget_tracked();
    }

    fn forget_tracked(&mut self) {
        self.sent.clear();
        self.tracked.clear();
    }

    /// Takes a presence_state or a presence_diff; what is wrong with it otherwise.
    pub(super) fn take(&mut self, event: &str, payload: &str) -> Result<Listed, String> {
        let taken = self.presence.handle_message(event, payload);
        taken.map_err(|error| error.to_string())?;
        let (mut joins, mut leaves) = (Vec::new(), Vec::new());
        while let Some(event) = self.presence.poll_event() {
            match event {
                Event::Join { joined, .. } => joins.extend(numbers(joined.metas())),
                Event::Leave { left, .. } => leaves.extend(numbers(left.metas())),
                Event::Sync => {}
            }
        }
        let presences = self.presence.list();
        let mut listed: Vec<u32> = presences.flat_map(|one| numbers(one.metas())).collect();
        listed.sort_unstable();
        Ok(Listed {
            numbers: listed,
            joins,
            leaves,
            synced: !self.presence.is_pending(),
        })
    }
}

/// The numbers of metas.
fn numbers(metas: &[Meta]) -> impl Iterator<Item = u32> {
    metas.iter().filter_map(number)
}

/// The number in a meta `{"n": NUMBER}`, beside the refs that the node puts there. Lists are read after
/// each message, so it is looked for and not parsed: a ref has no quote in it.
pub(super) fn number(meta: &Meta) -> Option<u32> {
    let (_, rest) = meta.json().get().split_once(r#""n":"#)?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok()
}
