//! The manifests of `k8s/`, and what injection makes of the corpus, as
//! Kubernetes would take them: against the schemas of several versions, in
//! strict mode, and as typed objects. What belongs together is held together.

mod kube;

use std::path::PathBuf;
use std::process::{Command, Output};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{corpus, files, inject, root};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wal_sidecar::kube::trust::trust;
use wal_sidecar::kube::yaml::{Node, read};
use wal_sidecar::kube::{JournalVolume, Mode, Options};

/// Versions of Kubernetes: the first with native sidecars, and all after it.
const VERSIONS: &[&str] = &[
    "1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37",
];

/// Kinds that are not Kubernetes' own, which its schemas say nothing of.
const CUSTOM: &[&str] = &[
    "PodMonitor",
    "PrometheusRule",
    "ScaledObject",
    "Certificate",
    "Issuer",
];

/// Directories with a kustomization that can be built alone.
const BUILT: &[&str] = &[
    "webhook",
    "replicator",
    "monitoring",
    "example",
    "overlays/minimal",
    "overlays/production",
];

fn tool(path: &str) -> PathBuf {
    let path = root().join(".cache").join(path);
    assert!(
        path.exists(),
        "{} is missing: scripts/test installs it",
        path.display()
    );
    path
}

fn run(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, errors) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(status.success(), "{command:?}:\n{out}{errors}");
    out.into_owned()
}

/// What `kubectl kustomize k8s/NAME` prints.
fn built(name: &str) -> String {
    run(Command::new(tool("kube/suite"))
        .arg("build")
        .arg(root().join("k8s").join(name)))
}

fn objects(text: &str) -> Vec<Value> {
    let documents = read(text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
    let roots = documents
        .iter()
        .filter_map(|document| document.root.as_ref());
    roots
        .map(Node::to_json)
        .filter(|object| !object.is_null())
        .collect()
}

/// The objects of a text, lists opened.
fn flat(text: &str) -> Vec<Value> {
    let objects = objects(text);
    let open = |object: &Value| match object["kind"].as_str() {
        Some("List") => object["items"].as_array().unwrap().clone(),
        _ => vec![object.clone()],
    };
    objects.iter().flat_map(open).collect()
}

/// Every text there is to look at, by a name.
fn texts() -> Vec<(String, String)> {
    let mut texts: Vec<(String, String)> = BUILT
        .iter()
        .map(|name| (name.replace('/', "-"), built(name)))
        .collect();
    let valid = std::time::Duration::from_secs(86_400);
    texts.push((
        "certified".to_owned(),
        trust(&built("overlays/minimal"), "certificate", valid).unwrap(),
    ));
    let journals = [
        JournalVolume::EmptyDir,
        JournalVolume::Claim,
        JournalVolume::HostPath,
        JournalVolume::None,
    ];
    for mode in [Mode::Native, Mode::Plain] {
        for journal in journals {
            let mut options = Options {
                mode,
                journal,
                ..Options::default()
            };
            options.set("secret", "kafka").unwrap();
            options.set("cpu-limit", "1").unwrap();
            options.set("storage-class", "fast").unwrap();
            options.set("rewrite", "REDIS_URL=127.0.0.1:6380").unwrap();
            for (file, text) in corpus() {
                // One object a document, as the schemas know no lists.
                let objects = flat(&inject(&text, &options).text);
                let text: Vec<String> = objects
                    .iter()
                    .map(|one| Node::from_json(one).write())
                    .collect();
                texts.push((format!("{mode:?}-{journal:?}-{file}"), text.join("---\n")));
            }
        }
    }
    texts
}

#[test]
fn everything_is_valid_in_every_version() {
    let directory = tempfile::TempDir::new().unwrap();
    let mut paths = Vec::new();
    for (name, text) in texts() {
        let path = directory.path().join(format!("{name}.yaml"));
        std::fs::write(&path, text).unwrap();
        paths.push(path);
    }
    let validate = |version: &str, paths: &[PathBuf]| {
        let mut command = Command::new(tool("python-kube/bin/kubernetes-validate"));
        command.args(["-k", version, "--strict"]).args(paths);
        let output = command.output().unwrap();
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    for version in VERSIONS {
        let (is_valid, text) = validate(version, &paths);
        assert!(is_valid, "{version}:\n{text}");
        for line in text.lines().filter(|line| line.starts_with("WARN")) {
            let known = CUSTOM
                .iter()
                .any(|kind| line.contains(&format!("for kind {kind} ")));
            assert!(known, "{version}: {line}");
        }
        assert!(text.matches(" passed ").count() > 80, "{version}: {text}");
    }
    // What is wrong is found.
    let wrong = directory.path().join("wrong.yaml");
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: [{name: a, image: b, imagee: c}]\n";
    std::fs::write(&wrong, text).unwrap();
    assert!(!validate(VERSIONS[0], &[wrong]).0);
}

#[test]
fn everything_is_what_its_kind_says() {
    fn typed<T: DeserializeOwned>(object: &Value) {
        if let Err(error) = serde_json::from_value::<T>(object.clone()) {
            panic!("{error} in {object}");
        }
    }
    type Check = fn(&Value);
    let kinds: &[(&str, Check)] = &[
        ("ConfigMap", typed::<ConfigMap>),
        ("CronJob", typed::<CronJob>),
        ("DaemonSet", typed::<DaemonSet>),
        ("Deployment", typed::<Deployment>),
        ("HorizontalPodAutoscaler", typed::<HorizontalPodAutoscaler>),
        ("Job", typed::<Job>),
        (
            "MutatingWebhookConfiguration",
            typed::<MutatingWebhookConfiguration>,
        ),
        ("Namespace", typed::<Namespace>),
        ("NetworkPolicy", typed::<NetworkPolicy>),
        ("Pod", typed::<Pod>),
        ("PodDisruptionBudget", typed::<PodDisruptionBudget>),
        ("Secret", typed::<Secret>),
        ("Service", typed::<Service>),
        ("ServiceAccount", typed::<ServiceAccount>),
        ("StatefulSet", typed::<StatefulSet>),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for (name, text) in texts() {
        for object in flat(&text) {
            let kind = object["kind"].as_str().expect("objects have a kind");
            match kinds.iter().find(|(known, _)| *known == kind) {
                Some((known, check)) => {
                    check(&object);
                    seen.insert(*known);
                }
                None => assert!(CUSTOM.contains(&kind), "{name}: {kind}"),
            }
        }
    }
    assert_eq!(seen.len(), kinds.len(), "{seen:?}");
}

/// Of KEDA's there are no types here that could be built in reasonable time.
#[test]
fn custom_resources_decode_into_their_own_types() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("all.yaml");
    let text = built("overlays/production");
    let decode = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Command::new(tool("kube/suite"))
            .arg("decode")
            .arg(&path)
            .output()
            .unwrap()
    };
    let output = decode(&text);
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for kind in CUSTOM.iter().filter(|kind| **kind != "ScaledObject") {
        assert!(
            out.lines()
                .any(|line| line.starts_with(&format!("{kind} "))),
            "{kind} in\n{out}"
        );
    }
    assert!(
        !decode(&text.replace("podMetricsEndpoints", "podMetricEndpoints"))
            .status
            .success()
    );
}

/// Whether a map of labels has all of a selector's.
fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.get("matchLabels").unwrap_or(selector);
    let wanted = wanted.as_object().expect("a selector is a map");
    assert!(!wanted.is_empty(), "an empty selector selects everything");
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

#[test]
fn selectors_select_their_own_pods_and_no_others() {
    for name in ["overlays/production", "example"] {
        let objects = objects(&built(name));
        let pods: Vec<(&str, &Value)> = objects
            .iter()
            .filter(|object| object.pointer("/spec/template").is_some())
            .map(|object| {
                (
                    object["metadata"]["name"].as_str().unwrap(),
                    &object["spec"]["template"]["metadata"]["labels"],
                )
            })
            .collect();
        for object in &objects {
            let selector = match object["kind"].as_str().unwrap() {
                "Deployment" | "StatefulSet" | "Service" | "PodDisruptionBudget" => {
                    &object["spec"]["selector"]
                }
                "NetworkPolicy" => &object["spec"]["podSelector"],
                _ => continue,
            };
            let own = object["metadata"]["name"].as_str().unwrap();
            let found: Vec<&str> = pods
                .iter()
                .filter(|(_, labels)| selects(selector, labels))
                .map(|(name, _)| *name)
                .collect();
            assert_eq!(found, [own], "{} {own}", object["kind"]);
            let spread = object.pointer("/spec/template/spec/topologySpreadConstraints");
            for constraint in spread.and_then(Value::as_array).into_iter().flatten() {
                assert!(selects(
                    &constraint["labelSelector"],
                    &object["spec"]["template"]["metadata"]["labels"]
                ));
            }
        }
    }
}

#[test]
fn names_that_belong_together_are_the_same() {
    let objects = objects(&built("overlays/production"));
    let find = |kind: &str, name: &str| {
        let found = objects
            .iter()
            .find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    };
    let webhook = find("MutatingWebhookConfiguration", "wal-sidecar");
    for one in webhook["webhooks"].as_array().unwrap() {
        let service = &one["clientConfig"]["service"];
        let found = find("Service", service["name"].as_str().unwrap());
        assert_eq!(found["metadata"]["namespace"], service["namespace"]);
        assert_eq!(found["spec"]["ports"][0]["port"], service["port"]);
        assert_eq!(one["failurePolicy"], "Fail");
    }
    let certificate = find("Certificate", "wal-sidecar-webhook");
    let deployment = find("Deployment", "wal-sidecar-webhook");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(
        pod["volumes"][0]["secret"]["secretName"],
        certificate["spec"]["secretName"]
    );
    let container = &pod["containers"][0];
    let arguments: Vec<&str> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(
        arguments,
        [
            "kube",
            "webhook",
            "--image=$(SIDECAR_IMAGE)",
            "--on-error=deny"
        ]
    );
    // What is injected is what runs.
    assert_eq!(container["env"][0]["value"], container["image"]);
    assert_ne!(
        container["image"],
        format!("wal-sidecar:{}", env!("CARGO_PKG_VERSION"))
    );
    let replicator = find("Deployment", "wal-sidecar-replicator");
    let replicator = &replicator["spec"]["template"]["spec"];
    assert_eq!(replicator["containers"][0]["image"], container["image"]);
    let config = replicator["volumes"][0]["configMap"]["name"]
        .as_str()
        .unwrap();
    assert!(
        find("ConfigMap", config)["data"]
            .get("sidecar.toml")
            .is_some()
    );
    // KEDA makes an autoscaler of its own.
    assert!(
        !objects
            .iter()
            .any(|object| object["kind"] == "HorizontalPodAutoscaler")
    );
    let scaled = find("ScaledObject", "wal-sidecar-replicator");
    assert_eq!(
        scaled["spec"]["scaleTargetRef"]["name"],
        "wal-sidecar-replicator"
    );

    let minimal = self::objects(&built("overlays/minimal"));
    let webhook = minimal
        .iter()
        .find(|one| one["kind"] == "MutatingWebhookConfiguration")
        .unwrap();
    for one in webhook["webhooks"].as_array().unwrap() {
        assert_eq!(one["failurePolicy"], "Ignore");
    }
}

/// What the pod security standard "restricted" asks of a container.
fn check_restricted(container: &Value, pod: &Value) {
    let of = |key: &str| {
        container["securityContext"]
            .get(key)
            .or(pod["securityContext"].get(key))
    };
    let name = &container["name"];
    assert_eq!(of("runAsNonRoot"), Some(&json!(true)), "{name}");
    assert_eq!(
        of("seccompProfile"),
        Some(&json!({ "type": "RuntimeDefault" })),
        "{name}"
    );
    let own = &container["securityContext"];
    assert_eq!(own["allowPrivilegeEscalation"], false, "{name}");
    assert_eq!(own["readOnlyRootFilesystem"], true, "{name}");
    assert_eq!(own["capabilities"], json!({ "drop": ["ALL"] }), "{name}");
    assert!(
        container["resources"]["requests"]["memory"].is_string(),
        "{name}"
    );
    assert!(
        container["resources"]["limits"]["memory"].is_string(),
        "{name}"
    );
}

#[test]
fn containers_can_do_no_more_than_they_have_to() {
    let mut count = 0;
    for (name, text) in texts() {
        let is_ours = !name.contains('.') && name != "certified";
        for object in flat(&text) {
            for path in [
                "/spec",
                "/spec/template/spec",
                "/spec/jobTemplate/spec/template/spec",
            ] {
                let Some(pod) = object.pointer(path) else {
                    continue;
                };
                for list in ["initContainers", "containers"] {
                    for container in pod[list].as_array().into_iter().flatten() {
                        if is_ours || container["name"] == "wal-sidecar" {
                            check_restricted(container, pod);
                            count += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(count > 60, "{count}");
}

/// Every configuration beside a manifest is one that the program takes, with
/// the variables that an injected container has.
#[test]
fn configurations_are_right() {
    let k8s = root().join("k8s");
    let mut checked = 0;
    for path in files(&k8s) {
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let example = inject(&corpus()["deployment.yaml"], &Options::default()).text;
        let deployment = &objects(&example)[0];
        let container = &deployment["spec"]["template"]["spec"]["initContainers"][0];
        let mut command = Command::new(env!("CARGO_BIN_EXE_wal-sidecar"));
        for variable in container["env"].as_array().unwrap() {
            command.env(
                variable["name"].as_str().unwrap(),
                variable["value"].as_str().unwrap(),
            );
        }
        // Kubernetes' own, of a service that is named as the program.
        command.env("WAL_SIDECAR_WEBHOOK_SERVICE_HOST", "10.0.0.1");
        let out = run(command
            .env("WAL_SIDECAR_CONFIG", &path)
            .args(["check", "--print"]));
        for line in [
            "listen = \"0.0.0.0:9900\"",
            "directory = \"/var/lib/wal-sidecar/journal\"",
            "drain_timeout = \"16s\"",
        ] {
            assert!(out.contains(line), "{line} in\n{out}");
        }
        checked += 1;
    }
    assert!(checked > 0);
}
