//! Counts batches and their times.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tower::{Layer, Service};

use super::BatchService;
use super::metrics::Metrics;
use crate::protocol::{Batch, Replies};

/// Makes [`Observe`].
pub struct ObserveLayer(pub Rc<Metrics>);

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe {
            inner,
            metrics: Rc::clone(&self.0),
        }
    }
}

/// Counts what passes.
pub struct Observe<S> {
    inner: S,
    metrics: Rc<Metrics>,
}

impl<S: BatchService> Service<Batch> for Observe<S> {
    type Response = Replies;
    type Error = Infallible;
    type Future = Observed<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, batch: Batch) -> Self::Future {
        let mutations = u64::from(batch.mutations);
        self.metrics.batches.add(1);
        self.metrics.mutations.add(mutations);
        self.metrics.reads.add(batch.commands.len() as u64 - mutations);
        self.metrics.request_bytes.add(batch.bytes.len() as u64);
        Observed {
            // A batch that may wait as long as it likes says nothing about speed.
            started: (!batch.blocking).then(Instant::now),
            has_mutations: mutations > 0,
            inner: self.inner.call(batch),
            metrics: Rc::clone(&self.metrics),
        }
    }
}

/// Counts the replies.
pub struct Observed<F> {
    inner: F,
    started: Option<Instant>,
    has_mutations: bool,
    metrics: Rc<Metrics>,
}

impl<F> Future for Observed<F>
where
    F: Future<Output = Result<Replies, Infallible>> + Unpin,
{
    type Output = Result<Replies, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(replies) = ready!(Pin::new(&mut self.inner).poll(cx));
        self.metrics.reply_bytes.add(replies.bytes.len() as u64);
        if let Some(started) = self.started {
            let times = match self.has_mutations {
                true => &self.metrics.mutation_times,
                false => &self.metrics.read_times,
            };
            times.record(started.elapsed());
        }
        Poll::Ready(Ok(replies))
    }
}
