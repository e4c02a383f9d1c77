//! The host's side of a node: one process that starts the node's PID 1, holds its published ports and cleans up when
//! it has ended. It outlives the call that started it.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use linux::cgroups::Cgroups;
use linux::namespaces::{self, Kind, Namespaces};
use linux::processes::{self, Fork, Process};
use serde::{Deserialize, Serialize};

use super::identity::{Identity, Running};
use super::ports::Listeners;
use super::{cluster, inside};
use crate::runtime::NodeSpec;

/// By which first word this binary is it.
pub(crate) const NAME: &str = "k3rs-node";

/// What it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) node: NodeSpec,
    /// The node's folder.
    pub(super) directory: PathBuf,
    /// The image's tree.
    pub(super) rootfs: PathBuf,
    /// The cluster's network namespace.
    pub(super) netns: PathBuf,
}

impl Order {
    /// Leaves it in the node's folder, which only its owner may read: it holds the token, and anybody may read the
    /// arguments of a process.
    pub(super) fn write(&self) -> io::Result<PathBuf> {
        let path = self.directory.join("order");
        linux::files::replace(&path, &serde_json::to_vec(self)?, 0o600)?;
        Ok(path)
    }

    fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}

/// The cgroup of all nodes.
pub(super) const TOP_GROUP: &str = "/k3rs";

/// The cgroup of a cluster, with one below for each node.
pub(super) fn cluster_group(cluster: &str) -> String {
    format!("{TOP_GROUP}/{cluster}")
}

pub(super) fn group(node: &NodeSpec) -> String {
    format!("{}/{}", cluster_group(&node.cluster), node.name)
}

/// Its whole life. Standard output is the pipe to whoever waits for the node to start, standard input the lock that says
/// that it is starting: both are let go with the word.
pub(crate) fn main(arguments: &[std::ffi::OsString]) -> i32 {
    let Some(Ok(order)) = arguments.first().map(|it| Order::read(Path::new(it))) else {
        tell("this process is started by k3rs-dev, not by hand");
        return 64;
    };
    match start(&order) {
        Ok((init, listeners)) => {
            tell("ok");
            let ended = accompany(&order, &init, listeners);
            clean_up(&order);
            i32::from(ended.is_err())
        }
        Err(error) => {
            clean_up(&order);
            tell(&error.to_string());
            1
        }
    }
}

/// One word to whoever waits, who reads until all writing ends are closed.
fn tell(word: &str) {
    // It may have gone; the node goes on.
    _ = io::stdout().write_all(word.as_bytes()).and_then(|()| io::stdout().flush());
    if let Ok(null) = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()) {
        _ = processes::set_stdio([null.as_fd(), null.as_fd(), io::stderr().as_fd()]);
    }
}

/// The node's PID 1, at work, and the ports that lead to it.
fn start(order: &Order) -> io::Result<(Process, Listeners)> {
    rustix::process::setsid().ok();
    let listeners = Listeners::bind(&order.node.ports)?;
    let group = Cgroups::detect()?.group(&group(&order.node));
    group.create().map_err(io::Error::other)?;
    let (ready, go) = linux::sockets::pipe()?;
    let (report, trouble) = linux::sockets::pipe()?;
    let kinds = Namespaces::NEWPID | Namespaces::NEWNS | Namespaces::NEWUTS | Namespaces::NEWIPC | Namespaces::NEWNET;
    let init = match processes::fork(kinds, None)? {
        Fork::Child => {
            // Or the child would wait for itself.
            drop((go, report));
            inside::become_node(order, ready, trouble)
        }
        Fork::Parent(init) => init,
    };
    drop((ready, trouble));
    let prepared = (|| {
        group.add(init.pid).map_err(io::Error::other)?;
        let netns = namespaces::of_process(init.pid, Kind::Network)?;
        cluster::connect(&order.netns, netns.as_fd(), &order.node)?;
        rustix::io::write(&go, b"1")?;
        drop(go);
        // Empty when the child has become the node's PID 1.
        let trouble = read(report)?;
        if trouble.is_empty() { Ok(()) } else { Err(io::Error::other(trouble)) }
    })();
    let running = prepared.and_then(|()| {
        let log = order.directory.join("log");
        let gone = |_| io::Error::other(format!("its PID 1 ended at once: its last words are in {}", log.display()));
        let running = Running {
            init: Identity::of(init.pid).map_err(gone)?,
            host: Identity::of(std::process::id().cast_signed())?,
        };
        running.write(&order.directory.join("run"))?;
        // Listeners stay where they were bound; what is opened from now on is in the node's network.
        let netns = namespaces::of_process(init.pid, Kind::Network)?;
        namespaces::enter(netns.as_fd(), Kind::Network)
    });
    if let Err(error) = running {
        _ = init.signal(libc::SIGKILL);
        _ = init.wait();
        return Err(error);
    }
    Ok((init, listeners))
}

fn read(pipe: OwnedFd) -> io::Result<String> {
    let mut text = String::new();
    io::Read::read_to_string(&mut std::fs::File::from(pipe), &mut text)?;
    Ok(text)
}

/// Passes connections on until PID 1 has ended. A request to end is handed to it.
fn accompany(order: &Order, init: &Process, listeners: Listeners) -> io::Result<()> {
    // One thread, for it is this thread that is in the node's network.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut serving = listeners.serve(order.node.address)?;
        loop {
            tokio::select! {
                ended = init.when_ended() => break ended,
                _ = terminate.recv() => init.signal(libc::SIGTERM)?,
                Some(_) = serving.join_next() => {}
            }
        }
    })?;
    init.wait().map(|_| ())
}

/// The kernel has ended all of the node's processes with PID 1; what is left is their cgroup.
fn clean_up(order: &Order) {
    _ = std::fs::remove_file(order.directory.join("run"));
    if let Ok(cgroups) = Cgroups::detect() {
        // Whoever deletes the node removes what is busy now.
        _ = cgroups.group(&group(&order.node)).remove();
    }
}
