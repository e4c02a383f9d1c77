//! A runtime behind a socket, such as containerd or CRI-O, as the two services that the kubelet calls.
//!
//! The connection is made when it is needed and again when it broke. Limits of time are upstream's
//! (`k8s.io/cri-client`). URLs become streams ([`crate::streaming::dial`]); a runtime that tells no events is looked at
//! instead ([`relist`]).

mod relist;

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::cri::rpc::{self, Rpc};
use api::cri::streams::{Connection, Session};
use api::cri::*;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, TryFutureExt as _};
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::streaming::{Streams, dial};
use crate::{MESSAGE_BYTES, error};

/// For calls that say nothing else (the kubelet's `--runtime-request-timeout`).
const LIMIT: Duration = Duration::from_mins(2);
/// A runtime on the same node accepts at once, or not at all.
const CONNECT: Duration = Duration::from_secs(3);

/// Two sockets of a runtime, or twice the same. Cheap to clone.
#[derive(Clone)]
pub struct Remote {
    runtime: Peer,
    images: Peer,
    tasks: TaskTracker,
    limit: Duration,
}

#[derive(Clone)]
struct Peer {
    path: PathBuf,
    channel: Channel,
}

/// An endpoint that cannot be one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no endpoint of a container runtime: write unix:///PATH/TO/SOCKET")]
pub struct EndpointError(pub String);

/// The socket that an endpoint names: `unix:///PATH`, or its path alone.
pub fn socket_of(endpoint: &str) -> std::result::Result<PathBuf, EndpointError> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    match path.starts_with('/') && path.len() > 1 {
        true => Ok(PathBuf::from(path)),
        false => Err(EndpointError(endpoint.to_owned())),
    }
}

impl Peer {
    fn new(path: PathBuf) -> Self {
        let socket = path.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move {
                let connecting = timeout(CONNECT, UnixStream::connect(&socket)).await;
                connecting.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map(TokioIo::new)
            }
        });
        // The name is only for HTTP's sake.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
        Self { path, channel }
    }

    fn client(&self) -> tonic::client::Grpc<Channel> {
        tonic::client::Grpc::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// What a failed call is to be called: that nobody answers is said with where.
    fn error(&self, status: &tonic::Status) -> Error {
        let mut source = std::error::Error::source(status);
        let Some(transport) = source.filter(|it| it.is::<tonic::transport::Error>()) else { return error(status) };
        let mut deepest = transport.to_string();
        while let Some(why) = source {
            deepest = why.to_string();
            source = why.source();
        }
        self.unavailable(&deepest)
    }

    fn unavailable(&self, why: &dyn std::fmt::Display) -> Error {
        Error::new(
            Code::Unavailable,
            format!("the container runtime at {} does not answer: {why}", self.path.display()),
        )
    }

    async fn call<R: Rpc>(&self, request: R::Request, limit: Option<Duration>) -> Result<R::Response> {
        let calling = async {
            let mut client = self.client();
            client.ready().await.map_err(|why| self.unavailable(&why))?;
            let mut request = Request::new(request);
            if let Some(limit) = limit {
                request.set_timeout(limit);
            }
            let codec = ProstCodec::<R::Request, R::Response>::default();
            let answer = client.unary(request, PathAndQuery::from_static(R::PATH), codec).await;
            answer.map(tonic::Response::into_inner).map_err(|status| self.error(&status))
        };
        match limit {
            None => calling.await,
            Some(limit) => timeout(limit, calling).await.unwrap_or_else(|_| {
                let method = R::PATH.rsplit('/').next().unwrap_or_default();
                Err(Error::new(Code::DeadlineExceeded, format!("{method}: no answer within {} s", limit.as_secs())))
            }),
        }
    }

    async fn stream<R: Rpc>(self, request: R::Request) -> Result<BoxStream<'static, Result<R::Response>>> {
        let mut client = self.client();
        client.ready().await.map_err(|why| self.unavailable(&why))?;
        let codec = ProstCodec::<R::Request, R::Response>::default();
        let answer = client.server_streaming(Request::new(request), PathAndQuery::from_static(R::PATH), codec).await;
        let answer = answer.map_err(|status| self.error(&status))?.into_inner();
        Ok(answer.map(move |message| message.map_err(|status| self.error(&status))).boxed())
    }
}

impl Remote {
    /// The runtime at `runtime`, whose images are asked for at `images` where that is another. Nothing is connected yet;
    /// `tasks` is where streams are carried.
    pub fn new(runtime: PathBuf, images: Option<PathBuf>, tasks: TaskTracker) -> Self {
        let runtime = Peer::new(runtime);
        let images = images.filter(|it| *it != runtime.path).map_or_else(|| runtime.clone(), Peer::new);
        Self { runtime, images, tasks, limit: LIMIT }
    }

    /// The same with another limit for calls that say nothing else.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The runtime's socket.
    pub fn socket(&self) -> &Path {
        &self.runtime.path
    }

    /// One call of a procedure that is no method of the traits.
    pub async fn call<R: Rpc>(&self, request: R::Request) -> Result<R::Response> {
        self.runtime.call::<R>(request, Some(self.limit)).await
    }

    /// A procedure that answers in pages.
    pub async fn pages<R: Rpc>(&self, request: R::Request) -> Result<BoxStream<'static, Result<R::Response>>> {
        self.runtime.clone().stream::<R>(request).await
    }

    fn ask<'a, R: Rpc + 'a>(&'a self, request: R::Request) -> Reply<'a, R::Response> {
        self.runtime.call::<R>(request, Some(self.limit)).boxed()
    }

    /// Calls whose time is that of disks and processes, not of the runtime.
    fn wait<'a, R: Rpc + 'a>(&'a self, request: R::Request) -> Reply<'a, R::Response> {
        self.runtime.call::<R>(request, None).boxed()
    }
}

fn seconds(stated: i64) -> Duration {
    Duration::from_secs(u64::try_from(stated).unwrap_or(0))
}

/// An answer that must name something does.
fn named(name: String, what: &str) -> Result<String> {
    match name.is_empty() {
        false => Ok(name),
        true => Err(Error::internal(format!("the runtime returned no {what}"))),
    }
}

impl RuntimeService for Remote {
    fn version(&self, request: VersionRequest) -> Reply<'_, VersionResponse> {
        self.ask::<rpc::Version>(request)
    }

    fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> Reply<'_, RunPodSandboxResponse> {
        // A runtime may pull the image of its pause process first.
        let limit = self.limit.saturating_mul(2);
        async move {
            let answer = self.runtime.call::<rpc::RunPodSandbox>(request, Some(limit)).await?;
            Ok(RunPodSandboxResponse { pod_sandbox_id: named(answer.pod_sandbox_id, "id of the sandbox")? })
        }
        .boxed()
    }

    fn stop_pod_sandbox(&self, request: StopPodSandboxRequest) -> Reply<'_, StopPodSandboxResponse> {
        self.ask::<rpc::StopPodSandbox>(request)
    }

    fn remove_pod_sandbox(&self, request: RemovePodSandboxRequest) -> Reply<'_, RemovePodSandboxResponse> {
        self.ask::<rpc::RemovePodSandbox>(request)
    }

    fn pod_sandbox_status(&self, request: PodSandboxStatusRequest) -> Reply<'_, PodSandboxStatusResponse> {
        self.ask::<rpc::PodSandboxStatus>(request)
    }

    fn list_pod_sandbox(&self, request: ListPodSandboxRequest) -> Reply<'_, ListPodSandboxResponse> {
        self.ask::<rpc::ListPodSandbox>(request)
    }

    fn create_container(&self, request: CreateContainerRequest) -> Reply<'_, CreateContainerResponse> {
        async move {
            let answer = self.runtime.call::<rpc::CreateContainer>(request, Some(self.limit)).await?;
            Ok(CreateContainerResponse { container_id: named(answer.container_id, "id of the container")? })
        }
        .boxed()
    }

    fn start_container(&self, request: StartContainerRequest) -> Reply<'_, StartContainerResponse> {
        self.ask::<rpc::StartContainer>(request)
    }

    fn stop_container(&self, request: StopContainerRequest) -> Reply<'_, StopContainerResponse> {
        let limit = self.limit.saturating_add(seconds(request.timeout));
        self.runtime.call::<rpc::StopContainer>(request, Some(limit)).boxed()
    }

    fn remove_container(&self, request: RemoveContainerRequest) -> Reply<'_, RemoveContainerResponse> {
        self.ask::<rpc::RemoveContainer>(request)
    }

    fn list_containers(&self, request: ListContainersRequest) -> Reply<'_, ListContainersResponse> {
        self.ask::<rpc::ListContainers>(request)
    }

    fn container_status(&self, request: ContainerStatusRequest) -> Reply<'_, ContainerStatusResponse> {
        self.ask::<rpc::ContainerStatus>(request)
    }

    fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> Reply<'_, UpdateContainerResourcesResponse> {
        self.ask::<rpc::UpdateContainerResources>(request)
    }

    fn update_pod_sandbox_resources(
        &self,
        request: UpdatePodSandboxResourcesRequest,
    ) -> Reply<'_, UpdatePodSandboxResourcesResponse> {
        self.ask::<rpc::UpdatePodSandboxResources>(request)
    }

    fn reopen_container_log(&self, request: ReopenContainerLogRequest) -> Reply<'_, ReopenContainerLogResponse> {
        self.ask::<rpc::ReopenContainerLog>(request)
    }

    fn exec_sync(&self, request: ExecSyncRequest) -> Reply<'_, ExecSyncResponse> {
        // The process's own limit is the runtime's to keep; without one it may run for ever.
        let limit = (request.timeout > 0).then(|| self.limit.saturating_add(seconds(request.timeout)));
        self.runtime.call::<rpc::ExecSync>(request, limit).boxed()
    }

    fn exec(&self, request: ExecRequest) -> Reply<'_, Session> {
        let streams =
            Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.tty };
        async move {
            let answer = self.runtime.call::<rpc::Exec>(request, Some(self.limit)).await?;
            dial::command(&named(answer.url, "URL")?, streams, &self.tasks).await
        }
        .boxed()
    }

    fn attach(&self, request: AttachRequest) -> Reply<'_, Session> {
        let streams =
            Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.tty };
        async move {
            let answer = self.runtime.call::<rpc::Attach>(request, Some(self.limit)).await?;
            dial::command(&named(answer.url, "URL")?, streams, &self.tasks).await
        }
        .boxed()
    }

    fn port_forward<'a>(&'a self, pod_sandbox_id: &'a str, port: u16) -> Reply<'a, Connection> {
        async move {
            let request = PortForwardRequest { pod_sandbox_id: pod_sandbox_id.to_owned(), port: vec![port.into()] };
            let answer = self.runtime.call::<rpc::PortForward>(request, Some(self.limit)).await?;
            dial::port(&named(answer.url, "URL")?, port, &self.tasks).await
        }
        .boxed()
    }

    fn container_stats(&self, request: ContainerStatsRequest) -> Reply<'_, ContainerStatsResponse> {
        self.ask::<rpc::ContainerStats>(request)
    }

    fn list_container_stats(&self, request: ListContainerStatsRequest) -> Reply<'_, ListContainerStatsResponse> {
        self.wait::<rpc::ListContainerStats>(request)
    }

    fn pod_sandbox_stats(&self, request: PodSandboxStatsRequest) -> Reply<'_, PodSandboxStatsResponse> {
        self.ask::<rpc::PodSandboxStats>(request)
    }

    fn list_pod_sandbox_stats(&self, request: ListPodSandboxStatsRequest) -> Reply<'_, ListPodSandboxStatsResponse> {
        self.wait::<rpc::ListPodSandboxStats>(request)
    }

    fn update_runtime_config(&self, request: UpdateRuntimeConfigRequest) -> Reply<'_, UpdateRuntimeConfigResponse> {
        self.ask::<rpc::UpdateRuntimeConfig>(request)
    }

    fn status(&self, request: StatusRequest) -> Reply<'_, StatusResponse> {
        self.ask::<rpc::Status>(request)
    }

    fn runtime_config(&self, request: RuntimeConfigRequest) -> Reply<'_, RuntimeConfigResponse> {
        self.ask::<rpc::RuntimeConfig>(request)
    }

    fn container_events(&self) -> Reply<'_, BoxStream<'static, Result<ContainerEventResponse>>> {
        let told = self.runtime.clone().stream::<rpc::GetContainerEvents>(GetEventsRequest {});
        relist::unless_told(self.clone(), told.try_flatten_stream().boxed()).boxed()
    }

    fn checkpoint_container(&self, request: CheckpointContainerRequest) -> Reply<'_, CheckpointContainerResponse> {
        let limit = self.limit.saturating_add(seconds(request.timeout));
        self.runtime.call::<rpc::CheckpointContainer>(request, Some(limit)).boxed()
    }

    fn list_metric_descriptors(&self, it: ListMetricDescriptorsRequest) -> Reply<'_, ListMetricDescriptorsResponse> {
        self.ask::<rpc::ListMetricDescriptors>(it)
    }

    fn list_pod_sandbox_metrics(&self, it: ListPodSandboxMetricsRequest) -> Reply<'_, ListPodSandboxMetricsResponse> {
        self.ask::<rpc::ListPodSandboxMetrics>(it)
    }
}

impl ImageService for Remote {
    fn list_images(&self, request: ListImagesRequest) -> Reply<'_, ListImagesResponse> {
        self.images.call::<rpc::ListImages>(request, Some(self.limit)).boxed()
    }

    fn image_status(&self, request: ImageStatusRequest) -> Reply<'_, ImageStatusResponse> {
        self.images.call::<rpc::ImageStatus>(request, Some(self.limit)).boxed()
    }

    fn pull_image(&self, request: PullImageRequest) -> Reply<'_, PullImageResponse> {
        // A download takes what it takes; the runtime gives up where nothing comes.
        self.images.call::<rpc::PullImage>(request, None).boxed()
    }

    fn remove_image(&self, request: RemoveImageRequest) -> Reply<'_, RemoveImageResponse> {
        self.images.call::<rpc::RemoveImage>(request, Some(self.limit)).boxed()
    }

    fn image_fs_info(&self, request: ImageFsInfoRequest) -> Reply<'_, ImageFsInfoResponse> {
        self.images.call::<rpc::ImageFsInfo>(request, None).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_name_sockets() {
        let check = |endpoint: &str, expected: Option<&str>| {
            assert_eq!(socket_of(endpoint).ok().as_deref(), expected.map(Path::new), "{endpoint}");
        };
        check("unix:///run/containerd/containerd.sock", Some("/run/containerd/containerd.sock"));
        check("/run/crio/crio.sock", Some("/run/crio/crio.sock"));
        check("tcp://127.0.0.1:1", None);
        check("unix://run/x", None);
        check("unix:///", None);
        check("", None);
    }
}
