//! Pods as their controllers see them.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::conditions;

/// Files objects under the uid of their controller; those without one under [`orphans`] of their namespace.
pub(crate) fn by_owner(entry: &api::object::Entry) -> Vec<String> {
    let relations = client::view::Relations::of(entry);
    vec![relations.controller().map_or_else(|| orphans(&entry.key.namespace), |owner| owner.uid.clone())]
}

/// Where [`by_owner`] files what has no controller.
pub(crate) fn orphans(namespace: &str) -> String {
    format!("orphans/{namespace}")
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor being deleted.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    conditions::is_true(pod.status.as_ref().and_then(|status| status.conditions.as_ref()), "Ready")
}

/// Since when the pod is ready.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref();
    let ready = conditions::find(conditions, "Ready").filter(|ready| ready.status == "True")?;
    Some(ready.last_transition_time.as_ref()?.0)
}

/// Whether a pod has been ready for long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    Available,
    /// Ready, and will be available after this.
    In(Duration),
    NotReady,
}

pub(crate) fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    if !is_ready(pod) {
        return Availability::NotReady;
    }
    if min_ready_seconds <= 0 {
        return Availability::Available;
    }
    let Some(since) = ready_since(pod) else { return Availability::NotReady };
    let due = since + Duration::from_secs(min_ready_seconds.unsigned_abs().into());
    match Duration::try_from(due.duration_since(now)) {
        Ok(left) if !left.is_zero() => Availability::In(left),
        _ => Availability::Available,
    }
}

pub(crate) fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    availability(pod, min_ready_seconds, now) == Availability::Available
}

pub(crate) fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or_default()
}

pub(crate) fn uid(metadata: &ObjectMeta) -> &str {
    metadata.uid.as_deref().unwrap_or_default()
}

pub(crate) fn annotation<'a>(metadata: &'a ObjectMeta, annotation: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(annotation).map(String::as_str)
}

/// The reference by which an object names its controller.
pub(crate) fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

/// The reference of what a `K` controls.
pub(crate) fn controller_reference<K: Resource>(metadata: &ObjectMeta) -> Value {
    json!({
        "apiVersion": K::API_VERSION,
        "kind": K::KIND,
        "name": name(metadata),
        "uid": uid(metadata),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// The prefix of a generated name: the owner's and a dash, unless that is no valid name.
pub(crate) fn generate_name(owner: &str) -> String {
    // 253 for a subdomain, less the five random characters.
    if owner.len() < 248 { format!("{owner}-") } else { owner.to_owned() }
}

/// A pod from a template, for `owner`. The caller names it.
pub(crate) fn from_template(template: &PodTemplateSpec, namespace: &str, owner: Value) -> Value {
    let metadata = template.metadata.clone().unwrap_or_default();
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "ownerReferences": [owner]},
        "spec": template.spec,
    });
    let parts = [
        ("labels", serde_json::to_value(metadata.labels)),
        ("annotations", serde_json::to_value(metadata.annotations)),
        ("finalizers", serde_json::to_value(metadata.finalizers)),
    ];
    for (field, value) in parts {
        if let Ok(value) = value
            && !value.is_null()
        {
            pod["metadata"][field] = value;
        }
    }
    pod
}
