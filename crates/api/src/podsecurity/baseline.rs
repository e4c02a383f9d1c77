//! What nobody but the privileged may ask for: the known ways out of a container.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Violation;
use super::containers::{Forbidden, all, counted, named, plural, quoted, setters, violation, which};

const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD_ANNOTATION: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_ANNOTATION: &str = "container.seccomp.security.alpha.kubernetes.io/";

pub(super) fn app_armor(metadata: &Value, spec: &Value) -> Option<Violation> {
    let profiles = Forbidden::profiles(spec, "appArmorProfile", |kind| matches!(kind, "RuntimeDefault" | "Localhost"));
    let annotations = metadata["annotations"].as_object().into_iter().flatten();
    let stated = annotations.filter_map(|(key, value)| Some((key, value.as_str()?)));
    let allowed =
        |profile: &str| profile.is_empty() || profile == "runtime/default" || profile.starts_with("localhost/");
    let mut annotated: Vec<String> = stated
        .filter(|(key, profile)| key.starts_with(APPARMOR_ANNOTATION) && !allowed(profile))
        .map(|(key, profile)| format!("{key}={profile:?}"))
        .collect();
    annotated.sort();
    let mut who: Vec<String> = setters(profiles.pod, &profiles.containers).into_iter().collect();
    if !annotated.is_empty() {
        who.push(plural("annotation", annotated.len()));
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = profiles.values.into_iter().chain(annotated).collect();
    let listed = quoted(values.iter().map(String::as_str));
    let detail = format!("{} must not set AppArmor profile type to {listed}", who.join(" and "));
    violation(&plural("forbidden AppArmor profile", values.len()), detail)
}

pub(super) fn capabilities(_: &Value, spec: &Value) -> Option<Violation> {
    let mut added = BTreeSet::new();
    let bad = which(spec, |container| {
        let list = container["securityContext"]["capabilities"]["add"].as_array().into_iter().flatten();
        let more: Vec<_> = list.filter_map(Value::as_str).filter(|name| !CAPABILITIES.contains(name)).collect();
        added.extend(more.iter().map(|&name| name.to_owned()));
        !more.is_empty()
    });
    if bad.is_empty() {
        return None;
    }
    let (who, what) = (named(&bad), quoted(added.iter().map(String::as_str)));
    violation("non-default capabilities", format!("{who} must not include {what} in securityContext.capabilities.add"))
}

pub(super) fn host_namespaces(_: &Value, spec: &Value) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| spec[*field] == true);
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    if shared.is_empty() { None } else { violation("host namespaces", shared.join(", ")) }
}

pub(super) fn host_path_volumes(_: &Value, spec: &Value) -> Option<Violation> {
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    let bad = volumes.filter(|volume| volume["hostPath"].is_object()).filter_map(|volume| volume["name"].as_str());
    let bad: Vec<&str> = bad.collect();
    if bad.is_empty() { None } else { violation("hostPath volumes", counted("volume", &bad)) }
}

pub(super) fn host_ports(_: &Value, spec: &Value) -> Option<Violation> {
    let mut taken = BTreeSet::new();
    let bad = which(spec, |container| {
        let ports = container["ports"].as_array().into_iter().flatten();
        let ports: Vec<u64> = ports.filter_map(|port| port["hostPort"].as_u64()).filter(|port| *port > 0).collect();
        taken.extend(ports.iter().map(u64::to_string));
        !ports.is_empty()
    });
    if bad.is_empty() {
        return None;
    }
    let listed = taken.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    violation("hostPort", format!("{} {} {} {listed}", named(&bad), uses(bad.len()), plural("hostPort", taken.len())))
}

/// Probes and hooks are the kubelet's requests: with a host of the Pod's choice it would speak to anybody.
pub(super) fn hosts_of_probes(_: &Value, spec: &Value) -> Option<Violation> {
    let (mut containers, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for container in all(spec) {
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
        let hooks = ["postStart", "preStop"].map(|hook| &container["lifecycle"][hook]);
        for handler in probes.into_iter().chain(hooks) {
            let named = ["httpGet", "tcpSocket"].map(|kind| handler[kind]["host"].as_str().unwrap_or_default());
            for host in named.into_iter().filter(|host| !host.is_empty()) {
                containers.insert(super::containers::name(container));
                hosts.insert(host);
            }
        }
    }
    if containers.is_empty() {
        return None;
    }
    let containers: Vec<&str> = containers.into_iter().collect();
    let what = plural("probe or lifecycle host", hosts.len());
    let detail = format!("{} {} {what} {}", named(&containers), uses(containers.len()), quoted(hosts));
    violation("probe or lifecycle host", detail)
}

pub(super) fn privileged(_: &Value, spec: &Value) -> Option<Violation> {
    let bad = which(spec, |container| container["securityContext"]["privileged"] == true);
    let detail = || format!("{} must not set securityContext.privileged=true", named(&bad));
    if bad.is_empty() { None } else { violation("privileged", detail()) }
}

pub(super) fn proc_mount(_: &Value, spec: &Value) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let bad = which(spec, |container| {
        let kind = container["securityContext"]["procMount"].as_str().filter(|kind| *kind != "Default");
        kinds.extend(kind.map(ToOwned::to_owned));
        kind.is_some()
    });
    if bad.is_empty() {
        return None;
    }
    let kinds = quoted(kinds.iter().map(String::as_str));
    violation("procMount", format!("{} must not set securityContext.procMount to {kinds}", named(&bad)))
}

pub(super) fn proc_mount_of_own_users(metadata: &Value, spec: &Value) -> Option<Violation> {
    if super::containers::has_own_users(spec) { None } else { proc_mount(metadata, spec) }
}

pub(super) fn se_linux(_: &Value, spec: &Value) -> Option<Violation> {
    se_linux_options(spec, &["", "container_t", "container_init_t", "container_kvm_t"])
}

pub(super) fn se_linux_with_engines(_: &Value, spec: &Value) -> Option<Violation> {
    se_linux_options(spec, &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"])
}

fn se_linux_options(spec: &Value, types: &[&str]) -> Option<Violation> {
    let (mut kinds, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut forbids = |owner: &Value| {
        let options = &owner["securityContext"]["seLinuxOptions"];
        let text = |field: &str| options[field].as_str().unwrap_or_default();
        let bad_type = !types.contains(&text("type"));
        if bad_type {
            kinds.insert(text("type").to_owned());
        }
        user |= !text("user").is_empty();
        role |= !text("role").is_empty();
        bad_type || !text("user").is_empty() || !text("role").is_empty()
    };
    let pod = forbids(spec);
    let bad = which(spec, forbids);
    let who = setters(pod, &bad)?;
    let mut what = Vec::new();
    if !kinds.is_empty() {
        what.push(format!("{} {}", plural("type", kinds.len()), quoted(kinds.iter().map(String::as_str))));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; "));
    violation("seLinuxOptions", detail)
}

/// Before there was a field, there were annotations.
pub(super) fn seccomp_annotations(metadata: &Value, spec: &Value) -> Option<Violation> {
    let keys = all(spec).map(|container| format!("{SECCOMP_ANNOTATION}{}", super::containers::name(container)));
    let allowed =
        |profile: &str| matches!(profile, "runtime/default" | "docker/default") || profile.starts_with("localhost/");
    let stated = std::iter::once(SECCOMP_POD_ANNOTATION.to_owned()).chain(keys).filter_map(|key| {
        let profile = metadata["annotations"][&key].as_str().filter(|profile| !allowed(profile))?;
        Some(format!("{key}={profile:?}"))
    });
    let bad: BTreeSet<String> = stated.collect();
    if bad.is_empty() {
        return None;
    }
    let listed = bad.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    violation("seccompProfile", format!("forbidden {} {listed}", plural("annotation", bad.len())))
}

pub(super) fn seccomp(_: &Value, spec: &Value) -> Option<Violation> {
    let forbidden = seccomp_profiles(spec);
    seccomp_violation(&forbidden)
}

pub(super) fn seccomp_profiles(spec: &Value) -> Forbidden<'_> {
    Forbidden::profiles(spec, "seccompProfile", |kind| matches!(kind, "RuntimeDefault" | "Localhost"))
}

pub(super) fn seccomp_violation(forbidden: &Forbidden<'_>) -> Option<Violation> {
    let who = setters(forbidden.pod, &forbidden.containers)?;
    let kinds = quoted(forbidden.values.iter().map(String::as_str));
    violation("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to {kinds}"))
}

/// Sysctls that are a Pod's own, with the minor version since which they count as safe.
const SYSCTLS: &[(&str, u32)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

pub(super) fn sysctls<const MINOR: u32>(_: &Value, spec: &Value) -> Option<Violation> {
    let safe = |name: &str| SYSCTLS.iter().any(|(known, since)| *known == name && *since <= MINOR);
    let asked = spec["securityContext"]["sysctls"].as_array().into_iter().flatten();
    let bad: Vec<&str> = asked.filter_map(|sysctl| sysctl["name"].as_str()).filter(|name| !safe(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

pub(super) fn windows_host_process(_: &Value, spec: &Value) -> Option<Violation> {
    let asks = |owner: &Value| owner["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let who = setters(asks(spec), &which(spec, asks))?;
    violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn uses(count: usize) -> &'static str {
    if count == 1 { "uses" } else { "use" }
}
