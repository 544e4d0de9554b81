//! The client's side: accepts connections, cuts what they send into batches,
//! and keeps each one's session.
//!
//! Most clients share upstream links. A command that makes a connection
//! stateful moves its client to an exclusive link, until it is stateless
//! again; see `session.rs` for what state there is, and `control.rs` for what
//! each command does to it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use slab::Slab;
use tokio::sync::Notify;

use crate::datastore::{Links, Ring};
use crate::protocol::resp::commands::Table;
use crate::protocol::resp::scanner;
use crate::protocol::{Pool, Protocol};
use crate::stack::{self, metrics::Metrics};

pub use learn::extend_table;

mod client;
pub mod clients;
pub mod connection;
mod control;
mod duplex;
mod effects;
mod learn;
pub mod listener;
mod memcached;
mod session;

/// How clients get upstream links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionMode {
    /// Stateless clients share.
    Shared,
    /// Each client has its own.
    Dedicated,
}

/// What a namespace wants of its client connections; a reload replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How clients get upstream links.
    pub mode: ConnectionMode,
    /// So many clients per worker; one more is refused.
    pub client_limit: usize,
    /// A client that has more unread than this many bytes when there is more
    /// for it is closed.
    pub client_output_bytes_max: usize,
    /// What clients speak.
    pub protocol: Protocol,
    /// What a client may send in RESP.
    pub scanner: scanner::Limits,
    /// What a client may send to memcached.
    pub memcached: crate::protocol::memcached::scanner::Limits,
}

/// What all connections of one worker of one namespace share.
pub struct Context {
    /// What the namespace wants now.
    pub options: Cell<Options>,
    /// The links to the datastore, or to the first of several servers.
    pub links: Rc<Links>,
    /// The servers, where there are several.
    pub ring: Option<Rc<Ring>>,
    /// The shared part of the stack.
    pub stack: stack::Shared,
    /// The command table.
    pub table: Arc<ArcSwap<Table>>,
    /// Buffers.
    pub pool: Rc<Pool>,
    /// What is counted.
    pub metrics: Rc<Metrics>,
    /// Whether connections close as soon as they have nothing in flight.
    pub draining: Cell<bool>,
    /// Tells listeners that draining has begun.
    pub drained: Notify,
    /// Wakes each connection when draining begins.
    pub connections: RefCell<Slab<Option<Waker>>>,
    /// All clients of the namespace.
    pub clients: Arc<clients::Clients>,
    /// The last number CLIENT ID was answered with.
    pub last_client_id: Cell<u64>,
    /// Names the datastore was asked about, and when it answered.
    pub asked: RefCell<HashMap<Vec<u8>, Instant>>,
}

/// A name the datastore did not know is asked for again after this long: a
/// module may have been loaded.
const ASKED_FOR: Duration = Duration::from_secs(5);
/// So many such names are remembered.
const ASKED_MAX: usize = 1024;
/// No command has a longer name; the datastore is not asked about it.
const NAME_BYTES_MAX: usize = 64;

impl Context {
    /// Asks listeners to end, and all connections to close when they have
    /// nothing in flight.
    pub fn drain(&self) {
        self.draining.set(true);
        self.drained.notify_waiters();
        for (_, waker) in self.connections.borrow().iter() {
            if let Some(waker) = waker {
                waker.wake_by_ref();
            }
        }
    }

    /// A client that has this many bytes to read is not read from. Clients may
    /// write all of a pipeline before they read the first reply, as they may
    /// with the datastore itself, so it is far above what sockets hold; and
    /// below the limit by enough for what is in flight.
    fn output_high_water(&self) -> usize {
        self.options.get().client_output_bytes_max / 4
    }

    fn next_client_id(&self) -> u64 {
        self.last_client_id.set(self.last_client_id.get() + 1);
        self.last_client_id.get()
    }

    /// Whether the datastore might know more of the command than the table.
    fn is_to_be_asked(&self, name: &[u8]) -> bool {
        let asked = self.asked.borrow();
        let lately = |at: &Instant| at.elapsed() < ASKED_FOR;
        name.len() <= NAME_BYTES_MAX && !asked.get(name).is_some_and(lately)
    }

    fn remember_asked(&self, name: &[u8]) {
        let mut names = self.asked.borrow_mut();
        if ASKED_MAX <= names.len() {
            names.clear();
        }
        names.insert(name.to_vec(), Instant::now());
    }
}
