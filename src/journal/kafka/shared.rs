//! What appenders, the poll thread and readers share: the hand-overs that are
//! under way, and what was acknowledged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord};
use slab::Slab;

use super::super::appender::Staged;
use super::super::statistics::Counters;
use super::super::{AppendError, JournalState, JournalStats, Offset, RECORD_BYTES_MAX};
use super::KafkaOptions;
use super::context::Reports;
use super::topic::Topic;
use crate::mutation::RecordKind;

/// Where a message was stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivered {
    pub(super) partition: u32,
    pub(super) offset: Offset,
}

/// The state of an open journal.
pub(super) struct Shared {
    state: Mutex<State>,
    /// A hand-over has completed.
    completed: Condvar,
    counters: Counters,
    waiting_bytes: AtomicUsize,
    bytes_max: usize,
    /// The poll thread is to end.
    pub(super) ended: AtomicBool,
    topic: String,
    message_bytes_max: usize,
    headers: Vec<(String, String)>,
    producer: Mutex<Option<Arc<BaseProducer<Reports>>>>,
}

#[derive(Default)]
struct State {
    hand_overs: Slab<HandOver>,
    /// The hand-overs of each appender that have not been told, in order.
    queues: Vec<VecDeque<usize>>,
    /// One past the last acknowledged offset, by partition.
    durable_next: Vec<Offset>,
    unavailable: Option<String>,
    closed: bool,
    watchers: Vec<Waker>,
}

struct HandOver {
    staged: Staged,
    queue: usize,
    /// Records without a report.
    remaining: usize,
    stored: usize,
    /// Where its first record is.
    first: Offset,
    error: Option<AppendError>,
    since: Instant,
}

/// A record as librdkafka is given it to name in its report.
fn pack(slot: usize, entry: usize) -> usize {
    slot << 32 | entry
}

fn unpack(opaque: usize) -> (usize, usize) {
    (opaque >> 32, opaque & u32::MAX as usize)
}

impl Shared {
    pub(super) fn new(options: &KafkaOptions, topic: &Topic) -> Shared {
        Shared {
            state: Mutex::new(State {
                durable_next: topic.ends.clone(),
                ..State::default()
            }),
            completed: Condvar::new(),
            counters: Counters::default(),
            waiting_bytes: AtomicUsize::new(0),
            bytes_max: options.inbox_bytes_max,
            ended: AtomicBool::new(false),
            topic: options.topic.clone(),
            message_bytes_max: topic.message_bytes_max.min(RECORD_BYTES_MAX),
            headers: options.headers.clone(),
            producer: Mutex::new(None),
        }
    }

    pub(super) fn set_producer(&self, producer: Arc<BaseProducer<Reports>>) {
        *lock(&self.producer) = Some(producer);
    }

    pub(super) fn take_producer(&self) -> Option<Arc<BaseProducer<Reports>>> {
        lock(&self.producer).take()
    }

    pub(super) fn producer(&self) -> Option<Arc<BaseProducer<Reports>>> {
        lock(&self.producer).clone()
    }

    /// One more appender.
    pub(super) fn add_queue(&self) -> usize {
        let mut state = self.state();
        state.queues.push(VecDeque::new());
        state.queues.len() - 1
    }

    fn stage(&self, queue: usize, staged: Staged) -> Result<(), (Staged, AppendError)> {
        let waiting = self.waiting_bytes();
        if self.bytes_max <= waiting {
            let reason = format!("journal backlog of {waiting} bytes waits for Kafka");
            return Err((staged, AppendError::NotAppended(reason)));
        }
        let longest = staged.records.records().map(|(_, record)| record.len());
        if let Some(length) = longest
            .max()
            .filter(|length| self.message_bytes_max < *length)
        {
            let reason = format!(
                "record of {length} bytes is longer than the topic's max.message.bytes, {}",
                self.message_bytes_max
            );
            return Err((staged, AppendError::NotAppended(reason)));
        }
        let Some(producer) = self.producer().filter(|_| !self.state().closed) else {
            let reason = "journal is closed".to_owned();
            return Err((staged, AppendError::NotAppended(reason)));
        };
        let records = staged.records.entries.len();
        self.waiting_bytes
            .fetch_add(staged.records.bytes.len(), Ordering::Relaxed);
        // The batch is lent to this function while the table has the rest: a
        // report may come before the last record is sent.
        let mut staged = staged;
        let batch = std::mem::take(&mut staged.records);
        let slot = {
            let mut state = self.state();
            let slot = state.hand_overs.insert(HandOver {
                staged,
                queue,
                // One more, until the batch is back.
                remaining: records + 1,
                stored: 0,
                first: 0,
                error: None,
                since: Instant::now(),
            });
            state.queues[queue].push_back(slot);
            slot
        };
        let mut refused = None;
        let mut sent = 0;
        for (entry, bytes) in batch.records() {
            let mut record: BaseRecord<'_, [u8], [u8], usize> =
                BaseRecord::with_opaque_to(&self.topic, pack(slot, sent))
                    .payload(bytes)
                    .headers(self.headers(entry.kind));
            if entry.key.0 < entry.key.1 {
                record = record.key(&batch.bytes[entry.key.0..entry.key.1]);
            }
            if let Err((error, _)) = producer.send(record) {
                refused = Some(AppendError::Skipped(error.to_string()));
                break;
            }
            sent += 1;
        }
        let mut state = self.state();
        let hand_over = &mut state.hand_overs[slot];
        hand_over.staged.records = batch;
        hand_over.remaining -= 1 + (records - sent);
        if let Some(error) = refused {
            hand_over.fail(error);
        }
        self.tell(state, queue);
        Ok(())
    }

    fn headers(&self, kind: RecordKind) -> OwnedHeaders {
        let mut headers = OwnedHeaders::new_with_capacity(self.headers.len() + 1);
        for (key, value) in &self.headers {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        let kind = match kind {
            RecordKind::Mutation => "mutation",
            RecordKind::Outcome => "outcome",
            RecordKind::Snapshot => "snapshot",
            RecordKind::Heartbeat => "heartbeat",
        };
        headers.insert(Header {
            key: "kind",
            value: Some(kind),
        })
    }

    /// A report on one record.
    pub(super) fn delivered(&self, opaque: usize, result: Result<Delivered, AppendError>) {
        let (slot, entry) = unpack(opaque);
        let mut state = self.state();
        let queue = state.hand_overs[slot].queue;
        match result {
            Ok(delivered) => {
                let next = &mut state.durable_next[delivered.partition as usize];
                *next = (*next).max(delivered.offset + 1);
                state.unavailable = None;
                let hand_over = &mut state.hand_overs[slot];
                hand_over.stored += 1;
                if entry == 0 {
                    hand_over.first = delivered.offset;
                }
            }
            Err(error) => {
                if state.unavailable.is_none() {
                    state.unavailable = Some(error.to_string());
                }
                state.hand_overs[slot].fail(error);
            }
        }
        state.hand_overs[slot].remaining -= 1;
        if state.hand_overs[slot].remaining == 0 {
            self.tell(state, queue);
        }
    }

    /// Tells an appender of its hand-overs that are done, in order.
    fn tell(&self, mut state: MutexGuard<'_, State>, queue: usize) {
        let mut outbox = None;
        while let Some(&slot) = state.queues[queue].front() {
            if state.hand_overs[slot].remaining != 0 {
                break;
            }
            state.queues[queue].pop_front();
            let mut done = state.hand_overs.remove(slot);
            let records = done.staged.records.entries.len() as u64;
            let bytes = done.staged.records.bytes.len();
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            let result = done.result();
            match &result {
                Ok(_) => {
                    let micros = done.since.elapsed().as_micros() as u64;
                    self.counters.committed(records, bytes as u64, micros);
                }
                Err(_) => {
                    let failed = &self.counters.failed_records;
                    failed.fetch_add(records - done.stored as u64, Ordering::Relaxed);
                }
            }
            let completion = done.staged.complete(result);
            done.staged.outbox.push(completion);
            outbox = Some(done.staged.outbox);
        }
        let Some(outbox) = outbox else {
            return;
        };
        let watchers = std::mem::take(&mut state.watchers);
        drop(state);
        self.completed.notify_all();
        outbox.wake();
        for watcher in watchers {
            watcher.wake();
        }
    }

    /// Blocks until all that was handed over before has been told.
    pub(super) fn flush(&self) {
        let mut state = self.state();
        while !state.hand_overs.is_empty() {
            let woken = self.completed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes no more.
    pub(super) fn close(&self) {
        let watchers = {
            let mut state = self.state();
            state.closed = true;
            std::mem::take(&mut state.watchers)
        };
        for watcher in watchers {
            watcher.wake();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Wakes `waker` when something becomes durable, or the journal is closed.
    pub(super) fn watch(&self, waker: &Waker) {
        self.state().watchers.push(waker.clone());
    }

    pub(super) fn set_unavailable(&self, reason: &str) {
        self.state().unavailable = Some(reason.to_owned());
    }

    pub(super) fn journal_state(&self) -> JournalState {
        match &self.state().unavailable {
            None => JournalState::Accepting,
            Some(reason) => JournalState::Unavailable(reason.clone()),
        }
    }

    pub(super) fn durable_next(&self, partition: u32) -> Offset {
        let state = self.state();
        state
            .durable_next
            .get(partition as usize)
            .copied()
            .unwrap_or(0)
    }

    pub(super) fn stats(&self) -> JournalStats {
        JournalStats {
            waiting_bytes: self.waiting_bytes() as u64,
            ..self.counters.snapshot()
        }
    }

    fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HandOver {
    /// That a record may be in the log weighs more than that one is not.
    fn fail(&mut self, error: AppendError) {
        let is_worse = matches!(error, AppendError::Unknown(_));
        if self.error.is_none() || is_worse {
            self.error = Some(error);
        }
    }

    fn result(&mut self) -> Result<Offset, AppendError> {
        match self.error.take() {
            None => Ok(self.first),
            // Those of the others that are stored can't be told apart.
            Some(error) if self.stored != 0 => Err(AppendError::Unknown(error.to_string())),
            Some(error) => Err(error),
        }
    }
}

/// One appender's way in.
pub(in super::super) struct Inbox {
    shared: Arc<Shared>,
    queue: usize,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("queue", &self.queue).finish()
    }
}

impl Inbox {
    pub(super) fn new(shared: &Arc<Shared>, queue: usize) -> Inbox {
        Inbox {
            shared: Arc::clone(shared),
            queue,
        }
    }

    /// Takes a hand-over, or gives it back with the reason.
    pub(in super::super) fn stage(&self, staged: Staged) -> Result<(), (Staged, AppendError)> {
        self.shared.stage(self.queue, staged)
    }

    pub(in super::super) fn has_room(&self) -> bool {
        self.shared.waiting_bytes() < self.shared.bytes_max
    }
}
