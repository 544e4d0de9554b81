//! What the system gives: sockets, and what tests want to control.

pub mod stream;
