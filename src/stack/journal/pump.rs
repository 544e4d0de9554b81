//! Moves records to the journal and batches to the datastore.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::record::now_ms;
use super::state::State;
use super::{Below, Shared};
use crate::journal::{AppendError, Completion};
use crate::mutation::{Outcome, RecordBatch, RecordKind, decode, v1};

/// Runs a worker's side of the journal; never ends. Events: something was
/// recorded or queued, the journal has finished hand-overs. Everything that
/// connections have recorded by the time this task has its turn goes over as
/// one.
pub async fn pump<S: Below>(shared: Shared<S>) {
    poll_fn(|cx| shared.state.borrow_mut().poll_pump(cx)).await
}

/// Keeps the newest record of a writer younger than two of `interval`.
pub async fn heartbeats<S: Below>(shared: Shared<S>, interval: Duration) {
    let mut interval = tokio::time::interval(interval);
    loop {
        interval.tick().await;
        shared.heartbeat();
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
            if !is_ready && self.recorder.staging.is_empty() {
                return Poll::Pending;
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        self.completed = completion.ticket + self.skipped;
        self.is_failing = completion.result.is_err();
        let Err(error) = completion.result else {
            self.appender.recycle(completion.recycled);
            return;
        };
        self.failures.push_back((self.completed, error.clone()));
        let was_lost = matches!(error, AppendError::NotAppended(_));
        if was_lost {
            self.lose(&completion.recycled);
        }
        self.appender.recycle(completion.recycled);
        if was_lost && self.completed + 1 == self.next_ticket {
            self.lose_staged(error);
            self.resume();
        }
    }

    /// Notes records that are not in the journal: their sequences are used
    /// again, and the outcomes among them will be told again. Mutations are
    /// told by whoever waits for them.
    fn lose(&mut self, records: &RecordBatch) {
        let Some(first) = records.entries.first() else {
            return;
        };
        let first_lost = self.end_generation(first.sequence);
        for (entry, bytes) in records.records() {
            if entry.kind != RecordKind::Outcome {
                continue;
            }
            let Ok(record) = decode(Bytes::copy_from_slice(bytes)) else {
                continue;
            };
            let database = record.database;
            if let Some(v1::record::Body::Outcome(told)) = record.body
                && told.of_sequence < first_lost
            {
                self.owed.push((database, told));
            }
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
        self.failures.push_back((self.next_ticket, error));
        self.completed = self.next_ticket;
        self.next_ticket += 1;
        self.skipped += 1;
    }

    /// Begins a new generation when nothing of the old one is on its way.
    fn resume(&mut self) {
        let first = self
            .first_lost(self.generation)
            .expect("something was lost");
        self.recorder.writer.rewind(first - 1);
        self.generation += 1;
        self.appender.resume();
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
        reason: "told again after the journal was unavailable",
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
