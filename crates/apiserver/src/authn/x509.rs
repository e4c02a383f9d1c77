//! Client certificates: the common name is the user, the organizations are its groups.

use std::collections::BTreeMap;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::User;

/// The authorities whose certificates name users.
///
/// The listener asks for a certificate signed by any authority that it knows, among them those of front proxies
/// and agents; only a leaf that one of *these* signed is a user.
#[derive(Default)]
pub struct ClientCas {
    authorities: Vec<CertificateDer<'static>>,
}

impl ClientCas {
    pub fn new(authorities: Vec<CertificateDer<'static>>) -> Self {
        Self { authorities }
    }

    /// The user that a proven chain names. Validity and key possession have been checked by the listener.
    pub fn user(&self, chain: &[CertificateDer<'static>]) -> Option<User> {
        let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
        self.authorities.iter().filter_map(|der| X509Certificate::from_der(der).ok()).find(|(_, authority)| {
            leaf.issuer() == authority.subject() && leaf.verify_signature(Some(authority.public_key())).is_ok()
        })?;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(str::to_owned);
        let name = leaf.subject().iter_common_name().next().and_then(text)?;
        let groups = leaf.subject().iter_organization().filter_map(text).collect();
        let credential =
            format!("X509SHA256={}", hex(ring::digest::digest(&ring::digest::SHA256, chain.first()?).as_ref()));
        let extra = BTreeMap::from([("authentication.kubernetes.io/credential-id".to_owned(), vec![credential])]);
        Some(User { name, groups, extra, ..User::default() })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
