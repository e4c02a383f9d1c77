//! What kinds with few rules cannot do without: the fields that say what an object of theirs is about.

use serde_json::Value;

use super::fields::{int, is_empty, text};
use super::metadata::immutable;
use crate::field_path::Path;
use crate::names;
use crate::status::Cause;
use crate::validation::Errors;

/// `apps/v1` ControllerRevision: a snapshot, which never changes.
pub(super) fn controller_revision(revision: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    revision_number(&mut errors, revision);
    match &revision["data"] {
        Value::Null => errors.required(&Path::root("data"), "data is mandatory"),
        Value::Object(_) => {}
        _ => errors.required(&Path::root("data"), "data must be a valid JSON object"),
    }
    errors.into_causes()
}

pub(super) fn controller_revision_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    revision_number(&mut errors, new);
    immutable(&mut errors, &new["data"], &old["data"], &Path::root("data"));
    errors.into_causes()
}

fn revision_number(errors: &mut Errors, revision: &Value) {
    if int(revision, "revision") < 0 {
        errors.invalid(&Path::root("revision"), int(revision, "revision"), "must be greater than or equal to 0");
    }
}

/// `autoscaling` HorizontalPodAutoscaler: how far it scales, and what.
pub(super) fn autoscaler(autoscaler: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&autoscaler["spec"], Path::root("spec"));
    let (least, most) = (spec["minReplicas"].as_i64(), int(spec, "maxReplicas"));
    if let Some(least) = least.filter(|least| *least < 1) {
        errors.invalid(&path.child("minReplicas"), least, "must be greater than or equal to 1");
    }
    match most {
        0 => errors.required(&path.child("maxReplicas"), "must be set and greater than 0"),
        ..0 => errors.invalid(&path.child("maxReplicas"), most, "must be greater than or equal to 1"),
        _ => {}
    }
    if least.is_some_and(|least| most < least) {
        errors.invalid(&path.child("maxReplicas"), most, "must be greater than or equal to `minReplicas`");
    }
    let (target, path) = (&spec["scaleTargetRef"], path.child("scaleTargetRef"));
    for field in ["kind", "name"] {
        match text(target, field) {
            "" => errors.required(&path.child(field), ""),
            value => errors.invalid_each(&path.child(field), value, names::path_segment(value)),
        }
    }
    let version = text(target, "apiVersion");
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if group.is_empty() && !(version == "v1" && text(target, "kind") == "ReplicationController") {
        errors.invalid(&path.child("apiVersion"), version, "apiVersion must specify API group");
    }
    errors.into_causes()
}

/// `storage.k8s.io` CSIStorageCapacity: whose capacity it is.
pub(super) fn storage_capacity(capacity: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let class = text(capacity, "storageClassName");
    errors.invalid_each(&Path::root("storageClassName"), class, names::dns_subdomain(class));
    errors.into_causes()
}

/// `storage.k8s.io` VolumeAttachment: by whom, what, where.
pub(super) fn volume_attachment(attachment: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&attachment["spec"], Path::root("spec"));
    if text(spec, "attacher").is_empty() {
        errors.required(&path.child("attacher"), "");
    }
    let (source, at) = (&spec["source"], path.child("source"));
    match (source["inlineVolumeSpec"].is_null(), source["persistentVolumeName"].is_null()) {
        (true, true) => errors.required(&at, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
        (false, false) => {
            errors.forbidden(&at, "must specify exactly one of inlineVolumeSpec and persistentVolumeName");
        }
        (true, false) if text(source, "persistentVolumeName").is_empty() => {
            errors.required(&at.child("persistentVolumeName"), "must specify non empty persistentVolumeName");
        }
        _ => {}
    }
    let node = text(spec, "nodeName");
    errors.invalid_each(&path.child("nodeName"), node, names::dns_subdomain(node));
    errors.into_causes()
}

/// `storage.k8s.io` VolumeAttributesClass: whose attributes, and which.
pub(super) fn volume_attributes_class(class: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    if text(class, "driverName").is_empty() {
        errors.required(&Path::root("driverName"), "");
    }
    if is_empty(&class["parameters"]) {
        errors.required(&Path::root("parameters"), "must contain at least one key/value pair");
    }
    errors.into_causes()
}

pub(super) fn volume_attributes_class_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    for field in ["driverName", "parameters"] {
        immutable(&mut errors, &new[field], &old[field], &Path::root(field));
    }
    errors.into_causes()
}

/// `flowcontrol.apiserver.k8s.io` FlowSchema: where its requests go.
pub(super) fn flow_schema(schema: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    if text(&schema["spec"]["priorityLevelConfiguration"], "name").is_empty() {
        let path = Path::root("spec");
        let path = path.child("priorityLevelConfiguration");
        errors.required(&path.child("name"), "must reference a priority level");
    }
    errors.into_causes()
}

/// `flowcontrol.apiserver.k8s.io` PriorityLevelConfiguration: of which type it is.
pub(super) fn priority_level(level: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("spec");
    match text(&level["spec"], "type") {
        "" => errors.required(&path.child("type"), ""),
        "Exempt" | "Limited" => {}
        other => errors.not_supported(&path.child("type"), other, &["Exempt", "Limited"]),
    }
    errors.into_causes()
}

/// `networking.k8s.io` ServiceCIDR: at least one range.
pub(super) fn service_cidr(range: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    if is_empty(&range["spec"]["cidrs"]) {
        let path = Path::root("spec");
        errors.required(&path.child("cidrs"), "at least one CIDR required");
    }
    errors.into_causes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(rule: fn(&Value) -> Vec<Cause>, good: Value, bad: Value, fields: &[&str]) {
        assert_eq!(rule(&good), []);
        let causes = rule(&bad);
        assert_eq!(causes.iter().map(|cause| cause.field.as_str()).collect::<Vec<_>>(), fields);
    }

    #[test]
    fn what_an_object_is_about_must_be_said() {
        check(controller_revision, json!({"data": {}}), json!({}), &["data"]);
        let target = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
        check(
            autoscaler,
            json!({"spec": {"minReplicas": 1, "maxReplicas": 2, "scaleTargetRef": target}}),
            json!({"spec": {"minReplicas": 1, "maxReplicas": 0}}),
            &[
                "spec.maxReplicas",
                "spec.maxReplicas",
                "spec.scaleTargetRef.kind",
                "spec.scaleTargetRef.name",
                "spec.scaleTargetRef.apiVersion",
            ],
        );
        check(storage_capacity, json!({"storageClassName": "fast"}), json!({}), &["storageClassName"]);
        check(
            volume_attachment,
            json!({"spec": {"attacher": "a", "source": {"persistentVolumeName": "v"}, "nodeName": "n"}}),
            json!({}),
            &["spec.attacher", "spec.source", "spec.nodeName"],
        );
        check(
            volume_attributes_class,
            json!({"driverName": "d", "parameters": {"a": "b"}}),
            json!({}),
            &["driverName", "parameters"],
        );
        check(service_cidr, json!({"spec": {"cidrs": ["10.0.0.0/8"]}}), json!({}), &["spec.cidrs"]);
        check(priority_level, json!({"spec": {"type": "Exempt"}}), json!({"spec": {"type": "Some"}}), &["spec.type"]);
    }
}
