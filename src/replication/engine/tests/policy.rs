//! What becomes of other regions' changes of keys whose copies are deleted here, that are
//! left alone, or that do not live long enough.

use super::super::super::policy::{KeyPolicy, Mode};
use super::*;

/// When the other region has made its change, in milliseconds.
const MADE: u64 = 100;

/// The least time to live, where there is one.
const TTL_MIN: Duration = Duration::from_secs(10);

fn with(policy: Policy) -> World {
    let world = World::new();
    world.engine.policy.store(Arc::new(policy));
    world
}

/// A region that deletes its copies of keys that begin with "i:", leaves those alone that
/// begin with "o:", and takes the values of all others.
fn region(ttl_min: Duration) -> World {
    let of = |mode| KeyPolicy { mode, ttl_min };
    let prefixes = vec![
        (b"i:".to_vec(), of(Mode::Invalidate)),
        (b"o:".to_vec(), of(Mode::Off)),
    ];
    with(Policy::new(of(Mode::Value), prefixes))
}

fn of_memcached(mut world: World) -> World {
    world.engine.store = v1::Store::Memcached;
    world
}

fn snapshot(key: &'static str, value: Option<&'static str>, expires_at: i64) -> Body {
    Body::Snapshot(v1::Snapshot {
        key: Bytes::from(key),
        value: value.map(Bytes::from),
        expires_at,
        ..Default::default()
    })
}

fn shown(decided: &[Command]) -> String {
    let word = |one: &Bytes| one.escape_ascii().to_string();
    let line = |one: &Command| {
        let words: Vec<String> = one.arguments.iter().map(word).collect();
        words.join(" ")
    };
    let lines: Vec<String> = decided.iter().map(line).collect();
    lines.join("; ")
}

/// Checks what is executed for a change of which nothing here is newer.
fn check(mut world: World, body: Body, expected: &str) {
    let about = format!("{body:?}");
    let decision = world.change(MADE, body);
    assert_eq!(shown(&decision.commands), expected, "{about}");
    let is_decided = !decision.waits && decision.older == 0 && decision.lost.is_empty();
    assert!(is_decided, "{about}");
}

fn check_commands(world: World, text: &str, expected: &str) {
    check(world, Body::Commands(commands(text)), expected);
}

#[test]
fn a_change_is_made_or_deletes_its_key_or_is_left_out() {
    for (text, expected) in [
        ("SET k 1", "SET k 1"),
        ("SET i:k 1", "UNLINK i:k"),
        ("SET o:k 1", ""),
        ("DEL k", "DEL k"),
        ("DEL i:k", "UNLINK i:k"),
        ("DEL o:k", ""),
        ("HSET k f 1 g 2", "HSET k f 1 g 2"),
        ("HSET i:k f 1 g 2", "UNLINK i:k"),
        ("HSET o:k f 1 g 2", ""),
        ("INCR k", "INCR k"),
        ("INCR i:k", "UNLINK i:k"),
        ("INCR o:k", ""),
        ("RPUSH i:k a", "UNLINK i:k"),
        ("PEXPIREAT i:k 5000", "UNLINK i:k"),
    ] {
        check_commands(region(Duration::ZERO), text, expected);
    }
}

#[test]
fn each_key_counts_by_itself_where_a_change_can_be_taken_apart() {
    for (text, expected) in [
        ("MSET a 1 b 2", "MSET a 1 b 2"),
        ("MSET i:a 1 i:b 2 i:a 3", "UNLINK i:a i:b"),
        ("MSET o:a 1 o:b 2", ""),
        ("MSET a 1 i:b 2 o:c 3 d 4", "MSET a 1; UNLINK i:b; MSET d 4"),
        ("DEL a i:b o:c", "DEL a; UNLINK i:b"),
        (
            "SET a 1; INCR i:b; SET o:c 3; INCR d",
            "SET a 1; UNLINK i:b; INCR d",
        ),
    ] {
        check_commands(region(Duration::ZERO), text, expected);
    }
}

/// The strictest of the keys' policies counts for all of them.
#[test]
fn a_change_that_can_not_be_taken_apart_is_made_of_all_keys_or_of_none() {
    for (text, expected) in [
        ("RENAME a b", "RENAME a b"),
        ("RENAME i:a i:b", "UNLINK i:a i:b"),
        ("RENAME a i:b", "UNLINK a i:b"),
        ("RENAME i:a b", "UNLINK i:a b"),
        ("RENAME o:a o:b", ""),
        ("RENAME a o:b", ""),
        ("RENAME o:a i:b", ""),
    ] {
        check_commands(region(Duration::ZERO), text, expected);
    }
}

#[test]
fn a_value_that_does_not_live_long_enough_has_the_copy_deleted() {
    for (text, expected) in [
        ("SET k 1", "SET k 1"),
        ("SET k 1 PXAT 10100", "SET k 1 PXAT 10100"),
        ("SET k 1 PXAT 10099", "UNLINK k"),
        ("SET k 1 PXAT 50", "UNLINK k"),
        ("SET i:k 1 PXAT 10099", "UNLINK i:k"),
        ("SET o:k 1 PXAT 10099", ""),
        ("SET a 1 PXAT 10099; SET b 2", "UNLINK a; SET b 2"),
        ("MSET a 1 b 2", "MSET a 1 b 2"),
        (
            "RESTORE k 0 v REPLACE ABSTTL",
            "RESTORE k 0 v REPLACE ABSTTL",
        ),
        (
            "RESTORE k 10100 v REPLACE ABSTTL",
            "RESTORE k 10100 v REPLACE ABSTTL",
        ),
        ("RESTORE k 10099 v REPLACE ABSTTL", "UNLINK k"),
        // It is the copy here that expires.
        ("PEXPIREAT k 200", "PEXPIREAT k 200"),
    ] {
        check_commands(region(TTL_MIN), text, expected);
    }
}

#[test]
fn a_prefix_may_have_a_least_time_to_live_of_its_own() {
    let of = |ttl_min| KeyPolicy {
        mode: Mode::Value,
        ttl_min,
    };
    let prefixes = vec![
        (b"any:".to_vec(), of(Duration::ZERO)),
        (b"long:".to_vec(), of(Duration::from_secs(60))),
    ];
    let policy = Policy::new(of(TTL_MIN), prefixes);
    for (text, expected) in [
        ("SET any:k 1 PXAT 101", "SET any:k 1 PXAT 101"),
        ("SET k 1 PXAT 10099", "UNLINK k"),
        ("SET k 1 PXAT 10100", "SET k 1 PXAT 10100"),
        ("SET long:k 1 PXAT 60099", "UNLINK long:k"),
        ("SET long:k 1 PXAT 60100", "SET long:k 1 PXAT 60100"),
    ] {
        check_commands(with(policy.clone()), text, expected);
    }
}

#[test]
fn of_memcached_the_same_counts() {
    for (text, expected) in [
        ("set k 0 0 v", "set k 0 0 v"),
        ("set i:k 0 0 v", "delete i:k"),
        ("set o:k 0 0 v", ""),
        ("delete i:k", "delete i:k"),
        ("touch k 1", "touch k 1"),
        ("touch i:k 11", "delete i:k"),
        ("set k 0 11 v", "set k 0 11 v"),
        ("set k 0 10 v", "delete k"),
        // At once.
        ("set k 0 -1 v", "delete k"),
    ] {
        check_commands(of_memcached(region(TTL_MIN)), text, expected);
    }
    for (key, expires_at, expected) in [
        ("k", 0, "set k 0 0 v"),
        ("k", 11_000, "set k 0 11 v"),
        ("k", 10_000, "delete k"),
        ("i:k", 0, "delete i:k"),
        ("o:k", 0, ""),
    ] {
        let value = snapshot(key, Some("\0\0\0\0v"), expires_at);
        check(of_memcached(region(TTL_MIN)), value, expected);
    }
}

#[test]
fn a_value_that_is_told_is_taken_or_has_the_copy_deleted_or_is_left_out() {
    for (key, value, expires_at, expected) in [
        ("k", Some("v"), 0, "RESTORE k 0 v REPLACE ABSTTL"),
        ("k", None, 0, "UNLINK k"),
        ("i:k", Some("v"), 0, "UNLINK i:k"),
        ("i:k", None, 0, "UNLINK i:k"),
        ("o:k", Some("v"), 0, ""),
        ("o:k", None, 0, ""),
        ("k", Some("v"), 10_100, "RESTORE k 10100 v REPLACE ABSTTL"),
        ("k", Some("v"), 10_099, "UNLINK k"),
        ("i:k", Some("v"), 10_099, "UNLINK i:k"),
        ("o:k", Some("v"), 10_099, ""),
    ] {
        let body = snapshot(key, value, expires_at);
        check(region(TTL_MIN), body, expected);
    }
}

/// It may include nothing newer than a change of long ago.
#[test]
fn how_long_a_told_value_lives_counts_from_when_it_is_told() {
    for (expires_at, expected) in [
        (15_000, "RESTORE k 15000 v REPLACE ABSTTL"),
        (14_999, "UNLINK k"),
    ] {
        let mut world = region(TTL_MIN);
        let decision = world.engine.decide(&Change {
            place: Partition {
                region: RegionId(1),
                number: 0,
            }
            .at(0),
            version: Version {
                hlc: MADE << 16,
                writer: 9,
                snapshot: 5_000 << 16,
                teller: 9,
            },
            database: 0,
            body: snapshot("k", Some("v"), expires_at),
        });
        assert_eq!(shown(&decision.commands), expected);
    }
}

#[test]
fn a_deletion_is_as_new_as_the_change_it_is_for() {
    for (own, text) in [
        ("SET i:k mine", "SET i:k theirs"),
        ("SET k mine", "SET k theirs PXAT 10099"),
    ] {
        let mut world = region(TTL_MIN);
        world.own(MADE + 10, mutation(own, false));
        assert_eq!(world.us(MADE, text), 0, "{text}");
    }
    let mut world = region(TTL_MIN);
    assert_eq!(world.us(MADE, "SET k brief PXAT 10099"), 1);
    assert_eq!(world.us(MADE - 10, "SET k older"), 0);
    assert_eq!(world.us(MADE + 10, "SET k newer"), 1);
}

/// What own clients have under way may be executed after it.
#[test]
fn a_deletion_is_made_again_when_what_was_under_way_is_settled() {
    for (own, text, expected) in [
        ("SET i:k mine", "SET i:k theirs", "UNLINK i:k"),
        ("SET k mine", "SET k theirs PXAT 10099", "UNLINK k"),
    ] {
        let mut world = region(TTL_MIN);
        world.own(MADE - 10, mutation(own, false));
        let decision = world.change(MADE, Body::Commands(commands(text)));
        assert_eq!(shown(&decision.commands), expected);
        world.engine.done(decision);
        world.own(900, record::Body::Heartbeat(v1::Heartbeat::default()));
        let again = world.engine.take_again().into_iter();
        let again: Vec<Command> = again.map(|one| one.command).collect();
        assert_eq!(shown(&again), expected);
    }
}

#[test]
fn only_keys_that_are_taken_as_values_are_told() {
    for (key, is_told) in [("k", true), ("i:k", false), ("o:k", false)] {
        let mut world = region(Duration::ZERO);
        let name = Bytes::from(key);
        world.engine.tell_surely(0, &name, Reason::Overlap);
        assert_eq!(world.is_due(key), is_told, "{key}");
    }
}

#[test]
fn another_policy_counts_for_what_comes_after_it() {
    let mut world = region(Duration::ZERO);
    assert_eq!(world.us(MADE, "SET o:k before"), 0);
    world.engine.policy.store(Arc::new(Policy::default()));
    assert_eq!(world.us(MADE + 10, "SET o:k after"), 1);
}

/// Its value is another region's only, and so is what is made of that.
#[test]
fn what_is_held_back_is_not_told_nor_changed_until_it_is_overwritten() {
    let key = Bytes::from("k");
    let mut world = region(TTL_MIN);
    assert_eq!(world.us(MADE, "SET k 7 PXAT 10099"), 1);
    let decision = world.change(MADE + 10, Body::Commands(commands("INCR k")));
    assert_eq!(shown(&decision.commands), "UNLINK k");
    world.engine.tell_surely(0, &key, Reason::Conflict);
    assert!(world.tell().is_empty());
    let decision = world.change(MADE + 20, Body::Commands(commands("SET k 8")));
    assert_eq!(shown(&decision.commands), "SET k 8");
    assert_eq!(world.us(MADE + 30, "INCR k"), 1);
    world.engine.tell_surely(0, &key, Reason::Conflict);
    assert_eq!(world.tell().len(), 1);
}

#[test]
fn a_flush_leaves_alone_what_is_left_alone() {
    let world = region(Duration::ZERO);
    let flush = Version {
        hlc: MADE << 16,
        ..Version::default()
    };
    for (key, goes) in [("k", true), ("i:k", true), ("o:k", false)] {
        assert_eq!(world.engine.goes_with(flush, 0, key.as_bytes()), goes);
    }
}
