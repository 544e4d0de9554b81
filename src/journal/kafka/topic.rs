//! The topic: created if need be, and what it is like.

use std::collections::HashMap;
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

/// With so many replicas, a topic that is created here wants two in sync: one
/// can be away, and no single broker's disk is the only one with a record.
const SAFE_REPLICAS: u32 = 3;

/// What a topic is like.
pub(super) struct Topic {
    pub(super) partitions: u32,
    /// One past the last offset of each partition.
    pub(super) ends: Vec<Offset>,
    /// A message can't be longer, in bytes.
    pub(super) message_bytes_max: usize,
    replicas: usize,
    /// The topic's own configuration; empty where the cluster does not say.
    configuration: HashMap<String, String>,
}

/// Why there is no topic to write to.
pub(super) enum NoTopic {
    /// No broker answers.
    Unreachable(OpenError),
    /// They say no.
    Forever(OpenError),
}

/// Finds the topic, or creates it.
pub(super) fn ensure(options: &KafkaOptions) -> Result<Topic, NoTopic> {
    let mut config = options.client();
    config.set("group.id", "wal-sidecar");
    let consumer = BaseConsumer::from_config_and_context(&config, Quiet)
        .map_err(|error| NoTopic::Forever(open_error(options, "connect for", &error)))?;
    let topic = find_or_create(&consumer, options);
    // Dropping it may wait for the brokers.
    std::thread::spawn(move || drop(consumer));
    topic
}

fn find_or_create(
    consumer: &BaseConsumer<Quiet>,
    options: &KafkaOptions,
) -> Result<Topic, NoTopic> {
    let found = look(consumer, options, false).map_err(NoTopic::Unreachable)?;
    match (found, &options.create) {
        (Some(topic), create) => {
            warn_of_differences(options, create.as_ref(), &topic);
            Ok(topic)
        }
        (None, Some(create)) => {
            self::create(options, create).map_err(NoTopic::Forever)?;
            wait_for(consumer, options).map_err(NoTopic::Unreachable)
        }
        (None, None) => Err(NoTopic::Forever(open_error(
            options,
            "find",
            &"there is no such topic, and it may not be created",
        ))),
    }
}

/// None where there is no such topic. A new one has all its leaders soon.
fn look(
    consumer: &BaseConsumer<Quiet>,
    options: &KafkaOptions,
    is_new: bool,
) -> Result<Option<Topic>, OpenError> {
    let client: &Client<Quiet> = consumer.client();
    let metadata = client
        .fetch_metadata(Some(&options.topic), METADATA_TIMEOUT)
        .map_err(|error| open_error(options, "reach the brokers of", &error))?;
    let Some(topic) = metadata.topics().first() else {
        return Ok(None);
    };
    let partitions = topic.partitions();
    if partitions.is_empty() {
        return Ok(None);
    }
    let mut ends = vec![0; partitions.len()];
    let (led, leaderless): (Vec<_>, Vec<_>) = partitions.iter().partition(|one| 0 <= one.leader());
    if led.is_empty() || (is_new && !leaderless.is_empty()) {
        return Err(open_error(options, "use", &"it has no leaders"));
    }
    for partition in led {
        let (_, high) = client
            .fetch_watermarks(&options.topic, partition.id(), METADATA_TIMEOUT)
            .map_err(|error| open_error(options, "look at", &error))?;
        ends[partition.id() as usize] = high as Offset;
    }
    let configuration = describe(options).unwrap_or_default();
    let message_bytes_max = configuration.get("max.message.bytes");
    Ok(Some(Topic {
        partitions: partitions.len() as u32,
        ends,
        message_bytes_max: message_bytes_max
            .and_then(|value| value.parse().ok())
            .unwrap_or(MESSAGE_BYTES_MAX),
        replicas: partitions[0].replicas().len(),
        configuration,
    }))
}

/// A new topic has leaders a little after it was created.
fn wait_for(consumer: &BaseConsumer<Quiet>, options: &KafkaOptions) -> Result<Topic, OpenError> {
    const INTERVAL: Duration = Duration::from_millis(50);
    let deadline = std::time::Instant::now() + METADATA_TIMEOUT;
    loop {
        match look(consumer, options, true) {
            Ok(Some(topic)) => return Ok(topic),
            Err(error) if deadline <= std::time::Instant::now() => return Err(error),
            Ok(None) if deadline <= std::time::Instant::now() => {
                return Err(open_error(options, "wait for", &"it is not there"));
            }
            _ => std::thread::park_timeout(INTERVAL),
        }
    }
}

/// A topic that was there keeps what it has: somebody may have meant it so.
fn warn_of_differences(options: &KafkaOptions, create: Option<&TopicOptions>, topic: &Topic) {
    let name = &options.topic;
    let setting = |key: &str| topic.configuration.get(key).map(String::as_str);
    let in_sync = setting("min.insync.replicas").and_then(|text| text.parse::<u32>().ok());
    if let (Some(in_sync), true) = (in_sync, 1 < topic.replicas)
        && in_sync < 2
    {
        tracing::warn!(
            topic = name,
            "the topic's min.insync.replicas is {in_sync}: an acknowledged record can be on one \
             broker only, and is lost with it; set it to 2"
        );
    }
    if setting("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        tracing::warn!(
            topic = name,
            "the topic's cleanup.policy removes all but the newest record of a key; set it to delete"
        );
    }
    let Some(create) = create else {
        return;
    };
    let retention = create.retention.map(|age| age.as_millis().to_string());
    for (key, configured, found) in [
        (
            "partitions",
            create.partitions.to_string(),
            Some(topic.partitions.to_string()),
        ),
        (
            "replication_factor",
            create.replication_factor.to_string(),
            Some(topic.replicas.to_string()),
        ),
        (
            "retention_age (retention.ms)",
            retention.unwrap_or_default(),
            setting("retention.ms").map(str::to_owned),
        ),
    ] {
        if let Some(found) = found
            && !configured.is_empty()
            && found != configured
        {
            tracing::warn!(
                topic = name,
                key,
                configured,
                found,
                "the topic is not as configured; it stays as it is"
            );
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
    if SAFE_REPLICAS <= create.replication_factor {
        topic = topic.set("min.insync.replicas", "2");
    }
    if let Some(retention) = &retention {
        topic = topic.set("retention.ms", retention);
    }
    let asked = AdminOptions::new().operation_timeout(Some(METADATA_TIMEOUT));
    let created = block_on(admin.create_topics([&topic], &asked))
        .map_err(|error| open_error(options, "create", &error))?;
    for result in created {
        match result {
            Ok(_) => {
                let TopicOptions {
                    partitions,
                    replication_factor,
                    ..
                } = create;
                tracing::info!(
                    topic = options.topic,
                    partitions,
                    replication_factor,
                    "topic created"
                );
            }
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, RDKafkaErrorCode::InvalidReplicationFactor)) => {
                let wanted = create.replication_factor;
                let reason = format!(
                    "{wanted} replicas are more than there are brokers; set \
                     journal.kafka.replication_factor lower, or wait for them"
                );
                return Err(open_error(options, "create", &reason));
            }
            Err((_, code)) => return Err(open_error(options, "create", &code)),
        }
    }
    Ok(())
}

/// None where the cluster does not say.
pub(super) fn describe(options: &KafkaOptions) -> Option<HashMap<String, String>> {
    let admin = admin(options).ok()?;
    let asked = AdminOptions::new().request_timeout(Some(DESCRIBE_TIMEOUT));
    let topic = ResourceSpecifier::Topic(&options.topic);
    let described = block_on(admin.describe_configs([&topic], &asked)).ok()?;
    let resource = described.into_iter().next()?.ok()?;
    let entries = resource.entries.into_iter();
    Some(
        entries
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect(),
    )
}

/// The admin client answers by futures that its own thread wakes.
fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without drivers").block_on(future)
}
