//! Single rules, each with the least that shows it: the simulation seldom comes
//! by what some of them are for.

use super::*;
use crate::mutation::v1::outcome::Result;
use crate::mutation::v1::record;

mod ahead;
mod others;
mod policy;

/// An engine, and journals that grow.
struct World {
    engine: Engine,
    /// The own region's writer.
    sequence: u64,
    offset: Offset,
    of_us: Offset,
}

fn commands(text: &str) -> Vec<v1::Command> {
    let command = |text: &str| v1::Command {
        arguments: text
            .split(' ')
            .map(|word| Bytes::from(word.to_owned()))
            .collect(),
    };
    text.split("; ").map(command).collect()
}

fn mutation(text: &str, waits: bool) -> record::Body {
    record::Body::Mutation(v1::Mutation {
        commands: commands(text),
        keys: vec![Bytes::from("k")],
        r#final: !waits,
        waits,
        ..Default::default()
    })
}

fn intent(key: &str) -> record::Body {
    record::Body::Mutation(v1::Mutation {
        keys: vec![Bytes::from(key.to_owned())],
        ..Default::default()
    })
}

impl World {
    fn new() -> World {
        let table = super::super::Table::built_in();
        let names = vec!["eu".to_owned(), "us".to_owned()];
        let table = Arc::new(ArcSwap::from_pointee(table));
        World {
            engine: Engine::new(table, v1::Store::Redis, names),
            sequence: 0,
            offset: 0,
            of_us: 0,
        }
    }

    /// A record of the own journal that is so old; its sequence.
    fn own(&mut self, ms: u64, body: record::Body) -> u64 {
        self.sequence += 1;
        let record = v1::Record {
            hlc: ms << 16,
            writer: 7,
            sequence: self.sequence,
            settled_through: self.sequence - 1,
            body: Some(body),
            ..Default::default()
        };
        self.engine.own(0, self.offset, &record);
        self.offset += 1;
        self.sequence
    }

    /// The next change of the other region.
    fn change(&mut self, ms: u64, body: Body) -> Decision {
        let of_us = Partition {
            region: RegionId(1),
            number: 0,
        };
        self.of_us += 1;
        self.engine.decide(&Change {
            place: of_us.at(self.of_us - 1),
            version: Version {
                hlc: ms << 16,
                writer: 9,
                ..Version::default()
            },
            database: 0,
            body,
        })
    }

    /// What the other region has done; how many commands are executed for it.
    fn us(&mut self, ms: u64, text: &str) -> usize {
        self.change(ms, Body::Commands(commands(text)))
            .commands
            .len()
    }

    fn rejected(&mut self, ms: u64, of_sequence: u64) {
        let result = Some(Result::Rejected(v1::Rejected::default()));
        let outcome = v1::Outcome {
            of_sequence,
            result,
            ..Default::default()
        };
        self.own(ms, record::Body::Outcome(outcome));
    }

    fn is_due(&self, key: &str) -> bool {
        self.engine.is_due(0, key.as_bytes())
    }

    /// Tells the keys that are due; the versions told.
    fn tell(&mut self) -> Vec<Version> {
        self.engine.now += Duration::from_secs(1);
        self.own(900, record::Body::Heartbeat(v1::Heartbeat::default()));
        let included = Included::new(vec![(Partition::own(0), self.offset)]);
        let due = self.engine.take_due(9);
        let told = |one: Due| {
            let floor = self.engine.floor();
            self.engine
                .told(&one, (901 << 16, 8), floor, included.clone())
        };
        due.into_iter().map(told).collect()
    }
}

#[test]
fn what_may_have_found_nothing_before_what_was_applied_has_its_key_told() {
    for (text, is_caught_up, is_told) in [
        ("DEL k", false, true),
        ("DEL k", true, false),
        ("SET k w", false, false),
        ("DEL other", false, false),
    ] {
        let mut world = World::new();
        assert_eq!(world.us(50, "SET k v"), 1);
        if is_caught_up {
            world.engine.is_caught_up();
        }
        world.own(101, mutation(text, false));
        assert_eq!(world.is_due("k"), is_told, "{text} {is_caught_up}");
    }
}

#[test]
fn what_waited_has_its_key_told_if_it_was_not_alone_with_it() {
    for (other, is_told) in [(None, false), (Some("own"), true), (Some("us"), true)] {
        let mut world = World::new();
        world.own(101, mutation("BLPOP k 0", true));
        let state = &world.engine.keys[&KeyId::of(0, b"k")];
        assert!(!world.engine.writers.any_unsettled(&state.unsettled));
        match other {
            Some("own") => drop(world.own(102, mutation("LPUSH k v", false))),
            Some(_) => assert_eq!(world.us(50, "LPUSH k v"), 1),
            None => {}
        }
        world.engine.is_caught_up();
        let outcome = v1::Outcome {
            of_sequence: 1,
            waited: true,
            key: Bytes::from("k"),
            result: Some(Result::Effects(v1::Effects {
                commands: commands("LPOP k"),
                unknown_keys: Vec::new(),
            })),
        };
        world.own(103, record::Body::Outcome(outcome));
        assert_eq!(world.is_due("k"), is_told, "{other:?}");
    }
}

#[test]
fn an_older_element_would_have_made_the_key_for_what_was_done_to_it() {
    for (text, is_told) in [("PEXPIREAT k 9999", true), ("HSET k other v", false)] {
        let mut world = World::new();
        world.own(101, mutation(text, false));
        world.own(102, mutation("HSET k m new", false));
        assert_eq!(world.us(50, "HSET k m old"), 0);
        assert_eq!(world.is_due("k"), is_told, "{text}");
    }
}

#[test]
fn an_element_is_told_that_something_under_way_may_change_afterwards() {
    for (own, us, is_told) in [
        ("SREM k m", "SADD k m", true),
        ("SREM k m", "SADD k other", false),
        ("HINCRBY k m 1", "HINCRBY k m 1", false),
        ("HINCRBY k m 1", "HSET k m v", true),
        ("APPEND k v", "SADD k m", true),
    ] {
        let mut world = World::new();
        world.own(101, mutation(own, false));
        assert_eq!(world.us(150, us), 1);
        assert_eq!(world.is_due("k"), is_told, "{own}, {us}");
    }
}

#[test]
fn what_was_made_of_a_key_is_told_when_something_older_comes_for_it() {
    for (ms, is_told) in [(50, true), (102, false)] {
        let mut world = World::new();
        world.own(101, mutation("RENAME k n", false));
        world.own(103, mutation("UNLINK k", false));
        // It came to nothing where the key was gone already.
        assert_eq!(world.us(ms, "HSET k m v"), 0);
        assert_eq!(world.is_due("n"), is_told, "{ms}");
        let mut world = World::new();
        world.own(101, mutation("RENAME k n", false));
        world.own(103, mutation("UNLINK k", false));
        let snapshot = v1::Snapshot {
            key: Bytes::from("k"),
            content_hlc: ms << 16,
            ..Default::default()
        };
        let decision = world.change(ms, Body::Snapshot(snapshot));
        assert_eq!(decision.older, 1);
        assert_eq!(world.is_due("n"), is_told, "{ms}");
    }
}

#[test]
fn what_is_made_of_a_key_that_is_to_be_told_is_told() {
    for is_due in [true, false] {
        let mut world = World::new();
        world.own(100, mutation("RENAME a k", false));
        if is_due {
            assert_eq!(world.us(50, "HSET a m v"), 1);
        }
        assert_eq!(world.is_due("k"), is_due);
        world.own(110, mutation("RENAME k n", false));
        assert_eq!(world.is_due("n"), is_due);
    }
}

#[test]
fn what_was_refused_hides_nothing_that_is_older() {
    for is_told_before in [false, true] {
        let mut world = World::new();
        world.own(100, mutation("SET k first", false));
        let refused = world.own(110, mutation("SET k refused", false));
        world.rejected(111, refused);
        assert!(world.is_due("k"));
        if is_told_before {
            let told = world.tell();
            // The others have made it.
            assert_eq!(told.len(), 1);
            assert_eq!(told[0].hlc, 110 << 16);
            assert!(!world.is_due("k"));
        }
        assert_eq!(world.us(90, "SET k older"), 0);
        assert_eq!(world.us(105, "SET k second"), 1);
        assert!(world.is_due("k"), "told before: {is_told_before}");
        assert_eq!(world.us(104, "SET k between"), 0);
        let told = world.tell();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].hlc, 110 << 16);
        world.own(120, mutation("SET k third", false));
        assert_eq!(world.us(106, "SET k late"), 0);
    }
}

#[test]
fn adding_nothing_makes_a_key() {
    let mut world = World::new();
    world.own(100, mutation("INCRBY k 5", false));
    world.own(102, mutation("INCRBY k -5", false));
    world.own(103, record::Body::Heartbeat(v1::Heartbeat::default()));
    let absent = v1::Snapshot {
        key: Bytes::from("k"),
        content_hlc: 101 << 16,
        ..Default::default()
    };
    let decision = world.change(101, Body::Snapshot(absent));
    let names: Vec<&Bytes> = decision
        .commands
        .iter()
        .map(|one| &one.arguments[0])
        .collect();
    assert_eq!(names, ["UNLINK", "INCRBY"]);
}

#[test]
fn what_others_have_told_of_the_own_region_is_told_again_if_it_may_be_old() {
    for (since, is_late, is_told) in [
        (0, false, true),
        (500 << 16, false, false),
        (500 << 16, true, true),
    ] {
        let mut world = World::new();
        world.engine.teller = (8, since);
        world.engine.is_late = is_late;
        let snapshot = v1::Snapshot {
            key: Bytes::from("k"),
            ..Default::default()
        };
        world.own(400, record::Body::Snapshot(snapshot));
        assert_eq!(world.is_due("k"), is_told);
    }
}

/// Another region gets the two partitions in another order.
#[test]
fn an_element_that_two_partitions_of_the_own_region_change_is_told() {
    for (first, second, is_told) in [
        ("HINCRBY k f 3", "HSET k f 1", true),
        ("HSET k f 1", "HSET k f 2", true),
        ("HINCRBY k f 3", "HSET k other 1", false),
    ] {
        let mut world = World::new();
        world.own(10_000, mutation(first, false));
        // It hides from the clocks how near they were.
        world.own(10_700, mutation("HSET k last 1", false));
        world.own(10_701, record::Body::Heartbeat(v1::Heartbeat::default()));
        let late = v1::Record {
            hlc: 9900 << 16,
            writer: 8,
            sequence: 1,
            body: Some(mutation(second, false)),
            ..Default::default()
        };
        world.engine.own(1, 0, &late);
        assert_eq!(world.is_due("k"), is_told, "{first}, {second}");
    }
}

#[test]
fn nothing_is_applied_while_a_part_of_the_own_journal_is_not_known() {
    let snapshot = v1::Snapshot {
        key: Bytes::from("k"),
        content_hlc: 100 << 16,
        ..Default::default()
    };
    for body in [
        Body::Commands(commands("SET k v")),
        Body::Snapshot(snapshot),
    ] {
        let mut world = World::new();
        world.engine.is_inexact = true;
        assert!(world.change(101, body.clone()).waits);
        world.engine.is_inexact = false;
        let decision = world.change(102, body);
        assert!(!decision.waits && decision.commands.len() == 1);
    }
}

#[test]
fn what_a_script_did_is_as_new_as_the_script() {
    let mut world = World::new();
    let sequence = world.own(100, intent("k"));
    let result = Some(Result::Effects(v1::Effects {
        commands: Vec::new(),
        unknown_keys: vec![Bytes::from("k")],
    }));
    let outcome = v1::Outcome {
        of_sequence: sequence,
        result,
        ..Default::default()
    };
    world.own(101, record::Body::Outcome(outcome));
    let told = world.tell();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].hlc, 100 << 16);
    // What another region did before does not hide it.
    assert_eq!(world.us(90, "DEL k"), 0);
}

#[test]
fn counts_that_a_value_lacks_do_not_hide_it() {
    let mut world = World::new();
    world.own(100, mutation("PEXPIREAT k 9999", false));
    world.own(102, mutation("INCRBY k 1", false));
    world.own(103, record::Body::Heartbeat(v1::Heartbeat::default()));
    for (next_offset, count) in [(1, 2), (0, 0)] {
        let snapshot = v1::Snapshot {
            key: Bytes::from("k"),
            content_hlc: 101 << 16,
            applied: vec![v1::Applied {
                region: "eu".to_owned(),
                partition: 0,
                next_offset,
            }],
            ..Default::default()
        };
        let decision = world.change(101 + next_offset, Body::Snapshot(snapshot));
        assert_eq!(decision.commands.len(), count, "{next_offset}");
    }
}

#[test]
fn what_was_refused_is_not_added_to_what_another_region_tells() {
    let mut world = World::new();
    world.own(100, mutation("INCRBY k 5", false));
    let refused = world.own(110, mutation("INCRBY k 30", false));
    world.rejected(111, refused);
    let snapshot = v1::Snapshot {
        key: Bytes::from("k"),
        value: Some(Bytes::from("a value")),
        content_hlc: 120 << 16,
        ..Default::default()
    };
    world.own(112, record::Body::Heartbeat(v1::Heartbeat::default()));
    let body = Body::Snapshot(snapshot);
    let decision = world.change(120, body);
    let last = decision.commands.last().expect("it is applied");
    assert_eq!(last.arguments, commands("INCRBY k 5")[0].arguments);
}

#[test]
fn what_was_refused_is_not_made_again_on_top_of_a_snapshot() {
    let mut world = World::new();
    world.engine.set_filling(Some(HashMap::new()));
    let parts = world.own(100, mutation("RPUSH k done; RPUSH k refused", false));
    let outcome = v1::Outcome {
        of_sequence: parts,
        result: Some(Result::Effects(v1::Effects {
            commands: commands("RPUSH k done"),
            unknown_keys: Vec::new(),
        })),
        ..Default::default()
    };
    world.own(101, record::Body::Outcome(outcome));
    let again = world
        .engine
        .made_again(KeyId::of(0, b"k"), &Included::default());
    let made: Vec<&[Bytes]> = again.iter().map(|one| &one.arguments[..]).collect();
    assert_eq!(made, [&commands("RPUSH k done")[0].arguments[..]]);
}

#[test]
fn a_key_that_changes_while_it_is_read_is_read_again() {
    let mut world = World::new();
    world.own(100, mutation("SET k v", false));
    world.own(101, mutation("GETDEL other", false));
    world
        .engine
        .tell_surely(0, &Bytes::from("k"), Reason::Bootstrap);
    world.engine.now += Duration::from_secs(1);
    let due = world.engine.take_due(9).remove(0);
    world.own(102, mutation("INCRBY k 1", false));
    world.own(103, mutation("GETDEL other", false));
    assert!(world.engine.unless_changed(due).is_none());
    world.engine.now += Duration::from_secs(1);
    let due = world.engine.take_due(9).remove(0);
    assert_eq!(due.reason, Reason::Bootstrap);
    assert!(world.engine.unless_changed(due).is_some());
}

#[test]
fn what_was_overwritten_while_nobody_watched_is_overwritten_again() {
    for (own_ms, text, again) in [
        (60, "SET k new", Some("SET k new")),
        (60, "MSET k new other o", Some("MSET k new")),
        // Older than what was applied: that is what counts.
        (40, "SET k old", None),
        // Does not set what there was before aside.
        (60, "APPEND k x", None),
        (60, "SET other o", None),
    ] {
        let mut world = World::new();
        let keys = vec![(0, Bytes::from("k")), (0, Bytes::from("calm"))];
        assert_eq!(world.engine.take_racing(&mut keys.clone(), &[]), []);
        world.engine.raced();
        world.own(30, mutation("SET k v", false));
        let mut watched = keys.clone();
        let racing = world.engine.take_racing(&mut watched, &[]);
        assert_eq!((&racing[..], &watched[..]), (&keys[..1], &keys[1..]));
        world.engine.are_unwatched(&racing);
        assert_eq!(world.us(50, "SET k w"), 1);
        world.own(own_ms, mutation(text, false));
        world.own(900, record::Body::Heartbeat(v1::Heartbeat::default()));
        let taken = world.engine.take_again();
        let taken: Vec<_> = taken.into_iter().map(|one| one.command.arguments).collect();
        let expected = again.map(|text| commands(text)[0].arguments.to_vec());
        assert_eq!(taken, Vec::from_iter(expected), "{text}");
    }
}

#[test]
fn what_comes_once_the_journal_was_read_to_its_end_was_executed_later() {
    let mut world = World::new();
    world.engine.are_unwatched(&[(0, Bytes::from("k"))]);
    assert_eq!(world.us(50, "SET k w"), 1);
    world.engine.is_caught_up();
    world.own(60, mutation("SET k new", false));
    world.own(900, record::Body::Heartbeat(v1::Heartbeat::default()));
    assert!(world.engine.take_again().is_empty());
}

#[test]
fn what_a_value_included_is_known_again_though_more_is_known_by_then() {
    let snapshot = |ms: u64| {
        Body::Snapshot(v1::Snapshot {
            key: Bytes::from("k"),
            value: Some(Bytes::from("v")),
            content_hlc: ms << 16,
            content_writer: 9,
            applied: vec![v1::Applied {
                region: "us".to_owned(),
                partition: 1,
                next_offset: 7,
            }],
            ..Default::default()
        })
    };
    let included = Partition {
        region: RegionId(1),
        number: 1,
    }
    .at(6);
    for text in ["INCRBY k 1", "RPUSH k v"] {
        let mut world = World::new();
        world.own(60, mutation(text, false));
        let change = Change {
            place: Partition {
                region: RegionId(1),
                number: 0,
            }
            .at(0),
            version: Version {
                hlc: 50 << 16,
                writer: 9,
                ..Version::default()
            },
            database: 0,
            body: snapshot(50),
        };
        let decision = world.engine.decide(&change);
        assert!(decision.waits || !decision.lost.is_empty(), "{text}");
        let id = KeyId::of(0, b"k");
        assert!(!world.engine.included.contains_key(&id), "{text}");
        world.engine.repeat(&change, Recent::None);
        assert!(world.engine.included[&id].covers(included), "{text}");
    }
}
