//! What hardened Pods must say and may not ask for.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Violation;
use super::baseline::{seccomp_profiles, seccomp_violation};
use super::containers::{counted, has_own_users, is_windows, named, plural, quoted, setters, violation, which};

/// Kinds of volumes that hold nothing of the node's.
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub(super) fn privilege_escalation(_: &Value, spec: &Value) -> Option<Violation> {
    let bad = which(spec, |container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    let detail = || format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&bad));
    if bad.is_empty() { None } else { violation("allowPrivilegeEscalation != false", detail()) }
}

pub(super) fn privilege_escalation_on_linux(metadata: &Value, spec: &Value) -> Option<Violation> {
    if is_windows(spec) { None } else { privilege_escalation(metadata, spec) }
}

pub(super) fn capabilities(_: &Value, spec: &Value) -> Option<Violation> {
    let names = |container: &Value, which: &str| {
        let list = container["securityContext"]["capabilities"][which].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let keeping = which(spec, |container| !names(container, "drop").iter().any(|name| name == "ALL"));
    let mut added = BTreeSet::new();
    let adding = which(spec, |container| {
        let more: Vec<_> = names(container, "add").into_iter().filter(|name| name != "NET_BIND_SERVICE").collect();
        let any = !more.is_empty();
        added.extend(more);
        any
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keeping)));
    }
    if !adding.is_empty() {
        let what = quoted(added.iter().map(String::as_str));
        details.push(format!("{} must not include {what} in securityContext.capabilities.add", named(&adding)));
    }
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

pub(super) fn capabilities_on_linux(metadata: &Value, spec: &Value) -> Option<Violation> {
    if is_windows(spec) { None } else { capabilities(metadata, spec) }
}

pub(super) fn volumes(_: &Value, spec: &Value) -> Option<Violation> {
    let (mut bad, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let sources: Vec<&str> = volume.as_object().into_iter().flatten().map(|(field, _)| field.as_str()).collect();
        if sources.iter().any(|source| VOLUMES.contains(source)) {
            continue;
        }
        bad.push(volume["name"].as_str().unwrap_or_default());
        kinds.insert(sources.into_iter().find(|source| *source != "name").unwrap_or("unknown"));
    }
    if bad.is_empty() {
        return None;
    }
    let uses = if bad.len() == 1 { "uses" } else { "use" };
    let what = format!("{} {}", plural("restricted volume type", kinds.len()), quoted(kinds));
    violation("restricted volume types", format!("{} {uses} {what}", counted("volume", &bad)))
}

pub(super) fn run_as_non_root(_: &Value, spec: &Value) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let stated = |owner: &Value| owner["securityContext"]["runAsNonRoot"].as_bool();
    let bad = which(spec, |container| stated(container) == Some(false));
    if let Some(who) = setters(stated(spec) == Some(false), &bad) {
        return violation(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = which(spec, |container| stated(container).is_none());
    if stated(spec) == Some(true) || silent.is_empty() {
        return None;
    }
    violation(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", named(&silent)))
}

pub(super) fn run_as_non_root_of_node(metadata: &Value, spec: &Value) -> Option<Violation> {
    if has_own_users(spec) { None } else { run_as_non_root(metadata, spec) }
}

pub(super) fn run_as_user(_: &Value, spec: &Value) -> Option<Violation> {
    let root = |owner: &Value| owner["securityContext"]["runAsUser"] == 0;
    let who = setters(root(spec), &which(spec, root))?;
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

pub(super) fn run_as_user_of_node(metadata: &Value, spec: &Value) -> Option<Violation> {
    if has_own_users(spec) { None } else { run_as_user(metadata, spec) }
}

pub(super) fn seccomp(_: &Value, spec: &Value) -> Option<Violation> {
    let forbidden = seccomp_profiles(spec);
    if let Some(violation) = seccomp_violation(&forbidden) {
        return Some(violation);
    }
    let states = |owner: &Value| owner["securityContext"]["seccompProfile"].is_object();
    let silent = which(spec, |container| !states(container));
    if states(spec) || silent.is_empty() {
        return None;
    }
    let who = named(&silent);
    let what = "securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    violation("seccompProfile", format!("pod or {who} must set {what}"))
}

pub(super) fn seccomp_on_linux(metadata: &Value, spec: &Value) -> Option<Violation> {
    if is_windows(spec) { None } else { seccomp(metadata, spec) }
}
