//! Which kernel parameters a pod may set: those of its own namespaces that disturb no other pod, and what the settings
//! allow beyond. Pure. The names and words are upstream's (`pkg/kubelet/sysctl`).

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::pods::spec;
use crate::status::Verdict;

const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The namespace that holds a parameter; none is known of others.
fn namespace(name: &str) -> Option<&'static str> {
    let ipc = name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix));
    match name {
        _ if ipc => Some("ipc"),
        _ if name.starts_with("net.") => Some("net"),
        _ => None,
    }
}

/// A parameter, or with a star at its end all that begin so, that a pod may be allowed to set.
pub fn check(pattern: &str) -> Result<(), String> {
    let name = normal(pattern.strip_suffix('*').unwrap_or(pattern));
    let whole = ["kernel.shm", "kernel.msg", "fs.mqueue.", "net."];
    if namespace(&name).is_some() || whole.contains(&&*name) {
        return Ok(());
    }
    Err(format!("the sysctls \"{pattern}\" are not known to be namespaced"))
}

/// A name with dots between its parts; where these are slashes, dots belong to a part.
fn normal(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => name
            .chars()
            .map(|it| {
                if it == '/' {
                    '.'
                } else if it == '.' {
                    '/'
                } else {
                    it
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Refuses a pod that sets what it may not.
pub(crate) fn admit(pod: &Pod, allowed: &[String]) -> Result<(), Verdict> {
    let spec = spec::spec(pod);
    let stated = spec.security_context.iter().flat_map(|it| it.sysctls.iter().flatten());
    stated.into_iter().try_for_each(|sysctl| {
        let refused = |why: String| Verdict::new("SysctlForbidden", format!("forbidden sysctl: {why}"));
        may_set(&spec, &sysctl.name, allowed).map_err(refused)
    })
}

fn may_set(spec: &PodSpec, name: &str, allowed: &[String]) -> Result<(), String> {
    let name = normal(name);
    let is_allowed = allowed.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(&normal(prefix)),
        None => name == normal(pattern),
    });
    if !is_allowed && !SAFE.contains(&&*name) {
        return Err(format!("\"{name}\" not allowlisted"));
    }
    match namespace(&name) {
        Some("ipc") if spec.host_ipc == Some(true) => Err(format!("\"{name}\" not allowed with host ipc enabled")),
        Some("net") if spec.host_network == Some(true) => Err(format!("\"{name}\" not allowed with host net enabled")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refusal(name: &str, mut spec: Value, allowed: &[&str]) -> String {
        spec["containers"] = json!([]);
        spec["securityContext"] = json!({"sysctls": [{"name": name, "value": "1"}]});
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let allowed: Vec<String> = allowed.iter().map(|it| (*it).to_owned()).collect();
        admit(&pod, &allowed).err().map(|it| format!("{}: {}", it.reason, it.message)).unwrap_or_default()
    }

    #[test]
    fn a_pod_sets_what_is_safe_or_allowed_in_namespaces_of_its_own() {
        let forbidden = |why: &str| format!("SysctlForbidden: forbidden sysctl: {why}");
        assert_eq!(refusal("kernel.shm_rmid_forced", json!({}), &[]), "");
        assert_eq!(refusal("net/ipv4/tcp_syncookies", json!({}), &[]), "");
        assert_eq!(refusal("kernel.msgmax", json!({}), &[]), forbidden("\"kernel.msgmax\" not allowlisted"));
        assert_eq!(refusal("kernel.msgmax", json!({}), &["kernel.msg*"]), "");
        assert_eq!(refusal("net.ipv4.ip_forward", json!({}), &["net.ipv4.ip_forward"]), "");
        assert_eq!(
            refusal("kernel.shm_rmid_forced", json!({"hostIPC": true}), &[]),
            forbidden("\"kernel.shm_rmid_forced\" not allowed with host ipc enabled")
        );
        assert_eq!(
            refusal("net.ipv4.tcp_syncookies", json!({"hostNetwork": true}), &[]),
            forbidden("\"net.ipv4.tcp_syncookies\" not allowed with host net enabled")
        );
    }

    #[test]
    fn only_what_has_a_namespace_can_be_allowed() {
        for sound in ["kernel.msg*", "kernel.sem", "net.*", "net/core/somaxconn", "fs.mqueue.*"] {
            assert_eq!(check(sound), Ok(()), "{sound}");
        }
        for wrong in ["kernel.*", "vm.swappiness", "*", "fs.*"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
