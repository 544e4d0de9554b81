//! A journal in a Kafka topic.
//!
//! Each record is a message of its own, keyed by the datastore key and placed
//! as Java's producers place it, so that any Kafka tool finds a key's records
//! in one partition, in order. The producer is idempotent and waits for all
//! in-sync replicas; a hand-over completes when each of its messages was
//! acknowledged or failed.
//!
//! Kafka can store some messages of a producer and lose others, also later
//! ones. Sequences of what was lost are therefore not used again: the error is
//! [`AppendError::Skipped`] where no record of the hand-over was stored, and
//! [`AppendError::Unknown`] where one may have been.
//!
//! A record without a key (a heartbeat, FLUSHALL) concerns every partition and
//! is put into each of them, with the same sequence.
//!
//! Whatever librdkafka does takes place on its own threads and on the thread of
//! this journal (`run`): an appender never waits for the network.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, TryLockError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;

use super::appender::{self, Appender};
use super::{AppendError, JournalState, JournalStats, Offset, OpenError, ReadError};
use shared::Shared;

pub(super) use inbox::Inbox;
pub(super) use reader::KafkaReader;
pub(super) use shared::{OnFailure, QueueNumber};

mod context;
mod hand_over;
mod inbox;
pub mod inspect;
mod link;
mod reader;
mod run;
mod shared;
mod status;
mod topic;

/// Bytes of records that may wait for acknowledgements.
pub const INBOX_BYTES_MAX: usize = 64 << 20;

/// How long a record may take to be acknowledged.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Enough for the cores of a replicator fleet; can't be changed without
/// breaking the order of keys.
pub const PARTITIONS: u32 = 12;

/// How long the start waits for a broker to answer.
pub const START_TIMEOUT: Duration = Duration::from_secs(5);

/// So long may a producer take to end after its messages are through.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// How a [`KafkaJournal`] is kept.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// `host:port`, several with commas between them.
    pub brokers: String,
    /// The topic of the stream.
    pub topic: String,
    /// Created with these if the topic is not there; without, it has to be.
    pub create: Option<TopicOptions>,
    /// A record that is not acknowledged in this time has failed.
    pub timeout: Duration,
    /// Whether it is given up then. Where not, it is tried without end: the
    /// spool has a copy of it.
    pub expires: bool,
    /// How long opening waits for a broker to answer.
    pub start_timeout: Duration,
    /// Bytes of records that may wait for acknowledgements.
    pub inbox_bytes_max: usize,
    /// Any properties of librdkafka; they win over what is set here, but for
    /// those that delivery depends on.
    pub properties: Vec<(String, String)>,
    /// The headers `region` and `namespace` of each message.
    pub headers: Vec<(String, String)>,
}

/// How a topic is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicOptions {
    /// How many partitions.
    pub partitions: u32,
    /// How many brokers have each of them.
    pub replication_factor: u32,
    /// How long records are kept.
    pub retention: Option<Duration>,
}

impl KafkaOptions {
    /// The defaults, for a topic that is there.
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> KafkaOptions {
        KafkaOptions {
            brokers: brokers.into(),
            topic: topic.into(),
            create: None,
            timeout: TIMEOUT,
            expires: true,
            start_timeout: START_TIMEOUT,
            inbox_bytes_max: INBOX_BYTES_MAX,
            properties: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Says what librdkafka thinks of the properties, without asking a broker.
    pub fn check(&self) -> Result<(), String> {
        let producer = self.producer().create_native_config();
        producer.map_err(|error| error.to_string())?;
        let client: Result<BaseConsumer, KafkaError> =
            self.client().set("group.id", "wal-sidecar").create();
        client.map(|_| ()).map_err(|error| error.to_string())
    }

    /// What all clients of this journal have in common.
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "wal-sidecar");
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    fn producer(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "wal-sidecar")
            // Group commit without waiting: what comes while a request is
            // under way makes the next.
            .set("linger.ms", "0")
            .set("partitioner", "murmur2_random")
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000");
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        let milliseconds = match self.expires {
            true => self.timeout.as_millis().max(1).to_string(),
            false => "0".to_owned(),
        };
        config
            .set("bootstrap.servers", &self.brokers)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", milliseconds)
            // The limit is this journal's own; librdkafka's would drop records.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", "2097151");
        config
    }
}

/// An open journal.
pub struct KafkaJournal {
    shared: Arc<Shared>,
    options: KafkaOptions,
    thread: Mutex<Option<JoinHandle<()>>>,
    ends: Mutex<inspect::Ends>,
}

impl std::fmt::Debug for KafkaJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaJournal")
            .field("topic", &self.options.topic)
            .finish_non_exhaustive()
    }
}

impl KafkaJournal {
    /// Connects, and creates the topic if it is not there and may be. Where no
    /// broker answers, the journal is open all the same, takes no records, and
    /// goes on trying: a pod has to start while Kafka is away. Blocks.
    pub fn open(options: KafkaOptions) -> Result<KafkaJournal, OpenError> {
        let shared = Arc::new(Shared::new(&options));
        let (found, wait) = mpsc::channel();
        let (for_thread, for_shared) = (options.clone(), Arc::clone(&shared));
        let thread = thread::Builder::new()
            .name("journal-kafka".to_owned())
            .spawn(move || run::run(&for_thread, &for_shared, &found))
            .map_err(|error| open_error(&options, "start a thread for", &error))?;
        let journal = KafkaJournal {
            shared,
            options,
            thread: Mutex::new(Some(thread)),
            ends: Mutex::default(),
        };
        match wait.recv_timeout(journal.options.start_timeout) {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) => Ok(journal),
            Err(_) => {
                let KafkaOptions { brokers, topic, .. } = &journal.options;
                let reason = format!("no Kafka broker answers at {brokers}");
                tracing::warn!(
                    brokers,
                    topic,
                    "no Kafka broker answers; going on without, and trying again"
                );
                journal.shared.set_unavailable(&reason);
                Ok(journal)
            }
        }
    }

    /// How many partitions the topic has; 0 while no broker has been reached.
    pub fn partitions(&self) -> u32 {
        self.shared.link().map_or(0, |link| link.partitions)
    }

    /// See [`super::Journal::appender`].
    pub fn appender(&self) -> Appender {
        Appender::new(appender::Inbox::Kafka(self.inbox(OnFailure::Tell)))
    }

    /// An appender's way in.
    pub(super) fn inbox(&self, on_failure: OnFailure) -> Inbox {
        let queue = self.shared.add_queue(on_failure);
        Inbox::new(&self.shared, queue)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn reader(&self, partition: u32, from: Offset) -> KafkaReader {
        KafkaReader::new(Arc::clone(&self.shared), &self.options, partition, from)
    }

    /// See [`super::Journal::flush`].
    pub fn flush(&self) -> Result<(), AppendError> {
        self.shared.flush(None);
        match self.state() {
            JournalState::Unavailable(reason) => Err(AppendError::Skipped(reason)),
            _ => Ok(()),
        }
    }

    /// The last offset of a partition that this journal has seen acknowledged.
    pub fn durable_through(&self, partition: u32) -> Option<Offset> {
        self.shared.durable_next(partition).checked_sub(1)
    }

    /// See [`super::Journal::first_offset`].
    pub fn first_offset(&self, partition: u32) -> Offset {
        let watermarks = self.shared.link().and_then(|link| {
            let partition = partition as i32;
            let (topic, timeout) = (&self.options.topic, self.options.timeout);
            let client = link.producer.client();
            client.fetch_watermarks(topic, partition, timeout).ok()
        });
        watermarks.map_or(0, |(low, _)| low as u64)
    }

    /// See [`super::Journal::bounds`].
    pub fn bounds(&self, partition: u32) -> Result<(Offset, Offset), ReadError> {
        let KafkaOptions { topic, timeout, .. } = &self.options;
        let failed = |reason: String| ReadError::Kafka {
            topic: topic.clone(),
            partition,
            reason,
        };
        let Some(link) = self.shared.link() else {
            return Err(failed("no broker has been reached".to_owned()));
        };
        let client = link.producer.client();
        let watermarks = client.fetch_watermarks(topic, partition as i32, *timeout);
        let (low, high) = watermarks.map_err(|error| failed(error.to_string()))?;
        Ok((low as Offset, high as Offset))
    }

    /// See [`super::Journal::ends`]. One at a time: whoever asks while another
    /// waits for the brokers gets an error.
    pub fn ends(&self) -> Result<Vec<Option<Offset>>, ReadError> {
        let failed = |reason: String| ReadError::Kafka {
            topic: self.options.topic.clone(),
            partition: 0,
            reason,
        };
        let ends = match self.ends.try_lock() {
            Ok(mut ends) => ends.ask(&self.options, self.partitions()),
            Err(TryLockError::Poisoned(poisoned)) => {
                poisoned.into_inner().ask(&self.options, self.partitions())
            }
            Err(TryLockError::WouldBlock) => {
                return Err(failed("the brokers have not answered yet".to_owned()));
            }
        };
        ends.map_err(|error| failed(error.to_string()))
    }

    /// The first offset of a partition whose message was made at that time, in
    /// milliseconds since the Unix epoch, or later; where there is none, the end.
    pub fn find(&self, partition: u32, milliseconds: u64) -> Result<Offset, ReadError> {
        inspect::find(&self.options, partition, milliseconds).map_err(|error| ReadError::Kafka {
            topic: self.options.topic.clone(),
            partition,
            reason: error.to_string(),
        })
    }

    /// See [`super::Journal::state`].
    pub fn state(&self) -> JournalState {
        self.shared.journal_state()
    }

    /// See [`super::Journal::stats`].
    pub fn stats(&self) -> JournalStats {
        self.shared.stats()
    }

    /// See [`super::Journal::close`]. Takes little longer than the time a
    /// record may; what is not acknowledged then has failed.
    pub fn close(&self) -> Result<(), AppendError> {
        let thread = {
            let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            thread.take()
        };
        let Some(thread) = thread else {
            return Ok(());
        };
        self.shared.close();
        let failed = self.stats().failed_records;
        let is_flushed = self.shared.flush(Some(self.options.timeout));
        if !is_flushed {
            self.shared.give_up();
            self.shared.flush(Some(END_TIMEOUT));
        }
        self.shared.end();
        self.shared.ended.store(true, Ordering::SeqCst);
        thread.thread().unpark();
        // What failed before was told; that Kafka is away is no failure now.
        let closed = match self.stats().failed_records - failed {
            0 if is_flushed => Ok(()),
            records => Err(AppendError::Unknown(format!(
                "{records} records were not acknowledged"
            ))),
        };
        // The last handle ends the producer, which may take long where the
        // brokers are away: on the journal's thread, for which nobody waits.
        drop(self.shared.set_link(None));
        let deadline = std::time::Instant::now() + END_TIMEOUT;
        while !thread.is_finished() && std::time::Instant::now() < deadline {
            thread::park_timeout(Duration::from_millis(5));
        }
        closed
    }
}

impl Drop for KafkaJournal {
    fn drop(&mut self) {
        // What failed was told to whoever waited for it.
        let _ = self.close();
    }
}

fn open_error(
    options: &KafkaOptions,
    action: &'static str,
    error: &dyn std::fmt::Display,
) -> OpenError {
    OpenError::Kafka {
        action,
        topic: options.topic.clone(),
        brokers: options.brokers.clone(),
        reason: error.to_string(),
    }
}
