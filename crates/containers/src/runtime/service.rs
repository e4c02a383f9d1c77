//! CRI's two services, as the kubelet calls them in process.

use std::sync::Arc;
use std::time::Duration;

use api::cri::streams::{Connection, Session};
use api::cri::*;
use futures::stream::{self, BoxStream, StreamExt};
use futures::{FutureExt, future};
use tokio::sync::broadcast::error::RecvError;

use super::Runtime;
use super::status::{matches_container, matches_sandbox};
use crate::images::registry::{Credentials, Reason};
use crate::images::{Image as StoredImage, names};
use crate::shim::protocol::Call;

/// The services of a [`Runtime`]: what to hand to a kubelet.
#[derive(Clone)]
pub struct Services(pub Arc<Runtime>);

/// An answer that needed no waiting.
fn now<'a, T: Send + 'a>(result: Result<T>) -> Reply<'a, T> {
    future::ready(result).boxed()
}

impl RuntimeService for Services {
    fn version(&self, request: VersionRequest) -> Reply<'_, VersionResponse> {
        now(Ok(VersionResponse {
            version: Some(request.version).filter(|it| !it.is_empty()).unwrap_or_else(|| "0.1.0".to_owned()),
            runtime_name: "k3rs".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> Reply<'_, RunPodSandboxResponse> {
        async move { Ok(RunPodSandboxResponse { pod_sandbox_id: self.0.run_sandbox(request).await? }) }.boxed()
    }

    fn stop_pod_sandbox(&self, request: StopPodSandboxRequest) -> Reply<'_, StopPodSandboxResponse> {
        async move { self.0.stop_sandbox(&request.pod_sandbox_id).await.map(|()| StopPodSandboxResponse {}) }.boxed()
    }

    fn remove_pod_sandbox(&self, request: RemovePodSandboxRequest) -> Reply<'_, RemovePodSandboxResponse> {
        async move {
            self.0.remove_sandbox(&request.pod_sandbox_id).await?;
            Ok(RemovePodSandboxResponse {})
        }
        .boxed()
    }

    fn pod_sandbox_status(&self, request: PodSandboxStatusRequest) -> Reply<'_, PodSandboxStatusResponse> {
        now(self.0.sandbox(&request.pod_sandbox_id).map(|sandbox| PodSandboxStatusResponse {
            status: Some(self.0.sandbox_status_of(&sandbox)),
            info: Default::default(),
            containers_statuses: {
                let containers = self.0.containers_of(&sandbox.id);
                containers.iter().map(|it| self.0.container_status_of(it)).collect()
            },
            timestamp: crate::records::now(),
        }))
    }

    fn list_pod_sandbox(&self, request: ListPodSandboxRequest) -> Reply<'_, ListPodSandboxResponse> {
        let sandboxes: Vec<_> = self.0.sandboxes.lock().values().cloned().collect();
        let items = sandboxes.iter().map(|it| self.0.listed_sandbox(it));
        let items = items.filter(|it| matches_sandbox(request.filter.as_ref(), it)).collect();
        now(Ok(ListPodSandboxResponse { items }))
    }

    fn create_container(&self, request: CreateContainerRequest) -> Reply<'_, CreateContainerResponse> {
        now(self.0.create(request).map(|container_id| CreateContainerResponse { container_id }))
    }

    fn start_container(&self, request: StartContainerRequest) -> Reply<'_, StartContainerResponse> {
        async move { self.0.start(&request.container_id).await.map(|()| StartContainerResponse {}) }.boxed()
    }

    fn stop_container(&self, request: StopContainerRequest) -> Reply<'_, StopContainerResponse> {
        async move {
            if let Ok(container) = self.0.container(&request.container_id) {
                let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
                self.0.stop(&container, grace).await?;
            }
            Ok(StopContainerResponse {})
        }
        .boxed()
    }

    fn remove_container(&self, request: RemoveContainerRequest) -> Reply<'_, RemoveContainerResponse> {
        async move {
            if let Ok(container) = self.0.container(&request.container_id) {
                self.0.remove(&container).await?;
                self.0.rates.forget(&container.id);
            }
            Ok(RemoveContainerResponse {})
        }
        .boxed()
    }

    fn list_containers(&self, request: ListContainersRequest) -> Reply<'_, ListContainersResponse> {
        let containers: Vec<_> = self.0.containers.lock().values().cloned().collect();
        let listed = containers.iter().map(|it| self.0.listed_container(it));
        let containers = listed.filter(|it| matches_container(request.filter.as_ref(), it)).collect();
        now(Ok(ListContainersResponse { containers }))
    }

    fn container_status(&self, request: ContainerStatusRequest) -> Reply<'_, ContainerStatusResponse> {
        now(self.0.container(&request.container_id).map(|container| ContainerStatusResponse {
            status: Some(self.0.container_status_of(&container)),
            info: Default::default(),
        }))
    }

    fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> Reply<'_, UpdateContainerResourcesResponse> {
        now(self.0.update(&request.container_id, request.linux).map(|()| UpdateContainerResourcesResponse {}))
    }

    fn update_pod_sandbox_resources(
        &self,
        request: UpdatePodSandboxResourcesRequest,
    ) -> Reply<'_, UpdatePodSandboxResourcesResponse> {
        now(self.0.sandbox(&request.pod_sandbox_id).and_then(|sandbox| {
            let mut config = sandbox.record.lock().config.clone();
            if let Some(linux) = config.linux.as_mut() {
                linux.resources = request.resources;
            }
            self.0.limit_pod(&config).map_err(|error| Error::internal(error.to_string()))?;
            sandbox.record.lock().config = config;
            sandbox.save()?;
            Ok(UpdatePodSandboxResourcesResponse {})
        }))
    }

    fn reopen_container_log(&self, request: ReopenContainerLogRequest) -> Reply<'_, ReopenContainerLogResponse> {
        async move {
            let container = self.0.container(&request.container_id)?;
            let client = self.0.sandbox(&container.sandbox)?.client()?;
            let reopened = client.call(Call::ReopenLog { container: container.id.clone() }).await;
            reopened.map_err(|error| Error::precondition(error.to_string()))?;
            Ok(ReopenContainerLogResponse {})
        }
        .boxed()
    }

    fn exec_sync(&self, request: ExecSyncRequest) -> Reply<'_, ExecSyncResponse> {
        async move { self.0.exec_sync(request).await }.boxed()
    }

    fn exec(&self, request: ExecRequest) -> Reply<'_, Session> {
        async move { self.0.exec_session(request).await }.boxed()
    }

    fn attach(&self, request: AttachRequest) -> Reply<'_, Session> {
        async move { self.0.attach_session(request).await }.boxed()
    }

    fn port_forward<'a>(&'a self, pod_sandbox_id: &'a str, port: u16) -> Reply<'a, Connection> {
        self.0.connect_port(pod_sandbox_id, port).boxed()
    }

    fn container_stats(&self, request: ContainerStatsRequest) -> Reply<'_, ContainerStatsResponse> {
        let stats = self.0.container(&request.container_id).and_then(|it| self.0.container_stats_of(&it));
        now(stats.map(|stats| ContainerStatsResponse { stats }))
    }

    fn list_container_stats(&self, request: ListContainerStatsRequest) -> Reply<'_, ListContainerStatsResponse> {
        let filter = request.filter.map(|it| ContainerFilter {
            id: it.id,
            state: None,
            pod_sandbox_id: it.pod_sandbox_id,
            label_selector: it.label_selector,
        });
        let containers: Vec<_> = self.0.containers.lock().values().cloned().collect();
        let wanted = containers.iter().filter(|it| matches_container(filter.as_ref(), &self.0.listed_container(it)));
        // A container that ends while it is measured is left out.
        let stats = wanted.filter_map(|it| self.0.container_stats_of(it).ok().flatten()).collect();
        now(Ok(ListContainerStatsResponse { stats }))
    }

    fn pod_sandbox_stats(&self, request: PodSandboxStatsRequest) -> Reply<'_, PodSandboxStatsResponse> {
        let stats = self.0.sandbox(&request.pod_sandbox_id).and_then(|it| self.0.sandbox_stats_of(&it));
        now(stats.map(|stats| PodSandboxStatsResponse { stats: Some(stats) }))
    }

    fn list_pod_sandbox_stats(&self, request: ListPodSandboxStatsRequest) -> Reply<'_, ListPodSandboxStatsResponse> {
        let filter =
            request.filter.map(|it| PodSandboxFilter { id: it.id, state: None, label_selector: it.label_selector });
        let sandboxes: Vec<_> = self.0.sandboxes.lock().values().cloned().collect();
        let wanted = sandboxes.iter().filter(|it| matches_sandbox(filter.as_ref(), &self.0.listed_sandbox(it)));
        let stats = wanted.filter_map(|it| self.0.sandbox_stats_of(it).ok()).collect();
        now(Ok(ListPodSandboxStatsResponse { stats }))
    }

    /// The pod CIDR is the network's business, which watches the node itself.
    fn update_runtime_config(&self, _: UpdateRuntimeConfigRequest) -> Reply<'_, UpdateRuntimeConfigResponse> {
        now(Ok(UpdateRuntimeConfigResponse {}))
    }

    fn status(&self, _: StatusRequest) -> Reply<'_, StatusResponse> {
        let condition = |name: &str, reason: &str, unready: Option<String>| RuntimeCondition {
            r#type: name.to_owned(),
            status: unready.is_none(),
            reason: unready.as_ref().map(|_| reason.to_owned()).unwrap_or_default(),
            message: unready.unwrap_or_default(),
        };
        let network = self.0.config.network.unready();
        let features = RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces: false };
        now(Ok(StatusResponse {
            status: Some(RuntimeStatus {
                conditions: vec![
                    condition("RuntimeReady", "RuntimeNotReady", None),
                    condition("NetworkReady", "NetworkPluginNotReady", network),
                ],
            }),
            info: Default::default(),
            runtime_handlers: vec![RuntimeHandler { name: String::new(), features: Some(features) }],
            features: Some(RuntimeFeatures { supplemental_groups_policy: true, user_namespaces_host_network: false }),
        }))
    }

    fn runtime_config(&self, _: RuntimeConfigRequest) -> Reply<'_, RuntimeConfigResponse> {
        let linux = LinuxRuntimeConfiguration { cgroup_driver: CgroupDriver::Cgroupfs as i32 };
        now(Ok(RuntimeConfigResponse { linux: Some(linux) }))
    }

    fn container_events(&self) -> Reply<'_, BoxStream<'static, Result<ContainerEventResponse>>> {
        let receiver = self.0.events.subscribe();
        let events = stream::unfold(Some(receiver), |receiver| async move {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Ok(event) => Some((Ok(event), Some(receiver))),
                Err(RecvError::Lagged(lost)) => {
                    let text = format!("{lost} events were lost: list, and subscribe again");
                    Some((Err(Error::new(Code::ResourceExhausted, text)), None))
                }
                Err(RecvError::Closed) => None,
            }
        });
        now(Ok(events.boxed()))
    }
}

impl Services {
    fn image_of(&self, image: &StoredImage) -> Image {
        let user = self.0.images.configuration(image).ok().and_then(|it| it.config).map(|it| it.user);
        let user = user.unwrap_or_default();
        let user = user.split(':').next().unwrap_or_default();
        let uid = user.parse::<i64>().ok();
        Image {
            id: image.id.clone(),
            repo_tags: image.tags.iter().cloned().collect(),
            repo_digests: image.digests.iter().cloned().collect(),
            size: image.size,
            uid: uid.or(user.is_empty().then_some(0)).map(|value| Int64Value { value }),
            username: if uid.is_none() { user.to_owned() } else { String::new() },
            spec: Some(ImageSpec { image: image.id.clone(), ..ImageSpec::default() }),
            // No registry is known that would give it again.
            pinned: !image.pulled,
        }
    }
}

/// The credentials of a request, where they are for the image's registry.
fn credentials(auth: Option<AuthConfig>, name: &names::Reference) -> Result<Option<Credentials>> {
    let Some(auth) = auth else { return Ok(None) };
    let (registry, _) = name.place();
    let stated = auth.server_address.split_once("://").map_or(&*auth.server_address, |it| it.1);
    let stated = match stated.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => names::DOCKER,
        host => host,
    };
    if !stated.is_empty() && stated != registry {
        return Ok(None);
    }
    Credentials::of(&auth.username, &auth.password, &auth.auth, &auth.identity_token, &auth.registry_token)
        .map_err(|why| Error::invalid(format!("the credentials for {registry} cannot be used: {why}")))
}

impl ImageService for Services {
    fn list_images(&self, request: ListImagesRequest) -> Reply<'_, ListImagesResponse> {
        let wanted = request.filter.and_then(|it| it.image).map(|it| it.image).filter(|it| !it.is_empty());
        let images = match wanted {
            Some(reference) => self.0.images.find(&reference).into_iter().collect(),
            None => self.0.images.list(),
        };
        now(Ok(ListImagesResponse { images: images.iter().map(|it| self.image_of(it)).collect() }))
    }

    fn image_status(&self, request: ImageStatusRequest) -> Reply<'_, ImageStatusResponse> {
        let reference = request.image.map(|it| it.image).unwrap_or_default();
        let image = self.0.images.find(&reference).map(|it| self.image_of(&it));
        now(Ok(ImageStatusResponse { image, info: Default::default() }))
    }

    /// An image that was imported is the answer to every policy, since somebody gave it to this node. One that was
    /// pulled is asked for again: whether it has changed, and whether this pod may have it, its registry knows.
    fn pull_image(&self, request: PullImageRequest) -> Reply<'_, PullImageResponse> {
        let reference = request.image.map(|it| it.image).unwrap_or_default();
        let Some(name) = names::Reference::parse(&reference) else {
            return now(Err(Error::invalid(format!("failed to parse image name {reference:?}"))));
        };
        let found = self.0.images.find(&reference);
        let puller = match (&self.0.puller, found) {
            (Some(puller), found) if found.as_ref().is_none_or(|it| it.pulled && it.id != reference) => puller,
            (_, Some(image)) => return now(Ok(PullImageResponse { image_ref: image.id })),
            _ => {
                return now(Err(Error::not_found(format!(
                    "failed to pull image \"{reference}\": it is not on this node, and registries are not asked: \
                     import it as an archive"
                ))));
            }
        };
        async move {
            let pod = credentials(request.auth, &name)?;
            let pulled = puller.pull(&name, pod.as_ref()).await;
            pulled.map(|it| PullImageResponse { image_ref: it.id }).map_err(|why| {
                let code = match why.reason {
                    Reason::NotFound => Code::NotFound,
                    Reason::Denied => Code::PermissionDenied,
                    Reason::Unavailable => Code::Unavailable,
                    Reason::Unusable => Code::FailedPrecondition,
                    Reason::Node => Code::Internal,
                };
                Error::new(code, why.to_string())
            })
        }
        .boxed()
    }

    fn remove_image(&self, request: RemoveImageRequest) -> Reply<'_, RemoveImageResponse> {
        let reference = request.image.map(|it| it.image).unwrap_or_default();
        let images = Arc::clone(&self.0.images);
        async move {
            let removed = tokio::task::spawn_blocking(move || images.remove(&reference)).await;
            let removed = removed.map_err(|error| Error::internal(error.to_string()))?;
            removed.map(|()| RemoveImageResponse {}).map_err(|error| Error::internal(error.to_string()))
        }
        .boxed()
    }

    fn image_fs_info(&self, _: ImageFsInfoRequest) -> Reply<'_, ImageFsInfoResponse> {
        let usage = self.0.file_system();
        now(Ok(ImageFsInfoResponse { image_filesystems: vec![usage.clone()], container_filesystems: vec![usage] }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_for_the_registry_that_they_name() {
        let found = |address: &str, image: &str| {
            let auth = AuthConfig {
                username: "me".to_owned(),
                password: "secret".to_owned(),
                server_address: address.to_owned(),
                ..AuthConfig::default()
            };
            credentials(Some(auth), &names::Reference::parse(image).unwrap()).unwrap().is_some()
        };
        assert!(found("", "quay.io/a/b"));
        assert!(found("https://index.docker.io/v1/", "web"));
        assert!(found("docker.io", "index.docker.io/me/web"));
        assert!(found("http://localhost:5000", "localhost:5000/web"));
        assert!(!found("quay.io", "web"));
        assert!(!found("quay.io", "quay.io.example.com/a/b"));
    }

    #[test]
    fn input_35_credentials_that_cannot_be_are_refused_without_showing_them() {
        let auth = AuthConfig { username: "me".to_owned(), password: "hunter2\n".to_owned(), ..AuthConfig::default() };
        let why = credentials(Some(auth), &names::Reference::parse("web").unwrap()).unwrap_err().to_string();
        assert!(why.contains("docker.io") && why.contains("password") && !why.contains("hunter2"), "{why}");
    }
}
