//! What an update of a Pod may change: images, a shorter deadline, more tolerations, fewer gates.

use serde_json::{Value, json};

use super::pod_spec;
use super::scheduling::tolerations;
use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{items, same, text};
use crate::resources::strategy::keep;
use crate::status::Cause;
use crate::validation::Errors;

const MUTABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                       `spec.tolerations` (only additions to existing tolerations),\
                       `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(in crate::resources::core::pods) fn validate(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    pod_spec(&mut errors, new);
    // Returns early where upstream goes no further.
    let _ = changes(&mut errors, &new["spec"], &old["spec"]);
    errors.into_causes()
}

fn changes(errors: &mut Errors, new: &Value, old: &Value) -> Option<()> {
    let path = Path::root("spec");
    for list in ["containers", "initContainers"] {
        let at = path.child(list);
        if items(new, list).len() != items(old, list).len() {
            errors.forbidden(&at, "pod updates may not add or remove containers");
            return None;
        }
        for (index, container) in items(new, list).iter().enumerate() {
            let image = text(container, "image");
            if image.is_empty() {
                errors.required(&at.index(index).child("image"), "");
            }
            if image.trim() != image {
                let detail = "must not have leading or trailing whitespace";
                errors.invalid(&at.index(index).child("image"), image, detail);
            }
        }
    }
    deadline(errors, new, old, &path.child("activeDeadlineSeconds"))?;
    added_tolerations(errors, new, old, &path.child("tolerations"));
    deleted_gates(errors, new, old, &path.child("schedulingGates"));

    if new == old {
        return Some(());
    }
    let mut masked = new.clone();
    for list in ["containers", "initContainers"] {
        if let Some(containers) = masked[list].as_array_mut() {
            for (container, old) in containers.iter_mut().zip(items(old, list)) {
                keep(container, old, "image");
            }
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        keep(&mut masked, old, field);
    }
    let period = |spec: &Value| spec["terminationGracePeriodSeconds"].as_i64();
    if period(old).is_some_and(|seconds| seconds < 0) && period(&masked) == Some(1) {
        keep(&mut masked, old, "terminationGracePeriodSeconds");
    }
    if !items(old, "schedulingGates").is_empty() {
        gated_changes(errors, &mut masked, old, &path);
    }
    if !same(&masked, old) {
        let detail = format!("pod updates may not change fields other than {MUTABLE}\n{}", difference(&masked, old));
        errors.forbidden(&path, &detail);
    }
    Some(())
}

/// What differs, field by field, old then new.
fn difference(new: &Value, old: &Value) -> String {
    let empty = serde_json::Map::new();
    let (new, old) = (new.as_object().unwrap_or(&empty), old.as_object().unwrap_or(&empty));
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    let line = |name: &String| {
        let value = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or(Value::Null);
        let (old, new) = (value(old), value(new));
        (!same(&old, &new)).then(|| format!("  {name}:\n-   {old}\n+   {new}\n"))
    };
    names.filter_map(line).collect()
}

fn deadline(errors: &mut Errors, new: &Value, old: &Value, path: &Path<'_>) -> Option<()> {
    let of = |spec: &Value| spec["activeDeadlineSeconds"].as_i64();
    match (of(new), of(old)) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            for detail in names::in_range(new, 0, i64::from(i32::MAX)) {
                errors.invalid(path, new, &detail);
            }
            return None;
        }
        (Some(new), Some(old)) if old < new => {
            errors.invalid(path, new, "must be less than or equal to previous value");
            return None;
        }
        (None, Some(_)) => errors.invalid(path, json!(null), "must not update from a positive integer to nil value"),
        _ => {}
    }
    Some(())
}

fn added_tolerations(errors: &mut Errors, new: &Value, old: &Value, path: &Path<'_>) {
    let same_but_seconds = |a: &Value, b: &Value| {
        ["key", "operator", "value", "effect"].iter().all(|field| text(a, field) == text(b, field))
    };
    for old in items(old, "tolerations") {
        if !items(new, "tolerations").iter().any(|new| same_but_seconds(new, old)) {
            let detail = "existing toleration can not be modified except its tolerationSeconds";
            return errors.forbidden(path, detail);
        }
    }
    tolerations(errors, new, path);
}

fn deleted_gates(errors: &mut Errors, new: &Value, old: &Value, path: &Path<'_>) {
    for (at, gate) in items(new, "schedulingGates").iter().enumerate() {
        if !items(old, "schedulingGates").iter().any(|old| old["name"] == gate["name"]) {
            let name = text(gate, "name");
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&path.index(at).child("name"), &detail);
        }
    }
}

/// A Pod that is held back may still be narrowed to fewer nodes.
fn gated_changes(errors: &mut Errors, masked: &mut Value, old: &Value, path: &Path<'_>) {
    let selector = &old["nodeSelector"];
    let kept = |(key, value): (&String, &Value)| masked["nodeSelector"].get(key) == Some(value);
    if !selector.as_object().into_iter().flatten().all(kept) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.invalid(&path.child("nodeSelector"), masked["nodeSelector"].clone(), detail);
    }
    keep(masked, old, "nodeSelector");
    let (new_affinity, old_affinity) = (masked["affinity"]["nodeAffinity"].clone(), &old["affinity"]["nodeAffinity"]);
    if same(&new_affinity, old_affinity) {
        return;
    }
    narrowed_affinity(errors, &new_affinity, old_affinity, path);
    match old_affinity.is_null() {
        true => crate::resources::strategy::remove(&mut masked["affinity"], "nodeAffinity"),
        false => crate::resources::fields::object(masked, "affinity")["nodeAffinity"] = old_affinity.clone(),
    }
}

fn narrowed_affinity(errors: &mut Errors, new: &Value, old: &Value, path: &Path<'_>) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let (affinity, terms) =
        (path.child("affinity"), |value: &Value| items(&value[REQUIRED], "nodeSelectorTerms").to_vec());
    let node = affinity.child("nodeAffinity");
    let required = node.child(REQUIRED);
    let at = required.child("nodeSelectorTerms");
    let (old_terms, new_terms) = (terms(old), terms(new));
    if old_terms.is_empty() {
        return;
    }
    if old_terms.len() != new_terms.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return errors.invalid(&at, json!(new_terms), detail);
    }
    for (index, (new, old)) in new_terms.iter().zip(&old_terms).enumerate() {
        let only_added = ["matchExpressions", "matchFields"]
            .iter()
            .all(|field| items(old, field).iter().all(|requirement| items(new, field).contains(requirement)));
        if !only_added {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.invalid(&at.index(index), new.clone(), detail);
        }
    }
}
