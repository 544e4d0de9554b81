//! A disk that is full, or fails.

use std::io::ErrorKind;

use super::super::super::JournalState;
use super::*;
use crate::platform::simulated::SeededRandom;

fn health(log: &SegmentLog) -> JournalState {
    log.stream().health().clone()
}

#[test]
fn a_full_disk_refuses_and_takes_again() {
    let disk = SimulatedDisk::new();
    let mut log = open(&disk).unwrap();
    append(&mut log, &[record(0, 3000)]).unwrap();
    disk.fault(|faults| faults.free_bytes = Some(100));
    for _ in 0..3 {
        let refused = append(&mut log, &[record(1, 3000)]);
        let Err(AppendError::NotAppended(reason)) = refused else {
            panic!("{refused:?}");
        };
        assert!(reason.starts_with("disk full"), "{reason}");
        assert_eq!(health(&log), JournalState::DiskFull);
        assert_eq!(read_all(log.stream()).unwrap(), [(0, record(0, 3000))]);
    }
    // What still fits goes in.
    assert_eq!(append(&mut log, &[record(1, 10)]), Ok(1));
    assert_eq!(health(&log), JournalState::Accepting);
    disk.fault(|faults| faults.free_bytes = None);
    assert_eq!(append(&mut log, &[record(2, 3000)]), Ok(2));
    drop(log);
    let expected = [
        (0, record(0, 3000)),
        (1, record(1, 10)),
        (2, record(2, 3000)),
    ];
    assert_eq!(read_all(open(&disk).unwrap().stream()).unwrap(), expected);
}

/// A write that stops after `bytes` bytes with this error, then again without.
fn check_short_write(bytes: usize, kind: ErrorKind, poisons: bool) {
    let disk = SimulatedDisk::new();
    let mut log = open(&disk).unwrap();
    append(&mut log, &[record(0, 50)]).unwrap();
    disk.fault(|faults| faults.next_write = Some((bytes, kind)));
    let group = [record(1, 50), record(2, 60), record(3, 70)];
    let failed = append(&mut log, &group).unwrap_err();
    let again = append(&mut log, &group);
    if poisons {
        assert!(matches!(failed, AppendError::Unknown(_)), "{failed:?}");
        let Err(AppendError::NotAppended(reason)) = again else {
            panic!("{again:?}");
        };
        assert!(
            reason.starts_with("journal poisoned: write /journal/segment-"),
            "{reason}"
        );
        assert!(matches!(health(&log), JournalState::Poisoned(_)));
    } else {
        assert!(matches!(failed, AppendError::NotAppended(_)), "{failed:?}");
        assert_eq!(again, Ok(1));
        assert_eq!(health(&log), JournalState::Accepting);
        drop(log);
        assert_eq!(read_all(open(&disk).unwrap().stream()).unwrap().len(), 4);
    }
}

#[test]
fn a_write_cut_short_by_a_full_disk_is_undone() {
    // 80 bytes is one whole frame; 200 two and a piece.
    for bytes in [0, 1, 80, 200] {
        check_short_write(bytes, ErrorKind::StorageFull, false);
        check_short_write(bytes, ErrorKind::QuotaExceeded, false);
        check_short_write(bytes, ErrorKind::Other, true);
    }
}

#[test]
fn a_write_undone_stays_undone() {
    let disk = SimulatedDisk::new();
    let mut log = open(&disk).unwrap();
    append(&mut log, &[record(0, 50)]).unwrap();
    disk.fault(|faults| faults.next_write = Some((200, ErrorKind::StorageFull)));
    append(&mut log, &[record(1, 50), record(2, 60), record(3, 70)]).unwrap_err();
    drop(log);
    assert_eq!(
        read_all(open(&disk).unwrap().stream()).unwrap(),
        [(0, record(0, 50))]
    );
}

#[test]
fn a_failed_sync_poisons() {
    let disk = SimulatedDisk::new();
    let mut log = open(&disk).unwrap();
    append(&mut log, &[record(0, 50)]).unwrap();
    disk.fault(|faults| faults.failing_syncs = 1);
    let failed = append(&mut log, &[record(1, 50)]);
    assert!(matches!(failed, Err(AppendError::Unknown(_))), "{failed:?}");
    assert_eq!(
        read_all(log.stream()).unwrap().len(),
        1,
        "unknown is not durable"
    );
    let syncs = disk.syncs();
    let refused = append(&mut log, &[record(1, 50)]);
    assert!(
        matches!(refused, Err(AppendError::NotAppended(_))),
        "{refused:?}"
    );
    assert_eq!(
        disk.syncs(),
        syncs,
        "a poisoned journal leaves the disk alone"
    );
    log.close().unwrap();
    drop(log);

    // The system still has the bytes, though the disk has not; from the moment
    // they are shown again they are durable.
    let log = open(&disk).unwrap();
    assert_eq!(read_all(log.stream()).unwrap().len(), 2);
    drop(log);
    disk.power_cut(&SeededRandom::new(5));
    assert_eq!(read_all(open(&disk).unwrap().stream()).unwrap().len(), 2);
}

#[test]
fn a_segment_that_can_not_be_begun_is_taken_back() {
    for at in 0..3 {
        let disk = SimulatedDisk::new();
        let mut log = open(&disk).unwrap();
        append(&mut log, &[record(0, 3000)]).unwrap();
        log.stream().prepare_spare().unwrap();
        disk.fault(|faults| faults.next_write = Some((at * 20, ErrorKind::StorageFull)));
        let refused = append(&mut log, &[record(1, 3000)]);
        assert!(
            matches!(refused, Err(AppendError::NotAppended(_))),
            "{refused:?}"
        );
        log.stream().prepare_spare().unwrap();
        assert_eq!(append(&mut log, &[record(1, 10)]), Ok(1));
        assert_eq!(append(&mut log, &[record(2, 3000)]), Ok(2));
        drop(log);
        assert_eq!(read_all(open(&disk).unwrap().stream()).unwrap().len(), 3);
    }
}

#[test]
fn two_can_not_open_it() {
    let disk = SimulatedDisk::new();
    let log = open(&disk).unwrap();
    match open(&disk) {
        Err(OpenError::Locked { directory, owner }) => {
            assert_eq!(directory, Path::new(DIRECTORY));
            assert_eq!(owner, std::process::id().to_string());
        }
        other => panic!("{other:?}"),
    }
    drop(log);
    open(&disk).unwrap();
}
