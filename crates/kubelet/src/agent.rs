//! The agent as a whole: its parts are made, run, and ended here.

use std::path::Path;
use std::sync::Arc;

use api::cri::{ImageService, RuntimeService, VersionRequest};
use client::clock::{Clock, SystemClock};
use client::informer::Informers;
use client::request::Requests;
use client::typed::Typed;
use k8s_openapi::api::core::v1::Service;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::context::{ApiObjects, ApiStorage, ApiTokens, Context};
use crate::eviction;
use crate::eviction::observe::{Machine as Sensed, Sensors};
use crate::handle::Handle;
use crate::images::{Collector, Pulls};
use crate::kernel::{self, KernelError};
use crate::logs::rotate;
use crate::node::capacity::Capacity;
use crate::node::{self, lease};
use crate::pods::manager::{Manager, Pods};
use crate::runtime::Runtime;
use crate::shutdown;
use crate::volumes::Volumes;
use crate::volumes::mounts::{Kernel, Mounts};

/// Why the agent cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    #[error("the container runtime does not answer: {0}")]
    Runtime(#[from] api::cri::Error),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error("cannot make {}: {source}; give the agent a folder that it can write", path.display())]
    Folder { path: std::path::PathBuf, source: std::io::Error },
}

/// What of the machine tests replace.
pub(crate) struct Machine {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) mounts: Arc<dyn Mounts>,
    pub(crate) sensors: Arc<dyn Sensors>,
}

/// A node agent, ready to run.
pub struct Kubelet {
    context: Arc<Context>,
    pods: Pods,
    writer: client::events::Writer,
}

impl Kubelet {
    /// Asks the runtime who it is and makes the agent's folders.
    pub async fn new(
        config: Config,
        client: kube::Client,
        informers: Arc<dyn Informers>,
        runtime: Arc<dyn RuntimeService>,
        images: Arc<dyn ImageService>,
    ) -> Result<Self, KubeletError> {
        kernel::check(&config, |path| std::fs::read_to_string(Path::new("/proc").join(path)).ok())?;
        let machine =
            Machine { clock: SystemClock::shared(), mounts: Arc::new(Kernel), sensors: Arc::new(Sensed::new()) };
        Self::with(config, client, informers, runtime, images, machine).await
    }

    pub(crate) async fn with(
        config: Config,
        client: kube::Client,
        informers: Arc<dyn Informers>,
        service: Arc<dyn RuntimeService>,
        images: Arc<dyn ImageService>,
        machine: Machine,
    ) -> Result<Self, KubeletError> {
        let Machine { clock, mounts, sensors } = machine;
        for path in [config.root_dir.join("pods"), config.pod_logs_dir.clone()] {
            std::fs::create_dir_all(&path).map_err(|source| KubeletError::Folder { path, source })?;
        }
        let version = service.version(VersionRequest::default()).await?;
        let (recorder, writer) =
            client::events::recorder(client.clone(), Arc::clone(&clock), "kubelet", &config.node_name);
        let requests = Requests::new(client);
        let volumes = Volumes::new(
            Arc::new(ApiObjects(requests.clone())),
            Arc::new(ApiStorage { requests: requests.clone(), node_name: config.node_name.clone() }),
            Arc::new(ApiTokens { requests: requests.clone(), clock: Arc::clone(&clock) }),
            mounts,
            config.root_dir.clone(),
        );
        let runtime = Runtime { service, images, name: version.runtime_name, version: version.runtime_version };
        let pulls = Pulls::new(config.pulls);
        let context = Context {
            capacity: RwLock::new(Capacity::observe(&config)),
            services: Typed::<Service>::all(&*informers),
            config,
            requests,
            informers,
            runtime,
            volumes,
            recorder,
            clock,
            tasks: TaskTracker::new(),
            sensors,
            pulls,
            pressure: watch::Sender::default(),
        };
        Ok(Self { context: Arc::new(context), pods: Pods::default(), writer })
    }

    /// What the agent can be asked while it runs.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.context), self.pods.clone())
    }

    /// Runs the node's pods until the token is cancelled. They go on without the agent.
    pub async fn run(self, token: CancellationToken) {
        let context = self.context;
        let tasks = context.tasks.clone();
        let heartbeat = lease::run(
            context.requests.clone(),
            Arc::clone(&context.clock),
            context.config.node_name.clone(),
            token.clone(),
        );
        tasks.spawn(heartbeat);
        tasks.spawn(self.writer.run(token.clone()));
        tasks.spawn(node::run(Arc::clone(&context), token.clone()));
        tasks.spawn(shutdown::run(Arc::clone(&context), self.pods.clone(), token.clone()));
        let images = Arc::new(Collector::new(Arc::clone(&context), self.pods.clone()));
        tasks.spawn(Arc::clone(&images).run(token.clone()));
        tasks.spawn(rotate::run(Arc::clone(&context), token.clone()));
        tasks.spawn(eviction::run(Arc::clone(&context), self.pods.clone(), images, token.clone()));
        Manager::new(context, self.pods, token).run().await;
        tasks.close();
        tasks.wait().await;
    }
}
