//! Pods: that they are there, and what they ask for and may use while they run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::amounts::Amounts;
use super::scopes::lets_through;
use super::sums::{self, Source};
use crate::resources::core::pods::qos;

const MEASURED: &[&str] = &[
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "pods",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
/// What each container must state where a quota limits it: an old habit, for these alone.
const REQUIRED: &[&str] = &["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
const IMPLICIT_DEVICES: &str = "deviceclass.resource.kubernetes.io/";

pub(super) fn measures(name: &str) -> bool {
    MEASURED.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
        || is_extended(name)
}

/// `requests.example.com/gpu`: an extended resource, as quotas name it.
pub(super) fn is_extended(name: &str) -> bool {
    let Some(resource) = name.strip_prefix("requests.") else { return false };
    !is_native(name) || resource.starts_with(IMPLICIT_DEVICES)
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

pub(super) fn usage(pod: &Value, now: Timestamp) -> Amounts {
    if !is_charged(pod, now) {
        return Amounts::default();
    }
    compute(&sums::requests(pod, Source::Status), &sums::limits(pod, Source::Status))
}

/// False for Pods that have ended, or should have: they are only counted.
pub(super) fn is_charged(pod: &Value, now: Timestamp) -> bool {
    if matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded")) {
        return false;
    }
    let metadata = &pod["metadata"];
    let deletion = metadata["deletionTimestamp"].as_str().and_then(|text| crate::time::parse(text).ok());
    match (deletion, metadata["deletionGracePeriodSeconds"].as_i64()) {
        // A Pod whose node is lost must not keep its namespace from replacing it.
        (Some(at), Some(grace)) => at.checked_add(SignedDuration::from_secs(grace)).map_or(true, |end| now <= end),
        _ => true,
    }
}

/// Requests and limits under the names that quotas have for them.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::default();
    usage.count("pods", 1);
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(request) = requests.get(name) {
            usage.set(name, request.clone());
            usage.set(format!("requests.{name}"), request.clone());
        }
        if let Some(limit) = limits.get(name) {
            usage.set(format!("limits.{name}"), limit.clone());
        }
    }
    for (name, request) in requests.iter() {
        if name.starts_with("hugepages-") {
            usage.set(name, request.clone());
        }
        let extended = !is_native(name) && !name.starts_with("requests.") || name.starts_with(IMPLICIT_DEVICES);
        if extended || name.starts_with("hugepages-") {
            usage.set(format!("requests.{name}"), request.clone());
        }
    }
    usage
}

/// What containers leave unsaid of the `required` amounts, in upstream's words.
pub(super) fn constraints(required: &[&str], pod: &Value) -> Result<(), String> {
    if sums::states_own(pod) {
        return Ok(());
    }
    let mut silent: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            let amounts = |which: &str| Amounts::from_json(&container["resources"][which]);
            let stated = compute(&amounts("requests"), &amounts("limits"));
            for name in required.iter().filter(|name| REQUIRED.contains(name) && stated.get(name).is_none()) {
                silent.entry(name).or_default().insert(container["name"].as_str().unwrap_or_default());
            }
        }
    }
    if silent.is_empty() {
        return Ok(());
    }
    let said = silent.into_iter().map(|(name, containers)| {
        let containers: Vec<&str> = containers.into_iter().collect();
        format!("{name} for: {}", containers.join(","))
    });
    Err(format!("must specify {}", said.collect::<Vec<_>>().join("; ")))
}

pub(super) fn is_in_scope(selector: &Value, pod: &Value) -> bool {
    match selector["scopeName"].as_str().unwrap_or_default() {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = pod["spec"]["priorityClassName"].as_str().filter(|name| !name.is_empty());
            lets_through(selector, class)
        }
        "CrossNamespacePodAffinity" => looks_into_other_namespaces(pod),
        _ => false,
    }
}

/// A Pod that has a deadline.
pub(super) fn is_terminating(pod: &Value) -> bool {
    pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(pod: &Value) -> bool {
    match pod["status"]["qosClass"].as_str() {
        Some(class) if !class.is_empty() => class == "BestEffort",
        _ => qos::class(&pod["spec"]) == "BestEffort",
    }
}

fn looks_into_other_namespaces(pod: &Value) -> bool {
    let terms = |value: &Value, field: &str| value[field].as_array().cloned().unwrap_or_default();
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &pod["spec"]["affinity"][*kind];
        let required = terms(affinity, "requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = terms(affinity, "preferredDuringSchedulingIgnoredDuringExecution");
        let preferred = preferred.iter().map(|term| &term["podAffinityTerm"]);
        let crosses = |term: &Value| {
            term["namespaces"].as_array().is_some_and(|list| !list.is_empty()) || term["namespaceSelector"].is_object()
        };
        required.iter().chain(preferred).any(crosses)
    })
}

pub(super) fn may_give_back(old: &Value, new: &Value, now: Timestamp) -> bool {
    let resources = |pod: &Value| {
        let lists = ["containerStatuses", "initContainerStatuses"];
        let statuses = lists.iter().flat_map(|list| pod["status"][*list].as_array().cloned().unwrap_or_default());
        let pairs =
            statuses.filter_map(|status| Some((status["name"].as_str()?.to_owned(), status["resources"].clone())));
        pairs.collect::<BTreeMap<_, _>>()
    };
    let (was, is) = (resources(old), resources(new));
    was.iter().any(|(name, amounts)| is.get(name).is_some_and(|now| now != amounts))
        || is_terminating(old) != is_terminating(new)
        || is_charged(old, now) && !is_charged(new, now)
}
