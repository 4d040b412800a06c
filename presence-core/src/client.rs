//! The presence list of one channel as a client keeps it: what phoenix.js `Presence` does.
//!
//! A server pushes a `presence_state` once after each join of the channel, and a `presence_diff`
//! whenever presences come or go. A [`ChannelPresence`] makes one list of them, and tells what joined
//! and what left:
//!
//! - a diff that comes before the state of its join is kept, and applied after that state;
//! - when the channel joins again (its join_ref changes) the list stays as it was until the new state
//!   comes, and then only the differences are reported;
//! - a meta that joins takes the place of those of its key with the same `phx_ref`.
//!
//! It follows phoenix.js 1.8.16 in every output and in their order, with these exceptions: a malformed
//! payload is refused as a whole ([`PayloadError`]) where phoenix.js throws halfway or stores it; what
//! is kept is limited ([`Limits`]); metas stay verbatim where phoenix.js rounds large numbers; and the
//! outdated diffs that phoenix.js applies after a rejoin can be discarded ([`StaleDiffs`]). Whether a message belongs to the channel's present join is decided
//! before it comes here, by the channel.
//!
//! **Each call that takes a message changes the list at once; then drain
//! [`poll_event`](ChannelPresence::poll_event) until it returns `None`.** Events that are not drained
//! pile up.

mod channel_presence;
mod config;
mod meta;
mod parse;
mod presences;
mod sync;

use std::sync::Arc;

pub use channel_presence::{ChannelPresence, SyncError};
pub use config::{Config, EventNames, Limits, StaleDiffs};
pub use meta::Meta;
pub use parse::PayloadError;
pub use presences::{Presence, Presences};
pub use sync::{Diff, list, sync_diff, sync_state};

/// What a [`ChannelPresence`] reports, as the callbacks of phoenix.js `Presence`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Metas of a key joined (`onJoin`).
    Join {
        /// The key.
        key: Arc<str>,
        /// The key's presence before, or `None` if it is new.
        current: Option<Presence>,
        /// What joined: only the metas that are new.
        joined: Presence,
    },
    /// Metas of a key left (`onLeave`).
    Leave {
        /// The key.
        key: Arc<str>,
        /// The key's presence after, without metas if it is gone.
        current: Presence,
        /// What left: only the metas that are gone.
        left: Presence,
    },
    /// A state or a diff is applied as a whole (`onSync`). The last event of each message.
    Sync,
}
