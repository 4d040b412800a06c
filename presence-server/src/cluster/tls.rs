//! The certificates of a node that speaks TLS: its own, and the CA that all nodes of the cluster trust.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// What a node shows to others, and by what it knows theirs. Its `Debug` shows nothing of it.
///
/// Nodes speak TLS 1.3, and each shows the other a certificate, which must be good as a server's and a
/// client's. What a node says of its name counts only if a DNS name among the subject's alternative
/// names is the same, letter for letter; a wildcard is nobody's name. So a node whose name is no DNS
/// name, such as one with `@` in it or an IP address, can't be one of such a cluster.
///
/// The files are read once: a node that is to show a new certificate is started again. Whoever is
/// connected stays so, though the certificates end.
#[derive(Clone)]
pub struct Tls {
    pub(super) own: Arc<CertifiedKey>,
    pub(super) trusted: Arc<RootCertStore>,
}

/// What a [`Tls`] is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsPart {
    /// The node's certificate, and those between it and the CA's.
    Certificate,
    /// The node's key.
    Key,
    /// The CA's certificate.
    Ca,
}

/// Why a node can't speak TLS with what it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// There is none in the text.
    #[error("{part} is missing: there is no PEM section of {}", part.section())]
    Missing {
        /// What is missing.
        part: TlsPart,
    },
    /// It can't be read.
    #[error("{part} is no PEM: {reason}")]
    Pem {
        /// What can't be read.
        part: TlsPart,
        /// Why.
        reason: String,
    },
    /// It is none, or of a kind that isn't supported.
    #[error("{part} can't be used: {reason}")]
    Unusable {
        /// What can't be used.
        part: TlsPart,
        /// Why.
        reason: String,
    },
    /// They don't belong together.
    #[error("the node's key is not that of its certificate")]
    KeyMismatch,
    /// The name that the node goes by can't be in a certificate.
    #[error("the node's name, {name:?}, is no DNS name, and so no certificate can be for it")]
    NoDnsName {
        /// The name.
        name: Arc<str>,
    },
    /// The certificate is another node's.
    #[error("the node's name is {name:?}, and its certificate is for {names}")]
    OtherName {
        /// The name that the node goes by.
        name: Arc<str>,
        /// The names in the certificate.
        names: String,
    },
    /// No node that trusts the same CA would take the certificate.
    #[error("the node's certificate is good for nobody: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}

impl Tls {
    /// Reads PEM: the node's certificate, followed by those between it and the CA's if there are any;
    /// its key, as PKCS #8, PKCS #1 or SEC 1, not encrypted; and the certificates of one CA or more.
    ///
    /// Whether the certificate is signed by the CA, still good and the node's is known when the
    /// [mesh](super::Mesh) starts.
    ///
    /// # Errors
    ///
    /// [`TlsError`], which says what is wrong with which of them.
    pub fn new(
        certificates: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        ca: impl AsRef<[u8]>,
    ) -> Result<Self, TlsError> {
        let certificates = read_certificates(TlsPart::Certificate, certificates.as_ref())?;
        let part = TlsPart::Key;
        let key =
            PrivateKeyDer::from_pem_slice(key.as_ref()).map_err(|error| no_pem(part, &error))?;
        let own = CertifiedKey::from_der(certificates, key, &provider());
        let own = own.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch,
            rustls::Error::InvalidCertificate(error) => unusable(TlsPart::Certificate, &error),
            error => unusable(part, &error),
        })?;
        let mut trusted = RootCertStore::empty();
        for certificate in read_certificates(TlsPart::Ca, ca.as_ref())? {
            let added = trusted.add(certificate);
            added.map_err(|error| unusable(TlsPart::Ca, &error))?;
        }
        Ok(Self {
            own: own.into(),
            trusted: trusted.into(),
        })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl TlsPart {
    /// What a PEM section with it is called.
    fn section(self) -> &'static str {
        match self {
            Self::Certificate | Self::Ca => "a CERTIFICATE",
            Self::Key => "a PRIVATE KEY that is not encrypted",
        }
    }
}

impl fmt::Display for TlsPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "the node's certificate",
            Self::Key => "the node's key",
            Self::Ca => "the CA's certificate",
        })
    }
}

impl TlsError {
    /// What it is about.
    pub fn part(&self) -> TlsPart {
        match self {
            Self::Missing { part } | Self::Pem { part, .. } | Self::Unusable { part, .. } => *part,
            Self::KeyMismatch => TlsPart::Key,
            Self::NoDnsName { .. } | Self::OtherName { .. } | Self::Refused { .. } => {
                TlsPart::Certificate
            }
        }
    }
}

/// The cryptography that all of it is done with. There is no default of the process.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read_certificates(part: TlsPart, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let read = read.map_err(|error| no_pem(part, &error))?;
    if read.is_empty() {
        return Err(TlsError::Missing { part });
    }
    Ok(read)
}

fn no_pem(part: TlsPart, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::NoItemsFound => return TlsError::Missing { part },
        // Its own words have bytes as numbers.
        pem::Error::MissingSectionEnd { .. } => "a section has no END".into(),
        pem::Error::IllegalSectionStart { .. } => "a section has no proper BEGIN".into(),
        error => error.to_string(),
    };
    TlsError::Pem { part, reason }
}

fn unusable(part: TlsPart, error: &impl fmt::Display) -> TlsError {
    let reason = error.to_string();
    TlsError::Unusable { part, reason }
}
