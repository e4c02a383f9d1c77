//! The few mounts that volumes need, behind a trait so that pods are tested without root.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use linux::mounts::Attributes;
use rustix::fs::{AtFlags, StatxFlags};
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags};

pub(crate) trait Mounts: Send + Sync {
    /// Memory at a folder, of at most `size` bytes; nothing is done where it is mounted already.
    fn tmpfs(&self, at: &Path, size: Option<u64>) -> io::Result<()>;

    /// Shows the file or folder that `handle` is open on at `at`, which exists and is of the same kind.
    fn bind(&self, handle: BorrowedFd<'_>, at: &Path, attributes: Attributes) -> io::Result<()>;

    /// Whether something is mounted at a path; nothing is where there is no such path.
    fn is_mounted(&self, at: &Path) -> io::Result<bool>;

    /// Takes away all that is mounted at a path; success where nothing is.
    fn unmount(&self, at: &Path) -> io::Result<()>;
}

/// The kernel's.
#[derive(Debug)]
pub(crate) struct Kernel;

impl Mounts for Kernel {
    fn tmpfs(&self, at: &Path, size: Option<u64>) -> io::Result<()> {
        if self.is_mounted(at)? {
            return Ok(());
        }
        let options = match size {
            Some(size) => format!("mode=0777,size={size}"),
            None => "mode=0777".to_owned(),
        };
        let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
        rustix::mount::mount("tmpfs", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))?;
        Ok(())
    }

    fn bind(&self, handle: BorrowedFd<'_>, at: &Path, attributes: Attributes) -> io::Result<()> {
        let tree = linux::mounts::clone_handle(handle, false)?;
        if !attributes.is_empty() {
            linux::mounts::set_attributes(tree.as_fd(), false, attributes, None)?;
        }
        rustix::mount::move_mount(&tree, c"", rustix::fs::CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(())
    }

    /// The kernel says itself whether a file system begins there.
    fn is_mounted(&self, at: &Path) -> io::Result<bool> {
        use rustix::io::Errno;
        match rustix::fs::statx(rustix::fs::CWD, at, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
            Ok(stat) => Ok(stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn unmount(&self, at: &Path) -> io::Result<()> {
        use rustix::io::Errno;
        loop {
            match rustix::mount::unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                // What was below is next.
                Ok(()) => {}
                // Not a mount point, or not there at all.
                Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
