//! A part of a volume, bound by handle.
//!
//! What a pod can write, it can fill with links while we look (CVE-2017-1002101, CVE-2021-25741). So the part is opened by
//! a walk that cannot leave the volume, and what was opened is mounted: a name is never looked up twice.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use linux::mounts::Attributes;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::VolumeError;
use super::mounts::Mounts;

/// Binds `sub_path` of the volume `root` at `at`, making folders that are missing.
pub(super) fn bind(root: &Path, sub_path: &str, at: &Path, mounts: &dyn Mounts) -> Result<(), VolumeError> {
    let relative =
        Path::new(sub_path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !relative {
        return Err(VolumeError::Escapes(sub_path.to_owned()));
    }
    let handle = open(root, sub_path)?;
    let is_dir = rustix::fs::fstat(&handle)
        .map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
        .map_err(|error| VolumeError::io("cannot look at", root)(error.into()))?;
    // A restart of the container binds anew: what it pinned before is let go.
    mounts.unmount(at).map_err(VolumeError::io("cannot unmount", at))?;
    prepare_target(at, is_dir)?;
    mounts.bind(handle.as_fd(), at, Attributes::empty()).map_err(VolumeError::io("cannot bind", at))
}

fn open(root: &Path, sub_path: &str) -> Result<OwnedFd, VolumeError> {
    let failed = |error: Errno| match error {
        Errno::XDEV | Errno::LOOP => VolumeError::Escapes(sub_path.to_owned()),
        error => VolumeError::io("cannot open", &root.join(sub_path))(error.into()),
    };
    let base = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let base = base.map_err(|error| VolumeError::io("cannot open", root)(error.into()))?;
    match beneath(&base, sub_path) {
        Err(Errno::NOENT) => {}
        other => return other.map_err(failed),
    }
    // Folders are made one by one, each below the handle of the one before, as open as the volume itself: the container
    // need not run as root.
    let mode = rustix::fs::fstat(&base).map_err(failed)?.st_mode & 0o7777;
    let mut folder = base;
    for part in Path::new(sub_path).components() {
        let Component::Normal(name) = part else { continue };
        let made = match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(mode)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(failed(error)),
        };
        folder = beneath(&folder, name).map_err(failed)?;
        if made {
            open_up(&folder, mode).map_err(failed)?;
        }
    }
    Ok(folder)
}

/// A new folder's mode, whatever the process's mask. Somebody who shares the volume may have put a file in its place.
fn open_up(folder: &OwnedFd, mode: u32) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(folder, c".", flags, Mode::empty())?;
    rustix::fs::fchmod(folder, Mode::from_raw_mode(mode))
}

fn beneath(base: &OwnedFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(base, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Something of the same kind to mount on.
fn prepare_target(at: &Path, is_dir: bool) -> Result<(), VolumeError> {
    let io = || VolumeError::io("cannot prepare", at);
    if let Some(parent) = at.parent() {
        std::fs::create_dir_all(parent).map_err(io())?;
    }
    match std::fs::symlink_metadata(at) {
        Ok(meta) if meta.is_dir() == is_dir => return Ok(()),
        Ok(meta) if meta.is_dir() => std::fs::remove_dir(at).map_err(io())?,
        Ok(_) => std::fs::remove_file(at).map_err(io())?,
        Err(_) => {}
    }
    if is_dir { std::fs::create_dir(at).map_err(io()) } else { std::fs::File::create_new(at).map(drop).map_err(io()) }
}
