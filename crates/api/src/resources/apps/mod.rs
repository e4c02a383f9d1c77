//! `apps`: workloads.

use super::row::{Row, namespaced};
use crate::resource::Resource;

/// The rows of the group, by name.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced("apps", "controllerrevisions", "ControllerRevision"),
        namespaced("apps", "daemonsets", "DaemonSet").short(&["ds"]).category("all").status(),
        namespaced("apps", "deployments", "Deployment").short(&["deploy"]).category("all").status().scale(),
        namespaced("apps", "replicasets", "ReplicaSet").short(&["rs"]).category("all").status().scale(),
        namespaced("apps", "statefulsets", "StatefulSet").short(&["sts"]).category("all").status().scale(),
    ]
}
