//! Which pods get a sidecar: the webhook's configuration, as the API server
//! reads it, and the webhook's own decision, against the table in
//! docs/kubernetes.md.

mod kube;
mod support;
#[path = "kube/webhook.rs"]
mod webhook;

use std::io::Write;
use std::process::{Command, Stdio};

use kube::root;
use serde_json::{Value, json};
use wal_sidecar::kube::yaml::{Node, read};
use webhook::{Webhook, review};

/// What a pod, or a namespace, says.
const WISHES: &[Option<&str>] = &[
    None,
    Some("true"),
    Some("false"),
    Some("enabled"),
    Some("disabled"),
];

/// Whether labels meet a selector (kubernetes.io, "Labels and Selectors").
fn meets(selector: &Value, labels: &Value) -> bool {
    let expressions = selector["matchExpressions"].as_array();
    expressions.into_iter().flatten().all(|one| {
        let value = labels.get(one["key"].as_str().unwrap());
        let is_in = value.is_some_and(|value| one["values"].as_array().unwrap().contains(value));
        match one["operator"].as_str().unwrap() {
            "In" => is_in,
            "NotIn" => !is_in,
            other => panic!("operator {other}"),
        }
    })
}

/// The value of a match condition for each pod, by an evaluator of CEL.
fn matches(expression: &str, pods: &[Value]) -> Vec<bool> {
    let tool = root().join(".cache/kube/suite");
    let mut child = Command::new(&tool)
        .args(["match", expression])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; scripts/test installs it", tool.display()));
    let lines: String = pods.iter().map(|pod| format!("{pod}\n")).collect();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let values: Vec<bool> = text.lines().map(|line| line == "true").collect();
    assert_eq!(values.len(), pods.len(), "{text}");
    values
}

fn with(wish: Option<&str>) -> Value {
    match wish {
        Some(wish) => json!({ "wal-sidecar.io/inject": wish }),
        None => json!({ "app": "a" }),
    }
}

/// The table: whether such a pod in such a namespace gets a sidecar.
fn expected(namespace: Option<&str>, label: Option<&str>, annotation: Option<&str>) -> bool {
    let says = |words: [&str; 2]| {
        [label, annotation]
            .into_iter()
            .flatten()
            .any(|wish| words.contains(&wish))
    };
    let (wants, declines) = (says(["true", "enabled"]), says(["false", "disabled"]));
    match namespace {
        Some("disabled") => false,
        Some("enabled") => !declines,
        _ => wants && !declines,
    }
}

#[test]
fn pods_get_a_sidecar_as_their_namespaces_and_they_say() {
    let text = std::fs::read_to_string(root().join("k8s/webhook/webhook.yaml")).unwrap();
    let configuration = read(&text).unwrap()[0]
        .root
        .as_ref()
        .map(Node::to_json)
        .unwrap();
    let webhook = Webhook::start(&[]);
    let mut cases = Vec::new();
    for namespace in [None, Some("enabled"), Some("disabled")] {
        for label in WISHES {
            for annotation in WISHES {
                cases.push((namespace, *label, *annotation));
            }
        }
    }
    let pods: Vec<Value> = cases
        .iter()
        .map(|(_, label, annotation)| {
            let mut metadata = json!({ "name": "a" });
            // Without wishes there may be no labels or annotations at all.
            if label.is_some() {
                metadata["labels"] = with(*label);
            }
            if annotation.is_some() {
                metadata["annotations"] = with(*annotation);
            }
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
                "spec": { "containers": [{ "name": "a", "image": "b" }] },
            })
        })
        .collect();
    let webhooks = configuration["webhooks"].as_array().unwrap();
    let conditions: Vec<Vec<bool>> = webhooks
        .iter()
        .map(|one| match one["matchConditions"].as_array() {
            Some(conditions) => matches(conditions[0]["expression"].as_str().unwrap(), &pods),
            None => vec![true; pods.len()],
        })
        .collect();
    let mut injected = 0;
    for (index, (namespace, label, annotation)) in cases.iter().enumerate() {
        let mut labels = with(*namespace);
        labels["kubernetes.io/metadata.name"] = "shop".into();
        let called: Vec<&Value> = webhooks
            .iter()
            .zip(&conditions)
            .filter(|(one, condition)| {
                let pod = pods[index]["metadata"]
                    .get("labels")
                    .cloned()
                    .unwrap_or_default();
                meets(&one["namespaceSelector"], &labels)
                    && meets(&one["objectSelector"], &pod)
                    && condition[index]
            })
            .map(|(one, _)| one)
            .collect();
        assert!(called.len() < 2, "each pod is asked about once");
        let gets = called.iter().any(|one| {
            let path = one["clientConfig"]["service"]["path"].as_str().unwrap();
            webhook.review(path, &review(&pods[index]))["response"]
                .get("patch")
                .is_some()
        });
        assert_eq!(
            gets,
            expected(*namespace, *label, *annotation),
            "{namespace:?} {label:?} {annotation:?}"
        );
        injected += usize::from(gets);
    }
    assert!(injected > 10 && injected < cases.len() / 2, "{injected}");
    // System namespaces, and our own, are never asked about.
    for name in ["kube-system", "wal-sidecar"] {
        let labels =
            json!({ "kubernetes.io/metadata.name": name, "wal-sidecar.io/inject": "enabled" });
        assert!(
            !webhooks
                .iter()
                .any(|one| meets(&one["namespaceSelector"], &labels)),
            "{name}"
        );
    }
}
