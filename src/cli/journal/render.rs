//! Records as people and programs read them.
//!
//! In JSON, a field `x` that holds bytes is `x` where they are UTF-8 and
//! `x_base64` where not; an argument among others is a string, or an object
//! with the field `base64`. Numbers that can exceed 2^53 are strings.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::mutation::v1::outcome::Result as Resolved;
use crate::mutation::v1::record::Body;
use crate::mutation::v1::{Command, Heartbeat, Letter, Outcome, Record, Snapshot, Store};

/// So many bytes of an argument or value are shown to people.
const SHOWN_BYTES_MAX: usize = 64;

/// So many arguments of a command are shown to people.
const SHOWN_ARGUMENTS_MAX: usize = 16;

/// The upper bits of a hybrid logical clock are milliseconds.
const CLOCK_COUNTER_BITS: u32 = 16;

/// One line for people.
pub(super) fn line(offset: u64, record: &Record) -> String {
    let time = time(record.hlc >> CLOCK_COUNTER_BITS);
    let (region, namespace, database) = (&record.region, &record.namespace, record.database);
    let (writer, sequence) = (record.writer, record.sequence);
    let body = match &record.body {
        None => "empty".to_owned(),
        Some(Body::Heartbeat(heartbeat)) => heartbeat_line(heartbeat),
        Some(Body::Mutation(mutation)) => {
            let kind = if mutation.r#final { "final" } else { "intent" };
            format!("mutation {kind} {}", commands_line(&mutation.commands))
        }
        Some(Body::Outcome(outcome)) => outcome_line(outcome),
        Some(Body::Snapshot(snapshot)) => snapshot_line(snapshot),
    };
    format!("{offset} {time} {region} {namespace} db{database} {writer:016x}-{sequence} {body}")
}

fn heartbeat_line(heartbeat: &Heartbeat) -> String {
    let mut line = "heartbeat".to_owned();
    for (index, range) in heartbeat.unacknowledged.iter().enumerate() {
        let before = if index == 0 { " unacknowledged" } else { "," };
        let _ = write!(line, "{before} {}-{}", range.first, range.last);
    }
    line
}

fn outcome_line(outcome: &Outcome) -> String {
    let of = outcome.of_sequence;
    match &outcome.result {
        None => format!("outcome of {of}"),
        Some(Resolved::Effects(effects)) => {
            format!(
                "outcome of {of} effects {}",
                commands_line(&effects.commands)
            )
        }
        Some(Resolved::Rejected(rejected)) => {
            format!(
                "outcome of {of} rejected {}",
                rejected.reason.escape_debug()
            )
        }
        Some(Resolved::Unknown(unknown)) => {
            let (reason, keys) = (unknown.reason.escape_debug(), words(&unknown.keys));
            format!("outcome of {of} unknown ({reason}) {keys}")
        }
    }
}

fn snapshot_line(snapshot: &Snapshot) -> String {
    let key = word(&snapshot.key);
    let value = match &snapshot.value {
        None => "absent".to_owned(),
        Some(value) => word(value),
    };
    match u64::try_from(snapshot.expires_at) {
        Ok(0) | Err(_) => format!("snapshot {key} {value}"),
        Ok(ms) => format!("snapshot {key} {value} expires {}", time(ms)),
    }
}

fn commands_line(commands: &[Command]) -> String {
    let lines: Vec<String> = commands.iter().map(|c| words(&c.arguments)).collect();
    lines.join("; ")
}

fn words(arguments: &[Bytes]) -> String {
    let shown = arguments.iter().take(SHOWN_ARGUMENTS_MAX);
    let mut line = shown.map(|a| word(a)).collect::<Vec<_>>().join(" ");
    if SHOWN_ARGUMENTS_MAX < arguments.len() {
        let more = arguments.len() - SHOWN_ARGUMENTS_MAX;
        let _ = write!(line, " (and {more} more)");
    }
    line
}

/// One argument, quoted where it would not stand as a word.
fn word(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"\";\\".contains(byte);
    let mut text = match !shown.is_empty() && shown.iter().all(is_plain) {
        true => shown.iter().map(|byte| char::from(*byte)).collect(),
        false => format!("\"{}\"", shown.escape_ascii()),
    };
    if shown.len() < bytes.len() {
        let _ = write!(text, "...({} bytes)", bytes.len());
    }
    text
}

/// One object for programs.
pub(super) fn json(offset: u64, record: &Record) -> Value {
    let store = match record.store() {
        Store::Unspecified => "unspecified",
        Store::Redis => "redis",
        Store::Memcached => "memcached",
    };
    let (kind, body) = match &record.body {
        None => ("empty", None),
        Some(Body::Heartbeat(heartbeat)) if heartbeat.unacknowledged.is_empty() => {
            ("heartbeat", None)
        }
        Some(Body::Heartbeat(heartbeat)) => {
            let ranges = heartbeat.unacknowledged.iter();
            let ranges: Vec<Value> = ranges
                .map(|range| json!({"first": range.first, "last": range.last}))
                .collect();
            ("heartbeat", Some(json!({"unacknowledged": ranges})))
        }
        Some(Body::Mutation(mutation)) => {
            let body = json!({
                "commands": commands_json(&mutation.commands),
                "keys": list_json(&mutation.keys),
                "final": mutation.r#final,
                "link": mutation.link,
                "waits": mutation.waits,
            });
            ("mutation", Some(body))
        }
        Some(Body::Outcome(outcome)) => ("outcome", Some(outcome_json(outcome))),
        Some(Body::Snapshot(snapshot)) => ("snapshot", Some(snapshot_json(snapshot))),
    };
    let mut object = json!({
        "offset": offset,
        "hlc": record.hlc.to_string(),
        "time_ms": record.hlc >> CLOCK_COUNTER_BITS,
        "region": record.region,
        "writer": format!("{:016x}", record.writer),
        "sequence": record.sequence,
        "namespace": record.namespace,
        "store": store,
        "database": record.database,
        "settled_through": record.settled_through,
        "kind": kind,
    });
    if let Some(body) = body {
        object[kind] = body;
    }
    object
}

/// A letter for people; with its record, where it is to be whole.
pub(in super::super) fn letter_line(
    number: u64,
    decision: &str,
    letter: &Letter,
    whole: bool,
) -> String {
    let keys: Vec<String> = letter.keys.iter().map(|key| word(key)).collect();
    let mut line = format!(
        "{number} {} {decision} from {}/{} at {}, keys {}: {}",
        time(letter.at),
        letter.source,
        letter.partition,
        letter.offset,
        keys.join(" "),
        letter.reason
    );
    if let Some(record) = letter.record.as_ref().filter(|_| whole) {
        line.push_str("\n  ");
        line.push_str(&self::line(letter.offset, record));
    }
    line
}

/// A letter for machines.
pub(in super::super) fn letter_json(number: u64, decision: &str, letter: &Letter) -> Value {
    let mut object = Map::new();
    object.insert("number".to_owned(), number.into());
    object.insert("decision".to_owned(), decision.into());
    object.insert("source".to_owned(), letter.source.clone().into());
    object.insert("partition".to_owned(), letter.partition.into());
    object.insert("offset".to_owned(), letter.offset.into());
    object.insert("reason".to_owned(), letter.reason.clone().into());
    object.insert("at_ms".to_owned(), letter.at.into());
    object.insert("keys".to_owned(), list_json(&letter.keys));
    if let Some(record) = &letter.record {
        object.insert("record".to_owned(), json(letter.offset, record));
    }
    Value::Object(object)
}

fn outcome_json(outcome: &Outcome) -> Value {
    let mut object = json!({"of_sequence": outcome.of_sequence});
    match &outcome.result {
        None => {}
        Some(Resolved::Effects(effects)) => {
            object["effects"] = json!({"commands": commands_json(&effects.commands)});
        }
        Some(Resolved::Rejected(rejected)) => {
            object["rejected"] = json!({"reason": rejected.reason});
        }
        Some(Resolved::Unknown(unknown)) => {
            let keys = list_json(&unknown.keys);
            object["unknown"] = json!({"reason": unknown.reason, "keys": keys});
        }
    }
    object
}

fn snapshot_json(snapshot: &Snapshot) -> Value {
    let mut object = Map::new();
    object.extend([bytes_field("key", &snapshot.key)]);
    object.extend(
        snapshot
            .value
            .as_ref()
            .map(|value| bytes_field("value", value)),
    );
    object.insert("expires_at".to_owned(), json!(snapshot.expires_at));
    let includes = snapshot.applied.iter().map(|one| {
        json!({
            "region": one.region,
            "partition": one.partition,
            "next_offset": one.next_offset,
        })
    });
    object.insert("includes".to_owned(), includes.collect());
    Value::Object(object)
}

fn commands_json(commands: &[Command]) -> Value {
    let commands = commands.iter();
    commands
        .map(|command| json!({"arguments": list_json(&command.arguments)}))
        .collect()
}

fn list_json(items: &[Bytes]) -> Value {
    let item = |bytes: &Bytes| match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"base64": BASE64_STANDARD.encode(bytes)}),
    };
    items.iter().map(item).collect()
}

/// A field that holds bytes: its name and its value.
pub(in crate::cli) fn bytes_field(name: &str, bytes: &[u8]) -> (String, Value) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (name.to_owned(), json!(text)),
        Err(_) => (
            format!("{name}_base64"),
            json!(BASE64_STANDARD.encode(bytes)),
        ),
    }
}

/// Milliseconds since the Unix epoch as RFC 3339, UTC. Days are turned into a
/// date in years that begin in March, so that a leap day is a year's last.
pub(in super::super) fn time(ms: u64) -> String {
    const DAYS_PER_ERA: u64 = 146_097; // 400 years
    const MARCH_OF_YEAR_0: u64 = 719_468; // days before 1970
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let (days, second) = (seconds / 86_400 + MARCH_OF_YEAR_0, seconds % 86_400);
    let (era, day) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::v1::Applied;

    #[test]
    fn a_snapshot_says_what_it_includes() {
        let snapshot = Snapshot {
            key: Bytes::from_static(b"user:1"),
            value: Some(Bytes::from_static(b"\xff")),
            expires_at: 7,
            applied: vec![Applied {
                region: "eu".to_owned(),
                partition: 3,
                next_offset: 41,
            }],
            ..Snapshot::default()
        };
        let expected = json!({
            "key": "user:1",
            "value_base64": "/w==",
            "expires_at": 7,
            "includes": [{"region": "eu", "partition": 3, "next_offset": 41}],
        });
        assert_eq!(snapshot_json(&snapshot), expected);
    }

    #[test]
    fn times() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(time(ms), text);
        }
    }
}
