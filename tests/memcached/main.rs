//! memcached through the sidecar: the same replies as without it, a journal
//! that tells what the server holds, and honest answers when something fails.
//!
//! `SIDECAR_TEST_SEED` repeats a run.

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod differential;
mod failures;
mod frames;
mod framing;
mod replay;
mod ring;
