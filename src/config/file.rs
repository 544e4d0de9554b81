//! The keys of the file: their names, how each is read, its default, and the
//! limits of its value on its own. What concerns several keys at once is in
//! `validate`.

pub(super) use super::reader::Keys;

use super::address::{self, ListenAddress, Upstream};
use super::document::{Node, Table, Value};
use super::position::Position;
use super::reader::{Context, Reader, Setting};
use super::secret::Secret;
use super::values::{choice, duration, integer, size, text};
use super::{
    Backend, ConnectionMode, Durability, LogFormat, LogLevel, OnJournalUnavailable, Placement,
    Protocol, Replicate, Role, kafka, replication, serve, upstream_tls,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub const ROOT: Keys = Keys {
    known: &[
        "region",
        "roles",
        "workers",
        "drain_timeout",
        "journal",
        "namespace",
        "replication",
        "admin",
        "log",
    ],
    unavailable: &[],
};

pub const JOURNAL: Keys = Keys {
    known: &[
        "backend",
        "directory",
        "segment_bytes",
        "retention_bytes",
        "retention_age",
        "hard_cap_bytes",
        "heartbeat_interval",
        "serve",
        "serve_token",
        "serve_certificate",
        "serve_key",
        "brokers",
        "kafka",
    ],
    unavailable: &[],
};

pub const NAMESPACE: Keys = Keys {
    known: &[
        "name",
        "protocol",
        "listen",
        "upstream",
        "upstream_user",
        "upstream_password",
        "upstream_certificate_authority",
        "upstream_server_name",
        "upstream_certificate",
        "upstream_key",
        "replica",
        "placement",
        "eject_after",
        "connection",
        "durability",
        "on_journal_unavailable",
        "request_timeout",
        "connect_timeout",
        "client_limit",
        "in_flight_bytes_max",
        "in_flight_batches_max",
        "value_bytes_max",
        "client_output_bytes_max",
        "replicate",
        "replicate_ttl_min",
        "prefix",
    ],
    unavailable: &[],
};

pub const REPLICA: Keys = Keys {
    known: &["upstream"],
    unavailable: &[],
};

pub const PREFIX: Keys = Keys {
    known: &[
        "prefix",
        "durability",
        "on_journal_unavailable",
        "replicate",
        "replicate_ttl_min",
    ],
    unavailable: &[],
};

pub const ADMIN: Keys = Keys {
    known: &["listen"],
    unavailable: &[],
};

pub const LOG: Keys = Keys {
    known: &["format", "level"],
    unavailable: &[],
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// A sidecar has a small share of a CPU; one thread uses it up.
const WORKERS: u64 = 1;
const WORKERS_MAX: u64 = 256;
/// Kubernetes waits as long between SIGTERM and SIGKILL by default.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

const DIRECTORY: &str = "data/journal";
const SEGMENT_BYTES: u64 = 64 * MIB;
const SEGMENT_BYTES_MIN: u64 = 4 << 10;
const SEGMENT_BYTES_MAX: u64 = 2 * GIB;
const RETENTION_BYTES: u64 = 4 * GIB;
const RETENTION_BYTES_MAX: u64 = 1024 * TIB;
/// Time to bring a region back after a night's outage.
const RETENTION_AGE: Duration = DAY;
const RETENTION_AGE_MAX: Duration = Duration::from_secs(3650 * 86_400);
const HEARTBEAT_INTERVAL: Duration = SECOND;
/// Replicators take a writer for dead that says nothing for longer than twice this.
const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(2);

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = SECOND;
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// Redis's own default for `maxclients`.
const CLIENT_LIMIT: u64 = 10_000;
const CLIENT_LIMIT_MAX: u64 = 1_000_000;
const IN_FLIGHT_BYTES: u64 = 256 * MIB;
/// More than one batch for each of the clients that may be connected.
const IN_FLIGHT_BATCHES: u64 = 16_384;
const IN_FLIGHT_BATCHES_MAX: u64 = 1 << 24;
/// Redis's own default for `proto-max-bulk-len`.
const VALUE_BYTES: u64 = 512 * MIB;
const VALUE_BYTES_MIN: u64 = 1 << 10;
/// The hard limit that Redis has by default for replicas that do not read.
const CLIENT_OUTPUT_BYTES: u64 = 256 * MIB;
const BYTES_MAX: u64 = TIB;
/// Longer than anything that is meant to be replicated lives.
const TTL_MAX: Duration = Duration::from_secs(365 * 86_400);

const ADMIN_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);

/// Longer names would make directory and metric names unwieldy.
const NAME_LENGTH_MAX: usize = 64;

/// The file as it was read.
pub struct File {
    pub region: Setting<String>,
    pub roles: Vec<Setting<Role>>,
    pub workers: Setting<u64>,
    pub drain_timeout: Setting<Duration>,
    pub journal: Journal,
    pub namespaces: Vec<Namespace>,
    pub replication: replication::File,
    pub admin_listen: Setting<SocketAddr>,
    pub log_format: Setting<LogFormat>,
    pub log_level: Setting<LogLevel>,
}

/// `[journal]`.
pub struct Journal {
    pub backend: Setting<Backend>,
    pub directory: Setting<PathBuf>,
    pub segment_bytes: Setting<u64>,
    pub retention_bytes: Setting<u64>,
    pub retention_age: Setting<Duration>,
    pub hard_cap_bytes: Setting<Option<u64>>,
    pub heartbeat_interval: Setting<Duration>,
    pub serve: serve::File,
    pub brokers: Option<Vec<Setting<String>>>,
    /// Where the table's header is.
    pub at: Position,
    pub kafka: kafka::File,
}

/// One `[[namespace.replica]]`.
pub struct Replica {
    pub upstream: Vec<Setting<Upstream>>,
}

/// One `[[namespace]]`.
pub struct Namespace {
    pub name: Setting<String>,
    pub protocol: Setting<Protocol>,
    /// Where the table's header is.
    pub at: Position,
    /// None where it is not given.
    pub listen: Option<Vec<Setting<ListenAddress>>>,
    pub upstream: Vec<Setting<Upstream>>,
    pub replicas: Vec<Replica>,
    pub placement: Setting<Placement>,
    pub eject_after: Setting<Option<Duration>>,
    pub upstream_user: Setting<Option<Secret>>,
    pub upstream_password: Setting<Option<Secret>>,
    pub upstream_tls: upstream_tls::File,
    pub connection: Setting<ConnectionMode>,
    pub durability: Setting<Durability>,
    pub on_journal_unavailable: Setting<OnJournalUnavailable>,
    pub request_timeout: Setting<Duration>,
    pub connect_timeout: Setting<Duration>,
    pub client_limit: Setting<u64>,
    pub in_flight_bytes_max: Setting<u64>,
    pub in_flight_batches_max: Setting<u64>,
    pub value_bytes_max: Setting<u64>,
    pub client_output_bytes_max: Setting<u64>,
    pub replicate: Setting<Replicate>,
    pub replicate_ttl_min: Setting<Duration>,
    pub prefixes: Vec<Prefix>,
}

/// One `[[namespace.prefix]]`.
pub struct Prefix {
    pub prefix: Setting<String>,
    pub durability: Setting<Option<Durability>>,
    pub on_journal_unavailable: Setting<Option<OnJournalUnavailable>>,
    pub replicate: Setting<Option<Replicate>>,
    pub replicate_ttl_min: Setting<Option<Duration>>,
}

/// Reads the whole document; what is wrong goes to the context.
pub fn read(root: &Table, context: &mut Context) -> File {
    let mut reader = Reader::new(root, "", &ROOT, context);
    let region = reader.required("region", String::new(), "\"us-east-1\"", name);
    let roles = reader.list("roles", choice).unwrap_or_else(|| {
        vec![Setting {
            value: Role::Proxy,
            at: root.at.clone(),
            usable: true,
            given: false,
        }]
    });
    let workers = reader.setting("workers", WORKERS, |node| integer(node, 1, WORKERS_MAX));
    let drain_timeout = reader.setting("drain_timeout", DRAIN_TIMEOUT, |node| {
        duration(node, Duration::ZERO, DAY)
    });
    let journal = reader.section("journal");
    let namespaces = reader.sections("namespace", "namespace");
    let replication = reader.section("replication");
    let admin = reader.section("admin");
    let log = reader.section("log");
    check_any_namespace(root, context);
    let mut admin = Reader::new(&admin, "admin", &ADMIN, context);
    let admin_listen = admin.setting("listen", ADMIN_LISTEN, |node| {
        text(node).and_then(|text| address::tcp_listen(&text))
    });
    let mut log = Reader::new(&log, "log", &LOG, context);
    let log_format = log.setting("format", LogFormat::Text, choice);
    let log_level = log.setting("level", LogLevel::Info, choice);
    let numbered = namespaces.iter().enumerate();
    File {
        region,
        roles,
        workers,
        drain_timeout,
        journal: read_journal(&journal, context),
        namespaces: numbered
            .map(|(index, table)| read_namespace(table, format!("namespace[{index}]"), context))
            .collect(),
        replication: replication::read(&replication, context),
        admin_listen,
        log_format,
        log_level,
    }
}

fn check_any_namespace(root: &Table, context: &mut Context) {
    let at = match root.get("namespace") {
        None => &root.at,
        Some(Node {
            at,
            value: Value::Array(nodes),
        }) if nodes.is_empty() => at,
        Some(_) => return,
    };
    let message = "missing; at least one [[namespace]] is needed";
    context.problems.error(at, "namespace", message);
}

fn read_journal(table: &Table, context: &mut Context) -> Journal {
    let mut reader = Reader::new(table, "journal", &JOURNAL, context);
    let kafka = kafka::read(&reader.section("kafka"), reader.context);
    let brokers = reader.list("brokers", broker);
    let size_to = |max| move |node: &Node| size(node, SEGMENT_BYTES_MIN, max);
    Journal {
        backend: reader.setting("backend", Backend::Local, choice),
        directory: reader.setting("directory", PathBuf::from(DIRECTORY), path),
        segment_bytes: reader.setting("segment_bytes", SEGMENT_BYTES, size_to(SEGMENT_BYTES_MAX)),
        retention_bytes: reader.setting(
            "retention_bytes",
            RETENTION_BYTES,
            size_to(RETENTION_BYTES_MAX),
        ),
        retention_age: reader.setting("retention_age", RETENTION_AGE, |node| {
            duration(node, SECOND, RETENTION_AGE_MAX)
        }),
        hard_cap_bytes: reader.setting("hard_cap_bytes", None, |node| {
            size_to(RETENTION_BYTES_MAX)(node).map(Some)
        }),
        heartbeat_interval: reader.setting("heartbeat_interval", HEARTBEAT_INTERVAL, |node| {
            duration(node, Duration::from_millis(10), HEARTBEAT_INTERVAL_MAX)
        }),
        brokers,
        at: table.at.clone(),
        kafka,
        serve: serve::read(table, context),
    }
}

/// Reads `host:port`, of which there may be several in one text.
fn broker(node: &Node) -> Result<String, String> {
    let found = text(node)?;
    let is_broker = |one: &str| {
        let (host, port) = one.trim().rsplit_once(':').unwrap_or_default();
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| 0 < port)
    };
    match found.split(',').all(is_broker) {
        true => Ok(found),
        false => Err(format!("expected \"host:port\", found {}", node.describe())),
    }
}

fn read_namespace(table: &Table, path: String, context: &mut Context) -> Namespace {
    let upstream_user = secret(table, "upstream_user", &path, context);
    let upstream_password = secret(table, "upstream_password", &path, context);
    let upstream_tls = upstream_tls::read(table, &path, context);
    let mut reader = Reader::new(table, path.clone(), &NAMESPACE, context);
    let timeout = |node: &Node| duration(node, TIMEOUT_MIN, DAY);
    let prefixes = reader.sections("prefix", "namespace.prefix");
    let replicas = reader.sections("replica", "namespace.replica");
    let upstream = reader.list("upstream", address::upstream);
    if upstream.is_none() {
        let message = "missing; for example upstream = \"redis://127.0.0.1:6379\"";
        let (at, path) = (reader.at().clone(), reader.path("upstream"));
        reader.context.problems.error(&at, path, message);
    }
    let listen = reader.list("listen", address::listen);
    Namespace {
        name: reader.required("name", String::new(), "\"sessions\"", name),
        protocol: reader.setting("protocol", Protocol::Redis, choice),
        at: table.at.clone(),
        listen,
        upstream: upstream.unwrap_or_default(),
        placement: reader.setting("placement", Placement::Libmemcached, choice),
        eject_after: reader.setting("eject_after", None, |node| match &node.value {
            Value::String(text) if text == "never" => Ok(None),
            _ => duration(node, TIMEOUT_MIN, DAY).map(Some),
        }),
        upstream_user,
        upstream_password,
        upstream_tls,
        connection: reader.setting("connection", ConnectionMode::Shared, choice),
        durability: reader.setting("durability", Durability::Durable, choice),
        on_journal_unavailable: reader.setting(
            "on_journal_unavailable",
            OnJournalUnavailable::Reject,
            choice,
        ),
        request_timeout: reader.setting("request_timeout", REQUEST_TIMEOUT, timeout),
        connect_timeout: reader.setting("connect_timeout", CONNECT_TIMEOUT, timeout),
        client_limit: reader.setting("client_limit", CLIENT_LIMIT, |node| {
            integer(node, 1, CLIENT_LIMIT_MAX)
        }),
        in_flight_bytes_max: reader.setting("in_flight_bytes_max", IN_FLIGHT_BYTES, |node| {
            size(node, VALUE_BYTES_MIN, BYTES_MAX)
        }),
        in_flight_batches_max: reader.setting("in_flight_batches_max", IN_FLIGHT_BATCHES, |node| {
            integer(node, 1, IN_FLIGHT_BATCHES_MAX)
        }),
        value_bytes_max: reader.setting("value_bytes_max", VALUE_BYTES, |node| {
            size(node, VALUE_BYTES_MIN, VALUE_BYTES)
        }),
        client_output_bytes_max: reader.setting(
            "client_output_bytes_max",
            CLIENT_OUTPUT_BYTES,
            |node| size(node, VALUE_BYTES_MIN, BYTES_MAX),
        ),
        replicate: reader.setting("replicate", Replicate::Value, choice),
        replicate_ttl_min: reader.setting("replicate_ttl_min", Duration::ZERO, time_to_live),
        replicas: replicas
            .iter()
            .enumerate()
            .map(|(index, table)| read_replica(table, format!("{path}.replica[{index}]"), context))
            .collect(),
        prefixes: prefixes
            .iter()
            .enumerate()
            .map(|(index, table)| read_prefix(table, format!("{path}.prefix[{index}]"), context))
            .collect(),
    }
}

fn read_replica(table: &Table, path: String, context: &mut Context) -> Replica {
    let mut reader = Reader::new(table, path, &REPLICA, context);
    let upstream = reader.list("upstream", address::upstream);
    if upstream.is_none() {
        let message = "missing; for example upstream = \"memcached://zone-b:11211\"";
        let (at, path) = (reader.at().clone(), reader.path("upstream"));
        reader.context.problems.error(&at, path, message);
    }
    Replica {
        upstream: upstream.unwrap_or_default(),
    }
}

fn read_prefix(table: &Table, path: String, context: &mut Context) -> Prefix {
    let mut reader = Reader::new(table, path, &PREFIX, context);
    let prefix = reader.required("prefix", String::new(), "\"tmp:\"", |node| {
        match text(node)?.as_str() {
            "" => Err("expected how keys begin, found an empty text".to_owned()),
            prefix => Ok(prefix.to_owned()),
        }
    });
    Prefix {
        prefix,
        durability: reader.setting("durability", None, |node| choice(node).map(Some)),
        on_journal_unavailable: reader.setting("on_journal_unavailable", None, |node| {
            choice(node).map(Some)
        }),
        replicate: reader.setting("replicate", None, |node| choice(node).map(Some)),
        replicate_ttl_min: reader.setting("replicate_ttl_min", None, |node| {
            time_to_live(node).map(Some)
        }),
    }
}

fn time_to_live(node: &Node) -> Result<Duration, String> {
    duration(node, Duration::ZERO, TTL_MAX)
}

/// Reads a name that is fit for metrics, paths and variables.
pub(super) fn name(node: &Node) -> Result<String, String> {
    let name = text(node)?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match (1..=NAME_LENGTH_MAX).contains(&name.len()) && name.chars().all(allowed) {
        true => Ok(name),
        false => Err(format!(
            "expected 1 to {NAME_LENGTH_MAX} of a-z, 0-9 and \"-\", found {}",
            node.describe()
        )),
    }
}

pub(super) fn path(node: &Node) -> Result<PathBuf, String> {
    match text(node)?.as_str() {
        "" => Err("expected a path, found an empty text".to_owned()),
        path => Ok(PathBuf::from(path)),
    }
}

/// Reads a text, `{ file = "..." }` or `{ env = "..." }`. Messages never
/// repeat what was found.
pub(super) fn secret(
    table: &Table,
    key: &str,
    path: &str,
    context: &mut Context,
) -> Setting<Option<Secret>> {
    const EXPECTED: &str = "expected a text, { file = \"...\" } or { env = \"...\" }";
    let absent = Setting {
        value: None,
        at: table.at.clone(),
        usable: true,
        given: false,
    };
    let Some(node) = table.get(key) else {
        return absent;
    };
    let found = match &node.value {
        Value::String(text) => Ok(text.clone()),
        Value::Table(source) => match source.entries.as_slice() {
            [entry] => match (entry.key.as_str(), &entry.node.value) {
                ("file", Value::String(file)) => read_secret_file(file),
                ("env", Value::String(variable)) => {
                    context.secret_variables.push(variable.clone());
                    match context.environment.get(variable) {
                        Some(Ok(text)) => Ok(text.to_owned()),
                        Some(Err(())) => Err(format!("the variable {variable} is not UTF-8")),
                        None => Err(format!("the variable {variable} is not set")),
                    }
                }
                _ => Err(EXPECTED.to_owned()),
            },
            _ => Err(EXPECTED.to_owned()),
        },
        _ => Err(EXPECTED.to_owned()),
    };
    let found = match found {
        Ok(text) if text.is_empty() => Err("is empty".to_owned()),
        found => found,
    };
    let (value, usable) = match found {
        Ok(text) => (Some(Secret::new(text)), true),
        Err(message) => {
            context
                .problems
                .error(&node.at, format!("{path}.{key}"), message);
            (None, false)
        }
    };
    Setting {
        value,
        at: node.at.clone(),
        usable,
        given: true,
    }
}

/// The file's text without the line end that editors and `echo` leave.
fn read_secret_file(file: &str) -> Result<String, String> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err(format!("cannot read the secret's file {file:?}: {error}")),
    }
}
