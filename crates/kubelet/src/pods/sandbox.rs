//! A pod's spec as the configuration of its sandbox. Pure.

use api::cri::{
    DnsConfig, Int64Value, LinuxContainerResources, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol, SupplementalGroupsPolicy,
};
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::security;
use super::spec;
use crate::config::Config;
use crate::{cgroups, dns, names, quantity};

/// The sandbox of a pod for its `attempt`th time.
pub(crate) fn config(pod: &Pod, attempt: u32, settings: &Config, dns: DnsConfig) -> PodSandboxConfig {
    let spec = spec::spec(pod);
    let meta = &pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (name, namespace, uid) = (text(&meta.name), text(&meta.namespace), text(&meta.uid));
    let host_network = spec.host_network == Some(true);
    let mut labels = meta.labels.clone().unwrap_or_default();
    for (key, value) in [(names::POD_NAME, &name), (names::POD_NAMESPACE, &namespace), (names::POD_UID, &uid)] {
        labels.insert(key.to_owned(), value.clone());
    }
    PodSandboxConfig {
        hostname: if host_network { String::new() } else { dns::kernel_host_name(pod, &settings.cluster_domain) },
        log_directory: log_directory(settings, &namespace, &name, &uid),
        dns_config: Some(dns),
        port_mappings: if host_network { Vec::new() } else { port_mappings(&spec) },
        labels,
        annotations: meta.annotations.clone().unwrap_or_default(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroups::pod_cgroup(&settings.cgroup_root, &spec, &uid),
            security_context: Some(security_context(&spec, settings.seccomp_default)),
            sysctls: sysctls(&spec),
            overhead: Some(overhead(&spec)),
            resources: Some(cgroups::pod_resources(&spec, settings.pod_pids_limit)),
        }),
        metadata: Some(PodSandboxMetadata { name, namespace, uid, attempt }),
    }
}

/// Where the logs of a pod's containers are.
pub(crate) fn log_directory(settings: &Config, namespace: &str, name: &str, uid: &str) -> String {
    settings.pod_logs_dir.join(format!("{namespace}_{name}_{uid}")).to_string_lossy().into_owned()
}

/// Whose namespaces the pod's containers use.
pub(crate) fn namespaces(spec: &PodSpec) -> NamespaceOption {
    let mode = |host: Option<bool>| if host == Some(true) { NamespaceMode::Node } else { NamespaceMode::Pod };
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => NamespaceMode::Node,
        (_, Some(true)) => NamespaceMode::Pod,
        _ => NamespaceMode::Container,
    };
    NamespaceOption {
        network: mode(spec.host_network).into(),
        pid: pid.into(),
        ipc: mode(spec.host_ipc).into(),
        target_id: String::new(),
        userns_options: None,
    }
}

fn port_mappings(spec: &PodSpec) -> Vec<PortMapping> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| spec::init_role(c) == spec::Role::Sidecar);
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter(|port| port.host_port.is_some_and(|host_port| host_port > 0))
        .map(|port| PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            }
            .into(),
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or_default(),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

fn security_context(spec: &PodSpec, seccomp_default: bool) -> LinuxSandboxSecurityContext {
    let own = spec.security_context.clone().unwrap_or_default();
    let privileged = spec::containers(spec)
        .iter()
        .any(|(_, it)| it.security_context.as_ref().is_some_and(|it| it.privileged == Some(true)));
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        run_as_user: own.run_as_user.map(|value| Int64Value { value }),
        run_as_group: own.run_as_group.map(|value| Int64Value { value }),
        supplemental_groups: security::groups(&own),
        supplemental_groups_policy: match own.supplemental_groups_policy.as_deref() {
            Some("Strict") => SupplementalGroupsPolicy::Strict,
            _ => SupplementalGroupsPolicy::Merge,
        }
        .into(),
        privileged,
        seccomp: Some(security::seccomp(own.seccomp_profile.as_ref(), privileged, seccomp_default)),
        ..LinuxSandboxSecurityContext::default()
    }
}

fn sysctls(spec: &PodSpec) -> std::collections::BTreeMap<String, String> {
    let listed = spec.security_context.iter().flat_map(|it| it.sysctls.iter().flatten());
    // `/` is a notation of `.` (KEP-34).
    listed.map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value.clone())).collect()
}

fn overhead(spec: &PodSpec) -> LinuxContainerResources {
    let of = |name: &str| quantity::of(spec.overhead.as_ref(), name).unwrap_or(0.0);
    LinuxContainerResources {
        memory_limit_in_bytes: quantity::whole(of("memory")),
        ..LinuxContainerResources::default()
    }
}
