//! `NamespaceLifecycle`: nothing is made in a namespace that is not there or is going; some namespaces stay.

use std::sync::Arc;

use api::object::ObjectKey;
use api::status::{Cause, Status, Subject};
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::{Caches, ResourceCache};

/// Namespaces that are never deleted.
const PERMANENT: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Looks namespaces up in their cache, which is complete up to the write that is being admitted.
pub struct NamespaceLifecycle {
    pub caches: Arc<Caches>,
    pub namespaces: Arc<ResourceCache>,
}

impl Plugin for NamespaceLifecycle {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.check(request))
    }
}

impl NamespaceLifecycle {
    async fn check(&self, request: &Request) -> Result<(), Status> {
        if request.operation == Operation::Delete
            && request.is("", "namespaces")
            && PERMANENT.contains(&request.name.as_str())
        {
            return Err(request.forbid("this namespace may not be deleted"));
        }
        // A review is an answer, not an object in the namespace.
        let review = request.group == "authorization.k8s.io";
        let passes = matches!(request.operation, Operation::Delete | Operation::Connect);
        if request.namespace.is_empty() || review || passes {
            return Ok(());
        }
        let key = ObjectKey::new("", request.namespace.as_str());
        let mut namespace = self.namespaces.get(&key);
        if namespace.is_none() {
            self.caches.reach_current().await;
            namespace = self.namespaces.get(&key);
        }
        let Some(namespace) = namespace else {
            return Err(Status::not_found(Subject { group: "", resource: "namespaces" }, &request.namespace));
        };
        if request.operation == Operation::Create && namespace.relations().deletion_timestamp.is_some() {
            let why = format!(
                "unable to create new content in namespace {} because it is being terminated",
                request.namespace
            );
            let mut status = request.forbid(&why);
            status.details.get_or_insert_default().causes = vec![Cause {
                reason: "NamespaceTerminating".into(),
                message: format!("namespace {} is being terminated", request.namespace),
                field: "metadata.namespace".to_owned(),
            }];
            return Err(status);
        }
        Ok(())
    }
}
