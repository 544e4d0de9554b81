//! `[[namespace]] upstream_certificate_authority` and its like: TLS to datastores.

use super::document::Table;
use super::position::Problems;
use super::reader::{Context, Reader, Setting};
use super::values::text;
use super::{Upstream, file};
use serde::Serialize;
use std::path::PathBuf;

/// How a datastore is reached over TLS. Files are in PEM format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UpstreamTls {
    /// The file of the authorities that are trusted; None: those the system trusts.
    #[serde(
        rename = "upstream_certificate_authority",
        skip_serializing_if = "Option::is_none"
    )]
    pub certificate_authority: Option<PathBuf>,
    /// Whom the datastore's certificate has to be made out to; None: its host.
    #[serde(
        rename = "upstream_server_name",
        skip_serializing_if = "Option::is_none"
    )]
    pub server_name: Option<String>,
    /// What is shown to it.
    #[serde(flatten)]
    pub identity: Option<Identity>,
}

/// The files of a client's certificate, in PEM format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The certificate, and those that it depends on.
    #[serde(rename = "upstream_certificate")]
    pub certificate: PathBuf,
    /// Its key.
    #[serde(rename = "upstream_key")]
    pub key: PathBuf,
}

/// The keys as they were read.
pub struct File {
    certificate_authority: Setting<Option<PathBuf>>,
    server_name: Setting<Option<String>>,
    certificate: Setting<Option<PathBuf>>,
    key: Setting<Option<PathBuf>>,
}

/// Reads the keys of a namespace's table that are about this.
pub fn read(table: &Table, path: &str, context: &mut Context) -> File {
    // Its keys are checked where the rest of the table is read.
    let mut reader = Reader::within(table, path, &file::NAMESPACE, context);
    let mut name = |key| reader.setting(key, None, |node| file::path(node).map(Some));
    File {
        certificate_authority: name("upstream_certificate_authority"),
        certificate: name("upstream_certificate"),
        key: name("upstream_key"),
        server_name: reader.setting("upstream_server_name", None, |node| text(node).map(Some)),
    }
}

/// What concerns several of them, or the datastores.
pub fn check<'a>(
    file: &File,
    upstreams: impl Iterator<Item = &'a Upstream>,
    path: &impl Fn(&str) -> String,
    problems: &mut Problems,
) {
    let (certificate, key) = (&file.certificate, &file.key);
    let upstreams: Vec<&Upstream> = upstreams.collect();
    // Where none could be read, that is what is wrong.
    if !upstreams.is_empty() && upstreams.iter().all(|one| !one.tls) {
        for (name, given, at) in [
            (
                "upstream_certificate_authority",
                file.certificate_authority.given,
                &file.certificate_authority.at,
            ),
            (
                "upstream_server_name",
                file.server_name.given,
                &file.server_name.at,
            ),
            ("upstream_certificate", certificate.given, &certificate.at),
            ("upstream_key", key.given, &key.at),
        ] {
            if given {
                let message = "has no effect without TLS: upstream begins with neither \
                               \"rediss://\" nor \"memcacheds://\"";
                problems.error(at, path(name), message);
            }
        }
    }
    for (has, lacks, name) in [
        (certificate, key, "upstream_key"),
        (key, certificate, "upstream_certificate"),
    ] {
        if has.given && !lacks.given {
            let message = "missing: certificate and key are given together";
            problems.error(&has.at, path(name), message);
        }
    }
}

/// The typed result of keys that were checked.
pub fn build(file: File) -> UpstreamTls {
    UpstreamTls {
        certificate_authority: file.certificate_authority.value,
        server_name: file.server_name.value,
        identity: file
            .certificate
            .value
            .zip(file.key.value)
            .map(|(certificate, key)| Identity { certificate, key }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};
    use std::path::Path;

    fn parse(lines: &str) -> Result<Config, String> {
        let text = format!(
            "region = \"a\"\n[[namespace]]\nname = \"n\"\nlisten = \"127.0.0.1:1\"\n{lines}\n"
        );
        let environment = Environment::default();
        let parsed = Config::parse(&text, Path::new("s.toml"), &environment);
        parsed.map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_trusted_and_shown() {
        for (url, is_tls) in [("redis://h", false), ("rediss://h", true)] {
            let config = parse(&format!("upstream = {url:?}")).unwrap();
            let namespace = &config.namespaces[0];
            assert_eq!(namespace.upstream.first().tls, is_tls);
            assert_eq!(namespace.upstream_tls, UpstreamTls::default());
        }
        let all = "upstream = \"rediss://h\"\nupstream_certificate_authority = \"ca\"\n\
                   upstream_server_name = \"n\"\nupstream_certificate = \"c\"\nupstream_key = \"k\"";
        let config = parse(all).unwrap();
        let expected = UpstreamTls {
            certificate_authority: Some("ca".into()),
            server_name: Some("n".to_owned()),
            identity: Some(Identity {
                certificate: "c".into(),
                key: "k".into(),
            }),
        };
        assert_eq!(config.namespaces[0].upstream_tls, expected);
        let shown = serde_json::to_value(&config).unwrap();
        let shown = &shown["namespace"][0];
        for (key, value) in [
            ("upstream", "rediss://h:6379"),
            ("upstream_certificate_authority", "ca"),
            ("upstream_server_name", "n"),
            ("upstream_certificate", "c"),
            ("upstream_key", "k"),
        ] {
            assert_eq!(shown[key], value, "{shown}");
        }
    }

    #[test]
    fn errors() {
        for (lines, expected) in [
            (
                "upstream = \"redis://h\"\nupstream_certificate_authority = \"f\"",
                "s.toml:6: namespace[0].upstream_certificate_authority: has no effect without TLS",
            ),
            (
                "upstream = \"redis://h\"\nupstream_server_name = \"n\"",
                "s.toml:6: namespace[0].upstream_server_name: has no effect without TLS",
            ),
            (
                "upstream = \"rediss://h\"\nupstream_certificate = \"f\"",
                "s.toml:6: namespace[0].upstream_key: missing: certificate and key are given",
            ),
            (
                "upstream = \"rediss://h\"\nupstream_key = \"f\"",
                "s.toml:6: namespace[0].upstream_certificate: missing: certificate and key",
            ),
            (
                "upstream = \"rediss://h\"\nupstream_key = 5",
                "s.toml:6: namespace[0].upstream_key: expected",
            ),
            (
                "upstream = \"rediss://h:x\"\nupstream_server_name = \"n\"",
                "s.toml:5: namespace[0].upstream: expected host:port, found \"h:x\"",
            ),
        ] {
            let error = parse(lines).unwrap_err();
            assert!(error.contains(expected), "{lines}: {error}");
            let is_late = expected.contains("h:x") && error.contains("has no effect");
            assert!(!is_late, "{error}");
        }
    }
}
