//! The innermost service: sends a batch down the connection's upstream link.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tower::Service;

use super::{Shape, Upstream};
use crate::datastore::{Link, Response};
use crate::protocol::{Batch, Replies};

/// Which link a connection's batches take. The connection changes it while
/// none of its batches is in flight.
#[derive(Clone)]
pub struct Route(Rc<RefCell<Link>>);

impl Route {
    /// Starts with `link`.
    pub fn new(link: Link) -> Route {
        Route(Rc::new(RefCell::new(link)))
    }

    /// The link in use.
    pub fn link(&self) -> Link {
        self.0.borrow().clone()
    }

    /// Takes `link` from the next batch on; returns the one before.
    pub fn set(&self, link: Link) -> Link {
        self.0.replace(link)
    }
}

/// Sends batches down a route.
#[derive(Clone)]
pub struct Forward {
    route: Route,
}

impl Forward {
    /// Sends batches down `route`.
    pub fn new(route: Route) -> Forward {
        Forward { route }
    }
}

impl Upstream for Forward {
    fn unavailable(&self) -> Option<Rc<str>> {
        self.route.0.borrow().unavailable()
    }
}

impl Service<Batch> for Forward {
    type Response = Replies;
    type Error = Infallible;
    type Future = Forwarded;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, batch: Batch) -> Forwarded {
        Forwarded(self.route.0.borrow().send(batch))
    }
}

/// The replies to a forwarded batch.
pub struct Forwarded(Response);

impl Future for Forwarded {
    type Output = Result<Replies, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(Ok)
    }
}

impl Shape for Forwarded {
    fn shape(&self) -> Batch {
        self.0.shape()
    }
}
