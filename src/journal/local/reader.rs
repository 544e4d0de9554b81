//! Reads durable records of an open journal.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::super::{Damage, Offset, ReadBatch, ReadError};
use super::catalog::Segment;
use super::scan::Scanner;
use super::stream::Stream;

/// Reads from one place on.
#[derive(Debug)]
pub(in super::super) struct LocalReader {
    stream: Arc<Stream>,
    position: Offset,
    place: Option<Place>,
}

/// The segment that is read. Its file stays readable when retention removes it.
#[derive(Debug)]
struct Place {
    segment: Arc<Segment>,
    scanner: Scanner,
}

impl LocalReader {
    pub(super) fn new(stream: Arc<Stream>, position: Offset) -> LocalReader {
        LocalReader {
            stream,
            position,
            place: None,
        }
    }

    pub(in super::super) fn position(&self) -> Offset {
        self.position
    }

    pub(in super::super) fn next_batch(
        &mut self,
        into: &mut ReadBatch,
        bytes_max: usize,
    ) -> Result<(), ReadError> {
        while self.position < self.stream.durable_next() {
            let end = self.find_place()?;
            let Some(place) = &mut self.place else { break };
            while self.position < end {
                let found = place.scanner.next(self.position);
                let found = found.map_err(|source| place.failed(source))?;
                let Some(found) = found else {
                    return self.damaged(into);
                };
                place.segment.note(found.frame.offset, found.at);
                into.push(self.position, place.scanner.record(&found));
                self.position += 1;
                if bytes_max <= into.bytes() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub(in super::super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if self.position < self.stream.durable_next() {
            return Poll::Ready(true);
        }
        self.stream.watchers.register(context.waker());
        // Closed is looked at first: nothing becomes durable after it.
        let closed = self.stream.closed.load(Ordering::SeqCst);
        if self.position < self.stream.durable_next() {
            return Poll::Ready(true);
        }
        if closed {
            Poll::Ready(false)
        } else {
            Poll::Pending
        }
    }

    /// Has `place` be the segment of the next record, at its frame; returns
    /// where the durable records of this segment end.
    fn find_place(&mut self) -> Result<Offset, ReadError> {
        let durable_next = self.stream.durable_next();
        let (segment, end) = {
            let catalog = self.stream.catalog();
            let first = catalog.first_offset();
            match catalog.find(self.position) {
                Some(found) => found,
                None => return Err(ReadError::Removed { first }),
            }
        };
        let end = end.map_or(durable_next, |end| end.min(durable_next));
        let is_there = |place: &Place| place.segment.number == segment.number;
        if !self.place.as_ref().is_some_and(is_there) {
            let disk = &self.stream.platform.disk;
            let file = match disk.open_to_read(&segment.path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    let first = self.stream.catalog().first_offset();
                    return Err(ReadError::Removed { first });
                }
                Err(source) => {
                    let path = segment.path.clone();
                    return Err(ReadError::Io { path, source });
                }
            };
            let scanner = Scanner::new(file, self.stream.seed);
            let mut place = Place { segment, scanner };
            place.go_to(self.position)?;
            self.place = Some(place);
        }
        Ok(end)
    }

    /// What was read before the damage is returned; the damage next time.
    fn damaged(&self, into: &ReadBatch) -> Result<(), ReadError> {
        match &self.place {
            Some(place) if into.is_empty() => Err(place.damage(self.position).into()),
            _ => Ok(()),
        }
    }
}

impl Place {
    /// Walks from the nearest place the index knows.
    fn go_to(&mut self, offset: Offset) -> Result<(), ReadError> {
        let (mut known, at) = self.segment.seek(offset);
        self.scanner.seek(at);
        while known < offset {
            let found = self.scanner.next(known);
            let found = found.map_err(|source| self.failed(source))?;
            let Some(found) = found else {
                return Err(self.damage(known).into());
            };
            self.segment.note(known, found.at);
            known += 1;
        }
        Ok(())
    }

    fn damage(&self, offset: Offset) -> Damage {
        Damage {
            file: self.segment.path.clone(),
            byte: self.scanner.at(),
            reason: format!("no record with offset {offset}, though it was durable"),
        }
    }

    fn failed(&self, source: std::io::Error) -> ReadError {
        let path = self.segment.path.clone();
        ReadError::Io { path, source }
    }
}
