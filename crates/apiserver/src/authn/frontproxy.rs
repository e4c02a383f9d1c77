//! Front proxies: servers that have found out who asks, and say so in headers (upstream: `--requestheader-*`).

use http::HeaderMap;

use super::x509::ClientCas;
use super::{PeerCertificates, User};
use crate::aggregation::RemoteUser;

/// Whom to believe about users.
#[derive(Default)]
pub struct FrontProxies {
    authorities: ClientCas,
    /// None: every name that the authorities signed.
    allowed_names: Vec<String>,
}

impl FrontProxies {
    pub fn new(authorities: ClientCas, allowed_names: Vec<String>) -> Self {
        Self { authorities, allowed_names }
    }

    /// The user whom a front proxy names; `None` if it is none, or names nobody.
    pub(super) fn user(&self, headers: &HeaderMap, peer: &PeerCertificates) -> Option<User> {
        let user = RemoteUser::read(headers)?;
        let proxy = self.authorities.prove(peer.chain()).ok()?;
        let is_allowed = |proxy: User| self.allowed_names.contains(&proxy.name);
        (self.allowed_names.is_empty() || proxy.user.is_some_and(is_allowed)).then_some(user)
    }
}
