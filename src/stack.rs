//! The stack a batch goes through: `tower::Service<Batch, Response = Replies>`
//! layers, outer to inner: observe, load-shed, in-flight limit, deadline,
//! journal, forward.
//!
//! # Invariants
//! - A service answers every batch: `Error` is `Infallible`, failures are
//!   replies, because the client has to hear of each command.
//! - Batches of one connection are forwarded in the order of their calls.
//! - Futures are `Unpin` and may be dropped at any time; a batch that was taken
//!   is journaled, forwarded and settled all the same.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use tower::{Layer, Service, ServiceBuilder};

use crate::protocol::{Batch, Replies};

pub mod answers;
pub mod deadline;
pub mod forward;
pub mod in_flight;
pub mod journal;
pub mod load_shed;
pub mod metrics;
pub mod observe;
pub mod policy;

/// What every service of the stack is.
pub trait BatchService:
    Service<Batch, Response = Replies, Error = Infallible, Future: Unpin> + Upstream
{
}

impl<S> BatchService for S where
    S: Service<Batch, Response = Replies, Error = Infallible, Future: Unpin> + Upstream
{
}

/// Whether batches can be forwarded at all.
pub trait Upstream {
    /// Why a batch sent now would not reach the datastore.
    fn unavailable(&self) -> Option<Rc<str>>;

    /// Which of the worker's links a batch sent now goes down: the datastore
    /// executes what goes down one in order.
    fn link(&self) -> u32;
}

/// A future that can tell what it answers.
pub trait Shape {
    /// The batch's commands (class and order), without their bytes.
    fn shape(&self) -> Batch;
}

/// A future that can be asked to answer early.
pub trait Expire {
    /// The answer to give when time is up; what was begun goes on without the
    /// client. Not to be polled afterwards.
    fn expire(&mut self, reason: &str) -> Replies;
}

/// Limits of one namespace; a reload replaces them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A batch is answered within this time of its arrival.
    pub request_timeout: Duration,
    /// Bytes of batches in flight per worker.
    pub in_flight_bytes_max: usize,
    /// Batches in flight per worker.
    pub in_flight_batches_max: usize,
}

/// The whole stack of one connection.
pub type Stack = observe::Observe<
    load_shed::LoadShed<
        in_flight::InFlight<deadline::Deadline<journal::Journal<forward::Forward>>>,
    >,
>;

/// What a worker's connections share of the stack.
#[derive(Clone)]
pub struct Shared {
    /// The journal's side of this worker.
    pub journal: journal::Shared<forward::Forward>,
    /// Counts what is in flight.
    pub in_flight: Rc<in_flight::Counters>,
    /// Wakes batches whose time is up.
    pub deadlines: Rc<deadline::Deadlines>,
    /// What is counted.
    pub metrics: Rc<metrics::Metrics>,
}

/// The stack of one connection whose batches go where `route` says.
pub fn build(shared: &Shared, route: forward::Route) -> Stack {
    ServiceBuilder::new()
        .layer(observe::ObserveLayer(Rc::clone(&shared.metrics)))
        .layer(load_shed::LoadShedLayer(Rc::clone(&shared.metrics)))
        .layer(in_flight::InFlightLayer(Rc::clone(&shared.in_flight)))
        .layer(deadline::DeadlineLayer(Rc::clone(&shared.deadlines)))
        .layer(JournalLayer(&shared.journal))
        .service(forward::Forward::new(route))
}

struct JournalLayer<'a>(&'a journal::Shared<forward::Forward>);

impl Layer<forward::Forward> for JournalLayer<'_> {
    type Service = journal::Journal<forward::Forward>;

    fn layer(&self, inner: forward::Forward) -> Self::Service {
        journal::Journal::new(self.0.clone(), inner)
    }
}
