//! The queue of one worker: what is recorded, durable, forwarded, settled.
//!
//! A hand-over that the journal did not take leaves no hole in the sequences:
//! the journal then takes nothing more from this worker until
//! [`Appender::resume`], and the writer goes back to the first sequence that
//! was lost. All that is recorded up to then is of one generation, and shares
//! a cell with the first sequence that it lost: batches that hold that one or
//! a later one (forwarded without waiting) settle nothing.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::super::answers;
use super::super::in_flight::{Counters, Permit};
use super::super::metrics::Metrics;
use super::Below;
use super::record::{Journaled, Recorder, TooLong, now_ms};
use super::unacknowledged::Unacknowledged;
use crate::journal::{AppendError, Appender, Completion, Ticket, Verdict};
use crate::mutation::Way;
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
    pub(super) failures: VecDeque<(Ticket, Rc<Failed>)>,
    /// The first sequence lost in this generation, [`NONE_LOST`] while none is.
    pub(super) lost: Rc<Cell<u64>>,
    /// Outcomes to be told again, with their databases.
    pub(super) owed: Vec<(u32, crate::mutation::v1::Outcome)>,
    /// Sequences that were not acknowledged and not used again, to be declared.
    pub(super) unacknowledged: Unacknowledged,
    /// So many records are staged that wait for others to be handed over with:
    /// the journal did not take them last time, and is not asked in a loop.
    pub(super) held_back: usize,
    /// Whether the journal did not take the last hand-over that completed.
    pub(super) is_failing: bool,
    /// How many mutations are in what is staged now, and in each hand-over.
    pub(super) staged: Mutations,
    pub(super) handed_over: VecDeque<(Ticket, Mutations)>,
    in_flight: Rc<Counters>,
    pub(super) pump: Option<Waker>,
    pub(super) pump_woken: bool,
    pub(super) completions: Vec<Completion>,
    /// Batches that go on without their client.
    detached: usize,
    own: Weak<RefCell<State<S>>>,
    heartbeat_sequence: u64,
}

/// In [`State::lost`]: nothing is lost.
pub(super) const NONE_LOST: u64 = u64::MAX;

/// A hand-over that is not, or not as a whole, in the journal.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: AppendError,
    /// Its first sequence, and what became of that and the following ones;
    /// empty where it is the same for all.
    pub(super) first: u64,
    pub(super) verdicts: Vec<Verdict>,
}

impl Failed {
    /// What became of the record with the sequence.
    pub(super) fn verdict(&self, sequence: u64) -> Verdict {
        let index = sequence.saturating_sub(self.first) as usize;
        match (self.verdicts.get(index), &self.error) {
            (Some(verdict), _) => *verdict,
            (None, AppendError::Unknown(_)) => Verdict::Unknown,
            (None, AppendError::NotAppended(_) | AppendError::Skipped(_)) => Verdict::Absent,
        }
    }
}

/// How many mutations are recorded in one hand-over.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Mutations {
    /// Of batches that wait for it.
    pub(super) waiting: u64,
    /// Of batches that are forwarded already.
    pub(super) forwarded: u64,
    /// The last sequence among all its records.
    pub(super) last: u64,
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
    /// There while nobody waits for the answer any more.
    abandoned: Option<Permit>,
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
            abandoned: None,
        }
    }
}

impl<S: Below> State<S> {
    pub(super) fn new(
        own: Weak<RefCell<State<S>>>,
        recorder: Recorder,
        appender: Appender,
        in_flight: Rc<Counters>,
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
            unacknowledged: Unacknowledged::default(),
            completed: 0,
            failures: VecDeque::new(),
            lost: Rc::new(Cell::new(NONE_LOST)),
            held_back: 0,
            is_failing: false,
            staged: Mutations::default(),
            handed_over: VecDeque::new(),
            in_flight,
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
    pub(super) fn record(&mut self, batch: &Batch, link: u32) -> Result<Journaled, TooLong> {
        self.recorder.writer.via(Way {
            link,
            waits: batch.blocking,
        });
        let mut journaled = self.recorder.record(batch)?;
        let recorded = journaled.sequences.iter().filter(|s| **s != 0).count() as u64;
        self.metrics
            .unjournaled
            .add(u64::from(batch.mutations) - recorded);
        if journaled.is_empty() {
            return Ok(journaled);
        }
        journaled.lost = Some(Rc::clone(&self.lost));
        // Whoever does not wait trusts the journal to take records, which it
        // does not do now. The policy for that is for those who wait.
        journaled.waits |= self.is_failing;
        match journaled.waits {
            true => self.staged.waiting += recorded,
            false => self.staged.forwarded += recorded,
        }
        self.wake_pump();
        Ok(journaled)
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
        if 0 < self.held_back {
            self.held_back = 0;
            self.wake_pump();
        } else if self.has_to_declare() {
            self.declare();
        } else if self.recorder.writer.last_sequence() == self.heartbeat_sequence {
            self.recorder
                .writer
                .heartbeat(&mut self.recorder.staging, now_ms(), &[]);
            self.wake_pump();
        }
        self.heartbeat_sequence = self.recorder.writer.last_sequence();
    }

    /// A heartbeat, if it has something to say of mutations.
    pub(super) fn announce(&mut self) {
        if self.held_back == 0 && !self.has_to_declare() && self.recorder.writer.is_unannounced() {
            self.recorder
                .writer
                .heartbeat(&mut self.recorder.staging, now_ms(), &[]);
            self.wake_pump();
        }
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
        if !self.has_to_hand_over() {
            return;
        }
        let empty = self.appender.take_recycled();
        let records = std::mem::replace(&mut self.recorder.staging, empty);
        let ticket = self.appender.submit(records);
        debug_assert_eq!(ticket + self.skipped, self.next_ticket);
        self.count_staged();
    }

    pub(super) fn has_to_hand_over(&self) -> bool {
        self.held_back < self.recorder.staging.entries.len()
    }

    /// What was staged has a ticket now.
    pub(super) fn count_staged(&mut self) {
        self.held_back = 0;
        let mut staged = std::mem::take(&mut self.staged);
        staged.last = self.recorder.writer.last_sequence();
        self.handed_over.push_back((self.next_ticket, staged));
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
                Some((failed, why)) if *failed == ticket => Some(Rc::clone(why)),
                _ => None,
            };
            self.release_one(slot, failure);
        }
        if self.queue.is_empty() {
            self.failures.clear();
        }
    }

    fn release_one(&mut self, slot: usize, failure: Option<Rc<Failed>>) {
        let entry = &mut self.slots[slot];
        let Progress::Queued(batch) = &mut entry.progress else {
            panic!("only queued batches are in the queue");
        };
        let batch = std::mem::take(batch);
        let mut recorded = entry.journaled.sequences.iter().filter(|s| **s != 0);
        match failure {
            None => entry.progress = Progress::Forwarded(entry.service.call(batch)),
            Some(failed)
                if recorded
                    .clone()
                    .all(|s| failed.verdict(*s) == Verdict::Stored) =>
            {
                self.metrics.journaled.add(recorded.by_ref().count() as u64);
                entry.progress = Progress::Forwarded(entry.service.call(batch));
            }
            Some(failed) => self.refuse_one(slot, batch, &failed),
        }
        if self.slots[slot].abandoned.is_some() {
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

    fn refuse_one(&mut self, slot: usize, batch: Batch, failed: &Failed) {
        let journaled = std::mem::take(&mut self.slots[slot].journaled);
        self.withdraw(&batch, &journaled, failed);
        let entry = &mut self.slots[slot];
        let refusal = super::refuse::Refusal {
            failed,
            writer: self.recorder.writer.id(),
            table: &self.recorder.table.load(),
            policy: &self.recorder.policy.load(),
            metrics: &self.metrics,
        };
        let refused = refusal.apply(batch, &journaled, &mut entry.service);
        entry.progress = Progress::Refused(refused);
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
            Progress::Queued(batch) => batch.shape(),
            Progress::Forwarded(inner) => super::Shape::shape(inner),
            Progress::Answered(replies) => replies.batch.shape(),
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
        let entry = &mut self.slots[slot];
        entry.waker = None;
        match &entry.progress {
            Progress::Queued(batch) => {
                entry.abandoned = Some(Permit::take(&self.in_flight, batch.bytes.len()));
            }
            _ => self.detach_entry(slot),
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
        let ordinals = super::settle::ordinals(&replies.batch);
        let is_sent = !matches!(replies.failure, Some(Failure::NotSent(_)));
        answers::answer_rest(replies, reason, |replies, index| {
            let ordinal = ordinals.get(index).copied().unwrap_or(usize::MAX);
            let sequence = journaled.sequences.get(ordinal).copied().unwrap_or(0);
            if sequence == 0 && !is_sent {
                metrics.not_journaled.add(1);
                return answers::not_journaled(replies, index, reason);
            }
            metrics.uncertain.add(1);
            answers::uncertain(replies, index, writer, sequence, reason);
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
        let permit = Permit::take(&self.in_flight, journaled.bytes);
        tokio::task::spawn_local(async move {
            let Ok(replies) = inner.await;
            drop(permit);
            let mut state = state.borrow_mut();
            state.settle(replies, &journaled);
            state.detached -= 1;
        });
    }
}
