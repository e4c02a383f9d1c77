//! Walking a Pod's containers, and saying which of them break a rule.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Violation;

/// All containers: those that run first, those that stay, those that were added to debug.
pub(super) fn all(spec: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists.into_iter().flat_map(|list| spec[list].as_array().into_iter().flatten())
}

pub(super) fn name(container: &Value) -> &str {
    container["name"].as_str().unwrap_or_default()
}

/// The names of the containers that `breaks` is true for.
pub(super) fn which(spec: &Value, mut breaks: impl FnMut(&Value) -> bool) -> Vec<&str> {
    all(spec).filter(|container| breaks(container)).map(name).collect()
}

/// `container "a"`, `containers "a", "b"`
pub(super) fn named(containers: &[&str]) -> String {
    counted("container", containers)
}

/// `volume "a"`, `volumes "a", "b"`
pub(super) fn counted(noun: &str, names: &[&str]) -> String {
    format!("{} {}", plural(noun, names.len()), quoted(names.iter().copied()))
}

/// `pod and containers "a", "b"`: who states something forbidden.
pub(super) fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    let mut setters = Vec::new();
    if pod {
        setters.push("pod".to_owned());
    }
    if !containers.is_empty() {
        setters.push(named(containers));
    }
    (!setters.is_empty()).then(|| setters.join(" and "))
}

pub(super) fn quoted<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    items.into_iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}

pub(super) fn plural(noun: &str, count: usize) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

pub(super) fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}

/// The values that a field of `securityContext` has, of Pod and containers, that `allowed` is false for, and who sets them.
pub(super) struct Forbidden<'a> {
    pub(super) pod: bool,
    pub(super) containers: Vec<&'a str>,
    pub(super) values: BTreeSet<String>,
}

impl<'a> Forbidden<'a> {
    /// `type` of the profile at `field`; who has no profile states nothing.
    pub(super) fn profiles(spec: &'a Value, field: &str, allowed: impl Fn(&str) -> bool) -> Self {
        let mut values = BTreeSet::new();
        let mut forbids = |owner: &Value| {
            let profile = &owner["securityContext"][field];
            let kind = profile["type"].as_str().unwrap_or_default();
            let forbidden = profile.is_object() && !allowed(kind);
            if forbidden {
                values.insert(kind.to_owned());
            }
            forbidden
        };
        let pod = forbids(spec);
        let containers = which(spec, forbids);
        Self { pod, containers, values }
    }
}

/// A Pod whose users are not the node's may be root among them (KEP-127).
pub(super) fn has_own_users(spec: &Value) -> bool {
    spec["hostUsers"] == false
}

pub(super) fn is_windows(spec: &Value) -> bool {
    spec["os"]["name"] == "windows"
}
