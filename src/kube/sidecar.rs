//! The sidecar as a container of a pod, and its volumes.

use super::options::{JournalVolume, Mode, Options, USER};
use super::yaml::Node;

/// The container's name.
pub const CONTAINER: &str = "wal-sidecar";
/// The volumes' names. All begin with the container's.
pub(super) const CONFIG_VOLUME: &str = "wal-sidecar-config";
pub(super) const JOURNAL_VOLUME: &str = "wal-sidecar-journal";
pub(super) const SECRET_VOLUME: &str = "wal-sidecar-secret";

const BINARY: &str = "/usr/local/bin/wal-sidecar";
const CONFIG_DIRECTORY: &str = "/etc/wal-sidecar";
const JOURNAL_MOUNT: &str = "/var/lib/wal-sidecar";
/// A file system of its own has a `lost+found` at its root.
const JOURNAL_DIRECTORY: &str = "/var/lib/wal-sidecar/journal";
/// Pods of one node share its directory, so each has one of its own below it:
/// the same again after a restart, where its name is (StatefulSets).
const JOURNAL_OF_POD: &str = "/var/lib/wal-sidecar/$(POD_NAMESPACE)/$(POD_NAME)";
const SECRET_DIRECTORY: &str = "/run/secrets/wal-sidecar";

/// Seconds that Kubernetes gives a pod to end if it says nothing.
const GRACE_SECONDS: i64 = 30;
/// Seconds of the grace period that are left unused, so that the end is
/// orderly on a busy node too.
const GRACE_SPARE: i64 = 2;

/// How a pod's grace period is spent, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grace {
    /// How long the preStop hook waits for clients to leave.
    pub(super) wait: i64,
    /// How long the drain may take after that.
    pub(super) drain: i64,
}

impl Grace {
    /// Three fifths are for the application to end; the drain needs little,
    /// as what is under way takes no longer than `request_timeout`.
    pub(super) fn of(pod_seconds: Option<i64>) -> Grace {
        let seconds = pod_seconds.unwrap_or(GRACE_SECONDS).max(0);
        let wait = seconds * 3 / 5;
        Grace {
            wait,
            drain: (seconds - wait - GRACE_SPARE).max(1),
        }
    }
}

/// The container.
pub(super) fn container(options: &Options, grace: Grace) -> Node {
    let mut container = Node::map([
        ("name", Node::text(CONTAINER)),
        ("image", Node::text(&*options.image)),
    ]);
    if let Some(policy) = &options.image_pull_policy {
        container.set("imagePullPolicy", Node::text(policy.as_str()));
    }
    if options.mode == Mode::Native {
        container.set("restartPolicy", Node::text("Always"));
    }
    let port = i64::from(options.admin_listen.port());
    container.set("args", Node::list([Node::text("run")]));
    container.set("env", environment(options, grace));
    container.set(
        "ports",
        Node::list([Node::map([
            ("name", Node::text("wal-admin")),
            ("containerPort", Node::number(port)),
        ])]),
    );
    // The application's containers start when this has succeeded: listeners
    // are open by then. Not /readyz: whether the application can start
    // without its datastore is for it to decide.
    container.set("startupProbe", probe("/healthz", port, 1, 120));
    container.set("livenessProbe", probe("/healthz", port, 10, 6));
    if options.readiness {
        container.set("readinessProbe", probe("/readyz", port, 5, 3));
    }
    let hook = ["kube", "drain", "--wait", &format!("{}s", grace.wait)].map(Node::text);
    let command = std::iter::once(Node::text(BINARY)).chain(hook);
    container.set(
        "lifecycle",
        Node::map([(
            "preStop",
            Node::map([("exec", Node::map([("command", Node::list(command))]))]),
        )]),
    );
    container.set("resources", resources(options));
    container.set("securityContext", security_context());
    container.set("volumeMounts", mounts(options));
    container
}

fn environment(options: &Options, grace: Grace) -> Node {
    let variable = |name: &str, value: &str| {
        Node::map([("name", Node::text(name)), ("value", Node::text(value))])
    };
    let field = |name: &str, path: &str| {
        let from = Node::map([("fieldRef", Node::map([("fieldPath", Node::text(path))]))]);
        Node::map([("name", Node::text(name)), ("valueFrom", from)])
    };
    let mut variables = vec![
        variable(
            "WAL_SIDECAR_CONFIG",
            &format!("{CONFIG_DIRECTORY}/sidecar.toml"),
        ),
        variable(
            "WAL_SIDECAR_ADMIN_LISTEN",
            &options.admin_listen.to_string(),
        ),
        variable("WAL_SIDECAR_DRAIN_TIMEOUT", &format!("{}s", grace.drain)),
        variable("WAL_SIDECAR_LOG_FORMAT", "json"),
    ];
    match options.journal {
        JournalVolume::None => {}
        JournalVolume::HostPath => variables.extend([
            field("POD_NAMESPACE", "metadata.namespace"),
            field("POD_NAME", "metadata.name"),
            variable("WAL_SIDECAR_JOURNAL_DIRECTORY", JOURNAL_OF_POD),
        ]),
        JournalVolume::EmptyDir | JournalVolume::Claim => {
            variables.push(variable("WAL_SIDECAR_JOURNAL_DIRECTORY", JOURNAL_DIRECTORY));
        }
    }
    Node::list(variables)
}

fn probe(path: &str, port: i64, period: i64, failures: i64) -> Node {
    Node::map([
        (
            "httpGet",
            Node::map([("path", Node::text(path)), ("port", Node::number(port))]),
        ),
        ("periodSeconds", Node::number(period)),
        ("timeoutSeconds", Node::number(5)),
        ("failureThreshold", Node::number(failures)),
    ])
}

fn resources(options: &Options) -> Node {
    let mut limits = Node::map([("memory", Node::text(&*options.memory_limit))]);
    if let Some(cpu) = &options.cpu_limit {
        limits.set("cpu", Node::text(cpu.as_str()));
    }
    let requests = Node::map([
        ("cpu", Node::text(&*options.cpu_request)),
        ("memory", Node::text(&*options.memory_request)),
    ]);
    Node::map([("requests", requests), ("limits", limits)])
}

/// What Kubernetes' "restricted" pod security standard wants, and more.
fn security_context() -> Node {
    let drop = Node::map([("drop", Node::list([Node::text("ALL")]))]);
    let profile = Node::map([("type", Node::text("RuntimeDefault"))]);
    Node::map([
        ("runAsNonRoot", Node::boolean(true)),
        ("runAsUser", Node::number(USER)),
        ("runAsGroup", Node::number(USER)),
        ("allowPrivilegeEscalation", Node::boolean(false)),
        ("readOnlyRootFilesystem", Node::boolean(true)),
        ("capabilities", drop),
        ("seccompProfile", profile),
    ])
}

fn mounts(options: &Options) -> Node {
    let mount = |name: &str, path: &str, read_only: bool| {
        let mut mount = Node::map([("name", Node::text(name)), ("mountPath", Node::text(path))]);
        if read_only {
            mount.set("readOnly", Node::boolean(true));
        }
        mount
    };
    let mut mounts = vec![mount(CONFIG_VOLUME, CONFIG_DIRECTORY, true)];
    if options.secret.is_some() {
        mounts.push(mount(SECRET_VOLUME, SECRET_DIRECTORY, true));
    }
    if options.journal != JournalVolume::None {
        mounts.push(mount(JOURNAL_VOLUME, JOURNAL_MOUNT, false));
    }
    Node::list(mounts)
}

/// The pod's volumes. `has_claim`: the journal's is the StatefulSet's claim.
pub(super) fn volumes(options: &Options, has_claim: bool) -> Vec<Node> {
    let volume = |name: &str, kind: &str, source: Node| {
        Node::map([("name", Node::text(name)), (kind, source)])
    };
    // A directory, not a file of it: so a changed ConfigMap arrives.
    let config = Node::map([("name", Node::text(&*options.config_map))]);
    let mut volumes = vec![volume(CONFIG_VOLUME, "configMap", config)];
    if let Some(secret) = &options.secret {
        let source = Node::map([("secretName", Node::text(secret.as_str()))]);
        volumes.push(volume(SECRET_VOLUME, "secret", source));
    }
    let size = || Node::text(&*options.journal_size);
    let journal = match options.journal {
        JournalVolume::Claim if has_claim => None,
        JournalVolume::None => None,
        JournalVolume::EmptyDir => Some(("emptyDir", Node::map([("sizeLimit", size())]))),
        JournalVolume::HostPath => {
            let source = Node::map([
                ("path", Node::text(&*options.host_path)),
                ("type", Node::text("Directory")),
            ]);
            Some(("hostPath", source))
        }
        JournalVolume::Claim => {
            let template = Node::map([("spec", claim_spec(options))]);
            Some(("ephemeral", Node::map([("volumeClaimTemplate", template)])))
        }
    };
    volumes.extend(journal.map(|(kind, source)| volume(JOURNAL_VOLUME, kind, source)));
    volumes
}

/// A StatefulSet's claim of the journal's volume.
pub(super) fn claim_template(options: &Options) -> Node {
    Node::map([
        (
            "metadata",
            Node::map([("name", Node::text(JOURNAL_VOLUME))]),
        ),
        ("spec", claim_spec(options)),
    ])
}

fn claim_spec(options: &Options) -> Node {
    let size = Node::map([("storage", Node::text(&*options.journal_size))]);
    let mut spec = Node::map([("accessModes", Node::list([Node::text("ReadWriteOnce")]))]);
    if let Some(class) = &options.storage_class {
        spec.set("storageClassName", Node::text(class.as_str()));
    }
    spec.set("resources", Node::map([("requests", size)]));
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grace_period_is_enough_for_the_hook_and_the_drain() {
        for (pod, wait, drain) in [
            (None, 18, 10),
            (Some(60), 36, 22),
            (Some(5), 3, 1),
            (Some(0), 0, 1),
        ] {
            assert_eq!(Grace::of(pod), Grace { wait, drain }, "{pod:?}");
        }
        for seconds in 8..600 {
            let grace = Grace::of(Some(seconds));
            assert!(
                grace.wait + grace.drain + GRACE_SPARE <= seconds,
                "{seconds}"
            );
        }
    }
}
