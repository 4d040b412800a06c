//! The settings of a tracker, under the names that they have in `Phoenix.Tracker`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::journal::nanos;
use crate::set;

/// The settings of a tracker. (As JSON, periods are in nanoseconds.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// How often a replica that has something to say speaks. 1.5 s by default.
    #[serde(with = "nanos")]
    pub broadcast_period: Duration,
    /// After how many periods without a word an idle replica speaks nevertheless. 10 by default: an
    /// idle replica speaks in every eleventh period.
    pub max_silent_periods: u32,
    /// After how much silence a replica counts as down. 2 × `max_silent_periods` × `broadcast_period`
    /// by default.
    #[serde(with = "nanos")]
    pub down_period: Duration,
    /// After how much silence a replica is forgotten. 20 minutes by default.
    #[serde(with = "nanos")]
    pub permdown_period: Duration,
    /// In how many periods a replica once looks for what it lacks. 2 by default.
    pub clock_sample_periods: u32,
    /// How many leaves a lagging replica can be told of without a full state: the largest of these,
    /// which are 100, 1,000 and 10,000 by default. (The reference keeps a merged delta of each size;
    /// here one log takes their place.)
    pub max_delta_sizes: Vec<usize>,
    /// Whether a replica that stops says goodbye, so that its presences leave at once. Off by default:
    /// they stay until it counts as down, or its next incarnation is up.
    pub permdown_on_shutdown: bool,
    /// Whether, once this replica stops, one of its presences goes as soon as its key is tracked
    /// elsewhere. Off by default.
    pub handover: bool,
    /// Values in one message, and about so many presences are listed, hidden or removed in one go where a
    /// replica comes or goes, or much of it. 250 by default, which take about 0.3 ms.
    pub chunk_values: usize,
    /// What the set may hold. Its log of leaves is set by `max_delta_sizes`.
    pub limits: set::Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self::with_periods(Duration::from_millis(1500), 10)
    }
}

/// Settings that can't work together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A setting that must be at least one is zero.
    #[error("{0} must not be 0")]
    Zero(&'static str),
    /// An idle replica would count as down between two of its words.
    #[error(
        "down_period is {down_period:?}, but an idle replica speaks every \
         max_silent_periods + 1 = {every} periods of {broadcast_period:?}: \
         it must be more than {least:?}"
    )]
    DownPeriod {
        /// The setting.
        down_period: Duration,
        /// The setting.
        broadcast_period: Duration,
        /// How many periods lie between two words of an idle replica.
        every: u32,
        /// The bound.
        least: Duration,
    },
    /// A replica would be forgotten before it counts as down.
    #[error(
        "permdown_period is {permdown_period:?}, but must be more than down_period, {down_period:?}"
    )]
    PermdownPeriod {
        /// The setting.
        permdown_period: Duration,
        /// The setting.
        down_period: Duration,
    },
    /// The sizes of deltas must be given, each larger than the one before.
    #[error("max_delta_sizes must be ascending and not empty, not {0:?}")]
    MaxDeltaSizes(Vec<usize>),
}

impl Config {
    /// The default settings with these periods, and the down period that follows from them.
    pub fn with_periods(broadcast_period: Duration, max_silent_periods: u32) -> Self {
        Self {
            broadcast_period,
            max_silent_periods,
            down_period: broadcast_period
                .saturating_mul(max_silent_periods)
                .saturating_mul(2),
            permdown_period: Duration::from_secs(20 * 60),
            clock_sample_periods: 2,
            max_delta_sizes: vec![100, 1_000, 10_000],
            permdown_on_shutdown: false,
            handover: false,
            chunk_values: 250,
            limits: set::Limits::default(),
        }
    }

    /// Refuses settings that can't work.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`], which says why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let zero = [
            ("broadcast_period", self.broadcast_period.is_zero()),
            ("clock_sample_periods", self.clock_sample_periods == 0),
            ("chunk_values", self.chunk_values == 0),
        ];
        if let Some((name, _)) = zero.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError::Zero(name));
        }
        let least = self
            .broadcast_period
            .saturating_mul(self.max_silent_periods.saturating_add(2));
        if self.down_period <= least {
            return Err(ConfigError::DownPeriod {
                down_period: self.down_period,
                broadcast_period: self.broadcast_period,
                every: self.max_silent_periods.saturating_add(1),
                least,
            });
        }
        if self.permdown_period <= self.down_period {
            return Err(ConfigError::PermdownPeriod {
                permdown_period: self.permdown_period,
                down_period: self.down_period,
            });
        }
        let sizes = &self.max_delta_sizes;
        let ascending = sizes.windows(2).all(|pair| pair[0] < pair[1]);
        if sizes.first().is_none_or(|&size| size == 0) || !ascending {
            return Err(ConfigError::MaxDeltaSizes(sizes.clone()));
        }
        Ok(())
    }

    /// How long an answer is waited for before it is asked for again.
    pub(super) fn transfer_timeout(&self) -> Duration {
        self.broadcast_period
            .saturating_mul(self.clock_sample_periods)
    }

    pub(super) fn set_limits(&self) -> set::Limits {
        set::Limits {
            removal_log: self.max_delta_sizes.last().copied().unwrap_or(0),
            // What one replica saw leave on another is for that other to tell: whoever only hears of
            // it could not know whether the presence left or was updated.
            observed: 0,
            ..self.limits.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_references() {
        let config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.down_period, Duration::from_secs(30));
        assert_eq!(config.permdown_period, Duration::from_secs(1200));
        assert_eq!(config.set_limits().removal_log, 10_000);
        assert_eq!(config.transfer_timeout(), Duration::from_secs(3));
    }

    #[test]
    fn an_idle_replica_must_not_count_as_down_between_two_words() {
        let mut config = Config::with_periods(Duration::from_secs(1), 5);
        config.down_period = Duration::from_secs(7);
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "down_period is 7s, but an idle replica speaks every max_silent_periods + 1 = 6 periods \
             of 1s: it must be more than 7s"
        );
        config.down_period = Duration::from_millis(7001);
        assert_eq!(config.validate(), Ok(()));
        // Of few silent periods twice their number is too few.
        let eager = Config::with_periods(Duration::from_secs(1), 2);
        assert!(matches!(
            eager.validate(),
            Err(ConfigError::DownPeriod { every: 3, .. })
        ));
    }

    #[test]
    fn each_other_setting_that_cant_work_is_refused_by_name() {
        let refused = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        let zero = |name: &str| format!("{name} must not be 0");
        assert_eq!(
            refused(|c| c.broadcast_period = Duration::ZERO),
            zero("broadcast_period")
        );
        assert_eq!(
            refused(|c| c.clock_sample_periods = 0),
            zero("clock_sample_periods")
        );
        assert_eq!(refused(|c| c.chunk_values = 0), zero("chunk_values"));
        assert_eq!(
            refused(|c| c.permdown_period = c.down_period),
            "permdown_period is 30s, but must be more than down_period, 30s"
        );
        for sizes in [vec![], vec![0, 1], vec![5, 5], vec![5, 4]] {
            let config = Config {
                max_delta_sizes: sizes.clone(),
                ..Config::default()
            };
            assert_eq!(config.validate(), Err(ConfigError::MaxDeltaSizes(sizes)));
        }
        assert_eq!(
            refused(|c| c.max_delta_sizes = vec![2, 1]),
            "max_delta_sizes must be ascending and not empty, not [2, 1]"
        );
    }

    #[test]
    fn settings_beyond_all_bounds_do_not_overflow() {
        let config = Config::with_periods(Duration::MAX, u32::MAX);
        assert!(config.validate().is_err());
    }
}
