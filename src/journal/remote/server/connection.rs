//! One connection: who it is, and then what it wants.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::super::super::{Offset, ReadError};
use super::super::frame::{Frame, FrameError};
use super::super::pulse::{Beat, Pulse};
use super::super::v1::{
    Answer, Failure, Fetch, Hello, Ping, Query, Welcome, body::Kind, failure::Code, query::What,
};
use super::super::wire::{Transport, Wire, tune};
use super::super::{REASON_CHARACTERS_MAX, REQUEST_BYTES_MAX, SILENCE_MAX, TICK};
use super::feed::{Batch, Event, Feed, Search};
use super::leases::Lease;
use super::{Counted, Shared, Stream, durable_next};

/// Time to encrypt the connection and say hello.
const GREETING_MAX: Duration = Duration::from_secs(5);

/// Time for the other side to read why it is refused.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Requests are short: so much is read at once.
const READ_BYTES: usize = 4 << 10;

/// Longer names are refused.
const NAME_BYTES_MAX: usize = 256;

/// Searches of one connection at once.
const SEARCHES_MAX: usize = 4;

/// Answers that wait to be sent. Readers have fewer questions.
const ANSWERS_MAX: usize = 1024;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum EndReason {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    #[error("refused: {reason}")]
    Refused { reason: String },
    #[error("nothing was heard of it for {} s", SILENCE_MAX.as_secs())]
    Silent,
    #[error("it asks and does not read the answers")]
    Flood,
    #[error("the server ends")]
    Ending,
    #[error("reading the journal panicked")]
    Broken,
}

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<Option<Instant>>,
) {
    let Some(stranger) = Counted::below(&shared.strangers, super::STRANGERS_MAX) else {
        return;
    };
    // Events: it said hello, or did not in time; the server ends.
    let greeting = tokio::select! {
        greeting = timeout(GREETING_MAX, greet(stream, &shared)) => greeting,
        _ = stop.changed() => return,
    };
    let (mut wire, hello) = match greeting {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(reason)) => return log_refusal(&shared, peer, &reason.to_string()),
        Err(_) => return log_refusal(&shared, peer, "it did not say hello in time"),
    };
    let counted = Counted::below(&shared.readers, shared.options.readers_max);
    let (stream, _counted) = match (admit(&shared, &hello), counted) {
        (Ok(stream), Some(counted)) => (stream, counted),
        (Err((code, reason)), _) => return refuse(wire, &shared, peer, code, reason).await,
        (Ok(_), None) => {
            let reason = "there are too many readers".to_owned();
            return refuse(wire, &shared, peer, Code::Busy, reason).await;
        }
    };
    drop(stranger);
    wire.push(
        0,
        Kind::Welcome(Welcome {
            identity: stream.journal.identity().unwrap_or(0),
            durable_next: durable_next(&stream.journal),
        }),
    );
    let lease = stream
        .leases
        .begin(&stream.journal, &hello.reader, hello.needed);
    let (namespace, reader) = (stream.namespace.as_str(), hello.reader.as_str());
    tracing::info!(namespace, reader, %peer, needed = hello.needed, "a reader of the journal connected");
    stream.readers.fetch_add(1, Ordering::Relaxed);
    let _reading = Reading(&stream);
    let session = Session {
        wire,
        stream: &stream,
        lease,
        zstd: hello.zstd && shared.options.zstd,
        work: Work::default(),
        ready: None,
        answers: 0,
        stopping: false,
    };
    let reason = session.run(stop).await;
    tracing::info!(namespace, reader, %peer, %reason, "a reader of the journal is gone");
}

/// Takes one off the readers at the end, however it comes.
struct Reading<'a>(&'a Stream);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Encrypts the connection and waits for its hello.
async fn greet(stream: TcpStream, shared: &Shared) -> Result<(Wire, Hello), EndReason> {
    tune(&stream)?;
    let transport = match &shared.options.tls {
        None => Transport::Plain(stream),
        Some(tls) => {
            let accepted = tls.accept(stream).await.map_err(EndReason::Tls)?;
            Transport::Tls(Box::new(accepted.into()))
        }
    };
    let mut wire = Wire::new(transport, REQUEST_BYTES_MAX, READ_BYTES);
    loop {
        match wire.next_frame() {
            Ok(None) => wire.exchange().await?,
            Ok(Some(Frame {
                kind: Some(Kind::Hello(hello)),
                ..
            })) => return Ok((wire, hello)),
            Ok(Some(_)) => {
                let reason = "it did not say hello first".to_owned();
                return Err(EndReason::Refused { reason });
            }
            Err(error) => {
                // Another version of this program may understand the answer.
                farewell(wire, Code::Malformed, error.to_string()).await;
                return Err(error.into());
            }
        }
    }
}

/// The journal that a reader may read, or why it may not.
fn admit(shared: &Shared, hello: &Hello) -> Result<Arc<Stream>, (Code, String)> {
    if let Some(token) = &shared.options.token
        && !token.matches(&hello.token)
    {
        let reason = match hello.token.is_empty() {
            true => "a token is needed".to_owned(),
            false => "the token is wrong".to_owned(),
        };
        return Err((Code::Token, reason));
    }
    let too_long = |name: &str| NAME_BYTES_MAX < name.len();
    if too_long(&hello.reader) || too_long(&hello.namespace) || hello.reader.is_empty() {
        let reason = format!("names have 1 to {NAME_BYTES_MAX} bytes");
        return Err((Code::Malformed, reason));
    }
    let mut streams = shared.streams.iter();
    let found = streams.find(|stream| stream.namespace == hello.namespace);
    found.cloned().ok_or_else(|| {
        let reason = format!("there is no namespace {:?} here", hello.namespace);
        (Code::Namespace, reason)
    })
}

async fn refuse(wire: Wire, shared: &Shared, peer: SocketAddr, code: Code, reason: String) {
    log_refusal(shared, peer, &reason);
    farewell(wire, code, reason).await;
}

async fn farewell(mut wire: Wire, code: Code, reason: String) {
    wire.push(0, failure(code, reason, 0));
    // Whoever does not read it does not hear it.
    let _ = timeout(FAREWELL_MAX, wire.close()).await;
}

fn log_refusal(shared: &Shared, peer: SocketAddr, reason: &str) {
    if let Some(suppressed) = shared.refusals.allows() {
        tracing::warn!(%peer, reason, suppressed, "refused a reader of the journal");
    }
}

fn failure(code: Code, mut reason: String, first: Offset) -> Kind {
    if let Some((end, _)) = reason.char_indices().nth(REASON_CHARACTERS_MAX) {
        reason.truncate(end);
    }
    Kind::Failure(Failure {
        code: code.into(),
        reason,
        first,
    })
}

fn read_failure(error: &ReadError) -> Kind {
    let (code, first) = match error {
        ReadError::Removed { first } => (Code::Removed, *first),
        ReadError::Damaged(_) => (Code::Damaged, 0),
        ReadError::Io { .. } | ReadError::Kafka { .. } | ReadError::Away => (Code::Unreadable, 0),
    };
    failure(code, error.to_string(), first)
}

/// A reader that was let in.
struct Session<'a> {
    wire: Wire,
    stream: &'a Stream,
    lease: Lease,
    zstd: bool,
    work: Work,
    /// Read ahead while the batch before it is sent; queries overtake it.
    ready: Option<Batch>,
    /// Answers since everything was sent.
    answers: usize,
    stopping: bool,
}

/// What is under way for a reader.
#[derive(Default)]
struct Work {
    feed: Option<Feed>,
    searches: Vec<Search>,
}

/// What came of it.
enum Done {
    Fed(Event),
    Found(u32, Option<Result<Offset, ReadError>>),
    /// Everything that is durable was read.
    Idle,
}

impl Work {
    fn poll(&mut self, cx: &mut Context<'_>, room: bool, stopping: bool) -> Poll<Done> {
        for index in 0..self.searches.len() {
            if let Poll::Ready(found) = self.searches[index].poll_found(cx) {
                let search = self.searches.swap_remove(index);
                return Poll::Ready(Done::Found(search.number, found));
            }
        }
        let Some(feed) = &mut self.feed else {
            return match stopping {
                true => Poll::Ready(Done::Idle),
                false => Poll::Pending,
            };
        };
        if let Poll::Ready(event) = feed.poll_next(cx, room) {
            return Poll::Ready(Done::Fed(event));
        }
        match stopping && room && feed.poll_idle(cx).is_ready() {
            true => Poll::Ready(Done::Idle),
            false => Poll::Pending,
        }
    }
}

impl Session<'_> {
    /// Serves it to the end; why it came.
    async fn run(mut self, mut stop: watch::Receiver<Option<Instant>>) -> EndReason {
        let mut pulse = Pulse::new(SILENCE_MAX);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What came together with the hello.
        if let Err(reason) = self.take_frames() {
            return reason;
        }
        loop {
            self.send_ready();
            // While it stops, only what is sent counts as done.
            let room = self.ready.is_none() && (!self.stopping || self.wire.unsent() == 0);
            let stopping = self.stopping;
            // Events: bytes came or all were sent; records or a place were read,
            // or there is nothing to do; the time; told to end.
            tokio::select! {
                exchanged = self.wire.exchange() => {
                    if let Err(reason) = exchanged.map_err(EndReason::Io).and_then(|()| self.take_frames()) {
                        return reason;
                    }
                }
                done = poll_fn(|cx| self.work.poll(cx, room, stopping)) => match done {
                    Done::Fed(event) => {
                        if let Err(reason) = self.fed(event) {
                            return reason;
                        }
                    }
                    Done::Found(number, Some(found)) => self.found(number, found),
                    Done::Found(_, None) => return EndReason::Broken,
                    Done::Idle => {
                        self.wire.push(0, failure(Code::Ending, "the server ends".to_owned(), 0));
                        // Bounded by whoever stops the server.
                        let _ = self.wire.close().await;
                        return EndReason::Ending;
                    }
                },
                _ = ticks.tick() => match pulse.beat(self.wire.traffic(), 0 < self.wire.unsent()) {
                    Beat::Silent => return EndReason::Silent,
                    Beat::Ping => {
                        let durable_next = durable_next(&self.stream.journal);
                        self.wire.push(0, Kind::Ping(Ping { durable_next }));
                    }
                    Beat::Nothing => {}
                },
                _ = stop.changed(), if !self.stopping => self.stopping = true,
            }
        }
    }

    /// Gives the socket the next batch when it has taken the one before.
    fn send_ready(&mut self) {
        if 0 < self.wire.unsent() {
            return;
        }
        self.answers = 0;
        if let Some(batch) = self.ready.take() {
            let stream = self.stream;
            stream.records.fetch_add(batch.records, Ordering::Relaxed);
            stream.bytes.fetch_add(batch.bytes, Ordering::Relaxed);
            self.wire.push_encoded(batch.frame);
        }
    }

    fn fed(&mut self, event: Event) -> Result<(), EndReason> {
        let number = self.work.feed.as_ref().map_or(0, Feed::number);
        match event {
            Event::Batch(batch) => self.ready = Some(batch),
            Event::Failed(error) => {
                if !matches!(error, ReadError::Removed { .. }) {
                    let namespace = &self.stream.namespace;
                    tracing::error!(namespace, %error, "the journal can't be read for a reader");
                }
                self.wire.push(number, read_failure(&error));
                self.work.feed = None;
            }
            Event::End => self.work.feed = None,
            Event::Broken => return Err(EndReason::Broken),
        }
        Ok(())
    }

    fn found(&mut self, number: u32, found: Result<Offset, ReadError>) {
        let kind = match found {
            Ok(offset) => Kind::Answer(Answer { offset }),
            Err(error) => read_failure(&error),
        };
        self.wire.push(number, kind);
    }

    fn take_frames(&mut self) -> Result<(), EndReason> {
        loop {
            match self.wire.next_frame() {
                Ok(None) => return Ok(()),
                Ok(Some(_)) if ANSWERS_MAX <= self.answers => return Err(EndReason::Flood),
                Ok(Some(frame)) => self.take(frame),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&mut self, Frame { number, kind }: Frame) {
        match kind {
            Some(Kind::Fetch(Fetch { from, credit })) => {
                let journal = &self.stream.journal;
                self.ready = None;
                self.work.feed = Some(Feed::new(journal, number, from, credit, self.zstd));
            }
            Some(Kind::Credit(more)) => {
                if let Some(feed) = &mut self.work.feed
                    && feed.number() == number
                {
                    feed.add_credit(more.credit);
                }
            }
            Some(Kind::Acknowledge(acknowledged)) => self.lease.set(acknowledged.needed),
            Some(Kind::Query(query)) => self.answer(number, query),
            // Later versions may say more, and nothing else needs an answer.
            _ => {}
        }
    }

    fn answer(&mut self, number: u32, query: Query) {
        self.answers += 1;
        let journal = &self.stream.journal;
        let offset = match query.what {
            Some(What::DurableNext(_)) => durable_next(journal),
            Some(What::First(_)) => journal.first_offset(),
            Some(What::Hlc(hlc)) if self.work.searches.len() < SEARCHES_MAX => {
                let search = Search::start(journal, number, hlc);
                self.work.searches.push(search);
                return;
            }
            Some(What::Hlc(_)) => {
                let reason = "too many searches at once".to_owned();
                return self.wire.push(number, failure(Code::Busy, reason, 0));
            }
            None => {
                let reason = "the query is not known".to_owned();
                return self.wire.push(number, failure(Code::Malformed, reason, 0));
            }
        };
        self.wire.push(number, Kind::Answer(Answer { offset }));
    }
}
