//! `kube webhook` over TLS, asked as an API server asks.

mod kube;
mod support;
#[path = "kube/webhook.rs"]
mod webhook;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::{corpus, inject};
use serde_json::{Value, json};
use support::process::Signal;
use support::wait::until;
use wal_sidecar::kube::Options;
use wal_sidecar::kube::yaml::{Node, read};
use webhook::{Connection, NAME, Webhook, certificates, patched, replace, review};

const DEADLINE: Duration = Duration::from_secs(10);

/// Every pod, and every template of one as the pod that is made of it.
fn pods() -> Vec<Value> {
    fn collect(object: &Value, pods: &mut Vec<Value>) {
        for item in object["items"].as_array().into_iter().flatten() {
            collect(item, pods);
        }
        if object["kind"] == "Pod" {
            pods.push(object.clone());
        }
        let templates = ["/spec/template", "/spec/jobTemplate/spec/template"];
        for template in templates.iter().filter_map(|path| object.pointer(path)) {
            let mut pod = template.clone();
            pod["apiVersion"] = "v1".into();
            pod["kind"] = "Pod".into();
            pod["metadata"]["generateName"] = "made-".into();
            pods.push(pod);
        }
    }
    let mut pods = Vec::new();
    for text in corpus().values() {
        for document in read(text).unwrap() {
            collect(
                &document.root.as_ref().map_or(Value::Null, Node::to_json),
                &mut pods,
            );
        }
    }
    assert!(pods.len() > 7, "{}", pods.len());
    pods
}

fn pod(annotations: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "generateName": "a-", "annotations": annotations },
        "spec": { "containers": [{ "name": "a", "image": "b" }] },
    })
}

#[test]
fn pods_become_what_the_command_line_makes_of_them() {
    let webhook = Webhook::start(&[
        "--rewrite",
        "REDIS_URL=127.0.0.1:6380",
        "--journal",
        "claim",
    ]);
    let mut options = Options::default();
    options.set("rewrite", "REDIS_URL=127.0.0.1:6380").unwrap();
    options.set("journal", "claim").unwrap();
    for pod in pods() {
        let answer = webhook.review("/inject-all", &review(&pod));
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        let response = &answer["response"];
        assert_eq!(response["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
        assert_eq!(response["allowed"], true);
        let stored = patched(&pod, &answer);
        let text = Node::from_json(&pod).write();
        let injected = inject(&text, &options);
        let expected = read(&injected.text).unwrap()[0]
            .root
            .as_ref()
            .unwrap()
            .to_json();
        assert_eq!(stored, expected);
        serde_json::from_value::<Pod>(stored.clone())
            .unwrap_or_else(|error| panic!("{error}: {stored}"));
        let declined = injected.notices.iter().all(|notice| !notice.changed);
        assert_eq!(response.get("patch").is_none(), declined, "{pod}");
        // Asked again, as the API server may after other webhooks.
        let again = webhook.review("/inject-all", &review(&stored));
        assert_eq!(again["response"].get("patch"), None);
        // The path for pods that ask leaves alone those that do not.
        let wish = |kind: &str| pod["metadata"][kind]["wal-sidecar.io/inject"].clone();
        let asks = wish("annotations") == "true";
        let answer = webhook.review("/inject", &review(&pod));
        assert_eq!(answer["response"].get("patch").is_some(), asks, "{pod}");
    }
    assert!(webhook.metric("wal_sidecar_webhook_reviews_total{outcome=\"injected\"}") > 6.0);
    assert!(webhook.metric("wal_sidecar_webhook_review_duration_seconds_count") > 10.0);
}

#[test]
fn bad_annotations_are_warned_of_or_refused() {
    let bad = pod(
        json!({ "wal-sidecar.io/inject": "true", "wal-sidecar.io/journal": "tape", "wal-sidecar.io/memory-limit": "1Gi" }),
    );
    let wish = pod(json!({ "wal-sidecar.io/inject": "perhaps" }));
    let mut windows = pod(json!({ "wal-sidecar.io/inject": "true" }));
    windows["spec"]["os"] = json!({ "name": "windows" });
    let journal = "wal-sidecar: wal-sidecar.io/journal takes empty-dir, claim, host-path or none";
    let inject = "wal-sidecar: wal-sidecar.io/inject takes true or false";
    let linux = "wal-sidecar: the sidecar runs on Linux";

    let open = Webhook::start(&[]);
    for (pod, is_injected, warning) in [
        (&bad, true, journal),
        (&wish, false, inject),
        (&windows, false, linux),
    ] {
        let answer = open.review("/inject", &review(pod));
        let response = &answer["response"];
        assert_eq!(response["allowed"], true);
        assert_eq!(response["warnings"][0], warning);
        let stored = patched(pod, &answer);
        assert_eq!(stored != *pod, is_injected);
        if is_injected {
            let sidecar = &stored["spec"]["initContainers"][0];
            assert_eq!(sidecar["resources"]["limits"]["memory"], "1Gi");
        }
        for warning in response["warnings"].as_array().unwrap() {
            assert!(warning.as_str().unwrap().chars().count() <= 256);
        }
    }

    let closed = Webhook::start(&["--on-error", "deny"]);
    for (pod, message) in [(&bad, journal), (&wish, inject), (&windows, linux)] {
        let answer = closed.review("/inject", &review(pod));
        let response = &answer["response"];
        assert_eq!(response["allowed"], false);
        assert_eq!(response["status"]["message"], message);
        assert_eq!(response["status"]["code"], 400);
        assert_eq!(response.get("patch"), None);
    }
    let good = pod(json!({ "wal-sidecar.io/inject": "true" }));
    assert_eq!(
        closed.review("/inject", &review(&good))["response"]["allowed"],
        true
    );
}

#[test]
fn what_is_no_new_pod_is_let_through() {
    let webhook = Webhook::start(&[]);
    let pod = pod(json!({ "wal-sidecar.io/inject": "true" }));
    let changes: &[(&str, Value)] = &[
        ("operation", json!("UPDATE")),
        ("operation", json!("DELETE")),
        ("subResource", json!("ephemeralcontainers")),
        (
            "kind",
            json!({ "group": "apps", "version": "v1", "kind": "Deployment" }),
        ),
    ];
    for (key, value) in changes {
        let mut review = review(&pod);
        review["request"][*key] = value.clone();
        let answer = webhook.review("/inject-all", &review);
        assert_eq!(answer["response"]["allowed"], true, "{key}");
        assert_eq!(answer["response"].get("patch"), None, "{key} {value}");
    }
}

#[test]
fn bad_requests_are_answered_as_such() {
    let webhook = Webhook::start(&[]);
    let good = review(&pod(json!({})));
    let with = |change: &dyn Fn(&mut Value)| {
        let mut review = good.clone();
        change(&mut review);
        review.to_string()
    };
    let json = "application/json";
    let cases = [
        (
            "POST",
            "/inject",
            json,
            "not json".to_owned(),
            400,
            "this is no AdmissionReview",
        ),
        (
            "POST",
            "/inject",
            json,
            String::new(),
            400,
            "this is no AdmissionReview",
        ),
        (
            "POST",
            "/inject",
            json,
            "{}".to_owned(),
            400,
            "this is no AdmissionReview",
        ),
        (
            "POST",
            "/inject",
            json,
            "[1]".to_owned(),
            400,
            "this is no AdmissionReview",
        ),
        (
            "POST",
            "/inject",
            json,
            with(&|review| review["apiVersion"] = "admission.k8s.io/v1beta1".into()),
            400,
            "an AdmissionReview of admission.k8s.io/v1 is wanted",
        ),
        (
            "POST",
            "/inject",
            json,
            with(&|review| review["request"] = Value::Null),
            400,
            "the review has no request",
        ),
        (
            "POST",
            "/inject",
            json,
            with(&|review| review["request"]["uid"] = "".into()),
            400,
            "the review has no request",
        ),
        (
            "POST",
            "/inject",
            json,
            with(&|review| review["request"]["object"] = Value::Null),
            400,
            "the review's object is missing",
        ),
        (
            "POST",
            "/inject",
            "text/plain",
            good.to_string(),
            415,
            "use application/json",
        ),
        (
            "POST",
            "/elsewhere",
            json,
            good.to_string(),
            404,
            "POST a review",
        ),
        ("GET", "/inject", json, String::new(), 405, "use POST"),
        ("GET", "/healthz", json, String::new(), 200, "alive"),
        (
            "POST",
            "/inject",
            json,
            " ".repeat(9 << 20),
            413,
            "the review is too large",
        ),
    ];
    for (method, path, kind, body, status, text) in cases {
        let (found, answer) = webhook.connect().request(method, path, kind, &body);
        assert_eq!(found, status, "{method} {path} {answer}");
        assert!(answer.starts_with(text), "{method} {path} {answer}");
    }
    // It goes on after all that.
    assert_eq!(
        webhook.review("/inject", &good)["response"]["allowed"],
        true
    );
    assert!(webhook.metric("wal_sidecar_webhook_reviews_total{outcome=\"bad_request\"}") >= 9.0);
}

#[test]
fn a_new_certificate_is_taken_up_and_a_broken_one_is_not() {
    let mut webhook = Webhook::start(&[]);
    webhook
        .expected_errors
        .push("the new certificate cannot be used".to_owned());
    let expiry = "wal_sidecar_webhook_certificate_expiry_timestamp_seconds";
    let first = webhook.metric(expiry);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let days = (first - now.as_secs_f64()) / 86_400.0;
    assert!((89.9..=90.0).contains(&days), "{days}");

    let mut old = webhook.connect();
    let second = certificates(365);
    replace(webhook.directory.path(), &second);
    until("the new certificate", DEADLINE, || {
        Connection::open(webhook.port, &second.authority).ok()
    });
    assert!(webhook.metric(expiry) > first + 200.0 * 86_400.0);
    assert!(Connection::open(webhook.port, &webhook.authority).is_err());
    // A connection of before goes on.
    let good = review(&pod(json!({}))).to_string();
    assert_eq!(old.post("/inject", &good).0, 200);

    std::fs::write(webhook.directory.path().join("tls.crt"), "broken").unwrap();
    let failed = "wal_sidecar_webhook_certificate_reloads_total{result=\"failed\"}";
    until("the broken one to be seen", DEADLINE, || {
        (webhook.metric(failed) == 1.0).then_some(())
    });
    Connection::open(webhook.port, &second.authority).unwrap();
    // A key of another certificate.
    let third = certificates(30);
    std::fs::write(webhook.directory.path().join("tls.crt"), &third.certificate).unwrap();
    until("the mismatch to be seen", DEADLINE, || {
        (webhook.metric(failed) >= 2.0).then_some(())
    });
    Connection::open(webhook.port, &second.authority).unwrap();
    replace(webhook.directory.path(), &third);
    until("the third certificate", DEADLINE, || {
        Connection::open(webhook.port, &third.authority).ok()
    });
}

#[test]
fn without_a_certificate_it_makes_one_only_if_told() {
    let directory = tempfile::TempDir::new().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(support::sidecar::binary());
        command
            .args([
                "kube",
                "webhook",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
            ])
            .arg("--certificates")
            .arg(directory.path())
            .args(arguments);
        support::process::Process::start("the webhook", &mut command)
    };
    let mut process = run(&[]);
    assert_eq!(process.wait(DEADLINE).code(), Some(1));
    let lines = process.lines().join("\n");
    assert!(
        lines.contains("cannot read") && lines.contains("tls.crt"),
        "{lines}"
    );

    let mut process = run(&["--self-signed", NAME, "--drain-delay", "0s"]);
    until("it to serve", DEADLINE, || {
        process
            .lines()
            .iter()
            .any(|line| line.contains("\"serving\""))
            .then_some(())
    });
    let key = std::fs::metadata(directory.path().join("tls.key")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777,
        0o600
    );
    assert!(directory.path().join("ca.crt").exists());
    assert_eq!(process.stop().code(), Some(0));
}

#[test]
fn reviews_are_answered_until_the_end() {
    let mut webhook = Webhook::start(&[]);
    let good = review(&pod(json!({ "wal-sidecar.io/inject": "true" }))).to_string();
    let mut connection = webhook.connect();
    webhook.process.signal(Signal::Term);
    until("it to say that it drains", DEADLINE, || {
        matches!(
            support::http::get(webhook.admin_port, "/readyz"),
            Ok((503, _))
        )
        .then_some(())
    });
    // The API server has not heard of it yet.
    assert_eq!(connection.post("/inject", &good).0, 200);
    assert_eq!(webhook.connect().post("/inject", &good).0, 200);
    assert_eq!(webhook.process.wait(DEADLINE).code(), Some(0));
}

#[test]
fn what_kube_certificate_prints_is_trusted_and_renewed_without_a_gap() {
    use base64::Engine as _;
    let decoded = |value: &Value| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap());
        String::from_utf8(bytes.unwrap()).unwrap()
    };
    let certified = |text: &str| {
        let valid = Duration::from_secs(86_400);
        let printed = wal_sidecar::kube::trust::trust(text, "certificate", valid).unwrap();
        let documents = read(&printed).unwrap();
        let object = |index: usize| documents[index].root.as_ref().unwrap().to_json();
        let bundle = decoded(&object(0)["webhooks"][0]["clientConfig"]["caBundle"]);
        (documents[0].write(), bundle, object(1)["data"].clone())
    };
    let webhook = Webhook::start(&[]);
    let mount = |data: &Value| {
        for name in ["tls.key", "tls.crt"] {
            let path = webhook.directory.path().join(name);
            std::fs::write(path.with_extension("new"), decoded(&data[name])).unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        }
    };
    // The name is the one that the API server asks for.
    let text = std::fs::read_to_string(kube::root().join("k8s/webhook/webhook.yaml")).unwrap();
    let (configuration, bundle, secret) = certified(&text);
    mount(&secret);
    until("it to be taken up", DEADLINE, || {
        Connection::open(webhook.port, &bundle).ok()
    });

    let (configuration, renewed, secret) = certified(&configuration);
    Connection::open(webhook.port, &renewed).expect("the pods' certificate is trusted still");
    mount(&secret);
    until("the new one to be taken up", DEADLINE, || {
        Connection::open(webhook.port, &bundle).err()
    });
    Connection::open(webhook.port, &renewed).unwrap();
    // The bundle does not grow for ever.
    let (_, again, _) = certified(&configuration);
    assert_eq!(again.matches("BEGIN CERTIFICATE").count(), 2);
}

/// An API server waits ten seconds by default, and every pod waits for it.
#[test]
fn a_review_takes_milliseconds() {
    const REVIEWS: usize = 300;
    let webhook = Webhook::start(&[]);
    let pods = pods();
    let time = |run: &mut dyn FnMut(&str)| {
        let mut times: Vec<Duration> = (0..REVIEWS)
            .map(|index| {
                let review = review(&pods[index % pods.len()]).to_string();
                let start = Instant::now();
                run(&review);
                start.elapsed()
            })
            .collect();
        times.sort();
        (times[REVIEWS / 2], times[REVIEWS * 99 / 100])
    };
    let mut kept = webhook.connect();
    let (median, high) = time(&mut |review| assert_eq!(kept.post("/inject-all", review).0, 200));
    println!("kept connection: median {median:?}, 99th percentile {high:?}");
    assert!(median < Duration::from_millis(50), "{median:?}");
    let (median, high) =
        time(&mut |review| assert_eq!(webhook.connect().post("/inject-all", review).0, 200));
    println!("new connection each: median {median:?}, 99th percentile {high:?}");
    assert!(median < Duration::from_millis(200), "{median:?}");
}
