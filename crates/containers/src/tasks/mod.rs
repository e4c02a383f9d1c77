//! Containers: made from an image, started by the pod's shim, stopped, removed.
//!
//! `Created` -> `Running` -> `Ended`, never back; a failed start ends with code 128 as containerd's does.

pub(crate) mod plan;
mod streams;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::cri::{Code, ContainerEventType, CreateContainerRequest, Error, LinuxContainerResources, Result, Signal};
use base64::Engine as _;
use linux::cgroups::{Access, DeviceKind, DeviceRule};
use linux::mounts::{self, Attributes};
use linux::paths::Root;
use parking_lot::Mutex;
use rustix::fs::FileType;
use tokio::sync::watch;

use self::plan::{Bind, BindSource, Plan, Wanted};
use crate::records::{self, ContainerRecord};
use crate::runtime::Runtime;
use crate::sandboxes::Sandbox;
use crate::seccomp;
use crate::shim::client::Error as ShimError;
use crate::shim::protocol::{Call, ContainerSpec, DeviceSpec, ExitRecord, ProcessSpec, Reply, RootSpec};

pub(crate) struct Container {
    pub id: String,
    pub sandbox: String,
    pub directory: PathBuf,
    pub record: Mutex<ContainerRecord>,
    phase: watch::Sender<Phase>,
    /// One change at a time: start, stop, remove.
    gate: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    Running { pid: i32 },
    Ended(Ended),
}

/// How a container ended, in the words of its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub code: i32,
    pub finished_at: i64,
    pub reason: &'static str,
    pub message: String,
}

impl Ended {
    pub(crate) fn from_exit(exit: &ExitRecord) -> Self {
        let reason = match exit.code {
            _ if exit.out_of_memory => "OOMKilled",
            0 => "Completed",
            _ => "Error",
        };
        Self { code: exit.code, finished_at: exit.finished_at, reason, message: String::new() }
    }

    pub(crate) fn not_started(message: String) -> Self {
        Self { code: 128, finished_at: records::now(), reason: "StartError", message }
    }

    /// containerd's code and reason for what nobody saw.
    pub(crate) fn unknown(message: &str) -> Self {
        Self { code: 255, finished_at: records::now(), reason: "Unknown", message: message.to_owned() }
    }
}

impl Container {
    pub(crate) fn new(record: ContainerRecord, directory: PathBuf, phase: Phase) -> Self {
        Self {
            id: record.id.clone(),
            sandbox: record.sandbox.clone(),
            directory,
            record: Mutex::new(record),
            phase: watch::Sender::new(phase),
            gate: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// False when it had ended before.
    pub(crate) fn end(&self, ended: Ended) -> bool {
        self.phase.send_if_modified(|phase| {
            let first = !matches!(phase, Phase::Ended(_));
            if first {
                *phase = Phase::Ended(ended);
            }
            first
        })
    }

    /// Waits until it has ended.
    async fn ended(&self) {
        // The sender lives as long as `self`.
        _ = self.phase.subscribe().wait_for(|it| matches!(it, Phase::Ended(_))).await;
    }

    fn save(&self) -> Result<()> {
        let record = self.record.lock().clone();
        records::save(&self.directory, &record)
            .map_err(|error| Error::internal(format!("cannot write the container's record: {error}")))
    }
}

impl Runtime {
    pub(crate) fn create(self: &Arc<Self>, request: CreateContainerRequest) -> Result<String> {
        let config = request.config.ok_or_else(|| Error::invalid("a container needs a config"))?;
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        sandbox.client()?;
        if config.metadata.is_none() {
            return Err(Error::invalid("a container needs metadata"));
        }
        let reference = config.image.as_ref().map(|it| it.image.clone()).unwrap_or_default();
        let image = self.images.find(&reference).ok_or_else(|| {
            Error::not_found(format!("failed to resolve image \"{reference}\": not found: import it or pull it first"))
        })?;
        let id = records::new_id();
        let resources = config.linux.as_ref().and_then(|it| it.resources.clone()).unwrap_or_default();
        let record = ContainerRecord {
            version: records::VERSION,
            id: id.clone(),
            sandbox: sandbox.id.clone(),
            config,
            image: image.id.clone(),
            created_at: records::now(),
            started_at: None,
            user: Default::default(),
            start_error: None,
            resources,
        };
        let directory = self.config.state.join("containers").join(&id);
        let container = Arc::new(Container::new(record, directory, Phase::Created));
        // What cannot be planned is refused now, not when it is started.
        self.plan(&container, &sandbox)?;
        let failed = |error: std::io::Error| Error::internal(format!("failed to create container: {error}"));
        std::fs::create_dir(&container.directory).map_err(failed)?;
        container.save()?;
        for name in ["fs", "work"] {
            std::fs::create_dir_all(self.snapshot(&container).join(name)).map_err(failed)?;
        }
        self.containers.lock().insert(id.clone(), Arc::clone(&container));
        self.publish(&container, ContainerEventType::Created);
        Ok(id)
    }

    fn snapshot(&self, container: &Container) -> PathBuf {
        self.snapshots().join(&container.id)
    }

    fn plan(&self, container: &Container, sandbox: &Sandbox) -> Result<Plan> {
        let (config, image) = {
            let record = container.record.lock();
            (record.config.clone(), record.image.clone())
        };
        let image = self.images.find(&image).ok_or_else(|| {
            Error::not_found(format!("image {image} was removed after the container had been created"))
        })?;
        let image = self.images.configuration(&image).map_err(|error| Error::internal(error.to_string()))?;
        let pod = sandbox.record.lock().config.clone();
        plan::plan(Wanted {
            config: &config,
            sandbox: &pod,
            sandbox_directory: &sandbox.directory,
            image: &image,
            node: &self.node,
        })
    }

    /// The container's process as it would be started now: what execs are like.
    fn process_of(&self, container: &Container, sandbox: &Sandbox) -> Result<ProcessSpec> {
        let mut plan = self.plan(container, sandbox)?;
        let config = container.record.lock().config.clone();
        plan.process.seccomp = filter(&config, &plan)?;
        Ok(plan.process)
    }

    pub(crate) async fn start(self: &Arc<Self>, id: &str) -> Result<()> {
        let container = self.container(id)?;
        let _turn = container.gate.lock().await;
        if container.phase() != Phase::Created {
            return Err(Error::precondition(format!("container {} was started before", container.id)));
        }
        let sandbox = self.sandbox(&container.sandbox)?;
        container.record.lock().started_at = Some(records::now());
        container.save()?;
        match self.launch(&container, &sandbox).await {
            Ok(pid) => {
                container.phase.send_if_modified(|phase| {
                    // A short one may have ended already.
                    let created = *phase == Phase::Created;
                    if created {
                        *phase = Phase::Running { pid };
                    }
                    created
                });
                self.publish(&container, ContainerEventType::Started);
                Ok(())
            }
            Err(error) => {
                container.record.lock().start_error = Some(error.message.clone());
                container.save()?;
                self.end(&container, Ended::not_started(error.message.clone()));
                Err(error)
            }
        }
    }

    async fn launch(self: &Arc<Self>, container: &Arc<Container>, sandbox: &Sandbox) -> Result<i32> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Error::new(Code::Unknown, format!("failed to start container: {what}: {error}"))
        };
        let mut plan = self.plan(container, sandbox)?;
        self.add_devices(container, &mut plan)?;
        let config = container.record.lock().config.clone();
        plan.process.seccomp = filter(&config, &plan)?;
        let group = self.group(container);
        let limited = group.create().and_then(|()| group.limit(&plan.limits));
        limited.and_then(|()| group.allow_devices(&plan.device_rules)).map_err(|error| failed("cgroup", &error))?;
        let mut descriptors = group.entrances().map_err(|error| failed("cgroup", &error))?;
        let entrances = descriptors.len();
        descriptors.push(group.memory_events().map_err(|error| failed("cgroup", &error))?);
        for bind in &plan.binds {
            descriptors.push(self.open_bind(bind).map_err(|error| failed(&describe(bind), &error))?);
        }
        let spec = self.spec(container, sandbox, plan, entrances)?;
        let reply = sandbox.client()?.call_with(Call::Start(Box::new(spec)), descriptors).await;
        match reply.map_err(|error| start_error(&error))?.0 {
            Reply::Started(running) => {
                let mut record = container.record.lock();
                record.user = running.user;
                record.started_at = Some(running.started_at);
                drop(record);
                container.save()?;
                Ok(running.pid)
            }
            _ => Err(failed("shim", &"it gave another answer")),
        }
    }

    fn spec(&self, container: &Container, sandbox: &Sandbox, plan: Plan, entrances: usize) -> Result<ContainerSpec> {
        let record = container.record.lock();
        let image = self.images.find(&record.image).ok_or_else(|| Error::not_found("the image is gone"))?;
        let snapshot = self.snapshot(container);
        let logs = sandbox.record.lock().config.log_directory.clone();
        let log = Some(Path::new(&logs).join(&record.config.log_path));
        Ok(ContainerSpec {
            id: container.id.clone(),
            directory: container.directory.clone(),
            root: RootSpec {
                lower: self.images.layers(&image),
                upper: snapshot.join("fs"),
                work: snapshot.join("work"),
                readonly: plan.readonly_root,
                mount_point: self.config.state.join("root"),
            },
            mounts: plan.mounts,
            devices: plan.devices,
            masked_paths: plan.masked_paths,
            readonly_paths: plan.readonly_paths,
            pid: plan.pid,
            process: plan.process,
            user: plan.user,
            stdin: record.config.stdin,
            stdin_once: record.config.stdin_once,
            log: log.filter(|_| !logs.is_empty() && !record.config.log_path.is_empty()),
            entrances,
        })
    }

    /// The devices that were asked for by name, with leave to use them.
    fn add_devices(&self, container: &Container, plan: &mut Plan) -> Result<()> {
        for device in &container.record.lock().config.devices {
            let access = Access::parse(&device.permissions)
                .ok_or_else(|| Error::invalid(format!("unknown device permissions {:?}", device.permissions)))?;
            let found = device_at(Path::new(&device.host_path), Path::new(&device.container_path))
                .map_err(|error| Error::invalid(format!("device {}: {error}", device.host_path)))?;
            let kind = if found.block { DeviceKind::Block } else { DeviceKind::Character };
            plan.device_rules.push(DeviceRule { kind, major: Some(found.major), minor: Some(found.minor), access });
            plan.devices.push(found);
        }
        Ok(())
    }

    fn open_bind(&self, bind: &Bind) -> std::io::Result<OwnedFd> {
        let tree = match &bind.source {
            BindSource::Path(path) => {
                // What is to be mounted and is not there becomes a folder: a hostPath that asks for no check relies on it.
                if !path.exists() {
                    std::fs::create_dir_all(path)?;
                }
                mounts::clone_path(path, true)?
            }
            BindSource::Image { reference, path } => self.open_image(reference, path)?,
        };
        mounts::set_attributes(tree.as_fd(), true, Attributes::empty(), Some(bind.propagation))?;
        if bind.readonly {
            mounts::set_attributes(tree.as_fd(), bind.recursive, Attributes::MOUNT_ATTR_RDONLY, None)?;
        }
        Ok(tree)
    }

    /// An image's files, or a folder of them (KEP-4639).
    fn open_image(&self, reference: &str, path: &str) -> std::io::Result<OwnedFd> {
        let missing =
            || std::io::Error::new(std::io::ErrorKind::NotFound, format!("image {reference} is not on this node"));
        let layers = self.images.layers(&self.images.find(reference).ok_or_else(missing)?);
        let whole = match &layers[..] {
            // An overlay needs two.
            [only] => mounts::clone_path(only, false)?,
            several => {
                let lower: Vec<&Path> = several.iter().map(PathBuf::as_path).collect();
                mounts::overlay(&lower, None, Attributes::empty())?
            }
        };
        if path.is_empty() {
            return Ok(whole);
        }
        let folder = Root::from_fd(whole).handle(Path::new(path))?;
        mounts::clone_handle(folder.as_fd(), false)
    }

    pub(crate) async fn stop(self: &Arc<Self>, container: &Arc<Container>, grace: Duration) -> Result<()> {
        if !matches!(container.phase(), Phase::Running { .. }) {
            return Ok(());
        }
        let sandbox = self.sandbox(&container.sandbox)?;
        let signal = |number| {
            let call = Call::Signal { container: container.id.clone(), number };
            let client = sandbox.client();
            // Neither a container that has ended meanwhile nor a shim that is gone is in the way of stopping.
            async move {
                if let Ok(client) = client {
                    _ = client.call(call).await;
                }
            }
        };
        if !grace.is_zero() {
            signal(self.stop_signal(container)).await;
            if tokio::time::timeout(grace, container.ended()).await.is_ok() {
                return Ok(());
            }
        }
        signal(9).await;
        let group = self.group(container);
        group.kill().map_err(|error| Error::internal(error.to_string()))?;
        container.ended().await;
        Ok(())
    }

    /// The pod's, else the image's, else SIGTERM.
    pub(crate) fn stop_signal(&self, container: &Container) -> i32 {
        let record = container.record.lock();
        if let Some(number) = record.config.stop_signal().number() {
            return number;
        }
        let image = self.images.find(&record.image).and_then(|it| self.images.configuration(&it).ok());
        let named = image.and_then(|it| it.config).and_then(|it| Signal::parse(&it.stop_signal));
        named.and_then(Signal::number).unwrap_or(15)
    }

    pub(crate) async fn remove(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        self.stop(container, Duration::ZERO).await?;
        let _turn = container.gate.lock().await;
        let client = self.sandbox(&container.sandbox).and_then(|it| it.client()).ok();
        self.clean_container(container, client.as_deref()).await?;
        if self.containers.lock().remove(&container.id).is_some() {
            self.publish(container, ContainerEventType::Deleted);
        }
        Ok(())
    }

    /// Removes what a container that has ended leaves on the node.
    pub(crate) async fn clean_container(
        &self,
        container: &Container,
        client: Option<&crate::shim::client::Client>,
    ) -> Result<()> {
        if let Some(client) = client {
            // One that was never started is not known there.
            _ = client.call(Call::Forget { container: container.id.clone() }).await;
        }
        let group = self.group(container);
        let (directory, snapshot) = (container.directory.clone(), self.snapshot(container));
        let clean = move || {
            group.empty_and_remove().map_err(|error| error.to_string())?;
            for path in [&snapshot, &directory] {
                linux::paths::remove_tree(path).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            Ok::<_, String>(())
        };
        let cleaned = tokio::task::spawn_blocking(clean).await;
        cleaned
            .map_err(|error| error.to_string())
            .and_then(|it| it)
            .map_err(|error| Error::internal(format!("failed to remove container {}: {error}", container.id)))
    }

    pub(crate) fn update(&self, id: &str, resources: Option<LinuxContainerResources>) -> Result<()> {
        let container = self.container(id)?;
        let Some(resources) = resources else { return Ok(()) };
        let limits = plan::limits(&resources);
        if let Phase::Running { .. } = container.phase() {
            self.group(&container).limit(&limits).map_err(|error| Error::internal(error.to_string()))?;
        }
        merge(&mut container.record.lock(), &resources);
        container.save()
    }
}

/// What is not said stays as it is.
fn merge(record: &mut ContainerRecord, new: &LinuxContainerResources) {
    let linux = record.config.linux.get_or_insert_default();
    let old = linux.resources.get_or_insert_default();
    let set = |old: &mut i64, new: i64| {
        if new != 0 {
            *old = new;
        }
    };
    set(&mut old.cpu_period, new.cpu_period);
    set(&mut old.cpu_quota, new.cpu_quota);
    set(&mut old.cpu_shares, new.cpu_shares);
    set(&mut old.memory_limit_in_bytes, new.memory_limit_in_bytes);
    set(&mut old.memory_swap_limit_in_bytes, new.memory_swap_limit_in_bytes);
    set(&mut old.oom_score_adj, new.oom_score_adj);
    for (old, new) in [(&mut old.cpuset_cpus, &new.cpuset_cpus), (&mut old.cpuset_mems, &new.cpuset_mems)] {
        if !new.is_empty() {
            old.clone_from(new);
        }
    }
    old.unified.extend(new.unified.clone());
    record.resources = old.clone();
}

/// The filter that a container asked for, in the form that travels.
fn filter(config: &api::cri::ContainerConfig, plan: &Plan) -> Result<Option<String>> {
    let security = plan::security(config);
    let Some(profile) = security.seccomp.as_ref().filter(|_| !security.privileged) else { return Ok(None) };
    let program = match profile.profile_type() {
        api::cri::ProfileType::Unconfined => return Ok(None),
        api::cri::ProfileType::RuntimeDefault => seccomp::runtime_default(plan.process.capabilities),
        api::cri::ProfileType::Localhost => seccomp::from_file(Path::new(&profile.localhost_ref)),
    };
    let program = program.map_err(|error| Error::invalid(format!("seccomp profile: {error}")))?;
    Ok(Some(base64::engine::general_purpose::STANDARD.encode(seccomp::to_bytes(&program))))
}

fn describe(bind: &Bind) -> String {
    match &bind.source {
        BindSource::Path(path) => format!("mount of {}", path.display()),
        BindSource::Image { reference, .. } => format!("mount of image {reference}"),
    }
}

fn start_error(error: &ShimError) -> Error {
    Error::new(Code::Unknown, format!("failed to start container: {error}"))
}

fn device_at(host_path: &Path, path: &Path) -> std::io::Result<DeviceSpec> {
    let stat = rustix::fs::stat(host_path)?;
    let block = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => true,
        FileType::CharacterDevice => false,
        _ => return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no device")),
    };
    Ok(DeviceSpec {
        path: path.to_path_buf(),
        block,
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
        mode: stat.st_mode & 0o777,
        host_path: host_path.to_path_buf(),
    })
}

/// The devices directly in the node's `/dev`, which privileged containers get.
pub(crate) fn node_devices() -> Vec<DeviceSpec> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let links = ["ptmx", "console"];
    let named = entries.filter(|it| it.file_name().to_str().is_some_and(|it| !links.contains(&it)));
    let real = named.filter(|it| it.file_type().is_ok_and(|it| !it.is_symlink()));
    real.filter_map(|it| device_at(&it.path(), &it.path()).ok()).collect()
}
