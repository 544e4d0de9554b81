//! Serves journals: accepts readers, within limits, until it is stopped.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::super::{Journal, Offset};
use super::Token;
use crate::platform::stream::{Address, BoundSocket, Listener};
use crate::platform::tls::ServerTls;
use leases::Leases;

mod connection;
mod feed;
mod leases;

/// Connections that have not shown who they are; others wait in the kernel.
const STRANGERS_MAX: usize = 64;

/// Readers at once: a few for each of a few regions.
pub const READERS_MAX: usize = 256;

/// What a reader needs is kept for so long after it went away: a restart, or a
/// network that is being repaired.
pub const CURSOR_GRACE: Duration = Duration::from_secs(15 * 60);

/// How often leases are looked at.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// Pause after an accept that failed for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// At most one line about refused connections in so long.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(10);

/// How journals are served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Where; port 0 takes a free port.
    pub listen: SocketAddr,
    /// What readers have to show; None: nothing.
    pub token: Option<Token>,
    /// What the connections are encrypted with; None: they are not.
    pub tls: Option<ServerTls>,
    /// Whether records are compressed for readers that take that.
    pub zstd: bool,
    /// See [`CURSOR_GRACE`].
    pub cursor_grace: Duration,
    /// See [`READERS_MAX`].
    pub readers_max: usize,
}

impl ServeOptions {
    /// The defaults: open to all who reach the address.
    pub fn new(listen: SocketAddr) -> ServeOptions {
        ServeOptions {
            listen,
            token: None,
            tls: None,
            zstd: true,
            cursor_grace: CURSOR_GRACE,
            readers_max: READERS_MAX,
        }
    }
}

/// Why journals can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A journal is not in files of this machine.
    #[error(
        "the journal of namespace {namespace} is in Kafka, and is not served: replicators read \
         its topic"
    )]
    Kafka {
        /// Whose journal.
        namespace: String,
    },
    /// The address can't be listened on.
    #[error("cannot listen on {listen} to serve the journal: {source}")]
    Bind {
        /// Which.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// What was served of one journal since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedStats {
    /// Whose journal.
    pub namespace: String,
    /// Records sent, to all readers together.
    pub records: u64,
    /// Bytes of these records, without framing and before compression.
    pub bytes: u64,
    /// Readers that are connected.
    pub readers: u64,
}

/// A server at work. Dropped, it ends at once.
#[derive(Debug)]
pub struct RemoteServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<Option<Instant>>,
    task: JoinHandle<()>,
}

/// What a [`RemoteServer`] has served; outlives it.
#[derive(Debug, Clone)]
pub struct ServedCounters(Arc<Shared>);

/// What connections share.
#[derive(Debug)]
struct Shared {
    options: ServeOptions,
    streams: Vec<Arc<Stream>>,
    refusals: Seldom,
    strangers: AtomicUsize,
    readers: AtomicUsize,
}

/// One journal that is served.
#[derive(Debug)]
struct Stream {
    namespace: String,
    journal: Journal,
    leases: Arc<Leases>,
    records: AtomicU64,
    bytes: AtomicU64,
    readers: AtomicU64,
}

impl RemoteServer {
    /// Starts serving the journals, each under its namespace, on the current
    /// tokio runtime. Journals in Kafka are refused.
    pub fn start(
        options: ServeOptions,
        journals: Vec<(String, Journal)>,
    ) -> Result<RemoteServer, ServeError> {
        let mut streams = Vec::new();
        for (namespace, journal) in journals {
            if matches!(journal, Journal::Kafka(_) | Journal::Spool(_)) {
                return Err(ServeError::Kafka { namespace });
            }
            streams.push(Arc::new(Stream {
                namespace,
                journal,
                leases: Arc::new(Leases::new(options.cursor_grace)),
                records: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                readers: AtomicU64::new(0),
            }));
        }
        let listen = options.listen;
        let (listener, address) =
            bind(listen).map_err(|source| ServeError::Bind { listen, source })?;
        let shared = Arc::new(Shared {
            options,
            streams,
            refusals: Seldom::default(),
            strangers: AtomicUsize::new(0),
            readers: AtomicUsize::new(0),
        });
        let (stop, stopped) = watch::channel(None);
        let task = tokio::spawn(accept(listener, Arc::clone(&shared), stopped));
        Ok(RemoteServer {
            address,
            shared,
            stop,
            task,
        })
    }

    /// Where it listens, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was served so far, one entry a journal.
    pub fn stats(&self) -> Vec<ServedStats> {
        self.counters().stats()
    }

    /// The same, for whoever looks now and then.
    pub fn counters(&self) -> ServedCounters {
        ServedCounters(Arc::clone(&self.shared))
    }

    /// Takes no more readers, sends those that are there what is durable by
    /// now, and ends when they have it all, or after `patience`. To be called
    /// when nothing is appended any more. Not cancel-safe: what is left then
    /// ends with the runtime.
    pub async fn stop(mut self, patience: Duration) {
        let _ = self.stop.send(Some(Instant::now() + patience));
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "serving the journal ended by a bug");
        }
    }
}

impl ServedCounters {
    /// What was served so far, one entry a journal.
    pub fn stats(&self) -> Vec<ServedStats> {
        let streams = self.0.streams.iter();
        let stats = streams.map(|stream| ServedStats {
            namespace: stream.namespace.clone(),
            records: stream.records.load(Ordering::Relaxed),
            bytes: stream.bytes.load(Ordering::Relaxed),
            readers: stream.readers.load(Ordering::Relaxed),
        });
        stats.collect()
    }
}

impl Drop for RemoteServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn bind(listen: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let address = Address::Tcp(listen.ip().to_string(), listen.port());
    let BoundSocket::Tcp(socket) = Listener::bind(&address, false)? else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let address = socket.local_addr()?;
    Ok((TcpListener::from_std(socket)?, address))
}

/// Dropping it ends the connections.
async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<Option<Instant>>,
) {
    let mut connections = JoinSet::new();
    let mut ticks = interval(EXPIRY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Events: a connection, the end of one, the time, told to end.
    loop {
        let has_room = shared.strangers.load(Ordering::Relaxed) < STRANGERS_MAX;
        tokio::select! {
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, peer)) => {
                    let served = connection::serve(stream, peer, Arc::clone(&shared), stop.clone());
                    connections.spawn(served);
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a reader of the journal failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => log_panic(ended),
            // Also looks again whether there is room.
            now = ticks.tick() => {
                for stream in &shared.streams {
                    stream.leases.expire(now);
                }
            }
            _ = stop.changed() => break,
        }
    }
    drop(listener);
    let deadline = stop.borrow().unwrap_or_else(Instant::now);
    let all = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if timeout_at(deadline, all).await.is_err() {
        let readers = connections.len();
        tracing::warn!(
            readers,
            "readers of the journal did not take all of it in time"
        );
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection of a reader ended by a bug");
    }
}

/// One past the last durable record.
fn durable_next(journal: &Journal) -> Offset {
    journal.durable_through().map_or(0, |last| last + 1)
}

/// Lets something be said seldom, and counts how often it was not.
#[derive(Debug, Default)]
struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// How often it was kept silent since the last time, if it may be said now.
    fn allows(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.0.is_some_and(|last| now - last < REFUSAL_INTERVAL) {
            state.1 += 1;
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

/// Counts one more for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    /// None where there are `max` already.
    fn below(counter: &'a AtomicUsize, max: usize) -> Option<Counted<'a>> {
        let counted = Counted(counter);
        (counter.fetch_add(1, Ordering::Relaxed) < max).then_some(counted)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_said_seldom_counts_what_it_left_out() {
        let seldom = Seldom::default();
        assert_eq!(seldom.allows(), Some(0));
        assert_eq!((seldom.allows(), seldom.allows()), (None, None));
        tokio::time::advance(REFUSAL_INTERVAL).await;
        assert_eq!(seldom.allows(), Some(2));
        assert_eq!(seldom.allows(), None);
    }

    #[test]
    fn no_more_are_counted_than_may_be() {
        let counter = AtomicUsize::new(0);
        let first = Counted::below(&counter, 1);
        assert!(first.is_some() && Counted::below(&counter, 1).is_none());
        drop(first);
        assert!(Counted::below(&counter, 1).is_some());
    }
}
