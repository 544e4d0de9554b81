//! Alerts, dashboard and scraping against what the program really exposes,
//! with Prometheus itself.

mod kube;
mod support;
#[path = "kube/webhook.rs"]
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use kube::{files, root};
use serde_json::Value;
use support::process::{Process, free_port};
use support::wait::{READY_DEADLINE, until};
use support::{Redis, Sidecar, SidecarOptions, http};
use tempfile::TempDir;
use wal_sidecar::kube::yaml::{Node, read};
use webhook::Webhook;
/// What Prometheus adds itself.
const PROMETHEUS: &[&str] = &["up"];

const DEADLINE: Duration = Duration::from_secs(30);

fn document(path: &str) -> Value {
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    let documents = read(&text).unwrap();
    documents[0].root.as_ref().map(Node::to_json).unwrap()
}

/// The rules as Prometheus takes them.
fn rules() -> Value {
    document("k8s/monitoring/rules.yaml")["spec"].clone()
}

fn alerts() -> Vec<Value> {
    let rules = rules();
    let groups = rules["groups"].as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

/// Every query of the dashboard, its variables filled in as Grafana would.
fn queries() -> Vec<String> {
    let board: Value = serde_json::from_str(
        &std::fs::read_to_string(root().join("k8s/monitoring/dashboard.json")).unwrap(),
    )
    .unwrap();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let fill = |query: &str| {
        query
            .replace("$__rate_interval", "1m")
            .replace("$namespace", ".*")
            .replace("$pod", ".*")
    };
    let queries: Vec<String> = targets
        .map(|target| fill(target["expr"].as_str().unwrap()))
        .collect();
    assert!(
        queries.len() > 30 && queries.iter().all(|query| !query.contains('$')),
        "{queries:?}"
    );
    queries
}

/// The metrics a query names. A histogram's are one.
fn names(query: &str) -> BTreeSet<String> {
    let words = query.split(|one: char| !one.is_ascii_alphanumeric() && one != '_');
    let names = words.filter(|word| word.starts_with("wal_sidecar_") || PROMETHEUS.contains(word));
    names.map(base).collect()
}

fn base(name: &str) -> String {
    let suffixes = ["_bucket", "_sum", "_count"];
    let stem = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
    stem.unwrap_or(name).to_owned()
}

/// A sidecar that has everything a sidecar can have: its journal is a spool
/// that waits for a Kafka that is not there.
fn sidecar(redis: &Redis) -> Sidecar {
    let options = SidecarOptions::new(redis)
        .backend("spool")
        .journal("brokers = \"127.0.0.1:1\"")
        .root("drain_timeout = \"1s\"");
    let sidecar = Sidecar::with(options);
    let mut client = sidecar.client();
    for (command, reply) in [
        (&["SET", "a", "1"][..], "+OK\r\n"),
        (&["GET", "a"], "$1\r\n1\r\n"),
    ] {
        assert_eq!(client.command(command), reply.as_bytes());
    }
    sidecar
}

/// A sidecar that replicates from a region that is away.
fn replicator(redis: &Redis) -> Sidecar {
    let source = "[[replication.source]]\nregion = \"away\"\njournal = \"wal://127.0.0.1:1\"\n";
    Sidecar::with(
        SidecarOptions::new(redis)
            .region("here", &["proxy", "replicator"])
            .namespace(source),
    )
}

/// Names and types that `/metrics` shows.
fn exposed(port: u16) -> BTreeMap<String, String> {
    let (status, text) = http::get(port, "/metrics").unwrap();
    assert_eq!(status, 200);
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let types = types.filter_map(|line| line.split_once(' '));
    types
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

#[test]
fn rules_and_dashboard_use_what_is_exposed() {
    let redis = Redis::start();
    let (sidecar, webhook) = (sidecar(&redis), Webhook::start(&[]));
    let replicator = replicator(&redis);
    let replicates =
        || exposed(replicator.admin_port()).contains_key("wal_sidecar_replication_source_up");
    until("the replicator leads", DEADLINE, || {
        replicates().then_some(())
    });
    let mut exposed = exposed(sidecar.admin_port());
    exposed.extend(self::exposed(replicator.admin_port()));
    exposed.extend(self::exposed(webhook.admin_port));
    let expressions = alerts()
        .into_iter()
        .map(|alert| alert["expr"].as_str().unwrap().to_owned());
    let queries: Vec<String> = expressions.chain(queries()).collect();
    let mut used = BTreeSet::new();
    for query in &queries {
        for name in names(query) {
            let known = exposed.contains_key(&name) || PROMETHEUS.contains(&name.as_str());
            assert!(known, "{name} is not exposed: {query}");
            used.insert(name);
        }
    }
    for page in files(&root().join("docs/runbooks")) {
        let text = std::fs::read_to_string(&page).unwrap();
        for name in
            names(&text).difference(&PROMETHEUS.iter().map(|name| (*name).to_owned()).collect())
        {
            let known = exposed.contains_key(name);
            assert!(known, "{name} is not exposed: {}", page.display());
        }
    }
    // `rate` and `increase` are for counters and histograms, and these for nothing else.
    for query in &queries {
        for (place, _) in query.match_indices("wal_sidecar_") {
            let before = &query[..place];
            let word = query[place..]
                .split(|one: char| !one.is_ascii_alphanumeric() && one != '_')
                .next()
                .unwrap();
            let is_rate = before.ends_with("rate(") || before.ends_with("increase(");
            let kind = exposed.get(&base(word)).map(String::as_str);
            let is_gauge = kind == Some("gauge") || (kind.is_none() && !word.ends_with("_total"));
            assert!(!is_rate || !is_gauge, "{word} is a gauge: {query}");
        }
    }
}

#[test]
fn every_alert_has_its_page_and_every_page_its_alert() {
    let mut pages = BTreeMap::<String, Vec<String>>::new();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap().to_owned();
        assert!(name.starts_with("WalSidecar"), "{name}");
        assert!(
            ["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap()),
            "{name}"
        );
        let page = alert["annotations"]["runbook"].as_str().unwrap().to_owned();
        let text = std::fs::read_to_string(root().join(&page))
            .unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(
            text.contains(&format!("`{name}`")),
            "{page} does not name {name}"
        );
        for heading in ["## What it means", "## What to look at", "## What to do"] {
            assert!(text.contains(heading), "{page} has no {heading}");
        }
        pages.entry(page).or_default().push(name);
    }
    let found = files(&root().join("docs/runbooks"));
    let found: Vec<_> = found
        .iter()
        .filter(|path| !path.ends_with("README.md"))
        .collect();
    assert_eq!(found.len(), pages.len(), "{found:?} {pages:?}");
}

fn promtool(arguments: &[&str], directory: &TempDir) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(directory.path())
        .output();
    let output = output.expect("promtool is there: scripts/test installs it");
    let text =
        String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}:\n{text}");
}

fn write_rules(directory: &TempDir) {
    let text = Node::from_json(&rules()).write();
    std::fs::write(directory.path().join("rules.yaml"), text).unwrap();
}

#[test]
fn every_alert_fires_when_it_should() {
    let directory = TempDir::new().unwrap();
    write_rules(&directory);
    promtool(&["check", "rules", "rules.yaml"], &directory);
    let tests = std::fs::read_to_string(root().join("tests/kube/alerts.test.yaml")).unwrap();
    std::fs::write(directory.path().join("alerts.test.yaml"), &tests).unwrap();
    promtool(&["test", "rules", "alerts.test.yaml"], &directory);
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let fires = tests
            .split(&format!("alertname: {name}\n"))
            .skip(1)
            .any(|rest| rest.trim_start().starts_with("exp_alerts:\n"));
        assert!(fires, "no test makes {name} fire");
    }
}

/// A Prometheus with our rules that scrapes these ports as `wal-sidecar`.
struct Prometheus {
    process: Process,
    port: u16,
    _directory: TempDir,
}

impl Prometheus {
    fn start(ports: &[u16]) -> Prometheus {
        let directory = TempDir::new().unwrap();
        write_rules(&directory);
        let targets: Vec<String> = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let config = format!(
            "global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\nrule_files: [rules.yaml]\n\
             scrape_configs:\n- job_name: wal-sidecar\n  honor_labels: true\n  static_configs: [{{targets: {targets:?}}}]\n"
        );
        std::fs::write(directory.path().join("prometheus.yml"), config).unwrap();
        promtool(&["check", "config", "prometheus.yml"], &directory);
        for _ in 0..5 {
            let port = free_port();
            let mut command = Command::new("prometheus");
            command
                .arg(format!(
                    "--config.file={}/prometheus.yml",
                    directory.path().display()
                ))
                .arg(format!(
                    "--storage.tsdb.path={}/data",
                    directory.path().display()
                ))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"));
            let mut process = Process::start("prometheus", &mut command);
            let ready = until("Prometheus to be ready", READY_DEADLINE, || {
                if process.ended().is_some() {
                    return Some(false);
                }
                matches!(http::get(port, "/-/ready"), Ok((200, _))).then_some(true)
            });
            if ready {
                return Prometheus {
                    process,
                    port,
                    _directory: directory,
                };
            }
            let lines = process.lines().join("\n");
            assert!(lines.contains("address already in use"), "{lines}");
        }
        panic!("no port was free");
    }

    fn ask(&self, path: &str) -> Value {
        let (status, body) = http::get(self.port, path).unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        // The body may come in chunks, whose lengths stand on lines of their own.
        let lines: String = body
            .lines()
            .filter(|line| line.starts_with(['{', '[']))
            .collect();
        serde_json::from_str(&lines).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// What a query gives: the values of its series.
    fn query(&self, query: &str) -> Vec<f64> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.ask(&format!("/api/v1/query?query={encoded}"));
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let series = answer["data"]["result"].as_array().unwrap().iter();
        series
            .map(|one| one["value"][1].as_str().unwrap().parse().unwrap())
            .collect()
    }
}

#[test]
fn prometheus_scrapes_it_and_alerts() {
    let mut redis = Redis::start();
    let (sidecar, webhook) = (sidecar(&redis), Webhook::start(&[]));
    let mut prometheus = Prometheus::start(&[sidecar.admin_port(), webhook.admin_port]);
    until("both to be scraped", DEADLINE, || {
        (prometheus.query("sum(up)") == [2.0]).then_some(())
    });
    // Rates need two scrapes.
    until("a second scrape", DEADLINE, || {
        let twice = "min(count_over_time(up[1m])) > 2";
        (!prometheus.query(twice).is_empty()).then_some(())
    });
    assert_eq!(
        prometheus.query("wal_sidecar_mutations_journaled_total{namespace=\"test\"}"),
        [1.0]
    );
    // Of a replicator: this one is none.
    let is_there = |query: &str| {
        names(query)
            .iter()
            .all(|name| !name.starts_with("wal_sidecar_replication_"))
    };
    for query in queries() {
        let found = prometheus.query(&query);
        assert_eq!(!found.is_empty(), is_there(&query), "{query}: {found:?}");
    }
    for alert in alerts() {
        prometheus.query(alert["expr"].as_str().unwrap());
    }
    // Nothing is wrong yet, but that the spool is not shipped is not an alert at once.
    let state = |name: &str| {
        let answer = prometheus.ask("/api/v1/alerts");
        let alerts = answer["data"]["alerts"].as_array().unwrap().clone();
        let found = alerts
            .iter()
            .find(|alert| alert["labels"]["alertname"] == name);
        found.map(|alert| alert["state"].as_str().unwrap().to_owned())
    };
    assert_eq!(state("WalSidecarDatastoreUnreachable"), None);
    redis.kill();
    until("the alert to be pending", DEADLINE, || {
        state("WalSidecarDatastoreUnreachable")
    });
    let rules = prometheus.ask("/api/v1/rules");
    let groups = rules["data"]["groups"].as_array().unwrap().iter();
    let rules: Vec<Value> = groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect();
    assert_eq!(rules.len(), alerts().len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    drop(sidecar);
    until("its absence to be seen", DEADLINE, || {
        state("WalSidecarNotScraped")
    });
    assert!(prometheus.process.stop().success());
}

/// The pods' annotations and the PodMonitors name the port that is exposed.
#[test]
fn pod_monitors_name_the_port_that_containers_have() {
    let text = std::fs::read_to_string(root().join("k8s/monitoring/pod-monitor.yaml")).unwrap();
    let monitors: Vec<Value> = read(&text)
        .unwrap()
        .iter()
        .filter_map(|one| Some(one.root.as_ref()?.to_json()))
        .collect();
    assert_eq!(monitors.len(), 2);
    let injected = kube::inject(&kube::corpus()["deployment.yaml"], &Default::default()).text;
    let injected = read(&injected).unwrap()[0].root.as_ref().unwrap().to_json();
    let pod = &injected["spec"]["template"];
    let port = &pod["spec"]["initContainers"][0]["ports"][0];
    assert_eq!(
        pod["metadata"]["annotations"]["prometheus.io/port"],
        port["containerPort"].to_string()
    );
    let wanted = monitors[0]["spec"]["selector"]["matchLabels"]
        .as_object()
        .unwrap();
    for (key, value) in wanted {
        assert_eq!(&pod["metadata"]["labels"][key], value);
    }
    let webhook = document("k8s/webhook/deployment.yaml");
    let replicator = document("k8s/replicator/deployment.yaml");
    for monitor in &monitors {
        let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
        assert_eq!(endpoint["port"], port["name"]);
        for deployment in [&webhook, &replicator] {
            let container = &deployment["spec"]["template"]["spec"]["containers"][0];
            let ports = container["ports"].as_array().unwrap();
            assert!(ports.iter().any(|port| port["name"] == endpoint["port"]));
        }
    }
}
