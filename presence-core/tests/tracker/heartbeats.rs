//! Who speaks when, and what that tells.

use super::world::{World, seconds};

#[test]
fn nodes_meet_and_list_each_other() {
    let mut world = World::new(&["a", "b", "c"]);
    world.track("a", "t", "alice");
    world.track("b", "t", "bob");
    world.run(seconds(3.0));
    for name in ["a", "b", "c"] {
        assert_eq!(world.list(name, "t"), ["alice", "bob"], "at {name}");
    }
}

#[test]
fn a_crashed_node_is_down_after_down_period_and_forgotten_after_permdown_period() {
    let mut world = World::new(&["a", "b"]);
    world.track("b", "t", "bob");
    world.run(seconds(3.0));
    world.crash("b");
    world.run(seconds(6.0));
    assert_eq!(world.list("a", "t"), ["bob"]);
    world.run(seconds(6.0));
    assert!(world.list("a", "t").is_empty());
    assert_eq!(world.tracker("a").replicas().count(), 1);
    world.run(seconds(60.0));
    assert_eq!(world.tracker("a").replicas().count(), 0);
}
