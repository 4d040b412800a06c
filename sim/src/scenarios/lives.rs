//! Crashes and restarts: the lives of one name, and who takes whose place.

use super::Scenario;
use super::story::Story;
use crate::coverage::Counted::{
    ClockBack, Crash, CrashSeen, Down, FullState, LowerIgnored, NewName, OldLife, Permdown,
    Reincarnated, Replaced, RestartDown, RestartEarly, RestartPermdown,
};
use crate::schedule::Schedule;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "crash-by-silence",
        rule: "the presences of a node that crashed leave once it was silent for down_period",
        reaches: &[Crash, Down, Permdown],
        avoids: &[CrashSeen],
        core_only: &[],
        schedule: crash_by_silence,
    },
    Scenario {
        name: "crash-seen",
        rule: "the presences of a node whose crash is noticed leave at once",
        reaches: &[Crash, CrashSeen, Down],
        avoids: &[],
        core_only: &[],
        schedule: crash_seen,
    },
    Scenario {
        name: "replaced-under-new-name",
        rule: "after a node was replaced under a new name traffic is back at the idle level at once",
        reaches: &[Crash, NewName, FullState, Down],
        avoids: &[Permdown],
        core_only: &[],
        schedule: replaced_under_new_name,
    },
    Scenario {
        name: "restart-before-down",
        rule: "a node that is back before its old life is down takes its place",
        reaches: &[Crash, RestartEarly, Replaced],
        avoids: &[RestartDown],
        core_only: &[],
        schedule: restart_before_down,
    },
    Scenario {
        name: "restart-after-down",
        rule: "a node that is back after its old life was down takes its place",
        reaches: &[Crash, RestartDown, Replaced, Down],
        avoids: &[],
        core_only: &[],
        schedule: restart_after_down,
    },
    Scenario {
        name: "restart-after-permdown",
        rule: "a node that is back after it was forgotten is known with what it holds now",
        reaches: &[Crash, RestartPermdown, Down, Permdown],
        avoids: &[Replaced],
        core_only: &[],
        schedule: restart_after_permdown,
    },
    Scenario {
        name: "restart-clock-back",
        rule: "a node whose clock went back learns of its higher life and picks a higher one still",
        reaches: &[
            RestartEarly,
            ClockBack,
            LowerIgnored,
            Reincarnated,
            Replaced,
        ],
        avoids: &[],
        core_only: &[],
        schedule: restart_clock_back,
    },
    Scenario {
        name: "late-heartbeat-of-old-self",
        rule: "a late message of a node's old self does not evict the new",
        reaches: &[RestartEarly, OldLife, LowerIgnored, Replaced],
        avoids: &[],
        // What is late waits in the process that sends it, and ends with it; and nothing is delivered from
        // a connection that another has replaced. So the old self is heard before the new, or never.
        core_only: &[OldLife, LowerIgnored],
        schedule: late_heartbeat_of_old_self,
    },
    Scenario {
        name: "many-short-lives",
        rule: "removed replicas go from every table",
        reaches: &[Crash, NewName, RestartEarly, Permdown],
        avoids: &[],
        core_only: &[],
        schedule: many_short_lives,
    },
    Scenario {
        name: "restarts-on-both-sides",
        rule: "each side of a partition sees other lives of a node, and the latest wins",
        reaches: &[RestartEarly, Replaced],
        avoids: &[],
        core_only: &[],
        schedule: restarts_on_both_sides,
    },
];

fn crash_by_silence(seed: u64) -> Schedule {
    let mut story = Story::new("crash-by-silence", seed, 3);
    story.some_come("a", 1..80);
    story.come("b", 3);
    story.wait_periods(2);
    story.crashes("a");
    story.wait_until_forgotten();
    story.ends()
}

fn crash_seen(seed: u64) -> Schedule {
    let mut story = Story::new("crash-seen", seed, 3);
    story.network().detects_crashes = true;
    story.some_come("a", 1..80);
    story.wait_periods(2);
    story.crashes("a");
    story.wait_periods(5);
    story.ends()
}

fn replaced_under_new_name(seed: u64) -> Schedule {
    let mut story = Story::new("replaced-under-new-name", seed, 4);
    // Far away: what is sent again and again until then is seen.
    story.settings().permdown_period = 1_200_000;
    story.not_yet(&["d"]);
    story.settings().max_delta_size = 4;
    for node in ["a", "b", "c"] {
        let passing = story.come(node, 10);
        story.some_come(node, 10..60);
        story.leave(&passing);
    }
    story.wait_periods(3);
    story.crashes("a");
    let soon = story.some(0..5000);
    story.wait(soon);
    story.starts("d");
    story.some_come("d", 10..60);
    story.wait_until_down();
    story.ends()
}

fn restart_before_down(seed: u64) -> Schedule {
    let mut story = Story::new("restart-before-down", seed, 3);
    let users = story.some_come("a", 2..40);
    story.wait_periods(3);
    for _ in 0..3 {
        story.crashes("a");
        let soon = story.some(1..2 * story.period());
        story.wait(soon);
        story.starts("a");
        let within = story.period();
        let again = story.come_again(&users, "a", within);
        story.wait_periods(2);
        story.leave(&again);
        story.come("a", 2);
        story.wait_periods(2);
    }
    story.ends()
}

fn restart_after_down(seed: u64) -> Schedule {
    let mut story = Story::new("restart-after-down", seed, 3);
    let users = story.some_come("a", 2..40);
    story.wait_periods(3);
    story.crashes("a");
    story.wait_until_down();
    let soon = story.some(0..story.down());
    story.wait(soon);
    story.starts("a");
    let within = 2 * story.period();
    story.come_again(&users, "a", within);
    story.wait_periods(4);
    story.ends()
}

fn restart_after_permdown(seed: u64) -> Schedule {
    let mut story = Story::new("restart-after-permdown", seed, 3);
    let users = story.some_come("a", 2..40);
    story.wait_periods(3);
    story.crashes("a");
    story.wait_until_forgotten();
    story.starts("a");
    let within = 2 * story.period();
    story.come_again(&users, "a", within);
    story.wait_periods(4);
    story.ends()
}

fn restart_clock_back(seed: u64) -> Schedule {
    let mut story = Story::new("restart-clock-back", seed, 3);
    let users = story.some_come("a", 2..40);
    story.wait_periods(3);
    story.crashes("a");
    let soon = story.some(1..story.period());
    story.wait(soon);
    let back = story.some(60_000..3_600_000) as i64;
    story.starts_with_clock("a", -back);
    let within = story.period();
    story.come_again(&users, "a", within);
    story.wait_periods(4);
    // And once more, with a clock that is right again.
    story.crashes("a");
    story.starts_with_clock("a", back);
    story.come("a", 3);
    story.wait_periods(2);
    story.ends()
}

fn late_heartbeat_of_old_self(seed: u64) -> Schedule {
    let mut story = Story::new("late-heartbeat-of-old-self", seed, 3);
    let network = story.network();
    network.ordered = false;
    network.late = 500_000;
    for _ in 0..4 {
        for _ in 0..4 {
            let passing = story.come("a", 3);
            story.leave(&passing);
        }
        story.crashes("a");
        let soon = story.some(1..100);
        story.wait(soon);
        story.starts("a");
        story.come("a", 4);
    }
    story.wait_periods(2);
    story.ends()
}

fn many_short_lives(seed: u64) -> Schedule {
    let mut story = Story::new("many-short-lives", seed, 8);
    story.settings().permdown_period = 2 * story.down();
    let others = ["d", "e", "f", "g", "h"];
    story.not_yet(&others);
    story.come("b", 5);
    for name in others {
        story.crashes("a");
        story.starts("a");
        let some = story.some(1..10);
        story.come("a", some);
        story.starts(name);
        story.some_come(name, 1..10);
        story.wait_periods(2);
        story.crashes(name);
    }
    story.wait_until_forgotten();
    story.ends()
}

fn restarts_on_both_sides(seed: u64) -> Schedule {
    let mut story = Story::new("restarts-on-both-sides", seed, 3);
    story.come("a", 5);
    story.wait_periods(3);
    let apart = story.some(6..12) * story.period();
    // First b does not see the new life, then c does not see the next.
    story.cut(&["a"], &["b"], apart);
    story.crashes("a");
    story.starts("a");
    story.come("a", 5);
    story.wait(apart);
    let apart = story.some(6..12) * story.period();
    story.cut(&["a"], &["c"], apart);
    story.crashes("a");
    story.starts("a");
    story.come("a", 5);
    story.wait(apart);
    story.wait_periods(2);
    story.ends()
}
