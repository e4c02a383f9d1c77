//! A container's spec as the configuration that the runtime makes it from. Pure.

use std::collections::BTreeMap;

use api::cri::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, LinuxContainerResources, Mount,
    Signal,
};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::plan;
use super::security::{self, ImageUser};
use super::spec;
use crate::env::expand::expand;
use crate::names;

/// What a container is made from, beyond its spec.
pub(crate) struct Parts {
    pub(crate) attempt: u32,
    /// The ID by which the runtime knows the image.
    pub(crate) image_ref: String,
    pub(crate) image_user: ImageUser,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) resources: LinuxContainerResources,
    /// Where the spec names no profile, the runtime's own is used.
    pub(crate) seccomp_default: bool,
    /// The container whose processes an ephemeral container is to see.
    pub(crate) target: Option<String>,
    /// Groups that the pod's volumes give to its processes.
    pub(crate) groups: Vec<i64>,
}

pub(crate) fn config(pod: &Pod, container: &Container, parts: Parts) -> ContainerConfig {
    let spec = spec::spec(pod);
    let image = container.image.clone().unwrap_or_default();
    let lookup = |name: &str| parts.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let expanded = |list: &Option<Vec<String>>| list.iter().flatten().map(|text| expand(text, lookup)).collect();
    let (target, seccomp) = (parts.target.as_deref(), parts.seccomp_default);
    let mut security = security::context(&spec, container, &parts.image_user, target, seccomp);
    security.supplemental_groups.extend(parts.groups);
    let stop_signal = container.lifecycle.as_ref().and_then(|it| it.stop_signal.as_deref()).and_then(Signal::parse);
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: parts.attempt }),
        image: Some(ImageSpec { image: parts.image_ref, user_specified_image: image, ..ImageSpec::default() }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        labels: labels(pod, container),
        annotations: annotations(container, parts.attempt),
        log_path: format!("{}/{}.log", container.name, parts.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(LinuxContainerConfig { resources: Some(parts.resources), security_context: Some(security) }),
        envs: parts.environment.into_iter().map(|(key, value)| KeyValue { key, value: value.into() }).collect(),
        mounts: parts.mounts,
        stop_signal: stop_signal.unwrap_or(Signal::RuntimeDefault).into(),
        ..ContainerConfig::default()
    }
}

fn labels(pod: &Pod, container: &Container) -> BTreeMap<String, String> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let meta = &pod.metadata;
    [
        (names::POD_NAME, text(&meta.name)),
        (names::POD_NAMESPACE, text(&meta.namespace)),
        (names::POD_UID, text(&meta.uid)),
        (names::CONTAINER_NAME, container.name.clone()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn annotations(container: &Container, attempt: u32) -> BTreeMap<String, String> {
    let path = message_path(container);
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    [
        (names::CONTAINER_HASH, plan::fingerprint(container)),
        (names::RESTART_COUNT, attempt.to_string()),
        (names::TERMINATION_MESSAGE_PATH, path.to_owned()),
        (names::TERMINATION_MESSAGE_POLICY, policy.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Where the container leaves its last words.
pub(crate) fn message_path(container: &Container) -> &str {
    container.termination_message_path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/dev/termination-log")
}
