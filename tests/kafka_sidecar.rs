//! A sidecar in front of Redis that journals to a broker, and what is to be
//! seen of its journal.

mod support;

use std::collections::HashSet;
use std::process::Output;
use std::time::{Duration, Instant};

use wal_sidecar::mutation::v1::record::Body;

use support::topic::{self, Entry};
use support::{Kafka, Redis, Sidecar, SidecarOptions, until};

const TOPIC: &str = "wal-sidecar.test.test";
const DEADLINE: Duration = Duration::from_secs(60);

fn options(redis: &Redis, kafka: &Kafka, backend: &str) -> SidecarOptions {
    SidecarOptions::new(redis)
        .backend(backend)
        .journal(&format!("brokers = {:?}", kafka.bootstrap()))
        .journal("[journal.kafka]\npartitions = 4\nreplication_factor = 1\ntimeout = \"2s\"")
}

fn text(output: &Output) -> String {
    let (out, errors) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(&[&out[..], &errors[..]].concat()).into_owned()
}

fn json(output: &Output) -> Vec<serde_json::Value> {
    let lines = std::str::from_utf8(&output.stdout).expect("JSON is text");
    let lines = lines.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("each line is JSON")
}

/// The mutations in the topic: key, and command with arguments.
fn mutations(partitions: &[Vec<Entry>]) -> Vec<(String, String)> {
    let of = |entry: &Entry| {
        let Some(Body::Mutation(mutation)) = &entry.record.body else {
            return None;
        };
        let key = entry.key.clone().unwrap_or_default();
        let words = mutation.commands.iter().flat_map(|one| &one.arguments);
        let words: Vec<_> = words.map(|word| String::from_utf8_lossy(word)).collect();
        Some((String::from_utf8(key).expect("text"), words.join(" ")))
    };
    partitions.iter().flatten().filter_map(of).collect()
}

#[test]
fn every_mutation_is_in_the_topic_under_its_key() {
    let (kafka, redis) = (Kafka::start(), Redis::start());
    let mut sidecar = Sidecar::with(options(&redis, &kafka, "kafka"));
    let mut client = sidecar.client();
    for (command, reply) in [
        (&["SET", "a", "1"][..], "+OK\r\n"),
        (&["INCR", "a"], ":2\r\n"),
        (&["GET", "a"], "$1\r\n2\r\n"),
        (&["SADD", "s", "m"], ":1\r\n"),
        (&["SPOP", "s"], "$1\r\nm\r\n"),
        (&["MSET", "b", "1", "c", "2"], "+OK\r\n"),
        (&["FLUSHALL"], "+OK\r\n"),
    ] {
        assert_eq!(client.command(command), reply.as_bytes());
    }
    let partitions = topic::read(&kafka.bootstrap(), TOPIC);
    assert_eq!(topic::check(&partitions), 0);
    let mut found = mutations(&partitions);
    found.sort();
    let pairs = [
        // In each partition, as it concerns all of them.
        ("", "FLUSHALL"),
        ("", "FLUSHALL"),
        ("", "FLUSHALL"),
        ("", "FLUSHALL"),
        ("a", "INCR a"),
        ("a", "SET a 1"),
        ("b", "MSET b 1 c 2"),
        ("s", "SADD s m"),
        ("s", "SPOP s"),
    ];
    let expected = pairs.map(|(key, command)| (key.to_owned(), command.to_owned()));
    assert_eq!(found, expected);

    assert!(sidecar.stop().success());
    let verified = sidecar.command(&["journal", "verify"]);
    assert!(verified.status.success(), "{}", text(&verified));
    assert!(text(&verified).starts_with("fine: "), "{}", text(&verified));
    let tail = json(&sidecar.command(&["journal", "tail", "--json"]));
    let kinds: HashSet<_> = tail.iter().map(|line| line["kind"].to_string()).collect();
    assert!(kinds.contains("\"mutation\"") && kinds.contains("\"outcome\""));
    let one = json(&sidecar.command(&["journal", "tail", "--json", "--partition", "2"]));
    let in_it = tail.iter().filter(|line| line["partition"] == 2);
    assert_eq!(one, in_it.cloned().collect::<Vec<_>>());
    let stats = &json(&sidecar.command(&["journal", "stats", "--json"]))[0];
    assert_eq!(stats["records"].as_u64(), Some(tail.len() as u64));
    assert_eq!(stats["partitions"].as_array().map(Vec::len), Some(4));
    let wrong = sidecar.command(&["journal", "tail", "--from", "5"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
}

#[test]
fn a_spool_survives_the_outage_and_the_sidecar() {
    let (mut kafka, redis) = (Kafka::start(), Redis::start());
    let mut sidecar = Sidecar::with(options(&redis, &kafka, "spool"));
    let mut written = Vec::new();
    let mut write = |sidecar: &Sidecar, count: usize| {
        let mut client = sidecar.client();
        for _ in 0..count {
            let id = format!("id:{}", written.len());
            let list = format!("list:{}", written.len() % 7);
            let reply = client.command(&["RPUSH", &list, &id]);
            assert_eq!(reply[0], b':', "{}", String::from_utf8_lossy(&reply));
            written.push(id);
        }
    };
    write(&sidecar, 200);
    kafka.kill(0);
    write(&sidecar, 500);
    sidecar.kill();
    sidecar.restart();
    write(&sidecar, 500);
    assert!(1_000.0 <= sidecar.metric("wal_sidecar_spool_records", ""));
    assert!(0.0 < sidecar.metric("wal_sidecar_spool_bytes", ""));
    assert!(0.0 < sidecar.metric("wal_sidecar_spool_disk_left_bytes", ""));
    // What reads the topic says that it can't.
    let started = Instant::now();
    let stats = sidecar.command(&["journal", "stats"]);
    assert_eq!(stats.status.code(), Some(1), "{}", text(&stats));
    assert!(
        text(&stats).contains(&kafka.bootstrap()),
        "{}",
        text(&stats)
    );
    assert!(started.elapsed() < Duration::from_secs(15));
    kafka.restart_all();
    write(&sidecar, 100);
    until("the spool to drain", DEADLINE, || {
        (sidecar.metric("wal_sidecar_spool_records", "") == 0.0).then_some(())
    });
    let partitions = topic::read(&kafka.bootstrap(), TOPIC);
    println!("{} copies", topic::check(&partitions));
    let journaled: HashSet<String> = mutations(&partitions).into_iter().map(|m| m.1).collect();
    for (number, id) in written.iter().enumerate() {
        let command = format!("RPUSH list:{} {id}", number % 7);
        assert!(journaled.contains(&command), "{command}");
    }
    let verified = sidecar.command(&["journal", "verify"]);
    assert!(verified.status.success(), "{}", text(&verified));
    assert!(sidecar.stop().success());
}

#[test]
fn what_is_wrong_is_said_at_the_start() {
    let (kafka, redis) = (Kafka::start(), Redis::start());
    let check = |lines: &str, code: i32, expected: &str| {
        let options = options(&redis, &kafka, "kafka").journal(lines);
        let ports = (support::process::free_port(), support::process::free_port());
        let output = Sidecar::failing(&options, ports.0, ports.1);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(expected), "{text}");
    };
    check(
        "create_topics = false",
        1,
        "find Kafka topic wal-sidecar.test.test",
    );
    check(
        "[journal.kafka.properties]\n\"linger.sm\" = 5",
        2,
        "No such configuration property: \"linger.sm\"",
    );
    let three = options(&redis, &kafka, "kafka");
    let three = SidecarOptions {
        journal_lines: three.journal_lines.replace("replication_factor = 1", ""),
        ..three
    };
    let ports = (support::process::free_port(), support::process::free_port());
    let output = text(&Sidecar::failing(&three, ports.0, ports.1));
    assert!(
        output.contains("set journal.kafka.replication_factor lower"),
        "{output}"
    );
}

#[test]
fn brokers_may_want_tls_and_to_know_who_it_is() {
    let (kafka, redis) = (Kafka::start_secured(), Redis::start());
    let certificate = kafka.certificate();
    let with = |mechanism: &str, password: &str| {
        let properties = match mechanism {
            "OAUTHBEARER" => "\"enable.sasl.oauthbearer.unsecure.jwt\" = true\n\
                 \"sasl.oauthbearer.config\" = \"principal=wal\""
                .to_owned(),
            _ => format!("\"sasl.username\" = \"wal\"\n\"sasl.password\" = \"{password}\""),
        };
        SidecarOptions::new(&redis)
            .backend("kafka")
            .journal(&format!("brokers = {:?}", kafka.secured_bootstrap()))
            .journal("[journal.kafka]\npartitions = 4\nreplication_factor = 1")
            .journal(&format!(
                "[journal.kafka.properties]\n\"security.protocol\" = \"SASL_SSL\"\n\
                 \"ssl.ca.location\" = {certificate:?}\n\"sasl.mechanism\" = \"{mechanism}\"\n\
                 {properties}"
            ))
    };
    for mechanism in ["PLAIN", "SCRAM-SHA-512", "OAUTHBEARER"] {
        let mut sidecar = Sidecar::with(with(mechanism, "hush"));
        let reply = sidecar.client().command(&["SET", "by", mechanism]);
        assert_eq!(reply, b"+OK\r\n", "{mechanism}");
        // Clients that are still being closed at the end don't make it crash.
        for _ in 0..10 {
            let verified = sidecar.command(&["journal", "verify"]);
            let said = text(&verified);
            assert!(verified.status.success(), "{:?} {said}", verified.status);
        }
        assert!(sidecar.stop().success());
    }
    let found = mutations(&topic::read(&kafka.bootstrap(), TOPIC));
    assert_eq!(found.len(), 3, "{found:?}");

    // A wrong password is said, and never shown.
    let sidecar = Sidecar::with_status(with("PLAIN", "not-the-password"), 503);
    let said = until("the log to say it", DEADLINE, || {
        let lines = sidecar.lines().join("\n");
        lines.contains("uthentication failed").then_some(lines)
    });
    assert!(!said.contains("not-the-password"));
    let reply = sidecar.client().command(&["SET", "a", "b"]);
    assert!(reply.starts_with(b"-NOTJOURNALED"), "{reply:?}");
    let (_, config) = sidecar.admin("/config");
    assert!(!config.contains("not-the-password"), "{config}");
}
