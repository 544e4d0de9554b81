//! What other regions tell, and what is to be done about what is known of them late.

use super::super::super::policy::{KeyPolicy, Mode};
use super::*;

fn value(applied: &[(&str, u32, Offset)]) -> Body {
    let named = |&(region, partition, next_offset): &(&str, u32, Offset)| v1::Applied {
        region: region.to_owned(),
        partition,
        next_offset,
    };
    Body::Snapshot(v1::Snapshot {
        key: Bytes::from("k"),
        value: Some(Bytes::from("v")),
        applied: applied.iter().map(named).collect(),
        ..Default::default()
    })
}

#[test]
fn who_told_what_counts_now_answers_an_older_value_and_nobody_else() {
    for is_newer_told in [false, true] {
        let mut world = World::new();
        world.own(100, mutation("SET k v", false));
        let key = Bytes::from("k");
        world.engine.tell_surely(0, &key, Reason::Overlap);
        assert_eq!(world.tell().len(), 1);
        if is_newer_told {
            let newer = world.change(200, value(&[("eu", 0, 9)]));
            assert_eq!(newer.commands.len(), 1);
        }
        assert_eq!(world.change(90, value(&[])).older, 1);
        assert_eq!(world.is_due("k"), !is_newer_told);
    }
}

#[test]
fn who_is_told_again_and_again_is_told_less_often() {
    let mut world = World::new();
    world.own(100, mutation("SET k v", false));
    let mut times = Vec::new();
    for tick in 1..=400 {
        world.engine.now = Duration::from_millis(10 * tick);
        let key = Bytes::from("k");
        world.engine.tell_surely(0, &key, Reason::Overlap);
        world.own(900, record::Body::Heartbeat(v1::Heartbeat::default()));
        for due in world.engine.take_due(9) {
            let floor = world.engine.floor();
            let told = Included::default();
            world.engine.told(&due, (901 << 16, 8), floor, told);
            times.push(10 * tick);
        }
    }
    let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert!(pauses[0] <= 60 && 1000 <= *pauses.last().expect("several"));
}

#[test]
fn what_was_applied_and_is_not_known_is_not_undone() {
    let unread = Partition {
        region: RegionId(1),
        number: 1,
    };
    let mut world = World::new();
    world.engine.goes_without(vec![(unread, 7)], false);
    let lacks = world.change(100, value(&[("us", 1, 6)]));
    assert_eq!((lacks.commands.len(), lacks.lost.len()), (0, 1));
    assert!(world.is_due("k"));
    let includes = world.change(101, value(&[("us", 1, 7)]));
    assert_eq!((includes.commands.len(), includes.lost.len()), (1, 0));
    // An answer to what was told here.
    let mut world = World::new();
    world.engine.goes_without(vec![(unread, 7)], false);
    let told = v1::Snapshot {
        key: Bytes::from("k"),
        ..Default::default()
    };
    world.own(50, record::Body::Snapshot(told));
    assert_eq!(world.change(100, value(&[("eu", 0, 0)])).lost.len(), 1);
    assert_eq!(world.change(101, value(&[("eu", 0, 1)])).commands.len(), 1);
}

#[test]
fn what_is_read_again_late_is_made_again_where_others_came_between() {
    for (recent, mode, count) in [
        (Recent::All, Mode::Value, 1),
        (Recent::All, Mode::Invalidate, 0),
        (Recent::Since(0), Mode::Value, 0),
    ] {
        let mut world = World::new();
        let of_key = KeyPolicy {
            mode,
            ttl_min: Duration::ZERO,
        };
        world
            .engine
            .policy
            .store(Arc::new(Policy::new(of_key, vec![])));
        assert_eq!(world.us(60, "SET k between"), 1);
        let change = Change {
            place: Partition {
                region: RegionId(1),
                number: 1,
            }
            .at(0),
            version: Version {
                hlc: 70 << 16,
                writer: 9,
                ..Version::default()
            },
            database: 0,
            body: Body::Commands(commands("MSET k new other 1")),
        };
        world.engine.repeat(&change, recent);
        let again = world.engine.take_again();
        assert_eq!(again.len(), count);
        let of_key = commands("MSET k new");
        assert!(
            again
                .iter()
                .all(|one| one.command.arguments == of_key[0].arguments)
        );
        // A key that is deleted here is told by nobody here.
        assert_eq!(world.is_due("k"), count == 1);
        assert!(!world.is_due("other"));
    }
}

#[test]
fn what_a_value_does_not_name_is_told_by_who_leads_next() {
    let of_other = |text: &str, ms: u64| v1::Record {
        hlc: ms << 16,
        writer: 6,
        sequence: 1,
        body: Some(mutation(text, false)),
        ..Default::default()
    };
    let told = |next_offset| {
        record::Body::Snapshot(v1::Snapshot {
            key: Bytes::from("k"),
            content_hlc: 300 << 16,
            applied: vec![v1::Applied {
                region: "eu".to_owned(),
                partition: 1,
                next_offset,
            }],
            ..Default::default()
        })
    };
    let changes = ["RPUSH k v", "INCRBY k 1"];
    for (text, ms) in changes.iter().flat_map(|text| [(text, 250), (text, 350)]) {
        for (next_offset, is_told) in [(0, true), (1, false)] {
            for is_value_first in [false, true] {
                let mut world = World::new();
                world.engine.teller = (8, 950 << 16);
                if is_value_first {
                    world.own(400, told(next_offset));
                }
                world.engine.own(1, 0, &of_other(text, ms));
                if !is_value_first {
                    assert!(!world.is_due("k"));
                    world.own(400, told(next_offset));
                }
                let is_due = world.is_due("k");
                assert_eq!(
                    is_due, is_told,
                    "{text} {ms} {next_offset} {is_value_first}"
                );
            }
        }
    }
}

#[test]
fn who_takes_a_value_without_what_was_overwritten_here_tells_it() {
    for (next_offset, is_told) in [(0, true), (9, false)] {
        let mut world = World::new();
        world.own(100, mutation("SETBIT k 0 1", false));
        world.own(110, mutation("UNLINK k", false));
        world.own(111, record::Body::Heartbeat(v1::Heartbeat::default()));
        let newer = world.change(200, value(&[("eu", 0, next_offset)]));
        assert_eq!(newer.commands.len(), 1);
        assert_eq!(world.is_due("k"), is_told);
    }
}

#[test]
fn overwrites_are_made_again_unless_more_is_away_than_before() {
    let of_us = |number| Partition {
        region: RegionId(1),
        number,
    };
    let mut world = World::new();
    let change = Change {
        place: of_us(1).at(0),
        version: Version {
            hlc: 70 << 16,
            writer: 9,
            ..Version::default()
        },
        database: 0,
        body: Body::Commands(commands("SET k new")),
    };
    world
        .engine
        .goes_without(vec![(of_us(1), 1), (of_us(2), 1)], false);
    assert_eq!(world.us(60, "SET k between"), 1);
    // It is back, the other is not.
    world.engine.repeat(&change, Recent::All);
    world.engine.goes_without(vec![(of_us(2), 1)], false);
    assert_eq!(world.engine.take_again().len(), 1);
    // A part of the other one was read again.
    world.engine.repeat(&change, Recent::All);
    world.engine.goes_without(vec![(of_us(2), 1)], true);
    assert!(world.engine.take_again().is_empty());
    world.engine.repeat(&change, Recent::All);
    world
        .engine
        .goes_without(vec![(of_us(1), 1), (of_us(2), 1)], false);
    assert!(world.engine.take_again().is_empty());
    assert!(world.is_due("k"));
}

#[test]
fn keys_that_have_outlived_a_flush_before_are_told() {
    let mut world = World::new();
    assert_eq!(world.us(60, "HSET k f v"), 1);
    assert_eq!(world.us(80, "HSET k g v"), 1);
    let flush = |ms: u64| Change {
        place: Partition {
            region: RegionId(1),
            number: 1,
        }
        .at(ms),
        version: Version {
            hlc: ms << 16,
            writer: 9,
            ..Version::default()
        },
        database: 0,
        body: Body::Commands(commands("FLUSHALL")),
    };
    world.engine.repeat(&flush(40), Recent::None);
    assert!(world.engine.flushed_again.is_empty());
    for ms in [70, 50] {
        world.engine.repeat(&flush(ms), Recent::Since(45 << 16));
    }
    let known: Vec<_> = world.engine.flushed_again.iter().collect();
    assert_eq!(known, [(&None, &flush(70).version)]);
    assert!(!world.is_due("k"));
    world
        .engine
        .outlives(flush(70).version, 0, &Bytes::from("k"));
    assert!(world.is_due("k"));
}

#[test]
fn what_only_its_outcome_tells_has_its_key_told_beside_a_flush() {
    let mut world = World::new();
    let flush = record::Body::Mutation(v1::Mutation {
        commands: commands("FLUSHALL"),
        ..Default::default()
    });
    world.own(100, flush);
    let beside = v1::Record {
        hlc: 101 << 16,
        writer: 7,
        sequence: 2,
        settled_through: 0,
        body: Some(intent("k")),
        ..Default::default()
    };
    world.engine.own(0, world.offset, &beside);
    assert!(world.is_due("k"));
}

#[test]
fn an_outcome_that_counts_as_newer_than_what_came_after_it_has_its_keys_told() {
    // From so late on it has a time of its own.
    for (late_ms, is_told) in [(3_900, false), (4_100, true)] {
        let mut world = World::new();
        let of_sequence = world.own(100, intent("k"));
        let effects = v1::Effects {
            commands: commands("SET k v"),
            ..Default::default()
        };
        let outcome = v1::Outcome {
            of_sequence,
            result: Some(Result::Effects(effects)),
            ..Default::default()
        };
        world.own(100 + late_ms, record::Body::Outcome(outcome));
        assert_eq!(world.is_due("k"), is_told, "{late_ms} ms");
    }
}
