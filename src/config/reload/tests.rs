use super::super::{file, kafka, replication};
use super::*;
use std::collections::BTreeSet;

const BEFORE: &str = r#"
region = "a"
[[namespace]]
name = "n"
listen = "127.0.0.1:1"
upstream = "redis://h"
"#;

/// Every key differs from `BEFORE`, and one namespace is new.
const AFTER: &str = r#"
region = "b"
roles = ["proxy", "replicator"]
workers = 2
drain_timeout = "1s"
[journal]
backend = "local"
directory = "d"
serve = "127.0.0.1:5"
serve_token = "t"
segment_bytes = "1MiB"
retention_bytes = "1GiB"
retention_age = "1h"
hard_cap_bytes = "2GiB"
heartbeat_interval = "2s"
brokers = "kafka:9092"
[journal.kafka]
topic = "t.{namespace}"
create_topics = false
partitions = 3
replication_factor = 1
timeout = "1s"
spool_after = "1s"
properties = { "socket.keepalive.enable" = true }
[[namespace]]
name = "n"
listen = "127.0.0.1:2"
protocol = "memcached"
upstream = "memcacheds://other"
placement = "spymemcached"
eject_after = "9s"
upstream_user = "u"
upstream_password = "p"
upstream_certificate_authority = "ca"
upstream_server_name = "n"
upstream_certificate = "c"
upstream_key = "k"
connection = "dedicated"
durability = "off"
on_journal_unavailable = "bypass"
request_timeout = "1s"
connect_timeout = "2s"
client_limit = 1
in_flight_bytes_max = "1MiB"
in_flight_batches_max = 1
value_bytes_max = "1MiB"
client_output_bytes_max = "1MiB"
replicate = "invalidate"
replicate_ttl_min = "1s"
[[namespace.replica]]
upstream = "memcached://zone"
[[namespace.prefix]]
prefix = "p"
durability = "durable"
[[namespace]]
name = "m"
listen = "127.0.0.1:3"
upstream = "redis://h"
[replication]
batch_records = 1
clock_skew_max = "1s"
key_versions_max = 1000
progress_interval = "1s"
retry_backoff_max = "1s"
conflict_values = false
[[replication.source]]
region = "c"
journal = "wal://c:1"
[admin]
listen = "127.0.0.1:4"
[log]
format = "json"
level = "debug"
"#;

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("sidecar.toml"), &Environment::default()).unwrap()
}

#[test]
fn every_key_is_applied_or_needs_a_restart() {
    let before = parse(&format!("{BEFORE}[journal]\nbackend = \"memory\"\n"));
    let plan = before.reload_plan(&parse(AFTER));
    assert_eq!(
        plan.applied,
        [
            "journal.retention_bytes",
            "journal.retention_age",
            "journal.hard_cap_bytes",
            "log.level",
            "namespace.n.durability",
            "namespace.n.on_journal_unavailable",
            "namespace.n.request_timeout",
            "namespace.n.client_limit",
            "namespace.n.in_flight_bytes_max",
            "namespace.n.in_flight_batches_max",
            "namespace.n.value_bytes_max",
            "namespace.n.client_output_bytes_max",
            "namespace.n.replicate",
            "namespace.n.replicate_ttl_min",
            "namespace.n.prefix",
        ]
    );
    let reported: BTreeSet<String> = plan
        .applied
        .iter()
        .chain(&plan.needs_restart)
        .cloned()
        .collect();
    let sections: [(&str, &file::Keys); 7] = [
        ("", &file::ROOT),
        ("journal.", &file::JOURNAL),
        ("journal.kafka.", &kafka::KAFKA),
        ("namespace.n.", &file::NAMESPACE),
        ("replication.", &replication::REPLICATION),
        ("admin.", &file::ADMIN),
        ("log.", &file::LOG),
    ];
    // Tables are compared by key; a namespace is found by its name; user and
    // password are part of the upstream, as are a token and a certificate of
    // what is served, and a key of its certificate.
    let apart = ["journal", "namespace", "replication", "admin", "log"];
    let of_namespace = ["name", "upstream_user", "upstream_password", "upstream_key"];
    let mut expected = BTreeSet::from(["namespace.m".to_owned()]);
    for (path, keys) in sections {
        for key in keys.known {
            let skip = match path {
                "" => apart.contains(key),
                "journal." => *key == "kafka" || key.starts_with("serve_"),
                "namespace.n." => of_namespace.contains(key),
                _ => false,
            };
            if !skip {
                expected.insert(format!("{path}{key}"));
            }
        }
    }
    assert_eq!(reported, expected);
}

#[test]
fn a_spool_is_not_made_while_running() {
    let with = |unavailable: &str| {
        parse(&format!(
            "{BEFORE}on_journal_unavailable = {unavailable:?}\n\
             [journal]\nbackend = \"kafka\"\nbrokers = \"k:1\"\n"
        ))
    };
    let key = "namespace.n.on_journal_unavailable";
    for (old, new) in [("spool", "reject"), ("bypass", "spool")] {
        let plan = with(old).reload_plan(&with(new));
        assert_eq!(
            (&plan.applied[..], &plan.needs_restart[..]),
            (&[][..], &[key.to_owned()][..])
        );
        assert_eq!(plan.effective, with(old));
    }
    let plan = with("reject").reload_plan(&with("bypass"));
    assert_eq!(plan.applied, [key]);
}

#[test]
fn only_applied_keys_take_effect() {
    let (before, after) = (parse(BEFORE), parse(AFTER));
    let plan = before.reload_plan(&after);
    let (old, new) = (&before.namespaces[0], &after.namespaces[0]);
    let effective = &plan.effective.namespaces[0];
    assert_eq!(plan.effective.namespaces.len(), 1);
    assert_eq!(plan.effective.region, "a");
    assert_eq!(effective.listen, old.listen);
    assert_eq!(effective.upstream, old.upstream);
    assert_eq!(effective.prefixes, new.prefixes);
    assert_eq!(effective.durability, new.durability);
    assert_eq!(plan.effective.log.level, after.log.level);
    assert_eq!(plan.effective.log.format, before.log.format);

    // What needs a restart is reported until it got one; what was applied is not.
    let again = plan.effective.reload_plan(&after);
    assert_eq!(again.applied, Vec::<String>::new());
    assert_eq!(again.needs_restart, plan.needs_restart);
}

#[test]
fn nothing_changed() {
    let plan = parse(AFTER).reload_plan(&parse(AFTER));
    assert!(plan.applied.is_empty() && plan.needs_restart.is_empty());
    let gone = parse(AFTER).reload_plan(&parse(BEFORE));
    assert!(gone.needs_restart.contains(&"namespace.m".to_owned()));
}

#[test]
fn a_changed_secret_is_seen() {
    let with = |password: &str| parse(&format!("{BEFORE}upstream_password = \"{password}\"\n"));
    let plan = with("one").reload_plan(&with("two"));
    assert_eq!(plan.needs_restart, ["namespace.n.upstream"]);
}

#[test]
fn reading_is_no_change() {
    use notify::event::{CreateKind, ModifyKind, RemoveKind, RenameMode};
    for (kind, expected) in [
        (EventKind::Access(AccessKind::Open(AccessMode::Any)), false),
        (
            EventKind::Access(AccessKind::Close(AccessMode::Read)),
            false,
        ),
        (
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
            true,
        ),
        (EventKind::Modify(ModifyKind::Name(RenameMode::To)), true),
        (EventKind::Create(CreateKind::Any), true),
        (EventKind::Remove(RemoveKind::Any), true),
    ] {
        assert_eq!(is_change(&kind), expected, "{kind:?}");
    }
}

async fn next(watcher: &mut Watcher) -> ReloadPlan {
    let waited = timeout(Duration::from_secs(20), watcher.next()).await;
    waited.expect("a change is seen within the deadline")
}

fn start(file: &Path) -> Watcher {
    std::fs::write(file, BEFORE).unwrap();
    Watcher::start(file, Environment::default(), parse(BEFORE)).unwrap()
}

#[tokio::test]
async fn a_written_file_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sidecar.toml");
    let mut watcher = start(&file);
    for durability in ["off", "enqueued"] {
        std::fs::write(&file, format!("{BEFORE}durability = \"{durability}\"\n")).unwrap();
        let plan = next(&mut watcher).await;
        assert_eq!(plan.applied, ["namespace.n.durability"]);
        assert_eq!(plan.effective.namespaces[0].durability.as_str(), durability);
    }
}

#[tokio::test]
async fn a_configmap_update_is_seen() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (name, text) in [("..1", BEFORE), ("..2", AFTER)] {
        std::fs::create_dir(at(name)).unwrap();
        std::fs::write(at(name).join("sidecar.toml"), text).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/sidecar.toml", at("sidecar.toml")).unwrap();
    let file = at("sidecar.toml");
    let mut watcher = Watcher::start(&file, Environment::default(), parse(BEFORE)).unwrap();
    symlink("..2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    let plan = next(&mut watcher).await;
    assert!(plan.applied.contains(&"log.level".to_owned()));
}

async fn reload(watcher: &mut Watcher, asked: bool) -> Option<ReloadPlan> {
    let text = watcher.read().await;
    watcher.reload(text, asked)
}

#[tokio::test]
async fn a_file_that_is_being_written_is_read_when_it_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sidecar.toml");
    let watcher = start(&file);
    std::fs::write(&file, "").unwrap();
    let (read, ()) = tokio::join!(watcher.read(), async {
        // It has read the empty file by now, and waits.
        std::fs::write(&file, AFTER).unwrap();
    });
    assert_eq!(read.unwrap(), AFTER);
}

#[tokio::test]
async fn a_wrong_file_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sidecar.toml");
    let mut watcher = start(&file);
    std::fs::write(&file, "region = 1\n").unwrap();
    assert_eq!(reload(&mut watcher, true).await, None);
    assert_eq!(watcher.effective, parse(BEFORE));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(reload(&mut watcher, false).await, None);
    // Even the text that was in effect is read again after that.
    std::fs::write(&file, BEFORE).unwrap();
    assert!(
        reload(&mut watcher, false)
            .await
            .unwrap()
            .applied
            .is_empty()
    );
    assert_eq!(reload(&mut watcher, false).await, None);
}

#[tokio::test]
async fn a_hangup_reads_the_file_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut watcher = start(&directory.path().join("sidecar.toml"));
    // The directory's own events must not be what is seen.
    watcher._directory = None;
    let (sender, mut receiver) = watch::channel(Arc::new(parse(AFTER)));
    let publishing = tokio::spawn(watcher.publish(sender));
    let pid = std::process::id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-HUP", &pid])
        .status()
        .unwrap();
    assert!(sent.success());
    let changed = timeout(Duration::from_secs(20), receiver.changed()).await;
    changed
        .expect("the signal is seen within the deadline")
        .unwrap();
    assert_eq!(**receiver.borrow(), parse(BEFORE));
    drop(receiver);
    publishing.await.unwrap();
}
