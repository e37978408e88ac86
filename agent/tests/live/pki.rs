//! Certificates for tests: an authority, who it vouches for, and who it does not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fragscope_agent::tls::Files;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// A folder with an authority `ca`, an agent `agent` at 127.0.0.1, and clients: `client`, `expired`,
/// and `stranger` of another authority.
pub(crate) struct Pki {
    dir: TempDir,
}

impl Pki {
    pub(crate) fn new() -> Pki {
        let pki = Pki { dir: tempfile::tempdir().unwrap() };
        let ca = authority("the authority");
        let other = authority("another authority");
        pki.write("ca.cert", &ca.pem(), 0o644);
        let mut old = params();
        old.not_before = date_time_ymd(2020, 1, 1);
        old.not_after = date_time_ymd(2020, 1, 2);
        for (name, params, by) in [
            ("agent", params(), &ca),
            ("client", params(), &ca),
            ("expired", old, &ca),
            ("stranger", params(), &other),
        ] {
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, by).unwrap();
            pki.write(&format!("{name}.cert"), &certificate.pem(), 0o644);
            pki.write(&format!("{name}.key"), &key.serialize_pem(), 0o600);
        }
        pki
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What `name` shows, and whom it trusts.
    pub(crate) fn files(&self, name: &str) -> Files {
        let at = |file: String| self.dir().join(file);
        Files {
            cert: at(format!("{name}.cert")),
            key: at(format!("{name}.key")),
            ca: at("ca.cert".to_owned()),
        }
    }
}

fn params() -> CertificateParams {
    CertificateParams::new(["127.0.0.1".to_owned()]).unwrap()
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}
