//! `[journal.kafka]`: its keys, and the properties that are passed through.

use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::document::{Node, Table, Value};
use super::reader::{Context, Keys, Reader, Setting};
use super::secret::Secret;
use super::values::{self, boolean, duration, integer, text};
use super::{document, file};

pub const KAFKA: Keys = Keys {
    known: &[
        "topic",
        "create_topics",
        "partitions",
        "replication_factor",
        "timeout",
        "spool_after",
        "properties",
    ],
    unavailable: &[],
};

const TOPIC: &str = "wal-sidecar.{region}.{namespace}";
/// Enough for the cores of a fleet of replicators: a topic's partitions can't
/// be changed without breaking the order of keys.
const PARTITIONS: u64 = 12;
const PARTITIONS_MAX: u64 = 10_000;
/// Two can acknowledge while one is away.
const REPLICATION_FACTOR: u64 = 3;
const REPLICATION_FACTOR_MAX: u64 = 100;
/// Less than the default of `request_timeout`, so that a client hears what
/// became of its write before it is told that nobody knows.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Longer than a leader's election in a healthy cluster takes most times, and
/// short enough for a client not to give up.
const SPOOL_AFTER: Duration = Duration::from_millis(500);
const TIMEOUT_MIN: Duration = Duration::from_millis(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Kafka's own limit.
const TOPIC_LENGTH_MAX: usize = 249;

/// Properties that what the journal promises depends on, and what to say of them.
const RESERVED: &[(&str, &str)] = &[
    ("message.timeout.ms", "give journal.kafka.timeout instead"),
    ("delivery.timeout.ms", "give journal.kafka.timeout instead"),
    (
        "acks",
        "is always all: the journal is what acknowledged means",
    ),
    (
        "request.required.acks",
        "is always all: the journal is what acknowledged means",
    ),
    (
        "enable.idempotence",
        "is always true: records would be reordered",
    ),
    (
        "enable.gapless.guarantee",
        "is not used: what was lost is declared",
    ),
    (
        "partitioner",
        "is always murmur2_random, as Java's producers place keys",
    ),
    ("transactional.id", "is not used"),
    (
        "queue.buffering.max.messages",
        "is without limit: namespace.in_flight_bytes_max is the limit",
    ),
    (
        "queue.buffering.max.kbytes",
        "is without limit: namespace.in_flight_bytes_max is the limit",
    ),
    ("group.id", "is not used: readers are assigned partitions"),
    (
        "enable.auto.commit",
        "is not used: readers keep their own positions",
    ),
    (
        "auto.offset.reset",
        "is not used: readers keep their own positions",
    ),
];

/// Properties that say where the brokers are.
const BROKERS: &[&str] = &["bootstrap.servers", "metadata.broker.list"];

/// What is in a property's name whose value is not to be shown.
const SECRET_WORDS: &[&str] = &["password", "secret", "key.pem", "oauthbearer.config"];

/// How Kafka is used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kafka {
    /// The name of a namespace's topic, with `{region}` and `{namespace}`.
    pub topic: String,
    /// Whether a topic that is not there is created.
    pub create_topics: bool,
    /// The partitions of a topic that is created.
    pub partitions: u32,
    /// How many brokers have each of them.
    pub replication_factor: u32,
    /// How long an acknowledgement may take.
    #[serde(serialize_with = "values::serialize_duration")]
    pub timeout: Duration,
    /// How long a record waits for it before it goes to the spool.
    #[serde(serialize_with = "values::serialize_duration")]
    pub spool_after: Duration,
    /// Properties of librdkafka, in the order of the file.
    #[serde(
        serialize_with = "serialize_properties",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub properties: Vec<Property>,
}

/// One property of librdkafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// As librdkafka names it.
    pub name: String,
    /// Its value as a text; [`Secret`] as it may be one.
    pub value: Secret,
    /// Whether it is one.
    pub is_secret: bool,
}

impl Kafka {
    /// The name of a namespace's topic.
    pub fn topic_of(&self, region: &str, namespace: &str) -> String {
        self.topic
            .replace("{region}", region)
            .replace("{namespace}", namespace)
    }
}

fn serialize_properties<S: Serializer>(
    properties: &[Property],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    Properties(properties).serialize(serializer)
}

/// Properties as a table.
pub(super) struct Properties<'a>(pub(super) &'a [Property]);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for property in self.0 {
            match property.is_secret {
                true => map.serialize_entry(&property.name, &property.value)?,
                false => map.serialize_entry(&property.name, property.value.expose())?,
            }
        }
        map.end()
    }
}

/// `[journal.kafka]` as it was read.
pub struct File {
    pub topic: Setting<String>,
    pub create_topics: Setting<bool>,
    pub partitions: Setting<u64>,
    pub replication_factor: Setting<u64>,
    pub timeout: Setting<Duration>,
    pub spool_after: Setting<Duration>,
    pub properties: Vec<Property>,
}

/// Reads the table; what is wrong goes to the context.
pub fn read(table: &Table, context: &mut Context) -> File {
    let mut reader = Reader::new(table, "journal.kafka", &KAFKA, context);
    let properties = reader.section("properties");
    let timeout = |node: &Node| duration(node, TIMEOUT_MIN, TIMEOUT_MAX);
    let file = File {
        topic: reader.setting("topic", TOPIC.to_owned(), topic),
        create_topics: reader.setting("create_topics", true, boolean),
        partitions: reader.setting("partitions", PARTITIONS, |node| {
            integer(node, 1, PARTITIONS_MAX)
        }),
        replication_factor: reader.setting("replication_factor", REPLICATION_FACTOR, |node| {
            integer(node, 1, REPLICATION_FACTOR_MAX)
        }),
        timeout: reader.setting("timeout", TIMEOUT, timeout),
        spool_after: reader.setting("spool_after", SPOOL_AFTER, timeout),
        properties: Vec::new(),
    };
    File {
        properties: read_properties(
            &properties,
            "journal.kafka.properties",
            "journal.brokers",
            context,
        ),
        ..file
    }
}

/// Reads a topic's name: the longest names of a region and a namespace have to
/// fit too, but that is for Kafka to say.
pub(super) fn topic(node: &Node) -> Result<String, String> {
    let found = text(node)?;
    let plain = found.replace("{region}", "r").replace("{namespace}", "n");
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match (1..=TOPIC_LENGTH_MAX).contains(&plain.len()) && plain.chars().all(allowed) {
        true => Ok(found),
        false => Err(format!(
            "expected 1 to {TOPIC_LENGTH_MAX} of a-z, A-Z, 0-9, \".\", \"_\" and \"-\", with \
             {{region}} and {{namespace}} where these are to be, found {}",
            node.describe()
        )),
    }
}

/// Reads the properties in the table at `table_path`; `brokers` is what to give
/// instead of those that say where Kafka is.
pub(super) fn read_properties(
    table: &Table,
    table_path: &str,
    brokers: &str,
    context: &mut Context,
) -> Vec<Property> {
    let mut properties = Vec::new();
    for document::Entry { key, key_at, node } in &table.entries {
        let path = format!("{table_path}.{key:?}");
        if BROKERS.contains(&key.as_str()) {
            let message = format!("give {brokers} instead");
            context.problems.error(key_at, path, message);
            continue;
        }
        if let Some((_, message)) = RESERVED.iter().find(|(name, _)| name == key) {
            context.problems.error(key_at, path, *message);
            continue;
        }
        let plain = match &node.value {
            Value::Integer(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Boolean(value) => Some(value.to_string()),
            _ => None,
        };
        let (value, from_elsewhere) = match plain {
            Some(text) => (Some(Secret::new(text)), false),
            None => {
                let secret = file::secret(table, key, table_path, context);
                (secret.value, matches!(node.value, Value::Table(_)))
            }
        };
        if let Some(value) = value {
            let named = SECRET_WORDS.iter().any(|word| key.contains(word));
            properties.push(Property {
                name: key.clone(),
                value,
                is_secret: from_elsewhere || named,
            });
        }
    }
    properties
}
