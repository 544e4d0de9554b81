//! The innermost service: sends a batch down the connection's upstream link.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tower::Service;

use super::{Shape, Upstream};
use crate::datastore::ring::Spread;
use crate::datastore::{Link, Response, Ring, Wire};
use crate::protocol::{Batch, Replies};

/// Where batches go.
#[derive(Clone)]
pub enum Target {
    /// Down one link.
    Link(Link),
    /// To the servers that have their keys, in this language.
    Ring(Rc<Ring>, Wire),
}

impl Target {
    fn unavailable(&self) -> Option<Rc<str>> {
        match self {
            Target::Link(link) => link.unavailable(),
            Target::Ring(ring, wire) => ring.unavailable(*wire),
        }
    }

    fn number(&self) -> u32 {
        match self {
            Target::Link(link) => link.number(),
            Target::Ring(ring, wire) => ring.number(*wire),
        }
    }

    fn send(&self, batch: Batch) -> Forwarded {
        match self {
            Target::Link(link) => Forwarded::Link(link.send(batch)),
            Target::Ring(ring, wire) => Forwarded::Ring(ring.send(*wire, batch)),
        }
    }
}

/// Where a connection's batches go. The connection changes it while none of
/// them is in flight.
#[derive(Clone)]
pub struct Route(Rc<RefCell<Target>>);

impl Route {
    /// Starts with `link`.
    pub fn new(link: Link) -> Route {
        Route::to(Target::Link(link))
    }

    /// Starts with `target`.
    pub fn to(target: Target) -> Route {
        Route(Rc::new(RefCell::new(target)))
    }

    /// The link in use; of a ring, that to the first server.
    pub fn link(&self) -> Link {
        match &*self.0.borrow() {
            Target::Link(link) => link.clone(),
            Target::Ring(ring, _) => ring.first().default_link(),
        }
    }

    /// Whether the datastore takes nothing from the link before AUTH.
    pub fn needs_auth(&self) -> bool {
        match &*self.0.borrow() {
            Target::Link(link) => link.needs_auth(),
            Target::Ring(..) => false,
        }
    }

    /// Ends the connection of the link in use, if it is one.
    pub fn close(&self) {
        if let Target::Link(link) = &*self.0.borrow() {
            link.close();
        }
    }

    /// Takes `link` from the next batch on; returns the one before.
    pub fn set(&self, link: Link) -> Link {
        let before = self.link();
        self.0.replace(Target::Link(link));
        before
    }

    /// Takes `target` from the next batch on.
    pub fn set_target(&self, target: Target) {
        self.0.replace(target);
    }
}

/// Sends batches down a route.
pub struct Forward(Way);

enum Way {
    /// Whichever target is in use when a batch is sent.
    Route(Route),
    /// This one.
    Target(Target),
}

/// A clone keeps to the link that is in use when it is made: a batch that waits
/// for the journal goes where it would have gone, wherever its connection has
/// moved by then.
impl Clone for Forward {
    fn clone(&self) -> Forward {
        Forward(Way::Target(match &self.0 {
            Way::Route(route) => route.0.borrow().clone(),
            Way::Target(target) => target.clone(),
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
            Way::Target(target) => target.unavailable(),
        }
    }

    fn link(&self) -> u32 {
        match &self.0 {
            Way::Route(route) => route.0.borrow().number(),
            Way::Target(target) => target.number(),
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
        match &self.0 {
            Way::Route(route) => route.0.borrow().send(batch),
            Way::Target(target) => target.send(batch),
        }
    }
}

/// The replies to a forwarded batch.
pub enum Forwarded {
    /// Of one link.
    Link(Response),
    /// Of several servers.
    Ring(Spread),
}

impl Future for Forwarded {
    type Output = Result<Replies, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Forwarded::Link(response) => Pin::new(response).poll(cx).map(Ok),
            Forwarded::Ring(spread) => Pin::new(spread).poll(cx).map(Ok),
        }
    }
}

impl Shape for Forwarded {
    fn shape(&self) -> Batch {
        match self {
            Forwarded::Link(response) => response.shape(),
            Forwarded::Ring(spread) => spread.shape(),
        }
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
