//! Many at once: starts, storms, leaves, and states that take many messages.

use super::Scenario;
use super::story::Story;
use crate::coverage::Counted::{
    Chunks, Crash, Deferred, Down, Exodus, FullState, MassUpdate, Permdown, SlowNode, StartedApart,
    Storm,
};
use crate::schedule::Schedule;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "seven-at-once",
        rule: "seven nodes that start at once with a hundred presences each agree",
        reaches: &[Storm, FullState, Chunks],
        avoids: &[Down, StartedApart],
        core_only: &[],
        schedule: seven_at_once,
    },
    Scenario {
        name: "join-storm",
        rule: "many who come at once are listed everywhere",
        reaches: &[Storm],
        avoids: &[Down],
        core_only: &[],
        schedule: join_storm,
    },
    Scenario {
        name: "mass-leave",
        rule: "many who leave at once are listed nowhere",
        reaches: &[Storm, Exodus],
        avoids: &[Down],
        core_only: &[],
        schedule: mass_leave,
    },
    Scenario {
        name: "full-state-in-chunks-under-load",
        rule: "a state that takes many messages starves no heartbeat",
        reaches: &[Storm, FullState, Chunks, SlowNode],
        avoids: &[Down],
        core_only: &[],
        schedule: full_state_in_chunks_under_load,
    },
    Scenario {
        name: "chunks-out-of-order",
        rule: "parts of an answer are merged in any order, twice, or never the rest",
        reaches: &[Storm, FullState, Chunks, Deferred],
        avoids: &[],
        core_only: &[],
        schedule: chunks_out_of_order,
    },
    Scenario {
        name: "crash-amid-chunks",
        rule: "an answer whose sender is gone in the middle of it leaves no ghosts behind",
        reaches: &[Storm, Chunks, Crash, Down, Permdown],
        avoids: &[],
        core_only: &[],
        schedule: crash_amid_chunks,
    },
    Scenario {
        name: "updates-under-load",
        rule: "mass updates during a storm swap in one step",
        reaches: &[Storm, MassUpdate],
        avoids: &[Down],
        core_only: &[],
        schedule: updates_under_load,
    },
];

fn seven_at_once(seed: u64) -> Schedule {
    let mut story = Story::new("seven-at-once", seed, 7);
    let names = story.names();
    for name in &names {
        story.node(name).starts = false;
    }
    story.settings().max_delta_size = 4;
    story.settings().chunk_values = 40;
    for (at, name) in names.iter().enumerate() {
        let soon = story.some(0..story.period() / 2);
        story.wait(soon);
        // More changes than the log holds: whoever starts from now on takes its whole state.
        if let Some(before) = at.checked_sub(4) {
            story.change_all(&names[before]);
        }
        story.starts(name);
        // Once it awaits connections.
        story.wait(50);
        story.rush(name, 100);
    }
    story.wait_periods(2);
    story.ends()
}

fn join_storm(seed: u64) -> Schedule {
    let mut story = Story::new("join-storm", seed, 5);
    story.wait_periods(4);
    for name in story.names() {
        let some = story.some(50..400);
        story.rush(&name, some);
        let soon = story.some(0..200);
        story.wait(soon);
    }
    story.wait_periods(3);
    story.ends()
}

fn mass_leave(seed: u64) -> Schedule {
    let mut story = Story::new("mass-leave", seed, 4);
    let some = story.some(200..800);
    story.rush("a", some);
    story.rush("b", 50);
    story.wait_periods(4);
    story.all_leave("a");
    let soon = story.some(1..2 * story.period());
    story.wait(soon);
    story.rush("a", 20);
    story.wait_periods(2);
    story.ends()
}

fn full_state_in_chunks_under_load(seed: u64) -> Schedule {
    let mut story = Story::new("full-state-in-chunks-under-load", seed, 4);
    story.not_yet(&["d"]);
    story.settings().chunk_values = 10;
    let some = story.some(300..900);
    story.settings().max_delta_size = 4;
    story.rush("a", some);
    story.rush("b", 200);
    story.wait_periods(3);
    for node in ["a", "b"] {
        story.change_all(node);
    }
    story.wait_periods(3);
    let long = 10 * story.period();
    let us = story.some(1000..8000);
    story.starts("d");
    story.is_slow("d", us, long);
    for _ in 0..6 {
        for node in ["a", "b", "c"] {
            let passing = story.come(node, 5);
            story.leave(&passing);
        }
    }
    story.wait(long);
    story.ends()
}

fn chunks_out_of_order(seed: u64) -> Schedule {
    let mut story = Story::new("chunks-out-of-order", seed, 3);
    story.settings().chunk_values = 5;
    story.settings().max_delta_size = 4;
    let network = story.network();
    network.ordered = false;
    network.late = 300_000;
    network.repeat = 200_000;
    network.loss = 100_000;
    for node in ["a", "b"] {
        let some = story.some(50..150);
        story.rush(node, some);
        let some = story.some(20..50);
        let passing = story.rush(node, some);
        story.wait_periods(1);
        story.leave(&passing);
    }
    for _ in 0..3 {
        // More changes than the log holds.
        story.change_all("a");
        story.crashes("c");
        story.starts("c");
        story.rush("a", 30);
        story.wait_periods(4);
    }
    story.ends()
}

fn crash_amid_chunks(seed: u64) -> Schedule {
    let mut story = Story::new("crash-amid-chunks", seed, 3);
    story.not_yet(&["c"]);
    story.settings().chunk_values = 5;
    story.settings().clock_sample_periods = 1;
    story.network().latency_us = 50_000;
    let some = story.some(200..400);
    story.rush("a", some);
    story.rush("b", 20);
    story.wait_periods(3);
    story.starts("c");
    // It takes 40 round trips and more, once c has heard of what it lacks.
    let soon = story.period() + story.some(1000..3000);
    story.wait(soon);
    story.crashes("a");
    story.wait_until_forgotten();
    story.ends()
}

fn updates_under_load(seed: u64) -> Schedule {
    let mut story = Story::new("updates-under-load", seed, 4);
    story.rush("a", 100);
    story.rush("b", 100);
    story.wait_periods(4);
    for _ in 0..4 {
        let some = story.some(20..100);
        story.rush("c", some);
        story.change_all("a");
        story.change_all("b");
        let soon = story.some(1..story.period());
        story.wait(soon);
    }
    story.wait_periods(2);
    story.ends()
}
