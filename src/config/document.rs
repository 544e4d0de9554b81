//! A TOML document as a small tree in which every node knows where it was
//! given, whether that is a line of the file or an environment variable.

use super::position::{Lines, Position, Problem};
use toml_edit::{Item, TableLike};

/// A value and where it was given.
#[derive(Debug, Clone)]
pub struct Node {
    pub at: Position,
    pub value: Value,
}

/// A value.
#[derive(Debug, Clone)]
pub enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Node>),
    Table(Table),
}

/// A table: its entries in the file's order.
#[derive(Debug, Clone)]
pub struct Table {
    /// The line of its header.
    pub at: Position,
    pub entries: Vec<Entry>,
}

/// One key of a table.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: String,
    /// Where the key itself is, which is not always where its value begins.
    pub key_at: Position,
    pub node: Node,
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Node> {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.map(|entry| &entry.node)
    }

    /// Replaces the value of `key`, or adds it.
    pub fn set(&mut self, key: &str, node: Node) {
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => {
                entry.key_at = node.at.clone();
                entry.node = node;
            }
            None => self.entries.push(Entry {
                key: key.to_owned(),
                key_at: node.at.clone(),
                node,
            }),
        }
    }
}

/// Parses a TOML text; a syntax error is one problem with line and column.
pub fn parse(text: &str) -> Result<Table, Problem> {
    let lines = Lines::new(text);
    let document = toml_edit::Document::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start).min(text.len());
        let message = error.message().trim().replace('\n', ", ");
        Problem {
            position: Position::Line(lines.line(offset)),
            key: String::new(),
            message: format!("column {}: {message}", lines.column(offset)),
        }
    })?;
    Ok(table(document.as_table(), Position::Line(1), &lines))
}

fn table(source: &dyn TableLike, at: Position, lines: &Lines) -> Table {
    let mut entries = Vec::new();
    for (name, item) in source.iter() {
        let key_span = source.key(name).and_then(|key| key.span());
        let key_at = match key_span.or_else(|| item.span()) {
            Some(span) => Position::Line(lines.line(span.start)),
            None => at.clone(),
        };
        if let Some(node) = node(item, &key_at, lines) {
            entries.push(Entry {
                key: name.to_owned(),
                key_at,
                node,
            });
        }
    }
    Table { at, entries }
}

fn node(item: &Item, key_at: &Position, lines: &Lines) -> Option<Node> {
    let at = match item.span() {
        Some(span) => Position::Line(lines.line(span.start)),
        // Tables that only exist because of a dotted key have no place.
        None => key_at.clone(),
    };
    let value = match item {
        Item::None => return None,
        Item::Value(value) => self::value(value, &at, lines),
        Item::Table(inner) => Value::Table(table(inner, at.clone(), lines)),
        Item::ArrayOfTables(tables) => {
            let nodes = tables.iter().map(|inner| {
                let at = match inner.span() {
                    Some(span) => Position::Line(lines.line(span.start)),
                    None => key_at.clone(),
                };
                Node {
                    at: at.clone(),
                    value: Value::Table(table(inner, at, lines)),
                }
            });
            Value::Array(nodes.collect())
        }
    };
    Some(Node { at, value })
}

fn value(source: &toml_edit::Value, at: &Position, lines: &Lines) -> Value {
    match source {
        toml_edit::Value::String(text) => Value::String(text.value().clone()),
        toml_edit::Value::Integer(number) => Value::Integer(*number.value()),
        toml_edit::Value::Float(number) => Value::Float(*number.value()),
        toml_edit::Value::Boolean(flag) => Value::Boolean(*flag.value()),
        toml_edit::Value::Datetime(time) => Value::Datetime(time.value().to_string()),
        toml_edit::Value::InlineTable(inner) => Value::Table(table(inner, at.clone(), lines)),
        toml_edit::Value::Array(array) => {
            let nodes = array.iter().map(|element| {
                let at = match element.span() {
                    Some(span) => Position::Line(lines.line(span.start)),
                    None => at.clone(),
                };
                Node {
                    at: at.clone(),
                    value: value(element, &at, lines),
                }
            });
            Value::Array(nodes.collect())
        }
    }
}

impl Node {
    /// What the node is, for "expected ..., found ...". Strings are shown,
    /// so callers must not use it where a secret may be.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::String(text) => format!("{text:?}"),
            Value::Integer(number) => format!("the integer {number}"),
            Value::Float(number) => format!("the number {number}"),
            Value::Boolean(flag) => format!("the boolean {flag}"),
            Value::Datetime(time) => format!("the date {time}"),
            Value::Array(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_knows_its_line() {
        let text = "a = 1\n\n[t]\n# note\nb = [\n  1,\n  2,\n]\n\n[[x]]\nc.d = 1\n\n[[x]]\n[[x.y]]\ne = 1\n";
        let root = parse(text).unwrap();
        let line = |node: &Node| node.at.clone();
        assert_eq!(line(root.get("a").unwrap()), Position::Line(1));
        let Value::Table(t) = &root.get("t").unwrap().value else {
            panic!("t is a table");
        };
        assert_eq!(t.at, Position::Line(3));
        let Value::Array(b) = &t.get("b").unwrap().value else {
            panic!("b is a list");
        };
        assert_eq!(line(&b[1]), Position::Line(7));
        let Value::Array(x) = &root.get("x").unwrap().value else {
            panic!("x is a list");
        };
        assert_eq!(line(&x[0]), Position::Line(10));
        assert_eq!(line(&x[1]), Position::Line(13));
        let (Value::Table(first), Value::Table(second)) = (&x[0].value, &x[1].value) else {
            panic!("x holds tables");
        };
        assert_eq!(line(first.get("c").unwrap()), Position::Line(11));
        assert_eq!(second.entries[0].key_at, Position::Line(14));
    }

    #[test]
    fn a_syntax_error_has_line_and_column() {
        let problem = parse("region = \"a\"\nworkers == 3\n").unwrap_err();
        assert_eq!(problem.position, Position::Line(2));
        assert!(problem.message.starts_with("column 10: "), "{problem:?}");
    }
}
