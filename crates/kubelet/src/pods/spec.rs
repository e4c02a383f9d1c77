//! Questions about a pod's spec that several rooms ask: its containers with their roles, its restart rules, its QoS.

use std::borrow::Cow;
use std::collections::BTreeSet;

use api::object::ObjectKey;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

use crate::names;

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Runs to completion before what follows it.
    Init,
    /// An init container with restartPolicy Always (KEP-753): what follows waits until it has started.
    Sidecar,
    Regular,
    /// Added to a running pod for debugging; never restarted.
    Ephemeral,
}

/// The condition of a pod that somebody has ended.
pub(crate) const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// The pod's namespace and name.
pub(crate) fn key(pod: &Pod) -> ObjectKey {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    ObjectKey::new(text(&pod.metadata.namespace), text(&pod.metadata.name))
}

/// Nothing of the pod is to run again.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// True of a pod that a file of this node describes.
pub(crate) fn is_static(pod: &Pod) -> bool {
    let source = pod.metadata.annotations.as_ref().and_then(|it| it.get(names::CONFIG_SOURCE));
    source.is_some_and(|source| source != "api")
}

/// The pod's spec; the empty one when it has none.
pub(crate) fn spec(pod: &Pod) -> Cow<'_, PodSpec> {
    pod.spec.as_ref().map_or_else(|| Cow::Owned(PodSpec::default()), Cow::Borrowed)
}

pub(crate) fn init_role(container: &Container) -> Role {
    if container.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init }
}

/// All containers of a pod: init containers in order, regular ones, ephemeral ones.
pub(crate) fn containers(spec: &PodSpec) -> Vec<(Role, Cow<'_, Container>)> {
    let init = spec.init_containers.iter().flatten().map(|c| (init_role(c), Cow::Borrowed(c)));
    let regular = spec.containers.iter().map(|c| (Role::Regular, Cow::Borrowed(c)));
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (Role::Ephemeral, Cow::Owned(as_container(c))));
    init.chain(regular).chain(ephemeral).collect()
}

pub(crate) fn find<'a>(spec: &'a PodSpec, name: &str) -> Option<(Role, Cow<'a, Container>)> {
    containers(spec).into_iter().find(|(_, container)| container.name == name)
}

/// An ephemeral container in the form of the others. It can have neither ports, probes, hooks nor resources.
fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let it = ephemeral.clone();
    Container {
        args: it.args,
        command: it.command,
        env: it.env,
        env_from: it.env_from,
        image: it.image,
        image_pull_policy: it.image_pull_policy,
        name: it.name,
        security_context: it.security_context,
        stdin: it.stdin,
        stdin_once: it.stdin_once,
        termination_message_path: it.termination_message_path,
        termination_message_policy: it.termination_message_policy,
        tty: it.tty,
        volume_devices: it.volume_devices,
        volume_mounts: it.volume_mounts,
        working_dir: it.working_dir,
        ..Container::default()
    }
}

/// Whether a container that ended with `exit_code` is to run again: its own rules first (KEP-5307), then its
/// own policy, then the pod's.
pub(crate) fn restarts(spec: &PodSpec, role: Role, container: &Container, exit_code: i32) -> bool {
    match role {
        Role::Sidecar => return true,
        Role::Ephemeral => return false,
        Role::Init | Role::Regular => {}
    }
    let rule = container.restart_policy_rules.iter().flatten().find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|on| {
            let listed = on.values.iter().flatten().any(|value| *value == exit_code);
            listed == (on.operator == "In")
        })
    });
    if let Some(rule) = rule {
        return rule.action == "Restart";
    }
    match container.restart_policy.as_deref().or(spec.restart_policy.as_deref()).unwrap_or("Always") {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        // An init container of a pod with policy Always is done once it has succeeded.
        _ => role == Role::Regular || exit_code != 0,
    }
}

/// The pod's quality of service: `Guaranteed`, `Burstable` or `BestEffort`, as upstream's `qos.ComputePodQOS`.
pub(crate) fn qos_class(spec: &PodSpec) -> &'static str {
    const COUNTED: [&str; 2] = ["cpu", "memory"];
    let is_set = |quantity: &str| crate::quantity::parse(quantity).is_some_and(|value| value > 0.0);
    let pod_level = spec.resources.as_ref().into_iter();
    let each = spec.init_containers.iter().flatten().chain(&spec.containers);
    let all: Vec<_> = if spec.resources.is_some() {
        pod_level.cloned().collect()
    } else {
        each.map(|container| container.resources.clone().unwrap_or_default()).collect()
    };
    let mut any = false;
    let mut guaranteed = true;
    for resources in &all {
        let limits = resources.limits.clone().unwrap_or_default();
        let requests = resources.requests.clone().unwrap_or_default();
        let named: BTreeSet<&str> = limits.keys().chain(requests.keys()).map(String::as_str).collect();
        any |= COUNTED.iter().any(|name| {
            named.contains(name)
                && (limits.get(*name).is_some_and(|q| is_set(&q.0))
                    || requests.get(*name).is_some_and(|q| is_set(&q.0)))
        });
        guaranteed &= COUNTED.iter().all(|name| match (limits.get(*name), requests.get(*name)) {
            (Some(limit), request) => {
                is_set(&limit.0)
                    && request.is_none_or(|r| crate::quantity::parse(&r.0) == crate::quantity::parse(&limit.0))
            }
            (None, _) => false,
        });
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// The seconds that the pod's containers get to end by themselves.
pub(crate) fn grace_seconds(pod: &Pod) -> i64 {
    pod.metadata
        .deletion_grace_period_seconds
        .or_else(|| pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds))
        .unwrap_or(30)
        .max(0)
}
