//! Security contexts.

use serde_json::Value;

use super::volumes::descending_path;
use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{flag, items, text};
use crate::validation::Errors;

pub(super) fn pod(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let context = &spec["securityContext"];
    if context.is_null() {
        return;
    }
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(errors, &context[field], &path.child(field));
    }
    let groups = path.child("supplementalGroups");
    for (at, group) in items(context, "supplementalGroups").iter().enumerate() {
        id(errors, group, &groups.index(at));
    }
    if flag(spec, "shareProcessNamespace") && flag(spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, detail);
    }
    sysctls(errors, spec, &path.child("sysctls"));
    optional_word(errors, context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], path);
    profiles(errors, context, path);
    optional_word(errors, context, "supplementalGroupsPolicy", &["Merge", "Strict"], path);
}

pub(super) fn container(errors: &mut Errors, context: &Value, host_users: bool, path: &Path<'_>) {
    if context.is_null() {
        return;
    }
    for field in ["runAsUser", "runAsGroup"] {
        id(errors, &context[field], &path.child(field));
    }
    if let Some(mount) = context["procMount"].as_str() {
        let at = path.child("procMount");
        if !["Default", "Unmasked"].contains(&mount) {
            errors.not_supported(&at, mount, &["Default", "Unmasked"]);
        }
        if host_users && mount == "Unmasked" {
            errors.invalid(&at, mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(errors, &context["seccompProfile"], &path.child("seccompProfile"));
    if context["allowPrivilegeEscalation"] == false {
        if flag(context, "privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, context.clone(), detail);
        }
        if items(&context["capabilities"], "add").iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, context.clone(), detail);
        }
    }
    app_armor(errors, &context["appArmorProfile"], &path.child("appArmorProfile"));
}

fn profiles(errors: &mut Errors, context: &Value, path: &Path<'_>) {
    seccomp(errors, &context["seccompProfile"], &path.child("seccompProfile"));
    app_armor(errors, &context["appArmorProfile"], &path.child("appArmorProfile"));
}

fn id(errors: &mut Errors, id: &Value, path: &Path<'_>) {
    if let Some(number) = id.as_i64() {
        for detail in names::in_range(number, 0, i64::from(i32::MAX)) {
            errors.invalid(path, number, &detail);
        }
    }
}

fn optional_word(errors: &mut Errors, object: &Value, field: &str, words: &[&str], path: &Path<'_>) {
    if let Some(word) = object[field].as_str().filter(|word| !words.contains(word)) {
        errors.not_supported(&path.child(field), word, words);
    }
}

fn seccomp(errors: &mut Errors, profile: &Value, path: &Path<'_>) {
    if profile.is_null() {
        return;
    }
    let words = ["Localhost", "RuntimeDefault", "Unconfined"];
    match text(profile, "type") {
        "" => errors.required(&path.child("type"), "type is required when seccompProfile is set"),
        word if words.contains(&word) => {}
        word => errors.not_supported(&path.child("type"), word, &words),
    }
    let at = path.child("localhostProfile");
    match (profile["type"] == "Localhost", profile["localhostProfile"].as_str()) {
        (true, None) => errors.required(&at, "must be set when seccomp type is Localhost"),
        (true, Some(file)) => descending_path(errors, file, &at),
        (false, Some(_)) => errors.invalid(&at, profile.clone(), "can only be set when seccomp type is Localhost"),
        (false, None) => {}
    }
}

fn app_armor(errors: &mut Errors, profile: &Value, path: &Path<'_>) {
    if profile.is_null() {
        return;
    }
    let at = path.child("localhostProfile");
    let name = profile["localhostProfile"].as_str();
    match text(profile, "type") {
        "Localhost" => match name {
            None => errors.required(&at, "must be set when AppArmor type is Localhost"),
            Some(name) if name.trim() != name => {
                errors.invalid(&at, name, "must not be padded with whitespace");
            }
            Some("") => errors.required(&at, "must be set when AppArmor type is Localhost"),
            Some(name) if name.len() > 4095 => errors.too_long(&at, 4095),
            Some(_) => {}
        },
        "RuntimeDefault" | "Unconfined" => {
            if let Some(name) = name {
                errors.invalid(&at, name, "can only be set when AppArmor type is Localhost");
            }
        }
        "" => errors.required(&path.child("type"), "type is required when appArmorProfile is set"),
        word => errors.not_supported(&path.child("type"), word, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

fn sysctls(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    const PATTERN: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let sysctls = items(&spec["securityContext"], "sysctls");
    for (at, sysctl) in sysctls.iter().enumerate() {
        let (name, path) = (text(sysctl, "name"), path.index(at));
        let path = path.child("name");
        if name.is_empty() {
            errors.required(&path, "");
        } else if !is_sysctl_name(name) {
            errors.invalid(&path, name, &format!("must have at most 253 characters and match regex {PATTERN}"));
        } else if sysctls[..at].iter().any(|earlier| text(earlier, "name") == name) {
            errors.duplicate(&path, name);
        }
        let plain = name.replace('/', ".");
        let shares =
            |field: &str, what: &str| flag(spec, field).then(|| format!("may not be specified when '{what}' is true"));
        let wrong = if plain.starts_with("net.") {
            shares("hostNetwork", "hostNetwork")
        } else if plain.starts_with("kernel.shm")
            || plain.starts_with("kernel.msg")
            || plain.starts_with("fs.mqueue.")
            || plain == "kernel.sem"
        {
            shares("hostIPC", "hostIPC")
        } else {
            None
        };
        if let Some(detail) = wrong {
            errors.invalid(&path, name, &detail);
        }
    }
}

fn is_sysctl_name(name: &str) -> bool {
    let part = |part: &str| {
        let ends = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = part.as_bytes();
        ends(bytes.first())
            && ends(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(b))
    };
    name.len() <= 253 && name.split(['.', '/']).all(part)
}
