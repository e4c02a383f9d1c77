//! A server in a directory of its own with one image, and the ledger that must be empty afterwards.

use std::fmt::Debug;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k3rs::components::node;
use k3rs::flags::KubeletSettings;
use k3rs::server::{Options, Server};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Resource};
use linux::cgroups::Cgroups;
use linux::namespaces::Namespaces;
use network::links::message::{self, NewLink};
use network::links::{Links, Via};
use serde::de::DeserializeOwned;

pub(crate) const IMAGE: &str = "example.com/payload:1";
pub(crate) const NODE: &str = "n1";
pub(crate) const DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 43, 0, 10));
pub(crate) const NODE_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 77, 2));
/// A second address, for an agent beside a server without a node.
pub(crate) const AGENT_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 77, 3));
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 77, 1));
/// How long one thing may take on a machine that is busy with others.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub server: Server,
    /// As the administrator, by the kubeconfig that the server wrote.
    pub client: Client,
    /// Of the server's own node.
    pub power: kubelet::Power,
    directory: PathBuf,
}

impl World {
    pub(crate) async fn start(directory: &Path) -> Self {
        let node = node_options(directory, NODE_IP);
        Self::of(Options { node: Some(node), ..options(directory) }, directory).await
    }

    /// A server whose options are these, for nodes in `directory`.
    pub(crate) async fn of(options: Options, directory: &Path) -> Self {
        let kubeconfig = options.kubeconfig.clone();
        let power = options.node.as_ref().map(|node| node.power.clone()).unwrap_or_default();
        let server = Server::start(options).await.unwrap();
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Self { server, client: Client::try_from(config).unwrap(), power, directory: directory.to_owned() }
    }

    /// Where the node's containers are served by CRI.
    pub(crate) fn cri_socket(&self) -> PathBuf {
        self.directory.join("cri.sock")
    }

    /// The payload that runs `word` under a shim of this world.
    pub(crate) fn process_of(&self, word: &str) -> i32 {
        self.processes_of(word).next().unwrap_or_else(|| panic!("no process runs {word}"))
    }

    /// All that run it.
    pub(crate) fn processes_of(&self, word: &str) -> impl Iterator<Item = i32> {
        let wanted = format!("/bin/payload\0{word}\0");
        let found = processes().into_iter().filter(move |(pid, command)| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let parent = status.lines().find_map(|it| it.strip_prefix("PPid:")).unwrap_or_default().trim();
            command.starts_with(&wanted) && command_of(parent).contains(&*self.directory.to_string_lossy())
        });
        found.map(|(pid, _)| pid)
    }
}

/// Of a server without a node.
pub(crate) fn options(directory: &Path) -> Options {
    Options {
        data_dir: directory.to_owned(),
        bind: "0.0.0.0:6443".parse().unwrap(),
        advertise: NODE_IP,
        names: Vec::new(),
        cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
        node_ports: 30000..=32767,
        cluster_domain: "cluster.local".to_owned(),
        kubeconfig: directory.join("kubeconfig"),
        kubeconfig_mode: 0o600,
        node_name: NODE.to_owned(),
        scheduler: true,
        controllers: true,
        cluster_dns: vec![DNS],
        node: None,
        token: None,
        agent_token: None,
        api: apiserver::server::Settings::default(),
    }
}

pub(crate) fn node_options(directory: &Path, ip: IpAddr) -> node::Options {
    let resolv_conf = directory.join("resolv.conf");
    linux::files::write_atomic(&resolv_conf, format!("nameserver {GATEWAY}\n").as_bytes(), 0o644).unwrap();
    node::Options {
        name: NODE.to_owned(),
        ips: vec![ip],
        external_ips: Vec::new(),
        labels: Vec::new(),
        taints: Vec::new(),
        resolv_conf,
        password: directory.join("node-password"),
        port: 10250,
        kubelet: kubelet(),
        power: kubelet::Power::default(),
        registries: containers::Registries::default(),
        cri_socket: directory.join("cri.sock"),
        external: None,
    }
}

/// However full the disk of the machine is that this runs on, nobody is evicted for it.
fn kubelet() -> KubeletSettings {
    let arguments = ["eviction-hard=memory.available<10Mi", "image-gc-high-threshold=100"].map(str::to_owned);
    KubeletSettings::parse(&arguments, Path::new("/nowhere")).unwrap()
}

/// Moves this process, which has one thread, into a network with an uplink; what is at its other end.
pub(crate) fn enter_network() -> OwnedFd {
    let outside = linux::netns::create().unwrap();
    linux::namespaces::unshare(Namespaces::NEWNET).unwrap();
    linux::network::loopback_up().unwrap();
    let mut links = Links::open().unwrap();
    let link = |name| NewLink { name, mac: None, mtu: None };
    links.apply(&[message::add_veth(&link("uplink"), &link("node"), outside.as_fd())]).unwrap();
    let raise = |links: &mut Links, name: &str, address: IpAddr| {
        let index = links.require(name).unwrap().index;
        let address = ipnet::IpNet::new(address, 24).unwrap();
        links.apply(&[message::add_address(index, address), message::set_up(index)]).unwrap();
        index
    };
    raise(&mut Links::open_in(outside.as_fd()).unwrap(), "node", GATEWAY);
    let uplink = raise(&mut links, "uplink", NODE_IP);
    links.apply(&[message::add_address(uplink, agent_net())]).unwrap();
    let via = Via::Gateway { gateway: GATEWAY, link: uplink, onlink: false };
    links
        .apply(&[message::add_route(&network::links::message::route("0.0.0.0/0".parse().unwrap(), via), false)])
        .unwrap();
    outside
}

fn agent_net() -> ipnet::IpNet {
    ipnet::IpNet::new(AGENT_IP, 24).unwrap()
}

/// Does `what` while nothing has the agent's address.
pub(crate) async fn without_agent_ip(what: impl Future<Output = ()>) {
    let mut links = Links::open().unwrap();
    let uplink = links.require("uplink").unwrap().index;
    links.apply(&[message::delete_address(uplink, agent_net())]).unwrap();
    what.await;
    links.apply(&[message::add_address(uplink, agent_net())]).unwrap();
}

/// Waits until the object is there and `condition` holds.
pub(crate) async fn until<K>(api: &Api<K>, name: &str, what: &str, condition: impl Fn(&K) -> bool) -> K
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let waiting = await_condition(api.clone(), name, |it: Option<&K>| it.is_some_and(&condition));
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(found) => found.unwrap().expect("the condition asks for an object"),
        Err(_) => panic!("{name} is not {what} after {PATIENCE:?}: {:#?}", api.get_opt(name).await),
    }
}

/// Waits until the object of this uid is no more.
pub(crate) async fn gone<K>(api: &Api<K>, name: &str, uid: &str)
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let waiting = await_condition(api.clone(), name, conditions::is_deleted(uid));
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        panic!("{name} is still there after {PATIENCE:?}: {:#?}", api.get_opt(name).await);
    }
}

/// Waits until `condition` holds of what has no events: the network, the kernel.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !tokio::task::block_in_place(&condition) {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(20)).await;
    }
}

/// What is still there of these pods: mounts, processes, cgroups, files.
pub(crate) fn ledger(directory: &Path, uids: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    let name = directory.to_string_lossy();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(mounts.lines().filter(|it| it.contains(&*name)).map(|it| format!("mount: {it}")));
    let commands = processes().into_iter().filter(|(_, command)| command.contains(&*name));
    left.extend(commands.map(|(pid, command)| format!("process {pid}: {}", command.replace('\0', " "))));
    let cgroups = Cgroups::detect().unwrap();
    let groups = uids.iter().map(|uid| cgroups.group(&format!("/kubepods/besteffort/pod{uid}")));
    left.extend(groups.filter(|it| it.exists()).map(|it| format!("cgroup: {}", it.path())));
    for place in ["containers/state/sandboxes", "containers/state/containers", "kubelet/pods"] {
        let entries = fs::read_dir(directory.join("agent").join(place)).into_iter().flatten().flatten();
        left.extend(entries.map(|it| format!("file: {}", it.path().display())));
    }
    left
}

fn processes() -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|it| it.file_name().to_str()?.parse().ok());
    pids.map(|pid: i32| (pid, command_of(&pid.to_string()))).collect()
}

/// The words of a process, each ended by a NUL.
fn command_of(pid: &str) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

/// An image with this binary in it.
pub(crate) fn payload() -> fixtures::Image {
    let mut image = fixtures::Image::new(serde_json::json!({"Entrypoint": ["/bin/payload"]}));
    for folder in ["bin", "etc"] {
        image.folder(folder, 0o755).unwrap();
    }
    image.file("bin/payload", &fs::read("/proc/self/exe").unwrap(), 0o755).unwrap();
    image
}

/// Puts it, as a docker archive, where the node looks for images.
pub(crate) fn save_image(directory: &Path) {
    let images = directory.join("agent/images");
    fs::create_dir_all(&images).unwrap();
    payload().write(IMAGE, &images.join("payload.tar")).unwrap();
}
