//! Puts the sidecar into a pod, or a pod's template, and takes it out again.

use super::options::{JournalVolume, Mode, Options, USER};
use super::record::{INJECTED, Record};
use super::sidecar::{self, CONTAINER, Grace};
use super::yaml::Node;
use super::{annotations, rewrite};

/// Maps and lists that something is put into.
const MADE: &[&[&str]] = &[
    &["metadata", "labels"],
    &["metadata", "annotations"],
    &["metadata"],
    &["spec", "initContainers"],
    &["spec", "volumes"],
    &["spec", "securityContext"],
];

/// What kind of object a pod, or its template, belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Its pods get claims of their own that outlive them (StatefulSet).
    pub has_claims: bool,
    /// Its pods are done when their containers are (Job, CronJob).
    pub ends: bool,
}

impl Owner {
    /// A pod that is looked at alone.
    pub const NOBODY: Owner = Owner {
        has_claims: false,
        ends: false,
    };
}

/// Why a pod stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It says so itself.
    #[error("the pod declines it ({}inject: \"false\")", super::options::PREFIX)]
    Declined,
    /// It is no pod that a sidecar can be in.
    #[error("{0}")]
    Unfit(String),
}

/// Puts the sidecar into a pod: a map with `metadata` and `spec`. Where the
/// pod has one it is replaced. Returns what its owner should know.
pub fn inject(pod: &mut Node, options: &Options, owner: Owner) -> Result<Vec<String>, Refused> {
    check(pod)?;
    uninject(pod).map_err(Refused::Unfit)?;
    if has_own(pod) {
        return Err(Refused::Unfit(format!(
            "the pod has a container or volume of the name {CONTAINER} that was not injected"
        )));
    }
    let mut warnings = Vec::new();
    let mut record = Record::new();
    record.make(pod, &["metadata"], Node::map([]), "spec");
    add_containers(pod, options, &mut record, &mut warnings);
    add_volumes(pod, options, owner, &mut record, &mut warnings);
    warn_of_surroundings(pod, options, owner, &mut warnings);
    // Last, as it holds the record.
    add_metadata(pod, options, &mut record, &mut warnings);
    Ok(warnings)
}

fn check(pod: &Node) -> Result<(), Refused> {
    if annotations::wish(pod) == Ok(Some(false)) {
        return Err(Refused::Declined);
    }
    if pod.at(&["spec", "containers"]).is_none_or(Node::is_empty) {
        return Err(Refused::Unfit("it has no containers".to_owned()));
    }
    if pod.at(&["spec", "os", "name"]).and_then(Node::as_str) == Some("windows") {
        return Err(Refused::Unfit("the sidecar runs on Linux".to_owned()));
    }
    Ok(())
}

/// Whether something in the pod has the sidecar's name.
fn has_own(pod: &Node) -> bool {
    let lists = ["initContainers", "containers", "volumes"];
    let items = lists.iter().filter_map(|list| pod.at(&["spec", list]));
    items.flat_map(Node::items).any(is_own)
}

fn is_own(item: &Node) -> bool {
    let volumes = [
        sidecar::CONFIG_VOLUME,
        sidecar::JOURNAL_VOLUME,
        sidecar::SECRET_VOLUME,
    ];
    item.str_of("name")
        .is_some_and(|name| name == CONTAINER || volumes.contains(&name))
}

fn add_containers(
    pod: &mut Node,
    options: &Options,
    record: &mut Record,
    warnings: &mut Vec<String>,
) {
    let seconds = pod.at(&["spec", "terminationGracePeriodSeconds"]);
    let seconds = seconds.and_then(Node::as_integer);
    if seconds.is_some_and(|seconds| seconds < 10) {
        warnings.push("terminationGracePeriodSeconds is less than 10, which leaves little time to drain; the journal keeps what was acknowledged in any case".to_owned());
    }
    let container = sidecar::container(options, Grace::of(seconds));
    let lists: &[&str] = match options.mode {
        Mode::Native => {
            let list = record.make(
                pod,
                &["spec", "initContainers"],
                Node::list([]),
                "containers",
            );
            if let Some(list) = list {
                // First: what other init containers do goes through it too.
                list.put(0, container);
            }
            &["initContainers", "containers"]
        }
        Mode::Plain => {
            if let Some(list) = pod.at_mut(&["spec", "containers"]) {
                // Last: the first one is what `kubectl logs` shows.
                list.put(usize::MAX, container);
            }
            &["containers"]
        }
    };
    if let Some(spec) = pod.get_mut("spec") {
        rewrite::rewrite(spec, lists, &options.rewrites, record, warnings);
    }
}

fn add_volumes(
    pod: &mut Node,
    options: &Options,
    owner: Owner,
    record: &mut Record,
    warnings: &mut Vec<String>,
) {
    if let Some(list) = record.make(pod, &["spec", "volumes"], Node::list([]), "") {
        for volume in sidecar::volumes(options, owner.has_claims) {
            list.put(usize::MAX, volume);
        }
    }
    warnings.extend(lost_when(options, owner));
    // A fresh volume belongs to root; this makes it the sidecar's group's.
    let group = pod.at(&["spec", "securityContext", "fsGroup"]);
    if options.journal == JournalVolume::Claim && group.is_none_or(Node::is_null) {
        let context = record.make(
            pod,
            &["spec", "securityContext"],
            Node::map([]),
            "containers",
        );
        if let Some(context) = context {
            context.set("fsGroup", Node::number(USER));
            record.security.push("fsGroup".to_owned());
            if context.get("fsGroupChangePolicy").is_none() {
                context.set("fsGroupChangePolicy", Node::text("OnRootMismatch"));
                record.security.push("fsGroupChangePolicy".to_owned());
            }
        }
        warnings.push(format!(
            "the pod gets fsGroup {USER}, so that the sidecar can write to its volume; the group of the pod's other volumes changes with it"
        ));
    }
}

/// What is lost, and when, with each kind of volume.
fn lost_when(options: &Options, owner: Owner) -> Option<String> {
    let text = match options.journal {
        JournalVolume::None => {
            "there is no volume for the journal: this is for journal.backend = \"kafka\" without a spool"
        }
        JournalVolume::EmptyDir => {
            "the journal is in an emptyDir: it survives a restart of the container, and is lost when the pod is deleted, evicted or moved, with what was not replicated or shipped by then"
        }
        JournalVolume::Claim if owner.has_claims => {
            "the journal is in a claim that outlives the pod; a StatefulSet that exists takes no new claims: delete it with --cascade=orphan and create it again"
        }
        JournalVolume::Claim => {
            "the journal is in a volume that is deleted with the pod: it survives the loss of the node's disk, not a new rollout; a StatefulSet, injected by the command line, keeps it"
        }
        JournalVolume::HostPath => {
            "the journal is in a directory of the node: it survives the pod, and is lost with the node; a pod that starts on another node does not find it. The directory has to be there and be writable for user 65532, and nobody removes what deleted pods leave in it"
        }
    };
    Some(text.to_owned())
}

fn warn_of_surroundings(pod: &Node, options: &Options, owner: Owner, warnings: &mut Vec<String>) {
    if owner.ends && options.mode == Mode::Plain {
        warnings.push(
            "a plain container does not end by itself, so the Job never completes; use mode native"
                .to_owned(),
        );
    }
    let port = i64::from(options.admin_listen.port());
    let containers = pod
        .at(&["spec", "containers"])
        .into_iter()
        .flat_map(Node::items);
    for container in containers.filter(|one| !is_own(one)) {
        let ports = container.get("ports").into_iter().flat_map(Node::items);
        let mut ports = ports.filter_map(|one| one.get("containerPort")?.as_integer());
        if ports.any(|taken| taken == port) {
            let name = container.str_of("name").unwrap_or_default();
            warnings.push(format!(
                "container {name} listens on port {port} too; give the sidecar another one with admin-listen"
            ));
        }
    }
    if pod.at(&["spec", "hostNetwork"]).is_some_and(Node::is_true) {
        warnings.push("the pod is in the node's network: the sidecar's ports are the node's, so two such pods on a node collide".to_owned());
    }
}

fn add_metadata(
    pod: &mut Node,
    options: &Options,
    record: &mut Record,
    warnings: &mut Vec<String>,
) {
    if let Some(labels) = record.make(pod, &["metadata", "labels"], Node::map([]), "") {
        labels.set(INJECTED, Node::text("true"));
    }
    let Some(annotations) = record.make(pod, &["metadata", "annotations"], Node::map([]), "")
    else {
        return;
    };
    if options.prometheus {
        let has_own = annotations
            .pairs()
            .any(|(key, _)| key.starts_with("prometheus.io/"));
        match has_own {
            true => warnings.push("the pod has prometheus.io annotations of its own, which stay: scrape the sidecar by a PodMonitor".to_owned()),
            false => {
                let port = options.admin_listen.port().to_string();
                for (key, value) in [("scrape", "true"), ("port", port.as_str()), ("path", "/metrics")] {
                    let key = format!("prometheus.io/{key}");
                    annotations.set(&key, Node::text(value));
                    record.annotations.push(key);
                }
            }
        }
    }
    annotations.set(INJECTED, Node::text(record.to_text()));
}

/// Takes the sidecar out of a pod; whether there was one. What it was before
/// is what it is then, as far as nobody has changed it since.
pub fn uninject(pod: &mut Node) -> Result<bool, String> {
    let Some(record) = Record::of(pod) else {
        return Ok(false);
    };
    let record = record?;
    for list in ["initContainers", "containers", "volumes"] {
        if let Some(list) = pod.at_mut(&["spec", list]) {
            list.retain(|item| !is_own(item));
        }
    }
    if let Some(spec) = pod.get_mut("spec") {
        rewrite::restore(spec, &record);
    }
    if let Some(context) = pod.at_mut(&["spec", "securityContext"]) {
        for key in &record.security {
            context.remove(key);
        }
    }
    if let Some(labels) = pod.at_mut(&["metadata", "labels"]) {
        labels.remove(INJECTED);
    }
    if let Some(annotations) = pod.at_mut(&["metadata", "annotations"]) {
        annotations.remove(INJECTED);
        for key in &record.annotations {
            annotations.remove(key);
        }
    }
    for path in MADE {
        record.unmake(pod, path);
    }
    Ok(true)
}
