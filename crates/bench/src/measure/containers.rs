//! Containers without Kubernetes around them: our runtime in process, and runc as its users start it, from the same
//! image, round by round in turn. Neither installs a seccomp filter: runc has no default one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use api::cri::*;
use containers::{Config, LoopbackOnly, Runtime, Services, ShimProgram};
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::{Bench, milliseconds};
use crate::figures::Outcome;
use crate::programs::{check_interrupted, command, run as run_program};
use crate::{SHIM, image};

const RUNC: &str = "runc";
/// A run takes milliseconds: so many more of them.
const FACTOR: usize = 10;
/// In runc's configuration; a pod's containers share the others.
const POD_NAMESPACES: [&str; 3] = ["network", "ipc", "uts"];

pub(super) fn run(bench: &Bench) -> Result<Vec<Outcome>> {
    let directory = tempfile::Builder::new().prefix("containers-").tempdir_in(&bench.directory)?;
    let peers = [Bundle::new(bench, directory.path(), false), Bundle::new(bench, directory.path(), true)];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut figures: [Vec<f64>; 4] = Default::default();
    runtime.block_on(async {
        let node = Node::open(bench, directory.path()).await?;
        let shared = node.run_pod().await?;
        for _ in 0..bench.runs * FACTOR {
            check_interrupted()?;
            let began = Instant::now();
            node.run_container(&shared).await?;
            figures[0].push(milliseconds(began.elapsed()));
            let began = Instant::now();
            let own = node.run_pod().await?;
            node.run_container(&own).await?;
            node.remove_pod(&own).await?;
            figures[1].push(milliseconds(began.elapsed()));
            for (peer, figures) in peers.iter().zip(&mut figures[2..]) {
                if let Ok(bundle) = peer {
                    let began = Instant::now();
                    bundle.run()?;
                    figures.push(milliseconds(began.elapsed()));
                }
            }
        }
        node.remove_pod(&shared).await?;
        node.close()
    })?;
    let [container, sandbox, runc, runc_pod] = figures;
    let mut outcomes =
        [Outcome::new("container", container).beside(runc), Outcome::new("sandbox", sandbox).beside(runc_pod)];
    for (outcome, peer) in outcomes.iter_mut().zip(&peers) {
        if let Err(why) = peer {
            outcome.notes.push(format!("without runc: {why:#}"));
        }
    }
    Ok(outcomes.into())
}

/// Our runtime with the image in it.
struct Node {
    services: Services,
    directory: PathBuf,
    cgroup: String,
}

impl Node {
    async fn open(bench: &Bench, directory: &Path) -> Result<Self> {
        let cgroup = format!("/k3rs-bench-{}", std::process::id());
        let config = Config {
            root: directory.join("store"),
            state: directory.join("state"),
            owner: "node".to_owned(),
            cgroup_parent: cgroup.clone(),
            network: Arc::new(LoopbackOnly),
            shim: ShimProgram { path: "/proc/self/exe".into(), arguments: vec![SHIM.into()] },
            remote: None,
        };
        let runtime = Runtime::open(config).await?;
        let archive = directory.join("payload.tar");
        image::write(&bench.payload, &archive, image::NAME, &[])?;
        runtime.images().import(std::fs::File::open(&archive)?)?;
        Ok(Self { services: Services(runtime), directory: directory.to_owned(), cgroup })
    }

    async fn run_pod(&self) -> Result<String> {
        let security = LinuxSandboxSecurityContext { namespace_options: Some(namespaces()), ..Default::default() };
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "pod".to_owned(),
                uid: "uid".to_owned(),
                namespace: "bench".to_owned(),
                attempt: 0,
            }),
            hostname: "pod".to_owned(),
            log_directory: self.directory.join("logs").display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: "/pods/pod".to_owned(),
                security_context: Some(security),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        let answer = self.services.run_pod_sandbox(request).await.map_err(refused)?;
        Ok(answer.pod_sandbox_id)
    }

    /// Makes, starts, waits for and removes a container that ends at once.
    async fn run_container(&self, pod: &str) -> Result<()> {
        let mut events = self.services.container_events().await.map_err(refused)?;
        let request =
            CreateContainerRequest { pod_sandbox_id: pod.to_owned(), config: Some(container()), sandbox_config: None };
        let container_id = self.services.create_container(request).await.map_err(refused)?.container_id;
        let request = StartContainerRequest { container_id: container_id.clone() };
        self.services.start_container(request).await.map_err(refused)?;
        while !self.has_ended(&container_id).await? {
            events.next().await.context("the runtime's events have ended")?.map_err(refused)?;
        }
        self.services.remove_container(RemoveContainerRequest { container_id }).await.map_err(refused)?;
        Ok(())
    }

    async fn has_ended(&self, container: &str) -> Result<bool> {
        let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
        let status = self.services.container_status(request).await.map_err(refused)?.status.unwrap_or_default();
        Ok(status.state() == ContainerState::Exited)
    }

    async fn remove_pod(&self, pod: &str) -> Result<()> {
        let request = StopPodSandboxRequest { pod_sandbox_id: pod.to_owned() };
        self.services.stop_pod_sandbox(request).await.map_err(refused)?;
        let request = RemovePodSandboxRequest { pod_sandbox_id: pod.to_owned() };
        self.services.remove_pod_sandbox(request).await.map_err(refused)?;
        Ok(())
    }

    fn close(self) -> Result<()> {
        let cgroups = linux::cgroups::Cgroups::detect()?;
        cgroups.group(&self.cgroup).remove().map_err(|why| anyhow!("removing cgroup {}: {why}", self.cgroup))
    }
}

fn refused(why: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the runtime refuses: {why}")
}

fn namespaces() -> NamespaceOption {
    NamespaceOption { pid: NamespaceMode::Container as i32, ..Default::default() }
}

fn container() -> ContainerConfig {
    let unconfined = SecurityProfile { profile_type: ProfileType::Unconfined as i32, ..Default::default() };
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: image::NAME.to_owned(), ..Default::default() }),
        log_path: "main.log".to_owned(),
        linux: Some(LinuxContainerConfig {
            resources: None,
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(namespaces()),
                seccomp: Some(unconfined),
                masked_paths: ["/proc/kcore", "/proc/keys", "/sys/firmware"].map(str::to_owned).into(),
                readonly_paths: ["/proc/sys", "/proc/sysrq-trigger"].map(str::to_owned).into(),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// A directory that runc makes a container of.
struct Bundle {
    path: PathBuf,
    root: PathBuf,
}

impl Bundle {
    /// `own` asks for namespaces that a pod's containers share.
    fn new(bench: &Bench, directory: &Path, own: bool) -> Result<Self> {
        let path = directory.join(if own { "bundle-pod" } else { "bundle" });
        let program = path.join("rootfs").join(image::PROGRAM.trim_start_matches('/'));
        std::fs::create_dir_all(path.join("rootfs"))?;
        std::fs::copy(&bench.payload, &program)?;
        run_program(command(RUNC).arg("spec").arg("--bundle").arg(&path))?;
        let specification = path.join("config.json");
        let mut document: Value = serde_json::from_slice(&std::fs::read(&specification)?)?;
        document["process"]["terminal"] = json!(false);
        document["process"]["args"] = json!([image::PROGRAM]);
        if let Some(namespaces) = document["linux"]["namespaces"].as_array_mut().filter(|_| !own) {
            namespaces.retain(|it| !POD_NAMESPACES.iter().any(|shared| it["type"] == *shared));
        }
        if !own {
            // Without a UTS namespace of its own a container has no name to set.
            document.as_object_mut().context("runc's configuration is an object")?.remove("hostname");
        }
        linux::files::replace(&specification, document.to_string().as_bytes(), 0o644)?;
        Ok(Self { path, root: directory.join("runc") })
    }

    fn run(&self) -> Result<()> {
        let mut runc = command(RUNC);
        runc.arg("--root").arg(&self.root).arg("run").arg("--bundle").arg(&self.path).arg("k3rs-bench");
        run_program(&mut runc).map(|_| ())
    }
}
