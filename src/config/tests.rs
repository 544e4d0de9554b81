use super::*;
use std::collections::BTreeMap;

const SAMPLE: &str = include_str!("../../sidecar.toml");
const MINIMAL: &str = "region = \"a\"\n[[namespace]]\nname = \"n\"\n\
                       listen = \"127.0.0.1:1\"\nupstream = \"redis://h\"\n";

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let environment: Environment = variables.iter().copied().collect();
    let parsed = Config::parse(text, Path::new("sidecar.toml"), &environment);
    parsed.map_err(|error| error.to_string())
}

fn parse(text: &str) -> Result<Config, String> {
    parse_with(text, &[])
}

/// The sample with every commented key in force, but those of which there
/// are two, or which have no default.
fn sample_with_defaults() -> String {
    let is_key = |line: &str| {
        let name = line.split(" = ").next().unwrap_or_default();
        let lower = |c: char| c.is_ascii_lowercase() || c == '_';
        line.contains(" = ") && !name.is_empty() && name.chars().all(lower)
    };
    let tables = [
        "# [[namespace.prefix]]",
        "# [[namespace.replica]]",
        "# [[replication.source]]",
    ];
    let mut in_prefix = false;
    let mut text = String::new();
    for line in SAMPLE.lines() {
        in_prefix = (in_prefix || tables.contains(&line)) && !line.starts_with('[');
        let without_default = ["hard_cap_bytes", "upstream_", "brokers", "serve"];
        let key = line.strip_prefix("# ").filter(|line| is_key(line));
        let key = key.filter(|key| !without_default.iter().any(|name| key.starts_with(name)));
        match key {
            Some(key) if !in_prefix => text += key,
            _ => text += line,
        }
        text += "\n";
    }
    text
}

#[test]
fn the_sample_documents_the_defaults() {
    let sample = parse(SAMPLE).unwrap();
    let explicit = sample_with_defaults();
    assert_eq!(parse(&explicit).unwrap(), sample);
    assert!(sample.warnings.is_empty());
    assert_eq!(sample.namespaces[0].listen[0].to_string(), "127.0.0.1:6380");
    assert_eq!(
        sample.namespaces[0].upstream.to_string(),
        "redis://127.0.0.1:6379"
    );
    let minimal = parse(MINIMAL).unwrap();
    assert_eq!(minimal.journal, sample.journal);
    assert_eq!(
        minimal.namespaces[0].request_timeout,
        Duration::from_secs(5)
    );

    // Every key is there, in its section.
    let mut sections: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut section = "";
    for line in SAMPLE
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or(line))
    {
        if line.starts_with('[') {
            section = line;
        } else if let Some((key, _)) = line.split_once(" = ") {
            sections.entry(section).or_default().push(key);
        }
    }
    for (header, keys) in [
        ("", &file::ROOT),
        ("[journal]", &file::JOURNAL),
        ("[journal.kafka]", &kafka::KAFKA),
        ("[[namespace]]", &file::NAMESPACE),
        ("[[namespace.replica]]", &file::REPLICA),
        ("[[namespace.prefix]]", &file::PREFIX),
        ("[replication]", &replication::REPLICATION),
        ("[[replication.source]]", &replication::SOURCE),
        ("[admin]", &file::ADMIN),
        ("[log]", &file::LOG),
    ] {
        for key in keys.known {
            let is_section =
                SAMPLE.contains(&format!("[{key}]")) || SAMPLE.contains(&format!(".{key}]"));
            let is_there = sections[header].contains(key) || is_section;
            assert!(is_there, "{header} {key} is not in the sample");
        }
    }
}

#[test]
fn every_error_is_reported_at_once() {
    let text = r#"regoin = "a"
roles = ["proxy", "replicator", "poxy"]
workers = 0
drain_timeout = 30

[journal]
backend = "kafka"
segment_bytes = "64MB"
retention_bytes = "1MiB"
hard_cap_bytes = "512KiB"
serve = "127.0.0.1:9901"

[[namespace]]
name = "Sessions"
protocol = "memcache"
listen = ["127.0.0.1:6380", "6381"]
upstream = "redis://:hush@127.0.0.1:0"
durability = "durible"
on_journal_unavailable = "spool"
request_timeout = "0s"
clientlimit = 5

[[namespace]]
name = "b"
upstream = "redis://app@127.0.0.1:6380"
listen = "127.0.0.1:6380"
upstream_password = { file = "/nowhere/hush" }

  [[namespace.prefix]]
  prefix = ""
  durability = true

  [[namespace.prefix]]
  prefix = "x"

[[namespace]]
name = "b"
listen = "0.0.0.0:9900"
value_bytes_max = "1TiB"

[[replication.source]]
region = "b"

[log]
level = "verbose"
format = "Json"
"#;
    let expected = r#"
sidecar.toml:1: regoin: unknown key (did you mean "region"?)
sidecar.toml:1: region: missing; for example region = "us-east-1"
sidecar.toml:2: roles[2]: expected one of proxy, replicator, found "poxy" (did you mean "proxy"?)
sidecar.toml:3: workers: expected a whole number from 1 to 256, found the integer 0
sidecar.toml:4: drain_timeout: expected a duration such as "250ms", "5s", "1h" or "1m30s", found the integer 30 without a unit ("30s" or "30ms"?)
sidecar.toml:6: journal.brokers: missing; for example brokers = "kafka:9092"
sidecar.toml:8: journal.segment_bytes: expected a size such as "64MiB", "4GiB" or a number of bytes, found "64MB" (did you mean "64MiB"?)
sidecar.toml:10: journal.hard_cap_bytes: expected at least journal.retention_bytes (1MiB), found 512KiB
sidecar.toml:11: journal.serve: a journal in Kafka is not served: replicators read its topics
sidecar.toml:14: namespace[0].name: expected 1 to 64 of a-z, 0-9 and "-", found "Sessions"
sidecar.toml:15: namespace[0].protocol: expected one of redis, memcached, found "memcache" (did you mean "memcached"?)
sidecar.toml:16: namespace[0].listen[1]: expected an address such as "127.0.0.1:6380" or "unix:/path", found "6381" (did you mean "127.0.0.1:6381"?)
sidecar.toml:17: namespace[0].upstream: expected host:port, found "127.0.0.1:0"
sidecar.toml:18: namespace[0].durability: expected one of durable, enqueued, off, found "durible" (did you mean "durable"?)
sidecar.toml:20: namespace[0].request_timeout: expected a duration from 1ms to 1d, found "0s"
sidecar.toml:21: namespace[0].clientlimit: unknown key (did you mean "client_limit"?)
sidecar.toml:26: namespace[1].listen: 127.0.0.1:6380 is taken by namespace[0].listen
sidecar.toml:26: namespace[1].listen: 127.0.0.1:6380 is the namespace's own upstream
sidecar.toml:27: namespace[1].upstream_password: cannot read the secret's file "/nowhere/hush": No such file or directory (os error 2)
sidecar.toml:30: namespace[1].prefix[0].prefix: expected how keys begin, found an empty text
sidecar.toml:31: namespace[1].prefix[0].durability: expected one of durable, enqueued, off, found the boolean true
sidecar.toml:34: namespace[1].prefix[1]: sets nothing; expected durability, on_journal_unavailable, replicate or replicate_ttl_min
sidecar.toml:36: namespace[2].upstream: missing; for example upstream = "redis://127.0.0.1:6379"
sidecar.toml:37: namespace[2].name: "b" is the name of namespace[1] too
sidecar.toml:38: namespace[2].listen: 0.0.0.0:9900 is taken by admin.listen's default
sidecar.toml:39: namespace[2].value_bytes_max: expected a size from 1KiB to 512MiB, found "1TiB"
sidecar.toml:41: replication.source[0].journal: missing; for example journal = "wal://host:9901"
sidecar.toml:45: log.level: expected one of error, warn, info, debug, trace, found "verbose"
sidecar.toml:46: log.format: expected one of text, json, found "Json" (did you mean "json"?)
"#;
    let found = parse(text).unwrap_err();
    assert_eq!(found, expected.trim(), "\n--- found:\n{found}\n");
}

#[test]
fn single_errors() {
    let namespace =
        "[[namespace]]\nname = \"n\"\nlisten = \"127.0.0.1:1\"\nupstream = \"redis://h\"\n";
    let root = |line: &str| format!("region = \"a\"\n{line}\n{namespace}");
    let in_namespace = |line: &str| format!("{MINIMAL}{line}\n");
    for (text, expected) in [
        (
            "region = \"a\"\n".to_owned(),
            "sidecar.toml:1: namespace: missing; at least one",
        ),
        (
            root("namespace = []").replace(namespace, ""),
            "sidecar.toml:2: namespace: missing;",
        ),
        (
            MINIMAL.replace("[[namespace]]", "[namespace]"),
            "sidecar.toml:2: namespace: expected a list of tables, [[namespace]], found [namespace]",
        ),
        (
            root("journal = 3"),
            "sidecar.toml:2: journal: expected a table, [journal], found the integer 3",
        ),
        (
            root("roles = []"),
            "sidecar.toml:2: roles: expected at least one value",
        ),
        (
            root("workers = \"2\""),
            "sidecar.toml:2: workers: expected a whole number from 1 to 256, found \"2\"",
        ),
        (root("workers = -1"), "found the integer -1"),
        (root("workers = = 2"), "sidecar.toml:2: column 11: "),
        (
            root("region = \"b\""),
            "sidecar.toml:2: column 1: duplicate key",
        ),
        (
            root("journal.segment_bytes = \"8GiB\""),
            "sidecar.toml:2: journal.segment_bytes: expected a size from 4KiB to 2GiB",
        ),
        (
            root("journal.retention_bytes = \"1MiB\""),
            "sidecar.toml:2: journal.retention_bytes: expected at least journal.segment_bytes (64MiB), found 1MiB",
        ),
        (
            root("admin.listen = \"127.0.0.1:1\""),
            "sidecar.toml:2: admin.listen: 127.0.0.1:1 is taken by namespace[0].listen",
        ),
        (
            root("admin = { lisetn = 1 }"),
            "sidecar.toml:2: admin.lisetn: unknown key (did you mean \"listen\"?)",
        ),
        (
            root("journal.brokers = \"kafka\""),
            "sidecar.toml:2: journal.brokers: expected \"host:port\", found \"kafka\"",
        ),
        (
            root("journal.kafka.topic = \"a b\""),
            "sidecar.toml:2: journal.kafka.topic: expected 1 to 249 of a-z",
        ),
        (
            root("journal.kafka.partition = 3"),
            "sidecar.toml:2: journal.kafka.partition: unknown key (did you mean \"partitions\"?)",
        ),
        (
            root("journal.kafka.create_topics = 1"),
            "sidecar.toml:2: journal.kafka.create_topics: expected true or false, found the integer 1",
        ),
        (
            root("journal.kafka.properties.acks = 1"),
            "sidecar.toml:2: journal.kafka.properties.\"acks\": is always all",
        ),
        (
            root("[journal.kafka.properties]\n\"message.timeout.ms\" = 5"),
            "sidecar.toml:3: journal.kafka.properties.\"message.timeout.ms\": give journal.kafka.timeout",
        ),
        (
            root("journal = { backend = \"kafka\", brokers = \"k:1\", kafka = { topic = \"t\" } }")
                + &namespace.replace("\"n\"", "\"m\"").replace(":1\"", ":2\""),
            "sidecar.toml:2: journal.kafka.topic: expected {namespace} in it",
        ),
        (
            in_namespace("on_journal_unavailable = \"spool\""),
            "sidecar.toml:6: namespace[0].on_journal_unavailable: \"spool\" keeps writes for Kafka; \
             the journal's backend is \"local\"",
        ),
        (
            in_namespace("[[namespace.prefix]]\nprefix=\"a\"\non_journal_unavailable=\"spool\""),
            "sidecar.toml:8: namespace[0].prefix[0].on_journal_unavailable: expected \"spool\" in the namespace too",
        ),
        (
            in_namespace("upstream_user = \"u\""),
            "a user is given without a password",
        ),
        (
            in_namespace("upstream_password = 5"),
            "expected a text, { file = \"...\" } or { env = \"...\" }",
        ),
        (
            in_namespace("upstream_password = { env = \"X\" }"),
            "sidecar.toml:6: namespace[0].upstream_password: the variable X is not set",
        ),
        (
            in_namespace("upstream_password = \"\""),
            "upstream_password: is empty",
        ),
        (
            in_namespace("protocol = \"memcached\""),
            "namespace[0].upstream: redis://h:6379 is not of the namespace's protocol, \"memcached\"",
        ),
        (
            in_namespace("").replace("\"redis://h\"", "[\"redis://h\", \"redis://i\"]"),
            "namespace[0].upstream: a Redis namespace has one datastore",
        ),
        (
            in_namespace("protocol = \"memcached\"")
                .replace("\"redis://h\"", "[\"memcached://h\", \"memcached://h\"]"),
            "namespace[0].upstream: memcached://h:11211 is given twice",
        ),
        (
            in_namespace("[[namespace.replica]]\nupstream = \"redis://i\""),
            "namespace[0].replica: zones are for memcached",
        ),
        (
            in_namespace("upstream_password = \"p\"").replace("redis://h", "redis://:q@h"),
            "sidecar.toml:6: namespace[0].upstream_password: is in the URL of upstream too",
        ),
        (
            in_namespace(
                "[[namespace.prefix]]\nprefix=\"a\"\ndurability=\"off\"\n[[namespace.prefix]]\nprefix=\"a\"\ndurability=\"off\"",
            ),
            "sidecar.toml:10: namespace[0].prefix[1].prefix: \"a\" is given twice",
        ),
    ] {
        let found = parse(&text).unwrap_err();
        assert!(found.contains(expected), "{text}\n{found}");
        assert_eq!(found.lines().count(), 1, "{text}\n{found}");
    }
}

#[test]
fn variables_override_the_file() {
    let config = parse_with(
        &format!("{MINIMAL}[[namespace]]\nname = \"two-b\"\nlisten = \"127.0.0.1:2\"\nupstream = \"redis://h\"\n"),
        &[
            ("WAL_SIDECAR_CONFIG", "elsewhere.toml"),
            ("WAL_SIDECAR_REGION", "eu"),
            ("WAL_SIDECAR_WORKERS", "3"),
            ("WAL_SIDECAR_JOURNAL_RETENTION_BYTES", "8GiB"),
            ("WAL_SIDECAR_NAMESPACE_N_LISTEN", "127.0.0.1:7, unix:/x"),
            ("WAL_SIDECAR_NAMESPACE_TWO_B_UPSTREAM", "redis://two:1"),
            ("WAL_SIDECAR_NAMESPACE_TWO_B_UPSTREAM_PASSWORD", "hush"),
            ("WAL_SIDECAR_LOG_LEVEL", "debug"),
            ("WAL_SIDECAR_PORT_9900_TCP_ADDR", "10.0.0.1"),
            ("WAL_SIDECAR_SERVICE_HOST", "10.0.0.1"),
            ("OTHER", "x"),
        ],
    )
    .unwrap();
    assert_eq!((config.region.as_str(), config.workers), ("eu", 3));
    assert_eq!(config.journal.retention_bytes, 8 << 30);
    assert_eq!(config.namespaces[0].listen.len(), 2);
    assert_eq!(config.namespaces[1].upstream.to_string(), "redis://two:1");
    let password = config.namespaces[1].upstream.first().password.as_ref();
    assert_eq!(password.map(Secret::expose), Some("hush"));
    assert_eq!(config.log.level, LogLevel::Debug);
}

#[test]
fn wrong_variables_are_named() {
    for (name, value, expected) in [
        (
            "WAL_SIDECAR_REGION",
            "",
            "WAL_SIDECAR_REGION: region: expected 1 to 64",
        ),
        (
            "WAL_SIDECAR_WORKERS",
            "x",
            "WAL_SIDECAR_WORKERS: workers: expected a whole number",
        ),
        (
            "WAL_SIDECAR_NAMESPACE_N_DURABILITY",
            "of",
            "WAL_SIDECAR_NAMESPACE_N_DURABILITY: namespace[0].durability: expected one of \
             durable, enqueued, off, found \"of\" (did you mean \"off\"?)",
        ),
        (
            "WAL_SIDECAR_REGOIN",
            "a",
            "WAL_SIDECAR_REGOIN: no setting can be overridden by this variable \
             (did you mean \"WAL_SIDECAR_REGION\"?)",
        ),
        (
            "WAL_SIDECAR_NAMESPACE_OTHER_LISTEN",
            "a",
            "WAL_SIDECAR_NAMESPACE_OTHER_LISTEN: no setting",
        ),
        (
            "WAL_SIDECAR_NAMESPACE_N_NAME",
            "a",
            "WAL_SIDECAR_NAMESPACE_N_NAME: no setting",
        ),
        (
            "WAL_SIDECAR_JOURNAL",
            "a",
            "WAL_SIDECAR_JOURNAL: no setting",
        ),
        (
            "WAL_SIDECAR_ADMIN_LISTEN",
            "127.0.0.1:1",
            "WAL_SIDECAR_ADMIN_LISTEN: admin.listen: 127.0.0.1:1 is taken by namespace[0].listen",
        ),
    ] {
        let found = parse_with(MINIMAL, &[(name, value)]).unwrap_err();
        assert!(found.starts_with(expected), "{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn a_variable_repairs_what_the_file_lacks() {
    let text = MINIMAL.replace("region = \"a\"\n", "");
    assert!(parse(&text).is_err());
    assert!(parse_with(&text, &[("WAL_SIDECAR_REGION", "a")]).is_ok());
}

#[test]
fn secrets_come_from_files_and_variables_and_are_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "hush\n").unwrap();
    let text = format!(
        "{MINIMAL}upstream_user = {{ env = \"WAL_SIDECAR_USER\" }}\n\
         upstream_password = {{ file = {file:?} }}\n"
    );
    let config = parse_with(&text, &[("WAL_SIDECAR_USER", "secretary")]).unwrap();
    let upstream = config.namespaces[0].upstream.first();
    assert_eq!(
        upstream.user.as_ref().map(Secret::expose),
        Some("secretary")
    );
    assert_eq!(upstream.password.as_ref().map(Secret::expose), Some("hush"));
    let shown = [
        format!("{config:?}"),
        config.to_redacted_json(),
        config.to_redacted_toml(),
    ];
    for text in shown {
        assert!(
            !text.contains("hush") && !text.contains("secretary"),
            "{text}"
        );
        assert!(text.contains("<redacted>"), "{text}");
    }
}

#[test]
fn what_is_shown_can_be_read_again() {
    let text = format!(
        "{MINIMAL}[[namespace.prefix]]\nprefix = \"a\"\ndurability = \"off\"\n\
         [[namespace.prefix]]\nprefix = \"ab\"\non_journal_unavailable = \"bypass\"\n\
         [journal]\nhard_cap_bytes = \"5GiB\"\nretention_age = \"90s\"\n"
    );
    let config = parse(&text).unwrap();
    let prefixes = &config.namespaces[0].prefixes;
    assert_eq!(
        (prefixes[0].prefix.as_str(), prefixes[1].prefix.as_str()),
        ("ab", "a")
    );
    assert_eq!(prefixes[0].durability, Durability::Durable);
    assert_eq!(parse(&config.to_redacted_toml()).unwrap(), config);
    let json: serde_json::Value = serde_json::from_str(&config.to_redacted_json()).unwrap();
    assert_eq!(json["namespace"][0]["upstream"], "redis://h:6379");
    assert_eq!(json["journal"]["retention_age"], "90s");
}

#[test]
fn properties_are_passed_through_and_their_secrets_are_not_shown() {
    let text = format!(
        "{MINIMAL}[journal]\nbackend = \"kafka\"\nbrokers = [\"a:1,b:2\", \"c:3\"]\n\
         [journal.kafka.properties]\n\"sasl.username\" = \"user\"\n\
         \"sasl.password\" = \"hush\"\n\"ssl.key.location\" = {{ env = \"KEY\" }}\n\
         \"socket.keepalive.enable\" = true\n\"linger.ms\" = 0.5\n"
    );
    let config = parse_with(
        &text,
        &[("KEY", "hush"), ("WAL_SIDECAR_JOURNAL_KAFKA_TOPIC", "t")],
    );
    let config = config.unwrap();
    assert_eq!(config.journal.brokers, ["a:1", "b:2", "c:3"]);
    assert_eq!(config.topic("n"), "t");
    assert_eq!(
        parse(&text.replace("env", "file").replace("KEY", "/dev/null")).unwrap_err(),
        "sidecar.toml:12: journal.kafka.properties.ssl.key.location: is empty"
    );
    let properties = config.journal.kafka.properties.iter();
    let properties: Vec<_> = properties
        .map(|one| (one.name.as_str(), one.value.expose()))
        .collect();
    assert_eq!(
        properties,
        [
            ("sasl.username", "user"),
            ("sasl.password", "hush"),
            ("ssl.key.location", "hush"),
            ("socket.keepalive.enable", "true"),
            ("linger.ms", "0.5"),
        ]
    );
    for shown in [
        format!("{config:?}"),
        config.to_redacted_json(),
        config.to_redacted_toml(),
    ] {
        assert!(!shown.contains("hush"), "{shown}");
    }
    assert!(
        config
            .to_redacted_toml()
            .contains("\"sasl.username\" = \"user\"")
    );
    let local = text
        .replace("backend = \"kafka\"", "")
        .replace("{ env = \"KEY\" }", "1");
    let warnings = parse(&local).unwrap().warnings;
    assert_eq!(
        warnings[0].message,
        "has no effect with backend = \"local\""
    );
}

#[test]
fn doubtful_settings_are_warnings() {
    let text =
        format!("{MINIMAL}[journal]\nbackend = \"memory\"\n[admin]\nlisten = \"0.0.0.0:9900\"\n");
    let config = parse(&text.replace("127.0.0.1:1", "0.0.0.0:1")).unwrap();
    let lines = config.warning_lines(Path::new("s.toml"));
    let expected = [
        "s.toml:4: namespace[0].listen: 0.0.0.0:1 can be reached from other machines",
        "s.toml:7: journal.backend: the journal is lost when the process ends",
        "s.toml:9: admin.listen: 0.0.0.0:9900 can be reached from other machines",
    ];
    assert_eq!(lines.len(), expected.len());
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn a_missing_file_says_how_to_give_one() {
    let error = Config::load(Path::new("/nowhere/sidecar.toml"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nowhere/sidecar.toml") && error.contains("--config"),
        "{error}"
    );
}
