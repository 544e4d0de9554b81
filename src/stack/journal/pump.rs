//! Moves records to the journal and batches to the datastore.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::record::now_ms;
use super::state::{Failed, NONE_LOST, State};
use super::{Below, Shared};
use crate::journal::{AppendError, Completion, Verdict};
use crate::mutation::outcome::TOLD_AGAIN;
use crate::mutation::{Outcome, RecordBatch, RecordKind, decode, v1};

/// Runs a worker's side of the journal; never ends. Events: something was
/// recorded or queued, the journal has finished hand-overs. Everything that
/// connections have recorded by the time this task has its turn goes over as
/// one.
pub async fn pump<S: Below>(shared: Shared<S>) {
    poll_fn(|cx| shared.state.borrow_mut().poll_pump(cx)).await
}

/// How long it may take until the journal says that a mutation is settled:
/// whoever replicates it waits for that where others change the same key.
const SETTLED_INTERVAL: Duration = Duration::from_millis(50);

/// Keeps the newest record of a writer younger than two of `interval`, and has
/// it say soon what is settled. Events: either time.
pub async fn heartbeats<S: Below>(shared: Shared<S>, interval: Duration) {
    let mut always = tokio::time::interval(interval);
    let mut settled = tokio::time::interval(SETTLED_INTERVAL);
    loop {
        tokio::select! {
            _ = always.tick() => shared.heartbeat(),
            _ = settled.tick() => shared.announce(),
        }
    }
}

impl<S: Below> State<S> {
    fn poll_pump(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.pump_woken = false;
        match &self.pump {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => self.pump = Some(cx.waker().clone()),
        }
        loop {
            self.hand_over();
            let mut completions = std::mem::take(&mut self.completions);
            let is_ready = self
                .appender
                .poll_completions(cx, &mut completions)
                .is_ready();
            for completion in completions.drain(..) {
                self.complete(completion);
            }
            self.completions = completions;
            self.release();
            if !is_ready && !self.has_to_hand_over() {
                return Poll::Pending;
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        self.completed = completion.ticket + self.skipped;
        let last = self.count_completed(completion.result.is_ok());
        let Err(error) = completion.result else {
            self.acknowledge(last);
            self.appender.recycle(completion.recycled);
            return;
        };
        let failed = Rc::new(Failed {
            error: error.clone(),
            first: completion
                .recycled
                .entries
                .first()
                .map_or(0, |e| e.sequence),
            verdicts: completion.verdicts,
        });
        self.failures
            .push_back((self.completed, Rc::clone(&failed)));
        let was_lost = matches!(error, AppendError::NotAppended(_));
        match was_lost {
            true => self.lose(&completion.recycled),
            false => {
                self.note_unacknowledged(&completion.recycled, &failed);
                self.acknowledge(last);
            }
        }
        self.appender.recycle(completion.recycled);
        if was_lost && self.completed + 1 == self.next_ticket {
            self.lose_staged(error);
            self.resume();
        }
    }

    /// What became of all records up to `last` is known.
    fn acknowledge(&mut self, last: u64) {
        let through = self.unacknowledged.limit(last);
        self.recorder.writer.acknowledge(through);
    }

    /// Notes which records the journal did not acknowledge, though their
    /// sequences are not used again. Outcomes among them will be told again.
    fn note_unacknowledged(&mut self, records: &RecordBatch, failed: &Failed) {
        for (entry, bytes) in records.records() {
            if failed.verdict(entry.sequence) == Verdict::Stored {
                continue;
            }
            self.unacknowledged.add(entry.sequence);
            if entry.kind == RecordKind::Outcome {
                self.owe(bytes, u64::MAX);
            }
        }
    }

    pub(super) fn has_to_declare(&self) -> bool {
        let is_something = !self.owed.is_empty() || self.unacknowledged.undeclared().is_some();
        is_something && self.lost.get() == NONE_LOST
    }

    /// Tells outcomes again and then, so that nobody misses them who sees it,
    /// which sequences were not acknowledged.
    pub(super) fn declare(&mut self) {
        self.tell_owed();
        let recorder = &mut self.recorder;
        if let Some(ranges) = self.unacknowledged.undeclared() {
            let staging = &mut recorder.staging;
            recorder.writer.heartbeat(staging, now_ms(), ranges);
            self.unacknowledged.declare_with(self.next_ticket);
        }
        self.wake_pump();
    }

    /// Counts the mutations of all hand-overs that have a result by now, and
    /// returns the last sequence among their records.
    fn count_completed(&mut self, is_ok: bool) -> u64 {
        self.is_failing = !is_ok;
        self.unacknowledged.completed(self.completed, is_ok);
        let mut last = 0;
        while let Some((ticket, mutations)) = self.handed_over.front()
            && *ticket <= self.completed
        {
            match is_ok {
                true => {
                    let all = mutations.waiting + mutations.forwarded;
                    self.metrics.journaled.add(all);
                }
                // Those that waited are counted as what becomes of them.
                false => self.metrics.bypassed.add(mutations.forwarded),
            }
            last = mutations.last;
            self.handed_over.pop_front();
        }
        last
    }

    /// Notes records that are not in the journal: their sequences are used
    /// again, and the outcomes among them will be told again. Mutations are
    /// told by whoever waits for them.
    fn lose(&mut self, records: &RecordBatch) {
        let Some(first) = records.entries.first() else {
            return;
        };
        if self.lost.get() == NONE_LOST {
            self.lost.set(first.sequence);
        }
        let first_lost = self.lost.get();
        for (entry, bytes) in records.records() {
            if entry.kind == RecordKind::Outcome {
                self.owe(bytes, first_lost);
            }
        }
    }

    /// Keeps an outcome to be told again, if its mutation comes before `end`.
    fn owe(&mut self, record: &[u8], end: u64) {
        let Ok(record) = decode(Bytes::copy_from_slice(record)) else {
            return;
        };
        let database = record.database;
        if let Some(v1::record::Body::Outcome(told)) = record.body
            && told.of_sequence < end
        {
            self.owed.push((database, told));
        }
    }

    /// What was recorded since the loss has sequences that follow it, and is
    /// lost too: a hand-over that fails without having been tried.
    fn lose_staged(&mut self, error: AppendError) {
        if self.recorder.staging.is_empty() {
            return;
        }
        let staged = std::mem::take(&mut self.recorder.staging);
        self.lose(&staged);
        let failed = Failed {
            error,
            first: 0,
            verdicts: Vec::new(),
        };
        self.failures.push_back((self.next_ticket, Rc::new(failed)));
        self.completed = self.next_ticket;
        self.skipped += 1;
        self.count_staged();
        self.count_completed(false);
    }

    /// Begins a new generation when nothing of the old one is on its way. What
    /// is told again waits for the next record or heartbeat: the journal is
    /// likely to refuse it once more, and is not asked in a loop.
    fn resume(&mut self) {
        let lost = std::mem::replace(&mut self.lost, Rc::new(Cell::new(NONE_LOST)));
        if lost.get() != NONE_LOST {
            self.recorder.writer.rewind(lost.get() - 1);
        }
        self.appender.resume();
        self.tell_owed();
        self.held_back = self.recorder.staging.entries.len();
    }

    fn tell_owed(&mut self) {
        for (database, told) in std::mem::take(&mut self.owed) {
            let recorder = &mut self.recorder;
            let (of_sequence, key) = (told.of_sequence, told.key.clone());
            recorder.writer.outcome(
                &mut recorder.staging,
                now_ms(),
                database,
                of_sequence,
                &key,
                &told_again(told),
            );
        }
    }
}

fn told_again(told: v1::Outcome) -> Outcome {
    use v1::outcome::Result;
    let unknown = |keys| Outcome::Unknown {
        reason: TOLD_AGAIN,
        keys,
    };
    let arguments =
        |commands: Vec<v1::Command>| commands.into_iter().map(|c| c.arguments).collect();
    match told.result {
        Some(Result::Rejected(rejected)) => Outcome::Rejected(rejected.reason),
        Some(Result::Effects(effects)) if effects.unknown_keys.is_empty() => {
            Outcome::Effects(arguments(effects.commands))
        }
        Some(Result::Effects(effects)) => Outcome::Partial {
            effects: arguments(effects.commands),
            unknown_keys: effects.unknown_keys,
        },
        Some(Result::Unknown(keys)) => unknown(keys.keys),
        None => unknown(Vec::new()),
    }
}
