//! A history from a seed.

use serde_json::json;

use super::super::tracker::Replicas as _;
use super::super::tracker::history::{History, Op, Place, Step};
use super::model::Model;
use super::random::Random;

/// How likely each kind of step is; drawn anew for each history, so that some are all updates, some
/// all netsplits, and faults meet that an average would keep apart.
struct Mix {
    weights: [usize; 11],
    /// Percent of merges that take a recent message rather than any.
    recent: usize,
    /// Percent of deltas that never reach anyone.
    lost: usize,
    /// How many replicas make changes of their own.
    writers: usize,
    pids: usize,
    topics: usize,
    keys: usize,
}

/// Which of the weights is which.
const KINDS: [Kind; 11] = [
    Kind::Join,
    Kind::Update,
    Kind::Leave,
    Kind::LeavePid,
    Kind::Delta,
    Kind::Extract,
    Kind::Merge,
    Kind::Down,
    Kind::Up,
    Kind::Remove,
    Kind::Check,
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Join,
    Update,
    Leave,
    LeavePid,
    Delta,
    Extract,
    Merge,
    Down,
    Up,
    Remove,
    Check,
}

/// A message under way; a full state goes to its asker only.
struct Sent {
    name: String,
    asker: Option<String>,
}

struct Writer {
    random: Random,
    model: Model,
    history: History,
    sent: Vec<Sent>,
    taken: usize,
    metas: usize,
}

/// The history of `seed`.
pub(super) fn generate(seed: u64) -> History {
    let mut random = Random::new(seed);
    let count = random.between(2, 5);
    let replicas: Vec<String> = ["a", "b", "c", "d", "e"][..count]
        .iter()
        .map(ToString::to_string)
        .collect();
    let mix = Mix::draw(&mut random, count);
    let len = random.between(30, 90 + 40 * count);
    let mut writer = Writer {
        random,
        model: Model::new(&replicas),
        history: History {
            replicas,
            steps: Vec::new(),
        },
        sent: Vec::new(),
        taken: 0,
        metas: 0,
    };
    writer.meet();
    for _ in 0..len {
        writer.step(&mix);
    }
    writer.heal();
    writer.history
}

impl Mix {
    fn draw(random: &mut Random, replicas: usize) -> Self {
        let most = [14, 24, 10, 3, 20, 4, 44, 4, 8, 2, 4];
        let mut weights = most.map(|most| random.between(most / 4, most));
        // A full state closes every gap, and most faults need one.
        if random.chance(60) {
            weights[Kind::Extract as usize] = 0;
        }
        // A mass of updates of few presences: that is where dots of one presence pass each other.
        let (pids, topics, keys) = if random.chance(50) {
            (1, 1, random.between(1, 2))
        } else {
            let mut few = || random.between(1, 3);
            (few(), few(), few())
        };
        Self {
            weights,
            recent: [0, 30, 60, 90][random.below(4)],
            lost: [0, 20, 50][random.below(3)],
            writers: random.between(1, replicas),
            pids,
            topics,
            keys,
        }
    }
}

impl Writer {
    /// Writes a step and what the model says of it; nothing where it makes no sense now.
    fn write(&mut self, at: &str, op: Op) {
        if !self.model.allows(at, &op) {
            return;
        }
        if let Ok(told) = self.model.take(at, &op) {
            let at = at.to_owned();
            self.history.steps.push(Step { at, op, told });
        }
    }

    /// Most know each other from the start.
    fn meet(&mut self) {
        for (at, replica) in self.pairs() {
            if self.random.chance(90) {
                self.write(&at, Op::Up { replica });
            }
        }
    }

    /// Everyone is up and told everything, twice, since what is told may itself have been incomplete.
    fn heal(&mut self) {
        for (at, replica) in self.pairs() {
            self.write(&at, Op::Up { replica });
        }
        for _ in 0..2 {
            for (at, asker) in self.pairs() {
                let of = self.extract(&at, &asker);
                self.write(&asker, Op::Merge { of });
            }
        }
        for at in self.history.replicas.clone() {
            self.write(&at, Op::Check);
        }
    }

    fn pairs(&self) -> Vec<(String, String)> {
        let replicas = &self.history.replicas;
        let of = |at: &String| {
            let others = replicas.iter().filter(|other| *other != at);
            others
                .map(|other| (at.clone(), other.clone()))
                .collect::<Vec<_>>()
        };
        replicas.iter().flat_map(of).collect()
    }

    fn extract(&mut self, at: &str, asker: &str) -> String {
        let name = self.name();
        let asker = asker.to_owned();
        let context = self.model.clocks(&asker);
        let extract = Op::Extract {
            asker,
            context,
            name: name.clone(),
        };
        self.write(at, extract);
        name
    }

    fn name(&mut self) -> String {
        self.taken += 1;
        format!("m{}", self.taken - 1)
    }

    fn meta(&mut self) -> serde_json::Value {
        self.metas += 1;
        json!({ "v": self.metas })
    }

    fn step(&mut self, mix: &Mix) {
        let replicas = self.history.replicas.clone();
        let kind = KINDS[self.random.weighted(&mix.weights)];
        let among = match kind {
            Kind::Join | Kind::Update | Kind::Leave | Kind::LeavePid => mix.writers,
            // Those that make no changes have deltas too: of what they saw leave.
            Kind::Delta if self.random.chance(80) => mix.writers,
            _ => replicas.len(),
        };
        let at = replicas[self.random.below(among)].as_str();
        let others: Vec<&String> = replicas.iter().filter(|other| *other != at).collect();
        let other = others[self.random.below(others.len())].clone();
        match kind {
            Kind::Join => {
                let place = Place {
                    topic: format!("t{}", self.random.between(1, mix.topics)),
                    pid: format!("{at}{}", self.random.between(1, mix.pids)),
                    key: format!("k{}", self.random.between(1, mix.keys)),
                };
                let meta = self.meta();
                self.write(at, Op::Join { place, meta });
            }
            Kind::Update => {
                if let Some(place) = self.random.pick(&self.model.places(at)).cloned() {
                    let meta = self.meta();
                    self.write(at, Op::Update { place, meta });
                }
            }
            Kind::Leave => {
                if let Some(place) = self.random.pick(&self.model.places(at)).cloned() {
                    self.write(at, Op::Leave { place });
                }
            }
            Kind::LeavePid => {
                if let Some(place) = self.random.pick(&self.model.places(at)).cloned() {
                    self.write(at, Op::LeavePid { pid: place.pid });
                }
            }
            Kind::Delta => {
                let name = self.name();
                self.write(at, Op::Delta { name: name.clone() });
                if !self.random.chance(mix.lost) {
                    self.sent.push(Sent { name, asker: None });
                }
            }
            Kind::Extract => {
                let name = self.extract(at, &other);
                let asker = Some(other);
                self.sent.push(Sent { name, asker });
            }
            Kind::Merge => self.merge(at, mix.recent),
            Kind::Down => self.write(at, Op::Down { replica: other }),
            Kind::Up => self.write(at, Op::Up { replica: other }),
            Kind::Remove => {
                let replica = other.clone();
                self.write(at, Op::Remove { replica });
                // A removed replica that comes back at once meets what is still under way.
                if !self.model.knows(at, &other) && self.random.chance(50) {
                    self.write(at, Op::Up { replica: other });
                }
            }
            Kind::Check => self.write(at, Op::Check),
        }
    }

    /// Merges a message, recent or old, for the first time or again.
    fn merge(&mut self, at: &str, recent: usize) {
        const RECENT: usize = 5;
        let mine: Vec<&Sent> = self
            .sent
            .iter()
            .filter(|sent| sent.asker.as_deref().is_none_or(|asker| asker == at))
            .collect();
        let from = if self.random.chance(recent) {
            mine.len().saturating_sub(RECENT)
        } else {
            0
        };
        if let Some(sent) = self.random.pick(&mine[from..]) {
            let of = sent.name.clone();
            self.write(at, Op::Merge { of });
        }
    }
}

#[cfg(test)]
mod tests;
