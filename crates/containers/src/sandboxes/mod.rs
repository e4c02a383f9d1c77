//! Pod sandboxes: a shim that is in the namespaces, the files that all containers of the pod see, a network.

mod network;

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use api::cri::{Error, NamespaceMode, PodSandboxConfig, Result, RunPodSandboxRequest};
use linux::mounts::{self, Attributes};
use linux::namespaces::{self, Kind};
use parking_lot::Mutex;

pub use self::network::{LoopbackOnly, NetworkError, SandboxLink, SandboxNetwork};
use crate::records::{self, SandboxRecord};
use crate::runtime::Runtime;
use crate::shim::client::{self, Client};
use crate::shim::protocol::{Call, Running, SandboxSpec};
use crate::tasks::Phase;
use crate::tasks::plan::limits;

pub(crate) struct Sandbox {
    pub id: String,
    pub directory: PathBuf,
    pub record: Mutex<SandboxRecord>,
    /// Absent when the shim is gone: the sandbox is not ready.
    client: Mutex<Option<Arc<Client>>>,
    /// The shim when it is this server's child, to be reaped.
    child: Mutex<Option<linux::processes::Process>>,
    /// What the shim said was running when it was found again.
    running: Mutex<Vec<Running>>,
    /// One change at a time: start, stop, remove.
    pub gate: tokio::sync::Mutex<()>,
}

impl Sandbox {
    pub(crate) fn new(record: SandboxRecord, directory: PathBuf) -> Self {
        Self {
            id: record.id.clone(),
            directory,
            record: Mutex::new(record),
            client: Mutex::default(),
            child: Mutex::default(),
            running: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn set_client(&self, client: Client) {
        *self.client.lock() = Some(Arc::new(client));
    }

    pub(crate) fn set_running(&self, running: Vec<Running>) {
        *self.running.lock() = running;
    }

    pub(crate) fn take_running(&self, container: &str) -> Option<Running> {
        let mut running = self.running.lock();
        let position = running.iter().position(|it| it.container == container)?;
        Some(running.swap_remove(position))
    }

    pub(crate) fn disconnect(&self) {
        self.client.lock().take();
    }

    /// The shim, if the sandbox is ready.
    pub(crate) fn client(&self) -> Result<Arc<Client>> {
        let client = self.client.lock().clone();
        client.ok_or_else(|| Error::precondition(format!("sandbox {} is not running", self.id)))
    }

    pub(crate) fn ready(&self) -> bool {
        let record = self.record.lock();
        record.ready && !record.stopped && self.client.lock().is_some()
    }

    /// Lets the kernel forget a shim that has ended.
    pub(crate) fn reap(&self) {
        if let Some(child) = self.child.lock().take() {
            // It has closed its socket, so it ends now if it has not yet.
            _ = child.signal(9);
            _ = child.wait();
        }
    }

    pub(crate) fn save(&self) -> Result<()> {
        let record = self.record.lock().clone();
        records::save(&self.directory, &record)
            .map_err(|error| Error::internal(format!("cannot write the sandbox's record: {error}")))
    }
}

/// Whose namespaces a sandbox has.
fn own(config: &PodSandboxConfig) -> SandboxSpec {
    let linux = config.linux.clone().unwrap_or_default();
    let options = linux.security_context.and_then(|it| it.namespace_options).unwrap_or_default();
    SandboxSpec {
        own_network: options.network() != NamespaceMode::Node,
        own_ipc: options.ipc() != NamespaceMode::Node,
        shared_pid: options.pid() == NamespaceMode::Pod,
        hostname: config.hostname.clone(),
        sysctls: linux.sysctls,
    }
}

impl Runtime {
    pub(crate) async fn run_sandbox(self: &Arc<Self>, request: RunPodSandboxRequest) -> Result<String> {
        let config = request.config.ok_or_else(|| Error::invalid("a sandbox needs a config"))?;
        check(&config, &request.runtime_handler)?;
        let id = records::new_id();
        let directory = self.config.state.join("sandboxes").join(&id);
        let record = SandboxRecord {
            version: records::VERSION,
            id: id.clone(),
            config,
            runtime_handler: request.runtime_handler,
            created_at: records::now(),
            addresses: Vec::new(),
            ready: false,
            stopped: false,
        };
        std::fs::create_dir(&directory)
            .map_err(|error| Error::internal(format!("cannot make the sandbox: {error}")))?;
        let sandbox = Arc::new(Sandbox::new(record, directory));
        sandbox.save()?;
        match self.build_sandbox(&sandbox).await {
            Ok(()) => {
                self.sandboxes.lock().insert(id.clone(), sandbox);
                Ok(id)
            }
            Err(error) => {
                self.discard(&sandbox).await;
                Err(error)
            }
        }
    }

    async fn build_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<()> {
        let config = sandbox.record.lock().config.clone();
        let spec = own(&config);
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Error::internal(format!("failed to start sandbox \"{}\": {what}: {error}", sandbox.id))
        };
        self.limit_pod(&config).map_err(|error| failed("its cgroup", &error))?;
        prepare_files(sandbox, &config, spec.own_ipc).map_err(|error| failed("its files", &error))?;
        let child = client::spawn(&self.config.shim, &self.binary, &sandbox.directory)
            .map_err(|error| failed("its shim", &error))?;
        *sandbox.child.lock() = Some(child);
        let found = client::connect(&sandbox.directory, &self.tasks, self.shim_events.clone(), &sandbox.id)
            .await
            .map_err(|error| failed("its shim", &error))?;
        let pid = found.client.process().pid;
        sandbox.set_client(found.client);
        let own_network = spec.own_network;
        sandbox.client()?.call(Call::Setup(spec)).await.map_err(|error| failed("its namespaces", &error))?;
        if own_network {
            let namespace =
                namespaces::of_process(pid, Kind::Network).map_err(|error| failed("its network", &error))?;
            let metadata = config.metadata.clone().unwrap_or_default();
            let link = SandboxLink {
                id: &sandbox.id,
                namespace: namespace.as_fd(),
                metadata: &metadata,
                ports: &config.port_mappings,
                annotations: &config.annotations,
                former: &self.former_addresses(&metadata.uid),
                awaited: &self.awaited_addresses(&metadata.uid),
            };
            let addresses = self.config.network.setup(link).await.map_err(|error| {
                Error::internal(format!("failed to setup network for sandbox \"{}\": {error}", sandbox.id))
            })?;
            sandbox.record.lock().addresses = addresses;
        }
        sandbox.record.lock().ready = true;
        sandbox.save()
    }

    /// What the pod's last sandbox had.
    fn former_addresses(&self, uid: &str) -> Vec<IpAddr> {
        let sandboxes = self.sandboxes.lock();
        let records = sandboxes.values().map(|it| it.record.lock().clone());
        let former = records.filter(|it| it.pod_uid() == uid && !it.addresses.is_empty());
        former.max_by_key(|it| it.created_at).map(|it| it.addresses).unwrap_or_default()
    }

    /// What the pods had that a restart of the node ended and that are not started again yet.
    fn awaited_addresses(&self, uid: &str) -> Vec<IpAddr> {
        let sandboxes = self.sandboxes.lock();
        let ended = sandboxes.values().filter(|it| !it.ready());
        let records = ended.map(|it| it.record.lock().clone());
        let awaited = records.filter(|it| !it.stopped && it.pod_uid() != uid);
        awaited.flat_map(|it| it.addresses).collect()
    }

    pub(crate) async fn stop_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        let _turn = sandbox.gate.lock().await;
        for container in self.containers_of(&sandbox.id) {
            if matches!(container.phase(), Phase::Running { .. }) {
                self.stop(&container, std::time::Duration::ZERO).await?;
            }
        }
        sandbox.record.lock().stopped = true;
        sandbox.save()?;
        self.take_down(&sandbox).await;
        Ok(())
    }

    pub(crate) async fn remove_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        self.stop_sandbox(&sandbox.id).await?;
        for container in self.containers_of(&sandbox.id) {
            self.remove(&container).await?;
        }
        self.sandboxes.lock().remove(&sandbox.id);
        self.remove_pod_group(&sandbox);
        self.remove_sandbox_files(&sandbox);
        Ok(())
    }

    /// Takes away what there is of a sandbox that was never ready and that nobody knows.
    pub(crate) async fn discard(self: &Arc<Self>, sandbox: &Sandbox) {
        self.take_down(sandbox).await;
        self.remove_pod_group(sandbox);
        self.remove_sandbox_files(sandbox);
    }

    /// Makes the cgroup that the pod's containers will be in, with what the pod as a whole may use.
    pub(crate) fn limit_pod(&self, config: &PodSandboxConfig) -> std::result::Result<(), linux::cgroups::Error> {
        let Some(linux) = config.linux.as_ref().filter(|it| !it.cgroup_parent.is_empty()) else { return Ok(()) };
        let group = self.cgroups.group(&format!("{}/{}", self.config.cgroup_parent, linux.cgroup_parent));
        group.create()?;
        linux.resources.as_ref().map_or(Ok(()), |resources| group.limit(&limits(resources)))
    }

    /// Removes the cgroup that the pod's containers were in, with the pod's last sandbox. The sandbox's record goes after
    /// it: by that alone it is found again.
    fn remove_pod_group(&self, sandbox: &Sandbox) {
        let parent = |it: &Sandbox| it.record.lock().config.linux.as_ref().map(|it| it.cgroup_parent.clone());
        let Some(pod) = parent(sandbox).filter(|it| !it.is_empty()) else { return };
        let shared = self.sandboxes.lock().values().any(|it| parent(it).as_ref() == Some(&pod));
        if !shared && let Err(error) = self.cgroups.group(&format!("{}/{pod}", self.config.cgroup_parent)).remove() {
            tracing::warn!(sandbox = sandbox.id, %error, "cannot remove a pod's cgroup");
        }
    }

    /// Gives back the network, ends the shim and with it the namespaces, unmounts. May be repeated.
    pub(crate) async fn take_down(self: &Arc<Self>, sandbox: &Sandbox) {
        let client = sandbox.client.lock().take();
        let config = sandbox.record.lock().config.clone();
        if own(&config).own_network {
            let namespace = client.as_ref().and_then(|it| namespaces::of_process(it.process().pid, Kind::Network).ok());
            let teardown = self.config.network.teardown(&sandbox.id, namespace.as_ref().map(AsFd::as_fd));
            if let Err(error) = teardown.await {
                tracing::warn!(sandbox = sandbox.id, %error, "cannot give a sandbox's network back");
            }
        }
        if let Some(client) = client {
            // A shim that does not listen is killed: everything in its namespaces was killed before.
            if client.call(Call::Quit).await.is_err() {
                _ = client.process().signal(9);
            }
        }
        sandbox.reap();
        if let Err(error) = mounts::detach(&sandbox.directory.join("shm")) {
            tracing::warn!(sandbox = sandbox.id, %error, "cannot unmount a sandbox's shared memory");
        }
    }

    fn remove_sandbox_files(&self, sandbox: &Sandbox) {
        if let Err(error) = linux::paths::remove_tree(&sandbox.directory) {
            tracing::warn!(sandbox = sandbox.id, %error, "cannot remove a sandbox's files");
        }
    }
}

fn check(config: &PodSandboxConfig, handler: &str) -> Result<()> {
    if config.metadata.is_none() {
        return Err(Error::invalid("a sandbox needs metadata"));
    }
    if !handler.is_empty() {
        return Err(Error::invalid(format!("no runtime for \"{handler}\" is configured")));
    }
    let options = config.linux.as_ref().and_then(|it| it.security_context.as_ref()?.namespace_options.clone());
    let users = options.and_then(|it| it.userns_options).map(|it| it.mode());
    if users == Some(NamespaceMode::Pod) {
        return Err(Error::invalid("user namespaces are not supported by this runtime"));
    }
    Ok(())
}

/// The files that the pod's containers share.
fn prepare_files(sandbox: &Sandbox, config: &PodSandboxConfig, own_ipc: bool) -> std::io::Result<()> {
    let directory = &sandbox.directory;
    let hostname = match config.hostname.as_str() {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        name => name.to_owned(),
    };
    linux::files::replace(&directory.join("hostname"), format!("{hostname}\n").as_bytes(), 0o644)?;
    let resolver = match &config.dns_config {
        Some(dns) if !dns.servers.is_empty() || !dns.searches.is_empty() || !dns.options.is_empty() => resolver(dns),
        // Not told what to use: the node's own.
        _ => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
    };
    linux::files::replace(&directory.join("resolv.conf"), resolver.as_bytes(), 0o644)?;
    if !config.log_directory.is_empty() {
        std::fs::create_dir_all(&config.log_directory)?;
    }
    let shm = directory.join("shm");
    std::fs::create_dir(&shm)?;
    let attributes = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV | Attributes::MOUNT_ATTR_NOEXEC;
    let memory = if own_ipc {
        mounts::new_filesystem("tmpfs", &[("mode", Some("1777")), ("size", Some("65536k"))], attributes)?
    } else {
        mounts::clone_path(std::path::Path::new("/dev/shm"), false)?
    };
    mounts::attach_at(memory.as_fd(), &shm)
}

fn resolver(dns: &api::cri::DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}
