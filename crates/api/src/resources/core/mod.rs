//! The core group.

mod config;
pub(crate) mod endpoints;
mod namespaces;
mod nodes;
pub mod pods;
mod quotas;
mod replication_controllers;
pub(crate) mod resource_names;
pub mod services;
pub(crate) mod volumes;

use serde_json::Value;

use super::fields::within;
use super::hooks::{Generation, Hooks, PLAIN};
use super::row::{Row, cluster, namespaced};
use crate::field_path::Path;
use crate::resource::{Resource, Verbs};
use crate::status::Cause;
use crate::validation::Errors;

static POD_TEMPLATES: Hooks = Hooks {
    generation: Generation::Counted,
    default: |object| within(object, "template", pods::template_defaults),
    validate_create: pod_template,
    validate_update: |new, _| pod_template(new),
    warnings: |new, old| pods::warnings::of_template(new, old, &Path::root("template")),
    ..PLAIN
};

fn pod_template(object: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    pods::validation::template(&mut errors, &object["template"], &Path::root("template"));
    errors.into_causes()
}

/// The rows of the group, by name.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced("", "bindings", "Binding").verbs(&["create"]),
        cluster("", "componentstatuses", "ComponentStatus")
            .short(&["cs"])
            .verbs(&["get", "list"])
            .deprecated("v1 ComponentStatus is deprecated in v1.19+"),
        namespaced("", "configmaps", "ConfigMap").hooks(&config::CONFIG_MAPS).short(&["cm"]),
        namespaced("", "endpoints", "Endpoints")
            .hooks(&endpoints::ENDPOINTS)
            .short(&["ep"])
            .deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        namespaced("", "events", "Event")
            .uncollected()
            .hooks(&super::events::CORE_EVENTS)
            .short(&["ev"])
            .select(EVENT_FIELDS)
            .select_either("source", "/source/component", "/reportingComponent"),
        namespaced("", "limitranges", "LimitRange").hooks(&quotas::LIMIT_RANGES).short(&["limits"]),
        cluster("", "namespaces", "Namespace")
            .hooks(&namespaces::NAMESPACES)
            .short(&["ns"])
            .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
            .status()
            .own("finalize", Verbs(&["update"]))
            .select(&["status.phase"]),
        cluster("", "nodes", "Node").hooks(&nodes::NODES).short(&["no"]).status().proxy("NodeProxyOptions").select_as(
            "spec.unschedulable",
            "/spec/unschedulable",
            "false",
        ),
        namespaced("", "persistentvolumeclaims", "PersistentVolumeClaim")
            .returns_deleted()
            .hooks(&volumes::CLAIMS)
            .short(&["pvc"])
            .status(),
        cluster("", "persistentvolumes", "PersistentVolume")
            .returns_deleted()
            .hooks(&volumes::VOLUMES)
            .short(&["pv"])
            .status(),
        pods(),
        namespaced("", "podtemplates", "PodTemplate").returns_deleted().hooks(&POD_TEMPLATES),
        namespaced("", "replicationcontrollers", "ReplicationController")
            .hooks(&replication_controllers::REPLICATION_CONTROLLERS)
            .short(&["rc"])
            .category("all")
            .status()
            .scale()
            .select_as("status.replicas", "/status/replicas", "0"),
        namespaced("", "resourcequotas", "ResourceQuota")
            .returns_deleted()
            .hooks(&quotas::RESOURCE_QUOTAS)
            .short(&["quota"])
            .status(),
        namespaced("", "secrets", "Secret").hooks(&config::SECRETS).select(&["type"]),
        namespaced("", "serviceaccounts", "ServiceAccount")
            .returns_deleted()
            .hooks(&config::SERVICE_ACCOUNTS)
            .short(&["sa"])
            .sub("token", "authentication.k8s.io", "v1", "TokenRequest", Verbs::CREATE),
        namespaced("", "services", "Service")
            .returns_deleted()
            .hooks(&services::SERVICES)
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
        .returns_deleted()
        .short(&["po"])
        .category("all")
        .hooks(&pods::PODS)
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
