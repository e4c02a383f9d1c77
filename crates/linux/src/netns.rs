//! Network namespaces: making one, and doing something inside one.
//!
//! A namespace belongs to a thread, and threads of a pool outlive what was meant; so each entry takes a thread
//! of its own that ends with it. What such a thread opens (a socket) stays in the namespace and can be used anywhere.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// Makes a network namespace; it lives as long as the handle, a process or a mount refers to it.
pub fn create() -> io::Result<OwnedFd> {
    on_thread(|| {
        // SAFETY: only CLONE_NEWNET is unshared: this thread keeps sharing files, memory and credentials.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        current()
    })?
}

/// The network namespace of the calling thread.
pub fn current() -> io::Result<OwnedFd> {
    open(Path::new("/proc/thread-self/ns/net"))
}

/// The namespace behind `path`, such as `/proc/PID/ns/net` or a file it is mounted on.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(File::open(path)?.into())
}

/// Runs `work` on a thread of its own inside `netns`.
pub fn enter<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_thread(|| {
        rustix::thread::move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })?
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work)?;
        thread.join().map_err(|_| io::Error::other("the thread that entered a network namespace panicked"))
    })
}
