//! Looks at the files of a journal without opening it: beside the process that
//! has it open, or after that has ended.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use super::super::{Damage, Offset, OpenError};
use super::frame::{Frame, Seed};
use super::io_error;
use super::recovery::{Listed, check_headers, list_segment, list_segments};
use super::scan::{Found, Scanner};
use super::state::State;
use crate::platform::Platform;

/// A walk that is not thorough looks so far behind the last record for others.
const QUICK_SEARCH_BYTES: u64 = 1 << 20;

/// What the files of a journal say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The segments with records, oldest first.
    pub segments: Vec<SegmentSummary>,
    /// Offset of the first record there is, or would be.
    pub first: Offset,
    /// One past the offset of the last record that is whole.
    pub next: Offset,
    /// Whether it was closed in order and not opened since.
    pub closed: bool,
    /// How many times it was opened.
    pub epoch: u32,
    /// Bytes of all segment files, the spare included.
    pub disk_bytes: u64,
}

/// One segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSummary {
    /// The file.
    pub file: PathBuf,
    /// Offset of its first record.
    pub base: Offset,
    /// How many records it holds, as far as they are whole.
    pub records: u64,
    /// Length of the file.
    pub bytes: u64,
    /// When it was begun, milliseconds since the Unix epoch.
    pub begun_ms: u64,
}

/// What [`Walk::step`] came by.
#[derive(Debug)]
pub enum Step<'a> {
    /// The next record.
    Record {
        /// Its offset.
        offset: Offset,
        /// The encoded record.
        bytes: &'a [u8],
        /// The file it is in.
        file: &'a Path,
        /// Where its frame is in the file, in bytes.
        at: u64,
    },
    /// Records are lost here; the next step goes on behind them.
    Damage(Damage),
    /// There is no further record, now. Calling again looks again.
    End,
}

/// Goes through the records of a journal, in order.
#[derive(Debug)]
pub struct Walk {
    platform: Platform,
    directory: PathBuf,
    seed: Seed,
    state: Option<State>,
    /// The segments to come.
    segments: VecDeque<Listed>,
    current: Option<Current>,
    next: Offset,
    from: Offset,
    damages: VecDeque<Damage>,
    search_bytes_max: u64,
}

#[derive(Debug)]
struct Current {
    number: u64,
    path: PathBuf,
    scanner: Scanner,
}

impl Walk {
    /// Starts at the record at `from`, or at the first one there is.
    pub fn open(directory: &Path, from: Option<Offset>) -> Result<Walk, OpenError> {
        Walk::open_on(directory, from, Platform::system())
    }

    /// The same on another disk.
    pub fn open_on(
        directory: &Path,
        from: Option<Offset>,
        platform: Platform,
    ) -> Result<Walk, OpenError> {
        let disk = &*platform.disk;
        let mut damages = VecDeque::new();
        let state = match State::read(disk, directory) {
            Err(OpenError::Damaged(damage)) => {
                damages.push_back(damage);
                None
            }
            state => state?,
        };
        let mut listed = list_segments(disk, directory)?;
        let header = listed.iter().find_map(|segment| segment.header);
        let identity = state.map(|s| s.identity).or(header.map(|h| h.identity));
        let Some(identity) = identity else {
            if let Some(damage) = damages.pop_front() {
                return Err(damage.into());
            }
            let missing = io::Error::new(io::ErrorKind::NotFound, "there is no journal");
            return Err(io_error("read", directory, missing));
        };
        let named = state.map_or(0, |state| state.segment);
        let last = listed
            .iter()
            .rposition(|l| l.header.is_some() || l.number <= named);
        listed.truncate(last.map_or(0, |last| last + 1));
        // The headers are checked one by one where they are come by; this
        // finds what is missing between them.
        if let Err(damage) = check_headers(&listed, identity) {
            damages.push_back(damage);
        }
        let from = from.unwrap_or(0);
        let is_before = |l: &Listed| l.header.is_some_and(|header| header.base <= from);
        let first = listed.iter().rposition(is_before).unwrap_or(0);
        Ok(Walk {
            directory: directory.to_owned(),
            seed: Seed::of(identity),
            state,
            segments: listed.into_iter().skip(first).collect(),
            current: None,
            next: 0,
            from,
            damages,
            search_bytes_max: QUICK_SEARCH_BYTES,
            platform,
        })
    }

    /// Has the rest of the newest segment searched for records that prove the
    /// ones before them lost, each time the walk comes to its end.
    pub fn thorough(mut self) -> Walk {
        self.search_bytes_max = u64::MAX;
        self
    }

    /// The next record, or why there is none.
    pub fn step(&mut self) -> Result<Step<'_>, OpenError> {
        loop {
            if let Some(damage) = self.damages.pop_front() {
                return Ok(Step::Damage(damage));
            }
            if self.current.is_none() && !self.enter_next_segment()? {
                return Ok(Step::End);
            }
            let Some(found) = self.next_frame()? else {
                if self.pass_gap()? {
                    continue;
                }
                return Ok(Step::End);
            };
            let offset = self.next;
            self.next += 1;
            if self.from <= offset {
                let current = self.current.as_ref().expect("a frame was just found in it");
                return Ok(Step::Record {
                    offset,
                    bytes: current.scanner.record(&found),
                    file: &current.path,
                    at: found.at,
                });
            }
        }
    }

    /// Bytes of the segments that are not walked yet, for a progress display.
    pub fn bytes_left(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn next_frame(&mut self) -> Result<Option<Found>, OpenError> {
        let Some(current) = &mut self.current else {
            return Ok(None);
        };
        let found = current.scanner.next(self.next);
        found.map_err(|error| io_error("read", &current.path, error))
    }

    /// Where there is no next frame: goes on in the next segment, or behind
    /// damage; false at the end of the journal.
    fn pass_gap(&mut self) -> Result<bool, OpenError> {
        let Some(current) = &mut self.current else {
            return Ok(false);
        };
        if self.segments.is_empty() {
            let disk = &*self.platform.disk;
            let newer = list_segment(disk, &self.directory, current.number + 1)?;
            self.segments.extend(newer.filter(|l| l.header.is_some()));
        }
        let bound = self.segments.iter().find_map(|l| l.header);
        let closed = self
            .state
            .filter(|state| state.closed && state.segment == current.number);
        // All records below this were durable.
        let durable = bound.map(|h| h.base).or(closed.map(|state| state.next));
        let next = self.next;
        if durable.is_some_and(|durable| durable <= next) {
            return Ok(bound.is_some() && self.enter_next_segment()?);
        }
        let failed = |error| io_error("read", &current.path, error);
        let scanner = &mut current.scanner;
        let at = scanner.at();
        if durable.is_none() {
            let witness = |frame: &Frame| next < frame.durable_below();
            let search = scanner.search_within(self.search_bytes_max, witness);
            if search.map_err(failed)?.found.is_none() {
                return Ok(false);
            }
        }
        // Beside a running writer the frame may have been written meanwhile.
        let again = scanner.next(next).map_err(failed)?;
        scanner.seek(at);
        if again.is_some() {
            return Ok(true);
        }
        let after = scanner
            .search(|frame| next < frame.offset)
            .map_err(failed)?;
        let resumed = match (after.found, durable) {
            (Some(found), _) => {
                scanner.seek(found.at);
                found.frame.offset
            }
            (None, Some(durable)) => durable,
            (None, None) => return Ok(false),
        };
        self.damages.push_back(Damage {
            file: current.path.clone(),
            byte: at,
            reason: format!("records with offsets {next} to {} are lost", resumed - 1),
        });
        self.next = resumed;
        Ok(true)
    }

    /// False where there is none.
    fn enter_next_segment(&mut self) -> Result<bool, OpenError> {
        while let Some(segment) = self.segments.pop_front() {
            let file = match self.platform.disk.open_to_read(&segment.path) {
                Ok(file) => file,
                // Retention removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.next = self.next.max(self.following_base());
                    continue;
                }
                Err(error) => return Err(io_error("open", &segment.path, error)),
            };
            let base = segment.header.map_or(self.next, |header| header.base);
            self.next = self.next.max(base);
            self.current = Some(Current {
                number: segment.number,
                path: segment.path,
                scanner: Scanner::new(file, self.seed),
            });
            return Ok(true);
        }
        Ok(false)
    }

    fn following_base(&self) -> Offset {
        let header = self.segments.iter().find_map(|segment| segment.header);
        header.map_or(0, |header| header.base)
    }
}

/// What the files of the journal in `directory` say of it.
pub fn summarize(directory: &Path) -> Result<Summary, OpenError> {
    let platform = Platform::system();
    let disk = &*platform.disk;
    let state = State::read(disk, directory)?;
    let listed = list_segments(disk, directory)?;
    let disk_bytes = listed.iter().map(|segment| segment.bytes).sum();
    let bases: Vec<Offset> = listed
        .iter()
        .filter_map(|l| l.header)
        .map(|h| h.base)
        .collect();
    let mut next = bases.last().copied().unwrap_or(0);
    let mut walk = Walk::open(directory, Some(next))?;
    // Damage before the last segment is not looked for here.
    while let Step::Record { offset, .. } = walk.step()? {
        next = offset + 1;
    }
    let ends = bases.iter().copied().skip(1).chain([next]);
    let with_header = listed.iter().filter_map(|l| Some((l, l.header?)));
    let segments = with_header
        .zip(ends)
        .map(|((listed, header), end)| SegmentSummary {
            file: listed.path.clone(),
            base: header.base,
            records: end.saturating_sub(header.base),
            bytes: listed.bytes,
            begun_ms: header.begun_ms,
        });
    Ok(Summary {
        segments: segments.collect(),
        first: bases.first().copied().unwrap_or(0),
        next,
        closed: state.is_some_and(|state| state.closed),
        epoch: state.map_or(0, |state| state.epoch),
        disk_bytes,
    })
}
