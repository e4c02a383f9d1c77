//! A pod's status: computed from its spec and what the runtime says, and patched only where it differs.
//!
//! - [`compute`] is pure: spec, runtime and probes in, a whole `PodStatus` out.
//! - [`containers`] and [`conditions`] are its two halves. The worker patches the difference to what the API server has.

mod conditions;
mod containers;
pub(crate) use conditions::RESIZING;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pods::observed::Observed;
use crate::pods::plan::Memory;
use crate::pods::spec::{self, Role};

pub(crate) struct Input<'a> {
    /// The pod with the status that the API server has.
    pub(crate) pod: &'a Pod,
    pub(crate) observed: &'a Observed,
    pub(crate) memory: &'a Memory,
    /// Why containers wait, by name, as the plan says.
    pub(crate) waiting: &'a BTreeMap<String, (String, String)>,
    /// The node refused the pod, or ended it for a reason of its own.
    pub(crate) verdict: Option<&'a Verdict>,
    /// The pod is being deleted or has ended: what does not run will not run.
    pub(crate) stopping: bool,
    pub(crate) node_ips: &'a [std::net::IpAddr],
    /// The runtime's name, the scheme of container IDs.
    pub(crate) runtime: &'a str,
    pub(crate) now: Timestamp,
}

/// Why a pod failed as a whole: `Evicted`, `DeadlineExceeded`, `OutOfcpu`, ...
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) reason: String,
    pub(crate) message: String,
    /// The pod was ended for the node's sake: the condition DisruptionTarget says so, so that a Job need not count it.
    pub(crate) disruption: bool,
}

impl Verdict {
    pub(crate) fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), disruption: false }
    }
}

/// The status of a pod as the node sees it.
pub(crate) fn compute(input: &Input<'_>) -> PodStatus {
    let pod = input.pod;
    let old = pod.status.clone().unwrap_or_default();
    let spec = spec::spec(pod);
    let lists = containers::statuses(input, &spec, &old);
    // A verdict is told when it has come about: until then the pod is what it was.
    let verdict = input.verdict.filter(|_| !input.observed.any_running());
    let phase = if verdict.is_some() { "Failed" } else { phase(input, &lists, &old) };
    let host_network = spec.host_network == Some(true);
    let ips = pod_ips(input, &old, host_network);
    let host_ips: Vec<String> = input.node_ips.iter().map(ToString::to_string).collect();
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        reason: verdict.map(|verdict| verdict.reason.clone()).or(old.reason.clone()),
        message: verdict.map(|verdict| verdict.message.clone()).or(old.message.clone()),
        host_ip: host_ips.first().cloned(),
        host_ips: Some(host_ips.into_iter().map(|ip| HostIP { ip }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: old.start_time.clone().or(Some(Time(whole_seconds(input.now)))),
        qos_class: old.qos_class.clone().or_else(|| Some(spec::qos_class(&spec).to_owned())),
        observed_generation: pod.metadata.generation,
        container_statuses: some(lists.regular),
        init_container_statuses: some(lists.init),
        ephemeral_container_statuses: some(lists.ephemeral),
        ..old.clone()
    };
    status.conditions = Some(conditions::conditions(input, &spec, &status, &old));
    status
}

fn some(list: Vec<ContainerStatus>) -> Option<Vec<ContainerStatus>> {
    (!list.is_empty()).then_some(list)
}

/// Addresses of the newest sandbox that has some; a pod that has ended keeps the ones it had.
fn pod_ips(input: &Input<'_>, old: &PodStatus, host_network: bool) -> Vec<String> {
    if host_network {
        return input.node_ips.iter().map(ToString::to_string).collect();
    }
    let current = input.observed.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
    if current.is_empty() {
        return old.pod_ips.iter().flatten().map(|it| it.ip.clone()).collect();
    }
    current
}

/// The pod's phase: upstream's `getPhase` with sidecars counted as KEP-753 says.
fn phase(input: &Input<'_>, lists: &containers::Statuses, old: &PodStatus) -> &'static str {
    let spec = spec::spec(input.pod);
    match old.phase.as_deref() {
        Some("Succeeded") => return "Succeeded",
        Some("Failed") => return "Failed",
        _ => {}
    }
    let find = |list: &[ContainerStatus], name: &str| list.iter().find(|status| status.name == name).cloned();
    let mut init_pending = false;
    let mut init_failed = false;
    for container in spec.init_containers.iter().flatten() {
        let status = find(&lists.init, &container.name).unwrap_or_default();
        if spec::init_role(container) == Role::Sidecar {
            init_pending |= !status.started.unwrap_or(false) && terminated(&status).is_none();
            continue;
        }
        match last_exit(&status) {
            Some(0) => {}
            Some(code) if !spec::restarts(&spec, Role::Init, container, code) => init_failed = true,
            _ => init_pending = true,
        }
    }
    let (mut running, mut waiting, mut stopped, mut succeeded, mut for_good) = (0, 0, 0, 0, true);
    for container in &spec.containers {
        let status = find(&lists.regular, &container.name).unwrap_or_default();
        let state = status.state.clone().unwrap_or_default();
        if state.running.is_some() {
            running += 1;
        } else if let Some(exit_code) = last_exit(&status) {
            stopped += 1;
            succeeded += i32::from(exit_code == 0);
            for_good &= !spec::restarts(&spec, Role::Regular, container, exit_code) || input.stopping;
        } else {
            waiting += 1;
        }
    }
    let helpers_run = input.observed.any_running();
    if init_failed {
        return if helpers_run { "Running" } else { "Failed" };
    }
    let begun = running + stopped > 0;
    if (init_pending && !begun) || (waiting > 0 && !input.stopping) || !begun && !input.stopping {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    if for_good && stopped + waiting == spec.containers.len() {
        return match (helpers_run, succeeded == spec.containers.len() as i32) {
            // Its result is told when its sidecars have ended too.
            (true, _) => "Running",
            (false, true) => "Succeeded",
            (false, false) => "Failed",
        };
    }
    "Running"
}

/// The exit code of a container that has ended and does not run again yet.
fn last_exit(status: &ContainerStatus) -> Option<i32> {
    let state = status.state.clone().unwrap_or_default();
    if state.running.is_some() {
        return None;
    }
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    state.terminated.as_ref().or(last).map(|it| it.exit_code)
}

fn terminated(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// Times of the API are whole seconds.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
