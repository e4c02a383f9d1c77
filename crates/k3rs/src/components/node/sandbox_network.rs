//! Where `containers` meets `network`: a sandbox's link is a pod's network.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

use api::object::ObjectKey;
use client::informer::{Change, Informer, Informers, Scope};
use containers::{NetworkError, SandboxLink, SandboxNetwork};
use futures::future::BoxFuture;
use ipnet::IpNet;
use network::overlay;
use network::pods::{self, Pod, PodNetwork};
use tokio_util::sync::CancellationToken;
use tracing::error;

/// The network of this node's sandboxes; not ready until the node has its pod ranges.
pub(super) struct NodeNetwork {
    nodes: Arc<dyn Informer>,
    name: String,
    overlay: overlay::Config,
    pods: OnceLock<PodNetwork>,
}

impl NodeNetwork {
    pub(super) fn new(informers: &dyn Informers, name: &str, overlay: overlay::Config) -> Arc<Self> {
        let scope = Scope::all("", "v1", "nodes").with_fields(&format!("metadata.name={name}"));
        Arc::new(Self { nodes: informers.informer(scope), name: name.to_owned(), overlay, pods: OnceLock::new() })
    }

    /// Opens the pod network as soon as the Node says which addresses its pods may have.
    pub(super) async fn await_ranges(self: Arc<Self>, stop: CancellationToken) {
        let Some(ranges) = self.awaited_ranges(&stop).await else { return };
        match self.open(ranges) {
            Ok(network) => drop(self.pods.set(network)),
            Err(why) => error!(why, "pods have no network"),
        }
    }

    /// The addresses that the node's pods may have, as soon as the Node says them.
    pub(super) async fn awaited_ranges(&self, stop: &CancellationToken) -> Option<Vec<IpNet>> {
        let mut changes = self.nodes.subscribe();
        loop {
            let ranges = self.ranges();
            if !ranges.is_empty() {
                return Some(ranges);
            }
            let change = tokio::select! {
                () = stop.cancelled() => return None,
                change = changes.recv() => change,
            };
            if let None | Some(Change::Deleted(_)) = change {
                return None;
            }
        }
    }

    /// What a packet between pods of two nodes may have.
    pub(super) fn mtu(&self) -> Result<u32, String> {
        overlay::mtu(&self.overlay).map_err(|why| why.to_string())
    }

    fn ranges(&self) -> Vec<IpNet> {
        let Some(node) = self.nodes.get(&ObjectKey::new("", self.name.as_str())) else { return Vec::new() };
        let node = node.to_value();
        let ranges = node["spec"]["podCIDRs"].as_array().into_iter().flatten();
        ranges.filter_map(|range| range.as_str()?.parse().ok()).collect()
    }

    fn open(&self, pod_cidrs: Vec<IpNet>) -> Result<PodNetwork, String> {
        let mtu = self.mtu()?;
        PodNetwork::open(pods::Config { pod_cidrs, mtu }).map_err(|why| why.to_string())
    }

    fn opened(&self) -> Result<&PodNetwork, NetworkError> {
        self.pods.get().ok_or_else(|| NetworkError(format!("node {} has no pod range yet", self.name)))
    }
}

impl SandboxNetwork for NodeNetwork {
    fn setup<'a>(&'a self, sandbox: SandboxLink<'a>) -> BoxFuture<'a, Result<Vec<IpAddr>, NetworkError>> {
        Box::pin(async move {
            let network = self.opened()?;
            let (namespace, name) = (sandbox.metadata.namespace.as_str(), sandbox.metadata.name.as_str());
            // By the sandbox, of which a pod may have several one after the other.
            let pod = Pod { uid: sandbox.id, namespace, name, former: sandbox.former, awaited: sandbox.awaited };
            tokio::task::block_in_place(|| network.setup(sandbox.namespace, pod))
                .map_err(|why| NetworkError(why.to_string()))
        })
    }

    fn teardown<'a>(
        &'a self,
        sandbox_id: &'a str,
        _namespace: Option<BorrowedFd<'a>>,
    ) -> BoxFuture<'a, Result<(), NetworkError>> {
        Box::pin(async move {
            let network = self.opened()?;
            tokio::task::block_in_place(|| network.teardown(sandbox_id)).map_err(|why| NetworkError(why.to_string()))
        })
    }

    fn unready(&self) -> Option<String> {
        self.opened().err().map(|why| why.0)
    }
}
