//! The flags that say what is put into a pod.

use super::super::BadUsage;
use crate::kube::Options;

#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    /// The sidecar's image [default: wal-sidecar:<this version>]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Always, IfNotPresent or Never [default: Kubernetes' own]
    #[arg(long, value_name = "POLICY")]
    image_pull_policy: Option<String>,
    /// native: an init container that runs as long as the pod (Kubernetes
    /// 1.29); plain: a container among the application's [default: native]
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// The ConfigMap with sidecar.toml [default: wal-sidecar]
    #[arg(long, value_name = "NAME")]
    config_map: Option<String>,
    /// A Secret that is mounted at /run/secrets/wal-sidecar
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// What holds the journal: empty-dir, claim, host-path or none [default: empty-dir]
    #[arg(long, value_name = "KIND")]
    journal: Option<String>,
    /// Room for the journal [default: 8Gi]
    #[arg(long, value_name = "QUANTITY")]
    journal_size: Option<String>,
    /// The StorageClass of a claim [default: the cluster's]
    #[arg(long, value_name = "NAME")]
    storage_class: Option<String>,
    /// The node's directory with --journal host-path [default: /var/lib/wal-sidecar]
    #[arg(long, value_name = "PATH")]
    host_path: Option<String>,
    /// [default: 100m]
    #[arg(long, value_name = "QUANTITY")]
    cpu_request: Option<String>,
    /// [default: none]
    #[arg(long, value_name = "QUANTITY")]
    cpu_limit: Option<String>,
    /// [default: 64Mi]
    #[arg(long, value_name = "QUANTITY")]
    memory_request: Option<String>,
    /// [default: 512Mi]
    #[arg(long, value_name = "QUANTITY")]
    memory_limit: Option<String>,
    /// Where probes and Prometheus find the sidecar [default: 0.0.0.0:9900]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// Make a variable of the application's containers say the sidecar's
    /// address: REDIS_URL=127.0.0.1:6380. User, password and path of a URL stay
    #[arg(long, value_name = "NAME=HOST:PORT")]
    rewrite: Vec<String>,
    /// Whether a sidecar that cannot serve makes the pod unready [default: true]
    #[arg(long, value_name = "BOOL")]
    readiness: Option<String>,
    /// Whether the pod gets the annotations prometheus.io/... [default: true]
    #[arg(long, value_name = "BOOL")]
    prometheus: Option<String>,
}

impl Settings {
    /// What they come to; the first flag that is wrong is the error.
    pub(super) fn options(&self) -> Result<Options, BadUsage> {
        let rewrite = (!self.rewrite.is_empty()).then(|| self.rewrite.join(","));
        let flags = [
            ("image", &self.image),
            ("image-pull-policy", &self.image_pull_policy),
            ("mode", &self.mode),
            ("config-map", &self.config_map),
            ("secret", &self.secret),
            ("journal", &self.journal),
            ("journal-size", &self.journal_size),
            ("storage-class", &self.storage_class),
            ("host-path", &self.host_path),
            ("cpu-request", &self.cpu_request),
            ("cpu-limit", &self.cpu_limit),
            ("memory-request", &self.memory_request),
            ("memory-limit", &self.memory_limit),
            ("admin-listen", &self.admin_listen),
            ("rewrite", &rewrite),
            ("readiness", &self.readiness),
            ("prometheus", &self.prometheus),
        ];
        let mut options = Options::default();
        for (name, value) in flags {
            if let Some(value) = value {
                let set = options.set(name, value);
                set.map_err(|error| BadUsage(format!("--{name} {error}")))?;
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use crate::kube::Options;
    use clap::Args;

    #[test]
    fn every_setting_has_a_flag() {
        let command = super::Settings::augment_args(clap::Command::new("test"));
        let flags: Vec<_> = command
            .get_arguments()
            .filter_map(clap::Arg::get_long)
            .collect();
        assert_eq!(flags, Options::names().collect::<Vec<_>>());
    }
}
