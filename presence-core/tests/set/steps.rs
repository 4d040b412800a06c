//! Leaves that are told in great numbers take place step by step, and meanwhile nothing else is wrong.

use std::collections::BTreeSet;

use presence_core::clock::ReplicaId;
use presence_core::set::{Diff, Set};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::cases;
use crate::op::{Kinds, Op, Script, scripts};
use crate::presence::{Place, Presence, id, reported, state};
use crate::properties::{draw, listener};
use crate::world::World;

/// Two listeners that hear the same: one merges all at once, one so many leaves in each step.
struct Pair {
    eager: Set,
    stepwise: Set,
    limit: usize,
}

impl Pair {
    fn new(world: &World, limit: usize) -> Self {
        Self {
            eager: listener(world),
            stepwise: listener(world),
            limit,
        }
    }

    /// Whether a part waits for another.
    fn hear(&mut self, world: &World, message: usize) -> Result<bool, TestCaseError> {
        let delta = &world.pool[message].delta;
        let mut diff = Diff::new();
        self.eager.merge(delta, &mut diff).unwrap();
        let deferred = diff.deferred;
        let (joined, _) = reported(&self.eager, &diff);
        let merged = self.stepwise.merge_in_steps(delta, self.limit, &mut diff);
        merged.unwrap();
        prop_assert_eq!(diff.deferred, deferred);
        let (joins, _) = reported(&self.stepwise, &diff);
        let late = joins.iter().find(|join| !joined.contains(join));
        prop_assert_eq!(late, None, "was told to be gone");
        Ok(deferred > 0)
    }

    fn step(&mut self) -> Result<(), TestCaseError> {
        let before = self.stepwise.len();
        let mut diff = Diff::new();
        let shown = self.stepwise.step(self.limit, &mut diff);
        prop_assert!(shown.is_empty() && diff.joins.is_empty());
        prop_assert!(diff.leaves.len() <= self.limit);
        prop_assert_eq!(self.stepwise.len() + diff.leaves.len(), before);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), TestCaseError> {
        while self.stepwise.is_turning() {
            self.step()?;
        }
        // What it would tell of others' leaves does depend on the order.
        self.eager.take_delta();
        self.stepwise.take_delta();
        prop_assert_eq!(state(&self.eager), state(&self.stepwise));
        Ok(())
    }

    /// The stepwise one has what the eager one has, and what is yet to leave.
    fn compare(&self) -> Result<(), TestCaseError> {
        let [eager, stepwise] = [&self.eager, &self.stepwise].map(places);
        prop_assert!(
            eager.is_subset(&stepwise),
            "{:?} blinks",
            eager.difference(&stepwise)
        );
        let is_through = !self.stepwise.is_turning();
        prop_assert!(!is_through || eager == stepwise);
        for (id, _) in self.eager.replicas() {
            let seen = self.stepwise.counter(id);
            let (now, then) = (
                self.eager.counter(id),
                self.stepwise.counter_after_steps(id),
            );
            prop_assert!(seen <= now && now == then, "{seen:?} {now:?} {then:?}");
        }
        Ok(())
    }

    /// Whoever owns the presences tells all that is missing to one that knows what the stepwise listener
    /// knows now: what that has seen and what it holds go together.
    fn heals(&self, world: &World) -> Result<(), TestCaseError> {
        let z = id("z");
        for owner in &world.nodes {
            let mut copy = listener(world);
            let mut diff = Diff::new();
            let told = self.stepwise.extract(&z, &self.stepwise.clocks());
            copy.merge(&told, &mut diff).unwrap();
            let mut transfer = owner.set.answer(&z, &copy.clocks());
            while let Some(chunk) = owner.set.next_chunk(&mut transfer, 2) {
                copy.merge(&chunk, &mut diff).unwrap();
            }
            let of = |set: &Set| -> BTreeSet<Presence> {
                set.entries_of(&owner.id).map(Presence::from).collect()
            };
            prop_assert_eq!(of(&copy), of(&owner.set));
        }
        Ok(())
    }
}

fn places(set: &Set) -> BTreeSet<(ReplicaId, Place)> {
    let all = set.list_all().map(Presence::from);
    all.map(|presence| (presence.replica, presence.place))
        .collect()
}

/// A history whose messages all lie in the pool.
fn told(script: &Script) -> Result<World, TestCaseError> {
    let mut world = World::new(script, 1);
    world.run(script)?;
    for node in 0..script.nodes {
        let told = world.step(Op::TakeDelta { at: node });
        world.explain(told)?;
    }
    Ok(world)
}

const HONEST: Kinds = Kinds {
    faults: false,
    observed: false,
    ..Kinds::ALL
};

proptest! {
    #![proptest_config(cases(4))]

    #[test]
    fn leaves_in_steps_are_sound_at_each_and_hide_nothing_that_stays(
        script in scripts(HONEST, 120),
        limit in 1..4_usize,
        seed: u64,
    ) {
        let world = told(&script)?;
        let mut pair = Pair::new(&world, limit);
        for message in 0..world.pool.len() {
            pair.hear(&world, message)?;
            pair.compare()?;
            for _ in 0..draw(seed, message) % 3 {
                pair.step()?;
                pair.compare()?;
            }
            pair.heals(&world)?;
        }
        pair.finish()?;
    }

    #[test]
    fn leaves_in_steps_come_to_the_same_in_any_order(
        script in scripts(Kinds { faults: false, ..Kinds::ALL }, 80),
        limit in 1..4_usize,
        seed: u64,
    ) {
        let world = told(&script)?;
        let mut pair = Pair::new(&world, limit);
        let mut order: Vec<usize> = (0..world.pool.len()).collect();
        order.sort_by_key(|&message| draw(seed, message));
        loop {
            let before = state(&pair.eager);
            let mut waits = false;
            for &message in &order {
                waits |= pair.hear(&world, message)?;
                if draw(!seed, message).is_multiple_of(3) {
                    pair.step()?;
                }
            }
            pair.finish()?;
            if !waits || state(&pair.eager) == before {
                break;
            }
        }
    }
}
