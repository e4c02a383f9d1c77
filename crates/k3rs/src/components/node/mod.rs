//! A node: container runtime, node agent, pod network, Services, DNS.
//!
//! Everything here is a client of the API as `system:node:NAME`, through whatever informers it is given, so that the
//! same code serves the server's own node and an agent's.

mod cri_socket;
pub mod external;
pub mod images;
mod outside;
pub mod requirements;
mod sandbox_network;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use api::cri::{ImageService, RuntimeService};
use client::informer::Informers;
use containers::{Registries, Remote, Runtime, Services, ShimProgram};
use kubelet::server::Delegated;
use kubelet::{Kubelet, Power};
use network::{dns, overlay, ruleset};
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use self::cri_socket::{Cri, CriError};
use self::external::Endpoints;
use self::outside::HostOutside;
use self::sandbox_network::NodeNetwork;
use crate::flags::KubeletSettings;
use crate::layout::Layout;
use crate::listen::{self, ListenError};
use crate::supervisor::ClusterConfig;

pub use self::cri_socket::SOCKET;

/// The first word by which this binary becomes a pod's shim.
pub const SHIM: &str = "containerd-shim";

/// What a node is told.
#[derive(Clone, Debug)]
pub struct Options {
    pub name: String,
    pub ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    pub labels: Vec<String>,
    pub taints: Vec<String>,
    pub resolv_conf: PathBuf,
    /// Where this host keeps the password that makes the name its own.
    pub password: PathBuf,
    /// The kubelet's port.
    pub port: u16,
    pub kubelet: KubeletSettings,
    /// Whether the machine goes down.
    pub power: Power,
    /// Where images are pulled from.
    pub registries: Registries,
    /// Where the node's containers are served by CRI.
    pub cri_socket: PathBuf,
    /// The runtime to use instead of the node's own.
    pub external: Option<Endpoints>,
}

/// How the node reaches the API.
pub struct Access {
    /// As `system:node:NAME`.
    pub kubelet: kube::Client,
    pub informers: Arc<dyn Informers>,
    /// For the kubelet's own listener.
    pub tls: Arc<ServerConfig>,
}

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Requirement(#[from] requirements::RequirementError),
    #[error(transparent)]
    Runtime(#[from] containers::OpenError),
    #[error(transparent)]
    Kubelet(#[from] kubelet::KubeletError),
    #[error("the settings of the kubelet: {0}")]
    Kubelets(String),
    #[error("node label {0} is not KEY=VALUE")]
    Label(String),
    #[error("node taint {0} is not KEY=VALUE:EFFECT")]
    Taint(String),
    #[error("the kubelet's port: {0}: is another node running on this host?")]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Cri(#[from] CriError),
    #[error("watching {} for images: {source}", path.display())]
    Images { path: PathBuf, source: std::io::Error },
}

/// Starts the node's parts on `tasks`; they run until `stop`, the pods longer. Its requirements have been checked.
pub async fn start(
    options: Options,
    cluster: ClusterConfig,
    access: Access,
    layout: &Layout,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<(), NodeError> {
    let overlay = overlay::Config {
        backend: overlay::Backend::Vxlan,
        node: options.name.clone(),
        node_ip: options.ips.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    let network = NodeNetwork::new(&*access.informers, &options.name, overlay.clone());
    run_network(&options, &cluster, overlay, &access.informers, tasks, &stop);
    let config = kubelet_config(&options, &cluster, layout)?;
    match options.external.clone() {
        None => run_own(options, config, access, network, layout, tasks, stop).await,
        Some(endpoints) => {
            let agent = layout.root().join("agent");
            tasks.spawn(external::configure(network, agent, stop.clone()));
            tasks.spawn(run_external(endpoints, config, access, tasks.clone(), stop));
            Ok(())
        }
    }
}

/// The node's containers are run by this process's own runtime.
async fn run_own(
    options: Options,
    config: kubelet::Config,
    access: Access,
    network: Arc<NodeNetwork>,
    layout: &Layout,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<(), NodeError> {
    tasks.spawn(network.clone().await_ranges(stop.clone()));
    let runtime = Runtime::open(containers::Config {
        root: layout.agent("containers"),
        state: layout.agent("containers/state"),
        owner: options.name.clone(),
        cgroup_parent: "/".to_owned(),
        network,
        shim: ShimProgram { path: PathBuf::from("/proc/self/exe"), arguments: vec![OsString::from(SHIM)] },
        remote: Some(Remote { registries: Arc::new(options.registries), outside: Arc::new(HostOutside) }),
    })
    .await?;
    let folder = layout.agent("images");
    let archives = images::Folder::open(&folder, Arc::clone(&runtime));
    let archives = archives.map_err(|source| NodeError::Images { path: folder, source })?;
    archives.run(&options.name, access.kubelet.clone(), tasks, stop.clone());

    let services = Arc::new(Services(Arc::clone(&runtime)));
    Cri::open(&options.cri_socket).await?.run(services.clone(), services.clone(), tasks, stop.clone());
    let agent = agent(config, access, services.clone(), services, tasks, stop).await?;
    tasks.spawn(async move {
        agent.await;
        runtime.close().await;
    });
    Ok(())
}

/// They are run by another runtime, which is waited for; meanwhile there is no such node.
async fn run_external(
    endpoints: Endpoints,
    config: kubelet::Config,
    access: Access,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let remote = cri::remote::Remote::new(endpoints.runtime, endpoints.images, tasks.clone());
    if external::answering(&remote, &stop).await.is_none() {
        return;
    }
    let remote = Arc::new(remote);
    match agent(config, access, remote.clone(), remote, &tasks, stop).await {
        Ok(agent) => agent.await,
        Err(why) => error!(%why, "the node did not start"),
    }
}

/// The node agent over a runtime, with its own listener; the future is its run.
async fn agent(
    config: kubelet::Config,
    access: Access,
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + use<>, NodeError> {
    let (node, port) = (config.node_name.clone(), config.port);
    let kubelet = Kubelet::new(config, access.kubelet.clone(), access.informers, runtime, images).await?;
    let listener = listen::on((Ipv4Addr::UNSPECIFIED, port).into()).await?;
    let authorizer = Arc::new(Delegated::new(access.kubelet));
    let limits = kubelet::server::limits();
    tasks.spawn(kubelet::server::serve(listener, access.tls, kubelet.handle(), authorizer, limits, stop.clone()));
    info!(node, "node started");
    Ok(kubelet.run(stop))
}

fn run_network(
    options: &Options,
    cluster: &ClusterConfig,
    overlay: overlay::Config,
    informers: &Arc<dyn Informers>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let services = network::services::plan::Config {
        cluster_cidrs: cluster.cluster_cidrs.clone(),
        service_cidrs: cluster.service_cidrs.clone(),
        served_here: cluster.cluster_dns.clone(),
    };
    let resolvers = std::fs::read_to_string(&options.resolv_conf).unwrap_or_default();
    let names = dns::Config {
        domain: cluster.cluster_domain.clone(),
        addresses: cluster.cluster_dns.clone(),
        port: 53,
        upstreams: dns::upstreams(&resolvers, &cluster.cluster_dns),
    };
    let (name, rules, token) = (options.name.clone(), informers.clone(), stop.clone());
    tasks.spawn(async move { report("services", ruleset::run(rules, &name, services, token).await) });
    let (routes, token) = (informers.clone(), stop.clone());
    tasks.spawn(async move { report("overlay", overlay::run(routes, overlay, token).await) });
    let (zone, token) = (informers.clone(), stop.clone());
    tasks.spawn(async move { report("dns", dns::run(zone, names, token).await) });
}

/// A part of the node that ended by itself is told of; the others go on.
fn report<E: std::fmt::Display>(part: &str, ended: Result<(), E>) {
    if let Err(why) = ended {
        error!(part, %why, "part of the node stopped");
    }
}

fn kubelet_config(options: &Options, cluster: &ClusterConfig, layout: &Layout) -> Result<kubelet::Config, NodeError> {
    let mut config = kubelet::Config::new(options.name.as_str());
    config.node_ips = options.ips.clone();
    config.external_ips = options.external_ips.clone();
    config.cluster_dns = cluster.cluster_dns.clone();
    config.cluster_domain = cluster.cluster_domain.clone();
    config.resolv_conf = options.resolv_conf.clone();
    config.root_dir = layout.agent("kubelet");
    config.pod_logs_dir = layout.agent("pod-logs");
    config.static_pods = Some(layout.agent("pod-manifests"));
    config.power = options.power.clone();
    config.port = options.port;
    options.kubelet.apply(&mut config).map_err(NodeError::Kubelets)?;
    for label in &options.labels {
        let (key, value) = label.split_once('=').ok_or_else(|| NodeError::Label(label.clone()))?;
        config.labels.insert(key.to_owned(), value.to_owned());
    }
    for taint in &options.taints {
        config.taints.push(parse_taint(taint).ok_or_else(|| NodeError::Taint(taint.clone()))?);
    }
    Ok(config)
}

/// `KEY=VALUE:EFFECT`, or `KEY:EFFECT`.
fn parse_taint(text: &str) -> Option<k8s_openapi::api::core::v1::Taint> {
    let (key, effect) = text.rsplit_once(':')?;
    let (key, value) = key.split_once('=').map_or((key, None), |(key, value)| (key, Some(value.to_owned())));
    let known = matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute");
    (known && !key.is_empty()).then(|| k8s_openapi::api::core::v1::Taint {
        key: key.to_owned(),
        value,
        effect: effect.to_owned(),
        time_added: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_read_as_kubectl_writes_them() {
        let taint = parse_taint("dedicated=db:NoSchedule").unwrap();
        assert_eq!(
            (taint.key.as_str(), taint.value.as_deref(), taint.effect.as_str()),
            ("dedicated", Some("db"), "NoSchedule")
        );
        assert_eq!(parse_taint("gpu:NoExecute").unwrap().value, None);
        assert!(
            parse_taint("gpu").is_none()
                && parse_taint("gpu:Sometimes").is_none()
                && parse_taint(":NoExecute").is_none()
        );
    }
}
