//! Whether a user may do what is asked: upstream's chain of `system:masters`, Node and RBAC.

mod bound;
mod figures;
pub mod node;
pub mod rbac;

use api::selector::field::{FieldSelector, Term};

use crate::authn::{MASTERS, User};
use crate::request::RequestInfo;

pub(crate) use figures::{FAMILIES, attempt};
pub use node::NodeAuthorizer;
pub use rbac::Rbac;

/// A question to the authorizers.
#[derive(Clone, Debug)]
pub struct Attributes {
    pub user: User,
    pub verb: String,
    pub target: Target,
}

/// What is to be done something with.
#[derive(Clone, Debug)]
pub enum Target {
    Resource {
        group: String,
        version: String,
        namespace: String,
        resource: String,
        subresource: String,
        name: String,
        /// The field selector of a list or watch, as far as it can be read.
        fields: Vec<Term>,
    },
    Path(String),
}

/// The answer, with the reason that reviews show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
}

/// The whole chain.
pub struct Authorizer {
    pub nodes: NodeAuthorizer,
    pub rbac: Rbac,
}

impl Decision {
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

impl Authorizer {
    pub fn authorize(&self, attributes: &Attributes) -> Decision {
        if attributes.user.is_in(MASTERS) {
            return Decision { allowed: true, reason: String::new() };
        }
        let why = match self.nodes.judge(&self.rbac, attributes) {
            Some(Ok(())) => {
                figures::by_node();
                return Decision { allowed: true, reason: String::new() };
            }
            Some(Err(why)) => why,
            None => String::new(),
        };
        match self.rbac.authorize(attributes) {
            Decision { allowed: false, reason } if reason.is_empty() => Decision { allowed: false, reason: why },
            decision => {
                if decision.allowed {
                    figures::by_rbac();
                }
                decision
            }
        }
    }
}
