//! Who is asking: from a client certificate, a bearer token or, for health checks alone, nobody.
//!
//! Components in this process do not pass here: their transport carries a [`User`] as a request extension, which
//! no request from a socket can have.

mod frontproxy;
pub(crate) mod impersonation;
pub mod serviceaccounts;
pub mod tokens;
pub mod x509;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use api::status::Status;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

pub use self::frontproxy::FrontProxies;
use self::serviceaccounts::ServiceAccountTokens;
use self::tokens::StaticTokens;
use self::x509::ClientCas;

pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const MASTERS: &str = "system:masters";

/// An identity, as authorization, audit and admission see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The certificate chain that a TLS client proved to hold, leaf first; set by the listener, one for a connection.
#[derive(Clone, Debug)]
pub struct PeerCertificates(Arc<Peer>);

#[derive(Debug)]
struct Peer {
    chain: Vec<CertificateDer<'static>>,
    /// Whom the chain names, found out at the connection's first request: a signature costs more to verify than most
    /// requests to answer.
    user: OnceLock<Option<User>>,
}

/// All the ways in, asked in upstream's order.
pub struct Authenticator {
    pub front_proxies: FrontProxies,
    pub client_cas: ClientCas,
    pub static_tokens: StaticTokens,
    pub service_accounts: Arc<ServiceAccountTokens>,
}

impl PeerCertificates {
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self(Arc::new(Peer { chain, user: OnceLock::new() }))
    }

    /// Leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.chain
    }

    fn user(&self, authorities: &ClientCas) -> Option<User> {
        self.0.user.get_or_init(|| authorities.user(&self.0.chain).map(User::authenticated)).clone()
    }
}

impl User {
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self { name: name.into(), groups: groups.iter().map(|&group| group.to_owned()).collect(), ..Self::default() }
    }

    pub fn anonymous() -> Self {
        Self::new("system:anonymous", &[UNAUTHENTICATED])
    }

    /// A component of the server itself.
    pub fn component(name: &str, groups: &[&str]) -> Self {
        Self::new(name, groups).authenticated()
    }

    /// The identity of a service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let all_here = format!("system:serviceaccounts:{namespace}");
        Self::new(format!("system:serviceaccount:{namespace}:{name}"), &["system:serviceaccounts", &all_here])
            .authenticated()
    }

    /// The user as `authentication.k8s.io` UserInfo.
    pub(crate) fn info(&self) -> Value {
        let mut info = json!({});
        for (field, text) in [("username", &self.name), ("uid", &self.uid)] {
            if !text.is_empty() {
                info[field] = json!(text);
            }
        }
        if !self.groups.is_empty() {
            info["groups"] = json!(self.groups);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|member| member == group)
    }

    fn authenticated(mut self) -> Self {
        if !self.is_in(AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}

impl Authenticator {
    /// The user behind a request. `Ok(None)`: no credentials were shown. `Err`: those shown are not good.
    pub fn authenticate(&self, headers: &HeaderMap, peer: Option<&PeerCertificates>) -> Result<Option<User>, Status> {
        if let Some(user) = peer.and_then(|peer| self.front_proxies.user(headers, peer)) {
            return Ok(Some(user.authenticated()));
        }
        if let Some(user) = peer.and_then(|peer| peer.user(&self.client_cas)) {
            return Ok(Some(user));
        }
        let token = bearer(headers).map(str::to_owned).or_else(|| crate::websocket::bearer(headers));
        match token {
            Some(token) => self.token(&token, &[]).map(Some).ok_or_else(Status::unauthorized),
            None if headers.contains_key(AUTHORIZATION) => Err(Status::unauthorized()),
            None => Ok(None),
        }
    }

    /// The user of a bearer token that is good for one of `audiences` (the API server's own, if empty).
    pub fn token(&self, token: &str, audiences: &[String]) -> Option<User> {
        self.static_tokens
            .user(token)
            .or_else(|| self.service_accounts.verify(token, audiences).map(|verified| verified.user))
            .map(User::authenticated)
    }
}

/// The token of an `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
