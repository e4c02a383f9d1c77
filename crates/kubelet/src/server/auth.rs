//! Who asks, and whether he may.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use api::resource::GroupVersionResource;
use client::request::Requests;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How long an answer of the API server is good (upstream's defaults).
const KNOWN_TOKEN: Duration = Duration::from_secs(120);
const ALLOWED: Duration = Duration::from_secs(300);
const REFUSED: Duration = Duration::from_secs(30);
/// Answers that are remembered, of each kind.
const REMEMBERED: usize = 1024;

/// The user that a client certificate or a token names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

/// What a user wants of the node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    pub user: User,
    /// `get`, `create`, ...
    pub verb: &'static str,
    /// Of the resource `nodes`: `proxy`, `stats`, `metrics`, ...
    pub subresource: &'static str,
    pub node: String,
}

/// Says who shows a token, and whether a request may be served.
pub trait Authorizer: Send + Sync + 'static {
    /// The user of a bearer token; `None` if it is not good.
    fn user_of<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Option<User>>;

    fn allows<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, bool>;
}

/// Asks the API server, by TokenReview and SubjectAccessReview. What it does not allow, or cannot be asked, is refused.
pub struct Delegated {
    requests: Requests,
    /// By digest, so that tokens are not kept.
    users: Memory<[u8; 32], User>,
    decisions: Memory<Attributes, bool>,
}

impl Delegated {
    pub fn new(client: kube::Client) -> Self {
        Self { requests: Requests::new(client), users: Memory::new(), decisions: Memory::new() }
    }

    async fn review(&self, group: &str, resource: &str, kind: &str, spec: Value) -> Option<Value> {
        let review = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "spec": spec});
        let resource =
            GroupVersionResource { group: group.to_owned(), version: "v1".to_owned(), resource: resource.to_owned() };
        match self.requests.create(&resource, "", &review).await {
            Ok(mut answer) => Some(answer["status"].take()),
            Err(error) => {
                tracing::warn!(kind, %error, "request to the node refused: the API server did not say whether it may be");
                None
            }
        }
    }

    async fn ask_user(&self, token: &str) -> Option<User> {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let key: [u8; 32] = digest.as_ref().try_into().ok()?;
        if let Some(known) = self.users.recall(&key) {
            return Some(known);
        }
        let status =
            self.review("authentication.k8s.io", "tokenreviews", "TokenReview", json!({"token": token})).await?;
        let user = token_user(&status)?;
        self.users.keep(key, user.clone(), KNOWN_TOKEN);
        Some(user)
    }

    async fn ask(&self, attributes: &Attributes) -> bool {
        if let Some(known) = self.decisions.recall(attributes) {
            return known;
        }
        let spec = json!({
            "user": attributes.user.name,
            "groups": attributes.user.groups,
            "resourceAttributes": {
                "verb": attributes.verb, "version": "v1", "resource": "nodes",
                "subresource": attributes.subresource, "name": attributes.node,
            },
        });
        let status = self.review("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", spec).await;
        let Some(status) = status else { return false };
        let allowed = status["allowed"] == Value::Bool(true);
        self.decisions.keep(attributes.clone(), allowed, if allowed { ALLOWED } else { REFUSED });
        allowed
    }
}

impl Authorizer for Delegated {
    fn user_of<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Option<User>> {
        self.ask_user(token).boxed()
    }

    fn allows<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, bool> {
        self.ask(attributes).boxed()
    }
}

fn token_user(status: &Value) -> Option<User> {
    let user = &status["user"];
    let groups = user["groups"].as_array().into_iter().flatten();
    let groups = groups.filter_map(|group| group.as_str().map(str::to_owned)).collect();
    let name = user["username"].as_str().filter(|name| !name.is_empty())?;
    (status["authenticated"] == Value::Bool(true)).then(|| User { name: name.to_owned(), groups })
}

/// Answers that are good for a while.
struct Memory<K, V> {
    answers: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K: Eq + Hash, V: Clone> Memory<K, V> {
    fn new() -> Self {
        Self { answers: Mutex::new(HashMap::new()) }
    }

    fn recall(&self, key: &K) -> Option<V> {
        let answers = self.answers.lock();
        answers.get(key).filter(|(_, until)| *until > Instant::now()).map(|(answer, _)| answer.clone())
    }

    fn keep(&self, key: K, answer: V, good_for: Duration) {
        let now = Instant::now();
        let mut answers = self.answers.lock();
        if answers.len() >= REMEMBERED {
            answers.retain(|_, (_, until)| *until > now);
        }
        if answers.len() < REMEMBERED {
            answers.insert(key, (answer, now + good_for));
        }
    }
}

/// The token of an `Authorization: Bearer` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The user of a verified chain: the common name of its first certificate, in the groups of its organizations.
pub(super) fn user(chain: Option<&[CertificateDer<'_>]>) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(chain?.first()?).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|it| Some(it.as_str().ok()?.to_owned()));
    let groups = groups.chain(["system:authenticated".to_owned()]).collect();
    (!name.is_empty()).then_some(User { name, groups })
}

/// The rights any of which suffices for a path: the finer one, then the old one for everything.
pub(super) fn subresources(path: &str) -> &'static [&'static str] {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "stats" => &["stats", "proxy"],
        "metrics" => &["metrics", "proxy"],
        "logs" => &["log"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

/// The verb of a method, as upstream's kubelet maps it.
pub(super) fn verb(method: &http::Method) -> &'static str {
    match *method {
        http::Method::POST => "create",
        http::Method::PUT => "update",
        http::Method::PATCH => "patch",
        http::Method::DELETE => "delete",
        _ => "get",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_that_was_found_good_names_a_user() {
        let status = json!({"authenticated": true, "user": {"username": "prometheus", "groups": ["g"]}});
        let expected = User { name: "prometheus".to_owned(), groups: vec!["g".to_owned()] };
        assert_eq!(token_user(&status), Some(expected));
        assert_eq!(token_user(&json!({"user": {"username": "prometheus"}})), None);
        assert_eq!(token_user(&json!({"authenticated": true, "user": {}})), None);
    }

    #[test]
    fn answers_are_forgotten_in_time_and_never_pile_up() {
        let memory = Memory::new();
        memory.keep(0, true, Duration::ZERO);
        assert_eq!(memory.recall(&0), None);
        for key in 1..3 * REMEMBERED {
            memory.keep(key, true, ALLOWED);
        }
        assert_eq!(memory.recall(&1), Some(true));
        assert_eq!(memory.answers.lock().len(), REMEMBERED);
    }
}
