//! What the command line says where it can do nothing.

use std::process::Output;

use super::regions::text;
use super::support::Redis;
use super::support::process::free_port;
use super::support::sidecar::binary;

/// A directory with a configuration that nobody runs.
fn place(upstream: &str, roles: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let config = format!(
        "region = \"eu\"\nroles = {roles}\n[[namespace]]\nname = \"sessions\"\n\
         listen = \"127.0.0.1:1\"\nupstream = \"{upstream}\"\n\
         [[replication.source]]\nregion = \"us\"\njournal = \"wal://127.0.0.1:1\"\n"
    );
    std::fs::write(directory.path().join("sidecar.toml"), config).expect("written");
    directory
}

fn run(place: &tempfile::TempDir, line: &str) -> Output {
    std::process::Command::new(binary())
        .args(line.split(' '))
        .current_dir(place.path())
        .output()
        .expect("run the binary")
}

#[test]
fn errors_say_what_to_do() {
    let redis = Redis::start();
    let url = redis.url();
    let replicator = place(&url, "[\"replicator\"]");
    let proxy = place(&url, "[\"proxy\"]");
    let nowhere = format!("redis://127.0.0.1:{}", free_port());
    let away = place(&nowhere, "[\"replicator\"]");
    let own = format!("verify --with {url}");
    let unreachable = format!("verify --with {nowhere}");
    let repair = format!("{unreachable} --repair");
    for (place, line, code, expected) in [
        (
            &replicator,
            "replicate --bootstrap",
            1,
            "start one with roles = [\"replicator\"]",
        ),
        (
            &replicator,
            "replicate --bootstrap --cancel",
            1,
            "nothing to cancel",
        ),
        (&replicator, "replicate", 2, "--bootstrap"),
        (&replicator, "replicate --bootstrap --rate 0", 2, "--rate"),
        (
            &replicator,
            "replicate --bootstrap --namespace x",
            2,
            "no namespace \"x\"",
        ),
        (
            &proxy,
            "replicate --bootstrap",
            2,
            "has no role \"replicator\"",
        ),
        (&away, "replicate --bootstrap", 1, "unreachable"),
        (&replicator, "verify", 2, "--with"),
        (&replicator, &own, 2, "is this region's own datastore"),
        (&replicator, &unreachable, 1, "unreachable"),
        (
            &replicator,
            &repair,
            1,
            "no replicator leads namespace sessions",
        ),
        (&proxy, &repair, 2, "has no role \"replicator\""),
        (
            &replicator,
            "verify --with redis://:hush@h:1",
            2,
            "--password-file",
        ),
        (
            &replicator,
            "verify --with redis://h:1 --password-file none",
            2,
            "read none: No such",
        ),
        (
            &replicator,
            "verify --with redis://h:1 --password-env NONE",
            2,
            "NONE is not set",
        ),
        (
            &replicator,
            "verify --with memcached://h:1",
            2,
            "is of redis, the other",
        ),
        (
            &replicator,
            "verify --with redis://h:1 --with redis://h:2",
            2,
            "has one datastore",
        ),
        (&replicator, "verify --with other.toml", 2, "other.toml"),
        (
            &replicator,
            "verify --with redis://h:1 --sample 0",
            2,
            "a percentage above 0",
        ),
        (
            &replicator,
            "verify --with redis://h:1 --settle=-1",
            2,
            "--settle",
        ),
    ] {
        let output = run(place, line);
        let said = text(&output.stderr);
        assert!(said.contains(expected), "{line}: {said}");
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(!said.contains("hush"), "{said}");
    }
    let status = run(&replicator, "replicate --bootstrap --status");
    assert_eq!(text(&status.stdout), "nobody has asked for it\n");
    assert_eq!(status.status.code(), Some(0));
}
