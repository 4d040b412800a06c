//! What is told late, twice, out of order or not at all, and how it is merged.

use super::Scenario;
use super::story::Story;
use crate::coverage::Counted::{
    Chunks, Cloud, CutOff, Down, FromLog, FullState, Held, Late, MassUpdate, OneWayCut, Partition,
    Permdown, Reordered, Repeated, Returned, StartedApart, Superseded,
};
use crate::schedule::Schedule;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "permdown-ghost",
        rule: "what is told later does not bring back the presences of a replica that was forgotten",
        reaches: &[Partition, Down, Permdown, FromLog],
        avoids: &[],
        core_only: &[],
        schedule: permdown_ghost,
    },
    Scenario {
        name: "transfer-races-permdown",
        rule: "an answer that was on its way while a replica was forgotten does not bring it back",
        reaches: &[Held, Down, Permdown],
        avoids: &[],
        core_only: &[],
        schedule: transfer_races_permdown,
    },
    Scenario {
        name: "fifty-each-before-meeting",
        rule: "two nodes that both hold many presences before they first meet agree",
        reaches: &[Partition, FullState],
        avoids: &[],
        core_only: &[],
        schedule: fifty_each_before_meeting,
    },
    Scenario {
        name: "lost-delta",
        rule: "after a delta got lost what is missing is asked for, and no full state is needed",
        reaches: &[OneWayCut, CutOff, Cloud, FromLog],
        avoids: &[FullState, Down],
        core_only: &[],
        schedule: lost_delta,
    },
    Scenario {
        name: "late-and-twice",
        rule: "late, repeated and reordered deltas do no harm",
        reaches: &[Late, Repeated, Reordered],
        avoids: &[],
        core_only: &[],
        schedule: late_and_twice,
    },
    Scenario {
        name: "update-in-one-step",
        rule: "an update is one diff on every node, with the old meta and the new",
        reaches: &[Late, Reordered],
        avoids: &[],
        core_only: &[],
        schedule: update_in_one_step,
    },
    Scenario {
        name: "mass-update",
        rule: "all metas of a topic change in one call, and in one diff on every node",
        reaches: &[MassUpdate],
        avoids: &[FullState, Down],
        core_only: &[],
        schedule: mass_update,
    },
    Scenario {
        name: "older-dot-late",
        rule: "of two dots of one presence the higher counter wins, whichever comes late",
        reaches: &[Late, Superseded, Cloud],
        avoids: &[],
        core_only: &[],
        schedule: older_dot_late,
    },
    Scenario {
        name: "dot-removed-ahead",
        rule: "a presence that came and went ahead of a gap does not come back with a late delta",
        reaches: &[Late, Repeated, Cloud],
        avoids: &[],
        core_only: &[],
        schedule: dot_removed_ahead,
    },
    Scenario {
        name: "down-twice",
        rule: "what leaves on a replica that is down anyway is not reported a second time",
        reaches: &[Partition, Down, Returned],
        avoids: &[],
        core_only: &[],
        schedule: down_twice,
    },
    Scenario {
        name: "transfer-echoes",
        rule: "an answer tells the asker what it lacks, not its own presences",
        reaches: &[Partition, FromLog],
        avoids: &[FullState],
        core_only: &[],
        schedule: transfer_echoes,
    },
    Scenario {
        name: "log-too-short",
        rule: "whoever missed more than the log of leaves holds is told everything",
        reaches: &[Partition, FullState, Chunks],
        avoids: &[],
        core_only: &[],
        schedule: log_too_short,
    },
    Scenario {
        name: "added-while-partitioned",
        rule: "a node that is added during a partition is known to all once it is over",
        reaches: &[Partition, StartedApart, FromLog],
        avoids: &[],
        core_only: &[],
        schedule: added_while_partitioned,
    },
];

fn permdown_ghost(seed: u64) -> Schedule {
    let mut story = Story::new("permdown-ghost", seed, 4);
    let users = story.some(5..60);
    story.come("a", users);
    let some = story.some(2..10);
    let passing = story.come("b", some);
    story.wait_periods(2);
    // What b tells from now on c and d must ask for later, when b has forgotten a.
    let away = story.permdown() + story.down();
    story.cut(&["b"], &["c"], away);
    story.wait_periods(1);
    story.crashes("a");
    story.leave(&passing);
    story.wait_until_forgotten();
    let some = story.some(1..20);
    story.come("b", some);
    story.cut_one_way(&["b"], &["d"], 2 * story.period());
    story.some_come("b", 1..5);
    story.wait(away.saturating_sub(story.permdown()));
    story.wait_periods(4);
    story.ends()
}

fn transfer_races_permdown(seed: u64) -> Schedule {
    let mut story = Story::new("transfer-races-permdown", seed, 3);
    let users = story.some(5..60);
    story.come("a", users);
    story.come("b", 3);
    story.wait_periods(2);
    story.crashes("a");
    let apart = story.permdown() - story.down() / 2;
    story.cut(&["b"], &["c"], apart);
    story.rush("b", 60);
    story.wait(apart);
    // They meet again just before a is forgotten, and the parts of the answer wait on their way until it
    // was: never for so long that a connection would be given up.
    let until = story.down() / 2 + 4 * story.period();
    let mut held = 0;
    while held < until {
        let period = story.period();
        let some = story.some(period..3 * period / 2);
        story.hold(&["b"], &["c"], some);
        story.come("b", 1);
        story.wait(period);
        held += 2 * period;
    }
    story.wait_periods(2);
    story.ends()
}

fn fifty_each_before_meeting(seed: u64) -> Schedule {
    let mut story = Story::new("fifty-each-before-meeting", seed, 2);
    let apart = story.some(8..20) * story.period();
    story.settings().max_delta_size = 50;
    story.cut(&["a"], &["b"], apart);
    for node in ["a", "b"] {
        let users = story.some(51..150);
        let early = story.rush(node, users);
        story.some_come(node, 2..10);
        story.change_all(node);
        story.leave(&early);
        story.rush(node, 60);
        story.come(node, 3);
    }
    story.wait(apart);
    story.wait_periods(2);
    story.ends()
}

fn lost_delta(seed: u64) -> Schedule {
    let mut story = Story::new("lost-delta", seed, 2);
    story.network().announces = false;
    let regulars = story.come("a", 10);
    story.wait_periods(4);
    for _ in 0..4 {
        // A word of a is not heard by b.
        let period = story.period();
        story.cut_one_way(&["a"], &["b"], 2 * period);
        let passing = story.some_come("a", 1..6);
        story.wait(period / 4);
        story.change(&regulars);
        story.wait_periods(1);
        story.leave(&passing);
        // What b hears next, on a new connection at the latest, has a gap before it.
        for _ in 0..6 {
            story.change(&regulars);
            story.wait(period);
        }
    }
    story.wait_periods(8);
    story.ends()
}

fn late_and_twice(seed: u64) -> Schedule {
    let mut story = Story::new("late-and-twice", seed, 3);
    unruly(&mut story);
    for _ in 0..6 {
        let mut came = Vec::new();
        for node in ["a", "b", "c"] {
            let some = story.some(1..5);
            came.push(story.rush(node, some));
        }
        story.wait(story.period());
        for users in came {
            if story.some(0..2) == 0 {
                story.leave(&users);
            } else {
                story.change(&users);
            }
        }
        story.wait(story.period());
    }
    story.wait_periods(2);
    story.ends()
}

/// Messages come late, twice and in any order.
fn unruly(story: &mut Story) {
    let network = story.network();
    network.ordered = false;
    network.late = 400_000;
    network.repeat = 300_000;
}

fn update_in_one_step(seed: u64) -> Schedule {
    let mut story = Story::new("update-in-one-step", seed, 3);
    unruly(&mut story);
    story.network().loss = 50_000;
    let users = story.some_come("a", 1..30);
    for _ in 0..10 {
        story.change(&users);
        story.wait_periods(1);
    }
    story.ends()
}

fn mass_update(seed: u64) -> Schedule {
    let mut story = Story::new("mass-update", seed, 3);
    let some = story.some(100..600);
    story.rush("a", some);
    story.come("b", 5);
    // They have met before: nothing is left to be told as a whole.
    story.wait_periods(6);
    for _ in 0..4 {
        story.change_all("a");
        let soon = story.some(1..2000);
        story.wait(soon);
    }
    story.wait_periods(3);
    story.ends()
}

fn older_dot_late(seed: u64) -> Schedule {
    let mut story = Story::new("older-dot-late", seed, 2);
    unruly(&mut story);
    let users = story.come("a", 3);
    for _ in 0..40 {
        story.change(&users);
        story.wait(story.period());
    }
    story.ends()
}

fn dot_removed_ahead(seed: u64) -> Schedule {
    let mut story = Story::new("dot-removed-ahead", seed, 3);
    unruly(&mut story);
    story.network().late = 600_000;
    for _ in 0..12 {
        let some = story.some(1..4);
        let passing = story.come("a", some);
        story.leave(&passing);
        let passing = story.some_come("a", 1..4);
        story.wait(story.period());
        story.leave(&passing);
    }
    story.ends()
}

fn down_twice(seed: u64) -> Schedule {
    let mut story = Story::new("down-twice", seed, 3);
    let passing = story.some_come("a", 5..40);
    let staying = story.come("a", 3);
    story.wait_periods(3);
    let apart = 2 * story.down();
    story.cut(&["a"], &["b"], apart);
    story.wait_until_down();
    // c hears of these, and b merges what it tells of them while a is down there.
    story.leave(&passing);
    story.change(&staying);
    let lag = 2 * story.period();
    story.cut_one_way(&["c"], &["b"], lag);
    story.come("c", 4);
    story.wait(apart);
    story.ends()
}

fn transfer_echoes(seed: u64) -> Schedule {
    let mut story = Story::new("transfer-echoes", seed, 2);
    story.come("a", 60);
    story.come("b", 60);
    story.wait_periods(6);
    let apart = 3 * story.period();
    story.cut(&["a"], &["b"], apart);
    let some = story.some(1..20);
    story.come("a", some);
    story.some_come("b", 1..20);
    story.wait(apart);
    story.wait_periods(3);
    story.ends()
}

fn log_too_short(seed: u64) -> Schedule {
    let mut story = Story::new("log-too-short", seed, 2);
    story.settings().max_delta_size = 4;
    story.settings().chunk_values = 10;
    story.come("a", 40);
    story.wait_periods(4);
    let apart = story.some(2..6) * story.period();
    story.cut(&["a"], &["b"], apart);
    let passing = story.rush("a", 50);
    story.wait(story.period());
    story.leave(&passing);
    story.rush("a", 60);
    story.wait(apart);
    story.wait_periods(3);
    story.ends()
}

fn added_while_partitioned(seed: u64) -> Schedule {
    let mut story = Story::new("added-while-partitioned", seed, 6);
    story.not_yet(&["e", "f"]);
    for node in ["a", "b", "c", "d"] {
        story.some_come(node, 5..20);
    }
    let apart = story.some(1..3) * story.down();
    story.cut(&["a", "b", "e"], &["c", "d", "f"], apart);
    story.wait_periods(2);
    story.starts("e");
    story.come("e", 10);
    story.starts("f");
    story.come("f", 10);
    story.wait(apart);
    story.ends()
}
