//! `LimitRanger`: what one Pod, container or claim of a namespace asks for unless it says so itself, and the least and
//! the most that it may.

use std::sync::Arc;

use api::quantity::Quantity;
use api::quota::Amounts;
use api::quota::sums::{self, Source};
use api::status::Status;
use serde_json::{Map, Value, json};
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::{Filter, ResourceCache};
use crate::document::Document;

/// Where a Pod tells what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Beyond this, thousandths do not fit into 64 bits: whole units are compared.
const MAX_MILLI: i64 = i64::MAX / 1000;

pub struct LimitRanges {
    pub ranges: Arc<ResourceCache>,
}

impl Plugin for LimitRanges {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        if is_limited(request) && request.resource == "pods" {
            for range in self.of(request) {
                if let Some(pod) = &mut request.object {
                    fill_in(pod, &range);
                }
            }
        }
        Box::pin(async { Ok(()) })
    }

    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        let refusal = match &request.object {
            Some(object) if is_limited(request) => {
                self.of(request).iter().find_map(|range| refuse(object, &request.resource, range))
            }
            _ => None,
        };
        Box::pin(async move { refusal.map_or(Ok(()), |why| Err(request.forbid(&why))) })
    }
}

impl LimitRanges {
    fn of(&self, request: &Request) -> Vec<Value> {
        let filter = Filter { namespace: Some(request.namespace.clone()), ..Filter::default() };
        self.ranges.list(&filter).entries.iter().map(|entry| entry.to_value()).collect()
    }
}

/// Containers of a Pod that is there can only be resized; what is being deleted is left alone.
fn is_limited(request: &Request) -> bool {
    if !request.group.is_empty() || request.old.as_ref().is_some_and(|old| old.is_terminating()) {
        return false;
    }
    match (request.resource.as_str(), request.subresource.as_str()) {
        ("pods", "") => request.operation == Operation::Create,
        ("pods", "resize") => request.operation == Operation::Update,
        ("persistentvolumeclaims", "") => matches!(request.operation, Operation::Create | Operation::Update),
        _ => false,
    }
}

fn items<'a>(range: &'a Value, kind: &'static str) -> impl Iterator<Item = &'a Value> {
    let limits = range["spec"]["limits"].as_array().into_iter().flatten();
    limits.filter(move |limit| limit["type"] == kind)
}

/// Gives containers what the range has for those that say nothing.
fn fill_in(pod: &mut Value, range: &Value) {
    let (mut requests, mut limits) = (Map::new(), Map::new());
    for limit in items(range, "Container") {
        requests.extend(limit["defaultRequest"].as_object().cloned().unwrap_or_default());
        limits.extend(limit["default"].as_object().cloned().unwrap_or_default());
    }
    let mut said = Vec::new();
    for (list, noun) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            for (field, defaults) in [("requests", &requests), ("limits", &limits)] {
                let set = merge(container, field, defaults);
                if !set.is_empty() {
                    let what = field.trim_end_matches('s');
                    let name = container["name"].as_str().unwrap_or_default();
                    said.push(format!("{} {what} for {noun} {name}", set.join(", ")));
                }
            }
        }
    }
    if !said.is_empty() {
        let text = format!("LimitRanger plugin set: {}", said.join("; "));
        pod["metadata"]["annotations"][ANNOTATION] = json!(text);
    }
}

/// Adds the amounts that a container does not state, and names them.
fn merge<'a>(container: &mut Value, field: &str, defaults: &'a Map<String, Value>) -> Vec<&'a str> {
    let stated = &container["resources"][field];
    let mut missing: Vec<&str> =
        defaults.keys().filter(|name| stated.get(name.as_str()).is_none()).map(String::as_str).collect();
    missing.sort_unstable();
    for name in &missing {
        container["resources"][field][*name] = defaults[*name].clone();
    }
    missing
}

/// What breaks the range, as upstream lists it.
fn refuse(object: &Value, resource: &str, range: &Value) -> Option<String> {
    let mut broken = Vec::new();
    if resource == "persistentvolumeclaims" {
        let requests = Amounts::from_json(&object["spec"]["resources"]["requests"]);
        for limit in items(range, "PersistentVolumeClaim") {
            let usage = Usage { kind: "PersistentVolumeClaim", requests: &requests, limits: &Amounts::default() };
            broken.extend(each(limit, "min", |name, bound| usage.min(name, bound)));
            broken.extend(each(limit, "max", |name, bound| usage.max_request(name, bound)));
        }
        return listed(broken);
    }
    for limit in range["spec"]["limits"].as_array().into_iter().flatten() {
        match limit["type"].as_str() {
            Some("Container") => {
                for list in ["containers", "initContainers"] {
                    for container in object["spec"][list].as_array().into_iter().flatten() {
                        let requests = Amounts::from_json(&container["resources"]["requests"]);
                        let limits = Amounts::from_json(&container["resources"]["limits"]);
                        Usage { kind: "Container", requests: &requests, limits: &limits }.check(limit, &mut broken);
                    }
                }
            }
            Some("Pod") => {
                let (requests, limits) = (of_pod(object, "requests"), of_pod(object, "limits"));
                Usage { kind: "Pod", requests: &requests, limits: &limits }.check(limit, &mut broken);
            }
            _ => {}
        }
    }
    listed(broken)
}

/// What all containers come to, or the Pod states itself; without overhead, which is not the user's.
fn of_pod(pod: &Value, which: &str) -> Amounts {
    let mut sum = sums::containers(pod, which, Source::Spec);
    let own = Amounts::from_json(&pod["spec"]["resources"][which]);
    for (name, amount) in own.iter().filter(|(name, _)| matches!(*name, "cpu" | "memory")) {
        sum.set(name, amount.clone());
    }
    sum
}

/// As Go prints several errors at once: each text once.
fn listed(mut broken: Vec<String>) -> Option<String> {
    let mut seen = std::collections::HashSet::new();
    broken.retain(|text| seen.insert(text.clone()));
    match broken.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("[{}]", several.join(", "))),
    }
}

fn each(limit: &Value, field: &str, check: impl Fn(&str, &Quantity) -> Option<String>) -> Vec<String> {
    Amounts::from_json(&limit[field]).iter().filter_map(|(name, bound)| check(name, bound)).collect()
}

/// What something of this kind asks for and may use.
struct Usage<'a> {
    kind: &'static str,
    requests: &'a Amounts,
    limits: &'a Amounts,
}

impl Usage<'_> {
    fn check(&self, limit: &Value, broken: &mut Vec<String>) {
        broken.extend(each(limit, "min", |name, bound| self.min(name, bound)));
        broken.extend(each(limit, "max", |name, bound| self.max(name, bound)));
        broken.extend(each(limit, "maxLimitRequestRatio", |name, bound| self.ratio(name, bound)));
    }

    fn min(&self, name: &str, bound: &Quantity) -> Option<String> {
        let said = format!("minimum {name} usage per {} is {bound}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => Some(format!("{said}.  No request is specified")),
            (Some(request), _) if request < bound => Some(format!("{said}, but request is {request}")),
            (_, Some(limit)) if limit < bound => Some(format!("{said}, but limit is {limit}")),
            _ => None,
        }
    }

    fn max(&self, name: &str, bound: &Quantity) -> Option<String> {
        let said = format!("maximum {name} usage per {} is {bound}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (_, None) => Some(format!("{said}.  No limit is specified")),
            (_, Some(limit)) if limit > bound => Some(format!("{said}, but limit is {limit}")),
            (Some(request), _) if request > bound => Some(format!("{said}, but request is {request}")),
            _ => None,
        }
    }

    /// For what has no limits of its own.
    fn max_request(&self, name: &str, bound: &Quantity) -> Option<String> {
        let said = format!("maximum {name} usage per {} is {bound}", self.kind);
        match self.requests.get(name) {
            None => Some(format!("{said}.  No request is specified")),
            Some(request) if request > bound => Some(format!("{said}, but request is {request}")),
            Some(_) => None,
        }
    }

    fn ratio(&self, name: &str, bound: &Quantity) -> Option<String> {
        let said = format!("{name} max limit to request ratio per {} is {bound}", self.kind);
        let positive = |amounts: &Amounts| amounts.get(name).filter(|amount| !amount.is_zero()).cloned();
        let Some(request) = positive(self.requests) else {
            return Some(format!("{said}, but no request is specified or request is 0"));
        };
        let Some(limit) = positive(self.limits) else {
            return Some(format!("{said}, but no limit is specified or limit is 0"));
        };
        let ratio = match limit.value() > MAX_MILLI || request.value() > MAX_MILLI || bound.value() > MAX_MILLI {
            true => limit.value() as f64 / request.value() as f64,
            false => limit.milli_value() as f64 / request.milli_value() as f64,
        };
        let allowed = match bound.value() > MAX_MILLI {
            true => bound.value() as f64,
            false => bound.milli_value() as f64 / 1000.0,
        };
        (ratio > allowed).then(|| format!("{said}, but provided ratio is {ratio:.6}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(limit: Value) -> Value {
        json!({"spec": {"limits": [limit]}})
    }

    fn pod(requests: Value, limits: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "resources": {"requests": requests, "limits": limits}},
        ]}})
    }

    #[track_caller]
    fn check(limit: Value, object: &Value, resource: &str, expected: &str) {
        assert_eq!(refuse(object, resource, &range(limit)).unwrap_or_default(), expected);
    }

    #[test]
    fn who_says_nothing_gets_the_defaults_and_is_told() {
        let range = range(
            json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "500m"}}),
        );
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}],
            "initContainers": [{"name": "i"}],
        }});
        fill_in(&mut pod, &range);
        let filled = json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "1Gi"}});
        assert_eq!(pod["spec"]["containers"][0]["resources"], filled);
        assert_eq!(pod["spec"]["initContainers"][0]["resources"], filled);
        let kept = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}});
        assert_eq!(pod["spec"]["containers"][1]["resources"], kept);
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; memory limit for \
             container b; cpu request for init container i; cpu, memory limit for init container i"
        );
        let once = pod.clone();
        fill_in(&mut pod, &range);
        assert_eq!(pod, once);
    }

    #[test]
    fn a_pod_without_defaults_is_left_as_it_is() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}]}});
        let before = pod.clone();
        fill_in(&mut pod, &range(json!({"type": "Pod", "max": {"cpu": "1"}})));
        assert_eq!(pod, before);
    }

    #[test]
    fn too_little_and_too_much_are_refused_in_upstreams_words() {
        let asking = pod(json!({"cpu": "1"}), json!({"cpu": "2"}));
        let container = |field: &str, bound: Value| json!({"type": "Container", field: bound});
        let said = "minimum cpu usage per Container is 1500m, but request is 1";
        check(container("min", json!({"cpu": "1500m"})), &asking, "pods", said);
        let said = "minimum memory usage per Container is 1Gi.  No request is specified";
        check(container("min", json!({"memory": "1Gi"})), &asking, "pods", said);
        let said = "maximum cpu usage per Container is 1500m, but limit is 2";
        check(container("max", json!({"cpu": "1500m"})), &asking, "pods", said);
        let said = "[maximum cpu usage per Container is 1, but limit is 2, maximum memory usage per Container is 1Gi.  \
                    No limit is specified]";
        check(container("max", json!({"cpu": "1", "memory": "1Gi"})), &asking, "pods", said);
        let said = "cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000";
        check(container("maxLimitRequestRatio", json!({"cpu": "1500m"})), &asking, "pods", said);
        check(container("maxLimitRequestRatio", json!({"cpu": "2"})), &asking, "pods", "");
        let said = "maximum cpu usage per Pod is 1, but limit is 2";
        check(json!({"type": "Pod", "max": {"cpu": "1"}}), &asking, "pods", said);
    }

    #[test]
    fn claims_are_measured_by_what_they_ask_for() {
        let claim = json!({"spec": {"resources": {"requests": {"storage": "5Gi"}}}});
        let limit = |field: &str, bound: &str| json!({"type": "PersistentVolumeClaim", field: {"storage": bound}});
        let said = "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 5Gi";
        check(limit("max", "2Gi"), &claim, "persistentvolumeclaims", said);
        let said = "minimum storage usage per PersistentVolumeClaim is 10Gi, but request is 5Gi";
        check(limit("min", "10Gi"), &claim, "persistentvolumeclaims", said);
    }
}
