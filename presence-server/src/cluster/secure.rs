//! Streams in TLS: both nodes show a certificate that the CA has signed.
//!
//! Whom a stream leads to is known only after the hello, and so the name in a certificate is compared
//! then, not here. Everything else about it is up to rustls and webpki: the chain, its times and
//! purposes, and the signature that proves the key. No session is resumed, so that each connection is
//! verified in full.
//!
//! The keys of a connection are the one thing that a node draws at random without its
//! [`Environment`].

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, DnsName, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, CommonState, DigitallySignedStruct,
    InvalidMessage, PeerIncompatible, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::handshake::Role;
use super::tls::{Tls, TlsError, provider};
use crate::env::{BoxStream, Environment};

/// Speaks TLS as one node.
pub(super) struct Secure {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Secure {
    /// Checks that the certificate is one that others take for that of the node of this name.
    pub(super) fn new(
        env: Arc<dyn Environment>,
        tls: &Tls,
        name: &Arc<str>,
    ) -> Result<Self, TlsError> {
        let provider = provider();
        let clock = Arc::new(Clock(env));
        let own = Arc::new(SingleCertAndKey::from(Arc::clone(&tls.own)));
        let of_servers = Arc::new(ChainVerifier {
            trusted: Arc::clone(&tls.trusted),
            algorithms: provider.signature_verification_algorithms,
        });
        let trusted = Arc::clone(&tls.trusted);
        let of_clients =
            WebPkiClientVerifier::builder_with_provider(trusted, Arc::clone(&provider))
                .build()
                .expect("there is a CA, and no list of revocations that could be wrong");
        check(tls, name, &*of_servers, &*of_clients, clock.now())?;

        let speaks = "the provider has suites of TLS 1.3";
        let builder = ClientConfig::builder_with_details(
            Arc::clone(&provider),
            Arc::clone(&clock) as Arc<dyn TimeProvider>,
        );
        let mut client = builder
            .with_protocol_versions(&[&TLS13])
            .expect(speaks)
            .dangerous()
            .with_custom_certificate_verifier(of_servers)
            .with_client_cert_resolver(Arc::clone(&own) as _);
        client.resumption = Resumption::disabled();
        client.enable_sni = false;

        let mut server = ServerConfig::builder_with_details(provider, clock)
            .with_protocol_versions(&[&TLS13])
            .expect(speaks)
            .with_client_cert_verifier(of_clients)
            .with_cert_resolver(own);
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self {
            connector: Arc::new(client).into(),
            acceptor: Arc::new(server).into(),
        })
    }

    /// Wraps a stream, which is given back where that fails: what waits in it may tell the other node
    /// why.
    pub(super) async fn wrap(
        &self,
        role: Role,
        stream: BoxStream,
    ) -> Result<Secured, (io::Error, BoxStream)> {
        Ok(match role {
            Role::Dialer => {
                // Nobody looks at it.
                let name = ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED));
                let connecting = self.connector.connect(name, stream);
                let stream = connecting.into_fallible().await?;
                Secured::new(Certificate::shown_by(stream.get_ref().1), Box::new(stream))
            }
            Role::Acceptor => {
                let stream = self.acceptor.accept(stream).into_fallible().await?;
                Secured::new(Certificate::shown_by(stream.get_ref().1), Box::new(stream))
            }
        })
    }
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secure")
    }
}

/// A stream in TLS, and the certificate of the node at its other end.
pub(super) struct Secured {
    pub(super) stream: BoxStream,
    pub(super) certificate: Certificate,
}

impl Secured {
    fn new(certificate: Certificate, stream: BoxStream) -> Self {
        Self {
            stream,
            certificate,
        }
    }
}

/// A node's certificate.
#[derive(Debug)]
pub(super) struct Certificate(CertificateDer<'static>);

impl Certificate {
    fn shown_by(connection: &CommonState) -> Self {
        let shown = connection.peer_certificates();
        let shown = shown.and_then(<[_]>::first);
        let shown = shown.expect("no handshake is complete without a certificate");
        Self(shown.clone().into_owned())
    }

    /// Whether it is that of the node of this name.
    pub(super) fn is_for(&self, name: &str) -> bool {
        let Ok(dns_name) = DnsName::try_from(name) else {
            return false;
        };
        let dns_name = ServerName::DnsName(dns_name);
        webpki::EndEntityCert::try_from(&self.0).is_ok_and(|it| {
            // That alone would take wildcards, and letters of the other case.
            it.verify_is_valid_for_subject_name(&dns_name).is_ok()
                && it.valid_dns_names().any(|valid| valid == name)
        })
    }

    /// The names that it is for, to be read.
    pub(super) fn names(&self) -> String {
        let certificate = webpki::EndEntityCert::try_from(&self.0);
        let names = certificate.map(|it| {
            let names = it.valid_dns_names().map(|name| format!("{name:?}"));
            names.collect::<Vec<_>>().join(", ")
        });
        names
            .ok()
            .filter(|names| !names.is_empty())
            .unwrap_or_else(|| "no DNS name".into())
    }
}

/// Refuses a certificate of this node's that others would.
fn check(
    tls: &Tls,
    name: &Arc<str>,
    of_servers: &dyn ServerCertVerifier,
    of_clients: &dyn ClientCertVerifier,
    now: UnixTime,
) -> Result<(), TlsError> {
    let name = Arc::clone(name);
    let Ok(dns_name) = DnsName::try_from(&*name) else {
        return Err(TlsError::NoDnsName { name });
    };
    let refused = |error| TlsError::Refused {
        reason: match error {
            rustls::Error::InvalidCertificate(error) => fault(&error),
            error => error.to_string(),
        },
    };
    let (own, between) = (tls.own.cert.split_first()).expect("it was read with one at least");
    let certificate = Certificate(own.clone());
    if !certificate.is_for(&name) {
        let names = certificate.names();
        return Err(TlsError::OtherName { name, names });
    }
    let dns_name = ServerName::DnsName(dns_name);
    of_servers
        .verify_server_cert(own, between, &dns_name, &[], now)
        .map_err(refused)?;
    of_clients
        .verify_client_cert(own, between, now)
        .map_err(refused)?;
    Ok(())
}

/// Verifies all of a certificate but its name.
#[derive(Debug)]
struct ChainVerifier {
    trusted: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.trusted,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Wall time of the node's world.
#[derive(Debug)]
struct Clock(Arc<dyn Environment>);

impl Clock {
    fn now(&self) -> UnixTime {
        UnixTime::since_unix_epoch(self.0.unix_time())
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.now())
    }
}

/// Why two nodes don't speak TLS with each other.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum NoTls {
    #[error("this node speaks TLS, and the other does not")]
    NotTheirs,
    #[error("the other node speaks TLS, and this one does not")]
    NotOurs,
    #[error("the other node shows no certificate")]
    NoCertificate,
    #[error("the other node's certificate is refused: {0}")]
    Certificate(String),
    #[error("the other node refuses this one's certificate: {0}")]
    RefusesOurs(&'static str),
    #[error("no TLS: {0}")]
    Other(rustls::Error),
}

impl NoTls {
    /// What has gone wrong with the TLS of a stream, if it is that.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match error {
            // The first byte is that of no record.
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTheirs,
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::InvalidCertificate(error) => Self::Certificate(fault(error)),
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired => Self::RefusesOurs("it wants one"),
                AlertDescription::CertificateExpired => Self::RefusesOurs("it is not good now"),
                AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                    Self::RefusesOurs("it is not signed by the other's CA")
                }
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateUnknown => Self::RefusesOurs("it is not a good one"),
                _ => Self::Other(error.clone()),
            },
            error => Self::Other(error.clone()),
        })
    }

    /// Which it is, for those who log each once.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::NotTheirs | Self::NotOurs => "one-sided TLS",
            Self::NoCertificate | Self::Certificate(_) | Self::RefusesOurs(_) => "certificate",
            Self::Other(_) => "TLS",
        }
    }
}

/// What is wrong with a certificate.
fn fault(error: &CertificateError) -> String {
    match error {
        // The latter where another CA has the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is not signed by the CA".into()
        }
        CertificateError::ExpiredContext { time, not_after } => {
            let ago = time.as_secs().saturating_sub(not_after.as_secs());
            format!("it has ended {ago} s ago")
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let after = not_before.as_secs().saturating_sub(time.as_secs());
            format!("it begins only {after} s from now")
        }
        error => error.to_string(),
    }
}
