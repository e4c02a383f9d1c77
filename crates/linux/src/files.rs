//! Files that are whole or absent: atomic writes, and locks that die with their holder.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};

/// Replaces `path` with `contents`: readers see the old file or the new one, also after a power cut.
///
/// The file is written beside its place, synced, renamed, and the directory synced. `mode` is exact; the umask
/// has no say.
pub fn write_atomic(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    write_renamed(path, contents, mode, true)
}

/// As [`write_atomic`] without the syncs: whole for readers and after a crash of the process, but a power cut may
/// bring back the old file. For state that a reboot ends anyway.
pub fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    write_renamed(path, contents, mode, false)
}

fn write_renamed(path: &Path, contents: &[u8], mode: u32, sync: bool) -> io::Result<()> {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} names no file", path.display())));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let directory = open_directory(parent)?;
    let temporary = temporary_name(name.as_encoded_bytes());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&directory, temporary.as_str(), flags, Mode::from_raw_mode(0o600))?;
    let written = (|| {
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
        let mut file = File::from(fd);
        file.write_all(contents)?;
        if sync {
            file.sync_all()?;
        }
        rustix::fs::renameat(&directory, temporary.as_str(), &directory, name)?;
        if sync {
            rustix::fs::fsync(&directory)?;
        }
        Ok(())
    })();
    if written.is_err() {
        // Best effort: the error that matters is the first.
        _ = rustix::fs::unlinkat(&directory, temporary.as_str(), AtFlags::empty());
    }
    written
}

/// A file without a name on the file system of `directory`: it goes with its last descriptor.
pub fn unnamed(directory: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, directory, flags, Mode::from_raw_mode(0o600))?.into())
}

/// Makes the renames and removals in a directory durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::fsync(open_directory(path)?)?)
}

/// Makes everything written to the file system that holds `path` durable.
pub fn sync_filesystem(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(open_directory(path)?)?)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Unique among processes and calls, and recognisable to people who find one after a crash.
fn temporary_name(name: &[u8]) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = String::from_utf8_lossy(name).replace('/', "_");
    // Names are at most 255 bytes.
    let short: String = name.chars().take(60).collect();
    format!(".{short}.{}-{count}.tmp", std::process::id())
}

/// An advisory lock on a file, let go when dropped or when its holder dies.
#[derive(Debug)]
pub struct Lock {
    file: OwnedFd,
}

impl Lock {
    /// Waits for the only lock.
    pub fn exclusive(path: &Path) -> io::Result<Self> {
        Self::take(path, FlockOperation::LockExclusive)
    }

    /// Waits for a lock that goes with other shared ones.
    pub fn shared(path: &Path) -> io::Result<Self> {
        Self::take(path, FlockOperation::LockShared)
    }

    /// The only lock, or `None` when somebody holds one.
    pub fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        match Self::take(path, FlockOperation::NonBlockingLockExclusive) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for the only lock on a directory, for those who may leave no file in it.
    pub fn of_directory(path: &Path) -> io::Result<Self> {
        let file = open_directory(path)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))?;
        Ok(Self { file })
    }

    /// Whether the locked file is still the one at `path`: a holder may remove it, and who waited has a lock on nothing.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let held = rustix::fs::fstat(&self.file)?;
        match rustix::fs::stat(path) {
            Ok(there) => Ok((there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The descriptor that holds the lock, to be given to a child: the lock is held until all copies are closed.
    pub fn into_fd(self) -> OwnedFd {
        self.file
    }

    fn take(path: &Path, operation: FlockOperation) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o600))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, operation))?;
        Ok(Self { file })
    }
}
