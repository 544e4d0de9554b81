//! The records of one connection: read and compressed on a thread that may
//! block, as long as the reader has given credit for them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::task::{JoinHandle, spawn_blocking};

use super::super::super::{Journal, Offset, ReadBatch, ReadError, Reader};
use super::super::v1::{Records, body::Kind};
use super::super::{BATCH_BYTES_MAX, RECORD_OVERHEAD_BYTES, frame};

/// Level 1: more is saved by less waiting than by smaller records.
const LEVEL: i32 = 1;

/// Fewer bytes are not worth a try.
const COMPRESSED_BYTES_MIN: usize = 256;

/// After records that did not shrink, so many batches are sent as they are.
const UNCOMPRESSED_BATCHES: u32 = 15;

/// What becomes of a feed.
#[derive(Debug)]
pub(super) enum Event {
    /// A frame to send.
    Batch(Batch),
    /// The records can't be read; the feed is over.
    Failed(ReadError),
    /// The journal is closed, and everything was sent; the feed is over.
    End,
    /// Reading them panicked, which is a bug; the feed is over.
    Broken,
}

/// Encoded records.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) frame: BytesMut,
    pub(super) records: u64,
    /// Of the records themselves, uncompressed.
    pub(super) bytes: u64,
    cost: usize,
}

/// Sends records from one place on.
pub(super) struct Feed {
    number: u32,
    credit: u64,
    state: State,
}

enum State {
    /// For records, or for credit.
    Waiting(Box<Source>),
    Reading(JoinHandle<(Box<Source>, Result<Batch, ReadError>)>),
    Over,
}

/// What goes to the blocking thread and back.
struct Source {
    journal: Journal,
    reader: Reader,
    batch: ReadBatch,
    number: u32,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    /// Batches that are not compressed before the next try.
    spared: u32,
}

impl Feed {
    pub(super) fn new(
        journal: &Journal,
        number: u32,
        from: Offset,
        credit: u64,
        zstd: bool,
    ) -> Feed {
        let compressor = zstd.then(|| zstd::bulk::Compressor::new(LEVEL).ok());
        let source = Source {
            reader: journal.reader(from),
            journal: journal.clone(),
            batch: ReadBatch::default(),
            number,
            compressor: compressor.flatten(),
            spared: 0,
        };
        Feed {
            number,
            credit,
            state: State::Waiting(Box::new(source)),
        }
    }

    /// The number of its frames.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn add_credit(&mut self, credit: u64) {
        self.credit = self.credit.saturating_add(credit);
    }

    /// Ready when there is something to send. Nothing is read while there is no
    /// credit, or no `room`; the caller asks again when there is.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>, room: bool) -> Poll<Event> {
        loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Over => return Poll::Pending,
                State::Waiting(mut source) => {
                    let ready = match room && 0 < self.credit {
                        true => source.reader.poll_ready(cx),
                        false => Poll::Pending,
                    };
                    match ready {
                        Poll::Ready(false) => return Poll::Ready(Event::End),
                        Poll::Ready(true) => {
                            let bytes_max = BATCH_BYTES_MAX.min(self.credit as usize);
                            let job = spawn_blocking(move || {
                                let read = source.read(bytes_max);
                                (source, read)
                            });
                            self.state = State::Reading(job);
                        }
                        Poll::Pending => {
                            self.state = State::Waiting(source);
                            return Poll::Pending;
                        }
                    }
                }
                State::Reading(mut job) => {
                    let Poll::Ready(joined) = Pin::new(&mut job).poll(cx) else {
                        self.state = State::Reading(job);
                        return Poll::Pending;
                    };
                    let Ok((source, read)) = joined else {
                        return Poll::Ready(Event::Broken);
                    };
                    match read {
                        Ok(batch) if batch.records == 0 => self.state = State::Waiting(source),
                        Ok(batch) => {
                            self.credit = self.credit.saturating_sub(batch.cost as u64);
                            self.state = State::Waiting(source);
                            return Poll::Ready(Event::Batch(batch));
                        }
                        Err(error) => return Poll::Ready(Event::Failed(error)),
                    }
                }
            }
        }
    }

    /// Ready when everything that is durable by now was sent, or nothing will be.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state {
            State::Over => Poll::Ready(()),
            State::Reading(_) => Poll::Pending,
            State::Waiting(source) => match source.reader.poll_ready(cx) {
                Poll::Ready(true) => Poll::Pending,
                Poll::Ready(false) | Poll::Pending => Poll::Ready(()),
            },
        }
    }
}

impl Source {
    fn read(&mut self, bytes_max: usize) -> Result<Batch, ReadError> {
        if 2 * BATCH_BYTES_MAX < self.batch.bytes() {
            // The memory of a long record is not kept.
            self.batch = ReadBatch::default();
        }
        let first = self.reader.position();
        self.reader.next_batch(&mut self.batch, bytes_max)?;
        let lengths: Vec<u32> = self
            .batch
            .iter()
            .map(|(_, record)| u32::try_from(record.len()).expect("below the longest record"))
            .collect();
        let last = self.batch.iter().last().map(|(offset, _)| offset);
        assert!(
            last.is_none_or(|last| last + 1 == first + lengths.len() as u64),
            "offsets of one partition are dense"
        );
        let (records, bytes) = (lengths.len(), self.batch.bytes());
        let compressed = self.compress();
        let mut frame = BytesMut::new();
        let body = Records {
            first,
            lengths,
            zstd: compressed.is_some(),
            records: match compressed {
                Some(compressed) => Bytes::from(compressed),
                None => Bytes::copy_from_slice(self.batch.as_bytes()),
            },
            durable_next: super::durable_next(&self.journal),
        };
        frame::encode(&mut frame, self.number, Kind::Records(body));
        Ok(Batch {
            frame,
            records: records as u64,
            bytes: bytes as u64,
            cost: bytes + records * RECORD_OVERHEAD_BYTES,
        })
    }

    /// The batch's records compressed, where that is worth it.
    fn compress(&mut self) -> Option<Vec<u8>> {
        let compressor = self.compressor.as_mut()?;
        let plain = self.batch.as_bytes();
        if plain.len() < COMPRESSED_BYTES_MIN {
            return None;
        }
        if 0 < self.spared {
            self.spared -= 1;
            return None;
        }
        // An error can only mean that there is no memory for it: without, then.
        let compressed = compressor.compress(plain).ok()?;
        // A tenth less pays for the reader's work.
        if compressed.len() < plain.len() - plain.len() / 10 {
            return Some(compressed);
        }
        self.spared = UNCOMPRESSED_BATCHES;
        None
    }
}

/// A blocking job that finds a place; see [`Journal::find`].
pub(super) struct Search {
    pub(super) number: u32,
    job: JoinHandle<Result<Offset, ReadError>>,
}

impl Search {
    pub(super) fn start(journal: &Journal, number: u32, hlc: u64) -> Search {
        let journal = journal.clone();
        Search {
            number,
            job: spawn_blocking(move || journal.find(hlc)),
        }
    }

    /// Ready with what was found; None where the search panicked, a bug.
    pub(super) fn poll_found(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Offset, ReadError>>> {
        let joined = ready!(Pin::new(&mut self.job).poll(cx));
        Poll::Ready(joined.ok())
    }
}
