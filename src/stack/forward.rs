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

    /// Whether the datastore takes nothing from the link before AUTH.
    pub fn needs_auth(&self) -> bool {
        self.0.borrow().needs_auth()
    }

    /// Ends the connection of the link in use.
    pub fn close(&self) {
        self.0.borrow().close();
    }

    /// Takes `link` from the next batch on; returns the one before.
    pub fn set(&self, link: Link) -> Link {
        self.0.replace(link)
    }
}

/// Sends batches down a route.
pub struct Forward(Way);

enum Way {
    /// Whichever link is in use when a batch is sent.
    Route(Route),
    /// This one.
    Link(Link),
}

/// A clone keeps to the link that is in use when it is made: a batch that waits
/// for the journal goes where it would have gone, wherever its connection has
/// moved by then.
impl Clone for Forward {
    fn clone(&self) -> Forward {
        Forward(Way::Link(match &self.0 {
            Way::Route(route) => route.link(),
            Way::Link(link) => link.clone(),
        }))
    }
}

impl Forward {
    /// Sends batches down `route`.
    pub fn new(route: Route) -> Forward {
        Forward(Way::Route(route))
    }
}

impl Upstream for Forward {
    fn unavailable(&self) -> Option<Rc<str>> {
        match &self.0 {
            Way::Route(route) => route.0.borrow().unavailable(),
            Way::Link(link) => link.unavailable(),
        }
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
        Forwarded(match &self.0 {
            Way::Route(route) => route.0.borrow().send(batch),
            Way::Link(link) => link.send(batch),
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Class, Command, Pool};

    #[test]
    fn a_clone_keeps_to_its_link() {
        let link = || {
            let link = Link::new(Rc::new(Pool::default()), 1 << 20, false);
            link.set_up();
            link
        };
        let (before, after) = (link(), link());
        let route = Route::new(before.clone());
        let mut forward = Forward::new(route.clone());
        let mut waiting = forward.clone();
        route.set(after.clone());
        let batch = || Batch::single(b"PING\r\n", Command::UNKNOWN, Class::Read);
        let _late = waiting.call(batch());
        assert_eq!((before.is_idle(), after.is_idle()), (false, true));
        let _next = forward.call(batch());
        assert!(!after.is_idle());
    }
}
