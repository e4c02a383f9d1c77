//! What each way of writing a Pod keeps, and what a new Pod starts with.

use serde_json::{Value, json};

use super::qos;
use crate::resources::fields::{each, int, is_empty, is_zero, items, object};
use crate::resources::strategy::{keep, keep_metadata, remove};

/// A new Pod is pending; keys that name the Pod's own labels are written out into selectors.
pub(super) fn create(pod: &mut Value) {
    let gated = !items(&pod["spec"], "schedulingGates").is_empty();
    pod["status"] = json!({"phase": "Pending", "qosClass": qos::class(&pod["spec"])});
    if gated {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": null,
            "lastTransitionTime": pod["metadata"]["creationTimestamp"],
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    drop_disabled(&mut pod["spec"]);
    if int(&pod["spec"], "terminationGracePeriodSeconds") < 0 {
        pod["spec"]["terminationGracePeriodSeconds"] = json!(1);
    }
    let labels = pod["metadata"]["labels"].clone();
    for side in ["podAffinity", "podAntiAffinity"] {
        for strength in
            ["requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"]
        {
            if let Some(terms) =
                pod.pointer_mut(&format!("/spec/affinity/{side}/{strength}")).and_then(Value::as_array_mut)
            {
                for term in terms {
                    let term = if term.get("podAffinityTerm").is_some() { &mut term["podAffinityTerm"] } else { term };
                    merge_label_keys(term, &labels);
                }
            }
        }
    }
    each(&mut pod["spec"], "topologySpreadConstraints", |constraint| merge_label_keys(constraint, &labels));
}

/// Writes the Pod's values of `matchLabelKeys` and `mismatchLabelKeys` into the selector beside them (KEP-3633).
fn merge_label_keys(term: &mut Value, labels: &Value) {
    if term["labelSelector"].is_null() {
        return;
    }
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in items(&term.clone(), field) {
            if let Some(value) = key.as_str().and_then(|key| labels.get(key)) {
                let expressions = &mut term["labelSelector"]["matchExpressions"];
                if expressions.is_null() {
                    *expressions = json!([]);
                }
                if let Some(list) = expressions.as_array_mut() {
                    list.push(json!({"key": key, "operator": operator, "values": [value]}));
                }
            }
        }
    }
}

/// Fields of features that are off by default in 1.36.
pub(super) fn drop_disabled(spec: &mut Value) {
    remove(spec, "schedulingGroup");
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, list, |container| {
            if !container["lifecycle"].is_null() {
                remove(&mut container["lifecycle"], "stopSignal");
            }
        });
    }
}

pub(super) fn status(new: &mut Value, old: &Value) {
    keep(new, old, "spec");
    for field in ["deletionTimestamp", "ownerReferences"] {
        keep(&mut new["metadata"], &old["metadata"], field);
    }
    let status = object(new, "status");
    let had = &old["status"];
    if is_empty(&status["qosClass"]) {
        keep(status, had, "qosClass");
    }
    if is_zero(&status["observedGeneration"]) {
        keep(status, had, "observedGeneration");
    }
    each(status, "conditions", |condition| {
        if is_zero(&condition["observedGeneration"]) {
            let old = items(had, "conditions").iter().find(|old| old["type"] == condition["type"]);
            keep(condition, old.unwrap_or(&Value::Null), "observedGeneration");
        }
    });
}

pub(super) fn ephemeral_containers(new: &mut Value, old: &Value) {
    let containers = new["spec"]["ephemeralContainers"].take();
    keep_all_but_some_metadata(new, old);
    new["spec"]["ephemeralContainers"] = containers;
    count_generation(new, old);
}

pub(super) fn resize(new: &mut Value, old: &Value) {
    let asked = new["spec"].take();
    let lists = ["containers", "initContainers"];
    if lists.iter().any(|list| items(&asked, list).len() != items(&old["spec"], list).len()) {
        // Validation says that containers may not be added or removed.
        new["spec"] = asked;
        return;
    }
    keep_all_but_some_metadata(new, old);
    keep(&mut new["spec"], &asked, "resources");
    for list in lists {
        let asked = items(&asked, list);
        let renamed = asked.iter().zip(items(&old["spec"], list)).any(|(new, old)| new["name"] != old["name"]);
        if renamed {
            new["spec"][list] = json!(asked);
            continue;
        }
        let mut asked = asked.iter();
        each(&mut new["spec"], list, |container| {
            if let Some(asked) = asked.next() {
                keep(container, asked, "resources");
                keep(container, asked, "resizePolicy");
            }
        });
    }
    count_generation(new, old);
}

fn keep_all_but_some_metadata(new: &mut Value, old: &Value) {
    keep(new, old, "spec");
    keep(new, old, "status");
    keep_metadata(new, old);
}

fn count_generation(new: &mut Value, old: &Value) {
    if crate::resources::strategy::changed(new, old) {
        crate::resources::strategy::bump_generation(new, old);
    }
}
