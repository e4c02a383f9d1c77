//! Security contexts of pod and container, merged into what the runtime is told. Pure.

use api::cri::{
    Capability, Int64Value, LinuxContainerSecurityContext, NamespaceMode, ProfileType, SecurityProfile,
    SupplementalGroupsPolicy,
};
use k8s_openapi::api::core::v1::{AppArmorProfile, Container, PodSecurityContext, PodSpec, SeccompProfile};

use super::sandbox;

/// Paths that tell about, or change, the node: hidden and made read-only unless procMount is Unmasked
/// (the defaults of upstream's `pkg/securitycontext`).
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Who an image's processes are, when nobody says otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ImageUser {
    pub(crate) uid: Option<i64>,
    pub(crate) name: String,
}

/// A container that must not run as root would.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})")]
    Root { pod: String, container: String },
    #[error("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})")]
    ImageRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: {pod:?}, container: {container})"
    )]
    Name { user: String, pod: String, container: String },
}

/// Refuses a container that is to be non-root and would be root.
pub(crate) fn check_user(pod: &str, spec: &PodSpec, container: &Container, image: &ImageUser) -> Result<(), UserError> {
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    if own.run_as_non_root.or(of_pod.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let (pod, name) = (pod.to_owned(), container.name.clone());
    match own.run_as_user.or(of_pod.run_as_user) {
        Some(0) => Err(UserError::Root { pod, container: name }),
        Some(_) => Ok(()),
        None if !image.name.is_empty() => Err(UserError::Name { user: image.name.clone(), pod, container: name }),
        None if image.uid.unwrap_or(0) == 0 => Err(UserError::ImageRoot { pod, container: name }),
        None => Ok(()),
    }
}

/// The security context of a container: its own fields where it has them, else the pod's.
pub(crate) fn context(
    spec: &PodSpec,
    container: &Container,
    image: &ImageUser,
    target: Option<&str>,
    seccomp_default: bool,
) -> LinuxContainerSecurityContext {
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged == Some(true);
    let user = own.run_as_user.or(of_pod.run_as_user);
    let mut namespaces = sandbox::namespaces(spec);
    if let Some(target) = target {
        namespaces.pid = NamespaceMode::Target.into();
        target.clone_into(&mut namespaces.target_id);
    }
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |paths: &[&str]| if unmasked { Vec::new() } else { paths.iter().map(|&it| it.to_owned()).collect() };
    let capabilities = own.capabilities.clone().unwrap_or_default();
    LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(namespaces),
        run_as_user: user.or(image.uid).map(|value| Int64Value { value }),
        run_as_username: if user.is_none() && image.uid.is_none() { image.name.clone() } else { String::new() },
        run_as_group: own.run_as_group.or(of_pod.run_as_group).map(|value| Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(&of_pod),
        supplemental_groups_policy: match of_pod.supplemental_groups_policy.as_deref() {
            Some("Strict") => SupplementalGroupsPolicy::Strict,
            _ => SupplementalGroupsPolicy::Merge,
        }
        .into(),
        no_new_privs: own.allow_privilege_escalation == Some(false) && !privileged,
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(
            own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref()),
            privileged,
            seccomp_default,
        )),
        apparmor: apparmor(own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref()), privileged),
        ..LinuxContainerSecurityContext::default()
    }
}

/// The groups that every process of the pod is in besides its own.
pub(crate) fn groups(of_pod: &PodSecurityContext) -> Vec<i64> {
    of_pod.fs_group.into_iter().chain(of_pod.supplemental_groups.iter().flatten().copied()).collect()
}

/// What the spec chose, else the runtime's default where the settings have it so (KEP-2413); a privileged container has
/// none.
pub(crate) fn seccomp(chosen: Option<&SeccompProfile>, privileged: bool, default: bool) -> SecurityProfile {
    match chosen {
        _ if privileged => profile("Unconfined", None),
        Some(chosen) => profile(&chosen.type_, chosen.localhost_profile.as_deref()),
        None if default => profile("RuntimeDefault", None),
        None => profile("Unconfined", None),
    }
}

fn apparmor(chosen: Option<&AppArmorProfile>, privileged: bool) -> Option<SecurityProfile> {
    match chosen {
        _ if privileged => Some(profile("Unconfined", None)),
        Some(chosen) => Some(profile(&chosen.type_, chosen.localhost_profile.as_deref())),
        None => None,
    }
}

fn profile(kind: &str, path: Option<&str>) -> SecurityProfile {
    let profile_type = match kind {
        "Unconfined" => ProfileType::Unconfined,
        "Localhost" => ProfileType::Localhost,
        _ => ProfileType::RuntimeDefault,
    };
    SecurityProfile { profile_type: profile_type.into(), localhost_ref: path.unwrap_or_default().to_owned() }
}
