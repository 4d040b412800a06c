//! What each node of a schedule is started with.

use std::sync::Arc;
use std::time::Duration;

use presence_core::wire::cluster::Version;
use presence_server::app::{Tokens, conformance};

use super::super::environment::ALL;
use super::super::host::{Bounds, Setup};
use super::super::stage::Stage;
use crate::coverage::Counted;
use crate::schedule::{Joining, NodeSpec, Schedule};

pub(super) fn setups(schedule: &Schedule, stage: &Stage, names: &[Arc<str>]) -> Vec<Setup> {
    let tokens = Tokens::new(&conformance::secret_key_base()).expect("the secret is long enough");
    let slowest = schedule.nodes.iter().map(|node| node.clock_ppm).min();
    match schedule.joining {
        Joining::Each => {}
        Joining::Name => stage.count(Counted::FoundByName),
        Joining::Through(_) => stage.count(Counted::Introduced),
    }
    let older = stage.below(3) == 0;
    let bounds = Bounds::of(schedule.seed);
    let setup = |(node, spec): (usize, &NodeSpec)| {
        let is_older = older && stage.below(2) == 0;
        if is_older {
            stage.note_older();
        }
        if spec.clock_ppm != 0 {
            stage.count(Counted::ClockSkew);
        }
        if spec.pool(schedule) != schedule.settings.pool_size {
            stage.count(Counted::PoolMismatch);
        }
        Setup {
            name: Arc::clone(&names[node]),
            node,
            join: match &schedule.joining {
                Joining::Each => names.to_vec(),
                Joining::Name => vec![ALL.into()],
                Joining::Through(name) => vec![name.as_str().into()],
            },
            tracker: schedule.config(),
            pool_size: spec.pool(schedule),
            fast_ppm: spec.clock_ppm.abs_diff(slowest.unwrap_or_default()),
            version: match is_older {
                true => Version::OLDEST,
                false => Version::NEWEST,
            },
            trip: Duration::from_micros(schedule.network.trip_us()),
            // A message is some hundred bytes. A part of an answer must fit, of which each value is one
            // or two hundred.
            queue_bytes: (schedule.network.queue * 256)
                .max(schedule.settings.chunk_values * 200)
                .max(6 << 10),
            bounds: bounds.clone(),
            tokens: tokens.clone(),
        }
    };
    schedule.nodes.iter().enumerate().map(setup).collect()
}
