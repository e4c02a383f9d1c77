//! Client certificates: the common name is the user, the organizations are its groups.
//!
//! The listener asks for a certificate and only has its key proven; whether the certificate is good is found out here,
//! for each request, so that a client is refused in words, and one whose time is over is no longer believed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DistinguishedName, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};
use tracing::warn;
use x509_parser::oid_registry::{Oid, asn1_rs};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::User;
use crate::proof::keys_are_proven_by;

/// Where a certificate's subject states the uid of its user.
const OID_UID: Oid<'static> = asn1_rs::oid!(1.3.6.1.4.1.57683.2);

/// The authorities whose certificates name users.
#[derive(Default)]
pub struct ClientCas {
    /// None: no certificate is good.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// What a certificate proves.
#[derive(Clone, Debug)]
pub(super) struct Proven {
    /// None where it names nobody.
    pub(super) user: Option<User>,
    /// In seconds since 1970.
    pub(super) until: i64,
}

/// What is wrong with a certificate, in words for the log.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Unproven {
    #[error("there is no authority that could have signed it")]
    NoAuthority,
    #[error("{0}")]
    Refused(String),
    #[error("its subject cannot be read")]
    Subject,
}

impl ClientCas {
    pub fn new(authorities: Vec<CertificateDer<'static>>) -> Self {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            if let Err(why) = roots.add(authority) {
                warn!(%why, "an authority's certificate cannot be used: no client is known by it");
            }
        }
        let provider = Arc::new(ring::default_provider());
        Self { verifier: WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().ok() }
    }

    /// The user whom a chain names, leaf first; `None` unless one of these authorities signed it for a client and it is
    /// valid now. That the client holds its key has been seen to by the listener.
    pub fn user(&self, chain: &[CertificateDer<'static>]) -> Option<User> {
        self.prove(chain).ok()?.user
    }

    pub(super) fn prove(&self, chain: &[CertificateDer<'static>]) -> Result<Proven, Unproven> {
        let verifier = self.verifier.as_ref().ok_or(Unproven::NoAuthority)?;
        let (leaf, others) = chain.split_first().ok_or(Unproven::Subject)?;
        verifier.verify_client_cert(leaf, others, UnixTime::now()).map_err(|why| Unproven::Refused(why.to_string()))?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| Unproven::Subject)?;
        let until = parsed.validity().not_after.timestamp();
        Ok(Proven { user: user(leaf, &parsed)?, until })
    }
}

/// The user whom a certificate names: of several common names the last counts, as it does to Go.
fn user(der: &CertificateDer<'_>, certificate: &X509Certificate<'_>) -> Result<Option<User>, Unproven> {
    let subject = certificate.subject();
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(str::to_owned);
    let Some(name) = subject.iter_common_name().last().and_then(text).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let mut uids = subject.iter_by_oid(&OID_UID).map(text);
    let uid = match (uids.next(), uids.next()) {
        (None, _) => String::new(),
        (Some(Some(uid)), None) if !uid.is_empty() => uid,
        _ => return Err(Unproven::Subject),
    };
    let groups = subject.iter_organization().filter_map(text).collect();
    let credential = format!("X509SHA256={}", hex(::ring::digest::digest(&::ring::digest::SHA256, der).as_ref()));
    let extra = BTreeMap::from([("authentication.kubernetes.io/credential-id".to_owned(), vec![credential])]);
    Ok(Some(User { name, uid, groups, extra }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asks clients for a certificate, takes whichever they show, and only has them prove that its key is theirs.
pub struct AnyCertificate {
    /// The names of those whose certificates are wanted: clients choose by them.
    wanted: Vec<DistinguishedName>,
    provider: CryptoProvider,
}

impl AnyCertificate {
    /// `authorities` are told to clients.
    pub fn new(authorities: &[CertificateDer<'static>]) -> Self {
        let named = authorities.iter().filter_map(|der| X509Certificate::from_der(der).ok());
        let wanted = named.map(|(_, it)| DistinguishedName::from(it.subject().as_raw().to_vec())).collect();
        Self { wanted, provider: ring::default_provider() }
    }
}

impl fmt::Debug for AnyCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyCertificate").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.wanted
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    keys_are_proven_by!(provider);
}
