//! Reads the keys of one table, collecting what is wrong instead of stopping
//! at it.

use super::document::{Node, Table, Value};
use super::environment::Environment;
use super::position::{Position, Problems};
use super::values::did_you_mean;

/// One setting: its value (the default where none was given, or where the
/// given one cannot be used) and where it came from.
#[derive(Debug, Clone)]
pub struct Setting<T> {
    pub value: T,
    /// Where it was given; where it was not, its table's header.
    pub at: Position,
    /// False where an error has been recorded for it, so that checks against
    /// other settings do not add errors that follow from the first.
    pub usable: bool,
    /// Whether the file or a variable says it.
    pub given: bool,
}

/// What reading a table needs beside the table.
pub struct Context<'e> {
    pub problems: Problems,
    pub environment: &'e Environment,
    /// The variables that secrets are taken from.
    pub secret_variables: Vec<String>,
}

/// The keys of a table: those it may have, and those it may have in other
/// builds, with a word about what they are for.
pub struct Keys {
    pub known: &'static [&'static str],
    pub unavailable: &'static [(&'static str, &'static str)],
}

/// Reads one table.
pub struct Reader<'t, 'c, 'e> {
    table: &'t Table,
    path: String,
    keys: &'static Keys,
    pub context: &'c mut Context<'e>,
}

impl<'t, 'c, 'e> Reader<'t, 'c, 'e> {
    /// Starts on a table; keys it should not have are errors from here on.
    /// `path` is the table's own, empty for the root.
    pub fn new(
        table: &'t Table,
        path: impl Into<String>,
        keys: &'static Keys,
        context: &'c mut Context<'e>,
    ) -> Self {
        let reader = Reader {
            table,
            path: path.into(),
            keys,
            context,
        };
        for entry in &table.entries {
            let name = entry.key.as_str();
            if keys.known.contains(&name) {
                continue;
            }
            let message = match keys.unavailable.iter().find(|(key, _)| *key == name) {
                Some((_, what)) => format!("{what} is not available in this build"),
                None => format!("unknown key{}", did_you_mean(name, keys.known)),
            };
            let path = reader.path(name);
            reader.context.problems.error(&entry.key_at, path, message);
        }
        reader
    }

    /// The same of a table some of whose keys are read elsewhere, where what it
    /// should not have was looked for.
    pub fn within(
        table: &'t Table,
        path: impl Into<String>,
        keys: &'static Keys,
        context: &'c mut Context<'e>,
    ) -> Self {
        Reader {
            table,
            path: path.into(),
            keys,
            context,
        }
    }

    /// The path of one of the table's keys.
    pub fn path(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// Whether the table has a value for `key`.
    pub fn has(&self, key: &str) -> bool {
        self.node(key).is_some()
    }

    /// Where the table's header is.
    pub fn at(&self) -> &Position {
        &self.table.at
    }

    fn node(&self, key: &str) -> Option<&'t Node> {
        debug_assert!(self.keys.known.contains(&key), "{key} is not in the list");
        self.table.get(key)
    }

    /// Reads a key that may be absent.
    pub fn setting<T>(
        &mut self,
        key: &str,
        default: T,
        parse: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Setting<T> {
        let Some(node) = self.node(key) else {
            return Setting {
                value: default,
                at: self.table.at.clone(),
                usable: true,
                given: false,
            };
        };
        let (value, usable) = match parse(node) {
            Ok(value) => (value, true),
            Err(message) => {
                let path = self.path(key);
                self.context.problems.error(&node.at, path, message);
                (default, false)
            }
        };
        Setting {
            value,
            at: node.at.clone(),
            usable,
            given: true,
        }
    }

    /// Reads a key that has to be there. `instead` stands for its value
    /// where there is none, and is never used: an error is recorded.
    pub fn required<T>(
        &mut self,
        key: &str,
        instead: T,
        example: &str,
        parse: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Setting<T> {
        let missing = !self.has(key);
        let mut setting = self.setting(key, instead, parse);
        if missing {
            let message = format!("missing; for example {key} = {example}");
            let path = self.path(key);
            self.context.problems.error(&setting.at, path, message);
            setting.usable = false;
        }
        setting
    }

    /// Reads one value or a list of them; a variable's are separated by
    /// commas. Each has its own position. `None` where the key is absent.
    pub fn list<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&Node) -> Result<T, String>,
    ) -> Option<Vec<Setting<T>>> {
        let node = self.node(key)?;
        let nodes = match (&node.value, &node.at) {
            (Value::Array(nodes), _) => nodes.clone(),
            (Value::String(text), Position::Variable(_)) => text
                .split(',')
                .map(|part| Node {
                    at: node.at.clone(),
                    value: Value::String(part.trim().to_owned()),
                })
                .collect(),
            _ => vec![node.clone()],
        };
        if nodes.is_empty() {
            let path = self.path(key);
            let message = "expected at least one value, found an empty list";
            self.context.problems.error(&node.at, path, message);
        }
        let is_list = matches!(node.value, Value::Array(_));
        let mut settings = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            match parse(node) {
                Ok(value) => settings.push(Setting {
                    value,
                    at: node.at.clone(),
                    usable: true,
                    given: true,
                }),
                Err(message) => {
                    let path = match is_list {
                        true => format!("{}[{index}]", self.path(key)),
                        false => self.path(key),
                    };
                    self.context.problems.error(&node.at, path, message);
                }
            }
        }
        Some(settings)
    }

    /// The table under `key`; an empty one where there is none.
    pub fn section(&mut self, key: &str) -> Table {
        let empty = |at: &Position| Table {
            at: at.clone(),
            entries: Vec::new(),
        };
        match self.node(key) {
            None => empty(&self.table.at),
            Some(Node {
                value: Value::Table(table),
                ..
            }) => table.clone(),
            Some(node) => {
                let path = self.path(key);
                let message = format!("expected a table, [{path}], found {}", node.describe());
                self.context.problems.error(&node.at, path, message);
                empty(&node.at)
            }
        }
    }

    /// The tables under `key`; none where there are none.
    pub fn sections(&mut self, key: &str, header: &str) -> Vec<Table> {
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let mut tables = Vec::new();
        let nodes = match &node.value {
            Value::Array(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let is_list = matches!(node.value, Value::Array(_));
        for node in nodes {
            match &node.value {
                Value::Table(table) if is_list => tables.push(table.clone()),
                _ => {
                    let path = self.path(key);
                    let found = match node.value {
                        Value::Table(_) => format!("[{header}]"),
                        _ => node.describe(),
                    };
                    let message = format!("expected a list of tables, [[{header}]], found {found}");
                    self.context.problems.error(&node.at, path, message);
                }
            }
        }
        tables
    }
}
