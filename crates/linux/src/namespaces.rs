//! Namespaces: which a process has, making new ones, joining others'.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
pub use rustix::thread::UnshareFlags as Namespaces;

/// One kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Cgroup,
    Ipc,
    Mount,
    Network,
    Pid,
    User,
    Uts,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Mount => "mnt",
            Self::Network => "net",
            Self::Pid => "pid",
            Self::User => "user",
            Self::Uts => "uts",
        }
    }

    pub fn flag(self) -> Namespaces {
        match self {
            Self::Cgroup => Namespaces::NEWCGROUP,
            Self::Ipc => Namespaces::NEWIPC,
            Self::Mount => Namespaces::NEWNS,
            Self::Network => Namespaces::NEWNET,
            Self::Pid => Namespaces::NEWPID,
            Self::User => Namespaces::NEWUSER,
            Self::Uts => Namespaces::NEWUTS,
        }
    }
}

/// The namespace that process `pid` is in. The handle keeps it alive.
pub fn of_process(pid: i32, kind: Kind) -> io::Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{}", kind.name());
    Ok(rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The namespace that the calling thread is in.
pub fn current(kind: Kind) -> io::Result<OwnedFd> {
    let path = format!("/proc/thread-self/ns/{}", kind.name());
    Ok(rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Joins a namespace by its handle. A PID namespace is for children made from now on.
pub fn enter(namespace: BorrowedFd<'_>, kind: Kind) -> io::Result<()> {
    setns(namespace, kind.flag())
}

/// Joins several namespaces of one process, by its pidfd, all or none.
pub fn enter_of(process: BorrowedFd<'_>, kinds: Namespaces) -> io::Result<()> {
    setns(process, kinds)
}

fn setns(fd: BorrowedFd<'_>, flags: Namespaces) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: setns reads no memory of ours; it changes only what namespaces the calling thread is in.
    let result = unsafe { libc::setns(fd.as_raw_fd(), flags.bits().cast_signed()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Moves the calling thread into new namespaces.
pub fn unshare(kinds: Namespaces) -> io::Result<()> {
    if kinds.contains(Namespaces::FILES) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "file tables are not unshared here"));
    }
    // SAFETY: the one unsafe flag, FILES, was just excluded.
    Ok(unsafe { rustix::thread::unshare_unsafe(kinds) }?)
}
