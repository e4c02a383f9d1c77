//! Nodes as containers of a Docker engine, through its API.
//!
//! A node is never `--privileged`. It may do what [`CAPABILITIES`] lists beyond the engine's defaults, sees /proc and
//! /sys unmasked and has devices: root in a node can mount, configure its own network namespace and reach every
//! device of the host. The engine restarts it with itself; its data are in a volume that bears its name.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum, Ipam,
    IpamConfig, NetworkCreateRequest, NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ImportImageOptionsBuilder, InspectNetworkOptions, RemoveContainerOptionsBuilder,
    RemoveVolumeOptionsBuilder, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bollard::{Docker, body_full, body_try_stream};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use super::{During as _, Exec, NodeFile, NodeRuntime, NodeSpec, Observed, RuntimeError, RuntimeKind};
use crate::cluster::layout;
use crate::node_image::{NodeImage, oci};

/// What a node needs beyond the engine's default set: mounts and namespaces (SYS_ADMIN), links and nftables
/// (NET_ADMIN, NET_BROADCAST), other users' files and processes (DAC_READ_SEARCH, SYS_PTRACE), memory locks and
/// priorities of pods (IPC_LOCK, SYS_NICE), the kernel's log (SYSLOG).
const CAPABILITIES: [&str; 8] =
    ["DAC_READ_SEARCH", "IPC_LOCK", "NET_ADMIN", "NET_BROADCAST", "SYSLOG", "SYS_ADMIN", "SYS_NICE", "SYS_PTRACE"];
/// Longer than a server takes to close its datastore.
const STOP_SECONDS: i32 = 20;
const DATA: &str = "/var/lib/rancher/k3s";

/// A Docker engine.
pub(crate) struct DockerRuntime {
    engine: Docker,
}

type Result<T> = std::result::Result<T, RuntimeError>;
type Refusal = bollard::errors::Error;

fn status(error: &Refusal) -> Option<u16> {
    match error {
        Refusal::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// The engine's answer to an operation that finds things as they should be: 304, 404 or 409.
fn unless<T>(result: std::result::Result<T, Refusal>, fine: u16, what: impl FnOnce() -> String) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if status(&error) == Some(fine) => Ok(None),
        Err(error) => Err(refused(what(), &error)),
    }
}

fn refused(what: String, error: &Refusal) -> RuntimeError {
    match error {
        Refusal::DockerResponseServerError { message, .. } => RuntimeError::failed(what, message.trim()),
        other => RuntimeError::failed(what, other),
    }
}

/// No engine, or one that does not talk to this user.
fn unreachable(error: &Refusal) -> RuntimeError {
    let mut causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |it| it.source());
    let denied =
        causes.any(|it| it.downcast_ref::<io::Error>().is_some_and(|it| it.kind() == io::ErrorKind::PermissionDenied));
    match denied {
        true => RuntimeError::Permission {
            what: "this user may not talk to the Docker engine".to_owned(),
            remedy: "join the group that owns its socket (docker), or run it with sudo".to_owned(),
        },
        false => RuntimeError::Unable {
            what: format!("no Docker engine answers: {error}"),
            remedy: "start Docker, or make the cluster with --runtime native".to_owned(),
        },
    }
}

impl DockerRuntime {
    /// The engine of `DOCKER_HOST`, or the local one; it must answer.
    pub(crate) async fn connect() -> Result<Self> {
        let engine = Docker::connect_with_defaults().map_err(|error| unreachable(&error))?;
        engine.ping().await.map_err(|error| unreachable(&error))?;
        Ok(Self { engine })
    }

    /// Writes an image of the engine to `file`, as an archive.
    pub(crate) async fn save(&self, image: &str, mut file: &std::fs::File) -> Result<()> {
        let what = || format!("saving image {image}");
        if let Err(error) = self.engine.inspect_image(image).await {
            return Err(match status(&error) {
                Some(404) => RuntimeError::Unknown {
                    what: format!("there is neither a file nor an image {image}"),
                    remedy: "see `docker images`, or name an archive".to_owned(),
                },
                _ => refused(what(), &error),
            });
        }
        let mut archive = self.engine.export_image(image);
        while let Some(chunk) = archive.next().await {
            file.write_all(&chunk.map_err(|error| refused(what(), &error))?).during(what)?;
        }
        Ok(())
    }

    async fn load(&self, image: &NodeImage) -> Result<()> {
        if self.engine.inspect_image(&image.name).await.is_ok() {
            return Ok(());
        }
        let what = || format!("loading image {}", image.name);
        let archive = tokio::fs::read(&image.archive).await.during(what)?;
        let mut answers = self.engine.import_image(
            ImportImageOptionsBuilder::default().quiet(true).build(),
            body_full(archive.into()),
            None,
        );
        while let Some(answer) = answers.next().await {
            answer.map_err(|error| refused(what(), &error))?;
        }
        Ok(())
    }

    async fn make_network(&self, cluster: &str, network: u8) -> Result<()> {
        let request = NetworkCreateRequest {
            name: network_name(cluster),
            driver: Some("bridge".to_owned()),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(layout::subnet(network).to_string()),
                    gateway: Some(layout::gateway(network).to_string()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            labels: Some(labels(cluster)),
            ..NetworkCreateRequest::default()
        };
        let what = || format!("making network {}", network_name(cluster));
        // Engines differ in whether the name or the range of a network that is there is what they object to.
        let name = network_name(cluster);
        if unless(self.engine.inspect_network(&name, None::<InspectNetworkOptions>).await, 404, what)?.is_some() {
            return Ok(());
        }
        unless(self.engine.create_network(request).await, 409, what).map(|_| ())
    }

    async fn create(&self, node: &NodeSpec, files: &[NodeFile]) -> Result<()> {
        let what = || format!("creating node {}", node.name);
        let options = CreateContainerOptionsBuilder::default().name(&node.name).build();
        unless(self.engine.create_container(Some(options), container(node)).await, 409, what)?;
        if files.is_empty() {
            return Ok(());
        }
        let archive = archive(files).during(what)?;
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let sent = self.engine.upload_to_container(&node.name, Some(options), body_full(archive.into())).await;
        sent.map_err(|error| refused(what(), &error))
    }

    async fn delete(&self, node: &NodeSpec) -> Result<()> {
        let what = || format!("deleting node {}", node.name);
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        unless(self.engine.remove_container(&node.name, Some(options)).await, 404, what)?;
        let options = RemoveVolumeOptionsBuilder::default().force(true).build();
        unless(self.engine.remove_volume(&node.name, Some(options)).await, 404, what).map(|_| ())
    }

    async fn run(&self, node: &NodeSpec, exec: &Exec) -> Result<i32> {
        let what = || format!("running a program in node {}", node.name);
        let failed = |error: Refusal| match status(&error) {
            Some(409) => RuntimeError::NotRunning(node.name.clone()),
            _ => refused(what(), &error),
        };
        let command = if exec.command.is_empty() { vec!["/bin/sh".to_owned()] } else { exec.command.clone() };
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(exec.terminal),
            cmd: Some(command),
            ..CreateExecOptions::default()
        };
        let id = self.engine.create_exec(&node.name, options).await.map_err(failed)?.id;
        let start = StartExecOptions { tty: exec.terminal, ..StartExecOptions::default() };
        let started = self.engine.start_exec(&id, Some(start)).await.map_err(failed)?;
        if let StartExecResults::Attached { output, input } = started {
            let _raw = exec.terminal.then(k3rs::terminal::Raw::enter).transpose().during(what)?;
            let resized = async {
                match exec.terminal {
                    true => self.follow_size(&id).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                relayed = relay(output, input) => relayed.during(what)?,
                never = resized => match never {},
            }
        }
        let ended = self.engine.inspect_exec(&id).await.map_err(failed)?;
        Ok(ended.exit_code.and_then(|it| i32::try_from(it).ok()).unwrap_or(1))
    }

    /// Keeps the program's terminal as large as the user's. One that cannot be told stays as it is.
    async fn follow_size(&self, id: &str) -> std::convert::Infallible {
        use tokio::signal::unix::{SignalKind, signal};
        let mut changes = signal(SignalKind::window_change()).ok();
        loop {
            if let Ok(size) = rustix::termios::tcgetwinsize(io::stdin()) {
                let options = ResizeExecOptions { height: size.ws_row, width: size.ws_col };
                _ = self.engine.resize_exec(id, options).await;
            }
            match &mut changes {
                Some(changes) => _ = changes.recv().await,
                None => std::future::pending().await,
            }
        }
    }
}

type Output =
    std::pin::Pin<Box<dyn futures::Stream<Item = std::result::Result<bollard::container::LogOutput, Refusal>> + Send>>;
type Input = std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>;

/// Between the caller's streams and the program's, until the program has ended.
async fn relay(mut output: Output, mut input: Input) -> io::Result<()> {
    use bollard::container::LogOutput;
    let mut typed = typed();
    let feed = async {
        while let Some(bytes) = typed.recv().await {
            input.write_all(&bytes).await?;
        }
        input.shutdown().await?;
        // The end of the input is not the end of the program.
        std::future::pending().await
    };
    let show = async {
        while let Some(chunk) = output.try_next().await.map_err(io::Error::other)? {
            match chunk {
                LogOutput::StdErr { message } => io::stderr().write_all(&message)?,
                other => io::stdout().write_all(&other.into_bytes()).and_then(|()| io::stdout().flush())?,
            }
        }
        Ok(())
    };
    tokio::select! { shown = show => shown, fed = feed => fed }
}

/// Standard input, read by a thread that ends with the process: nothing can wake a read of a terminal.
fn typed() -> tokio::sync::mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = io::stdin().read(&mut buffer) {
            if length == 0 || sender.blocking_send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

impl NodeRuntime for DockerRuntime {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Docker
    }

    fn load_image<'a>(&'a self, image: &'a NodeImage) -> BoxFuture<'a, Result<()>> {
        self.load(image).boxed()
    }

    fn create_network<'a>(&'a self, cluster: &'a str, network: u8) -> BoxFuture<'a, Result<()>> {
        self.make_network(cluster, network).boxed()
    }

    fn delete_network<'a>(&'a self, cluster: &'a str, _: u8) -> BoxFuture<'a, Result<()>> {
        async move {
            let name = network_name(cluster);
            unless(self.engine.remove_network(&name).await, 404, || format!("deleting network {name}")).map(|_| ())
        }
        .boxed()
    }

    fn create_node<'a>(&'a self, node: &'a NodeSpec, files: &'a [NodeFile]) -> BoxFuture<'a, Result<()>> {
        self.create(node, files).boxed()
    }

    fn start_node<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<()>> {
        async move {
            let started = self.engine.start_container(&node.name, None).await;
            unless(started, 304, || format!("starting node {}", node.name)).map(|_| ())
        }
        .boxed()
    }

    fn stop_node<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<()>> {
        async move {
            let options = StopContainerOptionsBuilder::default().t(STOP_SECONDS).build();
            let stopped = self.engine.stop_container(&node.name, Some(options)).await;
            unless(stopped, 304, || format!("stopping node {}", node.name)).map(|_| ())
        }
        .boxed()
    }

    fn delete_node<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<()>> {
        self.delete(node).boxed()
    }

    fn inspect<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<Option<Observed>>> {
        async move {
            let answer = self.engine.inspect_container(&node.name, None).await;
            let found = unless(answer, 404, || format!("looking at node {}", node.name))?;
            let running =
                |it: bollard::models::ContainerInspectResponse| it.state.and_then(|it| it.running) == Some(true);
            Ok(found.map(|it| Observed { name: node.name.clone(), running: running(it) }))
        }
        .boxed()
    }

    fn copy_in<'a>(&'a self, node: &'a NodeSpec, from: &'a Path, to: &'a str) -> BoxFuture<'a, Result<()>> {
        async move {
            let what = || format!("copying {} into node {}", from.display(), node.name);
            let archive = archive_of(from, to.trim_start_matches('/')).await.during(what)?;
            let options = UploadToContainerOptionsBuilder::default().path("/").build();
            let sent = self.engine.upload_to_container(&node.name, Some(options), body_try_stream(archive)).await;
            sent.map_err(|error| refused(what(), &error))
        }
        .boxed()
    }

    fn exec<'a>(&'a self, node: &'a NodeSpec, exec: &'a Exec) -> BoxFuture<'a, Result<i32>> {
        self.run(node, exec).boxed()
    }
}

fn network_name(cluster: &str) -> String {
    format!("k3rs-{cluster}")
}

fn labels(cluster: &str) -> HashMap<String, String> {
    HashMap::from([("k3rs.cluster".to_owned(), cluster.to_owned())])
}

/// A node as the engine is told of it.
fn container(node: &NodeSpec) -> ContainerCreateBody {
    let mut labels = labels(&node.cluster);
    labels.insert("k3rs.role".to_owned(), node.role.to_string());
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(node.address.to_string()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    };
    let network = network_name(&node.cluster);
    let exposed = |it: &super::Publish| format!("{}/{}", it.port, it.transport);
    ContainerCreateBody {
        hostname: Some(node.name.clone()),
        image: Some(node.image.clone()),
        entrypoint: Some(node.command.clone()),
        env: Some(node.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        exposed_ports: Some(node.ports.iter().map(exposed).collect()),
        labels: Some(labels),
        stop_timeout: Some(STOP_SECONDS.into()),
        host_config: Some(host_config(node, &network)),
        networking_config: Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(network, endpoint)])) }),
        ..ContainerCreateBody::default()
    }
}

fn host_config(node: &NodeSpec, network: &str) -> HostConfig {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for publish in &node.ports {
        let binding = PortBinding {
            host_ip: Some(publish.host.ip().to_string()),
            host_port: Some(publish.host.port().to_string()),
        };
        let port = format!("{}/{}", publish.port, publish.transport);
        bindings.entry(port).or_default().get_or_insert_default().push(binding);
    }
    HostConfig {
        binds: Some(vec![format!("{}:{DATA}", node.name)]),
        cap_add: Some(CAPABILITIES.map(str::to_owned).into()),
        security_opt: Some(["seccomp=unconfined", "apparmor=unconfined"].map(str::to_owned).into()),
        // What the engine's own client calls `systempaths=unconfined`.
        masked_paths: Some(Vec::new()),
        readonly_paths: Some(Vec::new()),
        device_cgroup_rules: Some(vec!["a *:* rwm".to_owned()]),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        network_mode: Some(network.to_owned()),
        port_bindings: Some(bindings),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
            maximum_retry_count: None,
        }),
        tmpfs: Some(HashMap::from([("/run".to_owned(), String::new()), ("/tmp".to_owned(), "mode=1777".to_owned())])),
        ..HostConfig::default()
    }
}

/// A tar of one file, read while it is sent.
async fn archive_of(from: &Path, to: &str) -> io::Result<impl futures::Stream<Item = io::Result<Bytes>> + use<>> {
    let file = tokio::fs::File::open(from).await?;
    let size = file.metadata().await?.len();
    let mut header = oci::header(0o600);
    header.set_path(to)?;
    header.set_size(size);
    header.set_cksum();
    let head = Bytes::copy_from_slice(header.as_bytes());
    // To whole blocks of 512 bytes, then two empty ones (pax(1)).
    let padding = usize::try_from(size.next_multiple_of(512) - size).map_err(io::Error::other)?;
    let tail = Bytes::from(vec![0; padding + 1024]);
    let once = |bytes| futures::stream::iter([Ok(bytes)]);
    Ok(once(head).chain(ReaderStream::new(tokio::io::AsyncReadExt::take(file, size))).chain(once(tail)))
}

fn archive(files: &[NodeFile]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for file in files {
        oci::append(&mut tar, oci::header(file.mode), &file.path, &file.contents)?;
    }
    tar.into_inner()
}
