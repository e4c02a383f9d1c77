//! What a Pod or Pod template may say, in upstream's words (`k8s.io/kubernetes/pkg/apis/core/validation`).
//!
//! Checks run in upstream's order, so that a Pod with several faults is refused in the same words.

mod containers;
mod env;
mod probes;
mod resources;
mod scheduling;
mod security;
pub(super) mod subresources;
pub(super) mod update;
pub(crate) mod volumes;
mod windows;

pub(crate) use resources::overhead;
pub use scheduling::tolerations;
pub(crate) use scheduling::{node_selector, taint_effect};

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{flag, is_empty, items, text};
use crate::resources::metadata;
use crate::status::Cause;
use crate::validation::Errors;

/// What the parts of a spec are checked against.
pub(super) struct Context<'a> {
    /// False for templates.
    pub(super) is_pod: bool,
    /// The valid volumes by name.
    pub(super) volumes: BTreeMap<&'a str, &'a Value>,
    /// The names of the Pod's resource claims.
    pub(super) claims: Vec<&'a str>,
    pub(super) grace: Option<i64>,
    pub(super) restart_policy: &'a str,
    pub(super) host_users: bool,
}

pub(super) fn create(pod: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    pod_spec(&mut errors, pod);
    let path = Path::root("spec");
    let spec = &pod["spec"];
    if !items(spec, "ephemeralContainers").is_empty() {
        errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
    }
    if !text(spec, "nodeName").is_empty() && !items(spec, "schedulingGates").is_empty() {
        errors.forbidden(&path.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    errors.into_causes()
}

/// The template of a workload, at `path`.
pub(crate) fn template(errors: &mut Errors, template: &Value, path: &Path<'_>) {
    metadata::template(errors, &template["metadata"], path);
    let spec_path = path.child("spec");
    spec(errors, &template["spec"], None, &spec_path);
    if !items(&template["spec"], "ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.forbidden(&spec_path.child("ephemeralContainers"), detail);
    }
}

/// The spec of a Pod itself, with the rules that templates are spared.
fn pod_spec(errors: &mut Errors, pod: &Value) {
    let (path, pod_spec) = (Path::root("spec"), &pod["spec"]);
    spec(errors, pod_spec, Some(&pod["metadata"]), &path);
    if text(pod_spec, "serviceAccountName").is_empty() {
        for (at, volume) in items(pod_spec, "volumes").iter().enumerate() {
            for (source_at, source) in items(&volume["projected"], "sources").iter().enumerate() {
                if !source["serviceAccountToken"].is_null() {
                    let volumes = path.child("volumes");
                    let sources = volumes.index(at);
                    let sources = sources.child("projected");
                    let sources = sources.child("sources");
                    let detail = "must not be specified when serviceAccountName is not set";
                    errors.forbidden(&sources.index(source_at).child("serviceAccountToken"), detail);
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for (at, container) in items(pod_spec, list).iter().enumerate() {
            containers::image_of_pod(errors, container, &path.child(list).index(at));
        }
    }
}

fn spec(errors: &mut Errors, spec: &Value, pod_meta: Option<&Value>, path: &Path<'_>) {
    if spec["terminationGracePeriodSeconds"].is_null() {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = volumes::volumes(errors, spec, pod_meta, &path.child("volumes"));
    let context = Context {
        is_pod: pod_meta.is_some(),
        volumes,
        claims: items(spec, "resourceClaims").iter().map(|claim| text(claim, "name")).collect(),
        grace: spec["terminationGracePeriodSeconds"].as_i64(),
        restart_policy: text(spec, "restartPolicy"),
        host_users: spec["hostUsers"] != false,
    };
    resources::pod_claims(errors, spec, &path.child("resourceClaims"));
    containers::containers(errors, spec, &context, &path.child("containers"));
    containers::init_containers(errors, spec, &context, &path.child("initContainers"));
    containers::ephemeral_containers(errors, spec, &context, &path.child("ephemeralContainers"));
    resources::pod_level(errors, spec, path);
    host_network(errors, spec, &context, path);
    one_of(errors, spec, "restartPolicy", &["Always", "OnFailure", "Never"], path);
    one_of(errors, spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], path);
    metadata::labels(errors, &spec["nodeSelector"], &path.child("nodeSelector"));
    security::pod(errors, spec, &path.child("securityContext"));
    scheduling::affinity(errors, &spec["affinity"], &path.child("affinity"));
    dns_config(errors, spec, &path.child("dnsConfig"));
    let gates = path.child("readinessGates");
    for (at, gate) in items(spec, "readinessGates").iter().enumerate() {
        let kind = text(gate, "conditionType");
        errors.invalid_each(&gates.index(at).child("conditionType"), kind, names::qualified_name(kind));
    }
    scheduling_gates(errors, spec, &path.child("schedulingGates"));
    scheduling::topology_spread(errors, spec, &path.child("topologySpreadConstraints"));
    host_users(errors, spec, &context, path);
    hostname_override(errors, spec, path);
    plain_fields(errors, spec, path);
}

/// Fields with rules of one line each.
fn plain_fields(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let mut named = |field: &str, check: fn(&str) -> Vec<String>| {
        let value = text(spec, field);
        if !value.is_empty() {
            errors.invalid_each(&path.child(field), value, check(value));
        }
    };
    named("serviceAccountName", names::dns_subdomain);
    named("nodeName", names::dns_subdomain);
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64() {
        for detail in names::in_range(seconds, 1, i64::from(i32::MAX)) {
            errors.invalid(&path.child("activeDeadlineSeconds"), seconds, &detail);
        }
    }
    let mut named = |field: &str, check: fn(&str) -> Vec<String>| {
        let value = text(spec, field);
        if !value.is_empty() {
            errors.invalid_each(&path.child(field), value, check(value));
        }
    };
    named("hostname", names::dns_label);
    named("subdomain", names::dns_label);
    scheduling::tolerations(errors, spec, &path.child("tolerations"));
    host_aliases(errors, spec, &path.child("hostAliases"));
    let mut named = |field: &str, check: fn(&str) -> Vec<String>| {
        if let Some(value) = spec[field].as_str().filter(|value| !value.is_empty()) {
            errors.invalid_each(&path.child(field), value, check(value));
        }
    };
    named("priorityClassName", names::dns_subdomain);
    named("runtimeClassName", names::dns_subdomain);
    if let Some(policy) = spec["preemptionPolicy"].as_str() {
        if policy.is_empty() {
            errors.required(&path.child("preemptionPolicy"), "");
        } else if !["PreemptLowerPriority", "Never"].contains(&policy) {
            errors.not_supported(&path.child("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"]);
        }
    }
    resources::overhead(errors, &spec["overhead"], &path.child("overhead"));
    if !spec["os"].is_null() {
        match text(&spec["os"], "name") {
            "" => errors.required(&path.child("os").child("name"), ""),
            "linux" => {}
            "windows" => windows::pod(errors, spec, path),
            _ => errors.not_supported(&path.child("os"), text(&spec["os"], "name"), &["linux", "windows"]),
        }
    }
    env::file_key_volumes(errors, spec, path);
}

/// A field that must be one of a few words.
pub(crate) fn one_of(errors: &mut Errors, object: &Value, field: &str, words: &[&str], path: &Path<'_>) {
    match text(object, field) {
        "" => errors.required(&path.child(field), ""),
        word if words.contains(&word) => {}
        word => errors.not_supported(&path.child(field), word, words),
    }
}

/// A number that may not be negative.
pub(crate) fn not_negative(errors: &mut Errors, object: &Value, field: &str, path: &Path<'_>) {
    if let Some(number) = object[field].as_i64().filter(|number| *number < 0) {
        errors.invalid(&path.child(field), number, "must be greater than or equal to 0");
    }
}

fn host_network(errors: &mut Errors, spec: &Value, context: &Context<'_>, path: &Path<'_>) {
    if !flag(spec, "hostNetwork") {
        return;
    }
    let containers = path.child("containers");
    for (at, container) in items(spec, "containers").iter().enumerate() {
        for (port_at, port) in items(container, "ports").iter().enumerate() {
            let host = port["hostPort"].as_i64().unwrap_or_default();
            let own = port["containerPort"].as_i64().unwrap_or_default();
            if (context.is_pod || host != 0) && host != own {
                let container = containers.index(at);
                let ports = container.child("ports");
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&ports.index(port_at).child("hostPort"), host, detail);
            }
        }
    }
}

fn dns_config(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let config = &spec["dnsConfig"];
    let (servers, searches) = (items(config, "nameservers"), items(config, "searches"));
    if spec["dnsPolicy"] == "None" {
        if config.is_null() {
            return errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return errors.required(&path.child("nameservers"), detail);
        }
    }
    let (at_servers, at_searches) = (path.child("nameservers"), path.child("searches"));
    if servers.len() > 3 {
        errors.invalid(&at_servers, config["nameservers"].clone(), "must not have more than 3 nameservers");
    }
    for (at, server) in servers.iter().enumerate() {
        ip_address(errors, server.as_str().unwrap_or_default(), &at_servers.index(at));
    }
    if searches.len() > 32 {
        errors.invalid(&at_searches, config["searches"].clone(), "must not have more than 32 search paths");
    }
    let length: usize = searches.iter().filter_map(Value::as_str).map(|search| search.len() + 1).sum();
    if length > 2049 {
        let detail = "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(&at_searches, config["searches"].clone(), detail);
    }
    for (at, search) in searches.iter().filter_map(Value::as_str).enumerate() {
        if search != "." {
            let search = search.strip_suffix('.').unwrap_or(search);
            errors.invalid_each(&at_searches.index(at), search, names::dns_subdomain_with_underscore(search));
        }
    }
    for (at, option) in items(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            errors.required(&path.child("options").index(at), "must not be empty");
        }
    }
}

/// An address in a field that once took addresses loosely (upstream: `IsValidIPForLegacyField`, strict since 1.36).
pub(crate) fn ip_address(errors: &mut Errors, value: &str, path: &Path<'_>) {
    let why = match (value.parse::<IpAddr>(), without_leading_zeros(value).parse::<IpAddr>()) {
        (Ok(IpAddr::V6(ip)), _) if ip.to_ipv4_mapped().is_some() => "must not be an IPv4-mapped IPv6 address",
        (Ok(_), _) => return,
        (Err(_), Ok(_)) => "must not have leading 0s",
        (Err(_), Err(_)) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    };
    errors.invalid(path, value, why);
}

/// An IPv4 address as it was once read: `010.0.0.1` is `10.0.0.1`.
pub(crate) fn without_leading_zeros(address: &str) -> String {
    let octet = |octet: &str| match octet.trim_start_matches('0') {
        "" if !octet.is_empty() => "0".to_owned(),
        rest => rest.to_owned(),
    };
    address.split('.').map(octet).collect::<Vec<_>>().join(".")
}

fn scheduling_gates(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let gates: Vec<&str> = items(spec, "schedulingGates").iter().map(|gate| text(gate, "name")).collect();
    for (at, gate) in gates.iter().enumerate() {
        errors.invalid_each(&path.index(at), gate, names::qualified_name(gate));
        if gates[..at].contains(gate) {
            errors.duplicate(&path.index(at), *gate);
        }
    }
}

fn host_users(errors: &mut Errors, spec: &Value, context: &Context<'_>, path: &Path<'_>) {
    if context.host_users {
        return;
    }
    for (field, said) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if flag(spec, field) {
            errors.forbidden(&path.child(said), "when `hostUsers` is false");
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (at, container) in items(spec, list).iter().enumerate() {
            if !is_empty(&container["volumeDevices"]) {
                errors.forbidden(&path.child(list).index(at).child("volumeDevices"), "when `hostUsers` is false");
            }
        }
    }
}

fn hostname_override(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let Some(name) = spec["hostnameOverride"].as_str() else { return };
    let at = path.child("hostnameOverride");
    if flag(spec, "setHostnameAsFQDN") {
        errors.forbidden(&at, "may not be specified when setHostnameAsFQDN is true");
    }
    if flag(spec, "hostNetwork") {
        errors.forbidden(&at, "may not be specified when hostNetwork is true");
    }
    if name.len() > 64 {
        errors.too_long(&at, 64);
    }
    errors.invalid_each(&at, name, names::dns_subdomain(name));
}

fn host_aliases(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    for (at, alias) in items(spec, "hostAliases").iter().enumerate() {
        ip_address(errors, text(alias, "ip"), &path.index(at).child("ip"));
        for (name_at, name) in items(alias, "hostnames").iter().filter_map(Value::as_str).enumerate() {
            let alias = path.index(at);
            let names = alias.child("hostnames");
            errors.invalid_each(&names.index(name_at), name, names::dns_subdomain(name));
        }
    }
}
