//! An empty region is filled from another one, and regions are compared: with real
//! servers, sidecars that replicate, and the command line.

mod errors;
mod filling;
mod memcached;
mod regions;
#[path = "../support/mod.rs"]
mod support;
mod verifying;
