//! Between `autoscaling/v1` and `v2`: v1 knows one metric, CPU utilization, and keeps the rest in annotations.

use serde_json::{Map, Value, json};

use crate::resources::fields::{default, is_empty, object, text};
use crate::resources::strategy::remove;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

pub(super) fn convert(autoscaler: &mut Value, from: &str, to: &str) {
    match (from, to) {
        ("autoscaling/v1", "autoscaling/v2") => to_v2(autoscaler),
        ("autoscaling/v2", "autoscaling/v1") => to_v1(autoscaler),
        _ => {}
    }
}

fn to_v1(autoscaler: &mut Value) {
    let mut saved = Map::new();
    let metrics = autoscaler["spec"]["metrics"].take();
    let metrics = metrics.as_array().map(Vec::as_slice).unwrap_or_default();
    let utilization = metrics.iter().find_map(cpu_utilization);
    let others: Vec<Value> = metrics.iter().filter(|metric| cpu_utilization(metric).is_none()).map(metric_v1).collect();
    let spec = object(autoscaler, "spec");
    remove(spec, "metrics");
    if let Some(percent) = utilization {
        spec["targetCPUUtilizationPercentage"] = json!(percent);
    }
    let behavior = spec["behavior"].take();
    remove(spec, "behavior");

    let status = object(autoscaler, "status");
    let current = status["currentMetrics"].take();
    let conditions = status["conditions"].take();
    remove(status, "currentMetrics");
    remove(status, "conditions");
    let current = current.as_array().map(Vec::as_slice).unwrap_or_default();
    let used = |metric: &Value| {
        (metric["type"] == "Resource" && metric["resource"]["name"] == "cpu")
            .then(|| metric["resource"]["current"]["averageUtilization"].as_i64())
            .flatten()
    };
    if let Some(percent) = current.iter().find_map(used) {
        status["currentCPUUtilizationPercentage"] = json!(percent);
    }

    // Where v2 leaves the number out that is not known yet, v1 has always said 0.
    default(status, "currentReplicas", 0);

    let current: Vec<Value> = current.iter().map(status_v1).collect();
    for (key, value) in [
        (METRICS, json!(others)),
        (CURRENT_METRICS, json!(current)),
        (CONDITIONS, conditions),
        (BEHAVIOR, upper_keys(behavior)),
    ] {
        if !is_empty(&value) {
            saved.insert(key.to_owned(), json!(value.to_string()));
        }
    }
    drop_saved(autoscaler);
    if !saved.is_empty() {
        let annotations = object(object(autoscaler, "metadata"), "annotations");
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.extend(saved);
        }
    }
}

fn to_v2(autoscaler: &mut Value) {
    let saved = |key: &str| {
        let text = autoscaler["metadata"]["annotations"][key].as_str()?;
        serde_json::from_str::<Value>(text).ok()
    };
    let (metrics, current) = (saved(METRICS), saved(CURRENT_METRICS));
    let (conditions, behavior) = (saved(CONDITIONS), saved(BEHAVIOR).map(lower_keys));
    let list = |saved: Option<Value>| saved.and_then(|value| value.as_array().cloned()).unwrap_or_default();

    let spec = object(autoscaler, "spec");
    let mut all: Vec<Value> = list(metrics).iter().map(metric_v2).collect();
    if let Some(percent) = spec["targetCPUUtilizationPercentage"].as_i64() {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        all.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    remove(spec, "targetCPUUtilizationPercentage");
    if !all.is_empty() {
        spec["metrics"] = json!(all);
    }
    if let Some(behavior) = behavior {
        spec["behavior"] = behavior;
    }

    let status = object(autoscaler, "status");
    if status["currentReplicas"] == 0 {
        remove(status, "currentReplicas");
    }
    let percent = status["currentCPUUtilizationPercentage"].take();
    remove(status, "currentCPUUtilizationPercentage");
    let mut current: Vec<Value> = list(current).iter().map(status_v2).collect();
    if current.is_empty() && !percent.is_null() {
        current
            .push(json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}}));
    }
    if !current.is_empty() {
        status["currentMetrics"] = json!(current);
    }
    if let Some(conditions) = conditions {
        status["conditions"] = conditions;
    }
    drop_saved(autoscaler);
}

fn drop_saved(autoscaler: &mut Value) {
    if let Some(annotations) = autoscaler.pointer_mut("/metadata/annotations").filter(|known| known.is_object()) {
        for key in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR] {
            remove(annotations, key);
        }
        if is_empty(annotations) {
            remove(&mut autoscaler["metadata"], "annotations");
        }
    }
}

fn cpu_utilization(metric: &Value) -> Option<i64> {
    let resource = &metric["resource"];
    (metric["type"] == "Resource" && resource["name"] == "cpu")
        .then(|| resource["target"]["averageUtilization"].as_i64())
        .flatten()
}

/// Fields that have a value, under other names.
fn renamed(source: &Value, names: &[(&str, &str)]) -> Value {
    let fields = names.iter().filter_map(|(pointer, name)| {
        let value = source.pointer(pointer).filter(|value| !value.is_null())?;
        Some(((*name).to_owned(), value.clone()))
    });
    Value::Object(fields.collect())
}

/// The field of a metric that holds its source, by its type.
fn source_field(metric: &Value) -> &'static str {
    match text(metric, "type") {
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => "external",
    }
}

fn metric_v1(metric: &Value) -> Value {
    let field = source_field(metric);
    let names: &[(&str, &str)] = match field {
        "object" => &[
            ("/describedObject", "target"),
            ("/metric/name", "metricName"),
            ("/target/value", "targetValue"),
            ("/metric/selector", "selector"),
            ("/target/averageValue", "averageValue"),
        ],
        "pods" => &[
            ("/metric/name", "metricName"),
            ("/target/averageValue", "targetAverageValue"),
            ("/metric/selector", "selector"),
        ],
        "external" => &[
            ("/metric/name", "metricName"),
            ("/metric/selector", "metricSelector"),
            ("/target/value", "targetValue"),
            ("/target/averageValue", "targetAverageValue"),
        ],
        _ => &[
            ("/name", "name"),
            ("/container", "container"),
            ("/target/averageUtilization", "targetAverageUtilization"),
            ("/target/averageValue", "targetAverageValue"),
        ],
    };
    json!({"type": metric["type"], field: renamed(&metric[field], names)})
}

fn metric_v2(metric: &Value) -> Value {
    let field = source_field(metric);
    let source = &metric[field];
    let mut out = match field {
        "object" => renamed(source, &[("/target", "describedObject")]),
        "resource" | "containerResource" => renamed(source, &[("/name", "name"), ("/container", "container")]),
        _ => json!({}),
    };
    let target = match field {
        "object" => renamed(source, &[("/targetValue", "value"), ("/averageValue", "averageValue")]),
        "resource" | "containerResource" => renamed(
            source,
            &[("/targetAverageUtilization", "averageUtilization"), ("/targetAverageValue", "averageValue")],
        ),
        _ => renamed(source, &[("/targetValue", "value"), ("/targetAverageValue", "averageValue")]),
    };
    let kind = match () {
        () if !target["averageUtilization"].is_null() => "Utilization",
        () if target["averageValue"].is_null() || (field == "external" && !target["value"].is_null()) => "Value",
        () => "AverageValue",
    };
    out["target"] = target;
    out["target"]["type"] = json!(kind);
    if matches!(field, "object" | "pods" | "external") {
        let selector = if field == "external" { "/metricSelector" } else { "/selector" };
        out["metric"] = renamed(source, &[("/metricName", "name"), (selector, "selector")]);
    }
    json!({"type": metric["type"], field: out})
}

fn status_v1(metric: &Value) -> Value {
    let field = source_field(metric);
    let names: &[(&str, &str)] = match field {
        "object" => &[
            ("/describedObject", "target"),
            ("/metric/name", "metricName"),
            ("/current/value", "currentValue"),
            ("/metric/selector", "selector"),
            ("/current/averageValue", "averageValue"),
        ],
        "pods" => &[
            ("/metric/name", "metricName"),
            ("/current/averageValue", "currentAverageValue"),
            ("/metric/selector", "selector"),
        ],
        "external" => &[
            ("/metric/name", "metricName"),
            ("/metric/selector", "metricSelector"),
            ("/current/value", "currentValue"),
            ("/current/averageValue", "currentAverageValue"),
        ],
        _ => &[
            ("/name", "name"),
            ("/container", "container"),
            ("/current/averageUtilization", "currentAverageUtilization"),
            ("/current/averageValue", "currentAverageValue"),
        ],
    };
    json!({"type": metric["type"], field: renamed(&metric[field], names)})
}

fn status_v2(metric: &Value) -> Value {
    let field = source_field(metric);
    let source = &metric[field];
    let names: &[(&str, &str)] = match field {
        "object" => &[("/currentValue", "value"), ("/averageValue", "averageValue")],
        "resource" | "containerResource" => {
            &[("/currentAverageUtilization", "averageUtilization"), ("/currentAverageValue", "averageValue")]
        }
        _ => &[("/currentValue", "value"), ("/currentAverageValue", "averageValue")],
    };
    let mut out = match field {
        "object" => renamed(source, &[("/target", "describedObject")]),
        "resource" | "containerResource" => renamed(source, &[("/name", "name"), ("/container", "container")]),
        _ => json!({}),
    };
    out["current"] = renamed(source, names);
    if matches!(field, "object" | "pods" | "external") {
        let selector = if field == "external" { "/metricSelector" } else { "/selector" };
        out["metric"] = renamed(source, &[("/metricName", "name"), (selector, "selector")]);
    }
    json!({"type": metric["type"], field: out})
}

/// Behavior is annotated with the field names of upstream's internal type, which start in upper case.
fn upper_keys(behavior: Value) -> Value {
    recased(behavior, |first| first.to_ascii_uppercase())
}

fn lower_keys(behavior: Value) -> Value {
    recased(behavior, |first| first.to_ascii_lowercase())
}

fn recased(value: Value, case: fn(char) -> char) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| {
                let mut letters = name.chars();
                let name = letters.next().map(case).into_iter().chain(letters).collect::<String>();
                (name, recased(value, case))
            });
            Value::Object(fields.collect())
        }
        Value::Array(items) => items.into_iter().map(|item| recased(item, case)).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::fields::{int, items};
    use expect_test::expect;

    #[test]
    fn v1_keeps_in_annotations_what_it_cannot_say() {
        let v2 = json!({
            "metadata": {"name": "web"},
            "spec": {
                "maxReplicas": 3,
                "behavior": {"scaleUp": {"selectPolicy": "Max", "policies": [{"type": "Pods", "value": 1}]}},
                "metrics": [
                    {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
                ],
            },
            "status": {"currentReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}]},
        });
        let mut object = v2.clone();
        convert(&mut object, "autoscaling/v2", "autoscaling/v1");
        assert_eq!(int(&object["spec"], "targetCPUUtilizationPercentage"), 70);
        assert!(items(&object["spec"], "metrics").is_empty());
        expect![[r#"
            {
              "autoscaling.alpha.kubernetes.io/behavior": "{\"ScaleUp\":{\"Policies\":[{\"Type\":\"Pods\",\"Value\":1}],\"SelectPolicy\":\"Max\"}}",
              "autoscaling.alpha.kubernetes.io/conditions": "[{\"status\":\"True\",\"type\":\"AbleToScale\"}]",
              "autoscaling.alpha.kubernetes.io/metrics": "[{\"pods\":{\"metricName\":\"rps\",\"targetAverageValue\":\"10\"},\"type\":\"Pods\"}]"
            }"#]].assert_eq(&serde_json::to_string_pretty(&object["metadata"]["annotations"]).unwrap());
        convert(&mut object, "autoscaling/v1", "autoscaling/v2");
        assert_eq!(object, v2);
    }
}
