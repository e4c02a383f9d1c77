//! `OwnerReferencesPermissionEnforcement`: who makes an object somebody's dependent may delete it, and who holds the
//! owner's deletion up by it may say what holds that up (upstream: `plugin/pkg/admission/gc`).

use std::sync::Weak;

use api::resource::split_api_version;
use api::status::Status;
use api::validation::quote;
use serde_json::Value;
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::authz::{Attributes, Decision, Target};
use crate::server::ApiServer;

pub(super) struct OwnerReferences {
    pub(super) server: Weak<ApiServer>,
}

impl Plugin for OwnerReferences {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        // Old kubelets spoil the references in what they say of Pods; a write of the status leaves them as they were.
        let status = request.group.is_empty() && request.resource == "pods" && request.subresource == "status";
        let concerned = writes && !status && is_changed(request);
        Box::pin(async move { if concerned { self.check(request).await } else { Ok(()) } })
    }
}

impl OwnerReferences {
    async fn check(&self, request: &Request) -> Result<(), Status> {
        let Some(server) = self.server.upgrade() else { return Err(Status::unavailable("the server is stopping")) };
        let ask = async |verb: &str, target: Target| {
            let attributes = Attributes { user: request.user.clone(), verb: verb.to_owned(), target };
            server.authorizer.authorize(&attributes).await
        };
        // Whoever makes an object could as well not have made it.
        if request.operation != Operation::Create {
            let own = target(
                [&request.group, &request.version, &request.resource, &request.subresource],
                &request.namespace,
                &request.name,
            );
            let decision = ask("delete", own).await;
            if !decision.allowed {
                let why = format!("cannot set an ownerRef on a resource you can't delete: {}", said(&decision));
                return Err(request.forbid(&why));
            }
        }
        let blocking = newly_blocking(request);
        if blocking.is_empty() {
            return Ok(());
        }
        // One question for those who may do it to all kinds.
        if ask("update", target(["*", "*", "*", FINALIZERS], "", "*")).await.allowed {
            return Ok(());
        }
        for reference in blocking {
            let text = |field: &str| reference[field].as_str().unwrap_or_default();
            let (api_version, kind) = (text("apiVersion"), text("kind"));
            let (group, version) = split_api_version(api_version);
            let resources = resources(&server, group, version, kind);
            if resources.is_empty() {
                let none = format!("no matches for kind {} in version {}", quote(kind), quote(api_version));
                let why = format!(
                    "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion \
                     {api_version} Kind {kind}: {none}"
                );
                return Err(request.forbid(&why));
            }
            for (plural, namespaced) in resources {
                // An owner that is in a namespace is in its dependents'.
                let namespace = if namespaced { request.namespace.as_str() } else { "" };
                let decision =
                    ask("update", target([group, version, &plural, FINALIZERS], namespace, text("name"))).await;
                if !decision.allowed {
                    let why = format!(
                        "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set \
                         finalizers on: {}",
                        said(&decision)
                    );
                    return Err(request.forbid(&why));
                }
            }
        }
        Ok(())
    }
}

const FINALIZERS: &str = "finalizers";

fn target([group, version, resource, subresource]: [&str; 4], namespace: &str, name: &str) -> Target {
    Target::Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        name: name.to_owned(),
        fields: Vec::new(),
        labels: Vec::new(),
    }
}

/// Why somebody may not, as Go writes a reason and an error beside each other.
fn said(decision: &Decision) -> String {
    format!("{}, {}", decision.reason, decision.error.as_deref().unwrap_or("<nil>"))
}

/// The resources of a kind, here and behind this server, and whether they are in namespaces. Kinds are known in small
/// letters, too, as upstream's table of discovery has them.
fn resources(server: &ApiServer, group: &str, version: &str, kind: &str) -> Vec<(String, bool)> {
    let named = |own: &str| own == kind || own.to_lowercase() == kind;
    if let Some(remote) = server.aggregation.find(group, version) {
        return server.aggregation.resources(&remote, named);
    }
    let all = server.registry.catalogue.all();
    let of_kind = all.of_version(group, version).filter(|served| named(&served.row.kind));
    of_kind.map(|served| (served.row.plural.clone(), served.row.namespaced)).collect()
}

fn references(object: Option<&Value>) -> &[Value] {
    let references = object.and_then(|object| object["metadata"]["ownerReferences"].as_array());
    references.map_or(&[], Vec::as_slice)
}

fn is_changed(request: &Request) -> bool {
    references(request.object.as_ref()) != references(request.old.as_ref())
}

/// The references that hold up the owner's deletion, and did not before.
fn newly_blocking(request: &Request) -> Vec<&Value> {
    let blocks = |reference: &&Value| reference["blockOwnerDeletion"] == true;
    let old = references(request.old.as_ref());
    let blocked =
        |reference: &Value| old.iter().rfind(|known| known["uid"] == reference["uid"]).is_some_and(|it| blocks(&it));
    references(request.object.as_ref()).iter().filter(blocks).filter(|reference| !blocked(reference)).collect()
}
