//! Answers batches whose time is up.
//!
//! One timer a worker, not one a batch: it looks at every connection a few
//! times while a batch's time passes, and wakes those that wait too long.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;
use tower::{Layer, Service};

use super::metrics::Metrics;
use super::{BatchService, Expire, Upstream};
use crate::protocol::{Batch, Replies};

/// The timer looks this many times while a batch's time passes.
const TICKS: u32 = 20;
const TICK_MIN: Duration = Duration::from_millis(5);
/// A batch this large has a second more: it takes time to write it to a disk
/// and to a datastore.
const BYTES_PER_EXTRA_SECOND: usize = 32 * 1024 * 1024;

/// The connections of one worker and the time their batches have.
pub struct Deadlines {
    timeout: Cell<Duration>,
    /// A coarse clock: good to one tick, read without a system call.
    now: Cell<Instant>,
    connections: RefCell<Vec<Weak<Waiter>>>,
    metrics: Rc<Metrics>,
}

/// One connection that may wait for an answer.
#[derive(Default)]
struct Waiter {
    in_flight: Cell<usize>,
    /// When the batch is due that was the first in flight; later ones are due
    /// no earlier, so looking at this one is enough.
    due: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
}

impl Deadlines {
    /// Starts the timer; runs on a `LocalSet`.
    pub fn start(timeout: Duration, metrics: Rc<Metrics>) -> Rc<Deadlines> {
        let deadlines = Rc::new(Deadlines {
            timeout: Cell::new(timeout),
            now: Cell::new(Instant::now()),
            connections: RefCell::default(),
            metrics,
        });
        tokio::task::spawn_local(Rc::clone(&deadlines).tick());
        deadlines
    }

    /// Changes the time that batches have from now on.
    pub fn set_timeout(&self, timeout: Duration) {
        self.timeout.set(timeout);
    }

    /// The time that batches have.
    pub fn timeout(&self) -> Duration {
        self.timeout.get()
    }

    async fn tick(self: Rc<Self>) {
        loop {
            let period = (self.timeout.get() / TICKS).max(TICK_MIN);
            tokio::time::sleep(period).await;
            self.now.set(Instant::now());
            self.connections
                .borrow_mut()
                .retain(|waiter| match waiter.upgrade() {
                    Some(waiter) => {
                        waiter.wake_if_due(self.now.get());
                        true
                    }
                    None => false,
                });
        }
    }

    fn register(&self) -> Rc<Waiter> {
        let waiter = Rc::new(Waiter::default());
        self.connections.borrow_mut().push(Rc::downgrade(&waiter));
        waiter
    }
}

impl Waiter {
    fn wake_if_due(&self, now: Instant) {
        let is_due = self.in_flight.get() > 0 && self.due.get().is_some_and(|due| due <= now);
        if is_due && let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn enter(&self, due: Instant) {
        if self.in_flight.get() == 0 {
            self.due.set(Some(due));
        }
        self.in_flight.set(self.in_flight.get() + 1);
    }

    fn leave(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
    }
}

/// Makes [`Deadline`].
pub struct DeadlineLayer(pub Rc<Deadlines>);

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline {
            inner,
            waiter: self.0.register(),
            deadlines: Rc::clone(&self.0),
        }
    }
}

/// Limits the time of batches that are not blocking.
pub struct Deadline<S> {
    inner: S,
    waiter: Rc<Waiter>,
    deadlines: Rc<Deadlines>,
}

impl<S: Upstream> Upstream for Deadline<S> {
    fn unavailable(&self) -> Option<Rc<str>> {
        self.inner.unavailable()
    }

    fn link(&self) -> u32 {
        self.inner.link()
    }
}

impl<S> Service<Batch> for Deadline<S>
where
    S: BatchService,
    S::Future: Expire,
{
    type Response = Replies;
    type Error = Infallible;
    type Future = Limited<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, batch: Batch) -> Self::Future {
        let limit = (!batch.blocking).then(|| {
            let large = Duration::from_secs((batch.bytes.len() / BYTES_PER_EXTRA_SECOND) as u64);
            let due = self.deadlines.now.get() + self.deadlines.timeout.get() + large;
            self.waiter.enter(due);
            Limit {
                due,
                waiter: Rc::clone(&self.waiter),
            }
        });
        Limited {
            inner: self.inner.call(batch),
            limit,
            deadlines: Rc::clone(&self.deadlines),
        }
    }
}

/// Until when one batch may wait; counted as in flight until it is dropped.
struct Limit {
    due: Instant,
    waiter: Rc<Waiter>,
}

impl Drop for Limit {
    fn drop(&mut self) {
        self.waiter.leave();
    }
}

/// The inner service's future with its time limit.
pub struct Limited<F> {
    inner: F,
    limit: Option<Limit>,
    deadlines: Rc<Deadlines>,
}

impl<F> Future for Limited<F>
where
    F: Future<Output = Result<Replies, Infallible>> + Expire + Unpin,
{
    type Output = Result<Replies, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Poll::Ready(replies) = Pin::new(&mut this.inner).poll(cx) {
            this.limit = None;
            return Poll::Ready(replies);
        }
        let Some(limit) = &this.limit else {
            return Poll::Pending;
        };
        if this.deadlines.now.get() < limit.due {
            let mut waker = limit.waiter.waker.borrow_mut();
            match &*waker {
                Some(known) if known.will_wake(cx.waker()) => {}
                _ => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        this.limit = None;
        this.deadlines.metrics.expired.add(1);
        let reason = format!("no answer within {:?}", this.deadlines.timeout.get());
        Poll::Ready(Ok(this.inner.expire(&reason)))
    }
}
