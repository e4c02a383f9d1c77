//! The conditions that the node owns, in upstream's words. Others' conditions are passed over.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Input;
use crate::pods::plan::RESIZE;
use crate::pods::resize::DEFERRED;
use crate::pods::spec::{self, Role};

/// A condition's value with its reason and message.
struct Finding {
    kind: &'static str,
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

/// All conditions of the pod: the node's own, made new, and the others as they were.
pub(super) fn conditions(input: &Input<'_>, spec: &PodSpec, status: &PodStatus, old: &PodStatus) -> Vec<PodCondition> {
    let containers_ready = containers_ready(spec, status);
    let findings = [
        Finding {
            kind: "PodReadyToStartContainers",
            status: input.observed.ready_sandbox().is_some(),
            reason: None,
            message: None,
        },
        initialised(spec, status),
        ready(spec, old, &containers_ready),
        containers_ready,
        Finding { kind: "PodScheduled", status: true, reason: None, message: None },
    ];
    let generation = input.pod.metadata.generation;
    let known = old.conditions.as_deref().unwrap_or_default();
    let mut conditions: Vec<PodCondition> =
        findings.into_iter().map(|finding| finding.condition(known, generation, input.now)).collect();
    let ended = input.verdict.filter(|verdict| verdict.disruption && status.phase.as_deref() == Some("Failed"));
    let disrupted = ended.map(|verdict| Finding {
        kind: "DisruptionTarget",
        status: true,
        reason: Some("TerminationByKubelet"),
        message: Some(verdict.message.clone()),
    });
    if let Some(finding) = resizing(input, spec) {
        // Of the generation that asked for it, also if that was granted by an earlier run of the agent.
        let told = known.iter().find(|condition| condition.type_ == RESIZING).and_then(|it| it.observed_generation);
        let asked = input.memory.resize.granted.or(told).or(generation);
        conditions.push(finding.condition(known, asked, input.now));
    }
    conditions.extend(pending(input));
    conditions.extend(disrupted.map(|finding| finding.condition(known, generation, input.now)));
    let own = conditions.len();
    for condition in known {
        let stale = condition.type_ == RESIZING || condition.type_ == PENDING;
        if !stale && !conditions[..own].iter().any(|mine| mine.type_ == condition.type_) {
            conditions.push(condition.clone());
        }
    }
    conditions
}

/// What was given to the pod is not in place yet.
pub(crate) const RESIZING: &str = "PodResizeInProgress";
/// The pod asks for what it cannot have now.
const PENDING: &str = "PodResizePending";

fn pending(input: &Input<'_>) -> Option<PodCondition> {
    let pending = input.memory.resize.pending.as_ref().filter(|_| !input.stopping)?;
    let known = input.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let (reason, message) = (Some(DEFERRED), Some(pending.message.clone()));
    let finding = Finding { kind: PENDING, status: true, reason, message };
    Some(finding.condition(known, pending.generation, input.now))
}

/// Some running container may not use yet what the spec says.
fn resizing(input: &Input<'_>, spec: &PodSpec) -> Option<Finding> {
    let waits = |(role, container): (Role, std::borrow::Cow<'_, Container>)| {
        input.observed.newest(&container.name).is_some_and(|it| it.to_resize(spec, role, &container).is_some())
    };
    if !spec::containers(spec).into_iter().any(waits) {
        return None;
    }
    let failed = input.memory.failed.get(RESIZE);
    let (reason, message) = (failed.map(|_| "Error"), failed.map(|failed| failed.message.clone()));
    Some(Finding { kind: RESIZING, status: true, reason, message })
}

impl Finding {
    /// The time of transition is kept while the value is.
    fn condition(self, known: &[PodCondition], generation: Option<i64>, now: Timestamp) -> PodCondition {
        let status = if self.status { "True" } else { "False" };
        let before = known.iter().find(|condition| condition.type_ == self.kind && condition.status == status);
        let since = before.and_then(|condition| condition.last_transition_time.clone());
        PodCondition {
            type_: self.kind.to_owned(),
            status: status.to_owned(),
            reason: self.reason.map(str::to_owned),
            message: self.message,
            observed_generation: generation,
            last_transition_time: since.or(Some(Time(super::whole_seconds(now)))),
            last_probe_time: None,
        }
    }
}

fn initialised(spec: &PodSpec, status: &PodStatus) -> Finding {
    let kind = "Initialized";
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let statuses = status.init_container_statuses.as_deref().unwrap_or_default();
    if init.is_empty() && status.phase.as_deref() == Some("Succeeded") {
        return Finding { kind, status: true, reason: Some("PodCompleted"), message: None };
    }
    // Once a regular container has begun, the pod stays initialized whatever its sidecars do.
    let begun = status.container_statuses.iter().flatten().any(|it| it.container_id.is_some());
    let incomplete: Vec<&str> = init
        .iter()
        .filter(|container| {
            let status = statuses.iter().find(|status| status.name == container.name);
            match spec::init_role(container) {
                Role::Sidecar => status.is_none_or(|it| it.started != Some(true)),
                _ => !status.is_some_and(|it| it.ready),
            }
        })
        .map(|container| container.name.as_str())
        .collect();
    if incomplete.is_empty() || begun {
        let reason = (status.phase.as_deref() == Some("Succeeded")).then_some("PodCompleted");
        return Finding { kind, status: true, reason, message: None };
    }
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Finding { kind, status: false, reason: Some("ContainersNotInitialized"), message: Some(message) }
}

fn containers_ready(spec: &PodSpec, status: &PodStatus) -> Finding {
    let kind = "ContainersReady";
    match status.phase.as_deref() {
        Some("Succeeded") => return Finding { kind, status: false, reason: Some("PodCompleted"), message: None },
        Some("Failed") => return Finding { kind, status: false, reason: Some("PodFailed"), message: None },
        _ => {}
    }
    let ready = |list: &Option<Vec<ContainerStatus>>, name: &str| {
        list.iter().flatten().find(|status| status.name == name).map(|status| status.ready)
    };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| spec::init_role(c) == Role::Sidecar);
    let each = sidecars
        .map(|c| (&c.name, ready(&status.init_container_statuses, &c.name)))
        .chain(spec.containers.iter().map(|c| (&c.name, ready(&status.container_statuses, &c.name))));
    let unready: Vec<&str> = each.filter(|(_, ready)| *ready != Some(true)).map(|(name, _)| name.as_str()).collect();
    if unready.is_empty() {
        return Finding { kind, status: true, reason: None, message: None };
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Finding { kind, status: false, reason: Some("ContainersNotReady"), message: Some(message) }
}

/// Ready: the containers are, and every readiness gate is.
fn ready(spec: &PodSpec, old: &PodStatus, containers: &Finding) -> Finding {
    let kind = "Ready";
    if !containers.status {
        return Finding { kind, status: false, reason: containers.reason, message: containers.message.clone() };
    }
    let known = old.conditions.as_deref().unwrap_or_default();
    let missing: Vec<String> = spec
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| match known.iter().find(|condition| condition.type_ == gate.condition_type) {
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
            Some(condition) if condition.status != "True" => Some(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                gate.condition_type, condition.status
            )),
            Some(_) => None,
        })
        .collect();
    if missing.is_empty() {
        return Finding { kind, status: true, reason: None, message: None };
    }
    let message = Some(missing.join(", "));
    Finding { kind, status: false, reason: Some("ReadinessGatesNotReady"), message }
}
