//! Nodes.

use serde_json::{Value, json};

use super::pods::validation::taint_effect;
use super::services::validation::cidr;
use crate::field_path::Path;
use crate::names;

use crate::resources::fields::{items, object, text, within};
use crate::resources::hooks::{Hooks, PLAIN};
use crate::resources::strategy::remove;
use crate::status::Cause;
use crate::validation::Errors;

pub(super) static NODES: Hooks = Hooks {
    default: |node| {
        one_range(node);
        within(node, "status", |status| {
            if status["allocatable"].is_null() && !status["capacity"].is_null() {
                status["allocatable"] = status["capacity"].clone();
            }
        });
    },
    status_on_create: true,
    prepare_create: |node| drop_config(node),
    prepare_update: |new, _| drop_config(new),
    validate_create: validate,
    validate_update: update,
    ..PLAIN
};

/// `podCIDR` is the first of `podCIDRs`, and stands for all where these say otherwise.
fn one_range(node: &mut Value) {
    within(node, "spec", |spec| {
        let first = items(spec, "podCIDRs").first().cloned();
        match text(spec, "podCIDR") {
            "" => {
                if let Some(first) = first {
                    spec["podCIDR"] = first;
                }
            }
            one if first.as_ref().is_none_or(|first| first != one) => spec["podCIDRs"] = json!([one]),
            _ => {}
        }
    });
}

/// Dynamic kubelet configuration is gone.
fn drop_config(node: &mut Value) {
    remove(object(node, "spec"), "configSource");
    within(node, "status", |status| remove(status, "config"));
}

fn validate(node: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("metadata");
    // Upstream's errors about taints name the metadata.
    taints(&mut errors, node, &path.child("taints"));
    let path = Path::root("spec");
    let (ranges, at) = (items(&node["spec"], "podCIDRs"), path.child("podCIDRs"));
    for (index, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
        cidr(&mut errors, range, &at.index(index));
    }
    let six = ranges.iter().filter_map(Value::as_str).filter(|range| range.contains(':')).count();
    if ranges.len() > 2 || (ranges.len() == 2 && six != 1) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.invalid(&at, node["spec"]["podCIDRs"].clone(), detail);
    }
    errors.into_causes()
}

fn taints(errors: &mut Errors, node: &Value, path: &Path<'_>) {
    let taints = items(&node["spec"], "taints");
    for (at, taint) in taints.iter().enumerate() {
        let path = path.index(at);
        let (key, effect) = (text(taint, "key"), text(taint, "effect"));
        errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
        let wrong = names::label_value(text(taint, "value"));
        if !wrong.is_empty() {
            errors.invalid(&path.child("value"), text(taint, "value"), &wrong.join(";"));
        }
        taint_effect(errors, effect, &path.child("effect"));
        let same = |other: &Value| text(other, "key") == key && text(other, "effect") == effect;
        if taints[..at].iter().any(same) {
            errors.duplicate_because(&path, taint.clone(), "taints must be unique by key and effect pair");
        }
    }
}

fn update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = validate(new);
    let mut errors = Errors::new();
    // Upstream looks at taints once more.
    let path = Path::root("metadata");
    taints(&mut errors, new, &path.child("taints"));
    let path = Path::root("spec");
    let ranges = items(&old["spec"], "podCIDRs");
    if !ranges.is_empty() && ranges != items(&new["spec"], "podCIDRs") {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.forbidden(&path.child("podCIDRs"), detail);
    }
    let provider = text(&old["spec"], "providerID");
    if !provider.is_empty() && provider != text(&new["spec"], "providerID") {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(&path.child("providerID"), detail);
    }
    causes.extend(errors.into_causes());
    causes
}
