//! The journal's thread: finds the topic, has a producer, and handles its
//! reports.
//!
//! A producer that can go on no more (a fatal error, a topic that was deleted)
//! is replaced when all that was given to it has been reported.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::super::OpenError;
use super::context::Reports;
use super::link::Link;
use super::shared::Shared;
use super::topic::{self, NoTopic};
use super::{KafkaOptions, open_error};

/// How often the thread looks whether it has to end.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long between two looks for the topic.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Runs until the journal ends. Tells `found` of the first success, or of what
/// no waiting will change.
pub(super) fn run(
    options: &KafkaOptions,
    shared: &Arc<Shared>,
    found: &Sender<Result<(), OpenError>>,
) {
    let mut is_first = true;
    let mut producer = None;
    while !shared.ended.load(Ordering::SeqCst) {
        match connect(options, shared, &mut producer) {
            Ok(link) => {
                let link = Arc::new(link);
                drop(shared.set_link(Some(Arc::clone(&link))));
                if !is_first {
                    tracing::info!(topic = options.topic, "journaling to Kafka");
                }
                // Nobody waits any more if this took long.
                let _ = found.send(Ok(()));
                is_first = false;
                poll(&link, shared);
                shared.set_link(None);
                // May wait for brokers that are away.
                thread::spawn(move || drop(link));
            }
            Err(NoTopic::Forever(error)) if is_first => {
                let _ = found.send(Err(error));
                return;
            }
            Err(NoTopic::Forever(error) | NoTopic::Unreachable(error)) => {
                let reason = error.to_string();
                if shared.set_unavailable(&reason) {
                    tracing::warn!(topic = options.topic, reason, "no Kafka topic to write to");
                }
                is_first = false;
                thread::park_timeout(RETRY_INTERVAL);
            }
        }
    }
}

/// The producer is made first: it takes half a second until it may send, which
/// it spends while the topic is looked for.
fn connect(
    options: &KafkaOptions,
    shared: &Arc<Shared>,
    made: &mut Option<BaseProducer<Reports>>,
) -> Result<Link, NoTopic> {
    let reports = Reports(Arc::clone(shared));
    let producer = match made.take() {
        Some(producer) => producer,
        None => BaseProducer::from_config_and_context(&options.producer(), reports).map_err(
            |error| NoTopic::Forever(open_error(options, "start a producer for", &error)),
        )?,
    };
    let producer = made.insert(producer);
    let topic = topic::ensure(options)?;
    // The first record is not to wait for where it has to go.
    let _ = producer
        .client()
        .fetch_metadata(Some(&options.topic), options.timeout);
    let producer = made.take().expect("it was put there");
    shared.found(&topic.ends);
    Ok(Link {
        producer,
        partitions: topic.partitions,
        message_bytes_max: topic.message_bytes_max,
    })
}

/// Handles reports until the producer has to be replaced, or the journal ends.
fn poll(link: &Link, shared: &Shared) {
    shared.broken.store(false, Ordering::SeqCst);
    while !shared.ended.load(Ordering::SeqCst) {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
            link.producer.poll(POLL_INTERVAL);
        }));
        if polled.is_err() {
            tracing::error!("handling Kafka's delivery reports panicked");
        }
        if shared.broken.load(Ordering::SeqCst) {
            // Nothing more is given to it, and what it has is reported.
            shared.set_link(None);
            shared.give_up_on(link);
            if shared.is_settled() {
                tracing::warn!("replacing the Kafka producer");
                return;
            }
        }
    }
}
