//! The runtime of a node: what it knows of sandboxes and containers, how it finds them again, what it tells.

pub(crate) mod service;
pub(crate) mod stats;
mod status;

pub use service::Services;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::cri::{Code, ContainerEventResponse, ContainerEventType, Error, Result};
use linux::cgroups::{Cgroups, Group};
use linux::spawn::OwnBinary;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::images::Images;
use crate::images::registry::{Puller, Remote};
use crate::records;
use crate::sandboxes::{Sandbox, SandboxNetwork};
use crate::shim::client::{self, Event, ShimProgram};
use crate::shim::protocol::{EXIT_FILE, ExitRecord};
use crate::tasks::plan::Node;
use crate::tasks::{Container, Ended, Phase};

/// How to open a [`Runtime`].
#[derive(Clone)]
pub struct Config {
    /// Images and snapshots; may be shared by the nodes of a host.
    pub root: PathBuf,
    /// This node's sandboxes, containers and image names.
    pub state: PathBuf,
    /// What tells this node from others that share `root`.
    pub owner: String,
    /// Put before every cgroup path: the node's own cgroup, `/` where the node sees only that.
    pub cgroup_parent: String,
    pub network: Arc<dyn SandboxNetwork>,
    pub shim: ShimProgram,
    /// How to ask registries; without it images are imported only.
    pub remote: Option<Remote>,
}

/// Why a runtime could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("container state: {what}: {source}")]
    State { what: String, source: io::Error },
    #[error(transparent)]
    Images(#[from] crate::images::Error),
    #[error("another server runs containers with the state in {0}: stop it, or use another directory")]
    InUse(PathBuf),
}

/// A CRI runtime in process. Sandboxes and containers outlive it.
pub struct Runtime {
    pub(crate) config: Config,
    pub(crate) images: Arc<Images>,
    pub(crate) puller: Option<Puller>,
    pub(crate) cgroups: Cgroups,
    pub(crate) binary: OwnBinary,
    pub(crate) node: Node,
    pub(crate) sandboxes: Mutex<BTreeMap<String, Arc<Sandbox>>>,
    pub(crate) containers: Mutex<BTreeMap<String, Arc<Container>>>,
    events: broadcast::Sender<ContainerEventResponse>,
    pub(crate) shim_events: mpsc::UnboundedSender<(String, Event)>,
    pub(crate) tasks: Tasks,
    pub(crate) rates: stats::Rates,
    /// On the state directory; none once closed.
    lock: Mutex<Option<linux::files::Lock>>,
}

/// The runtime's tasks: owned by it, ended when it is closed.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tracker.spawn(async move {
            // Nothing is lost when it is cancelled: what counts is on the disk.
            _ = cancel.run_until_cancelled(task).await;
        });
    }
}

/// A subscriber further behind than this lists anew.
const EVENTS: usize = 1024;

impl Runtime {
    /// Opens the runtime and takes over what an earlier one left: shims that live are found again, containers that
    /// ended meanwhile are told of by their status, what a crash left half-made is removed.
    pub async fn open(config: Config) -> std::result::Result<Arc<Self>, OpenError> {
        let state = |what: &str| {
            let what = what.to_owned();
            move |source| OpenError::State { what, source }
        };
        for directory in ["sandboxes", "containers", "root"] {
            std::fs::create_dir_all(config.state.join(directory)).map_err(state("cannot be made"))?;
        }
        let lock = linux::files::Lock::try_exclusive(&config.state.join("lock"))
            .map_err(state("cannot be locked"))?
            .ok_or_else(|| OpenError::InUse(config.state.clone()))?;
        let images = Arc::new(Images::open(&config.root.join("images"), &config.state, &config.owner)?);
        let cgroups = Cgroups::detect().map_err(state("no cgroups"))?;
        cgroups.favor_moves();
        let binary = OwnBinary::open(&config.shim.path).map_err(state("the own binary cannot be opened"))?;
        let node = Node {
            hierarchies: cgroups.hierarchies().iter().map(|it| it.controllers.clone()).collect(),
            devices: crate::tasks::node_devices(),
        };
        let (shim_events, receiver) = mpsc::unbounded_channel();
        let puller = config.remote.clone().map(|remote| Puller::new(Arc::clone(&images), remote));
        let runtime = Arc::new(Self {
            images,
            puller,
            cgroups,
            binary,
            node,
            sandboxes: Mutex::default(),
            containers: Mutex::default(),
            events: broadcast::channel(EVENTS).0,
            shim_events,
            tasks: Tasks::default(),
            rates: stats::Rates::default(),
            lock: Mutex::new(Some(lock)),
            config,
        });
        runtime.adopt().await?;
        runtime.tasks.spawn(Arc::clone(&runtime).follow(receiver));
        Ok(runtime)
    }

    /// The node's images.
    pub fn images(&self) -> &Arc<Images> {
        &self.images
    }

    /// Stops listening to shims and gives the state directory up to whoever opens it next. Pods run on.
    pub async fn close(&self) {
        self.tasks.cancel.cancel();
        self.tasks.tracker.close();
        for sandbox in self.sandboxes.lock().values() {
            sandbox.disconnect();
        }
        self.tasks.tracker.wait().await;
        self.lock.lock().take();
    }

    // ---- taking over

    async fn adopt(self: &Arc<Self>) -> std::result::Result<(), OpenError> {
        let mut half_made = Vec::new();
        for directory in subdirectories(&self.config.state.join("sandboxes"))? {
            let record = match records::load(&directory) {
                Ok(record) => record,
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    return Err(OpenError::State { what: "a pod is of a newer version".to_owned(), source: error });
                }
                Err(error) => nameless(&directory, &error),
            };
            half_made.extend(self.adopt_sandbox(record, directory).await);
        }
        // Now it is known which pods have another sandbox.
        for sandbox in half_made {
            self.discard(&sandbox).await;
        }
        for directory in subdirectories(&self.config.state.join("containers"))? {
            match records::load(&directory) {
                Ok(record) => self.adopt_container(record, directory).await,
                Err(error) => {
                    tracing::warn!(directory = %directory.display(), %error, "removing what is left of a container");
                    _ = linux::paths::remove_tree(&directory);
                }
            }
        }
        self.remove_stray_snapshots();
        Ok(())
    }

    /// Gives back what was never ready.
    async fn adopt_sandbox(
        self: &Arc<Self>,
        record: records::SandboxRecord,
        directory: PathBuf,
    ) -> Option<Arc<Sandbox>> {
        let (ready, stopped) = (record.ready, record.stopped);
        let sandbox = Sandbox::new(record, directory);
        let id = sandbox.id.clone();
        match client::connect(&sandbox.directory, &self.tasks, self.shim_events.clone(), &id).await {
            Ok(found) if ready && !stopped => {
                sandbox.set_running(found.running);
                sandbox.set_client(found.client);
            }
            // Half-made, or half-stopped: to be taken down.
            Ok(found) => sandbox.set_client(found.client),
            Err(error) => tracing::debug!(sandbox = id, %error, "the sandbox has no shim any more"),
        }
        let sandbox = Arc::new(sandbox);
        if !ready {
            return Some(sandbox);
        }
        self.sandboxes.lock().insert(id, sandbox);
        None
    }

    async fn adopt_container(self: &Arc<Self>, record: records::ContainerRecord, directory: PathBuf) {
        let Some(sandbox) = self.sandboxes.lock().get(&record.sandbox).cloned() else {
            tracing::warn!(container = record.id, "removing a container whose sandbox is gone");
            let container = Arc::new(Container::new(record, directory, Phase::Created));
            _ = self.clean_container(&container, None).await;
            return;
        };
        let running = sandbox.take_running(&record.id);
        let phase = match (read_exit(&directory), running) {
            (Some(exit), _) => Phase::Ended(Ended::from_exit(&exit)),
            (None, Some(running)) => Phase::Running { pid: running.pid },
            (None, None) => match (record.started_at, &record.start_error) {
                (None, None) => Phase::Created,
                (_, Some(text)) => Phase::Ended(Ended::not_started(text.clone())),
                // The node went down, or the shim was killed, while nobody looked.
                (Some(_), None) => Phase::Ended(Ended::unknown("the container ended while no server was there to see")),
            },
        };
        let ended = matches!(phase, Phase::Ended(_));
        let container = Arc::new(Container::new(record, directory, phase));
        self.containers.lock().insert(container.id.clone(), Arc::clone(&container));
        if ended {
            self.kill_group(&container);
        }
    }

    fn remove_stray_snapshots(&self) {
        let directory = self.snapshots();
        for path in subdirectories(&directory).unwrap_or_default() {
            let known =
                path.file_name().and_then(|it| it.to_str()).is_some_and(|it| self.containers.lock().contains_key(it));
            if !known && let Err(error) = linux::paths::remove_tree(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove what is left of a container");
            }
        }
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.config.root.join("snapshots").join(&self.config.owner)
    }

    // ---- what shims tell

    async fn follow(self: Arc<Self>, mut receiver: mpsc::UnboundedReceiver<(String, Event)>) {
        while let Some((sandbox, event)) = receiver.recv().await {
            match event {
                Event::Exited { container } => self.container_exited(&container),
                Event::Gone => self.shim_gone(&sandbox),
            }
        }
    }

    fn container_exited(self: &Arc<Self>, id: &str) {
        let Some(container) = self.containers.lock().get(id).cloned() else { return };
        let ended = match read_exit(&container.directory) {
            Some(exit) => Ended::from_exit(&exit),
            None => Ended::unknown("its exit code could not be written"),
        };
        self.end(&container, ended);
    }

    fn shim_gone(self: &Arc<Self>, sandbox: &str) {
        let Some(sandbox) = self.sandboxes.lock().get(sandbox).cloned() else { return };
        sandbox.reap();
        sandbox.disconnect();
        for container in self.containers_of(&sandbox.id) {
            if matches!(container.phase(), Phase::Running { .. }) {
                let ended = read_exit(&container.directory)
                    .map_or_else(|| Ended::unknown("the pod's shim was killed"), |it| Ended::from_exit(&it));
                self.end(&container, ended);
            }
        }
    }

    /// Marks a container as ended, once, and tells everybody.
    pub(crate) fn end(self: &Arc<Self>, container: &Arc<Container>, ended: Ended) {
        if container.end(ended) {
            // With a PID namespace of its own nothing is left; with a shared one there may be.
            self.kill_group(container);
            self.publish(container, ContainerEventType::Stopped);
        }
    }

    fn kill_group(&self, container: &Container) {
        if let Err(error) = self.group(container).kill() {
            tracing::warn!(container = container.id, %error, "cannot kill what is left of a container");
        }
    }

    pub(crate) fn publish(&self, container: &Container, kind: ContainerEventType) {
        let statuses = self.containers_of(&container.sandbox).iter().map(|it| self.container_status_of(it)).collect();
        let sandbox = self.sandboxes.lock().get(&container.sandbox).cloned();
        // Nobody may be listening.
        _ = self.events.send(ContainerEventResponse {
            container_id: container.id.clone(),
            container_event_type: kind as i32,
            created_at: records::now(),
            pod_sandbox_status: sandbox.map(|it| self.sandbox_status_of(&it)),
            containers_statuses: statuses,
        });
    }

    // ---- finding things

    /// By id, or by its beginning where that is enough.
    pub(crate) fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>> {
        find(&self.sandboxes.lock(), id).ok_or_else(|| not_found("an error occurred when try to find sandbox", id))
    }

    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>> {
        find(&self.containers.lock(), id).ok_or_else(|| not_found("an error occurred when try to find container", id))
    }

    pub(crate) fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        self.containers.lock().values().filter(|it| it.sandbox == sandbox).cloned().collect()
    }

    pub(crate) fn group(&self, container: &Container) -> Group {
        let sandbox = self.sandboxes.lock().get(&container.sandbox).cloned();
        let parent = sandbox.and_then(|it| it.record.lock().config.linux.as_ref().map(|it| it.cgroup_parent.clone()));
        let parent = parent.filter(|it| !it.is_empty()).unwrap_or_else(|| "/k3rs".to_owned());
        self.cgroups.group(&format!("{}/{parent}/{}", self.config.cgroup_parent, container.id))
    }
}

/// What stands for a sandbox whose record was not written to its end.
fn nameless(directory: &Path, error: &io::Error) -> records::SandboxRecord {
    tracing::warn!(directory = %directory.display(), %error, "removing what is left of a sandbox");
    records::SandboxRecord {
        version: records::VERSION,
        id: directory.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default(),
        config: Default::default(),
        runtime_handler: String::new(),
        created_at: 0,
        addresses: Vec::new(),
        ready: false,
        stopped: false,
    }
}

fn find<T>(map: &BTreeMap<String, Arc<T>>, id: &str) -> Option<Arc<T>> {
    if let Some(found) = map.get(id) {
        return Some(Arc::clone(found));
    }
    let mut matching = map.range(id.to_owned()..).take_while(|it| !id.is_empty() && it.0.starts_with(id));
    matching.next().filter(|_| matching.next().is_none()).map(|it| Arc::clone(it.1))
}

fn not_found(what: &str, id: &str) -> Error {
    Error::new(Code::NotFound, format!("{what} \"{id}\": not found"))
}

fn read_exit(directory: &Path) -> Option<ExitRecord> {
    serde_json::from_slice(&std::fs::read(directory.join(EXIT_FILE)).ok()?).ok()
}

fn subdirectories(directory: &Path) -> std::result::Result<Vec<PathBuf>, OpenError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(OpenError::State { what: "cannot be listed".to_owned(), source }),
    };
    Ok(entries.flatten().map(|it| it.path()).filter(|it| it.is_dir()).collect())
}
