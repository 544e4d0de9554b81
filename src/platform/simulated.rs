//! A disk in memory that fills up, fails and loses power when a test says so.
//!
//! Bytes and names are volatile until synced. A power cut keeps any part of
//! the volatile bytes, down to single bytes, and any prefix of the volatile
//! changes of names. A failed sync forgets what it should have written: later
//! syncs succeed without it, as the page cache of Linux does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Clock, Disk, DiskFile, LockGuard, Locking, Platform, Random};

/// The disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Contents>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
    locked: BTreeSet<PathBuf>,
    /// Handles of before the last power cut have an older number.
    boot: u64,
    faults: Faults,
    syncs: u64,
}

#[derive(Debug, Default)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    volatile: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Extend(usize),
}

#[derive(Debug, Clone)]
enum NameChange {
    Add(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// What goes wrong next; all start as nothing.
#[derive(Debug, Default, Clone)]
pub struct Faults {
    /// How many more bytes can be reserved or appended; `None`: any number.
    pub free_bytes: Option<u64>,
    /// The next write stops after so many bytes, and then fails with the error.
    pub next_write: Option<(usize, io::ErrorKind)>,
    /// How many of the next syncs of file contents fail.
    pub failing_syncs: u32,
    /// How many more changing calls there are until the power goes. The one
    /// that hits 0 takes effect, but returns an error like all after it.
    pub power_calls: Option<u64>,
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::default()
    }

    /// The disk with a clock that stands still and randomness from `seed`.
    pub fn platform(&self, seed: u64) -> Platform {
        Platform {
            disk: Arc::new(self.clone()),
            clock: Arc::new(ManualClock::new(1_000_000)),
            random: Arc::new(SeededRandom::new(seed)),
        }
    }

    /// Changes what goes wrong next.
    pub fn fault(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
    }

    /// The power goes and comes back: faults end, locks are free, open files
    /// are dead, and chance decides which volatile changes are on the disk.
    pub fn power_cut(&self, random: &dyn Random) {
        let mut state = self.state();
        let state = &mut *state;
        let kept = random.next_u64() as usize % (state.name_changes.len() + 1);
        let mut names = std::mem::take(&mut state.durable_names);
        for change in &state.name_changes[..kept] {
            change.apply(&mut names);
        }
        state.name_changes.clear();
        state.durable_names = names.clone();
        state.names = names;
        for contents in &mut state.files {
            contents.settle(random);
        }
        state.locked.clear();
        state.faults = Faults::default();
        state.boot += 1;
    }

    /// The bytes of a file, volatile ones included.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let file = *state.names.get(path)?;
        Some(state.files[file].now.clone())
    }

    /// Puts a file there with these bytes, durably, whatever was there.
    pub fn replace(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        let file = state.files.len();
        state.files.push(Contents {
            now: bytes.clone(),
            durable: bytes,
            volatile: Vec::new(),
        });
        state.names.insert(path.to_owned(), file);
        state.durable_names.insert(path.to_owned(), file);
    }

    /// Another disk with the same files, all durable, and no faults.
    pub fn copy(&self) -> SimulatedDisk {
        let copy = SimulatedDisk::new();
        let state = self.state();
        for (path, file) in &state.names {
            copy.replace(path, state.files[*file].now.clone());
        }
        copy
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// How many syncs of file contents there were.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, file: usize, boot: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimulatedFile {
            disk: self.clone(),
            file,
            boot,
        })
    }
}

impl State {
    /// Counts a changing call. The outer error: it has no effect; the inner
    /// one: it has, but the power went before it could say so.
    fn change(&mut self) -> io::Result<io::Result<()>> {
        match &mut self.faults.power_calls {
            None => Ok(Ok(())),
            Some(0) => Err(io::Error::other("no power")),
            Some(calls) => {
                *calls -= 1;
                Ok(match calls {
                    0 => Err(io::Error::other("power cut")),
                    _ => Ok(()),
                })
            }
        }
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        let outcome = self.change()?;
        change.apply(&mut self.names);
        self.name_changes.push(change);
        outcome
    }

    fn named(&self, path: &Path) -> io::Result<usize> {
        let file = self.names.get(path).copied();
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn take_space(&mut self, bytes: usize) -> io::Result<()> {
        match &mut self.faults.free_bytes {
            Some(free) if *free < bytes as u64 => Err(io::ErrorKind::StorageFull.into()),
            Some(free) => {
                *free -= bytes as u64;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Add(path, file) => {
                names.insert(path.clone(), *file);
            }
            NameChange::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

impl Contents {
    /// Chance decides what of the volatile changes is kept.
    fn settle(&mut self, random: &dyn Random) {
        // Pieces of one byte, a sector or a page are kept or lost together;
        // sometimes all are kept, sometimes none.
        let piece = [1, 512, 4096][random.next_u64() as usize % 3];
        let keep_of_8 = [0, 1, 4, 7, 8][random.next_u64() as usize % 5];
        for change in std::mem::take(&mut self.volatile) {
            match change {
                Change::Extend(length) => extend(&mut self.durable, length),
                Change::Write { at, bytes } => {
                    let mut start = 0;
                    while start < bytes.len() {
                        let end = (start + piece - (at + start) % piece).min(bytes.len());
                        if random.next_u64() % 8 < keep_of_8 {
                            overwrite(&mut self.durable, at + start, &bytes[start..end]);
                        }
                        start = end;
                    }
                }
            }
        }
        self.now = self.durable.clone();
    }
}

fn extend(bytes: &mut Vec<u8>, length: usize) {
    if bytes.len() < length {
        bytes.resize(length, 0);
    }
}

fn overwrite(bytes: &mut Vec<u8>, at: usize, with: &[u8]) {
    extend(bytes, at + with.len());
    bytes[at..at + with.len()].copy_from_slice(with);
}

impl Disk for SimulatedDisk {
    fn create_directories(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let inside = state.names.keys().filter(|p| p.parent() == Some(directory));
        let names = inside.filter_map(|path| path.file_name());
        Ok(names.map(|n| n.to_string_lossy().into_owned()).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.len();
        state.files.push(Contents::default());
        state.change_name(NameChange::Add(path.to_owned(), file))?;
        Ok(self.file(file, state.boot))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        Ok(self.file(state.named(path)?, state.boot))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.named(from)?;
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = state.named(path)?;
        let length = state.files[file].now.len() as u64;
        state.change_name(NameChange::Remove(path.to_owned()))?;
        if let Some(free) = &mut state.faults.free_bytes {
            *free += length;
        }
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        let mut state = self.state();
        let outcome = state.change()?;
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        outcome
    }

    fn lock(&self, path: &Path) -> io::Result<Locking> {
        let mut state = self.state();
        if !state.locked.insert(path.to_owned()) {
            return Ok(Locking::Theirs(std::process::id().to_string()));
        }
        Ok(Locking::Ours(LockGuard(Box::new(SimulatedLock {
            disk: self.clone(),
            path: path.to_owned(),
            boot: state.boot,
        }))))
    }
}

#[derive(Debug)]
struct SimulatedLock {
    disk: SimulatedDisk,
    path: PathBuf,
    boot: u64,
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.boot == self.boot {
            state.locked.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    file: usize,
    boot: u64,
}

impl SimulatedFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.boot != self.boot {
            return Err(io::Error::other("opened before the power cut"));
        }
        Ok(state)
    }
}

impl DiskFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.state()?.files[self.file].now.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.state()?;
        let bytes = &state.files[self.file].now;
        let start = bytes.len().min(at as usize);
        let end = bytes.len().min(start + into.len());
        into[..end - start].copy_from_slice(&bytes[start..end]);
        Ok(end - start)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        let mut bytes = bytes;
        match state.faults.next_write.take() {
            Some((0, kind)) => return Err(kind.into()),
            Some((room, kind)) => {
                bytes = &bytes[..bytes.len().min(room)];
                state.faults.next_write = Some((room - bytes.len(), kind));
            }
            None => {}
        }
        let outcome = state.change()?;
        let (at, length) = (at as usize, state.files[self.file].now.len());
        state.take_space((at + bytes.len()).saturating_sub(length))?;
        let contents = &mut state.files[self.file];
        overwrite(&mut contents.now, at, bytes);
        let bytes = bytes.to_vec();
        let written = bytes.len();
        contents.volatile.push(Change::Write { at, bytes });
        outcome.map(|()| written)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let outcome = state.change()?;
        let now = state.files[self.file].now.len();
        state.take_space((length as usize).saturating_sub(now))?;
        let contents = &mut state.files[self.file];
        extend(&mut contents.now, length as usize);
        contents.volatile.push(Change::Extend(length as usize));
        outcome
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let outcome = state.change()?;
        state.syncs += 1;
        if state.faults.failing_syncs > 0 {
            state.faults.failing_syncs -= 1;
            state.files[self.file].volatile.clear();
            return Err(io::Error::other("the disk failed"));
        }
        let contents = &mut state.files[self.file];
        for change in std::mem::take(&mut contents.volatile) {
            match change {
                Change::Extend(length) => extend(&mut contents.durable, length),
                Change::Write { at, bytes } => overwrite(&mut contents.durable, at, &bytes),
            }
        }
        outcome
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A clock that a test moves.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now_ms` milliseconds since the Unix epoch.
    pub fn new(now_ms: u64) -> ManualClock {
        ManualClock(AtomicU64::new(now_ms))
    }

    /// Moves the clock forward.
    pub fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The same numbers for the same seed (the SplitMix64 generator).
#[derive(Debug)]
pub struct SeededRandom(AtomicU64);

impl SeededRandom {
    /// Starts the numbers that belong to `seed`.
    pub fn new(seed: u64) -> SeededRandom {
        SeededRandom(AtomicU64::new(seed))
    }
}

impl Random for SeededRandom {
    fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
