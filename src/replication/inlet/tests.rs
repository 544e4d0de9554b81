//! What waits, what is done, and what was left out.

use super::*;
use crate::replication::version::RegionId;

fn mutation(writer: u64, sequence: u64, offset: Offset, ms: u64, is_final: bool) -> Found {
    let command = v1::Command {
        arguments: vec![Bytes::from("SET"), Bytes::from("k"), Bytes::from("v")],
    };
    let mutation = v1::Mutation {
        commands: vec![command],
        keys: vec![Bytes::from("k")],
        r#final: is_final,
        ..Default::default()
    };
    Found {
        offset,
        record: v1::Record {
            hlc: ms << COUNTER_BITS,
            writer,
            sequence,
            body: Some(record::Body::Mutation(mutation)),
            ..Default::default()
        },
    }
}

fn inlet(checkpoint: &Checkpoint) -> Inlet {
    let partition = Partition {
        region: RegionId(1),
        number: 0,
    };
    Inlet::new(partition, checkpoint)
}

fn apply(inlet: &mut Inlet, found: Found) {
    inlet.accept(found);
    inlet.complete(inlet.queue.len());
}

#[test]
fn what_waits_is_counted_and_keeps_its_record() {
    let mut inlet = inlet(&Checkpoint::default());
    let found = mutation(7, 2, 1, 2000, true);
    let record = found.record.clone();
    inlet.accept(mutation(7, 1, 0, 1000, false));
    inlet.accept(found);
    assert_eq!(inlet.bytes, "SETkv".len() + 3 * ARGUMENT_BYTES);
    let kept: Vec<_> = inlet.queue.iter().map(|one| &one.record).collect();
    assert_eq!(kept, [&v1::Record::default(), &record]);
    inlet.complete(2);
    assert_eq!(inlet.bytes, 0);
}

#[test]
fn what_is_read_again_late_counts_when_all_of_it_is_there() {
    let checkpoint = Checkpoint {
        applied: 5,
        ..Default::default()
    };
    let found = |offset| vec![mutation(7, offset + 1, offset, 1000, true)];
    let offsets = |found: Option<Vec<Found>>| {
        found.map(|all| all.iter().map(|one| one.offset).collect::<Vec<_>>())
    };
    let mut inlet = inlet(&checkpoint);
    assert_eq!(offsets(inlet.put_aside(found(0), 1, 1000)), Some(vec![0]));
    inlet.is_late = true;
    assert_eq!(offsets(inlet.put_aside(found(1), 2, 1000)), None);
    assert_eq!(offsets(inlet.put_aside(found(2), 3, 1000)), None);
    assert_eq!(
        offsets(inlet.put_aside(found(4), 5, 1000)),
        Some(vec![1, 2, 4])
    );
    assert_eq!(offsets(inlet.put_aside(found(5), 6, 1000)), Some(vec![5]));
    assert!(!inlet.is_part);
    // What came between is not there any more.
    inlet.applied = 8;
    assert_eq!(offsets(inlet.put_aside(found(6), 7, 1000)), None);
    assert_eq!(
        offsets(inlet.put_aside(found(9), 10, 1000)),
        Some(vec![6, 9])
    );
    // Where it is too much, a part counts.
    inlet.applied = 20;
    assert_eq!(offsets(inlet.put_aside(found(11), 12, 1000)), None);
    assert_eq!(
        offsets(inlet.put_aside(found(12), 13, 500)),
        Some(vec![11, 12])
    );
    assert!(inlet.is_part);
    assert_eq!(offsets(inlet.put_aside(found(19), 20, 500)), Some(vec![19]));
    assert!(!inlet.is_part);
}

#[test]
fn intents_of_writers_that_are_silent_are_forgotten() {
    let mut inlet = inlet(&Checkpoint::default());
    let resume = |inlet: &Inlet| inlet.checkpoint_after(0).resume;
    apply(&mut inlet, mutation(7, 1, 0, 1000, false));
    apply(&mut inlet, mutation(8, 1, 1, 1000, false));
    apply(&mut inlet, mutation(9, 1, 2, INTENT_MS, true));
    assert_eq!(resume(&inlet), 0);
    // One lives, and so may its outcome come.
    apply(&mut inlet, mutation(8, 2, 3, INTENT_MS, true));
    apply(&mut inlet, mutation(9, 2, 4, INTENT_MS + LOOK_MS, true));
    assert_eq!(resume(&inlet), 1);
    // It says that none will.
    let mut last = mutation(8, 3, 5, INTENT_MS + 2 * LOOK_MS, true);
    last.record.settled_through = 1;
    apply(&mut inlet, last);
    assert_eq!(resume(&inlet), 6);
}

#[test]
fn an_intent_that_is_read_again_is_not_old_before_its_writer_is() {
    let checkpoint = Checkpoint {
        applied: 2,
        hlc: (2 * INTENT_MS) << COUNTER_BITS,
        ..Default::default()
    };
    let mut inlet = inlet(&checkpoint);
    apply(&mut inlet, mutation(7, 1, 0, 1000, false));
    apply(&mut inlet, mutation(7, 2, 1, 2 * INTENT_MS, true));
    apply(&mut inlet, mutation(8, 1, 2, 2 * INTENT_MS, true));
    assert_eq!(inlet.checkpoint_after(0).resume, 0);
}

/// A heartbeat that says that all through `settled_through` is settled, and declares
/// these ranges.
fn heartbeat(
    (writer, sequence): (u64, u64),
    offset: Offset,
    settled_through: u64,
    declared: &[(u64, u64)],
) -> Found {
    let declared = declared.iter();
    let unacknowledged = declared.map(|&(first, last)| v1::Sequences { first, last });
    let heartbeat = v1::Heartbeat {
        unacknowledged: unacknowledged.collect(),
        ..Default::default()
    };
    Found {
        offset,
        record: v1::Record {
            hlc: 1000 << COUNTER_BITS,
            writer,
            sequence,
            settled_through,
            body: Some(record::Body::Heartbeat(heartbeat)),
            ..Default::default()
        },
    }
}

#[test]
fn what_stands_first_and_has_nothing_to_apply_is_cleared() {
    let mut inlet = inlet(&Checkpoint {
        applied: 3,
        ..Default::default()
    });
    assert_eq!(inlet.cleared(), 3);
    inlet.accept(heartbeat((7, 1), 3, 0, &[]));
    inlet.accept(heartbeat((7, 2), 4, 0, &[]));
    assert_eq!((inlet.cleared(), inlet.applied), (5, 3));
    inlet.accept(mutation(7, 3, 5, 1000, true));
    inlet.accept(heartbeat((7, 4), 6, 0, &[]));
    assert_eq!(inlet.cleared(), 5);
    inlet.skip();
    assert_eq!((inlet.cleared(), inlet.applied), (5, 5));
    inlet.complete(1);
    assert_eq!((inlet.cleared(), inlet.applied), (7, 6));
}

/// One that has read sequences 2 and 7 of writer 7, and nothing between them.
fn with_a_hole() -> Inlet {
    let mut inlet = inlet(&Checkpoint::default());
    inlet.accept(mutation(7, 2, 0, 1000, true));
    inlet.accept(mutation(7, 7, 1, 1000, true));
    inlet
}

#[test]
fn what_was_left_out_and_is_called_settled_is_lost_but_for_what_was_declared() {
    /// How far the writer calls all settled, what it declares, and what is lost.
    type Case = (u64, &'static [(u64, u64)], u64);
    let cases: [Case; 9] = [
        (7, &[], 4),
        (6, &[], 4),
        (5, &[], 0),
        (7, &[(3, 6)], 0),
        (7, &[(1, 9)], 0),
        (7, &[(3, 4), (5, 6)], 0),
        (7, &[(4, 5)], 2),
        (7, &[(3, 3), (6, 6)], 2),
        (7, &[(1, 2), (7, 9)], 4),
    ];
    for (settled_through, declared, lost) in cases {
        let mut inlet = with_a_hole();
        assert_eq!(inlet.lost, 0, "perhaps it is declared yet");
        inlet.accept(heartbeat((7, 8), 2, settled_through, declared));
        let case = format!("settled through {settled_through}, declared {declared:?}");
        assert_eq!(inlet.lost, lost, "{case}");
        // Each counts once.
        let after = if settled_through < 6 { 4 } else { lost };
        inlet.accept(heartbeat((7, 9), 3, 8, &[]));
        inlet.accept(heartbeat((7, 10), 4, 9, &[]));
        assert_eq!(inlet.lost, after, "{case}, later");
    }
}

#[test]
fn what_was_left_out_may_be_declared_piece_by_piece() {
    let mut inlet = with_a_hole();
    inlet.accept(heartbeat((7, 8), 2, 4, &[(3, 4)]));
    inlet.accept(heartbeat((7, 9), 3, 9, &[(5, 6)]));
    assert_eq!(inlet.lost, 0);
}

#[test]
fn what_others_declare_or_settle_says_nothing() {
    let mut inlet = with_a_hole();
    inlet.accept(heartbeat((8, 1), 2, 100, &[(3, 6)]));
    assert_eq!(inlet.lost, 0);
    inlet.accept(heartbeat((7, 8), 3, 7, &[]));
    assert_eq!(inlet.lost, 4);
}

#[test]
fn what_is_before_the_first_record_of_a_writer_is_not_known() {
    let mut inlet = inlet(&Checkpoint::default());
    inlet.accept(mutation(7, 5, 40, 1000, true));
    inlet.accept(heartbeat((7, 6), 41, 5, &[]));
    assert_eq!(inlet.lost, 0);
    // Once it is read, what is removed before it was is lost here.
    inlet.accept(mutation(7, 10, 45, 1000, true));
    inlet.accept(heartbeat((7, 11), 46, 10, &[]));
    assert_eq!(inlet.lost, 3);
}

#[test]
fn copies_leave_nothing_out_and_of_several_partitions_nothing_is_counted() {
    let mut copied = inlet(&Checkpoint::default());
    for (offset, sequence) in [1, 2, 3, 2, 3, 4].into_iter().enumerate() {
        copied.accept(mutation(7, sequence, offset as Offset, 1000, true));
    }
    copied.accept(heartbeat((7, 5), 6, 4, &[]));
    assert_eq!((copied.lost, copied.copies), (0, 2));

    let mut part = inlet(&Checkpoint::default());
    part.is_alone = false;
    part.accept(mutation(7, 2, 0, 1000, true));
    part.accept(mutation(7, 7, 1, 1000, true));
    part.accept(heartbeat((7, 8), 2, 7, &[]));
    assert_eq!(part.lost, 0);
}
