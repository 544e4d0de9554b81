//! A connection to one server.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::{CacheError, Reply, Said};
use crate::datastore::handshake;
use crate::datastore::{LinkKey, OpenError, Options, Wire};
use crate::platform::stream::Stream;
use crate::protocol::memcached::replies::ReplyScanner;
use crate::protocol::memcached::verbs::Shape;

/// What one read asks for.
const READ_BYTES: usize = 64 * 1024;

/// A server, and the connection to it where there is one.
pub(super) struct Connection {
    options: Options,
    stream: Option<Stream>,
    /// What goes out next.
    pub(super) out: Vec<u8>,
    input: BytesMut,
    /// Since when it can't be connected to.
    pub(super) away_since: Option<Instant>,
    tried_at: Option<Instant>,
}

impl Connection {
    pub(super) fn new(options: Options) -> Connection {
        Connection {
            options,
            stream: None,
            out: Vec::new(),
            input: BytesMut::new(),
            away_since: None,
            tried_at: None,
        }
    }

    /// How it is reached.
    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Whether it is not connected, nor was tried for so long.
    pub(super) fn is_to_be_tried(&self, pause: Duration) -> bool {
        let is_due = |at: Instant| pause <= at.elapsed();
        self.stream.is_none() && self.tried_at.is_none_or(is_due)
    }

    /// Connects, where it is not.
    pub(super) async fn open(&mut self) -> Result<(), OpenError> {
        if self.stream.is_some() {
            return Ok(());
        }
        self.tried_at = Some(Instant::now());
        let opened = self.greeted().await;
        self.away_since = match &opened {
            Ok(()) => None,
            Err(_) => self.away_since.or_else(|| Some(Instant::now())),
        };
        opened
    }

    /// Connects and makes sure that the server is new enough.
    async fn greeted(&mut self) -> Result<(), OpenError> {
        let key = LinkKey {
            wire: Wire::MemcachedText,
            database: 0,
            identity: self.options.identity.clone(),
        };
        let opened = handshake::open(&self.options, &key, b"").await?;
        self.stream = Some(opened.stream);
        self.input.clear();
        let waiting = std::mem::replace(&mut self.out, b"mn\r\n".to_vec());
        let timeout = self.options.connect_timeout;
        let said = async {
            self.send().await?;
            self.receive().await
        };
        let said = tokio::time::timeout(timeout, said).await;
        self.out = waiting;
        let address = &self.options.address;
        let problem = match said {
            Ok(Ok(reply)) if reply.said() == Said::Done => return Ok(()),
            Ok(Ok(reply)) if reply.said() == Said::Nonsense => format!(
                "datastore {address} does not know meta commands; replication needs memcached \
                 1.6 or newer"
            ),
            Ok(Ok(reply)) => format!("datastore {address} said {}", reply.text()),
            Ok(Err(error)) => format!("datastore {address} unreachable: {error}"),
            Err(_) => format!("datastore {address} unreachable: connecting timed out"),
        };
        self.stream = None;
        Err(OpenError::Unreachable(Rc::from(problem)))
    }

    /// Ends the connection, with all that waits for it.
    pub(super) fn close(&mut self) {
        self.stream = None;
        self.out.clear();
        self.input.clear();
    }

    /// Sends what waits.
    pub(super) async fn send(&mut self) -> Result<(), CacheError> {
        let out = std::mem::take(&mut self.out);
        let stream = self.stream.as_mut().ok_or_else(closed)?;
        stream.write_all(&out).await.map_err(failed)
    }

    /// Waits for the next reply.
    pub(super) async fn receive(&mut self) -> Result<Reply, CacheError> {
        let stream = self.stream.as_mut().ok_or_else(closed)?;
        let mut scanner = ReplyScanner::default();
        loop {
            match scanner.next(Shape::Meta, &self.input) {
                Ok(Some(frame)) => {
                    return Ok(Reply::of(&self.input.split_to(frame.end).freeze()));
                }
                Ok(None) => {}
                Err(error) => return Err(CacheError(format!("memcached's reply: {error}"))),
            }
            self.input.reserve(READ_BYTES);
            let read = stream.read(&mut self.input).await.map_err(failed)?;
            if read == 0 {
                return Err(closed());
            }
        }
    }
}

fn closed() -> CacheError {
    CacheError("memcached closed the connection".to_owned())
}

fn failed(error: std::io::Error) -> CacheError {
    CacheError(format!("memcached connection: {error}"))
}
