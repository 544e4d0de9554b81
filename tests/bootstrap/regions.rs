//! Two regions, each behind a sidecar that replicates.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::support::process::free_port;
use super::support::sidecar::binary;
use super::support::{Redis, Sidecar, SidecarOptions, until};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// Options of the sidecars of `eu` and `us`, each of which reads the other.
pub fn options(mut eu: SidecarOptions, mut us: SidecarOptions) -> [SidecarOptions; 2] {
    let ports = [free_port(), free_port()];
    let names = ["eu", "us"];
    for (own, options) in [&mut eu, &mut us].into_iter().enumerate() {
        let other = 1 - own;
        options.region = names[own].to_owned();
        options.roles = vec!["proxy".to_owned(), "replicator".to_owned()];
        options.journal_lines = format!("serve = \"127.0.0.1:{}\"\n", ports[own]);
        options.tables = format!(
            "[replication]\nretry_backoff_max = \"200ms\"\n\
             [[replication.source]]\nregion = \"{}\"\njournal = \"wal://127.0.0.1:{}\"\n",
            names[other], ports[other]
        );
    }
    [eu, us]
}

pub struct Region {
    pub redis: Redis,
    pub sidecar: Sidecar,
}

/// Both, with the datastores that they are given.
pub fn regions(redis: [Redis; 2]) -> [Region; 2] {
    let all = options(
        SidecarOptions::new(&redis[0]),
        SidecarOptions::new(&redis[1]),
    );
    let mut redis = redis.into_iter();
    all.map(|options| Region {
        sidecar: Sidecar::with(options),
        redis: redis.next().expect("one each"),
    })
}

/// Waits until a sidecar leads.
pub fn until_led(sidecar: &Sidecar) {
    until("the replicator to lead", DEADLINE, || {
        (sidecar.metric("wal_sidecar_replication_leading", "") == 1.0).then_some(())
    });
}

/// Runs a subcommand that goes on meanwhile.
pub fn start(sidecar: &Sidecar, arguments: &[&str]) -> Child {
    Command::new(binary())
        .args(arguments)
        .arg("--config")
        .arg(sidecar.config())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run the binary")
}

/// What `replicate --bootstrap --status` says.
pub fn status(sidecar: &Sidecar) -> Value {
    let output = sidecar.command(&["replicate", "--bootstrap", "--status", "--json"]);
    let text = text(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        self::text(&output.stderr)
    );
    serde_json::from_str(&text).expect("an object")
}

/// Waits until the other region knows that it is being filled.
pub fn until_known(sidecar: &Sidecar) {
    until("the other region to know", DEADLINE, || {
        let status = status(sidecar);
        let known = status["known_in"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        (known || status["phase"] == "done").then_some(())
    });
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A run of `verify --json`: its exit code, what differs, and the summary.
pub struct Verified {
    pub code: Option<i32>,
    pub lines: Vec<Value>,
    pub summary: Value,
}

impl Verified {
    /// The keys of the lines of a kind, with what is said of them, in order.
    pub fn of(&self, kind: &str) -> Vec<(String, String)> {
        let lines = self.lines.iter().filter_map(|line| line.get(kind));
        let about = |line: &Value| {
            let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            let detail = word("detail");
            let what = word("what");
            let said = match detail.as_str() {
                "" => what,
                detail => format!("{what}: {detail}"),
            };
            (word("key"), said)
        };
        let mut found: Vec<_> = lines.map(about).collect();
        found.sort();
        found
    }

    /// The same on both sides, and this many of them.
    pub fn assert_equal(&self) -> u64 {
        assert_eq!(self.code, Some(0), "{:#?} {}", self.lines, self.summary);
        self.summary["equal"].as_u64().expect("a number")
    }
}

pub fn verify(sidecar: &Sidecar, arguments: &[&str]) -> Verified {
    let output = sidecar.command(&[&["verify", "--json"], arguments].concat());
    verified(&output)
}

fn verified(output: &Output) -> Verified {
    let out = text(&output.stdout);
    let mut lines: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is an object"))
        .collect();
    let last = lines.pop().unwrap_or_default();
    let summary = last["summary"].clone();
    assert!(summary.is_object(), "{out}{}", text(&output.stderr));
    Verified {
        code: output.status.code(),
        lines,
        summary,
    }
}
