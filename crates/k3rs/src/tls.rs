//! TLS for listeners and clients: whom they trust, what they show.

use std::sync::Arc;

use apiserver::authn::x509::AnyCertificate;
use parking_lot::RwLock;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, SignatureScheme, WantsVerifier};
use rustls_pki_types::CertificateDer;

use crate::certificates::Pair;

/// A name that is on the certificate of every API server: whoever trusts the cluster's authority knows a server by it,
/// at whatever address it was found.
pub const API_SERVER: &str = "kubernetes";

/// Protocols of a listener or client for any HTTP (ALPN).
pub const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];
/// For HTTP/1.1 alone.
pub const HTTP1: &[&[u8]] = &[b"http/1.1"];
/// For HTTP/2 alone.
pub const HTTP2: &[&[u8]] = &[b"h2"];

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the key of a certificate cannot be used: {0}")]
    Key(String),
    #[error("an authority's certificate cannot be used: {0}")]
    Authority(String),
}

/// A certificate that can be replaced while it is in use; connections that are open keep theirs.
#[derive(Debug)]
pub struct Certificate(RwLock<Arc<CertifiedKey>>);

impl Certificate {
    pub fn new(pair: &Pair) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(RwLock::new(certified(pair)?))))
    }

    pub(crate) fn current(&self) -> Arc<CertifiedKey> {
        self.0.read().clone()
    }

    /// Shown from the next handshake on.
    pub fn replace(&self, pair: &Pair) -> Result<(), TlsError> {
        *self.0.write() = certified(pair)?;
        Ok(())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

impl ResolvesClientCert for Certificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

pub(crate) fn certified(pair: &Pair) -> Result<Arc<CertifiedKey>, TlsError> {
    let key = pair.private_key().ok_or_else(|| TlsError::Key("it is not PEM".to_owned()))?;
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(pair.chain(), key, &provider).map_err(|why| TlsError::Key(why.to_string()))?;
    Ok(Arc::new(key))
}

/// A listener that shows `certificate` and takes clients' certificates by `clients`, no others, and clients without one.
pub fn server(
    certificate: Arc<Certificate>,
    clients: &[CertificateDer<'static>],
    protocols: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots(clients)?)).allow_unauthenticated().build();
    let verifier = verifier.map_err(|why| TlsError::Authority(why.to_string()))?;
    let mut config = ServerConfig::builder().with_client_cert_verifier(verifier).with_cert_resolver(certificate);
    config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
    Ok(config)
}

/// A listener of the API: it has clients prove that the certificates that they show are theirs, and leaves it to those
/// who answer whether they are good. `clients` are the authorities that it wants them of.
pub fn api_server(
    builder: ConfigBuilder<ServerConfig, WantsVerifier>,
    certificates: Arc<dyn ResolvesServerCert>,
    clients: &[CertificateDer<'static>],
) -> ServerConfig {
    let verifier = Arc::new(AnyCertificate::new(clients));
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(certificates);
    config.alpn_protocols = HTTP.iter().map(|it| it.to_vec()).collect();
    config
}

/// A client that trusts servers by `servers`, and shows `certificate` if it has one.
pub fn client(
    servers: &[CertificateDer<'static>],
    certificate: Option<Arc<Certificate>>,
    protocols: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder().with_root_certificates(roots(servers)?);
    let mut config = match certificate {
        Some(certificate) => builder.with_client_cert_resolver(certificate),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
    Ok(config)
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|why| TlsError::Authority(why.to_string()))?;
    }
    Ok(roots)
}
