//! Ordinary clients, straight to Redis and through the sidecar in both
//! connection modes: what works without it has to work with it.
//!
//! redis-cli and redis-benchmark come with redis-server. The client libraries
//! are installed by `scripts/test`, which then runs the ignored tests as well.

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Redis, Sidecar, SidecarOptions};

/// The ways a client reaches Redis; `direct` first, it is what to compare with.
const WAYS: &[&str] = &["direct", "shared", "dedicated"];

/// Runs `client` with the port of every way, each with a Redis of its own, and
/// gives its results in the order of `WAYS`.
fn every_way<T>(mut client: impl FnMut(&str, u16) -> T) -> Vec<T> {
    WAYS.iter()
        .map(|way| {
            let redis = Redis::start();
            if *way == "direct" {
                return client(way, redis.port());
            }
            let sidecar = Sidecar::with(SidecarOptions::new(&redis).connection(way));
            client(way, sidecar.port())
        })
        .collect()
}

/// Runs a suite every way and fails with the output of those that failed.
fn check_suite(title: &str, command: impl Fn() -> Command) {
    let failures: Vec<String> = every_way(|way, port| {
        let output = command()
            .env("REDIS_PORT", port.to_string())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{title}: {error}; scripts/test installs it"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Shown by the runner where it is asked for output, and by a failure.
        println!("{way}: {}", text.lines().last().unwrap_or("no output"));
        let complete = output.status.success() && text.contains(" passed, 0 failed");
        (!complete).then(|| {
            format!(
                "{title}, {way}: {}\n{text}{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )
        })
    })
    .into_iter()
    .flatten()
    .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn node(arguments: &'static [&'static str]) -> impl Fn() -> Command {
    move || {
        let mut command = Command::new("node");
        command
            .env("NODE_PATH", project(".cache/node/node_modules"))
            .current_dir(project("tests/clients/node"))
            .args(arguments);
        command
    }
}

#[test]
#[ignore = "needs redis-py, which scripts/test installs"]
fn redis_py() {
    check_suite("redis-py", || {
        let mut command = Command::new(project(".cache/python-client/bin/python"));
        command.arg(project("tests/clients/python/suite.py"));
        command
    });
}

#[test]
#[ignore = "needs node-redis, which scripts/test installs"]
fn node_redis_resp2() {
    check_suite("node-redis RESP2", node(&["node-redis.cjs", "2"]));
}

#[test]
#[ignore = "needs node-redis, which scripts/test installs"]
fn node_redis_resp3() {
    check_suite("node-redis RESP3", node(&["node-redis.cjs", "3"]));
}

#[test]
#[ignore = "needs ioredis, which scripts/test installs"]
fn ioredis() {
    check_suite("ioredis", node(&["ioredis.cjs"]));
}

#[test]
#[ignore = "needs go-redis, which scripts/test installs"]
fn go_redis() {
    check_suite("go-redis", || Command::new(project(".cache/go/suite")));
}

#[test]
#[ignore = "needs Jedis, which scripts/test installs"]
fn jedis() {
    check_suite("Jedis", || {
        let mut command = Command::new("java");
        command
            .arg("-cp")
            .arg(project(".cache/java/*"))
            .arg(project("tests/clients/java/Suite.java"));
        command
    });
}

/// Runs redis-cli with `input`; its output, both streams, and whether it succeeded.
fn redis_cli(port: u16, arguments: &[&str], input: &[u8]) -> (bool, String) {
    let mut child = Command::new("redis-cli")
        .args(["-h", "127.0.0.1", "-p", &port.to_string()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("redis-cli is installed with redis-server");
    let mut stdin = child.stdin.take().expect("input is piped");
    let input = input.to_vec();
    // On a thread: it may answer before it has read everything.
    let writer = std::thread::spawn(move || {
        // It closes its input early where it needs none.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("redis-cli ends");
    writer.join().expect("the writer does not panic");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// A conversation whose every reply is the same on an empty server.
const CONVERSATION: &[u8] = b"SET k v EX 1000\nGET k\nINCR k\nTYPE k\nLPUSH l a b c\nLRANGE l 0 -1\n\
HSET h f 1 g 2\nHGETALL h\nZADD z 1 a 2.5 b\nZRANGE z 0 -1 WITHSCORES\nSMEMBERS nothing\n\
MULTI\nSET t 1\nINCR t\nEXEC\nMULTI\nDISCARD\nEXEC\nWATCH t\nUNWATCH\nNOSUCH command\nGET\n\
EVAL \"return {1, 'two', {3}, false}\" 0\nXADD s 1-1 f v\nXRANGE s - +\nBLPOP l 1\nBLPOP empty 0.01\n\
CLIENT SETNAME cli\nCLIENT GETNAME\nSELECT 3\nGET k\nSELECT 0\nGET k\nOBJECT ENCODING k\n\
COMMAND COUNT\nSETRANGE text 5 x\nGET text\nPUBLISH nobody hears\nACL WHOAMI\nDBSIZE\nRESET\nPING\n";

#[test]
fn redis_cli_sees_the_same() {
    let transcripts = every_way(|_, port| {
        let mut transcript = vec![redis_cli(port, &[], CONVERSATION)];
        assert_eq!(
            redis_cli(port, &["FLUSHALL"], b""),
            (true, "OK\n".to_owned())
        );
        transcript.push(redis_cli(port, &["-3"], CONVERSATION));
        transcript.push(redis_cli(
            port,
            &["-x", "SET", "from-input"],
            &[0, 255, 13, 10],
        ));
        transcript.push(redis_cli(port, &["--no-raw", "GET", "from-input"], b""));
        transcript.push(redis_cli(port, &["-r", "3", "-i", "0", "INCR", "n"], b""));
        let mut sorted = redis_cli(port, &["--scan", "--pattern", "*"], b"");
        let mut names: Vec<&str> = sorted.1.lines().collect();
        names.sort_unstable();
        sorted.1 = names.join("\n");
        transcript.push(sorted);
        transcript
    });
    for (way, transcript) in WAYS.iter().zip(&transcripts).skip(1) {
        for (got, direct) in transcript.iter().zip(&transcripts[0]) {
            assert_eq!(got, direct, "{way}");
        }
    }
}

#[test]
fn redis_cli_inserts_in_bulk() {
    let mut commands = Vec::new();
    for i in 0..20_000 {
        let value = i.to_string();
        commands.extend(support::resp::encode(&[
            "SET",
            &format!("bulk:{i}"),
            &value,
        ]));
    }
    every_way(|way, port| {
        let (success, text) = redis_cli(port, &["--pipe"], &commands);
        assert!(success, "{way}: {text}");
        assert!(text.contains("errors: 0, replies: 20000"), "{way}: {text}");
        assert_eq!(redis_cli(port, &["DBSIZE"], b"").1, "20000\n", "{way}");
    });
}

/// The names of the tests redis-benchmark ran to their end.
fn benchmark(port: u16, arguments: &[&str]) -> Vec<String> {
    let output = Command::new("redis-benchmark")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "--csv",
            "-n",
            "2000",
        ])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("redis-benchmark is installed with redis-server");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}\n{errors}");
    // Advice for `-k 0`, not an error.
    let advice = |line: &&str| line.starts_with("WARNING: Keepalive disabled");
    let errors: Vec<&str> = errors.lines().filter(|line| !advice(line)).collect();
    assert!(errors.is_empty(), "{errors:?} after {text}");
    text.lines()
        .filter_map(|line| Some(line.strip_prefix('"')?.split_once('"')?.0.to_owned()))
        .collect()
}

#[test]
fn redis_benchmark_runs_to_its_end() {
    let variants: &[&[&str]] = &[
        &[],
        &["-P", "16"],
        &["-c", "200", "-t", "get,set,lpush,lpop"],
        // Past every buffer a proxy starts with.
        &["-d", "100000", "-t", "get,set"],
        // Every command on a connection of its own.
        &["-k", "0", "-t", "get,set"],
    ];
    let names = every_way(|_, port| {
        variants
            .iter()
            .flat_map(|variant| benchmark(port, variant))
            .collect::<Vec<String>>()
    });
    assert!(names[0].len() > 40, "{:?}", names[0]);
    for (way, names_through) in WAYS.iter().zip(&names).skip(1) {
        assert_eq!(names_through, &names[0], "{way}");
    }
}
