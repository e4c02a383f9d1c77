//! Cells that take more than the value of a field.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::duration;
use crate::resources::fields::{flag, int, items, text};
use crate::selector::label::LabelSelector;

/// How many entries of a list are shown before `+ n more...`.
const SHOWN: usize = 3;

/// A text, or `other` where it is empty.
pub(super) fn or<'a>(value: &'a str, other: &'a str) -> &'a str {
    if value.is_empty() { other } else { value }
}

/// The texts of a list, joined by commas.
pub(super) fn joined(list: &[Value]) -> String {
    list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

/// `a=1,b=2`, or `<none>`.
pub(super) fn labels(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let list: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    or(&list.join(","), "<none>").to_owned()
}

/// A label selector in its text form, or `<none>` for one that selects all.
pub(super) fn selector(selector: &Value) -> String {
    or(&selector_text(selector), "<none>").to_owned()
}

/// A label selector in its text form. One that cannot be read says so.
pub(super) fn selector_text(selector: &Value) -> String {
    match LabelSelector::from_json(Some(selector)) {
        Ok(selector) => selector.to_string(),
        Err(_) => "<invalid>".to_owned(),
    }
}

pub(super) fn containers(template: &Value, field: &str) -> Value {
    let list: Vec<&str> =
        items(&template["spec"], "containers").iter().map(|container| text(container, field)).collect();
    list.join(",").into()
}

pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(&object["status"], "conditions").iter().find(|condition| text(condition, "type") == kind)
}

pub(super) fn holds(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

pub(super) fn job_status(job: &Value, _: Timestamp) -> Value {
    let deleted = !job["metadata"]["deletionTimestamp"].is_null();
    let word = match () {
        () if holds(job, "Complete") => "Complete",
        () if holds(job, "Failed") => "Failed",
        () if deleted => "Terminating",
        () if holds(job, "Suspended") => "Suspended",
        () if holds(job, "FailureTarget") => "FailureTarget",
        () if holds(job, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    };
    word.into()
}

pub(super) fn job_completions(job: &Value, _: Timestamp) -> Value {
    let done = int(&job["status"], "succeeded");
    let wanted = match (job["spec"]["completions"].as_i64(), int(&job["spec"], "parallelism")) {
        (Some(completions), _) => completions.to_string(),
        (None, parallelism) if parallelism > 1 => format!("1 of {parallelism}"),
        (None, _) => "1".to_owned(),
    };
    format!("{done}/{wanted}").into()
}

pub(super) fn job_duration(job: &Value, now: Timestamp) -> Value {
    let status = &job["status"];
    let Some(start) = duration::point(&status["startTime"]) else { return "".into() };
    let end = duration::point(&status["completionTime"]).unwrap_or(now);
    duration::human(end.duration_since(start).as_secs()).into()
}

/// The addresses at which a load balancer answers, in order.
pub(super) fn load_balancer(object: &Value) -> String {
    let ingress = items(&object["status"]["loadBalancer"], "ingress");
    let all: BTreeSet<&str> = ingress
        .iter()
        .map(|point| or(text(point, "ip"), text(point, "hostname")))
        .filter(|address| !address.is_empty())
        .collect();
    all.into_iter().collect::<Vec<_>>().join(",")
}

pub(super) fn service_external_ip(service: &Value, _: Timestamp) -> Value {
    let external = joined(items(&service["spec"], "externalIPs"));
    let shown = match text(&service["spec"], "type") {
        "ClusterIP" | "NodePort" => or(&external, "<none>").to_owned(),
        "LoadBalancer" => {
            let all: Vec<String> =
                [load_balancer(service), external].into_iter().filter(|list| !list.is_empty()).collect();
            or(&all.join(","), "<pending>").to_owned()
        }
        "ExternalName" => text(&service["spec"], "externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    };
    shown.into()
}

pub(super) fn service_ports(service: &Value, _: Timestamp) -> Value {
    let port = |port: &Value| {
        let (number, protocol) = (int(port, "port"), text(port, "protocol"));
        match int(port, "nodePort") {
            0 => format!("{number}/{protocol}"),
            node_port => format!("{number}:{node_port}/{protocol}"),
        }
    };
    let list: Vec<String> = items(&service["spec"], "ports").iter().map(port).collect();
    or(&list.join(","), "<none>").into()
}

pub(super) fn ingress_hosts(ingress: &Value, _: Timestamp) -> Value {
    let rules = items(&ingress["spec"], "rules");
    let hosts: Vec<&str> = rules.iter().map(|rule| text(rule, "host")).filter(|host| !host.is_empty()).collect();
    match hosts.len() {
        0 => "*".into(),
        count if count > SHOWN => format!("{} + {} more...", hosts[..SHOWN].join(","), rules.len() - SHOWN).into(),
        _ => hosts.join(",").into(),
    }
}

pub(super) fn endpoints(endpoints: &Value, _: Timestamp) -> Value {
    let subsets = items(endpoints, "subsets");
    if subsets.is_empty() {
        return "<none>".into();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = || items(subset, "addresses").iter().map(|address| text(address, "ip"));
        match items(subset, "ports") {
            [] => all.extend(addresses().map(str::to_owned)),
            ports => {
                for port in ports {
                    all.extend(addresses().map(|ip| match ip.contains(':') {
                        true => format!("[{ip}]:{}", int(port, "port")),
                        false => format!("{ip}:{}", int(port, "port")),
                    }));
                }
            }
        }
    }
    abbreviated(&all, "").into()
}

pub(super) fn slice_ports(slice: &Value, _: Timestamp) -> Value {
    let port = |port: &Value| match (port["port"].as_i64(), port["name"].as_str()) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => "*".to_owned(),
    };
    abbreviated(&items(slice, "ports").iter().map(port).collect::<Vec<_>>(), "<unset>").into()
}

pub(super) fn slice_endpoints(slice: &Value, _: Timestamp) -> Value {
    let all = items(slice, "endpoints").iter().flat_map(|endpoint| items(endpoint, "addresses"));
    let all: Vec<String> = all.filter_map(Value::as_str).map(str::to_owned).collect();
    abbreviated(&all, "<unset>").into()
}

fn abbreviated(all: &[String], none: &str) -> String {
    match all.len() {
        count if count > SHOWN => format!("{} + {} more...", all[..SHOWN].join(","), count - SHOWN),
        _ => or(&all.join(","), none).to_owned(),
    }
}

pub(super) fn node_status(node: &Value, _: Timestamp) -> Value {
    let ready = match condition(node, "Ready").map(|condition| text(condition, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    match flag(&node["spec"], "unschedulable") {
        true => format!("{ready},SchedulingDisabled").into(),
        false => ready.into(),
    }
}

pub(super) fn node_roles(node: &Value, _: Timestamp) -> Value {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let role = |(key, value): (&String, &Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_owned()),
        None => (key == "kubernetes.io/role").then(|| value.as_str().unwrap_or_default().to_owned()),
    };
    let roles: BTreeSet<String> = labels.filter_map(role).filter(|role| !role.is_empty()).collect();
    or(&roles.into_iter().collect::<Vec<_>>().join(","), "<none>").into()
}

pub(super) fn node_address(node: &Value, kind: &str) -> Value {
    let address = items(&node["status"], "addresses").iter().find(|address| text(address, "type") == kind);
    address.map_or("<none>", |address| text(address, "address")).into()
}

pub(super) fn node_kernel(node: &Value, _: Timestamp) -> Value {
    let info = &node["status"]["nodeInfo"];
    let kernel = or(text(info, "kernelVersion"), "<unknown>");
    match text(info, "architecture") {
        "" => kernel.into(),
        architecture => format!("{kernel} ({architecture})").into(),
    }
}

pub(super) fn access_modes(modes: &[Value]) -> String {
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| modes.iter().any(|listed| listed == mode);
    short.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// The StorageClass of a volume or claim, which was an annotation once.
pub(super) fn storage_class(object: &Value, _: Timestamp) -> Value {
    let annotated = text(&object["metadata"]["annotations"], "volume.beta.kubernetes.io/storage-class");
    or(annotated, text(&object["spec"], "storageClassName")).into()
}

/// The phase of a volume or claim, unless it is being deleted.
pub(super) fn phase(object: &Value, _: Timestamp) -> Value {
    match object["metadata"]["deletionTimestamp"].is_null() {
        true => text(&object["status"], "phase").into(),
        false => "Terminating".into(),
    }
}

/// The name of a class, marked if it is the default of its kind.
pub(super) fn class_name(object: &Value, annotations: &[&str]) -> Value {
    let name = text(&object["metadata"], "name");
    let marked = annotations.iter().any(|key| text(&object["metadata"]["annotations"], key) == "true");
    if marked { format!("{name} (default)").into() } else { name.into() }
}

pub(super) fn event_last_seen(event: &Value, now: Timestamp) -> Value {
    if !event["series"].is_null() {
        return duration::since(&event["series"]["lastObservedTime"], now).into();
    }
    match event["lastTimestamp"].is_null() {
        true => event_first_seen(event, now),
        false => duration::since(&event["lastTimestamp"], now).into(),
    }
}

pub(super) fn event_first_seen(event: &Value, now: Timestamp) -> Value {
    let time = if event["firstTimestamp"].is_null() { &event["eventTime"] } else { &event["firstTimestamp"] };
    duration::since(time, now).into()
}

pub(super) fn event_object(event: &Value, _: Timestamp) -> Value {
    let object = &event["involvedObject"];
    let kind = text(object, "kind").to_lowercase();
    match text(object, "name") {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    }
}

pub(super) fn event_source(event: &Value, _: Timestamp) -> Value {
    let component = or(text(&event["source"], "component"), text(event, "reportingComponent"));
    match or(text(&event["source"], "host"), text(event, "reportingInstance")) {
        "" => component.into(),
        instance => format!("{component}, {instance}").into(),
    }
}

pub(super) fn event_count(event: &Value, _: Timestamp) -> Value {
    match event["series"].is_null() {
        true => int(event, "count").max(1).into(),
        false => int(&event["series"], "count").into(),
    }
}

/// The subjects of a binding that are of one kind.
pub(super) fn subjects(binding: &Value, kind: &str) -> Value {
    let of_kind = items(binding, "subjects").iter().filter(|subject| text(subject, "kind") == kind);
    let list: Vec<String> = of_kind
        .map(|subject| match kind {
            "ServiceAccount" => format!("{}/{}", text(subject, "namespace"), text(subject, "name")),
            _ => text(subject, "name").to_owned(),
        })
        .collect();
    list.join(", ").into()
}

pub(super) fn csr_condition(request: &Value, _: Timestamp) -> Value {
    let has = |kind: &str| condition(request, kind).is_some();
    let mut words = vec![match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }];
    if has("Failed") {
        words.push("Failed");
    }
    if !text(&request["status"], "certificate").is_empty() {
        words.push("Issued");
    }
    words.join(",").into()
}

/// `used/hard` of the quota's resources that are limits, or those that are not.
pub(super) fn quota(quota: &Value, limits: bool) -> Value {
    let (hard, used) = (&quota["status"]["hard"], &quota["status"]["used"]);
    let list: Vec<String> = hard
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.starts_with("limits.") == limits)
        .map(|(name, hard)| format!("{name}: {}/{}", or(text(used, name), "0"), hard.as_str().unwrap_or_default()))
        .collect();
    list.join(", ").into()
}

pub(super) fn revision_controller(revision: &Value, _: Timestamp) -> Value {
    let owner = items(&revision["metadata"], "ownerReferences").iter().find(|owner| flag(owner, "controller"));
    let Some(owner) = owner else { return "<none>".into() };
    let (group, _) = crate::resource::split_api_version(text(owner, "apiVersion"));
    let kind = text(owner, "kind").to_lowercase();
    match group {
        "" => format!("{kind}/{}", text(owner, "name")).into(),
        group => format!("{kind}.{group}/{}", text(owner, "name")).into(),
    }
}

pub(super) fn claim_state(claim: &Value, _: Timestamp) -> Value {
    let deleted = !claim["metadata"]["deletionTimestamp"].is_null();
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if !claim["status"]["allocation"].is_null() {
        states.push("allocated");
        if !items(&claim["status"], "reservedFor").is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    states.join(",").into()
}

pub(super) fn policy_param(binding: &Value, _: Timestamp) -> Value {
    let param = &binding["spec"]["paramRef"];
    match (text(param, "namespace"), text(param, "name")) {
        (_, "") if param["selector"].is_null() => "<unset>".into(),
        (_, "") => selector_text(&param["selector"]).into(),
        ("", name) => format!("*/{name}").into(),
        (namespace, name) => format!("{namespace}/{name}").into(),
    }
}

pub(super) fn param_kind(policy: &Value, _: Timestamp) -> Value {
    let kind = &policy["spec"]["paramKind"];
    match kind.is_null() {
        true => "<unset>".into(),
        false => format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")).into(),
    }
}

pub(super) fn address_parent(address: &Value, _: Timestamp) -> Value {
    let parent = &address["spec"]["parentRef"];
    if parent.is_null() {
        return "<none>".into();
    }
    let resource = match text(parent, "group") {
        "" => text(parent, "resource").to_lowercase(),
        group => format!("{}.{group}", text(parent, "resource")).to_lowercase(),
    };
    match text(parent, "namespace") {
        "" => format!("{resource}/{}", text(parent, "name")).into(),
        namespace => format!("{resource}/{namespace}/{}", text(parent, "name")).into(),
    }
}

pub(super) fn api_service_backend(service: &Value, _: Timestamp) -> Value {
    let reference = &service["spec"]["service"];
    match reference.is_null() {
        true => "Local".into(),
        false => format!("{}/{}", text(reference, "namespace"), text(reference, "name")).into(),
    }
}

pub(super) fn api_service_available(service: &Value, _: Timestamp) -> Value {
    match condition(service, "Available") {
        Some(condition) if condition["status"] == "True" || text(condition, "reason").is_empty() => {
            condition["status"].clone()
        }
        Some(condition) => format!("{} ({})", text(condition, "status"), text(condition, "reason")).into(),
        None => "Unknown".into(),
    }
}
