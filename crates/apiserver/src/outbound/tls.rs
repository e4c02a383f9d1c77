//! Whom a call believes: the authorities that its configuration names, or those of the host.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::proof::keys_are_proven_by;

/// Where hosts keep the authorities that they believe.
const HOST_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Authorities that cannot be believed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("unable to load root certificates: unable to parse bytes as PEM block")]
    NoAuthority,
    #[error("unable to load root certificates: {0}")]
    Authority(String),
}

/// How to call whoever one of these authorities (PEM) vouches for; without any, whoever the host believes. `client` is
/// shown to those who ask.
pub fn client_config(authorities: &[u8], client: Option<Arc<CertifiedKey>>) -> Result<Arc<ClientConfig>, TlsError> {
    let own;
    let pem = match authorities {
        [] => {
            own = host_authorities();
            own.as_slice()
        }
        given => given,
    };
    let roots: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|why| TlsError::Authority(why.to_string()))?;
    let mut store = RootCertStore::empty();
    for root in &roots {
        // An authority of a form that is not understood vouches for nobody.
        let _unusable = store.add(root.clone());
    }
    if store.is_empty() {
        return Err(TlsError::NoAuthority);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
        .build()
        .map_err(|why| TlsError::Authority(why.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions of TLS")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { chains, roots, provider }));
    Ok(shown(builder.with_no_client_auth(), client))
}

/// How to call whoever is there.
pub fn unverified_config(client: Option<Arc<CertifiedKey>>) -> Arc<ClientConfig> {
    shown(client::tls::unverified(), client)
}

fn shown(mut config: ClientConfig, client: Option<Arc<CertifiedKey>>) -> Arc<ClientConfig> {
    if let Some(own) = client {
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(own));
    }
    Arc::new(config)
}

/// The authorities that the host believes, as PEM.
pub fn host_authorities() -> Vec<u8> {
    HOST_AUTHORITIES.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default()
}

/// Believes chains that end in an authority, and certificates that are believed themselves: people configure a
/// webhook's self-signed certificate as its own authority, which Go takes.
#[derive(Debug)]
struct Verifier {
    chains: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.roots.iter().any(|root| root.as_ref() == leaf.as_ref()) {
            return self.chains.verify_server_cert(leaf, between, name, stapled, now);
        }
        rustls::client::verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|_| rustls::Error::from(CertificateError::BadEncoding))?;
        let at = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match parsed.validity() {
            valid if at < valid.not_before.timestamp() => Err(CertificateError::NotValidYet.into()),
            valid if at > valid.not_after.timestamp() => Err(CertificateError::Expired.into()),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    keys_are_proven_by!(provider);
}
