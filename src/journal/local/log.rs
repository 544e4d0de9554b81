//! The writing end of a journal: one group of records at a time, each in one
//! write and one sync.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::{AppendError, JournalState, Offset, OpenError, RECORD_BYTES_MAX};
use super::catalog::Segment;
use super::frame::{SEGMENT_HEADER_BYTES, SegmentHeader, encode_frame};
use super::state::State;
use super::stream::{Spare, Stream};
use crate::mutation::RecordBatch;
use crate::platform::{DiskFile, WriteError, is_disk_full, write_all_at};

/// The end of the journal.
///
/// # Invariants
/// `durable_next <= next`, and they are equal between commits. The bytes of
/// the active file from `end` on are zero.
#[derive(Debug)]
pub(super) struct SegmentLog {
    stream: Arc<Stream>,
    active: Active,
    /// The offset of the next record to be staged.
    next: Offset,
    /// The group that is being built: whole frames.
    group: Vec<u8>,
    group_records: u32,
    group_record_bytes: u64,
    poisoned: Option<String>,
    /// The last group was refused for want of space.
    full: bool,
    /// When it was last said in the log that the disk is full.
    told_full: Option<Instant>,
}

/// A disk that is nearly full takes some groups and others not; that is said
/// in the log once in so long.
const TELL_FULL_INTERVAL: Duration = Duration::from_secs(60);

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) file: Arc<dyn DiskFile>,
    /// Where the next group goes.
    pub(super) end: u64,
    /// How long the file is.
    pub(super) bytes: u64,
}

impl SegmentLog {
    pub(super) fn new(stream: Arc<Stream>, active: Active) -> SegmentLog {
        SegmentLog {
            next: stream.durable_next(),
            stream,
            active,
            group: Vec::new(),
            group_records: 0,
            group_record_bytes: 0,
            poisoned: None,
            full: false,
            told_full: None,
        }
    }

    /// Adds a batch to the group; returns the offset its first record gets if
    /// the group's commit succeeds.
    pub(super) fn stage(&mut self, batch: &RecordBatch) -> Result<Offset, AppendError> {
        if let Some(reason) = &self.poisoned {
            return Err(refused_by_poison(reason));
        }
        let longest = batch.records().map(|(_, record)| record.len()).max();
        if let Some(length) = longest.filter(|length| RECORD_BYTES_MAX < *length) {
            let reason = format!("record of {length} bytes is too long for the journal");
            return Err(AppendError::NotAppended(reason));
        }
        let first = self.next;
        let (seed, epoch) = (self.stream.seed, self.stream.epoch);
        for (_, record) in batch.records() {
            encode_frame(
                &mut self.group,
                seed,
                epoch,
                self.next,
                self.group_records,
                record,
            );
            self.next += 1;
            self.group_records += 1;
        }
        self.group_record_bytes += batch.bytes.len() as u64;
        Ok(first)
    }

    /// Which segment is written to.
    pub(super) fn segment_number(&self) -> u64 {
        self.active.segment.number
    }

    /// What is shared with readers and the housekeeper.
    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Bytes of the group that is being built.
    pub(super) fn staged_bytes(&self) -> usize {
        self.group.len()
    }

    /// Makes the group durable. Where it fails, offsets are given anew.
    pub(super) fn commit(&mut self) -> Result<(), AppendError> {
        let outcome = match (self.group_records, &self.poisoned) {
            (0, _) => Ok(()),
            (_, Some(reason)) => Err(refused_by_poison(reason)),
            (_, None) => self.write_group(),
        };
        if outcome.is_err() {
            self.next = self.stream.durable_next();
            let failed = &self.stream.counters.failed_records;
            failed.fetch_add(u64::from(self.group_records), Ordering::Relaxed);
        }
        self.group.clear();
        // One large value must not hold memory for good.
        self.group
            .shrink_to(2 * self.stream.options.group_bytes_max);
        self.group_records = 0;
        self.group_record_bytes = 0;
        outcome
    }

    fn write_group(&mut self) -> Result<(), AppendError> {
        let bytes = self.group.len() as u64;
        if self.active.bytes < self.active.end + bytes {
            self.roll(SEGMENT_HEADER_BYTES + bytes)?;
        }
        let (file, end) = (&self.active.file, self.active.end);
        if let Err(error) = write_all_at(&**file, &self.group, end) {
            return Err(self.write_failed(error));
        }
        let started = Instant::now();
        if let Err(error) = file.sync_data() {
            self.poison(format!(
                "sync {}: {error}",
                self.active.segment.path.display()
            ));
            return Err(AppendError::Unknown(format!(
                "journal sync failed: {error}"
            )));
        }
        let micros = started.elapsed().as_micros() as u64;
        let first = self.next - u64::from(self.group_records);
        self.active.segment.note(first, end);
        self.active.end = end + bytes;
        let records = u64::from(self.group_records);
        let counters = &self.stream.counters;
        counters.committed(records, self.group_record_bytes, micros);
        self.stream.publish(self.next);
        if std::mem::take(&mut self.full) {
            *self.stream.health() = JournalState::Accepting;
        }
        Ok(())
    }

    /// Goes on in a new segment. Its header is durable before any frame is
    /// written, so a segment without header has no records.
    fn roll(&mut self, bytes: u64) -> Result<(), AppendError> {
        let number = self.active.segment.number + 1;
        let spare = match self.stream.take_spare(number, bytes) {
            Ok(spare) => spare,
            Err(error) if is_disk_full(&error) => return Err(self.disk_full(&error)),
            Err(error) => {
                self.poison(format!("create segment {number}: {error}"));
                return Err(AppendError::NotAppended(format!(
                    "journal segment {number} can't be created: {error}"
                )));
            }
        };
        let header = SegmentHeader {
            identity: self.stream.identity,
            number,
            base: self.stream.durable_next(),
            begun_ms: self.stream.platform.clock.now_ms(),
            epoch: self.stream.epoch,
        };
        let written = write_all_at(&*spare.file, &header.encode(), 0);
        let durable = written
            .map_err(|error| error.source)
            .and_then(|()| spare.file.sync_data());
        if let Err(error) = durable {
            // A header that turns up later would end the active segment early.
            if is_disk_full(&error) && self.stream.discard_spare(&spare) {
                return Err(self.disk_full(&error));
            }
            self.poison(format!("begin segment {number}: {error}"));
            let reason = format!("journal segment {number} can't be begun: {error}");
            return Err(AppendError::NotAppended(reason));
        }
        self.active = activate(&self.stream, &header, spare);
        Ok(())
    }

    fn write_failed(&mut self, error: WriteError) -> AppendError {
        if is_disk_full(&error.source) && self.cut_back(error.written) {
            return self.disk_full(&error.source);
        }
        let path = self.active.segment.path.display();
        self.poison(format!("write {path}: {}", error.source));
        AppendError::Unknown(format!("journal write failed: {}", error.source))
    }

    /// Undoes a write of which only the first bytes were made.
    fn cut_back(&self, written: usize) -> bool {
        if written == 0 {
            return true;
        }
        let file = &self.active.file;
        let zeroed = write_all_at(&**file, &vec![0; written], self.active.end);
        zeroed.is_ok() && file.sync_data().is_ok()
    }

    fn disk_full(&mut self, error: &std::io::Error) -> AppendError {
        if !std::mem::replace(&mut self.full, true) {
            *self.stream.health() = JournalState::DiskFull;
            let told = self.told_full.map(|told| told.elapsed());
            if told.is_none_or(|since| TELL_FULL_INTERVAL < since) {
                tracing::error!(%error, directory = %self.stream.options.directory.display(),
                    "disk full, the journal takes no records");
                self.told_full = Some(Instant::now());
            }
        }
        AppendError::NotAppended(format!("disk full: {error}"))
    }

    /// Nothing is written from now on.
    pub(super) fn poison(&mut self, reason: String) {
        tracing::error!(reason, directory = %self.stream.options.directory.display(),
            "journal poisoned, it takes no records until the process is started again");
        *self.stream.health() = JournalState::Poisoned(reason.clone());
        self.poisoned = Some(reason);
    }

    /// Notes durably that the journal ends here, so that the next open need
    /// not look for the end.
    pub(super) fn close(&mut self) -> Result<(), OpenError> {
        if self.poisoned.is_some() {
            return Ok(());
        }
        assert_eq!(self.group_records, 0, "closed between commits");
        let state = State {
            identity: self.stream.identity,
            epoch: self.stream.epoch,
            closed: true,
            segment: self.active.segment.number,
            next: self.next,
            end: self.active.end,
        };
        let disk = &*self.stream.platform.disk;
        state.write(disk, &self.stream.options.directory)
    }
}

/// What appends get after a write or sync failed.
pub(super) fn refused_by_poison(reason: &str) -> AppendError {
    AppendError::NotAppended(format!("journal poisoned: {reason}"))
}

/// Makes a spare with a durable header the newest segment.
fn activate(stream: &Stream, header: &SegmentHeader, spare: Spare) -> Active {
    let segment = Arc::new(Segment::new(
        header.number,
        header.base,
        header.begun_ms,
        spare.path,
        spare.bytes,
    ));
    stream.catalog().push(Arc::clone(&segment));
    Active {
        segment,
        file: spare.file,
        end: SEGMENT_HEADER_BYTES,
        bytes: spare.bytes,
    }
}
