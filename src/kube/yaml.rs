//! Manifests as trees that keep what a person wrote: the order of keys,
//! comments, blank lines, quotes, and how a number is spelled.
//!
//! What is read and not changed is written as it was, as far as the usual
//! layout goes (two columns a level, one document a `---`). So the difference
//! between a manifest and the injected one is what was injected.
//!
//! Plain scalars mean what they mean to kubectl, which follows YAML 1.1:
//! `0644` is 420, and `on` is true. They are never respelled.

mod read;
mod scalar;
mod write;

pub use read::{Document, SyntaxError, read};
pub use scalar::Scalar;

use scalar::Resolved;
use serde_json::Value;

/// A value in a manifest.
#[derive(Debug, Clone)]
pub enum Node {
    /// A text, number, truth value or null.
    Scalar(Scalar),
    /// A list.
    Sequence(Sequence),
    /// A map.
    Mapping(Mapping),
}

/// A list.
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    items: Vec<Item>,
    /// Written as `[a, b]`.
    flow: bool,
    /// Its dashes stand two columns right of the key it belongs to.
    indented: bool,
}

/// A map whose keys have an order.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    entries: Vec<Entry>,
    /// Written as `{a: b}`.
    flow: bool,
}

#[derive(Debug, Clone)]
struct Item {
    before: Vec<String>,
    node: Node,
    after: Option<String>,
}

#[derive(Debug, Clone)]
struct Entry {
    before: Vec<String>,
    key: Scalar,
    node: Node,
    after: Option<String>,
}

impl Node {
    /// A text.
    pub fn text(text: impl Into<String>) -> Node {
        Node::Scalar(Scalar::text(text.into()))
    }

    /// A whole number.
    pub fn number(number: i64) -> Node {
        Node::Scalar(Scalar::plain(number.to_string()))
    }

    /// A truth value.
    pub fn boolean(value: bool) -> Node {
        Node::Scalar(Scalar::plain(value.to_string()))
    }

    /// Nothing after the colon.
    pub fn null() -> Node {
        Node::Scalar(Scalar::plain(String::new()))
    }

    /// A map with these entries.
    pub fn map<'k>(entries: impl IntoIterator<Item = (&'k str, Node)>) -> Node {
        let mut node = Node::Mapping(Mapping::default());
        for (key, value) in entries {
            node.set(key, value);
        }
        node
    }

    /// A list of these.
    pub fn list(items: impl IntoIterator<Item = Node>) -> Node {
        let items = items.into_iter().map(Item::new).collect();
        Node::Sequence(Sequence {
            items,
            ..Sequence::default()
        })
    }

    /// The text, where it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Node::Scalar(scalar) => scalar.as_str(),
            _ => None,
        }
    }

    /// The whole number, where it is one.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Node::Scalar(scalar) => match scalar.resolve() {
                Resolved::Integer(number) => i64::try_from(number).ok(),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether it is `true`.
    pub fn is_true(&self) -> bool {
        matches!(self, Node::Scalar(scalar) if scalar.resolve() == Resolved::Boolean(true))
    }

    /// Whether it is null, written or left out.
    pub fn is_null(&self) -> bool {
        matches!(self, Node::Scalar(scalar) if scalar.resolve() == Resolved::Null)
    }

    /// Whether it is a map or list without anything in it.
    pub fn is_empty(&self) -> bool {
        match self {
            Node::Scalar(_) => false,
            Node::Sequence(sequence) => sequence.items.is_empty(),
            Node::Mapping(mapping) => mapping.entries.is_empty(),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let entry = self.entries().iter().find(|entry| entry.key.is(key))?;
        Some(&entry.node)
    }

    /// The value of a key.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        let Node::Mapping(mapping) = self else {
            return None;
        };
        let mut entries = mapping.entries.iter_mut();
        Some(&mut entries.find(|entry| entry.key.is(key))?.node)
    }

    /// The value that a path of keys leads to.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The value that a path of keys leads to.
    pub fn at_mut(&mut self, path: &[&str]) -> Option<&mut Node> {
        path.iter().try_fold(self, |node, key| node.get_mut(key))
    }

    /// The text of a key.
    pub fn str_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// A map's keys and values; nothing of anything else.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &Node)> {
        let entries = self.entries().iter();
        entries.map(|entry| (entry.key.value(), &entry.node))
    }

    /// A list's items; nothing of anything else.
    pub fn items(&self) -> impl Iterator<Item = &Node> {
        let items: &[Item] = match self {
            Node::Sequence(sequence) => &sequence.items,
            _ => &[],
        };
        items.iter().map(|item| &item.node)
    }

    /// A list's items; nothing of anything else.
    pub fn items_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        let items: &mut [Item] = match self {
            Node::Sequence(sequence) => &mut sequence.items,
            _ => &mut [],
        };
        items.iter_mut().map(|item| &mut item.node)
    }

    /// Sets a key of a map; a new one comes last. A value that is there is
    /// replaced where it stands. Anything but a map stays as it is.
    pub fn set(&mut self, key: &str, node: Node) {
        match self.get_mut(key) {
            Some(value) => *value = node,
            None => self.insert(key, node, usize::MAX),
        }
    }

    /// Puts a new key of a map before another one, last where that is missing.
    pub fn set_before(&mut self, key: &str, node: Node, before: &str) {
        let mut entries = self.entries().iter();
        let place = entries.position(|entry| entry.key.is(before));
        self.insert(key, node, place.unwrap_or(usize::MAX));
    }

    fn insert(&mut self, key: &str, node: Node, place: usize) {
        self.make_block();
        if let Node::Mapping(mapping) = self {
            let entry = Entry {
                before: Vec::new(),
                key: Scalar::text(key.to_owned()),
                node,
                after: None,
            };
            let place = place.min(mapping.entries.len());
            mapping.entries.insert(place, entry);
        }
    }

    /// Takes a key out of a map.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        let Node::Mapping(mapping) = self else {
            return None;
        };
        let mut entries = mapping.entries.iter();
        let place = entries.position(|entry| entry.key.is(key))?;
        Some(mapping.entries.remove(place).node)
    }

    /// Puts an item into a list, at its end where `place` is beyond.
    pub fn put(&mut self, place: usize, node: Node) {
        self.make_block();
        if let Node::Sequence(sequence) = self {
            let place = place.min(sequence.items.len());
            sequence.items.insert(place, Item::new(node));
        }
    }

    /// Keeps a list's items for which `keep` is true.
    pub fn retain(&mut self, keep: impl Fn(&Node) -> bool) {
        if let Node::Sequence(sequence) = self {
            sequence.items.retain(|item| keep(&item.node));
        }
    }

    /// The item of a list of maps whose `name` is this.
    pub fn named(&self, name: &str) -> Option<&Node> {
        self.items().find(|item| item.str_of("name") == Some(name))
    }

    /// As JSON; a float that JSON does not have becomes null.
    pub fn to_json(&self) -> Value {
        match self {
            Node::Scalar(scalar) => scalar.to_json(),
            Node::Sequence(_) => self.items().map(Node::to_json).collect(),
            Node::Mapping(_) => {
                let pairs = self.pairs();
                let pairs = pairs.map(|(key, node)| (key.to_owned(), node.to_json()));
                Value::Object(pairs.collect())
            }
        }
    }

    /// What a JSON document holds.
    pub fn from_json(value: &Value) -> Node {
        match value {
            Value::Null => Node::Scalar(Scalar::plain("null".to_owned())),
            Value::Bool(value) => Node::boolean(*value),
            Value::Number(number) => Node::Scalar(Scalar::plain(number.to_string())),
            Value::String(text) => Node::text(text.as_str()),
            Value::Array(items) => Node::list(items.iter().map(Node::from_json)),
            Value::Object(entries) => {
                let pairs = entries.iter();
                Node::map(pairs.map(|(key, value)| (key.as_str(), Node::from_json(value))))
            }
        }
    }

    fn entries(&self) -> &[Entry] {
        match self {
            Node::Mapping(mapping) => &mapping.entries,
            _ => &[],
        }
    }

    /// Something is put into it. What was empty has no layout that would have
    /// to be kept, and is easier to read on lines of its own.
    fn make_block(&mut self) {
        let is_empty = self.is_empty();
        match self {
            Node::Sequence(sequence) if is_empty => sequence.flow = false,
            Node::Mapping(mapping) if is_empty => mapping.flow = false,
            _ => {}
        }
    }
}

impl Item {
    fn new(node: Node) -> Item {
        Item {
            before: Vec::new(),
            node,
            after: None,
        }
    }
}
