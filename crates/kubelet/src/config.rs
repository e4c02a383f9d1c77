//! What a node agent is told when it starts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;

use crate::eviction::Policy;
use crate::images::{ImagePolicy, PullPolicy};
use crate::logs::LogPolicy;
use crate::quantity;
use crate::shutdown::{Grace, Power};

/// The settings of one node. [`Config::new`] gives upstream's defaults, or k3s's or safer ones where they differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub node_name: String,
    /// What the node calls itself: its `Hostname` address and the label `kubernetes.io/hostname`.
    pub hostname: String,
    /// Labels and taints are set when the node is registered; labels of ours are kept up to date after that.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// The node's addresses, the primary one first.
    pub node_ips: Vec<IpAddr>,
    /// Addresses by which others reach the node from outside.
    pub external_ips: Vec<IpAddr>,
    pub provider_id: Option<String>,
    /// The name servers of pods with dnsPolicy `ClusterFirst`.
    pub cluster_dns: Vec<IpAddr>,
    /// Such as `cluster.local`.
    pub cluster_domain: String,
    /// The resolver configuration that pods with dnsPolicy `Default` get.
    pub resolv_conf: PathBuf,
    /// Where pods' volumes and files live: `pods/<uid>/...`.
    pub root_dir: PathBuf,
    /// Where containers' logs live: `<namespace>_<pod>_<uid>/<container>/<n>.log`.
    pub pod_logs_dir: PathBuf,
    pub max_pods: u32,
    /// No more than so many for each core, if it is not 0.
    pub pods_per_core: u32,
    /// How many processes and threads a pod may have.
    pub pod_pids_limit: Option<i64>,
    /// What is held back from pods for the system: `cpu`, `memory`, `ephemeral-storage` as quantities.
    pub system_reserved: BTreeMap<String, String>,
    /// And for the node's own programs.
    pub kube_reserved: BTreeMap<String, String>,
    /// What must stay free, and what is done when it does not.
    pub eviction: Policy,
    /// When images go that nobody uses.
    pub images: ImagePolicy,
    /// How many images are pulled at once.
    pub pulls: PullPolicy,
    /// When containers' logs are rotated.
    pub logs: LogPolicy,
    /// How often the node is looked at, and how often its status is written though it stays the same.
    pub status_update: Duration,
    pub status_report: Duration,
    /// How many images the Node's status names; all if not said.
    pub status_images: Option<usize>,
    /// Containers whose spec names no seccomp profile have the runtime's.
    pub seccomp_default: bool,
    /// The agent begins only if the kernel is set as upstream expects it.
    pub protect_kernel_defaults: bool,
    /// The agent begins only without swap.
    pub fail_swap_on: bool,
    /// What pods may set of the kernel beyond what is safe; a star stands for any ending.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// A stream that nobody uses for so long is cut.
    pub streaming_idle: Duration,
    /// What pods get when the node is shut down, and what of that is for critical ones.
    pub shutdown_grace: Duration,
    pub shutdown_grace_critical: Duration,
    /// What they get by their priority, in place of both.
    pub shutdown_by_priority: Option<Grace>,
    /// The cgroup below which all pods' cgroups are.
    pub cgroup_root: String,
    /// A folder whose files are pods that this node runs whatever the API server says.
    pub static_pods: Option<PathBuf>,
    /// Whether the machine goes down.
    pub power: Power,
    /// The port of the kubelet's HTTPS API, as the Node announces it.
    pub port: u16,
    /// The version of the node agent: `v1.36.3+k3rs1`.
    pub version: String,
}

impl Config {
    /// A node of this name, with defaults for the rest.
    pub fn new(node_name: impl Into<String>) -> Self {
        let node_name = node_name.into();
        Self {
            hostname: node_name.clone(),
            node_name,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            node_ips: Vec::new(),
            external_ips: Vec::new(),
            provider_id: None,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            root_dir: PathBuf::from("/var/lib/kubelet"),
            pod_logs_dir: PathBuf::from("/var/log/pods"),
            max_pods: 110,
            pods_per_core: 0,
            pod_pids_limit: Some(4096),
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            eviction: Policy::default(),
            images: ImagePolicy::default(),
            pulls: PullPolicy::default(),
            logs: LogPolicy::default(),
            status_update: Duration::from_secs(10),
            status_report: Duration::from_mins(5),
            status_images: Some(50),
            seccomp_default: true,
            protect_kernel_defaults: false,
            fail_swap_on: false,
            // A load balancer's pod of k3s's needs them.
            allowed_unsafe_sysctls: ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"].map(str::to_owned).into(),
            streaming_idle: Duration::from_mins(5),
            shutdown_grace: Duration::from_secs(30),
            shutdown_grace_critical: Duration::from_secs(10),
            shutdown_by_priority: None,
            cgroup_root: "/kubepods".to_owned(),
            static_pods: None,
            power: Power::default(),
            port: 10250,
            version: "v1.36.3+k3rs1".to_owned(),
        }
    }

    /// What is held back of a resource, in its base unit.
    pub(crate) fn reserved(&self, resource: &str) -> f64 {
        let each = [&self.system_reserved, &self.kube_reserved].into_iter();
        each.filter_map(|reserved| quantity::parse(reserved.get(resource)?)).sum()
    }

    /// Who gets how long when the machine goes down.
    pub(crate) fn shutdown(&self) -> Grace {
        let usual = || Grace::of(self.shutdown_grace, self.shutdown_grace_critical);
        self.shutdown_by_priority.clone().filter(|it| !it.is_empty()).unwrap_or_else(usual)
    }

    /// The machine goes down, and pods are ended before it does.
    pub(crate) fn goes_down(&self) -> bool {
        self.power.is_down() && !self.shutdown().is_empty()
    }

    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }
}
