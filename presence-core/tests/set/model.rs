//! Histories, step by step, in the set and in the naive one.

use proptest::prelude::*;

use crate::cases;
use crate::op::{Kinds, scripts};
use crate::world::World;

proptest! {
    #![proptest_config(cases(4))]

    #[test]
    fn every_history_gives_what_the_naive_set_gives(script in scripts(Kinds::ALL, 90)) {
        World::new(&script, 1).run(&script)?;
    }

    #[test]
    fn outputs_do_not_depend_on_the_hash_seed(script in scripts(Kinds::ALL, 40), seed: u64) {
        let mut told = [1, seed].map(|seed| {
            let mut world = World::new(&script, seed);
            world.verbose = true;
            world.run(&script).map(|()| (world.trace, world.pool))
        });
        let [one, two] = &mut told;
        match (one, two) {
            (Ok((one, sent)), Ok((two, also_sent))) => {
                prop_assert_eq!(one, two);
                let same = sent.iter().zip(also_sent).all(|(one, two)| one.delta == two.delta);
                prop_assert!(same, "messages differ");
            }
            (Err(error), _) | (_, Err(error)) => return Err(error.clone()),
        }
    }
}
