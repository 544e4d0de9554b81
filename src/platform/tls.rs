//! Encryption: TLS, of what is read from PEM files. Files that are renewed are
//! read again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use renewed::Renewed;

mod renewed;

/// What is spoken with others than this program.
const COMMON: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// What is spoken among processes of this program.
const OWN: &[&SupportedProtocolVersion] = &[&TLS13];

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
    /// No file was given, and the system has none either.
    #[error("this system has no list of authorities to trust; name a file with one ({0})")]
    NoAuthority(String),
    /// There is no common ground.
    #[error("TLS can't be used: {0}")]
    Unusable(rustls::Error),
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

    /// Speaks TLS on a connection from now on, as the server.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
        let acceptor = self.0.get().map_err(io::Error::other)?;
        acceptor.accept(stream).await
    }
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let (chain, private) = identity(certificate, key)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(OWN)
        .map_err(TlsError::Unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| unfit("a certificate and its key", certificate, &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Whom a client trusts to be the server, and what it shows itself.
#[derive(Debug, Clone, Default)]
pub struct ClientFiles {
    /// The authorities that are trusted, and no other; None: those that the system
    /// trusts.
    pub authority: Option<PathBuf>,
    /// A certificate with those it depends on, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How a client speaks TLS with one server. Files that are renewed are read again.
#[derive(Debug, Clone)]
pub struct ClientTls {
    connector: Arc<Renewed<TlsConnector>>,
    server_name: String,
}

impl ClientTls {
    /// With a server whose certificate is made out to `server_name` (a host name or
    /// an address). The files are read when they are needed.
    pub fn new(files: ClientFiles, server_name: &str) -> ClientTls {
        ClientTls::of(files, server_name, COMMON)
    }

    /// With a server of this program. Trusts an authority of the PEM file
    /// `authority`, and no other. Blocks on the disk.
    pub fn from_file(authority: &Path, server_name: &str) -> Result<ClientTls, TlsError> {
        let files = ClientFiles {
            authority: Some(authority.to_owned()),
            identity: None,
        };
        let tls = ClientTls::of(files, server_name, OWN);
        tls.check().map(|()| tls)
    }

    fn of(
        files: ClientFiles,
        server_name: &str,
        versions: &'static [&'static SupportedProtocolVersion],
    ) -> ClientTls {
        let (certificate, key) = files.identity.clone().unzip();
        let named = [files.authority.clone(), certificate, key];
        let named = named.into_iter().flatten().collect();
        let connector = Renewed::new(named, move |_| connector(&files, versions));
        ClientTls {
            connector: Arc::new(connector),
            server_name: server_name.to_owned(),
        }
    }

    /// Whether the files can be used. Blocks on the disk.
    pub fn check(&self) -> Result<(), TlsError> {
        self.server_name()?;
        self.connector.get().map(drop)
    }

    /// Speaks TLS on a connection from now on, as the client. Blocks on the disk
    /// where files have to be read.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = self.server_name().map_err(io::Error::other)?;
        let connector = self.connector.get().map_err(io::Error::other)?;
        connector.connect(name, stream).await
    }

    fn server_name(&self) -> Result<ServerName<'static>, TlsError> {
        ServerName::try_from(self.server_name.clone())
            .map_err(|_| TlsError::Name(self.server_name.clone()))
    }
}

fn connector(
    files: &ClientFiles,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<TlsConnector, TlsError> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .map_err(TlsError::Unusable)?
        .with_root_certificates(authorities(files.authority.as_deref())?);
    let mut config = match &files.identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let (chain, private) = identity(certificate, key)?;
            config
                .with_client_auth_cert(chain, private)
                .map_err(|error| unfit("a certificate and its key", certificate, &error))?
        }
    };
    // A server that asks for a certificate may refuse to take an earlier session up.
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn authorities(file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        let found = rustls_native_certs::load_native_certs();
        // Some systems have a few that nothing can read.
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return match usable {
            0 => Err(TlsError::NoAuthority(reasons.join(", "))),
            _ => Ok(roots),
        };
    };
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .map_err(|error| unfit("an authority", file, &error))?;
    }
    Ok(roots)
}

fn identity(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(certificate)?;
    let unread = |error| file_error("a key", key, error);
    let private = PrivateKeyDer::from_pem_file(key).map_err(unread)?;
    Ok((chain, private))
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
