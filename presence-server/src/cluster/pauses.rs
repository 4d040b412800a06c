//! How long to wait before a place is dialled again.

use std::time::Duration;

use super::config::MeshConfig;

/// The longest period that is counted with: a century, which no clock overflows on.
pub(super) const MAX_PERIOD: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The pauses of a mesh.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    broadcast_period: Duration,
    max: Duration,
}

/// A number from 0 to 1, drawn at random: it sets dials apart that would fall together.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub(super) struct Jitter(f64);

impl Jitter {
    pub(super) fn of(random: u64) -> Self {
        Self((random >> 11) as f64 / (1_u64 << 53) as f64)
    }

    fn up_to(self, max: Duration) -> Duration {
        max.mul_f64(self.0)
    }
}

impl Pauses {
    pub(super) fn new(config: &MeshConfig) -> Self {
        Self {
            broadcast_period: config.broadcast_period.min(MAX_PERIOD),
            max: config.max_backoff.min(MAX_PERIOD),
        }
    }

    /// After a link that broke.
    pub(super) fn after_break(self, lived: Duration, jitter: Jitter) -> Duration {
        if lived >= self.broadcast_period {
            jitter.up_to(self.broadcast_period / 8)
        } else {
            // What breaks over and over must not keep both nodes busy.
            self.short(jitter)
        }
    }

    /// While the process of a node may be gone, which is to be known within three broadcast periods.
    pub(super) fn short(self, jitter: Jitter) -> Duration {
        let half = self.broadcast_period / 2;
        half - jitter.up_to(half / 4)
    }

    /// After so many failures: half a broadcast period, and twice as long each time.
    pub(super) fn after_failures(self, failures: u32, jitter: Jitter) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        let pause = (self.broadcast_period / 2).saturating_mul(factor);
        let pause = pause.min(self.max);
        pause - jitter.up_to(pause / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Secret;
    use super::*;

    fn pauses() -> Pauses {
        let mut config = MeshConfig::new(Secret::new([7; 16]).unwrap());
        config.broadcast_period = Duration::from_secs(2);
        Pauses::new(&config)
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_are_spread() {
        let after = |failures, jitter| {
            let pause = pauses().after_failures(failures, Jitter(jitter));
            pause.as_secs_f64()
        };
        let pauses: Vec<_> = (0..6).map(|failures| after(failures, 0.0)).collect();
        assert_eq!(pauses, [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
        assert_eq!(after(u32::MAX, 0.0), 10.0);
        assert_eq!([after(0, 1.0), after(9, 0.5)], [0.75, 8.75]);
    }

    #[test]
    fn a_link_that_stood_is_dialled_again_at_once_and_one_that_did_not_soon() {
        let after = |lived, jitter| {
            let lived = Duration::from_secs(lived);
            pauses().after_break(lived, Jitter(jitter)).as_millis()
        };
        assert_eq!([after(2, 0.0), after(2, 1.0)], [0, 250]);
        assert_eq!([after(1, 0.0), after(1, 1.0)], [1000, 750]);
    }

    #[test]
    fn no_setting_makes_a_pause_that_cannot_be_counted_with() {
        let mut config = MeshConfig::new(Secret::new([7; 16]).unwrap());
        config.broadcast_period = Duration::MAX;
        config.max_backoff = Duration::MAX;
        let pauses = Pauses::new(&config);
        assert!(pauses.after_failures(u32::MAX, Jitter(1.0)) <= MAX_PERIOD);
        assert!(pauses.after_break(Duration::ZERO, Jitter(0.0)) <= MAX_PERIOD);
    }

    #[test]
    fn a_jitter_is_from_0_to_1() {
        assert_eq!(Jitter::of(0), Jitter(0.0));
        assert_eq!(Jitter::of(1 << 63), Jitter(0.5));
        assert!(Jitter::of(u64::MAX) < Jitter(1.0));
    }
}
