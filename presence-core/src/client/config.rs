//! What a client's presence list is set up with.

/// How a [`ChannelPresence`](super::ChannelPresence) is set up.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The events that carry states and diffs.
    pub events: EventNames,
    /// How much is kept.
    pub limits: Limits,
    /// What becomes of diffs that wait for a state when the channel joins again.
    pub stale_diffs: StaleDiffs,
}

/// The names of the channel's events that carry presence, the option `events` of phoenix.js.
///
/// If both are the same the event is taken for a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNames {
    /// Carries the whole list; `presence_state` by default.
    pub state: String,
    /// Carries joins and leaves; `presence_diff` by default.
    pub diff: String,
}

impl Default for EventNames {
    fn default() -> Self {
        Self {
            state: "presence_state".to_owned(),
            diff: "presence_diff".to_owned(),
        }
    }
}

/// How much a [`ChannelPresence`](super::ChannelPresence) keeps; phoenix.js has no such limits.
///
/// Bytes are those of [`Presences::size`](super::Presences::size): text, and 64 for each key, meta and
/// field. What exceeds a limit cannot be dropped without the list being wrong from then on, so nothing
/// is taken until the channel has joined again: see [`SyncError`](super::SyncError).
///
/// Events are not limited here: one message causes at most two for each key that it, or a diff kept
/// for it, names, and one more. Each holds handles (8 bytes a meta) to the metas of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many diffs may wait for a state; 1,000 by default.
    pub pending_diffs: usize,
    /// How large these may be together, in bytes; 16 MiB by default.
    pub pending_bytes: usize,
    /// How large the list may be, in bytes; 256 MiB by default. The joins of a diff count before its
    /// leaves are taken out.
    pub list_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pending_diffs: 1_000,
            pending_bytes: 16 << 20,
            list_bytes: 256 << 20,
        }
    }
}

/// What becomes of diffs that still wait for a state when the channel joins again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StaleDiffs {
    /// They are applied after the state of the new join, as phoenix.js does. One that reports a join
    /// whose leave was missed in between leaves a ghost, until the state of a later join.
    #[default]
    Apply,
    /// They are dropped: the state of the new join is later than they are, and contains them.
    Discard,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limits_are_those_documented() {
        let Limits {
            pending_diffs,
            pending_bytes,
            list_bytes,
        } = Limits::default();
        assert_eq!(
            (pending_diffs, pending_bytes, list_bytes),
            (1_000, 16_777_216, 268_435_456)
        );
    }
}
