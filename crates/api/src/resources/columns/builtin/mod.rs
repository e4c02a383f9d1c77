//! The columns of the built-in kinds, by group and plural.

mod cluster;
mod core;
mod networking;
mod storage;
mod workloads;

use super::{AGE, Column, NAME, cells, column, duration, hpa, integer, pod, string};

/// The columns of a built-in kind. For others, upstream's last resort: name and time of creation.
pub(super) fn columns(group: &str, plural: &str) -> &'static [Column] {
    match (group, plural) {
        ("", _) => core::columns(plural),
        ("apps" | "batch" | "autoscaling" | "policy", _) => workloads::columns(plural),
        ("networking.k8s.io" | "discovery.k8s.io", _) => networking::columns(plural),
        ("storage.k8s.io" | "resource.k8s.io", _) => storage::columns(plural),
        ("events.k8s.io", "events") => core::columns("events"),
        _ => cluster::columns(plural),
    }
}

const CREATED: &[Column] = &[
    NAME,
    column("Created At", "date", "When the object was created.", |object, _| {
        object["metadata"]["creationTimestamp"].clone()
    }),
];

const CONTAINERS: Column = string("Containers", "The names of the template's containers.", |object, _| {
    cells::containers(&object["spec"]["template"], "name")
})
.wide();

const IMAGES: Column = string("Images", "The images of the template's containers.", |object, _| {
    cells::containers(&object["spec"]["template"], "image")
})
.wide();

const SELECTOR: Column = string("Selector", "Which pods the object selects.", |object, _| {
    cells::selector(&object["spec"]["selector"]).into()
})
.wide();
