//! What a pod says of its sidecar in annotations and labels.

use super::options::{Options, PREFIX, truth};
use super::record::INJECTED;
use super::yaml::Node;

/// Whether the sidecar is wished for: a label or an annotation.
const INJECT: &str = "wal-sidecar.io/inject";

/// Whether the pod says that it wants a sidecar, or that it wants none. Where
/// label and annotation disagree it wants none.
pub fn wish(pod: &Node) -> Result<Option<bool>, String> {
    let mut wish = None;
    for kind in ["labels", "annotations"] {
        let Some(node) = pod.at(&["metadata", kind, INJECT]) else {
            continue;
        };
        let said = truth(node.as_str().unwrap_or_default());
        let said = said.map_err(|error| format!("{INJECT} {error}"))?;
        wish = Some(said && wish.unwrap_or(true));
    }
    Ok(wish)
}

/// The settings with what the pod's annotations change in them, and what is
/// wrong with these: such annotations change nothing.
pub fn overlay(pod: &Node, options: &Options) -> (Options, Vec<String>) {
    let mut options = options.clone();
    let mut problems = Vec::new();
    let annotations = pod.at(&["metadata", "annotations"]);
    for (key, node) in annotations.into_iter().flat_map(Node::pairs) {
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        if key == INJECT || key == INJECTED {
            continue;
        }
        let set = match node.as_str() {
            Some(value) => options.set(name, value),
            None => Err("takes a text: put it into quotes".to_owned()),
        };
        if let Err(error) = set {
            problems.push(format!("{key} {error}"));
        }
    }
    (options, problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(labels: serde_json::Value, annotations: serde_json::Value) -> Node {
        Node::from_json(&json!({ "metadata": { "labels": labels, "annotations": annotations } }))
    }

    #[test]
    fn a_wish_is_said_by_label_or_annotation() {
        for (label, annotation, expected) in [
            (None, None, Ok(None)),
            (Some("true"), None, Ok(Some(true))),
            (None, Some("enabled"), Ok(Some(true))),
            (Some("true"), Some("false"), Ok(Some(false))),
            (Some("disabled"), Some("true"), Ok(Some(false))),
            (None, Some("yes"), Err(())),
        ] {
            let map = |value: Option<&str>| match value {
                Some(value) => json!({ INJECT: value }),
                None => json!({}),
            };
            let found = wish(&pod(map(label), map(annotation)));
            assert_eq!(found.map_err(|_| ()), expected, "{label:?} {annotation:?}");
        }
        assert_eq!(wish(&Node::map([])), Ok(None));
    }

    #[test]
    fn annotations_change_settings_and_bad_ones_are_told() {
        let pod = pod(
            json!({}),
            json!({
                "wal-sidecar.io/inject": "true",
                "wal-sidecar.io/memory-limit": "1Gi",
                "wal-sidecar.io/journal": "tape",
                "wal-sidecar.io/jornal": "claim",
                "wal-sidecar.io/readiness": false,
                "other.io/journal": "x",
            }),
        );
        let (options, problems) = overlay(&pod, &Options::default());
        let expected = Options {
            memory_limit: "1Gi".to_owned(),
            ..Options::default()
        };
        assert_eq!(options, expected);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems.contains(
            &"wal-sidecar.io/journal takes empty-dir, claim, host-path or none".to_owned()
        ));
    }
}
