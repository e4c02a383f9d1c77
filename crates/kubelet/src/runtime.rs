//! The container runtime as the kubelet uses it: the CRI traits, with what the pods' rooms ask of them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use api::cri::{
    self, ContainerFilter, ContainerState, ContainerStatusRequest, ImageService, ListContainersRequest,
    ListPodSandboxRequest, PodSandboxFilter, PodSandboxState, PodSandboxStatusRequest, RuntimeService,
};

use crate::logs::tail;
use crate::names;
use crate::pods::observed::{Container, Observed, Sandbox, State};

/// A container's last words are cut to this (upstream's limits).
const MESSAGE_BYTES: u64 = 4096;
const LOG_LINES: u64 = 80;
const LOG_BYTES: usize = 2048;

#[derive(Clone)]
pub(crate) struct Runtime {
    pub(crate) service: Arc<dyn RuntimeService>,
    pub(crate) images: Arc<dyn ImageService>,
    /// What the runtime calls itself, and its version.
    pub(crate) name: String,
    pub(crate) version: String,
}

/// A pod that the runtime has something of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Known {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Runtime {
    /// Everything the runtime knows of one pod.
    pub(crate) async fn observe(&self, uid: &str) -> Result<Observed, cri::Error> {
        let label_selector = BTreeMap::from([(names::POD_UID.to_owned(), uid.to_owned())]);
        let filter = PodSandboxFilter { label_selector: label_selector.clone(), ..PodSandboxFilter::default() };
        let listed = self.service.list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) }).await?;
        let mut observed = Observed::default();
        for sandbox in listed.items {
            let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.id, verbose: false };
            match self.service.pod_sandbox_status(request).await {
                Ok(answer) => observed.sandboxes.extend(answer.status.map(sandbox_facts)),
                Err(error) if error.code == cri::Code::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        observed.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at)));
        let filter = ContainerFilter { label_selector, ..ContainerFilter::default() };
        let listed = self.service.list_containers(ListContainersRequest { filter: Some(filter) }).await?;
        for container in listed.containers {
            let request = ContainerStatusRequest { container_id: container.id, verbose: false };
            match self.service.container_status(request).await {
                Ok(answer) => {
                    observed.containers.extend(answer.status.map(|it| facts(it, container.pod_sandbox_id)));
                }
                Err(error) if error.code == cri::Code::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        observed.containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));
        Ok(observed)
    }

    /// All pods that the runtime has something of.
    pub(crate) async fn pods(&self) -> Result<Vec<Known>, cri::Error> {
        let sandboxes = self.service.list_pod_sandbox(ListPodSandboxRequest::default()).await?;
        let containers = self.service.list_containers(ListContainersRequest::default()).await?;
        let labels = sandboxes
            .items
            .into_iter()
            .map(|it| it.labels)
            .chain(containers.containers.into_iter().map(|it| it.labels));
        let mut pods: Vec<Known> = labels.filter_map(|labels| known(&labels)).collect();
        pods.sort();
        pods.dedup();
        Ok(pods)
    }
}

/// The pod that labels name, if they are a kubelet's.
pub(crate) fn known(labels: &BTreeMap<String, String>) -> Option<Known> {
    Some(Known {
        uid: labels.get(names::POD_UID)?.clone(),
        namespace: labels.get(names::POD_NAMESPACE)?.clone(),
        name: labels.get(names::POD_NAME)?.clone(),
    })
}

fn sandbox_facts(status: cri::PodSandboxStatus) -> Sandbox {
    let network = status.network.unwrap_or_default();
    let others = network.additional_ips.into_iter().map(|it| it.ip);
    Sandbox {
        attempt: status.metadata.unwrap_or_default().attempt,
        ready: status.state == i32::from(PodSandboxState::Ready),
        created_at: status.created_at,
        ips: std::iter::once(network.ip).chain(others).filter(|ip| !ip.is_empty()).collect(),
        id: status.id,
    }
}

fn facts(status: cri::ContainerStatus, sandbox: String) -> Container {
    let metadata = status.metadata.clone().unwrap_or_default();
    let state = match ContainerState::try_from(status.state) {
        Ok(ContainerState::Created) => State::Created,
        Ok(ContainerState::Running) => State::Running,
        Ok(ContainerState::Exited) => State::Exited,
        _ => State::Unknown,
    };
    let message = if state == State::Exited { last_words(&status) } else { String::new() };
    let image = status.image.clone().unwrap_or_default();
    let limits = status.resources.as_ref().and_then(|it| it.linux.as_ref()).map(crate::cgroups::Limits::of);
    let user = status.user.and_then(|user| user.linux).map(|it| (it.uid, it.gid, it.supplemental_groups));
    Container {
        id: status.id,
        sandbox,
        name: metadata.name,
        attempt: metadata.attempt,
        state,
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason,
        message,
        image: if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image },
        image_ref: status.image_ref,
        fingerprint: status.annotations.get(names::CONTAINER_HASH).cloned().unwrap_or_default(),
        log_path: status.log_path,
        user,
        limits,
    }
}

/// What a container that ended left: its termination message, or by its policy the end of its log, or what the
/// runtime says.
fn last_words(status: &cri::ContainerStatus) -> String {
    let annotation = |key: &str| status.annotations.get(key).map(String::as_str).unwrap_or_default();
    let path = annotation(names::TERMINATION_MESSAGE_PATH);
    let file = status.mounts.iter().find(|mount| mount.container_path == path).map(|mount| &mount.host_path);
    let left = file.and_then(|file| read_message(Path::new(file))).unwrap_or_default();
    if !left.is_empty() {
        return left;
    }
    let from_log = annotation(names::TERMINATION_MESSAGE_POLICY) == "FallbackToLogsOnError" && status.exit_code != 0;
    if from_log && let Ok(words) = tail::last_words(Path::new(&status.log_path), LOG_LINES, LOG_BYTES) {
        return words;
    }
    status.message.clone()
}

fn read_message(path: &Path) -> Option<String> {
    // The container could write it: it may have become anything.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).ok()?;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(MESSAGE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
