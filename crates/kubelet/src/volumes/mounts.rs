//! The few mounts that volumes need, behind a trait so that pods are tested without root.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, StatxFlags};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

pub(crate) trait Mounts: Send + Sync {
    /// Memory at a folder, of at most `size` bytes; nothing is done where it is mounted already.
    fn tmpfs(&self, at: &Path, size: Option<u64>) -> io::Result<()>;

    /// Shows the file or folder that `handle` is open on at `at`, which exists and is of the same kind.
    fn bind(&self, handle: BorrowedFd<'_>, at: &Path) -> io::Result<()>;

    /// Takes away whatever is mounted at a path; success where nothing is.
    fn unmount(&self, at: &Path) -> io::Result<()>;
}

/// The kernel's.
#[derive(Debug)]
pub(crate) struct Kernel;

impl Mounts for Kernel {
    fn tmpfs(&self, at: &Path, size: Option<u64>) -> io::Result<()> {
        if is_mount_point(at)? {
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

    fn bind(&self, handle: BorrowedFd<'_>, at: &Path) -> io::Result<()> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(handle, c"", flags)?;
        rustix::mount::move_mount(&tree, c"", rustix::fs::CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(())
    }

    fn unmount(&self, at: &Path) -> io::Result<()> {
        use rustix::io::Errno;
        match rustix::mount::unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Not a mount point, or not there at all.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a file system begins at a path: the kernel says so itself.
fn is_mount_point(path: &Path) -> io::Result<bool> {
    let stat = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    Ok(stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}
