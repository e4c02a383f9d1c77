//! The core group.

use super::row::{Row, cluster, namespaced};
use crate::resource::{Resource, Verbs};

/// The rows of the group, by name.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced("", "bindings", "Binding").verbs(&["create"]),
        cluster("", "componentstatuses", "ComponentStatus").short(&["cs"]).verbs(&["get", "list"]),
        namespaced("", "configmaps", "ConfigMap").short(&["cm"]),
        namespaced("", "endpoints", "Endpoints").short(&["ep"]),
        namespaced("", "events", "Event").short(&["ev"]).select(EVENT_FIELDS).select_as(
            "source",
            "/source/component",
            "",
        ),
        namespaced("", "limitranges", "LimitRange").short(&["limits"]),
        cluster("", "namespaces", "Namespace")
            .short(&["ns"])
            .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
            .status()
            .own("finalize", Verbs(&["update"]))
            .select(&["status.phase"]),
        cluster("", "nodes", "Node").short(&["no"]).status().proxy("NodeProxyOptions").select_as(
            "spec.unschedulable",
            "/spec/unschedulable",
            "false",
        ),
        namespaced("", "persistentvolumeclaims", "PersistentVolumeClaim").short(&["pvc"]).status(),
        cluster("", "persistentvolumes", "PersistentVolume").short(&["pv"]).status(),
        pods(),
        namespaced("", "podtemplates", "PodTemplate"),
        namespaced("", "replicationcontrollers", "ReplicationController")
            .short(&["rc"])
            .category("all")
            .status()
            .scale()
            .select_as("status.replicas", "/status/replicas", "0"),
        namespaced("", "resourcequotas", "ResourceQuota").short(&["quota"]).status(),
        namespaced("", "secrets", "Secret").select(&["type"]),
        namespaced("", "serviceaccounts", "ServiceAccount").short(&["sa"]).sub(
            "token",
            "authentication.k8s.io",
            "v1",
            "TokenRequest",
            Verbs::CREATE,
        ),
        namespaced("", "services", "Service")
            .short(&["svc"])
            .category("all")
            .status()
            .proxy("ServiceProxyOptions")
            .select(&["spec.clusterIP", "spec.type"]),
    ]
}

/// The fields of an Event that selectors name as the core group spells them.
const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "type",
];

fn pods() -> Resource {
    namespaced("", "pods", "Pod")
        .short(&["po"])
        .category("all")
        .status()
        .own("ephemeralcontainers", Verbs::STATUS)
        .own("resize", Verbs::STATUS)
        .own("log", Verbs(&["get"]))
        .stream("attach", "PodAttachOptions")
        .stream("exec", "PodExecOptions")
        .stream("portforward", "PodPortForwardOptions")
        .proxy("PodProxyOptions")
        .sub("binding", "", "v1", "Binding", Verbs::CREATE)
        .sub("eviction", "policy", "v1", "Eviction", Verbs::CREATE)
        .select(&["spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName"])
        .select_as("spec.hostNetwork", "/spec/hostNetwork", "false")
        .select(&["status.phase", "status.podIP", "status.nominatedNodeName"])
        // What clients sent before Kubernetes 1.0.
        .select_as("spec.host", "/spec/nodeName", "")
}
