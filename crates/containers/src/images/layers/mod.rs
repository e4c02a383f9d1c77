//! Unpacking a layer's tar beneath a directory, by handle.
//!
//! What an archive says is untrusted: no path, link or whiteout in it reaches outside the directory; only
//! attributes that a layer may have are set. Whiteouts become those of overlayfs.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use linux::paths::{Root, remove_tree_at};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::blanks::Filled;

/// What went wrong at which entry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the layer is not a tar archive, or is cut off: {0}")]
    Archive(#[source] io::Error),
    #[error("cannot unpack {path}: {source}")]
    Entry { path: String, source: io::Error },
}

/// Unpacks `tar` into the empty directory `target`; `lower` are the layers below, uppermost first. Returns the
/// bytes of its files.
pub(crate) fn unpack(tar: impl Read, target: &Path, lower: &[PathBuf]) -> Result<u64, Error> {
    let open = |path: &Path| Root::open(path).map_err(|source| entry_error(path, source));
    let unpacker = Unpacker { root: open(target)?, lower: lower.iter().map(|it| open(it)).collect::<Result<_, _>>()? };
    let mut archive = tar::Archive::new(Filled::new(tar));
    let mut size = 0;
    let mut directories = Vec::new();
    for entry in archive.entries().map_err(Error::Archive)? {
        let mut entry = entry.map_err(Error::Archive)?;
        let path = clean(&entry.path_bytes());
        unpacker.add(&mut entry, &path, &mut directories).map_err(|source| entry_error(&path, source))?;
        if entry.header().entry_type().is_file() {
            size += entry.size();
        }
    }
    // Filling a directory changes its time, so directories get theirs last.
    for (directory, time) in directories {
        set_time(&directory, time).map_err(|source| entry_error(target, source))?;
    }
    Ok(size)
}

fn entry_error(path: &Path, source: io::Error) -> Error {
    Error::Entry { path: path.display().to_string(), source }
}

/// Relative, without `.`, `..` and doubled slashes.
fn clean(bytes: &[u8]) -> PathBuf {
    let parts = bytes.split(|it| *it == b'/').filter(|it| !matches!(*it, b"" | b"." | b".."));
    parts.map(std::ffi::OsStr::from_bytes).collect()
}

struct Unpacker {
    root: Root,
    lower: Vec<Root>,
}

impl Unpacker {
    fn add<R: Read>(
        &self,
        entry: &mut tar::Entry<'_, R>,
        path: &Path,
        directories: &mut Vec<(OwnedFd, u64)>,
    ) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let Some(name) = path.file_name() else {
            // The root itself: its attributes count.
            let root = self.root.open_file(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
            return set_attributes(entry, &root).map(|time| directories.push((root, time)));
        };
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return whiteout(&parent, hidden);
        }
        match kind {
            tar::EntryType::Directory => {
                if let Err(error) = rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
                    let exists = error == Errno::EXIST && is_directory(&parent, name)?;
                    if !exists {
                        remove_tree_at(parent.as_fd(), name)?;
                        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))?;
                    }
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
                let time = set_attributes(entry, &directory)?;
                directories.push((directory, time));
                Ok(())
            }
            tar::EntryType::Link => {
                remove_tree_at(parent.as_fd(), name)?;
                let target = clean(&entry.link_name_bytes().unwrap_or_default());
                self.hard_link(&target, &parent, name)
            }
            tar::EntryType::Symlink => {
                remove_tree_at(parent.as_fd(), name)?;
                let target = entry.link_name_bytes().unwrap_or_default();
                rustix::fs::symlinkat(std::ffi::OsStr::from_bytes(&target), &parent, name)?;
                set_owner(entry, &parent, name)
            }
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => {
                remove_tree_at(parent.as_fd(), name)?;
                make_special(entry, &parent, name)
            }
            // Regular and contiguous files, sparse ones, and what the standard says to treat so.
            _ => {
                remove_tree_at(parent.as_fd(), name)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
                let mut file = File::from(fd);
                io::copy(entry, &mut file)?;
                let file = OwnedFd::from(file);
                let time = set_attributes(entry, &file)?;
                set_time(&file, time)
            }
        }
    }

    /// The directory at `path`. Where the archive leaves it out it looks as it does in the layers below, for
    /// overlayfs shows the uppermost.
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.root.open_file(path, OFlags::PATH | OFlags::DIRECTORY, 0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let mut walked = PathBuf::new();
        for part in path.components() {
            walked.push(part);
            if self.root.handle(&walked).is_ok() {
                continue;
            }
            let (mode, uid, gid) = self
                .lower
                .iter()
                .find_map(|it| it.handle(&walked).ok())
                .and_then(|it| rustix::fs::fstat(&it).ok())
                .map_or((0o755, 0, 0), |it| (it.st_mode & 0o7777, it.st_uid, it.st_gid));
            self.root.make_directories(&walked, 0o755)?;
            let made = self.root.open_file(&walked, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
            rustix::fs::fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?;
        }
        self.root.open_file(path, OFlags::PATH | OFlags::DIRECTORY, 0)
    }

    /// Links to a file of this layer; one of a layer below is copied, for links cannot cross layers.
    fn hard_link(&self, target: &Path, parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
        let not_found =
            || io::Error::new(io::ErrorKind::NotFound, format!("its target {} is missing", target.display()));
        let file = target.file_name().ok_or_else(not_found)?;
        let directory = target.parent().unwrap_or(Path::new(""));
        if let Ok(from) = self.root.open_file(directory, OFlags::PATH | OFlags::DIRECTORY, 0) {
            match rustix::fs::linkat(&from, file, parent, name, AtFlags::empty()) {
                Err(Errno::NOENT) => {}
                done => return Ok(done?),
            }
        }
        for layer in &self.lower {
            let Ok(found) = layer.open_file(target, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, 0) else {
                continue;
            };
            let stat = rustix::fs::fstat(&found)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(not_found());
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut copy = File::from(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
            io::copy(&mut File::from(found), &mut copy)?;
            rustix::fs::fchown(&copy, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
            return Ok(rustix::fs::fchmod(&copy, Mode::from_raw_mode(stat.st_mode & 0o7777))?);
        }
        Err(not_found())
    }
}

/// `.wh.name` hides `name` of the layers below, `.wh..wh..opq` all of the directory.
fn whiteout(parent: &OwnedFd, hidden: &[u8]) -> io::Result<()> {
    if hidden == b".wh..opq" {
        let directory = rustix::fs::openat(parent, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        return Ok(rustix::fs::fsetxattr(&directory, "trusted.overlay.opaque", b"y", XattrFlags::empty())?);
    }
    if hidden.is_empty() || matches!(hidden, b"." | b"..") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a whiteout of nothing"));
    }
    let name = std::ffi::OsStr::from_bytes(hidden);
    remove_tree_at(parent.as_fd(), name)?;
    let mode = Mode::empty();
    Ok(rustix::fs::mknodat(parent, name, FileType::CharacterDevice, mode, rustix::fs::makedev(0, 0))?)
}

fn is_directory(parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<bool> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn make_special<R: Read>(entry: &tar::Entry<'_, R>, parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
    let header = entry.header();
    let kind = match header.entry_type() {
        tar::EntryType::Char => FileType::CharacterDevice,
        tar::EntryType::Block => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let number = |it: io::Result<Option<u32>>| it.map(|it| it.unwrap_or(0));
    let device = rustix::fs::makedev(number(header.device_major())?, number(header.device_minor())?);
    rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device)?;
    set_owner(entry, parent, name)?;
    let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
    Ok(rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?)
}

fn owner<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<(Option<Uid>, Option<Gid>)> {
    let id = |it: io::Result<u64>| {
        let id = u32::try_from(it?).ok().filter(|it| *it != u32::MAX);
        id.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its owner is out of range"))
    };
    Ok((Some(Uid::from_raw(id(entry.header().uid())?)), Some(Gid::from_raw(id(entry.header().gid())?))))
}

fn set_owner<R: Read>(entry: &tar::Entry<'_, R>, parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
    let (uid, gid) = owner(entry)?;
    Ok(rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Owner, then mode and capabilities, which changing the owner clears. Returns the time to set.
fn set_attributes<R: Read>(entry: &mut tar::Entry<'_, R>, file: &OwnedFd) -> io::Result<u64> {
    let (uid, gid) = owner(entry)?;
    rustix::fs::fchown(file, uid, gid)?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(entry.header().mode()? & 0o7777))?;
    let time = entry.header().mtime().unwrap_or(0);
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let Some(name) = extension.key().ok().and_then(|it| it.strip_prefix("SCHILY.xattr.")) else { continue };
            // Others, above all trusted.overlay.*, would let an image speak to the node's kernel.
            if name == "security.capability" || name.starts_with("user.") {
                match rustix::fs::fsetxattr(file, name, extension.value_bytes(), XattrFlags::empty()) {
                    Ok(()) | Err(Errno::NOTSUP) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(time)
}

fn set_time(file: &OwnedFd, seconds: u64) -> io::Result<()> {
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?)
}

#[cfg(test)]
pub(super) mod tests;
