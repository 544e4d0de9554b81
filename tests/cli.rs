//! The command line as its users meet it: output, errors, exit codes.

use assert_cmd::Command;
use std::path::PathBuf;
use tempfile::TempDir;

const GOOD: &str = r#"region = "eu"
[[namespace]]
name = "sessions"
listen = "127.0.0.1:6380"
upstream = "redis://app:hush@127.0.0.1:6379"
[[namespace.prefix]]
prefix = "tmp:"
durability = "off"
"#;

/// A directory with a `sidecar.toml`, in which commands are run.
struct Place {
    directory: TempDir,
}

struct Outcome {
    code: i32,
    out: String,
    error: String,
}

impl Place {
    fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("sidecar.toml"), config).unwrap();
        Place { directory }
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wal-sidecar"));
        command.current_dir(self.directory.path()).args(arguments);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WAL_SIDECAR_") {
                command.env_remove(name);
            }
        }
        let output = command.envs(variables.iter().copied()).output().unwrap();
        Outcome {
            code: output.status.code().expect("it is not killed"),
            out: String::from_utf8(output.stdout).unwrap(),
            error: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

#[test]
fn a_right_file_is_summed_up() {
    let outcome = Place::new(GOOD).run(&["check"]);
    let expected = "\
sidecar.toml is right
region eu, proxy, workers: 1
journal local in data/journal, kept for 1d and up to 4GiB
namespace sessions: 127.0.0.1:6380 -> redis://127.0.0.1:6379 (shared connections), writes durable, reject without journal
  prefix \"tmp:\": writes off, reject without journal
admin http://127.0.0.1:9900
";
    assert_eq!(outcome.out, expected);
    assert_eq!((outcome.code, outcome.error.as_str()), (0, ""));
}

const REPLICATED: &str = r#"region = "eu"
roles = ["replicator"]
[journal]
serve = "127.0.0.1:9901"
serve_token = "hush"
[[namespace]]
name = "sessions"
upstream = "redis://127.0.0.1:6379"
replicate_ttl_min = "5s"
[[namespace.prefix]]
prefix = "tmp:"
replicate = "off"
[[replication.source]]
region = "us"
journal = "kafka://k:9092"
[[replication.source]]
region = "eu"
journal = "wal://127.0.0.1:9911"
token = "hush"
"#;

#[test]
fn what_is_replicated_is_summed_up() {
    let outcome = Place::new(REPLICATED).run(&["check"]);
    let expected = "\
sidecar.toml is right
region eu, replicator, workers: 1
journal local in data/journal, kept for 1d and up to 4GiB
journal served on 127.0.0.1:9901, with a token
applies kafka://k:9092 of region us
applies wal://127.0.0.1:9911 of region eu
namespace sessions: no clients -> redis://127.0.0.1:6379 (shared connections), writes durable, reject without journal
  replicated if it lives for 5s
  prefix \"tmp:\": writes durable, reject without journal, not replicated
admin http://127.0.0.1:9900
";
    assert_eq!(outcome.out, expected);
    assert_eq!((outcome.code, outcome.error.as_str()), (0, ""));
}

#[test]
fn certificates_are_looked_at() {
    let source = "journal = \"wals://h:1\"\ncertificate_authority = \"ca.pem\"\n";
    let place = Place::new(&REPLICATED.replace("journal = \"kafka://k:9092\"\n", source));
    let outcome = place.run(&["check"]);
    let expected = "sidecar.toml: replication.source[0].certificate_authority: read certificates \
                    from ca.pem: No such file";
    assert!(outcome.error.contains(expected), "{}", outcome.error);
    assert_eq!(outcome.code, 2);
    let outcome = place.run(&["check", "--json"]);
    let key = "\"key\":\"replication.source[0].certificate_authority\"";
    assert!(outcome.out.contains(key), "{}", outcome.out);
    assert_eq!(outcome.code, 2);
}

#[test]
fn the_sample_is_right() {
    let sample = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sidecar.toml");
    let outcome = Place::new("").run(&["check", "--config", sample.to_str().unwrap()]);
    assert_eq!((outcome.code, outcome.error.as_str()), (0, ""));
}

#[test]
fn a_wrong_file_shows_all_errors_and_ends_with_2() {
    let place = Place::new(
        &GOOD
            .replace("region", "regoin")
            .replace("\"off\"", "\"of\""),
    );
    let expected = "\
error: the configuration is wrong in 3 places
sidecar.toml:1: regoin: unknown key (did you mean \"region\"?)
sidecar.toml:1: region: missing; for example region = \"us-east-1\"
sidecar.toml:8: namespace[0].prefix[0].durability: expected one of durable, enqueued, off, found \"of\" (did you mean \"off\"?)
";
    for command in ["check", "run"] {
        let outcome = place.run(&[command]);
        assert_eq!((outcome.code, outcome.out.as_str()), (2, ""), "{command}");
        assert_eq!(outcome.error, expected, "{command}");
    }
    let outcome = place.run(&["check", "--json"]);
    assert_eq!((outcome.code, outcome.error.as_str()), (2, ""));
    assert_eq!(outcome.out.lines().count(), 1);
    let object: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(object["valid"], false);
    assert_eq!(object["errors"][0]["line"], 1);
    assert_eq!(object["errors"][2]["line"], 8);
    assert_eq!(
        object["errors"][2]["key"],
        "namespace[0].prefix[0].durability"
    );
}

#[test]
fn what_is_shown_is_redacted() {
    let place = Place::new(GOOD);
    let toml = place.run(&["check", "--print"]);
    let json = place.run(&["check", "--print", "--json"]);
    for outcome in [&toml, &json] {
        assert_eq!(outcome.code, 0);
        assert!(!outcome.out.contains("hush"), "{}", outcome.out);
    }
    assert!(
        toml.out.contains("request_timeout = \"5s\""),
        "{}",
        toml.out
    );
    let object: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(object["config"]["namespace"][0]["request_timeout"], "5s");
    assert_eq!(
        object["config"]["namespace"][0]["upstream_password"],
        "<redacted>"
    );
}

#[test]
fn warnings_do_not_fail() {
    let place = Place::new(&GOOD.replace("127.0.0.1:6380", "0.0.0.0:6380"));
    let outcome = place.run(&["check"]);
    let expected = "warning: sidecar.toml:4: namespace[0].listen: 0.0.0.0:6380 can be reached";
    assert!(
        outcome.code == 0 && outcome.error.starts_with(expected),
        "{}",
        outcome.error
    );
    let object: serde_json::Value =
        serde_json::from_str(&place.run(&["check", "--json"]).out).unwrap();
    assert_eq!(object["warnings"][0]["line"], 4);
}

#[test]
fn a_missing_file_is_named_and_the_way_to_give_one() {
    let place = Place::new(GOOD);
    for (arguments, variables) in [
        (&["check", "--config", "other.toml"][..], &[][..]),
        (&["--config", "other.toml", "run"][..], &[][..]),
        (&["check"][..], &[("WAL_SIDECAR_CONFIG", "other.toml")][..]),
    ] {
        let outcome = place.run_with(arguments, variables);
        assert_eq!((outcome.code, outcome.out.as_str()), (2, ""));
        for part in ["other.toml", "--config FILE", "sidecar.toml"] {
            assert!(outcome.error.contains(part), "{}", outcome.error);
        }
    }
    let json = place.run(&["check", "--json", "--config", "other.toml"]);
    let object: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &object["valid"]), (2, &false.into()));
}

#[test]
fn variables_override_and_are_named_in_errors() {
    let place = Place::new(GOOD);
    let outcome = place.run_with(&["check"], &[("WAL_SIDECAR_REGION", "us")]);
    assert!(outcome.out.contains("region us,"), "{}", outcome.out);
    for (name, value, expected) in [
        (
            "WAL_SIDECAR_WORKERS",
            "many",
            "WAL_SIDECAR_WORKERS: workers: expected a whole number",
        ),
        (
            "WAL_SIDECAR_REGOIN",
            "us",
            "WAL_SIDECAR_REGOIN: no setting can be overridden",
        ),
    ] {
        let outcome = place.run_with(&["check"], &[(name, value)]);
        assert_eq!(outcome.code, 2);
        assert!(outcome.error.contains(expected), "{}", outcome.error);
    }
}

#[test]
fn help_names_what_there_is() {
    let place = Place::new(GOOD);
    for (arguments, parts) in [
        (
            &["--help"][..],
            &["run", "check", "journal", "--config", "Examples:"][..],
        ),
        (
            &["check", "--help"][..],
            &["--json", "--print", "sidecar.toml", "WAL_SIDECAR_CONFIG"][..],
        ),
        (&["run", "--help"][..], &["SIGTERM", "SIGHUP"][..]),
        (&["journal", "--help"][..], &["tail", "verify", "stats"][..]),
        (
            &["top", "--help"][..],
            &["--once", "--json", "--interval", "--namespace", "NO_COLOR"][..],
        ),
        (
            &["journal", "tail", "--help"][..],
            &["--from", "--follow", "--json", "--directory", "--namespace"][..],
        ),
    ] {
        let outcome = place.run(arguments);
        assert_eq!(outcome.code, 0, "{arguments:?}");
        for part in parts {
            assert!(
                outcome.out.contains(part),
                "{arguments:?} {part}: {}",
                outcome.out
            );
        }
    }
    let version = place.run(&["--version"]);
    assert_eq!(
        version.out,
        format!("wal-sidecar {}\n", env!("CARGO_PKG_VERSION"))
    );
    for arguments in [
        &["chekc"][..],
        &[][..],
        &["check", "--jsno"][..],
        &["journal"][..],
    ] {
        assert_eq!(place.run(arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn a_journal_has_to_be_chosen_where_there_are_several() {
    let second =
        "[[namespace]]\nname = \"carts\"\nlisten = \"127.0.0.1:1\"\nupstream = \"redis://h\"\n";
    let place = Place::new(&format!("{GOOD}{second}"));
    for (arguments, expected) in [
        (
            &["journal", "stats"][..],
            "choose one with --namespace: sessions, carts",
        ),
        (
            &["journal", "stats", "--namespace", "x"][..],
            "no namespace \"x\"; it has sessions, carts",
        ),
        (
            &["journal", "stats", "--namespace", "carts"][..],
            "there is no journal in data/journal/carts",
        ),
        (
            &["journal", "stats", "--directory", "d"][..],
            "there is no journal in d",
        ),
        (
            &["journal", "stats", "--directory", "d", "--namespace", "n"][..],
            "there is no journal in d/n",
        ),
    ] {
        let outcome = place.run(arguments);
        assert_eq!(outcome.code, 2, "{arguments:?}");
        assert!(outcome.error.contains(expected), "{}", outcome.error);
    }
}
