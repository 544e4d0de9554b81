//! The task that has the connection, and makes another when it breaks.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::super::frame::{Frame, FrameError};
use super::super::pulse::{Beat, Pulse};
use super::super::v1::{
    Acknowledge, Credit, Failure, Fetch, Hello, Ping, Query, Records, Welcome, body::Kind,
    failure::Code,
};
use super::super::wire::{Transport, Wire, tune};
use super::super::{BODY_BYTES_MAX, RemoteError, TICK, Token};
use super::state::{Chunk, Shared, Trouble};
use super::{Offset, RemoteOptions};
use crate::journal::RECORD_BYTES_MAX;
use crate::platform::Platform;
use crate::platform::stream::{Address, Stream};

/// The first pause after a connection broke or could not be made.
const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// Records come in large frames: so much is read at once.
const READ_BYTES: usize = 64 << 10;

/// A batch is not longer than its limit and one record.
const RECORDS_BYTES_MAX: u64 = (RECORD_BYTES_MAX + super::super::BATCH_BYTES_MAX) as u64;

/// Why a connection broke or could not be made.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("{0:?} is not host:port")]
    Address(String),
    #[error("connect: {0}")]
    Connect(std::io::Error),
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    #[error("no welcome within {} ms", _0.as_millis())]
    Timeout(Duration),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("nothing was heard of the server for {} ms", _0.as_millis())]
    Silent(Duration),
    #[error("the server sent nonsense: {0}")]
    Nonsense(&'static str),
    #[error("{reason}")]
    Ended { code: Code, reason: String },
}

impl LinkError {
    fn trouble(self) -> Trouble {
        match self {
            LinkError::Ended {
                code: Code::Token | Code::Namespace | Code::Busy | Code::Malformed,
                reason,
            } => Trouble::Refused(reason),
            other => Trouble::Broken(other.to_string()),
        }
    }
}

/// Pauses that get longer.
struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    fn new(max: Duration) -> Backoff {
        Backoff {
            next: BACKOFF_MIN.min(max),
            max,
        }
    }

    /// Between half of the pause that is due and all of it, so that those who
    /// lost one server do not come back together.
    fn pause(&mut self, random: u64) -> Duration {
        let due = self.next;
        self.next = (due * 2).min(self.max);
        due / 2 + (due / 2).mul_f64(random as f64 / u64::MAX as f64)
    }
}

/// Keeps a connection until it is aborted.
pub(super) async fn run(shared: Arc<Shared>, options: RemoteOptions) {
    let random = Platform::system().random;
    let mut backoff = Backoff::new(options.backoff_max);
    loop {
        let error = match connect(&shared, &options).await {
            Ok((wire, needed)) => {
                let begun = Instant::now();
                let session = Session::new(&shared, &options, wire, needed);
                let error = session.run().await;
                if options.backoff_max <= begun.elapsed() {
                    backoff = Backoff::new(options.backoff_max);
                }
                error
            }
            Err(error) => error,
        };
        shared.lost(error.trouble());
        sleep(backoff.pause(random.next_u64())).await;
    }
}

/// The connection, and what the server was told is needed.
async fn connect(shared: &Shared, options: &RemoteOptions) -> Result<(Wire, Offset), LinkError> {
    let needed = shared.state().needed;
    let greeted = timeout(options.connect_timeout, greet(options, needed)).await;
    let (wire, welcome) = greeted.map_err(|_| LinkError::Timeout(options.connect_timeout))??;
    shared
        .state()
        .welcome(welcome.identity, welcome.durable_next);
    shared.tell();
    Ok((wire, needed))
}

async fn greet(options: &RemoteOptions, needed: Offset) -> Result<(Wire, Welcome), LinkError> {
    let invalid = || LinkError::Address(options.address.clone());
    let (host, port) = options.address.rsplit_once(':').ok_or_else(invalid)?;
    let port = port.parse().map_err(|_| invalid())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let connected = Stream::connect(&Address::Tcp(host.to_owned(), port)).await;
    let Stream::Tcp(stream) = connected.map_err(LinkError::Connect)? else {
        return Err(invalid());
    };
    tune(&stream)?;
    let transport = match &options.tls {
        None => Transport::Plain(stream),
        Some(tls) => {
            let encrypted = tls.connect(stream).await;
            Transport::Tls(Box::new(encrypted.map_err(LinkError::Tls)?.into()))
        }
    };
    let mut wire = Wire::new(transport, BODY_BYTES_MAX, READ_BYTES);
    let hello = Hello {
        token: options.token.as_ref().map(Token::bytes).unwrap_or_default(),
        namespace: options.namespace.clone(),
        reader: options.reader.clone(),
        needed,
        zstd: options.zstd,
    };
    wire.push(0, Kind::Hello(hello));
    loop {
        match wire.next_frame()?.map(|frame| frame.kind) {
            None => wire.exchange().await?,
            Some(Some(Kind::Welcome(welcome))) => return Ok((wire, welcome)),
            Some(Some(Kind::Failure(failure))) => return Err(ended(failure)),
            Some(_) => return Err(LinkError::Nonsense("no welcome")),
        }
    }
}

fn ended(failure: Failure) -> LinkError {
    LinkError::Ended {
        code: failure.code(),
        reason: failure.reason,
    }
}

/// One connection, once it is welcome.
struct Session<'a> {
    shared: &'a Shared,
    wire: Wire,
    silence_max: Duration,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
    /// What the server has been told.
    sent_feed: Option<u32>,
    sent_needed: Offset,
}

impl Session<'_> {
    fn new<'a>(
        shared: &'a Shared,
        options: &RemoteOptions,
        wire: Wire,
        needed: Offset,
    ) -> Session<'a> {
        Session {
            shared,
            wire,
            silence_max: options.silence_max,
            decompressor: None,
            sent_feed: None,
            sent_needed: needed,
        }
    }

    /// Why it ended.
    async fn run(mut self) -> LinkError {
        let mut pulse = Pulse::new(self.silence_max);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What came together with the welcome.
        if let Err(error) = self.take_frames() {
            return error;
        }
        loop {
            self.send_wishes();
            // Events: bytes came or all were sent; the caller wants something;
            // the time.
            tokio::select! {
                exchanged = self.wire.exchange() => {
                    // What came before the end counts.
                    let taken = self.take_frames();
                    let ended = taken.and_then(|()| exchanged.map_err(LinkError::Io));
                    if let Err(error) = ended {
                        return error;
                    }
                }
                () = self.shared.work.notified() => {}
                _ = ticks.tick() => match pulse.beat(self.wire.traffic(), 0 < self.wire.unsent()) {
                    Beat::Silent => return LinkError::Silent(self.silence_max),
                    Beat::Ping => self.wire.push(0, Kind::Ping(Ping::default())),
                    Beat::Nothing => {}
                },
            }
        }
    }

    /// Tells the server what it has not been told.
    fn send_wishes(&mut self) {
        let mut state = self.shared.state();
        for query in &mut state.queries {
            if !query.is_sent && query.answer.is_none() {
                let what = Some(query.what);
                self.wire.push(query.number, Kind::Query(Query { what }));
                query.is_sent = true;
            }
        }
        match state.feed {
            Some(feed) if self.sent_feed != Some(feed) => {
                let credit = state.whole_credit();
                let from = state.received_next;
                self.wire.push(feed, Kind::Fetch(Fetch { from, credit }));
                self.sent_feed = Some(feed);
            }
            Some(feed) => {
                if let Some(credit) = state.take_credit() {
                    self.wire.push(feed, Kind::Credit(Credit { credit }));
                }
            }
            None => {}
        }
        let needed = state.needed;
        if self.sent_needed != needed {
            self.wire.push(0, Kind::Acknowledge(Acknowledge { needed }));
            self.sent_needed = needed;
        }
    }

    fn take_frames(&mut self) -> Result<(), LinkError> {
        while let Some(frame) = self.wire.next_frame()? {
            self.take(frame)?;
        }
        Ok(())
    }

    fn take(&mut self, Frame { number, kind }: Frame) -> Result<(), LinkError> {
        match kind {
            Some(Kind::Records(records)) => self.take_records(number, records),
            Some(Kind::Answer(answer)) => {
                self.answer(number, Ok(answer.offset));
                Ok(())
            }
            Some(Kind::Failure(failure)) if number == 0 => Err(ended(failure)),
            Some(Kind::Failure(failure)) => {
                self.fail(number, failure);
                Ok(())
            }
            Some(Kind::Ping(ping)) => {
                self.shared.state().durable_next = ping.durable_next;
                Ok(())
            }
            // A later version's.
            _ => Ok(()),
        }
    }

    fn take_records(&mut self, number: u32, records: Records) -> Result<(), LinkError> {
        if self.shared.state().feed != Some(number) {
            // Of a feed before the last seek.
            return Ok(());
        }
        let Records {
            first,
            lengths,
            zstd,
            mut records,
            durable_next,
        } = records;
        if zstd {
            let bytes: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
            records = self.decompress(&records, bytes)?;
        }
        let chunk = Chunk::new(lengths, records);
        let chunk = chunk.ok_or(LinkError::Nonsense("lengths that do not fit the records"))?;
        let mut state = self.shared.state();
        // The caller may have sought meanwhile.
        if state.feed == Some(number) {
            if !state.put(first, chunk) {
                return Err(LinkError::Nonsense("records out of order"));
            }
            state.durable_next = durable_next;
            drop(state);
            self.shared.tell();
        }
        Ok(())
    }

    fn decompress(&mut self, compressed: &[u8], bytes: u64) -> Result<bytes::Bytes, LinkError> {
        if RECORDS_BYTES_MAX < bytes {
            return Err(LinkError::Nonsense("a batch that is too long"));
        }
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        let plain = decompressor.decompress(compressed, bytes as usize)?;
        Ok(plain.into())
    }

    fn fail(&self, number: u32, failure: Failure) {
        let (code, first, reason) = (failure.code(), failure.first, failure.reason);
        let error = match code {
            Code::Removed => RemoteError::Removed { first },
            Code::Damaged => RemoteError::Damaged { reason },
            Code::Busy => RemoteError::Refused { reason },
            _ => RemoteError::Unreadable { reason },
        };
        let mut state = self.shared.state();
        if state.feed == Some(number) {
            state.feed = None;
            state.failure = Some(error);
        } else {
            state.answer(number, Err(error));
        }
        drop(state);
        self.shared.tell();
    }

    fn answer(&self, number: u32, answer: Result<Offset, RemoteError>) {
        self.shared.state().answer(number, answer);
        self.shared.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_get_longer_and_differ() {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        let pauses: Vec<_> = (0..7)
            .map(|_| backoff.pause(u64::MAX).as_millis())
            .collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.pause(0).as_millis(), 500);
    }
}
