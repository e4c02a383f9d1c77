//! Paths that others control, walked by handle inside a root.
//!
//! `openat2` with `RESOLVE_IN_ROOT` treats the root as `/` for every component and link, so that no rename or
//! link planted meanwhile leads outside; magic links (`/proc/self/fd`, `/proc/1/root`) are refused.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

/// A directory that paths cannot leave.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// The directory at a path that is trusted.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::openat(CWD, path, flags, Mode::empty())? })
    }

    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }

    /// Opens what `path` leads to, following links inside the root. `.` and `/` are the root.
    pub fn open_file(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        Ok(self.resolve(path, flags, Mode::from_raw_mode(mode))?)
    }

    /// A handle on whatever `path` leads to.
    pub fn handle(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_file(path, OFlags::PATH, 0)
    }

    /// A handle on a link itself, or on whatever else is at `path`.
    pub fn handle_nofollow(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_file(path, OFlags::PATH | OFlags::NOFOLLOW, 0)
    }

    /// Reads a whole file of at most `limit` bytes.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        use std::io::Read;
        // Nonblocking: a FIFO planted here must not hold us up.
        let fd = self.open_file(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, 0)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not a file", path.display())));
        }
        let mut contents = Vec::new();
        std::fs::File::from(fd).take(limit + 1).read_to_end(&mut contents)?;
        if contents.len() as u64 > limit {
            let text = format!("{} is larger than {limit} bytes", path.display());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        Ok(contents)
    }

    /// The directory at `path`, made with its parents where they are missing.
    pub fn make_directories(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        match self.resolve(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => {}
            done => return Ok(done?),
        }
        let mut walked = PathBuf::new();
        let mut current = self.fd.try_clone()?;
        for component in path.components() {
            let name: &OsStr = match component {
                Component::Normal(name) => name,
                Component::ParentDir => OsStr::new(".."),
                _ => continue,
            };
            walked.push(name);
            let open = || self.resolve(&walked, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
            current = match open() {
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&current, name, Mode::from_raw_mode(mode)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    open()?
                }
                opened => opened?,
            };
        }
        Ok(current)
    }

    /// The file at `path`, made empty with its parent directories if it is missing. What is there stays as it is.
    pub fn make_file(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        match self.resolve(path, OFlags::PATH, Mode::empty()) {
            Err(Errno::NOENT) => {}
            done => return Ok(done?),
        }
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(mode)) {
            Ok(_) | Err(Errno::EXIST) => self.handle(path),
            Err(error) => Err(error.into()),
        }
    }

    /// The directory that holds the last component of `path`, made if missing, and that component.
    pub fn parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let Some(name) = path.file_name() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} names no file", path.display())));
        };
        let parent = path.parent().unwrap_or(Path::new("."));
        Ok((self.make_directories(parent, 0o755)?, name))
    }

    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, mode, resolve) {
                // The kernel gives up when a rename races with `..`; it may simply be asked again.
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done,
            }
        }
    }
}

/// Removes a file or a whole tree, by handle: no link is followed and no mount is crossed. Missing is success.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} cannot be removed", path.display())));
    };
    match Root::open(parent) {
        Ok(parent) => Ok(remove_entry(parent.fd(), name)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// As [`remove_tree`], for an entry of an open directory.
pub fn remove_tree_at(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    Ok(remove_entry(parent, name)?)
}

/// So many levels are gone down into before what is below is taken up: whoever made the tree chose its depth, and each
/// level costs a descriptor and a part of the stack.
const DEEPEST: usize = 32;

fn remove_entry(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let Some(top) = unlink_or_open(parent, name)? else { return Ok(()) };
    let mut taken_up = 0;
    loop {
        let before = taken_up;
        empty(top.as_fd(), top.as_fd(), 0, &mut taken_up)?;
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY) if taken_up > before => {}
            Err(error) => return Err(error),
        }
    }
}

/// The directory, if it is one; everything else is gone.
fn unlink_or_open(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Option<OwnedFd>, Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(None),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes what is in a directory; what is too deep becomes an entry of `top`, which is emptied again.
fn empty(directory: BorrowedFd<'_>, top: BorrowedFd<'_>, depth: usize, taken_up: &mut u64) -> Result<(), Errno> {
    let mut entries = Dir::read_from(directory)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        // Names come from the kernel; the bytes are the name.
        let name: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(entry.file_name().to_bytes());
        let Some(below) = unlink_or_open(directory, name)? else { continue };
        if depth == DEEPEST {
            drop(below);
            take_up(directory, name, top, taken_up)?;
            continue;
        }
        empty(below.as_fd(), top, depth + 1, taken_up)?;
        match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn take_up(from: BorrowedFd<'_>, name: &OsStr, top: BorrowedFd<'_>, taken_up: &mut u64) -> Result<(), Errno> {
    loop {
        *taken_up += 1;
        let to = format!(".removed-{taken_up}");
        match rustix::fs::renameat_with(from, name, top, to.as_str(), RenameFlags::NOREPLACE) {
            // The tree has that name already.
            Err(Errno::EXIST) => {}
            done => return done,
        }
    }
}
