//! Environment variables that override settings of the file.
//!
//! A variable is `WAL_SIDECAR_` and the key's path in upper case, its parts
//! joined by `_`; a namespace is named by its name, not by its number:
//! `WAL_SIDECAR_JOURNAL_DIRECTORY`, `WAL_SIDECAR_NAMESPACE_SESSIONS_UPSTREAM`.
//! A variable with that prefix that means nothing is an error, as an unknown
//! key is: a misspelled override that is ignored would be worse than a
//! program that does not start.

use super::document::{Node, Table, Value};
use super::position::{Position, Problems};
use super::{file, kafka, replication, values};
use std::collections::BTreeMap;
use std::ffi::OsString;

const PREFIX: &str = "WAL_SIDECAR_";

/// Variables with the prefix that are not settings: this one names the file.
const NOT_SETTINGS: &[&str] = &["WAL_SIDECAR_CONFIG"];

/// Tables whose keys can be overridden, and those keys.
const TABLES: &[(&str, &file::Keys)] = &[
    ("journal", &file::JOURNAL),
    ("journal.kafka", &kafka::KAFKA),
    ("replication", &replication::REPLICATION),
    ("admin", &file::ADMIN),
    ("log", &file::LOG),
];

/// Keys that cannot be overridden: tables, and what a namespace is found by.
const NOT_SCALAR: &[&str] = &[
    "journal",
    "namespace",
    "replication",
    "source",
    "admin",
    "log",
    "name",
    "prefix",
    "replica",
    "kafka",
    "properties",
];

/// A set of environment variables.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
}

impl Environment {
    /// This process's variables, as they are now.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os();
        Environment {
            variables: variables
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
        }
    }

    /// The value of a variable; `Err` where it is not UTF-8.
    pub(super) fn get(&self, name: &str) -> Option<Result<&str, ()>> {
        let value = self.variables.get(name)?;
        Some(value.to_str().ok_or(()))
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let variables = pairs.into_iter();
        Environment {
            variables: variables
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }
}

/// Puts the variables' values into the document. Returns the names of those
/// that have the prefix and are no setting.
pub(super) fn overlay(
    root: &mut Table,
    environment: &Environment,
    problems: &mut Problems,
) -> Vec<String> {
    let mut unknown = Vec::new();
    for name in environment.variables.keys() {
        let Some(path) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if NOT_SETTINGS.contains(&name.as_str()) || is_service_link(path) {
            continue;
        }
        let position = Position::Variable(name.clone());
        let Some(Ok(value)) = environment.get(name) else {
            problems.error(&position, "", "is not UTF-8");
            continue;
        };
        let Some((table, key)) = target(root, path) else {
            unknown.push(name.clone());
            continue;
        };
        let node = Node {
            at: position,
            value: Value::String(value.to_owned()),
        };
        table.set(key, node);
    }
    unknown
}

/// Kubernetes gives a pod variables for every service of its namespace
/// (kubernetes.io, "Discovering services"), and a service may well be named
/// `wal-sidecar`. None of our keys ends like these.
fn is_service_link(path: &str) -> bool {
    let parts: Vec<&str> = path.split('_').collect();
    let is_port = |window: &[&str]| {
        let protocol = ["TCP", "UDP", "SCTP"].contains(&window[2]);
        window[0] == "PORT" && window[1].parse::<u16>().is_ok() && protocol
    };
    path.ends_with("SERVICE_HOST")
        || path.contains("SERVICE_PORT")
        || parts.last() == Some(&"PORT")
        || parts.windows(3).any(is_port)
}

/// The table a variable's path leads to, made where it is missing, and the key.
fn target<'t>(root: &'t mut Table, path: &str) -> Option<(&'t mut Table, &'static str)> {
    if let Some(key) = scalar(&file::ROOT, path) {
        return Some((root, key));
    }
    // JOURNAL_ is a prefix of JOURNAL_KAFKA_ too.
    let named = TABLES.iter().find_map(|(name, keys)| {
        let key = scalar(keys, path.strip_prefix(&variable_part(name))?)?;
        Some((*name, key))
    });
    if let Some((name, key)) = named {
        let mut table = root;
        for part in name.split('.') {
            table = subtable(table, part)?;
        }
        return Some((table, key));
    }
    let rest = path.strip_prefix("NAMESPACE_")?;
    namespace(root, rest)
}

/// The table with the name, made where it is missing.
fn subtable<'t>(parent: &'t mut Table, name: &str) -> Option<&'t mut Table> {
    if parent.get(name).is_none() {
        let at = parent.at.clone();
        let empty = Table {
            at: at.clone(),
            entries: Vec::new(),
        };
        let value = Value::Table(empty);
        parent.set(name, Node { at, value });
    }
    as_table(parent, name)
}

/// The namespace, and the key, that `SESSIONS_UPSTREAM` names.
fn namespace<'t>(root: &'t mut Table, path: &str) -> Option<(&'t mut Table, &'static str)> {
    let entry = root
        .entries
        .iter_mut()
        .find(|entry| entry.key == "namespace")?;
    let Value::Array(nodes) = &mut entry.node.value else {
        return None;
    };
    nodes.iter_mut().find_map(|node| {
        let Value::Table(table) = &mut node.value else {
            return None;
        };
        let Some(Value::String(name)) = table.get("name").map(|node| &node.value) else {
            return None;
        };
        let key = scalar(&file::NAMESPACE, path.strip_prefix(&variable_part(name))?)?;
        Some((table, key))
    })
}

/// `SESSIONS_` of `sessions`.
fn variable_part(name: &str) -> String {
    name.to_ascii_uppercase().replace(['-', '.'], "_") + "_"
}

fn scalar(keys: &file::Keys, path: &str) -> Option<&'static str> {
    let keys = keys.known.iter().copied();
    keys.filter(|key| !NOT_SCALAR.contains(key))
        .find(|key| key.to_ascii_uppercase() == path)
}

fn as_table<'t>(root: &'t mut Table, name: &str) -> Option<&'t mut Table> {
    let entry = root.entries.iter_mut().find(|entry| entry.key == name)?;
    match &mut entry.node.value {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

/// What to say of a variable that is no setting.
pub(super) fn unknown_message(root: &Table, name: &str) -> String {
    let mut settings = Vec::new();
    let mut add = |prefix: String, keys: &file::Keys| {
        for key in keys.known.iter().filter(|key| !NOT_SCALAR.contains(key)) {
            settings.push(format!("{PREFIX}{prefix}{}", key.to_ascii_uppercase()));
        }
    };
    add(String::new(), &file::ROOT);
    for (table, keys) in TABLES {
        add(variable_part(table), keys);
    }
    let namespaces = match root.get("namespace").map(|node| &node.value) {
        Some(Value::Array(nodes)) => nodes.as_slice(),
        _ => &[],
    };
    for node in namespaces {
        if let Value::Table(table) = &node.value
            && let Some(Value::String(name)) = table.get("name").map(|node| &node.value)
        {
            add(
                format!("NAMESPACE_{}", variable_part(name)),
                &file::NAMESPACE,
            );
        }
    }
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let hint = values::did_you_mean(name, &settings);
    format!("no setting can be overridden by this variable{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_service_links_are_not_settings() {
        for (path, expected) in [
            ("SERVICE_HOST", true),
            ("SERVICE_PORT", true),
            ("SERVICE_PORT_ADMIN", true),
            ("PORT", true),
            ("PORT_9900_TCP", true),
            ("PORT_9900_TCP_ADDR", true),
            ("PORT_9900_TCP_PROTO", true),
            ("REPLICATOR_SERVICE_HOST", true),
            ("REPLICATOR_PORT_9900_TCP_PORT", true),
            ("REGION", false),
            ("PORTS", false),
            ("NAMESPACE_A_LISTEN", false),
        ] {
            assert_eq!(is_service_link(path), expected, "{path}");
        }
    }
}
