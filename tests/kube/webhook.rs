//! The webhook as a process, and an API server's side of it.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use wal_sidecar::kube::webhook::certificate::SelfSigned;

use super::support::http;
use super::support::process::{Process, free_port};
use super::support::sidecar::{binary, unexpected_errors};
use super::support::wait::{READY_DEADLINE, until};

/// The name the API server knows the webhook's service by.
pub const NAME: &str = "wal-sidecar-webhook.wal-sidecar.svc";

/// A running webhook; dropped, it is killed.
pub struct Webhook {
    pub process: Process,
    pub directory: TempDir,
    pub port: u16,
    pub admin_port: u16,
    pub authority: String,
    pub expected_errors: Vec<String>,
}

/// Certificates for the service's name that are valid for so many days.
pub fn certificates(days: u64) -> SelfSigned {
    let valid = Duration::from_secs(days * 86_400);
    SelfSigned::new(&[NAME.to_owned()], valid).unwrap()
}

impl Webhook {
    /// Starts one with further arguments; it is ready when this returns.
    pub fn start(arguments: &[&str]) -> Webhook {
        let directory = TempDir::new().unwrap();
        let made = certificates(90);
        made.write(directory.path()).unwrap();
        for _ in 0..5 {
            let (port, admin_port) = (free_port(), free_port());
            let mut command = Command::new(binary());
            command
                .args([
                    "kube",
                    "webhook",
                    "--reload-interval",
                    "20ms",
                    "--drain-delay",
                    "200ms",
                ])
                .args(["--listen", &format!("127.0.0.1:{port}")])
                .args(["--admin", &format!("127.0.0.1:{admin_port}")])
                .arg("--certificates")
                .arg(directory.path())
                .args(arguments);
            let mut process = Process::start("the webhook", &mut command);
            let ready = until("the webhook to be ready", READY_DEADLINE, || {
                if process.ended().is_some() {
                    return Some(false);
                }
                matches!(http::get(admin_port, "/readyz"), Ok((200, _))).then_some(true)
            });
            if ready {
                return Webhook {
                    process,
                    directory,
                    port,
                    admin_port,
                    authority: made.authority,
                    expected_errors: Vec::new(),
                };
            }
            let lines = process.lines().join("\n");
            assert!(lines.contains("in use"), "the webhook ended:\n{lines}");
        }
        panic!("no port was free");
    }

    /// A connection of an API server's.
    pub fn connect(&self) -> Connection {
        Connection::open(self.port, &self.authority).expect("the webhook's certificate is trusted")
    }

    /// The answer to one review.
    pub fn review(&self, path: &str, review: &Value) -> Value {
        let (status, body) = self.connect().post(path, &review.to_string());
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The value of a metric; 0 where there is none.
    pub fn metric(&self, line: &str) -> f64 {
        let (_, text) = http::get(self.admin_port, "/metrics").unwrap();
        let found = text
            .lines()
            .find_map(|one| one.strip_prefix(line)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.parse().unwrap())
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.process.kill();
        if !std::thread::panicking() {
            let errors = unexpected_errors(&self.process.lines(), &self.expected_errors);
            assert!(errors.is_empty(), "{errors:?}");
        }
    }
}

/// A TLS connection, kept open between requests.
pub struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Connection {
    /// Connects, trusting the authorities of a bundle only.
    pub fn open(port: u16, authority: &str) -> std::io::Result<Connection> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(authority.unwrap()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(NAME).unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut stream = StreamOwned::new(client, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Connection { stream })
    }

    /// A request as the API server makes them: status and body.
    pub fn post(&mut self, path: &str, body: &str) -> (u16, String) {
        self.request("POST", path, "application/json", body)
    }

    pub fn request(&mut self, method: &str, path: &str, kind: &str, body: &str) -> (u16, String) {
        let request = format!(
            "{method} {path}?timeout=10s HTTP/1.1\r\nHost: {NAME}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        // What is refused early is answered before all of it is read.
        let _ = self.stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let mut buffer = [0; 16384];
        loop {
            let read = self.stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the webhook closed the connection");
            answer.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length: usize = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length: ")?
                        .parse()
                        .ok()
                })
                .expect("answers have a length");
            if body.len() >= length {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return (status, body.to_owned());
            }
        }
    }
}

/// A review as an API server sends it when a pod is created.
pub fn review(pod: &Value) -> Value {
    let version = json!({ "group": "", "version": "v1", "kind": "Pod" });
    let resource = json!({ "group": "", "version": "v1", "resource": "pods" });
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": version,
            "resource": resource,
            "requestKind": version,
            "requestResource": resource,
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "8b1f1a0c",
                "groups": ["system:serviceaccounts", "system:authenticated"],
            },
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" },
        },
    })
}

/// The pod as the API server stores it: the answer's patch applied.
pub fn patched(pod: &Value, answer: &Value) -> Value {
    let mut pod = pod.clone();
    if let Some(patch) = answer["response"]["patch"].as_str() {
        assert_eq!(answer["response"]["patchType"], "JSONPatch");
        let patch = BASE64.decode(patch).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
    }
    pod
}

/// Replaces the files of a certificate as a kubelet does: by exchanging the
/// link to the directory they are in. Here each is renamed into place.
pub fn replace(directory: &Path, made: &SelfSigned) {
    let new = TempDir::new_in(directory).unwrap();
    made.write(new.path()).unwrap();
    for name in ["ca.crt", "tls.key", "tls.crt"] {
        std::fs::rename(new.path().join(name), directory.join(name)).unwrap();
    }
}
