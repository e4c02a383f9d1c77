//! The table of built-in resources, and what is particular to each kind.
//!
//! To add a resource, add its row to the `rows` of its group. What it has beyond a row of names (defaults, rules,
//! conversion) is [`Hooks`](hooks::Hooks) in a file of the group's folder; its `kubectl get` columns are in
//! [`columns`]. Facts are those of a kube-apiserver 1.36 with default flags, which serves stable versions only.

mod admissionpolicies;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
pub mod columns;
mod conditions;
pub mod core;
mod definitions;
mod devices;
mod essentials;
mod events;
mod extensions;
pub(crate) mod fields;
mod flows;
pub mod hooks;
pub mod metadata;
mod networking;
mod others;
pub mod policies;
pub mod rbac;
mod registration;
mod row;
mod storage;
pub mod strategy;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use crate::resource::{Resource, split_api_version};
use crate::schema::{Model, builtin_model};

/// A named API group.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// Empty for the core group.
    pub name: &'static str,
    /// Where the group's types stand in OpenAPI: `io.k8s.api.apps` for `io.k8s.api.apps.v1.Deployment`.
    pub package: &'static str,
    /// The `groupPriorityMinimum` of its APIServices.
    pub priority: i32,
    /// The served versions, preferred first, with the `versionPriority` of their APIServices.
    pub versions: &'static [(&'static str, i32)],
}

/// The built-in groups in the order of discovery: core, then by falling priority, then by name.
pub static GROUPS: &[Group] = &[
    group("", "io.k8s.api.core", 18000, &[("v1", 1)]),
    group("apiregistration.k8s.io", "io.k8s.kube-aggregator.pkg.apis.apiregistration", 20000, &[("v1", 18)]),
    group("apps", "io.k8s.api.apps", 17800, &[("v1", 15)]),
    group("events.k8s.io", "io.k8s.api.events", 17750, &[("v1", 15)]),
    group("authentication.k8s.io", "io.k8s.api.authentication", 17700, &[("v1", 15)]),
    group("authorization.k8s.io", "io.k8s.api.authorization", 17600, &[("v1", 15)]),
    group("autoscaling", "io.k8s.api.autoscaling", 17500, &[("v2", 30), ("v1", 15)]),
    group("batch", "io.k8s.api.batch", 17400, &[("v1", 15)]),
    group("certificates.k8s.io", "io.k8s.api.certificates", 17300, &[("v1", 15)]),
    group("networking.k8s.io", "io.k8s.api.networking", 17200, &[("v1", 15)]),
    group("policy", "io.k8s.api.policy", 17100, &[("v1", 15)]),
    group("rbac.authorization.k8s.io", "io.k8s.api.rbac", 17000, &[("v1", 15)]),
    group("storage.k8s.io", "io.k8s.api.storage", 16800, &[("v1", 15)]),
    group("admissionregistration.k8s.io", "io.k8s.api.admissionregistration", 16700, &[("v1", 15)]),
    group("apiextensions.k8s.io", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions", 16700, &[("v1", 15)]),
    group("scheduling.k8s.io", "io.k8s.api.scheduling", 16600, &[("v1", 15)]),
    group("coordination.k8s.io", "io.k8s.api.coordination", 16500, &[("v1", 15)]),
    group("node.k8s.io", "io.k8s.api.node", 16300, &[("v1", 15)]),
    group("discovery.k8s.io", "io.k8s.api.discovery", 16200, &[("v1", 15)]),
    group("resource.k8s.io", "io.k8s.api.resource", 16200, &[("v1", 21)]),
    group("flowcontrol.apiserver.k8s.io", "io.k8s.api.flowcontrol", 16100, &[("v1", 21)]),
];

static TABLE: LazyLock<Vec<Resource>> = LazyLock::new(|| {
    let mut rows = core::rows();
    rows.extend(extensions::apiregistration());
    rows.extend(apps::rows());
    rows.extend(events::rows());
    rows.extend(others::authentication());
    rows.extend(others::authorization());
    rows.extend(autoscaling::rows());
    rows.extend(batch::rows());
    rows.extend(others::certificates());
    rows.extend(networking::rows());
    rows.extend(others::policy());
    rows.extend(rbac::rows());
    rows.extend(storage::rows());
    rows.extend(extensions::admissionregistration());
    rows.extend(definitions::rows());
    rows.extend(others::scheduling());
    rows.extend(others::coordination());
    rows.extend(others::node());
    rows.extend(others::discovery());
    rows.extend(devices::rows());
    rows.extend(others::flowcontrol());
    rows
});

/// Every built-in resource: groups in the order of [`GROUPS`], resources of a group by name.
pub fn builtin() -> &'static [Resource] {
    &TABLE
}

/// The built-in resource of a group (empty: core) with this plural name.
pub fn find(group: &str, plural: &str) -> Option<&'static Resource> {
    builtin().iter().find(|row| row.group == group && row.plural == plural)
}

/// The built-in resource of a kind. The kinds of subresources (`Scale`, `Eviction`) have none.
pub fn find_kind(group: &str, kind: &str) -> Option<&'static Resource> {
    builtin().iter().find(|row| row.group == group && row.kind == kind)
}

/// The OpenAPI definition name of a kind: `io.k8s.api.apps.v1.Deployment`. For a group that is not built in,
/// upstream's form for custom resources: `com.example.v1.Widget`.
pub fn definition_name(group: &str, version: &str, kind: &str) -> String {
    match GROUPS.iter().find(|known| known.name == group) {
        Some(known) => format!("{}.{version}.{kind}", known.package),
        None => {
            let reversed: Vec<&str> = group.split('.').rev().collect();
            format!("{}.{version}.{kind}", reversed.join("."))
        }
    }
}

/// The schema of a built-in kind, of its list, or of a kind that no group has for itself.
pub fn model_of(api_version: &str, kind: &str) -> Option<Model> {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
    const DISCOVERY: &str = "apidiscovery.k8s.io/v2";
    const META_KINDS: [&str; 12] = [
        "APIVersions",
        "APIGroupList",
        "APIGroup",
        "APIResourceList",
        "Status",
        "DeleteOptions",
        "CreateOptions",
        "UpdateOptions",
        "PatchOptions",
        "PartialObjectMetadata",
        "PartialObjectMetadataList",
        "WatchEvent",
    ];
    if META_KINDS.contains(&kind) {
        return builtin_model(&format!("{META}.{kind}"));
    }
    // A group that serves nothing.
    if api_version == DISCOVERY {
        return builtin_model(&format!("io.k8s.api.apidiscovery.v2.{kind}"));
    }
    let (group, version) = split_api_version(api_version);
    builtin_model(&definition_name(group, version, kind))
}

const fn group(
    name: &'static str,
    package: &'static str,
    priority: i32,
    versions: &'static [(&'static str, i32)],
) -> Group {
    Group { name, package, priority, versions }
}
