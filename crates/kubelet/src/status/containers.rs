//! The status of each container: what it does now, what it did last, how often it was started anew.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, PodSpec, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Input;
use crate::pods::observed::{self, State};
use crate::pods::plan;
use crate::pods::spec::{self, Role};

#[derive(Default)]
pub(super) struct Statuses {
    pub(super) init: Vec<ContainerStatus>,
    pub(super) regular: Vec<ContainerStatus>,
    pub(super) ephemeral: Vec<ContainerStatus>,
}

/// One status for each container of the spec, in its order.
pub(super) fn statuses(input: &Input<'_>, spec: &PodSpec, old: &PodStatus) -> Statuses {
    let mut lists = Statuses::default();
    for (role, container) in spec::containers(spec) {
        let (list, known) = match role {
            Role::Init | Role::Sidecar => (&mut lists.init, &old.init_container_statuses),
            Role::Regular => (&mut lists.regular, &old.container_statuses),
            Role::Ephemeral => (&mut lists.ephemeral, &old.ephemeral_container_statuses),
        };
        let known = known.iter().flatten().find(|status| status.name == container.name);
        list.push(status(input, role, &container, known));
    }
    lists
}

fn status(input: &Input<'_>, role: Role, container: &Container, known: Option<&ContainerStatus>) -> ContainerStatus {
    let history = input.observed.history(&container.name);
    let Some(newest) = history.first() else {
        return unseen(input, container, known);
    };
    let mut state = state_of(input, newest);
    let mut last = history.get(1).and_then(|before| state_of(input, before).terminated);
    // A container that is to run again waits; what it did is its last state.
    if let Some((reason, message)) = input.waiting.get(&container.name) {
        last = state.terminated.take().or(last);
        state = waiting(reason, Some(message.clone()));
    } else if newest.state == State::Created {
        state = not_begun(input);
    }
    let health = input.memory.health.get(&newest.id).copied().unwrap_or_default();
    let running = newest.state == State::Running;
    let hooked = !has_post_start(container) || input.memory.hooked.contains(&newest.id);
    let started = running && hooked && (container.startup_probe.is_none() || health.started);
    let ready = match role {
        Role::Init => newest.state == State::Exited && newest.exit_code == 0,
        Role::Sidecar | Role::Regular => started && (container.readiness_probe.is_none() || health.ready),
        Role::Ephemeral => false,
    };
    let asked = container.resources.clone().filter(|it| it.limits.is_some() || it.requests.is_some());
    let allocated = asked.as_ref().and_then(|it| it.requests.clone());
    // Until it is resized it has what it had.
    let resizing = newest.to_resize(&spec::spec(input.pod), role, container).is_some();
    let resources = known.filter(|_| resizing).map_or(asked, |known| known.resources.clone());
    ContainerStatus {
        name: container.name.clone(),
        image: newest.image.clone(),
        image_id: newest.image_ref.clone(),
        container_id: Some(runtime_id(input, &newest.id)),
        restart_count: i32::try_from(newest.attempt).unwrap_or(i32::MAX),
        ready,
        started: Some(if role == Role::Ephemeral { false } else { started }),
        state: Some(state),
        last_state: Some(ContainerState { terminated: last, ..ContainerState::default() }),
        allocated_resources: allocated,
        resources: resources.or_else(|| (role != Role::Ephemeral).then(Default::default)),
        volume_mounts: mounts(container),
        user: newest.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: *uid,
                gid: *gid,
                supplemental_groups: (!groups.is_empty()).then(|| groups.clone()),
            }),
        }),
        ..ContainerStatus::default()
    }
}

/// The status of a container that the runtime does not have.
fn unseen(input: &Input<'_>, container: &Container, known: Option<&ContainerStatus>) -> ContainerStatus {
    let had_run = known.filter(|known| known.container_id.as_deref().is_some_and(|id| !id.is_empty()));
    if let Some(known) = had_run {
        return vanished(input, container, known);
    }
    let state = match input.waiting.get(&container.name) {
        Some((reason, message)) => waiting(reason, Some(message.clone())),
        None => not_begun(input),
    };
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        started: Some(false),
        state: Some(state),
        last_state: Some(ContainerState::default()),
        volume_mounts: mounts(container),
        ..ContainerStatus::default()
    }
}

/// What every container waits for that has not begun: a pod with init containers is being initialised.
fn not_begun(input: &Input<'_>) -> ContainerState {
    let has_init = spec::spec(input.pod).init_containers.iter().flatten().next().is_some();
    waiting(if has_init { "PodInitializing" } else { "ContainerCreating" }, None)
}

/// A container that ran and of which the runtime knows nothing any more: what is known stays, and if it was
/// running, its end was missed.
fn vanished(input: &Input<'_>, container: &Container, known: &ContainerStatus) -> ContainerStatus {
    let mut status = known.clone();
    let state = known.state.clone().unwrap_or_default();
    let lost = ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        container_id: known.container_id.clone(),
        ..ContainerStateTerminated::default()
    };
    status.ready = known.ready && state.terminated.is_some();
    status.started = Some(false);
    if let Some((reason, message)) = input.waiting.get(&container.name) {
        let last = state.terminated.or_else(|| state.running.is_some().then_some(lost));
        if last.is_some() {
            status.last_state = Some(ContainerState { terminated: last, ..ContainerState::default() });
        }
        status.state = Some(waiting(reason, Some(message.clone())));
    } else if state.terminated.is_none() && input.stopping {
        status.state = Some(ContainerState { terminated: Some(lost), ..ContainerState::default() });
    } else if state.running.is_some() {
        status.last_state = Some(ContainerState { terminated: Some(lost), ..ContainerState::default() });
        status.state = Some(not_begun(input));
    }
    status
}

fn state_of(input: &Input<'_>, container: &observed::Container) -> ContainerState {
    let time = |nanoseconds: i64| (nanoseconds > 0).then(|| Time(super::whole_seconds(plan::timestamp(nanoseconds))));
    match container.state {
        State::Created => ContainerState::default(),
        State::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: time(container.started_at) }),
            ..ContainerState::default()
        },
        State::Exited | State::Unknown => ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: if container.state == State::Unknown { 137 } else { container.exit_code },
                reason: Some(reason(container)),
                message: (!container.message.is_empty()).then(|| container.message.clone()),
                // One that never started has no start; upstream shows the epoch, clients take absent as well.
                started_at: time(container.started_at),
                finished_at: time(container.finished_at),
                container_id: Some(runtime_id(input, &container.id)),
                signal: None,
            }),
            ..ContainerState::default()
        },
    }
}

fn reason(container: &observed::Container) -> String {
    match (container.state, container.reason.as_str(), container.exit_code) {
        (State::Unknown, _, _) => "ContainerStatusUnknown".to_owned(),
        (_, "", 0) => "Completed".to_owned(),
        (_, "", _) => "Error".to_owned(),
        (_, reason, _) => reason.to_owned(),
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..ContainerState::default()
    }
}

fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?.iter().map(|mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| {
            let asked = mount.recursive_read_only.as_deref().unwrap_or("Disabled");
            if asked == "Disabled" { "Disabled" } else { "Enabled" }.to_owned()
        }),
        volume_status: None,
    });
    Some(mounts.collect())
}

fn has_post_start(container: &Container) -> bool {
    container.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some())
}

/// A container's ID as the API shows it. The scheme is the runtime's name; tools cut it off.
fn runtime_id(input: &Input<'_>, id: &str) -> String {
    format!("{}://{id}", input.runtime)
}
