//! The admin endpoint: HTTP for machines and people that look after this
//! process.
//!
//! | path | method | answer |
//! |---|---|---|
//! | `/` | GET | the list of these |
//! | `/metrics` | GET | Prometheus's text format |
//! | `/healthz` | GET | 200 as long as the process answers |
//! | `/readyz` | GET | 200 or 503, and each check by name |
//! | `/config` | GET | the effective configuration, secrets redacted |
//! | `/drain` | POST | 202; the process drains and ends. From this host only |
//!
//! It runs on the runtime it is spawned on, be it of one thread. What a
//! client can hold is bounded: connections, the size of a request's head,
//! the time to send it, and a connection's life.

mod routes;
mod server;

pub use routes::{Readiness, State};
pub use server::{BindError, Server, bind};

use std::net::SocketAddr;

/// Where the admin endpoint listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The address; port 0 takes a free port.
    pub listen: SocketAddr,
}
