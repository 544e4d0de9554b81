//! Which segments there are, and which of them may go.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::super::cursor::CursorState;
use super::super::{CursorPosition, Offset};
use super::Retention;
use super::frame::SEGMENT_HEADER_BYTES;

/// The index has an entry for about every so many bytes of a segment.
pub(super) const INDEX_STEP_BYTES: u64 = 64 << 10;

/// A segment that holds records, or is about to.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) base: Offset,
    pub(super) begun_ms: u64,
    pub(super) path: PathBuf,
    /// The file's length.
    pub(super) bytes: u64,
    index: Mutex<Vec<(Offset, u64)>>,
}

impl Segment {
    pub(super) fn new(
        number: u64,
        base: Offset,
        begun_ms: u64,
        path: PathBuf,
        bytes: u64,
    ) -> Segment {
        Segment {
            number,
            base,
            begun_ms,
            path,
            bytes,
            index: Mutex::default(),
        }
    }

    /// Where to start to find `offset`: a frame's offset at or below it, and
    /// where in the file this frame is.
    pub(super) fn seek(&self, offset: Offset) -> (Offset, u64) {
        let index = self.index();
        let after = index.partition_point(|entry| entry.0 <= offset);
        match after.checked_sub(1) {
            Some(entry) => index[entry],
            None => (self.base, SEGMENT_HEADER_BYTES),
        }
    }

    /// Remembers where a durable frame is, if it is far from the last known.
    pub(super) fn note(&self, offset: Offset, at: u64) {
        let mut index = self.index();
        let last = index.last().map_or(SEGMENT_HEADER_BYTES, |entry| entry.1);
        if last + INDEX_STEP_BYTES <= at {
            index.push((offset, at));
        }
    }

    fn index(&self) -> MutexGuard<'_, Vec<(Offset, u64)>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The segments in order, the active one last, and who reads them.
///
/// # Invariants
/// Never empty. Numbers go up by one; bases never go down
/// (a segment without records has the base of the next).
#[derive(Debug, Default)]
pub(super) struct Catalog {
    segments: VecDeque<Arc<Segment>>,
    cursors: Vec<Weak<CursorState>>,
}

/// A segment that retention wants gone.
#[derive(Debug)]
pub(super) struct Removal {
    pub(super) segment: Arc<Segment>,
    /// A registered reader needed it.
    pub(super) forced: bool,
}

impl Catalog {
    pub(super) fn push(&mut self, segment: Arc<Segment>) {
        if let Some(last) = self.segments.back() {
            assert_eq!(last.number + 1, segment.number, "segments have no gaps");
            assert!(last.base <= segment.base, "offsets go up");
        }
        self.segments.push_back(segment);
    }

    pub(super) fn first_offset(&self) -> Offset {
        self.segments.front().map_or(0, |segment| segment.base)
    }

    /// Puts back what `take_removable` returned, as its file is still there.
    pub(super) fn restore(&mut self, segment: Arc<Segment>) {
        self.segments.push_front(segment);
    }

    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The segment that holds `offset`, and the base of the one after it.
    pub(super) fn find(&self, offset: Offset) -> Option<(Arc<Segment>, Option<Offset>)> {
        let after = self.segments.partition_point(|s| s.base <= offset);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        let end = self.segments.get(after).map(|next| next.base);
        Some((Arc::clone(segment), end))
    }

    pub(super) fn register(&mut self, cursor: &Arc<CursorState>) {
        self.cursors.retain(|cursor| cursor.strong_count() != 0);
        self.cursors.push(Arc::downgrade(cursor));
    }

    pub(super) fn cursors(&self) -> Vec<CursorPosition> {
        let live = self.cursors.iter().filter_map(Weak::upgrade);
        live.map(|cursor| cursor.position()).collect()
    }

    /// Takes out the oldest segment if retention wants it gone: the journal is
    /// too big or the segment too old, and no registered reader needs it; or
    /// the journal is bigger than the hard cap. Never the active one.
    pub(super) fn take_removable(&mut self, retention: &Retention, now_ms: u64) -> Option<Removal> {
        let next = self.segments.get(1)?;
        let needed = self.cursors().iter().map(|cursor| cursor.needed).min();
        let is_needed = needed.is_some_and(|needed| needed < next.base);
        let above = |limit: Option<u64>| limit.is_some_and(|limit| limit < self.bytes());
        let age_ms = now_ms.saturating_sub(next.begun_ms);
        let age_max = retention.age_max.map(|age| age.as_millis() as u64);
        let is_old = age_max.is_some_and(|age_ms_max| age_ms_max < age_ms);
        let unwanted = above(retention.bytes_max) || is_old;
        let forced = is_needed && above(retention.hard_cap_bytes);
        if (unwanted && !is_needed) || above(retention.hard_cap_bytes) {
            let segment = self.segments.pop_front()?;
            return Some(Removal { segment, forced });
        }
        None
    }
}
