//! How long clusters take to agree, over seeds that stay the same, so that a change that makes healing
//! slower is seen.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::case::Family;
use crate::sweep::{Plan, sweep};
use crate::tier::Tier;

/// How much a figure may change before somebody must say that it should.
pub const TOLERANCE: f64 = 0.05;

/// The figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convergence {
    /// Seeds, from 0 on.
    pub seeds: u64,
    /// Half of them agreed within so many milliseconds after the last fault had ended.
    pub median_ms: u64,
    /// Nine in ten did.
    pub p90_ms: u64,
    /// All did.
    pub max_ms: u64,
    /// Messages that all of them sent.
    pub messages: u64,
}

impl Convergence {
    /// Measures it.
    ///
    /// # Errors
    ///
    /// A sentence that names the seed that did not hold.
    pub fn measure(seeds: u64, jobs: usize) -> Result<Self, String> {
        let plan = Plan {
            tier: Tier::Core,
            families: vec![Family::Swarm],
            first: 0,
            end: Some(seeds),
            jobs,
            sabotage: None,
            until_covered: false,
        };
        let swept = sweep(&plan, &|| ());
        if let Some((case, failure)) = swept.failure {
            return Err(format!("{}: {failure}", case.schedule().name));
        }
        let total = swept.total();
        let ms = |part| {
            let time = total.agreed_within(part).unwrap_or(Duration::ZERO);
            time.as_millis() as u64
        };
        Ok(Self {
            seeds,
            median_ms: ms(0.5),
            p90_ms: ms(0.9),
            max_ms: ms(1.0),
            messages: total.messages,
        })
    }

    /// Reads what was kept.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(json: &str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    /// What is kept.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("figures are JSON");
        json.push('\n');
        json
    }

    /// Each figure that has changed by more than the tolerance since `before`, in a sentence.
    pub fn changes(&self, before: &Self) -> Vec<String> {
        let figures = [
            ("seeds", before.seeds, self.seeds),
            ("median_ms", before.median_ms, self.median_ms),
            ("p90_ms", before.p90_ms, self.p90_ms),
            ("max_ms", before.max_ms, self.max_ms),
            ("messages", before.messages, self.messages),
        ];
        let changed = figures
            .into_iter()
            .filter(|&(_, before, now)| before.abs_diff(now) as f64 > before as f64 * TOLERANCE);
        changed
            .map(|(name, before, now)| {
                let by = (now as f64 / before as f64 - 1.0) * 100.0;
                format!("{name} was {before} and is {now} ({by:+.1} %)")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_more_than_five_percent_is_named_either_way() {
        let before = Convergence {
            seeds: 100,
            median_ms: 1000,
            p90_ms: 2000,
            max_ms: 3000,
            messages: 1000,
        };
        let now = Convergence {
            median_ms: 1050,
            p90_ms: 2101,
            messages: 940,
            ..before
        };
        assert_eq!(
            now.changes(&before),
            [
                "p90_ms was 2000 and is 2101 (+5.0 %)",
                "messages was 1000 and is 940 (-6.0 %)"
            ]
        );
        assert_eq!(Convergence::parse(&now.to_json()), Ok(now));
    }
}
