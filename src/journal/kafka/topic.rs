//! The topic: created if need be, and what it is like.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::Client;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::super::{Offset, OpenError};
use super::context::Quiet;
use super::{KafkaOptions, TopicOptions, open_error};

/// How long the cluster may take to answer at the start.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take to describe the topic, which it need not.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Kafka's default of `max.message.bytes`.
const MESSAGE_BYTES_MAX: usize = 1_048_588;

/// What a topic is like.
pub(super) struct Topic {
    pub(super) partitions: u32,
    /// One past the last offset of each partition.
    pub(super) ends: Vec<Offset>,
    /// A message can't be longer, in bytes.
    pub(super) message_bytes_max: usize,
}

/// Finds the topic, or creates it.
pub(super) fn ensure(options: &KafkaOptions) -> Result<Topic, OpenError> {
    let mut config = options.client();
    config.set("group.id", "wal-sidecar");
    let consumer = BaseConsumer::from_config_and_context(&config, Quiet)
        .map_err(|error| open_error(options, "connect for", &error))?;
    let found = look(&consumer, options);
    let topic = match (found, &options.create) {
        (Ok(Some(topic)), _) => Ok(topic),
        (Ok(None), Some(create)) => {
            self::create(options, create)?;
            wait_for(&consumer, options)
        }
        (Ok(None), None) => Err(open_error(
            options,
            "find",
            &"there is no such topic, and it may not be created",
        )),
        (Err(error), _) => Err(error),
    };
    // Dropping it may wait for the brokers.
    std::thread::spawn(move || drop(consumer));
    topic
}

fn look(
    consumer: &BaseConsumer<Quiet>,
    options: &KafkaOptions,
) -> Result<Option<Topic>, OpenError> {
    let client: &Client<Quiet> = consumer.client();
    let metadata = client
        .fetch_metadata(Some(&options.topic), METADATA_TIMEOUT)
        .map_err(|error| open_error(options, "reach the brokers of", &error))?;
    let Some(topic) = metadata.topics().first() else {
        return Ok(None);
    };
    let partitions = topic.partitions();
    if partitions.is_empty() || partitions.iter().any(|partition| partition.leader() < 0) {
        return Ok(None);
    }
    let mut ends = vec![0; partitions.len()];
    for partition in partitions {
        let (_, high) = client
            .fetch_watermarks(&options.topic, partition.id(), METADATA_TIMEOUT)
            .map_err(|error| open_error(options, "look at", &error))?;
        ends[partition.id() as usize] = high as Offset;
    }
    Ok(Some(Topic {
        partitions: partitions.len() as u32,
        ends,
        message_bytes_max: message_bytes_max(options).unwrap_or(MESSAGE_BYTES_MAX),
    }))
}

/// A new topic has leaders a little after it was created.
fn wait_for(consumer: &BaseConsumer<Quiet>, options: &KafkaOptions) -> Result<Topic, OpenError> {
    const INTERVAL: Duration = Duration::from_millis(50);
    let deadline = std::time::Instant::now() + METADATA_TIMEOUT;
    loop {
        match look(consumer, options) {
            Ok(Some(topic)) => return Ok(topic),
            Err(error) if deadline <= std::time::Instant::now() => return Err(error),
            Ok(None) if deadline <= std::time::Instant::now() => {
                return Err(open_error(options, "wait for", &"it has no leaders"));
            }
            _ => std::thread::park_timeout(INTERVAL),
        }
    }
}

fn admin(options: &KafkaOptions) -> Result<AdminClient<Quiet>, OpenError> {
    AdminClient::from_config_and_context(&options.client(), Quiet)
        .map_err(|error| open_error(options, "administer", &error))
}

fn create(options: &KafkaOptions, create: &TopicOptions) -> Result<(), OpenError> {
    let admin = admin(options)?;
    let retention = create.retention.map(|age| age.as_millis().to_string());
    let replication = TopicReplication::Fixed(create.replication_factor as i32);
    let mut topic = NewTopic::new(&options.topic, create.partitions as i32, replication)
        .set("cleanup.policy", "delete");
    if let Some(retention) = &retention {
        topic = topic.set("retention.ms", retention);
    }
    let asked = AdminOptions::new().operation_timeout(Some(METADATA_TIMEOUT));
    let created = block_on(admin.create_topics([&topic], &asked))
        .map_err(|error| open_error(options, "create", &error))?;
    for result in created {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(open_error(options, "create", &code)),
        }
    }
    Ok(())
}

/// None where the cluster does not say: what is too long fails when it is sent.
fn message_bytes_max(options: &KafkaOptions) -> Option<usize> {
    let admin = admin(options).ok()?;
    let asked = AdminOptions::new().request_timeout(Some(DESCRIBE_TIMEOUT));
    let topic = ResourceSpecifier::Topic(&options.topic);
    let described = block_on(admin.describe_configs([&topic], &asked)).ok()?;
    let resource = described.into_iter().next()?.ok()?;
    let value = resource.get("max.message.bytes")?.value.as_deref()?;
    value.parse().ok()
}

/// The admin client answers by futures that its own thread wakes.
fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without drivers").block_on(future)
}
