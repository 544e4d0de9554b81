//! Reads a journal that is served elsewhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::super::{Offset, ReadBatch};
use super::{RemoteError, SILENCE_MAX, Token};
use crate::platform::tls::ClientTls;
use state::{Shared, State, Trouble};

pub use queries::RemoteQueries;

mod link;
mod queries;
mod state;

/// Bytes of records that are read ahead: enough for a fast link over an ocean
/// (4 MiB in 100 ms is 335 Mbit/s).
pub const WINDOW_BYTES: usize = 4 << 20;

/// Less would have the server wait for each batch to be taken.
const WINDOW_BYTES_MIN: usize = 1 << 10;

/// Time to connect, encrypt and be welcomed.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest pause between attempts to connect.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A reader without connection for so long is told so.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What is read, and from where.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// The server: `host:port`; an IPv6 address in brackets.
    pub address: String,
    /// Whom to trust, where the connection is to be encrypted.
    pub tls: Option<ClientTls>,
    /// What the server wants to be shown.
    pub token: Option<Token>,
    /// Whose journal.
    pub namespace: String,
    /// A name that stays the same over restarts and is this reader's alone:
    /// what it needs is kept under it. At most 256 bytes.
    pub reader: String,
    /// The journal's identity, where it is known from before: see
    /// [`RemoteError::Replaced`].
    pub identity: Option<u64>,
    /// Whether records may be compressed on the way.
    pub zstd: bool,
    /// See [`WINDOW_BYTES`]. One batch may exceed it.
    pub window_bytes: usize,
    /// See [`CONNECT_TIMEOUT`].
    pub connect_timeout: Duration,
    /// A server that has said nothing for so long is gone. It says something
    /// every second.
    pub silence_max: Duration,
    /// See [`BACKOFF_MAX`].
    pub backoff_max: Duration,
    /// See [`PATIENCE`].
    pub patience: Duration,
}

impl RemoteOptions {
    /// The defaults: unencrypted, without token.
    pub fn new(
        address: impl Into<String>,
        namespace: impl Into<String>,
        reader: impl Into<String>,
    ) -> RemoteOptions {
        RemoteOptions {
            address: address.into(),
            tls: None,
            token: None,
            namespace: namespace.into(),
            reader: reader.into(),
            identity: None,
            zstd: true,
            window_bytes: WINDOW_BYTES,
            connect_timeout: CONNECT_TIMEOUT,
            silence_max: SILENCE_MAX,
            backoff_max: BACKOFF_MAX,
            patience: PATIENCE,
        }
    }
}

/// Reads one journal of a [`super::RemoteServer`]. A task connects, and again
/// when the connection is lost; dropping the reader ends it.
///
/// # Invariants
/// Records come in the order of the journal, each once, without gaps: after an
/// error or a lost connection the next is the one at [`RemoteReader::position`].
///
/// All methods are cancel-safe: a future that is dropped has taken no record,
/// and its query is forgotten.
#[derive(Debug)]
pub struct RemoteReader {
    queries: RemoteQueries,
    task: JoinHandle<()>,
}

impl RemoteReader {
    /// Starts to connect, on the current tokio runtime. `from` is the first
    /// record to read, and the first that is needed.
    pub fn connect(mut options: RemoteOptions, from: Offset) -> RemoteReader {
        options.window_bytes = options.window_bytes.max(WINDOW_BYTES_MIN);
        let shared = Arc::new(Shared::new(State::new(&options, from)));
        let queries = RemoteQueries::new(&shared, options.patience);
        let task = tokio::spawn(link::run(shared, options));
        RemoteReader { queries, task }
    }

    /// Asks over the same connection, from elsewhere and at the same time. It
    /// does not keep the connection.
    pub fn queries(&self) -> RemoteQueries {
        self.queries.clone()
    }

    /// Puts the next records into `into`, in place of what it holds: at least
    /// one, and more while their bytes are below `bytes_max` and they are here.
    /// Waits until there is one; durable records only.
    ///
    /// An error is told when what came before it has been taken. Calling again
    /// goes on trying; it says [`RemoteError::Unreachable`] every
    /// [`RemoteOptions::patience`] while there is no connection, and
    /// [`RemoteError::Refused`] once for each attempt.
    pub async fn next_batch(
        &mut self,
        into: &mut ReadBatch,
        bytes_max: usize,
    ) -> Result<(), RemoteError> {
        into.clear();
        let shared = Arc::clone(self.shared());
        let look = move |state: &mut State| {
            if state.start_feed() {
                shared.work.notify_one();
            }
            if state.take_records(into, bytes_max) {
                if state.owes_credit() {
                    shared.work.notify_one();
                }
                return Some(Ok(()));
            }
            state.replaced().or_else(|| state.failure.take()).map(Err)
        };
        self.queries.wait(look).await
    }

    /// The offset of the record that comes next.
    pub fn position(&self) -> Offset {
        self.shared().state().position
    }

    /// Goes on at another offset. One that is before what was acknowledged is
    /// needed again, if it is still there. Accepts a journal that was replaced.
    pub fn seek(&mut self, offset: Offset) {
        self.shared().state().seek(offset);
        self.shared().work.notify_one();
    }

    /// Records before `needed` may be removed from the journal. Does not wait;
    /// told again after a lost connection.
    pub fn acknowledge(&mut self, needed: Offset) {
        let mut state = self.shared().state();
        if state.needed < needed {
            state.needed = needed;
            drop(state);
            self.shared().work.notify_one();
        }
    }

    /// See [`RemoteQueries::durable_next`].
    pub async fn durable_next(&mut self) -> Result<Offset, RemoteError> {
        self.queries.durable_next().await
    }

    /// See [`RemoteQueries::first_offset`].
    pub async fn first_offset(&mut self) -> Result<Offset, RemoteError> {
        self.queries.first_offset().await
    }

    /// See [`RemoteQueries::find`].
    pub async fn find(&mut self, hlc: u64) -> Result<Offset, RemoteError> {
        self.queries.find(hlc).await
    }

    /// See [`RemoteQueries::durable_next_seen`].
    pub fn durable_next_seen(&self) -> Offset {
        self.queries.durable_next_seen()
    }

    /// Whether there is a connection, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.queries.is_connected()
    }

    /// The journal's identity, once it is known: to be given as
    /// [`RemoteOptions::identity`] with a position that was kept.
    pub fn identity(&self) -> Option<u64> {
        self.shared().state().identity
    }

    fn shared(&self) -> &Arc<Shared> {
        self.queries.shared()
    }
}

impl Drop for RemoteReader {
    fn drop(&mut self) {
        self.task.abort();
        let gone = Trouble::Broken("its reader is gone".to_owned());
        self.shared().lost(gone);
    }
}
