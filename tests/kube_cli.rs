//! `wal-sidecar kube ...` as its users meet it: files, directories, standard
//! input, exit codes.

mod kube;

use std::path::Path;

use assert_cmd::Command;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::{corpus, inject, root};
use serde_json::Value;
use tempfile::TempDir;
use wal_sidecar::kube::Options;
use wal_sidecar::kube::webhook::certificate::expires_at;
use wal_sidecar::kube::yaml::{Node, read};

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n  - name: a\n    image: b\n";

struct Outcome {
    code: i32,
    out: String,
    error: String,
}

fn run(directory: &Path, arguments: &[&str], input: &str) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wal-sidecar"));
    command.current_dir(directory).arg("kube").args(arguments);
    let output = command.write_stdin(input).output().unwrap();
    Outcome {
        code: output.status.code().expect("it is not killed"),
        out: String::from_utf8(output.stdout).unwrap(),
        error: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn files_directories_and_standard_input_are_taken() {
    let directory = root().join("tests/kube/corpus");
    let options = Options::default();
    let whole: String = corpus()
        .values()
        .map(|text| inject(text, &options).text)
        .collect();
    let outcome = run(root(), &["inject", "-f", "tests/kube/corpus"], "");
    assert_eq!(outcome.code, 0, "{}", outcome.error);
    let documents = |text: &str| -> Vec<Value> {
        let documents = read(text).unwrap();
        let roots = documents.iter().filter_map(|one| one.root.as_ref());
        roots.map(Node::to_json).collect()
    };
    // Files follow one another as documents do.
    let separated: Vec<Value> = corpus()
        .values()
        .flat_map(|text| documents(&inject(text, &options).text))
        .collect();
    assert_eq!(documents(&outcome.out), separated);
    assert!(whole.len() > 10_000);
    assert!(
        outcome
            .error
            .contains("Deployment shop/cart: injected\n  warning: the journal is in an emptyDir")
    );
    assert!(outcome.error.contains("Pod plain: unchanged\n"));

    let piped = run(&directory, &["inject", "-f", "-"], POD);
    assert_eq!(piped.out, inject(POD, &options).text);
    let back = run(&directory, &["uninject", "-f", "-"], &piped.out);
    assert_eq!((back.code, back.out.as_str()), (0, POD));
    assert_eq!(back.error, "Pod a: uninjected\n");
    let several = run(
        &directory,
        &["inject", "-f", "-", "-f", "deployment.yaml"],
        POD,
    );
    assert_eq!(documents(&several.out).len(), 3);
}

#[test]
fn what_is_wrong_is_said_with_its_exit_code() {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("broken.yaml", "a: 1\na: [\n");
    write(
        "annotated.yaml",
        &POD.replace(
            "  name: a\nspec",
            "  name: a\n  annotations: {wal-sidecar.io/jornal: claim}\nspec",
        ),
    );
    write(
        "empty.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n",
    );
    std::fs::create_dir(directory.path().join("none")).unwrap();
    for (arguments, code, expected) in [
        (
            &["inject", "-f", "absent.yaml"][..],
            1,
            "error: read absent.yaml: No such file",
        ),
        (
            &["inject", "-f", "broken.yaml"],
            1,
            "error: broken.yaml, line ",
        ),
        (
            &["inject", "-f", "none"],
            2,
            "error: none has no manifests in it",
        ),
        (
            &["inject"],
            2,
            "error: the following required arguments were not provided",
        ),
        (
            &["inject", "-f", "-", "--journal", "tape"],
            2,
            "error: --journal takes empty-dir, claim, host-path or none",
        ),
        (
            &["inject", "-f", "-", "--rewrite", "REDIS_URL"],
            2,
            "error: --rewrite takes NAME=host:port",
        ),
        (
            &["inject", "-f", "annotated.yaml"],
            0,
            "Pod a: injected\n  error: wal-sidecar.io/jornal is not known",
        ),
        (
            &["inject", "-f", "annotated.yaml", "--strict"],
            1,
            "Pod a: injected\n  error: wal-sidecar.io/jornal is not known",
        ),
        (
            &["inject", "-f", "empty.yaml"],
            0,
            "Pod a: unchanged\n  error: it has no containers",
        ),
        (
            &["inject", "-f", "empty.yaml", "--strict"],
            1,
            "Pod a: unchanged\n  error: it has no containers",
        ),
        (
            &["certificate", "-f", "empty.yaml"],
            1,
            "error: no MutatingWebhookConfiguration in it names a service",
        ),
        (
            &["drain", "--wait", "soon"],
            2,
            "error: invalid value 'soon'",
        ),
        (
            &["drain", "--admin", "nowhere"],
            2,
            "error: invalid value 'nowhere'",
        ),
        (
            &["webhook", "--certificates", "none"],
            1,
            "error: cannot read none/tls.crt",
        ),
    ] {
        let outcome = run(directory.path(), arguments, "");
        assert_eq!(outcome.code, code, "{arguments:?}: {}", outcome.error);
        assert!(
            outcome.error.contains(expected),
            "{arguments:?}: {}",
            outcome.error
        );
        let is_printed = code == 0;
        assert_eq!(
            !outcome.out.is_empty(),
            is_printed,
            "{arguments:?}: {}",
            outcome.out
        );
    }
}

#[test]
fn notices_can_be_read_by_machines() {
    let outcome = run(root(), &["inject", "-f", "-", "--json"], POD);
    let notice: Value = serde_json::from_str(outcome.error.trim_end()).unwrap();
    assert_eq!(notice["object"], "Pod a");
    assert_eq!(notice["changed"], true);
    assert_eq!(notice["problems"], Value::Array(Vec::new()));
    assert_eq!(notice["warnings"].as_array().unwrap().len(), 1);
}

#[test]
fn manifests_get_a_certificate() {
    let k8s = root().join("k8s/webhook");
    let arguments = [
        "certificate",
        "-f",
        "webhook.yaml",
        "-f",
        "service.yaml",
        "--days",
        "30",
    ];
    let outcome = run(&k8s, &arguments, "");
    assert_eq!(outcome.code, 0, "{}", outcome.error);
    let documents = read(&outcome.out).unwrap();
    let objects: Vec<Value> = documents
        .iter()
        .filter_map(|one| Some(one.root.as_ref()?.to_json()))
        .collect();
    let [webhook, service, secret] = objects.as_slice() else {
        panic!("{}", outcome.out);
    };
    assert_eq!(service["kind"], "Service");
    assert_eq!(
        secret["metadata"]["name"],
        "wal-sidecar-webhook-certificate"
    );
    assert_eq!(secret["metadata"]["namespace"], "wal-sidecar");
    assert_eq!(secret["type"], "kubernetes.io/tls");
    for one in webhook["webhooks"].as_array().unwrap() {
        assert_eq!(one["clientConfig"]["caBundle"], secret["data"]["ca.crt"]);
    }
    // What was written by people stays.
    assert!(
        outcome
            .out
            .contains("# Which pods the API server asks about.")
    );
    let pem = BASE64
        .decode(secret["data"]["tls.crt"].as_str().unwrap())
        .unwrap();
    use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let left = expires_at(&certificate).unwrap() - now.as_secs() as i64;
    assert!((29 * 86_400..=30 * 86_400).contains(&left), "{left}");
}
