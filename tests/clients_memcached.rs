//! Ordinary clients of memcached, straight to it and through the sidecar: what
//! works without it has to work with it.
//!
//! The libraries are installed by `scripts/test`, which then runs these tests.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Memcached, Sidecar, SidecarOptions};

/// Runs a suite straight against a server, through the sidecar, and through it
/// against three servers that share the keys.
fn check_suite(title: &str, command: impl Fn() -> Command) {
    let direct = Memcached::start();
    let one = [Memcached::start()];
    let three = [Memcached::start(), Memcached::start(), Memcached::start()];
    let through = Sidecar::with(SidecarOptions::memcached(&one));
    let ring = Sidecar::with(SidecarOptions::memcached(&three));
    let ways = [
        ("direct", direct.port()),
        ("through", through.port()),
        ("ring", ring.port()),
    ];
    let failures: Vec<String> = ways
        .iter()
        .filter_map(|(way, port)| {
            let mut command = command();
            run(
                &format!("{title}, {way}"),
                command.env("MEMCACHED_PORT", port.to_string()),
            )
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Runs a suite; what it printed if it failed.
fn run(title: &str, command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{title}: {error}; scripts/test installs it"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{title}: {}", text.lines().last().unwrap_or("no output"));
    let complete = output.status.success() && text.contains(" passed, 0 failed");
    (!complete).then(|| {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        format!("{title}: {}\n{text}{errors}", output.status)
    })
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn python(script: &str) -> Command {
    let mut command = Command::new(project(".cache/python-memcached/bin/python"));
    command.arg(project("tests/clients/memcached/python").join(script));
    command
}

fn java(libraries: &str, source: &str) -> Command {
    let mut command = Command::new("java");
    command
        .arg("-cp")
        .arg(project(".cache").join(libraries).join("*"))
        .arg(project("tests/clients/memcached").join(source));
    command
}

#[test]
#[ignore = "needs pymemcache and pylibmc, which scripts/test installs"]
fn pymemcache_and_pylibmc() {
    check_suite("pymemcache and pylibmc", || python("suite.py"));
}

#[test]
#[ignore = "needs pylibmc, which scripts/test installs"]
fn keys_are_where_libmemcached_puts_them() {
    let servers = [Memcached::start(), Memcached::start(), Memcached::start()];
    let sidecar = Sidecar::with(SidecarOptions::memcached(&servers));
    let ports: Vec<String> = servers.iter().map(|one| one.port().to_string()).collect();
    let mut command = python("ring.py");
    command
        .env("MEMCACHED_PORT", sidecar.port().to_string())
        .env("MEMCACHED_SERVERS", ports.join(","));
    let failure = run("placement", &mut command);
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
}

#[test]
#[ignore = "needs memjs and memcached, which scripts/test installs"]
fn memjs_and_node_memcached() {
    check_suite("memjs and memcached for Node", || {
        let mut command = Command::new("node");
        command
            .env("NODE_PATH", project(".cache/memcached-node/node_modules"))
            .arg(project("tests/clients/memcached/node/suite.cjs"));
        command
    });
}

#[test]
#[ignore = "needs gomemcache, which scripts/test installs"]
fn gomemcache() {
    check_suite("gomemcache", || {
        Command::new(project(".cache/memcached-go/suite"))
    });
}

#[test]
#[ignore = "needs spymemcached, which scripts/test installs"]
fn spymemcached() {
    check_suite("spymemcached", || java("memcached-java", "java/Suite.java"));
}

#[test]
#[ignore = "needs the EVCache client, which scripts/test installs"]
fn evcache() {
    check_suite("EVCache", || {
        java("memcached-evcache", "evcache/EVCacheSuite.java")
    });
}

#[test]
#[ignore = "needs libmemcached's tools, which scripts/test installs"]
fn libmemcached_tools() {
    check_suite("libmemcached's tools", || {
        Command::new(project("tests/clients/memcached/tools.sh"))
    });
}
