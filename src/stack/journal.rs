//! Journals mutations before they are forwarded, and tells what became of them.
//!
//! A batch with mutations is recorded in its `call` and put into the worker's
//! one queue. When the journal has made the records durable, the queue's head
//! is forwarded, so the datastore sees the mutations of a worker in the order
//! the journal has them. When the replies are there, mutations that are not
//! final, or were refused, get an outcome record; nobody waits for that.
//!
//! # Invariants
//! - `recorded >= durable >= forwarded >= settled` per queue, in order.
//! - A batch that was recorded is forwarded and settled even if its client is
//!   gone or its time is up.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use tower::Service;

use super::in_flight::Counters;
use super::metrics::Metrics;
use super::policy::Policy;
use super::{BatchService, Expire, Shape, Upstream, answers};
use crate::journal::Appender;
use crate::mutation::writer::Writer;
use crate::protocol::resp::commands::Table;
use crate::protocol::{Batch, Failure, Replies};

mod memcached;
mod pump;
mod record;
mod refuse;
mod settle;
mod state;
#[cfg(test)]
mod tests;
mod unacknowledged;

pub use pump::{heartbeats, pump};
use record::{Journaled, Recorder};
use state::{Entry, State};

/// What the journal layer stands on. A clone of it sends a batch later as the
/// service would have sent it when the clone was made.
pub trait Below: BatchService<Future: Shape> + Clone + 'static {}

impl<S: BatchService<Future: Shape> + Clone + 'static> Below for S {}

/// What the journal layer of a worker needs.
pub struct Options {
    /// The command table, replaced when the datastore names more commands.
    pub table: Arc<ArcSwap<Table>>,
    /// Which keys are promised what.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Makes this worker's records.
    pub writer: Writer,
    /// Takes them.
    pub appender: Appender,
    /// Counts batches that go on without their client: the time a client waits
    /// is limited, what is under way then is not.
    pub in_flight: Rc<Counters>,
    /// What is counted.
    pub metrics: Rc<Metrics>,
}

/// The journal's side of one worker, shared by its connections.
pub struct Shared<S: Below> {
    state: Rc<RefCell<State<S>>>,
}

impl<S: Below> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Shared {
            state: Rc::clone(&self.state),
        }
    }
}

impl<S: Below> Shared<S> {
    /// Nothing recorded yet. [`pump()`] has to run for anything to happen.
    pub fn new(options: Options) -> Shared<S> {
        let recorder = Recorder::new(options.table, options.policy, options.writer);
        Shared {
            state: Rc::new_cyclic(|own| {
                RefCell::new(State::new(
                    own.clone(),
                    recorder,
                    options.appender,
                    options.in_flight,
                    options.metrics,
                ))
            }),
        }
    }

    /// Whether everything recorded has been forwarded and settled, and every
    /// record handed over is durable.
    pub fn is_idle(&self) -> bool {
        self.state.borrow().is_idle()
    }

    /// Records that nothing happened, if nothing has since the last call.
    pub fn heartbeat(&self) {
        self.state.borrow_mut().heartbeat();
    }

    /// Writes one if mutations have been settled since the last record.
    pub fn announce(&self) {
        self.state.borrow_mut().announce();
    }
}

/// The journal layer of one connection.
pub struct Journal<S: Below> {
    shared: Shared<S>,
    inner: S,
    /// How many of this connection's batches are in the worker's queue.
    queued: Rc<Cell<usize>>,
}

impl<S: Below> Journal<S> {
    /// Journals what goes to `inner`.
    pub fn new(shared: Shared<S>, inner: S) -> Journal<S> {
        Journal {
            shared,
            inner,
            queued: Rc::default(),
        }
    }
}

impl<S: Below> Upstream for Journal<S> {
    fn unavailable(&self) -> Option<Rc<str>> {
        self.inner.unavailable()
    }

    fn link(&self) -> u32 {
        self.inner.link()
    }
}

impl<S: Below> Service<Batch> for Journal<S> {
    type Response = Replies;
    type Error = Infallible;
    type Future = Journaling<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, batch: Batch) -> Journaling<S> {
        if batch.mutations == 0 && self.queued.get() == 0 {
            return self.begin(batch, Journaled::default());
        }
        if let Some(reason) = self.inner.unavailable() {
            // What can't be forwarded is not journaled: the client may retry
            // elsewhere, and nothing has to be reconciled.
            return self.refuse(batch, &reason);
        }
        let mut state = self.shared.state.borrow_mut();
        let journaled = match state.record(&batch, self.inner.link()) {
            Ok(journaled) => journaled,
            Err(error) => {
                drop(state);
                return self.refuse(batch, &error.to_string());
            }
        };
        if !journaled.waits && self.queued.get() == 0 {
            drop(state);
            return self.begin(batch, journaled);
        }
        self.queued.set(self.queued.get() + 1);
        let entry = Entry::new(
            batch,
            journaled,
            self.inner.clone(),
            Rc::clone(&self.queued),
        );
        let slot = state.enqueue(entry);
        drop(state);
        Journaling {
            shared: self.shared.clone(),
            stage: Stage::Queued(slot),
        }
    }
}

impl<S: Below> Journal<S> {
    fn begin(&mut self, batch: Batch, journaled: Journaled) -> Journaling<S> {
        Journaling {
            shared: self.shared.clone(),
            stage: Stage::Forwarded(self.inner.call(batch), journaled),
        }
    }

    fn refuse(&self, batch: Batch, reason: &str) -> Journaling<S> {
        let metrics = Rc::clone(&self.shared.state.borrow().metrics);
        metrics.not_journaled.add(u64::from(batch.mutations));
        let mut replies = Replies {
            batch,
            ..Replies::default()
        };
        answers::refuse(&mut replies, reason);
        replies.failure = Some(Failure::NotSent(Rc::from(reason)));
        Journaling {
            shared: self.shared.clone(),
            stage: Stage::Answered(replies),
        }
    }
}

/// The answer to a batch that is journaled if need be.
///
/// Cancel-safe: dropped, the batch goes on without its client.
pub struct Journaling<S: Below> {
    shared: Shared<S>,
    stage: Stage<S>,
}

enum Stage<S: Below> {
    /// In the worker's queue.
    Queued(usize),
    /// Sent without waiting, with what was recorded of it.
    Forwarded(S::Future, Journaled),
    /// Not sent.
    Answered(Replies),
    Done,
}

impl<S: Below> Future for Journaling<S> {
    type Output = Result<Replies, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let replies = match &mut this.stage {
            Stage::Forwarded(inner, journaled) => {
                let Poll::Ready(Ok(replies)) = Pin::new(inner).poll(cx) else {
                    return Poll::Pending;
                };
                let journaled = std::mem::take(journaled);
                let is_plain =
                    journaled.is_empty() && replies.failure.is_none() && replies.failed.is_empty();
                match is_plain {
                    true => replies,
                    false => this.shared.state.borrow_mut().settle(replies, &journaled),
                }
            }
            Stage::Queued(slot) => {
                let Poll::Ready(replies) = this.shared.state.borrow_mut().poll_entry(*slot, cx)
                else {
                    return Poll::Pending;
                };
                replies
            }
            Stage::Answered(_) | Stage::Done => {
                let Stage::Answered(replies) = std::mem::replace(&mut this.stage, Stage::Done)
                else {
                    panic!("polled after it was ready");
                };
                replies
            }
        };
        this.stage = Stage::Done;
        Poll::Ready(Ok(replies))
    }
}

impl<S: Below> Expire for Journaling<S> {
    fn expire(&mut self, reason: &str) -> Replies {
        let stage = std::mem::replace(&mut self.stage, Stage::Done);
        let mut state = self.shared.state.borrow_mut();
        match stage {
            Stage::Queued(slot) => state.expire_entry(slot, reason),
            Stage::Forwarded(inner, journaled) => {
                let replies = state.expired(inner.shape(), &journaled, reason);
                if !journaled.is_empty() {
                    state.detach(inner, journaled);
                }
                replies
            }
            Stage::Answered(replies) => replies,
            Stage::Done => Replies::default(),
        }
    }
}

impl<S: Below> Drop for Journaling<S> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Queued(slot) => self.shared.state.borrow_mut().abandon_entry(slot),
            Stage::Forwarded(inner, journaled) if !journaled.is_empty() => {
                self.shared.state.borrow_mut().detach(inner, journaled);
            }
            _ => {}
        }
    }
}
