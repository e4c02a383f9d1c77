//! What the runtime tells about sandboxes and containers.

use api::cri::{
    Container as ListedContainer, ContainerFilter, ContainerResources, ContainerState, ContainerStatus, ContainerUser,
    ImageSpec, LinuxContainerUser, LinuxPodSandboxStatus, Namespace, PodIp, PodSandbox, PodSandboxFilter,
    PodSandboxNetworkStatus, PodSandboxState, PodSandboxStatus, Signal,
};

use super::Runtime;
use crate::sandboxes::Sandbox;
use crate::tasks::{Container, Phase};

impl Runtime {
    pub(crate) fn sandbox_status_of(&self, sandbox: &Sandbox) -> PodSandboxStatus {
        let state = state_of(sandbox);
        let record = sandbox.record.lock();
        let mut addresses = record.addresses.iter().map(ToString::to_string);
        let options =
            record.config.linux.as_ref().and_then(|it| it.security_context.as_ref()?.namespace_options.clone());
        PodSandboxStatus {
            id: sandbox.id.clone(),
            metadata: record.config.metadata.clone(),
            state: state as i32,
            created_at: record.created_at,
            network: Some(PodSandboxNetworkStatus {
                ip: addresses.next().unwrap_or_default(),
                additional_ips: addresses.map(|ip| PodIp { ip }).collect(),
            }),
            linux: Some(LinuxPodSandboxStatus { namespaces: Some(Namespace { options }) }),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            runtime_handler: record.runtime_handler.clone(),
        }
    }

    pub(crate) fn listed_sandbox(&self, sandbox: &Sandbox) -> PodSandbox {
        let status = self.sandbox_status_of(sandbox);
        PodSandbox {
            id: status.id,
            metadata: status.metadata,
            state: status.state,
            created_at: status.created_at,
            labels: status.labels,
            annotations: status.annotations,
            runtime_handler: status.runtime_handler,
        }
    }

    pub(crate) fn container_status_of(&self, container: &Container) -> ContainerStatus {
        let sandbox = self.sandboxes.lock().get(&container.sandbox).cloned();
        let logs = sandbox.map(|it| it.record.lock().config.log_directory.clone()).unwrap_or_default();
        let record = container.record.lock().clone();
        let image = self.images.find(&record.image);
        let digest = image.and_then(|it| it.digests.first().cloned());
        let linux = LinuxContainerUser {
            uid: record.user.uid.into(),
            gid: record.user.gid.into(),
            supplemental_groups: record.user.groups.iter().map(|it| (*it).into()).collect(),
        };
        let mut status = ContainerStatus {
            id: container.id.clone(),
            metadata: record.config.metadata.clone(),
            created_at: record.created_at,
            started_at: record.started_at.filter(|_| record.start_error.is_none()).unwrap_or(0),
            image: record.config.image.clone(),
            image_ref: digest.unwrap_or_else(|| record.image.clone()),
            image_id: record.image.clone(),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            mounts: record.config.mounts.clone(),
            log_path: match record.config.log_path.as_str() {
                "" => String::new(),
                path => std::path::Path::new(&logs).join(path).to_string_lossy().into_owned(),
            },
            resources: Some(ContainerResources { linux: Some(record.resources.clone()) }),
            user: Some(ContainerUser { linux: Some(linux) }),
            stop_signal: signal(self.stop_signal(container)) as i32,
            ..ContainerStatus::default()
        };
        match container.phase() {
            Phase::Created => status.started_at = 0,
            Phase::Running { .. } => {}
            Phase::Ended(ended) => {
                status.finished_at = ended.finished_at;
                status.exit_code = ended.code;
                ended.reason.clone_into(&mut status.reason);
                status.message = ended.message;
            }
        }
        status.state = container_state(container) as i32;
        status
    }

    pub(crate) fn listed_container(&self, container: &Container) -> ListedContainer {
        let record = container.record.lock();
        ListedContainer {
            id: container.id.clone(),
            pod_sandbox_id: container.sandbox.clone(),
            metadata: record.config.metadata.clone(),
            image: record.config.image.clone().or_else(|| Some(ImageSpec::default())),
            image_ref: record.image.clone(),
            image_id: record.image.clone(),
            state: container_state(container) as i32,
            created_at: record.created_at,
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
        }
    }
}

pub(super) fn state_of(sandbox: &Sandbox) -> PodSandboxState {
    if sandbox.ready() { PodSandboxState::Ready } else { PodSandboxState::NotReady }
}

fn container_state(container: &Container) -> ContainerState {
    match container.phase() {
        Phase::Created => ContainerState::Created,
        Phase::Running { .. } => ContainerState::Running,
        Phase::Ended(_) => ContainerState::Exited,
    }
}

fn signal(number: i32) -> Signal {
    Signal::parse(&number.to_string()).unwrap_or(Signal::Sigterm)
}

pub(super) fn matches_sandbox(filter: Option<&PodSandboxFilter>, sandbox: &PodSandbox) -> bool {
    filter.is_none_or(|filter| {
        sandbox.id.starts_with(&filter.id)
            && filter.state.as_ref().is_none_or(|it| it.state == sandbox.state)
            && filter.label_selector.iter().all(|(name, value)| sandbox.labels.get(name) == Some(value))
    })
}

pub(super) fn matches_container(filter: Option<&ContainerFilter>, container: &ListedContainer) -> bool {
    filter.is_none_or(|filter| {
        container.id.starts_with(&filter.id)
            && container.pod_sandbox_id.starts_with(&filter.pod_sandbox_id)
            && filter.state.as_ref().is_none_or(|it| it.state == container.state)
            && filter.label_selector.iter().all(|(name, value)| container.labels.get(name) == Some(value))
    })
}
