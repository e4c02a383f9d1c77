//! Nodes as namespaces of this machine: no engine, no daemon, nothing pulled.
//!
//! ```text
//! host                         the cluster's network namespace        a node
//! k3rs-N  10.90.N.1  <-veth->  uplink 10.90.N.2
//! route to 10.89.N.0/24        bridge nodes 10.89.N.1/24   <-veth->   eth0 10.89.N.2/24, PID 1: k3rs init
//! NAT, one nft table           way out by uplink                      rootfs: overlay of the node image
//! one process a node: parent of its PID 1, holds its published ports
//! ```
//!
//! What a node keeps, and where:
//!
//! ```text
//! D/clusters/NAME/netns             the cluster's network namespace, mounted
//! D/clusters/NAME/nodes/NODE/data   /var/lib/rancher/k3s
//!                           /upper  what else the node wrote
//!                           /work   the overlay's, made anew at each start
//!                           /log    what PID 1 and k3rs say
//!                           /run    who they are, while the node runs
//!                           /order  what its process on the host's side was told, the token among it
//!                           /starting  locked while the node starts, also when nobody waits for it any more
//! ```
//!
//! [`host`] is the process on the host's side, [`inside`] what its child does to become the node, [`cluster`] the
//! network, [`ports`] the published ports, [`enter`] the way in for people.

mod cluster;
pub(crate) mod enter;
pub(crate) mod host;
mod identity;
mod inside;
mod ports;

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use linux::cgroups::Cgroups;
use linux::files::Lock;
use linux::paths::remove_tree;
use linux::spawn::Program;

use super::{During as _, Exec, NodeFile, NodeRuntime, NodeSpec, Observed, RuntimeError, RuntimeKind};
use crate::node_image::NodeImage;

/// Longer than a server takes to close its datastore.
const STOP: Duration = Duration::from_secs(20);
/// k3s's, and here on the disk of the host: an overlay cannot lie on an overlay.
const DATA: &str = "var/lib/rancher/k3s";

type Result<T> = std::result::Result<T, RuntimeError>;

/// This machine.
#[derive(Clone, Debug)]
pub(crate) struct Native {
    root: PathBuf,
    images: PathBuf,
}

impl Native {
    /// Refused to anybody but root.
    pub(crate) fn new(root: &Path, images: &Path) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(RuntimeError::Permission {
                what: "native nodes need root: they are namespaces, mounts and links of this machine".to_owned(),
                remedy: "run it with sudo, or with --runtime docker if you may use an engine".to_owned(),
            });
        }
        Ok(Self { root: root.to_owned(), images: images.to_owned() })
    }

    fn cluster(&self, name: &str) -> PathBuf {
        self.root.join("clusters").join(name)
    }

    fn place(&self, node: &NodeSpec) -> Place {
        Place { directory: self.cluster(&node.cluster).join("nodes").join(&node.name) }
    }

    /// The tree of the image that a node is made from.
    fn rootfs(&self, node: &NodeSpec) -> Result<PathBuf> {
        let hash = node.image.rsplit(':').next().unwrap_or_default();
        let rootfs = self.images.join(hash).join("rootfs");
        if rootfs.is_dir() {
            return Ok(rootfs);
        }
        Err(RuntimeError::Unable {
            what: format!("node image {} is not here", node.image),
            remedy: "build it with the k3rs-dev that made the cluster: k3rs-dev image build".to_owned(),
        })
    }

    fn create(&self, node: &NodeSpec, files: &[NodeFile]) -> io::Result<()> {
        let place = self.place(node);
        for name in ["data", "upper/etc", "root"] {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(place.directory.join(name))?;
        }
        fs::set_permissions(&place.directory, fs::Permissions::from_mode(0o700))?;
        for file in files {
            let path = place.on_host(&file.path);
            if let Some(parent) = path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            linux::files::replace(&path, &file.contents, file.mode)?;
        }
        Ok(())
    }

    fn start(&self, node: &NodeSpec) -> Result<()> {
        let place = self.place(node);
        let what = || format!("starting node {}", node.name);
        let starting = place.started().during(what)?;
        if place.running().is_some() {
            return Ok(());
        }
        let rootfs = self.rootfs(node)?;
        place.write_names(node).during(what)?;
        remove_tree(&place.directory.join("work")).during(what)?;
        fs::create_dir(place.directory.join("work")).during(what)?;
        let order = host::Order {
            node: node.clone(),
            directory: place.directory.clone(),
            rootfs,
            netns: self.cluster(&node.cluster).join("netns"),
        };
        launch(&order, starting).during(what)?.map_err(|why| RuntimeError::failed(what(), why))
    }

    /// Ends a node with a signal to its PID 1, and by force when that has not ended it in time.
    async fn end(&self, node: &NodeSpec, signal: i32) -> Result<()> {
        let what = || format!("stopping node {}", node.name);
        // A start that nobody waits for any more comes to its end first: only then it is known who is to be stopped.
        let place = self.place(node);
        blocking(move || place.started().map(drop).during(|| "waiting for a node that starts".to_owned())).await?;
        let Some(running) = self.place(node).running() else { return Ok(()) };
        // The process of the host's side cleans up after the node and ends last.
        let (Some(init), host) = (running.init.open(), running.host.open()) else { return Ok(()) };
        init.signal(signal).during(what)?;
        if tokio::time::timeout(STOP, init.when_ended()).await.is_err() {
            init.signal(libc::SIGKILL).during(what)?;
        }
        init.when_ended().await.during(what)?;
        match host {
            Some(host) => host.when_ended().await.during(what),
            None => Ok(()),
        }
    }

    async fn stop(&self, node: &NodeSpec) -> Result<()> {
        self.end(node, libc::SIGTERM).await
    }

    async fn delete(&self, node: &NodeSpec) -> Result<()> {
        // Nothing of it is kept, so nothing has to be put in order first.
        self.end(node, libc::SIGKILL).await?;
        let what = format!("deleting node {}", node.name);
        let (node, place) = (node.clone(), self.place(node));
        blocking(move || Self::remove(&node, &place, || what.clone())).await
    }

    fn remove(node: &NodeSpec, place: &Place, what: impl Fn() -> String) -> Result<()> {
        let cgroups = Cgroups::detect().during(&what)?;
        // Whatever is left in it has lost its host's side.
        let emptied = cgroups.group(&host::group(node)).empty_and_remove();
        emptied.map_err(|error| RuntimeError::failed(what(), error))?;
        for above in [host::cluster_group(&node.cluster), host::TOP_GROUP.to_owned()] {
            let group = cgroups.group(&above);
            if group.children().is_empty() {
                // A node that starts meanwhile is in the way, and may be.
                _ = group.remove();
            }
        }
        remove_tree(&place.directory).during(what)
    }

    async fn run(&self, node: &NodeSpec, exec: &Exec) -> Result<i32> {
        let running = self.place(node).running().ok_or_else(|| RuntimeError::NotRunning(node.name.clone()))?;
        let what = || format!("entering node {}", node.name);
        let entered = enter::program(running.init.pid, exec).and_then(Program::start).during(what)?;
        let exit = tokio::task::spawn_blocking(move || entered.wait()).await;
        exit.map_err(io::Error::other).and_then(|it| it).during(what).map(linux::processes::Exit::code)
    }
}

/// Where a node's things are.
#[derive(Clone, Debug)]
struct Place {
    directory: PathBuf,
}

impl Place {
    /// A path of the node, as the host sees it.
    fn on_host(&self, path: &str) -> PathBuf {
        let path = path.trim_start_matches('/');
        match path.strip_prefix(DATA).map(|it| it.trim_start_matches('/')) {
            Some(inside) => self.directory.join("data").join(inside),
            None => self.directory.join("upper").join(path),
        }
    }

    /// Who the node's processes are, if its PID 1 is alive.
    fn running(&self) -> Option<identity::Running> {
        let running = identity::Running::read(&self.directory.join("run"))?;
        running.init.is_alive().then_some(running)
    }

    /// Waits until nobody is starting the node; until the lock is let go, nobody does.
    fn started(&self) -> io::Result<Option<Lock>> {
        match Lock::exclusive(&self.directory.join("starting")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            lock => lock.map(Some),
        }
    }

    /// The node's resolver is the host's, its own name it must know.
    fn write_names(&self, node: &NodeSpec) -> io::Result<()> {
        let etc = self.directory.join("upper/etc");
        let hosts = format!("127.0.0.1 localhost\n::1 localhost\n{} {}\n", node.address, node.name);
        linux::files::replace(&etc.join("hosts"), hosts.as_bytes(), 0o644)?;
        linux::files::replace(&etc.join("hostname"), format!("{}\n", node.name).as_bytes(), 0o644)?;
        linux::files::replace(&etc.join("resolv.conf"), resolvers().as_bytes(), 0o644)
    }
}

/// The host's resolvers that can be reached from elsewhere than the host: a stub on its loopback cannot.
fn resolvers() -> String {
    let reachable = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let loopback = |line: &str| line.starts_with("nameserver 127.") || line.starts_with("nameserver ::1");
        let kept: String = text.lines().filter(|line| !loopback(line)).map(|line| format!("{line}\n")).collect();
        kept.contains("nameserver ").then_some(kept)
    };
    reachable("/etc/resolv.conf").or_else(|| reachable("/run/systemd/resolve/resolv.conf")).unwrap_or_default()
}

/// Starts the process of the host's side, which starts the node; its word is `ok` or what went wrong. It takes over
/// `starting`, so that who stops or deletes the node waits for it also when this process dies.
fn launch(order: &host::Order, starting: Option<Lock>) -> io::Result<std::result::Result<(), String>> {
    let (reader, writer) = linux::sockets::pipe()?;
    let log = fs::OpenOptions::new().create(true).append(true).open(order.directory.join("log"))?;
    let mut program = Program::new("/proc/self/exe");
    program.name = Some(host::NAME.into());
    program.arguments = vec![order.write()?.into()];
    program.stdin = starting.map(Lock::into_fd);
    program.stdout = Some(writer);
    program.stderr = Some(log.into());
    program.own_group = true;
    program.start()?;
    let mut word = String::new();
    fs::File::from(reader).read_to_string(&mut word)?;
    Ok(if word == "ok" { Ok(()) } else { Err(if word.is_empty() { "it died".to_owned() } else { word }) })
}

impl NodeRuntime for Native {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Native
    }

    /// The cache's tree is what nodes are made from: nothing is loaded anywhere.
    fn load_image<'a>(&'a self, _: &'a NodeImage) -> BoxFuture<'a, Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn create_network<'a>(&'a self, cluster: &'a str, network: u8) -> BoxFuture<'a, Result<()>> {
        let (root, directory, name) = (self.root.clone(), self.cluster(cluster), cluster.to_owned());
        blocking(move || cluster::create(&root, &directory, &name, network)).boxed()
    }

    fn delete_network<'a>(&'a self, cluster: &'a str, network: u8) -> BoxFuture<'a, Result<()>> {
        let (root, directory, name) = (self.root.clone(), self.cluster(cluster), cluster.to_owned());
        blocking(move || cluster::delete(&root, &directory, &name, network)).boxed()
    }

    fn create_node<'a>(&'a self, node: &'a NodeSpec, files: &'a [NodeFile]) -> BoxFuture<'a, Result<()>> {
        async move { self.create(node, files).during(|| format!("creating node {}", node.name)) }.boxed()
    }

    fn start_node<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<()>> {
        let (this, node) = (self.clone(), node.clone());
        blocking(move || this.start(&node)).boxed()
    }

    fn stop_node<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<()>> {
        self.stop(node).boxed()
    }

    fn delete_node<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<()>> {
        self.delete(node).boxed()
    }

    fn inspect<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<Option<Observed>>> {
        let place = self.place(node);
        let observed =
            place.directory.exists().then(|| Observed { name: node.name.clone(), running: place.running().is_some() });
        async { Ok(observed) }.boxed()
    }

    fn copy_in<'a>(&'a self, node: &'a NodeSpec, from: &'a Path, to: &'a str) -> BoxFuture<'a, Result<()>> {
        let (from, to) = (from.to_owned(), self.place(node).on_host(to));
        let what = format!("copying {} into node {}", from.display(), node.name);
        blocking(move || copy(&from, &to).during(|| what)).boxed()
    }

    fn exec<'a>(&'a self, node: &'a NodeSpec, exec: &'a Exec) -> BoxFuture<'a, Result<i32>> {
        self.run(node, exec).boxed()
    }
}

/// Beside its place, then renamed: whoever watches the directory sees a whole file.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let parent = to.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)?;
    let mut beside = parent.join(".").into_os_string();
    beside.push("incoming-");
    beside.push(to.file_name().unwrap_or_default());
    fs::copy(from, &beside)?;
    fs::rename(&beside, to)
}

async fn blocking(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(RuntimeError::failed("a native node's step", error)))
}
