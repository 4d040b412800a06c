//! Someone between two nodes who speaks TLS with each, and passes on what they say.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certificates::Signed;

/// Listens in place of a node.
pub(crate) struct Relay {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Relay {
    /// Shows one certificate to who dials it, and another to the node at an address.
    pub(crate) async fn start(shown: &Signed, to: SocketAddr, shown_there: Signed) -> Self {
        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain(shown), key(shown));
        let acceptor = TlsAcceptor::from(Arc::new(server.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, shown) = (acceptor.clone(), shown_there.clone());
                tokio::spawn(async move {
                    let mut here = acceptor.accept(stream).await.unwrap();
                    let mut there = dial(to, Some(&shown)).await;
                    let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                });
            }
        });
        Self { address, task }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Speaks TLS with a node, whoever that is. It has not taken the certificate yet.
pub(crate) async fn dial(to: SocketAddr, shown: Option<&Signed>) -> TlsStream<TcpStream> {
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let client = match shown {
        Some(shown) => client
            .with_client_auth_cert(chain(shown), key(shown))
            .unwrap(),
        None => client.with_no_client_auth(),
    };
    let stream = TcpStream::connect(to).await.unwrap();
    let name = ServerName::try_from("anyone").unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    connector.connect(name, stream).await.unwrap()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn chain(signed: &Signed) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_slice(signed.certificate.as_bytes()).unwrap()]
}

fn key(signed: &Signed) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).unwrap()
}

/// Takes any certificate.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
