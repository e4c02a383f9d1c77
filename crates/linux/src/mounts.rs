//! The mount API of Linux 5.2 and later: mounts are made detached, given their attributes, and only then attached,
//! each step by handle.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
pub use rustix::mount::MountAttrFlags as Attributes;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// How events under a mount travel to and from its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Private,
    /// Receives from the peers, sends nothing.
    Slave,
    Shared,
}

/// A new file system instance, detached. Options without a value are flags.
pub fn new_filesystem(kind: &str, options: &[(&str, Option<&str>)], attributes: Attributes) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let configured = (|| {
        for (name, value) in options {
            match value {
                Some(value) => fsconfig_set_string(context.as_fd(), *name, *value)?,
                None => fsconfig_set_flag(context.as_fd(), *name)?,
            }
        }
        fsconfig_create(context.as_fd())?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    })();
    configured.map_err(|errno| explain(&context, errno))
}

/// The kernel says in words what it disliked; `EINVAL` alone helps nobody.
fn explain(context: &OwnedFd, errno: rustix::io::Errno) -> io::Error {
    let mut buffer = [0; 512];
    let error = io::Error::from(errno);
    match rustix::io::read(context, &mut buffer[..]) {
        Ok(length) if length > 2 => {
            let text = String::from_utf8_lossy(&buffer[2..length]).trim().to_owned();
            io::Error::new(error.kind(), format!("{error}: {text}"))
        }
        _ => error,
    }
}

/// An overlay of `lower` directories, uppermost first, detached. Without `upper` it is readonly.
///
/// Paths are handed to the kernel one by one where it can take them so (6.8), which lifts the limit of one page
/// for all of them together; before that they have to fit.
pub fn overlay(lower: &[&Path], upper: Option<(&Path, &Path)>, attributes: Attributes) -> io::Result<OwnedFd> {
    let lower: Vec<&str> = lower.iter().map(|it| utf8(it)).collect::<Result<_, _>>()?;
    let mut options: Vec<(&str, Option<&str>)> = lower.iter().map(|it| ("lowerdir+", Some(*it))).collect();
    if let Some((upper, work)) = upper {
        options.push(("upperdir", Some(utf8(upper)?)));
        options.push(("workdir", Some(utf8(work)?)));
    }
    // A container's layer is thrown away with it: its syncs need not reach the disk.
    options.push(("volatile", None));
    let attempt = new_filesystem("overlay", &options, attributes);
    let Err(error) = attempt else { return attempt };
    if error.raw_os_error() != Some(libc::EINVAL) && error.kind() != io::ErrorKind::InvalidInput {
        return Err(error);
    }
    let joined = lower.join(":");
    options.retain(|it| it.0 != "lowerdir+");
    options.insert(0, ("lowerdir", Some(&joined)));
    // The first refusal is the telling one where the second is about the length.
    new_filesystem("overlay", &options, attributes).map_err(|_| error)
}

fn utf8(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not UTF-8: choose another place", path.display()))
    })
}

/// A detached copy of the mount at `path`, with the mounts below it if `recursive`: what a bind mount is made of.
pub fn clone_path(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, clone_flags(recursive))?)
}

/// As [`clone_path`], of what a handle is on.
pub fn clone_handle(handle: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    Ok(open_tree(handle, "", clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)?)
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Adds attributes to a mount, and with `recursive` to those below; changes its propagation if asked to.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: Attributes,
    propagation: Option<Propagation>,
) -> io::Result<()> {
    // How access times are kept is one of several ways: the old one must go.
    let clear = if attributes.intersects(Attributes::MOUNT_ATTR__ATIME) {
        Attributes::MOUNT_ATTR__ATIME
    } else {
        Attributes::empty()
    };
    let settings = libc::mount_attr {
        attr_set: u64::from(attributes.bits()),
        attr_clr: u64::from(clear.bits()),
        propagation: match propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Slave) => libc::MS_SLAVE,
            Some(Propagation::Shared) => libc::MS_SHARED,
        },
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty C string, `settings` outlives the call and its size is passed along.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const settings,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Attaches a detached mount onto what `target` is a handle on.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// Attaches a detached mount at a path that is trusted.
pub fn attach_at(mount: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    Ok(move_mount(mount, "", CWD, path, flags)?)
}

/// Makes the mount at `path`, and all below, neither send nor (when private) receive mount events.
pub fn set_propagation(path: &Path, recursive: bool, propagation: Propagation) -> io::Result<()> {
    use rustix::mount::MountPropagationFlags as Flags;
    let flags = match propagation {
        Propagation::Private => Flags::PRIVATE,
        Propagation::Slave => Flags::DOWNSTREAM,
        Propagation::Shared => Flags::SHARED,
    };
    Ok(rustix::mount::mount_change(path, if recursive { flags | Flags::REC } else { flags })?)
}

/// Makes an attached mount the root of the calling process's mount namespace, and lets go of the old one.
///
/// The namespace must be the process's own; its working directory is the new root afterwards.
pub fn pivot(root: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    // The old root lands on top of the new one (pivot_root(2), "pivot_root(".", ".")"), where it is unmounted.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

/// Unmounts what is at `path` now, and frees it when its last user goes. Nothing mounted there is success.
pub fn detach(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// mount(2) at a trusted path, for what the new API does not cover in older kernels.
pub fn mount_at(kind: &str, source: &str, target: &Path, flags: MountFlags, data: &str) -> io::Result<()> {
    let data = CString::new(data)?;
    Ok(rustix::mount::mount(source, target, kind, flags, Some(data.as_c_str()))?)
}
