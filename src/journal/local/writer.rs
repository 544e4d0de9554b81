//! The one thread that writes: takes all that the appenders handed over since
//! it last looked, makes it durable as a group, tells the appenders.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};

use super::super::appender::Staged;
use super::super::{AppendError, Offset};
use super::log::SegmentLog;

/// Where appenders leave what they hand over.
#[derive(Debug)]
pub(in super::super) struct Inbox {
    state: Mutex<InboxState>,
    /// Someone waits in `flush`, and hand-overs completed.
    flushed: Condvar,
    /// Bytes of records that are handed over and not completed.
    waiting_bytes: AtomicUsize,
    bytes_max: usize,
    writer: OnceLock<Thread>,
}

#[derive(Debug, Default)]
struct InboxState {
    staged: Vec<Staged>,
    /// The writer found nothing and sleeps, or is about to.
    asleep: bool,
    closing: bool,
    /// How many hand-overs there were, and how many of them completed.
    submitted: u64,
    completed: u64,
    flushing: usize,
}

impl Inbox {
    pub(super) fn new(bytes_max: usize) -> Inbox {
        Inbox {
            state: Mutex::default(),
            flushed: Condvar::new(),
            waiting_bytes: AtomicUsize::new(0),
            bytes_max,
            writer: OnceLock::new(),
        }
    }

    /// Takes a hand-over, or gives it back with the reason.
    pub(in super::super) fn stage(&self, staged: Staged) -> Result<(), (Staged, AppendError)> {
        let waiting = self.waiting_bytes();
        if self.bytes_max <= waiting {
            let reason = super::backlog_text(waiting);
            return Err((staged, AppendError::NotAppended(reason)));
        }
        let bytes = staged.records.bytes.len();
        let mut state = self.state();
        if state.closing {
            let reason = "journal is closed".to_owned();
            return Err((staged, AppendError::NotAppended(reason)));
        }
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        state.staged.push(staged);
        state.submitted += 1;
        let wake = std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.wake_writer();
        }
        Ok(())
    }

    /// Takes hand-overs, in order, whether there is room or not.
    pub(in super::super) fn stage_all(&self, all: Vec<Staged>) {
        let bytes: usize = all.iter().map(|staged| staged.records.bytes.len()).sum();
        let mut state = self.state();
        if state.closing {
            drop(state);
            for mut staged in all {
                let error = AppendError::NotAppended("journal is closed".to_owned());
                let completion = staged.complete(Err(error));
                staged.outbox.push(completion);
                staged.outbox.wake();
            }
            return;
        }
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        state.submitted += all.len() as u64;
        state.staged.extend(all);
        let wake = std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.wake_writer();
        }
    }

    pub(in super::super) fn has_room(&self) -> bool {
        self.waiting_bytes() < self.bytes_max
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Blocks until all that was handed over before has completed.
    pub(super) fn flush(&self) {
        let mut state = self.state();
        let target = state.submitted;
        state.flushing += 1;
        while state.completed < target {
            let woken = self.flushed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        state.flushing -= 1;
    }

    /// Takes no more; the writer ends when it has written what it was given.
    pub(super) fn close(&self) {
        self.state().closing = true;
        self.wake_writer();
    }

    fn wake_writer(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Swaps all that is there into `group`, waiting for it; false where the
    /// inbox is closed and empty.
    fn take(&self, group: &mut Vec<Staged>) -> bool {
        loop {
            let mut state = self.state();
            if !state.staged.is_empty() {
                state.asleep = false;
                std::mem::swap(&mut state.staged, group);
                return true;
            }
            if state.closing {
                return false;
            }
            state.asleep = true;
            drop(state);
            thread::park();
        }
    }

    fn completed(&self, hand_overs: usize, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let mut state = self.state();
        state.completed += hand_overs as u64;
        if state.flushing != 0 {
            self.flushed.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's side: the log and the group in hand.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) inbox: Arc<Inbox>,
    pub(super) log: SegmentLog,
    pub(super) group_bytes_max: usize,
    /// Whoever is to hear that a segment was begun.
    pub(super) housekeeper: Thread,
    pub(super) group: Vec<Staged>,
    pub(super) results: Vec<Result<Offset, AppendError>>,
}

impl Writer {
    /// Writes until the inbox is closed; returns the log.
    pub(super) fn run(mut self) -> SegmentLog {
        // First thing on this thread, before anybody could have to wake it:
        // what was staged before is found without being woken.
        let _ = self.inbox.writer.set(thread::current());
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.write_all())) {
                Ok(()) => return self.log,
                Err(_) => self.fail_after_panic(),
            }
        }
    }

    fn write_all(&mut self) {
        let inbox = Arc::clone(&self.inbox);
        while inbox.take(&mut self.group) {
            while !self.group.is_empty() {
                self.write_group();
            }
        }
    }

    /// Writes the first hand-overs of the group, as many as go into one write.
    fn write_group(&mut self) {
        let mut taken = 0;
        while taken < self.group.len() && self.log.staged_bytes() < self.group_bytes_max {
            let next = &self.group[taken];
            let staged = match next.fence() {
                Some(error) => Err(error),
                None => self.log.stage(&next.records),
            };
            next.fence_on(&staged);
            self.results.push(staged);
            taken += 1;
        }
        let segment = self.log.segment_number();
        if let Err(error) = self.log.commit() {
            for result in self.results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(error.clone());
            }
        }
        self.complete(taken);
        if self.log.segment_number() != segment {
            self.housekeeper.unpark();
        }
    }

    /// Hands the results to the appenders, and wakes each once.
    fn complete(&mut self, taken: usize) {
        let mut bytes = 0;
        let done = self.group[..taken].iter_mut().zip(self.results.drain(..));
        for (staged, result) in done {
            bytes += staged.records.bytes.len();
            let completion = staged.complete(result);
            staged.outbox.push(completion);
        }
        // Room first: who is woken may hand over at once.
        self.inbox.completed(taken, bytes);
        for staged in self.group.drain(..taken) {
            staged.outbox.wake();
        }
    }

    /// A panic is a bug, but must not leave appenders waiting for ever.
    fn fail_after_panic(&mut self) {
        let reason = "the writer thread panicked";
        self.log.poison(reason.to_owned());
        let error = AppendError::Unknown(format!("journal poisoned: {reason}"));
        self.results.clear();
        self.results.resize(self.group.len(), Err(error));
        self.complete(self.group.len());
    }
}
