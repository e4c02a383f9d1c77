//! One request to the registry, its identity and path already made out.

use std::collections::BTreeMap;

use api::codec::normalise::Empty;
use api::object::ObjectKey;
use api::status::Status;
use bytes::Bytes;
use http::HeaderMap;

use crate::authn::User;
use crate::request::{RequestInfo, ResourceRequest, query_pairs, query_value};

/// A verb on a resource, by somebody, with a body.
pub struct Call {
    pub user: User,
    pub verb: &'static str,
    pub target: ResourceRequest,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Texts for `Warning` headers, gathered on the way.
    pub warnings: Vec<String>,
    /// What admission has to say to the audit log.
    pub annotations: BTreeMap<String, String>,
    /// What the client stated empty, which the object does not have.
    pub(crate) empties: Vec<Empty>,
    /// Admission has seen this write as what the client sent, such as a Scale: it is not asked about what becomes of it.
    pub(crate) admitted: bool,
    /// The object that is written says already who owns what of it.
    pub(crate) owned: bool,
}

impl Call {
    /// A call by a component of the server itself, as `target` in a request of its own.
    pub fn internal(user: User, verb: &'static str, target: ResourceRequest, body: Bytes) -> Self {
        Self::of(user, verb, target, String::new(), HeaderMap::new(), body)
    }

    /// `None` for paths that are not resources.
    pub fn new(user: User, info: RequestInfo, query: String, headers: HeaderMap, body: Bytes) -> Option<Self> {
        Some(Self::of(user, info.verb, info.resource?, query, headers, body))
    }

    fn of(
        user: User,
        verb: &'static str,
        target: ResourceRequest,
        query: String,
        headers: HeaderMap,
        body: Bytes,
    ) -> Self {
        let (warnings, annotations) = (Vec::new(), BTreeMap::new());
        Self {
            user,
            verb,
            target,
            query,
            headers,
            body,
            warnings,
            annotations,
            empties: Vec::new(),
            admitted: false,
            owned: false,
        }
    }

    pub fn param(&self, key: &str) -> Option<String> {
        query_value(&self.query, key)
    }

    /// All values of `key`, where it stands several times.
    pub fn params(&self, key: &str) -> impl Iterator<Item = String> {
        query_pairs(&self.query).filter(move |(name, _)| name == key).map(|(_, value)| value)
    }

    /// The object that the path names. A namespaced resource lives in its namespace; a Namespace in none.
    pub fn key(&self, namespaced: bool) -> ObjectKey {
        let namespace = if namespaced { self.target.namespace.as_str() } else { "" };
        ObjectKey::new(namespace, self.target.name.as_str())
    }

    /// Whether nothing is to be stored (`?dryRun=All`).
    pub fn dry_run(&self) -> Result<bool, Status> {
        match self.param("dryRun").as_deref() {
            None | Some("") => Ok(false),
            Some("All") => Ok(true),
            // Refused by `options::check_write` for writes that have options of their own.
            Some(other) => Err(Status::bad_request(format!("invalid value for dryRun: \"{other}\""))),
        }
    }

    /// The name under which changed fields are owned: `?fieldManager=`, or the client program's name.
    pub fn field_manager(&self) -> String {
        self.param("fieldManager").filter(|name| !name.is_empty()).unwrap_or_else(|| {
            let agent = self.headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok());
            let program = agent.unwrap_or("unknown").split('/').next().unwrap_or("unknown");
            program.chars().take(128).collect()
        })
    }
}
