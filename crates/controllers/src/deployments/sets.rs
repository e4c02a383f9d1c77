//! ReplicaSets as a rollout sees and changes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::Entry;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Value, json};

use crate::common::{hash, pods};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
pub(super) const HASH: &str = "pod-template-hash";
/// Annotations of a Deployment that are its own and not copied to its ReplicaSets.
const OWN_ANNOTATIONS: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

/// A ReplicaSet, and the change of it that a plan has made up so far.
#[derive(Clone)]
pub(super) struct Set {
    pub(super) entry: Arc<Entry>,
    pub(super) object: ReplicaSet,
    /// Whether it has pods that have not finished.
    pub(super) has_pods: bool,
    /// How many replicas it shall have: the spec's, until the plan says otherwise.
    pub(super) replicas: i32,
    /// A merge patch of everything to be changed.
    pub(super) change: Value,
}

impl Set {
    pub(super) fn new(entry: Arc<Entry>, object: ReplicaSet, has_pods: bool) -> Self {
        let replicas = object.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        Self { entry, object, has_pods, replicas, change: json!({}) }
    }

    pub(super) fn name(&self) -> &str {
        &self.entry.key.name
    }

    pub(super) fn spec_replicas(&self) -> i32 {
        self.object.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    pub(super) fn status_replicas(&self) -> i32 {
        self.object.status.as_ref().map_or(0, |status| status.replicas)
    }

    pub(super) fn ready(&self) -> i32 {
        self.object.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default()
    }

    pub(super) fn available(&self) -> i32 {
        self.object.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
    }

    pub(super) fn terminating(&self) -> Option<i32> {
        self.object.status.as_ref().and_then(|status| status.terminating_replicas)
    }

    pub(super) fn revision(&self) -> i64 {
        self.number(REVISION).unwrap_or_default()
    }

    pub(super) fn number(&self, annotation: &str) -> Option<i64> {
        pods::annotation(&self.object.metadata, annotation)?.parse().ok()
    }

    /// Sets an annotation, if that changes it.
    pub(super) fn annotate(&mut self, name: &str, value: &str) {
        if pods::annotation(&self.object.metadata, name) != Some(value) {
            self.change["metadata"]["annotations"][name] = json!(value);
        }
    }

    /// Sets the replicas, and the sizes that proportional scaling compares with later.
    pub(super) fn resize(&mut self, replicas: i32, desired: i32, max: i32) {
        if replicas != self.spec_replicas() {
            self.change["spec"]["replicas"] = json!(replicas);
        }
        self.replicas = replicas;
        self.annotate(DESIRED, &desired.to_string());
        self.annotate(MAX, &max.to_string());
    }
}

/// The template as it is compared and hashed: without the label that the hash is put into.
fn bare(template: &PodTemplateSpec) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(HASH);
    }
    // A typed template always encodes.
    serde_json::to_value(template).unwrap_or_default()
}

/// The position of the ReplicaSet with the Deployment's template: the oldest, should there be several.
pub(super) fn find_new(spec: &DeploymentSpec, sets: &[Set]) -> Option<usize> {
    let wanted = bare(&spec.template);
    sets.iter().position(|set| {
        set.object.spec.as_ref().and_then(|spec| spec.template.as_ref()).map(bare) == Some(wanted.clone())
    })
}

/// Whether a ReplicaSet document is the Deployment's and has its template: then creating it again is done.
pub(super) fn is_same(deployment: &Deployment, set: &Value) -> bool {
    let Ok(set) = serde_json::from_value::<ReplicaSet>(set.clone()) else { return false };
    let owner = pods::controller_of(&set.metadata).map(|owner| owner.uid.as_str());
    let template = set.spec.and_then(|spec| spec.template);
    let wanted = deployment.spec.as_ref().map(|spec| bare(&spec.template));
    owner == deployment.metadata.uid.as_deref() && template.as_ref().map(bare) == wanted
}

/// A ReplicaSet for the Deployment's template.
pub(super) fn make_new(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    replicas: i32,
    max: i32,
    revision: i64,
) -> Value {
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = hash::short(&bare(&spec.template), collisions);
    let mut labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(HASH.to_owned(), hash.clone());
    let mut template = serde_json::to_value(&spec.template).unwrap_or_default();
    template["metadata"]["labels"] = json!(labels);
    let mut selector = serde_json::to_value(&spec.selector).unwrap_or_default();
    selector["matchLabels"][HASH] = json!(hash);
    let mut annotations = copied_annotations(deployment);
    annotations.insert(REVISION.to_owned(), revision.to_string());
    annotations.insert(DESIRED.to_owned(), spec.replicas.unwrap_or(1).to_string());
    annotations.insert(MAX.to_owned(), max.to_string());
    let name = pods::name(&deployment.metadata);
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{name}-{hash}"),
            "namespace": pods::namespace(&deployment.metadata),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [pods::controller_reference::<Deployment>(&deployment.metadata)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": spec.min_ready_seconds.unwrap_or_default(),
            "selector": selector,
            "template": template,
        },
    })
}

/// The annotations that a Deployment hands down.
pub(super) fn copied_annotations(deployment: &Deployment) -> BTreeMap<String, String> {
    let annotations = deployment.metadata.annotations.clone().unwrap_or_default();
    annotations.into_iter().filter(|(name, _)| !OWN_ANNOTATIONS.contains(&name.as_str())).collect()
}
