//! A journal that survives the absence of Kafka: records are durable in local
//! files and shipped to the topic in order.
//!
//! With [`First::Local`] every record goes that way: writes have the latency of
//! the disk. With [`First::Kafka`] the files are the fallback: while Kafka
//! acknowledges in time, it is the journal; when it does not, what waits for it
//! and all that follows goes to the files, until these have been shipped.
//!
//! ```text
//!            +--> kafka producer ------------------> topic
//! appender --+                                        ^
//!            +--> local journal --> shipper ----------+
//! ```
//!
//! What was given to the producer and then to the files stays with the
//! producer, which tries without end: it gets into the topic before the shipped
//! copy of it does. Whoever reads the topic drops copies by (writer, sequence).
//!
//! # Invariants
//! - `shipped <= durable <= appended`, as offsets of the local journal; records
//!   from `shipped` on are held against retention.
//! - Nothing is given to the producer directly before all of the files' records
//!   are given to it.
//! - In a partition, the first copies of a writer's records are in the order of
//!   their sequences.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::appender::{self, Appender};
use super::{
    AppendError, JournalState, JournalStats, KafkaJournal, KafkaOptions, LocalJournal,
    LocalOptions, Offset, OpenError, Retention,
};
use route::Route;
use shipped::Shipped;
use shipper::Shipper;

pub(super) use route::Inbox;

mod route;
mod shipped;
mod shipper;

/// How long the end of a process waits for a spool to be shipped, as long as
/// there is progress: its files may be gone with its pod.
const SHIP_TIMEOUT: Duration = Duration::from_secs(20);

/// How long it waits without progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How a [`SpoolJournal`] is kept.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    /// The files. Records that were not shipped stay beyond their retention.
    pub local: LocalOptions,
    /// The topic.
    pub kafka: KafkaOptions,
    /// Where records go as long as Kafka takes them.
    pub first: First,
    /// With [`First::Kafka`], how long a record waits for its acknowledgement
    /// before it goes to the files.
    pub patience: Duration,
}

/// Where records go as long as Kafka takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// To the files, and on to Kafka.
    Local,
    /// To Kafka.
    Kafka,
}

/// What waits to be shipped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpoolStats {
    /// Whether records go to the files now.
    pub active: bool,
    /// Records that are durable in the files and not acknowledged by Kafka.
    pub records: u64,
    /// About how many bytes they have.
    pub bytes: u64,
    /// When the oldest of them was made, in milliseconds since the Unix epoch.
    pub oldest_ms: Option<u64>,
    /// Bytes that the disk has left; none where that is not known.
    pub disk_left_bytes: Option<u64>,
    /// Records that were shipped since the journal was opened.
    pub shipped_records: u64,
    /// How often records began to go to the files.
    pub diversions: u64,
}

/// An open journal.
pub struct SpoolJournal {
    shared: Arc<Shared>,
    shipper: Mutex<Option<JoinHandle<()>>>,
}

/// What appenders and the shipper share.
pub(super) struct Shared {
    options: SpoolOptions,
    local: LocalJournal,
    kafka: KafkaJournal,
    route: Mutex<Route>,
    shipped: Shipped,
    /// The shipper is to end.
    ended: AtomicBool,
    shipper_thread: OnceLock<Thread>,
    /// Bytes of records that were to be shipped when the journal was opened.
    found_bytes: u64,
    shipped_records: AtomicU64,
    shipped_bytes: AtomicU64,
    /// When the oldest record that is to be shipped was made; 0: there is none.
    oldest_ms: AtomicU64,
    diversions: AtomicU64,
}

impl std::fmt::Debug for SpoolJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpoolJournal")
            .field("local", &self.shared.local)
            .field("kafka", &self.shared.kafka)
            .finish_non_exhaustive()
    }
}

impl SpoolJournal {
    /// Opens the files and the topic, and goes on shipping where it was left
    /// off. Kafka may be away. Blocks.
    pub fn open(options: SpoolOptions) -> Result<SpoolJournal, OpenError> {
        // Nothing may be removed before it is known what was shipped.
        let retention = Retention::from(&options.local);
        let local = LocalJournal::open(LocalOptions {
            retention_bytes: None,
            retention_age: None,
            hard_cap_bytes: None,
            ..options.local.clone()
        })?;
        let shipped = Shipped::open(&options.local.directory, &local)?;
        local.set_retention(retention);
        let kafka = KafkaJournal::open(KafkaOptions {
            expires: false,
            ..options.kafka.clone()
        })?;
        let next = local.durable_through().map_or(0, |last| last + 1);
        let found = next - shipped.next();
        if 0 < found {
            tracing::info!(records = found, "going on to ship what is in the spool");
        }
        let held = next - local.first_offset();
        let found_bytes = match held {
            0 => 0,
            // Records are about equally long.
            held => {
                (u128::from(local.stats().disk_bytes) * u128::from(found) / u128::from(held)) as u64
            }
        };
        let is_active = options.first == First::Local || 0 < found;
        let shared = Arc::new(Shared {
            route: Mutex::new(Route::new(is_active)),
            options,
            local,
            kafka,
            shipped,
            ended: AtomicBool::new(false),
            shipper_thread: OnceLock::new(),
            found_bytes,
            shipped_records: AtomicU64::new(0),
            shipped_bytes: AtomicU64::new(0),
            oldest_ms: AtomicU64::new(0),
            diversions: AtomicU64::new(0),
        });
        let shipper = Shipper::new(Arc::clone(&shared));
        let thread = thread::Builder::new()
            .name("journal-shipper".to_owned())
            .spawn(move || shipper.run())
            .map_err(|source| OpenError::Io {
                action: "start a thread for",
                path: shared.options.local.directory.clone(),
                source,
            })?;
        Ok(SpoolJournal {
            shared,
            shipper: Mutex::new(Some(thread)),
        })
    }

    /// See [`super::Journal::appender`].
    pub fn appender(&self) -> Appender {
        let inbox = Inbox::new(&self.shared);
        Appender::new(appender::Inbox::Spool(inbox))
    }

    pub(super) fn first(&self) -> First {
        self.shared.options.first
    }

    pub(super) fn local(&self) -> &LocalJournal {
        &self.shared.local
    }

    pub(super) fn kafka(&self) -> &KafkaJournal {
        &self.shared.kafka
    }

    /// See [`super::Journal::flush`].
    pub fn flush(&self) -> Result<(), AppendError> {
        while self.shared.is_holding() {
            thread::park_timeout(Duration::from_millis(1));
        }
        // What Kafka does not acknowledge goes to the files before long.
        self.shared.kafka.shared().wait_until_none_is_pending();
        self.shared.local.flush()
    }

    /// See [`super::Journal::state`]: that of the files.
    pub fn state(&self) -> JournalState {
        self.shared.local.state()
    }

    /// See [`super::Journal::stats`].
    pub fn stats(&self) -> JournalStats {
        let shared = &self.shared;
        let mut stats = shared.local.stats();
        if shared.options.first == First::Kafka {
            let kafka = shared.kafka.stats();
            let (records, bytes) = (
                shared.shipped_records.load(Ordering::Relaxed),
                shared.shipped_bytes.load(Ordering::Relaxed),
            );
            stats.records += kafka.records.saturating_sub(records);
            stats.bytes += kafka.bytes.saturating_sub(bytes);
            stats.waiting_bytes += kafka.waiting_bytes;
            // Acknowledgements, those of shipped batches among them.
            stats.group_records = kafka.group_records;
            stats.fsync_micros = kafka.fsync_micros;
        }
        stats.spool = Some(shared.stats());
        stats
    }

    /// Changes what the files keep of what was shipped.
    pub fn set_retention(&self, retention: Retention) {
        self.shared.local.set_retention(retention);
    }

    /// See [`super::Journal::close`]. Ships what it can, as the files may be
    /// gone with the pod; what is left is shipped after the next start.
    pub fn close(&self) -> Result<(), AppendError> {
        let thread = {
            let mut shipper = self.shipper.lock().unwrap_or_else(PoisonError::into_inner);
            shipper.take()
        };
        let Some(thread) = thread else {
            return Ok(());
        };
        let flushed = self.flush();
        let left = self.ship();
        if 0 < left {
            tracing::warn!(
                records = left,
                directory = %self.shared.options.local.directory.display(),
                "records are still in the spool; they are shipped after the next start"
            );
        }
        self.shared.ended.store(true, Ordering::SeqCst);
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::error!("the shipper panicked; see above");
        }
        let closed = self.shared.local.close();
        // What it still has is in the files.
        let _ = self.shared.kafka.close();
        flushed.and(closed)
    }

    /// Waits until all is shipped, as long as there is hope; how many records
    /// are not.
    fn ship(&self) -> u64 {
        let deadline = Instant::now() + SHIP_TIMEOUT;
        let (mut left, mut since) = (self.shared.unshipped(), Instant::now());
        while 0 < left && Instant::now() < deadline && since.elapsed() < STALL_TIMEOUT {
            thread::park_timeout(Duration::from_millis(5));
            let now = self.shared.unshipped();
            if now < left {
                (left, since) = (now, Instant::now());
            }
        }
        left
    }
}

impl Drop for SpoolJournal {
    fn drop(&mut self) {
        // What failed was told to whoever waited for it.
        let _ = self.close();
    }
}

impl Shared {
    /// One past the last durable offset of the files.
    fn durable_next(&self) -> Offset {
        self.local.durable_through().map_or(0, |last| last + 1)
    }

    fn unshipped(&self) -> u64 {
        self.durable_next().saturating_sub(self.shipped.next())
    }

    fn stats(&self) -> SpoolStats {
        let records = self.unshipped();
        let shipped_bytes = self.shipped_bytes.load(Ordering::Relaxed);
        let appended = self.found_bytes + self.local.stats().bytes;
        let oldest_ms = self.oldest_ms.load(Ordering::Relaxed);
        let disk = rustix::fs::statvfs(&self.options.local.directory).ok();
        SpoolStats {
            active: self.route().spooling,
            records,
            bytes: match records {
                0 => 0,
                _ => appended.saturating_sub(shipped_bytes),
            },
            oldest_ms: (0 < records && 0 < oldest_ms).then_some(oldest_ms),
            disk_left_bytes: disk.map(|disk| disk.f_bavail * disk.f_frsize),
            shipped_records: self.shipped_records.load(Ordering::Relaxed),
            diversions: self.diversions.load(Ordering::Relaxed),
        }
    }
}
