//! `apps`: workloads.

mod daemonsets;
mod deployments;
mod replicasets;
mod statefulsets;
pub(crate) mod validation;

use super::row::{Row, namespaced};
use crate::resource::Resource;

/// The rows of the group, by name.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced("apps", "controllerrevisions", "ControllerRevision"),
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
