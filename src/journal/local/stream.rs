//! What the threads of one open journal share.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::super::statistics::Counters;
use super::super::{JournalState, JournalStats, Offset};
use super::catalog::{Catalog, Removal};
use super::frame::Seed;
use super::{LocalOptions, Retention};
use crate::platform::{DiskFile, LockGuard, Platform};

/// An open journal, as far as it is shared.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) options: LocalOptions,
    pub(super) retention: Mutex<Retention>,
    pub(super) platform: Platform,
    pub(super) identity: u64,
    pub(super) seed: Seed,
    pub(super) epoch: u32,
    pub(super) catalog: Mutex<Catalog>,
    pub(super) spares: Mutex<Spares>,
    pub(super) health: Mutex<JournalState>,
    pub(super) counters: Counters,
    pub(super) watchers: Watchers,
    pub(super) closed: AtomicBool,
    /// One past the offset of the last durable record.
    pub(super) durable_next: AtomicU64,
    /// Held until the last reader is gone, not to be used.
    pub(super) lock: Mutex<Option<LockGuard>>,
}

/// A file that is ready to become the next segment.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) bytes: u64,
}

/// The files of segments to come.
#[derive(Debug)]
pub(super) struct Spares {
    /// The highest segment number that is in use.
    pub(super) used: u64,
    pub(super) ready: Option<Spare>,
}

impl Stream {
    pub(super) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn health(&self) -> MutexGuard<'_, JournalState> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retention(&self) -> MutexGuard<'_, Retention> {
        self.retention
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_retention(&self, retention: Retention) {
        *self.retention() = retention;
    }

    fn spares(&self) -> MutexGuard<'_, Spares> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn durable_next(&self) -> Offset {
        self.durable_next.load(Ordering::SeqCst)
    }

    /// Lets readers see everything below `next`.
    pub(super) fn publish(&self, next: Offset) {
        let before = self.durable_next.swap(next, Ordering::SeqCst);
        assert!(before <= next, "what is durable stays durable");
        self.watchers.wake();
    }

    /// Has the file after the active segment ready, so that a roll costs one
    /// sync and no wait for space.
    pub(super) fn prepare_spare(&self) -> io::Result<()> {
        let mut spares = self.spares();
        if spares.ready.is_none() {
            let number = spares.used + 1;
            spares.ready = Some(self.create_spare(number, self.options.segment_bytes)?);
        }
        Ok(())
    }

    /// The file of segment `number`, with room for at least `bytes` bytes.
    pub(super) fn take_spare(&self, number: u64, bytes: u64) -> io::Result<Spare> {
        let mut spares = self.spares();
        assert_eq!(spares.used + 1, number, "segments have no gaps");
        let bytes = bytes.max(self.options.segment_bytes);
        let spare = match spares.ready.take() {
            None => self.create_spare(number, bytes)?,
            Some(mut spare) if spare.bytes < bytes => {
                let grown = spare.file.allocate(bytes);
                if let Err(error) = grown.and_then(|()| spare.file.sync_all()) {
                    spares.ready = Some(spare);
                    return Err(error);
                }
                spare.bytes = bytes;
                spare
            }
            Some(spare) => spare,
        };
        spares.used = number;
        Ok(spare)
    }

    /// Removes a taken spare whose header could not be written; false where it
    /// may come back after a power cut.
    pub(super) fn discard_spare(&self, spare: &Spare) -> bool {
        let mut spares = self.spares();
        let disk = &self.platform.disk;
        if let Some(next) = spares.ready.take() {
            // Left behind where it fails: replaced when its number comes up.
            let _ = disk.remove(&next.path);
        }
        spares.used = spare.number - 1;
        let removed = disk.remove(&spare.path);
        let removed = removed.and_then(|()| disk.sync_directory(&self.options.directory));
        removed.is_ok()
    }

    fn create_spare(&self, number: u64, bytes: u64) -> io::Result<Spare> {
        create_spare(&self.platform, &self.options.directory, number, bytes)
    }

    /// Removes the segments that retention wants gone, oldest first, each
    /// durably before the next: a gap between segments would be damage.
    pub(super) fn retain(&self) -> io::Result<()> {
        loop {
            let now_ms = self.platform.clock.now_ms();
            let retention = *self.retention();
            let removal = self.catalog().take_removable(&retention, now_ms);
            let Some(Removal { segment, forced }) = removal else {
                return Ok(());
            };
            let disk = &self.platform.disk;
            if let Err(error) = disk.remove(&segment.path) {
                self.catalog().restore(segment);
                return Err(error);
            }
            disk.sync_directory(&self.options.directory)?;
            let removed = &self.counters.removed_segments;
            removed.fetch_add(1, Ordering::Relaxed);
            let forced_segments = &self.counters.forced_segments;
            forced_segments.fetch_add(u64::from(forced), Ordering::Relaxed);
            if forced {
                tracing::warn!(
                    segment = segment.number,
                    base = segment.base,
                    "removed a journal segment that a registered reader needs, for the hard cap"
                );
            }
        }
    }

    /// The stream's part of the statistics.
    pub(super) fn stats(&self) -> JournalStats {
        let spare = self.spares().ready.as_ref().map_or(0, |spare| spare.bytes);
        let catalog = self.catalog();
        JournalStats {
            segments: catalog.len() as u64,
            disk_bytes: catalog.bytes() + spare,
            cursors: catalog.cursors(),
            ..self.counters.snapshot()
        }
    }
}

/// The name of a segment's file.
pub(super) fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("segment-{number:010}.wal"))
}

/// The number of the segment whose file has this name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".wal")?;
    digits.parse().ok()
}

/// Creates the file of a segment to come, `bytes` long, all durable.
pub(super) fn create_spare(
    platform: &Platform,
    directory: &Path,
    number: u64,
    bytes: u64,
) -> io::Result<Spare> {
    let path = segment_path(directory, number);
    let disk = &platform.disk;
    let file = match disk.create(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(&path)?;
            disk.create(&path)?
        }
        created => created?,
    };
    let ready = file
        .allocate(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| disk.sync_directory(directory));
    if let Err(error) = ready {
        // Space that was taken in part is given back; what is left behind
        // where this fails too is replaced by the next attempt.
        let _ = disk.remove(&path);
        return Err(error);
    }
    Ok(Spare {
        number,
        path,
        file,
        bytes,
    })
}

/// Tasks that wait for records to become durable.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    /// How many there are, so that a commit without any costs one load.
    waiting: AtomicUsize,
    wakers: Mutex<Vec<Waker>>,
}

impl Watchers {
    /// Has the task woken at the next commit. The caller looks again after
    /// this whether it came meanwhile.
    pub(super) fn register(&self, waker: &Waker) {
        let mut wakers = self.wakers();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
            self.waiting.store(wakers.len(), Ordering::SeqCst);
        }
    }

    pub(super) fn wake(&self) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut wakers = self.wakers();
        self.waiting.store(0, Ordering::SeqCst);
        for waker in wakers.drain(..) {
            waker.wake();
        }
    }

    fn wakers(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
