//! Rules of the small kinds: disruption budgets, leases, priority, runtime classes, EndpointSlices.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::apps::validation::{at_most_100_percent, int_or_percent};
use super::core::endpoints::endpoint_ip;
use super::core::pods::validation::{ip_address, not_negative, overhead, tolerations};
use super::fields::{flag, int, items, text};
use super::metadata::{immutable, immutable_text, label_selector, labels};
use crate::field_path::Path;
use crate::names;
use crate::status::Cause;
use crate::validation::Errors;

/// The classes that every cluster has from the start.
pub fn system_priority_classes() -> Vec<Value> {
    SYSTEM_CLASSES
        .iter()
        .map(|(name, value, description)| {
            json!({
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": name},
                "value": value,
                "description": description,
            })
        })
        .collect()
}

const SYSTEM_CLASSES: &[(&str, i64, &str)] = &[
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

pub(super) fn priority_class(class: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (name, value) = (text(&class["metadata"], "name"), int(class, "value"));
    if name.starts_with("system-") {
        let wrong = match SYSTEM_CLASSES.iter().find(|(known, ..)| *known == name) {
            None => Some(format!("{name} is not a known system priority class")),
            Some((_, known, _)) if *known != value => Some(format!("value of {name} PriorityClass must be {known}")),
            Some(_) if flag(class, "globalDefault") => {
                Some(format!("globalDefault of {name} PriorityClass must be false"))
            }
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            let detail =
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {wrong}");
            errors.forbidden(&Path::root("metadata").child("name"), &detail);
        }
    } else if value > 1_000_000_000 {
        let detail = "maximum allowed value of a user defined priority is 1000000000";
        errors.forbidden(&Path::root("value"), detail);
    }
    let words = ["PreemptLowerPriority", "Never"];
    let at = Path::root("preemptionPolicy");
    match class["preemptionPolicy"].as_str() {
        Some("") => errors.required(&at, ""),
        Some(policy) if !words.contains(&policy) => errors.not_supported(&at, policy, &words),
        _ => {}
    }
    errors.into_causes()
}

pub(super) fn priority_class_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    if int(new, "value") != int(old, "value") {
        errors.forbidden(&Path::root("value"), "may not be changed in an update.");
    }
    let path = Path::root("preemptionPolicy");
    immutable(&mut errors, &new["preemptionPolicy"], &old["preemptionPolicy"], &path);
    errors.into_causes()
}

pub(super) fn runtime_class(class: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    match text(class, "handler") {
        "" => errors.required(&Path::root("handler"), ""),
        handler => errors.invalid_each(&Path::root("handler"), handler, names::dns_label(handler)),
    }
    overhead(&mut errors, &class["overhead"]["podFixed"], &Path::root("overhead"));
    let (scheduling, path) = (&class["scheduling"], Path::root("scheduling"));
    labels(&mut errors, &scheduling["nodeSelector"], &path.child("nodeSelector"));
    let at = path.child("tolerations");
    tolerations(&mut errors, scheduling, &at);
    let key = |of: &Value| ["key", "operator", "value", "effect"].map(|field| text(of, field).to_owned());
    let stated = items(scheduling, "tolerations");
    for (index, toleration) in stated.iter().enumerate() {
        if stated[..index].iter().any(|earlier| key(earlier) == key(toleration)) {
            let [key, operator, value, effect] = key(toleration);
            let seconds = &toleration["tolerationSeconds"];
            let shown = json!({
                "Key": key, "Operator": operator, "Value": value, "Effect": effect, "TolerationSeconds": seconds,
            });
            errors.duplicate(&at.index(index), shown);
        }
    }
    errors.into_causes()
}

pub(super) fn runtime_class_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    immutable_text(&mut errors, new, old, "handler", &Path::root("handler"));
    let mut causes = runtime_class(new);
    causes.extend(errors.into_causes());
    causes
}

pub(super) fn budget(budget: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&budget["spec"], Path::root("spec"));
    if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() {
        errors.invalid(&path, spec.clone(), "minAvailable and maxUnavailable cannot be both set");
    }
    for field in ["minAvailable", "maxUnavailable"] {
        int_or_percent(&mut errors, &spec[field], &path.child(field));
        at_most_100_percent(&mut errors, &spec[field], &path.child(field));
    }
    label_selector(&mut errors, &spec["selector"], &path.child("selector"));
    let words = ["AlwaysAllow", "IfHealthyBudget"];
    if let Some(policy) = spec["unhealthyPodEvictionPolicy"].as_str().filter(|policy| !words.contains(policy)) {
        errors.not_supported(&path.child("unhealthyPodEvictionPolicy"), policy, &words);
    }
    errors.into_causes()
}

pub(super) fn lease(lease: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&lease["spec"], Path::root("spec"));
    if let Some(seconds) = spec["leaseDurationSeconds"].as_i64().filter(|seconds| *seconds <= 0) {
        errors.invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    not_negative(&mut errors, spec, "leaseTransitions", &path);
    errors.into_causes()
}

pub(super) fn endpoint_slice(slice: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let kind = text(slice, "addressType");
    match kind {
        "" => errors.required(&Path::root("addressType"), ""),
        "IPv4" | "IPv6" | "FQDN" => {}
        other => errors.not_supported(&Path::root("addressType"), other, &["FQDN", "IPv4", "IPv6"]),
    }
    let (ports, path) = (items(slice, "ports"), Path::root("ports"));
    for (at, port) in ports.iter().enumerate() {
        let (path, name) = (path.index(at), text(port, "name"));
        if !name.is_empty() {
            errors.invalid_each(&path.child("name"), name, names::dns_label(name));
        }
        if ports[..at].iter().any(|earlier| text(earlier, "name") == name) {
            errors.duplicate(&path.child("name"), name);
        }
        let words = ["SCTP", "TCP", "UDP"];
        if let Some(protocol) = port["protocol"].as_str().filter(|protocol| !words.contains(protocol)) {
            errors.not_supported(&path.child("protocol"), protocol, &words);
        }
        if let Some(protocol) = port["appProtocol"].as_str() {
            errors.invalid_each(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
        }
    }
    let path = Path::root("endpoints");
    if items(slice, "endpoints").len() > 1000 {
        errors.too_many(&path, items(slice, "endpoints").len(), 1000);
        return errors.into_causes();
    }
    for (at, endpoint) in items(slice, "endpoints").iter().enumerate() {
        self::endpoint(&mut errors, endpoint, kind, &path.index(at));
    }
    errors.into_causes()
}

fn endpoint(errors: &mut Errors, endpoint: &Value, kind: &str, path: &Path<'_>) {
    let (addresses, at) = (items(endpoint, "addresses"), path.child("addresses"));
    if addresses.is_empty() {
        errors.required(&at, "must contain at least 1 address");
    } else if addresses.len() > 100 {
        errors.too_many(&at, addresses.len(), 100);
    }
    for (index, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
        match (kind, address.parse::<IpAddr>()) {
            ("IPv4" | "IPv6", Err(_)) => ip_address(errors, address, &at.index(index)),
            ("IPv4" | "IPv6", Ok(ip)) => {
                if (kind == "IPv4") != ip.is_ipv4() {
                    errors.invalid(&at, address, &format!("must be an {kind} address"));
                }
                endpoint_ip(errors, address, &at.index(index));
            }
            _ => {}
        }
    }
    if let Some(node) = endpoint["nodeName"].as_str() {
        errors.invalid_each(&path.child("nodeName"), node, names::dns_subdomain(node));
    }
    if let Some(host) = endpoint["hostname"].as_str() {
        errors.invalid_each(&path.child("hostname"), host, names::dns_label(host));
    }
    let (hints, path) = (&endpoint["hints"], path.child("hints"));
    for field in ["forZones", "forNodes"] {
        let (whom, at) = (items(hints, field), path.child(field));
        if whom.len() > 8 {
            return errors.too_many(&at, whom.len(), 8);
        }
        for (index, one) in whom.iter().enumerate() {
            let (at, name) = (at.index(index), text(one, "name"));
            if whom[..index].iter().any(|earlier| text(earlier, "name") == name) {
                errors.duplicate(&at.child("name"), name);
            }
            let wrong = if field == "forZones" { names::label_value(name) } else { names::dns_subdomain(name) };
            errors.invalid_each(&at.child("name"), name, wrong);
        }
    }
}

pub(super) fn endpoint_slice_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    immutable(&mut errors, &new["addressType"], &old["addressType"], &Path::root("addressType"));
    let mut causes = endpoint_slice(new);
    causes.extend(errors.into_causes());
    causes
}
