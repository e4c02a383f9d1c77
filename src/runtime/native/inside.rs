//! What the forked child does to become a node's PID 1: hostname, root file system, devices, then `k3rs init`, which
//! mounts the rest.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use linux::mounts::{self, Attributes, Propagation};
use linux::namespaces::{self, Namespaces};
use linux::{processes, signals};
use rustix::fs::{CWD, Mode, OFlags};

use super::DATA;
use super::host::Order;

/// The host's devices that a node has, if the host has them.
const DEVICES: [&str; 9] = ["null", "zero", "full", "random", "urandom", "tty", "kmsg", "fuse", "net/tun"];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Waits for the word on `ready`, then becomes the node. What went wrong is written to `trouble`, which closes when
/// nothing did.
pub(super) fn become_node(order: &Order, ready: OwnedFd, trouble: OwnedFd) -> ! {
    let error = match prepare(order, ready) {
        Ok(()) => exec(order),
        Err(error) => error,
    };
    _ = rustix::io::write(&trouble, error.to_string().as_bytes());
    processes::exit_now(1)
}

fn prepare(order: &Order, ready: OwnedFd) -> io::Result<()> {
    let mut word = [0; 1];
    if rustix::io::read(&ready, &mut word[..])? == 0 {
        return Err(io::Error::other("the node was given up before it began"));
    }
    // Now that the cgroup has been entered it is the root of what the node sees.
    namespaces::unshare(Namespaces::NEWCGROUP)?;
    linux::network::set_hostname(&order.node.name)?;
    linux::network::loopback_up()?;
    let log = fs::OpenOptions::new().append(true).create(true).open(order.directory.join("log"))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    make_root(order)?;
    processes::set_stdio([null.as_fd(), log.as_fd(), log.as_fd()])?;
    processes::close_on_exec_from(3)?;
    rustix::process::setsid()?;
    signals::reset()
}

fn make_root(order: &Order) -> io::Result<()> {
    mounts::set_propagation(Path::new("/"), true, Propagation::Private)?;
    let root = order.directory.join("root");
    let (upper, work) = (order.directory.join("upper"), order.directory.join("work"));
    let overlay = mounts::overlay(&[&order.rootfs], Some((&upper, &work)), Attributes::empty())?;
    mounts::attach_at(overlay.as_fd(), &root)?;
    let data = mounts::clone_path(&order.directory.join("data"), false)?;
    mounts::attach_at(data.as_fd(), &root.join(DATA))?;
    let devices = mounts::new_filesystem("tmpfs", &[("mode", Some("755"))], Attributes::MOUNT_ATTR_NOSUID)?;
    mounts::attach_at(devices.as_fd(), &root.join("dev"))?;
    add_devices(&root.join("dev"))?;
    let root = rustix::fs::openat(CWD, &root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    mounts::pivot(root.as_fd())
}

/// By bind mounts: making device nodes is not permitted everywhere.
fn add_devices(dev: &Path) -> io::Result<()> {
    for name in DEVICES {
        let Ok(device) = mounts::clone_path(&Path::new("/dev").join(name), false) else { continue };
        let target = dev.join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::File::create_new(&target)?;
        mounts::attach_at(device.as_fd(), &target)?;
    }
    for (name, to) in LINKS {
        symlink(to, dev.join(name))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        fs::create_dir(dev.join(name))?;
    }
    Ok(())
}

fn exec(order: &Order) -> io::Error {
    let node = &order.node;
    let command: Result<Vec<CString>, _> = node.command.iter().map(|it| CString::new(it.as_str())).collect();
    let path = "PATH=/bin:/sbin:/usr/bin:/usr/sbin".to_owned();
    let variables = node.environment.iter().map(|(name, value)| format!("{name}={value}")).chain([path]);
    let environment: Result<Vec<CString>, _> = variables.map(CString::new).collect();
    match (command, environment) {
        (Ok(command), Ok(environment)) if !command.is_empty() => processes::exec(&command[0], &command, &environment),
        _ => io::Error::new(io::ErrorKind::InvalidInput, "the node's command has a zero byte"),
    }
}
