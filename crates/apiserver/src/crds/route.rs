//! Which requests a custom resource answers, and how it refuses others (upstream: `crdHandler.ServeHTTP` of
//! `k8s.io/apiextensions-apiserver/pkg/apiserver`).
//!
//! Upstream's custom resources have no routes as built-in kinds have. What a request is about is read from its path alone:
//! a name that a create does not need is passed over, and a method that nobody knows is refused as a verb would be.

use api::status::Status;

use crate::registry::Served;
use crate::request::{RequestInfo, ResourceRequest};
use crate::routes::{Lost, check_name};

/// Whether `served`, which is custom, answers the request.
pub(crate) fn check(served: &Served, info: &RequestInfo, target: &ResourceRequest) -> Result<(), Lost> {
    let everywhere = matches!(info.verb, "list" | "watch");
    if served.row.namespaced == target.namespace.is_empty() && !(served.row.namespaced && everywhere) {
        return Err(Lost::Nowhere);
    }
    let verbs = match target.subresource.as_str() {
        "" => served.row.verbs,
        name => served
            .version
            .subresource(name)
            .map(|subresource| subresource.verbs)
            .ok_or_else(|| Status::not_found(served.subject(), &target.name))?,
    };
    if !verbs.contains(info.verb) {
        return Err(Status::method_not_supported(served.subject(), info.verb).into());
    }
    match info.verb {
        "update" | "patch" if target.name.is_empty() => Err(Status::bad_request("name must be provided").into()),
        "get" | "update" | "patch" | "delete" => Ok(check_name(&target.name)?),
        _ => Ok(()),
    }
}
