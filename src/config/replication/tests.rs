use super::super::{Config, Environment, Replicate, Role, ServeTls};
use super::*;
use std::path::Path;

const MINIMAL: &str = "region = \"a\"\nroles = [\"proxy\", \"replicator\"]\n\
                       [[namespace]]\nname = \"n\"\nlisten = \"127.0.0.1:1\"\nupstream = \"redis://h\"\n";

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let environment: Environment = variables.iter().copied().collect();
    let parsed = Config::parse(text, Path::new("s.toml"), &environment);
    parsed.map_err(|error| error.to_string())
}

fn parse(text: &str) -> Result<Config, String> {
    parse_with(text, &[])
}

/// Lines of the first source.
fn source(lines: &str) -> String {
    format!("{MINIMAL}[[replication.source]]\n{lines}\n")
}

#[test]
fn sources_of_all_kinds() {
    let config = parse_with(
        &source(
            "region = \"eu\"\njournal = \"kafka://k:1,l:2\"\n\
             properties = { \"sasl.password\" = \"hush\", \"linger.ms\" = 5 }\n\
             [[replication.source]]\nregion = \"eu\"\njournal = \"kafka://k:1\"\n\
             topic = \"other.{namespace}\"\n\
             [[replication.source]]\nregion = \"us\"\njournal = \"wal://127.0.0.1:9901\"\n\
             token = { env = \"TOKEN\" }\n\
             [[replication.source]]\nregion = \"us\"\njournal = \"wals://[::1]:9901/\"\n\
             certificate_authority = \"ca.pem\"\n\
             [[replication.source]]\nregion = \"a\"\njournal = \"wals://host:9901\"\n\
             certificate_authority = \"ca.pem\"\nserver_name = \"sidecar\"",
        ),
        &[("TOKEN", "hush")],
    )
    .unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let sources = &config.replication.sources;
    assert_eq!(
        sources[0].topic("n").as_deref(),
        Some("wal-sidecar.eu.n"),
        "as the own topics are named"
    );
    assert_eq!(sources[1].topic("n").as_deref(), Some("other.n"));
    let SourceJournal::Kafka {
        brokers,
        properties,
        ..
    } = &sources[0].journal
    else {
        panic!("{:?}", sources[0]);
    };
    assert_eq!(brokers, &["k:1", "l:2"]);
    assert_eq!(properties[0].value.expose(), "hush");
    assert!(properties[0].is_secret && !properties[1].is_secret);
    let served = |index: usize| match &sources[index].journal {
        SourceJournal::Served(served) => served.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(served(2).address, "127.0.0.1:9901");
    assert_eq!(served(2).token.as_ref().map(Secret::expose), Some("hush"));
    assert_eq!(served(2).tls, None);
    let tls = |name: &str| SourceTls {
        certificate_authority: "ca.pem".into(),
        server_name: name.to_owned(),
    };
    assert_eq!(served(3).address, "[::1]:9901");
    assert_eq!(served(3).tls, Some(tls("::1")));
    assert_eq!(served(4).tls, Some(tls("sidecar")));
    for shown in [
        format!("{config:?}"),
        config.to_redacted_json(),
        config.to_redacted_toml(),
    ] {
        assert!(!shown.contains("hush"), "{shown}");
    }
    let toml = config.to_redacted_toml();
    for line in [
        "journal = \"kafka://k:1,l:2\"",
        "\"sasl.password\" = \"<redacted>\"",
        "journal = \"wals://[::1]:9901\"",
        "token = \"<redacted>\"",
    ] {
        assert!(toml.contains(line), "{line} is not in\n{toml}");
    }
}

#[test]
fn what_is_shown_can_be_read_again() {
    let text = source(
        "region = \"eu\"\njournal = \"kafka://k:1\"\nproperties = { \"linger.ms\" = \"5\" }\n\
         [[replication.source]]\nregion = \"us\"\njournal = \"wals://h:1\"\n\
         certificate_authority = \"ca\"\n\
         [replication]\nbatch_records = 7\nclock_skew_max = \"0s\"\nconflict_values = false\n\
         [journal]\nserve = \"127.0.0.1:2\"\nserve_certificate = \"c\"\nserve_key = \"k\"\n",
    );
    // A table can't be given after its elements.
    let (elements, table) = text.split_once("[replication]").unwrap();
    let (table, journal) = table.split_once("[journal]").unwrap();
    let (namespace, sources) = elements.split_once("[[replication.source]]").unwrap();
    let text =
        format!("{namespace}[replication]{table}[[replication.source]]{sources}[journal]{journal}");
    let config = parse(&text).unwrap();
    assert_eq!(config.replication.batch_records, 7);
    assert_eq!(parse(&config.to_redacted_toml()).unwrap(), config);
}

#[test]
fn single_errors() {
    let eu = |journal: &str| source(&format!("region = \"eu\"\njournal = {journal}"));
    let serve = |lines: &str| format!("{MINIMAL}[journal]\n{lines}\n");
    for (text, expected) in [
        (
            source("region = \"eu\""),
            "s.toml:7: replication.source[0].journal: missing; for example journal = \"wal://host:9901\"",
        ),
        (
            source("journal = \"wal://h:1\""),
            "s.toml:7: replication.source[0].region: missing; for example region = \"eu-west-1\"",
        ),
        (
            eu("\"wal://h:1\"\nregoin = 1"),
            "s.toml:10: replication.source[0].regoin: unknown key (did you mean \"region\"?)",
        ),
        (
            eu("9901"),
            "s.toml:9: replication.source[0].journal: expected \"kafka://",
        ),
        (
            eu("\"h:9901\""),
            "or \"wals://host:port\", found \"h:9901\"",
        ),
        (eu("\"http://h:1\""), "found the scheme \"http\""),
        (
            eu("\"wal://h\""),
            "journal: expected host:port, found \"h\"",
        ),
        (
            eu("\"kafka://k:1,l\""),
            "journal: expected host:port, found \"l\"",
        ),
        (
            eu("\"kafka://user:hush@k:1\""),
            "secrets are given as token or properties",
        ),
        (
            eu("\"wals://h:1\""),
            "s.toml:9: replication.source[0].certificate_authority: missing: wals:// trusts no",
        ),
        (
            eu("\"wal://h:1\"\ncertificate_authority = \"f\""),
            "s.toml:10: replication.source[0].certificate_authority: is for wals://, not for wal://h:1",
        ),
        (
            eu("\"wal://h:1\"\nserver_name = \"f\""),
            "s.toml:10: replication.source[0].server_name: is for wals://, not for wal://h:1",
        ),
        (
            eu("\"wal://h:1\"\ntopic = \"t\""),
            "s.toml:10: replication.source[0].topic: is for kafka://, not for wal://h:1",
        ),
        (
            eu("\"wal://h:1\"\nproperties = { a = 1 }"),
            "s.toml:10: replication.source[0].properties: is for kafka://, not for wal://h:1",
        ),
        (
            eu("\"kafka://k:1\"\ntoken = \"t\""),
            "s.toml:10: replication.source[0].token: is for wal:// and wals://, not for kafka://k:1",
        ),
        (
            eu("\"kafka://k:1\"\nproperties = { \"bootstrap.servers\" = \"k:1\" }"),
            "s.toml:10: replication.source[0].properties.\"bootstrap.servers\": give the brokers in the URL",
        ),
        (
            eu("\"wal://h:1\"\n[[replication.source]]\nregion = \"us\"\njournal = \"wal://h:1\""),
            "s.toml:12: replication.source[1].journal: wal://h:1 is given twice",
        ),
        (
            eu("\"wal://h:1\"\n[journal]\nbackend = \"memory\""),
            "s.toml:11: journal.backend: a replicator needs a journal that outlives the process",
        ),
        (
            eu("\"wal://127.0.0.1:7\"\n[journal]\nserve = \"127.0.0.1:7\""),
            "s.toml:9: replication.source[0].journal: is this process's own journal",
        ),
        (
            eu("\"kafka://k:1\"\n[journal]\nbackend = \"kafka\"\nbrokers = \"k:1\"")
                .replace("\"eu\"", "\"a\""),
            "s.toml:9: replication.source[0].journal: is this process's own journal",
        ),
        (
            format!("{MINIMAL}[replication]\nbatch_records = 0\n"),
            "s.toml:8: replication.batch_records: expected a whole number from 1 to 65536",
        ),
        (
            format!("{MINIMAL}[replication]\nprogress_interval = \"1ms\"\n"),
            "s.toml:8: replication.progress_interval: expected a duration from 10ms to 1m",
        ),
        (
            format!("{MINIMAL}replicate = \"on\"\n"),
            "s.toml:7: namespace[0].replicate: expected one of value, invalidate, off, found \"on\"",
        ),
        (
            format!("{MINIMAL}[[namespace.prefix]]\nprefix = \"x\"\nreplicate_ttl_min = 5\n"),
            "s.toml:9: namespace[0].prefix[0].replicate_ttl_min: expected a duration",
        ),
        (
            MINIMAL.replace("listen = \"127.0.0.1:1\"\n", ""),
            "s.toml:3: namespace[0].listen: missing; for example listen = \"127.0.0.1:6380\"",
        ),
        (
            serve("serve = \"9901\""),
            "s.toml:8: journal.serve: expected an address such as",
        ),
        (
            serve("serve_token = \"t\""),
            "s.toml:8: journal.serve_token: has no effect without journal.serve",
        ),
        (
            serve("serve = \"127.0.0.1:9\"\nserve_key = \"k\""),
            "s.toml:9: journal.serve_certificate: missing: certificate and key are given together",
        ),
        (
            serve("serve = \"127.0.0.1:9\"\nserve_certificate = \"k\""),
            "s.toml:9: journal.serve_key: missing: certificate and key are given together",
        ),
        (
            serve("serve = \"127.0.0.1:9\"\nserve_token = { file = \"/nowhere/t\" }"),
            "s.toml:9: journal.serve_token: cannot read the secret's file",
        ),
        (
            serve("serve = \"127.0.0.1:1\""),
            "s.toml:8: journal.serve: 127.0.0.1:1 is taken by namespace[0].listen",
        ),
        (
            serve("serve = \"127.0.0.1:9900\""),
            "s.toml:8: journal.serve: 127.0.0.1:9900 is taken by admin.listen's default",
        ),
        (
            serve("serve = \"127.0.0.1:9\"\nbackend = \"memory\"").replace(", \"replicator\"", ""),
            "s.toml:8: journal.serve: a journal in memory is not served",
        ),
    ] {
        let found = parse(&text).unwrap_err();
        assert!(found.contains(expected), "{text}\n{found}");
        assert_eq!(found.lines().count(), 1, "{text}\n{found}");
        assert!(!found.contains("hush"), "{found}");
    }
}

#[test]
fn doubtful_settings_are_warnings() {
    for (text, expected) in [
        (
            source("region = \"eu\"\njournal = \"wal://h:1\"\ntoken = \"t\""),
            "s.toml:10: replication.source[0].token: goes over the network unencrypted",
        ),
        (
            source("region = \"eu\"\njournal = \"wal://h:1\"")
                .replace("roles = [\"proxy\", \"replicator\"]\n", ""),
            "s.toml:7: replication.source[0]: has no effect without roles =",
        ),
        (
            format!("{MINIMAL}[journal]\nserve = \"0.0.0.0:9\"\n"),
            "s.toml:8: journal.serve: 0.0.0.0:9 can be reached from other machines, and whoever",
        ),
        (
            format!("{MINIMAL}[journal]\nserve = \"0.0.0.0:9\"\nserve_token = \"t\"\n"),
            "s.toml:8: journal.serve: 0.0.0.0:9 can be reached from other machines, and neither",
        ),
    ] {
        let lines = parse(&text).unwrap().warning_lines(Path::new("s.toml"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with(expected), "{lines:?}");
    }
}

#[test]
fn roles_decide_what_is_needed() {
    let replicator = MINIMAL
        .replace("\"proxy\", ", "")
        .replace("listen = \"127.0.0.1:1\"\n", "");
    let config = parse(&replicator).unwrap();
    assert!(config.has_role(Role::Replicator) && !config.has_role(Role::Proxy));
    assert!(config.namespaces[0].listen.is_empty() && config.replication.sources.is_empty());
    assert_eq!(parse(&config.to_redacted_toml()).unwrap(), config);
    // A variable may say so, too.
    let variables = [("WAL_SIDECAR_ROLES", "replicator")];
    let proxy = MINIMAL.replace("listen = \"127.0.0.1:1\"\n", "");
    assert!(parse(&proxy).is_err());
    assert!(parse_with(&proxy, &variables).is_ok());
}

#[test]
fn prefixes_have_the_namespaces_policies_where_they_say_nothing() {
    let config = parse(&format!(
        "{MINIMAL}replicate = \"invalidate\"\nreplicate_ttl_min = \"5s\"\n\
         [[namespace.prefix]]\nprefix = \"a\"\nreplicate = \"off\"\n\
         [[namespace.prefix]]\nprefix = \"b\"\nreplicate_ttl_min = \"1m\"\n\
         [[namespace.prefix]]\nprefix = \"c\"\ndurability = \"off\"\n"
    ))
    .unwrap();
    let policies = config.namespaces[0].prefixes.iter();
    let found: Vec<_> = policies
        .map(|one| {
            (
                one.prefix.as_str(),
                one.replicate,
                one.replicate_ttl_min.as_secs(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("a", Replicate::Off, 5),
            ("b", Replicate::Invalidate, 60),
            ("c", Replicate::Invalidate, 5),
        ]
    );
}

#[test]
fn serving_is_typed_and_its_token_is_not_shown() {
    let text = format!(
        "{MINIMAL}[journal]\nserve = \"localhost:9901\"\nserve_certificate = \"c.pem\"\n\
         serve_key = \"k.pem\"\n"
    );
    let config = parse_with(&text, &[("WAL_SIDECAR_JOURNAL_SERVE_TOKEN", "hush")]).unwrap();
    let serve = config.journal.serve.as_ref().unwrap();
    assert_eq!(serve.listen.to_string(), "127.0.0.1:9901");
    assert_eq!(serve.token.as_ref().map(Secret::expose), Some("hush"));
    let tls = ServeTls {
        certificate: "c.pem".into(),
        key: "k.pem".into(),
    };
    assert_eq!(serve.tls, Some(tls));
    let json = config.to_redacted_json();
    assert!(!json.contains("hush") && json.contains("\"serve_token\": \"<redacted>\""));
    assert!(json.contains("\"serve\": \"127.0.0.1:9901\""), "{json}");
    assert_eq!(parse(MINIMAL).unwrap().journal.serve, None);
}
