//! The two services as object-safe traits, called in process and over a socket alike.
//!
//! The lists in pages (`Stream...`) are how lists cross a socket, so they are no methods here.

use futures::future::{self, BoxFuture};
use futures::stream::BoxStream;

use super::streams::{Connection, Session};
use super::*;

/// What a call gives.
pub type Reply<'a, T> = BoxFuture<'a, Result<T>>;

/// Sandboxes and containers.
///
/// `stop` and `remove` calls are idempotent: an object that is gone is success. Unknown ids are
/// [`Code::NotFound`] everywhere else. Ids may be shortened to a unique prefix.
pub trait RuntimeService: Send + Sync + 'static {
    fn version(&self, request: VersionRequest) -> Reply<'_, VersionResponse>;

    /// Makes the sandbox and its network; on return it is ready.
    fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> Reply<'_, RunPodSandboxResponse>;

    /// Kills all of its containers and gives the network back. The sandbox can still be asked about.
    fn stop_pod_sandbox(&self, request: StopPodSandboxRequest) -> Reply<'_, StopPodSandboxResponse>;

    /// Removes the sandbox and its containers, stopping them first.
    fn remove_pod_sandbox(&self, request: RemovePodSandboxRequest) -> Reply<'_, RemovePodSandboxResponse>;

    fn pod_sandbox_status(&self, request: PodSandboxStatusRequest) -> Reply<'_, PodSandboxStatusResponse>;

    fn list_pod_sandbox(&self, request: ListPodSandboxRequest) -> Reply<'_, ListPodSandboxResponse>;

    fn create_container(&self, request: CreateContainerRequest) -> Reply<'_, CreateContainerResponse>;

    fn start_container(&self, request: StartContainerRequest) -> Reply<'_, StartContainerResponse>;

    /// Returns when the container has ended: by itself, by the stop signal, or by SIGKILL after the timeout.
    fn stop_container(&self, request: StopContainerRequest) -> Reply<'_, StopContainerResponse>;

    /// Removes the container, killing it first.
    fn remove_container(&self, request: RemoveContainerRequest) -> Reply<'_, RemoveContainerResponse>;

    fn list_containers(&self, request: ListContainersRequest) -> Reply<'_, ListContainersResponse>;

    fn container_status(&self, request: ContainerStatusRequest) -> Reply<'_, ContainerStatusResponse>;

    fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> Reply<'_, UpdateContainerResourcesResponse>;

    fn update_pod_sandbox_resources(
        &self,
        request: UpdatePodSandboxResourcesRequest,
    ) -> Reply<'_, UpdatePodSandboxResourcesResponse>;

    /// Opens the log file anew after the kubelet renamed it.
    fn reopen_container_log(&self, request: ReopenContainerLogRequest) -> Reply<'_, ReopenContainerLogResponse>;

    /// Runs a process to its end. One that outlives its timeout is killed: [`Code::DeadlineExceeded`].
    fn exec_sync(&self, request: ExecSyncRequest) -> Reply<'_, ExecSyncResponse>;

    fn exec(&self, request: ExecRequest) -> Reply<'_, Session>;

    fn attach(&self, request: AttachRequest) -> Reply<'_, Session>;

    /// One connection to a TCP port on the sandbox's loopback interface.
    fn port_forward<'a>(&'a self, pod_sandbox_id: &'a str, port: u16) -> Reply<'a, Connection>;

    fn container_stats(&self, request: ContainerStatsRequest) -> Reply<'_, ContainerStatsResponse>;

    fn list_container_stats(&self, request: ListContainerStatsRequest) -> Reply<'_, ListContainerStatsResponse>;

    fn pod_sandbox_stats(&self, request: PodSandboxStatsRequest) -> Reply<'_, PodSandboxStatsResponse>;

    fn list_pod_sandbox_stats(&self, request: ListPodSandboxStatsRequest) -> Reply<'_, ListPodSandboxStatsResponse>;

    fn update_runtime_config(&self, request: UpdateRuntimeConfigRequest) -> Reply<'_, UpdateRuntimeConfigResponse>;

    fn status(&self, request: StatusRequest) -> Reply<'_, StatusResponse>;

    fn runtime_config(&self, request: RuntimeConfigRequest) -> Reply<'_, RuntimeConfigResponse>;

    /// What happens to containers from now on. The stream ends with an error when its reader falls too far
    /// behind; a reader then lists anew and subscribes again.
    fn container_events(&self) -> Reply<'_, BoxStream<'static, Result<ContainerEventResponse>>>;

    fn checkpoint_container(&self, _: CheckpointContainerRequest) -> Reply<'_, CheckpointContainerResponse> {
        Box::pin(future::ready(Err(Error::unimplemented("CheckpointContainer"))))
    }

    fn list_metric_descriptors(&self, _: ListMetricDescriptorsRequest) -> Reply<'_, ListMetricDescriptorsResponse> {
        Box::pin(future::ready(Err(Error::unimplemented("ListMetricDescriptors"))))
    }

    fn list_pod_sandbox_metrics(&self, _: ListPodSandboxMetricsRequest) -> Reply<'_, ListPodSandboxMetricsResponse> {
        Box::pin(future::ready(Err(Error::unimplemented("ListPodSandboxMetrics"))))
    }
}

/// Images.
pub trait ImageService: Send + Sync + 'static {
    fn list_images(&self, request: ListImagesRequest) -> Reply<'_, ListImagesResponse>;

    /// An image that is not there is an answer without one, not an error.
    fn image_status(&self, request: ImageStatusRequest) -> Reply<'_, ImageStatusResponse>;

    fn pull_image(&self, request: PullImageRequest) -> Reply<'_, PullImageResponse>;

    /// An image that is not there is success.
    fn remove_image(&self, request: RemoveImageRequest) -> Reply<'_, RemoveImageResponse>;

    fn image_fs_info(&self, request: ImageFsInfoRequest) -> Reply<'_, ImageFsInfoResponse>;
}
