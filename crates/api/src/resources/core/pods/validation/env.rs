//! Environment variables and where their values come from.

use serde_json::Value;

use super::volumes::no_backsteps;
use crate::field_path::Path;
use crate::names;
use crate::quantity::Quantity;
use crate::resources::fields::{items, text};
use crate::validation::Errors;

/// What a variable may take from its Pod.
const POD_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
/// What upstream knows of Pods at all; a field that it knows but does not allow has another message.
const KNOWN_FIELDS: &[&str] =
    &["metadata.labels", "metadata.annotations", "spec.restartPolicy", "spec.schedulerName", "status.phase"];

pub(super) fn variables(errors: &mut Errors, container: &Value, path: &Path<'_>) {
    for (at, variable) in items(container, "env").iter().enumerate() {
        let path = path.index(at);
        match text(variable, "name") {
            "" => errors.required(&path.child("name"), ""),
            name => errors.invalid_each(&path.child("name"), name, names::relaxed_env_var_name(name)),
        }
        if !variable["valueFrom"].is_null() {
            value_from(errors, variable, &path.child("valueFrom"));
        }
    }
}

fn value_from(errors: &mut Errors, variable: &Value, path: &Path<'_>) {
    let from = &variable["valueFrom"];
    let mut sources = 0;
    for field in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"] {
        let (source, path) = (&from[field], path.child(field));
        if source.is_null() {
            continue;
        }
        sources += 1;
        match field {
            "fieldRef" => field_ref(errors, source, POD_FIELDS, &path),
            "resourceFieldRef" => resource_ref(errors, source, false, &path),
            "fileKeyRef" => file_key(errors, source, &path),
            _ => key_ref(errors, source, &path),
        }
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or \
                      `fileKeyRef`";
        errors.invalid(path, "", detail);
    } else if !text(variable, "value").is_empty() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

/// A field of the Pod: one of `allowed`, or a label or annotation by its key.
pub(super) fn field_ref(errors: &mut Errors, field_ref: &Value, allowed: &[&str], path: &Path<'_>) {
    let named = text(field_ref, "fieldPath");
    if text(field_ref, "apiVersion").is_empty() {
        return errors.required(&path.child("apiVersion"), "");
    }
    if named.is_empty() {
        return errors.required(&path.child("fieldPath"), "");
    }
    let subscripted = named.strip_suffix("']").and_then(|rest| rest.split_once("['"));
    match subscripted {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            errors.invalid_each(path, &key, names::qualified_name(&key));
        }
        Some(("metadata.labels", key)) => errors.invalid_each(path, key, names::qualified_name(key)),
        _ if allowed.contains(&named) => {}
        None if POD_FIELDS.contains(&named) || KNOWN_FIELDS.contains(&named) => {
            errors.not_supported(&path.child("fieldPath"), named, allowed);
        }
        _ => {
            let detail = format!("error converting fieldPath: field label not supported: {named}");
            errors.invalid(&path.child("fieldPath"), named, &detail);
        }
    }
}

/// A container's request or limit.
pub(super) fn resource_ref(errors: &mut Errors, resource_ref: &Value, volume: bool, path: &Path<'_>) {
    let resource = text(resource_ref, "resource");
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if volume && text(resource_ref, "containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.not_supported(&path.child("resource"), resource, RESOURCES);
    }
    let divisor = text(resource_ref, "divisor");
    if Quantity::from_json(&resource_ref["divisor"]).map_or(true, |quantity| quantity.is_zero()) {
        return;
    }
    let bytes = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (allowed, said, of): (&[&str], &str, &str) = match resource.split_once('.').map(|(_, name)| name) {
        Some("cpu") => (&["1m", "1"], "1m and 1", "cpu"),
        Some("memory") => (&bytes, "", "memory"),
        Some("ephemeral-storage") => (&bytes, "", "local ephemeral storage"),
        Some(name) if name.starts_with("hugepages-") => (&bytes, "", "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor) {
        let said = if said.is_empty() { bytes.join(", ") } else { said.to_owned() };
        let detail = format!("only divisor's values {said} are supported with the {of} resource");
        errors.invalid(&path.child("divisor"), resource, &detail);
    }
}

/// A key of a ConfigMap or Secret.
fn key_ref(errors: &mut Errors, key_ref: &Value, path: &Path<'_>) {
    let (name, key) = (text(key_ref, "name"), text(key_ref, "key"));
    errors.invalid_each(&path.child("name"), name, names::dns_subdomain(name));
    match key {
        "" => errors.required(&path.child("key"), ""),
        key => errors.invalid_each(&path.child("key"), key, names::config_map_key(key)),
    }
}

/// A key of an env file in a volume.
fn file_key(errors: &mut Errors, key_ref: &Value, path: &Path<'_>) {
    match text(key_ref, "key") {
        "" => errors.required(&path.child("key"), ""),
        key => errors.invalid_each(&path.child("key"), key, names::relaxed_env_var_name(key)),
    }
    match text(key_ref, "volumeName") {
        "" => errors.required(&path.child("volumeName"), ""),
        name => errors.invalid_each(&path.child("volumeName"), name, names::dns_label(name)),
    }
    match text(key_ref, "path") {
        "" => errors.required(&path.child("path"), ""),
        file => no_backsteps(errors, file, &path.child("path")),
    }
}

pub(super) fn sources(errors: &mut Errors, container: &Value, path: &Path<'_>) {
    for (at, source) in items(container, "envFrom").iter().enumerate() {
        let own = path.index(at);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            errors.invalid_each(&own.child("prefix"), prefix, names::relaxed_env_var_name(prefix));
        }
        let mut sources = 0;
        for field in ["configMapRef", "secretRef"] {
            if source[field].is_null() {
                continue;
            }
            sources += 1;
            let at = own.child(field);
            match text(&source[field], "name") {
                "" => errors.required(&at.child("name"), ""),
                name => errors.invalid_each(&at.child("name"), name, names::dns_subdomain(&names::as_prefix(name))),
            }
        }
        if sources == 0 {
            errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if sources > 1 {
            errors.invalid(path, "", "may not have more than one field specified at a time");
        }
    }
}

/// Env files live in emptyDir volumes.
pub(super) fn file_key_volumes(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (at, container) in items(spec, list).iter().enumerate() {
            for (env_at, variable) in items(container, "env").iter().enumerate() {
                let Some(name) = variable["valueFrom"]["fileKeyRef"]["volumeName"].as_str() else { continue };
                let volume = items(spec, "volumes").iter().find(|volume| text(volume, "name") == name);
                let list_path = path.child(list);
                let own = list_path.index(at);
                let env = own.child("env");
                let variable = env.index(env_at);
                let from = variable.child("valueFrom");
                let file = from.child("fileKeyRef");
                match volume {
                    None => errors.not_found(&file.child("volumeName"), name),
                    Some(volume) if volume["emptyDir"].is_null() => {
                        let detail = "referenced volume must be of type emptyDir";
                        errors.invalid(&file.child("volumeName"), name, detail);
                    }
                    Some(_) => {}
                }
            }
        }
    }
}
