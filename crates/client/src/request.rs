//! Requests for objects as JSON documents, whatever their kind.
//!
//! `kube::Api` wants a Rust type for each kind and decodes every answer into it; components that patch and create
//! documents of any kind (the garbage collector, the namespace controller, all status writers) go this way.

use std::time::Instant;

use api::object::{Entry, ObjectKey};
use api::resource::GroupVersionResource;
use http::{Method, Request};
use kube::Client;
use serde::Serialize;
use serde_json::{Value, json};

use crate::metrics;
use crate::patch::Patch;

/// What the server is called in figures: which of its addresses answered is the transport's business.
const HOST: &str = "kubernetes.default.svc";

/// Why a request did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The server answered with a Status.
    #[error("{verb} {path}: {message}")]
    Refused {
        verb: &'static str,
        path: String,
        /// The HTTP status code.
        code: u16,
        /// `metav1.StatusReason`.
        reason: String,
        message: String,
        /// The `details.causes[].reason`s.
        causes: Vec<String>,
        retry_after_seconds: u32,
    },
    /// There was no answer, or none that could be read.
    #[error("{verb} {path}: no answer from the API server")]
    Transport { verb: &'static str, path: String, source: Box<kube::Error> },
    /// The object to send cannot be written as JSON.
    #[error("{verb} {path}: object cannot be encoded")]
    Encode { verb: &'static str, path: String, source: serde_json::Error },
}

impl RequestError {
    fn reason(&self) -> &str {
        match self {
            Self::Refused { reason, .. } => reason,
            _ => "",
        }
    }

    /// The HTTP status code, if there was an answer.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// The object changed since it was looked at, or a precondition does not hold: look again.
    pub fn is_conflict(&self) -> bool {
        self.reason() == "Conflict"
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }

    pub fn is_invalid(&self) -> bool {
        self.reason() == "Invalid"
    }

    pub fn is_forbidden(&self) -> bool {
        self.reason() == "Forbidden"
    }

    /// The namespace is being deleted, so nothing can be created in it.
    pub fn is_namespace_terminating(&self) -> bool {
        self.has_cause("NamespaceTerminating")
    }

    pub fn has_cause(&self, cause: &str) -> bool {
        matches!(self, Self::Refused { causes, .. } if causes.iter().any(|known| known == cause))
    }

    /// The message that the server gave, without what was asked.
    pub fn message(&self) -> String {
        match self {
            Self::Refused { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }
}

/// What a deletion asks for; the default asks for nothing in particular.
#[derive(Clone, Debug, Default)]
pub struct Delete {
    /// Refused if the object's uid is another.
    pub uid: Option<String>,
    /// Refused if the object has changed since.
    pub resource_version: Option<String>,
    /// `Foreground`, `Background` or `Orphan`.
    pub propagation: Option<&'static str>,
    pub grace_period_seconds: Option<i64>,
}

impl Delete {
    /// Of the object with this uid only.
    pub fn of(uid: &str) -> Self {
        Self { uid: Some(uid.to_owned()), ..Self::default() }
    }

    pub fn at(mut self, resource_version: &str) -> Self {
        self.resource_version = Some(resource_version.to_owned());
        self
    }

    pub fn propagation(mut self, policy: &'static str) -> Self {
        self.propagation = Some(policy);
        self
    }

    pub fn grace(mut self, seconds: i64) -> Self {
        self.grace_period_seconds = Some(seconds);
        self
    }

    fn body(&self) -> Value {
        let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        let mut preconditions = serde_json::Map::new();
        if let Some(uid) = &self.uid {
            preconditions.insert("uid".to_owned(), json!(uid));
        }
        if let Some(version) = &self.resource_version {
            preconditions.insert("resourceVersion".to_owned(), json!(version));
        }
        if !preconditions.is_empty() {
            body["preconditions"] = Value::Object(preconditions);
        }
        if let Some(policy) = self.propagation {
            body["propagationPolicy"] = json!(policy);
        }
        if let Some(seconds) = self.grace_period_seconds {
            body["gracePeriodSeconds"] = json!(seconds);
        }
        body
    }
}

/// A client for documents of any kind. Cheap to clone.
#[derive(Clone)]
pub struct Requests {
    client: Client,
}

impl Requests {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The object, read from the server and not from a cache.
    pub async fn get(&self, resource: &GroupVersionResource, key: &ObjectKey) -> Result<Value, RequestError> {
        self.send("get", Method::GET, object_path(resource, key, None), "", Vec::new()).await
    }

    /// All objects of a resource in one namespace, or all namespaces, page by page; with a label selector unless empty.
    pub async fn list(
        &self,
        resource: &GroupVersionResource,
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<Vec<Value>, RequestError> {
        let base = collection_path(resource, namespace);
        let mut items = Vec::new();
        let mut token = String::new();
        loop {
            let mut path = format!("{base}?limit=500");
            if !labels.is_empty() {
                path.push_str("&labelSelector=");
                path.push_str(&escape(labels));
            }
            if !token.is_empty() {
                path.push_str("&continue=");
                path.push_str(&escape(&token));
            }
            let mut page = self.send("list", Method::GET, path, "", Vec::new()).await?;
            token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
            if let Value::Array(page) = page["items"].take() {
                items.extend(page);
            }
            if token.is_empty() {
                return Ok(items);
            }
        }
    }

    /// Creates `object`; `namespace` is empty for cluster-scoped resources. Answers with what was stored.
    pub async fn create<T: Serialize>(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        object: &T,
    ) -> Result<Value, RequestError> {
        let path = collection_path(resource, Some(namespace));
        let body = encode("create", &path, object)?;
        self.send("create", Method::POST, path, "application/json", body).await
    }

    /// Posts to a subresource: `eviction`, `binding`, `token`.
    pub async fn create_sub<T: Serialize>(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        subresource: &str,
        object: &T,
    ) -> Result<Value, RequestError> {
        let path = object_path(resource, key, Some(subresource));
        let body = encode("create", &path, object)?;
        self.send("create", Method::POST, path, "application/json", body).await
    }

    /// Replaces a whole document, as read by [`Requests::get`] and edited: never one written from a typed struct, which
    /// would lose what the struct does not know.
    pub async fn replace(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        subresource: Option<&str>,
        object: &Value,
    ) -> Result<Value, RequestError> {
        let path = object_path(resource, key, subresource);
        let body = encode("update", &path, object)?;
        self.send("update", Method::PUT, path, "application/json", body).await
    }

    pub async fn patch(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        patch: &Patch,
    ) -> Result<Value, RequestError> {
        let path = format!("{}{}", object_path(resource, key, None), patch.query());
        self.send("patch", Method::PATCH, path, patch.content_type(), patch.body()).await
    }

    /// Merges `change` (RFC 7386) into the document as the caller has seen it, and replaces the object with that, at
    /// the resource version seen: for components whose role grants `update` and not `patch`. `None` if the change
    /// changes nothing; then nothing is sent.
    pub async fn edit(
        &self,
        resource: &GroupVersionResource,
        seen: &Entry,
        subresource: Option<&str>,
        change: &Value,
    ) -> Result<Option<Value>, RequestError> {
        let before = seen.to_value();
        let mut after = before.clone();
        crate::patch::merge(&mut after, change);
        if after == before {
            return Ok(None);
        }
        self.replace(resource, &seen.key, subresource, &after).await.map(Some)
    }

    /// [`Requests::edit`] of the status: what differs between `old` and `new` is written, what neither knows stays.
    pub async fn edit_status<S: Serialize>(
        &self,
        resource: &GroupVersionResource,
        seen: &Entry,
        old: Option<&S>,
        new: &S,
    ) -> Result<Option<Value>, RequestError> {
        let encode = |status: serde_json::Result<Value>| {
            status.map_err(|source| RequestError::Encode {
                verb: "update",
                path: object_path(resource, &seen.key, Some("status")),
                source,
            })
        };
        let old = encode(serde_json::to_value(old))?;
        let new = encode(serde_json::to_value(new))?;
        let old = if old.is_null() { json!({}) } else { old };
        match crate::patch::merge_difference(&old, &new) {
            Some(status) => self.edit(resource, seen, Some("status"), &json!({"status": status})).await,
            None => Ok(None),
        }
    }

    /// Patches a subresource, mostly `status`.
    pub async fn patch_sub(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        subresource: &str,
        patch: &Patch,
    ) -> Result<Value, RequestError> {
        let path = format!("{}{}", object_path(resource, key, Some(subresource)), patch.query());
        self.send("patch", Method::PATCH, path, patch.content_type(), patch.body()).await
    }

    /// Answers with the object, or with a Status when it is gone at once.
    pub async fn delete(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        options: &Delete,
    ) -> Result<Value, RequestError> {
        let path = object_path(resource, key, None);
        let body = encode("delete", &path, &options.body())?;
        self.send("delete", Method::DELETE, path, "application/json", body).await
    }

    /// Deletes all objects of a resource in a namespace.
    pub async fn delete_collection(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        options: &Delete,
    ) -> Result<Value, RequestError> {
        let path = collection_path(resource, Some(namespace));
        let body = encode("deletecollection", &path, &options.body())?;
        self.send("deletecollection", Method::DELETE, path, "application/json", body).await
    }

    /// A document at any path, such as discovery's.
    pub async fn get_path(&self, path: &str) -> Result<Value, RequestError> {
        self.send("get", Method::GET, path.to_owned(), "", Vec::new()).await
    }

    async fn send(
        &self,
        verb: &'static str,
        method: Method,
        path: String,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Value, RequestError> {
        let mut request = Request::builder().method(method).uri(&path).header(http::header::ACCEPT, "application/json");
        if !content_type.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, content_type);
        }
        let failed = |source| explain(verb, path.clone(), source);
        let request = request.body(body).map_err(|error| failed(kube::Error::HttpError(error)))?;
        let verb_sent = request.method().as_str().to_owned();
        let begun = Instant::now();
        let answered = self.client.request_text(request).await;
        metrics::REQUEST_TIME.observe(&[HOST, &verb_sent], begun.elapsed().as_secs_f64());
        let code = match &answered {
            Ok(_) => "200".to_owned(),
            Err(kube::Error::Api(status)) => status.code.to_string(),
            Err(_) => "<error>".to_owned(),
        };
        metrics::REQUESTS.add(&[&code, HOST, &verb_sent], 1.0);
        let text = answered.map_err(failed)?;
        api::codec::json::trusted(text.as_bytes()).map_err(|error| failed(kube::Error::SerdeError(error)))
    }
}

fn explain(verb: &'static str, path: String, error: kube::Error) -> RequestError {
    match error {
        kube::Error::Api(status) => RequestError::Refused {
            verb,
            path,
            code: status.code,
            reason: status.reason.clone(),
            message: status.message.clone(),
            causes: status
                .details
                .iter()
                .flat_map(|details| details.causes.iter().map(|cause| cause.reason.clone()))
                .collect(),
            retry_after_seconds: status.details.as_ref().map_or(0, |details| details.retry_after_seconds),
        },
        other => RequestError::Transport { verb, path, source: Box::new(other) },
    }
}

fn encode<T: Serialize>(verb: &'static str, path: &str, object: &T) -> Result<Vec<u8>, RequestError> {
    serde_json::to_vec(object).map_err(|source| RequestError::Encode { verb, path: path.to_owned(), source })
}

/// `/api/v1/namespaces/shop/pods`. An empty namespace is no namespace.
pub fn collection_path(resource: &GroupVersionResource, namespace: Option<&str>) -> String {
    let mut path = match resource.group.as_str() {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    };
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
        path.push_str("/namespaces/");
        path.push_str(namespace);
    }
    path.push('/');
    path.push_str(&resource.resource);
    path
}

/// `/apis/apps/v1/namespaces/shop/deployments/web/status`.
pub fn object_path(resource: &GroupVersionResource, key: &ObjectKey, subresource: Option<&str>) -> String {
    let mut path = collection_path(resource, Some(&key.namespace));
    path.push('/');
    // Names of RBAC objects may hold colons and more.
    path.push_str(&escape(&key.name));
    if let Some(subresource) = subresource {
        path.push('/');
        path.push_str(subresource);
    }
    path
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub(crate) fn escape(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_built_from_what_is_asked_for() {
        let pods = crate::typed::resource_of::<k8s_openapi::api::core::v1::Pod>();
        let roles = crate::typed::resource_of::<k8s_openapi::api::rbac::v1::ClusterRole>();
        assert_eq!(collection_path(&pods, None), "/api/v1/pods");
        assert_eq!(object_path(&pods, &ObjectKey::new("a", "x"), Some("status")), "/api/v1/namespaces/a/pods/x/status");
        assert_eq!(
            object_path(&roles, &ObjectKey::new("", "system:node"), None),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode"
        );
    }

    #[test]
    fn a_deletion_carries_its_preconditions() {
        assert_eq!(
            Delete::of("u1").at("7").propagation("Orphan").body(),
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan",
                   "preconditions": {"uid": "u1", "resourceVersion": "7"}})
        );
    }
}
