//! The webhook's certificate: made, read, and read again when it changes.

mod expiry;

pub use expiry::expires_at;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The files, as a Secret of type kubernetes.io/tls has them.
pub const CERTIFICATE_FILE: &str = "tls.crt";
/// The private key's.
pub const KEY_FILE: &str = "tls.key";
/// The authority's, which the API server trusts.
pub const AUTHORITY_FILE: &str = "ca.crt";

/// Certificates begin to be valid a little ago: clocks differ.
const BACKDATE: Duration = Duration::from_secs(300);

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {file}: {error}")]
    Read {
        /// The file.
        file: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// Its content is no certificate or key, or they do not belong together.
    #[error("{file} cannot be used: {reason}")]
    Unusable {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
}

/// A certificate's files, as they were read.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    /// Reads `tls.crt` and `tls.key` of a directory.
    pub fn read(directory: &Path) -> Result<Pair, CertificateError> {
        let read = |name: &str| {
            let file = directory.join(name);
            std::fs::read(&file).map_err(|error| CertificateError::Read {
                file: file.display().to_string(),
                error,
            })
        };
        Ok(Pair {
            certificate: read(CERTIFICATE_FILE)?,
            key: read(KEY_FILE)?,
        })
    }

    /// What a TLS server needs, and when the certificate expires (seconds
    /// since 1970).
    pub fn server_config(&self) -> Result<(Arc<ServerConfig>, i64), CertificateError> {
        let unusable = |file: &str, reason: String| CertificateError::Unusable {
            file: file.to_owned(),
            reason,
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| unusable(CERTIFICATE_FILE, error.to_string()))?;
        let first = chain
            .first()
            .ok_or_else(|| unusable(CERTIFICATE_FILE, "it holds no certificate".to_owned()))?;
        let expires_at = expires_at(first).ok_or_else(|| {
            unusable(
                CERTIFICATE_FILE,
                "it does not say when it expires".to_owned(),
            )
        })?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| unusable(KEY_FILE, error.to_string()))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let mut config = config.map_err(|error| unusable(KEY_FILE, error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok((Arc::new(config), expires_at))
    }
}

/// A new authority, and a certificate that it signed; all as PEM. The
/// authority's key is not kept: a new certificate has a new authority.
#[derive(Debug, Clone)]
pub struct SelfSigned {
    /// The authority's certificate, for the webhook's configuration.
    pub authority: String,
    /// The server's certificate.
    pub certificate: String,
    /// The server's private key.
    pub key: String,
}

impl SelfSigned {
    /// One for a server of these names, valid for so long.
    pub fn new(names: &[String], valid: Duration) -> Result<SelfSigned, rcgen::Error> {
        let now = SystemTime::now();
        let params = |names: &[String], common_name: &str| {
            let mut params = CertificateParams::new(names)?;
            params
                .distinguished_name
                .push(DnType::CommonName, common_name);
            params.not_before = (now - BACKDATE).into();
            params.not_after = (now + valid).into();
            Ok::<_, rcgen::Error>(params)
        };
        let mut authority = params(&[], "wal-sidecar webhook authority")?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let mut server = params(names, "wal-sidecar webhook")?;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &authority)?;
        Ok(SelfSigned {
            authority: authority.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Writes the files a webhook reads, and the authority's.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        std::fs::write(directory.join(AUTHORITY_FILE), &self.authority)?;
        std::fs::write(directory.join(CERTIFICATE_FILE), &self.certificate)?;
        let key = directory.join(KEY_FILE);
        // A key that others could read for a moment is one that they have read.
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        io::Write::write_all(&mut options.open(key)?, self.key.as_bytes())
    }
}
