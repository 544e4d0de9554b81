//! The queue of one worker: what is recorded, durable, forwarded, settled.
//!
//! A hand-over that the journal did not take leaves no hole in the sequences:
//! the journal then takes nothing more from this worker until
//! [`Appender::resume`], and the writer goes back to the first sequence that
//! was lost. Batches that hold lost sequences (forwarded without waiting) are
//! of an earlier generation and settle nothing.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::super::answers;
use super::super::metrics::Metrics;
use super::Below;
use super::record::{Journaled, Recorder, now_ms};
use crate::journal::{AppendError, Appender, Completion, Ticket};
use crate::protocol::{Batch, Failure, Replies};

/// What a worker's connections and its pump share.
pub(super) struct State<S: Below> {
    pub(super) recorder: Recorder,
    pub(super) appender: Appender,
    pub(super) metrics: Rc<Metrics>,
    /// Slots in the order of their records.
    queue: VecDeque<usize>,
    slots: Slab<Entry<S>>,
    /// The ticket that what is staged now will have. Tickets are counted here;
    /// the appender's are behind by those that were never handed over.
    pub(super) next_ticket: Ticket,
    pub(super) skipped: u64,
    /// All hand-overs up to this one have a result.
    pub(super) completed: Ticket,
    /// Of those, the ones that failed and may still have batches in the queue.
    pub(super) failures: VecDeque<(Ticket, AppendError)>,
    /// Generations that have ended, in runs of the same first lost sequence:
    /// the last of the run, and the sequence. While the journal takes nothing,
    /// generations end all the time, and all at the same one.
    lost: Vec<(u32, u64)>,
    /// The last hand-over failed.
    pub(super) is_failing: bool,
    /// Outcomes to be told again, with their databases.
    pub(super) owed: Vec<(u32, crate::mutation::v1::Outcome)>,
    pub(super) generation: u32,
    pub(super) pump: Option<Waker>,
    pub(super) pump_woken: bool,
    pub(super) completions: Vec<Completion>,
    /// Batches that go on without their client.
    detached: usize,
    own: Weak<RefCell<State<S>>>,
    heartbeat_sequence: u64,
}

/// One batch in the queue, or forwarded from it.
pub(super) struct Entry<S: Below> {
    ticket: Ticket,
    journaled: Journaled,
    service: S,
    /// The connection's count of batches in the queue.
    queued: Rc<Cell<usize>>,
    pub(super) progress: Progress<S>,
    waker: Option<Waker>,
    /// Nobody waits for the answer any more.
    abandoned: bool,
}

/// How far a batch is.
pub(super) enum Progress<S: Below> {
    /// Waits for the journal.
    Queued(Batch),
    /// Waits for the datastore.
    Forwarded(S::Future),
    /// The datastore answered before the client asked again.
    Answered(Replies),
    /// The journal refused; what could be forwarded without it was.
    Refused(super::refuse::Refused<S>),
}

impl<S: Below> Entry<S> {
    pub(super) fn new(
        batch: Batch,
        journaled: Journaled,
        service: S,
        queued: Rc<Cell<usize>>,
    ) -> Entry<S> {
        Entry {
            ticket: 0,
            journaled,
            service,
            queued,
            progress: Progress::Queued(batch),
            waker: None,
            abandoned: false,
        }
    }
}

impl<S: Below> State<S> {
    pub(super) fn new(
        own: Weak<RefCell<State<S>>>,
        recorder: Recorder,
        appender: Appender,
        metrics: Rc<Metrics>,
    ) -> State<S> {
        State {
            recorder,
            appender,
            metrics,
            queue: VecDeque::new(),
            slots: Slab::new(),
            next_ticket: 1,
            skipped: 0,
            owed: Vec::new(),
            completed: 0,
            failures: VecDeque::new(),
            lost: Vec::new(),
            is_failing: false,
            generation: 0,
            pump: None,
            pump_woken: false,
            completions: Vec::new(),
            detached: 0,
            own,
            heartbeat_sequence: 0,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.slots.is_empty()
            && self.detached == 0
            && self.recorder.staging.is_empty()
            && self.completed + 1 == self.next_ticket
    }

    /// Stages the records of a batch's mutations.
    pub(super) fn record(&mut self, batch: &Batch) -> Journaled {
        let mut journaled = self.recorder.record(batch);
        journaled.generation = self.generation;
        // What the journal is not likely to take is not forwarded before it is
        // known: the policy says what happens to it then.
        journaled.waits |= self.is_failing && !journaled.is_empty();
        self.count(batch, &journaled);
        if !journaled.is_empty() {
            self.wake_pump();
        }
        journaled
    }

    /// Notes that this generation ends, with `first` as its first lost sequence
    /// if none was lost before; returns the first.
    pub(super) fn end_generation(&mut self, first: u64) -> u64 {
        match self.lost.last_mut() {
            Some((generation, lost)) if *generation == self.generation => return *lost,
            Some((generation, lost)) if *lost == first => *generation = self.generation,
            _ => self.lost.push((self.generation, first)),
        }
        first
    }

    /// The first sequence that was lost of a generation, if it has ended.
    pub(super) fn first_lost(&self, generation: u32) -> Option<u64> {
        let run = self.lost.partition_point(|(last, _)| *last < generation);
        self.lost.get(run).map(|(_, first)| *first)
    }

    fn count(&self, batch: &Batch, journaled: &Journaled) {
        let recorded = journaled.sequences.iter().filter(|s| **s != 0).count() as u64;
        self.metrics.journaled.add(recorded);
        self.metrics
            .unjournaled
            .add(u64::from(batch.mutations) - recorded);
    }

    pub(super) fn wake_pump(&mut self) {
        if !self.pump_woken {
            self.pump_woken = true;
            if let Some(waker) = &self.pump {
                waker.wake_by_ref();
            }
        }
    }

    pub(super) fn heartbeat(&mut self) {
        if self.recorder.writer.last_sequence() == self.heartbeat_sequence {
            self.recorder
                .writer
                .heartbeat(&mut self.recorder.staging, now_ms());
            self.wake_pump();
        }
        self.heartbeat_sequence = self.recorder.writer.last_sequence();
    }

    pub(super) fn enqueue(&mut self, mut entry: Entry<S>) -> usize {
        if entry.journaled.waits {
            entry.ticket = self.next_ticket;
        }
        let slot = self.slots.insert(entry);
        self.queue.push_back(slot);
        self.wake_pump();
        slot
    }

    /// Hands what is staged to the journal.
    pub(super) fn hand_over(&mut self) {
        if self.recorder.staging.is_empty() {
            return;
        }
        let empty = self.appender.take_recycled();
        let records = std::mem::replace(&mut self.recorder.staging, empty);
        let ticket = self.appender.submit(records);
        debug_assert_eq!(ticket + self.skipped, self.next_ticket);
        self.next_ticket += 1;
    }

    /// Forwards the head of the queue as far as the journal has a result.
    pub(super) fn release(&mut self) {
        while let Some(&slot) = self.queue.front() {
            if self.completed < self.slots[slot].ticket {
                break;
            }
            self.queue.pop_front();
            let entry = &mut self.slots[slot];
            entry.queued.set(entry.queued.get() - 1);
            let ticket = entry.ticket;
            while self
                .failures
                .front()
                .is_some_and(|(t, _)| 0 < ticket && *t < ticket)
            {
                self.failures.pop_front();
            }
            let failure = match self.failures.front() {
                Some((failed, error)) if *failed == ticket => Some(error.clone()),
                _ => None,
            };
            self.release_one(slot, failure);
        }
        if self.queue.is_empty() {
            self.failures.clear();
        }
    }

    fn release_one(&mut self, slot: usize, failure: Option<AppendError>) {
        let entry = &mut self.slots[slot];
        let Progress::Queued(batch) = &mut entry.progress else {
            panic!("only queued batches are in the queue");
        };
        let batch = std::mem::take(batch);
        entry.progress = match failure {
            None => Progress::Forwarded(entry.service.call(batch)),
            Some(error) => {
                let refusal = super::refuse::Refusal {
                    error: &error,
                    writer: self.recorder.writer.id(),
                    table: &self.recorder.table.load(),
                    policy: &self.recorder.policy.load(),
                    metrics: &self.metrics,
                };
                let journaled = std::mem::take(&mut entry.journaled);
                let refused = refusal.apply(batch, &journaled, &mut entry.service);
                Progress::Refused(refused)
            }
        };
        if self.slots[slot].abandoned {
            self.detach_entry(slot);
            return;
        }
        let entry = &mut self.slots[slot];
        let Some(waker) = entry.waker.take() else {
            return;
        };
        // Registers the client for the replies, so that it is woken only once.
        if let Progress::Forwarded(inner) = &mut entry.progress
            && Pin::new(&mut *inner)
                .poll(&mut Context::from_waker(&waker))
                .map(|Ok(replies)| entry.progress = Progress::Answered(replies))
                .is_pending()
        {
            return;
        }
        waker.wake();
    }

    /// The answer to a batch in the queue.
    pub(super) fn poll_entry(&mut self, slot: usize, cx: &mut Context<'_>) -> Poll<Replies> {
        let entry = &mut self.slots[slot];
        match &mut entry.progress {
            Progress::Queued(_) => {
                match &entry.waker {
                    Some(waker) if waker.will_wake(cx.waker()) => {}
                    _ => entry.waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Progress::Forwarded(inner) => {
                let Poll::Ready(Ok(replies)) = Pin::new(inner).poll(cx) else {
                    return Poll::Pending;
                };
                let entry = self.slots.remove(slot);
                Poll::Ready(self.settle(replies, &entry.journaled))
            }
            Progress::Answered(replies) => {
                let replies = std::mem::take(replies);
                let entry = self.slots.remove(slot);
                Poll::Ready(self.settle(replies, &entry.journaled))
            }
            Progress::Refused(refused) => {
                let Poll::Ready(replies) = refused.poll(cx) else {
                    return Poll::Pending;
                };
                self.slots.remove(slot);
                Poll::Ready(replies)
            }
        }
    }

    /// Answers a batch whose time is up; it goes on without its client.
    pub(super) fn expire_entry(&mut self, slot: usize, reason: &str) -> Replies {
        let shape = match &self.slots[slot].progress {
            Progress::Queued(batch) => shape_of(batch),
            Progress::Forwarded(inner) => super::Shape::shape(inner),
            Progress::Answered(replies) => shape_of(&replies.batch),
            Progress::Refused(refused) => refused.shape(),
        };
        let journaled = std::mem::take(&mut self.slots[slot].journaled);
        let replies = self.expired(shape, &journaled, reason);
        self.slots[slot].journaled = journaled;
        self.abandon_entry(slot);
        replies
    }

    /// Nobody waits for a batch any more; it goes on.
    pub(super) fn abandon_entry(&mut self, slot: usize) {
        self.slots[slot].abandoned = true;
        self.slots[slot].waker = None;
        if !matches!(self.slots[slot].progress, Progress::Queued(_)) {
            self.detach_entry(slot);
        }
    }

    /// What a client hears whose batch's time is up.
    pub(super) fn expired(&mut self, shape: Batch, journaled: &Journaled, reason: &str) -> Replies {
        let mut replies = Replies {
            batch: shape,
            ..Replies::default()
        };
        self.answer_uncertain(&mut replies, journaled, reason);
        replies.failure = Some(Failure::NoReply(Rc::from(reason)));
        replies
    }

    /// Answers what has no reply; recorded mutations are uncertain.
    pub(super) fn answer_uncertain(
        &mut self,
        replies: &mut Replies,
        journaled: &Journaled,
        reason: &str,
    ) {
        let writer = self.recorder.writer.id();
        let metrics = &self.metrics;
        let mut ordinals = super::settle::ordinals(&replies.batch);
        answers::answer_rest(replies, reason, |replies, index| {
            let ordinal = ordinals.get_mut(index).map_or(usize::MAX, |o| *o);
            let sequence = journaled.sequences.get(ordinal).copied().unwrap_or(0);
            metrics.uncertain.add(1);
            answers::uncertain(replies, writer, sequence, reason);
        });
    }

    fn detach_entry(&mut self, slot: usize) {
        let entry = self.slots.remove(slot);
        match entry.progress {
            Progress::Forwarded(inner) => self.detach(inner, entry.journaled),
            Progress::Answered(replies) => drop(self.settle(replies, &entry.journaled)),
            Progress::Queued(_) | Progress::Refused(_) => {}
        }
    }

    /// Waits for the replies in the client's place.
    pub(super) fn detach(&mut self, inner: S::Future, journaled: Journaled) {
        self.detached += 1;
        let state = self.own.upgrade().expect("called through its owner");
        tokio::task::spawn_local(async move {
            let Ok(replies) = inner.await;
            let mut state = state.borrow_mut();
            state.settle(replies, &journaled);
            state.detached -= 1;
        });
    }
}

fn shape_of(batch: &Batch) -> Batch {
    Batch {
        commands: batch.commands.clone(),
        mutations: batch.mutations,
        expect: batch.expect,
        ..Batch::default()
    }
}
