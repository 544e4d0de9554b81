//! A worker's way into a journal: hand over a batch, hear what became of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{AppendError, Completion, Offset, Ticket};
use super::{kafka, local, memory, spool};
use crate::mutation::RecordBatch;

/// So many empty batches are kept for the worker to fill again.
const POOL_BATCHES_MAX: usize = 16;

/// A batch that grew beyond this is not kept.
const POOL_BATCH_BYTES_MAX: usize = 1 << 20;

/// Hands records of one worker to a journal. Cheap to create; not shared.
///
/// Completions of hand-overs that are never polled for are dropped with it.
#[derive(Debug)]
pub struct Appender {
    inbox: Inbox,
    outbox: Arc<Outbox>,
    next_ticket: Ticket,
    /// How many hand-overs the journal took, and how many of them completed.
    taken: u64,
    completed: u64,
    rejected: VecDeque<Rejected>,
    pool: Vec<RecordBatch>,
}

/// A hand-over the journal did not take. It completes when the `after`
/// hand-overs that were taken before it have, so tickets stay in order.
#[derive(Debug)]
struct Rejected {
    after: u64,
    completion: Completion,
}

#[derive(Debug)]
pub(super) enum Inbox {
    Local(Arc<local::Inbox>),
    Kafka(kafka::Inbox),
    Spool(spool::Inbox),
    Memory(Arc<memory::Shared>),
}

impl Appender {
    pub(super) fn new(inbox: Inbox) -> Appender {
        Appender {
            inbox,
            outbox: Arc::default(),
            next_ticket: 1,
            taken: 0,
            completed: 0,
            rejected: VecDeque::new(),
            pool: Vec::new(),
        }
    }

    /// Hands over one batch; never blocks on the disk. Where the journal has
    /// no room or is closed, the hand-over completes with `NotAppended` as soon
    /// as those before it have.
    pub fn submit(&mut self, records: RecordBatch) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let staged = Staged {
            outbox: Arc::clone(&self.outbox),
            ticket,
            records,
            maybe_elsewhere: false,
        };
        let outcome = match (self.outbox.fence(ticket), &self.inbox) {
            (Some(error), _) => Err((staged, error)),
            (None, Inbox::Local(inbox)) => inbox.stage(staged),
            (None, Inbox::Kafka(inbox)) => inbox.stage(staged),
            (None, Inbox::Spool(inbox)) => inbox.stage(staged),
            (None, Inbox::Memory(shared)) => shared.stage(staged),
        };
        match outcome {
            Ok(()) => self.taken += 1,
            Err((mut staged, error)) => {
                let after = self.taken;
                self.outbox.set_fence(ticket, &error);
                let completion = staged.complete(Err(error));
                self.rejected.push_back(Rejected { after, completion });
                self.outbox.wake();
            }
        }
        ticket
    }

    /// Moves all completions there are to the end of `into`, in the order of
    /// their tickets. Pending where there are none: the task is woken when the
    /// next group of records is durable.
    pub fn poll_completions(
        &mut self,
        context: &mut Context<'_>,
        into: &mut Vec<Completion>,
    ) -> Poll<()> {
        let start = into.len();
        {
            let mut outbox = self.outbox.state();
            self.completed += outbox.done.len() as u64;
            into.append(&mut outbox.done);
            let rejected = self.rejected.front();
            let none = rejected.is_none_or(|rejected| self.completed < rejected.after);
            if into.len() == start && none {
                match &mut outbox.waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                return Poll::Pending;
            }
        }
        self.merge_rejected(into, start);
        Poll::Ready(())
    }

    fn merge_rejected(&mut self, into: &mut Vec<Completion>, start: usize) {
        let mut any = false;
        while let Some(rejected) = self.rejected.front()
            && rejected.after <= self.completed
        {
            into.extend(self.rejected.pop_front().map(|r| r.completion));
            any = true;
        }
        if any {
            into[start..].sort_unstable_by_key(|completion| completion.ticket);
        }
    }

    /// Takes hand-overs again after one was not appended. To be called when
    /// all that were submitted have completed.
    pub fn resume(&mut self) {
        self.outbox.state().fence = None;
        if let Inbox::Kafka(inbox) = &self.inbox {
            inbox.resume();
        }
    }

    /// Whether the journal would take a batch now. It takes one that goes over
    /// the limit, as long as it was not reached before.
    pub fn has_room(&self) -> bool {
        match &self.inbox {
            Inbox::Local(inbox) => inbox.has_room(),
            Inbox::Kafka(inbox) => inbox.has_room(),
            Inbox::Spool(inbox) => inbox.has_room(),
            Inbox::Memory(shared) => shared.has_room(),
        }
    }

    /// An empty batch, with the memory of an earlier one where there is one.
    pub fn take_recycled(&mut self) -> RecordBatch {
        self.pool.pop().unwrap_or_default()
    }

    /// Keeps a batch's memory for [`Appender::take_recycled`].
    pub fn recycle(&mut self, mut batch: RecordBatch) {
        if self.pool.len() < POOL_BATCHES_MAX && batch.bytes.capacity() <= POOL_BATCH_BYTES_MAX {
            batch.clear();
            self.pool.push(batch);
        }
    }
}

/// A hand-over on its way through a backend.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) outbox: Arc<Outbox>,
    pub(super) ticket: Ticket,
    pub(super) records: RecordBatch,
    /// Whether another journal may have it: that this one has not says nothing.
    pub(super) maybe_elsewhere: bool,
}

impl Staged {
    /// Why it must not be appended: one before it was not.
    pub(super) fn fence(&self) -> Option<AppendError> {
        self.outbox.fence(self.ticket)
    }

    /// Lets nothing of the same appender pass if this is not appended.
    pub(super) fn fence_on(&self, result: &Result<Offset, AppendError>) {
        if let (Err(error), false) = (result, self.maybe_elsewhere) {
            self.outbox.set_fence(self.ticket, error);
        }
    }

    fn as_known(&self, result: Result<Offset, AppendError>) -> Result<Offset, AppendError> {
        match result {
            Err(AppendError::NotAppended(reason) | AppendError::Skipped(reason))
                if self.maybe_elsewhere =>
            {
                Err(AppendError::Unknown(reason))
            }
            result => result,
        }
    }

    /// Takes the batch out, emptied if it was appended.
    pub(super) fn complete(&mut self, result: Result<Offset, AppendError>) -> Completion {
        let result = self.as_known(result);
        let mut recycled = std::mem::take(&mut self.records);
        match &result {
            Ok(_) => recycled.clear(),
            Err(error) => self.outbox.set_fence(self.ticket, error),
        }
        Completion {
            ticket: self.ticket,
            result,
            recycled,
            verdicts: Vec::new(),
        }
    }
}

/// Where completions wait for one appender.
#[derive(Debug, Default)]
pub(super) struct Outbox(Mutex<OutboxState>);

#[derive(Debug, Default)]
struct OutboxState {
    done: Vec<Completion>,
    /// Set while a hand-over was not appended and the worker has not resumed.
    fence: Option<(Ticket, AppendError)>,
    waker: Option<Waker>,
}

impl Outbox {
    /// Adds a completion; `wake` once all of a group have been added.
    pub(super) fn push(&self, completion: Completion) {
        self.state().done.push(completion);
    }

    fn fence(&self, ticket: Ticket) -> Option<AppendError> {
        match &self.state().fence {
            Some((failed, error)) if *failed < ticket => Some(error.clone()),
            _ => None,
        }
    }

    /// Lets nothing pass behind a hand-over that is not in the journal.
    fn set_fence(&self, ticket: Ticket, error: &AppendError) {
        if matches!(error, AppendError::NotAppended(_)) {
            let mut state = self.state();
            let is_first = state
                .fence
                .as_ref()
                .is_none_or(|(first, _)| ticket < *first);
            if is_first {
                state.fence = Some((ticket, error.clone()));
            }
        }
    }

    /// Wakes the appender's task, if it waits.
    pub(super) fn wake(&self) {
        let waker = self.state().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, OutboxState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
