//! What others may ask of a running agent: logs, processes in containers, ports, figures.
//!
//! The kubelet's HTTPS API is made of this, and so is whatever reaches the agent by another way: in the server's own
//! process, or through an agent's tunnel.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::cri::streaming::Streams;
use api::cri::streams::{Connection, Session};
use api::cri::{self, AttachRequest, ContainerStats, ExecRequest, ListContainerStatsRequest};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use futures::{FutureExt as _, future};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::config::Config;
use crate::context::Context;
use crate::logs::{self, Ends, LogOptions};
use crate::pods::manager::Pods;
use crate::pods::observed::{Container, Observed, State};
use crate::pods::spec;
use crate::runtime::{Runtime, known};
use crate::volumes::claims::claim_of;

/// Why something cannot be had; the words are upstream's.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    #[error("pod \"{namespace}/{name}\" not found")]
    NoPod { namespace: String, name: String },
    #[error("container \"{container}\" not found in pod \"{pod}\"")]
    NoContainer { pod: String, container: String },
    #[error("container \"{container}\" in pod \"{pod}\" is waiting to start: {reason}")]
    Waiting { pod: String, container: String, reason: String },
    #[error("previous terminated container \"{container}\" in pod \"{pod}\" not found")]
    NoPrevious { pod: String, container: String },
    #[error("container \"{container}\" in pod \"{pod}\" is not running")]
    NotRunning { pod: String, container: String },
    #[error("failed to open the log of container \"{container}\": {source}")]
    Log { container: String, source: io::Error },
    #[error("{0}")]
    Runtime(#[from] cri::Error),
}

impl HandleError {
    /// The HTTP status code that says the same.
    pub fn code(&self) -> u16 {
        match self {
            Self::NoPod { .. } | Self::NoContainer { .. } => 404,
            Self::Waiting { .. } | Self::NoPrevious { .. } | Self::NotRunning { .. } => 400,
            Self::Log { .. } | Self::Runtime(_) => 500,
        }
    }
}

/// A pod, and where it has one a UID that it must have.
#[derive(Clone, Debug, Default)]
pub struct PodName {
    pub namespace: String,
    pub name: String,
    pub uid: Option<String>,
}

/// What a running agent can be asked. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    context: Arc<Context>,
    pods: Pods,
}

impl Handle {
    pub(crate) fn new(context: Arc<Context>, pods: Pods) -> Self {
        Self { context, pods }
    }

    /// The pods of the node as its workers know them.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.pods.list()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.context.config
    }

    /// A container's log, from now on or as it is.
    pub async fn logs(
        &self,
        pod: &PodName,
        container: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, HandleError> {
        let (pod, observed) = self.observe(pod).await?;
        let name = pod.metadata.name.clone().unwrap_or_default();
        if spec::find(&spec::spec(&pod), container).is_none() {
            return Err(HandleError::NoContainer { pod: name, container: container.to_owned() });
        }
        let chosen = if options.previous {
            previous(&pod, &observed, container)
                .ok_or_else(|| HandleError::NoPrevious { pod: name.clone(), container: container.to_owned() })?
        } else {
            let begun = observed.history(container).into_iter().find(|it| it.state != State::Created);
            begun.ok_or_else(|| HandleError::Waiting {
                pod: name.clone(),
                container: container.to_owned(),
                reason: waiting_reason(&pod, container),
            })?
        };
        let ends = match (options.follow, chosen.state) {
            (true, State::Running) => ended(self.context.runtime.clone(), chosen.id.clone()).await?,
            _ => future::ready(()).boxed(),
        };
        logs::open(Path::new(&chosen.log_path), options, ends)
            .map_err(|source| HandleError::Log { container: container.to_owned(), source })
    }

    /// Runs a process in a container.
    pub async fn exec(
        &self,
        pod: &PodName,
        container: &str,
        command: Vec<String>,
        streams: Streams,
    ) -> Result<Session, HandleError> {
        let running = self.running(pod, container).await?;
        let request = ExecRequest {
            container_id: running.id,
            cmd: command,
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr && !streams.tty,
        };
        Ok(self.context.runtime.service.exec(request).await?)
    }

    /// Joins a container's own process.
    pub async fn attach(&self, pod: &PodName, container: &str, streams: Streams) -> Result<Session, HandleError> {
        let running = self.running(pod, container).await?;
        // The terminal is the container's, whatever the client thinks.
        let known = self.find(pod)?;
        let tty = spec::find(&spec::spec(&known), container).is_some_and(|(_, it)| it.tty == Some(true));
        let request = AttachRequest {
            container_id: running.id,
            stdin: streams.stdin,
            tty,
            stdout: streams.stdout,
            stderr: streams.stderr && !tty,
        };
        Ok(self.context.runtime.service.attach(request).await?)
    }

    /// One connection to a port of a pod.
    pub async fn port_forward(&self, pod: &PodName, port: u16) -> Result<Connection, HandleError> {
        let (known, observed) = self.observe(pod).await?;
        let Some(sandbox) = observed.ready_sandbox() else {
            let name = known.metadata.name.clone().unwrap_or_default();
            return Err(HandleError::NotRunning { pod: name, container: "sandbox".to_owned() });
        };
        Ok(self.context.runtime.service.port_forward(&sandbox.id, port).await?)
    }

    /// What containers use, by pod.
    pub(crate) async fn stats(&self) -> Result<Vec<(Arc<Pod>, Vec<ContainerStats>)>, HandleError> {
        let answer = self.context.runtime.service.list_container_stats(ListContainerStatsRequest::default()).await?;
        let mut by_pod: BTreeMap<String, Vec<ContainerStats>> = BTreeMap::new();
        for stats in answer.stats {
            let uid = stats.attributes.as_ref().and_then(|it| known(&it.labels)).map(|it| it.uid);
            by_pod.entry(uid.unwrap_or_default()).or_default().push(stats);
        }
        let pods = self.pods.list().into_iter();
        let with = |pod: Arc<Pod>| {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            by_pod.remove(&uid).map(|stats| (pod, stats))
        };
        Ok(pods.filter_map(with).collect())
    }

    /// A pod's volumes that are claimed and can be measured: its name for each, the claim's, and where it is.
    pub(crate) fn claimed_volumes(&self, pod: &Pod) -> Vec<(String, String, PathBuf)> {
        let mut paths = self.context.volumes.measured(pod.metadata.uid.as_deref().unwrap_or_default());
        let spec = spec::spec(pod);
        let volumes = spec.volumes.iter().flatten();
        volumes
            .filter_map(|volume| Some((volume.name.clone(), claim_of(pod, volume)?, paths.remove(&volume.name)?)))
            .collect()
    }

    pub(crate) fn find(&self, pod: &PodName) -> Result<Arc<Pod>, HandleError> {
        self.pods
            .find(&pod.namespace, &pod.name, pod.uid.as_deref())
            .ok_or_else(|| HandleError::NoPod { namespace: pod.namespace.clone(), name: pod.name.clone() })
    }

    async fn observe(&self, pod: &PodName) -> Result<(Arc<Pod>, Observed), HandleError> {
        let pod = self.find(pod)?;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let observed = self.context.runtime.observe(&uid).await?;
        Ok((pod, observed))
    }

    async fn running(&self, pod: &PodName, container: &str) -> Result<Container, HandleError> {
        let (known, observed) = self.observe(pod).await?;
        let name = known.metadata.name.clone().unwrap_or_default();
        if spec::find(&spec::spec(&known), container).is_none() {
            return Err(HandleError::NoContainer { pod: name, container: container.to_owned() });
        }
        let newest = observed.newest(container).filter(|it| it.state == State::Running).cloned();
        newest.ok_or(HandleError::NotRunning { pod: name, container: container.to_owned() })
    }
}

fn status_of<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|it| it.name == container)
}

fn waiting_reason(pod: &Pod, container: &str) -> String {
    let waiting = status_of(pod, container).and_then(|it| it.state.as_ref()?.waiting.as_ref()?.reason.clone());
    waiting.unwrap_or_else(|| "ContainerCreating".to_owned())
}

/// The container that the status calls the last one; else the one before the newest.
fn previous<'a>(pod: &Pod, observed: &'a Observed, container: &str) -> Option<&'a Container> {
    let told =
        status_of(pod, container).and_then(|it| it.last_state.as_ref()?.terminated.as_ref()?.container_id.clone());
    let told = told.as_deref().and_then(|id| id.split("://").nth(1));
    let history = observed.history(container);
    let by_id = told.and_then(|id| history.iter().find(|it| it.id == id).copied());
    by_id.or_else(|| history.get(1).copied())
}

/// Completes when a container that runs has ended: looked at after each event of its runtime.
async fn ended(runtime: Runtime, id: String) -> Result<Ends, HandleError> {
    let mut events = runtime.service.container_events().await?;
    Ok(async move {
        loop {
            let request = cri::ContainerStatusRequest { container_id: id.clone(), verbose: false };
            let status = runtime.service.container_status(request).await.ok().and_then(|it| it.status);
            if status.is_none_or(|it| it.state() != cri::ContainerState::Running) || events.next().await.is_none() {
                return;
            }
        }
    }
    .boxed())
}
