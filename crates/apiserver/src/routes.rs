//! From what a request names to what is served there.

use std::sync::Arc;

use api::status::Status;
use api::validation::quote;

use crate::crds;
use crate::registry::{Catalogue, Served};
use crate::request::{RequestInfo, ResourceRequest, name_offence};

/// Why a request is for nothing that is served.
#[derive(Debug)]
pub(crate) enum Lost {
    /// Nobody knows the path.
    Nowhere,
    /// Who knows it refuses.
    Refused(Status),
}

impl From<Status> for Lost {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

/// What serves a request for a resource.
pub(crate) fn find(catalogue: &Catalogue, info: &RequestInfo) -> Result<Arc<Served>, Lost> {
    let target = info.resource.as_ref().ok_or(Lost::Nowhere)?;
    let served = catalogue.find(&target.group, &target.version, &target.resource).ok_or(Lost::Nowhere)?;
    match &served.custom {
        Some(_) => crds::route::check(&served, info, target)?,
        None => check(&served, info, target)?,
    }
    Ok(served)
}

/// Whether a built-in kind answers the request.
fn check(served: &Served, info: &RequestInfo, target: &ResourceRequest) -> Result<(), Lost> {
    if info.verb == "proxy" {
        return Err(Lost::Nowhere);
    }
    let verbs = match target.subresource.as_str() {
        "" => served.row.verbs,
        name => served.version.subresource(name).ok_or(Lost::Nowhere)?.verbs,
    };
    // Where a namespaced object is named there must be a namespace, and the other way round.
    let named = !target.name.is_empty() && !info.is_collection();
    let misplaced = served.row.namespaced && target.namespace.is_empty() && named;
    let scoped = !served.row.namespaced && !target.namespace.is_empty() && target.resource != "namespaces";
    if misplaced || scoped {
        return Err(Lost::Nowhere);
    }
    if named {
        check_name(&target.name)?;
    }
    // A new object goes to the collection, every other write to an object.
    let writes_elsewhere = match info.verb {
        "create" => target.subresource.is_empty() && (named || (served.row.namespaced && target.namespace.is_empty())),
        "update" | "patch" | "delete" => !named,
        "deletecollection" => served.row.namespaced && target.namespace.is_empty(),
        _ => false,
    };
    let behind = info.verb.is_empty() && target.subresource == "proxy";
    if writes_elsewhere || !(behind || verbs.contains(info.verb)) {
        return Err(Status::method_not_allowed().into());
    }
    Ok(())
}

/// Refuses a name that is no step of a path.
pub(crate) fn check_name(name: &str) -> Result<(), Status> {
    match name_offence(name) {
        Some(offence) => Err(Status::bad_request(format!("Name parameter invalid: {}: {offence}", quote(name)))),
        None => Ok(()),
    }
}
