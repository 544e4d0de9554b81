//! `[journal] serve`: the local journal, given to replicators elsewhere.

use super::address::{self, ListenAddress};
use super::document::Table;
use super::position::Problems;
use super::reader::{Context, Reader, Setting};
use super::secret::Secret;
use super::values::text;
use super::{Backend, file};
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the journal is served, and to whom.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Serve {
    /// Where replicators connect.
    #[serde(rename = "serve")]
    pub listen: SocketAddr,
    /// What they have to show; None: nothing.
    #[serde(rename = "serve_token", skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// What the connections are encrypted with; None: they are not.
    #[serde(flatten)]
    pub tls: Option<ServeTls>,
}

/// The files of a server's certificate, in PEM format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServeTls {
    /// Its certificate, and those that it depends on.
    #[serde(rename = "serve_certificate")]
    pub certificate: PathBuf,
    /// Its key.
    #[serde(rename = "serve_key")]
    pub key: PathBuf,
}

/// The keys as they were read.
pub struct File {
    pub listen: Setting<Option<SocketAddr>>,
    pub token: Setting<Option<Secret>>,
    pub certificate: Setting<Option<PathBuf>>,
    pub key: Setting<Option<PathBuf>>,
}

/// Reads the keys of `[journal]` that are about this.
pub fn read(table: &Table, context: &mut Context) -> File {
    let token = file::secret(table, "serve_token", "journal", context);
    // Its keys are checked where the rest of the table is read.
    let mut reader = Reader::within(table, "journal", &file::JOURNAL, context);
    File {
        listen: reader.setting("serve", None, |node| {
            text(node)
                .and_then(|text| address::tcp_listen(&text))
                .map(Some)
        }),
        token,
        certificate: reader.setting("serve_certificate", None, |node| file::path(node).map(Some)),
        key: reader.setting("serve_key", None, |node| file::path(node).map(Some)),
    }
}

/// What concerns several of them, or what keeps the journal.
pub fn check(file: &File, backend: &Setting<Backend>, problems: &mut Problems) {
    let serves = file.listen.given;
    if serves && file.listen.usable && backend.usable && backend.value != Backend::Local {
        let message = match backend.value {
            Backend::Memory => "a journal in memory is not served; expected backend = \"local\"",
            _ => "a journal in Kafka is not served: replicators read its topics",
        };
        problems.error(&file.listen.at, "journal.serve", message);
    }
    for (key, given, at) in [
        ("serve_token", file.token.given, &file.token.at),
        (
            "serve_certificate",
            file.certificate.given,
            &file.certificate.at,
        ),
        ("serve_key", file.key.given, &file.key.at),
    ] {
        if given && !serves {
            let message = "has no effect without journal.serve";
            problems.error(at, format!("journal.{key}"), message);
        }
    }
    let (certificate, key) = (&file.certificate, &file.key);
    for (has, lacks, name) in [
        (certificate, key, "journal.serve_key"),
        (key, certificate, "journal.serve_certificate"),
    ] {
        if has.given && !lacks.given {
            let message = "missing: certificate and key are given together";
            problems.error(&has.at, name, message);
        }
    }
    let Some(listen) = file.listen.value else {
        return;
    };
    let listen = ListenAddress::Tcp(listen);
    if listen.is_local() {
        return;
    }
    let message = match (file.token.given, certificate.given) {
        (false, _) => {
            "can be reached from other machines, and whoever reaches it can read every write"
        }
        (true, false) => {
            "can be reached from other machines, and neither writes nor the token are encrypted"
        }
        (true, true) => return,
    };
    let message = format!("{listen} {message}");
    problems.warning(&file.listen.at, "journal.serve", message);
}

/// The typed result of keys that were checked.
pub fn build(file: File) -> Option<Serve> {
    let certificate = file.certificate.value.zip(file.key.value);
    Some(Serve {
        listen: file.listen.value?,
        token: file.token.value,
        tls: certificate.map(|(certificate, key)| ServeTls { certificate, key }),
    })
}
