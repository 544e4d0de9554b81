//! The segment log on a disk that fails, fills up and loses power.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{AppendError, Offset, OpenError, ReadBatch, ReadError};
use super::inspect::{Step, Walk};
use super::log::SegmentLog;
use super::reader::LocalReader;
use super::stream::Stream;
use super::{LocalOptions, recovery};
use crate::mutation::{RecordBatch, RecordEntry, RecordKind};
use crate::platform::simulated::SimulatedDisk;

mod damage;
mod faults;
mod model;

const DIRECTORY: &str = "/journal";

fn options() -> LocalOptions {
    LocalOptions {
        segment_bytes: 4096,
        ..LocalOptions::new(DIRECTORY)
    }
}

fn open(disk: &SimulatedDisk) -> Result<SegmentLog, OpenError> {
    recovery::open(options(), disk.platform(1))
}

fn batch(records: &[Vec<u8>]) -> RecordBatch {
    let mut batch = RecordBatch::default();
    for record in records {
        batch.bytes.extend_from_slice(record);
        batch.entries.push(RecordEntry {
            end: batch.bytes.len(),
            key: (0, 0),
            kind: RecordKind::Mutation,
            sequence: 0,
            hlc: 0,
        });
    }
    batch
}

/// The record that tests put at an offset.
fn record(offset: u64, length: usize) -> Vec<u8> {
    let bytes = (0..length).map(|i| (offset as usize * 7 + i) as u8);
    bytes.collect()
}

/// Appends records as one group.
fn append(log: &mut SegmentLog, records: &[Vec<u8>]) -> Result<Offset, AppendError> {
    let first = log.stage(&batch(records))?;
    log.commit()?;
    Ok(first)
}

/// All that can be read, from the first offset on.
fn read_all(stream: &Arc<Stream>) -> Result<Records, ReadError> {
    let first = stream.catalog().first_offset();
    let mut reader = LocalReader::new(Arc::clone(stream), first);
    let mut records = Vec::new();
    loop {
        let mut into = ReadBatch::default();
        reader.next_batch(&mut into, 100)?;
        if into.is_empty() {
            return Ok(records);
        }
        records.extend(into.iter().map(|(offset, bytes)| (offset, bytes.to_vec())));
    }
}

/// Records with their offsets.
type Records = Vec<(Offset, Vec<u8>)>;

/// What walking the files gives: records, and damages as (file, byte).
fn walk_all(disk: &SimulatedDisk) -> (Records, Vec<(PathBuf, u64)>) {
    let walk = Walk::open_on(Path::new(DIRECTORY), None, disk.platform(1));
    let mut walk = walk.unwrap().thorough();
    let (mut records, mut damages) = (Vec::new(), Vec::new());
    loop {
        match walk.step().unwrap() {
            Step::Record { offset, bytes, .. } => records.push((offset, bytes.to_vec())),
            Step::Damage(damage) => damages.push((damage.file, damage.byte)),
            Step::End => return (records, damages),
        }
    }
}

impl super::LocalJournal {
    /// A journal on a disk in memory, and what makes its next sync fail.
    pub(crate) fn simulated() -> (super::LocalJournal, impl Fn()) {
        let disk = SimulatedDisk::new();
        let journal = super::LocalJournal::open_on(options(), disk.platform(1));
        let journal = journal.expect("a new journal");
        // Once there is a spare segment, every sync is one of records.
        journal.stream.prepare_spare().expect("the disk is fine");
        let fail = move || disk.fault(|faults| faults.failing_syncs = 1);
        (journal, fail)
    }
}
