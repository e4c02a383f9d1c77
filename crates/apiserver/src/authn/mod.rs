//! Who is asking: from a client certificate, a bearer token or, where that is let in, nobody.
//!
//! Tokens are ServiceAccounts', bootstrap tokens', those of OpenID Connect issuers, or another server is asked about them.
//!
//! Components in this process do not pass here: their transport carries a [`User`] as a request extension, which
//! no request from a socket can have.

mod anonymous;
mod bootstraptokens;
mod configuration;
mod figures;
mod frontproxy;
pub(crate) mod impersonation;
mod kepttokens;
pub mod oidc;
pub mod serviceaccounts;
pub mod tokens;
pub(crate) mod tracking;
pub mod webhook;
pub mod x509;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use std::{fs, io};

use api::status::Status;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use parking_lot::RwLock;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tracing::debug;

pub use self::anonymous::Anonymous;
pub(crate) use self::bootstraptokens::BootstrapTokens;
use self::configuration::Configuration;
pub use self::frontproxy::FrontProxies;
use self::oidc::{Issuer, IssuerError, IssuerOptions, Rules};
use self::serviceaccounts::{ServiceAccountTokens, Verified};
use self::tokens::StaticTokens;
use self::tracking::Uses;
use self::webhook::{TokenWebhook, WebhookError, WebhookOptions};
use self::x509::{ClientCas, Proven, Unproven};
use crate::clock;
use crate::configfile::ConfigurationError;
use crate::outbound::Outbound;
use crate::reload::{self, Change, Follower};

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

/// What is to be said of a request beside who sent it.
#[derive(Debug, Default)]
pub struct Notes {
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
    /// For the audit log.
    pub annotations: BTreeMap<String, String>,
    used: Option<kepttokens::Use>,
}

/// The certificate chain that a TLS client proved to hold, leaf first; set by the listener, one for a connection.
#[derive(Clone, Debug)]
pub struct PeerCertificates(Arc<Peer>);

#[derive(Debug)]
struct Peer {
    chain: Vec<CertificateDer<'static>>,
    /// What the chain proves, found out at the connection's first request: a signature costs more to verify than most
    /// requests to answer.
    proven: OnceLock<Result<Proven, Unproven>>,
}

/// All the ways in, asked in upstream's order.
pub struct Authenticator {
    pub front_proxies: FrontProxies,
    pub client_cas: ClientCas,
    pub static_tokens: StaticTokens,
    pub service_accounts: Arc<ServiceAccountTokens>,
    pub(crate) bootstrap_tokens: Option<BootstrapTokens>,
    pub(crate) uses: Uses,
    pub(crate) others: Others,
    pub(crate) anonymous: Anonymous,
}

/// Those who know users that the cluster does not.
#[derive(Default)]
pub(crate) struct Others {
    /// They may become others while the server runs.
    issuers: Arc<RwLock<Arc<[Issuer]>>>,
    webhook: Option<TokenWebhook>,
}

/// Who is believed beside those whom the cluster knows itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub anonymous: Anonymous,
    /// Whether bootstrap tokens are not believed.
    pub no_bootstrap_tokens: bool,
    pub issuer: Option<IssuerOptions>,
    /// A file with the certificates of the issuer's authority.
    pub issuer_authority: Option<PathBuf>,
    pub webhook: WebhookOptions,
    /// An AuthenticationConfiguration, which says all of the issuers and of anonymous requests.
    pub configuration: Option<PathBuf>,
}

/// Why it cannot be known who is to be believed.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the authentication configuration {}: {source}", path.display())]
    Configuration { path: PathBuf, source: ConfigurationError },
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    #[error(transparent)]
    Webhook(#[from] WebhookError),
}

impl Options {
    /// Reads what is said in files, and has the configuration followed; who lets whom in without credentials, and who
    /// else knows users. `own` are the issuers of ServiceAccount tokens.
    pub(crate) fn open(
        &self,
        own: &[String],
        outbound: &Arc<Outbound>,
        follower: &Follower,
    ) -> Result<(Anonymous, Others), AuthenticationError> {
        let read = |path: &PathBuf| {
            fs::read_to_string(path).map_err(|source| AuthenticationError::Read { path: path.clone(), source })
        };
        let mut anonymous = self.anonymous.clone();
        let mut issuers: Vec<IssuerOptions> = self.issuer.iter().cloned().collect();
        if let (Some(issuer), Some(path)) = (issuers.first_mut(), &self.issuer_authority) {
            issuer.authority = Some(read(path)?);
        }
        let known = issuers.into_iter().map(|options| (options, Rules::default())).collect();
        let others = Others {
            issuers: Arc::new(RwLock::new(believed(known, outbound)?)),
            webhook: TokenWebhook::open(self.webhook.clone(), outbound.clone())?,
        };
        if let Some(path) = &self.configuration {
            let text = read(path)?;
            let failed = |source| AuthenticationError::Configuration { path: path.clone(), source };
            let said = Configuration::parse(&text, own).map_err(failed)?;
            *others.issuers.write() = believed(said.issuers, outbound)?;
            let (issuers, outbound, own) = (others.issuers.clone(), outbound.clone(), own.to_vec());
            let first = said.anonymous.clone();
            follower.tell(&reload::AUTHENTICATION, &text);
            follower.follow(&reload::AUTHENTICATION, path.clone(), text, move |text| {
                let said = Configuration::parse(text, &own).map_err(|why| why.to_string())?;
                if said.anonymous != first {
                    return Err("anonymous: Forbidden: changed from initial configuration file".to_owned());
                }
                *issuers.write() = believed(said.issuers, &outbound).map_err(|why| why.to_string())?;
                Ok(Change::Made)
            });
            anonymous = said.anonymous.unwrap_or(anonymous);
        }
        Ok((anonymous, others))
    }
}

/// Issuers who are believed, with what their tokens mean.
fn believed(said: Vec<(IssuerOptions, Rules)>, outbound: &Arc<Outbound>) -> Result<Arc<[Issuer]>, IssuerError> {
    said.into_iter().map(|(options, rules)| Issuer::new(options, rules, outbound.clone())).collect()
}

impl Notes {
    fn annotate(&mut self, key: &str, value: &str) {
        self.annotations.insert(format!("authentication.k8s.io/{key}"), value.to_owned());
    }
}

/// The figures of all ways in.
pub(crate) fn families() -> impl Iterator<Item = &'static client::metrics::Family> {
    figures::FAMILIES.into_iter().chain(serviceaccounts::FAMILIES).chain(kepttokens::FAMILIES)
}

impl PeerCertificates {
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self(Arc::new(Peer { chain, proven: OnceLock::new() }))
    }

    /// Leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.chain
    }

    /// The user whom the chain names, if it names one; `Err` if it is not good, or no longer.
    fn user(&self, authorities: &ClientCas) -> Result<Option<User>, Status> {
        let prove = || {
            let proven = authorities.prove(&self.0.chain);
            proven.map(|proven| Proven { user: proven.user.map(User::authenticated), ..proven })
        };
        match self.0.proven.get_or_init(prove) {
            Ok(proven) if proven.until >= clock::unix_seconds() => {
                figures::certificate(proven.until - clock::unix_seconds());
                Ok(proven.user.clone())
            }
            Ok(_) => Err(Status::unauthorized()),
            Err(why) => {
                debug!(%why, "a client's certificate is not good");
                Err(Status::unauthorized())
            }
        }
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
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<&PeerCertificates>,
        notes: &mut Notes,
    ) -> Result<Option<User>, Status> {
        let begun = Instant::now();
        let found = self.identify(headers, peer, notes).await;
        figures::tell(&found, begun.elapsed());
        found
    }

    async fn identify(
        &self,
        headers: &HeaderMap,
        peer: Option<&PeerCertificates>,
        notes: &mut Notes,
    ) -> Result<Option<User>, Status> {
        if let Some(user) = peer.and_then(|peer| self.front_proxies.user(headers, peer)) {
            return Ok(Some(user.authenticated()));
        }
        let certified = peer.map_or(Ok(None), |peer| peer.user(&self.client_cas));
        if let Ok(Some(user)) = certified {
            return Ok(Some(user));
        }
        let token = bearer(headers).map(str::to_owned).or_else(|| crate::websocket::bearer(headers));
        match token {
            Some(token) => {
                let verified = self.token(&token, &[], notes).await;
                verified.map(|verified| Some(verified.user)).ok_or_else(Status::unauthorized)
            }
            None if headers.contains_key(AUTHORIZATION) => Err(Status::unauthorized()),
            // Whoever shows what is not good is not nobody.
            None => certified,
        }
    }

    /// The user of a bearer token that is good for one of `audiences` (the API server's own, if empty), and those of
    /// them that it is good for.
    pub async fn token(&self, token: &str, audiences: &[String], notes: &mut Notes) -> Option<Verified> {
        let found = match self.known_token(token, audiences, notes) {
            Some(found) => Some(found),
            None => self.others.token(token, audiences, self.service_accounts.audiences()).await,
        };
        found.map(|Verified { user, audiences }| Verified { user: user.authenticated(), audiences })
    }

    /// A token of the cluster's own.
    fn known_token(&self, token: &str, audiences: &[String], notes: &mut Notes) -> Option<Verified> {
        let here = |user| for_server(user, audiences, self.service_accounts.audiences());
        let bootstrap = || self.bootstrap_tokens.as_ref()?.user(token);
        let own = self.static_tokens.user(token).and_then(here);
        let own = own.or_else(|| self.service_accounts.verify(token, audiences, notes));
        if let Some(told) = notes.used.take() {
            self.uses.tell(told);
        }
        own.or_else(|| bootstrap().and_then(here))
    }
}

impl Others {
    async fn token(&self, token: &str, audiences: &[String], own: &[String]) -> Option<Verified> {
        let issuers = self.issuers.read().clone();
        for issuer in issuers.iter() {
            if let Some(user) = issuer.user(token).await {
                return for_server(user, audiences, own);
            }
        }
        match &self.webhook {
            Some(webhook) => webhook.user(token, if audiences.is_empty() { own } else { audiences }).await,
            None => None,
        }
    }
}

/// A user whose token says nothing of audiences: it is for this server, which is asked for `audiences`.
fn for_server(user: User, audiences: &[String], own: &[String]) -> Option<Verified> {
    let asked = if audiences.is_empty() { own } else { audiences };
    let good: Vec<String> = asked.iter().filter(|audience| own.contains(audience)).cloned().collect();
    (!good.is_empty()).then_some(Verified { user, audiences: good })
}

/// The token of an `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
