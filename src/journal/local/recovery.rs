//! Opens a stream: finds its end, cuts a torn tail, refuses damage.
//!
//! After a close in order, `STATE` says where the journal ends, and only the
//! headers of the segments are read. After anything else the newest segment is
//! walked; the ones before it were durable, whole, before its header was.
//!
//! Where the walk comes to bytes that are not the next frame, with offset X,
//! either a group was torn that was never durable, or durable records were
//! damaged. The rest of the file is searched for a witness (see `frame`): a
//! frame that says X was durable when it was written. With a witness it is
//! damage and the open fails; without, it is the torn tail, and it is cut: the
//! rest of the file is zeroed, so nothing of it comes back later.
//!
//! What this can't tell apart is a torn group from damage to the last group
//! that was durable, after a crash, with nothing written behind it.
//!
//! The header and the last whole group are written once more before they count
//! as durable: they may be in the page cache alone, after a sync that failed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use super::super::statistics::Counters;
use super::super::{Damage, JournalState, Offset, OpenError};
use super::catalog::{Catalog, INDEX_STEP_BYTES, Segment};
use super::frame::{SEGMENT_HEADER_BYTES, Seed, SegmentHeader};
use super::log::{Active, SegmentLog};
use super::scan::Scanner;
use super::state::{STATE_NAME, State};
use super::stream::{Spares, Stream, Watchers, create_spare, segment_number, segment_path};
use super::{LOCK_NAME, LocalOptions, io_error};
use crate::platform::{Disk, DiskFile, LockGuard, Locking, Platform, read_full_at, write_all_at};

/// A segment without header is searched so far for records: the first stands
/// right behind the header.
const UNUSED_SEARCH_BYTES: u64 = 1 << 20;

/// A segment file that was found in the directory.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// None where it has none that was written whole.
    pub(super) header: Option<SegmentHeader>,
}

/// The end of the newest segment, found by walking it.
#[derive(Debug)]
struct Tail {
    next: Offset,
    /// One past the last frame.
    end: u64,
    /// One past the last byte of the file that is not zero.
    used_end: u64,
    /// Where the last group starts.
    group: u64,
    epoch: u32,
    /// Some frames and where they are, for the index.
    marks: Vec<(Offset, u64)>,
}

/// Opens the stream in `options.directory`, creating it if there is none.
pub(super) fn open(options: LocalOptions, platform: Platform) -> Result<SegmentLog, OpenError> {
    let directory = options.directory.clone();
    let disk = Arc::clone(&platform.disk);
    disk.create_directories(&directory)
        .map_err(|error| io_error("create directory", &directory, error))?;
    let lock = lock(&*disk, &directory)?;
    let state = State::read(&*disk, &directory)?;
    let mut listed = list_segments(&*disk, &directory)?;

    let identity = match (&state, listed.iter().find_map(|l| l.header)) {
        (Some(state), _) => state.identity,
        (None, Some(header)) => header.identity,
        (None, None) => platform.random.next_u64(),
    };
    let used = listed.iter().rposition(|l| l.header.is_some());
    let unused = listed.split_off(used.map_or(0, |last| last + 1));
    check_headers(&listed, identity)?;
    check_state(&listed, &unused, state.as_ref(), &directory)?;

    let seed = Seed::of(identity);
    let tail = match (listed.last(), &state) {
        (None, _) => Tail::empty(0),
        (Some(last), Some(state)) if state.closed => closed_tail(last, state)?,
        (Some(last), _) => walk(&*disk, last, seed, state.as_ref())?,
    };
    if !state.is_some_and(|state| state.closed) {
        check_unused(&*disk, &unused, seed, tail.next)?;
    }
    for spare in &unused {
        disk.remove(&spare.path)
            .map_err(|error| io_error("remove", &spare.path, error))?;
    }
    let epoch = tail.epoch.max(state.map_or(0, |state| state.epoch)) + 1;
    if listed.is_empty() {
        listed.push(first_segment(&platform, &directory, identity, epoch)?);
    }
    start(options, platform, lock, identity, epoch, tail, &listed)
}

fn lock(disk: &dyn Disk, directory: &Path) -> Result<LockGuard, OpenError> {
    let path = directory.join(LOCK_NAME);
    match disk.lock(&path) {
        Ok(Locking::Ours(guard)) => Ok(guard),
        Ok(Locking::Theirs(owner)) => Err(OpenError::Locked {
            directory: directory.to_owned(),
            owner,
        }),
        Err(error) => Err(io_error("lock", &path, error)),
    }
}

/// The segment files of a stream, in order, with their headers. Files that go
/// away meanwhile are left out: retention may be at work.
pub(super) fn list_segments(disk: &dyn Disk, directory: &Path) -> Result<Vec<Listed>, OpenError> {
    let names = disk.list(directory);
    let names = names.map_err(|error| io_error("list", directory, error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|n| segment_number(n)).collect();
    numbers.sort_unstable();
    let mut listed = Vec::with_capacity(numbers.len());
    for number in numbers {
        listed.extend(list_segment(disk, directory, number)?);
    }
    Ok(listed)
}

/// One segment file; none where there is no such file.
pub(super) fn list_segment(
    disk: &dyn Disk,
    directory: &Path,
    number: u64,
) -> Result<Option<Listed>, OpenError> {
    let path = segment_path(directory, number);
    let file = match disk.open_to_read(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", &path, error)),
    };
    let bytes = file.length();
    let bytes = bytes.map_err(|error| io_error("measure", &path, error))?;
    let mut header = [0; SEGMENT_HEADER_BYTES as usize];
    read_full_at(&*file, &mut header, 0).map_err(|error| io_error("read", &path, error))?;
    Ok(Some(Listed {
        number,
        path,
        bytes,
        header: SegmentHeader::decode(&header),
    }))
}

/// All of them have a header, that of the next one each time.
pub(super) fn check_headers(listed: &[Listed], identity: u64) -> Result<(), Damage> {
    let mut before: Option<(&Listed, SegmentHeader)> = None;
    for segment in listed {
        let Some(header) = segment.header else {
            return Err(segment.damage(0, "no segment header, though the segment holds records"));
        };
        if header.identity != identity {
            return Err(segment.damage(8, "the segment belongs to another journal"));
        }
        if header.number != segment.number {
            return Err(segment.damage(16, "the segment has another number than its file"));
        }
        if let Some((before, older)) = before {
            if before.number + 1 != segment.number {
                let directory = segment.path.parent().unwrap_or(Path::new(""));
                return Err(missing(segment_path(directory, before.number + 1)));
            }
            if header.base < older.base {
                return Err(segment.damage(24, "the segment starts before the one before it"));
            }
        }
        before = Some((segment, header));
    }
    Ok(())
}

/// The journal reaches the segment that `STATE` names, and ends there if it
/// says so.
fn check_state(
    used: &[Listed],
    unused: &[Listed],
    state: Option<&State>,
    directory: &Path,
) -> Result<(), Damage> {
    let Some(state) = state else {
        return Ok(());
    };
    if let Some(lost) = unused.iter().find(|l| l.number <= state.segment) {
        return Err(lost.damage(0, "no segment header, though the segment holds records"));
    }
    // It may have been removed by retention, when there were newer ones.
    if used.last().is_none_or(|last| last.number < state.segment) {
        return Err(missing(segment_path(directory, state.segment)));
    }
    match used.last() {
        Some(last) if state.closed && last.number != state.segment => Err(Damage {
            file: directory.join(STATE_NAME),
            byte: 24,
            reason: format!("segment {} is newer than the journal's end", last.number),
        }),
        _ => Ok(()),
    }
}

/// Segments without header hold no records that must not be lost.
fn check_unused(
    disk: &dyn Disk,
    unused: &[Listed],
    seed: Seed,
    next: Offset,
) -> Result<(), OpenError> {
    for segment in unused {
        let mut scanner = Scanner::new(segment.open(disk)?, seed);
        let search = scanner.search_within(UNUSED_SEARCH_BYTES, |frame| next <= frame.offset);
        let search = search.map_err(|error| io_error("read", &segment.path, error))?;
        if let Some(found) = search.found {
            let reason = format!(
                "no segment header, though there is a record with offset {} at byte {}",
                found.frame.offset, found.at
            );
            return Err(segment.damage(0, &reason).into());
        }
        if next == 0 && SEGMENT_HEADER_BYTES < search.used_end {
            let reason = "no segment header, and there is no other segment to tell what it was";
            return Err(segment.damage(0, reason).into());
        }
    }
    Ok(())
}

fn closed_tail(last: &Listed, state: &State) -> Result<Tail, Damage> {
    if last.bytes < state.end {
        let reason = format!("the file ends here, the journal at byte {}", state.end);
        return Err(last.damage(last.bytes, &reason));
    }
    Ok(Tail {
        next: state.next,
        end: state.end,
        used_end: state.end,
        group: state.end,
        epoch: state.epoch,
        marks: Vec::new(),
    })
}

/// Finds the end of a segment that was not closed in order.
fn walk(
    disk: &dyn Disk,
    last: &Listed,
    seed: Seed,
    state: Option<&State>,
) -> Result<Tail, OpenError> {
    let failed = |error| io_error("read", &last.path, error);
    let base = last.header.map_or(0, |header| header.base);
    let mut scanner = Scanner::new(last.open(disk)?, seed);
    let mut tail = Tail::empty(base);
    tail.epoch = last.header.map_or(0, |header| header.epoch);
    while let Some(found) = scanner.next(tail.next).map_err(failed)? {
        if found.frame.epoch < tail.epoch {
            break;
        }
        if found.frame.position == 0 {
            tail.group = found.at;
        }
        let marked = tail.marks.last().map_or(0, |mark| mark.1);
        if marked + INDEX_STEP_BYTES <= found.at {
            tail.marks.push((found.frame.offset, found.at));
        }
        tail.epoch = found.frame.epoch;
        tail.next += 1;
        tail.end = scanner.at();
    }
    scanner.seek(tail.end);
    let witness = |frame: &super::frame::Frame| tail.next < frame.durable_below();
    let search = scanner.search(witness).map_err(failed)?;
    tail.used_end = search.used_end;
    if let Some(found) = search.found {
        let reason = format!(
            "no record with offset {}, though it was durable when the one with offset {} \
             at byte {} was written",
            tail.next, found.frame.offset, found.at
        );
        return Err(last.damage(tail.end, &reason).into());
    }
    let durable = state.filter(|state| state.segment == last.number);
    if let Some(state) = durable.filter(|state| tail.next < state.next) {
        let reason = format!(
            "no record with offset {}, though all before offset {} were durable when the \
             journal was opened",
            tail.next, state.next
        );
        return Err(last.damage(tail.end, &reason).into());
    }
    Ok(tail)
}

impl Tail {
    fn empty(next: Offset) -> Tail {
        Tail {
            next,
            end: SEGMENT_HEADER_BYTES,
            used_end: SEGMENT_HEADER_BYTES,
            group: SEGMENT_HEADER_BYTES,
            epoch: 0,
            marks: Vec::new(),
        }
    }

    /// Zeroes what is after the end and makes header and last group durable.
    fn settle(&self, file: &dyn DiskFile) -> io::Result<()> {
        let mut group = vec![0; (self.end - self.group) as usize];
        read_full_at(file, &mut group, self.group)?;
        group.resize((self.used_end.max(self.end) - self.group) as usize, 0);
        write_all_at(file, &group, self.group).map_err(|error| error.source)?;
        let mut header = [0; SEGMENT_HEADER_BYTES as usize];
        read_full_at(file, &mut header, 0)?;
        write_all_at(file, &header, 0).map_err(|error| error.source)?;
        file.sync_all()
    }
}

/// The first segment of a new journal, durable.
fn first_segment(
    platform: &Platform,
    directory: &Path,
    identity: u64,
    epoch: u32,
) -> Result<Listed, OpenError> {
    let path = segment_path(directory, 1);
    let failed = |error| io_error("create", &path, error);
    let bytes = SEGMENT_HEADER_BYTES;
    let spare = create_spare(platform, directory, 1, bytes).map_err(failed)?;
    let header = SegmentHeader {
        identity,
        number: 1,
        base: 0,
        begun_ms: platform.clock.now_ms(),
        epoch,
    };
    write_all_at(&*spare.file, &header.encode(), 0).map_err(|error| failed(error.source))?;
    spare.file.sync_all().map_err(failed)?;
    Ok(Listed {
        number: 1,
        path: spare.path,
        bytes,
        header: Some(header),
    })
}

fn start(
    options: LocalOptions,
    platform: Platform,
    lock: LockGuard,
    identity: u64,
    epoch: u32,
    tail: Tail,
    listed: &[Listed],
) -> Result<SegmentLog, OpenError> {
    let (active, closed) = listed.split_last().expect("the first one was just made");
    let active = activate(&*platform.disk, &options, active, &tail)?;
    let mut catalog = Catalog::default();
    for segment in closed {
        catalog.push(Arc::new(segment.entry(segment.bytes)));
    }
    catalog.push(Arc::clone(&active.segment));
    let state = State {
        identity,
        epoch,
        closed: false,
        segment: active.segment.number,
        next: tail.next,
        end: tail.end,
    };
    state.write(&*platform.disk, &options.directory)?;
    let stream = Stream {
        options,
        platform,
        identity,
        seed: Seed::of(identity),
        epoch,
        catalog: Mutex::new(catalog),
        spares: Mutex::new(Spares {
            used: active.segment.number,
            ready: None,
        }),
        health: Mutex::new(JournalState::Accepting),
        counters: Counters::default(),
        watchers: Watchers::default(),
        closed: AtomicBool::new(false),
        durable_next: AtomicU64::new(tail.next),
        lock: Mutex::new(Some(lock)),
    };
    Ok(SegmentLog::new(Arc::new(stream), active))
}

/// Makes the newest segment fit to be written to.
fn activate(
    disk: &dyn Disk,
    options: &LocalOptions,
    last: &Listed,
    tail: &Tail,
) -> Result<Active, OpenError> {
    let file = last.open(disk)?;
    tail.settle(&*file)
        .map_err(|error| io_error("repair", &last.path, error))?;
    let bytes = grow(&*file, last.bytes, options.segment_bytes);
    let segment = Arc::new(last.entry(bytes));
    for (offset, at) in &tail.marks {
        segment.note(*offset, *at);
    }
    Ok(Active {
        segment,
        file,
        end: tail.end,
        bytes,
    })
}

/// Gives the active segment its full length. Where there is no space for it
/// the journal opens all the same, and rolls, or refuses, when it is written.
fn grow(file: &dyn DiskFile, bytes: u64, wanted: u64) -> u64 {
    if wanted <= bytes {
        return bytes;
    }
    let grown = file.allocate(wanted).and_then(|()| file.sync_all());
    if grown.is_ok() { wanted } else { bytes }
}

impl Listed {
    fn open(&self, disk: &dyn Disk) -> Result<Arc<dyn DiskFile>, OpenError> {
        let file = disk.open(&self.path);
        file.map_err(|error| io_error("open", &self.path, error))
    }

    fn entry(&self, bytes: u64) -> Segment {
        let (base, begun_ms) = self.header.map_or((0, 0), |h| (h.base, h.begun_ms));
        Segment::new(self.number, base, begun_ms, self.path.clone(), bytes)
    }

    pub(super) fn damage(&self, byte: u64, reason: &str) -> Damage {
        Damage {
            file: self.path.clone(),
            byte,
            reason: reason.to_owned(),
        }
    }
}

fn missing(file: PathBuf) -> Damage {
    Damage {
        file,
        byte: 0,
        reason: "the file is missing".to_owned(),
    }
}
