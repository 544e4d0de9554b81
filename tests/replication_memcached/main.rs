//! Replication into memcached, with real servers.

#[path = "../support/mod.rs"]
mod support;

mod ejection;
mod regions;
mod target;
mod throughput;
