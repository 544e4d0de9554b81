//! Answers at once what the layers below have no room for.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::metrics::Metrics;
use super::{BatchService, Upstream, answers};
use crate::protocol::{Batch, Failure, Replies};

/// What a client hears whose batch there was no room for.
const OVERLOADED: &str = "too much in flight, try again";

/// Makes [`LoadShed`].
pub struct LoadShedLayer(pub Rc<Metrics>);

impl<S> Layer<S> for LoadShedLayer {
    type Service = LoadShed<S>;

    fn layer(&self, inner: S) -> LoadShed<S> {
        LoadShed {
            inner,
            is_ready: false,
            metrics: Rc::clone(&self.0),
        }
    }
}

/// Is always ready; refuses what the inner service is not ready for.
pub struct LoadShed<S> {
    inner: S,
    is_ready: bool,
    metrics: Rc<Metrics>,
}

impl<S: Upstream> Upstream for LoadShed<S> {
    fn unavailable(&self) -> Option<Rc<str>> {
        self.inner.unavailable()
    }

    fn link(&self) -> u32 {
        self.inner.link()
    }
}

impl<S: BatchService> Service<Batch> for LoadShed<S> {
    type Response = Replies;
    type Error = Infallible;
    type Future = Shed<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = self.inner.poll_ready(cx).is_ready();
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, batch: Batch) -> Self::Future {
        if std::mem::take(&mut self.is_ready) {
            return Shed::Taken(self.inner.call(batch));
        }
        self.metrics.shed.add(1);
        self.metrics.not_journaled.add(u64::from(batch.mutations));
        let mut replies = Replies {
            batch,
            ..Replies::default()
        };
        answers::refuse(&mut replies, OVERLOADED);
        replies.failure = Some(Failure::NotSent(Rc::from(OVERLOADED)));
        Shed::Refused(Some(Box::new(replies)))
    }
}

/// The inner service's future, or the refusal.
pub enum Shed<F> {
    /// There was room.
    Taken(F),
    /// There was none.
    Refused(Option<Box<Replies>>),
}

impl<F> Future for Shed<F>
where
    F: Future<Output = Result<Replies, Infallible>> + Unpin,
{
    type Output = Result<Replies, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Shed::Taken(inner) => Pin::new(inner).poll(cx),
            Shed::Refused(replies) => {
                let replies = replies.take().expect("not polled after it was ready");
                Poll::Ready(Ok(*replies))
            }
        }
    }
}
