//! Cuts, splits, pauses, clocks: who hears whom.

use super::Scenario;
use super::story::Story;
use crate::coverage::Counted::{
    AdmittedAgain, ClockSkew, Down, HealedPart, OneWayCut, Overflow, Partition, Paused, Permdown,
    PoolMismatch, Returned, SlowNode, SuspectedItself, WrongGuess,
};
use crate::schedule::Schedule;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "one-link-cut",
        rule: "whoever hears of a node only through others lists it until it counts as down, no longer",
        reaches: &[Partition, Down, Returned],
        avoids: &[Permdown],
        core_only: &[],
        schedule: one_link_cut,
    },
    Scenario {
        name: "one-way-cut",
        rule: "whoever is heard and does not hear lists no ghosts and loses nobody for the others",
        reaches: &[OneWayCut, Down, Returned],
        avoids: &[],
        core_only: &[],
        schedule: one_way_cut,
    },
    Scenario {
        name: "flapping-link",
        rule: "a link that comes and goes, each time for less than down_period, loses nobody",
        reaches: &[Partition],
        avoids: &[Down],
        core_only: &[],
        schedule: flapping_link,
    },
    Scenario {
        name: "split-longer-than-permdown",
        rule: "a replica that was forgotten and is heard again is admitted, with all it holds",
        reaches: &[Partition, Permdown, AdmittedAgain],
        avoids: &[],
        core_only: &[],
        schedule: split_longer_than_permdown,
    },
    Scenario {
        name: "part-heals-first",
        rule: "a part that finds together agrees on who is there in that part",
        reaches: &[Partition, HealedPart, Down],
        avoids: &[],
        core_only: &[],
        schedule: part_heals_first,
    },
    Scenario {
        name: "wrong-accusation",
        rule: "a wrong guess that a node is gone costs one leave and one join",
        reaches: &[WrongGuess, Down, Returned],
        avoids: &[Permdown],
        core_only: &[],
        schedule: wrong_accusation,
    },
    Scenario {
        name: "paused-longer-than-down",
        rule: "a node whose own timer ran late suspects itself before it accuses others",
        reaches: &[Paused, SuspectedItself, Down, Returned],
        avoids: &[Permdown],
        core_only: &[],
        schedule: paused_longer_than_down,
    },
    Scenario {
        name: "alone-was-paused",
        rule: "the time for which a node did not run is no silence of the others",
        reaches: &[Paused, SuspectedItself],
        avoids: &[Down],
        core_only: &[],
        schedule: alone_was_paused,
    },
    Scenario {
        name: "skewed-clocks",
        rule: "clocks that run at other rates by a few in a hundred make nobody down",
        reaches: &[ClockSkew],
        avoids: &[Down],
        core_only: &[],
        schedule: skewed_clocks,
    },
    Scenario {
        name: "slow-node",
        rule: "a node that is slow for a while catches up, and accuses nobody meanwhile",
        reaches: &[SlowNode],
        avoids: &[Permdown],
        core_only: &[],
        schedule: slow_node,
    },
    Scenario {
        name: "queue-overflow",
        rule: "what a full queue dropped is asked for",
        reaches: &[Paused, Overflow],
        avoids: &[Permdown],
        core_only: &[],
        schedule: queue_overflow,
    },
    Scenario {
        name: "pool-mismatch",
        rule: "a node with another number of shards is refused, and the others agree",
        reaches: &[PoolMismatch],
        avoids: &[Down],
        core_only: &[],
        schedule: pool_mismatch,
    },
    Scenario {
        name: "long-idle",
        rule: "an idle cluster stays together on nothing but words of life",
        reaches: &[],
        avoids: &[Down, Permdown],
        core_only: &[],
        schedule: long_idle,
    },
];

fn one_link_cut(seed: u64) -> Schedule {
    let mut story = Story::new("one-link-cut", seed, 3);
    let some = story.some(3..20);
    let passing = story.come("a", some);
    story.come("b", 5);
    story.wait_periods(2);
    let apart = 2 * story.down();
    story.cut(&["a"], &["b"], apart);
    story.wait_periods(1);
    // b hears of these only through c, if at all.
    let some = story.some(1..10);
    let others = story.come("a", some);
    story.wait_periods(2);
    story.leave(&passing);
    story.come("c", 2);
    story.wait_until_down();
    story.leave(&others);
    story.some_come("a", 1..5);
    story.wait(apart);
    story.ends()
}

fn one_way_cut(seed: u64) -> Schedule {
    let mut story = Story::new("one-way-cut", seed, 3);
    for node in ["a", "b", "c"] {
        story.some_come(node, 2..10);
    }
    story.wait_periods(3);
    let apart = 2 * story.down();
    story.cut_one_way(&["a"], &["b", "c"], apart);
    for _ in 0..4 {
        let passing = story.come("a", 3);
        story.wait(story.down() / 2);
        story.leave(&passing);
    }
    story.wait_periods(2);
    story.ends()
}

fn flapping_link(seed: u64) -> Schedule {
    let mut story = Story::new("flapping-link", seed, 3);
    let users = story.come("a", 10);
    story.come("b", 10);
    story.wait_periods(4);
    for _ in 0..10 {
        let gone = story.some(1..3) * story.period();
        story.cut(&["a"], &["b"], gone);
        story.change(&users);
        let passing = story.come("b", 2);
        story.wait(gone);
        story.leave(&passing);
        story.wait_periods(2);
    }
    story.wait_periods(2);
    story.ends()
}

fn split_longer_than_permdown(seed: u64) -> Schedule {
    let mut story = Story::new("split-longer-than-permdown", seed, 4);
    let some = story.some(5..40);
    let passing = story.come("a", some);
    for node in ["a", "b", "c", "d"] {
        story.some_come(node, 5..20);
    }
    story.wait_periods(3);
    let apart = story.permdown() + story.some(story.down()..2 * story.down());
    story.cut(&["a", "b"], &["c", "d"], apart);
    story.wait_periods(2);
    story.leave(&passing);
    story.come("d", 5);
    story.wait(apart);
    story.wait_periods(2);
    story.ends()
}

fn part_heals_first(seed: u64) -> Schedule {
    let mut story = Story::new("part-heals-first", seed, 6);
    for node in ["a", "b", "c", "d", "e", "f"] {
        story.some_come(node, 2..15);
    }
    let long = story.down() * 4;
    story.cut(&["a", "b"], &["c", "d", "e", "f"], long);
    story.cut(&["c", "d"], &["e", "f"], long);
    story.wait_until_down();
    for node in ["a", "c", "e"] {
        story.come(node, 5);
    }
    story.heal_first(&["a", "c", "d"]);
    story.ends()
}

fn wrong_accusation(seed: u64) -> Schedule {
    let mut story = Story::new("wrong-accusation", seed, 3);
    let users = story.some_come("a", 5..40);
    story.wait_periods(3);
    for at in ["b", "c", "b"] {
        story.accuses(at, "a");
        let soon = story.some(1..400);
        story.wait(soon);
        story.change(&users);
        story.wait_periods(4);
    }
    story.wait_periods(2);
    story.ends()
}

fn paused_longer_than_down(seed: u64) -> Schedule {
    let mut story = Story::new("paused-longer-than-down", seed, 3);
    let users = story.some_come("a", 5..20);
    let passing = story.come("b", 10);
    story.wait_periods(3);
    let away = story.down() + story.some(3 * story.period()..story.down());
    story.pauses("a", away);
    story.wait_periods(2);
    story.leave(&passing);
    story.come("c", 4);
    story.wait(away);
    story.change(&users);
    story.wait_periods(4);
    story.ends()
}

fn alone_was_paused(seed: u64) -> Schedule {
    let mut story = Story::new("alone-was-paused", seed, 3);
    story.come("a", 5);
    story.come("b", 5);
    story.wait_periods(4);
    // The others miss a for little more than two periods; it is a that might take them for silent.
    for _ in 0..5 {
        let away = story.some(2 * story.period()..3 * story.period());
        story.pauses("a", away);
        story.wait(away);
        story.wait_periods(5);
    }
    story.ends()
}

fn skewed_clocks(seed: u64) -> Schedule {
    let mut story = Story::new("skewed-clocks", seed, 4);
    // Up to three in a hundred.
    for (node, sign) in [("a", 1), ("b", -1), ("d", 1)] {
        let ppm = story.some(1..30_000) as i64;
        story.node(node).clock_ppm = sign * ppm;
    }
    for node in ["a", "b", "c"] {
        story.some_come(node, 2..10);
    }
    story.wait(4 * story.down());
    story.come("d", 3);
    story.wait_periods(2);
    story.ends()
}

fn slow_node(seed: u64) -> Schedule {
    let mut story = Story::new("slow-node", seed, 4);
    for node in ["a", "b", "c", "d"] {
        story.come(node, 5);
    }
    let us = story.some(20_000..200_000);
    let long = story.some(5..30) * story.period();
    story.is_slow("a", us, long);
    for _ in 0..5 {
        for node in ["b", "c", "d"] {
            let passing = story.come(node, 3);
            story.leave(&passing);
        }
    }
    story.wait(long);
    story.ends()
}

fn queue_overflow(seed: u64) -> Schedule {
    let mut story = Story::new("queue-overflow", seed, 3);
    story.network().queue = 4;
    story.settings().chunk_values = 1;
    story.come("a", 5);
    story.rush("b", 400);
    story.wait_periods(3);
    let away = story.some(5..8) * story.period();
    story.pauses("a", away);
    // Each is a message of its own: a connection takes a thousand and more before a queue fills up.
    for _ in 0..4 {
        story.change_all("b");
        story.rush("c", 10);
        story.wait(story.period());
    }
    story.wait(away);
    story.wait_periods(2);
    story.ends()
}

fn pool_mismatch(seed: u64) -> Schedule {
    let mut story = Story::new("pool-mismatch", seed, 4);
    let shards = story.some(1..4) as usize;
    story.settings().pool_size = shards;
    story.node("d").pool_size = Some(shards + 1);
    for node in ["a", "b", "c", "d"] {
        story.some_come(node, 2..20);
    }
    story.wait_periods(5);
    story.ends()
}

fn long_idle(seed: u64) -> Schedule {
    let mut story = Story::new("long-idle", seed, 4);
    for node in ["a", "b", "c", "d"] {
        story.some_come(node, 1..20);
    }
    story.wait(10 * story.down());
    story.some_come("a", 1..5);
    story.wait_periods(2);
    story.ends()
}
