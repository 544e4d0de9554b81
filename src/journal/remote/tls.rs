//! Encryption: TLS 1.3, with certificates that are given, not the system's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::renewed::Renewed;

/// Why certificates or keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or is not in PEM format.
    #[error("read {what} from {}: {reason}", file.display())]
    File {
        /// What ought to be in it.
        what: &'static str,
        /// Which file.
        file: PathBuf,
        /// What was said.
        reason: String,
    },
    /// They are read, but do not fit.
    #[error("use {what} from {}: {reason}", file.display())]
    Unfit {
        /// What is in the file.
        what: &'static str,
        /// Which file.
        file: PathBuf,
        /// What was said.
        reason: String,
    },
    /// A name is neither a DNS name nor an IP address.
    #[error("{0:?} is neither a host name nor an address")]
    Name(String),
}

/// The certificate and the key that a server shows. Files that are renewed are
/// read again.
#[derive(Debug, Clone)]
pub struct ServerTls(Arc<Renewed<TlsAcceptor>>);

impl ServerTls {
    /// Reads a certificate with those it depends on, and its key, from PEM
    /// files. Blocks on the disk.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<ServerTls, TlsError> {
        let files = vec![certificate.to_owned(), key.to_owned()];
        let renewed = Renewed::read(files, |files| acceptor(&files[0], &files[1]))?;
        Ok(ServerTls(Arc::new(renewed)))
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.0.get()
    }
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(certificate)?;
    let unread = |error| file_error("a key", key, error);
    let private = PrivateKeyDer::from_pem_file(key).map_err(unread)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unfit("a certificate", certificate, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| unfit("a certificate and its key", certificate, &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Whom a client trusts to be the server. A file that is renewed is read again.
#[derive(Debug, Clone)]
pub struct ClientTls {
    connector: Arc<Renewed<TlsConnector>>,
    pub(super) server_name: ServerName<'static>,
}

impl ClientTls {
    /// Trusts certificates that are made out to `server_name` (a host name or
    /// an address) by an authority of the PEM file `authority`, and no other.
    /// Blocks on the disk.
    pub fn from_file(authority: &Path, server_name: &str) -> Result<ClientTls, TlsError> {
        let connector = Renewed::read(vec![authority.to_owned()], |files| connector(&files[0]))?;
        let server_name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| TlsError::Name(server_name.to_owned()))?;
        Ok(ClientTls {
            connector: Arc::new(connector),
            server_name,
        })
    }

    pub(super) fn connector(&self) -> TlsConnector {
        self.connector.get()
    }
}

fn connector(authority: &Path) -> Result<TlsConnector, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots
            .add(certificate)
            .map_err(|error| unfit("an authority", authority, &error))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unfit("an authority", authority, &error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const WHAT: &str = "certificates";
    let unread = |error| file_error(WHAT, file, error);
    let found = CertificateDer::pem_file_iter(file).map_err(unread)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(unread)?;
    match found.is_empty() {
        true => Err(unread(pem::Error::NoItemsFound)),
        false => Ok(found),
    }
}

fn file_error(what: &'static str, file: &Path, error: pem::Error) -> TlsError {
    TlsError::File {
        what,
        file: file.to_owned(),
        reason: match error {
            pem::Error::Io(error) => error.to_string(),
            pem::Error::NoItemsFound => "there is none in it".to_owned(),
            other => other.to_string(),
        },
    }
}

fn unfit(what: &'static str, file: &Path, error: &rustls::Error) -> TlsError {
    TlsError::Unfit {
        what,
        file: file.to_owned(),
        reason: error.to_string(),
    }
}
