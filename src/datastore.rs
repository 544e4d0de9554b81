//! Upstream links: how the sidecar talks to the datastore.
//!
//! A [`Link`] is one connection with a queue of batches in flight. A worker
//! shares one link among all clients of the same [`LinkKey`]; a client whose
//! connection carries state has a link to itself. Both are the same code: the
//! difference is who holds the handle, and whether anybody wants the bytes
//! that answer no command (push frames, published messages).

use std::rc::Rc;
use std::time::Duration;

use crate::platform::stream::Address;
use crate::platform::tls::ClientTls;

pub mod cache;
pub mod client;
pub mod handshake;
pub mod link;
pub mod links;
mod receive;
pub mod ring;

pub use link::{Link, Response, Unasked};
pub use links::Links;
pub use ring::Ring;

/// How to reach a datastore.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens.
    pub address: Address,
    /// How TLS is spoken with it, where it is.
    pub tls: Option<ClientTls>,
    /// What clients speak that have not said what.
    pub wire: Wire,
    /// Who clients are that have not authenticated themselves.
    pub identity: Identity,
    /// The database of clients that have not selected one.
    pub database: u32,
    /// A connection attempt, handshake included, takes at most this long.
    pub connect_timeout: Duration,
    /// A link whose datastore leaves more than this many bytes unread takes no
    /// more batches.
    pub unsent_bytes_max: usize,
}

/// Who a link is authenticated as.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Nobody: no AUTH is sent.
    #[default]
    Anonymous,
    /// `AUTH password`: the default user, in the form old servers know too.
    Password(Rc<[u8]>),
    /// `AUTH user password`.
    User(Rc<[u8]>, Rc<[u8]>),
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Identity::Anonymous => f.write_str("Anonymous"),
            Identity::Password(_) => f.write_str("Password(***)"),
            Identity::User(user, _) => {
                write!(f, "User({}, ***)", String::from_utf8_lossy(user))
            }
        }
    }
}

/// What is spoken on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wire {
    /// RESP2.
    Resp2,
    /// RESP3.
    Resp3,
    /// memcached's lines, classic and meta.
    MemcachedText,
    /// memcached's packets.
    MemcachedBinary,
}

/// What clients must have in common to share a link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LinkKey {
    /// What is spoken.
    pub wire: Wire,
    /// The selected database.
    pub database: u32,
    /// Who the clients are.
    pub identity: Identity,
}

/// Why a link could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The datastore could not be reached, or hung up.
    #[error("{0}")]
    Unreachable(Rc<str>),
    /// The datastore refused a command of the handshake; the raw error reply.
    #[error("{}", String::from_utf8_lossy(.0).trim_start_matches('-').trim_end())]
    Refused(Rc<[u8]>),
}
