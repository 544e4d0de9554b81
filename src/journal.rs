//! The journal's contract. Every backend keeps it, and one test suite shows it
//! (`tests/journal_contract/main.rs`).
//!
//! Records go in through an [`Appender`], one for each worker thread, and each
//! hand-over completes when it is durable. They come out through a [`Reader`],
//! in order, and only once they are durable.
//!
//! # Invariants
//! - A hand-over that completed with an offset is returned by every reader
//!   that starts at or before it, after any crash, until retention removes it.
//! - One that completed with [`AppendError::NotAppended`] is never returned.
//! - Per appender, completions come in the order of the tickets, and records
//!   are in the journal in the order they were handed over.
//! - After a hand-over that completed with `NotAppended`, all later ones of the
//!   same appender do, until [`Appender::resume`]: sequences get no holes.
//! - Offsets are dense: a batch of n records takes n offsets, one after another.
//!
//! A backend that can fail some records of a hand-over alone (Kafka) reports
//! [`AppendError::Unknown`] for the whole of it when any may have been stored,
//! and a [`Verdict`] on each.

use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::mutation::RecordBatch;

pub use appender::Appender;
pub use cursor::{Cursor, CursorPosition};
pub use kafka::{KafkaJournal, KafkaOptions, TopicOptions};
pub use local::{LocalJournal, LocalOptions, Retention};
pub use memory::{MemoryJournal, MemoryOptions};
pub use remote::{
    RemoteError, RemoteOptions, RemoteQueries, RemoteReader, RemoteServer, ServeError,
    ServeOptions, ServedCounters, ServedStats, Token,
};
pub use spool::{First, SpoolJournal, SpoolOptions, SpoolStats};
pub use statistics::{HistogramSnapshot, JournalStats};

mod appender;
mod cursor;
mod find;
pub mod kafka;
pub mod local;
pub mod memory;
pub mod remote;
pub mod spool;
mod statistics;

/// A record can't be longer, in bytes: twice the longest value Redis takes.
pub const RECORD_BYTES_MAX: usize = 1 << 30;

/// Where a record is: its offset in the (single) partition of a local journal.
/// Offsets are dense and start at 0.
pub type Offset = u64;

/// Names one hand-over of records by an [`Appender`]; counts up from 1.
pub type Ticket = u64;

/// What became of one hand-over.
#[derive(Debug)]
pub struct Completion {
    /// Which hand-over.
    pub ticket: Ticket,
    /// The offset of its first record where all of it is durable.
    pub result: Result<Offset, AppendError>,
    /// The batch, to be filled again: emptied where it was appended, as it was
    /// handed over where it was not.
    pub recycled: RecordBatch,
    /// What became of each record, where that is not the same for all of them;
    /// empty else. `result` is then the verdict on the whole.
    pub verdicts: Vec<Verdict>,
}

/// What became of one record of a hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is durable.
    Stored,
    /// It is not in the journal, nor will it be.
    Absent,
    /// It may be in the journal.
    Unknown,
}

/// Why records were not made durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// None of the records is in the journal, nor will it be: safe to retry.
    #[error("{0}")]
    NotAppended(String),
    /// None of the records is in the journal, nor will it be; but records that
    /// were handed over later may be, so their sequences are not used again.
    #[error("{0}")]
    Skipped(String),
    /// The records may be in the journal.
    #[error("{0}")]
    Unknown(String),
}

/// Why a journal can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("journal directory {} is in use by process {owner}", directory.display())]
    Locked {
        /// The stream's directory.
        directory: PathBuf,
        /// The other's process id, as it left it in the lock file.
        owner: String,
    },
    /// Records that were durable can't be read any more.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The disk said no.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, a verb.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Kafka said no, or nothing.
    #[error("{action} Kafka topic {topic} at {brokers}: {reason}")]
    Kafka {
        /// What was tried, a verb.
        action: &'static str,
        /// The topic.
        topic: String,
        /// Where the brokers are said to be.
        brokers: String,
        /// What was said.
        reason: String,
    },
}

/// A place in a file where there ought to be something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("journal file {} is damaged at byte {byte}: {reason}", file.display())]
pub struct Damage {
    /// Which file.
    pub file: PathBuf,
    /// The offset in it, in bytes, of the frame or header that is bad.
    pub byte: u64,
    /// What ought to be there, and what is.
    pub reason: String,
}

/// Why records can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Retention removed them.
    #[error("records before offset {first} were removed by retention")]
    Removed {
        /// The first offset that can be read.
        first: Offset,
    },
    /// They are damaged.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The disk said no.
    #[error("read {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It can't be reached.
    #[error("the journal is away")]
    Away,
    /// Kafka said no, or nothing.
    #[error("read partition {partition} of Kafka topic {topic}: {reason}")]
    Kafka {
        /// The topic.
        topic: String,
        /// Which partition.
        partition: u32,
        /// What was said.
        reason: String,
    },
}

/// Whether a journal takes records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalState {
    /// It does.
    Accepting,
    /// The last records were refused for want of space; the next are tried.
    DiskFull,
    /// A write or sync failed for the given reason; nothing is taken until the
    /// journal is opened again.
    Poisoned(String),
    /// The last records failed for the given reason; the next are tried.
    Unavailable(String),
}

/// A journal of one stream. Clones are the same journal.
#[derive(Debug, Clone)]
pub enum Journal {
    /// Segment files in a directory.
    Local(Arc<LocalJournal>),
    /// A topic.
    Kafka(Arc<KafkaJournal>),
    /// A topic, and files for what it has not acknowledged.
    Spool(Arc<SpoolJournal>),
    /// In memory, obedient to tests.
    Memory(Arc<MemoryJournal>),
}

impl Journal {
    /// A way in, for one worker thread.
    pub fn appender(&self) -> Appender {
        match self {
            Journal::Local(journal) => journal.appender(),
            Journal::Kafka(journal) => journal.appender(),
            Journal::Spool(journal) => journal.appender(),
            Journal::Memory(journal) => journal.appender(),
        }
    }

    /// A way out, whose first record is the one at `from`. `from` may be past
    /// the end: the reader waits. Of a topic, its first partition is read; of a
    /// spool, what comes first: the files or the topic.
    pub fn reader(&self, from: Offset) -> Reader {
        Reader(match self {
            Journal::Local(journal) => ReaderSource::Local(journal.reader(from)),
            Journal::Kafka(journal) => ReaderSource::Kafka(Box::new(journal.reader(0, from))),
            Journal::Spool(journal) => match journal.first() {
                First::Local => ReaderSource::Local(journal.local().reader(from)),
                First::Kafka => ReaderSource::Kafka(Box::new(journal.kafka().reader(0, from))),
            },
            Journal::Memory(journal) => {
                ReaderSource::Memory(journal.reader(journal.number(), from))
            }
        })
    }

    /// How many partitions it has; 0 while that is not known.
    pub fn partitions(&self) -> u32 {
        match self {
            Journal::Local(_) => 1,
            Journal::Memory(journal) => journal.partitions(),
            Journal::Kafka(journal) => journal.partitions(),
            Journal::Spool(journal) => journal.kafka().partitions(),
        }
    }

    /// The number of the first of them.
    pub fn first_partition(&self) -> u32 {
        match self {
            Journal::Memory(journal) => journal.number(),
            Journal::Local(_) | Journal::Kafka(_) | Journal::Spool(_) => 0,
        }
    }

    /// A way out of one partition; of a spool, of its topic.
    pub fn reader_of(&self, partition: u32, from: Offset) -> Reader {
        Reader(match self {
            Journal::Kafka(journal) => {
                ReaderSource::Kafka(Box::new(journal.reader(partition, from)))
            }
            Journal::Spool(journal) => {
                ReaderSource::Kafka(Box::new(journal.kafka().reader(partition, from)))
            }
            Journal::Memory(journal) => ReaderSource::Memory(journal.reader(partition, from)),
            Journal::Local(_) => return self.reader(from),
        })
    }

    /// First and last-plus-one offset of a partition, asked of who knows it: all
    /// that was durable before the call is below the second. Blocks on Kafka.
    pub fn bounds(&self, partition: u32) -> Result<(Offset, Offset), ReadError> {
        match self {
            Journal::Local(_) => Ok((
                self.first_offset(),
                self.durable_through().map_or(0, |last| last + 1),
            )),
            Journal::Memory(journal) => journal.bounds(partition),
            Journal::Kafka(journal) => journal.bounds(partition),
            Journal::Spool(journal) => journal.kafka().bounds(partition),
        }
    }

    /// One past the last offset of each partition, as [`Journal::bounds`] says, at
    /// the cost of one question; none of a partition that does not say. Blocks on
    /// Kafka.
    pub fn ends(&self) -> Result<Vec<Option<Offset>>, ReadError> {
        let end_of = |partition| self.bounds(partition).map(|(_, end)| Some(end));
        match self {
            Journal::Local(_) | Journal::Memory(_) => {
                let first = self.first_partition();
                (first..first + self.partitions()).map(end_of).collect()
            }
            Journal::Kafka(journal) => journal.ends(),
            Journal::Spool(journal) => journal.kafka().ends(),
        }
    }

    /// As [`Journal::find`], in one partition. Blocks on Kafka.
    pub fn find_in(&self, partition: u32, hlc: u64) -> Result<Offset, ReadError> {
        let milliseconds = crate::mutation::clock::milliseconds(hlc);
        match self {
            Journal::Local(_) => self.find(hlc),
            Journal::Memory(journal) => {
                journal.bounds(partition)?;
                // It keeps everything, and is never long.
                match partition == journal.number() {
                    true => self.find(hlc),
                    false => Ok(0),
                }
            }
            Journal::Kafka(journal) => journal.find(partition, milliseconds),
            Journal::Spool(journal) => journal.kafka().find(partition, milliseconds),
        }
    }

    /// Keeps the records at `from` and after from being removed by retention,
    /// until the cursor is moved on or dropped. `name` appears in statistics.
    pub fn register_reader(&self, name: &str, from: Offset) -> Cursor {
        match self {
            Journal::Local(journal) => journal.register_reader(name, from),
            Journal::Spool(journal) if journal.first() == First::Local => {
                journal.local().register_reader(name, from)
            }
            Journal::Kafka(_) | Journal::Spool(_) | Journal::Memory(_) => Cursor::new(name, from),
        }
    }

    /// Blocks until everything handed over before the call is durable or
    /// failed. The error is why the journal takes no records, if it does not.
    pub fn flush(&self) -> Result<(), AppendError> {
        match self {
            Journal::Local(journal) => journal.flush(),
            Journal::Kafka(journal) => journal.flush(),
            Journal::Spool(journal) => journal.flush(),
            Journal::Memory(journal) => journal.flush(),
        }
    }

    /// The offset of the last durable record; `None` where there never was one.
    pub fn durable_through(&self) -> Option<Offset> {
        match self {
            Journal::Local(journal) => journal.durable_through(),
            Journal::Kafka(journal) => journal.durable_through(0),
            Journal::Spool(journal) => match journal.first() {
                First::Local => journal.local().durable_through(),
                First::Kafka => journal.kafka().durable_through(0),
            },
            Journal::Memory(journal) => journal.durable_through(journal.number()),
        }
    }

    /// The first offset that can be read, or would be if there were records.
    pub fn first_offset(&self) -> Offset {
        match self {
            Journal::Local(journal) => journal.first_offset(),
            Journal::Kafka(journal) => journal.first_offset(0),
            Journal::Spool(journal) => match journal.first() {
                First::Local => journal.local().first_offset(),
                First::Kafka => journal.kafka().first_offset(0),
            },
            Journal::Memory(_) => 0,
        }
    }

    /// Drawn at random when the journal was begun, where that is known: offsets
    /// mean the same as long as this is the same.
    pub fn identity(&self) -> Option<u64> {
        match self {
            Journal::Local(journal) => Some(journal.identity()),
            Journal::Spool(journal) => Some(journal.local().identity()),
            Journal::Kafka(_) | Journal::Memory(_) => None,
        }
    }

    /// Changes what is kept, where anything is ever removed.
    pub fn set_retention(&self, retention: Retention) {
        match self {
            Journal::Local(journal) => journal.set_retention(retention),
            Journal::Spool(journal) => journal.set_retention(retention),
            Journal::Kafka(_) | Journal::Memory(_) => {}
        }
    }

    /// Whether it takes records.
    pub fn state(&self) -> JournalState {
        match self {
            Journal::Local(journal) => journal.state(),
            Journal::Kafka(journal) => journal.state(),
            Journal::Spool(journal) => journal.state(),
            Journal::Memory(journal) => journal.state(),
        }
    }

    /// What it did since it was opened, and what it holds.
    pub fn stats(&self) -> JournalStats {
        match self {
            Journal::Local(journal) => journal.stats(),
            Journal::Kafka(journal) => journal.stats(),
            Journal::Spool(journal) => journal.stats(),
            Journal::Memory(journal) => journal.stats(),
        }
    }

    /// Makes everything handed over durable and closes the files in a way that
    /// the next open is quick. Appenders get `NotAppended` from then on;
    /// readers go on. Blocks. Closing twice does nothing more.
    pub fn close(&self) -> Result<(), AppendError> {
        match self {
            Journal::Local(journal) => journal.close(),
            Journal::Kafka(journal) => journal.close(),
            Journal::Spool(journal) => journal.close(),
            Journal::Memory(journal) => journal.close(),
        }
    }
}

/// Reads durable records in order.
#[derive(Debug)]
pub struct Reader(ReaderSource);

#[derive(Debug)]
enum ReaderSource {
    Local(local::LocalReader),
    Kafka(Box<kafka::KafkaReader>),
    Memory(memory::MemoryReader),
}

impl Reader {
    /// One whose reads never wait for brokers: what is durable and has not arrived
    /// is not there yet.
    pub fn never_waiting(mut self) -> Reader {
        if let ReaderSource::Kafka(reader) = &mut self.0 {
            reader.never_wait();
        }
        self
    }

    /// Puts the next records into `into`, in place of what it holds: at least
    /// one, and more while their bytes are below `bytes_max`. None where the
    /// reader is at the end of what is durable. May block on the disk.
    pub fn next_batch(&mut self, into: &mut ReadBatch, bytes_max: usize) -> Result<(), ReadError> {
        into.clear();
        match &mut self.0 {
            ReaderSource::Local(reader) => reader.next_batch(into, bytes_max),
            ReaderSource::Kafka(reader) => reader.next_batch(into, bytes_max),
            ReaderSource::Memory(reader) => {
                reader.next_batch(into, bytes_max);
                Ok(())
            }
        }
    }

    /// The offset of the record that comes next.
    pub fn position(&self) -> Offset {
        match &self.0 {
            ReaderSource::Local(reader) => reader.position(),
            ReaderSource::Kafka(reader) => reader.position(),
            ReaderSource::Memory(reader) => reader.position(),
        }
    }

    /// Ready with true when the next record is durable; the task is woken then.
    /// Ready with false when there will be none, as the journal was closed.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        match &mut self.0 {
            ReaderSource::Local(reader) => reader.poll_ready(context),
            ReaderSource::Kafka(reader) => reader.poll_ready(context),
            ReaderSource::Memory(reader) => reader.poll_ready(context),
        }
    }
}

/// Records as they come out of a journal.
#[derive(Debug, Default, Clone)]
pub struct ReadBatch {
    bytes: Vec<u8>,
    /// Each record's offset, and where it ends in `bytes`.
    entries: Vec<(Offset, usize)>,
}

impl ReadBatch {
    /// The records: offset and encoded bytes.
    pub fn iter(&self) -> impl Iterator<Item = (Offset, &[u8])> {
        let mut start = 0;
        self.entries.iter().map(move |(offset, end)| {
            let bytes = &self.bytes[start..*end];
            start = *end;
            (*offset, bytes)
        })
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many bytes the records have.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The records' bytes, one after another.
    fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    fn push(&mut self, offset: Offset, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.entries.push((offset, self.bytes.len()));
    }
}
