//! Where upstream's datastore has objects: its refusals name the key.

use api::object::Entry;
use api::status::Status;
use api::validation::quote;

use super::{Call, Served};

/// The key of an object, or of what a namespace has of a resource, as upstream's storage names it within its prefix.
pub(super) fn key(served: &Served, namespace: &str, name: &str) -> String {
    let (group, plural) = (served.row.storage_group.as_str(), served.row.plural.as_str());
    let resource = match (group, plural) {
        ("", "nodes") => "minions".to_owned(),
        ("", "replicationcontrollers") => "controllers".to_owned(),
        ("", "services") => "services/specs".to_owned(),
        ("", "endpoints") => "services/endpoints".to_owned(),
        ("networking.k8s.io", "ingresses") => "ingress".to_owned(),
        // Servers of their own behind upstream's, which have no names from before there were groups.
        (group, plural) if served.custom.is_some() || OWN_SERVERS.contains(&group) => format!("{group}/{plural}"),
        (_, plural) => plural.to_owned(),
    };
    let steps = [namespace, name].into_iter().filter(|step| !step.is_empty());
    steps.fold(format!("/{resource}"), |key, step| format!("{key}/{step}"))
}

/// The refusal of a write that states another object than there is. Where nothing is written the datastore is not asked,
/// and the key has no prefix (upstream: `DryRunnableStorage`).
pub(crate) fn precondition_failed(
    served: &Served,
    live: &Entry,
    dry_run: bool,
    (what, asked, is): (&str, &str, &str),
) -> Status {
    let prefix = if dry_run { "" } else { "/registry" };
    let key = key(served, &live.key.namespace, &live.key.name);
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {prefix}{key}, ResourceVersion: 0, AdditionalErrorMsg: \
         Precondition failed: {what} in precondition: {asked}, {what} in object meta: {is}"
    );
    Status::conflict(served.subject(), &live.key.name, &why)
}

const OWN_SERVERS: [&str; 2] = ["apiextensions.k8s.io", "apiregistration.k8s.io"];

/// A namespace may not lead out of the resource: upstream's storage refuses the key that it would make (and the lookup of
/// a namespace by that name), for which it has no better code.
pub(super) fn refuse_steps(served: &Served, call: &Call) -> Result<(), Status> {
    let namespace = call.target.namespace.as_str();
    if served.cache.is_none() || !served.row.namespaced || !matches!(namespace, "." | "..") {
        return Ok(());
    }
    if call.verb == "create" {
        return Err(Status::internal(format!(
            "invalid resource name {}: [may not be '{namespace}']",
            quote(namespace)
        )));
    }
    let collection = matches!(call.verb, "list" | "watch" | "deletecollection");
    let name = if collection { "" } else { call.target.name.as_str() };
    Err(Status::unreasoned(format!("invalid key: {}", quote(&key(served, namespace, name)))))
}
