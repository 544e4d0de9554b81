//! What appenders, the journal's thread and readers share: the hand-overs that
//! are under way, and what was acknowledged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use rdkafka::producer::{Producer as _, PurgeConfig};
use slab::Slab;

use super::super::appender::Staged;
use super::super::statistics::Counters;
use super::super::{AppendError, JournalState, JournalStats, Offset, RECORD_BYTES_MAX, Verdict};
use super::KafkaOptions;
use super::hand_over::{HandOver, unpack};
use super::link::Link;

/// How long a record waits that could go elsewhere while no broker is there.
const PATIENCE_WITHOUT_BROKERS: Duration = Duration::from_millis(50);

/// Names an appender's queue.
pub(in super::super) type QueueNumber = usize;

/// Where a message was stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivered {
    pub(super) partition: u32,
    pub(super) offset: Offset,
}

/// The state of an open journal.
pub(in super::super) struct Shared {
    state: Mutex<State>,
    /// Something has completed, or waits to be diverted.
    changed: Condvar,
    counters: Counters,
    waiting_bytes: AtomicUsize,
    bytes_max: usize,
    /// The journal's thread is to end.
    pub(super) ended: AtomicBool,
    /// The producer can't go on.
    pub(super) broken: AtomicBool,
    topic: String,
    headers: Vec<(String, String)>,
    link: Mutex<Option<Arc<Link>>>,
}

#[derive(Default)]
struct State {
    hand_overs: Slab<HandOver>,
    queues: Vec<Queue>,
    /// One past the last acknowledged offset, by partition.
    durable_next: Vec<Offset>,
    unavailable: Option<String>,
    /// Nothing more is taken.
    closed: bool,
    /// Nothing more becomes durable.
    over: bool,
    watchers: Vec<Waker>,
}

/// The hand-overs of an appender that have not been told, in order.
struct Queue {
    slots: VecDeque<usize>,
    on_failure: OnFailure,
    /// Whether one has failed, and nothing may follow it.
    stopped: bool,
}

/// What follows when a hand-over of an appender fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum OnFailure {
    /// It is told.
    Tell,
    /// It is told, and nothing more is taken until the appender resumes: what
    /// follows must not get into the log before it.
    Stop,
    /// Nothing more is taken, and it waits to be taken elsewhere itself, by
    /// [`Shared::take_pending`].
    Divert,
}

impl Shared {
    pub(super) fn new(options: &KafkaOptions) -> Shared {
        Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            counters: Counters::default(),
            waiting_bytes: AtomicUsize::new(0),
            bytes_max: options.inbox_bytes_max,
            ended: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            topic: options.topic.clone(),
            headers: options.headers.clone(),
            link: Mutex::new(None),
        }
    }

    pub(super) fn link(&self) -> Option<Arc<Link>> {
        lock(&self.link).clone()
    }

    /// Returns the one before.
    pub(super) fn set_link(&self, link: Option<Arc<Link>>) -> Option<Arc<Link>> {
        std::mem::replace(&mut *lock(&self.link), link)
    }

    /// The topic is there, and ends so.
    pub(super) fn found(&self, ends: &[Offset]) {
        let mut state = self.state();
        state.durable_next = ends.to_vec();
        state.unavailable = None;
    }

    /// One more appender.
    pub(super) fn add_queue(&self, on_failure: OnFailure) -> usize {
        let mut state = self.state();
        state.queues.push(Queue {
            slots: VecDeque::new(),
            on_failure,
            stopped: false,
        });
        state.queues.len() - 1
    }

    /// Why records of a hand-over would never be taken.
    pub(in super::super) fn too_long(&self, staged: &Staged) -> Option<AppendError> {
        let longest = staged.records.records().map(|(_, record)| record.len());
        let longest = longest.max().unwrap_or(0);
        let max = self.link().map_or(RECORD_BYTES_MAX, |link| {
            link.message_bytes_max.min(RECORD_BYTES_MAX)
        });
        (max < longest).then(|| {
            AppendError::NotAppended(format!(
                "record of {longest} bytes is longer than the topic's max.message.bytes, {max}"
            ))
        })
    }

    /// Takes a hand-over, or gives it back with the reason.
    pub(in super::super) fn stage(
        &self,
        queue: QueueNumber,
        mut staged: Staged,
    ) -> Result<(), (Staged, AppendError)> {
        let waiting = self.waiting_bytes();
        if self.bytes_max <= waiting {
            let reason = format!("journal backlog of {waiting} bytes waits for Kafka");
            return Err((staged, AppendError::NotAppended(reason)));
        }
        if let Some(error) = self.too_long(&staged) {
            return Err((staged, error));
        }
        let link = match self.link() {
            Some(link) if !self.state().closed => link,
            _ => {
                let reason = self.absence();
                return Err((staged, AppendError::NotAppended(reason)));
            }
        };
        let bytes = staged.records.bytes.len();
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        // The batch is lent to this function while the table has the rest: a
        // report may come before the last record is sent.
        let batch = std::mem::take(&mut staged.records);
        let messages = link.messages_of(&batch);
        let slot = {
            let mut state = self.state();
            if state.queues[queue].stopped {
                drop(state);
                self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                let reason = "an earlier record failed".to_owned();
                let staged = Staged {
                    records: batch,
                    ..staged
                };
                return Err((staged, AppendError::NotAppended(reason)));
            }
            let slot = state.hand_overs.insert(HandOver {
                staged: Some(staged),
                queue,
                bytes,
                // One more, until the batch is back.
                remaining: messages + 1,
                first: 0,
                error: None,
                verdicts: Vec::new(),
                since: Instant::now(),
            });
            state.queues[queue].slots.push_back(slot);
            slot
        };
        let sent = link.send(&self.topic, &self.headers, slot, &batch);
        let mut state = self.state();
        let hand_over = &mut state.hand_overs[slot];
        hand_over.remaining -= 1 + (messages - sent.messages);
        let records = batch.entries.len();
        if let Some(staged) = &mut hand_over.staged {
            staged.records = batch;
        }
        hand_over.note_unsent(sent, records);
        if hand_over.error.is_some() {
            state.stop_behind(queue);
        }
        self.tell(state, slot);
        Ok(())
    }

    /// Why there is no link.
    fn absence(&self) -> String {
        let state = self.state();
        match &state.unavailable {
            _ if state.closed => "journal is closed".to_owned(),
            Some(reason) => reason.clone(),
            None => "Kafka has not been reached yet".to_owned(),
        }
    }

    /// A report on one message.
    pub(super) fn delivered(&self, opaque: usize, result: Result<Delivered, AppendError>) {
        let (slot, entry) = unpack(opaque);
        let mut state = self.state();
        match result {
            Ok(delivered) => {
                if let Some(next) = state.durable_next.get_mut(delivered.partition as usize) {
                    *next = (*next).max(delivered.offset + 1);
                }
                state.unavailable = None;
                if entry == 0 {
                    state.hand_overs[slot].first = delivered.offset;
                }
            }
            Err(error) => {
                if state.unavailable.is_none() {
                    state.unavailable = Some(error.to_string());
                }
                state.hand_overs[slot].fail(entry, error);
                let queue = state.hand_overs[slot].queue;
                state.stop_behind(queue);
            }
        }
        state.hand_overs[slot].remaining -= 1;
        if state.hand_overs[slot].remaining == 0 {
            self.tell(state, slot);
        }
    }

    /// Tells an appender of its hand-overs that are done, in order.
    fn tell(&self, mut state: MutexGuard<'_, State>, slot: usize) {
        let hand_over = &state.hand_overs[slot];
        if hand_over.remaining == 0 && hand_over.staged.is_none() {
            // It was taken elsewhere.
            self.waiting_bytes
                .fetch_sub(hand_over.bytes, Ordering::Relaxed);
            state.hand_overs.remove(slot);
            self.changed.notify_all();
            return;
        }
        let queue = hand_over.queue;
        let mut outbox = None;
        while let Some(&slot) = state.queues[queue].slots.front() {
            let hand_over = &state.hand_overs[slot];
            let diverts =
                state.queues[queue].on_failure == OnFailure::Divert && hand_over.error.is_some();
            if hand_over.remaining != 0 || diverts {
                break;
            }
            state.queues[queue].slots.pop_front();
            let done = state.hand_overs.remove(slot);
            outbox = self.complete(done).or(outbox);
        }
        let watchers = std::mem::take(&mut state.watchers);
        drop(state);
        self.changed.notify_all();
        if let Some(outbox) = outbox {
            outbox.wake();
        }
        for watcher in watchers {
            watcher.wake();
        }
    }

    fn complete(&self, mut done: HandOver) -> Option<Arc<super::super::appender::Outbox>> {
        self.waiting_bytes.fetch_sub(done.bytes, Ordering::Relaxed);
        let mut staged = done.staged.take()?;
        let records = staged.records.entries.len() as u64;
        let result = done.result(staged.records.entries.len());
        match &result {
            Ok(_) => {
                let micros = done.since.elapsed().as_micros() as u64;
                self.counters.committed(records, done.bytes as u64, micros);
            }
            Err(_) => {
                let stored = done.verdicts.iter().filter(|v| **v == Verdict::Stored);
                let failed = records - stored.count() as u64;
                self.counters
                    .failed_records
                    .fetch_add(failed, Ordering::Relaxed);
            }
        }
        let mut completion = staged.complete(result);
        completion.verdicts = done.verdicts;
        staged.outbox.push(completion);
        Some(staged.outbox)
    }

    /// Takes all hand-overs of diverting appenders that were not told, each
    /// appender's in order. Their messages stay on their way.
    pub(in super::super) fn take_pending(&self) -> Vec<Staged> {
        let mut state = self.state();
        let state = &mut *state;
        let mut taken = Vec::new();
        for queue in state.queues.iter_mut().filter(|queue| queue.diverts()) {
            queue.stopped = true;
            for slot in std::mem::take(&mut queue.slots) {
                let hand_over = &mut state.hand_overs[slot];
                taken.extend(hand_over.staged.take());
                if hand_over.remaining == 0 {
                    self.waiting_bytes
                        .fetch_sub(hand_over.bytes, Ordering::Relaxed);
                    state.hand_overs.remove(slot);
                }
            }
        }
        taken
    }

    /// Whether a diverting appender's hand-over has failed, or has waited for
    /// longer than `patience`.
    pub(in super::super) fn has_to_divert(&self, patience: Duration) -> bool {
        let state = self.state();
        let patience = match state.unavailable {
            // There is nobody to be waited for.
            Some(_) => patience.min(PATIENCE_WITHOUT_BROKERS),
            None => patience,
        };
        let mut queues = state.queues.iter().filter(|queue| queue.diverts());
        queues.any(|queue| {
            let oldest = queue.slots.front().map(|slot| &state.hand_overs[*slot]);
            let is_late = |oldest: &HandOver| patience <= oldest.since.elapsed();
            queue.stopped || oldest.is_some_and(is_late)
        })
    }

    /// Takes hand-overs of diverting appenders again.
    pub(in super::super) fn resume_diverting(&self) {
        let mut state = self.state();
        for queue in state.queues.iter_mut().filter(|queue| queue.diverts()) {
            debug_assert!(queue.slots.is_empty());
            queue.stopped = false;
        }
    }

    /// Blocks until no diverting appender's hand-over waits here.
    pub(in super::super) fn wait_until_none_is_pending(&self) {
        let mut state = self.state();
        let is_pending = |queue: &Queue| queue.diverts() && !queue.slots.is_empty();
        while state.queues.iter().any(is_pending) {
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes whoever waits for hand-overs that were taken elsewhere.
    pub(in super::super) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Blocks until all that was handed over before has been told; whether it
    /// was within `patience`.
    pub(super) fn flush(&self, patience: Option<Duration>) -> bool {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut state = self.state();
        while !state.hand_overs.is_empty() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                None => {
                    let woken = self.changed.wait(state);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
                Some(Duration::ZERO) => return false,
                Some(left) => {
                    let woken = self.changed.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    /// Has librdkafka report all that is on its way as failed.
    pub(super) fn give_up(&self) {
        if let Some(link) = self.link() {
            self.give_up_on(&link);
        }
    }

    pub(super) fn give_up_on(&self, link: &Link) {
        let all = PurgeConfig::default().queue().inflight();
        link.producer.purge(all);
    }

    /// Whether nothing is on its way.
    pub(in super::super) fn is_settled(&self) -> bool {
        let state = self.state();
        let mut all = state.hand_overs.iter();
        all.all(|(_, hand_over)| hand_over.remaining == 0)
    }

    /// Takes no more. What is on its way may still become durable.
    pub(super) fn close(&self) {
        self.state().closed = true;
    }

    /// Nothing is on its way any more either: readers come to their end.
    pub(super) fn end(&self) {
        let watchers = {
            let mut state = self.state();
            state.over = true;
            std::mem::take(&mut state.watchers)
        };
        for watcher in watchers {
            watcher.wake();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.state().over
    }

    /// Wakes `waker` when something becomes durable, or nothing will any more.
    pub(super) fn watch(&self, waker: &Waker) {
        self.state().watchers.push(waker.clone());
    }

    /// Whether that is news.
    pub(super) fn set_unavailable(&self, reason: &str) -> bool {
        let mut state = self.state();
        let is_news = state.unavailable.as_deref() != Some(reason);
        state.unavailable = Some(reason.to_owned());
        is_news
    }

    pub(super) fn journal_state(&self) -> JournalState {
        match &self.state().unavailable {
            None => JournalState::Accepting,
            Some(reason) => JournalState::Unavailable(reason.clone()),
        }
    }

    pub(super) fn durable_next(&self, partition: u32) -> Offset {
        let state = self.state();
        let next = state.durable_next.get(partition as usize);
        next.copied().unwrap_or(0)
    }

    pub(super) fn stats(&self) -> JournalStats {
        JournalStats {
            waiting_bytes: self.waiting_bytes() as u64,
            ..self.counters.snapshot()
        }
    }

    /// Takes hand-overs of a queue again after one failed.
    pub(super) fn resume(&self, queue: QueueNumber) {
        self.state().queues[queue].stopped = false;
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting_bytes() < self.bytes_max
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

impl State {
    /// A record of the queue has failed. In a spool, none may get into the log
    /// before it that was made later: whichever way it goes.
    fn stop_behind(&mut self, queue: QueueNumber) {
        if self.queues[queue].on_failure != OnFailure::Tell {
            for queue in &mut self.queues {
                queue.stopped |= queue.on_failure != OnFailure::Tell;
            }
        }
    }
}

impl Queue {
    fn diverts(&self) -> bool {
        self.on_failure == OnFailure::Divert
    }
}
