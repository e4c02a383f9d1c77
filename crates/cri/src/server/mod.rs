//! Any runtime's two services as gRPC: one table from procedures to methods.
//!
//! Lists in pages are cut here from whole lists; exec, attach and port-forward are answered with URLs
//! ([`crate::streaming::Urls`]). A call that changes something is done to its end although its client has gone.

mod pages;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;

use api::cri::rpc::{self, Rpc};
use api::cri::*;
use futures::stream::{BoxStream, Stream, StreamExt as _};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::streaming::{Asked, Urls};
use crate::{MESSAGE_BYTES, status};

/// Calls of one client at once.
const CALLS: u32 = 256;
const HEAD_BYTES: u32 = 64 * 1024;

/// What is served.
#[derive(Clone)]
pub struct Server {
    pub runtime: Arc<dyn RuntimeService>,
    pub images: Arc<dyn ImageService>,
    pub urls: Arc<Urls>,
    /// Where calls go on that their clients have left.
    pub tasks: TaskTracker,
}

/// What HTTP/2 does beside its connection, told of to the tracker.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tracked {
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

type Answer = http::Response<Body>;
type Pages<T> = BoxStream<'static, std::result::Result<T, Status>>;

impl Server {
    /// Serves a connection until its client hangs up.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(|request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let serving = hyper::server::conn::http2::Builder::new(Tracked(self.tasks.clone()))
            .timer(TokioTimer::new())
            .max_concurrent_streams(CALLS)
            .max_header_list_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = serving.await {
            tracing::debug!(%error, "connection ended");
        }
    }

    /// Answers one call.
    #[expect(clippy::too_many_lines, reason = "a table")]
    async fn answer(self, request: http::Request<Incoming>) -> Answer {
        let Self { runtime, images, urls, tasks } = self;
        // Asks: ends with its client. Does: goes on without it.
        macro_rules! asks {
            ($rpc:ident, $service:ident.$method:ident) => {
                unary::<rpc::$rpc, _>(request, move |it| {
                    let service = Arc::clone(&$service);
                    async move { service.$method(it).await }
                })
                .await
            };
        }
        macro_rules! does {
            ($rpc:ident, $service:ident.$method:ident) => {
                unary::<rpc::$rpc, _>(request, move |it| {
                    let service = Arc::clone(&$service);
                    let done = tasks.spawn(async move { service.$method(it).await });
                    async move { done.await.map_err(|why| Error::internal(why.to_string()))? }
                })
                .await
            };
        }
        macro_rules! pages {
            ($rpc:ident, $service:ident.$method:ident, $request:expr, $from:ident -> $to:ident { $field:ident }) => {
                stream::<rpc::$rpc, _, _>(request, move |it| {
                    let service = Arc::clone(&$service);
                    async move {
                        let listed = service.$method($request(it)).await?;
                        Ok(pages::of(listed.$from).map(|$field| Ok($to { $field })))
                    }
                })
                .await
            };
        }
        match request.uri().path() {
            rpc::Version::PATH => asks!(Version, runtime.version),
            rpc::RunPodSandbox::PATH => does!(RunPodSandbox, runtime.run_pod_sandbox),
            rpc::StopPodSandbox::PATH => does!(StopPodSandbox, runtime.stop_pod_sandbox),
            rpc::RemovePodSandbox::PATH => does!(RemovePodSandbox, runtime.remove_pod_sandbox),
            rpc::PodSandboxStatus::PATH => asks!(PodSandboxStatus, runtime.pod_sandbox_status),
            rpc::ListPodSandbox::PATH => asks!(ListPodSandbox, runtime.list_pod_sandbox),
            rpc::StreamPodSandboxes::PATH => {
                let of = |it: StreamPodSandboxesRequest| ListPodSandboxRequest { filter: it.filter };
                pages!(StreamPodSandboxes, runtime.list_pod_sandbox, of, items -> StreamPodSandboxesResponse { pod_sandboxes })
            }
            rpc::CreateContainer::PATH => does!(CreateContainer, runtime.create_container),
            rpc::StartContainer::PATH => does!(StartContainer, runtime.start_container),
            rpc::StopContainer::PATH => does!(StopContainer, runtime.stop_container),
            rpc::RemoveContainer::PATH => does!(RemoveContainer, runtime.remove_container),
            rpc::ListContainers::PATH => asks!(ListContainers, runtime.list_containers),
            rpc::StreamContainers::PATH => {
                let of = |it: StreamContainersRequest| ListContainersRequest { filter: it.filter };
                pages!(StreamContainers, runtime.list_containers, of, containers -> StreamContainersResponse { containers })
            }
            rpc::ContainerStatus::PATH => asks!(ContainerStatus, runtime.container_status),
            rpc::UpdateContainerResources::PATH => does!(UpdateContainerResources, runtime.update_container_resources),
            rpc::UpdatePodSandboxResources::PATH => {
                does!(UpdatePodSandboxResources, runtime.update_pod_sandbox_resources)
            }
            rpc::ReopenContainerLog::PATH => does!(ReopenContainerLog, runtime.reopen_container_log),
            rpc::ExecSync::PATH => asks!(ExecSync, runtime.exec_sync),
            rpc::Exec::PATH => {
                unary::<rpc::Exec, _>(request, move |it: ExecRequest| {
                    let (runtime, urls) = (Arc::clone(&runtime), Arc::clone(&urls));
                    async move {
                        running(&*runtime, &it.container_id).await?;
                        Ok(ExecResponse { url: urls.add(Asked::Exec(it))? })
                    }
                })
                .await
            }
            rpc::Attach::PATH => {
                unary::<rpc::Attach, _>(request, move |it: AttachRequest| {
                    let (runtime, urls) = (Arc::clone(&runtime), Arc::clone(&urls));
                    async move {
                        running(&*runtime, &it.container_id).await?;
                        Ok(AttachResponse { url: urls.add(Asked::Attach(it))? })
                    }
                })
                .await
            }
            rpc::PortForward::PATH => {
                unary::<rpc::PortForward, _>(request, move |it: PortForwardRequest| {
                    let (runtime, urls) = (Arc::clone(&runtime), Arc::clone(&urls));
                    async move {
                        ready(&*runtime, &it.pod_sandbox_id).await?;
                        Ok(PortForwardResponse { url: urls.add(Asked::Ports(it))? })
                    }
                })
                .await
            }
            rpc::ContainerStats::PATH => asks!(ContainerStats, runtime.container_stats),
            rpc::ListContainerStats::PATH => asks!(ListContainerStats, runtime.list_container_stats),
            rpc::StreamContainerStats::PATH => {
                let of = |it: StreamContainerStatsRequest| ListContainerStatsRequest { filter: it.filter };
                pages!(StreamContainerStats, runtime.list_container_stats, of, stats -> StreamContainerStatsResponse { container_stats })
            }
            rpc::PodSandboxStats::PATH => asks!(PodSandboxStats, runtime.pod_sandbox_stats),
            rpc::ListPodSandboxStats::PATH => asks!(ListPodSandboxStats, runtime.list_pod_sandbox_stats),
            rpc::StreamPodSandboxStats::PATH => {
                let of = |it: StreamPodSandboxStatsRequest| ListPodSandboxStatsRequest { filter: it.filter };
                pages!(StreamPodSandboxStats, runtime.list_pod_sandbox_stats, of, stats -> StreamPodSandboxStatsResponse { pod_sandbox_stats })
            }
            rpc::UpdateRuntimeConfig::PATH => does!(UpdateRuntimeConfig, runtime.update_runtime_config),
            rpc::Status::PATH => asks!(Status, runtime.status),
            rpc::CheckpointContainer::PATH => asks!(CheckpointContainer, runtime.checkpoint_container),
            rpc::GetContainerEvents::PATH => {
                stream::<rpc::GetContainerEvents, _, _>(request, move |_| {
                    let runtime = Arc::clone(&runtime);
                    async move { Ok(runtime.container_events().await?.map(|event| event.map_err(status))) }
                })
                .await
            }
            rpc::ListMetricDescriptors::PATH => asks!(ListMetricDescriptors, runtime.list_metric_descriptors),
            rpc::ListPodSandboxMetrics::PATH => asks!(ListPodSandboxMetrics, runtime.list_pod_sandbox_metrics),
            rpc::StreamPodSandboxMetrics::PATH => {
                let of = |_: StreamPodSandboxMetricsRequest| ListPodSandboxMetricsRequest {};
                pages!(StreamPodSandboxMetrics, runtime.list_pod_sandbox_metrics, of, pod_metrics -> StreamPodSandboxMetricsResponse { pod_sandbox_metrics })
            }
            rpc::RuntimeConfig::PATH => asks!(RuntimeConfig, runtime.runtime_config),
            rpc::ListImages::PATH => asks!(ListImages, images.list_images),
            rpc::StreamImages::PATH => {
                let of = |it: StreamImagesRequest| ListImagesRequest { filter: it.filter };
                pages!(StreamImages, images.list_images, of, images -> StreamImagesResponse { images })
            }
            rpc::ImageStatus::PATH => asks!(ImageStatus, images.image_status),
            rpc::PullImage::PATH => asks!(PullImage, images.pull_image),
            rpc::RemoveImage::PATH => does!(RemoveImage, images.remove_image),
            rpc::ImageFsInfo::PATH => asks!(ImageFsInfo, images.image_fs_info),
            path => {
                let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
                Status::unimplemented(format!("unknown method {method} for service {service}")).into_http()
            }
        }
    }
}

fn codec<R: Rpc>() -> tonic::server::Grpc<ProstCodec<R::Response, R::Request>> {
    tonic::server::Grpc::new(ProstCodec::default())
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES)
}

async fn unary<R: Rpc, F>(request: http::Request<Incoming>, call: impl Fn(R::Request) -> F) -> Answer
where
    F: Future<Output = Result<R::Response>>,
{
    let service = tower::service_fn(|request: Request<R::Request>| {
        let answered = call(request.into_inner());
        async move { answered.await.map(Response::new).map_err(status) }
    });
    codec::<R>().unary(service, request).await
}

async fn stream<R: Rpc, S, F>(request: http::Request<Incoming>, call: impl Fn(R::Request) -> F) -> Answer
where
    F: Future<Output = Result<S>>,
    S: Stream<Item = std::result::Result<R::Response, Status>> + Send + 'static,
{
    let service = tower::service_fn(|request: Request<R::Request>| {
        let answered = call(request.into_inner());
        async move { answered.await.map(|it| Response::new(it.boxed() as Pages<_>)).map_err(status) }
    });
    codec::<R>().server_streaming(service, request).await
}

/// Refuses before there is a URL what would fail behind it.
async fn running(runtime: &dyn RuntimeService, container: &str) -> Result<()> {
    if container.is_empty() {
        return Ok(());
    }
    let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
    let state = runtime.container_status(request).await?.status.map(|it| it.state());
    match state {
        Some(ContainerState::Running) | None => Ok(()),
        Some(other) => {
            Err(Error::precondition(format!("container is in {} state", format!("CONTAINER_{other:?}").to_uppercase())))
        }
    }
}

async fn ready(runtime: &dyn RuntimeService, sandbox: &str) -> Result<()> {
    if sandbox.is_empty() {
        return Ok(());
    }
    let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.to_owned(), verbose: false };
    match runtime.pod_sandbox_status(request).await?.status {
        Some(status) if status.state() != PodSandboxState::Ready => {
            Err(Error::precondition(format!("sandbox container {sandbox:?} is not running")))
        }
        _ => Ok(()),
    }
}
