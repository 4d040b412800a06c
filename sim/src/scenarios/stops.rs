//! Graceful stops: with a goodbye, lingering, handed over.

use super::Scenario;
use super::story::Story;
use crate::coverage::Counted::{
    CutOff, Down, Goodbye, HandedOver, LowerIgnored, Permdown, Replaced, RestartEarly, Stop,
};
use crate::schedule::Schedule;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "leaves-before-stop",
        rule: "who left just before a stop is told of, and does not linger",
        reaches: &[Stop],
        avoids: &[],
        core_only: &[],
        schedule: leaves_before_stop,
    },
    Scenario {
        name: "stop-lingers-until-down",
        rule: "the presences of a node that stopped stay until it counts as down, and it is not taken for crashed",
        reaches: &[Stop, Down],
        avoids: &[HandedOver],
        core_only: &[],
        schedule: stop_lingers_until_down,
    },
    Scenario {
        name: "stopped-and-back",
        rule: "the presences of a node that stopped stay until its next incarnation is up",
        reaches: &[Stop, RestartEarly, Replaced],
        avoids: &[HandedOver],
        core_only: &[],
        schedule: stopped_and_back,
    },
    Scenario {
        name: "goodbye",
        rule: "with permdown_on_shutdown the presences of a node that stops leave at once",
        reaches: &[Goodbye, Permdown],
        avoids: &[Stop],
        core_only: &[],
        schedule: goodbye,
    },
    Scenario {
        name: "goodbye-lost",
        rule: "whoever missed a goodbye finds the node down all the same, and the others do not list it again",
        reaches: &[Goodbye, CutOff, Down, Permdown],
        avoids: &[],
        core_only: &[],
        schedule: goodbye_lost,
    },
    Scenario {
        name: "goodbye-overtaken",
        rule: "a message that comes after a goodbye does not bring the node back",
        reaches: &[Goodbye, LowerIgnored, Permdown],
        avoids: &[],
        core_only: &[],
        schedule: goodbye_overtaken,
    },
    Scenario {
        name: "goodbye-and-back",
        rule: "a node that said goodbye and starts again is listed anew",
        reaches: &[Goodbye, RestartEarly, Permdown],
        avoids: &[],
        core_only: &[],
        schedule: goodbye_and_back,
    },
    Scenario {
        name: "handover",
        rule: "with handover a user who goes on from a stopped node is listed once all the time",
        reaches: &[Stop, HandedOver],
        avoids: &[],
        core_only: &[],
        schedule: handover,
    },
    Scenario {
        name: "handover-to-a-new-node",
        rule: "a node that takes the place of one that stops takes its users over as it arrives",
        reaches: &[Stop, HandedOver],
        avoids: &[],
        core_only: &[],
        schedule: handover_to_a_new_node,
    },
    Scenario {
        name: "rolling-deploy",
        rule: "while all nodes restart one after the other nobody blinks and nobody counts twice",
        reaches: &[Stop, HandedOver, RestartEarly, Replaced],
        avoids: &[],
        core_only: &[],
        schedule: rolling_deploy,
    },
    Scenario {
        name: "rolling-deploy-with-goodbyes",
        rule: "all nodes restart one after the other and say goodbye each time",
        reaches: &[Goodbye, RestartEarly, Permdown],
        avoids: &[HandedOver],
        core_only: &[],
        schedule: rolling_deploy_with_goodbyes,
    },
];

fn leaves_before_stop(seed: u64) -> Schedule {
    let mut story = Story::new("leaves-before-stop", seed, 3);
    let passing = story.some_come("a", 1..20);
    story.come("a", 3);
    story.wait_periods(4);
    story.leave(&passing);
    let soon = story.some(0..5);
    story.wait(soon);
    story.stops("a", 0);
    story.wait_periods(2);
    story.ends()
}

fn stop_lingers_until_down(seed: u64) -> Schedule {
    let mut story = Story::new("stop-lingers-until-down", seed, 3);
    // A port that refuses is noticed, and tells nothing after a stop.
    story.network().detects_crashes = true;
    let users = story.some_come("a", 5..30);
    story.wait_periods(4);
    let drain = story.some(0..2 * story.period());
    story.stops("a", drain);
    let within = 2 * story.period();
    story.come_again(&users, "b", within);
    story.wait(drain);
    story.wait_until_down();
    story.ends()
}

fn stopped_and_back(seed: u64) -> Schedule {
    let mut story = Story::new("stopped-and-back", seed, 3);
    let users = story.some_come("a", 5..30);
    story.wait_periods(4);
    let drain = story.some(0..2 * story.period());
    story.stops("a", drain);
    story.wait(drain);
    let soon = story.some(1..2 * story.period());
    story.wait(soon);
    story.starts("a");
    let within = story.period();
    story.come_again(&users, "a", within);
    story.wait_periods(3);
    story.ends()
}

fn goodbye(seed: u64) -> Schedule {
    let mut story = Story::new("goodbye", seed, 3);
    story.settings().permdown_on_shutdown = true;
    let users = story.some_come("a", 5..30);
    story.wait_periods(4);
    let drain = story.some(0..2 * story.period());
    story.stops("a", drain);
    let within = 2 * story.period();
    story.come_again(&users, "b", within);
    story.wait_periods(3);
    story.ends()
}

fn goodbye_lost(seed: u64) -> Schedule {
    let mut story = Story::new("goodbye-lost", seed, 3);
    story.settings().permdown_on_shutdown = true;
    story.some_come("a", 5..30);
    story.come("b", 3);
    story.wait_periods(4);
    story.cut_one_way(&["a"], &["c"], 1000);
    let soon = story.some(1..500);
    story.wait(soon);
    story.stops("a", 100);
    story.wait_periods(2);
    story.come("c", 3);
    story.wait_until_down();
    story.ends()
}

fn goodbye_overtaken(seed: u64) -> Schedule {
    let mut story = Story::new("goodbye-overtaken", seed, 6);
    story.settings().permdown_on_shutdown = true;
    let network = story.network();
    network.ordered = false;
    network.late = 800_000;
    for node in ["a", "b", "c", "d"] {
        for _ in 0..5 {
            let passing = story.come(node, 4);
            story.leave(&passing);
        }
        story.come(node, 3);
        story.stops(node, 0);
    }
    story.wait_periods(4);
    story.ends()
}

fn goodbye_and_back(seed: u64) -> Schedule {
    let mut story = Story::new("goodbye-and-back", seed, 3);
    story.settings().permdown_on_shutdown = true;
    let users = story.some_come("a", 5..30);
    story.wait_periods(2);
    for _ in 0..2 {
        story.stops("a", 100);
        story.wait(100);
        let soon = story.some(1..2 * story.period());
        story.wait(soon);
        story.starts("a");
        let within = story.period();
        story.come_again(&users, "a", within);
        story.wait_periods(2);
    }
    story.ends()
}

fn handover(seed: u64) -> Schedule {
    let mut story = Story::new("handover", seed, 4);
    story.settings().handover = true;
    let users = story.some_come("a", 5..40);
    story.come("b", 5);
    story.wait_periods(4);
    let drain = story.some(0..2 * story.period());
    story.stops("a", drain);
    // They come back once the stop was told.
    let told = story.some(150..400);
    story.wait(told);
    let within = 2 * story.period();
    story.come_again(&users, "b", within);
    story.wait_periods(4);
    story.ends()
}

fn handover_to_a_new_node(seed: u64) -> Schedule {
    let mut story = Story::new("handover-to-a-new-node", seed, 4);
    story.settings().handover = true;
    story.not_yet(&["d"]);
    let users = story.some_come("a", 5..40);
    story.come("b", 5);
    story.wait_periods(4);
    let drain = 2 * story.period();
    story.stops("a", drain);
    let told = story.some(150..400);
    story.wait(told);
    story.starts("d");
    let within = story.some(1..story.period());
    story.come_again(&users, "d", within);
    story.wait_periods(4);
    story.ends()
}

fn rolling_deploy(seed: u64) -> Schedule {
    let mut story = Story::new("rolling-deploy", seed, 4);
    story.settings().handover = true;
    roll(&mut story);
    story.ends()
}

fn rolling_deploy_with_goodbyes(seed: u64) -> Schedule {
    let mut story = Story::new("rolling-deploy-with-goodbyes", seed, 4);
    story.settings().permdown_on_shutdown = true;
    roll(&mut story);
    story.ends()
}

/// All nodes stop and start again, one after the other; their users go on to the next.
fn roll(story: &mut Story) {
    let names = story.names();
    let mut users = Vec::new();
    for name in &names {
        let some = story.some(3..15);
        users.push(vec![story.come(name, some)]);
    }
    story.wait_periods(4);
    for at in 0..names.len() {
        let drain = story.some(500..2000);
        story.stops(&names[at], drain);
        let told = story.some(150..400);
        story.wait(told);
        let next = (at + 1) % names.len();
        for gone in std::mem::take(&mut users[at]) {
            let again = story.come_again(&gone, &names[next], 1000);
            users[next].push(again);
        }
        story.wait(drain.max(1000));
        story.wait_periods(1);
        story.starts(&names[at]);
        story.wait_periods(4);
    }
}
