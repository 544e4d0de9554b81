//! The memcached protocols as a proxy needs them: classic text, meta commands,
//! and binary.
//!
//! Written after memcached 1.6.18 and 1.6.45. Where the two disagree about
//! where a command ends, the command is refused, because a value of one would
//! be commands of the other. Where they disagree about what a command does, it
//! is taken for the more that it may do.
//!
//! Links to the datastore are shared and pipelined, so all that is forwarded
//! has exactly one reply: what a client sends to be answered with silence is
//! forwarded in its loud form ([`loud`]), and what the client would not have
//! seen is left out of the replies ([`silence`]). What memcached would answer
//! with nothing but an error, or would let end a connection, is answered here
//! ([`answers`]).

pub mod answers;
pub mod binary;
pub mod key;
pub mod line;
pub mod loud;
pub mod meta;
pub mod number;
pub mod replies;
pub mod reply;
pub mod request;
pub mod route;
pub mod scanner;
pub mod silence;
mod text;
pub mod verbs;

/// The first byte of every binary request.
pub const BINARY_REQUEST: u8 = 0x80;

/// The first byte of every binary response.
pub const BINARY_RESPONSE: u8 = 0x81;

/// The longest key in bytes (`KEY_MAX_LENGTH`).
pub const KEY_BYTES_MAX: usize = 250;

/// The longest opaque token of a meta command in bytes, its letter included
/// (`MFLAG_MAX_OPAQUE_LENGTH`).
pub const OPAQUE_BYTES_MAX: usize = 32;

/// Which of its two languages a connection speaks; meta commands are text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Lines, classic and meta.
    Text,
    /// Packets with a header of 24 bytes.
    Binary,
}

impl Dialect {
    /// What a connection speaks, told by the first byte that a client sends on
    /// it; it never changes afterwards.
    pub fn of(first: u8) -> Dialect {
        match first {
            BINARY_REQUEST => Dialect::Binary,
            _ => Dialect::Text,
        }
    }
}
