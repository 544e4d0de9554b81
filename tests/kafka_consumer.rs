//! The example in `docs/` reads a sidecar's topic with an ordinary client. Run
//! by `scripts/test`, which installs that.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Kafka, Redis, Sidecar, SidecarOptions};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
#[ignore = "needs a Kafka client for Python: scripts/test installs it"]
fn the_example_tells_each_change_once_with_what_became_of_it() {
    let (kafka, redis) = (Kafka::start(), Redis::start());
    let options = SidecarOptions::new(&redis)
        .backend("kafka")
        .journal(&format!("brokers = {:?}", kafka.bootstrap()))
        .journal("[journal.kafka]\npartitions = 3\nreplication_factor = 1");
    let mut sidecar = Sidecar::with(options);
    let mut client = sidecar.client();
    for (command, reply) in [
        (&["SET", "a", "1"][..], "+OK\r\n"),
        (&["SADD", "s", "m"], ":1\r\n"),
        (&["SPOP", "s"], "$1\r\nm\r\n"),
        (&["SETNX", "a", "2"], ":0\r\n"),
    ] {
        assert_eq!(client.command(command), reply.as_bytes());
    }
    // A heartbeat says that the last one is settled.
    let settled = || sidecar.metric("wal_sidecar_journal_records_total", "");
    let before = settled();
    support::until("two heartbeats", std::time::Duration::from_secs(20), || {
        (before + 6.0 <= settled()).then_some(())
    });
    assert!(sidecar.stop().success());
    let python = project(".cache/python-kafka/bin/python");
    let output = Command::new(&python)
        .arg(project("docs/examples/consume.py"))
        .args(["--brokers", &kafka.bootstrap()])
        .args(["--topic", "wal-sidecar.test.test", "--once"])
        .output()
        .unwrap_or_else(|error| panic!("run {}: {error}", python.display()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let mut told: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, told)| told)
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "SADD s m",
            "SET a 1",
            "SETNX a 2 -> nothing (no effect)",
            "SPOP s -> SREM s m",
        ],
        "{errors}"
    );
}
