//! Who asks, and whether he may.

use client::request::Requests;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The user that a client certificate names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

/// What a user wants of the node.
#[derive(Clone, Debug, PartialEq)]
pub struct Attributes {
    pub user: String,
    pub groups: Vec<String>,
    /// `get`, `create`, ...
    pub verb: &'static str,
    /// Of the resource `nodes`: `proxy`, `stats`, `metrics`, ...
    pub subresource: &'static str,
    pub node: String,
}

/// Says whether a request may be served.
pub trait Authorizer: Send + Sync + 'static {
    fn allows<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, bool>;
}

/// Asks the API server, by SubjectAccessReview. What it does not allow, or cannot be asked, is refused.
pub struct Delegated {
    requests: Requests,
}

impl Delegated {
    pub fn new(client: kube::Client) -> Self {
        Self { requests: Requests::new(client) }
    }

    async fn ask(&self, attributes: &Attributes) -> bool {
        let resource = api::resource::GroupVersionResource {
            group: "authorization.k8s.io".to_owned(),
            version: "v1".to_owned(),
            resource: "subjectaccessreviews".to_owned(),
        };
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": attributes.user,
                "groups": attributes.groups,
                "resourceAttributes": {
                    "verb": attributes.verb, "version": "v1", "resource": "nodes",
                    "subresource": attributes.subresource, "name": attributes.node,
                },
            },
        });
        match self.requests.create(&resource, "", &review).await {
            Ok(answer) => answer["status"]["allowed"] == Value::Bool(true),
            Err(error) => {
                tracing::warn!(user = attributes.user, %error, "request to the node not authorized: no answer");
                false
            }
        }
    }
}

impl Authorizer for Delegated {
    fn allows<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, bool> {
        self.ask(attributes).boxed()
    }
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
