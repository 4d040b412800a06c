//! Certificates of nodes, made for a test.

use presence_server::cluster::{MeshConfig, Tls};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// A CA. All have the same name.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(authority("a CA"), key).unwrap())
    }

    /// One that this one vouches for.
    pub(crate) fn between(&self) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(authority("one between"), key, &self.0).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names.
    pub(crate) fn sign(&self, names: &[&str]) -> Signed {
        self.sign_with(names, |_| {})
    }

    /// One that was good from 2010 until 2020.
    pub(crate) fn sign_old(&self, name: &str) -> Signed {
        self.sign_with(&[name], |params| {
            params.not_before = date_time_ymd(2010, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    pub(crate) fn sign_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Signed {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Signed {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// The settings of a node of this name that trusts this CA.
    pub(crate) fn config(&self, name: &str) -> MeshConfig {
        self.joining(name, &[])
    }

    pub(crate) fn joining(&self, name: &str, addresses: &[String]) -> MeshConfig {
        self.joining_with(&self.sign(&[name]), addresses)
    }

    /// The settings of a node that has this certificate and trusts this CA.
    pub(crate) fn joining_with(&self, signed: &Signed, addresses: &[String]) -> MeshConfig {
        let mut config = crate::node::joining(addresses);
        config.tls = Some(signed.tls(&self.pem()).unwrap());
        config
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Signed {
    pub(crate) fn tls(&self, ca: &str) -> Result<Tls, presence_server::cluster::TlsError> {
        Tls::new(&self.certificate, &self.key, ca)
    }
}
