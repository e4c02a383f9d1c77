//! What a HorizontalPodAutoscaler may say, in upstream's words (`k8s.io/kubernetes/pkg/apis/autoscaling/validation`).

use serde_json::Value;

use crate::field_path::Path;
use crate::names;
use crate::quantity::Quantity;
use crate::resources::core::resource_names;
use crate::resources::fields::{int, items, text};
use crate::status::Cause;
use crate::validation::Errors;

const MOST_WINDOW: i64 = 3600;
const MOST_PERIOD: i64 = 1800;

const SOURCES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

/// The fields of sources, in the order in which they are looked for.
const FIELDS: [&str; 5] = ["object", "external", "pods", "resource", "containerResource"];

/// How far it scales, what, by which measures, and how fast.
pub(super) fn autoscaler(autoscaler: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&autoscaler["spec"], Path::root("spec"));
    check_bounds(&mut errors, spec, &path);
    reference(&mut errors, &spec["scaleTargetRef"], &path.child("scaleTargetRef"));
    let list = path.child("metrics");
    for (at, metric) in items(spec, "metrics").iter().enumerate() {
        check_metric(&mut errors, metric, &list.index(at));
    }
    let scales_to_zero = |metric: &Value| ["Object", "External"].contains(&text(metric, "type"));
    if spec["minReplicas"].as_i64() == Some(0) && !items(spec, "metrics").iter().any(scales_to_zero) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(&list, why);
    }
    let behavior = path.child("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        check_rules(&mut errors, &spec["behavior"][direction], &behavior.child(direction));
    }
    errors.into_causes()
}

fn check_bounds(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
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
}

/// An object of any kind.
fn reference(errors: &mut Errors, target: &Value, path: &Path<'_>) {
    for field in ["kind", "name"] {
        match text(target, field) {
            "" => errors.required(&path.child(field), ""),
            value => errors.invalid_each(&path.child(field), value, names::path_segment(value)),
        }
    }
    let version = text(target, "apiVersion");
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if version.matches('/').count() > 1 {
        errors.invalid(&path.child("apiVersion"), version, &format!("unexpected GroupVersion string: {version}"));
    } else if group.is_empty() && !(version == "v1" && text(target, "kind") == "ReplicationController") {
        errors.invalid(&path.child("apiVersion"), version, "apiVersion must specify API group");
    }
}

fn check_metric(errors: &mut Errors, metric: &Value, path: &Path<'_>) {
    let (kind, at) = (text(metric, "type"), path.child("type"));
    if kind.is_empty() {
        errors.required(&at, "must specify a metric source type");
    }
    if !SOURCES.contains(&kind) {
        errors.not_supported(&at, kind, &SOURCES);
    }
    let stated: Vec<&str> = FIELDS.into_iter().filter(|field| !metric[*field].is_null()).collect();
    if let Some(field) = stated.first() {
        check_source(errors, field, &metric[*field], &path.child(field));
    }
    let own = FIELDS.into_iter().find(|field| field.eq_ignore_ascii_case(kind));
    match own {
        Some(own) if metric[own].is_null() => {
            errors.required(&path.child(own), "must populate information for the given metric source");
        }
        Some(_) => {}
        // Upstream says so twice.
        None => errors.not_supported(&at, kind, &SOURCES),
    }
    if stated.len() != 1 {
        for field in stated.iter().filter(|field| Some(**field) != own) {
            errors.forbidden(&path.child(field), "must populate the given metric source only");
        }
    }
}

fn check_source(errors: &mut Errors, field: &str, source: &Value, path: &Path<'_>) {
    if field == "object" {
        reference(errors, &source["describedObject"], &path.child("describedObject"));
    }
    match field {
        "resource" | "containerResource" => match text(source, "name") {
            "" => errors.required(&path.child("name"), "must specify a resource name"),
            name if field == "containerResource" => {
                resource_names::check_of_container(errors, name, &path.child("name"));
            }
            _ => {}
        },
        _ => {
            let at = path.child("metric");
            match text(&source["metric"], "name") {
                "" => errors.required(&at.child("name"), "must specify a metric name"),
                name => errors.invalid_each(&at.child("name"), name, names::path_segment(name)),
            }
        }
    }
    if field == "containerResource" {
        match text(source, "container") {
            "" => errors.required(&path.child("container"), "must specify a container"),
            name => errors.invalid_each(&path.child("container"), name, names::dns_label(name)),
        }
    }
    check_target(errors, field, &source["target"], &path.child("target"));
}

/// What a measure is to be, and that it is said in the one way that the source knows.
fn check_target(errors: &mut Errors, source: &str, target: &Value, path: &Path<'_>) {
    let kind = text(target, "type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        errors.invalid(&path.child("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"] {
        if Quantity::from_json(&target[field]).is_ok_and(|amount| amount.signum() <= 0) {
            errors.invalid(&path.child(field), target[field].clone(), "must be positive");
        }
    }
    if let Some(percent) = target["averageUtilization"].as_i64().filter(|percent| *percent < 1) {
        errors.invalid(&path.child("averageUtilization"), percent, "must be greater than 0");
    }
    let has = |field: &str| !target[field].is_null();
    let average = path.child("averageValue");
    match source {
        "object" if !has("value") && !has("averageValue") => {
            errors.required(&average, "must set either a target value or averageValue");
        }
        "external" if !has("value") && !has("averageValue") => {
            errors.required(&average, "must set either a target value for metric or a per-pod target");
        }
        "external" if has("value") && has("averageValue") => {
            let why = "may not set both a target value for metric and a per-pod target";
            errors.forbidden(&path.child("value"), why);
        }
        "pods" if !has("averageValue") => errors.required(&average, "must specify a positive target averageValue"),
        "resource" | "containerResource" if !has("averageUtilization") && !has("averageValue") => {
            let why = "must set either a target raw value or a target utilization";
            errors.required(&path.child("averageUtilization"), why);
        }
        "resource" | "containerResource" if has("averageUtilization") && has("averageValue") => {
            errors.forbidden(&average, "may not set both a target raw value and a target utilization");
        }
        _ => {}
    }
}

/// How fast it scales in one direction.
fn check_rules(errors: &mut Errors, rules: &Value, path: &Path<'_>) {
    if rules.is_null() {
        return;
    }
    let at = path.child("stabilizationWindowSeconds");
    match rules["stabilizationWindowSeconds"].as_i64() {
        Some(window @ ..0) => errors.invalid(&at, window, "must be greater than or equal to zero"),
        Some(window) if window > MOST_WINDOW => {
            errors.invalid(&at, window, &format!("must be less than or equal to {MOST_WINDOW}"));
        }
        _ => {}
    }
    let words = ["Disabled", "Max", "Min"];
    if let Some(policy) = rules["selectPolicy"].as_str().filter(|policy| !words.contains(policy)) {
        errors.not_supported(&path.child("selectPolicy"), policy, &words);
    }
    let list = path.child("policies");
    let policies = items(rules, "policies");
    if policies.is_empty() {
        errors.required(&list, "must specify at least one Policy");
    }
    for (at, policy) in policies.iter().enumerate() {
        check_policy(errors, policy, &list.index(at));
    }
    if Quantity::from_json(&rules["tolerance"]).is_ok_and(|tolerance| tolerance.signum() < 0) {
        let why = "must be greater than or equal to 0";
        errors.invalid(&path.child("tolerance"), rules["tolerance"].clone(), why);
    }
}

fn check_policy(errors: &mut Errors, policy: &Value, path: &Path<'_>) {
    let kind = text(policy, "type");
    if !["Percent", "Pods"].contains(&kind) {
        errors.not_supported(&path.child("type"), kind, &["Percent", "Pods"]);
    }
    let (value, period) = (int(policy, "value"), int(policy, "periodSeconds"));
    if value <= 0 {
        errors.invalid(&path.child("value"), value, "must be greater than zero");
    }
    if period <= 0 {
        errors.invalid(&path.child("periodSeconds"), period, "must be greater than zero");
    }
    if period > MOST_PERIOD {
        let why = format!("must be less than or equal to {MOST_PERIOD}");
        errors.invalid(&path.child("periodSeconds"), period, &why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    #[track_caller]
    fn check(spec: Value, expected: Expect) {
        crate::validation::testing::check(autoscaler(&json!({"spec": spec})), expected);
    }

    #[test]
    fn autoscalers_are_refused_in_upstreams_words() {
        let target = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
        let cpu = json!({"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
        check(json!({"minReplicas": 1, "maxReplicas": 2, "scaleTargetRef": target, "metrics": [cpu]}), expect![""]);
        check(
            json!({"minReplicas": 1, "maxReplicas": 0}),
            expect![[r#"
                spec.maxReplicas: Required value: must be set and greater than 0
                spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`
                spec.scaleTargetRef.kind: Required value
                spec.scaleTargetRef.name: Required value
                spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group
            "#]],
        );
        check(
            json!({"maxReplicas": 2, "scaleTargetRef": target, "metrics": [
                {"type": "Pods", "external": {"target": {"type": "Value", "value": "0"}}},
                {"type": "ContainerResource", "containerResource": {
                    "name": "cpu", "target": {"type": "Odd", "averageUtilization": 0, "averageValue": "1"}}},
            ], "behavior": {"scaleUp": {"stabilizationWindowSeconds": 9999, "selectPolicy": "Odd", "policies": [
                {"type": "Odd", "periodSeconds": 9999}]}, "scaleDown": {"tolerance": "-1"}}}),
            expect![[r#"
                spec.metrics[0].external.metric.name: Required value: must specify a metric name
                spec.metrics[0].external.target.value: Invalid value: "0": must be positive
                spec.metrics[0].pods: Required value: must populate information for the given metric source
                spec.metrics[1].containerResource.container: Required value: must specify a container
                spec.metrics[1].containerResource.target.type: Invalid value: "Odd": must be either Utilization, Value, or AverageValue
                spec.metrics[1].containerResource.target.averageUtilization: Invalid value: 0: must be greater than 0
                spec.metrics[1].containerResource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization
                spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 9999: must be less than or equal to 3600
                spec.behavior.scaleUp.selectPolicy: Unsupported value: "Odd": supported values: "Disabled", "Max", "Min"
                spec.behavior.scaleUp.policies[0].type: Unsupported value: "Odd": supported values: "Percent", "Pods"
                spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero
                spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 9999: must be less than or equal to 1800
                spec.behavior.scaleDown.policies: Required value: must specify at least one Policy
                spec.behavior.scaleDown.tolerance: Invalid value: "-1": must be greater than or equal to 0
            "#]],
        );
    }
}
