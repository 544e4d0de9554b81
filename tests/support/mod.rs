//! What integration tests share: real servers on free loopback ports, a raw
//! RESP client, and random numbers that can be repeated.
//!
//! Everything a test starts is stopped by its process id when its value is
//! dropped, whether the test passed or panicked.

// Every test file compiles this module for itself and uses a part of it.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test crate uses a part of the harness"
)]

pub mod certificates;
pub mod http;
pub mod journal;
pub mod kafka;
pub mod line;
pub mod memcached;
pub mod process;
pub mod random;
pub mod redis;
pub mod resp;
pub mod sidecar;
pub mod topic;
pub mod wait;

pub use kafka::{Cluster, Kafka};
pub use memcached::{Memcache, Memcached};
pub use random::Random;
pub use redis::{Redis, RedisOptions};
pub use resp::Client;
pub use sidecar::{Sidecar, SidecarOptions};
pub use wait::until;
