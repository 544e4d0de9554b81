//! The Redis protocol, RESP2 and RESP3, as a proxy needs it.

pub mod arguments;
pub mod commands;
mod inline;
pub mod replies;
pub mod scanner;

pub use arguments::Arguments;
