//! A journal served over the network, for readers in other processes.
//!
//! ```text
//!  journal --Reader--> feed --Records--> socket --> chunks --> RemoteReader
//!  (blocking thread)   (connection task)           (link task)   (caller)
//!     Cursor <------------- Acknowledge <------------------------ acknowledge
//! ```
//!
//! [`RemoteServer`] serves journals of one partition, one for each namespace.
//! [`RemoteReader`] reads one of them as a [`super::Reader`] would, and connects
//! again by itself. The messages are in `proto/wal_sidecar/serve/v1/serve.proto`.
//!
//! A reader asks for records from an offset on and gives credit, in bytes; the
//! server sends what becomes durable while there is credit, and more is given as
//! the caller takes records. So what is under way and not taken is bounded on
//! both sides, and no record waits for a request to cross the network.
//!
//! Queries have numbers of their own and are answered at once: ahead of records
//! that are not on the socket yet, of which there are few at a time.
//!
//! What a reader still needs is held by a [`super::Cursor`] for as long as it is
//! connected, and for a time after that under its name. It does not outlive the
//! server: a reader says what it needs whenever it connects.
//!
//! Whoever is connected and silent for some seconds is gone: both sides say
//! something every second.

use std::time::Duration;

use super::Offset;

pub use client::{
    BACKOFF_MAX, CONNECT_TIMEOUT, PATIENCE, RemoteOptions, RemoteQueries, RemoteReader,
    WINDOW_BYTES,
};
pub use server::{
    CURSOR_GRACE, READERS_MAX, RemoteServer, ServeError, ServeOptions, ServedCounters, ServedStats,
};
pub use token::Token;

mod client;
mod frame;
mod pulse;
mod server;
mod token;
mod wire;

/// Generated from `proto/wal_sidecar/serve/v1/serve.proto`.
#[allow(missing_docs, clippy::all)]
mod v1 {
    include!(concat!(env!("OUT_DIR"), "/wal_sidecar.serve.v1.rs"));
}

/// Records of up to so many bytes are read, compressed and sent at once: some
/// milliseconds of a slow link, and enough for compression to find something.
pub const BATCH_BYTES_MAX: usize = 256 << 10;

/// A frame's body can't be longer, in bytes: a batch may exceed its limit by
/// one record, and a record's length takes some bytes too.
const BODY_BYTES_MAX: u32 = (super::RECORD_BYTES_MAX + 4 * BATCH_BYTES_MAX) as u32;

/// What a reader has to say is short.
const REQUEST_BYTES_MAX: u32 = 16 << 10;

/// Longer texts in a failure are cut.
const REASON_CHARACTERS_MAX: usize = 1000;

/// A record counts as so much more than its bytes, for it takes memory too.
const RECORD_OVERHEAD_BYTES: usize = 16;

/// Whoever has sent nothing for so long says that it is there.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// How often the time is looked at: for pings, and for silence.
const TICK: Duration = Duration::from_millis(250);

/// Whoever has said nothing for so long is gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Why a [`RemoteReader`] has no records or no answer. All but `Removed` and
/// `Replaced` may be different at the next call, which tries again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// Retention removed the records at the position: see
    /// [`RemoteReader::seek`].
    #[error("records before offset {first} were removed by retention")]
    Removed {
        /// The first offset that can be read.
        first: Offset,
    },
    /// The server has another journal than before: offsets mean nothing in it.
    /// Until [`RemoteReader::seek`].
    #[error("the journal was replaced by another ({was:016x} by {is:016x})")]
    Replaced {
        /// The identity it had.
        was: u64,
        /// The identity it has.
        is: u64,
    },
    /// The server does not want this reader: its token is wrong, it has no such
    /// namespace, or too many readers.
    #[error("refused: {reason}")]
    Refused {
        /// The server's words.
        reason: String,
    },
    /// The records at the position are damaged at the server.
    #[error("damaged: {reason}")]
    Damaged {
        /// The server's words.
        reason: String,
    },
    /// The server can't read its journal at the moment.
    #[error("the journal can't be read: {reason}")]
    Unreadable {
        /// The server's words.
        reason: String,
    },
    /// There is no connection, and it is being tried again and again.
    #[error("unreachable for {:.1} s: {reason}", since.as_secs_f64())]
    Unreachable {
        /// How long there has been none.
        since: Duration,
        /// What the last attempt came to.
        reason: String,
    },
}
