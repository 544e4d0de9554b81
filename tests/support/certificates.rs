//! Certificates of an authority that exists for one test.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// An authority, and a server's certificate made out to `localhost` and
/// 127.0.0.1, as PEM files.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// Makes new ones.
    pub fn new() -> Certificates {
        let directory = TempDir::new().expect("a temporary directory");
        // Servers read them that have given their rights up.
        let all = Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), all).expect("it is ours");
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::default();
        // Who signs has another name than whom it signs for.
        let name = &mut authority.distinguished_name;
        name.push(DnType::CommonName, "an authority of a test");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).expect("signed");
        let key = KeyPair::generate().expect("a key");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names)
            .expect("names that are right")
            .signed_by(&key, &Issuer::new(authority, authority_key))
            .expect("signed");
        for (name, text) in [
            ("authority.pem", authority_certificate.pem()),
            ("certificate.pem", certificate.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            std::fs::write(directory.path().join(name), text).expect("written");
        }
        Certificates { directory }
    }

    /// Whom to trust.
    pub fn authority(&self) -> PathBuf {
        self.file("authority.pem")
    }

    /// What the server shows.
    pub fn certificate(&self) -> PathBuf {
        self.file("certificate.pem")
    }

    /// Its key.
    pub fn key(&self) -> PathBuf {
        self.file("key.pem")
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(self.directory.path()).join(name)
    }
}
