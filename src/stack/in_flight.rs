//! Bounds what one worker has in flight, in batches and in bytes.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::{BatchService, Upstream};
use crate::protocol::{Batch, Replies};

/// What is in flight, and how much may be.
#[derive(Debug)]
pub struct Counters {
    batches: Cell<usize>,
    bytes: Cell<usize>,
    batches_max: Cell<usize>,
    bytes_max: Cell<usize>,
}

impl Counters {
    /// Nothing in flight yet.
    pub fn new(batches_max: usize, bytes_max: usize) -> Rc<Counters> {
        Rc::new(Counters {
            batches: Cell::new(0),
            bytes: Cell::new(0),
            batches_max: Cell::new(batches_max),
            bytes_max: Cell::new(bytes_max),
        })
    }

    /// Changes the limits; what is in flight stays.
    pub fn set_limits(&self, batches_max: usize, bytes_max: usize) {
        self.batches_max.set(batches_max);
        self.bytes_max.set(bytes_max);
    }

    /// How many batches are in flight.
    pub fn batches(&self) -> usize {
        self.batches.get()
    }

    /// One batch above the limit of bytes is let through, or a value larger
    /// than the limit could never be written.
    fn has_room(&self) -> bool {
        self.batches.get() < self.batches_max.get() && self.bytes.get() < self.bytes_max.get()
    }
}

/// Makes [`InFlight`].
pub struct InFlightLayer(pub Rc<Counters>);

impl<S> Layer<S> for InFlightLayer {
    type Service = InFlight<S>;

    fn layer(&self, inner: S) -> InFlight<S> {
        InFlight {
            inner,
            counters: Rc::clone(&self.0),
        }
    }
}

/// Is ready while there is room. It wakes nobody when room comes back: it is
/// made to stand under a layer that sheds.
pub struct InFlight<S> {
    inner: S,
    counters: Rc<Counters>,
}

impl<S: Upstream> Upstream for InFlight<S> {
    fn unavailable(&self) -> Option<Rc<str>> {
        self.inner.unavailable()
    }

    fn link(&self) -> u32 {
        self.inner.link()
    }
}

impl<S: BatchService> Service<Batch> for InFlight<S> {
    type Response = Replies;
    type Error = Infallible;
    type Future = Counted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.counters.has_room() {
            self.inner.poll_ready(cx)
        } else {
            Poll::Pending
        }
    }

    fn call(&mut self, batch: Batch) -> Self::Future {
        Counted {
            // What waits for others' data, perhaps for hours, is no load.
            permit: (!batch.blocking).then(|| Permit::take(&self.counters, batch.bytes.len())),
            inner: self.inner.call(batch),
        }
    }
}

/// Counted as in flight until it is dropped.
pub struct Permit {
    counters: Rc<Counters>,
    bytes: usize,
}

impl Permit {
    /// Counts one batch of so many bytes, whether or not there is room.
    pub fn take(counters: &Rc<Counters>, bytes: usize) -> Permit {
        counters.batches.set(counters.batches.get() + 1);
        counters.bytes.set(counters.bytes.get() + bytes);
        Permit {
            counters: Rc::clone(counters),
            bytes,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let counters = &self.counters;
        counters.batches.set(counters.batches.get() - 1);
        counters.bytes.set(counters.bytes.get() - self.bytes);
    }
}

/// The inner service's future with its permit.
pub struct Counted<F> {
    inner: F,
    #[allow(dead_code, reason = "held for its drop")]
    permit: Option<Permit>,
}

impl<F> Future for Counted<F>
where
    F: Future<Output = Result<Replies, Infallible>> + Unpin,
{
    type Output = Result<Replies, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
