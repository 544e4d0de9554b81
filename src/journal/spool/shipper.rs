//! The thread that copies the files to the topic, in order, and watches whether
//! Kafka keeps up where it comes first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::super::appender::{self, Appender};
use super::super::kafka::OnFailure;
use super::super::local::LocalReader;
use super::super::{AppendError, Completion, Offset, ReadBatch, ReadError, Ticket};
use super::{First, Shared};
use crate::mutation::RecordBatch;
use crate::mutation::clock;

/// Bytes of records that are given to Kafka at once.
const BATCH_BYTES: usize = 256 << 10;

/// So many such batches may wait for acknowledgements.
const IN_FLIGHT_MAX: usize = 32;

/// How often the shipper looks around when nobody wakes it.
const IDLE_INTERVAL: Duration = Duration::from_millis(250);

/// How often acknowledgements are looked at that are late.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// Kafka keeps up while it acknowledges a batch in this time.
const KEEPING_UP: Duration = Duration::from_millis(100);

/// How often the way back is looked at.
const RETURN_INTERVAL: Duration = Duration::from_millis(1);

/// How long it waits after Kafka refused, doubled each time up to the second.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

pub(super) struct Shipper {
    shared: Arc<Shared>,
    appender: Appender,
    reader: LocalReader,
    read: ReadBatch,
    in_flight: VecDeque<InFlight>,
    completions: Vec<Completion>,
    /// Why a batch failed: all are waited for, and then shipped again.
    failed: Option<AppendError>,
    /// The failures in a row, and until when nothing is tried.
    failures: u32,
    pause_until: Option<Instant>,
    last_reason: String,
}

/// A batch of records that waits for its acknowledgement.
struct InFlight {
    ticket: Ticket,
    /// One past its last offset.
    end: Offset,
    records: u64,
    bytes: u64,
    /// When its first record was made.
    made_ms: u64,
    /// When it was given to Kafka.
    since: Instant,
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Shared {
    pub(super) fn wake_shipper(&self) {
        self.kafka.shared().notify();
        if let Some(thread) = self.shipper_thread.get() {
            thread.unpark();
        }
    }
}

impl Shipper {
    pub(super) fn new(shared: Arc<Shared>) -> Shipper {
        let inbox = shared.kafka.inbox(OnFailure::Stop);
        let from = shared.shipped.next();
        Shipper {
            appender: Appender::new(appender::Inbox::Kafka(inbox)),
            reader: shared.local.reader(from),
            shared,
            read: ReadBatch::default(),
            in_flight: VecDeque::new(),
            completions: Vec::new(),
            failed: None,
            failures: 0,
            pause_until: None,
            last_reason: String::new(),
        }
    }

    /// Ships until the journal ends.
    pub(super) fn run(mut self) {
        let _ = self.shared.shipper_thread.set(thread::current());
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        while !self.shared.ended.load(Ordering::SeqCst) {
            let has_told = self.take_completions(&mut context);
            self.begin_again();
            if self.is_direct() {
                self.watch();
                continue;
            }
            let has_sent = self.send();
            self.note_oldest();
            if self.shared.try_return(self.given()) {
                continue;
            }
            if has_told || has_sent {
                continue;
            }
            // Registers for what becomes durable in the files.
            let is_more = self.reader.poll_ready(&mut context) == Poll::Ready(true);
            if !(is_more && self.can_send()) {
                thread::park_timeout(self.pause());
            }
        }
        self.shared.shipped.write();
    }

    /// How long there is nothing to do unless somebody wakes this thread.
    fn pause(&self) -> Duration {
        let pause = self.pause_until.map_or(IDLE_INTERVAL, |until| {
            until.saturating_duration_since(Instant::now())
        });
        // Clients wait during the way back.
        let longest = match self.shared.is_returning() {
            true => RETURN_INTERVAL,
            false => IDLE_INTERVAL,
        };
        pause.clamp(RETURN_INTERVAL, longest)
    }

    /// Up to where Kafka was given the records, if it keeps up with them.
    fn given(&self) -> Option<Offset> {
        let oldest = self.in_flight.front().map(|batch| batch.since.elapsed());
        let keeps_up = oldest.is_none_or(|age| age < KEEPING_UP);
        (keeps_up && self.failed.is_none()).then(|| self.reader.position())
    }

    fn is_direct(&self) -> bool {
        self.shared.options.first == First::Kafka && !self.shared.route().spooling
    }

    /// Looks whether Kafka acknowledges in time.
    fn watch(&mut self) {
        if self.in_flight.is_empty() {
            self.shared.shipped.write();
        }
        if let Some(reason) = self.shared.has_to_divert() {
            let mut route = self.shared.route();
            self.shared.divert(&mut route, &reason);
            return;
        }
        thread::park_timeout(WATCH_INTERVAL);
    }

    /// Whether there were acknowledgements, or failures.
    fn take_completions(&mut self, context: &mut Context<'_>) -> bool {
        let mut completions = std::mem::take(&mut self.completions);
        let polled = self.appender.poll_completions(context, &mut completions);
        let any = polled.is_ready();
        for completion in completions.drain(..) {
            let Some(batch) = self.in_flight.pop_front() else {
                debug_assert!(false, "more completions than batches");
                continue;
            };
            debug_assert_eq!(batch.ticket, completion.ticket);
            self.appender.recycle(completion.recycled);
            match completion.result {
                // Behind one that failed nothing counts: it is shipped again.
                Ok(_) if self.failed.is_none() => self.shipped(&batch),
                Ok(_) => {}
                Err(error) => {
                    self.failed.get_or_insert(error);
                }
            }
        }
        self.completions = completions;
        any
    }

    fn shipped(&mut self, batch: &InFlight) {
        let shared = &self.shared;
        shared
            .shipped_records
            .fetch_add(batch.records, Ordering::Relaxed);
        shared
            .shipped_bytes
            .fetch_add(batch.bytes, Ordering::Relaxed);
        shared.shipped.advance(batch.end);
        if 0 < self.failures {
            self.failures = 0;
            self.last_reason.clear();
            tracing::info!("shipping the spool to Kafka again");
        }
    }

    /// After a failure: when all that was sent has completed, goes back to the
    /// first record that is not shipped, and waits a little.
    fn begin_again(&mut self) {
        if self.failed.is_none() || !self.in_flight.is_empty() {
            return;
        }
        let Some(error) = self.failed.take() else {
            return;
        };
        let reason = error.to_string();
        if self.last_reason != reason {
            tracing::warn!(reason, "shipping the spool to Kafka failed; trying again");
            self.last_reason = reason;
        }
        self.appender.resume();
        self.reader = self.shared.local.reader(self.shared.shipped.next());
        let pause = RETRY_MIN * 2_u32.saturating_pow(self.failures.min(10));
        self.failures += 1;
        self.pause_until = Some(Instant::now() + pause.min(RETRY_MAX));
    }

    fn can_send(&self) -> bool {
        self.failed.is_none()
            && self.pause_until.is_none_or(|until| until <= Instant::now())
            && self.in_flight.len() < IN_FLIGHT_MAX
            && self.appender.has_room()
    }

    /// Gives the next records to Kafka; whether there were any.
    fn send(&mut self) -> bool {
        let mut any = false;
        while self.can_send() {
            self.pause_until = None;
            match self.reader.next_batch(&mut self.read, BATCH_BYTES) {
                Ok(()) if self.read.is_empty() => break,
                Ok(()) => {
                    self.submit();
                    any = true;
                }
                Err(error) => {
                    self.cannot_read(&error);
                    break;
                }
            }
        }
        any
    }

    fn submit(&mut self) {
        let mut batch = self.appender.take_recycled();
        for (offset, record) in self.read.iter() {
            if let Err(error) = batch.push_encoded(record) {
                // The frame's checksum was right, so it was written like this.
                tracing::error!(offset, %error, "a record in the spool is not one; left out");
            }
        }
        let in_flight = InFlight {
            ticket: 0,
            end: self.reader.position(),
            records: batch.entries.len() as u64,
            bytes: batch.bytes.len() as u64,
            made_ms: made_ms(&batch),
            since: Instant::now(),
        };
        let ticket = self.appender.submit(batch);
        self.in_flight.push_back(InFlight {
            ticket,
            ..in_flight
        });
        self.read.clear();
    }

    fn cannot_read(&mut self, error: &ReadError) {
        if let ReadError::Removed { first } = error {
            let lost = first.saturating_sub(self.reader.position());
            tracing::error!(
                records = lost,
                "records were removed from the spool before they were shipped"
            );
            self.reader = self.shared.local.reader(*first);
            return;
        }
        let reason = error.to_string();
        if self.last_reason != reason {
            tracing::error!(
                reason,
                "the spool can't be read; what is in it is not shipped"
            );
            self.last_reason = reason;
        }
        self.pause_until = Some(Instant::now() + RETRY_MAX);
    }

    fn note_oldest(&self) {
        let oldest = self.in_flight.front().map_or(0, |batch| batch.made_ms);
        if oldest != 0 || self.shared.unshipped() == 0 {
            self.shared.oldest_ms.store(oldest, Ordering::Relaxed);
        }
    }
}

fn made_ms(batch: &RecordBatch) -> u64 {
    let first = batch.entries.first();
    first.map_or(0, |entry| clock::milliseconds(entry.hlc))
}
