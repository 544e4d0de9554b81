//! Walks the frames of one segment file.

use std::io;
use std::sync::Arc;

use super::super::Offset;
use super::frame::{FRAME_ALIGNMENT, FRAME_HEADER_BYTES, Frame, SEGMENT_HEADER_BYTES, Seed};
use crate::platform::{DiskFile, read_full_at};

/// Files are read in pieces of this size, or a frame's where that is more.
const READ_BYTES: usize = 256 << 10;

/// A place in a segment, and a window of the file's bytes around it.
#[derive(Debug)]
pub(super) struct Scanner {
    file: Arc<dyn DiskFile>,
    seed: Seed,
    /// Where the next frame is expected.
    at: u64,
    window: Vec<u8>,
    window_at: u64,
}

/// A frame that a scan came by, with where it starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) frame: Frame,
    pub(super) at: u64,
}

/// What [`Scanner::search`] came by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    /// The first frame that was looked for.
    pub(super) found: Option<Found>,
    /// One past the last byte that is not zero, where nothing was found.
    pub(super) used_end: u64,
}

impl Scanner {
    /// Starts at the segment's first frame.
    pub(super) fn new(file: Arc<dyn DiskFile>, seed: Seed) -> Scanner {
        Scanner {
            file,
            seed,
            at: SEGMENT_HEADER_BYTES,
            window: Vec::new(),
            window_at: 0,
        }
    }

    /// Where the next frame is expected.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Goes on at another place.
    pub(super) fn seek(&mut self, at: u64) {
        self.at = at;
    }

    /// The frame here, if it is whole and has this offset; goes on behind it.
    /// [`Scanner::record`] is its record until the next call.
    ///
    /// A writer may be at work: what looks bad is read from the file once more.
    pub(super) fn next(&mut self, offset: Offset) -> io::Result<Option<Found>> {
        let buffered = !self.window.is_empty();
        let mut found = self.frame_at(self.at)?;
        if buffered && found.is_none_or(|found| found.frame.offset != offset) {
            self.window.clear();
            found = self.frame_at(self.at)?;
        }
        let found = found.filter(|found| found.frame.offset == offset);
        if let Some(found) = &found {
            self.at += found.frame.bytes();
        }
        Ok(found)
    }

    /// The record of the frame that `next` or `search` returned last.
    pub(super) fn record(&self, found: &Found) -> &[u8] {
        let start = (found.at - self.window_at) as usize + FRAME_HEADER_BYTES;
        &self.window[start..start + found.frame.length as usize]
    }

    /// Looks at and after this place, up to the end of the file, for a whole
    /// frame that `wanted` accepts. Stays where it is.
    pub(super) fn search(&mut self, wanted: impl Fn(&Frame) -> bool) -> io::Result<Search> {
        self.search_within(u64::MAX, wanted)
    }

    /// The same in the next `bytes_max` bytes or a few more.
    pub(super) fn search_within(
        &mut self,
        bytes_max: u64,
        wanted: impl Fn(&Frame) -> bool,
    ) -> io::Result<Search> {
        static ZEROS: [u8; READ_BYTES] = [0; READ_BYTES];
        let mut at = self.at.next_multiple_of(FRAME_ALIGNMENT);
        let mut used_end = self.at;
        self.window.clear();
        loop {
            let have = self.load(at, READ_BYTES)?;
            if have == 0 || bytes_max < at - self.at {
                return Ok(Search {
                    found: None,
                    used_end,
                });
            }
            let piece_at = (at - self.window_at) as usize;
            let piece = &self.window[piece_at..piece_at + have];
            if piece == &ZEROS[..have] {
                at += have as u64;
                continue;
            }
            let used = piece.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            used_end = at + used as u64 + 1;
            let end = at + have as u64;
            while at < end {
                match self.frame_at(at)? {
                    Some(found) if wanted(&found.frame) => {
                        return Ok(Search {
                            found: Some(found),
                            used_end,
                        });
                    }
                    Some(found) => at += found.frame.bytes(),
                    None => at += FRAME_ALIGNMENT,
                }
            }
        }
    }

    /// The frame that starts at `at`, if it is whole.
    fn frame_at(&mut self, at: u64) -> io::Result<Option<Found>> {
        if self.load(at, FRAME_HEADER_BYTES)? < FRAME_HEADER_BYTES {
            return Ok(None);
        }
        let header = &self.window[(at - self.window_at) as usize..];
        let Some(frame) = Frame::decode(header, self.seed) else {
            return Ok(None);
        };
        let whole = frame.bytes() as usize;
        if self.load(at, whole)? < whole {
            return Ok(None);
        }
        let start = (at - self.window_at) as usize;
        let padded = &self.window[start + FRAME_HEADER_BYTES..start + whole];
        let found = Found { frame, at };
        Ok(frame.holds(padded, self.seed).then_some(found))
    }

    /// Has the window cover `bytes` bytes from `at`; returns how many there
    /// are up to the end of the file, at most `bytes`.
    fn load(&mut self, at: u64, bytes: usize) -> io::Result<usize> {
        let window_end = self.window_at + self.window.len() as u64;
        let covered = self.window_at <= at && at + bytes as u64 <= window_end;
        if !covered {
            let mut want = bytes.max(READ_BYTES);
            if READ_BYTES < bytes {
                // A header that is whole was written by us, so its length is
                // right, but the file may have been cut since.
                let left = self.file.length()?.saturating_sub(at);
                want = want.min(usize::try_from(left).unwrap_or(usize::MAX));
            }
            self.window.resize(want, 0);
            self.window_at = at;
            let read = read_full_at(&*self.file, &mut self.window, at);
            self.window.truncate(*read.as_ref().unwrap_or(&0));
            read?;
        }
        let have = self.window.len() - (at - self.window_at) as usize;
        Ok(have.min(bytes))
    }
}
