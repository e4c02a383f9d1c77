//! `apps`: workloads.

mod daemonsets;
mod deployments;
mod replicasets;
mod statefulsets;
pub(crate) mod validation;

use super::essentials;
use super::hooks::{Hooks, PLAIN};
use super::row::{Row, namespaced};
use crate::resource::Resource;

static REVISIONS: Hooks = Hooks {
    validate_create: essentials::controller_revision,
    validate_update: essentials::controller_revision_update,
    ..PLAIN
};

/// The rows of the group, by name.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced("apps", "controllerrevisions", "ControllerRevision").hooks(&REVISIONS),
        namespaced("apps", "daemonsets", "DaemonSet")
            .hooks(&daemonsets::DAEMON_SETS)
            .short(&["ds"])
            .category("all")
            .status(),
        namespaced("apps", "deployments", "Deployment")
            .hooks(&deployments::DEPLOYMENTS)
            .short(&["deploy"])
            .category("all")
            .status()
            .scale(),
        namespaced("apps", "replicasets", "ReplicaSet")
            .hooks(&replicasets::REPLICA_SETS)
            .short(&["rs"])
            .category("all")
            .status()
            .scale(),
        namespaced("apps", "statefulsets", "StatefulSet")
            .hooks(&statefulsets::STATEFUL_SETS)
            .short(&["sts"])
            .category("all")
            .status()
            .scale(),
    ]
}
