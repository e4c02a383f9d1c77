//! The table of remote procedures: what a server dispatches on and a client calls.
//!
//! One marker type a procedure, so that path, request and answer cannot be mixed up. Procedures whose answer is a
//! stream are [`GetContainerEvents`] and those called `Stream...`, which are the lists in pages (KEP-5825).

use super::*;

/// One procedure of `runtime.v1`.
pub trait Rpc {
    /// `/package.Service/Method`.
    const PATH: &'static str;
    type Request: prost::Message + Default + 'static;
    /// The answer, or each message of it.
    type Response: prost::Message + Default + 'static;
}

macro_rules! rpcs {
    ($($method:ident = $path:literal, $request:ident, $response:ident;)*) => {
        $(
            #[derive(Clone, Copy, Debug)]
            pub struct $method;

            impl Rpc for $method {
                const PATH: &'static str = $path;
                type Request = $request;
                type Response = $response;
            }
        )*
    };
}

rpcs! {
    Version = "/runtime.v1.RuntimeService/Version", VersionRequest, VersionResponse;
    RunPodSandbox = "/runtime.v1.RuntimeService/RunPodSandbox", RunPodSandboxRequest, RunPodSandboxResponse;
    StopPodSandbox = "/runtime.v1.RuntimeService/StopPodSandbox", StopPodSandboxRequest, StopPodSandboxResponse;
    RemovePodSandbox = "/runtime.v1.RuntimeService/RemovePodSandbox", RemovePodSandboxRequest, RemovePodSandboxResponse;
    PodSandboxStatus = "/runtime.v1.RuntimeService/PodSandboxStatus", PodSandboxStatusRequest, PodSandboxStatusResponse;
    ListPodSandbox = "/runtime.v1.RuntimeService/ListPodSandbox", ListPodSandboxRequest, ListPodSandboxResponse;
    StreamPodSandboxes = "/runtime.v1.RuntimeService/StreamPodSandboxes", StreamPodSandboxesRequest, StreamPodSandboxesResponse;
    CreateContainer = "/runtime.v1.RuntimeService/CreateContainer", CreateContainerRequest, CreateContainerResponse;
    StartContainer = "/runtime.v1.RuntimeService/StartContainer", StartContainerRequest, StartContainerResponse;
    StopContainer = "/runtime.v1.RuntimeService/StopContainer", StopContainerRequest, StopContainerResponse;
    RemoveContainer = "/runtime.v1.RuntimeService/RemoveContainer", RemoveContainerRequest, RemoveContainerResponse;
    ListContainers = "/runtime.v1.RuntimeService/ListContainers", ListContainersRequest, ListContainersResponse;
    StreamContainers = "/runtime.v1.RuntimeService/StreamContainers", StreamContainersRequest, StreamContainersResponse;
    ContainerStatus = "/runtime.v1.RuntimeService/ContainerStatus", ContainerStatusRequest, ContainerStatusResponse;
    UpdateContainerResources = "/runtime.v1.RuntimeService/UpdateContainerResources", UpdateContainerResourcesRequest, UpdateContainerResourcesResponse;
    ReopenContainerLog = "/runtime.v1.RuntimeService/ReopenContainerLog", ReopenContainerLogRequest, ReopenContainerLogResponse;
    ExecSync = "/runtime.v1.RuntimeService/ExecSync", ExecSyncRequest, ExecSyncResponse;
    Exec = "/runtime.v1.RuntimeService/Exec", ExecRequest, ExecResponse;
    Attach = "/runtime.v1.RuntimeService/Attach", AttachRequest, AttachResponse;
    PortForward = "/runtime.v1.RuntimeService/PortForward", PortForwardRequest, PortForwardResponse;
    ContainerStats = "/runtime.v1.RuntimeService/ContainerStats", ContainerStatsRequest, ContainerStatsResponse;
    ListContainerStats = "/runtime.v1.RuntimeService/ListContainerStats", ListContainerStatsRequest, ListContainerStatsResponse;
    StreamContainerStats = "/runtime.v1.RuntimeService/StreamContainerStats", StreamContainerStatsRequest, StreamContainerStatsResponse;
    PodSandboxStats = "/runtime.v1.RuntimeService/PodSandboxStats", PodSandboxStatsRequest, PodSandboxStatsResponse;
    ListPodSandboxStats = "/runtime.v1.RuntimeService/ListPodSandboxStats", ListPodSandboxStatsRequest, ListPodSandboxStatsResponse;
    StreamPodSandboxStats = "/runtime.v1.RuntimeService/StreamPodSandboxStats", StreamPodSandboxStatsRequest, StreamPodSandboxStatsResponse;
    UpdateRuntimeConfig = "/runtime.v1.RuntimeService/UpdateRuntimeConfig", UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse;
    Status = "/runtime.v1.RuntimeService/Status", StatusRequest, StatusResponse;
    CheckpointContainer = "/runtime.v1.RuntimeService/CheckpointContainer", CheckpointContainerRequest, CheckpointContainerResponse;
    GetContainerEvents = "/runtime.v1.RuntimeService/GetContainerEvents", GetEventsRequest, ContainerEventResponse;
    ListMetricDescriptors = "/runtime.v1.RuntimeService/ListMetricDescriptors", ListMetricDescriptorsRequest, ListMetricDescriptorsResponse;
    ListPodSandboxMetrics = "/runtime.v1.RuntimeService/ListPodSandboxMetrics", ListPodSandboxMetricsRequest, ListPodSandboxMetricsResponse;
    StreamPodSandboxMetrics = "/runtime.v1.RuntimeService/StreamPodSandboxMetrics", StreamPodSandboxMetricsRequest, StreamPodSandboxMetricsResponse;
    RuntimeConfig = "/runtime.v1.RuntimeService/RuntimeConfig", RuntimeConfigRequest, RuntimeConfigResponse;
    UpdatePodSandboxResources = "/runtime.v1.RuntimeService/UpdatePodSandboxResources", UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse;
    ListImages = "/runtime.v1.ImageService/ListImages", ListImagesRequest, ListImagesResponse;
    StreamImages = "/runtime.v1.ImageService/StreamImages", StreamImagesRequest, StreamImagesResponse;
    ImageStatus = "/runtime.v1.ImageService/ImageStatus", ImageStatusRequest, ImageStatusResponse;
    PullImage = "/runtime.v1.ImageService/PullImage", PullImageRequest, PullImageResponse;
    RemoveImage = "/runtime.v1.ImageService/RemoveImage", RemoveImageRequest, RemoveImageResponse;
    ImageFsInfo = "/runtime.v1.ImageService/ImageFsInfo", ImageFsInfoRequest, ImageFsInfoResponse;
}
