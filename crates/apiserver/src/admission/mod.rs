//! What must be true of a write beyond its kind's own rules: upstream's plugins, in upstream's order.
//!
//! Each plugin sees a write twice: [`Plugin::admit`] may change it, [`Plugin::validate`] may only refuse. They run
//! for every write of every resource, so none can be forgotten.

mod namespaces;
mod nodes;
mod priority;
mod runtimeclasses;
mod serviceaccounts;
mod tolerations;

use std::sync::Arc;

use api::status::Status;
use serde_json::Value;
use store::BoxFuture;

use crate::authn::User;
use crate::registry::{Call, Served};

pub use namespaces::NamespaceLifecycle;
pub use nodes::NodeRestriction;
pub use priority::Priority;
pub use runtimeclasses::RuntimeClasses;
pub use serviceaccounts::ServiceAccounts;
pub use tolerations::DefaultTolerations;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// A write on its way in.
pub struct Request {
    pub operation: Operation,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub user: User,
    pub dry_run: bool,
    /// The object as it would be, in the storage version; `None` for deletions.
    pub object: Option<Value>,
    /// The object as it is; `None` for creations.
    pub old: Option<Value>,
}

/// One rule.
pub trait Plugin: Send + Sync {
    /// Changes or refuses a write.
    fn admit<'a>(&'a self, _request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { Ok(()) })
    }

    /// Refuses a write.
    fn validate<'a>(&'a self, _request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { Ok(()) })
    }
}

/// The plugins, in order.
#[derive(Default)]
pub struct Admission {
    pub plugins: Vec<Arc<dyn Plugin>>,
}

impl Request {
    pub fn new(operation: Operation, served: &Served, call: &Call, dry_run: bool) -> Self {
        let namespace = if served.row.namespaced { call.target.namespace.clone() } else { String::new() };
        Self {
            operation,
            group: served.row.group.clone(),
            resource: served.row.plural.clone(),
            subresource: call.target.subresource.clone(),
            kind: served.row.kind.clone(),
            namespace,
            name: call.target.name.clone(),
            user: call.user.clone(),
            dry_run,
            object: None,
            old: None,
        }
    }

    /// True for a write to the object itself of this resource.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource && self.subresource.is_empty()
    }

    /// The refusal of this write.
    pub fn forbid(&self, why: &str) -> Status {
        let subject = api::status::Subject { group: &self.group, resource: &self.resource };
        Status::forbidden(subject, &self.name, why)
    }
}

impl Admission {
    pub async fn admit(&self, request: &mut Request) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.admit(request).await?;
        }
        Ok(())
    }

    pub async fn validate(&self, request: &mut Request) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.validate(request).await?;
        }
        Ok(())
    }
}
