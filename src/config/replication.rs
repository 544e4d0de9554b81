//! `[replication]`: whose journals are applied here, and how.

use super::document::{Node, Table, Value};
use super::file::{self, Keys};
use super::kafka::{self, Property};
use super::reader::{Context, Reader, Setting};
use super::secret::Secret;
use super::values::{self, boolean, duration, integer, text};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

mod check;
mod source;

pub use check::check;
pub use source::{Served, Source, SourceJournal, SourceTls};

pub const REPLICATION: Keys = Keys {
    known: &[
        "batch_records",
        "clock_skew_max",
        "key_versions_max",
        "progress_interval",
        "retry_backoff_max",
        "conflict_values",
        "source",
    ],
    unavailable: &[],
};

pub const SOURCE: Keys = Keys {
    known: &[
        "region",
        "journal",
        "token",
        "certificate_authority",
        "server_name",
        "topic",
        "properties",
    ],
    unavailable: &[],
};

/// A few milliseconds of a datastore's time: others wait no longer for it.
const BATCH_RECORDS: u64 = 256;
const BATCH_RECORDS_MAX: u64 = 65_536;
/// More than clocks that are kept by NTP differ, and little enough for a wrong
/// one not to win for long.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(10);
/// Some 100 MB of memory.
const KEY_VERSIONS_MAX: u64 = 1_000_000;
const KEY_VERSIONS_MAX_MIN: u64 = 1000;
const KEY_VERSIONS_MAX_MAX: u64 = 1_000_000_000;
/// Seldom beside the records themselves, and often enough for a lag that is
/// measured by it.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
const PROGRESS_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// A datastore that is back is noticed within this.
const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(5);
const RETRY_BACKOFF_MAX_MAX: Duration = Duration::from_secs(3600);
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// How journals are applied, and which.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replication {
    /// Records that are applied in one transaction, at most.
    pub batch_records: usize,
    /// A source whose clock is further ahead is held to this.
    #[serde(serialize_with = "values::serialize_duration")]
    pub clock_skew_max: Duration,
    /// Keys whose last version is remembered, at most.
    pub key_versions_max: usize,
    /// How often progress is written to the own journal.
    #[serde(serialize_with = "values::serialize_duration")]
    pub progress_interval: Duration,
    /// The longest pause between attempts.
    #[serde(serialize_with = "values::serialize_duration")]
    pub retry_backoff_max: Duration,
    /// Whether the conflict journal has the values that lost.
    pub conflict_values: bool,
    /// The journals.
    #[serde(rename = "source", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
}

/// `[replication]` as it was read.
pub struct File {
    pub batch_records: Setting<u64>,
    pub clock_skew_max: Setting<Duration>,
    pub key_versions_max: Setting<u64>,
    pub progress_interval: Setting<Duration>,
    pub retry_backoff_max: Setting<Duration>,
    pub conflict_values: Setting<bool>,
    pub sources: Vec<source::File>,
}

/// Reads the table; what is wrong goes to the context.
pub fn read(table: &Table, context: &mut Context) -> File {
    let mut reader = Reader::new(table, "replication", &REPLICATION, context);
    let sources = reader.sections("source", "replication.source");
    let interval = |max| move |node: &Node| duration(node, INTERVAL_MIN, max);
    let day = Duration::from_secs(86_400);
    File {
        batch_records: reader.setting("batch_records", BATCH_RECORDS, |node| {
            integer(node, 1, BATCH_RECORDS_MAX)
        }),
        clock_skew_max: reader.setting("clock_skew_max", CLOCK_SKEW_MAX, |node| {
            duration(node, Duration::ZERO, day)
        }),
        key_versions_max: reader.setting("key_versions_max", KEY_VERSIONS_MAX, |node| {
            integer(node, KEY_VERSIONS_MAX_MIN, KEY_VERSIONS_MAX_MAX)
        }),
        progress_interval: reader.setting(
            "progress_interval",
            PROGRESS_INTERVAL,
            interval(PROGRESS_INTERVAL_MAX),
        ),
        retry_backoff_max: reader.setting(
            "retry_backoff_max",
            RETRY_BACKOFF_MAX,
            interval(RETRY_BACKOFF_MAX_MAX),
        ),
        conflict_values: reader.setting("conflict_values", true, boolean),
        sources: sources
            .iter()
            .enumerate()
            .map(|(index, table)| {
                source::read(table, format!("replication.source[{index}]"), context)
            })
            .collect(),
    }
}

/// The typed result of what was checked.
pub fn build(file: File, topic: &str) -> Replication {
    let count =
        |setting: Setting<u64>| usize::try_from(setting.value).expect("the limits fit 32 bits");
    Replication {
        batch_records: count(file.batch_records),
        clock_skew_max: file.clock_skew_max.value,
        key_versions_max: count(file.key_versions_max),
        progress_interval: file.progress_interval.value,
        retry_backoff_max: file.retry_backoff_max.value,
        conflict_values: file.conflict_values.value,
        sources: file
            .sources
            .into_iter()
            .filter_map(|source| source::build(source, topic))
            .collect(),
    }
}

#[cfg(test)]
mod tests;
