//! Containers: regular, init and ephemeral.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Context, env, one_of, probes, resources, security, volumes};
use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{flag, int, is_empty, items, text};
use crate::validation::Errors;

pub(super) fn containers(errors: &mut Errors, spec: &Value, context: &Context<'_>, path: &Path<'_>) {
    let list = items(spec, "containers");
    if list.is_empty() {
        return errors.required(path, "");
    }
    let mut seen = BTreeSet::new();
    for (at, container) in list.iter().enumerate() {
        let path = path.index(at);
        common(errors, container, context, &path);
        if !seen.insert(text(container, "name")) {
            errors.duplicate(&path.child("name"), text(container, "name"));
        }
        lifecycle_and_probes(errors, container, context, &path);
        restart_policy(errors, container, &path);
    }
    host_ports(errors, list.iter().enumerate(), path);
}

pub(super) fn init_containers(errors: &mut Errors, spec: &Value, context: &Context<'_>, path: &Path<'_>) {
    let mut seen: BTreeSet<&str> = items(spec, "containers").iter().map(|container| text(container, "name")).collect();
    for (at, container) in items(spec, "initContainers").iter().enumerate() {
        let own = path.index(at);
        common(errors, container, context, &own);
        restart_policy(errors, container, &own);
        let name = text(container, "name");
        if !seen.insert(name) {
            errors.duplicate(&own.child("name"), name);
        }
        // Upstream names the first init container here, whichever it is.
        host_ports(errors, std::iter::once((0, container)), path);
        let sidecar = container["restartPolicy"] == "Always";
        if sidecar {
            lifecycle_and_probes(errors, container, context, &own);
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if !container[field].is_null() {
                    let detail = "may not be set for init containers without restartPolicy=Always";
                    errors.forbidden(&own.child(field), detail);
                }
            }
            for (policy_at, policy) in items(container, "resizePolicy").iter().enumerate() {
                if policy["restartPolicy"] == "RestartContainer" {
                    let policies = own.child("resizePolicy");
                    let policy = policies.index(policy_at);
                    let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                    errors.invalid(&policy.child("restartPolicy"), "RestartContainer", detail);
                }
            }
        }
    }
}

/// What an ephemeral container may say; `targetContainerName` is its own.
const EPHEMERAL_FIELDS: &[&str] =
    &["ports", "resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"];

pub(super) fn ephemeral_containers(errors: &mut Errors, spec: &Value, context: &Context<'_>, path: &Path<'_>) {
    let others: Vec<&str> = items(spec, "containers")
        .iter()
        .chain(items(spec, "initContainers"))
        .map(|container| text(container, "name"))
        .collect();
    let mut seen: BTreeSet<&str> = others.iter().copied().collect();
    for (at, container) in items(spec, "ephemeralContainers").iter().enumerate() {
        let path = path.index(at);
        common(errors, container, context, &path);
        image_of_pod(errors, container, &path);
        let name = text(container, "name");
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !others.contains(&target) {
            errors.not_found(&path.child("targetContainerName"), target);
        }
        for field in EPHEMERAL_FIELDS {
            if !is_empty(&container[*field]) {
                errors.forbidden(&path.child(field), "cannot be set for an Ephemeral Container");
            }
        }
        for (mount_at, mount) in items(container, "volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !text(mount, field).is_empty() {
                    let mounts = path.child("volumeMounts");
                    let mount = mounts.index(mount_at);
                    errors.forbidden(&mount.child(field), "cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

/// What all containers have.
fn common(errors: &mut Errors, container: &Value, context: &Context<'_>, path: &Path<'_>) {
    match text(container, "name") {
        "" => errors.required(&path.child("name"), ""),
        name => errors.invalid_each(&path.child("name"), name, names::dns_label(name)),
    }
    if text(container, "image").is_empty() {
        errors.required(&path.child("image"), "");
    }
    one_of(errors, container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path);
    ports(errors, container, &path.child("ports"));
    env::variables(errors, container, &path.child("env"));
    env::sources(errors, container, &path.child("envFrom"));
    volumes::mounts(errors, container, context, &path.child("volumeMounts"));
    volumes::devices(errors, container, context, &path.child("volumeDevices"));
    one_of(errors, container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path);
    resources::requirements(errors, &container["resources"], &context.claims, &path.child("resources"));
    resize_policy(errors, container, context, &path.child("resizePolicy"));
    security::container(errors, &container["securityContext"], context.host_users, &path.child("securityContext"));
}

/// Pods, unlike templates, have no blanks around an image.
pub(super) fn image_of_pod(errors: &mut Errors, container: &Value, path: &Path<'_>) {
    let image = text(container, "image");
    if image.trim() != image {
        errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
}

fn lifecycle_and_probes(errors: &mut Errors, container: &Value, context: &Context<'_>, path: &Path<'_>) {
    let at = path.child("lifecycle");
    for hook in ["postStart", "preStop"] {
        let action = &container["lifecycle"][hook];
        if !action.is_null() {
            probes::handler(errors, action, context.grace, &at.child(hook));
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = &container[name];
        if !probe.is_null() {
            probes::probe(errors, probe, name, &path.child(name));
        }
    }
}

fn ports(errors: &mut Errors, container: &Value, path: &Path<'_>) {
    let mut seen = BTreeSet::new();
    for (at, port) in items(container, "ports").iter().enumerate() {
        let path = path.index(at);
        let name = text(port, "name");
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if wrong.is_empty() && !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
            errors.invalid_each(&path.child("name"), name, wrong);
        }
        match int(port, "containerPort") {
            0 => errors.required(&path.child("containerPort"), ""),
            number => port_number(errors, number, &path.child("containerPort")),
        }
        let host = int(port, "hostPort");
        if host != 0 {
            port_number(errors, host, &path.child("hostPort"));
        }
        one_of(errors, port, "protocol", &["SCTP", "TCP", "UDP"], &path);
    }
}

/// A number that a port may have.
pub(super) fn port_number(errors: &mut Errors, number: i64, path: &Path<'_>) {
    for detail in names::port_number(number) {
        errors.invalid(path, number, &detail);
    }
}

/// No two containers take the same port of the node.
fn host_ports<'a>(errors: &mut Errors, containers: impl Iterator<Item = (usize, &'a Value)>, path: &Path<'_>) {
    let mut taken = BTreeSet::new();
    for (at, container) in containers {
        let path = path.index(at);
        for (port_at, port) in items(container, "ports").iter().enumerate() {
            let number = int(port, "hostPort");
            let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if number != 0 && taken.contains(&key) {
                errors.duplicate(&path.child("ports").index(port_at).child("hostPort"), key);
            } else if number != 0 {
                taken.insert(key);
            }
        }
    }
}

/// Restarts by a container's own rules (KEP-5307).
fn restart_policy(errors: &mut Errors, container: &Value, path: &Path<'_>) {
    let (rules, at) = (items(container, "restartPolicyRules"), path.child("restartPolicy"));
    match container["restartPolicy"].as_str() {
        None if rules.is_empty() => return,
        None => errors.required(&at, "must specify restartPolicy when restart rules are used"),
        Some("Always" | "Never" | "OnFailure") => {}
        Some(other) => errors.not_supported(&at, other, &["Always", "Never", "OnFailure"]),
    }
    let at = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.too_many(&at, rules.len(), 20);
    }
    for (rule_at, rule) in rules.iter().enumerate() {
        let path = at.index(rule_at);
        let action = text(rule, "action");
        if !["Restart", "RestartAllContainers"].contains(&action) {
            errors.not_supported(&path.child("action"), action, &["Restart", "RestartAllContainers"]);
        }
        let (codes, path) = (&rule["exitCodes"], path.child("exitCodes"));
        if codes.is_null() {
            errors.required(&path, "must be specified");
            continue;
        }
        let operator = text(codes, "operator");
        if !["In", "NotIn"].contains(&operator) {
            errors.not_supported(&path.child("operator"), operator, &["In", "NotIn"]);
        }
        let values = items(codes, "values").len();
        if values > 255 {
            errors.too_many(&path.child("values"), values, 255);
        }
    }
}

fn resize_policy(errors: &mut Errors, container: &Value, context: &Context<'_>, path: &Path<'_>) {
    let policies = items(container, "resizePolicy");
    for (at, policy) in policies.iter().enumerate() {
        let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if policies[..at].iter().any(|earlier| text(earlier, "resourceName") == resource) {
            errors.duplicate(&path.index(at), resource);
        }
        for (word, words) in [(resource, ["cpu", "memory"]), (restart, ["NotRequired", "RestartContainer"])] {
            match word {
                "" => errors.required(path, ""),
                word if words.contains(&word) => {}
                word => errors.not_supported(path, word, &words),
            }
        }
        if context.restart_policy == "Never" && restart != "NotRequired" {
            errors.invalid(path, restart, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

/// True for a container that may do all on its node.
pub(super) fn is_privileged(container: &Value) -> bool {
    flag(&container["securityContext"], "privileged")
}
