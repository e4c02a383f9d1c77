//! The rows of the benchmark: what is measured, what it is held against, and what the peer was seen to do.
//!
//! A recorded peer is a figure that somebody published or that was once measured on a machine like this one; where the
//! peer itself can run here it runs in the same invocation, and its figure takes the recorded one's place.

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    /// What `--only` names, by any beginning of it.
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) gate: Gate,
    pub(crate) recorded: Option<Recorded>,
}

/// What a figure must keep to, which also says which way is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Gate {
    AtMost(f64),
    AtLeast(f64),
    /// So many times the peer's rate.
    Times(f64),
    /// At most the peer's figure.
    Peer,
    /// A figure without a budget; less is better.
    None,
}

/// A peer's figure from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Recorded {
    pub(crate) figure: f64,
    pub(crate) source: &'static str,
}

/// Measured once on a machine of the kind this is built on.
const UPSTREAM: &str = "upstream 1.36.3 on 2 such cores";
const KUBELET: &str = "kubelet + containerd 1.6 on 2 such cores";
const RUNC: &str = "runc 1.1.5 on 2 such cores";
const TIME_TO_K8S: &str = "k3d 5.8.3, one node, minikube's time-to-k8s";

const fn row(id: &'static str, what: &'static str, unit: &'static str, gate: Gate) -> Row {
    Row { id, what, unit, gate, recorded: None }
}

impl Row {
    const fn peer(mut self, figure: f64, source: &'static str) -> Self {
        self.recorded = Some(Recorded { figure, source });
        self
    }

    pub(crate) fn find(id: &str) -> Option<&'static Self> {
        all().find(|row| row.id == id)
    }
}

/// In the order in which they are printed.
pub(crate) fn all() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().chain(CLIENT_GO.iter().flat_map(|it| it.iter())).chain(LARGE)
}

/// The names of the rows of some tables, which are `N` together.
pub(crate) const fn ids<const N: usize>(tables: &[&'static [Row]]) -> [&'static str; N] {
    let mut ids = [""; N];
    let (mut table, mut row, mut at) = (0, 0, 0);
    while at < N {
        if row < tables[table].len() {
            ids[at] = tables[table][row].id;
            (row, at) = (row + 1, at + 1);
        } else {
            (table, row) = (table + 1, 0);
        }
    }
    ids
}

/// What client-go is answered, with so many pods, in an encoding.
macro_rules! client_go {
    ($size:literal, $pods:literal, $tenth:literal, $encoding:literal) => {
        &[
            row(
                concat!($size, "-", $encoding, "-create"),
                concat!("client-go, ", $encoding, ": create ", $pods, " pods, 32 writers"),
                "/s",
                Gate::Times(5.0),
            ),
            row(concat!($size, "-", $encoding, "-create-p99"), "of which the slowest in 100", "ms", Gate::None),
            row(concat!($size, "-", $encoding, "-create-cpu"), "of which the servers' CPU", "us", Gate::None),
            row(
                concat!($size, "-", $encoding, "-get"),
                concat!("client-go, ", $encoding, ": get a pod of ", $pods, ", 32 readers"),
                "/s",
                Gate::Times(5.0),
            ),
            row(concat!($size, "-", $encoding, "-get-cpu"), "of which the servers' CPU", "us", Gate::None),
            row(
                concat!($size, "-", $encoding, "-patch"),
                concat!("client-go, ", $encoding, ": strategic-merge patch of a pod of ", $pods, ", 32 writers"),
                "/s",
                Gate::Times(5.0),
            ),
            row(concat!($size, "-", $encoding, "-patch-cpu"), "of which the servers' CPU", "us", Gate::None),
            row(
                concat!($size, "-", $encoding, "-apply"),
                concat!("client-go, ", $encoding, ": server-side apply of a pod of ", $pods, ", 32 writers"),
                "/s",
                Gate::Times(5.0),
            ),
            row(concat!($size, "-", $encoding, "-apply-cpu"), "of which the servers' CPU", "us", Gate::None),
            row(
                concat!($size, "-", $encoding, "-list"),
                concat!("client-go, ", $encoding, ": list ", $pods, " pods, resourceVersion=0, 4 clients"),
                "/s",
                Gate::Times(5.0),
            ),
            row(concat!($size, "-", $encoding, "-list-cpu"), "of which the servers' CPU", "us", Gate::None),
            row(
                concat!($size, "-", $encoding, "-label"),
                concat!("client-go, ", $encoding, ": list ", $tenth, " pods of ", $pods, " by label, 4 clients"),
                "/s",
                Gate::Times(5.0),
            ),
            row(concat!($size, "-", $encoding, "-label-cpu"), "of which the servers' CPU", "us", Gate::None),
            row(
                concat!($size, "-", $encoding, "-watch100-p99"),
                concat!(
                    "client-go, ",
                    $encoding,
                    ": patch to its event, 100 watchers of ",
                    $pods,
                    " pods, the slowest in 100"
                ),
                "ms",
                Gate::None,
            ),
            row(
                concat!($size, "-", $encoding, "-watch100-cpu"),
                "of which the servers' CPU, an event for a watcher",
                "us",
                Gate::None,
            ),
            row(
                concat!($size, "-", $encoding, "-watch2000-p99"),
                concat!(
                    "client-go, ",
                    $encoding,
                    ": patch to its event, 2,000 watchers of ",
                    $pods,
                    " pods, the slowest in 100"
                ),
                "ms",
                Gate::None,
            ),
            row(
                concat!($size, "-", $encoding, "-watch2000-cpu"),
                "of which the servers' CPU, an event for a watcher",
                "us",
                Gate::None,
            ),
        ]
    };
}

/// The acceptance of the API server: beside upstream's, with upstream's own client.
pub(crate) const CLIENT_GO: [&[Row]; 4] = [
    client_go!("2k", "2,000", "200", "json"),
    client_go!("2k", "2,000", "200", "protobuf"),
    client_go!("20k", "20,000", "2,000", "json"),
    client_go!("20k", "20,000", "2,000", "protobuf"),
];

pub(crate) const LARGE: &[Row] = &[
    row("20k-memory", "memory with 20,000 pods, after --settle, PSS", "MB", Gate::None),
    row("20k-memory-anon", "of which RssAnon", "MB", Gate::None),
    row("20k-ready", "start of the process to the first 200 of /readyz, with 20,000 pods", "ms", Gate::None),
];

const ROWS: &[Row] = &[
    row("create-native", "create to Ready, 1 + 2 native nodes", "s", Gate::AtMost(1.0)).peer(12.59, TIME_TO_K8S),
    row("create-docker", "create to Ready, 1 + 2 Docker nodes", "s", Gate::AtMost(2.0)).peer(12.59, TIME_TO_K8S),
    row("api-ready", "start of the process to the first 200 of /readyz", "ms", Gate::AtMost(250.0))
        .peer(2400.0, UPSTREAM),
    row("idle-server", "idle memory of a server with its node, PSS, init and shims counted", "MB", Gate::AtMost(60.0))
        .peer(633.0, "upstream's six processes on 2 such cores"),
    row("idle-server-anon", "of which RssAnon", "MB", Gate::None),
    row("idle-agent", "idle memory of an agent, PSS, init and shims counted", "MB", Gate::AtMost(20.0))
        .peer(143.0, KUBELET),
    row("idle-agent-anon", "of which RssAnon", "MB", Gate::None),
    row("idle-cpu", "idle CPU of a server with its node, of a core", "%", Gate::AtMost(0.5))
        .peer(5.0, "k3s 1.26, its docs"),
    row("idle-growth", "what its memory has grown by in the end, RssAnon", "MB", Gate::AtMost(1.0)),
    row("idle-writes", "idle writes to the datastore", "/min", Gate::None),
    row("idle-other", "of which all that are neither leases nor nodes' statuses", "", Gate::AtMost(0.0)),
    row("idle-disk", "idle writes to the disk", "KB/min", Gate::None),
    row("binary", "the published binary: fat LTO, stripped, static", "MB", Gate::AtMost(40.0))
        .peer(83.9, "k3s 1.36's gate, compressed"),
    row("image", "the node image", "MB", Gate::None).peer(931.0, "kindest/node 1.21"),
    row("image-build", "building the node image", "s", Gate::AtMost(1.5)),
    row("pod", "pod create to Ready, image present, one at a time", "ms", Gate::AtMost(60.0)).peer(201.0, KUBELET),
    row("pod-burst", "20 pods at once, until the last is Ready", "pods/s", Gate::AtLeast(40.0)).peer(8.3, KUBELET),
    row("pod-crowd", "100 pods at once, until the last is Ready", "pods/s", Gate::AtLeast(40.0)),
    row("pod-crowd-cpu", "idle CPU of a server with its node and 100 pods, of a core", "%", Gate::None),
    row("pod-delete", "delete to gone, grace 1 s, a process that ignores TERM", "s", Gate::AtMost(1.15))
        .peer(3.8, KUBELET),
    row("pod-delete-obey", "delete to gone, grace 1 s, a process that ends at TERM", "ms", Gate::None),
    row("pod-memory", "memory per idle pod beyond its process, PSS", "MB", Gate::AtMost(2.0))
        .peer(9.8, "a containerd 1.6 shim, RSS"),
    row("container", "container create + start + end + delete in a pod", "ms", Gate::Peer).peer(23.2, RUNC),
    row("sandbox", "the same with a pod of its own: network, IPC, UTS", "ms", Gate::Peer).peer(26.0, RUNC),
    row("create-pod", "create pods, 32 writers", "/s", Gate::Times(5.0)).peer(883.0, UPSTREAM),
    row("create-pod-p99", "of which the slowest in 100", "ms", Gate::None).peer(84.0, UPSTREAM),
    row("create-pod-cpu", "of which the servers' CPU", "us", Gate::None),
    row("get-pod", "get a pod, 32 readers", "/s", Gate::Times(5.0)).peer(2594.0, UPSTREAM),
    row("get-pod-cpu", "of which the servers' CPU", "us", Gate::None),
    row("patch-pod", "strategic-merge patch of a pod, 32 writers", "/s", Gate::Times(5.0)).peer(679.0, UPSTREAM),
    row("patch-pod-cpu", "of which the servers' CPU", "us", Gate::None),
    row("apply-pod", "server-side apply of a pod, 32 writers", "/s", Gate::Times(5.0)).peer(1303.0, UPSTREAM),
    row("apply-pod-cpu", "of which the servers' CPU", "us", Gate::None),
    row("list", "list 2,000 pods, resourceVersion=0, 4 clients", "/s", Gate::Times(5.0)).peer(14.0, UPSTREAM),
    row("list-cpu", "of which the servers' CPU", "us", Gate::None),
    row("list-label", "list 1 pod in 10 of 2,000 by label, 4 clients", "/s", Gate::Times(5.0)).peer(97.0, UPSTREAM),
    row("list-label-cpu", "of which the servers' CPU", "us", Gate::None),
    row("watch-p99", "patch to its event, 100 watchers, the slowest in 100", "ms", Gate::AtMost(5.0))
        .peer(23.6, UPSTREAM),
    row("watch-p50", "patch to its event, 100 watchers, the middle", "ms", Gate::None).peer(6.3, UPSTREAM),
    row("memory", "memory with 2,000 pods and 2,000 ConfigMaps, PSS", "MB", Gate::AtMost(80.0))
        .peer(587.0, "kube-apiserver + etcd on 2 such cores"),
];
