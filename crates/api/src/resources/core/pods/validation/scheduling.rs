//! Where a Pod may run: affinity, tolerations, spreading.

use serde_json::Value;

use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{int, items, text};
use crate::resources::metadata::label_selector;
use crate::validation::Errors;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn affinity(errors: &mut Errors, affinity: &Value, path: &Path<'_>) {
    let node = &affinity["nodeAffinity"];
    if !node.is_null() {
        let path = path.child("nodeAffinity");
        if !node[REQUIRED].is_null() {
            node_selector(errors, &node[REQUIRED], &path.child(REQUIRED));
        }
        let at = path.child(PREFERRED);
        for (index, term) in items(node, PREFERRED).iter().enumerate() {
            weight(errors, term, &at.index(index));
            node_term(errors, &term["preference"], false, &at.index(index).child("preference"));
        }
    }
    for side in ["podAffinity", "podAntiAffinity"] {
        let path = path.child(side);
        let at = path.child(REQUIRED);
        for (index, term) in items(&affinity[side], REQUIRED).iter().enumerate() {
            pod_term(errors, term, &at.index(index));
        }
        let at = path.child(PREFERRED);
        for (index, term) in items(&affinity[side], PREFERRED).iter().enumerate() {
            weight(errors, term, &at.index(index));
            pod_term(errors, &term["podAffinityTerm"], &at.index(index).child("podAffinityTerm"));
        }
    }
}

/// Nodes by their labels and names: any of the terms.
pub(crate) fn node_selector(errors: &mut Errors, selector: &Value, path: &Path<'_>) {
    let at = path.child("nodeSelectorTerms");
    let terms = items(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&at, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        node_term(errors, term, true, &at.index(index));
    }
}

fn weight(errors: &mut Errors, term: &Value, path: &Path<'_>) {
    let weight = int(term, "weight");
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn node_term(errors: &mut Errors, term: &Value, strict: bool, path: &Path<'_>) {
    let at = path.child("matchExpressions");
    for (index, requirement) in items(term, "matchExpressions").iter().enumerate() {
        node_requirement(errors, requirement, strict, &at.index(index));
    }
    let at = path.child("matchFields");
    for (index, requirement) in items(term, "matchFields").iter().enumerate() {
        node_field(errors, requirement, &at.index(index));
    }
}

fn node_requirement(errors: &mut Errors, requirement: &Value, strict: bool, path: &Path<'_>) {
    let values = items(requirement, "values");
    let at = path.child("values");
    match text(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(&at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errors.required(&at, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    let key = text(requirement, "key");
    errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
    if strict {
        for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
            errors.invalid_each(&at.index(index), value, names::label_value(value));
        }
    }
}

fn node_field(errors: &mut Errors, requirement: &Value, path: &Path<'_>) {
    let values = items(requirement, "values");
    match text(requirement, "operator") {
        "In" | "NotIn" if values.len() != 1 => {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.required(&path.child("values"), detail);
        }
        "In" | "NotIn" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    match text(requirement, "key") {
        "metadata.name" => {
            for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
                errors.invalid_each(&path.child("values").index(index), value, names::dns_subdomain(value));
            }
        }
        key => errors.invalid(&path.child("key"), key, "not a valid field selector key"),
    }
}

fn pod_term(errors: &mut Errors, term: &Value, path: &Path<'_>) {
    label_selector(errors, &term["labelSelector"], &path.child("labelSelector"));
    label_selector(errors, &term["namespaceSelector"], &path.child("namespaceSelector"));
    for name in items(term, "namespaces").iter().filter_map(Value::as_str) {
        errors.invalid_each(&path.child("namespace"), name, names::dns_label(name));
    }
    label_keys(errors, term, path);
    let (key, at) = (text(term, "topologyKey"), path.child("topologyKey"));
    if key.is_empty() {
        errors.required(&at, "can not be empty");
    }
    errors.invalid_each(&at, key, names::qualified_name(key));
}

/// The `tolerations` of a spec, as `path` names them.
pub fn tolerations(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    for (at, toleration) in items(spec, "tolerations").iter().enumerate() {
        let path = path.index(at);
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        let (value, effect) = (text(toleration, "value"), text(toleration, "effect"));
        if !key.is_empty() {
            errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&path.child("operator"), operator, detail);
        }
        if !toleration["tolerationSeconds"].is_null() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&path.child("effect"), effect, detail);
        }
        let at = path.child("operator");
        match operator {
            "Equal" | "" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.invalid(&at, value, &wrong.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.invalid(&at, value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            other => errors.not_supported(&at, other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            taint_effect(errors, effect, &path.child("effect"));
        }
    }
}

/// What a taint does to Pods that don't tolerate it.
pub(crate) fn taint_effect(errors: &mut Errors, effect: &str, path: &Path<'_>) {
    let words = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    match effect {
        "" => errors.required(path, ""),
        word if words.contains(&word) => {}
        word => errors.not_supported(path, word, &words),
    }
}

pub(super) fn topology_spread(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let constraints = items(spec, "topologySpreadConstraints");
    for (at, constraint) in constraints.iter().enumerate() {
        let path = path.index(at);
        let skew = int(constraint, "maxSkew");
        if skew <= 0 {
            errors.invalid(&path.child("maxSkew"), skew, "must be greater than zero");
        }
        let (key, action) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
        if key.is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        }
        let words = ["DoNotSchedule", "ScheduleAnyway"];
        if !words.contains(&action) {
            errors.not_supported(&path.child("whenUnsatisfiable"), action, &words);
        }
        let same = |other: &Value| text(other, "topologyKey") == key && text(other, "whenUnsatisfiable") == action;
        if constraints[at + 1..].iter().any(same) {
            let pair = format!("{{{key}, {action}}}");
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), pair);
        }
        if let Some(domains) = constraint["minDomains"].as_i64() {
            if domains <= 0 {
                errors.invalid(&path.child("minDomains"), domains, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&path.child("minDomains"), domains, &detail);
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = constraint[field].as_str().filter(|policy| !["Ignore", "Honor"].contains(policy)) {
                errors.not_supported(&path.child(field), policy, &["Honor", "Ignore"]);
            }
        }
        label_keys(errors, constraint, &path);
        label_selector(errors, &constraint["labelSelector"], &path.child("labelSelector"));
    }
}

/// Keys whose values a new Pod's own labels give.
fn label_keys(errors: &mut Errors, term: &Value, path: &Path<'_>) {
    let (matching, differing) = (items(term, "matchLabelKeys"), items(term, "mismatchLabelKeys"));
    for (field, keys) in [("matchLabelKeys", matching), ("mismatchLabelKeys", differing)] {
        let at = path.child(field);
        if !keys.is_empty() && term["labelSelector"].is_null() {
            errors.forbidden(&at, "must not be specified when labelSelector is not set");
            continue;
        }
        for (index, key) in keys.iter().filter_map(Value::as_str).enumerate() {
            errors.invalid_each(&at.index(index), key, names::qualified_name(key));
        }
    }
    for (index, key) in matching.iter().enumerate() {
        if differing.contains(key) {
            let at = path.child("matchLabelKeys");
            errors.invalid(&at.index(index), key.clone(), "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
}
