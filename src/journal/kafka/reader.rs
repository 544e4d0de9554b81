//! Reads one partition of the topic.
//!
//! librdkafka wakes a reader when its queue stops being empty, and one look takes
//! one event from it, also where that is no record: whoever stopped looking at
//! such a one would never be woken for the records behind it. So looks go on until
//! nothing is found several times, and log lines, of which there are many when a
//! broker goes, are not put into the queue.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::{Offset as Place, TopicPartitionList};

use super::super::{Offset, ReadBatch, ReadError};
use super::KafkaOptions;
use super::context::Reading;
use super::shared::Shared;

/// How long one look for a record that is there may take.
const LOOK: Duration = Duration::from_millis(100);

/// Looks that find nothing before the queue counts as empty: an event that is no
/// record looks like nothing.
const LOOKS: usize = 4;

/// Reads from one place on. Connects at the first read.
pub(in super::super) struct KafkaReader {
    shared: Arc<Shared>,
    options: KafkaOptions,
    partition: u32,
    position: Offset,
    /// Whether a read waits for durable records that have not arrived.
    waits: bool,
    consumer: Option<BaseConsumer<Reading>>,
    /// The record that comes next, where it was looked at.
    next: Option<OwnedMessage>,
    /// What comes instead of it, likewise.
    failure: Option<ReadError>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl std::fmt::Debug for KafkaReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaReader")
            .field("partition", &self.partition)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl KafkaReader {
    pub(super) fn new(
        shared: Arc<Shared>,
        options: &KafkaOptions,
        partition: u32,
        position: Offset,
    ) -> KafkaReader {
        KafkaReader {
            shared,
            options: options.clone(),
            partition,
            position,
            waits: true,
            consumer: None,
            next: None,
            failure: None,
            waker: Arc::default(),
        }
    }

    /// From now on no read waits: it is ready when records have arrived.
    pub(in super::super) fn never_wait(&mut self) {
        self.waits = false;
    }

    pub(in super::super) fn position(&self) -> Offset {
        self.position
    }

    /// Blocks while there are durable records that have not arrived, unless it
    /// never waits.
    pub(in super::super) fn next_batch(
        &mut self,
        into: &mut ReadBatch,
        bytes_max: usize,
    ) -> Result<(), ReadError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let deadline = Instant::now() + self.options.timeout;
        while into.bytes() < bytes_max {
            let patience = match self.waits && into.is_empty() && self.position < self.end() {
                true => LOOK,
                false => Duration::ZERO,
            };
            match self.take(patience)? {
                Some(message) => {
                    self.position = message.offset() as Offset + 1;
                    into.push(message.offset() as Offset, message.payload().unwrap_or(&[]));
                }
                None if patience.is_zero() => break,
                None if deadline < Instant::now() => {
                    return Err(self.failed("the brokers do not answer".to_owned()));
                }
                None => {}
            }
        }
        Ok(())
    }

    pub(in super::super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        self.shared.watch(cx.waker());
        let is_over = self.shared.is_over();
        if self.next.is_none() && self.failure.is_none() {
            match self.take(Duration::ZERO) {
                Ok(next) => self.next = next,
                Err(error) => self.failure = Some(error),
            }
        }
        let has_some = self.next.is_some() || self.failure.is_some();
        if has_some || self.waits && self.position < self.end() {
            return Poll::Ready(true);
        }
        match is_over {
            true => Poll::Ready(false),
            false => Poll::Pending,
        }
    }

    /// What is known to be durable.
    fn end(&self) -> Offset {
        self.shared.durable_next(self.partition)
    }

    fn take(&mut self, patience: Duration) -> Result<Option<OwnedMessage>, ReadError> {
        if let Some(next) = self.next.take() {
            return Ok(Some(next));
        }
        if self.consumer.is_none() {
            if self.waits && self.end() < self.position {
                // The brokers refuse to read from past the end, which is known to who
                // waits for what was written here.
                return Ok(None);
            }
            self.consumer = Some(self.connect()?);
        }
        let Some(consumer) = &self.consumer else {
            return Ok(None);
        };
        let mut looks = 0;
        while looks < LOOKS {
            match consumer.poll(patience) {
                None if patience.is_zero() => looks += 1,
                None => return Ok(None),
                Some(Ok(message)) => return Ok(Some(message.detach())),
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::AutoOffsetReset) => return self.restart(consumer),
                    _ => tracing::debug!(%error, "reading from kafka"),
                },
            }
        }
        Ok(None)
    }

    /// The brokers have nothing at the position: it was removed, or they don't know
    /// yet that they do. librdkafka has given the partition up.
    fn restart(&self, consumer: &BaseConsumer<Reading>) -> Result<Option<OwnedMessage>, ReadError> {
        let (topic, number) = (&self.options.topic, self.partition as i32);
        let bounds = consumer.fetch_watermarks(topic, number, self.options.timeout);
        match bounds {
            Ok((low, _)) if self.position < low as Offset => Err(ReadError::Removed {
                first: low as Offset,
            }),
            _ => {
                self.assign(consumer)?;
                Ok(None)
            }
        }
    }

    fn connect(&self) -> Result<BaseConsumer<Reading>, ReadError> {
        let mut config = self.options.client();
        config
            .set("group.id", "wal-sidecar")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.queue.backoff.ms", "10")
            .set_log_level(RDKafkaLogLevel::Emerg);
        let mut consumer: BaseConsumer<Reading> =
            BaseConsumer::from_config_and_context(&config, Reading)
                .map_err(|error| self.failed(error.to_string()))?;
        let waker = Arc::clone(&self.waker);
        consumer.set_nonempty_callback(move || {
            let waker = waker.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        self.assign(&consumer)?;
        Ok(consumer)
    }

    fn assign(&self, consumer: &BaseConsumer<Reading>) -> Result<(), ReadError> {
        let mut assignment = TopicPartitionList::new();
        let place = Place::Offset(self.position as i64);
        assignment
            .add_partition_offset(&self.options.topic, self.partition as i32, place)
            .and_then(|()| consumer.assign(&assignment))
            .map_err(|error| self.failed(error.to_string()))
    }

    fn failed(&self, reason: String) -> ReadError {
        ReadError::Kafka {
            topic: self.options.topic.clone(),
            partition: self.partition,
            reason,
        }
    }
}

/// Ending a consumer may wait for the brokers: nobody waits for that.
impl Drop for KafkaReader {
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            std::thread::spawn(move || drop(consumer));
        }
    }
}
