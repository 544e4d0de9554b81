//! Turns the configuration into each module's own options.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::config::{
    self, Config, ConnectionMode, Durability, ListenAddress, OnJournalUnavailable, Placement,
    UpstreamAddress,
};
use crate::datastore::ring::{Name, RingOptions, Server};
use crate::datastore::{self, Identity, Wire};
use crate::journal::{
    First, KafkaOptions, LocalOptions, RemoteOptions, Retention, ServeOptions, SpoolOptions, Token,
    TopicOptions,
};
use crate::platform::stream::Address;
use crate::platform::tls::{ClientFiles, ClientTls, ServerTls, TlsError};
use crate::protocol::resp::scanner;
use crate::protocol::{Protocol, memcached};
use crate::stack::Limits;
use crate::stack::policy::{self, KeyPolicy, Policy};
use crate::{proxy, replication, telemetry};

/// A datastore that leaves this much unread does not keep up.
const UNSENT_BYTES_MAX: usize = 512 * 1024 * 1024;

/// How long the start waits for Kafka's brokers where there is a spool: for them
/// to say that something is wrong.
const SPOOL_START_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of records that wait for Kafka's acknowledgement while a spool is shipped.
const SHIPPING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of records that may wait, per byte of commands in flight.
const INBOX_PER_IN_FLIGHT: usize = 2;

pub(super) fn journal(config: &Config, namespace: &config::Namespace) -> LocalOptions {
    LocalOptions {
        segment_bytes: config.journal.segment_bytes,
        retention_bytes: Some(config.journal.retention_bytes),
        retention_age: Some(config.journal.retention_age),
        hard_cap_bytes: config.journal.hard_cap_bytes,
        // Records are a little larger than the commands they are made of, and
        // what is in flight is limited already: the inbox is not the limit
        // that clients should meet.
        inbox_bytes_max: INBOX_PER_IN_FLIGHT * bytes(namespace.in_flight_bytes_max),
        ..LocalOptions::new(config.journal_directory(&namespace.name))
    }
}

/// How the topic of a namespace is reached.
pub fn kafka(config: &Config, namespace: &config::Namespace) -> KafkaOptions {
    let kafka = &config.journal.kafka;
    let properties = kafka.properties.iter();
    let brokers = config.journal.brokers.join(",");
    KafkaOptions {
        create: kafka.create_topics.then_some(TopicOptions {
            partitions: kafka.partitions,
            replication_factor: kafka.replication_factor,
            retention: Some(config.journal.retention_age),
        }),
        timeout: kafka.timeout,
        inbox_bytes_max: INBOX_PER_IN_FLIGHT * bytes(namespace.in_flight_bytes_max),
        properties: properties
            .map(|one| (one.name.clone(), one.value.expose().to_owned()))
            .collect(),
        headers: vec![
            ("region".to_owned(), config.region.clone()),
            ("namespace".to_owned(), namespace.name.clone()),
        ],
        ..KafkaOptions::new(brokers, config.topic(&namespace.name))
    }
}

/// How the topic of another region is read.
pub(super) fn kafka_source(source: &config::Source, namespace: &str) -> KafkaOptions {
    let config::SourceJournal::Kafka {
        brokers,
        properties,
        ..
    } = &source.journal
    else {
        unreachable!("asked of topics only");
    };
    let properties = properties.iter();
    KafkaOptions {
        properties: properties
            .map(|one| (one.name.clone(), one.value.expose().to_owned()))
            .collect(),
        start_timeout: SPOOL_START_TIMEOUT,
        ..KafkaOptions::new(
            brokers.join(","),
            source.topic(namespace).unwrap_or_default(),
        )
    }
}

/// Where a spool comes first, or takes over.
pub(super) fn spool(config: &Config, namespace: &config::Namespace, first: First) -> SpoolOptions {
    let kafka = kafka(config, namespace);
    SpoolOptions {
        local: journal(config, namespace),
        // Nobody has to wait for Kafka: the start does not either.
        kafka: KafkaOptions {
            start_timeout: SPOOL_START_TIMEOUT,
            inbox_bytes_max: match first {
                // What is on its way has a copy on the disk.
                First::Local => SHIPPING_BYTES_MAX,
                First::Kafka => kafka.inbox_bytes_max,
            },
            ..kafka
        },
        first,
        patience: config.journal.kafka.spool_after,
    }
}

/// How the journals are served to replicators elsewhere, if they are. Reads the
/// certificate's files.
pub(super) fn serve(config: &Config) -> Result<Option<ServeOptions>, TlsError> {
    let Some(serve) = &config.journal.serve else {
        return Ok(None);
    };
    let tls = serve.tls.as_ref();
    let token = serve.token.as_ref();
    Ok(Some(ServeOptions {
        token: token.map(|token| Token::new(token.expose())),
        tls: tls
            .map(|tls| ServerTls::from_files(&tls.certificate, &tls.key))
            .transpose()?,
        ..ServeOptions::new(serve.listen)
    }))
}

/// How a journal that another sidecar serves is read, by a reader of this name.
/// Reads the authority's file.
pub fn remote(
    served: &config::Served,
    namespace: &str,
    reader: &str,
) -> Result<RemoteOptions, TlsError> {
    let (tls, token) = (served.tls.as_ref(), served.token.as_ref());
    Ok(RemoteOptions {
        tls: tls
            .map(|tls| ClientTls::from_file(&tls.certificate_authority, &tls.server_name))
            .transpose()?,
        token: token.map(|token| Token::new(token.expose())),
        ..RemoteOptions::new(served.address.as_str(), namespace, reader)
    })
}

pub(super) fn retention(config: &Config) -> Retention {
    Retention {
        bytes_max: Some(config.journal.retention_bytes),
        age_max: Some(config.journal.retention_age),
        hard_cap_bytes: config.journal.hard_cap_bytes,
    }
}

pub(super) fn listen(address: &ListenAddress) -> Address {
    match address {
        ListenAddress::Tcp(address) => Address::Tcp(address.ip().to_string(), address.port()),
        ListenAddress::Unix(path) => Address::Unix(path.clone()),
    }
}

/// Where a replicator keeps its checkpoints that can't in the datastore. Names
/// of namespaces begin otherwise.
pub fn checkpoints(config: &Config, namespace: &config::Namespace) -> PathBuf {
    config
        .journal_directory("_checkpoints")
        .join(&namespace.name)
}

/// How the datastore of a namespace is reached, where it is one server.
pub fn datastore(namespace: &config::Namespace) -> datastore::Options {
    server(namespace, namespace.upstream.first())
}

/// The servers of a namespace, where it has several.
pub(super) fn ring(namespace: &config::Namespace) -> Option<RingOptions> {
    let is_one = namespace.upstream.0.len() == 1 && namespace.replicas.is_empty();
    (!is_one).then(|| servers(namespace))
}

/// The servers of a namespace, be it one.
pub fn servers(namespace: &config::Namespace) -> RingOptions {
    let zone = |zone: &config::Upstreams| {
        let servers = zone.0.iter().map(|upstream| Server {
            options: server(namespace, upstream),
            name: Name {
                text: ring_name(namespace.placement, upstream),
                weight: upstream.weight,
            },
        });
        servers.collect()
    };
    let zones = std::iter::once(&namespace.upstream).chain(&namespace.replicas);
    RingOptions {
        zones: zones.map(zone).collect(),
        eject_after: namespace.eject_after,
    }
}

/// What clients call a server that place keys themselves.
fn ring_name(placement: Placement, upstream: &config::Upstream) -> String {
    /// memcached's own port, which libmemcached leaves out.
    const DEFAULT_PORT: u16 = 11211;
    if let Some(name) = &upstream.name {
        return name.clone();
    }
    match &upstream.address {
        UpstreamAddress::Tcp { host, port } => match placement {
            Placement::Libmemcached if *port == DEFAULT_PORT => host.clone(),
            Placement::Libmemcached | Placement::Spymemcached => format!("{host}:{port}"),
        },
        UpstreamAddress::Unix(path) => path.display().to_string(),
    }
}

/// How TLS is spoken with a datastore, where it is. Its files are read when they are
/// needed.
pub fn tls(namespace: &config::Namespace, upstream: &config::Upstream) -> Option<ClientTls> {
    let (UpstreamAddress::Tcp { host, .. }, true) = (&upstream.address, upstream.tls) else {
        return None;
    };
    let tls = &namespace.upstream_tls;
    let identity = tls.identity.as_ref();
    let files = ClientFiles {
        authority: tls.certificate_authority.clone(),
        identity: identity.map(|one| (one.certificate.clone(), one.key.clone())),
    };
    let name = tls.server_name.as_deref().unwrap_or(host);
    Some(ClientTls::new(files, name))
}

fn server(namespace: &config::Namespace, upstream: &config::Upstream) -> datastore::Options {
    let bytes = |secret: &config::Secret| Rc::from(secret.expose().as_bytes());
    datastore::Options {
        address: match &upstream.address {
            UpstreamAddress::Tcp { host, port } => Address::Tcp(host.clone(), *port),
            UpstreamAddress::Unix(path) => Address::Unix(path.clone()),
        },
        tls: tls(namespace, upstream),
        identity: match (&upstream.user, &upstream.password) {
            (Some(user), Some(password)) => Identity::User(bytes(user), bytes(password)),
            (None, Some(password)) => Identity::Password(bytes(password)),
            (_, None) => Identity::Anonymous,
        },
        wire: match upstream.protocol {
            config::Protocol::Redis => Wire::Resp2,
            config::Protocol::Memcached => Wire::MemcachedText,
        },
        database: upstream.database,
        connect_timeout: namespace.connect_timeout,
        unsent_bytes_max: UNSENT_BYTES_MAX,
    }
}

pub(super) fn proxy(namespace: &config::Namespace, workers: usize) -> proxy::Options {
    proxy::Options {
        mode: match namespace.connection {
            ConnectionMode::Shared => proxy::ConnectionMode::Shared,
            ConnectionMode::Dedicated => proxy::ConnectionMode::Dedicated,
        },
        client_limit: namespace.client_limit.div_ceil(workers),
        client_output_bytes_max: bytes(namespace.client_output_bytes_max),
        scanner: scanner::Limits {
            bulk_bytes_max: namespace.value_bytes_max,
            ..scanner::Limits::default()
        },
        protocol: match namespace.protocol {
            config::Protocol::Redis => Protocol::Redis,
            config::Protocol::Memcached => Protocol::Memcached,
        },
        memcached: memcached::scanner::Limits {
            value_bytes_max: u32::try_from(namespace.value_bytes_max).unwrap_or(u32::MAX),
            ..Default::default()
        },
    }
}

pub(super) fn limits(namespace: &config::Namespace, workers: usize) -> Limits {
    Limits {
        request_timeout: namespace.request_timeout,
        in_flight_bytes_max: bytes(namespace.in_flight_bytes_max).div_ceil(workers),
        in_flight_batches_max: namespace.in_flight_batches_max.div_ceil(workers),
    }
}

pub(super) fn policy(namespace: &config::Namespace) -> Policy {
    let prefixes = namespace.prefixes.iter().map(|prefix| {
        let policy = key_policy(prefix.durability, prefix.on_journal_unavailable);
        (prefix.prefix.clone().into_bytes(), policy)
    });
    let default = key_policy(namespace.durability, namespace.on_journal_unavailable);
    Policy::new(default, prefixes.collect())
}

/// Whether the datastore of a namespace may have changes that the journal which
/// replicators read has not.
pub(super) fn is_ahead(config: &Config, namespace: &config::Namespace) -> bool {
    let is_shipped = config.journal.backend == config::Backend::Spool
        || namespace.on_journal_unavailable == OnJournalUnavailable::Spool;
    let prefixes = namespace.prefixes.iter();
    let mut all = prefixes
        .map(|prefix| prefix.durability)
        .chain([namespace.durability]);
    is_shipped || all.any(|one| one == Durability::Enqueued)
}

/// Which keys of a namespace are replicated, and how.
pub fn replication(namespace: &config::Namespace) -> replication::policy::Policy {
    let of = |mode: config::Replicate, ttl_min: Duration| replication::policy::KeyPolicy {
        mode: match mode {
            config::Replicate::Value => replication::policy::Mode::Value,
            config::Replicate::Invalidate => replication::policy::Mode::Invalidate,
            config::Replicate::Off => replication::policy::Mode::Off,
        },
        ttl_min,
    };
    let prefixes = namespace.prefixes.iter().map(|prefix| {
        let policy = of(prefix.replicate, prefix.replicate_ttl_min);
        (prefix.prefix.clone().into_bytes(), policy)
    });
    let default = of(namespace.replicate, namespace.replicate_ttl_min);
    replication::policy::Policy::new(default, prefixes.collect())
}

fn key_policy(durability: Durability, on_unavailable: OnJournalUnavailable) -> KeyPolicy {
    KeyPolicy {
        durability: match durability {
            Durability::Durable => policy::Durability::Durable,
            Durability::Enqueued => policy::Durability::Enqueued,
            Durability::Off => policy::Durability::Off,
        },
        on_unavailable: match on_unavailable {
            // What the spool does not take either is refused.
            OnJournalUnavailable::Reject | OnJournalUnavailable::Spool => {
                policy::OnUnavailable::Reject
            }
            OnJournalUnavailable::Bypass => policy::OnUnavailable::Bypass,
        },
    }
}

pub(super) fn log_format(format: config::LogFormat) -> telemetry::LogFormat {
    match format {
        config::LogFormat::Text => telemetry::LogFormat::Text,
        config::LogFormat::Json => telemetry::LogFormat::Json,
    }
}

pub(super) fn log_level(level: config::LogLevel) -> telemetry::LogLevel {
    match level {
        config::LogLevel::Error => telemetry::LogLevel::Error,
        config::LogLevel::Warn => telemetry::LogLevel::Warn,
        config::LogLevel::Info => telemetry::LogLevel::Info,
        config::LogLevel::Debug => telemetry::LogLevel::Debug,
        config::LogLevel::Trace => telemetry::LogLevel::Trace,
    }
}

fn bytes(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
