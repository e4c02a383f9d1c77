//! Whether a user may do what is asked: `system:masters` may, and for all others a chain of authorizers is asked, Node
//! and RBAC where nothing else is configured.

mod abac;
mod bound;
mod chain;
mod configuration;
mod figures;
mod matching;
pub mod node;
pub mod rbac;
mod webhook;

use api::selector::field::{FieldSelector, Term};
use api::selector::label::{LabelSelector, Requirement};

use crate::authn::User;
use crate::request::RequestInfo;

pub use chain::Authorizer;
pub use configuration::{AuthorizationError, Options};
pub(crate) use figures::{FAMILIES, attempt};
pub use node::NodeAuthorizer;
pub use rbac::Rbac;

/// A question to the authorizers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub user: User,
    pub verb: String,
    pub target: Target,
}

/// What is to be done something with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Resource {
        group: String,
        version: String,
        namespace: String,
        resource: String,
        subresource: String,
        name: String,
        /// The field selector, as far as it can be read.
        fields: Vec<Term>,
        /// The label selector, as far as it can be read.
        labels: Vec<Requirement>,
    },
    Path(String),
}

/// The answer, with the reason that reviews show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// Set where somebody forbids it, and not only nobody allows it.
    pub denied: bool,
    pub reason: String,
    /// What went wrong while it was decided.
    pub error: Option<String>,
}

impl Decision {
    pub(crate) fn allowed(reason: impl Into<String>) -> Self {
        Self { allowed: true, reason: reason.into(), ..Self::default() }
    }

    /// Neither yes nor no.
    pub(crate) fn no_opinion(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..Self::default() }
    }

    /// The words of a refusal of `attributes`, with the reason if there is one.
    pub fn refusal(&self, attributes: &Attributes) -> String {
        match self.reason.as_str() {
            "" => attributes.refusal(),
            reason => format!("{}: {reason}", attributes.refusal()),
        }
    }
}

impl Attributes {
    /// The question that a request puts.
    pub fn of(user: &User, info: &RequestInfo) -> Self {
        let target = match &info.resource {
            None => Target::Path(info.path.clone()),
            Some(parts) => Target::Resource {
                group: parts.group.clone(),
                version: parts.version.clone(),
                namespace: parts.namespace.clone(),
                resource: parts.resource.clone(),
                subresource: parts.subresource.clone(),
                name: parts.name.clone(),
                fields: terms(&parts.fields),
                labels: requirements(&parts.labels),
            },
        };
        Self { user: user.clone(), verb: info.verb.to_owned(), target }
    }

    /// A question about an object of the core or another group, for checks beyond the request's own.
    pub fn resource(user: &User, verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Self {
        let target = Target::Resource {
            group: group.to_owned(),
            version: "*".to_owned(),
            namespace: namespace.to_owned(),
            resource: resource.to_owned(),
            subresource: String::new(),
            name: name.to_owned(),
            fields: Vec::new(),
            labels: Vec::new(),
        };
        Self { user: user.clone(), verb: verb.to_owned(), target }
    }

    /// Why the request is refused, in upstream's words behind `... is forbidden: `.
    pub fn refusal(&self) -> String {
        let user = &self.user.name;
        let verb = &self.verb;
        match &self.target {
            Target::Path(path) => format!("User \"{user}\" cannot {verb} path \"{path}\""),
            Target::Resource { group, namespace, resource, subresource, .. } => {
                let resource = match subresource.as_str() {
                    "" => resource.clone(),
                    sub => format!("{resource}/{sub}"),
                };
                let scope = match namespace.as_str() {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace \"{namespace}\""),
                };
                format!("User \"{user}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {scope}")
            }
        }
    }
}

/// The terms of a field selector; one that cannot be read restricts nothing.
pub(crate) fn terms(fields: &str) -> Vec<Term> {
    FieldSelector::parse(fields).map(|read| read.into_terms().collect()).unwrap_or_default()
}

/// The requirements of a label selector; one that cannot be read restricts nothing.
pub(crate) fn requirements(labels: &str) -> Vec<Requirement> {
    LabelSelector::parse(labels).map(|read| read.requirements().to_vec()).unwrap_or_default()
}
