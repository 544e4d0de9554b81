//! What a local journal keeps, and for whom.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wal_sidecar::journal::{Journal, LocalJournal, LocalOptions, ReadBatch, ReadError, Retention};
use wal_sidecar::platform::Platform;
use wal_sidecar::platform::simulated::{ManualClock, SimulatedDisk};

use super::{DEADLINE, batch, local, read_all, wait_for};

/// A journal of 40 segments, one record of 3000 bytes in each.
fn forty_segments(limit: impl FnOnce(&mut LocalOptions)) -> (LocalJournal, Arc<ManualClock>) {
    let mut platform: Platform = SimulatedDisk::new().platform(3);
    let clock = Arc::new(ManualClock::new(1_000_000));
    platform.clock = Arc::clone(&clock) as _;
    let mut options = LocalOptions {
        retention_bytes: None,
        retention_age: None,
        ..local(Path::new("/journal"))
    };
    limit(&mut options);
    let journal = LocalJournal::open_on(options, platform).unwrap();
    let mut appender = journal.appender();
    let value = "v".repeat(3000);
    for _ in 0..40 {
        appender.submit(batch(&[&value]));
        wait_for(&mut appender, 1);
        clock.advance_ms(1000);
    }
    (journal, clock)
}

#[test]
fn retention_by_size() {
    let (journal, _) = forty_segments(|options| options.retention_bytes = Some(10 * 4096));
    // The journal's own housekeeping may be at it too, and not be done.
    let deadline = std::time::Instant::now() + DEADLINE;
    while journal.first_offset() < 30 && std::time::Instant::now() < deadline {
        journal.retain().unwrap();
    }
    assert_eq!(journal.first_offset(), 30);
    let journal = Journal::Local(Arc::new(journal));
    assert_eq!(journal.stats().segments, 10);
    assert_eq!(journal.stats().removed_segments, 30);
    assert_eq!(read_all(&journal, 30).len(), 10);
    let error = journal
        .reader(29)
        .next_batch(&mut ReadBatch::default(), 1)
        .unwrap_err();
    assert!(matches!(error, ReadError::Removed { first: 30 }), "{error}");
}

#[test]
fn retention_changes_while_the_journal_is_open() {
    let (journal, _) = forty_segments(|_| {});
    journal.retain().unwrap();
    assert_eq!(journal.first_offset(), 0);
    journal.set_retention(Retention {
        bytes_max: Some(10 * 4096),
        age_max: None,
        hard_cap_bytes: None,
    });
    journal.retain().unwrap();
    assert_eq!(journal.first_offset(), 30);
}

#[test]
fn retention_by_age() {
    let (journal, clock) = forty_segments(|options| {
        options.retention_age = Some(Duration::from_secs(15));
    });
    journal.retain().unwrap();
    // Record n was written at second n, and the clock stands at second 40. A
    // segment counts from the begin of the next: 25 - 1 began 15 seconds ago.
    assert_eq!(journal.first_offset(), 24);
    clock.advance_ms(1_000_000);
    journal.retain().unwrap();
    assert_eq!(journal.first_offset(), 39, "the active segment stays");
}

#[test]
fn retention_waits_for_readers_up_to_the_hard_cap() {
    let mut platform = SimulatedDisk::new().platform(3);
    platform.clock = Arc::new(ManualClock::new(5));
    let options = LocalOptions {
        retention_bytes: Some(10 * 4096),
        hard_cap_bytes: Some(30 * 4096),
        ..local(Path::new("/journal"))
    };
    let journal = LocalJournal::open_on(options, platform).unwrap();
    let cursor = journal.register_reader("eu-west-1", 0);
    let mut appender = journal.appender();
    let value = "v".repeat(3000);
    let mut grow_to = |count: u64| {
        while journal.durable_through() != Some(count - 1) {
            appender.submit(batch(&[&value]));
            wait_for(&mut appender, 1);
        }
        journal.retain().unwrap();
        journal.first_offset()
    };
    assert_eq!(grow_to(20), 0, "the reader needs them");
    cursor.advance(5);
    assert_eq!(grow_to(21), 5);
    assert_eq!(grow_to(36), 6, "the hard cap is above all");
    assert_eq!(journal.stats().forced_segments, 1);
    assert_eq!(journal.stats().cursors[0].name, "eu-west-1");
    drop(cursor);
    assert_eq!(grow_to(37), 27);
    assert_eq!(journal.stats().cursors, []);
}
