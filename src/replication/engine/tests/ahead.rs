//! Changes of the own region that come up after something was applied to their keys.

use super::*;

/// What is applied or told is so at this time, in milliseconds.
const NOW: u64 = 10_000;

fn world(is_ahead: bool) -> World {
    let mut world = World::new();
    if is_ahead {
        world.engine.is_ahead_of_journal(0);
    }
    world.engine.now = Duration::from_millis(NOW);
    world
}

fn apply(world: &mut World, text: &str) {
    let decision = world.change(50, Body::Commands(commands(text)));
    assert_eq!(decision.commands.len(), 1, "{text}");
    world.engine.done(decision);
    world.engine.is_caught_up();
}

/// What is made again once what is under way is settled.
fn again(world: &mut World, ms: u64) -> usize {
    world.own(ms + 100, record::Body::Heartbeat(v1::Heartbeat::default()));
    world.engine.now += Duration::from_secs(1);
    world.engine.take_again().len()
}

#[test]
fn what_was_perhaps_overwritten_by_something_older_is_made_again() {
    for (is_ahead, ms, expected) in [
        (true, NOW - 5_000, 1),
        (true, NOW + 100, 1),
        (true, NOW + 600, 0),
        (false, NOW - 5_000, 0),
    ] {
        let mut world = world(is_ahead);
        apply(&mut world, "SET k theirs");
        world.own(ms, mutation("SET k mine", false));
        assert_eq!(again(&mut world, ms), expected, "{is_ahead} {ms}");
        assert!(!world.is_due("k"));
    }
}

#[test]
fn keys_are_told_whose_changes_are_perhaps_in_another_order_than_executed() {
    for (theirs, mine, is_told) in [
        ("INCR k", "INCR k", false),
        ("RPUSH k a", "RPUSH k b", true),
        ("HSET k f 1", "HSET k f 2", true),
        ("HSET k f 1", "HSET k g 2", false),
        ("HINCRBY k f 1", "HINCRBY k f 2", false),
        ("SET k 1", "INCR k", true),
        ("SET other 1", "RPUSH k b", false),
    ] {
        for is_ahead in [true, false] {
            let mut world = world(is_ahead);
            apply(&mut world, theirs);
            world.own(NOW - 5_000, mutation(mine, false));
            let is_expected = is_told && is_ahead;
            assert_eq!(world.is_due("k"), is_expected, "{theirs}, {mine}");
        }
    }
}

#[test]
fn what_a_told_value_perhaps_has_without_naming_it_has_the_key_told_again() {
    for (ms, mine, is_told) in [
        (NOW, "INCR k", true),
        (NOW + 1, "INCR k", false),
        (NOW, "RPUSH k a", true),
        // It comes to the same twice.
        (NOW, "HSET k f 1", false),
    ] {
        let mut world = world(true);
        world.engine.touch_told(0, b"k");
        world.own(ms, mutation(mine, false));
        assert_eq!(world.is_due("k"), is_told, "{ms} {mine}");
    }
    let mut world = world(true);
    world.engine.touch_told(0, b"k");
    world.own(NOW, mutation("SET k mine", false));
    assert_eq!(again(&mut world, NOW), 1);
}

#[test]
fn what_was_touched_long_ago_is_forgotten() {
    let mut world = world(true);
    apply(&mut world, "RPUSH k a");
    world.engine.now += Duration::from_secs(16 * 60);
    world.engine.forget_touched();
    world.own(NOW, mutation("RPUSH k b", false));
    assert!(!world.is_due("k"));
}
