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
//! Whatever librdkafka does takes place on its own threads and on the poll
//! thread of this journal: an appender never waits for the network.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::appender::{self, Appender};
use super::{AppendError, JournalState, JournalStats, Offset, OpenError};
use context::Reports;
use shared::Shared;

pub(super) use reader::KafkaReader;
pub(super) use shared::Inbox;

mod context;
mod reader;
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

/// How often the poll thread looks whether it has to end.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

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
            inbox_bytes_max: INBOX_BYTES_MAX,
            properties: Vec::new(),
            headers: Vec::new(),
        }
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
        let milliseconds = self.timeout.as_millis().max(1).to_string();
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
    partitions: u32,
    poller: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for KafkaJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaJournal")
            .field("topic", &self.options.topic)
            .finish_non_exhaustive()
    }
}

impl KafkaJournal {
    /// Connects, and creates the topic if it is not there and may be. Blocks.
    pub fn open(options: KafkaOptions) -> Result<KafkaJournal, OpenError> {
        let topic = topic::ensure(&options)?;
        let shared = Arc::new(Shared::new(&options, &topic));
        let reports = Reports(Arc::clone(&shared));
        let producer = BaseProducer::from_config_and_context(&options.producer(), reports)
            .map_err(|error| open_error(&options, "start a producer for", &error))?;
        let producer = Arc::new(producer);
        shared.set_producer(Arc::clone(&producer));
        let polling = Arc::clone(&shared);
        let poller = thread::Builder::new()
            .name("journal-kafka".to_owned())
            .spawn(move || poll(&producer, &polling))
            .map_err(|error| open_error(&options, "start a thread for", &error))?;
        Ok(KafkaJournal {
            shared,
            partitions: topic.partitions,
            options,
            poller: Mutex::new(Some(poller)),
        })
    }

    /// How many partitions the topic has.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// See [`super::Journal::appender`].
    pub fn appender(&self) -> Appender {
        let queue = self.shared.add_queue();
        Appender::new(appender::Inbox::Kafka(Inbox::new(&self.shared, queue)))
    }

    pub(super) fn reader(&self, partition: u32, from: Offset) -> KafkaReader {
        KafkaReader::new(Arc::clone(&self.shared), &self.options, partition, from)
    }

    /// See [`super::Journal::flush`].
    pub fn flush(&self) -> Result<(), AppendError> {
        self.shared.flush();
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
        let producer = self.shared.producer();
        let watermarks = producer.and_then(|producer| {
            let partition = partition as i32;
            let (topic, timeout) = (&self.options.topic, self.options.timeout);
            producer
                .client()
                .fetch_watermarks(topic, partition, timeout)
                .ok()
        });
        watermarks.map_or(0, |(low, _)| low as u64)
    }

    /// See [`super::Journal::state`].
    pub fn state(&self) -> JournalState {
        self.shared.journal_state()
    }

    /// See [`super::Journal::stats`].
    pub fn stats(&self) -> JournalStats {
        self.shared.stats()
    }

    /// See [`super::Journal::close`]. Takes no longer than the time a record may.
    pub fn close(&self) -> Result<(), AppendError> {
        let poller = {
            let mut poller = self.poller.lock().unwrap_or_else(PoisonError::into_inner);
            poller.take()
        };
        let Some(poller) = poller else {
            return Ok(());
        };
        self.shared.close();
        self.shared.flush();
        self.shared.ended.store(true, Ordering::SeqCst);
        let flushed = self.flush();
        // The last handle ends the producer, which may take long where the
        // brokers are away: on the poll thread, for which nobody waits.
        drop(self.shared.take_producer());
        let deadline = std::time::Instant::now() + END_TIMEOUT;
        while !poller.is_finished() && std::time::Instant::now() < deadline {
            thread::park_timeout(Duration::from_millis(5));
        }
        flushed
    }
}

impl Drop for KafkaJournal {
    fn drop(&mut self) {
        // What failed was told to whoever waited for it.
        let _ = self.close();
    }
}

fn poll(producer: &BaseProducer<Reports>, shared: &Shared) {
    while !shared.ended.load(Ordering::SeqCst) {
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            producer.poll(POLL_INTERVAL);
        }));
        if polled.is_err() {
            tracing::error!("handling Kafka's delivery reports panicked");
        }
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
