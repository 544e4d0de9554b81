//! The configuration: typed, complete and immutable once it is loaded.
//!
//! `sidecar.toml` is read key by key ([`file`]), overridden by environment
//! variables (`environment`), checked as a whole (`validate`) and turned
//! into a [`Config`] in which every default is resolved. All that is wrong is
//! reported at once. A changed file becomes a new `Config`; [`reload`] says
//! which of its keys can be applied while the program runs.
//!
//! This module knows nothing of the rest of the program: the composition root
//! turns its types into the options of each module.

mod address;
mod document;
mod environment;
mod file;
mod kafka;
mod position;
mod reader;
pub mod reload;
mod replication;
mod secret;
mod serve;
mod upstream_tls;
mod validate;
mod values;

pub use address::{ListenAddress, Upstream, UpstreamAddress, Upstreams};
pub use environment::Environment;
pub use kafka::{Kafka, Property};
pub use position::{LoadError, Position, Problem};
pub use replication::{Replication, Served, Source, SourceJournal, SourceTls};
pub use secret::Secret;
pub use serve::{Serve, ServeTls};
pub use upstream_tls::{Identity, UpstreamTls};
pub use values::{format_duration, format_size};

use serde::Serialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that can be configured, as `sidecar.toml` and the environment
/// say it. It serializes to the same keys, with secrets redacted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// The region this process is in: `[a-z0-9-]{1,64}`.
    pub region: String,
    /// What this process does; not empty.
    pub roles: Vec<Role>,
    /// Threads that serve clients; at least 1.
    pub workers: usize,
    /// How long a drain may take before what is left is cut off.
    #[serde(serialize_with = "values::serialize_duration")]
    pub drain_timeout: Duration,
    /// Where changes are written down.
    pub journal: Journal,
    /// The listeners and their datastores; not empty, names unique.
    #[serde(rename = "namespace")]
    pub namespaces: Vec<Namespace>,
    /// Which journals are applied here, by the role `replicator`.
    pub replication: Replication,
    /// The admin endpoint.
    pub admin: Admin,
    /// What is logged, and how.
    pub log: Log,
    /// What is doubtful but allowed.
    #[serde(skip)]
    pub warnings: Vec<Problem>,
}

values::choices! {
    /// What a process does.
    Role {
        /// Serves clients.
        Proxy = "proxy",
        /// Applies journals to the datastores.
        Replicator = "replicator",
    }
    unavailable {}
}

values::choices! {
    /// What other regions do with a mutation.
    Replicate {
        /// They make it, too.
        Value = "value",
        /// They delete its keys.
        Invalidate = "invalidate",
        /// Nothing.
        Off = "off",
    }
    unavailable {}
}

values::choices! {
    /// What keeps the journal.
    Backend {
        /// Segment files in a local directory.
        Local = "local",
        /// A Kafka topic for each namespace.
        Kafka = "kafka",
        /// Segment files that are shipped to a Kafka topic.
        Spool = "spool",
        /// Memory: gone when the process ends. For tests.
        Memory = "memory",
    }
    unavailable {}
}

values::choices! {
    /// What clients of a namespace speak.
    Protocol {
        /// RESP2 and RESP3.
        Redis = "redis",
        /// memcached's text and meta commands, and its binary protocol.
        Memcached = "memcached",
    }
    unavailable {}
}

values::choices! {
    /// How keys are placed on several servers.
    Placement {
        /// Ketama as libmemcached does it with weights: servers are called
        /// `host`, or `host:port` if the port is not 11211.
        Libmemcached = "libmemcached",
        /// Ketama as spymemcached does it: servers are called `host:port`.
        Spymemcached = "spymemcached",
    }
    unavailable {}
}

values::choices! {
    /// How clients share connections to the datastore.
    ConnectionMode {
        /// Each worker keeps few connections that all its clients share.
        Shared = "shared",
        /// Each client has a connection of its own.
        Dedicated = "dedicated",
    }
    unavailable {}
}

values::choices! {
    /// What a mutation waits for before it is forwarded.
    Durability {
        /// For its record to be durable in the journal.
        Durable = "durable",
        /// For its record to be handed to the journal.
        Enqueued = "enqueued",
        /// For nothing: it is not journaled.
        Off = "off",
    }
    unavailable {}
}

values::choices! {
    /// What becomes of mutations while the journal takes no records.
    OnJournalUnavailable {
        /// They are refused.
        Reject = "reject",
        /// Kafka's are kept in local files until it is back; what they do not
        /// take either is refused.
        Spool = "spool",
        /// They are forwarded unjournaled, and counted.
        Bypass = "bypass",
    }
    unavailable {}
}

values::choices! {
    /// How log lines look.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
    unavailable {}
}

values::choices! {
    /// The least severe lines that are logged.
    LogLevel {
        /// A human must act.
        Error = "error",
        /// Something is off.
        Warn = "warn",
        /// What operators follow.
        Info = "info",
        /// What developers follow.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
    unavailable {}
}

/// Where changes are written down, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Journal {
    /// What keeps it.
    pub backend: Backend,
    /// Where its files are; each namespace has a directory below it.
    pub directory: PathBuf,
    /// The size of one segment file, in bytes.
    #[serde(serialize_with = "values::serialize_size")]
    pub segment_bytes: u64,
    /// Above this size, in bytes, old segments that nobody reads are removed.
    #[serde(serialize_with = "values::serialize_size")]
    pub retention_bytes: u64,
    /// Older segments that nobody reads are removed.
    #[serde(serialize_with = "values::serialize_duration")]
    pub retention_age: Duration,
    /// Above this size, in bytes, old segments are removed even from under
    /// readers.
    #[serde(
        serialize_with = "values::serialize_optional_size",
        skip_serializing_if = "Option::is_none"
    )]
    pub hard_cap_bytes: Option<u64>,
    /// How often an idle writer writes a heartbeat.
    #[serde(serialize_with = "values::serialize_duration")]
    pub heartbeat_interval: Duration,
    /// Where it is served to replicators elsewhere, if it is.
    #[serde(flatten)]
    pub serve: Option<Serve>,
    /// Where Kafka is: `host:port`; not empty with the backends that use it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub brokers: Vec<String>,
    /// How Kafka is used, by the backends that do.
    pub kafka: Kafka,
}

/// One listener, one datastore, one journal stream, and their policies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Namespace {
    /// Its name: `[a-z0-9-]{1,64}`, unique.
    pub name: String,
    /// What its clients speak.
    pub protocol: Protocol,
    /// Where clients connect; not empty with the role `proxy`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<ListenAddress>,
    /// The datastore.
    #[serde(flatten)]
    pub upstream: Upstreams,
    /// How TLS is spoken with it and its replicas, where it is.
    #[serde(flatten)]
    pub upstream_tls: UpstreamTls,
    /// Servers in other zones that every write goes to as well, and reads that
    /// find nothing here. One ring a zone.
    #[serde(rename = "replica", skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<Upstreams>,
    /// How keys are placed on several servers.
    pub placement: Placement,
    /// A server that has been away for so long leaves its keys to the others.
    #[serde(
        serialize_with = "values::serialize_optional_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub eject_after: Option<Duration>,
    /// How clients share connections to it.
    pub connection: ConnectionMode,
    /// What mutations wait for.
    pub durability: Durability,
    /// What becomes of mutations while the journal takes no records.
    pub on_journal_unavailable: OnJournalUnavailable,
    /// How long a command may take, from its last byte in to its reply's
    /// first byte out; commands that block are exempt.
    #[serde(serialize_with = "values::serialize_duration")]
    pub request_timeout: Duration,
    /// How long connecting to the datastore may take.
    #[serde(serialize_with = "values::serialize_duration")]
    pub connect_timeout: Duration,
    /// Clients that may be connected at once.
    pub client_limit: usize,
    /// Bytes of requests that may be under way at once.
    #[serde(serialize_with = "values::serialize_size")]
    pub in_flight_bytes_max: u64,
    /// Batches that may be under way at once.
    pub in_flight_batches_max: usize,
    /// Bytes one argument of a command may have.
    #[serde(serialize_with = "values::serialize_size")]
    pub value_bytes_max: u64,
    /// Bytes of replies that may wait for a client to read them; a client
    /// that exceeds it is disconnected.
    #[serde(serialize_with = "values::serialize_size")]
    pub client_output_bytes_max: u64,
    /// What other regions do with mutations.
    pub replicate: Replicate,
    /// Values with a shorter time to live are not replicated.
    #[serde(serialize_with = "values::serialize_duration")]
    pub replicate_ttl_min: Duration,
    /// Policies of keys by prefix, the longest first: the first that matches
    /// a key is the key's.
    #[serde(rename = "prefix", skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<PrefixPolicy>,
}

/// The policies of the keys that begin with a prefix. What the file leaves
/// out is the namespace's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrefixPolicy {
    /// How the keys begin; not empty.
    pub prefix: String,
    /// What mutations wait for.
    pub durability: Durability,
    /// What becomes of mutations while the journal takes no records.
    pub on_journal_unavailable: OnJournalUnavailable,
    /// What other regions do with mutations.
    pub replicate: Replicate,
    /// Values with a shorter time to live are not replicated.
    #[serde(serialize_with = "values::serialize_duration")]
    pub replicate_ttl_min: Duration,
}

/// The admin endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// The least severe lines that are logged.
    pub level: LogLevel,
}

impl Config {
    /// Reads a file, with this process's environment variables over it.
    pub fn load(file: &Path) -> Result<Config, LoadError> {
        let text = std::fs::read_to_string(file).map_err(|error| LoadError::Unreadable {
            file: file.to_owned(),
            error,
        })?;
        Config::parse(&text, file, &Environment::of_process())
    }

    /// Reads the text of a file, with `environment` over it. `file` is what
    /// the text is called in messages.
    pub fn parse(text: &str, file: &Path, environment: &Environment) -> Result<Config, LoadError> {
        validate::config(text, environment).map_err(|errors| LoadError::Invalid {
            file: file.to_owned(),
            errors,
        })
    }

    /// The warnings, one line each, as [`Problem::line`] shapes them.
    pub fn warning_lines(&self, file: &Path) -> Vec<String> {
        let lines = self.warnings.iter().map(|warning| warning.line(file));
        lines.collect()
    }

    /// The effective configuration as one JSON object, secrets redacted.
    pub fn to_redacted_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and numbers always serialize")
    }

    /// The effective configuration as TOML, secrets redacted.
    pub fn to_redacted_toml(&self) -> String {
        toml::to_string(self).expect("strings and numbers always serialize")
    }

    /// The topic of one namespace's journal.
    pub fn topic(&self, namespace: &str) -> String {
        self.journal.kafka.topic_of(&self.region, namespace)
    }

    /// Whether this process has the role.
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The directory of one namespace's dead letters. No namespace has a name
    /// with an underscore, so it is no journal's.
    pub fn dead_letter_directory(&self, namespace: &str) -> PathBuf {
        self.journal.directory.join("_dead_letters").join(namespace)
    }

    /// The directory of one namespace's conflict journal, likewise.
    pub fn conflict_directory(&self, namespace: &str) -> PathBuf {
        self.journal.directory.join("_conflicts").join(namespace)
    }

    /// The directory of one namespace's journal.
    pub fn journal_directory(&self, namespace: &str) -> PathBuf {
        self.journal.directory.join(namespace)
    }
}

#[cfg(test)]
mod tests;
