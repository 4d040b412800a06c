//! The state machine: which message is applied when, and what is refused.

use std::collections::VecDeque;
use std::sync::Arc;

use thiserror::Error;

use super::Event;
use super::config::{Config, Limits, StaleDiffs};
use super::parse::PayloadError;
use super::presences::{Presence, Presences};
use super::sync::{Diff, list, sync_diff, sync_state};

/// Why a message was not applied.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The payload is malformed. Nothing changed, and later messages are taken; if this was a change
    /// of the list, that is missing until the channel joins again.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// One diff more than [`Limits::pending_diffs`] came before the state. The list is as it was; the
    /// diffs are dropped, and nothing is taken until the channel has joined again.
    #[error("more than {limit} diffs came before the state: join the channel again")]
    PendingDiffs {
        /// The limit.
        limit: usize,
    },
    /// The diffs that came before the state exceed [`Limits::pending_bytes`]. The list is as it was;
    /// the diffs are dropped, and nothing is taken until the channel has joined again.
    #[error("the diffs that came before the state exceed {limit} bytes: join the channel again")]
    PendingBytes {
        /// The limit.
        limit: usize,
    },
    /// The list would exceed [`Limits::list_bytes`]. It is as it was; diffs that wait are dropped, and
    /// nothing is taken until the channel has joined again.
    #[error("the list would exceed {limit} bytes: leave the channel, or join it again")]
    ListBytes {
        /// The limit.
        limit: usize,
    },
    /// An earlier message was dropped since it exceeded a limit, so that this one cannot be applied.
    /// Nothing changed.
    #[error("an earlier message exceeded a limit: join the channel again")]
    RejoinNeeded,
}

/// The presence list of one channel.
#[derive(Debug, Default)]
pub struct ChannelPresence {
    config: Config,
    state: Presences,
    /// The join_ref of the channel's present join.
    join_ref: Option<Arc<str>>,
    /// The join_ref at the time of the last state.
    synced: Option<Arc<str>>,
    pending: Vec<Diff>,
    /// The sum of the sizes of `pending`.
    pending_size: usize,
    /// Since a limit was exceeded in this join.
    rejoin_needed: bool,
    events: VecDeque<Event>,
}

impl ChannelPresence {
    /// An empty list that awaits its first state. Say next which join it belongs to, with
    /// [`rejoined`](Self::rejoined).
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// The channel has joined, for the first time or again, and its join_ref is now `join_ref`.
    ///
    /// From here on a state is awaited, unless the last one came under the same join_ref. An empty
    /// join_ref stands for none, as in JavaScript: a state is then awaited for ever. Causes no events.
    pub fn rejoined(&mut self, join_ref: &str) {
        if self.join_ref.as_deref().unwrap_or_default() == join_ref {
            return;
        }
        self.join_ref = (!join_ref.is_empty()).then(|| join_ref.into());
        self.rejoin_needed = false;
        if self.config.stale_diffs == StaleDiffs::Discard {
            self.forget_pending();
        }
    }

    /// Takes a message of the channel, if its event is one of [`EventNames`](super::EventNames); says whether it is.
    ///
    /// Drain [`poll_event`](Self::poll_event) next.
    ///
    /// # Errors
    /// Those of [`handle_state`](Self::handle_state) and [`handle_diff`](Self::handle_diff).
    pub fn handle_message(&mut self, event: &str, payload: &str) -> Result<bool, SyncError> {
        if event == self.config.events.state {
            self.handle_state(payload)?;
        } else if event == self.config.events.diff {
            self.handle_diff(payload)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Takes the payload of a `presence_state`: the list becomes what it says, then the diffs that
    /// waited for it are applied.
    ///
    /// Drain [`poll_event`](Self::poll_event) next: the joins and then the leaves of the state, the
    /// same of each diff, and one [`Event::Sync`].
    ///
    /// # Errors
    /// [`SyncError`]; the list is then as it was, and there are no new events.
    pub fn handle_state(&mut self, payload: &str) -> Result<(), SyncError> {
        self.refuse_after_loss()?;
        let new = Presences::parse(payload)?;

        // On a copy: what becomes of the metas held, and so how large the list gets, is known only
        // afterwards. A state costs as much as the whole list anyhow.
        let mut state = self.state.clone();
        let mut events = VecDeque::new();
        sync_state(&mut state, &new, |event| events.push_back(event));
        for diff in &self.pending {
            sync_diff(&mut state, diff, |event| events.push_back(event));
        }
        self.limit_list(state.size())?;

        self.state = state;
        self.synced.clone_from(&self.join_ref);
        self.forget_pending();
        self.events.append(&mut events);
        self.events.push_back(Event::Sync);
        Ok(())
    }

    /// Takes the payload of a `presence_diff`: applies it, or keeps it while a state is awaited.
    ///
    /// Drain [`poll_event`](Self::poll_event) next: the diff's joins, its leaves and one
    /// [`Event::Sync`]; nothing while a state is awaited.
    ///
    /// # Errors
    /// [`SyncError`]; the list is then as it was, and there are no new events.
    pub fn handle_diff(&mut self, payload: &str) -> Result<(), SyncError> {
        self.refuse_after_loss()?;
        let diff = Diff::parse(payload)?;
        if self.is_pending() {
            return self.keep(diff);
        }
        self.limit_list(self.state.size().saturating_add(diff.joins().size()))?;

        let events = &mut self.events;
        sync_diff(&mut self.state, &diff, |event| events.push_back(event));
        self.events.push_back(Event::Sync);
        Ok(())
    }

    /// The next event, in the order in which phoenix.js makes its callbacks.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The presences of all keys, in the order in which phoenix.js lists them.
    ///
    /// Costs nothing by itself: it is a view. For another form of each see [`list`].
    pub fn list(&self) -> impl ExactSizeIterator<Item = &Presence> {
        self.state.iter().map(|(_, presence)| presence)
    }

    /// What `chooser` makes of each key and its presence, in the order of [`list`](Self::list).
    #[must_use]
    pub fn list_by<T>(&self, chooser: impl FnMut(&str, &Presence) -> T) -> Vec<T> {
        list(&self.state, chooser)
    }

    /// The presences by key.
    #[must_use]
    pub fn state(&self) -> &Presences {
        &self.state
    }

    /// Whether a state is awaited, so that the list is that of an earlier join, or empty
    /// (`inPendingSyncState`).
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.synced.is_none() || self.synced != self.join_ref
    }

    fn keep(&mut self, diff: Diff) -> Result<(), SyncError> {
        let Limits {
            pending_diffs,
            pending_bytes,
            ..
        } = self.config.limits;
        if self.pending.len() >= pending_diffs {
            return Err(self.lose(SyncError::PendingDiffs {
                limit: pending_diffs,
            }));
        }
        let size = self.pending_size.saturating_add(diff.size());
        if size > pending_bytes {
            return Err(self.lose(SyncError::PendingBytes {
                limit: pending_bytes,
            }));
        }
        self.pending.push(diff);
        self.pending_size = size;
        Ok(())
    }

    fn forget_pending(&mut self) {
        self.pending.clear();
        self.pending_size = 0;
    }

    fn limit_list(&mut self, bytes: usize) -> Result<(), SyncError> {
        let limit = self.config.limits.list_bytes;
        if bytes > limit {
            return Err(self.lose(SyncError::ListBytes { limit }));
        }
        Ok(())
    }

    /// Without the message at hand neither those kept nor those to come add up to the right list.
    fn lose(&mut self, error: SyncError) -> SyncError {
        self.forget_pending();
        self.synced = None;
        self.rejoin_needed = true;
        error
    }

    fn refuse_after_loss(&self) -> Result<(), SyncError> {
        if self.rejoin_needed {
            return Err(SyncError::RejoinNeeded);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::EventNames;
    use super::*;

    const EMPTY: &str = r#"{"joins":{},"leaves":{}}"#;

    fn join(key: &str, phx_ref: &str) -> String {
        format!(r#"{{"joins":{},"leaves":{{}}}}"#, one(key, phx_ref))
    }

    fn leave(key: &str, phx_ref: &str) -> String {
        format!(r#"{{"joins":{{}},"leaves":{}}}"#, one(key, phx_ref))
    }

    fn one(key: &str, phx_ref: &str) -> String {
        format!(r#"{{"{key}":{{"metas":[{{"phx_ref":"{phx_ref}"}}]}}}}"#)
    }

    fn with(config: Config) -> ChannelPresence {
        let mut presence = ChannelPresence::new(config);
        presence.rejoined("1");
        presence
    }

    fn limited(limits: Limits) -> ChannelPresence {
        with(Config {
            limits,
            ..Config::default()
        })
    }

    /// Under join_ref 1 and with its first state, `{}`.
    fn synced(config: Config) -> ChannelPresence {
        let mut presence = with(config);
        presence.handle_state("{}").unwrap();
        assert_eq!(drained(&mut presence), ["sync"]);
        presence
    }

    /// `+key`, `-key` or `sync`.
    fn drained(presence: &mut ChannelPresence) -> Vec<String> {
        std::iter::from_fn(|| presence.poll_event())
            .map(|event| match event {
                Event::Join { key, .. } => format!("+{key}"),
                Event::Leave { key, .. } => format!("-{key}"),
                Event::Sync => "sync".to_owned(),
            })
            .collect()
    }

    fn keys(presence: &ChannelPresence) -> Vec<String> {
        presence.list_by(|key, _| key.to_owned())
    }

    #[test]
    fn a_diff_before_the_state_is_kept_and_applied_after_it() {
        let mut presence = with(Config::default());
        assert!(presence.is_pending());
        presence.handle_diff(&join("b", "2")).unwrap();
        presence.handle_diff(&leave("a", "1")).unwrap();
        assert!(drained(&mut presence).is_empty() && presence.state().is_empty());

        presence.handle_state(&one("a", "1")).unwrap();
        assert_eq!(drained(&mut presence), ["+a", "+b", "-a", "sync"]);
        assert_eq!(keys(&presence), ["b"]);
        assert!(!presence.is_pending());

        presence.handle_state(&one("b", "2")).unwrap();
        assert_eq!(drained(&mut presence), ["sync"], "kept diffs apply once");
    }

    #[test]
    fn a_diff_after_the_state_is_applied_at_once() {
        let mut presence = synced(Config::default());
        presence.handle_diff(&join("a", "1")).unwrap();
        assert_eq!(drained(&mut presence), ["+a", "sync"]);
        presence.handle_diff(EMPTY).unwrap();
        assert_eq!(drained(&mut presence), ["sync"]);
        assert_eq!(keys(&presence), ["a"]);
    }

    #[test]
    fn after_a_rejoin_the_list_stays_until_the_new_state_comes() {
        let mut presence = synced(Config::default());
        presence.handle_diff(&join("a", "1")).unwrap();
        drained(&mut presence);

        presence.rejoined("5");
        assert!(presence.is_pending());
        presence.handle_diff(&join("c", "3")).unwrap();
        assert_eq!(keys(&presence), ["a"]);
        assert!(drained(&mut presence).is_empty());

        presence.handle_state(&one("b", "2")).unwrap();
        assert_eq!(drained(&mut presence), ["+b", "-a", "+c", "sync"]);
        assert_eq!(keys(&presence), ["b", "c"]);
    }

    #[test]
    fn the_same_join_ref_again_is_no_rejoin() {
        let mut presence = synced(Config::default());
        presence.rejoined("1");
        assert!(!presence.is_pending());
    }

    #[test]
    fn without_a_join_ref_a_state_is_applied_and_still_awaited() {
        let mut presence = ChannelPresence::new(Config::default());
        for join_ref in [None, Some("1"), Some("")] {
            if let Some(join_ref) = join_ref {
                presence.rejoined(join_ref);
            }
            presence.handle_state(&one("a", "1")).unwrap();
            assert_eq!(keys(&presence), ["a"]);
            assert_eq!(presence.is_pending(), join_ref != Some("1"));
        }
    }

    #[test]
    fn a_diff_of_an_earlier_join_is_applied_after_the_next_state() {
        let mut presence = with(Config::default());
        presence.handle_diff(&join("ghost", "1")).unwrap();
        presence.rejoined("2");
        presence.handle_state("{}").unwrap();
        assert_eq!(drained(&mut presence), ["+ghost", "sync"]);
    }

    #[test]
    fn a_diff_of_an_earlier_join_can_be_discarded() {
        let mut presence = with(Config {
            stale_diffs: StaleDiffs::Discard,
            ..Config::default()
        });
        presence.handle_diff(&join("ghost", "1")).unwrap();
        presence.rejoined("2");
        presence.handle_diff(&join("a", "2")).unwrap();
        presence.rejoined("2");
        presence.handle_state("{}").unwrap();
        assert_eq!(drained(&mut presence), ["+a", "sync"]);
    }

    #[test]
    fn only_the_named_events_are_taken() {
        let mut presence = with(Config {
            events: EventNames {
                state: "state".to_owned(),
                diff: "diff".to_owned(),
            },
            ..Config::default()
        });
        assert!(
            !presence
                .handle_message("presence_state", "not JSON")
                .unwrap()
        );
        assert!(
            !presence
                .handle_message("presence_diff", "not JSON")
                .unwrap()
        );
        assert!(presence.handle_message("state", "{}").unwrap());
        assert!(presence.handle_message("diff", &join("a", "1")).unwrap());
        assert_eq!(drained(&mut presence), ["sync", "+a", "sync"]);
        assert!(presence.handle_message("state", "[]").is_err());
        assert!(presence.handle_message("diff", "[]").is_err());
    }

    #[test]
    fn the_events_are_named_as_the_server_names_them() {
        let mut presence = with(Config::default());
        assert!(presence.handle_message("presence_state", "{}").unwrap());
        assert!(presence.handle_message("presence_diff", EMPTY).unwrap());
        assert!(!presence.handle_message("phx_reply", "{}").unwrap());
    }

    #[test]
    fn a_malformed_payload_changes_nothing_and_the_next_is_taken() {
        let mut presence = synced(Config::default());
        presence.handle_diff(&join("a", "1")).unwrap();
        drained(&mut presence);
        let halfway = r#"{"joins":{"b":{"metas":[]}},"leaves":{"a":{}}}"#;
        let error = presence.handle_diff(halfway).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"payload.leaves["a"].metas must be an array, but is missing"#
        );
        assert!(presence.handle_state(r#"{"b":{}}"#).is_err());
        assert_eq!(keys(&presence), ["a"]);
        assert!(drained(&mut presence).is_empty() && !presence.is_pending());

        presence.handle_diff(&join("c", "3")).unwrap();
        assert_eq!(drained(&mut presence), ["+c", "sync"]);
    }

    #[test]
    fn a_malformed_state_is_still_awaited_and_kept_diffs_stay() {
        let mut presence = with(Config::default());
        presence.handle_diff(&join("a", "1")).unwrap();
        assert!(matches!(
            presence.handle_diff("{}"),
            Err(SyncError::Payload(_))
        ));
        assert!(matches!(
            presence.handle_state("[]"),
            Err(SyncError::Payload(_))
        ));
        assert!(presence.is_pending());
        presence.handle_state("{}").unwrap();
        assert_eq!(drained(&mut presence), ["+a", "sync"]);
    }

    #[test]
    fn list_and_list_by_go_over_all_keys_in_order() {
        let mut presence = synced(Config::default());
        presence
            .handle_state(r#"{"b":{"metas":[1,2]},"7":{"metas":[3]}}"#)
            .unwrap();
        let lens: Vec<usize> = presence
            .list()
            .map(|presence| presence.metas().len())
            .collect();
        assert_eq!(lens, [1, 2]);
        assert_eq!(
            presence.list_by(|key, presence| (key.to_owned(), presence.metas().len())),
            [("7".to_owned(), 1), ("b".to_owned(), 2)]
        );
    }

    /// That nothing is taken or kept until `join_ref` is over, and that it then works anew.
    fn assert_lost_until_rejoin(presence: &mut ChannelPresence, join_ref: &str) {
        let before = keys(presence);
        for _ in 0..2 {
            assert!(presence.is_pending());
            assert!(matches!(
                presence.handle_diff(EMPTY),
                Err(SyncError::RejoinNeeded)
            ));
            assert!(matches!(
                presence.handle_state("{}"),
                Err(SyncError::RejoinNeeded)
            ));
            presence.rejoined(join_ref);
        }
        assert_eq!(keys(presence), before);
        assert!(drained(presence).is_empty());

        presence.rejoined("next");
        assert!(presence.is_pending());
        presence.handle_diff(&join("x", "9")).unwrap();
        presence.handle_state("{}").unwrap();
        assert_eq!(keys(presence), ["x"], "no diff of before is left");
        assert!(!presence.is_pending());
    }

    #[test]
    fn one_diff_more_than_may_wait_calls_for_a_rejoin() {
        let mut presence = limited(Limits {
            pending_diffs: 2,
            ..Limits::default()
        });
        presence.handle_diff(&join("a", "1")).unwrap();
        presence.handle_diff(&join("b", "2")).unwrap();
        presence.handle_state("{}").unwrap();
        assert_eq!(drained(&mut presence), ["+a", "+b", "sync"]);

        presence.rejoined("2");
        presence.handle_diff(&join("c", "3")).unwrap();
        presence.handle_diff(&join("d", "4")).unwrap();
        assert!(matches!(
            presence.handle_diff(EMPTY),
            Err(SyncError::PendingDiffs { limit: 2 })
        ));
        assert_lost_until_rejoin(&mut presence, "2");
    }

    #[test]
    fn more_bytes_than_may_wait_call_for_a_rejoin() {
        let size = Diff::parse(&join("a", "1")).unwrap().size();
        let mut presence = limited(Limits {
            pending_bytes: 2 * size,
            ..Limits::default()
        });
        presence.handle_diff(&join("a", "1")).unwrap();
        presence.handle_diff(&leave("b", "2")).unwrap();
        presence.handle_state("{}").unwrap();
        assert_eq!(drained(&mut presence), ["+a", "sync"]);

        presence.rejoined("2");
        presence.handle_diff(&join("c", "3")).unwrap();
        presence.handle_diff(&join("d", "4")).unwrap();
        assert!(matches!(
            presence.handle_diff(&leave("a", "1")),
            Err(SyncError::PendingBytes { limit }) if limit == 2 * size
        ));
        assert_lost_until_rejoin(&mut presence, "2");

        presence.rejoined("again");
        presence.handle_diff(&join("c", "3")).unwrap();
        presence.handle_diff(&join("d", "4")).unwrap();
    }

    #[test]
    fn discarded_diffs_no_longer_count() {
        let size = Diff::parse(&join("a", "1")).unwrap().size();
        let mut presence = with(Config {
            limits: Limits {
                pending_bytes: size,
                pending_diffs: 1,
                ..Limits::default()
            },
            stale_diffs: StaleDiffs::Discard,
            ..Config::default()
        });
        for join_ref in ["2", "3", "4"] {
            presence.handle_diff(&join("a", "1")).unwrap();
            presence.rejoined(join_ref);
        }
    }

    #[test]
    fn a_diff_that_makes_the_list_too_large_calls_for_a_rejoin() {
        let size = Diff::parse(&join("a", "1")).unwrap().size();
        let mut presence = limited(Limits {
            list_bytes: 2 * size,
            ..Limits::default()
        });
        presence.handle_state("{}").unwrap();
        for (key, phx_ref) in [("a", "1"), ("b", "2")] {
            presence.handle_diff(&join(key, phx_ref)).unwrap();
        }
        presence.handle_diff(&leave("b", "unknown")).unwrap();
        drained(&mut presence);
        assert!(matches!(
            presence.handle_diff(&join("c", "3")),
            Err(SyncError::ListBytes { limit }) if limit == 2 * size
        ));
        assert_eq!(keys(&presence), ["a", "b"]);
        assert_lost_until_rejoin(&mut presence, "1");
    }

    #[test]
    fn a_state_too_large_together_with_the_joins_kept_calls_for_a_rejoin() {
        let size = Diff::parse(&join("a", "1")).unwrap().size();
        let mut presence = limited(Limits {
            list_bytes: 2 * size,
            ..Limits::default()
        });
        presence.handle_diff(&join("a", "1")).unwrap();
        presence.handle_diff(&leave("c", "3")).unwrap();
        presence.handle_state(&one("b", "2")).unwrap();
        assert_eq!(drained(&mut presence), ["+b", "+a", "sync"]);

        presence.rejoined("2");
        presence.handle_diff(&join("c", "3")).unwrap();
        presence.handle_diff(&join("d", "4")).unwrap();
        assert!(matches!(
            presence.handle_state(&one("b", "2")),
            Err(SyncError::ListBytes { limit }) if limit == 2 * size
        ));
        assert_eq!(keys(&presence), ["b", "a"]);
        assert_lost_until_rejoin(&mut presence, "2");
    }

    #[test]
    fn a_full_list_may_be_replaced_by_another() {
        let size = Diff::parse(&join("a", "1")).unwrap().size();
        let mut presence = limited(Limits {
            list_bytes: size,
            ..Limits::default()
        });
        presence.handle_state(&one("a", "1")).unwrap();
        presence.handle_state(&one("b", "2")).unwrap();
        assert_eq!(drained(&mut presence), ["+a", "sync", "+b", "-a", "sync"]);
    }

    #[test]
    fn the_limit_holds_for_what_a_state_leaves_in_the_list() {
        let held = r#"{"a":{"metas":[{"phx_ref":"1","text":"long"}]}}"#;
        let told = r#"{"a":{"metas":[{"phx_ref":"1"},{"phx_ref":"2"}]}}"#;
        let told_size = Presences::parse(told).unwrap().size();
        let mut presence = limited(Limits {
            list_bytes: told_size,
            ..Limits::default()
        });
        presence.handle_state(held).unwrap();
        drained(&mut presence);
        assert!(matches!(
            presence.handle_state(told),
            Err(SyncError::ListBytes { .. })
        ));
        assert_lost_until_rejoin(&mut presence, "1");
    }
}
