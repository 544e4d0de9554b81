//! Plain counters that a journal keeps and anyone may look at.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{CursorPosition, SpoolStats};

/// Upper bounds of the buckets of fsync latency, in microseconds.
pub(super) const FSYNC_MICROS: [u64; 14] = [
    50, 75, 100, 150, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 200_000, 1_000_000,
];

/// Upper bounds of the buckets of records per group commit.
pub(super) const GROUP_RECORDS: [u64; 12] =
    [1, 2, 4, 8, 16, 32, 64, 128, 256, 1_024, 4_096, 16_384];

/// What a journal did since it was opened, and what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Records made durable.
    pub records: u64,
    /// Bytes of these records, without framing.
    pub bytes: u64,
    /// Records that failed, or were refused after they were taken.
    pub failed_records: u64,
    /// Successful syncs of records.
    pub fsyncs: u64,
    /// Records per group commit; the count is the number of groups.
    pub group_records: HistogramSnapshot,
    /// Duration of the sync of each group, in microseconds.
    pub fsync_micros: HistogramSnapshot,
    /// Bytes that wait to become durable.
    pub waiting_bytes: u64,
    /// Segment files that hold records, the active one included.
    pub segments: u64,
    /// Bytes on the disk, space reserved for records to come included.
    pub disk_bytes: u64,
    /// Segments removed by retention.
    pub removed_segments: u64,
    /// Segments removed although a registered reader needed them.
    pub forced_segments: u64,
    /// The registered readers.
    pub cursors: Vec<CursorPosition>,
    /// What waits to be shipped, where there is a spool.
    pub spool: Option<SpoolStats>,
}

/// A histogram at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// Upper bounds, inclusive; one bucket more holds what is above the last.
    pub bounds: &'static [u64],
    /// Values per bucket, not accumulated.
    pub counts: Vec<u64>,
    /// Sum of all values.
    pub sum: u64,
}

impl HistogramSnapshot {
    /// How many values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [u64],
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [u64]) -> Histogram {
        Histogram {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    pub(super) fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds,
            counts: self
                .counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// The counters behind [`JournalStats`].
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) records: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) failed_records: AtomicU64,
    pub(super) removed_segments: AtomicU64,
    pub(super) forced_segments: AtomicU64,
    pub(super) group_records: Histogram,
    pub(super) fsync_micros: Histogram,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed_records: AtomicU64::new(0),
            removed_segments: AtomicU64::new(0),
            forced_segments: AtomicU64::new(0),
            group_records: Histogram::new(&GROUP_RECORDS),
            fsync_micros: Histogram::new(&FSYNC_MICROS),
        }
    }
}

impl Counters {
    /// One group became durable; the sync took so long.
    pub(super) fn committed(&self, records: u64, bytes: u64, micros: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.group_records.record(records);
        self.fsync_micros.record(micros);
    }

    /// The counters' part of the statistics.
    pub(super) fn snapshot(&self) -> JournalStats {
        let fsync_micros = self.fsync_micros.snapshot();
        JournalStats {
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            failed_records: self.failed_records.load(Ordering::Relaxed),
            removed_segments: self.removed_segments.load(Ordering::Relaxed),
            forced_segments: self.forced_segments.load(Ordering::Relaxed),
            fsyncs: fsync_micros.count(),
            group_records: self.group_records.snapshot(),
            fsync_micros,
            ..JournalStats::default()
        }
    }
}
