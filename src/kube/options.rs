//! What is put into a pod: flags and annotations set the same settings, by
//! the same names and under the same rules.

use std::net::{Ipv4Addr, SocketAddr};

/// Where annotations and labels of this program begin.
pub const PREFIX: &str = "wal-sidecar.io/";

/// The user and group the sidecar runs as: the image's, and nobody's else.
pub const USER: i64 = 65_532;

/// Room for the journal. Twice `journal.retention_bytes`' default, which is
/// passed for a while when a reader is behind.
const JOURNAL_SIZE: &str = "8Gi";
/// An idle sidecar takes 14 MiB and 7 KiB a client; what is under way may take
/// up to `in_flight_bytes_max`, 256 MiB if nothing else is said.
const MEMORY_REQUEST: &str = "64Mi";
const MEMORY_LIMIT: &str = "512Mi";
const CPU_REQUEST: &str = "100m";
/// From 2 on, so that an annotation cannot fill the pod's object.
const REWRITES_MAX: usize = 32;

/// How the sidecar is part of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// An init container that is restarted always: it starts before the
    /// application's containers and ends after them (Kubernetes 1.29).
    Native,
    /// A container among the application's.
    Plain,
}

/// What holds the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalVolume {
    /// A directory that lives as long as the pod.
    EmptyDir,
    /// A persistent volume: a StatefulSet's own claim for each pod, in other
    /// pods one that is deleted with the pod.
    Claim,
    /// A directory of the node.
    HostPath,
    /// None: the journal is in Kafka alone.
    None,
}

/// An environment variable of the application that is to point to the sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The variable.
    pub name: String,
    /// The sidecar's `host:port` for it.
    pub address: String,
}

/// What is put into a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The sidecar's image.
    pub image: String,
    /// When the image is pulled; Kubernetes' own default if not said.
    pub image_pull_policy: Option<String>,
    /// How the sidecar is part of the pod.
    pub mode: Mode,
    /// The ConfigMap with `sidecar.toml`, in the pod's namespace.
    pub config_map: String,
    /// A Secret whose keys become files under `/run/secrets/wal-sidecar`.
    pub secret: Option<String>,
    /// What holds the journal.
    pub journal: JournalVolume,
    /// Room for it.
    pub journal_size: String,
    /// The StorageClass of the claim; the cluster's default if not said.
    pub storage_class: Option<String>,
    /// The node's directory for `HostPath`.
    pub host_path: String,
    /// Requested CPU.
    pub cpu_request: String,
    /// Limit of CPU; none if not said.
    pub cpu_limit: Option<String>,
    /// Requested memory.
    pub memory_request: String,
    /// Limit of memory.
    pub memory_limit: String,
    /// Where probes and Prometheus find the sidecar.
    pub admin_listen: SocketAddr,
    /// Variables of the application that are to point to the sidecar.
    pub rewrites: Vec<Rewrite>,
    /// Whether a sidecar that cannot serve makes the pod unready.
    pub readiness: bool,
    /// Whether the pod gets the annotations `prometheus.io/...`.
    pub prometheus: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            image: concat!("wal-sidecar:", env!("CARGO_PKG_VERSION")).to_owned(),
            image_pull_policy: None,
            mode: Mode::Native,
            config_map: "wal-sidecar".to_owned(),
            secret: None,
            journal: JournalVolume::EmptyDir,
            journal_size: JOURNAL_SIZE.to_owned(),
            storage_class: None,
            host_path: "/var/lib/wal-sidecar".to_owned(),
            cpu_request: CPU_REQUEST.to_owned(),
            cpu_limit: None,
            memory_request: MEMORY_REQUEST.to_owned(),
            memory_limit: MEMORY_LIMIT.to_owned(),
            admin_listen: (Ipv4Addr::UNSPECIFIED, 9900).into(),
            rewrites: Vec::new(),
            readiness: true,
            prometheus: true,
        }
    }
}

/// Sets one setting, or says what it takes.
type Set = fn(&mut Options, &str) -> Result<(), String>;

/// Every setting by its name: `--name` on the command line, `wal-sidecar.io/name`
/// as an annotation.
const SETTINGS: &[(&str, Set)] = &[
    ("image", |options, value| {
        options.image = word(value, "an image's name")?;
        Ok(())
    }),
    ("image-pull-policy", |options, value| {
        let policies = ["Always", "IfNotPresent", "Never"];
        if !policies.contains(&value) {
            return Err(format!("takes one of {}", policies.join(", ")));
        }
        options.image_pull_policy = Some(value.to_owned());
        Ok(())
    }),
    ("mode", |options, value| {
        options.mode = match value {
            "native" => Mode::Native,
            "plain" => Mode::Plain,
            _ => return Err("takes native or plain".to_owned()),
        };
        Ok(())
    }),
    ("config-map", |options, value| {
        options.config_map = object_name(value)?;
        Ok(())
    }),
    ("secret", |options, value| {
        options.secret = Some(object_name(value)?);
        Ok(())
    }),
    ("journal", |options, value| {
        options.journal = match value {
            "empty-dir" => JournalVolume::EmptyDir,
            "claim" => JournalVolume::Claim,
            "host-path" => JournalVolume::HostPath,
            "none" => JournalVolume::None,
            _ => return Err("takes empty-dir, claim, host-path or none".to_owned()),
        };
        Ok(())
    }),
    ("journal-size", |options, value| {
        options.journal_size = quantity(value)?;
        Ok(())
    }),
    ("storage-class", |options, value| {
        options.storage_class = Some(object_name(value)?);
        Ok(())
    }),
    ("host-path", |options, value| {
        let is_plain = !value.split('/').any(|part| part == "..");
        if !value.starts_with('/') || value.len() < 2 || !is_plain {
            return Err("takes an absolute path without `..`".to_owned());
        }
        options.host_path = word(value, "a path")?;
        Ok(())
    }),
    ("cpu-request", |options, value| {
        options.cpu_request = quantity(value)?;
        Ok(())
    }),
    ("cpu-limit", |options, value| {
        options.cpu_limit = Some(quantity(value)?);
        Ok(())
    }),
    ("memory-request", |options, value| {
        options.memory_request = quantity(value)?;
        Ok(())
    }),
    ("memory-limit", |options, value| {
        options.memory_limit = quantity(value)?;
        Ok(())
    }),
    ("admin-listen", |options, value| {
        let address: SocketAddr = value
            .parse()
            .map_err(|_| "takes an address such as 0.0.0.0:9900 or [::]:9900".to_owned())?;
        if address.port() == 0 || address.ip().is_loopback() {
            return Err("takes a port, and an address that probes can reach".to_owned());
        }
        options.admin_listen = address;
        Ok(())
    }),
    ("rewrite", |options, value| {
        options.rewrites = rewrites(value)?;
        Ok(())
    }),
    ("readiness", |options, value| {
        options.readiness = truth(value)?;
        Ok(())
    }),
    ("prometheus", |options, value| {
        options.prometheus = truth(value)?;
        Ok(())
    }),
];

impl Options {
    /// The names of all settings.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SETTINGS.iter().map(|(name, _)| *name)
    }

    /// Sets one setting by its name. An error leaves it as it was; its text
    /// continues a sentence that begins with the name.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let setting = SETTINGS.iter().find(|(known, _)| *known == name);
        let (_, set) = setting.ok_or_else(|| format!("is not known; there are {}", list()))?;
        set(self, value.trim())
    }
}

fn list() -> String {
    Options::names().collect::<Vec<_>>().join(", ")
}

/// `true` and its friends.
pub(super) fn truth(value: &str) -> Result<bool, String> {
    match value {
        "true" | "enabled" => Ok(true),
        "false" | "disabled" => Ok(false),
        _ => Err("takes true or false".to_owned()),
    }
}

fn word(value: &str, what: &str) -> Result<String, String> {
    let is_word = !value.is_empty() && value.chars().all(|one| one.is_ascii_graphic());
    match is_word && value.len() <= 512 {
        true => Ok(value.to_owned()),
        false => Err(format!("takes {what}")),
    }
}

/// A DNS subdomain (RFC 1123), as Kubernetes wants of the names of objects.
fn object_name(value: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let fits = |one: u8| one.is_ascii_lowercase() || one.is_ascii_digit() || one == b'-';
        !label.is_empty()
            && label.bytes().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match value.len() <= 253 && value.split('.').all(is_label) {
        true => Ok(value.to_owned()),
        false => Err("takes an object's name: a-z, 0-9, - and .".to_owned()),
    }
}

/// A number and a unit of Kubernetes' (resource.Quantity), above zero.
fn quantity(value: &str) -> Result<String, String> {
    let units = [
        "", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    let end = value
        .find(|one: char| !one.is_ascii_digit() && one != '.')
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(end);
    let is_positive = number.parse::<f64>().is_ok_and(|number| number > 0.0);
    match is_positive && !number.starts_with('.') && units.contains(&unit) {
        true => Ok(value.to_owned()),
        false => Err("takes a quantity such as 100m, 64Mi or 8Gi".to_owned()),
    }
}

/// `NAME=host:port`, several separated by commas.
fn rewrites(value: &str) -> Result<Vec<Rewrite>, String> {
    let mut rewrites = Vec::new();
    for part in value
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let rewrite = part.split_once('=').and_then(|(name, address)| {
            let is_name = !name.is_empty()
                && !name.starts_with(|first: char| first.is_ascii_digit())
                && name
                    .bytes()
                    .all(|one| one.is_ascii_alphanumeric() || one == b'_');
            let (host, port) = address.rsplit_once(':')?;
            let port = port.parse::<u16>().is_ok_and(|port| port > 0);
            let is_host = !host.is_empty()
                && host
                    .bytes()
                    .all(|one| one.is_ascii_alphanumeric() || b".-[]:".contains(&one));
            (is_name && is_host && port).then(|| Rewrite {
                name: name.to_owned(),
                address: address.to_owned(),
            })
        });
        rewrites.push(rewrite.ok_or_else(|| {
            "takes NAME=host:port, several separated by commas, such as REDIS_URL=127.0.0.1:6380"
                .to_owned()
        })?);
    }
    match rewrites.len() <= REWRITES_MAX {
        true => Ok(rewrites),
        false => Err(format!("takes {REWRITES_MAX} variables at most")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        for (name, good, bad) in [
            ("image", "registry.example.com/wal-sidecar@sha256:ab", "a b"),
            ("image-pull-policy", "Always", "always"),
            ("mode", "plain", "init"),
            ("config-map", "team-a.sidecar", "Team"),
            ("secret", "kafka", "-x"),
            ("journal", "claim", "tape"),
            ("journal-size", "1.5Gi", "0"),
            ("storage-class", "fast", ""),
            ("host-path", "/data/journal", "/data/../etc"),
            ("cpu-request", "0.5", "half"),
            ("cpu-limit", "2", "2 cores"),
            ("memory-request", "64Mi", "64MiB"),
            ("memory-limit", "1Gi", "-1Gi"),
            ("admin-listen", "[::]:9900", "127.0.0.1:9900"),
            (
                "rewrite",
                "REDIS_URL=127.0.0.1:6380,M=localhost:11212",
                "REDIS_URL",
            ),
            ("readiness", "false", "no"),
            ("prometheus", "true", "1"),
        ] {
            let mut options = Options::default();
            options
                .set(name, good)
                .unwrap_or_else(|error| panic!("{name} {good}: {error}"));
            let before = options.clone();
            options.set(name, bad).expect_err(name);
            assert_eq!(options, before, "{name}");
        }
        let error = Options::default().set("imagee", "x").unwrap_err();
        assert!(
            error.starts_with("is not known; there are image, "),
            "{error}"
        );
    }
}
