//! What was changed in a pod beside what bears the sidecar's name, so that it
//! can be undone exactly. It is kept in an annotation of the pod.

use super::yaml::{self, Node};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The annotation it is kept in, and the label of pods that have a sidecar.
pub const INJECTED: &str = "wal-sidecar.io/injected";

/// What a map or list was before something was put into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Before {
    Absent,
    Null,
    Empty,
}

/// A variable's value before it was rewritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replaced {
    /// The list the container is in: `containers` or `initContainers`.
    pub(super) list: String,
    pub(super) container: String,
    pub(super) variable: String,
    /// As YAML, quotes and all.
    pub(super) value: String,
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// The version of the program that did it.
    version: String,
    /// Maps and lists that had nothing in them, by their paths.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    made: BTreeMap<String, Before>,
    /// Annotations that were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) annotations: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) replaced: Vec<Replaced>,
    /// Keys of the pod's security context that were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) security: Vec<String>,
}

impl Record {
    pub(super) fn new() -> Record {
        Record {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            made: BTreeMap::new(),
            annotations: Vec::new(),
            replaced: Vec::new(),
            security: Vec::new(),
        }
    }

    /// The record of a pod; none where it has no sidecar.
    pub(super) fn of(pod: &Node) -> Option<Result<Record, String>> {
        let text = pod.at(&["metadata", "annotations", INJECTED])?.as_str()?;
        Some(serde_json::from_str(text).map_err(|error| {
            format!("the annotation {INJECTED} was changed and cannot be followed: {error}")
        }))
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("it has no maps with keys that are not texts")
    }

    /// The map or list at a path, made where there is none: `new`, put before
    /// the key `before` of its parent. What was there is remembered.
    pub(super) fn make<'n>(
        &mut self,
        root: &'n mut Node,
        path: &[&str],
        new: Node,
        before: &str,
    ) -> Option<&'n mut Node> {
        let (key, parents) = path.split_last()?;
        let parent = root.at_mut(parents)?;
        let was = match parent.get(key) {
            None => Some(Before::Absent),
            Some(node) if node.is_null() => Some(Before::Null),
            Some(node) if node.is_empty() => Some(Before::Empty),
            Some(_) => None,
        };
        if let Some(was) = was {
            self.made.insert(path.join("."), was);
        }
        match was {
            Some(Before::Absent) => parent.set_before(key, new, before),
            Some(Before::Null) => parent.set(key, new),
            Some(Before::Empty) | None => {}
        }
        parent.get_mut(key)
    }

    /// Puts back what a map or list was, where nothing is left in it.
    pub(super) fn unmake(&self, root: &mut Node, path: &[&str]) {
        let Some((key, parents)) = path.split_last() else {
            return;
        };
        let Some(parent) = root.at_mut(parents) else {
            return;
        };
        if !parent.get(key).is_some_and(Node::is_empty) {
            return;
        }
        match self.made.get(&path.join(".")) {
            Some(Before::Absent) => drop(parent.remove(key)),
            Some(Before::Null) => parent.set(key, Node::null()),
            Some(Before::Empty) | None => {}
        }
    }
}

impl Replaced {
    /// The value as it was.
    pub(super) fn node(&self) -> Node {
        let documents = yaml::read(&self.value).ok();
        let root = documents.and_then(|mut documents| documents.pop()?.root);
        match root {
            Some(node @ Node::Scalar(_)) => node,
            _ => Node::text(&*self.value),
        }
    }
}
