//! A container runtime in memory, and an agent on it: whole lives of pods without root, network or time.
//!
//! A fake container does nothing until the test says so: it runs until [`FakeRuntime::exit`] or until it is stopped (at once,
//! unless its image is called `stubborn`: then by SIGKILL only). Images called `missing...` cannot be pulled.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::cri::streams::{Connection, Session};
use api::cri::*;
use api::object::ObjectKey;
use client::clock::ManualClock;
use client::testing::FakeCluster;
use client::typed::resource_of;
use futures::StreamExt as _;
use futures::channel::mpsc;
use futures::future::{FutureExt as _, ready};
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::eviction::observe::{FileSystem, Sensors};
use crate::eviction::plan::Reading;
use crate::volumes::mounts::Mounts;

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, PodSandboxStatus>,
    containers: BTreeMap<String, (String, ContainerConfig, ContainerStatus)>,
    subscribers: Vec<mpsc::UnboundedSender<Result<ContainerEventResponse>>>,
    /// What was asked, in order: `run web`, `start web/c#0`, `stop web/c#0 30`.
    journal: Vec<String>,
    /// What the next exec is joined to.
    stream: Option<Session>,
    images: BTreeMap<String, Image>,
    /// Memory and bytes written of containers by their name.
    usage: BTreeMap<String, (u64, u64)>,
    /// Whose disk holds the images.
    sensors: Option<Arc<FakeSensors>>,
    /// Exit codes of commands by their first word; 0 when not said.
    exec: BTreeMap<String, i32>,
    made: u64,
    /// Bytes of memory that each container uses.
    used: u64,
}

pub(crate) struct FakeRuntime {
    state: Mutex<State>,
    clock: Arc<ManualClock>,
}

impl FakeRuntime {
    fn new(clock: Arc<ManualClock>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), clock })
    }

    /// What was asked since the last call.
    pub(crate) fn journal(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().journal)
    }

    /// Every container uses so much memory.
    pub(crate) fn use_memory(&self, bytes: u64) {
        self.state.lock().used = bytes;
    }

    pub(crate) fn answer_exec(&self, command: &str, exit_code: i32) {
        self.state.lock().exec.insert(command.to_owned(), exit_code);
    }

    /// The newest container of a name ends by itself.
    pub(crate) fn exit(&self, name: &str, code: i32) {
        let newest = {
            let state = self.state.lock();
            let named = state.containers.values().filter(|(_, config, _)| config_name(config) == name);
            named
                .max_by_key(|(_, _, status)| status.metadata.clone().unwrap_or_default().attempt)
                .map(|it| it.2.id.clone())
        };
        self.end(&newest.expect("the container exists"), code);
    }

    pub(crate) fn answer_stream(&self, session: Session) {
        self.state.lock().stream = Some(session);
    }

    /// Where the newest container of a name has its log.
    pub(crate) fn log_path(&self, name: &str) -> std::path::PathBuf {
        let state = self.state.lock();
        let named = state.containers.values().filter(|(_, config, _)| config_name(config) == name);
        let newest = named.max_by_key(|(_, _, status)| status.metadata.clone().unwrap_or_default().attempt);
        newest.expect("the container exists").2.log_path.clone().into()
    }

    /// An image is there that takes so much of the disk.
    pub(crate) fn put_image(&self, id: &str, size: u64) {
        let image = Image { id: id.to_owned(), size, ..Default::default() };
        self.state.lock().images.insert(id.to_owned(), image);
    }

    /// The images that are there.
    pub(crate) fn images(&self) -> Vec<String> {
        self.state.lock().images.keys().cloned().collect()
    }

    /// Containers of this name use so much memory and have written so much.
    pub(crate) fn uses(&self, container: &str, memory: u64, written: u64) {
        self.state.lock().usage.insert(container.to_owned(), (memory, written));
    }

    pub(crate) fn kill_sandboxes(&self) {
        for sandbox in self.state.lock().sandboxes.values_mut() {
            sandbox.state = PodSandboxState::NotReady.into();
        }
    }

    /// `c#0 Running, c#1 Exited`, by container name and attempt.
    pub(crate) fn containers(&self) -> String {
        let state = self.state.lock();
        let mut all: Vec<String> = state
            .containers
            .values()
            .map(|(_, config, status)| {
                let attempt = status.metadata.clone().unwrap_or_default().attempt;
                format!("{}#{attempt} {:?}", config_name(config), status.state())
            })
            .collect();
        all.sort();
        all.join(", ")
    }

    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.containers.is_empty() && state.sandboxes.is_empty()
    }

    pub(crate) fn config(&self, name: &str) -> Option<ContainerConfig> {
        let state = self.state.lock();
        state
            .containers
            .values()
            .find(|(_, config, _)| config_name(config) == name)
            .map(|(_, config, _)| config.clone())
    }

    fn now(&self) -> i64 {
        i64::try_from(client::clock::Clock::now(&*self.clock).as_nanosecond()).unwrap()
    }

    fn end(&self, id: &str, code: i32) {
        let now = self.now();
        let mut state = self.state.lock();
        let Some((sandbox, _, status)) = state.containers.get_mut(id) else { return };
        let sandbox = sandbox.clone();
        let name = status.metadata.clone().unwrap_or_default().name;
        let ran = status.state() == ContainerState::Running;
        if ran {
            status.state = ContainerState::Exited.into();
            status.finished_at = now;
            status.exit_code = code;
            status.reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
        }
        if let Some(sensors) = state.sensors.clone().filter(|_| ran) {
            sensors.memory.lock().free += state.usage.get(&name).map_or(0, |(memory, _)| *memory);
        }
        state.tell(&sandbox);
    }
}

impl State {
    fn tell(&mut self, sandbox: &str) {
        let status = self.sandboxes.get(sandbox).cloned();
        self.subscribers.retain(|subscriber| {
            let event = ContainerEventResponse { pod_sandbox_status: status.clone(), ..Default::default() };
            subscriber.unbounded_send(Ok(event)).is_ok()
        });
    }

    fn label(&self, id: &str) -> String {
        let Some((sandbox, config, _)) = self.containers.get(id) else { return id.to_owned() };
        let pod = self.sandboxes.get(sandbox).and_then(|it| it.metadata.clone()).unwrap_or_default().name;
        format!("{pod}/{}#{}", config_name(config), config.metadata.clone().unwrap_or_default().attempt)
    }
}

fn config_name(config: &ContainerConfig) -> String {
    config.metadata.clone().unwrap_or_default().name
}

fn selected(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn done<T: Send + 'static>(result: Result<T>) -> Reply<'static, T> {
    ready(result).boxed()
}

fn used(bytes: u64) -> MemoryUsage {
    MemoryUsage { usage_bytes: Some(UInt64Value { value: bytes }), ..Default::default() }
}

fn unsupported<T: Send + 'static>() -> Reply<'static, T> {
    done(Err(Error::unimplemented("this")))
}

impl RuntimeService for FakeRuntime {
    fn version(&self, _: VersionRequest) -> Reply<'_, VersionResponse> {
        let version =
            VersionResponse { runtime_name: "fake".into(), runtime_version: "1".into(), ..Default::default() };
        done(Ok(version))
    }

    fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> Reply<'_, RunPodSandboxResponse> {
        let config = request.config.unwrap_or_default();
        let mut state = self.state.lock();
        state.made += 1;
        let id = format!("sandbox{}", state.made);
        let metadata = config.metadata.clone().unwrap_or_default();
        state.journal.push(format!("run {}", metadata.name));
        let status = PodSandboxStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: PodSandboxState::Ready.into(),
            created_at: self.now(),
            network: Some(PodSandboxNetworkStatus { ip: format!("10.42.0.{}", state.made), ..Default::default() }),
            labels: config.labels,
            annotations: config.annotations,
            ..Default::default()
        };
        state.sandboxes.insert(id.clone(), status);
        done(Ok(RunPodSandboxResponse { pod_sandbox_id: id }))
    }

    fn stop_pod_sandbox(&self, request: StopPodSandboxRequest) -> Reply<'_, StopPodSandboxResponse> {
        let mut state = self.state.lock();
        if let Some(sandbox) = state.sandboxes.get_mut(&request.pod_sandbox_id) {
            sandbox.state = PodSandboxState::NotReady.into();
            sandbox.network = None;
        }
        done(Ok(StopPodSandboxResponse {}))
    }

    fn remove_pod_sandbox(&self, request: RemovePodSandboxRequest) -> Reply<'_, RemovePodSandboxResponse> {
        self.state.lock().sandboxes.remove(&request.pod_sandbox_id);
        done(Ok(RemovePodSandboxResponse {}))
    }

    fn pod_sandbox_status(&self, request: PodSandboxStatusRequest) -> Reply<'_, PodSandboxStatusResponse> {
        let status = self.state.lock().sandboxes.get(&request.pod_sandbox_id).cloned();
        done(Ok(PodSandboxStatusResponse { status, ..Default::default() }))
    }

    fn list_pod_sandbox(&self, request: ListPodSandboxRequest) -> Reply<'_, ListPodSandboxResponse> {
        let selector = request.filter.unwrap_or_default().label_selector;
        let state = self.state.lock();
        let chosen = state.sandboxes.values().filter(|it| selected(&it.labels, &selector));
        let items = chosen
            .map(|it| PodSandbox { id: it.id.clone(), labels: it.labels.clone(), ..Default::default() })
            .collect();
        done(Ok(ListPodSandboxResponse { items }))
    }

    fn create_container(&self, request: CreateContainerRequest) -> Reply<'_, CreateContainerResponse> {
        let config = request.config.unwrap_or_default();
        let mut state = self.state.lock();
        state.made += 1;
        let id = format!("container{}", state.made);
        let image = config.image.clone().unwrap_or_default();
        let logs = request.sandbox_config.unwrap_or_default().log_directory;
        let status = ContainerStatus {
            log_path: format!("{logs}/{}", config.log_path),
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: ContainerState::Created.into(),
            created_at: self.now(),
            image_ref: format!("sha256:{}", image.user_specified_image),
            image: Some(image),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            resources: Some(ContainerResources { linux: config.linux.clone().and_then(|it| it.resources) }),
            ..Default::default()
        };
        state.containers.insert(id.clone(), (request.pod_sandbox_id, config, status));
        done(Ok(CreateContainerResponse { container_id: id }))
    }

    fn start_container(&self, request: StartContainerRequest) -> Reply<'_, StartContainerResponse> {
        let now = self.now();
        let mut state = self.state.lock();
        let label = state.label(&request.container_id);
        state.journal.push(format!("start {label}"));
        let Some((sandbox, _, status)) = state.containers.get_mut(&request.container_id) else {
            return done(Err(Error::not_found(request.container_id)));
        };
        status.state = ContainerState::Running.into();
        status.started_at = now;
        let sandbox = sandbox.clone();
        state.tell(&sandbox);
        done(Ok(StartContainerResponse {}))
    }

    fn stop_container(&self, request: StopContainerRequest) -> Reply<'_, StopContainerResponse> {
        let stubborn = {
            let mut state = self.state.lock();
            let label = state.label(&request.container_id);
            state.journal.push(format!("stop {label} {}", request.timeout));
            let image = state.containers.get(&request.container_id).and_then(|(_, config, _)| config.image.clone());
            image.unwrap_or_default().user_specified_image == "stubborn"
        };
        let timeout = Duration::from_secs(u64::try_from(request.timeout).unwrap());
        let wait = client::clock::Clock::after(&*self.clock, timeout);
        async move {
            if stubborn {
                wait.await;
            }
            self.end(&request.container_id, if stubborn { 137 } else { 0 });
            Ok(StopContainerResponse {})
        }
        .boxed()
    }

    fn remove_container(&self, request: RemoveContainerRequest) -> Reply<'_, RemoveContainerResponse> {
        self.state.lock().containers.remove(&request.container_id);
        done(Ok(RemoveContainerResponse {}))
    }

    fn list_containers(&self, request: ListContainersRequest) -> Reply<'_, ListContainersResponse> {
        let selector = request.filter.unwrap_or_default().label_selector;
        let state = self.state.lock();
        let chosen = state.containers.values().filter(|(_, config, _)| selected(&config.labels, &selector));
        let containers = chosen
            .map(|(sandbox, config, status)| Container {
                id: status.id.clone(),
                pod_sandbox_id: sandbox.clone(),
                labels: config.labels.clone(),
                state: status.state,
                image_ref: status.image_ref.clone(),
                ..Default::default()
            })
            .collect();
        done(Ok(ListContainersResponse { containers }))
    }

    fn container_status(&self, request: ContainerStatusRequest) -> Reply<'_, ContainerStatusResponse> {
        let status = self.state.lock().containers.get(&request.container_id).map(|it| it.2.clone());
        done(Ok(ContainerStatusResponse { status, ..Default::default() }))
    }

    fn exec_sync(&self, request: ExecSyncRequest) -> Reply<'_, ExecSyncResponse> {
        let mut state = self.state.lock();
        let command = request.cmd.join(" ");
        let label = state.label(&request.container_id);
        state.journal.push(format!("exec {label} {command}"));
        let exit_code = state.exec.get(&command).copied().unwrap_or(0);
        done(Ok(ExecSyncResponse { exit_code, ..Default::default() }))
    }

    fn container_events(&self) -> Reply<'_, BoxStream<'static, Result<ContainerEventResponse>>> {
        let (sender, receiver) = mpsc::unbounded();
        self.state.lock().subscribers.push(sender);
        done(Ok(receiver.boxed()))
    }

    fn status(&self, _: StatusRequest) -> Reply<'_, StatusResponse> {
        let condition = |kind: &str| RuntimeCondition { r#type: kind.into(), status: true, ..Default::default() };
        let conditions = vec![condition("RuntimeReady"), condition("NetworkReady")];
        done(Ok(StatusResponse { status: Some(RuntimeStatus { conditions }), ..Default::default() }))
    }

    fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> Reply<'_, UpdateContainerResourcesResponse> {
        let mut state = self.state.lock();
        let label = state.label(&request.container_id);
        let wanted = request.linux.clone().unwrap_or_default();
        state.journal.push(format!("update {label} {}/{}", wanted.cpu_shares, wanted.memory_limit_in_bytes));
        let Some((sandbox, _, status)) = state.containers.get_mut(&request.container_id) else {
            return done(Err(Error::not_found(request.container_id)));
        };
        status.resources = Some(ContainerResources { linux: request.linux });
        let sandbox = sandbox.clone();
        state.tell(&sandbox);
        done(Ok(UpdateContainerResourcesResponse {}))
    }

    fn update_pod_sandbox_resources(
        &self,
        request: UpdatePodSandboxResourcesRequest,
    ) -> Reply<'_, UpdatePodSandboxResourcesResponse> {
        let wanted = request.resources.unwrap_or_default();
        let text = format!("update pod {}/{}", wanted.cpu_shares, wanted.memory_limit_in_bytes);
        self.state.lock().journal.push(text);
        done(Ok(UpdatePodSandboxResourcesResponse {}))
    }

    fn reopen_container_log(&self, request: ReopenContainerLogRequest) -> Reply<'_, ReopenContainerLogResponse> {
        let state = self.state.lock();
        match state.containers.get(&request.container_id) {
            Some((_, config, status)) if config_name(config) != "deaf" => {
                std::fs::File::create(&status.log_path).unwrap();
                done(Ok(ReopenContainerLogResponse {}))
            }
            _ => done(Err(Error::internal("its shim does not answer"))),
        }
    }

    fn exec(&self, _: ExecRequest) -> Reply<'_, Session> {
        let stream = self.state.lock().stream.take();
        done(stream.ok_or_else(|| Error::unimplemented("exec")))
    }

    fn attach(&self, _: AttachRequest) -> Reply<'_, Session> {
        unsupported()
    }

    fn port_forward<'a>(&'a self, _: &'a str, _: u16) -> Reply<'a, Connection> {
        unsupported()
    }

    fn container_stats(&self, _: ContainerStatsRequest) -> Reply<'_, ContainerStatsResponse> {
        let memory = Some(used(self.state.lock().used));
        done(Ok(ContainerStatsResponse { stats: Some(ContainerStats { memory, ..Default::default() }) }))
    }

    fn list_container_stats(&self, request: ListContainerStatsRequest) -> Reply<'_, ListContainerStatsResponse> {
        let selector = request.filter.unwrap_or_default().label_selector;
        let state = self.state.lock();
        let chosen = state.containers.values().filter(|(_, config, _)| selected(&config.labels, &selector));
        let running = chosen.filter(|(_, _, status)| status.state() == ContainerState::Running);
        let value = |value: u64| Some(UInt64Value { value });
        let stats = running.map(|(_, config, status)| {
            let (memory, written) = state.usage.get(&config_name(config)).copied().unwrap_or_default();
            ContainerStats {
                attributes: Some(ContainerAttributes {
                    id: status.id.clone(),
                    metadata: status.metadata.clone(),
                    labels: status.labels.clone(),
                    ..Default::default()
                }),
                memory: Some(MemoryUsage { working_set_bytes: value(memory), ..Default::default() }),
                writable_layer: Some(FilesystemUsage { used_bytes: value(written), ..Default::default() }),
                ..Default::default()
            }
        });
        done(Ok(ListContainerStatsResponse { stats: stats.collect() }))
    }

    fn pod_sandbox_stats(&self, _: PodSandboxStatsRequest) -> Reply<'_, PodSandboxStatsResponse> {
        let linux = Some(LinuxPodSandboxStats { memory: Some(used(self.state.lock().used)), ..Default::default() });
        done(Ok(PodSandboxStatsResponse { stats: Some(PodSandboxStats { linux, ..Default::default() }) }))
    }

    fn list_pod_sandbox_stats(&self, _: ListPodSandboxStatsRequest) -> Reply<'_, ListPodSandboxStatsResponse> {
        unsupported()
    }

    fn update_runtime_config(&self, _: UpdateRuntimeConfigRequest) -> Reply<'_, UpdateRuntimeConfigResponse> {
        done(Ok(UpdateRuntimeConfigResponse {}))
    }

    fn runtime_config(&self, _: RuntimeConfigRequest) -> Reply<'_, RuntimeConfigResponse> {
        unsupported()
    }
}

impl ImageService for FakeRuntime {
    fn list_images(&self, _: ListImagesRequest) -> Reply<'_, ListImagesResponse> {
        done(Ok(ListImagesResponse { images: self.state.lock().images.values().cloned().collect() }))
    }

    fn image_status(&self, request: ImageStatusRequest) -> Reply<'_, ImageStatusResponse> {
        let name = request.image.unwrap_or_default().image;
        let image = (!name.starts_with("missing")).then(|| Image { id: format!("id-of-{name}"), ..Default::default() });
        done(Ok(ImageStatusResponse { image, ..Default::default() }))
    }

    fn pull_image(&self, request: PullImageRequest) -> Reply<'_, PullImageResponse> {
        let name = request.image.unwrap_or_default().image;
        self.state.lock().journal.push(format!("pull {name}"));
        done(Err(Error::not_found(format!("{name}: not found"))))
    }

    fn remove_image(&self, request: RemoveImageRequest) -> Reply<'_, RemoveImageResponse> {
        let id = request.image.unwrap_or_default().image;
        let mut state = self.state.lock();
        state.journal.push(format!("remove {id}"));
        let removed = state.images.remove(&id).map_or(0, |image| image.size);
        if let Some(sensors) = &state.sensors {
            sensors.disk.lock().bytes.free += removed;
        }
        done(Ok(RemoveImageResponse {}))
    }

    fn image_fs_info(&self, _: ImageFsInfoRequest) -> Reply<'_, ImageFsInfoResponse> {
        unsupported()
    }
}

/// A machine that has what the test says; all is free until then.
pub(crate) struct FakeSensors {
    pub(crate) memory: Mutex<Reading>,
    pub(crate) pods_memory: Mutex<u64>,
    pub(crate) disk: Mutex<FileSystem>,
    pub(crate) processes: Mutex<Reading>,
}

impl FakeSensors {
    fn new() -> Arc<Self> {
        let all = |whole: u64| Reading { free: whole, whole };
        let disk = FileSystem { device: 1, bytes: all(100 << 30), inodes: all(1_000_000) };
        Arc::new(Self {
            memory: Mutex::new(all(8 << 30)),
            pods_memory: Mutex::default(),
            disk: Mutex::new(disk),
            processes: Mutex::new(all(4_000_000)),
        })
    }

    /// So many bytes of the disk are free.
    pub(crate) fn free_disk(&self, bytes: u64) {
        self.disk.lock().bytes.free = bytes;
    }
}

impl Sensors for FakeSensors {
    fn memory(&self) -> Option<Reading> {
        Some(*self.memory.lock())
    }

    fn working_set(&self, _: &str) -> Option<u64> {
        Some(*self.pods_memory.lock())
    }

    fn file_system(&self, _: &Path) -> Option<FileSystem> {
        Some(*self.disk.lock())
    }

    fn processes(&self) -> Option<Reading> {
        Some(*self.processes.lock())
    }
}

/// Mounts nothing: folders stay folders.
pub(crate) struct NoMounts;

impl Mounts for NoMounts {
    fn tmpfs(&self, _: &Path, _: Option<u64>) -> std::io::Result<()> {
        Ok(())
    }

    fn bind(&self, _: BorrowedFd<'_>, _: &Path, _: linux::mounts::Attributes) -> std::io::Result<()> {
        Ok(())
    }

    fn is_mounted(&self, _: &Path) -> std::io::Result<bool> {
        Ok(false)
    }

    fn unmount(&self, _: &Path) -> std::io::Result<()> {
        Ok(())
    }
}

/// A node: an agent on a fake runtime in a fake cluster, with a clock that the test moves.
pub(crate) struct TestNode {
    pub(crate) cluster: Arc<FakeCluster>,
    pub(crate) runtime: Arc<FakeRuntime>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) power: crate::Power,
    pub(crate) shutdown_grace: Duration,
    pub(crate) sensors: Arc<FakeSensors>,
    /// What the settings say beyond where things lie.
    pub(crate) configure: fn(&mut Config),
    agent: Option<(CancellationToken, JoinHandle<()>)>,
    handle: Option<crate::Handle>,
}

impl TestNode {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(configure: fn(&mut Config)) -> Self {
        let clock = ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap());
        let mut node = Self {
            cluster: FakeCluster::new(),
            runtime: FakeRuntime::new(Arc::clone(&clock)),
            clock,
            dir: tempfile::tempdir().unwrap(),
            power: crate::Power::default(),
            shutdown_grace: Duration::from_secs(30),
            sensors: FakeSensors::new(),
            configure,
            agent: None,
            handle: None,
        };
        node.runtime.state.lock().sensors = Some(Arc::clone(&node.sensors));
        node.start_agent().await;
        node
    }

    pub(crate) async fn start_agent(&mut self) {
        let mut config = Config::new("n1");
        config.node_ips = vec!["192.168.0.2".parse().unwrap()];
        config.root_dir = self.dir.path().join("kubelet");
        config.pod_logs_dir = self.dir.path().join("logs");
        config.power = self.power.clone();
        config.shutdown_grace = self.shutdown_grace;
        config.static_pods = Some(self.static_pods());
        (self.configure)(&mut config);
        let machine = crate::agent::Machine {
            clock: Arc::clone(&self.clock) as Arc<dyn client::clock::Clock>,
            mounts: Arc::new(NoMounts),
            sensors: Arc::clone(&self.sensors) as Arc<dyn Sensors>,
        };
        let kubelet = crate::agent::Kubelet::with(
            config,
            self.cluster.client("system:node:n1"),
            self.cluster.informers(),
            Arc::clone(&self.runtime) as Arc<dyn RuntimeService>,
            Arc::clone(&self.runtime) as Arc<dyn ImageService>,
            machine,
        );
        let kubelet = kubelet.await.unwrap();
        self.handle = Some(kubelet.handle());
        let token = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it in stop_agent")]
        let task = tokio::spawn(kubelet.run(token.clone()));
        self.agent = Some((token, task));
    }

    pub(crate) fn handle(&self) -> crate::Handle {
        self.handle.clone().unwrap()
    }

    /// The newest container of a name has written this.
    pub(crate) fn write_log(&self, container: &str, text: &str) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.runtime.log_path(container)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Stops the agent as a kill would: containers go on.
    pub(crate) async fn stop_agent(&mut self) {
        if let Some((token, task)) = self.agent.take() {
            token.cancel();
            task.await.unwrap();
        }
    }

    /// Binds a pod of this spec to the node.
    pub(crate) fn create(&self, name: &str, spec: Value) -> Value {
        let mut spec = spec;
        spec["nodeName"] = json!("n1");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": 1},
            "spec": spec, "status": {"phase": "Pending"},
        });
        self.cluster.put(&resource_of::<Pod>(), pod)
    }

    pub(crate) fn put_config_map(&self, name: &str, data: Value) {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
                         "metadata": {"name": name, "namespace": "shop"}, "data": data});
        self.cluster.put(&resource_of::<ConfigMap>(), map);
    }

    pub(crate) fn pod(&self, name: &str) -> Option<Value> {
        self.cluster.get(&resource_of::<Pod>(), &ObjectKey::new("shop", name))
    }

    /// The reason and message of the node's condition Ready where it is not, else none.
    pub(crate) fn unready(&self) -> Option<(String, String)> {
        let node = self.cluster.get(&resource_of::<k8s_openapi::api::core::v1::Node>(), &ObjectKey::new("", "n1"))?;
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.into_iter().find(|it| it["type"] == "Ready" && it["status"] != "True")?;
        let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
        Some((text("reason"), text("message")))
    }

    /// `Warning BackOff ...`: the events of pods, sorted.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let events = self.cluster.list(&resource_of::<k8s_openapi::api::core::v1::Event>());
        let pods = events.iter().filter(|it| it["involvedObject"]["kind"] == "Pod");
        let mut all: Vec<String> =
            pods.map(|it| format!("{} {} {}", text(it, "type"), text(it, "reason"), text(it, "message"))).collect();
        all.sort();
        all
    }

    pub(crate) fn static_pods(&self) -> std::path::PathBuf {
        self.dir.path().join("pod-manifests")
    }

    /// Puts a static pod's file in place.
    pub(crate) fn write_static(&self, name: &str, spec: Value) {
        let metadata = json!({"name": name, "namespace": "shop"});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        self.write_static_file(&format!("{name}.json"), &pod.to_string());
    }

    pub(crate) fn write_static_file(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.static_pods()).unwrap();
        linux::files::write_atomic(&self.static_pods().join(name), text.as_bytes(), 0o600).unwrap();
    }

    /// What `kubectl delete` does: the pod is to end within so many seconds.
    pub(crate) fn delete(&self, name: &str, grace: i64) {
        let mut pod = self.pod(name).unwrap();
        let at = client::clock::Clock::now(&*self.clock) + jiff::SignedDuration::from_secs(grace);
        pod["metadata"]["deletionTimestamp"] = json!(client::events::time(at));
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        self.cluster.put(&resource_of::<Pod>(), pod);
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        while !holds(self) {
            if tokio::time::Instant::now() > end {
                panic!(
                    "not so within 10 s: {what}\n{}\njournal {:?}\npods {}",
                    self.runtime.containers(),
                    self.runtime.journal(),
                    serde_json::to_string_pretty(&self.cluster.list(&resource_of::<Pod>())).unwrap()
                );
            }
            tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(2)).await;
        }
    }

    /// Waits until the pod's phase is this.
    pub(crate) async fn until_phase(&self, name: &str, phase: &str) {
        self.until(phase, |node| node.pod(name).is_some_and(|pod| pod["status"]["phase"] == phase)).await;
    }

    pub(crate) async fn until_ready(&self, name: &str, ready: bool) {
        let wanted = if ready { "True" } else { "False" };
        self.until("Ready", |node| condition(&node.pod(name).unwrap_or_default(), "Ready") == wanted).await;
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// The status of a condition; empty when it isn't there.
pub(crate) fn condition(pod: &Value, kind: &str) -> String {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|it| it["type"] == kind);
    found.and_then(|it| it["status"].as_str().map(str::to_owned)).unwrap_or_default()
}
