//! A journal of segment files in one directory, for one process.
//!
//! ```text
//! <directory>/
//!   LOCK                     locked by the process that has it open; its id
//!   STATE                    identity, epoch, and the end after a close
//!   segment-0000000007.wal   closed: full, never written again
//!   segment-0000000008.wal   active
//!   segment-0000000009.wal   spare: space reserved, no header yet
//! ```
//!
//! One thread writes. It takes all that the appenders handed over while it was
//! busy and writes it as one group: one write, one fdatasync. Space for a
//! segment is reserved when its file is made, by another thread and ahead of
//! time, so a group changes no file's length. (On ext4, 200-byte groups, the
//! median of write and fdatasync is 0.15 ms in a file that grows, 0.10 ms in
//! one with space reserved, 0.12 ms in one filled with zeros before: filling or
//! reusing files would cost work and gain nothing.)
//!
//! The byte layout is in `frame` and `state`, what happens on open in
//! `recovery`. A failed write or sync poisons the journal; a full disk refuses
//! records until there is space, and spoils nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::appender::{self, Appender};
use super::cursor::Cursor;
use super::{AppendError, JournalState, JournalStats, Offset, OpenError};
use crate::platform::Platform;
use stream::Stream;
use writer::Writer;

pub(super) use reader::LocalReader;
pub(super) use writer::Inbox;

mod catalog;
mod frame;
pub mod inspect;
mod log;
mod reader;
mod recovery;
mod scan;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod writer;

/// 64 MiB: a roll every 300,000 small records, and quick to walk after a crash.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// 1 GiB: some hours of a busy cache, and little for a pod's disk.
pub const RETENTION_BYTES: u64 = 1 << 30;

/// 7 days, as Kafka has it.
pub const RETENTION_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// 16 MiB may wait for the disk; more is refused, for it would only wait longer.
pub const INBOX_BYTES_MAX: usize = 16 << 20;

/// 4 MiB: what one write takes; larger gains nothing, and more could be torn.
pub const GROUP_BYTES_MAX: usize = 4 << 20;

/// A segment holds at least this, whatever is configured.
pub const SEGMENT_BYTES_MIN: u64 = 4096;

/// How often segments are looked at for their age.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(10);

const LOCK_NAME: &str = "LOCK";

/// How a [`LocalJournal`] is kept.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// The stream's own directory; created if it is not there.
    pub directory: PathBuf,
    /// Length of a segment file. One is made longer for a group that is.
    pub segment_bytes: u64,
    /// See [`Retention::bytes_max`].
    pub retention_bytes: Option<u64>,
    /// See [`Retention::age_max`].
    pub retention_age: Option<Duration>,
    /// See [`Retention::hard_cap_bytes`].
    pub hard_cap_bytes: Option<u64>,
    /// Bytes of records that may wait to become durable.
    pub inbox_bytes_max: usize,
    /// Bytes after which a group takes no further hand-over.
    pub group_bytes_max: usize,
}

/// What a journal keeps; can change while it is open. None: without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Above this, the oldest segments are removed, unless a registered reader
    /// needs them. Counts whole files, not the spare.
    pub bytes_max: Option<u64>,
    /// Segments whose last record is older are removed, unless a registered
    /// reader needs them.
    pub age_max: Option<Duration>,
    /// Above this, the oldest segments are removed whoever needs them. None:
    /// a reader that stands still can fill the disk.
    pub hard_cap_bytes: Option<u64>,
}

impl LocalOptions {
    /// The defaults, in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> LocalOptions {
        LocalOptions {
            directory: directory.into(),
            segment_bytes: SEGMENT_BYTES,
            retention_bytes: Some(RETENTION_BYTES),
            retention_age: Some(RETENTION_AGE),
            hard_cap_bytes: None,
            inbox_bytes_max: INBOX_BYTES_MAX,
            group_bytes_max: GROUP_BYTES_MAX,
        }
    }
}

impl From<&LocalOptions> for Retention {
    fn from(options: &LocalOptions) -> Retention {
        Retention {
            bytes_max: options.retention_bytes,
            age_max: options.retention_age,
            hard_cap_bytes: options.hard_cap_bytes,
        }
    }
}

/// An open journal. Dropping it writes what was handed over, but leaves the
/// next open to find the end: [`LocalJournal::close`] notes it.
#[derive(Debug)]
pub struct LocalJournal {
    stream: Arc<Stream>,
    inbox: Arc<Inbox>,
    stopping: Arc<AtomicBool>,
    threads: Mutex<Option<Threads>>,
}

#[derive(Debug)]
struct Threads {
    writer: JoinHandle<log::SegmentLog>,
    housekeeper: JoinHandle<()>,
}

impl LocalJournal {
    /// Opens the journal in `options.directory`, or begins one.
    pub fn open(options: LocalOptions) -> Result<LocalJournal, OpenError> {
        LocalJournal::open_on(options, Platform::system())
    }

    /// The same on another disk.
    pub fn open_on(
        mut options: LocalOptions,
        platform: Platform,
    ) -> Result<LocalJournal, OpenError> {
        options.segment_bytes = options.segment_bytes.max(SEGMENT_BYTES_MIN);
        let directory = options.directory.clone();
        let log = recovery::open(options, platform)?;
        let stream = Arc::clone(log.stream());
        let inbox = Arc::new(Inbox::new(stream.options.inbox_bytes_max));
        let stopping = Arc::new(AtomicBool::new(false));

        let keep = (Arc::clone(&stream), Arc::clone(&stopping));
        let housekeeper = thread::Builder::new()
            .name("journal-keeper".to_owned())
            .spawn(move || housekeep(&keep.0, &keep.1))
            .map_err(|error| io_error("start a thread for", &directory, error))?;
        let writer = Writer {
            inbox: Arc::clone(&inbox),
            log,
            group_bytes_max: stream.options.group_bytes_max,
            housekeeper: housekeeper.thread().clone(),
            group: Vec::new(),
            results: Vec::new(),
        };
        let writer = thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| io_error("start a thread for", &directory, error))?;
        Ok(LocalJournal {
            stream,
            inbox,
            stopping,
            threads: Mutex::new(Some(Threads {
                writer,
                housekeeper,
            })),
        })
    }

    /// See [`super::Journal::appender`].
    pub fn appender(&self) -> Appender {
        Appender::new(appender::Inbox::Local(Arc::clone(&self.inbox)))
    }

    pub(super) fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// Drawn at random when the journal was begun.
    pub(crate) fn identity(&self) -> u64 {
        self.stream.identity
    }

    pub(super) fn reader(&self, from: Offset) -> LocalReader {
        LocalReader::new(Arc::clone(&self.stream), from)
    }

    /// See [`super::Journal::register_reader`].
    pub fn register_reader(&self, name: &str, from: Offset) -> Cursor {
        let cursor = Cursor::new(name, from);
        self.stream.catalog().register(&cursor.0);
        cursor
    }

    /// See [`super::Journal::flush`].
    pub fn flush(&self) -> Result<(), AppendError> {
        self.inbox.flush();
        match self.state() {
            JournalState::Accepting | JournalState::Unavailable(_) => Ok(()),
            JournalState::DiskFull => Err(AppendError::NotAppended("disk full".to_owned())),
            JournalState::Poisoned(reason) => Err(log::refused_by_poison(&reason)),
        }
    }

    /// See [`super::Journal::durable_through`].
    pub fn durable_through(&self) -> Option<Offset> {
        self.stream.durable_next().checked_sub(1)
    }

    /// See [`super::Journal::first_offset`].
    pub fn first_offset(&self) -> Offset {
        self.stream.catalog().first_offset()
    }

    /// See [`super::Journal::state`].
    pub fn state(&self) -> JournalState {
        self.stream.health().clone()
    }

    /// See [`super::Journal::stats`].
    pub fn stats(&self) -> JournalStats {
        JournalStats {
            waiting_bytes: self.inbox.waiting_bytes() as u64,
            ..self.stream.stats()
        }
    }

    /// Changes what is kept; acted on before long.
    pub fn set_retention(&self, retention: Retention) {
        self.stream.set_retention(retention);
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(threads) = &*threads {
            threads.housekeeper.thread().unpark();
        }
    }

    /// Removes the segments that retention wants gone. Done every now and then
    /// and at every new segment without being asked.
    pub fn retain(&self) -> std::io::Result<()> {
        self.stream.retain()
    }

    /// See [`super::Journal::close`].
    pub fn close(&self) -> Result<(), AppendError> {
        let Some(mut log) = self.stop() else {
            return Ok(());
        };
        let closed = log.close();
        drop(
            self.stream
                .lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        match (closed, self.state()) {
            (_, JournalState::Poisoned(reason)) => Err(log::refused_by_poison(&reason)),
            (Err(error), _) => Err(AppendError::Unknown(error.to_string())),
            (Ok(()), _) => Ok(()),
        }
    }

    /// Ends the threads, when all that was handed over is written. None where
    /// they were ended before.
    fn stop(&self) -> Option<log::SegmentLog> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let Threads {
            writer,
            housekeeper,
        } = threads.take()?;
        self.inbox.close();
        let log = writer.join();
        self.stopping.store(true, Ordering::SeqCst);
        housekeeper.thread().unpark();
        // A panic of the housekeeper was logged; it leaves at worst no spare.
        let _ = housekeeper.join();
        self.stream.closed.store(true, Ordering::SeqCst);
        self.stream.watchers.wake();
        log.ok()
    }
}

impl Drop for LocalJournal {
    fn drop(&mut self) {
        self.stop();
        drop(
            self.stream
                .lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }
}

/// Removes old segments and has the next one ready, when a segment was begun
/// and every now and then.
fn housekeep(stream: &Stream, stopping: &AtomicBool) {
    while !stopping.load(Ordering::SeqCst) {
        if let Err(error) = stream.retain() {
            tracing::warn!(%error, "could not remove old journal segments");
        }
        if let Err(error) = stream.prepare_spare() {
            tracing::warn!(%error, "could not prepare the next journal segment");
        }
        thread::park_timeout(HOUSEKEEPING_INTERVAL);
    }
}

/// Why a hand-over was refused at the door.
pub(super) fn backlog_text(waiting_bytes: usize) -> String {
    format!("journal backlog of {waiting_bytes} bytes waits for the disk")
}

fn io_error(action: &'static str, path: &Path, source: std::io::Error) -> OpenError {
    OpenError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
