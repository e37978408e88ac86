//! TLS between an agent and those who follow it: both sides show a certificate, or nothing is said.
//!
//! Only TLS 1.3, no resumption: every connection proves anew that its certificate is still good.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, client};
use thiserror::Error;

/// Permission bits of a private key's file that are refused: those of everybody.
const EVERYBODY: u32 = 0o007;

/// What one side shows, and by whom the other must be vouched for. All are PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Own certificate, with what leads from it to its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of the other side's certificate.
    pub ca: PathBuf,
}

/// Why TLS can't be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file can't be read as what it should be.
    #[error("{path}: expected {expected} (PEM): {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What was found.
        source: pem::Error,
    },
    /// A file holds none of what is expected.
    #[error("{path}: holds no certificate (PEM)", path = path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// A certificate of an authority is not one.
    #[error("{path}: {source}", path = path.display())]
    Authority {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Everybody may read the private key.
    #[error(
        "{path}: everybody may use this private key (mode {mode:04o}); chmod o= it, or better make \
         another",
        path = path.display()
    )]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The private key's file can't be looked at.
    #[error("{path}: {source}", path = path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Certificate and key are refused.
    #[error("the certificate can't be used with its key: {0}")]
    Identity(#[from] rustls::Error),
    /// The authorities are refused.
    #[error("clients can't be verified: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

/// What an agent needs to be followed: clients must have a certificate of one of the authorities.
///
/// # Errors
/// [`TlsError`] if a file can't be used.
pub fn server(files: &Files) -> Result<Arc<ServerConfig>, TlsError> {
    let roots = Arc::new(authorities(&files.ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&files.cert)?, private_key(&files.key)?)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// What a follower needs: the agent must have a certificate of one of the authorities, for the name
/// that it is reached by.
///
/// # Errors
/// [`TlsError`] if a file can't be used.
pub fn client(files: &Files) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(authorities(&files.ca)?)
        .with_client_auth_cert(certificates(&files.cert)?, private_key(&files.key)?)?;
    config.resumption = client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |source| TlsError::File { path: path.to_owned(), expected: "certificates", source };
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(bad)?.collect::<Result<_, _>>().map_err(bad)?;
    if found.is_empty() {
        return Err(TlsError::Empty { path: path.to_owned() });
    }
    Ok(found)
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Authority { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let metadata =
        fs::metadata(path).map_err(|source| TlsError::Key { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & EVERYBODY != 0 {
        return Err(TlsError::Exposed { path: path.to_owned(), mode });
    }
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::File {
        path: path.to_owned(),
        expected: "a private key",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(dir: &Path, key_mode: u32) -> Files {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let files =
            Files { cert: dir.join("c.pem"), key: dir.join("k.pem"), ca: dir.join("c.pem") };
        fs::write(&files.cert, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(key_mode)).unwrap();
        files
    }

    #[test]
    fn files_that_are_something_else_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let files = made(dir.path(), 0o640);
        assert!(server(&files).is_ok() && client(&files).is_ok());
        let missing = Files { ca: dir.path().join("none.pem"), ..files.clone() };
        let error = server(&missing).unwrap_err().to_string();
        assert!(error.contains("none.pem"), "{error}");
        let swapped = Files { cert: files.key.clone(), ..files.clone() };
        assert!(matches!(client(&swapped), Err(TlsError::Empty { .. })));
        let keyless = Files { key: files.cert.clone(), ..files.clone() };
        fs::set_permissions(&files.cert, fs::Permissions::from_mode(0o600)).unwrap();
        let error = server(&keyless).unwrap_err().to_string();
        assert!(error.contains("a private key"), "{error}");
    }

    #[test]
    fn a_key_that_everybody_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = made(dir.path(), 0o644);
        assert!(matches!(server(&files), Err(TlsError::Exposed { mode: 0o644, .. })));
    }
}
